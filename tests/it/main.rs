//! The one integration test binary.

mod access;
mod conditions;
mod config;
mod coverage;
mod e2e;
mod logs;
mod logs_faults;
mod sim;
mod site_builder;
mod sys_spawn;
mod trace;
mod trace_life;
mod wire;
