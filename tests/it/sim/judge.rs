//! What an event, a start, a signal and a stop must not be.

use std::time::Duration;

use mini_supervisor::{
    engine::{Actions, Role, RunId, Scope, Slot, Spawn, State, StopWhy},
    model::{Instant, Signal},
    plan::ProgramId,
};

use super::world::{Due, World};

/// More actions than this for each program are not of one event (I-46).
const ACTIONS: usize = 12;

impl World {
    /// I-39, I-46, and whatever wanted this event to do nothing.
    pub(super) fn judge_event(&mut self, ends_by: Option<Instant>, out: &Actions) {
        let count = out.as_slice().len();
        if let Some(number) = self.idle {
            self.hold(number, count == 0, || format!("it does {:?}", out.as_slice()));
        }
        let bound = ACTIONS * (self.known.len() + 2);
        self.hold(46, count <= bound, || format!("{count} actions of one event"));
        if let Some(before) = ends_by {
            let after = self.engine.ends_by();
            let shorter = after.is_some_and(|after| after <= before);
            self.hold(39, shorter, || format!("the end moves from {before:?} to {after:?}"));
        }
    }

    /// I-1, I-2, I-15: any child.
    pub(super) fn judge_spawn(&mut self, spawn: &Spawn) {
        let (id, run, role) = (spawn.program, spawn.run, spawn.role);
        let begins = matches!(role, Role::Main | Role::StartPre(_));
        let beside = matches!(
            role,
            Role::StartPost(_) | Role::StopCommand | Role::ReloadCommand | Role::Probe(_)
        );
        let known = &self.known[id.index()];
        let mine = self.engine.slot(id).map(|slot| &slot.program);
        let newest = match (mine, &known.settings) {
            (Some(mine), Some(of)) => std::sync::Arc::ptr_eq(mine, of) || mine == of,
            _ => false,
        };
        let hooks = known.settings.as_ref().map_or(0, |of| match role {
            Role::StartPre(_) => of.start_pre.len(),
            Role::StartPost(_) => of.start_post.len(),
            Role::StopPost(_) => of.stop_post.len(),
            Role::Main | Role::StopCommand | Role::ReloadCommand | Role::Probe(_) => 0,
        });
        let there = match role {
            Role::StartPre(n) | Role::StartPost(n) | Role::StopPost(n) => n < hooks,
            Role::Main | Role::StopCommand | Role::ReloadCommand | Role::Probe(_) => true,
        };
        let main = self.instance(id).filter(|(_, p)| p.spawned).map(|(_, p)| p.pid);
        let pid = spawn.main_pid.is_none() || spawn.main_pid == main;
        self.hold(15, newest && there && pid, || {
            format!("{id:?}: {role:?} with other settings, or beside another process: {spawn:?}")
        });
        let (now, known) = (self.now, &mut self.known[id.index()]);
        known.spawned_at = self.events;
        let stopping = self.stopping;
        if begins {
            let unreaped = self.instance(id).map(|(run, _)| run);
            self.hold(1, unreaped.is_none(), || format!("{id:?} is spawned beside {unreaped:?}"));
            let good = stopping.is_none();
            self.hold(38, good, || {
                format!("{id:?} is spawned in a shutdown, {stopping:?} {now:?}")
            });
        }
        if !beside {
            let other = self.alive(id).map(|(run, p)| (run, p.role)).next();
            self.hold(2, other.is_none(), || format!("{run:?} of {id:?} is spawned on {other:?}"));
        }
        if begins {
            self.judge_start(id, role);
        }
    }

