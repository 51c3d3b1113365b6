//! The end of the whole host: a reboot, or a power-off, and the ways to it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// How the host goes down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEnd {
    /// To what end.
    pub goal: HostGoal,
    /// One after the other, until one of them works. Never empty.
    pub methods: Box<[Method]>,
    /// How long each may take to accept.
    pub timeout: Duration,
    /// A host that is still up so long after a method has accepted was not helped by it.
    pub grace: Duration,
    /// When none has worked they are tried again after this.
    pub retry: Duration,
    /// For [`Method::SysRq`].
    pub sysrq: SysRq,
    /// The programs are stopped first, in order and with their timeouts.
    pub stops_programs: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What is to become of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostGoal {
    /// It starts again.
    Reboot,
    /// It is switched off.
    PowerOff,
}

/// One way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// `systemctl reboot`, `systemctl poweroff`.
    Systemctl,
    /// `shutdown -r now`, `shutdown -P now`.
    Shutdown,
    /// `reboot`, `poweroff`.
    Command,
    /// sync(2) and reboot(2).
    Syscall,
    /// Keys of `/proc/sysrq-trigger` (Documentation/admin-guide/sysrq.rst).
    SysRq,
}

/// Which keys, and how slowly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysRq {
    /// The keys in their order: `sub`. The last one ends the host.
    pub sequence: Box<str>,
    /// Between two of them: what a key begins goes on after the write.
    pub wait: Duration,
}

impl SysRq {
    /// The keys that may be pressed. `e` and `i` end every process but process 1: unless that is
    /// what we are, they would end us before the key that matters, so they are left out.
    #[must_use]
    pub fn keys(&self, is_init: bool) -> Vec<u8> {
        let fatal = |key: u8| matches!(key, b'e' | b'i');
        self.sequence.bytes().filter(|key| is_init || !fatal(*key)).collect()
    }

    /// How long it takes at the least.
    #[must_use]
    pub fn takes(&self) -> Duration {
        let waits = u32::try_from(self.sequence.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.wait.saturating_mul(waits)
    }
}

impl HostGoal {
    /// As in the site file: `reboot`, `poweroff`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::PowerOff => "poweroff",
        }
    }

    /// What is tried when nothing else is said.
    #[must_use]
    pub fn methods(self) -> Box<[Method]> {
        use Method::{Command, Shutdown, SysRq, Syscall, Systemctl};
        [Systemctl, Shutdown, Command, Syscall, SysRq].into()
    }

    /// Sync, remount read-only, and the end.
    #[must_use]
    pub fn sysrq_sequence(self) -> &'static str {
        match self {
            Self::Reboot => "sub",
            Self::PowerOff => "suo",
        }
    }
}

impl Method {
    /// As in the site file, for this goal.
    #[must_use]
    pub fn as_str(self, goal: HostGoal) -> &'static str {
        match self {
            Self::Systemctl => "systemctl",
            Self::Shutdown => "shutdown",
            Self::Command => goal.as_str(),
            Self::Syscall => "syscall",
            Self::SysRq => "sysrq",
        }
    }

    /// The command that it is; `None` for what is done without one.
    #[must_use]
    pub fn command(self, goal: HostGoal) -> Option<&'static [&'static str]> {
        match (self, goal) {
            (Self::Systemctl, HostGoal::Reboot) => Some(&["systemctl", "reboot"]),
            (Self::Systemctl, HostGoal::PowerOff) => Some(&["systemctl", "poweroff"]),
            (Self::Shutdown, HostGoal::Reboot) => Some(&["shutdown", "-r", "now"]),
            (Self::Shutdown, HostGoal::PowerOff) => Some(&["shutdown", "-P", "now"]),
            (Self::Command, HostGoal::Reboot) => Some(&["reboot"]),
            (Self::Command, HostGoal::PowerOff) => Some(&["poweroff"]),
            (Self::Syscall | Self::SysRq, _) => None,
        }
    }
}

impl HostEnd {
    /// The methods in the words of the site file: `systemctl, syscall`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let words = self.methods.iter().map(|method| method.as_str(self.goal));
        words.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for HostGoal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_would_end_us_are_for_process_1_alone() {
        let sysrq = SysRq { sequence: "reisub".into(), wait: Duration::from_secs(2) };
        assert_eq!(sysrq.keys(true), b"reisub");
        assert_eq!(sysrq.keys(false), b"rsub");
        assert_eq!(sysrq.takes(), Duration::from_secs(10));
    }
}
