//! In containers of a real engine, as its users start and stop them.

#![expect(
    clippy::disallowed_methods,
    reason = "a test is outside of the product: it starts it, and measures time"
)]

mod engine;
mod site;
