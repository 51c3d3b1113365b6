//! One process, as /proc shows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{ErrorKind, Read},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

use crate::{
    model::{Signal, WallTime},
    sys::Pid,
};

/// A living process, as `proc_pid_stat(5)` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: Pid,
    /// When it was started, in ticks since boot: with the pid, its identity.
    pub start_time: u64,
    /// Processor time so far.
    pub cpu_ns: u64,
    /// Resident memory.
    pub memory_bytes: u64,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) zombie: bool,
    executed: bool,
    /// It has a place for its variables, be there any or not; not so in the middle of execve(2).
    has_environment: bool,
}

impl Process {
    /// When it was started, if it is `now`; to a hundredth of a second.
    #[must_use]
    pub fn started(&self, now: WallTime) -> WallTime {
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        let start = Duration::from_millis(self.start_time.saturating_mul(1000 / TICKS_PER_SECOND));
        let age = i64::try_from(boot.saturating_sub(start).as_millis()).unwrap_or(0);
        WallTime(now.0.saturating_sub(age))
    }
}

/// `PF_FORKNOEXEC`, a flag in `proc_pid_stat(5)`: no execve(2) since the fork.
const NOT_EXECUTED: i64 = 0x40;

/// Whether the process has executed a program since it was forked; its zombie knows too. Without
/// /proc nobody knows, so: yes.
#[must_use]
pub fn has_executed(pid: Pid) -> bool {
    stat(pid).is_none_or(|process| process.executed)
}

/// The variables that a process was executed with.
pub(super) enum Environment {
    Is(Vec<u8>),
    /// We may not read it.
    Hidden,
    /// The process has ended meanwhile; whatever it leaves has just come to us.
    Gone,
    /// The process is being executed: there is none at this moment.
    NotYet,
}

pub(super) fn environment_of(pid: Pid) -> Environment {
    let mut none = 0;
    // An exec takes microseconds, unless it waits for a disk.
    for _ in 0..50 {
        let read = variables(&format!("/proc/{pid}/environ"));
        let Some(process) = stat(pid).filter(|process| !process.zombie) else {
            return Environment::Gone;
        };
        match read {
            Ok(text) if !text.is_empty() => return Environment::Is(text),
            // It was executed without any, or has just got them: a second look tells.
            Ok(text) if process.has_environment && none > 0 => return Environment::Is(text),
            Ok(_) if process.has_environment => none += 1,
            Err(e) if e.kind() == ErrorKind::PermissionDenied => return Environment::Hidden,
            // ESRCH, or nothing on older kernels: who ends has given it up some time before he is
            // a zombie and his children come to us; or his main thread has ended, and others live.
            Ok(_) | Err(_) => match variables_of_threads(pid) {
                Some(text) => return Environment::Is(text),
                None => std::thread::yield_now(),
            },
        }
    }
    Environment::NotYet
}

fn variables(path: &str) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(1 << 20).read_to_end(&mut text)?;
    Ok(text)
}

/// As the threads that are left have them.
fn variables_of_threads(pid: Pid) -> Option<Vec<u8>> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.filter_map(Result::ok);
    let mut texts = threads.filter_map(|one| variables(one.path().join("environ").to_str()?).ok());
    texts.find(|text| !text.is_empty())
}

/// These processes and everything below them.
pub(super) fn below(mut open: Vec<Pid>) -> Vec<Process> {
    let mut seen = BTreeSet::new();
    let mut members = Vec::new();
    while let Some(pid) = open.pop() {
        if !seen.insert(pid) || seen.len() > 100_000 {
            continue;
        }
        if let Some(process) = stat(pid).filter(|process| !process.zombie) {
            members.push(process);
            open.extend(children_of(pid));
        }
    }
    members
}

/// Whether a process is a descendant of ours.
pub(super) enum Descent {
    /// Of this child.
    From(Process),
    /// It is not, or is gone.
    Foreign,
    /// A forebear was gone before it could be looked at.
    Unclear,
}

pub(super) fn descent_of(pid: Pid) -> Descent {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let Some(mut process) = stat(pid) else { return Descent::Foreign };
    // Nobody has so many forebears.
    for _ in 0..10_000 {
        if process.parent == own {
            return Descent::From(process);
        }
        let Some(parent) = Pid::new(process.parent) else { return Descent::Foreign };
        let Some(parent) = stat(parent) else { return Descent::Unclear };
        process = parent;
    }
    Descent::Foreign
}

/// Whether /proc is there and counts as we do: else its numbers are other processes' here.
pub(in crate::sys) fn proc_is_ours() -> bool {
    let own = std::fs::read_link("/proc/self");
    own.is_ok_and(|own| own.as_os_str() == std::process::id().to_string().as_str())
}

/// What a process is called (`proc_pid_comm(5)`); `None` when it is gone.
#[must_use]
pub fn name_of(pid: Pid) -> Option<String> {
    let mut bytes = Vec::new();
    open(&format!("/proc/{pid}/comm"))?.take(64).read_to_end(&mut bytes).ok()?;
    let name = String::from_utf8_lossy(&bytes);
    Some(name.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect())
}

