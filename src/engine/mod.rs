//! The pure machine that decides: events in, actions out.
//!
//! No clock, no file, no thread, no environment; jitter comes from a seed. Time is an argument and
//! only grows. What an action came to arrives as an event. Called by the shell (and by the
//! simulator) as
//! `handle(event, now, wall, &mut actions)` and woken at [`Engine::next_deadline`].

mod action;
mod adopted;
mod after;
mod birth;
mod bugs;
mod down;
mod event;
mod forking;
mod gate;
mod health;
mod host_end;
mod host_news;
mod kill_all;
mod locks;
mod machine;
mod news;
mod outcome;
mod permitted;
mod probing;
mod readiness;
mod record;
mod reload;
mod requests;
pub mod restart;
mod said;
mod semaphore;
mod semaphore_deed;
mod semaphore_view;
mod semaphores;
mod single;
mod site;
mod slot;
mod state;
mod status;
mod summary;
mod tidy;
mod up;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

pub use action::*;
pub use adopted::Adoptee;
pub use after::exit_code;
pub use bugs::*;
pub use event::*;
pub use forking::Fork;
pub use health::{Health, Verdict};
pub use host_news::*;
pub use news::*;
pub use probing::{ProbeOf, Probing, Proof, probe_of};
pub use record::*;
pub use said::{Busy, Said};
pub use semaphore::*;
pub use single::{Claimed, Claiming};
pub use slot::*;
pub use state::*;
pub use tidy::Then;

use self::{
    machine::{Cx, Input, Patience},
    outcome::Operation,
    site::Phase,
    slot::earlier,
    tidy::SiteTidy,
};
use crate::{
    control::RequestId,
    model::{Instant, Name, ShmRule, Site, Supervisor, WallTime, Zone},
    plan::{Edge, EdgeKind, Edges, Plan, ProgramId},
};

/// The machine for one site.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Engine {
    supervisor: Arc<Supervisor>,
    slots: Vec<Option<Box<Slot>>>,
    names: BTreeMap<Name, ProgramId>,
    deadlines: BTreeSet<(Instant, ProgramId)>,
    operations: BTreeMap<RequestId, Operation>,
    phase: Phase,
    ends_by: Option<Instant>,
    stop_began: Option<Instant>,
    /// What programs are given of their stop timeouts.
    patience: Patience,
    /// Stale files in /dev/shm, of the site; they are being removed, or were for the last time.
    shm: Arc<[ShmRule]>,
    tidying: Option<SiteTidy>,
    tidied_last: bool,
    is_init: bool,
    is_contained: bool,
    semaphores: BTreeMap<Name, SemaphoreSlot>,
    zone: Arc<Zone>,
    /// A reboot, or a power-off, that is under way.
    going_down: Option<host_end::GoingDown>,
    next_run: u64,
    random: u64,
    bugs: Bugs,
    /// Programs that the present event touched: their neighbours are looked at.
    #[serde(skip)]
    touched: Vec<ProgramId>,
}

/// What the engine is told of its surroundings when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// For the jitter.
    pub seed: u64,
    /// Whether we are PID 1: a shorter budget, another default of `exit_when`.
    pub is_init: bool,
    /// Whether we are that in a container: its end is the only reboot that is ours to give.
    pub is_contained: bool,
    /// Test faults.
    pub bugs: Bugs,
}

impl Engine {
    /// A machine for `site`; nothing happens before [`Event::Boot`].
    #[must_use]
    pub fn new(site: &Site, around: Surroundings, now: (Instant, WallTime)) -> Self {
        let plan = Plan::new(site, &BTreeMap::new());
        let mut engine = Self {
            supervisor: plan.supervisor,
            slots: Vec::new(),
            names: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            operations: BTreeMap::new(),
            phase: Phase::Up,
            ends_by: None,
            stop_began: None,
            patience: Patience::ALL,
            shm: plan.shm,
            tidying: None,
            tidied_last: false,
            is_init: around.is_init,
            is_contained: around.is_contained,
            semaphores: BTreeMap::new(),
            zone: Arc::default(),
            going_down: None,
            next_run: 0,
            random: around.seed,
            bugs: around.bugs,
            touched: Vec::new(),
        };
        for planned in plan.programs {
            engine.add(planned, now);
        }
        engine.add_semaphores(site, now.0);
        engine
    }

