//! What a supervisor that was killed has left behind: processes that nobody supervises.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::process::{
    Environment, Process, all_pids, environment_of, name_of, open_process, proc_is_ours, signal_by,
    signal_process, stat,
};
use crate::{
    model::{Instant, Signal},
    sys::{Pid, clock},
};

/// A process that is to end although it is no child of ours: a supervisor before us has left it, or
/// somebody has started it by hand.
#[derive(Debug)]
pub struct Leftover {
    process: Process,
    /// Readable when it has ended (`pidfd_open(2)`); none on an old kernel.
    fd: Option<OwnedFd>,
}

impl Leftover {
    /// Signals it, if it is still the process that was found.
    pub fn signal(&self, signal: Signal) {
        match &self.fd {
            Some(fd) => signal_by(fd, signal),
            None => signal_process(&self.process, signal),
        }
    }

    /// Becomes readable when it has ended; `None` on an old kernel, where nothing tells.
    #[must_use]
    pub fn ending(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// The process, as it was found.
    #[must_use]
    pub fn process(&self) -> Process {
        self.process
    }

    /// What it is called, and its pid: `web (pid 12)`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let name = name_of(self.process.pid).unwrap_or_else(|| "gone".to_owned());
        format!("{name} (pid {})", self.process.pid)
    }

    /// Whether we descend from it: it has started us, or whoever did.
    #[must_use]
    pub fn is_our_forebear(&self) -> bool {
        let mut pid = Pid::parse(&std::process::id().to_string());
        // Nobody has so many forebears.
        for _ in 0..10_000 {
            let Some(process) = pid.and_then(stat) else { return false };
            if process.pid == self.process.pid {
                return true;
            }
            pid = Pid::new(process.parent);
        }
        false
    }

    /// What was found, if it lives: the descriptor first, then whether it is still that process.
    #[must_use]
    pub fn open(process: Process) -> Option<Self> {
        let one = Self { process, fd: open_process(process.pid) };
        (!one.is_gone()).then_some(one)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let now = stat(self.process.pid);
        now.is_none_or(|now| now.zombie || now.start_time != self.process.start_time)
    }
}

/// The living processes that bear one of these marks, what descends from them, and what is in a
/// session that one of them leads. `None` without a /proc that counts as we do: nobody knows.
#[must_use]
pub fn leftovers(marks: &[String]) -> Option<Vec<Leftover>> {
    if !proc_is_ours() {
        return None;
    }
    let everybody: BTreeMap<Pid, Process> = all_pids()
        .into_iter()
        .filter(|pid| pid.number() != std::process::id())
        .filter_map(stat)
        .filter(|process| !process.zombie)
        .map(|process| (process.pid, process))
        .collect();
    let marked = everybody.keys().copied().filter(|pid| bears(*pid, marks));
    let mut found: BTreeSet<Pid> = marked.collect();
    // Each round reaches one generation further.
    loop {
        let is_of = |id: i32| Pid::new(id).is_some_and(|pid| found.contains(&pid));
        let belongs = |one: &&Process| is_of(one.parent) || is_of(one.session);
        let more: Vec<Pid> = everybody.values().filter(belongs).map(|one| one.pid).collect();
        let before = found.len();
        found.extend(more);
        if found.len() == before {
            break;
        }
    }
    let whole = found.iter().filter_map(|pid| everybody.get(pid));
    Some(whole.copied().filter_map(Leftover::open).collect())
}

fn bears(pid: Pid, marks: &[String]) -> bool {
    // Whoever is just being executed gets his variables in a moment; who hides them is another
    // user's.
    for _ in 0..20 {
        match environment_of(pid) {
            Environment::Is(text) => {
                let mut entries = text.split(|byte| *byte == 0);
                let value = entries.find_map(|entry| entry.strip_prefix(b"SUPERVISOR_RUN="));
                let mark = value.and_then(|value| value.split(|byte| *byte == b':').next());
                return mark.is_some_and(|mark| marks.iter().any(|one| one.as_bytes() == mark));
            }
            Environment::Hidden | Environment::Gone => return false,
            Environment::NotYet => {}
        }
    }
    false
}

/// Waits until all of these have ended, or it is `end`.
pub fn all_end(all: &[Leftover], end: Instant) {
    // Without pidfds nothing tells: looked at now and again, on old kernels only.
    let blind = all.iter().any(|one| one.fd.is_none());
    let step = if blind { Duration::from_millis(20) } else { Duration::from_secs(3600) };
    loop {
        let open: Vec<&Leftover> = all.iter().filter(|one| !one.is_gone()).collect();
        let left = end.since(clock::monotonic());
        if open.is_empty() || left.is_zero() {
            return;
        }
        // One after the other: all have to end anyway.
        let fd = open.iter().find_map(|one| one.fd.as_ref());
        let mut fds: Vec<PollFd<'_>> =
            fd.into_iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
        let wait = left.min(step) + Duration::from_millis(1);
        let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        // A signal, at the worst: looked at again.
        poll(&mut fds, wait).ok();
    }
}
