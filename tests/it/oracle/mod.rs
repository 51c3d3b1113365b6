//! The same scenario below tini, dumb-init and catatonit, as Debian has them, and below ours.
//!
//! We do as tini does, but for what [`differences`] has, which is also a table of supervisor(8).

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test is outside of the product: it starts it, and measures time"
)]

mod differences;
mod exits;
mod idle;
mod inits;
mod leftovers;
mod options;
mod signals;
mod terminal;
