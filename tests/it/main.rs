//! The one integration test binary.

mod access;
mod architecture;
mod conditions;
mod config;
mod coverage;
mod e2e;
mod examples;
mod logs;
mod logs_faults;
mod man;
mod sim;
mod site_builder;
mod sys_spawn;
mod tidy;
mod trace;
mod trace_life;
mod wire;
