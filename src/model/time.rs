//! Time as data: the engine never reads a clock.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A moment on the monotonic clock, in nanoseconds (`CLOCK_MONOTONIC`, clock_gettime(2)). It only grows.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Instant(pub u64);

impl Instant {
    /// The time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}

/// A moment on the wall clock, in milliseconds since 1970 (UTC). For stamps only, never for deadlines.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct WallTime(pub i64);

/// A limit of time that can be switched off (`none` in the file).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Limit {
    /// After so long.
    After(Duration),
    /// No limit.
    Never,
}

impl Limit {
    /// The moment at which the limit is reached when it starts to count at `start`.
    #[must_use]
    pub fn from(self, start: Instant) -> Option<Instant> {
        match self {
            Self::After(d) => Some(start + d),
            Self::Never => None,
        }
    }
}

impl WallTime {
    /// RFC 3339 in UTC with milliseconds: `2026-01-01T10:00:00.123Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let ((y, m, d), ms) = (self.civil_day(), self.0.rem_euclid(86_400_000));
        let (h, min, s, frac) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}.{frac:03}Z")
    }

    /// Year, month, day in UTC. Howard Hinnant's `civil_from_days` (public domain algorithm).
    #[must_use]
    pub fn civil_day(self) -> (i64, i64, i64) {
        let z = self.0.div_euclid(86_400_000) + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let (d, m) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
        (yoe + era * 400 + i64::from(m <= 2), m, d)
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// A duration as people read it: `0.4s`, `12s`, `5m`, `1h30m`, `2d`.
#[derive(Clone, Copy, Debug)]
pub struct Human(pub Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, ms) = (self.0.as_secs(), self.0.subsec_millis());
        if secs == 0 && ms > 0 && ms < 100 {
            return write!(f, "{ms}ms");
        }
        if secs < 10 && ms >= 100 {
            return write!(f, "{secs}.{}s", ms / 100);
        }
        let (d, h, m, s) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60, secs % 60);
        let mut wrote = false;
        for (n, unit) in [(d, "d"), (h, "h"), (m, "m"), (s, "s")] {
            if n > 0 {
                write!(f, "{n}{unit}")?;
                wrote = true;
            }
        }
        if wrote { Ok(()) } else { f.write_str("0s") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_written_as_rfc_3339() {
        assert_eq!(WallTime(0).rfc3339(), "1970-01-01T00:00:00.000Z");
        assert_eq!(WallTime(1_767_261_600_123).rfc3339(), "2026-01-01T10:00:00.123Z");
        assert_eq!(WallTime(951_782_400_000).rfc3339(), "2000-02-29T00:00:00.000Z");
        assert_eq!(WallTime(-1).rfc3339(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn durations_are_written_as_people_read_them() {
        for (ms, text) in [
            (0, "0s"),
            (40, "40ms"),
            (400, "0.4s"),
            (2_000, "2s"),
            (12_345, "12s"),
            (300_000, "5m"),
            (5_400_000, "1h30m"),
            (86_400_000, "1d"),
        ] {
            assert_eq!(Human(Duration::from_millis(ms)).to_string(), text);
        }
    }
}
