//! A process that is no child of ours, with everything that it has started: its end is seen, and
//! all of it can be ended.
//!
//! What it leaves behind does not come to us. So who was seen below it is remembered, with the time
//! of its start; and whoever is in a session that it led, or in a group that was its alone, is its
//! own, for both are only inherited.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    copies::{is_of, is_there, not_above_us, with_below},
    leftovers::Leftover,
    process::{Process, below, signal_process},
};
use crate::{model::Signal, sys::Pid};

/// One process and its descendants.
#[derive(Debug)]
pub struct Family {
    head: Leftover,
    uid: u32,
    /// It led its session; nobody but its descendants can be in it.
    leads_session: bool,
    /// It led its group, and nobody was in it but its descendants.
    leads_group: bool,
    /// It was gone when it was looked for last.
    was_gone: bool,
    /// Whoever was seen below it.
    known: BTreeMap<(Pid, u64), Process>,
}

impl Family {
    /// That of `head`, as far as it is of the user `uid`; `None` when that process is gone, or its
    /// number somebody else's.
    #[must_use]
    pub fn of(head: Process, uid: u32) -> Option<Self> {
        let mut everybody = BTreeMap::new();
        let candidates = not_above_us(&mut everybody)?;
        // Before the look at the others: from now on its number is known to be its own.
        let opened = Leftover::open(head)?;
        let below = with_below(BTreeSet::from([head.pid]), &candidates);
        let own = head.pid.raw();
        let mut mates = everybody.values().filter(|one| one.group == own);
        let mut family = Self {
            leads_session: head.session == own,
            leads_group: head.group == own && mates.all(|one| below.contains(&one.pid)),
            head: opened,
            uid,
            was_gone: false,
            known: BTreeMap::new(),
        };
        family.look();
        Some(family)
    }

    /// The process itself.
    #[must_use]
    pub fn head(&self) -> &Leftover {
        &self.head
    }

    /// Looks for all of it that lives, among all processes.
    pub fn look(&mut self) {
        let mut everybody = BTreeMap::new();
        // As PID 1 we are given what its parents leave, and it as well: it may be below us by now.
        let Some(candidates) = not_above_us(&mut everybody) else { return };
        let head = self.head.process();
        let own = head.pid.raw();
        let known = self.known.values().copied().chain([head]);
        let known: Vec<Process> = known.filter(|one| is_there(&everybody, one)).collect();
        let led = |one: &Process| {
            (self.leads_session && one.session == own) || (self.leads_group && one.group == own)
        };
        // A number is nobody else's while somebody is in its group or session. Right after the end
        // of the head it is not given again either, unless all others were.
        let is_own = !self.was_gone || known.iter().any(led);
        let again = everybody.get(&head.pid).is_some_and(|now| now.start_time != head.start_time);
        let mut found: BTreeSet<Pid> = known.iter().map(|one| one.pid).collect();
        if is_own && !again {
            found.extend(candidates.iter().filter(|one| led(one)).map(|one| one.pid));
        }
        let found = with_below(found, &candidates);
        let others = candidates.iter().filter(|one| found.contains(&one.pid));
        let others = others.filter(|one| key(one) != key(&head));
        let ours = |one: &&Process| self.known.contains_key(&key(one)) || is_of(one.pid, self.uid);
        let known = others.filter(ours).map(|one| (key(one), *one)).collect();
        self.was_gone = self.head.is_gone();
        self.known = known;
    }

    /// Whoever lives of it, the head first, without a look at every process of the host.
    pub fn members(&mut self) -> Vec<Process> {
        let head = self.head.process();
        let mut all: BTreeMap<(Pid, u64), Process> = BTreeMap::new();
        for root in self.known.values().copied().chain([head]) {
            let tree = below(vec![root.pid]);
            // Else its number is somebody else's by now.
            if tree.first().is_some_and(|now| key(now) == key(&root)) {
                all.extend(tree.into_iter().map(|one| (key(&one), one)));
            }
        }
        all.retain(|key, one| self.known.contains_key(key) || is_of(one.pid, self.uid));
        let first = all.remove(&key(&head));
        let living = first.into_iter().chain(all.values().copied()).collect();
        self.known = all;
        living
    }

    /// Signals all of it that lives, but not the head: those who have come meanwhile too.
    pub fn signal_others(&mut self, signal: Signal) {
        let rounds = if signal == Signal::KILL { 3 } else { 1 };
        let mut told = BTreeSet::new();
        for _ in 0..rounds {
            self.look();
            let before = told.len();
            for (key, process) in &self.known {
                if told.insert(*key) {
                    signal_process(process, signal);
                }
            }
            if told.len() == before {
                break; // nobody was forked since the last round
            }
        }
    }

    /// Whoever is left of it besides the head.
    #[must_use]
    pub fn others(&mut self) -> Vec<Leftover> {
        self.look();
        self.known.values().copied().filter_map(Leftover::open).collect()
    }
}

fn key(process: &Process) -> (Pid, u64) {
    (process.pid, process.start_time)
}
