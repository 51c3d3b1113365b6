//! Command mode: what it decides, and what the binary does.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the binary is driven from outside, as a user drives it"
)]

mod alone;
mod beside;
mod decides;
mod terminal;
