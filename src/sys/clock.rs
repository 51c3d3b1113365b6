//! The clocks: the only place where time is read.

use std::{mem::MaybeUninit, time::SystemTime};

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

/// As clocks on the wall show it: `2026-01-01 10:00:00` (localtime(3)).
#[must_use]
pub fn local(at: WallTime) -> String {
    let seconds: libc::time_t = at.0.div_euclid(1000);
    let mut fields = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both are ours and outlive the call.
    let told = unsafe { libc::localtime_r(&raw const seconds, fields.as_mut_ptr()) };
    if told.is_null() {
        // A year that does not fit.
        return at.rfc3339();
    }
    // SAFETY: zeros are a valid time, and so is what was filled in.
    let tm = unsafe { fields.assume_init() };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        i64::from(tm.tm_year) + 1900,
        tm.tm_mon + 1,
        tm.tm_mday,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec
    )
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
