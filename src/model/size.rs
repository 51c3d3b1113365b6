//! Sizes in bytes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    /// `38 MiB`, `1.5 GiB`, `512 B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = 1_u64;
        let mut name = "B";
        for (n, text) in [(1 << 10, "KiB"), (1 << 20, "MiB"), (1 << 30, "GiB"), (1 << 40, "TiB")] {
            if self.0 >= n {
                (unit, name) = (n, text);
            }
        }
        let tenths = (u128::from(self.0) * 10 / u128::from(unit)) % 10;
        let whole = self.0 / unit;
        if whole < 10 && tenths > 0 {
            write!(f, "{whole}.{tenths} {name}")
        } else {
            write!(f, "{whole} {name}")
        }
    }
}

/// File mode bits, at most 0o7777.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mode(pub u32);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}
