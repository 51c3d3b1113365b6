//! The two clocks of the log thread, read once per turn.

use nix::time::{ClockId, clock_gettime};

use crate::{
    model::{Instant, WallTime},
    sys::width::signed,
};

/// The monotonic clock; zero if the kernel refuses, which it does not do.
pub(super) fn now() -> Instant {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Instant(0), |t| {
        let secs = u64::try_from(t.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(t.tv_nsec()).unwrap_or(0);
        Instant(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
    })
}

/// The wall clock, for stamps and for windows of rotation.
pub(super) fn wall() -> WallTime {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(WallTime(0), |t| {
        WallTime(
            signed(t.tv_sec()).saturating_mul(1000).saturating_add(signed(t.tv_nsec()) / 1_000_000),
        )
    })
}
