//! Signals to the supervisor: handlers note them and wake a pipe.
//!
//! A signal that is blocked in one thread of a process is still delivered to another, and PID 1
//! loses only what has the default action: so with handlers nothing is lost. All threads but one
//! block what is heard ([`leave_to_another_thread`]), so that a thousand deaths do not interrupt
//! the work on them; children start with an empty mask whatever ours is.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, sigaction, sigprocmask},
};

use super::SysError;
use crate::model::Signal;

/// A signal that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Which.
    pub signal: Signal,
    /// Who sent it, by pid; 0 is the kernel or another PID namespace.
    pub pid: i32,
    /// The user who sent it.
    pub uid: u32,
    /// The session of the sender, asked while it surely lived; 0 is unknown.
    pub session: i32,
}

const LAST: usize = 65;
/// How often the same signal is remembered until the next look.
const TIMES: usize = 4;
/// Sender and session of each arrival, packed; 0: none.
static ARRIVALS: [[AtomicU64; TIMES]; LAST] =
    [const { [const { AtomicU64::new(0) }; TIMES] }; LAST];
static USERS: [[AtomicU32; TIMES]; LAST] = [const { [const { AtomicU32::new(0) }; TIMES] }; LAST];
/// Whether the pipe holds a byte that nobody has read yet, or is about to.
static AWAKE: AtomicBool = AtomicBool::new(false);
static PIPE: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();

/// What we listen to: stop, reload, reopen, deaths.
const HEARD: [i32; 9] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGPWR,
    libc::SIGQUIT,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCHLD,
    37, // SIGRTMIN+3, systemd's halt.target in a container
];

/// Whether it is one of those that ask for an ordered stop: TERM, INT, PWR, RTMIN+3.
#[must_use]
pub fn asks_to_stop(signal: Signal) -> bool {
    [libc::SIGTERM, libc::SIGINT, libc::SIGPWR, 37].contains(&i32::from(signal.number()))
}

/// Whether the others are heard as well: they are somebody else's.
static REST: AtomicBool = AtomicBool::new(false);

/// What is never passed on: it cannot be caught, belongs to the C library, tells of a fault, or of
/// our own use of the terminal, a pipe, a file.
const NEVER: [i32; 15] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    32,
    33,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGPIPE,
    libc::SIGXFSZ,
];

/// The numbers of all that is heard.
fn heard_numbers() -> impl Iterator<Item = i32> {
    let rest = (1..=64).filter(|n| !HEARD.contains(n) && !NEVER.contains(n));
    HEARD.into_iter().chain(rest.filter(|_| REST.load(Ordering::Relaxed)))
}

/// What must not end or stop us, and means nothing: a write to a closed pipe or beyond
/// `RLIMIT_FSIZE` is an errno.
const IGNORED: [i32; 6] =
    [libc::SIGPIPE, libc::SIGXFSZ, libc::SIGTTIN, libc::SIGTTOU, libc::SIGTSTP, libc::SIGALRM];

/// The first thing of the process: an empty mask and SIGCHLD not ignored, whoever started us.
pub fn reset_inherited() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours.
    unsafe { sigaction(nix::sys::signal::Signal::SIGCHLD, &default) }.ok();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).ok();
}

/// Installs the handlers, once. The descriptor is readable when [`drain`] has something.
///
/// # Errors
/// No pipe, or a handler that cannot be installed.
pub fn install() -> Result<BorrowedFd<'static>, SysError> {
    if let Some((reader, _)) = PIPE.get() {
        return Ok(reader.as_fd());
    }
    let made = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .map_err(|e| SysError::new("make a pipe for signals", e))?;
    let (reader, _) = PIPE.get_or_init(|| made);
    for number in HEARD {
        handle(number)?;
    }
    for number in IGNORED {
        // SAFETY: no code of ours runs.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
    Ok(reader.as_fd())
}

/// Hears all other signals that can be, too: for a command that they are passed on to. After
/// [`install`].
///
/// # Errors
/// A handler that cannot be installed.
pub fn hear_the_rest() -> Result<(), SysError> {
    REST.store(true, Ordering::Relaxed);
    heard_numbers().filter(|number| !HEARD.contains(number)).try_for_each(handle)
}

fn handle(number: i32) -> Result<(), SysError> {
    let action = move |info: &libc::siginfo_t| heard(number, info);
    // SAFETY: the handler only uses atomics and write(2), both safe there (signal-safety(7)).
    let installed = unsafe { signal_hook_registry::register_sigaction(number, action) };
    installed.map(drop).map_err(|e| SysError::new(format!("handle signal {number}"), e))
}

/// The calling thread, and those it starts, are not interrupted by what is heard. One thread has
/// to [`listen`].
pub fn leave_to_another_thread() {
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&heard_signals()), None).ok();
}

/// The calling thread is not interrupted by deaths until it [`listen`]s again; all of them will be
/// one signal then.
pub fn hold_deaths() {
    let mut deaths = SigSet::empty();
    deaths.add(nix::sys::signal::Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&deaths), None).ok();
}

