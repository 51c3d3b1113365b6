//! Times of the day in which something may be done, and local time.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::WallTime;

/// The minutes of a day.
const DAY: u16 = 24 * 60;
const MINUTE_MS: i64 = 60_000;

/// How local time differs from UTC, and when that changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// From when until when this is known.
    pub known: (WallTime, WallTime),
    /// So many seconds ahead of UTC, until the first change.
    pub offset: i64,
    /// So many from that moment on, in their order.
    pub changes: Vec<(WallTime, i64)>,
}

impl Zone {
    /// Whether local time is known at that moment.
    #[must_use]
    pub fn knows(&self, at: WallTime) -> bool {
        self.known.0 <= at && at < self.known.1
    }

    /// So many seconds ahead of UTC at that moment.
    #[must_use]
    pub fn offset_at(&self, at: WallTime) -> i64 {
        let last = self.changes.iter().rev().find(|(from, _)| *from <= at);
        last.map_or(self.offset, |(_, offset)| *offset)
    }

    /// The minute of the day there.
    #[must_use]
    pub fn minute(&self, at: WallTime) -> MinuteOfDay {
        let seconds = at.0.div_euclid(1000).saturating_add(self.offset_at(at));
        let minute = seconds.div_euclid(60).rem_euclid(i64::from(DAY));
        MinuteOfDay(u16::try_from(minute).unwrap_or(0))
    }
}

/// `03:00`; `24:00` is the end of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MinuteOfDay(u16);

impl MinuteOfDay {
    fn parse(text: &str) -> Option<Self> {
        let (hour, minute) = text.split_once(':')?;
        let number = |text: &str| -> Option<u16> {
            let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|_| digits)
        };
        let (hour, minute) = (number(hour)?, number(minute)?);
        let at = hour * 60 + minute;
        (minute < 60 && at <= DAY).then_some(Self(at))
    }
}

impl fmt::Display for MinuteOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// `03:00-04:00`: from then until before then, of each day; `23:00-01:00` goes over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    from: MinuteOfDay,
    until: MinuteOfDay,
}

impl Window {
    /// Reads what it shows.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, WindowMistake> {
        let (from, until) = text.split_once('-').ok_or(WindowMistake::Shape)?;
        let parse = |text: &str| MinuteOfDay::parse(text.trim()).ok_or(WindowMistake::Shape);
        let (from, until) = (parse(from)?, parse(until)?);
        if from == until || from.0 == DAY {
            return Err(WindowMistake::Empty);
        }
        Ok(Self { from, until })
    }

    fn contains(self, at: MinuteOfDay) -> bool {
        if self.from < self.until {
            self.from <= at && at < self.until
        } else {
            self.from <= at || at < self.until
        }
    }

    /// The first moment from `at` on that is in one of them; `at`, when there are none.
    ///
    /// A minute that summer time leaves out is in none; of one that comes twice both count.
    #[must_use]
    pub fn next_in(windows: &[Self], zone: &Zone, at: WallTime) -> WallTime {
        let open = |at: WallTime| windows.iter().any(|window| window.contains(zone.minute(at)));
        if windows.is_empty() || open(at) {
            return at;
        }
        // Offsets are whole minutes. A window that one day leaves out is there on the next.
        let first = at.0.div_euclid(MINUTE_MS).saturating_add(1);
        let minutes = (0..3 * i64::from(DAY)).map(|n| first.saturating_add(n));
        let mut moments = minutes.map(|minute| WallTime(minute.saturating_mul(MINUTE_MS)));
        moments.find(|at| open(*at)).unwrap_or(at)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from, self.until)
    }
}

/// What is wrong with the text of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowMistake {
    /// It is not `HH:MM-HH:MM`.
    Shape,
    /// Nothing is in it.
    Empty,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(text: &str) -> WallTime {
        WallTime::parse(&format!("{text}:00.000Z")).unwrap_or(WallTime(0))
    }

    /// Berlin in 2026: summer time from March 29 to October 25, each at 01:00 UTC.
    fn berlin() -> Zone {
        let changes = vec![(wall("2026-03-29T01:00"), 7200), (wall("2026-10-25T01:00"), 3600)];
        Zone { known: (WallTime(0), WallTime(i64::MAX)), offset: 3600, changes }
    }

    fn next(window: &str, zone: &Zone, at: &str) -> String {
        let windows: Vec<Window> =
            window.split(',').filter_map(|text| Window::parse(text).ok()).collect();
        let found = Window::next_in(&windows, zone, wall(at)).rfc3339();
        found.get(..16).unwrap_or_default().to_owned()
    }

    #[test]
    fn the_next_moment_in_a_window_by_local_time_with_its_changes() {
        for (window, at, then) in [
            ("03:00-04:00", "2026-01-10T22:00", "2026-01-11T02:00"),
            ("03:00-04:00", "2026-01-10T02:59", "2026-01-10T02:59"),
            ("03:00-04:00", "2026-01-10T03:00", "2026-01-11T02:00"),
            ("23:00-01:00", "2026-01-10T12:00", "2026-01-10T22:00"),
            ("23:00-01:00", "2026-01-10T23:59", "2026-01-10T23:59"),
            ("23:00-01:00", "2026-01-11T00:00", "2026-01-11T22:00"),
            ("12:00-13:00,20:00-24:00", "2026-01-10T15:00", "2026-01-10T19:00"),
            // The clocks go from 02:00 to 03:00.
            ("03:00-04:00", "2026-03-28T22:00", "2026-03-29T01:00"),
            ("02:30-03:30", "2026-03-28T22:00", "2026-03-29T01:00"),
            ("02:15-02:45", "2026-03-28T22:00", "2026-03-30T00:15"),
            // And from 03:00 back to 02:00: what is in between comes twice.
            ("02:30-02:40", "2026-10-24T22:00", "2026-10-25T00:30"),
            ("02:30-02:40", "2026-10-25T00:40", "2026-10-25T01:30"),
            ("03:00-04:00", "2026-10-24T22:00", "2026-10-25T02:00"),
        ] {
            assert_eq!(next(window, &berlin(), at), then, "{window} from {at}");
        }
        assert_eq!(next("03:00-04:00", &Zone::default(), "2026-01-10T22:00"), "2026-01-11T03:00");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in ["", "3-4", "03:00", "03:00-04:60", "25:00-26:00", "3:00-4:00", "24:01-02:00"] {
            assert_eq!(Window::parse(text), Err(WindowMistake::Shape), "{text}");
        }
        for text in ["03:00-03:00", "24:00-01:00", "00:00-00:00"] {
            assert_eq!(Window::parse(text), Err(WindowMistake::Empty), "{text}");
        }
        let shown = Window::parse("00:00 - 24:00").map(|window| window.to_string());
        assert_eq!(shown.as_deref(), Ok("00:00-24:00"));
    }
}
