//! One seed: a site, a world with its faults, commands at any moment, then calm, then the end.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use mini_supervisor::{
    control::RequestId,
    engine::{
        Action, Actions, Bugs, ChildEvent, Engine, Event, FailureClass, Role, RunId, Scope, Slot, Spawn,
        SpawnFailure, State, Surroundings,
    },
    model::{Instant, Site, WallTime},
    plan::ProgramId,
};

use super::{
    check::{Check, Violation},
    site::{self, Random},
    world::{Faults, Happening, World, exit},
};

/// How a seed is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) events: u64,
    pub(super) bugs: Bugs,
    /// The wall clock jumps about.
    pub(super) jumps: bool,
    /// Store and load the whole engine now and then.
    pub(super) stores: bool,
}

/// What came of a seed.
pub(super) struct Outcome {
    pub(super) events: u64,
    pub(super) held: BTreeMap<u8, u64>,
    /// Of all actions, in order.
    pub(super) trace: u64,
}

/// A seed that broke an invariant, with the end of its story.
pub(super) struct Broken {
    pub(super) violation: Violation,
    pub(super) story: VecDeque<String>,
}

pub(super) struct Sim {
    pub(super) engine: Engine,
    pub(super) site: Arc<Site>,
    pub(super) world: World,
    pub(super) random: Random,
    pub(super) check: Check,
    pub(super) now: u64,
    pub(super) how: How,
    pub(super) events: u64,
    trace: DefaultHasher,
    story: VecDeque<String>,
    results: VecDeque<Event>,
    out: Actions,
    pub(super) requests: u64,
    pub(super) owed: BTreeSet<RequestId>,
    old: VecDeque<(ProgramId, RunId, ChildEvent)>,
    pub(super) exited: Option<u8>,
}

pub(super) type Step = Result<(), Violation>;

pub(super) fn run(seed: u64, how: How) -> Result<Outcome, Box<Broken>> {
    let mut random = Random(seed);
    let site = Arc::new(site::site(&mut random));
    let faults = Faults::drawn(&mut random);
    let around = Surroundings { seed, is_init: random.chance(20), bugs: how.bugs };
    let now = 1_000_000_000;
    let mut sim = Sim {
        engine: Engine::new(&site, around, (Instant(now), WallTime(0))),
        site,
        world: World::new(faults),
        random,
        check: Check::default(),
        now,
        how,
        events: 0,
        trace: DefaultHasher::new(),
        story: VecDeque::new(),
        results: VecDeque::new(),
        out: Actions::new(),
        requests: 0,
        owed: BTreeSet::new(),
        old: VecDeque::new(),
        exited: None,
    };
    match sim.life() {
        Ok(()) => {
            Ok(Outcome { events: sim.events, held: sim.check.held, trace: sim.trace.finish() })
        }
        Err(violation) => Err(Box::new(Broken { violation, story: sim.story })),
    }
}

impl Sim {
    fn life(&mut self) -> Step {
        self.feed(Event::Boot)?;
        while self.events < self.how.events && self.exited.is_none() {
            if self.random.chance(self.world.faults.commands) {
                self.command()?;
            } else if self.random.chance(self.world.faults.stale) {
                self.stale()?;
            } else {
                self.advance(None)?;
            }
            if self.how.stores && self.events % 1021 == 0 {
                self.store()?;
            }
        }
        if self.exited.is_none() {
            self.calm()?;
            self.end()?;
        }
        let owed = self.owed.len();
        self.hold(41, owed == 0, || format!("{owed} requests were never answered"))
    }

    pub(super) fn hold(&mut self, number: u8, good: bool, text: impl FnOnce() -> String) -> Step {
        *self.check.held.entry(number).or_default() += 1;
        if good { Ok(()) } else { Err(Violation(number, text())) }
    }

