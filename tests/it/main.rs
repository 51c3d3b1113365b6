//! The one integration test binary.

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
