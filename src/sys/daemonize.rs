//! Into the background by two forks (daemon(7)), and what the starter learns of the daemon.
//!
//! ```text
//! starter ──fork──► middle: setsid ──fork──► daemon     no leader of its session, so no open(2)
//!    │                 └ ends at once           │       makes a terminal its controlling one
//!    └──── a socket: "pid PID", then "up", "ended CODE" or "over CODE LOG"; its end is the daemon's death ────┘
//! ```

use std::{
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, SigmaskHow, Signal as Number, kill, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, getpid, setsid},
};

use super::{SysError, clock, stdio};
use crate::model::{Exit, Instant, Signal};

/// Which of the two a process is after the forks.
#[derive(Debug)]
pub enum Side {
    /// The one that was started, and is waited for.
    Starter(Starter),
    /// The one that stays.
    Daemon(Handover),
}

/// What became of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is up.
    Up,
    /// It has ended with this code, and has said why.
    Ended(u8),
    /// What it was to do was over before it was up, with this code; where its log is.
    Over(u8, Option<String>),
    /// It has ended and has said nothing; how, when that can be known.
    Died(Option<Exit>),
    /// It is not up in time.
    Late,
    /// We were told to end meanwhile.
    Told(Signal),
}

/// What ends the starter.
const HEARD: [Number; 4] = [Number::SIGTERM, Number::SIGINT, Number::SIGHUP, Number::SIGQUIT];
/// How long a daemon that is no longer wanted may take to stop its programs.
const STOP: Duration = Duration::from_secs(10);
/// How long to kill them.
const KILL: Duration = Duration::from_secs(5);

/// Forks twice. The daemon has its own session, umask 022, and the descriptors and the directory of
/// the starter still.
///
/// To be called while the process has one thread: no other one would be in the daemon.
///
/// # Errors
/// No process or no descriptor can be had.
pub fn fork_twice() -> Result<Side, SysError> {
    let doing = "go into the background";
    let fail = |e: Errno| SysError::new(doing, e);
    let (ours, theirs) = UnixStream::pair().map_err(|e| SysError::new(doing, e))?;
    // From here on nothing ends the starter without the daemon.
    let mut heard = SigSet::empty();
    for signal in HEARD {
        heard.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&heard), None).map_err(fail)?;
    // The daemon is our child then as soon as the middle is gone, so we learn how it ends. Where
    // that cannot be, its end alone is known.
    nix::sys::prctl::set_child_subreaper(true).unwrap_or_default();
    let starter = getpid();
    // SAFETY: there is one thread, by the contract of this function, so the child may do all that
    // we may.
    match unsafe { fork() } {
        Err(errno) => {
            sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&heard), None).unwrap_or_default();
            Err(fail(errno))
        }
        Ok(ForkResult::Parent { child }) => {
            drop(theirs);
            ours.set_nonblocking(true).map_err(|e| SysError::new(doing, e))?;
            let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
            let signals = SignalFd::with_flags(&heard, flags).map_err(fail)?;
            waitpid(child, None).map_err(fail)?;
            Ok(Side::Starter(Starter { line: ours, heard: Vec::new(), daemon: None, signals }))
        }
        Ok(ForkResult::Child) => {
            drop(ours);
            Ok(Side::Daemon(fork_again(theirs, starter, &heard)))
        }
    }
}

/// In the middle process, which does not come back from here.
fn fork_again(line: UnixStream, starter: Pid, heard: &SigSet) -> Handover {
    // Cannot fail: a process that was just forked leads no group.
    setsid().map(drop).unwrap_or_default();
    // SAFETY: this is the one thread of the middle process.
    let forked = unsafe { fork() };
    let stderr = stdio::own().1;
    let mut handover = Handover { line, stderr, starter: starter.as_raw() };
    match forked {
        Ok(ForkResult::Child) => {
            sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(heard), None).unwrap_or_default();
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
            handover.tell(&format!("pid {}", getpid()));
            handover
        }
        other => {
            if let Err(errno) = other {
                let why = SysError::new("go into the background", errno);
                handover.say(&format!("supervisor: {why}\n"));
                handover.ended(1);
            }
            drop(handover);
            // SAFETY: ends this process, without what the starter is to do at its own exit.
            unsafe { libc::_exit(0) }
        }
    }
}

/// The daemon's way back to the starter.
#[derive(Debug)]
pub struct Handover {
    line: UnixStream,
    /// The starter's standard error, whatever becomes of ours.
    stderr: Option<OwnedFd>,
    starter: i32,
}

impl Handover {
    /// The process id of the starter.
    #[must_use]
    pub fn starter(&self) -> i32 {
        self.starter
    }

    /// Says something on the starter's standard error.
    pub fn say(&self, text: &str) {
        if let Some(stderr) = &self.stderr {
            stdio::say_to(stderr.as_fd(), text);
        }
    }

    /// The daemon is up: the starter ends, with success.
    pub fn up(mut self) {
        self.tell("up");
    }