/// The zombies among these processes and those below them, by the parent that does not wait for
/// them; ours we reap.
pub(super) fn zombies_below(mut open: Vec<Pid>) -> BTreeMap<Pid, u64> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut seen = BTreeSet::new();
    let mut found: BTreeMap<Pid, u64> = BTreeMap::new();
    while let Some(pid) = open.pop() {
        if !seen.insert(pid) || seen.len() > 100_000 {
            continue;
        }
        match stat(pid) {
            Some(process) if process.zombie && process.parent != own => {
                if let Some(parent) = Pid::new(process.parent) {
                    let count = found.entry(parent).or_default();
                    *count = count.saturating_add(1);
                }
            }
            Some(_) => open.extend(children_of(pid)),
            None => {}
        }
    }
    found
}

pub(super) fn open(path: &str) -> Option<File> {
    File::open(path).ok()
}

pub(super) fn pids(text: &str) -> Vec<Pid> {
    text.split_ascii_whitespace().filter_map(Pid::parse).collect()
}

/// Every process of the host: only where the kernel has no lists of children.
pub(super) fn all_pids() -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    names.filter_map(|name| Pid::parse(name.to_str()?)).collect()
}

/// The children of a process, whichever of its threads made them.
fn children_of(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for thread in threads.filter_map(Result::ok) {
        let Some(name) = thread.file_name().to_str().map(str::to_owned) else { continue };
        let mut text = String::new();
        let file = open(&format!("/proc/{pid}/task/{name}/children"));
        if file.is_some_and(|mut file| file.read_to_string(&mut text).is_ok()) {
            found.extend(pids(&text));
        }
    }
    found
}

/// What `proc_pid_stat(5)` says of a process; `None` when it is gone.
pub(super) fn stat(pid: Pid) -> Option<Process> {
    let mut bytes = Vec::with_capacity(512);
    open(&format!("/proc/{pid}/stat"))?.take(4096).read_to_end(&mut bytes).ok()?;
    parse_stat(pid, &String::from_utf8_lossy(&bytes))
}

fn parse_stat(pid: Pid, text: &str) -> Option<Process> {
    // The name may hold anything, parentheses too: the fields begin behind the last one.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
    let positive = |index: usize| Some(u64::try_from(number(index)?).unwrap_or(0));
    let ticks = positive(11)?.saturating_add(positive(12)?);
    Some(Process {
        pid,
        start_time: positive(19)?,
        cpu_ns: ticks.saturating_mul(1_000_000_000 / TICKS_PER_SECOND),
        memory_bytes: positive(21)?.saturating_mul(page_size()),
        parent: i32::try_from(number(1)?).ok()?,
        group: i32::try_from(number(2)?).ok()?,
        session: i32::try_from(number(3)?).ok()?,
        // A main thread that has ended before the others looks like one, too.
        zombie: matches!(*fields.first()?, "Z" | "X") && number(17)? <= 1,
        has_environment: number(48) != Some(0),
        executed: number(6)? & NOT_EXECUTED == 0,
    })
}

/// `USER_HZ`, which is the same on all Linux ports that we are built for.
pub(super) const TICKS_PER_SECOND: u64 = 100;

fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

/// A descriptor of a process, readable when it has ended; `None` on an old kernel, behind the
/// filter of an old container runtime, or when it is gone.
pub(super) fn open_process(pid: Pid) -> Option<OwnedFd> {
    // SAFETY: a plain system call on numbers (pidfd_open(2)); the descriptor that it gives is
    // ours alone.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.raw(), 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: just opened, and owned by nobody else.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Signals a process if it is still the one we looked at: by a pidfd, whose process is compared
/// once more.
pub(super) fn signal_process(process: &Process, signal: Signal) {
    let Some(fd) = open_process(process.pid) else {
        // Without a descriptor: the same check, with a gap of microseconds.
        if stat(process.pid).is_some_and(|now| now.start_time == process.start_time) {
            // SAFETY: a plain system call; `Pid` is never 0, 1 or negative (kill(2)).
            unsafe { libc::kill(process.pid.raw(), i32::from(signal.number())) };
        }
        return;
    };
    if stat(process.pid).is_some_and(|now| now.start_time == process.start_time) {
        signal_by(&fd, signal);
    }
}

/// Signals the process that this descriptor is of, and nobody else, whoever has its number by now.
pub(super) fn signal_by(fd: &OwnedFd, signal: Signal) {
    let (raw, number) = (fd.as_raw_fd(), i32::from(signal.number()));
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open; a null siginfo is allowed (pidfd_send_signal(2)).
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, raw, number, none, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_hostile_name_is_read_rightly() {
        let pid = Pid::new(4711).unwrap();
        let line =
            "4711 (a) S 1 (x) S 812 4711 4711 0 -1 4194560 1 0 0 0 7 3 0 0 20 0 1 0 99 0 25 0";
        let process = parse_stat(pid, line).unwrap();
        assert_eq!((process.parent, process.group, process.session), (812, 4711, 4711));
        assert_eq!((process.start_time, process.cpu_ns), (99, 100_000_000));
        assert!(!process.zombie);
        assert!(parse_stat(pid, "4711 (cut").is_none());
    }
}
