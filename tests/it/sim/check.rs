//! The invariants, by their numbers, with a count of how often each had something to say.

use std::{collections::BTreeMap, time::Duration};

use mini_supervisor::{
    engine::{Action, Engine, Goal, Role, RunId, Scope, Side, Slot, Spawn, State, StopWhy, What},
    model::{Condition, Instant, KillMode, Limit, Signal},
    plan::{EdgeKind, ProgramId},
};

use super::world::World;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation(pub(super) u8, pub(super) String);

/// What is remembered from event to event to judge the next one.
#[derive(Default)]
pub(super) struct Check {
    /// How often the antecedent of each invariant held.
    pub(super) held: BTreeMap<u8, u64>,
    stopping_since: BTreeMap<RunId, u64>,
    backoffs: BTreeMap<ProgramId, Vec<u64>>,
    failures: BTreeMap<ProgramId, u32>,
    required_stop: BTreeMap<ProgramId, ()>,
    /// A command, reload or stop of the site touched it since it was given up.
    pub(super) excused: BTreeMap<ProgramId, ()>,
    given_up: BTreeMap<ProgramId, ()>,
    /// How late the supervisor was, in all.
    pub(super) late: Duration,
    /// A forced stop or the killing phase: SIGKILL may come early.
    pub(super) impatient: bool,
}

type Verdict = Result<(), Violation>;

impl Check {
    fn hold(&mut self, number: u8) {
        *self.held.entry(number).or_default() += 1;
    }

    fn judge(&mut self, number: u8, good: bool, text: impl FnOnce() -> String) -> Verdict {
        self.hold(number);
        if good { Ok(()) } else { Err(Violation(number, text())) }
    }

    /// A child is about to be made.
    pub(super) fn spawn(&mut self, order: &Spawn, engine: &Engine, world: &World) -> Verdict {
        let Some(slot) = engine.slot(order.program) else {
            return Err(Violation(11, "a spawn for nobody".into()));
        };
        let name = &slot.program.name;
        let fresh = !world.runs.contains_key(&order.run);
        self.judge(9, fresh, || format!("{name}: run {} is used twice", order.run.0))?;
        if !matches!(order.role, Role::Main | Role::StartPre(_)) {
            return Ok(());
        }
        let up = engine.phase_word() == "up";
        self.judge(38, up, || format!("{name} is started while the site stops"))?;
        if order.role == Role::Main {
            let none = world.instances(order.program) == 0;
            self.judge(1, none, || format!("{name} has an instance already"))?;
            let leaves = slot.program.stop.kill_mode == KillMode::Process;
            let empty = leaves || !world.has_tree(order.program);
            self.judge(2, empty, || format!("{name}: an earlier tree still lives"))?;
        }
        let wanted = slot.goal == Goal::Up;
        self.judge(6, wanted, || format!("{name} is started although it is to be down"))?;
        self.judge(7, slot.program.enabled || self.excused.contains_key(&order.program), || {
            format!("{name} is disabled")
        })?;
        let free = !self.given_up.contains_key(&order.program)
            || self.excused.contains_key(&order.program);
        self.judge(32, free, || format!("{name} was given up and is started by nobody"))?;
        self.given_up.remove(&order.program);
        // The gate is asked before the first child of an attempt; what happens later stops it.
        let first = order.role == Role::StartPre(0) || slot.program.start_pre.is_empty();
        if !first || !matches!(slot.state, State::Spawning { tried: None, stop: None, .. }) {
            return Ok(());
        }
        for edge in slot.edges.needs.iter().filter(|edge| edge.kind == EdgeKind::Requires) {
            let Some(target) = engine.slot(edge.target) else { continue };
            let done = matches!(target.state, State::Exited { success: true, .. });
            let there = match edge.condition {
                Condition::Started => world.instances(edge.target) > 0 || done,
                Condition::Completed => done,
                Condition::Ready | Condition::Healthy => target.is_ready() && !target.is_ending(),
            };
            self.judge(22, there, || format!("{name} is started without {}", target.program.name))?;
        }
        Ok(())
    }

