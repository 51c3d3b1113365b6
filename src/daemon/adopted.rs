//! Runs whose main process is no child of ours: somebody else has started it. Its end is seen by a
//! pidfd, and what it leaves behind is looked for, as it does not come to us.
//!
//! When we die without a word, or panic, such a process goes on: the next supervisor finds it as we
//! did.

use std::{collections::BTreeMap, io, time::Duration};

use super::{
    Shell,
    input::{self, Input},
    processes::Member,
};
use crate::{
    control::Kind,
    engine::{ChildEvent, Event, RunId, Scope, Slot},
    model::{Exit, LogLevel, Name, Signal},
    plan::ProgramId,
    sys::{
        clock,
        tree::{self, Family, Process},
    },
};

/// How long the end of those that are left is waited for before they are looked for again.
const LONGEST: Duration = Duration::from_secs(600);

/// A run that is no child of ours.
pub(super) struct Adopted {
    pub(super) program: ProgramId,
    name: Name,
    family: Family,
    /// Its main process has ended, and the engine knows.
    ended: bool,
    /// All of it is to die.
    doomed: bool,
    /// A thread waits for the end of the others.
    waiting: bool,
}

impl Adopted {
    /// Whether a process is this one, or descends from it.
    pub(super) fn has(&self, process: &Process) -> bool {
        let head = self.family.head().process();
        let is_head = |one: &Process| (one.pid, one.start_time) == (head.pid, head.start_time);
        is_head(process) || tree::with_forebears(process.pid).iter().any(is_head)
    }
}

/// Whoever lives of the run, its main process first; `None` when it is none of these.
pub(super) fn processes_of(all: &mut BTreeMap<RunId, Adopted>, run: RunId) -> Option<Vec<Process>> {
    all.get_mut(&run).map(|one| one.family.members())
}

impl Shell {
    /// From now on this process, of the user `uid`, is the main process of `run`. Whether it was
    /// still there.
    ///
    /// # Errors
    /// Its end would not be seen.
    pub(super) fn supervise(
        &mut self,
        program: ProgramId,
        run: RunId,
        process: Process,
        uid: u32,
    ) -> io::Result<bool> {
        let Some(family) = Family::of(process, uid) else { return Ok(false) };
        let Some(name) = self.engine.program(program).map(|of| of.name.clone()) else {
            return Ok(false);
        };
        let Some(fd) = family.head().ending() else {
            let text = "its end would not be seen without pidfd_open(2), of Linux 5.3";
            return Err(io::Error::other(text));
        };
        self.watcher.adopted(run, fd)?;
        let (ended, doomed, waiting) = (false, false, false);
        let one = Adopted { program, name, family, ended, doomed, waiting };
        self.adopted.insert(run, one);
        Ok(true)
    }

    /// Nothing more is wanted of what was adopted for this program.
    pub(super) fn supervise_no_more(&mut self, program: ProgramId) {
        self.adopted.retain(|_, one| one.program != program);
    }

    /// Its main process has ended: what is left of it?
    pub(super) fn adopted_ended(&mut self, run: RunId) {
        let Some(one) = self.adopted.get_mut(&run).filter(|one| !one.ended) else { return };
        one.ended = true;
        one.family.look();
        let program = one.program;
        for what in [ChildEvent::Exited(Exit::Unknown), ChildEvent::Reaped] {
            self.results.push_back(Event::Child { program, run, what });
        }
        self.drain_results();
        self.look_at_family(run);
        self.drain_results();
    }

    /// Those that were left have ended: whether there are others.
    pub(super) fn family_ended(&mut self, run: RunId) {
        if let Some(one) = self.adopted.get_mut(&run) {
            one.waiting = false;
            self.look_at_family(run);
            self.drain_results();
        }
    }

    /// Tells the engine when nobody is left, and waits until then.
    fn look_at_family(&mut self, run: RunId) {
        let Some(one) = self.adopted.get_mut(&run).filter(|one| one.ended && !one.waiting) else {
            return;
        };
        if one.doomed {
            // Whoever was forked while it was being killed.
            one.family.signal_others(Signal::KILL);
        }
        let (program, left) = (one.program, one.family.others());
        if left.is_empty() {
            self.adopted.remove(&run);
            self.results.push_back(Event::Child { program, run, what: ChildEvent::TreeEmpty });
            return;
        }
        if !self.engine.slot(program).is_some_and(|slot| Slot::holds(slot, run)) {
            // It is left behind, as `kill_mode: process` has it.
            self.adopted.remove(&run);
            return;
        }
        let queue = self.queue.clone();
        let wait = std::thread::Builder::new().name("copies".into()).spawn(move || {
            tree::all_end(&left, clock::monotonic() + LONGEST);
            input::send(&queue, Input::FamilyEnded(run));
        });
        match wait {
            Ok(_) => one.waiting = true,
            // The next signal looks again.
            Err(why) => {
                self.note(LogLevel::Warn, format!("cannot start a thread to wait: {why}"));
            }
        }
    }

    /// Signals a run that is no child of ours; whether it is one.
    pub(super) fn signal_adopted(&mut self, run: RunId, signal: Signal, scope: Scope) -> bool {
        let Some(one) = self.adopted.get_mut(&run) else { return false };
        // What it has started is found by its parents, which are about to go.
        one.family.look();
        if !one.ended {
            one.family.head().signal(signal);
        }
        if scope == Scope::Tree {
            one.doomed |= signal == Signal::KILL;
            one.family.signal_others(signal);
        }
        if one.ended && !one.waiting {
            self.look_at_family(run);
        }
        true
    }

    /// All processes of such runs, for a list.
    pub(super) fn adopted_members(&mut self) -> Vec<Member> {
        let mut all = Vec::new();
        for one in self.adopted.values_mut() {
            let head = one.family.head().process().pid;
            for process in one.family.members() {
                let kind = if process.pid == head { Kind::Main } else { Kind::Member };
                all.push(Member { process, program: Some(one.name.clone()), kind });
            }
        }
        all
    }
}
