//! Everybody who is surely ours, with what /proc says of each.

use std::{collections::BTreeMap, fs, io::Read as _, time::Duration};

use super::{
    Belongs, Trees,
    process::{Process, TICKS_PER_SECOND, below, name_of, open, stat},
};
use crate::sys::{Pid, child::Children, subreaper};

/// More of a command line than this is not read, in bytes.
const COMMAND_BYTES: u64 = 4096;

/// A living process of ours.
#[derive(Clone, Copy, Debug)]
pub struct Ours {
    /// The run that it belongs to, where that is known.
    pub run: Option<u64>,
    /// It is the process that we made for that run.
    pub is_main: bool,
    /// The process.
    pub process: Process,
}

/// What is shown of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portrait {
    /// Its real user.
    pub uid: u32,
    /// What it is called.
    pub name: String,
    /// Its command line; empty when it has none to show.
    pub command: Vec<String>,
}

impl Process {
    /// The pid of its parent.
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.parent.unsigned_abs()
    }

    /// When it was started, on the clock that runs since the boot.
    #[must_use]
    pub fn started_after_boot(&self) -> Duration {
        Duration::from_millis(self.start_time.saturating_mul(1000 / TICKS_PER_SECOND))
    }
}

impl Trees {
    /// Every living process that we have started, or that one of those has: by descent from a child
    /// of ours, by the marker, or by the session.
    ///
    /// Whoever hangs below us without any of it is ours because nobody else's orphans come to us.
    /// Not so where we are the init, or were executed by somebody who had children already: there
    /// nothing is said of those.
    pub fn everybody(&mut self, children: &Children) -> Vec<Ours> {
        if !self.usable {
            return Vec::new();
        }
        let mut all: BTreeMap<Pid, Ours> = BTreeMap::new();
        for main in children.pids() {
            let run = children.run_of(main);
            for process in below(vec![main]) {
                let is_main = process.pid == main;
                all.insert(process.pid, Ours { run, is_main, process });
            }
        }
        let all_come_from_us = !subreaper::is_init() && !self.had_children;
        for stranger in self.strangers(children) {
            let run = self.run_of_patiently(children, &stranger);
            if run.is_none() && !all_come_from_us {
                continue;
            }
            for process in below(vec![stranger.pid]) {
                all.entry(process.pid).or_insert(Ours { run, is_main: false, process });
            }
        }
        all.into_values().collect()
    }

    /// An exec that is under way hides what a process is.
    fn run_of_patiently(&mut self, children: &Children, process: &Process) -> Option<u64> {
        for _ in 0..50 {
            match self.owner(children, process) {
                Belongs::To(run) => return Some(run),
                Belongs::ToNobody => return None,
                Belongs::Unclear => std::thread::yield_now(),
            }
        }
        None
    }
}

/// What is shown of this process; `None` when it is gone.
#[must_use]
pub fn portrait(process: &Process) -> Option<Portrait> {
    let pid = process.pid;
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let uid = uids.split_ascii_whitespace().next()?.parse().ok()?;
    let mut line = Vec::new();
    let file = open(&format!("/proc/{pid}/cmdline"));
    file.and_then(|file| file.take(COMMAND_BYTES).read_to_end(&mut line).ok());
    let line = String::from_utf8_lossy(&line);
    let line = line.strip_suffix('\0').unwrap_or(&line);
    let words = line.split('\0').map(str::to_owned);
    let command = if line.is_empty() { Vec::new() } else { words.collect() };
    let portrait = Portrait { uid, name: name_of(pid)?, command };
    // After the reading: all of it is of this process.
    is_alive(process).then_some(portrait)
}

/// Whether it still lives, and is nobody else with its number.
#[must_use]
pub fn is_alive(process: &Process) -> bool {
    let now = stat(process.pid);
    now.is_some_and(|now| !now.zombie && now.start_time == process.start_time)
}

/// Whether there is a process with this number that has not ended.
#[must_use]
pub fn lives(pid: Pid) -> bool {
    stat(pid).is_some_and(|now| !now.zombie)
}

/// A process and all from whom it descends.
#[must_use]
pub fn with_forebears(pid: Pid) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut next = stat(pid);
    // Nobody has so many forebears.
    while let Some(process) = next.filter(|_| found.len() < 10_000) {
        found.push(process);
        next = Pid::new(process.parent).and_then(stat);
    }
    found
}