    /// I-6, I-7, I-9, I-22, I-31, I-32, I-33, I-35: a start.
    pub(super) fn judge_start(&mut self, id: ProgramId, role: Role) {
        let now = self.now;
        let known = &mut self.known[id.index()];
        (known.lived, known.bound) = (None, false);
        let (member, wanted) = (known.member, known.wanted);
        let Some(of) = known.settings.clone() else { return };
        let first = role == Role::StartPre(0) || (role == Role::Main && of.start_pre.is_empty());
        let goes_on = std::mem::take(&mut known.prepared);
        let tried = known.no_room.take();
        self.hold(7, member && of.enabled, || format!("{id:?} is spawned though disabled"));
        self.hold(6, wanted, || format!("{id:?} is spawned though it is to be down"));
        if !first || goes_on {
            return;
        }
        if let Some(at) = tried {
            // Something else may have come between: then this is not the next try of that start.
            let other = std::mem::take(&mut self.known[id.index()].cause);
            let soon = now - at <= Duration::from_secs(2);
            let good = soon || other || self.stood_still;
            self.hold(33, good, || format!("{id:?} is tried again, first at {at:?}"));
            return;
        }
        self.judge_locked(id);
        let missing = self.missing(id);
        let has_lock = self.has_lock(id);
        self.hold(22, missing.is_none(), || format!("{id:?} is spawned without {missing:?}"));
        let locked = self.locked(id);
        self.hold(22, locked.is_none(), || format!("{id:?} is spawned beside {locked:?}"));
        let known = &mut self.known[id.index()];
        let alone = known.requires.is_empty() && known.wants.is_empty() && known.after.is_empty();
        let early = known.retry_at.is_some_and(|at| at > now);
        let given_up = known.given_up && known.retry_at.is_none();
        (known.given_up, known.rests, known.done) = (false, false, false);
        let cause = std::mem::take(&mut known.cause);
        known.starts.push_back(now);
        if known.starts.len() > 20 {
            known.starts.pop_front();
        }
        let limit = of.restart.start_limit.as_ref().filter(|_| alone && !has_lock);
        let recent = limit.map_or(0, |limit| {
            known.starts.iter().filter(|at| now - **at < limit.interval).count()
        });
        self.hold(32, !given_up, || format!("{id:?} is spawned after it was given up"));
        self.hold(9, cause, || format!("{id:?} is started, and nothing says why"));
        self.hold(35, !early, || format!("{id:?} is spawned before its time"));
        if let Some(limit) = limit {
            let most = usize::try_from(limit.burst).unwrap();
            self.hold(31, recent <= most, || format!("{id:?}: {recent} starts of {most}"));
        }
    }

    /// I-4, I-5, I-23, I-37: a signal.
    pub(super) fn judge_signal(&mut self, id: ProgramId, run: RunId, signal: Signal, scope: Scope) {
        let Some(p) = self.procs.get(&run) else {
            self.hold(4, false, || format!("{signal} to {run:?} of {id:?}, which is gone"));
            return;
        };
        let (of, role, reaped, exited, asked) = (p.program, p.role, p.reaped, p.exited, p.asked);
        let (forced, spawned) = (self.forced || p.forced, p.spawned);
        let changed = p.changed;
        let fits = scope == Scope::Tree || !reaped;
        self.hold(4, fits, || format!("{signal} to the reaped main process of {id:?}"));
        self.hold(5, of == id, || format!("{signal} for {id:?} to {run:?} of {of:?}"));
        if role != Role::Main || reaped || exited {
            return;
        }
        if !spawned {
            // What has not executed in time is killed, and may have executed just then.
            self.procs.get_mut(&run).unwrap().forced |= signal == Signal::KILL;
            return;
        }
        let polite = [Signal::TERM, Signal::INT, Signal::ABRT].contains(&signal);
        let now = self.now;
        if polite && asked.is_none() {
            let known = &self.known[id.index()];
            if self.stopping.is_some() && known.stop_began == Some(StopWhy::Shutdown) && !forced {
                let alive = |of: &&ProgramId| {
                    let main = self.instance(**of);
                    main.is_some_and(|(_, p)| p.role == Role::Main && p.spawned && !p.exited)
                };
                let alive = known.required_by.iter().find(alive).copied();
                self.hold(23, alive.is_none(), || format!("{id:?} is stopped before {alive:?}"));
            }
            if let Some(p) = self.procs.get_mut(&run) {
                p.asked = Some(now);
            }
        }
        if signal == Signal::KILL && !forced && !changed {
            let patience = self.least_patience(id);
            let good = asked.is_some_and(|at| now - at >= patience);
            self.hold(37, good, || format!("{id:?} is killed before its time: asked {asked:?}"));
        }
    }

