//! Names and numbers of rotated files: pure. `log`, `log.1`, `log.2.gz` …, 1 is the newest.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    time::Duration,
};

use crate::model::{Compress, WallTime};

/// A rotated file, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Old {
    /// 1 is the newest.
    pub number: u32,
    /// Whether it is compressed.
    pub gz: bool,
}

/// What is done to the files of a directory before a new file is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// This one has become too old.
    Remove(Old),
    /// This one gets a new number.
    Rename(Old, Old),
    /// The current file becomes number 1.
    Retire,
    /// The current file is removed, for none is kept.
    Forget,
}

impl Old {
    /// Its file name beside `base`.
    #[must_use]
    pub fn name(self, base: &OsStr) -> OsString {
        let mut name = base.to_owned();
        name.push(format!(".{}{}", self.number, if self.gz { ".gz" } else { "" }));
        name
    }

    /// Reads the number in the name of a file beside `base`.
    #[must_use]
    pub fn parse(base: &OsStr, entry: &[u8]) -> Option<Self> {
        let rest = entry.strip_prefix(base.as_bytes())?.strip_prefix(b".")?;
        let (digits, gz) = rest.strip_suffix(b".gz").map_or((rest, false), |d| (d, true));
        let plain = !digits.is_empty() && digits.first() != Some(&b'0');
        let text =
            std::str::from_utf8(digits).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
        text.parse().ok().filter(|_| plain).map(|number| Self { number, gz })
    }
}

/// The steps of one rotation, in order, so that no step overwrites a file that is kept.
#[must_use]
pub fn plan(existing: &[Old], keep: u32) -> Vec<Step> {
    let mut old = existing.to_vec();
    old.sort_unstable();
    let mut steps = Vec::new();
    for (i, file) in old.iter().enumerate().rev() {
        // Both forms exist after a power cut between compression and removal: the plain one is
        // whole.
        let twin = file.gz
            && i.checked_sub(1).and_then(|p| old.get(p)).is_some_and(|p| p.number == file.number);
        if file.number >= keep || twin {
            steps.push(Step::Remove(*file));
        } else {
            steps.push(Step::Rename(*file, Old { number: file.number + 1, gz: file.gz }));
        }
    }
    steps.push(if keep == 0 { Step::Forget } else { Step::Retire });
    steps
}

/// The file that is to be compressed next.
#[must_use]
pub fn to_compress(existing: &[Old], compress: Compress) -> Option<Old> {
    let first = match compress {
        Compress::None => return None,
        Compress::Delayed => 2,
        Compress::Gzip => 1,
    };
    existing.iter().copied().filter(|o| !o.gz && o.number >= first).min()
}

/// The end of the window of length `every` that `at` lies in; windows start at multiples since
/// 1970, so that a restart of the supervisor changes nothing.
#[must_use]
pub fn window_end(at: WallTime, every: Duration) -> WallTime {
    let len = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
    WallTime(at.0.div_euclid(len).saturating_add(1).saturating_mul(len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn numbers_are_read_from_names_and_nothing_else_is() {
        let base = OsStr::new("web.log");
        for (name, is) in [
            ("web.log.1", Some((1, false))),
            ("web.log.12.gz", Some((12, true))),
            ("web.log.01", None),
            ("web.log.0", None),
            ("web.log.+1", None),
            ("web.log", None),
            ("web.log.gz", None),
            ("web.log2.1", None),
            ("other.1", None),
        ] {
            let found = Old::parse(base, name.as_bytes());
            assert_eq!(found.map(|o| (o.number, o.gz)), is, "{name}");
            if let Some(old) = found {
                assert_eq!(old.name(base), OsStr::new(name));
            }
        }
    }

    #[test]
    fn days_end_at_midnight() {
        let day = Duration::from_secs(86_400);
        assert_eq!(window_end(WallTime(1), day), WallTime(86_400_000));
        assert_eq!(window_end(WallTime(86_400_000), day), WallTime(172_800_000));
        assert_eq!(window_end(WallTime(-1), day), WallTime(0));
    }

    proptest! {
        #[test]
        fn rotation_keeps_the_newest_files_in_order(
            numbers in prop::collection::btree_map(1_u32..12, any::<bool>(), 0..12),
            keep in 0_u32..8,
        ) {
            let mut disk: BTreeMap<Old, u32> = numbers
                .into_iter().map(|(number, gz)| (Old { number, gz }, number)).collect();
            let before = disk.clone();
            for step in plan(&disk.keys().copied().collect::<Vec<_>>(), keep) {
                match step {
                    Step::Remove(old) => prop_assert!(disk.remove(&old).is_some()),
                    Step::Rename(from, to) => {
                        let file = disk.remove(&from).unwrap();
                        prop_assert!(disk.insert(to, file).is_none(), "overwritten");
                    }
                    Step::Retire => {
                        let first = Old { number: 1, gz: false };
                        prop_assert!(disk.insert(first, 0).is_none(), "overwritten");
                    }
                    Step::Forget => prop_assert_eq!(keep, 0),
                }
            }
            prop_assert!(disk.keys().all(|o| o.number <= keep));
            for (old, id) in before {
                let moved = Old { number: old.number + 1, gz: old.gz };
                prop_assert_eq!(disk.get(&moved) == Some(&id), moved.number <= keep);
            }
        }
    }
}
