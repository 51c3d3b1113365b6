//! Capabilities by name (capabilities(7)).

use std::fmt;

use serde::{Deserialize, Serialize};

/// In the order of their numbers (linux/capability.h).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability(u8);

impl Capability {
    /// `CAP_MKNOD`: making device nodes.
    pub const MKNOD: Self = Self(27);
    /// `CAP_SYS_RAWIO`: the machine's ports and memory.
    pub const SYS_RAWIO: Self = Self(17);
    /// `CAP_SYS_MODULE`: loading modules into the kernel.
    pub const SYS_MODULE: Self = Self(16);

    /// The one of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let number = NAMES.iter().position(|known| *known == name)?;
        u8::try_from(number).ok().map(Self)
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter()
    }

    /// Its number in the kernel.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.get(usize::from(self.0)).copied().unwrap_or("CAP_?"))
    }
}

/// A set of capabilities: bit N is number N.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// All that have a name, and those that a newer kernel may have.
    pub const ALL: Self = Self(u64::MAX);

    /// With this one.
    #[must_use]
    pub fn with(self, one: Capability) -> Self {
        Self(self.0 | 1 << one.0)
    }

    /// Without this one.
    #[must_use]
    pub fn without(self, one: Capability) -> Self {
        Self(self.0 & !(1 << one.0))
    }

    /// Whether this one is in it.
    #[must_use]
    pub fn contains(self, one: Capability) -> bool {
        self.contains_number(one.0)
    }

    /// Whether the one of this number is in it.
    #[must_use]
    pub fn contains_number(self, number: u8) -> bool {
        number < 64 && self.0 & 1 << number != 0
    }

    /// Whether there is none in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All that have a name, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0..41).map(Capability).filter(move |one| self.contains(*one))
    }

    /// The lower and the upper 32 of them, as capset(2) takes them.
    #[must_use]
    pub fn halves(self) -> [u32; 2] {
        let half = |shift: u32| u32::try_from(self.0 >> shift & 0xffff_ffff).unwrap_or(0);
        [half(0), half(32)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_the_kernel() {
        for (name, number) in [("CAP_CHOWN", 0), ("CAP_SYS_ADMIN", 21), ("CAP_BPF", 39)] {
            let one = Capability::parse(name).unwrap();
            assert_eq!((one.number(), one.to_string()), (number, name.to_owned()));
        }
        let named = [Capability::MKNOD, Capability::SYS_RAWIO, Capability::SYS_MODULE];
        let named: Vec<String> = named.iter().map(ToString::to_string).collect();
        assert_eq!(named, ["CAP_MKNOD", "CAP_SYS_RAWIO", "CAP_SYS_MODULE"]);
        assert_eq!(Capability::parse("CAP_FLY"), None);
    }

    #[test]
    fn a_set_is_two_words_for_the_kernel() {
        let bpf = Capability::parse("CAP_BPF").unwrap();
        let set = CapabilitySet::default().with(Capability::MKNOD).with(bpf);
        assert_eq!(set.halves(), [1 << 27, 1 << 7]);
        assert!(set.contains(bpf) && !set.without(bpf).contains(bpf));
        assert_eq!(set.iter().count(), 2);
    }
}
