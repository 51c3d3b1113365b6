//! Numbers of the C library whose width depends on the machine: 32 bits on armhf, 64 on amd64.

use nix::sys::stat::FileStat;

/// As 64 bits; what cannot be, because it is negative, is 0.
pub fn unsigned<T: TryInto<u64>>(number: T) -> u64 {
    number.try_into().unwrap_or(0)
}

/// As 64 bits; what cannot be is the largest.
pub fn signed<T: TryInto<i64>>(number: T) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// The device and inode that say which file it is (stat(2)).
#[must_use]
pub fn identity(stat: &FileStat) -> (u64, u64) {
    (unsigned(stat.st_dev), unsigned(stat.st_ino))
}
