//! Local time (localtime(3)), by `TZ` or `/etc/localtime`; UTC where there is neither.

use super::width::signed;
use crate::model::WallTime;

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
