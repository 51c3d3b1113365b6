//! The one integration test binary.
mod logs;
mod logs_faults;
