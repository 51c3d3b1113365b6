//! The fake world: it owns the processes, executes actions as the shell would, and judges each of them.
//!
//! I-16…I-21 (semaphores, mounts, tasks) concern later parts; I-26 and I-28 have no key. With
//! `kill_mode: process` leftovers are allowed to outlive their run (I-1).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use mini_supervisor::{
    engine::{
        Action, Actions, Bugs, Cause, ChildEvent, Engine, Event, FailureClass, Goal, Role, RunId,
        Scope, Slot, SpawnFailure, State, StopWhy, Surroundings, What,
    },
    model::{Exit, Instant, KillMode, Signal, Site, WallTime},
    plan::ProgramId,
};

use super::draw::{Chance, Faults, draw_site};

/// A child of the world.
#[derive(Clone, Debug)]
pub(super) struct Proc {
    pub(super) program: ProgramId,
    pub(super) role: Role,
    pub(super) pid: u32,
    /// Whether its main process was reaped.
    pub(super) reaped: bool,
    /// Other members of its tree.
    pub(super) members: u64,
    pub(super) obeys: bool,
    /// How long SIGKILL takes.
    pub(super) lag: Duration,
    pub(super) dying: bool,
    pub(super) asked: Option<Instant>,
    pub(super) forced: bool,
    pub(super) spawned: bool,
    /// Left behind on purpose.
    pub(super) left: bool,
}

/// What the world knows of a program without asking the engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) asked_down: bool,
    pub(super) failures: u32,
    pub(super) given_up: bool,
    pub(super) retry_at: Option<Instant>,
    pub(super) lived: Option<Duration>,
    pub(super) forced: bool,
    /// Why its present stop began; a later reason does not begin it again.
    pub(super) stop_began: Option<StopWhy>,
    pub(super) starts: Vec<Instant>,
}

/// The world and the engine in it.
pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) faults: Faults,
    pub(super) engine: Engine,
    pub(super) now: Instant,
    pub(super) wall: i64,
    pub(super) site: Arc<Site>,
    pub(super) procs: BTreeMap<RunId, Proc>,
    pub(super) later: BTreeMap<(Instant, u64), Event>,
    pub(super) finished: Vec<(ProgramId, RunId)>,
    pub(super) known: BTreeMap<ProgramId, Known>,
    pub(super) open: BTreeSet<u64>,
    pub(super) requests: u64,
    pub(super) order: u64,
    pub(super) stopping: Option<Instant>,
    pub(super) forced: bool,
    pub(super) exit: Option<u8>,
    pub(super) events: u64,
    pub(super) held: [u64; 65],
    pub(super) wrong: Option<String>,
    pub(super) story: std::collections::VecDeque<String>,
    pub(super) trace: Option<String>,
    pub(super) busy: u64,
    pub(super) same: bool,
    pub(super) stop_now: bool,
    /// The settings changed under way: what was promised before does not count (I-37).
    pub(super) changed: bool,
}

impl World {
    pub(super) fn new(seed: u64, bugs: Bugs) -> Self {
        let mut chance = Chance(seed);
        let faults = Faults::draw(&mut chance);
        let site = draw_site(&mut chance);
        let around = Surroundings { seed, is_init: chance.is(20), bugs };
        let engine = Engine::new(&site, around, (Instant(0), WallTime(0)));
        Self {
            chance,
            faults,
            engine,
            now: Instant(0),
            wall: 0,
            site: Arc::new(site),
            procs: BTreeMap::new(),
            later: BTreeMap::new(),
            finished: Vec::new(),
            known: BTreeMap::new(),
            open: BTreeSet::new(),
            requests: 0,
            order: 0,
            stopping: None,
            forced: false,
            exit: None,
            events: 0,
            held: [0; 65],
            wrong: None,
            story: std::collections::VecDeque::new(),
            trace: None,
            busy: 0,
            same: false,
            stop_now: false,
            changed: false,
        }
    }

    /// Invariant `number` had to hold here; did it?
    pub(super) fn hold(&mut self, number: usize, good: bool, what: impl FnOnce() -> String) {
        self.held[number] += 1;
        if !good && self.wrong.is_none() {
            self.wrong = Some(format!("I-{number}: {}", what()));
        }
    }

    pub(super) fn at(&mut self, delay: Duration, event: Event) {
        self.order += 1;
        self.later.insert((self.now + delay, self.order), event);
    }