    /// I-36: a stop that has to be over by now.
    pub(super) fn judge_stop(&mut self, run: RunId) {
        let now = self.now;
        let Some(p) = self.procs.get(&run).filter(|p| !p.left) else {
            self.hold(36, true, String::new);
            return;
        };
        let (stop_by, foreseen) = (p.stop_by, p.foreseen);
        if foreseen && self.is_put_off(run) {
            return;
        }
        let (Some(by), Some(p)) = (stop_by, self.procs.get(&run)) else { return };
        // Its end may have been put off: by a pause of ours, or by new settings.
        let shown = by + Duration::from_secs(16);
        // Its main process, and then what it left behind, may each take their time to die.
        let last = by + p.lag * 2;
        let next = if now < by {
            by
        } else if now < shown && shown < last {
            shown
        } else if now < last {
            last
        } else {
            now
        };
        let unkillable = p.unkillable;
        if next > now {
            if now >= shown {
                self.hold(36, unkillable, || format!("{run:?} lives on, and nobody is told"));
            }
            self.due.insert((next, Due::Stop(run)));
            return;
        }
        let what = format!("{:?} {p:?}", p.program);
        self.hold(36, false, || format!("{run:?} is not stopped in its time: {what}"));
    }

    /// I-25: who is given up takes down what requires it: to WAITING.
    pub(super) fn judge_fatal(&mut self, id: ProgramId) {
        if self.stopping.is_some() {
            return;
        }
        let Some(known) = self.known.get(id.index()) else { return };
        let up = |of: &&ProgramId| {
            let state = self.engine.slot(**of).map(|slot| &slot.state);
            state.is_some_and(|state| {
                matches!(
                    state,
                    State::Running { .. }
                        | State::Proving { .. }
                        | State::Settling { .. }
                        | State::Preparing { .. }
                        | State::Sweeping { .. }
                        | State::Retrying { .. }
                )
            })
        };
        if known.required_by.is_empty() {
            return;
        }
        let left = known.required_by.iter().find(up).copied();
        self.hold(25, left.is_none(), || format!("{left:?} goes on without {id:?}"));
    }

    /// What is true of a program whatever happened: I-8, I-11, I-25, I-42, I-47, I-51.
    pub(super) fn look_at(&mut self, id: ProgramId, run: RunId) {
        let Some(slot) = self.engine.slot(id) else { return };
        let limit = slot.program.restart.start_limit.as_ref();
        let starts = slot.history.starts.len();
        let running = match slot.state {
            State::Running { life } => Some((life.run, life.pid)),
            _ => None,
        };
        let burst = limit.map_or(0, |l| usize::try_from(l.burst).unwrap());
        let known = &self.known[id.index()];
        let lost = self.alive(id).find(|(run, _)| !knows(slot, *run));
        let lost = lost.map(|(run, p)| (run, p.role));
        let exit = (slot.history.exit.map(|(exit, _)| exit), known.exit);
        let waits = known.bound && known.wanted && known.runs.is_empty();
        let word = slot.word();
        let stuck = knows(slot, run);
        if running.is_some() || !waits {
            let spared = lost.is_none();
            self.hold(11, spared, || format!("{lost:?} of {id:?} is not known"));
        } else {
            use mini_supervisor::control::StateWord::{Starting, Stopping, Waiting};
            let good = [Waiting, Starting, Stopping].contains(&word);
            self.hold(25, good, || format!("{id:?}, stopped with what it requires, is {word:?}"));
        }
        self.hold(47, starts <= burst.max(6), || format!("{starts} starts remembered"));
        self.hold(51, exit.0 == exit.1, || format!("{id:?}: its last exit is told as {exit:?}"));
        if let Some((run, pid)) = running {
            let of = self.instance(id);
            let good = of.is_some_and(|(of, p)| {
                of == run && p.pid == pid && p.role == Role::Main && p.spawned
            });
            self.hold(8, good, || format!("{id:?} is RUNNING without its process"));
        }
        if std::mem::take(&mut self.known[id.index()].died_late) {
            // A command beside it may live on.
            let good = !stuck || self.alive(id).next().is_some();
            self.hold(42, good, || format!("{id:?}: the late death of {run:?} is not shown"));
            self.revive = Some(id);
        }
    }
}

/// Whether the engine knows that this run may be alive.
fn knows(slot: &Slot, run: RunId) -> bool {
    let main = match &slot.state {
        State::Spawning { run, .. }
        | State::Sweeping { run, .. }
        | State::Emptying { run, .. }
        | State::Cleaning { run, .. } => Some(*run),
        _ => slot.life().map(|life| life.run),
    };
    main == Some(run)
        || slot.side.is_some_and(|side| side.run == run)
        || slot.probe.as_ref().is_some_and(|probe| probe.run == run)
}
