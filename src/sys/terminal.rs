//! Who has the terminal: the process group in its foreground (`tcsetpgrp(3)`).

use std::{
    fs::OpenOptions,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use nix::{
    fcntl::OFlag,
    unistd::{self, getpgid, getpgrp, getppid, getsid, tcgetpgrp, tcsetpgrp},
};

use super::Pid;

/// Our controlling terminal, of which we had the foreground.
#[derive(Debug)]
pub struct Terminal {
    fd: OwnedFd,
}

impl Terminal {
    /// The terminal, if our process group is the one in its foreground. Else it is somebody
    /// else's, and to take it would be theft; `None` too when there is none.
    #[must_use]
    pub fn in_our_hands() -> Option<Self> {
        let standard = [
            std::io::stdin().as_fd().try_clone_to_owned(),
            std::io::stdout().as_fd().try_clone_to_owned(),
            std::io::stderr().as_fd().try_clone_to_owned(),
        ];
        let flags = (OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits();
        let named = || OpenOptions::new().read(true).custom_flags(flags).open("/dev/tty").ok();
        let ours = |fd: &OwnedFd| tcgetpgrp(fd) == Ok(getpgrp());
        let standard = standard.into_iter().flatten().find(ours);
        let fd = standard.or_else(|| named().map(OwnedFd::from).filter(ours))?;
        Some(Self { fd })
    }

    /// For the child that is to have it.
    #[must_use]
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Gives the foreground to this group. That it is gone by now is nobody's fault.
    pub fn give(&self, group: Pid) {
        tcsetpgrp(&self.fd, unistd::Pid::from_raw(group.raw())).ok();
    }

    /// Takes the foreground back from `group`, if that still has it: we ignore SIGTTOU, so we may
    /// from the background.
    pub fn take_back(&self, group: Pid) {
        if tcgetpgrp(&self.fd).is_ok_and(|now| now.as_raw() == group.raw()) {
            tcsetpgrp(&self.fd, getpgrp()).ok();
        }
    }

    /// Takes the foreground back, whoever has it: all who had it from us are gone.
    pub fn regain(&self) {
        tcsetpgrp(&self.fd, getpgrp()).ok();
    }
}

/// Whether our parent is of our session and another process group, as a shell with job control is:
/// then it sees that we stop, and continues us. Else our group is an orphan (credentials(7)).
#[must_use]
pub fn has_shell_above() -> bool {
    let parent = getppid();
    // 0: outside of our PID namespace.
    parent.as_raw() > 0
        && getsid(Some(parent)).is_ok_and(|session| Ok(session) == getsid(None))
        && getpgid(Some(parent)).is_ok_and(|group| group != getpgrp())
}
