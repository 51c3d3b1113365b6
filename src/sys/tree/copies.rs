//! Copies of a program that somebody else has started: found by their arguments, one by one, and
//! never among ourselves, those that started us, or what we have started.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
};

use super::{
    leftovers::Leftover,
    process::{Process, all_pids, open, proc_is_ours, signal_process, stat},
};
use crate::{
    model::{Signal, SingleInstance, escaped},
    sys::Pid,
};

/// More of a command line than this is not shown, in characters.
const COMMAND_CHARS: usize = 200;
/// More of a command line than this is not looked at, in bytes.
const COMMAND_BYTES: u64 = 1 << 20;

/// A living process whose arguments name a program.
#[derive(Debug)]
pub struct Copy {
    /// The process, as it was found.
    pub process: Process,
    /// Its real user.
    pub uid: u32,
    /// Its command line, for people.
    pub command: Box<str>,
}

impl Copy {
    /// Signals it, if it is still the process that was found.
    pub fn signal(&self, signal: Signal) {
        signal_process(&self.process, signal);
    }

    /// Who has started it, as far as that is still to be seen: `uid 1000 from bash (pid 12)`.
    #[must_use]
    pub fn starter(&self) -> String {
        let uid = self.uid;
        let parent = Pid::new(self.process.parent);
        match parent.and_then(|pid| Some((pid, super::name_of(pid)?))) {
            Some((pid, name)) => format!("uid {uid} from {} (pid {pid})", escaped(&name, 64)),
            None => format!("uid {uid}"),
        }
    }

    /// Whether it is in a PID namespace below ours: a container has it, with others of its own.
    #[must_use]
    pub fn is_contained(&self) -> bool {
        let text = status(self.process.pid).unwrap_or_default();
        let pids = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
        pids.is_some_and(|pids| pids.split_ascii_whitespace().count() > 1)
    }
}

/// The living processes of the user `uid` with an argument that is `word`, or a path that ends in
/// it. All their ids are his, so that nobody else's are among them. Neither we, nor our forebears,
/// nor our descendants, nor PID 1 count. `None` without a /proc that counts as we do: nobody knows.
///
/// The arguments of a process that waits for a page of its own cannot be read before it has it:
/// who must not wait calls this from another thread.
#[must_use]
pub fn copies(word: &str, uid: u32) -> Option<Vec<Copy>> {
    let mut everybody = BTreeMap::new();
    let candidates = candidates(&mut everybody)?;
    let copies = candidates.into_iter().filter_map(|process| {
        if !is_of(process.pid, uid) {
            return None;
        }
        let line = command_line(process.pid)?;
        let word = word.as_bytes();
        let named = line.split(|byte| *byte == 0).any(|arg| SingleInstance::names(word, arg));
        named.then(|| copy(process, &line)).flatten()
    });
    Some(copies.collect())
}

/// These copies and everything below them, as far as it is of the user `uid` and neither we nor
/// our forebears nor descendants: what a signal to a copy is meant for. Their arguments do not
/// matter.
#[must_use]
pub fn with_descendants(copies: &[Copy], uid: u32) -> Vec<Leftover> {
    let mut everybody = BTreeMap::new();
    let candidates = candidates(&mut everybody).unwrap_or_default();
    let first = copies.iter().filter(|one| is_there(&everybody, &one.process));
    let found = with_below(first.map(|one| one.process.pid).collect(), &candidates);
    let whole = candidates.into_iter().filter(|one| found.contains(&one.pid));
    whole.filter(|one| is_of(one.pid, uid)).filter_map(Leftover::open).collect()
}

/// Whether this very process is among those that live.
pub(super) fn is_there(everybody: &BTreeMap<Pid, Process>, one: &Process) -> bool {
    everybody.get(&one.pid).is_some_and(|now| now.start_time == one.start_time)
}

/// These and everything below them that is a candidate.
pub(super) fn with_below(mut found: BTreeSet<Pid>, candidates: &[Process]) -> BTreeSet<Pid> {
    loop {
        let is_below = |one: &&Process| Pid::new(one.parent).is_some_and(|p| found.contains(&p));
        let more: Vec<Pid> = candidates.iter().filter(is_below).map(|one| one.pid).collect();
        let before = found.len();
        found.extend(more);
        if found.len() == before {
            return found;
        }
    }
}

