//! The one integration test binary.

mod config;
mod e2e;
mod logs;
mod logs_faults;
mod sys_spawn;
