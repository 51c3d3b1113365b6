//! Every system call of the supervisor, and the only `unsafe`: one kernel concept per file, no policy.

pub mod clock;
