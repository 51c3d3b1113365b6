//! Which living processes belong to a run, and signals to them, without a look at every process
//! of the host.
//!
//! We are the reaper of our descendants (PID 1, or `PR_SET_CHILD_SUBREAPER`): when a main process
//! has been reaped, whatever is left of its tree hangs below children of ours that we did not
//! make. So a tree is empty when none of these *strangers* belongs to it, and that is looked at
//! when something was reaped, never by the clock.
//!
//! A stranger belongs to a run by its session (the main process led it), or by the marker in its
//! environment.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use super::{Pid, child::Children};
use crate::model::Signal;

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
    parent: i32,
    group: i32,
    session: i32,
    zombie: bool,
    executed: bool,
}

/// `PF_FORKNOEXEC`, a flag in `proc_pid_stat(5)`: no execve(2) since the fork.
const NOT_EXECUTED: i64 = 0x40;

/// Whether the process has executed a program since it was forked; its zombie knows too. Without
/// /proc nobody knows, so: yes.
#[must_use]
pub fn has_executed(pid: Pid) -> bool {
    stat(pid).is_none_or(|process| process.executed)
}

/// The runs whose main process is dead, and how their processes are recognised.
#[derive(Debug)]
pub struct Trees {
    marker: String,
    watched: BTreeMap<u64, Pid>,
    /// Strangers whose run was found once; they may forget their environment.
    known: BTreeMap<(Pid, u64), u64>,
    /// How many are remembered before those that are gone are looked for.
    known_max: usize,
    /// `/proc/self/task/TID/children` of the main thread, who is given the orphans, and of the one
    /// that forks; empty where the kernel has no such files.
    children_files: Vec<File>,
    /// What /proc shows is this PID namespace.
    usable: bool,
}

impl Trees {
    /// For the supervisor whose children carry `SUPERVISOR_RUN=instance:RUN`. To be called by the
    /// thread that forks.
    #[must_use]
    pub fn new(instance: &str) -> Self {
        let threads = BTreeSet::from([nix::unistd::getpid(), nix::unistd::gettid()]);
        let paths = threads.iter().map(|thread| format!("/proc/self/task/{thread}/children"));
        Self {
            marker: format!("SUPERVISOR_RUN={instance}:"),
            watched: BTreeMap::new(),
            known: BTreeMap::new(),
            known_max: 1024,
            children_files: paths.filter_map(|path| open(&path)).collect(),
            usable: proc_is_ours(),
        }
    }

    /// Whether processes can be looked at. Without /proc, or with that of another PID namespace, no
    /// tree is ever seen to have anybody left, and only groups can be signalled.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// The main process `main` of `run` has ended: its tree is looked at from now on.
    pub fn watch(&mut self, run: u64, main: Pid) {
        self.watched.insert(run, main);
    }

    /// The tree of `run` is empty, or of no interest any more.
    pub fn forget(&mut self, run: u64) {
        self.watched.remove(&run);
        self.known.retain(|_, of| *of != run);
    }

    /// The living processes of each watched run, as far as they hang directly below us.
    pub fn survivors(&mut self, children: &Children) -> BTreeMap<u64, Vec<Process>> {
        let mut found: BTreeMap<u64, Vec<Process>> = BTreeMap::new();
        for process in self.strangers(children) {
            let run = self.run_of(children, &process);
            if let Some(run) = run.filter(|run| self.watched.contains_key(run)) {
                found.entry(run).or_default().push(process);
            }
        }
        found
    }

    /// Signals every process of the run that its group does not reach: escapees, and everybody
    /// once the main process is reaped. Each is identified again before it is signalled. How many
    /// were.
    pub fn signal_tree(&mut self, children: &Children, run: u64, signal: Signal) -> usize {
        let rounds = if signal == Signal::KILL { 3 } else { 1 };
        let mut told: BTreeSet<(Pid, u64)> = BTreeSet::new();
        for _ in 0..rounds {
            let group = children.pid_of(run).map(Pid::raw);
            let reached = |p: &Process| Some(p.group) == group || Some(p.pid.raw()) == group;
            let members = self.members(children, run);
            let before = told.len();
            for process in members.iter().filter(|p| !reached(p)) {
                let new = told.insert((process.pid, process.start_time));
                if new {
                    signal_process(process, signal);
                }
            }
            if told.len() == before {
                break; // nobody was forked since the last round
            }
        }
        told.len()
    }

    /// The living processes of the run, the main process first.
    #[must_use]
    pub fn processes_of(&mut self, children: &Children, run: u64) -> Vec<Process> {
        self.members(children, run)
    }

    /// The run that a process belongs to, when it is a descendant of ours and alive.
    pub fn run_of_process(&mut self, children: &Children, pid: Pid) -> Option<u64> {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let mut process = stat(pid).filter(|_| self.usable)?;
        // Up to the child of ours that it descends from; nobody has so many forebears.
        for _ in 0..10_000 {
            if process.parent == own {
                let run = children.run_of(process.pid);
                return run.or_else(|| self.run_of(children, &process));
            }
            process = stat(Pid::new(process.parent)?)?;
        }
        None
    }

    /// Every living child of ours that we did not make, whoever left it behind, and everything
    /// below them.
    #[must_use]
    pub fn all_strangers(&self, children: &Children) -> Vec<Process> {
        let open = self.strangers(children).into_iter().map(|process| process.pid).collect();
        below(open)
    }