/// Those among `copies` that descend from no other one: a copy and what it has started are one.
#[must_use]
pub fn heads(copies: &[Copy]) -> Vec<&Copy> {
    let pids: BTreeSet<Pid> = copies.iter().map(|one| one.process.pid).collect();
    copies.iter().filter(|one| above(one.process.pid).is_disjoint(&pids)).collect()
}

/// The one process `pid`, if it lives, whatever its arguments and whoever's it is.
#[must_use]
pub fn process(pid: Pid) -> Option<Copy> {
    let process = stat(pid).filter(|process| proc_is_ours() && !process.zombie)?;
    copy(process, &command_line(pid).unwrap_or_default())
}

/// The line was read before this look: it is of this process.
fn copy(process: Process, line: &[u8]) -> Option<Copy> {
    let now = stat(process.pid)?;
    let same = now.start_time == process.start_time && !now.zombie;
    let line = String::from_utf8_lossy(line).replace('\0', " ");
    let command = escaped(line.trim_end(), COMMAND_CHARS).into();
    let uid = uids(process.pid)?.first().copied()?;
    same.then_some(Copy { process, uid, command })
}

/// All that live but ourselves, those above us and those below us; `everybody` are all that live.
fn candidates(everybody: &mut BTreeMap<Pid, Process>) -> Option<Vec<Process>> {
    let mut others = not_above_us(everybody)?;
    let own = own_pid();
    // What we have started stays below us: we are the reaper of our descendants.
    let mut below = BTreeSet::from([own]);
    loop {
        let children = everybody.values().filter(|one| below.contains(&one.parent));
        let more: Vec<i32> = children.map(|one| one.pid.raw()).collect();
        let before = below.len();
        below.extend(more);
        if below.len() == before {
            break;
        }
    }
    others.retain(|one| !below.contains(&one.pid.raw()));
    Some(others)
}

/// All that live but ourselves and those above us; `everybody` are all that live.
pub(super) fn not_above_us(everybody: &mut BTreeMap<Pid, Process>) -> Option<Vec<Process>> {
    if !proc_is_ours() {
        return None;
    }
    let living = all_pids().into_iter().filter_map(stat).filter(|process| !process.zombie);
    everybody.extend(living.map(|process| (process.pid, process)));
    let own = own_pid();
    let above = Pid::new(own).map(above).unwrap_or_default();
    let other = |one: &&Process| !above.contains(&one.pid) && one.pid.raw() != own;
    Some(everybody.values().filter(other).copied().collect())
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

/// Those that have started the process `pid`, or whoever did.
pub(in crate::sys) fn above(pid: Pid) -> BTreeSet<Pid> {
    let mut found = BTreeSet::new();
    let mut next = stat(pid);
    // Nobody has so many forebears.
    while let Some(process) = next.filter(|_| found.len() < 10_000) {
        let Some(parent) = Pid::new(process.parent) else { break };
        if !found.insert(parent) {
            break;
        }
        next = stat(parent);
    }
    found
}

/// Whether all user ids of a process are `uid`: the real one tells who has started it, the others
/// what it may do.
pub(super) fn is_of(pid: Pid, uid: u32) -> bool {
    uids(pid).is_some_and(|ids| ids.iter().all(|id| *id == uid))
}

/// Real, effective, saved, and that of the file system (`proc_pid_status(5)`).
fn uids(pid: Pid) -> Option<Vec<u32>> {
    let text = status(pid)?;
    let ids = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let ids: Option<Vec<u32>> = ids.split_ascii_whitespace().map(|id| id.parse().ok()).collect();
    ids.filter(|ids| !ids.is_empty())
}

fn status(pid: Pid) -> Option<String> {
    let mut text = Vec::new();
    open(&format!("/proc/{pid}/status"))?.take(1 << 16).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn command_line(pid: Pid) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    open(&format!("/proc/{pid}/cmdline"))?.take(COMMAND_BYTES).read_to_end(&mut line).ok()?;
    Some(line)
}
