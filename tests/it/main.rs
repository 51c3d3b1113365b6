//! The one integration test binary.

mod config;
mod logs;
mod logs_faults;
mod sys_binary;
mod sys_files;
mod sys_spawn;
mod sys_tree;
mod sys_world;