    /// Signals all of them.
    pub fn signal_all_strangers(&self, children: &Children, signal: Signal) {
        for process in self.all_strangers(children) {
            signal_process(&process, signal);
        }
    }

    /// The main process and everything below it, and everything below the strangers that belong
    /// to it.
    fn members(&mut self, children: &Children, run: u64) -> Vec<Process> {
        let mut open: Vec<Pid> = Vec::new();
        for process in self.strangers(children) {
            if self.run_of(children, &process) == Some(run) {
                open.push(process.pid);
            }
        }
        open.extend(children.pid_of(run).filter(|_| self.usable));
        let members = below(open);
        // Should those between die first, these are still known when they come to us.
        for process in &members {
            self.remember(process, run);
        }
        members
    }

    fn remember(&mut self, process: &Process, run: u64) {
        if self.known.len() >= self.known_max {
            self.known.retain(|(pid, start), _| stat(*pid).is_some_and(|p| p.start_time == *start));
            self.known_max = self.known.len().saturating_mul(2).max(1024);
        }
        self.known.insert((process.pid, process.start_time), run);
    }

    /// Living children of ours that we did not make.
    fn strangers(&self, children: &Children) -> Vec<Process> {
        let ours = |pid: &Pid| children.run_of(*pid).is_none();
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        self.our_children()
            .into_iter()
            .filter(ours)
            .filter_map(stat)
            .filter(|process| !process.zombie && process.parent == own)
            .collect()
    }

    fn our_children(&self) -> Vec<Pid> {
        if !self.usable {
            return Vec::new();
        }
        if self.children_files.is_empty() {
            return all_pids();
        }
        let mut text = Vec::new();
        for file in &self.children_files {
            let mut place = 0_u64;
            let mut chunk = [0_u8; 4096];
            while let Ok(read @ 1..) = file.read_at(&mut chunk, place) {
                text.extend(chunk.iter().take(read));
                place = place.saturating_add(u64::try_from(read).unwrap_or(0));
            }
            text.push(b' ');
        }
        pids(&String::from_utf8_lossy(&text))
    }

    fn run_of(&mut self, children: &Children, process: &Process) -> Option<u64> {
        let key = (process.pid, process.start_time);
        if let Some(run) = self.known.get(&key) {
            return Some(*run);
        }
        let by_id = |id: i32| {
            let pid = Pid::new(id)?;
            // A living leader first: the number of a dead one may have been given again.
            children.run_of(pid).or_else(|| {
                self.watched.iter().rev().find(|(_, main)| **main == pid).map(|(run, _)| *run)
            })
        };
        // The marker first: numbers of sessions are used again.
        let run = self.marked(process.pid).or_else(|| by_id(process.session));
        let run = run.or_else(|| by_id(process.group))?;
        self.remember(process, run);
        Some(run)
    }

    /// The run that the environment of a process names.
    fn marked(&self, pid: Pid) -> Option<u64> {
        let mut text = Vec::new();
        open(&format!("/proc/{pid}/environ"))?.take(1 << 20).read_to_end(&mut text).ok()?;
        let entry = text.split(|b| *b == 0).find_map(|e| e.strip_prefix(self.marker.as_bytes()))?;
        std::str::from_utf8(entry).ok()?.parse().ok()
    }
}

/// These processes and everything below them.
fn below(mut open: Vec<Pid>) -> Vec<Process> {
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

/// Whether /proc is there and counts as we do: else its numbers are other processes' here.
fn proc_is_ours() -> bool {
    let own = std::fs::read_link("/proc/self");
    own.is_ok_and(|own| own.as_os_str() == std::process::id().to_string().as_str())
}

fn open(path: &str) -> Option<File> {
    File::open(path).ok()
}

fn pids(text: &str) -> Vec<Pid> {
    text.split_ascii_whitespace().filter_map(Pid::parse).collect()
}

/// Every process of the host: only where the kernel has no lists of children.
fn all_pids() -> Vec<Pid> {
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
fn stat(pid: Pid) -> Option<Process> {
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
        zombie: matches!(*fields.first()?, "Z" | "X"),
        executed: number(6)? & NOT_EXECUTED == 0,
    })
}

/// `USER_HZ`, which is the same on all Linux ports that we are built for.
const TICKS_PER_SECOND: u64 = 100;

fn page_size() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

/// Signals a process if it is still the one we looked at: by a pidfd, whose process is compared
/// once more.
fn signal_process(process: &Process, signal: Signal) {
    // SAFETY: a plain system call on numbers (pidfd_open(2)); the descriptor that it gives is
    // ours alone.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.pid.raw(), 0) };
    let Some(fd) = i32::try_from(fd).ok().filter(|fd| *fd >= 0) else {
        // An old kernel or a filter of an old container runtime: the same check, with a gap of
        // microseconds.
        if stat(process.pid).is_some_and(|now| now.start_time == process.start_time) {
            // SAFETY: a plain system call; `Pid` is never 0, 1 or negative (kill(2)).
            unsafe { libc::kill(process.pid.raw(), i32::from(signal.number())) };
        }
        return;
    };
    // SAFETY: just opened, and owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if stat(process.pid).is_some_and(|now| now.start_time == process.start_time) {
        let (raw, number) = (fd.as_raw_fd(), i32::from(signal.number()));
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open; a null siginfo is allowed (pidfd_send_signal(2)).
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, raw, number, none, 0) };
    }
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
