//! Local time (localtime(3)), by `TZ` or `/etc/localtime`; UTC where there is neither.

use super::width::signed;
use crate::model::{WallTime, Zone};

/// How many seconds local time is ahead of UTC at that moment, summer time included.
#[must_use]
pub fn utc_offset(at: WallTime) -> i64 {
    let seconds: libc::time_t = narrow(at.0.div_euclid(1000));
    // SAFETY: it is plain data, of which zeroes are a value.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both point to values of ours, and are not kept. Nobody changes our environment.
    let found = unsafe { libc::localtime_r(&raw const seconds, &raw mut local) };
    if found.is_null() { 0 } else { signed(local.tm_gmtoff) }
}

/// As wide as the C library has it; 1970 where it does not fit.
fn narrow<T: TryFrom<i64> + Default>(seconds: i64) -> T {
    T::try_from(seconds).unwrap_or_default()
}

/// So long is told in advance.
const DAYS: i64 = 400;
const DAY_MS: i64 = 86_400_000;

/// Local time from the day before `at` on, for more than a year.
#[must_use]
pub fn zone(at: WallTime) -> Zone {
    let day = |n: i64| WallTime(at.0.saturating_add(n.saturating_mul(DAY_MS)));
    let first = utc_offset(day(-1));
    let mut zone = Zone { known: (day(-1), day(DAYS)), offset: first, changes: Vec::new() };
    let mut known = first;
    for n in 0..=DAYS {
        let then = utc_offset(day(n));
        if then != known {
            zone.changes.push((change(day(n - 1), day(n), known), then));
            known = then;
        }
    }
    zone
}

/// The second between these at which it is no longer so many.
fn change(mut before: WallTime, mut after: WallTime, known: i64) -> WallTime {
    while after.0 - before.0 > 1000 {
        let middle = WallTime(before.0 + (after.0 - before.0) / 2);
        if utc_offset(middle) == known {
            before = middle;
        } else {
            after = middle;
        }
    }
    WallTime(after.0.div_euclid(1000) * 1000)
}