    /// A signal is about to be sent.
    pub(super) fn signal(
        &mut self,
        (program, run, signal, scope): (ProgramId, RunId, Signal, Scope),
        engine: &Engine,
        world: &World,
        now: u64,
    ) -> Verdict {
        let Some(known) = world.runs.get(&run) else {
            // Nothing of the run lives; the shell finds nobody. That it is asked at all is a fault.
            return self.judge(4, false, || format!("a signal to run {}, which is gone", run.0));
        };
        self.judge(4, true, String::new)?;
        let right = known.program == program;
        self.judge(5, right, || format!("a signal to run {} of another program", run.0))?;
        if scope == Scope::Main {
            let there = !known.reaped;
            self.judge(4, there, || {
                format!("a signal to the reaped main process of run {}", run.0)
            })?;
        }
        let Some(slot) = engine.slot(program) else { return Ok(()) };
        let ending = matches!(slot.state, State::Stopping { .. });
        let alive = world.processes.get(&known.main).is_some_and(|p| p.run == run && !p.zombie);
        if known.role == Role::Main && alive && ending {
            if signal == Signal::KILL {
                let since = self.stopping_since.get(&run).copied();
                let waited = since.is_some_and(|since| match slot.program.stop.patience() {
                    Limit::After(patience) => Duration::from_nanos(now - since) >= patience,
                    Limit::Never => false,
                });
                let asked_hard = self.impatient || self.excused.contains_key(&program);
                self.judge(37, waited || asked_hard, || {
                    format!("{}: SIGKILL before its time", slot.program.name)
                })?;
            } else if !self.stopping_since.contains_key(&run) {
                self.stopping_since.insert(run, now);
                if engine.phase_word() != "up" && !self.impatient {
                    self.order_of_stop(slot, engine, world)?;
                }
            }
        }
        Ok(())
    }

    fn order_of_stop(&mut self, slot: &Slot, engine: &Engine, world: &World) -> Verdict {
        for back in &*slot.edges.needed_by {
            let Some(other) = engine.slot(back.from) else { continue };
            let gone = world.instances(back.from) == 0;
            self.judge(23, gone || !other.is_live(), || {
                format!("{} is stopped before {}", slot.program.name, other.program.name)
            })?;
        }
        Ok(())
    }

    /// What was written down.
    pub(super) fn record(&mut self, slot: &Slot, what: &What, now: u64) -> Verdict {
        let name = &slot.program.name;
        let restart = &slot.program.restart;
        if let What::Backoff { attempt, delay, .. } = what {
            let plain = mini_supervisor::engine::restart::delay(
                restart.delay,
                restart.max_delay,
                restart.factor,
                *attempt,
            );
            let low = plain
                .mul_f64((1.0 - restart.jitter).max(0.0))
                .saturating_sub(Duration::from_nanos(2));
            let high = plain.mul_f64(1.0 + restart.jitter) + Duration::from_nanos(2);
            let capped = plain <= restart.max_delay.max(restart.delay);
            let good = (low..=high).contains(delay) && capped;
            self.judge(29, good, || format!("{name}: delay {delay:?} for failure {attempt}"))?;
            if let Some(limit) = &restart.start_limit {
                let list = self.backoffs.entry(slot.id).or_default();
                list.push(now);
                let begin = now.saturating_sub(u64::try_from(limit.interval.as_nanos()).unwrap());
                list.retain(|at| *at > begin || begin == 0);
                let recent = list.len();
                let most = usize::try_from(limit.burst).unwrap();
                self.judge(31, recent <= most, || {
                    format!("{name}: {recent} restarts in its interval")
                })?;
            }
        }
        if let What::Fatal { limit, retry, .. } = what {
            if retry.is_none() {
                self.hold(32);
                self.given_up.insert(slot.id, ());
                self.excused.remove(&slot.id);
            }
            if *limit {
                self.backoffs.remove(&slot.id);
            }
        }
        if let What::Stopping { why: StopWhy::Requirement(_) } = what {
            self.required_stop.insert(slot.id, ());
        }
        Ok(())
    }

    /// What is forgiven to programs that a person or a reload touched.
    pub(super) fn excuse(&mut self, id: ProgramId) {
        self.excused.insert(id, ());
        self.backoffs.remove(&id);
        self.failures.remove(&id);
        self.given_up.remove(&id);
        self.required_stop.remove(&id);
    }

