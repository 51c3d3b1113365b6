//! A process id that is safe to signal: never 0, 1 or negative, which kill(2) reads as something
//! else.

use std::fmt;

/// A process id from 2 on. 0, -1 and -n mean groups or everybody to kill(2), and 1 is never a
/// child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(i32);

impl Pid {
    /// The process id with this number, when it is one that may be signalled.
    #[must_use]
    pub fn new(raw: i32) -> Option<Self> {
        (raw >= 2).then_some(Self(raw))
    }

    /// Reads a process id as /proc writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        text.parse().ok().and_then(Self::new)
    }

    /// Its number.
    #[must_use]
    pub fn raw(self) -> i32 {
        self.0
    }

    /// Its number, as status and log show it.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0.unsigned_abs()
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kill_reads_as_a_group_or_as_everybody_is_no_process_id() {
        for text in ["", "0", "1", "-1", "-0", "+2", "12 34", "99999999999", "0x10", "2\n"] {
            assert_eq!(Pid::parse(text), None, "{text:?}");
        }
        assert_eq!(Pid::parse("4711").map(Pid::raw), Some(4711));
    }
}