    /// Whatever is next, by the world or by a deadline; nothing after `limit`.
    pub(super) fn advance(&mut self, limit: Option<u64>) -> Step {
        let deadline = self.engine.next_deadline().map(|Instant(at)| at);
        let happens = self.world.next_at();
        let Some(next) = [deadline, happens].into_iter().flatten().min() else {
            if limit.is_none() {
                self.now += 1_000_000_000;
                return self.command();
            }
            return Ok(());
        };
        if limit.is_some_and(|limit| next > limit) || next == u64::MAX {
            if limit.is_none() {
                return self.command();
            }
            return Ok(());
        }
        // The supervisor may be late: overloaded, or suspended for an hour.
        let late = if self.random.chance(self.world.faults.pause) {
            self.random.pick(&[1_000, 50_000_000, 3_600_000_000_000])
        } else {
            0
        };
        self.check.late += Duration::from_nanos(late);
        self.now = self.now.max(next) + late;
        if happens == Some(next) {
            if let Some(what) = self.world.take_next() {
                return self.happens(what);
            }
        }
        let mut turns = 0;
        while self.engine.next_deadline().is_some_and(|Instant(at)| at <= self.now) {
            self.feed(Event::Deadline)?;
            turns += 1;
            self.check.deadlines(&self.engine, self.now, turns)?;
        }
        Ok(())
    }

    fn happens(&mut self, what: Happening) -> Step {
        match what {
            Happening::Reported { run } => self.report(run),
            Happening::Condition { program, attempt, index } => {
                self.feed(Event::Condition { program, attempt, index })
            }
            Happening::Dies { pid, run, how } => {
                if !self.world.can_die(pid, run) {
                    return Ok(());
                }
                if self.world.processes.get(&pid).is_some_and(|p| p.main) {
                    self.report(run)?; // the shell reads the report before it believes an exit
                }
                if self.world.die(pid) {
                    let Some(program) = self.world.runs.get(&run).map(|r| r.program) else {
                        return Ok(());
                    };
                    self.child(program, run, ChildEvent::Exited(exit(how)))?;
                    self.world.reap(run);
                    self.child(program, run, ChildEvent::Reaped)?;
                }
                self.tell_if_empty(run)
            }
        }
    }

    fn report(&mut self, run: RunId) -> Step {
        let Some(known) = self.world.runs.get_mut(&run).filter(|r| !r.reported) else {
            return Ok(());
        };
        known.reported = true;
        let (program, pid) = (known.program, known.main);
        self.child(program, run, ChildEvent::Spawned { pid })
    }

    fn tell_if_empty(&mut self, run: RunId) -> Step {
        match self.world.take_if_empty(run) {
            Some(known) => self.child(known.program, run, ChildEvent::TreeEmpty),
            None => Ok(()),
        }
    }

    fn child(&mut self, program: ProgramId, run: RunId, what: ChildEvent) -> Step {
        if self.old.len() < 64 {
            self.old.push_back((program, run, what.clone()));
        } else if self.random.chance(10) {
            self.old.pop_front();
        }
        self.feed(Event::Child { program, run, what })
    }

    /// An event of a run that is long over changes nothing.
    fn stale(&mut self) -> Step {
        let over = |run: &RunId| !self.world.runs.contains_key(run);
        let found = self.old.iter().find(|(_, run, _)| over(run)).cloned();
        let (program, run, what) =
            found.unwrap_or((ProgramId(0), RunId(u64::MAX), ChildEvent::TreeEmpty));
        let awaited = |state: &State| matches!(state, State::Spawning { run: r, .. } if *r == run);
        let before = self.engine.slot(program).map(|slot| slot.state.clone());
        if before.as_ref().is_some_and(awaited) {
            return Ok(());
        }
        let event = Event::Child { program, run, what };
        let wall = self.wall();
        self.engine.handle(event, Instant(self.now), wall, &mut self.out);
        let none = self.out.drain().count() == 0;
        let same = self.engine.slot(program).map(|slot| slot.state.clone()) == before;
        let number = if run.0 == u64::MAX { 3 } else { 10 };
        self.hold(number, none && same, || format!("an old event of run {} counts", run.0))
    }

    pub(super) fn wall(&self) -> WallTime {
        let steady = i64::try_from(self.now / 1_000_000).unwrap_or(i64::MAX);
        if !self.how.jumps {
            return WallTime(steady);
        }
        // Forward, backward, before 1970: the jumps come from the time alone, not from the seed's numbers.
        WallTime(steady.wrapping_mul(-7) ^ 0x5555)
    }