    /// A program after an event that touched it.
    pub(super) fn slot(&mut self, slot: &Slot, world: &World, now: u64) -> Verdict {
        let name = &slot.program.name;
        if let State::Running { life } = &slot.state {
            let there = world.processes.get(&life.pid).is_some_and(|p| p.run == life.run && p.main);
            self.judge(8, there && world.instances(slot.id) == 1, || {
                format!("{name} is running without exactly one instance")
            })?;
        }
        self.known_runs(slot, world)?;
        if let State::Stopping { life, .. } = &slot.state {
            if let (Some(since), Limit::After(patience)) =
                (self.stopping_since.get(&life.run), slot.program.stop.patience())
            {
                // A hanging process dies up to 5 s after it was told to; a stop command has the first wait
                // before the ladder; the supervisor itself may have been late.
                let first = slot.program.stop.ladder.first().map_or(Limit::Never, |step| step.wait);
                let command = match (first, &slot.program.stop.command) {
                    (Limit::After(wait), Some(_)) => wait,
                    (Limit::Never, _) | (_, None) => Duration::ZERO,
                };
                let most = patience + command + Duration::from_secs(7) + self.late;
                let lasted = Duration::from_nanos(now - since);
                self.judge(36, lasted <= most, || format!("{name}: its stop lasts {lasted:?}"))?;
            }
        }
        let failures = slot.history.failures;
        let before = self.failures.insert(slot.id, failures).unwrap_or(0);
        if failures < before {
            let resting = matches!(slot.program.restart.reset_after, Limit::After(_));
            let good = self.excused.contains_key(&slot.id) || resting;
            self.judge(30, good, || format!("{name}: failures forgotten, {before} to {failures}"))?;
        }
        if slot.is_live() || self.required_stop.is_empty() {
            return self.bounded(slot);
        }
        if self.required_stop.remove(&slot.id).is_some() {
            let blocked = !matches!(slot.state, State::Fatal { .. } | State::Exited { .. });
            self.judge(25, blocked, || {
                format!("{name}: stopped for another, it is {:?}", slot.word())
            })?;
        }
        self.bounded(slot)
    }

    fn bounded(&mut self, slot: &Slot) -> Verdict {
        let burst = slot.program.restart.start_limit.as_ref().map_or(0, |limit| limit.burst);
        let most = usize::try_from(burst).unwrap().max(1).max(8);
        self.judge(47, slot.history.starts.len() <= most, || {
            format!("{}: its list of starts grows", slot.program.name)
        })
    }

    /// Every living process of the program is one that the engine thinks of.
    fn known_runs(&mut self, slot: &Slot, world: &World) -> Verdict {
        let current = match &slot.state {
            State::Spawning { run, .. }
            | State::Sweeping { run, .. }
            | State::Emptying { run, .. }
            | State::Cleaning { run, .. } => Some(*run),
            State::Stopped
            | State::Waiting { .. }
            | State::Retrying { .. }
            | State::Preparing { .. }
            | State::Settling { .. }
            | State::Running { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Fatal { .. } => slot.life().map(|life| life.run),
        };
        let side = slot.side.map(|Side { run, .. }| run);
        let leaves = slot.program.stop.kill_mode == KillMode::Process;
        for (run, known) in world.runs.iter().filter(|(_, known)| known.program == slot.id) {
            let thought_of = Some(*run) == current || Some(*run) == side;
            let alive = world.processes.get(&known.main).is_some_and(|p| p.run == *run && !p.zombie);
            let left = !alive && (leaves || self.excused.contains_key(&slot.id));
            self.judge(11, thought_of || left, || {
                format!("{}: run {} lives and nobody thinks of it", slot.program.name, run.0)
            })?;
        }
        Ok(())
    }

    /// After each event: how much was done, and how often the clock is asked for.
    pub(super) fn actions(&mut self, actions: &[Action], engine: &Engine) -> Verdict {
        let most = 16 * (engine.names().len() + 1) + 16;
        self.judge(46, actions.len() <= most, || format!("{} actions for one event", actions.len()))
    }

    /// Deadlines that are due are handled, once.
    pub(super) fn deadlines(&mut self, engine: &Engine, now: u64, turns: u32) -> Verdict {
        let most = 8 + 4 * u32::try_from(engine.names().len()).unwrap();
        self.judge(45, turns <= most, || {
            let next = engine.next_deadline().map(|Instant(at)| at);
            format!("{turns} deadlines at {now}, next {next:?}")
        })
    }
}