    /// Handles one event. `now` never goes back.
    pub fn handle(&mut self, event: Event, now: Instant, wall: WallTime, out: &mut Actions) {
        let at = At { now, wall };
        match event {
            Event::Boot => self.boot(at, out),
            Event::Deadline => self.deadlines_due(at, out),
            Event::Child { program, mut run, what } => {
                if self.bugs.ignore_generation {
                    run = self.slot(program).and_then(Slot::present_run).unwrap_or(run);
                }
                self.step(program, Input::Child(run, what), at, out);
            }
            Event::Condition { program, attempt, index } => {
                self.with(program, at, out, |slot, cx| slot.condition_met(attempt, index, cx));
            }
            Event::Request { id, peer, request } => self.request(id, peer, request, at, out),
            Event::RequestGone(_) if self.bugs.keep_operations => {}
            Event::RequestGone(id) => self.operation_gone(id),
            Event::Loaded { request, site, dry_run, allow_removal, warnings } => {
                let order = reload::Order { request, dry_run, allow_removal, warnings };
                self.loaded(&site, &order, at, out);
            }
            Event::NotLoaded { request, why } => Self::not_loaded(request, &why, out),
            Event::Tidied { program: Some(id), run } => {
                self.with(id, at, out, |slot, cx| slot.tidied(run, cx));
            }
            Event::Tidied { program: None, run } => self.site_tidied(run),
            Event::Claimed { program, run, what } => {
                self.with(program, at, out, |slot, cx| slot.claimed(run, what, cx));
            }
            Event::Probed { program, run, sample } => {
                self.with(program, at, out, |slot, cx| slot.probed(run, sample, cx));
            }
            Event::LastWords { program, run, words } => {
                self.with(program, at, out, |slot, _| slot.has_said(run, words));
            }
            Event::Told(told) => self.told(told, at, out),
            Event::HostAnswered(run, answer) => self.host_answered(run, answer, at, out),
            Event::Zone(zone) => self.zone_is(&zone),
            Event::Seen((name, reading)) => self.semaphore_seen(&name, reading, at, out),
        }
        self.settle(at, out);
    }

