//! What the world knows of each program by its own history: what was asked, what its children
//! did, what the journal says. The engine's slots are not looked at.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use mini_supervisor::{
    engine::{Cause, FailureClass, Role, RunId, StopWhy, What, restart::is_stable},
    model::{Condition, Exit, Instant, Name, Program, ProgramType, Target},
    plan::ProgramId,
};

use super::{procs::Proc, world::World};

/// What the world knows of a program.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Its newest accepted settings.
    pub(super) settings: Option<Arc<Program>>,
    /// Whether the site has it.
    pub(super) member: bool,
    pub(super) requires: Vec<(ProgramId, Condition)>,
    /// What it wants, and what it only comes after.
    pub(super) wants: Vec<ProgramId>,
    pub(super) after: Vec<ProgramId>,
    pub(super) required_by: Vec<ProgramId>,
    /// Its children that are not gone.
    pub(super) runs: Vec<RunId>,
    /// Somebody wants it up, and nobody wanted it down since.
    pub(super) wanted: bool,
    /// Its next start has a cause: a request, a record, a reload.
    pub(super) cause: bool,
    /// The same, should it end before it was told to.
    pub(super) drains: bool,
    /// Its present attempt goes on: a command before it ended well.
    pub(super) prepared: bool,
    /// There was no room for it, at that time: its start is tried again.
    pub(super) no_room: Option<Instant>,
    pub(super) failures: u32,
    /// Given up, and nobody wanted it since.
    pub(super) given_up: bool,
    /// It ended by itself and stays down.
    pub(super) rests: bool,
    pub(super) retry_at: Option<Instant>,
    /// When its main process began, and how long the one before lived.
    pub(super) began: Option<Instant>,
    pub(super) lived: Option<Duration>,
    /// How its last main process ended.
    pub(super) exit: Option<Exit>,
    /// Why its present stop began; a later reason does not begin it again.
    pub(super) stop_began: Option<StopWhy>,
    /// It is stopped because a requirement went down.
    pub(super) bound: bool,
    /// Ready was told, and its main process lives.
    pub(super) up: bool,
    pub(super) up_since: Instant,
    /// It ended well, and was not wanted again since.
    pub(super) done: bool,
    pub(super) done_since: Instant,
    /// How many `start_post` commands of this run ended well.
    pub(super) posts: usize,
    /// Its last run was shown as unkillable and is dead now.
    pub(super) died_late: bool,
    /// When it last backed off.
    pub(super) flapped: Option<Instant>,
    /// At which event it was last spawned.
    pub(super) spawned_at: u64,
    pub(super) starts: VecDeque<Instant>,
    /// What looks at its health have found.
    pub(super) tally: Option<super::health::Tally>,
}

pub(super) fn is_oneshot(of: &Program) -> bool {
    matches!(of.kind, ProgramType::Oneshot { .. })
}

fn edges<'a>(
    list: &'a [mini_supervisor::model::Dependency],
    ids: &'a std::collections::BTreeMap<Name, ProgramId>,
) -> impl Iterator<Item = (ProgramId, Condition)> + 'a {
    list.iter().filter_map(|d| match &d.target {
        Target::Program(name) => Some((*ids.get(name)?, d.condition)),
        _ => None,
    })
}

impl World {
    /// The programs of the first site.
    pub(super) fn meet(&mut self) {
        self.ids.clone_from(self.engine.names());
        self.known.resize_with(self.ids.len(), Known::default);
        for (name, program) in &self.site.programs {
            let known = &mut self.known[self.ids[name].index()];
            known.settings = Some(Arc::clone(program));
            known.member = true;
        }
        self.relate();
        let all: Vec<ProgramId> = self.ids.values().copied().collect();
        let auto = |id: &ProgramId| self.settings(*id).is_some_and(|s| s.enabled && s.autostart);
        let begin: Vec<ProgramId> = all.into_iter().filter(auto).collect();
        self.bring_up(&begin, false);
    }

    /// The edges that the settings of all programs make.
    pub(super) fn relate(&mut self) {
        for known in &mut self.known {
            let Some(of) = &known.settings else { continue };
            known.requires = edges(&of.requires, &self.ids).collect();
            known.wants = edges(&of.wants, &self.ids).map(|(id, _)| id).collect();
            known.after = edges(&of.after, &self.ids).map(|(id, _)| id).collect();
            known.required_by.clear();
        }
        for id in (0..).map(ProgramId).take(self.known.len()) {
            let targets = self.known[id.index()].requires.clone();
            for (to, _) in targets {
                self.known[to.index()].required_by.push(id);
            }
        }
    }

    pub(super) fn settings(&self, id: ProgramId) -> Option<&Arc<Program>> {
        self.known.get(id.index())?.settings.as_ref()
    }

    /// All that requires one of these, transitively, these included.
    pub(super) fn bound_to(&self, these: impl IntoIterator<Item = ProgramId>) -> Vec<ProgramId> {
        let mut found: Vec<ProgramId> = these.into_iter().collect();
        let mut next = 0;
        while let Some(one) = found.get(next).copied() {
            next += 1;
            for other in &self.known[one.index()].required_by {
                if !found.contains(other) {
                    found.push(*other);
                }
            }
        }
        found
    }