    /// Gives an event to the engine and carries out what follows, as the shell does.
    pub(super) fn feed(&mut self, event: Event) -> Step {
        self.results.push_back(event);
        while let Some(event) = self.results.pop_front() {
            self.events += 1;
            self.tell(|| format!("{event:?}"));
            let touched = touched(&event);
            let wall = self.wall();
            let starting = |slot: &&Slot| matches!(slot.state, State::Spawning { .. });
            let short = shortage(&event).and_then(|id| self.engine.slot(id)).filter(starting);
            let failures = short.map(|slot| (slot.id, slot.history.failures));
            let reload = matches!(event, Event::Loaded { .. } | Event::NotLoaded { .. });
            let states: Vec<State> = if reload {
                self.engine.programs().map(|slot| slot.state.clone()).collect()
            } else {
                Vec::new()
            };
            let again = reload.then(|| event.clone());
            self.engine.handle(event, Instant(self.now), wall, &mut self.out);
            if let Some(event) = again {
                let actions = self.out.as_slice().to_vec();
                self.judge_reload(&event, &states, &actions)?;
                self.accept_site(&event, &actions);
            }
            if let Some((id, failures)) = failures {
                let same = self.engine.slot(id).is_none_or(|s| s.history.failures == failures);
                self.hold(33, same, || "a lack of processes counts as a failure".into())?;
            }
            self.carry_out(touched)?;
        }
        Ok(())
    }

    /// Remembers the site that the engine has accepted.
    fn accept_site(&mut self, event: &Event, actions: &[Action]) {
        let applied = actions.iter().any(|action| match action {
            Action::Record(record) => record.event() == "config.reloaded",
            _ => false,
        });
        if let (Event::Loaded { site, dry_run: false, .. }, true) = (event, applied) {
            self.site = Arc::clone(site);
        }
        if applied {
            let ids: Vec<ProgramId> = self.engine.names().values().copied().collect();
            for id in ids {
                self.check.excuse(id);
            }
        }
    }

    pub(super) fn feed_later(&mut self, event: Event) {
        self.results.push_back(event);
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if std::env::var_os("SIM_SEED").is_none() {
            return;
        }
        if self.story.len() > 60 {
            self.story.pop_front();
        }
        let at = Duration::from_nanos(self.now - 1_000_000_000);
        self.story.push_back(format!("{at:?} {}", line()));
    }

    fn carry_out(&mut self, touched: Option<ProgramId>) -> Step {
        let actions: Vec<Action> = self.out.drain().collect();
        self.check.actions(&actions, &self.engine)?;
        let mut programs: BTreeSet<ProgramId> = touched.into_iter().collect();
        for action in actions {
            self.tell(|| format!("    {action:?}"));
            self.note_in_trace(&action);
            self.act(action, &mut programs)?;
        }
        for id in programs {
            if let Some(slot) = self.engine.slot(id) {
                self.check.slot(slot, &self.world, self.now)?;
            }
        }
        Ok(())
    }

    fn note_in_trace(&mut self, action: &Action) {
        match action {
            Action::Spawn(order) => (1, order.run, order.program).hash(&mut self.trace),
            Action::Signal { run, signal, .. } => (2, run, signal).hash(&mut self.trace),
            Action::Exit(code) => (3, code).hash(&mut self.trace),
            Action::Record(record) => record.event().hash(&mut self.trace),
            Action::Await { .. }
            | Action::AwaitNothing(_)
            | Action::RemoveRuntime(_)
            | Action::Reply(..)
            | Action::Progress(..)
            | Action::Load { .. }
            | Action::Reconfigure(_)
            | Action::Forget(_)
            | Action::ReopenLogs => {}
        }
        self.now.hash(&mut self.trace);
    }

