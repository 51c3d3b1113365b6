//! Which system calls a program may make, with the names and groups of systemd.exec(5).

mod groups;
mod numbers;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use groups::{ELSEWHERE, GROUPS};
use numbers::NUMBERS;

/// `system_call_filter`, as it is written: every word is known to [`SystemCallRule::parse`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemCallFilter(pub Box<[Box<str>]>);

/// A word of it: `@system-service`, `~@mount:EPERM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCallRule<'a> {
    /// A call, or a group of them with its `@`.
    pub name: &'a str,
    /// It has a `~` in front.
    pub denied: bool,
    /// What a call that is refused returns; the process is killed without.
    pub errno: Option<u16>,
}

/// Why a word is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemCallMistake<'a> {
    /// No kernel has a call of this name.
    Name(&'a str),
    /// No error has this name.
    Errno(&'a str),
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is carried out.
    Allow,
    /// It returns this error.
    Errno(u16),
    /// The process is killed.
    Kill,
}

/// Errors that a refused call may return, and their numbers on every architecture that we filter
/// on.
const ERRNOS: [(&str, u16); 18] = [
    ("EPERM", 1),
    ("ENOENT", 2),
    ("EIO", 5),
    ("ENXIO", 6),
    ("EBADF", 9),
    ("EAGAIN", 11),
    ("ENOMEM", 12),
    ("EACCES", 13),
    ("EFAULT", 14),
    ("EBUSY", 16),
    ("EEXIST", 17),
    ("ENODEV", 19),
    ("EINVAL", 22),
    ("ENOTTY", 25),
    ("EROFS", 30),
    ("ENOSYS", 38),
    ("EOPNOTSUPP", 95),
    ("EAFNOSUPPORT", 97),
];

impl<'a> SystemCallRule<'a> {
    /// Reads a word.
    ///
    /// # Errors
    /// It names what there is not, on any architecture.
    pub fn parse(text: &'a str) -> Result<Self, SystemCallMistake<'a>> {
        let (text, denied) = text.strip_prefix('~').map_or((text, false), |rest| (rest, true));
        let (name, action) = text.split_once(':').unwrap_or((text, "kill"));
        let named = |known: &&(&str, u16)| known.0 == action;
        let number = || action.parse().ok().filter(|number| (1..=4095).contains(number));
        let errno = match ERRNOS.iter().find(named) {
            _ if action == "kill" => None,
            Some((_, number)) => Some(*number),
            None => Some(number().ok_or(SystemCallMistake::Errno(action))?),
        };
        if Self::names().any(|known| known == name) {
            return Ok(Self { name, denied, errno });
        }
        Err(SystemCallMistake::Name(name))
    }

    /// Every group and call.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let groups = GROUPS.iter().map(|(name, _)| *name).chain(["@known"]);
        groups.chain(calls())
    }
}

/// Every call of any architecture.
fn calls() -> impl Iterator<Item = &'static str> {
    let numbered = NUMBERS.split_ascii_whitespace().filter_map(|row| row.split(':').next());
    let grouped = GROUPS.iter().flat_map(|(_, members)| members.split_ascii_whitespace());
    let grouped = grouped.filter(|name| !name.starts_with('@'));
    numbered.chain(grouped).chain(ELSEWHERE.split_ascii_whitespace())
}

/// The calls that a name means: itself, or all of a group.
fn members(name: &str) -> BTreeSet<&str> {
    if name == "@known" {
        return calls().collect();
    }
    let Some((_, members)) = GROUPS.iter().find(|(group, _)| *group == name) else {
        return BTreeSet::from([name]);
    };
    let mut all = BTreeSet::new();
    for member in members.split_ascii_whitespace() {
        if member.starts_with('@') {
            all.extend(self::members(member));
        } else {
            all.insert(member);
        }
    }
    all
}

/// The number of a call on an architecture, as `std::env::consts::ARCH` has its name; `None` where
/// it has no such call, or we do not know the architecture.
#[must_use]
pub fn system_call_number(name: &str, arch: &str) -> Option<i64> {
    let column = match arch {
        "x86_64" => 1,
        "aarch64" => 2,
        _ => return None,
    };
    let mut rows = NUMBERS.split_ascii_whitespace();
    let row = rows.find(|row| row.split(':').next() == Some(name))?;
    row.split(':').nth(column)?.parse().ok()
}