    /// Somebody wants these up: they, and what they need and is not up, may start (again).
    pub(super) fn bring_up(&mut self, these: &[ProgramId], by_hand: bool) {
        let mut open: Vec<ProgramId> = these.to_vec();
        let mut seen: Vec<ProgramId> = Vec::new();
        while let Some(id) = open.pop() {
            let target = these.contains(&id);
            let known = &mut self.known[id.index()];
            let enabled = known.settings.as_ref().is_some_and(|s| s.enabled);
            if seen.contains(&id) {
                continue;
            }
            seen.push(id);
            open.extend(known.requires.iter().map(|(to, _)| *to));
            open.extend(known.wants.iter().copied());
            let oneshot = known.settings.as_ref().is_some_and(|s| is_oneshot(s));
            let there = (known.up && known.wanted) || (known.done && oneshot);
            if !enabled || (!target && there) {
                continue;
            }
            (known.wanted, known.cause, known.rests, known.done) = (true, true, false, false);
            (known.given_up, known.retry_at) = (false, None);
            known.starts.clear();
            if target && by_hand {
                (known.failures, known.lived) = (0, None);
            }
        }
    }

    /// What stops takes others with it; theirs is a new start, and some of them say nothing.
    pub(super) fn excuse(&mut self, these: impl IntoIterator<Item = ProgramId>) {
        for id in self.bound_to(these) {
            let known = &mut self.known[id.index()];
            known.cause |= !known.up;
            known.drains = known.up;
        }
    }

    /// The program is no longer part of the site, and down.
    pub(super) fn forgotten(&mut self, name: &Name) {
        let Some(id) = self.ids.remove(name) else { return };
        let alive = self.alive(id).next().map(|(run, _)| run);
        self.hold(11, alive.is_none(), || format!("{name} is forgotten while {alive:?} lives"));
        self.known[id.index()] = Known::default();
        self.relate();
    }

    /// A line of the journal about a program.
    pub(super) fn recorded(&mut self, id: ProgramId, what: &What) {
        let now = self.now;
        self.told_of_health(id, what);
        match what {
            What::Backoff { attempt, delay, cause } => {
                self.backs_off(id, *attempt, *delay, cause);
            }
            What::Fatal { limit, retry, cause } => {
                self.unbound(id, cause);
                self.ended(id);
                let known = &mut self.known[id.index()];
                if *limit {
                    known.failures += 1;
                    known.starts.clear();
                }
                known.given_up = true;
                (known.retry_at, known.cause) = (retry.map(|r| now + r), retry.is_some());
                self.fatals.push(id);
                self.excuse([id]);
            }
            What::Rested { .. } | What::RestedUnknown | What::Completed => {
                self.ended(id);
                let good = !matches!(what, What::Rested { success: false } | What::RestedUnknown);
                let known = &mut self.known[id.index()];
                (known.rests, known.done, known.done_since) = (true, good, now);
                if !good {
                    self.excuse([id]);
                }
            }
            What::Stopped => {
                let known = &mut self.known[id.index()];
                (known.retry_at, known.given_up, known.cause) = (None, false, false);
                (known.up, known.done, known.prepared, known.no_room) = (false, false, false, None);
                self.excuse([id]);
            }
            What::Stopping { why } => self.begins_to_stop(id, *why),
            What::Unfed { .. } => {
                self.judge_unfed(id);
                self.begins_to_stop(id, StopWhy::Watchdog);
            }
            What::Started { pid } => {
                let known = &mut self.known[id.index()];
                (known.posts, known.up, known.bound, known.done) = (0, false, false, false);
                let main = self.instance(id).map(|(_, p)| (p.role, p.pid));
                let good = main == Some((Role::Main, *pid));
                self.hold(8, good, || format!("{id:?} is told as started, pid {pid}: {main:?}"));
            }
            What::Adopted { .. } => {
                // Nothing of its own was run before it or beside it.
                let known = &mut self.known[id.index()];
                let posts = known.settings.as_ref().map_or(0, |of| of.start_post.len());
                (known.posts, known.up, known.bound, known.done) = (posts, false, false, false);
            }
            What::Waiting { .. } => {
                // Given up with a time for the next try, which this is.
                let known = &mut self.known[id.index()];
                known.given_up &= known.retry_at.is_none();
            }
            What::Ready | What::Recovered => self.is_ready(id),
            What::Unkillable => {
                let Some(run) = self.alive(id).map(|(run, _)| run).next() else { return };
                if let Some(p) = self.procs.get_mut(&run) {
                    p.unkillable = true;
                }
            }
            _ => {}
        }
    }

