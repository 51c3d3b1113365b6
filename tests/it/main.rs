//! The one integration test binary.
#![allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::items_after_statements,
    clippy::large_stack_arrays,
    clippy::let_underscore_must_use,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::similar_names,
    clippy::too_many_lines,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::wildcard_imports,
    reason = "helpers of tests fail as tests do, and a test names what it means to look at"
)]

mod access;
mod architecture;
mod cli;
mod command;
mod conditions;
mod config;
mod container;
mod control;
mod control_rules;
mod coverage;
mod doctor;
mod e2e;
mod examples;
mod exhaustive;
mod guest;
mod logs;
mod logs_faults;
mod logs_hung;
mod man;
mod oracle;
mod outside;
mod packaging;
mod raise;
mod semaphore;
mod semaphore_over;
mod semaphores;
mod sim;
mod site_builder;
mod sys_binary;
mod sys_copies;
mod sys_files;
mod sys_local_time;
mod sys_notify;
mod sys_signals;
mod sys_spawn;
mod sys_tree;
mod sys_users;
mod sys_world;
mod systemd;
mod tidy;
mod trace;
mod wire;
