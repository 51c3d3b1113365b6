//! The one integration test binary.

mod access;
mod architecture;
mod cli;
mod conditions;
mod config;
mod control;
mod control_rules;
mod coverage;
mod e2e;
mod examples;
mod logs;
mod logs_faults;
mod man;
mod sim;
mod site_builder;
mod sys_binary;
mod sys_files;
mod sys_spawn;
mod sys_tree;
mod sys_world;
mod tidy;
mod trace;
mod wire;