    /// When it wants [`Event::Deadline`]; `None`: only when something happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let programs = self.deadlines.first().map(|(at, _)| *at);
        let operations = self.operations.values().filter_map(|op| op.until).min();
        let own = earlier(self.phase.deadline(), self.tidy_deadline());
        let others = earlier(operations, self.semaphore_deadline());
        let own = earlier(own, self.host_deadline());
        earlier(earlier(programs, others), own)
    }

    /// The program with this id.
    #[must_use]
    pub fn slot(&self, id: ProgramId) -> Option<&Slot> {
        self.slots.get(id.index())?.as_deref()
    }

    /// The programs by name.
    #[must_use]
    pub fn names(&self) -> &BTreeMap<Name, ProgramId> {
        &self.names
    }

    /// The supervisor's settings, as of the last reload.
    #[must_use]
    pub fn supervisor(&self) -> &Arc<Supervisor> {
        &self.supervisor
    }

    /// All programs, in the order of their names.
    pub fn programs(&self) -> impl Iterator<Item = &Slot> {
        self.names.values().filter_map(|id| self.slot(*id))
    }

    fn ids(&self) -> Vec<ProgramId> {
        self.names.values().copied().collect()
    }

    fn add(&mut self, planned: crate::plan::Planned, now: (Instant, WallTime)) {
        let index = planned.id.index();
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        self.names.insert(planned.program.name.clone(), planned.id);
        let slot = Slot::new(planned.id, planned.program, planned.edges, now);
        if let Some(place) = self.slots.get_mut(index) {
            *place = Some(Box::new(slot));
        }
    }

    /// Gives one input to one program.
    fn step(&mut self, id: ProgramId, input: Input, at: At, out: &mut Actions) {
        self.with(id, at, out, |slot, cx| slot.step(input, cx));
    }

    /// Lets `change` work on one program, then notes what that means for others.
    fn with(
        &mut self,
        id: ProgramId,
        at: At,
        out: &mut Actions,
        change: impl FnOnce(&mut Slot, &mut Cx<'_>),
    ) {
        let Some(slot) = self.slots.get_mut(id.index()).and_then(Option::as_deref_mut) else {
            return;
        };
        let mut ends_site = None;
        let mut cx = Cx {
            now: at.now,
            wall: at.wall,
            out,
            next_run: &mut self.next_run,
            random: &mut self.random,
            ends_site: &mut ends_site,
            patience: self.patience,
            bugs: self.bugs,
        };
        change(slot, &mut cx);
        slot.look_after_probes(&mut cx);
        let deadline = slot.deadline();
        if slot.armed != deadline {
            if let Some(old) = slot.armed {
                self.deadlines.remove(&(old, id));
            }
            if let Some(new) = deadline {
                self.deadlines.insert((new, id));
            }
            slot.armed = deadline;
        }
        self.touched.push(id);
        // What was stopped for the host has not ended by itself.
        if let Some((why, code)) = ends_site.filter(|_| !self.stopped_for_host()) {
            self.end_site(why, code, at, out);
        }
    }

    /// Looks at everything that the event touched until nothing more follows.
    fn settle(&mut self, at: At, out: &mut Actions) {
        // In the order in which they were touched, so that what is equal starts by name.
        // What has to stop is told first; only then is each gate asked, one start at a time.
        let mut gates = Vec::new();
        let (mut next, mut next_gate) = (0, 0);
        loop {
            if let Some(id) = self.touched.get(next).copied() {
                next += 1;
                self.look_around(id, &mut gates, at, out);
            } else if let Some(id) = gates.get(next_gate).copied() {
                next_gate += 1;
                self.ask_gate(id, at, out);
            } else {
                break;
            }
        }
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            self.record_waiting(id, at, out);
        }
        self.touched = touched;
        if self.bugs.tell_everyone {
            self.tell_everyone(out);
        }
        self.finish_operations(at, out);
        self.look_at_host(at, out);
        self.look_at_site(at, out);
    }

    /// For a test fault: a line about each program for each program.
    fn tell_everyone(&self, out: &mut Actions) {
        for _ in self.names.values() {
            for id in self.names.values() {
                out.push(Action::AwaitNothing(*id));
            }
        }
    }

    fn ask_gate(&mut self, id: ProgramId, at: At, out: &mut Actions) {
        let waits = |slot: &Slot| matches!(slot.state, State::Waiting { wait_until: None, .. });
        let open = self.gate(id, at.now).is_open() || self.bugs.skip_the_gate;
        let starts = |slot: &Slot| matches!(slot.state, State::Spawning { .. });
        let open = open && (self.tidying.is_none() || self.bugs.start_before_the_site_is_tidied);
        let open = open && !(self.bugs.one_at_a_time && self.programs().any(starts));
        if open && self.slot(id).is_some_and(waits) {
            self.step(id, Input::GateOpen, at, out);
        }
    }

    /// What the state of `id` means for itself and for its neighbours; `gates`: who may start now.
    fn look_around(
        &mut self,
        id: ProgramId,
        gates: &mut Vec<ProgramId>,
        at: At,
        out: &mut Actions,
    ) {
        let Some(slot) = self.slot(id) else { return };
        match &slot.state {
            State::Waiting { wait_until: None, .. } => {
                gates.push(id);
            }
            State::Draining { .. } => {
                if self.is_free(id) || self.bugs.skip_the_drain {
                    self.step(id, Input::Free, at, out);
                }
            }
            State::Stopped if slot.goal == Goal::Gone => {
                // What it needed may be waiting for just that.
                self.tell_neighbours(id, gates, at, out);
                self.forget(id, out);
                return;
            }
            State::Stopped
            | State::Waiting { .. }
            | State::Retrying { .. }
            | State::Spawning { .. }
            | State::Preparing { .. }
            | State::Claiming { .. }
            | State::Tidying { .. }
            | State::Sweeping { .. }
            | State::Forking { .. }
            | State::Proving { .. }
            | State::Settling { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Emptying { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Fatal { .. } => {}
        }
        self.tell_neighbours(id, gates, at, out);
    }

    /// Those that wait for `id`, and those that cannot be without it.
    fn tell_neighbours(
        &mut self,
        id: ProgramId,
        gates: &mut Vec<ProgramId>,
        at: At,
        out: &mut Actions,
    ) {
        let Some(slot) = self.slot(id) else { return };
        let kept = self.bugs.keep_dependants && matches!(slot.state, State::Fatal { .. });
        let down = self.is_down(slot) && !kept;
        let draining = matches!(slot.state, State::Draining { .. });
        let backs = slot.edges.needed_by.clone();
        let needs: Vec<ProgramId> = if slot.is_live() {
            Vec::new()
        } else {
            slot.edges.needs.iter().map(|edge| edge.target).collect()
        };
        for back in &*backs {
            let Some(other) = self.slot(back.from) else { continue };
            let waits = matches!(other.state, State::Waiting { wait_until: None, .. });
            // Of something removed the edges are old: the other side knows better.
            let still = |edge: &Edge| edge.target == id && edge.kind == EdgeKind::Requires;
            let required = back.kind == EdgeKind::Requires && other.edges.needs.iter().any(still);
            if waits && !self.bugs.forget_who_waits {
                gates.push(back.from);
                if required && down {
                    // Held by what is down for good, it is down for good itself.
                    self.touched.push(back.from);
                }
            } else if required && (down || draining) && gate::can_be_stopped(other) {
                self.step(back.from, Input::Stop(StopWhy::Requirement(id)), at, out);
            }
        }
        // What waits only for `id` to be gone may go on to stop.
        for target in needs {
            let draining =
                self.slot(target).is_some_and(|s| matches!(s.state, State::Draining { .. }));
            let heard = !self.bugs.lose_the_wakeup;
            if draining && heard && (self.is_free(target) || self.bugs.skip_the_drain) {
                self.step(target, Input::Free, at, out);
            }
        }
    }

    fn deadlines_due(&mut self, at: At, out: &mut Actions) {
        let due: Vec<ProgramId> =
            self.deadlines.range(..=(at.now, ProgramId(u32::MAX))).map(|(_, id)| *id).collect();
        for id in due {
            self.step(id, Input::Deadline, at, out);
        }
        self.operations_due(at, out);
        self.tidy_due(at, out);
        self.semaphores_due(at, out);
        self.host_due(at, out);
    }

    fn forget(&mut self, id: ProgramId, out: &mut Actions) {
        let Some(slot) = self.slots.get_mut(id.index()).and_then(Option::take) else { return };
        if let Some(armed) = slot.armed {
            self.deadlines.remove(&(armed, id));
        }
        self.names.remove(&slot.program.name);
        out.push(Action::Forget(slot.program.name.clone()));
    }

    fn edges(&self, id: ProgramId) -> Option<&Edges> {
        self.slot(id).map(|slot| &slot.edges)
    }
}

/// The moment of an event on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) now: Instant,
    pub(crate) wall: WallTime,
}
