//! The built binary, from outside: a site file, signals, the socket, files and exit codes.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test is outside of the product: it starts it, and measures time"
)]

mod client;
mod control;
mod debian;
mod execution;
mod faults;
mod harness;
mod init;
mod instance;
mod lines;
mod order;
mod output;
mod reload;
mod restarts;
mod signals;
mod stops;
