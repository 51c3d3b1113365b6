//! The shell: threads, the queue, and carrying out what the engine decides.

pub mod control;
pub mod logs;
