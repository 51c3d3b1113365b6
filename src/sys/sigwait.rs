//! Signals that wait until they are asked for: for a process with one thread and nothing to do but
//! to pass them on.
//!
//! All that can be held is blocked, so nothing is lost, not even as PID 1, whose signals with
//! the default action the kernel discards unless they are blocked. Asking does not wake up without
//! a signal.

use std::{mem::MaybeUninit, ptr, time::Duration};

use nix::errno::Errno;

use super::signals::Arrived;
use crate::model::Signal;

/// What must reach us as it is: the kernel's word that we did something wrong. Two more belong to
/// the C library.
const FAULTS: [i32; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];
/// What the kernel sends for a fault as well, and a person by kill(1).
const ALSO_FAULTS: [i32; 3] = [libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];
/// A process of the background that writes to or sets its terminal (termios(3)).
const BACKGROUND: [i32; 2] = [libc::SIGTTIN, libc::SIGTTOU];

/// The signals of this process are held.
#[derive(Debug)]
pub struct Held {
    set: libc::sigset_t,
    /// What we were started with as ignored (nohup(1)), but SIGPIPE, of which nobody knows.
    pub ignored: Vec<Signal>,
}

/// Holds all signals but those of faults. Once, before there is another thread.
#[must_use]
pub fn hold() -> Held {
    let ignored = inherited_ignored();
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) fills in the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: filled in by the line above.
    let mut set = unsafe { set.assume_init() };
    for number in 1..=64 {
        let ours = !matches!(number, libc::SIGKILL | libc::SIGSTOP | 32 | 33);
        if ours && !FAULTS.contains(&number) && !BACKGROUND.contains(&number) {
            // SAFETY: `set` is a set, made above.
            unsafe { libc::sigaddset(&raw mut set, number) };
        }
    }
    for number in BACKGROUND {
        // SAFETY: no code of ours runs.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
    // Ignored, a death would leave no exit code (wait(2)).
    // SAFETY: no code of ours runs.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    // SAFETY: both are sets; the old mask is not wanted (pthread_sigmask(3)).
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()) };
    Held { set, ignored }
}

/// What this process ignores, but SIGPIPE and SIGCHLD. Before it ignores anything by itself that is
/// what it was started with.
#[must_use]
pub fn inherited_ignored() -> Vec<Signal> {
    let is_ignored = |number: &i32| {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: only asks; the kernel fills in `action` (sigaction(2)).
        let asked = unsafe { libc::sigaction(*number, ptr::null(), action.as_mut_ptr()) };
        // SAFETY: zeros are a valid action, and so is what the kernel wrote.
        asked == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
    };
    let numbers = (1..=64).filter(|n| !matches!(*n, libc::SIGPIPE | libc::SIGCHLD));
    let ignored = numbers.filter(is_ignored);
    ignored.filter_map(|number| Signal::from_number(i64::from(number))).collect()
}

impl Held {
    /// The next signal, waiting for it at most so long; `None`: for ever. Gives `None` when the
    /// time is over or nothing worth telling has come.
    #[must_use]
    pub fn next(&self, patience: Option<Duration>) -> Option<Arrived> {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let number = match patience {
            // SAFETY: `set` is a set, and `info` is large enough (sigwaitinfo(2)).
            None => unsafe { libc::sigwaitinfo(&raw const self.set, info.as_mut_ptr()) },
            Some(time) => {
                let time = libc::timespec {
                    tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                    tv_nsec: time.subsec_nanos().into(),
                };
                // SAFETY: as above; `time` is a time of less than a second in nanoseconds.
                unsafe {
                    libc::sigtimedwait(&raw const self.set, info.as_mut_ptr(), &raw const time)
                }
            }
        };
        if number == -1 {
            // EAGAIN: the time is over. EINTR: we were stopped and continued, or traced.
            debug_assert!(matches!(Errno::last(), Errno::EAGAIN | Errno::EINTR));
            return None;
        }
        // SAFETY: zeros are valid, and so is what the kernel wrote.
        let info = unsafe { info.assume_init() };
        // SAFETY: sent by a process or for SIGCHLD the union holds the sender; else the number
        // means nothing and is only shown.
        let pid = unsafe { info.si_pid() };
        // SAFETY: as above, the user.
        let uid = unsafe { info.si_uid() };
        let from_ourselves = i64::from(pid) == i64::from(std::process::id());
        let by_a_process = info.si_code <= 0;
        // A write of ours to a closed pipe is no signal for anybody else.
        if number != libc::SIGCHLD && by_a_process && from_ourselves {
            return None;
        }
        if ALSO_FAULTS.contains(&number) && !by_a_process {
            return None;
        }
        let signal = Signal::from_number(i64::from(number))?;
        Some(Arrived { signal, pid, uid, session: 0 })
    }
}
