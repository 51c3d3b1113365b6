//! The built binary, from outside: a site file, signals, the socket, files and exit codes.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test is outside of the product: it starts it, and measures time"
)]

mod bbia;
mod cgroups;
mod children;
pub(crate) mod client;
mod contained;
mod control;
mod daemon;
mod debian;
mod execution;
mod faults;
mod forking;
mod hangs;
mod hardened_hosts;
mod hardening;
pub(crate) mod harness;
mod health;
mod host;
mod host_end;
mod init;
mod install;
mod instance;
mod kill_all;
mod killed;
pub(crate) mod lines;
mod meshbot;
mod moments;
mod notified;
mod notify;
mod order;
mod output;
mod pid_file;
mod processes;
mod reload;
mod restarts;
mod semaphores;
mod shm;
mod signals;
mod single;
mod stops;
