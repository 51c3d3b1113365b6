//! In a guest with a kernel of Debian, where the machine may be rebooted and its disk spoilt.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test is outside of the product: it starts it, and measures time"
)]

mod bad_disk;
mod console;
mod disk;
mod machine;
mod protected;
mod readonly;
mod reboot;
