//! The one integration test binary.

mod conditions;
mod config;
mod logs;
mod logs_faults;
mod sys_spawn;
