//! A command that is run as if we were not there: the entrypoint of a container. It keeps our
//! descriptors, our environment, our session and terminal; only its process group is its own.
//!
//! FORK-SAFETY: as in `child`: [`set_up`] only makes system calls and writes to memory made before.

use std::{ffi::CString, os::fd::RawFd, ptr};

use super::{
    Failure, Stage,
    child::{at, call, set_action, set_limits},
    own_pid::OwnPid,
    prepared::{Prepared, Strings},
};
use crate::model::Signal;

/// How a command is run as if we were not there.
#[derive(Debug, Default)]
pub struct AsIs {
    /// Descriptors that it gets although they are closed at exec in us.
    pub keep: Vec<RawFd>,
    /// The terminal whose foreground it is to have.
    pub terminal: Option<RawFd>,
    /// What it is to ignore, as we were told to when we were started.
    pub ignored: Vec<Signal>,
}

/// The same, ready for the child.
#[derive(Debug)]
pub(super) struct Ready {
    keep: Vec<RawFd>,
    terminal: Option<RawFd>,
    /// Bit N for signal N.
    ignored: u128,
    /// For a text without `#!`, as execvp(3) runs it: the shell's arguments for each candidate.
    pub(super) scripts: Vec<Strings>,
    /// `LISTEN_PID=` and room for the number, where it is ours and becomes the child's
    /// (`sd_listen_fds(3)`).
    listen_pid: Option<OwnPid>,
}

impl Ready {
    pub(super) fn new(
        as_is: AsIs,
        candidates: &[CString],
        argv: &[CString],
        listens: bool,
    ) -> Self {
        let rest = argv.get(1..).unwrap_or_default();
        let script = |path: &CString| {
            let words = [c"/bin/sh".to_owned(), path.clone()].into_iter();
            Strings::new(words.chain(rest.iter().cloned()).collect())
        };
        let bit = |signal: &Signal| 1_u128 << signal.number();
        Self {
            keep: as_is.keep,
            terminal: as_is.terminal,
            ignored: as_is.ignored.iter().map(bit).fold(0, |all, one| all | one),
            scripts: candidates.iter().map(script).collect(),
            listen_pid: listens.then(|| OwnPid::new("LISTEN_PID")),
        }
    }

    /// The variable that the child will write its number into.
    pub(super) fn variable(&self) -> Option<*const std::ffi::c_char> {
        self.listen_pid.as_ref().map(OwnPid::as_ptr)
    }
}

/// In the child, instead of all that a program of the site gets.
pub(super) fn set_up(ready: &Ready, prepared: &Prepared) -> Result<(), Failure> {
    at(Stage::Session, call!(SYS_setpgid, 0, 0))?;
    let pid = call!(SYS_getpid).unwrap_or(0);
    if let Some(terminal) = ready.terminal {
        // SIGTTOU is blocked, as is everything. Where it cannot be had the command does without.
        let group = i32::try_from(pid).unwrap_or(0);
        let _refused = call!(SYS_ioctl, terminal, libc::TIOCSPGRP, ptr::from_ref(&group));
    }
    for signal in 1_i32..=64 {
        if ready.ignored & (1 << signal) == 0 {
            set_action(signal, libc::SIG_DFL);
        }
    }
    for fd in &ready.keep {
        at(Stage::Descriptors, call!(SYS_fcntl, *fd, libc::F_SETFD, 0))?;
    }
    set_limits(prepared)?;
    if let Some(variable) = &ready.listen_pid {
        variable.write(u32::try_from(pid).unwrap_or(0));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_an_interpreter_is_one_for_the_shell() {
        let argv = [c"run".to_owned(), c"a b".to_owned()];
        let ready = Ready::new(AsIs::default(), &[c"/bin/run".to_owned()], &argv, false);
        assert_eq!(ready.scripts.len(), 1);
        assert_eq!(format!("{:?}", ready.scripts).matches("a b").count(), 1);
    }
}