/// The calling thread is the one that is interrupted.
pub fn listen() {
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&heard_signals()), None).ok();
}

fn heard_signals() -> SigSet {
    // 37 has no name in nix.
    let mut set = *SigSet::empty().as_ref();
    for number in heard_numbers() {
        // SAFETY: `set` is a set, made above, and no other thread knows it.
        unsafe { libc::sigaddset(&raw mut set, number) };
    }
    // SAFETY: made by sigemptyset(3) and sigaddset(3).
    unsafe { SigSet::from_sigset_t_unchecked(set) }
}

fn heard(number: i32, info: &libc::siginfo_t) {
    let Some(index) = usize::try_from(number).ok().filter(|index| *index < LAST) else { return };
    // SAFETY: sent by kill(2) or for SIGCHLD the union holds the sender's pid.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above, the user.
    let uid = unsafe { info.si_uid() };
    // The thread that we interrupt may be about to read its errno.
    let before = Errno::last_raw();
    let session = if number == libc::SIGCHLD { 0 } else { session_of(pid) };
    if let (Some(arrivals), Some(users)) = (ARRIVALS.get(index), USERS.get(index)) {
        let packed = pack(pid, session);
        // With no place free it has arrived often enough.
        for (arrival, user) in arrivals.iter().zip(users) {
            let free = arrival.compare_exchange(0, packed, Ordering::AcqRel, Ordering::Relaxed);
            if free.is_ok() {
                user.store(uid, Ordering::Release);
                break;
            }
        }
    }
    // The arrival comes before: whoever reads the pipe after this sees it.
    let awake = AWAKE.swap(true, Ordering::AcqRel);
    if let Some((_, writer)) = PIPE.get().filter(|_| !awake) {
        // A full pipe is awake anyway.
        nix::unistd::write(writer, &[1]).ok();
    }
    Errno::set_raw(before);
}

/// The session of a living process, 0 when there is none. A mere system call: the handler may.
fn session_of(pid: i32) -> i32 {
    if pid <= 0 {
        return 0; // getsid(2) would tell our own
    }
    // SAFETY: a plain system call on a number.
    unsafe { libc::getsid(pid) }.max(0)
}

/// Never 0; both are below 2^22 (`proc_sys_kernel(5)`, `pid_max`).
fn pack(pid: i32, session: i32) -> u64 {
    let number = |id: i32| u64::try_from(id).unwrap_or(0) & 0x7fff_ffff;
    1 << 63 | number(session) << 32 | number(pid)
}

fn unpack(packed: u64) -> (i32, i32) {
    let number = |bits: u64| i32::try_from(bits & 0x7fff_ffff).unwrap_or(0);
    (number(packed), number(packed >> 32))
}

/// What has arrived since the last call: requests first, deaths last, each request as often as it
/// came (at most four times), deaths once.
#[must_use]
pub fn drain() -> Vec<Arrived> {
    if let Some((reader, _)) = PIPE.get() {
        let mut bytes = [0_u8; 64];
        while nix::unistd::read(reader, &mut bytes).is_ok_and(|n| n == bytes.len()) {}
        // Before the arrivals are taken: what comes from now on wakes us again.
        AWAKE.swap(false, Ordering::AcqRel);
    }
    let mut arrived = Vec::new();
    for number in heard_numbers() {
        let Some(index) = usize::try_from(number).ok() else { continue };
        let (Some(arrivals), Some(users)) = (ARRIVALS.get(index), USERS.get(index)) else {
            continue;
        };
        let Some(signal) = Signal::from_number(i64::from(number)) else { continue };
        let mut known = false;
        for (arrival, user) in arrivals.iter().zip(users) {
            let packed = arrival.swap(0, Ordering::AcqRel);
            if packed == 0 || (signal == Signal::CHLD && known) {
                continue;
            }
            known = true;
            let (pid, session) = unpack(packed);
            let uid = user.load(Ordering::Acquire);
            arrived.push(Arrived { signal, pid, uid, session });
        }
    }
    // Deaths last: what dies because we were told to stop is no crash.
    arrived.sort_by_key(|one| one.signal == Signal::CHLD);
    arrived
}

impl Arrived {
    /// For the log: `SIGTERM from sh (pid 12, uid 0)`, with the name of the sender if it is known.
    #[must_use]
    pub fn in_words(self, name: Option<&str>) -> String {
        let Self { signal, pid, uid, .. } = self;
        match name {
            // Only what is above a PID namespace can signal its init without having a number in it
            // (pid_namespaces(7)).
            _ if pid == 0 && super::subreaper::is_init() => {
                format!("{signal} from outside the container")
            }
            _ if pid == 0 => {
                format!("{signal} from the terminal, the kernel or another PID namespace")
            }
            Some(name) => format!("{signal} from {name} (pid {pid}, uid {uid})"),
            None => format!("{signal} from pid {pid} (uid {uid})"),
        }
    }
}
