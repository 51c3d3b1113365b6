//! Programs that become ready late or never, and those that say that they are alive.

use std::{sync::Arc, time::Duration};

use mini_supervisor::{
    engine::{ChildEvent, Role, RunId, State},
    model::{Limit, Notice, ReadyBy, SaidPhase, Watchdog},
    plan::ProgramId,
};

use super::world::{Due, World};

fn alive() -> ChildEvent {
    let watchdog = Some(Watchdog::Alive);
    ChildEvent::Said(Arc::new(Notice { watchdog, ..Notice::default() }))
}

impl World {
    /// What a program that was just spawned will say, should it live; `delay` is when it executes.
    pub(super) fn speaks(&mut self, delay: Duration, run: RunId) {
        let id = self.procs[&run].program;
        let Some(of) = self.settings(id).cloned() else { return };
        if let Some(readiness) = &of.readiness {
            let limit = readiness.timeout.unwrap_or(of.start_timeout);
            let found = matches!(readiness.by, ReadyBy::Probe { .. });
            if !found && self.chance.is(self.faults.silent) {
                self.foresee(run, delay, limit);
                return;
            }
            let most = if self.peace { 1 } else { self.chance.of(&[1, 1000, 1000, 90_000]) };
            let takes = Duration::from_millis(self.chance.below(most));
            // Perhaps it is quicker than the news that it executes.
            let at = if self.chance.is(10) { takes.min(delay) } else { delay + takes };
            let phase = Some(SaidPhase::Ready);
            let what = match readiness.by {
                ReadyBy::Notify => {
                    Some(ChildEvent::Said(Arc::new(Notice { phase, ..Notice::default() })))
                }
                ReadyBy::Fd(_) => Some(ChildEvent::Ready),
                // It is looked at.
                ReadyBy::Probe { .. } => None,
            };
            self.foresee(run, delay, limit);
            if let Some(what) = what {
                self.child(at, run, what);
            }
        }
        if let Limit::After(often) = of.watchdog {
            self.child(delay + often / 2, run, alive());
        }
    }

    /// Should it not be ready by then, it is to be stopped.
    fn foresee(&mut self, run: RunId, delay: Duration, limit: Limit) {
        let Limit::After(limit) = limit else { return };
        let id = self.procs[&run].program;
        let by = self.now + delay + limit + self.patience(id) + self.command_patience(id);
        let by = by + Duration::from_secs(1);
        if let Some(p) = self.procs.get_mut(&run).filter(|p| p.stop_by.is_none()) {
            (p.stop_by, p.foreseen) = (Some(by), true);
            self.due.insert((by, Due::Stop(run)));
        }
    }

    /// It is ready in time, or nobody waits for it any more.
    pub(super) fn becomes_ready(&mut self, run: RunId) {
        if let Some(p) = self.procs.get_mut(&run).filter(|p| !p.exited) {
            p.ready = true;
            if p.foreseen && p.asked.is_none() {
                (p.stop_by, p.foreseen) = (None, false);
            }
        }
    }

    pub(super) fn says(&mut self, run: RunId, notice: &Notice) {
        if notice.phase == Some(SaidPhase::Ready) {
            self.becomes_ready(run);
        }
        if notice.watchdog.is_none() {
            return;
        }
        let Some(p) = self.procs.get(&run).filter(|p| !p.exited && p.role == Role::Main) else {
            return;
        };
        let id = p.program;
        let (asked, changed, late) = (p.asked.is_some(), p.changed, p.foreseen);
        let up = self.known[id.index()].up;
        let Some(Limit::After(often)) = self.settings(id).map(|of| of.watchdog) else { return };
        if up && !asked && !changed && !late && self.chance.is(self.faults.silent) {
            self.procs.get_mut(&run).unwrap().silent = true;
            self.foresee(run, Duration::ZERO, Limit::After(often));
        } else {
            self.child(often / 2, run, alive());
        }
    }

    /// I-37: who says that he is alive is let live.
    pub(super) fn judge_unfed(&mut self, id: ProgramId) {
        let main = self.instance(id).map(|(_, p)| p.silent || p.changed);
        let good = main.unwrap_or(true) || self.stood_still;
        self.hold(37, good, || format!("{id:?} is aborted although it says that it is alive"));
    }

    /// What was foreseen of a program that is asked to end when nobody needs it any more: then its
    /// time begins.
    pub(super) fn is_put_off(&mut self, run: RunId) -> bool {
        let Some(p) = self.procs.get(&run) else { return false };
        let state = self.engine.slot(p.program).map(|slot| &slot.state);
        let drains = matches!(state, Some(State::Draining { life, .. }) if life.run == run);
        if drains && let Some(p) = self.procs.get_mut(&run) {
            (p.stop_by, p.foreseen) = (None, false);
        }
        drains
    }
}