    fn act(&mut self, action: Action, programs: &mut BTreeSet<ProgramId>) -> Step {
        match action {
            Action::Spawn(order) => {
                programs.insert(order.program);
                self.spawn(&order)
            }
            Action::Signal { program, run, signal, scope, .. } => {
                programs.insert(program);
                self.check.signal(
                    (program, run, signal, scope),
                    &self.engine,
                    &self.world,
                    self.now,
                )?;
                let whole = scope == Scope::Tree;
                self.world.signal(run, signal, whole, self.now, &mut self.random);
                Ok(())
            }
            Action::Record(record) => {
                let id = record.program.as_ref().and_then(|n| self.engine.names().get(n)).copied();
                let Some(slot) = id.and_then(|id| self.engine.slot(id)) else { return Ok(()) };
                programs.insert(slot.id);
                self.check.record(slot, &record.what, self.now)
            }
            Action::Reply(id, _) => {
                let owed = self.owed.remove(&id);
                self.hold(41, owed, || format!("request {} is answered twice", id.0))
            }
            Action::Await { program, attempt, index } => {
                if !self.random.chance(self.world.faults.never) {
                    let at = self.now + self.random.below(3_000_000_000);
                    self.world.plan(at, Happening::Condition { program, attempt, index });
                }
                Ok(())
            }
            Action::Load { request, dry_run, allow_removal } => {
                self.reload(request, dry_run, allow_removal);
                Ok(())
            }
            Action::Exit(code) => {
                self.exited = Some(code);
                Ok(())
            }
            Action::AwaitNothing(_)
            | Action::RemoveRuntime(_)
            | Action::Progress(..)
            | Action::Reconfigure(_)
            | Action::Forget(_)
            | Action::ReopenLogs => Ok(()),
        }
    }

    fn spawn(&mut self, order: &Spawn) -> Step {
        self.check.spawn(order, &self.engine, &self.world)?;
        let (program, run) = (order.program, order.run);
        let faults = &self.world.faults;
        let (fork, exec, late) = (faults.fork, faults.exec, faults.late_report);
        let class = if self.random.chance(fork) {
            Some(self.random.pick(&[FailureClass::Resources, FailureClass::Busy]))
        } else if self.random.chance(exec) {
            Some(FailureClass::Own)
        } else {
            None
        };
        if let Some(class) = class {
            let failure = SpawnFailure { text: "no".into(), class, code: 126 };
            self.feed_result(program, run, ChildEvent::SpawnFailed(failure));
            return Ok(());
        }
        let kind = self.engine.slot(program).map(|slot| slot.is_oneshot());
        let lives_on = order.role == Role::Main && kind == Some(false);
        let pid =
            self.world.spawn((program, run, order.role), lives_on, self.now, &mut self.random);
        if self.random.chance(late) {
            let at = self.now + self.random.below(50_000_000);
            self.world.plan(at, Happening::Reported { run });
        } else {
            if let Some(known) = self.world.runs.get_mut(&run) {
                known.reported = true;
            }
            self.feed_result(program, run, ChildEvent::Spawned { pid });
        }
        Ok(())
    }

    pub(super) fn feed_result(&mut self, program: ProgramId, run: RunId, what: ChildEvent) {
        self.results.push_back(Event::Child { program, run, what });
    }
}

/// The program that an event is for.
fn touched(event: &Event) -> Option<ProgramId> {
    match event {
        Event::Child { program, .. } | Event::Condition { program, .. } => Some(*program),
        Event::Boot
        | Event::Deadline
        | Event::Request { .. }
        | Event::RequestGone(_)
        | Event::Loaded { .. }
        | Event::NotLoaded { .. }
        | Event::Told(_) => None,
    }
}

/// The program whose spawn found no room.
fn shortage(event: &Event) -> Option<ProgramId> {
    match event {
        Event::Child { program, what: ChildEvent::SpawnFailed(failure), .. }
            if failure.class == FailureClass::Resources =>
        {
            Some(*program)
        }
        Event::Child { .. }
        | Event::Condition { .. }
        | Event::Boot
        | Event::Deadline
        | Event::Request { .. }
        | Event::RequestGone(_)
        | Event::Loaded { .. }
        | Event::NotLoaded { .. }
        | Event::Told(_) => None,
    }
}
