//! Under the systemd 252 of Debian 12, booted for real.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test is outside of the product: it starts it, and measures time"
)]

mod forking;
mod machine;
mod notify;
mod programs;
mod stops;
mod units;
