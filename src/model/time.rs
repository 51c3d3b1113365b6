//! Time as data: the engine never reads a clock.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A moment on the monotonic clock, in nanoseconds (`CLOCK_MONOTONIC`, `clock_gettime(2)`). It only
/// grows.
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

/// A moment on the wall clock, in milliseconds since 1970 (UTC). For stamps only, never for
/// deadlines. Written as RFC 3339: `"2026-01-01T10:00:00.123Z"`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
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
        let ((year, month, day), ms) = (self.civil_day(), self.0.rem_euclid(86_400_000));
        let (hour, min, sec, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{min:02}:{sec:02}.{ms:03}Z")
    }

    /// As clocks on the wall show it so many seconds east of UTC: `2026-01-01 10:00:00`.
    #[must_use]
    pub fn local(self, offset: i64) -> String {
        let local = Self(self.0.saturating_add(offset.saturating_mul(1000))).rfc3339();
        let part = |range: std::ops::Range<usize>| local.get(range).unwrap_or_default();
        format!("{} {}", part(0..10), part(11..19))
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

impl WallTime {
    /// Reads what [`Self::rfc3339`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let mut date = date.splitn(3, '-').map(str::parse::<i64>);
        let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
        let (clock, fraction) = time.split_once('.')?;
        let mut clock = clock.splitn(3, ':').map(str::parse::<i64>);
        let (hour, minute, second) =
            (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
        let millis: i64 = fraction.parse().ok().filter(|_| fraction.len() == 3)?;
        let inside = (0..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..61).contains(&second);
        let seconds = (days_from_civil(year, month, day) * 24 + hour) * 3600 + minute * 60 + second;
        inside.then_some(Self(seconds * 1000 + millis))
    }
}

/// Days since 1970 of a civil date; the inverse of [`WallTime::civil_day`], from the same source.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

impl TryFrom<String> for WallTime {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("no RFC 3339 time in UTC: {text}"))
    }
}

impl From<WallTime> for String {
    fn from(at: WallTime) -> Self {
        at.rfc3339()
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
        let parts = [
            (secs / 86_400, "d"),
            (secs / 3600 % 24, "h"),
            (secs / 60 % 60, "m"),
            (secs % 60, "s"),
        ];
        let mut wrote = false;
        for (n, unit) in parts {
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
    fn wall_time_is_read_back() {
        for ms in [0, -1, 1, 951_782_400_000, 1_767_261_600_123, 253_402_300_799_999] {
            assert_eq!(WallTime::parse(&WallTime(ms).rfc3339()), Some(WallTime(ms)));
        }
        for text in ["", "2026-01-01", "2026-13-01T00:00:00.000Z", "2026-01-01T00:00:00Z"] {
            assert_eq!(WallTime::parse(text), None, "{text}");
        }
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
