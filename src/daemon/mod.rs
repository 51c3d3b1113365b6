//! The imperative shell: threads, the queue and the loop.

pub mod control;