    pub(super) fn child(&mut self, delay: Duration, run: RunId, what: ChildEvent) {
        let Some(p) = self.procs.get(&run) else { return };
        let program = p.program;
        self.at(delay, Event::Child { program, run, what });
    }

    /// Gives one event to the engine and does what it says.
    pub(super) fn give(&mut self, event: Event) {
        self.events += 1;
        if self.story.len() == 20 {
            self.story.pop_front();
        }
        if self.trace.is_some() || super::tells() {
            self.story.push_back(format!("{:?} {event:?}", self.now));
        }
        let subject = match &event {
            Event::Child { program, run, what } => {
                let (program, run) = (*program, *run);
                self.before_child(run, what);
                Some((program, run, matches!(what, ChildEvent::Exited(_))))
            }
            _ => None,
        };
        let site = match &event {
            Event::Loaded { site, .. } => Some(Arc::clone(site)),
            _ => None,
        };
        let mut out = Actions::new();
        self.engine.handle(event, self.now, WallTime(self.wall), &mut out);
        if let Some((_, run, true)) = subject {
            self.reap(run);
        }
        let count = out.as_slice().len();
        let bound = 24 * (self.engine.names().len() + 2);
        self.hold(46, count <= bound, || format!("{count} actions of one event"));
        let actions: Vec<Action> = out.drain().collect();
        self.stop_now = actions.iter().any(
            |a| matches!(a, Action::Record(r) if matches!(r.what, What::SupervisorStopping { .. })),
        );
        let applied = actions
            .iter()
            .any(|a| matches!(a, Action::Record(r) if matches!(r.what, What::Reloaded { .. })));
        if let Some(site) = site.filter(|site| applied && *site != self.site) {
            self.reloaded(site);
        }
        self.forced |= actions.iter().any(
            |a| matches!(a, Action::Record(r) if matches!(r.what, What::SupervisorKilling { .. })),
        );
        if self.stop_now {
            self.stopping = Some(self.now);
        }
        for action in actions {
            if let Some(trace) =
                self.trace.as_mut().filter(|_| !matches!(action, Action::Reply(..)))
            {
                writeln!(trace, "{} {action:?}", self.now.0).unwrap();
            }
            self.act(action);
        }
        if let Some((program, ..)) = subject {
            self.look_at(program);
        }
    }

    /// New settings: promises of the old ones are over.
    fn reloaded(&mut self, site: Arc<Site>) {
        self.site = site;
        self.changed = true;
        let engine = &self.engine;
        self.known.retain(|id, _| engine.slot(*id).is_some());
        for (id, known) in &mut self.known {
            known.asked_down = false;
            known.given_up = false;
            known.retry_at = None;
            known.starts.clear();
            known.failures = engine.slot(*id).map_or(0, |slot| slot.history.failures);
        }
    }

    /// What the world knows before the engine hears of it.
    fn before_child(&mut self, run: RunId, what: &ChildEvent) {
        let Some(p) = self.procs.get_mut(&run) else { return };
        match what {
            ChildEvent::Spawned { .. } => p.spawned = true,
            ChildEvent::Exited(_)
            | ChildEvent::SpawnFailed(_)
            | ChildEvent::Reaped
            | ChildEvent::TreeEmpty => {}
        }
        let (program, role) = (p.program, p.role);
        if matches!(what, ChildEvent::SpawnFailed(_) | ChildEvent::TreeEmpty) {
            self.procs.remove(&run);
            self.finished.push((program, run));
            if self.finished.len() > 50 {
                self.finished.remove(0);
            }
        } else if let (Role::Main, ChildEvent::Exited(_)) = (role, what) {
            let lived = self.engine.slot(program).and_then(Slot::life);
            let now = self.now;
            let known = self.known.entry(program).or_default();
            known.lived = lived.filter(|l| l.run == run).map(|l| now - l.started);
        }
    }

    fn reap(&mut self, run: RunId) {
        let Some(p) = self.procs.get(&run) else { return };
        let left = self.leaves(p.program) || self.engine.slot(p.program).is_none();
        let Some(p) = self.procs.get_mut(&run) else { return };
        p.reaped = true;
        p.left = left;
        let empty = p.members == 0;
        self.child(Duration::ZERO, run, ChildEvent::Reaped);
        if empty {
            self.child(Duration::ZERO, run, ChildEvent::TreeEmpty);
        }
    }

