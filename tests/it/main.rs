//! The one integration test binary.
mod logs;