    /// The daemon ends with this code, and the starter with the same.
    pub fn ended(&mut self, code: u8) {
        self.tell(&format!("ended {code}"));
    }

    /// What the daemon was to do is over before it was up, with this code.
    pub fn over(mut self, code: u8, log: Option<&str>) {
        self.tell(&format!("over {code} {}", log.unwrap_or_default()));
    }

    fn tell(&mut self, line: &str) {
        // std sends with MSG_NOSIGNAL. Where the starter is gone nobody wants to know.
        self.line.write_all(format!("{line}\n").as_bytes()).unwrap_or_default();
    }
}

/// The starter, while it waits for the daemon.
#[derive(Debug)]
pub struct Starter {
    line: UnixStream,
    /// What was read and not understood yet.
    heard: Vec<u8>,
    daemon: Option<Pid>,
    signals: SignalFd,
}

/// What woke the starter.
enum Woken {
    /// The pid of the daemon is known.
    Known,
    Line(String),
    End,
    Signal(Signal),
    Timeout,
}

impl Starter {
    /// Waits until the daemon is up or is not going to be.
    pub fn wait(&mut self, within: Duration) -> Fate {
        let until = clock::monotonic() + within;
        loop {
            match self.next(until) {
                Woken::Known => {}
                Woken::Line(line) => match line.split_once(' ') {
                    Some(("ended", code)) => {
                        self.wait_for_end();
                        return Fate::Ended(code.parse().unwrap_or(1));
                    }
                    Some(("over", rest)) => {
                        self.wait_for_end();
                        let (code, log) = rest.split_once(' ').unwrap_or((rest, ""));
                        let log = (!log.is_empty()).then(|| log.to_owned());
                        return Fate::Over(code.parse().unwrap_or(1), log);
                    }
                    _ => return Fate::Up,
                },
                Woken::End => return Fate::Died(self.exit()),
                Woken::Signal(signal) => return Fate::Told(signal),
                Woken::Timeout => return Fate::Late,
            }
        }
    }

    /// After it has said that it ends: nothing of it is left when we end.
    fn wait_for_end(&mut self) {
        let until = clock::monotonic() + KILL;
        loop {
            match self.next(until) {
                Woken::Known | Woken::Line(_) | Woken::Signal(_) => {}
                Woken::End => {
                    let _reaped = self.exit();
                    return;
                }
                Woken::Timeout => return,
            }
        }
    }

    /// Ends the daemon: SIGTERM, another one, SIGKILL. It stops its programs as at any stop.
    pub fn end(&mut self) {
        if self.daemon.is_none() {
            // Its pid is the first thing that it says, as soon as it is there.
            self.next(clock::monotonic() + KILL);
        }
        let Some(daemon) = self.daemon else { return };
        for (signal, patience) in
            [(Number::SIGTERM, STOP), (Number::SIGTERM, KILL), (Number::SIGKILL, KILL)]
        {
            // Its pid is its own until we have reaped it.
            kill(daemon, signal).unwrap_or_default();
            let until = clock::monotonic() + patience;
            loop {
                match self.next(until) {
                    Woken::Known | Woken::Line(_) => {}
                    Woken::End => {
                        let _reaped = self.exit();
                        return;
                    }
                    Woken::Signal(_) | Woken::Timeout => break,
                }
            }
        }
    }

    /// How the daemon, which has closed its end, has ended.
    fn exit(&self) -> Option<Exit> {
        let status = waitpid(self.daemon?, None).ok()?;
        if let WaitStatus::Exited(_, code) = status {
            return Some(Exit::Code(u8::try_from(code).unwrap_or(1)));
        }
        let WaitStatus::Signaled(_, signal, core) = status else { return None };
        let signal = Signal::parse(signal.as_str())?;
        Some(Exit::Signal { signal, core })
    }

    fn next(&mut self, until: Instant) -> Woken {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let rest = self.heard.split_off(end + 1);
                let line = std::mem::replace(&mut self.heard, rest);
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if let Some(pid) = line.strip_prefix("pid ") {
                    self.daemon = pid.parse().ok().map(Pid::from_raw);
                    return Woken::Known;
                }
                return Woken::Line(line);
            }
            let left = until.since(clock::monotonic());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [
                PollFd::new(self.line.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Ok(0) if left.is_zero() => return Woken::Timeout,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return Woken::End,
            }
            let mut bytes = [0; 256];
            match self.line.read(&mut bytes) {
                Ok(0) => return Woken::End,
                Ok(n) => {
                    // It may be the pid: without it a signal could not be passed on.
                    self.heard.extend_from_slice(bytes.get(..n).unwrap_or_default());
                    continue;
                }
                Err(_) => {}
            }
            if let Ok(Some(info)) = self.signals.read_signal()
                && let Some(signal) = Signal::from_number(i64::from(info.ssi_signo))
            {
                return Woken::Signal(signal);
            }
        }
    }
}

/// Whether this process is there, be it as a zombie.
#[must_use]
pub fn exists(pid: i32) -> bool {
    pid > 0 && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}