    /// What is true of a program whatever happened.
    fn look_at(&mut self, id: ProgramId) {
        let Some(slot) = self.engine.slot(id) else { return };
        let (starts, burst) = (
            slot.history.starts.len(),
            slot.program.restart.start_limit.as_ref().map_or(usize::MAX, |l| l.burst as usize),
        );
        let running = match slot.state {
            State::Running { life } => Some((life.run, life.pid)),
            _ => None,
        };
        self.hold(47, starts <= burst.max(6), || format!("{starts} starts remembered"));
        if let Some((run, pid)) = running {
            let good = self
                .procs
                .get(&run)
                .is_some_and(|p| p.pid == pid && p.role == Role::Main && !p.reaped && p.spawned);
            self.hold(8, good, || format!("{id:?} is RUNNING without its process"));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Spawn(spawn) => self.spawn(spawn.program, spawn.run, spawn.role),
            Action::Signal { program, run, signal, scope, .. } => {
                self.judge_signal(program, run, signal, scope);
                self.signal(run, signal, scope);
            }
            Action::Record(record) => {
                let id = record.program.as_ref().and_then(|n| self.engine.names().get(n)).copied();
                if let Some(id) = id {
                    self.recorded(id, &record.what);
                }
            }
            Action::Reply(id, _) => {
                let open = self.open.remove(&id.0);
                self.hold(41, open, || format!("{id:?} was answered twice"));
            }
            Action::Await { program, attempt, index } => {
                self.known.entry(program).or_default().lived = None;
                if self.chance.is(60) {
                    let delay = Duration::from_millis(self.chance.below(9000));
                    self.at(delay, Event::Condition { program, attempt, index });
                }
            }
            Action::Load { request, dry_run, allow_removal } => {
                let site = if self.chance.is(30) {
                    Arc::clone(&self.site)
                } else {
                    Arc::new(super::draw::change_site(&self.site, &mut self.chance))
                };
                let allow_removal = allow_removal || self.chance.is(50);
                let warnings = Vec::new();
                self.at(
                    Duration::ZERO,
                    Event::Loaded { request, site, dry_run, allow_removal, warnings },
                );
            }
            Action::Exit(code) => {
                self.exit = Some(code);
            }
            Action::Forget(_) => {
                let engine = &self.engine;
                self.known.retain(|id, _| engine.slot(*id).is_some());
            }
            Action::AwaitNothing(_)
            | Action::RemoveRuntime(_)
            | Action::Progress(..)
            | Action::Reconfigure(_)
            | Action::ReopenLogs => {}
        }
    }

    fn recorded(&mut self, id: ProgramId, what: &What) {
        let Some(slot) = self.engine.slot(id) else { return };
        let restart = Arc::clone(&slot.program.restart);
        let now = self.now;
        let known = self.known.entry(id).or_default();
        match what {
            What::Backoff { attempt, delay, cause } => {
                let room = !matches!(cause, Cause::NotSpawned(failure)
                    if failure.class == FailureClass::Resources);
                let lived = known.lived.take();
                if mini_supervisor::engine::restart::is_stable(restart.reset_after, lived) {
                    known.failures = 0;
                }
                known.failures += 1;
                known.retry_at = Some(now + *delay);
                let n = known.failures;
                let grown = restart.delay.as_secs_f64()
                    * restart.factor.powf(f64::from(n.saturating_sub(1)));
                let base = grown.min(restart.max_delay.as_secs_f64());
                let (least, most) = (base * (1.0 - restart.jitter), base * (1.0 + restart.jitter));
                let d = delay.as_secs_f64();
                let good = d >= least - 1e-6 && d <= most + 1e-6;
                let attempt = *attempt;
                self.hold(33, room, || format!("{id:?}: no room is counted as its failure"));
                self.hold(30, attempt == n, || format!("{id:?}: attempt {attempt}, not {n}"));
                self.hold(29, good, || format!("{id:?}: {d} s, not {least}…{most}"));
            }
            What::Fatal { limit, retry, .. } => {
                let lived = known.lived.take();
                if mini_supervisor::engine::restart::is_stable(restart.reset_after, lived) {
                    known.failures = 0;
                }
                if *limit {
                    known.failures += 1;
                    known.starts.clear();
                }
                known.given_up = true;
                known.retry_at = retry.map(|r| now + r);
            }
            What::Rested { .. } | What::Completed => {
                let lived = known.lived.take();
                if mini_supervisor::engine::restart::is_stable(restart.reset_after, lived) {
                    known.failures = 0;
                }
            }
            What::Stopped => known.retry_at = None,
            What::Stopping { why } => known.stop_began = Some(*why),
            _ => {}
        }
    }

