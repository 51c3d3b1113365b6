//! The one integration test binary.

mod sys_spawn;
