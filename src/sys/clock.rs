//! The clocks: the only place where time is read.

use std::time::SystemTime;

use nix::time::{ClockId, clock_gettime};

use crate::model::{Instant, WallTime};

/// Now, for deadlines and durations (`CLOCK_MONOTONIC`: never set, stops in suspend).
#[must_use]
pub fn monotonic() -> Instant {
    // Cannot fail: the clock exists on every Linux and the destination is ours (clock_gettime(2)).
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    Instant(now.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
}

/// The processor time that this thread has taken.
#[must_use]
pub fn of_this_thread() -> std::time::Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(std::time::Duration::ZERO, Into::into)
}

/// Now, for stamps that people read. May be set, forwards or backwards, at any time.
#[must_use]
pub fn wall() -> WallTime {
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    let now = SystemTime::now();
    let millis = |d: std::time::Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    WallTime(match now.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => millis(after),
        Err(before) => -millis(before.duration()),
    })
}

/// For how long the kernel runs, suspends included: what the start times of processes count by
/// (`CLOCK_BOOTTIME`).
#[must_use]
pub fn since_boot() -> std::time::Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(std::time::Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_run() {
        let first = monotonic();
        assert!(first.0 > 0);
        assert!(monotonic() >= first);
        assert!(wall() > WallTime(1_700_000_000_000));
    }
}