impl SystemCallFilter {
    /// What becomes of a call that is not named, and what of those that are. The first word
    /// decides: with a `~` all is allowed that is not named, without one nothing but what starts a
    /// program (`@default`). The others add to it or take away.
    #[must_use]
    pub fn verdicts(&self) -> (Verdict, BTreeMap<&str, Verdict>) {
        let rules = self.0.iter().filter_map(|text| SystemCallRule::parse(text).ok());
        let rules: Vec<SystemCallRule<'_>> = rules.collect();
        let allows = rules.first().is_none_or(|first| !first.denied);
        let mut named: BTreeMap<&str, Verdict> = BTreeMap::new();
        if allows {
            named.extend(members("@default").into_iter().map(|name| (name, Verdict::Allow)));
        }
        for SystemCallRule { name, denied, errno } in rules {
            let verdict = match errno {
                Some(errno) => Verdict::Errno(errno),
                None if denied => Verdict::Kill,
                None => Verdict::Allow,
            };
            named.extend(members(name).into_iter().map(|name| (name, verdict)));
        }
        let rest = if allows { Verdict::Kill } else { Verdict::Allow };
        named.retain(|_, verdict| *verdict != rest);
        (rest, named)
    }

    /// What becomes of this call.
    #[must_use]
    pub fn verdict(&self, name: &str) -> Verdict {
        let (rest, named) = self.verdicts();
        named.get(name).copied().unwrap_or(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(words: &[&str]) -> SystemCallFilter {
        SystemCallFilter(words.iter().map(|word| (*word).into()).collect())
    }

    #[test]
    fn numbers_are_those_of_this_kernel() {
        for (name, number) in [
            ("read", libc::SYS_read),
            ("execve", libc::SYS_execve),
            ("openat", libc::SYS_openat),
            ("mount", libc::SYS_mount),
            ("landlock_add_rule", libc::SYS_landlock_add_rule),
        ] {
            assert_eq!(system_call_number(name, std::env::consts::ARCH), Some(number), "{name}");
        }
        assert_eq!(system_call_number("open", "aarch64"), None);
        assert_eq!(system_call_number("openat", "aarch64"), Some(56));
        assert_eq!(system_call_number("read", "m68k"), None);
    }

    #[test]
    fn every_member_of_a_group_is_known() {
        for (_, members) in GROUPS {
            for name in members.split_ascii_whitespace() {
                assert!(SystemCallRule::parse(name).is_ok(), "{name}");
            }
        }
    }

    #[test]
    fn what_is_allowed_is_less_what_is_taken_away_again() {
        let some = filter(&["@system-service", "~@privileged", "~@resources:EPERM"]);
        for (name, verdict) in [
            ("read", Verdict::Allow),
            ("execve", Verdict::Allow),
            ("chown", Verdict::Kill),
            ("mount", Verdict::Kill),
            ("setrlimit", Verdict::Errno(1)),
        ] {
            assert_eq!(some.verdict(name), verdict, "{name}");
        }
    }

    #[test]
    fn what_is_not_denied_is_allowed() {
        let some = filter(&["~@mount", "~ptrace:ENOSYS", "umount2"]);
        for (name, verdict) in [
            ("read", Verdict::Allow),
            ("mount", Verdict::Kill),
            ("umount2", Verdict::Allow),
            ("ptrace", Verdict::Errno(38)),
        ] {
            assert_eq!(some.verdict(name), verdict, "{name}");
        }
        assert_eq!(filter(&[]).verdict("read"), Verdict::Kill);
    }

    #[test]
    fn words_are_read_with_their_errors() {
        let rule = SystemCallRule::parse("~@mount:EPERM").unwrap();
        assert_eq!(rule, SystemCallRule { name: "@mount", denied: true, errno: Some(1) });
        assert_eq!(SystemCallRule::parse("read:kill").unwrap().errno, None);
        assert_eq!(SystemCallRule::parse("read:5").unwrap().errno, Some(5));
        assert_eq!(SystemCallRule::parse("raed"), Err(SystemCallMistake::Name("raed")));
        assert_eq!(SystemCallRule::parse("read:0"), Err(SystemCallMistake::Errno("0")));
        // An old call of another architecture is no mistake.
        assert!(SystemCallRule::parse("s390_pci_mmio_read").is_ok());
    }
}