    fn spawn(&mut self, program: ProgramId, run: RunId, role: Role) {
        if matches!(role, Role::Main | Role::StartPre(_)) {
            self.judge_start(program, run, role);
        }
        let obeys = !self.chance.is(self.faults.ignores);
        let lag = if self.chance.is(self.faults.d_state) { self.chance.below(40) } else { 0 };
        let fails = self.chance.is(self.faults.spawn_fails);
        let delay =
            if self.chance.is(self.faults.spawn_late) { self.chance.below(3000) } else { 0 };
        let delay = Duration::from_millis(delay);
        // Few pids, so that they are used again and again.
        let pid = 2 + u32::try_from(self.chance.below(40)).unwrap();
        self.procs.insert(
            run,
            Proc {
                program,
                role,
                pid,
                reaped: false,
                members: if self.chance.is(self.faults.forks) { 2 } else { 0 },
                obeys,
                lag: Duration::from_secs(lag),
                dying: false,
                asked: None,
                forced: false,
                spawned: false,
                left: false,
            },
        );
        if fails {
            let class =
                self.chance.of(&[FailureClass::Resources, FailureClass::Busy, FailureClass::Own]);
            let failure = SpawnFailure { text: "x".into(), class, code: 127 };
            self.child(delay, run, ChildEvent::SpawnFailed(failure));
            return;
        }
        self.child(delay, run, ChildEvent::Spawned { pid });
        if role != Role::Main || self.engine.slot(program).is_some_and(Slot::is_oneshot) {
            let lives = Duration::from_millis(self.chance.below(4000));
            let code = u8::from(self.chance.is(self.faults.crashes));
            self.end(delay + lives, run, Exit::Code(code));
        } else if self.chance.is(self.faults.crashes) {
            let most = self.chance.of(&[1, 1000, 60_000]);
            let lives = Duration::from_millis(self.chance.below(most));
            let codes = [Exit::Code(0), Exit::Code(1), signalled(Signal::KILL)];
            let how = self.chance.of(&codes);
            self.end(delay + lives, run, how);
        }
    }

    /// Its main process will end.
    pub(super) fn end(&mut self, delay: Duration, run: RunId, how: Exit) {
        let Some(p) = self.procs.get_mut(&run).filter(|p| !p.dying) else { return };
        p.dying = true;
        self.child(delay, run, ChildEvent::Exited(how));
    }

    fn signal(&mut self, run: RunId, signal: Signal, scope: Scope) {
        let polite = signal == Signal::TERM || signal == Signal::INT;
        let Some(p) = self.procs.get_mut(&run).filter(|p| p.spawned) else { return };
        let dies = signal == Signal::KILL || (polite && p.obeys);
        if !dies {
            return;
        }
        let lag = if signal == Signal::KILL { p.lag } else { Duration::from_millis(30) };
        let reaped = p.reaped;
        let empties = scope == Scope::Tree && p.members > 0;
        if empties {
            p.members = 0;
        }
        if !reaped {
            self.advance_end(run, lag, signal);
        } else if empties {
            self.child(lag, run, ChildEvent::TreeEmpty);
        }
    }

    /// A process that would end later by itself ends now.
    fn advance_end(&mut self, run: RunId, lag: Duration, signal: Signal) {
        let is_end = |event: &Event| matches!(event, Event::Child { run: of, what: ChildEvent::Exited(_), .. } if *of == run);
        let due = self.now + lag;
        let old = self.later.iter().find(|(_, event)| is_end(event)).map(|(key, _)| *key);
        if let Some(old) = old {
            if old.0 <= due {
                return;
            }
            self.later.remove(&old);
        }
        self.child(lag, run, ChildEvent::Exited(signalled(signal)));
        if let Some(p) = self.procs.get_mut(&run) {
            p.dying = true;
        }
    }

    /// Whether leftovers of it may live on.
    pub(super) fn leaves(&self, id: ProgramId) -> bool {
        let mode = self.engine.slot(id).map(|s| s.program.stop.kill_mode);
        mode == Some(KillMode::Process)
    }

    pub(super) fn wanted(&self, id: ProgramId) -> bool {
        self.engine.slot(id).is_some_and(|s| s.goal == Goal::Up)
    }
}

fn signalled(signal: Signal) -> Exit {
    Exit::Signal { signal, core: false }
}
