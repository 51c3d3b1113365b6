//! The one integration test binary.

mod config;
mod logs;
mod logs_faults;
mod sim;
mod sys_spawn;
