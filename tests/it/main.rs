//! The one integration test binary.

mod access;
mod cli;
mod config;
mod control;
mod control_rules;
mod logs;
mod logs_faults;
mod sys_spawn;
mod wire;
