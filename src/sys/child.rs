//! Our children: who they are, how they ended, and signals while their pid is surely theirs.
//!
//! A zombie keeps its pid and its group. So an exit is first *peeked* at, then the group may be
//! signalled, and only then is the child *reaped*. Whatever was peeked must be reaped: the kernel
//! shows the same one again until then.

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    os::fd::{FromRawFd as _, OwnedFd},
};

use nix::errno::Errno;

use super::{Pid, error::check};
use crate::model::{Exit, Signal};

/// A child that was made and not yet reaped: its pid cannot be anybody else's. Not `Send`.
#[derive(Debug)]
pub struct LiveChild {
    pid: Pid,
    _one_thread: PhantomData<*const ()>,
}

impl LiveChild {
    pub(super) fn new(pid: Pid) -> Self {
        Self { pid, _one_thread: PhantomData }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor that becomes readable when it has ended (`pidfd_open(2)`); `None` where the
    /// kernel has none, before Linux 5.3.
    #[must_use]
    pub fn ending(&self) -> Option<OwnedFd> {
        // SAFETY: a plain system call on numbers (pidfd_open(2)).
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid.raw(), 0) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: just opened, and owned by nobody else.
        Some(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Takes away a child that is known to be ending without ever having become a program.
    pub(super) fn reap_failed(self) {
        wait_for(self.pid);
    }
}

/// A child that has ended and still keeps its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the kernel shows nobody else before this one is reaped"]
pub struct Peeked {
    /// Its process id.
    pub pid: Pid,
    /// Which run it was; `None` for an orphan that came to us.
    pub run: Option<u64>,
    /// How it ended.
    pub exit: Exit,
}

/// Whether a process could be taken for the main process of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// It is.
    Yes,
    /// It is no child of ours, so its end could not be seen.
    NotOurs,
}

/// Every child that we made, by run, until it is reaped. The only owner of `wait`.
#[derive(Debug, Default)]
pub struct Children {
    by_run: BTreeMap<u64, LiveChild>,
    by_pid: BTreeMap<Pid, u64>,
    strangers_reaped: u64,
}

impl Children {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers a child before anything can be reaped. A run has one main process; its number is
    /// not used again.
    pub fn insert(&mut self, run: u64, child: LiveChild) {
        self.by_pid.insert(child.pid, run);
        self.by_run.insert(run, child);
    }

    /// The main process of this run is from now on `pid`, a child that came to us as an orphan.
    pub fn adopt(&mut self, run: u64, pid: Pid) -> Adopted {
        // A child of ours cannot be reaped but by us, so its number is its own until then.
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if wait(libc::P_PID, pid.number(), options).is_err() {
            return Adopted::NotOurs;
        }
        if let Some(before) = self.by_run.get(&run) {
            // Dead, and reaped in a moment: as a stranger.
            self.by_pid.remove(&before.pid);
        }
        self.insert(run, LiveChild::new(pid));
        Adopted::Yes
    }

    /// The process of this run, while it is not reaped.
    #[must_use]
    pub fn pid_of(&self, run: u64) -> Option<Pid> {
        self.by_run.get(&run).map(LiveChild::pid)
    }

    /// The run that this process is, while it is not reaped.
    #[must_use]
    pub fn run_of(&self, pid: Pid) -> Option<u64> {
        self.by_pid.get(&pid).copied()
    }

    /// All main processes that are not reaped yet.
    pub fn pids(&self) -> impl Iterator<Item = Pid> {
        self.by_pid.keys().copied()
    }

    /// How many children are not reaped yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_run.len()
    }

