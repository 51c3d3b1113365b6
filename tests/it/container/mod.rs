//! In containers of a real engine, as its users start and stop them.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test is outside of the product: it starts it, and measures time"
)]

mod command;
mod engine;
mod reboot;
mod site;