    fn backs_off(&mut self, id: ProgramId, attempt: u32, delay: Duration, cause: &Cause) {
        let room = !matches!(cause, Cause::NotSpawned(failure)
            if failure.class == FailureClass::Resources);
        self.unbound(id, cause);
        self.ended(id);
        let now = self.now;
        let known = &mut self.known[id.index()];
        known.failures += 1;
        known.given_up = false;
        (known.retry_at, known.cause, known.flapped) = (Some(now + delay), true, Some(now));
        let n = known.failures;
        let Some(restart) = known.settings.as_ref().map(|s| Arc::clone(&s.restart)) else { return };
        let grown =
            restart.delay.as_secs_f64() * restart.factor.powf(f64::from(n.saturating_sub(1)));
        let base = grown.min(restart.max_delay.as_secs_f64());
        let (least, most) = (base * (1.0 - restart.jitter), base * (1.0 + restart.jitter));
        let d = delay.as_secs_f64();
        let good = d >= least - 1e-6 && d <= most + 1e-6;
        self.hold(33, room, || format!("{id:?}: no room is counted as its failure"));
        self.hold(30, attempt == n, || format!("{id:?}: attempt {attempt}, not {n}"));
        self.hold(29, good, || format!("{id:?}: {d} s, not {least}…{most}"));
    }

    /// The end of a run, as its policy counts it.
    fn ended(&mut self, id: ProgramId) {
        let known = &mut self.known[id.index()];
        let lived = known.lived.take();
        let enough = known.settings.as_ref().map(|s| s.restart.reset_after);
        if enough.is_some_and(|enough| is_stable(enough, lived)) {
            known.failures = 0;
        }
        (known.up, known.prepared, known.no_room) = (false, false, None);
    }

    /// I-25: who is stopped for a requirement is not failed by that.
    fn unbound(&mut self, id: ProgramId, cause: &Cause) {
        if matches!(cause, Cause::Stopped(StopWhy::Requirement(_) | StopWhy::Lock, _)) {
            self.hold(25, false, || format!("{id:?} is failed by what it requires"));
        }
    }

    fn begins_to_stop(&mut self, id: ProgramId, why: StopWhy) {
        let again = [StopWhy::Restart, StopWhy::Changed].contains(&why);
        let bound = matches!(why, StopWhy::Requirement(_) | StopWhy::Lock);
        let patience = self.patience(id) + self.command_patience(id);
        let known = &mut self.known[id.index()];
        known.stop_began = Some(why);
        (known.up, known.bound) = (false, bound);
        known.cause |= again || bound;
        let of = self.instance(id).map(|(run, p)| (run, p.changed));
        if let (StopWhy::Requirement(to), Some((_, false))) = (why, of) {
            let needs = self.known[id.index()].requires.iter().any(|(of, _)| *of == to);
            self.hold(14, needs, || {
                format!("{id:?} is stopped for {to:?}, which it does not need")
            });
        }
        let Some((run, _)) = of else { return };
        let by = self.now + patience + Duration::from_secs(1);
        if let Some(p) = self.procs.get_mut(&run).filter(|p| p.stop_by.is_none() || p.foreseen) {
            (p.stop_by, p.foreseen) = (Some(by), false);
            self.due.insert((by, super::world::Due::Stop(run)));
        }
        self.excuse([id]);
    }

    /// I-8, the other half: it is told as ready only when all that makes it ready was there.
    fn is_ready(&mut self, id: ProgramId) {
        let main = self.instance(id).filter(|(_, p)| p.role == Role::Main);
        let alive = main.is_some_and(|(_, p)| p.spawned && !p.exited);
        let changed = main.is_some_and(|(_, p)| p.changed);
        // Who was adopted is the program, whatever it would have said.
        let ready = main.is_some_and(|(_, p)| p.ready || p.adopted);
        let now = self.now;
        let known = &mut self.known[id.index()];
        let all = known.settings.as_ref().map_or(0, |s| s.start_post.len());
        let posts = known.posts;
        let proved = known.settings.as_ref().is_none_or(|s| s.readiness.is_none()) || ready;
        (known.up, known.up_since, known.cause) = (true, now, false);
        known.drains = false;
        self.hold(8, alive, || format!("{id:?} is told as ready without its process"));
        self.hold(8, proved || changed, || format!("{id:?} is told as ready, and has not said so"));
        let good = posts >= all || changed;
        self.hold(8, good, || format!("{id:?} is told as ready after {posts} of {all} commands"));
    }

    /// What its requirements are, as far as the world sees: the first that is not met.
    pub(super) fn missing(&self, id: ProgramId) -> Option<(ProgramId, Condition)> {
        let met = |(to, condition): &(ProgramId, Condition)| {
            let of = &self.known[to.index()];
            let oneshot = of.settings.as_ref().is_some_and(|s| is_oneshot(s));
            match condition {
                Condition::Completed => of.done,
                Condition::Ready | Condition::Healthy if oneshot => of.done,
                Condition::Ready => of.up,
                Condition::Healthy => self.is_healthy(*to),
                Condition::Started => {
                    let main = self.instance(*to);
                    let runs = |p: &Proc| p.role == Role::Main && p.spawned && !p.exited;
                    main.is_some_and(|(_, p)| runs(p) && (p.stop_by.is_none() || p.foreseen))
                        || (of.done && oneshot)
                }
            }
        };
        self.known[id.index()].requires.iter().find(|edge| !met(edge)).copied()
    }
}