    /// True when every child is reaped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_run.is_empty()
    }

    /// How many orphans were taken away.
    #[must_use]
    pub fn strangers_reaped(&self) -> u64 {
        self.strangers_reaped
    }

    /// A child that has ended, if there is one; it stays as it is. Call until `None`: signals of
    /// death are merged.
    #[must_use]
    pub fn peek_exited(&self) -> Option<Peeked> {
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let (pid, exit) = wait(libc::P_ALL, 0, options).ok()??;
        Some(Peeked { pid, run: self.run_of(pid), exit })
    }

    /// The signal that has stopped the main process of the run since the last call, if one has.
    #[must_use]
    pub fn peek_stopped(&self, run: u64) -> Option<Signal> {
        let pid = self.pid_of(run)?;
        // SAFETY: siginfo_t is plain data, for which all zeros are valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = libc::WSTOPPED | libc::WNOHANG;
        // SAFETY: `info` is ours and as large as the kernel expects (waitid(2)).
        check(unsafe { libc::waitid(libc::P_PID, pid.number(), &raw mut info, options) }).ok()?;
        // SAFETY: the kernel has filled in the fields of SIGCHLD, or left zeros.
        let status = unsafe { info.si_status() };
        Signal::from_number(i64::from(status)).filter(|_| info.si_code == libc::CLD_STOPPED)
    }

    /// Takes the dead child away; its pid may be anybody's from now on.
    pub fn reap(&mut self, peeked: Peeked) {
        wait_for(peeked.pid);
        match self.by_pid.remove(&peeked.pid) {
            Some(run) => drop(self.by_run.remove(&run)),
            None => self.strangers_reaped = self.strangers_reaped.saturating_add(1),
        }
    }

    /// Sends a signal to the main process of the run.
    ///
    /// # Errors
    /// ESRCH when it is reaped, EPERM when it has become another user. See kill(2).
    pub fn signal_main(&self, run: u64, signal: Signal) -> Result<(), Errno> {
        let pid = self.pid_of(run).ok_or(Errno::ESRCH)?;
        kill(pid.raw(), signal)
    }

    /// Sends a signal to the process group that the main process leads, while it is not reaped: it
    /// pins the number.
    ///
    /// A child that has not yet made its group is signalled alone. Our own group never is.
    ///
    /// # Errors
    /// As [`Self::signal_main`].
    pub fn signal_group(&self, run: u64, signal: Signal) -> Result<(), Errno> {
        let pid = self.pid_of(run).ok_or(Errno::ESRCH)?;
        if pid.raw() == nix::unistd::getpgrp().as_raw() {
            return Err(Errno::EPERM);
        }
        match kill(-pid.raw(), signal) {
            Err(Errno::ESRCH) => kill(pid.raw(), signal),
            other => other,
        }
    }
}

/// Whether we have any child at all, alive or dead. As a subreaper without children we have no
/// descendants either.
#[must_use]
pub fn has_children() -> bool {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    wait(libc::P_ALL, 0, options) != Err(Errno::ECHILD)
}

/// Signals every process of our PID namespace but ourselves. Only as its PID 1: elsewhere it does
/// nothing.
pub fn signal_everybody(signal: Signal) {
    if super::subreaper::is_init() {
        // The one place where -1 is right: everything there is ours (kill(2)).
        kill(-1, signal).ok();
    }
}

/// Stops this process until somebody continues it (SIGSTOP). The init of a namespace it does not
/// stop.
pub fn stop_ourselves() {
    // SAFETY: raise(3) with a number.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// kill(2). `target` is the number of a `Pid`, or its negative for the group.
pub(super) fn kill(target: i32, signal: Signal) -> Result<(), Errno> {
    // SAFETY: touches no memory; that the number is neither 0 nor ±1 is what `Pid` is for.
    check(unsafe { libc::kill(target, i32::from(signal.number())) }).map(drop)
}

/// Reaps this child, which is dead or dying.
fn wait_for(pid: Pid) {
    // ECHILD means that it is gone already, which is what was wanted.
    while wait(libc::P_PID, pid.number(), libc::WEXITED) == Err(Errno::EINTR) {}
}

/// waitid(2). nix's is not used: it reports a death by a real-time signal as EINVAL, after having
/// reaped.
fn wait(kind: libc::idtype_t, id: u32, options: i32) -> Result<Option<(Pid, Exit)>, Errno> {
    // SAFETY: siginfo_t is plain data, for which all zeros are valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is ours and as large as the kernel expects.
    check(unsafe { libc::waitid(kind, id, &raw mut info, options) })?;
    // SAFETY: waitid(2) has filled in the fields of SIGCHLD, or left zeros.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    Ok(Pid::new(pid).map(|pid| (pid, decode(info.si_code, status))))
}

/// The exit as a word. Real-time signals are signals like any other.
fn decode(code: i32, status: i32) -> Exit {
    match Signal::from_number(i64::from(status)) {
        Some(signal) if code == libc::CLD_KILLED => Exit::Signal { signal, core: false },
        Some(signal) if code == libc::CLD_DUMPED => Exit::Signal { signal, core: true },
        _ => Exit::Code(u8::try_from(status & 0xff).unwrap_or(u8::MAX)),
    }
}
