//! Every system call of the supervisor, the only `unsafe`: one kernel concept per file, no policy.
//!
//! Each function does what its man page says and reports what came of it; which of them is called,
//! and when, is decided elsewhere. Nothing here but [`crate::model`] is imported.
#![expect(unsafe_code, reason = "system calls that nix does not wrap, made only in this folder")]

pub mod cgroup;
pub mod child;
pub mod clock;
pub mod command;
pub mod daemonize;
pub mod directory;
mod error;
pub mod files;
pub mod flock;
pub mod foreign_file;
pub mod local_time;
pub mod lockfile;
pub mod locks;
pub mod memory;
pub mod mountinfo;
pub mod notify;
pub mod notify_socket;
mod pid;
pub mod pidfile;
pub mod program_lock;
pub mod random;
pub mod reboot;
pub mod resolve;
pub mod rlimit;
pub mod shm;
pub mod signals;
pub mod sigwait;
pub mod socket;
pub mod spawn;
pub mod stdio;
pub mod subreaper;
pub mod terminal;
pub mod tree;
pub mod user;
pub mod width;

pub use error::SysError;
pub use pid::Pid;
