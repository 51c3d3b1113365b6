//! What is stale in /dev/shm, and when it is removed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `shm:` of a program, or a rule of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShmRule {
    /// Patterns of names in /dev/shm; see [`ShmRule::literals`].
    pub remove: Box<[Box<str>]>,
    /// At which moments.
    pub when: Box<[ShmMoment]>,
    /// Whose files, as a user id.
    pub owner: u32,
    /// Only what was not written for so long.
    pub older_than: Option<Duration>,
    /// Say what would be removed, and remove nothing.
    pub dry_run: bool,
}

/// When files are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ShmMoment {
    /// Before the first program starts (`start`); before each start of the program (`pre-start`).
    Before,
    /// After the last program has stopped (`stop`); after each run of the program (`post-stop`).
    After,
}

impl ShmRule {
    /// The least number of characters of a pattern that stand for themselves.
    pub const LITERALS: usize = 3;
    /// How POSIX semaphores are named; only a pattern that begins so means them.
    pub const SEMAPHORE: &'static str = "sem.";

    /// Whether it applies at `moment`.
    #[must_use]
    pub fn applies(&self, moment: ShmMoment) -> bool {
        self.when.contains(&moment)
    }

    /// How many characters of a pattern stand for themselves: not `*`, `?`, nor a set in brackets.
    #[must_use]
    pub fn literals(pattern: &str) -> usize {
        let mut literals = 0_usize;
        let mut left = pattern;
        while let Some(first) = left.chars().next() {
            let rest = left.strip_prefix(first).unwrap_or_default();
            left = match first {
                '*' | '?' => rest,
                '[' => rest.split_once(']').map_or("", |(_, after)| after),
                _ => {
                    literals = literals.saturating_add(1);
                    rest
                }
            };
        }
        literals
    }
}

#[cfg(test)]
mod tests {
    use super::ShmRule;

    #[test]
    fn only_what_stands_for_itself_counts() {
        for (pattern, literals) in [
            ("prismatron_*", 11),
            ("*", 0),
            ("a?c*", 2),
            ("[abcdef]*x", 1),
            ("[abc", 0),
            ("sem.*", 4),
            ("äöü", 3),
        ] {
            assert_eq!(ShmRule::literals(pattern), literals, "{pattern}");
        }
    }
}
