//! Looks at the health of programs: what they find, and that what follows is what was found.

use std::{sync::Arc, time::Duration};

use mini_supervisor::{
    engine::{Event, ProbeOf, Role, RunId, StopWhy, What},
    model::{HealthCheck, OnUnhealthy, Probe, Program, Sample},
    plan::ProgramId,
};

use super::{draw::Chance, known::is_oneshot, world::World};
use mini_supervisor::model::Instant;

/// A look that is under way.
#[derive(Clone, Debug)]
pub(super) struct Look {
    program: ProgramId,
    /// At which life, by which settings.
    main: RunId,
    of: Arc<HealthCheck>,
    began: Instant,
}

/// What looks at one life by the same settings have found.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    main: RunId,
    of: Arc<HealthCheck>,
    since: Instant,
    /// Nothing was found yet.
    fresh: bool,
    /// Bad ones in a row that count.
    row: u32,
    pub(super) healthy: bool,
    unhealthy: bool,
}

/// Of some programs.
pub(super) fn draw_health(p: &Program, chance: &mut Chance) -> Option<Arc<HealthCheck>> {
    if is_oneshot(p) || !chance.is(25) {
        return None;
    }
    let probe = if chance.is(40) {
        Probe::Command(Box::new(["look".into()]))
    } else {
        Probe::Tcp("localhost:1".into())
    };
    Some(Arc::new(HealthCheck {
        probe,
        interval: Duration::from_secs(chance.of(&[1, 5, 30])),
        timeout: Duration::from_secs(1 + chance.below(5)),
        retries: u32::try_from(1 + chance.below(3)).unwrap(),
        start_period: Duration::from_secs(chance.of(&[0, 0, 10, 60])),
        on_failure: chance.of(&[
            OnUnhealthy::Restart,
            OnUnhealthy::Restart,
            OnUnhealthy::Stop,
            OnUnhealthy::None,
        ]),
    }))
}

impl World {
    /// A thread is to look.
    pub(super) fn probes(&mut self, id: ProgramId, run: RunId, of: ProbeOf) {
        if of == ProbeOf::Readiness {
            return self.proves(id, run);
        }
        self.look_begins(id, run);
        let Some(limit) = self.looks.get(&run).map(|look| look.of.timeout) else { return };
        if !self.peace && self.chance.is(5) {
            return; // it hangs
        }
        let most = if self.peace { 50 } else { 1500 * limit.as_secs() };
        let delay = Duration::from_millis(self.chance.below(most));
        let sick = if self.peace { 0 } else { self.faults.sick };
        let sample = match self.chance.below(100) {
            n if n >= sick => Sample::Good,
            n if n % 4 == 0 => Sample::Unknown("blind".into()),
            _ => Sample::Bad("sick".into()),
        };
        self.at(delay, Event::Probed { program: id, run, sample });
    }

    /// I-8: whether it is ready is looked at while it runs and is not known to be.
    fn proves(&mut self, id: ProgramId, run: RunId) {
        let main = self.instance(id).filter(|(_, p)| p.role == Role::Main && p.spawned);
        let main = main.map(|(main, p)| (main, p.ready || p.exited));
        self.hold(8, matches!(main, Some((_, false))), || {
            format!("{id:?} is looked at whether it is ready: {main:?}")
        });
        let Some((main, _)) = main else { return };
        self.proofs.insert(run, main);
        if !self.peace && self.chance.is(self.faults.silent) {
            return; // it hangs
        }
        let sample = match self.chance.below(4) {
            0 if !self.peace => Sample::Bad("not yet".into()),
            1 if !self.peace => Sample::Unknown("blind".into()),
            _ => Sample::Good,
        };
        let most = if self.peace { 50 } else { 8000 };
        let delay = Duration::from_millis(self.chance.below(most));
        self.at(delay, Event::Probed { program: id, run, sample });
    }

    /// I-62: one look at a time, and only at what is up.
    pub(super) fn look_begins(&mut self, id: ProgramId, run: RunId) {
        let other = self.looks.iter().find(|(_, look)| look.program == id).map(|(run, _)| *run);
        self.hold(62, other.is_none(), || format!("{id:?} is looked at twice: {other:?}"));
        let main = self.instance(id).filter(|(_, p)| p.role == Role::Main && p.spawned);
        // By other settings it is to start again, and may be what is looked at.
        let changed = main.is_some_and(|(_, p)| p.changed);
        let main = main.map(|(main, _)| main);
        let (now, known) = (self.now, &mut self.known[id.index()]);
        let of = known.settings.as_ref().and_then(|of| of.health.clone());
        let up = known.up || changed;
        self.hold(62, up && main.is_some() && of.is_some(), || {
            format!("{id:?} is looked at, up {up}, {main:?}, {of:?}")
        });
        let (Some(main), Some(of)) = (main, of) else { return };
        let known = &mut self.known[id.index()];
        if !known.tally.as_ref().is_some_and(|tally| tally.main == main && tally.of == of) {
            let (since, of) = (known.up_since, Arc::clone(&of));
            let (fresh, row, healthy, unhealthy) = (true, 0, false, false);
            known.tally = Some(Tally { main, of, since, fresh, row, healthy, unhealthy });
        }
        self.looks.insert(run, Look { program: id, main, of, began: now });
    }

    /// Nobody waits for it any more; its answer may come all the same.
    pub(super) fn probe_no_more(&mut self, run: RunId) {
        self.proofs.remove(&run);
        if let Some(look) = self.looks.remove(&run) {
            self.old_looks.push_back((look.program, run));
            self.old_looks.truncate(20);
            if let Some(tally) = &mut self.known[look.program.index()].tally {
                tally.fresh = false;
            }
        }
    }

    /// What was found, if it is still of what runs now. Called before the engine hears of it.
    pub(super) fn found(&mut self, run: RunId, sample: &Sample) {
        if let Some(main) = self.proofs.remove(&run).filter(|_| *sample == Sample::Good) {
            self.becomes_ready(main);
        }
        let Some(look) = self.looks.remove(&run) else { return };
        let id = look.program;
        self.old_looks.push_back((id, run));
        self.old_looks.truncate(20);
        let main = self.instance(id).filter(|(main, p)| *main == look.main && !p.exited);
        let same = main.is_some();
        let known = &mut self.known[id.index()];
        let present = known.settings.as_ref().and_then(|of| of.health.as_ref());
        let same = same && known.up && present == Some(&look.of);
        let Some(tally) = known.tally.as_mut().filter(|tally| same && tally.main == look.main)
        else {
            return;
        };
        let early = tally.fresh || look.began <= tally.since + look.of.start_period;
        tally.fresh = false;
        match sample {
            Sample::Unknown(_) => {}
            Sample::Good => (tally.row, tally.healthy, tally.unhealthy) = (0, true, false),
            Sample::Bad(_) if early && !tally.healthy && !tally.unhealthy => {}
            Sample::Bad(_) => tally.row += 1,
        }
        self.sampled.push(id);
    }

    /// A command that looks is killed while it runs: its time is over, or nobody wants to know.
    pub(super) fn look_is_killed(&mut self, run: RunId, executes: bool) {
        let over = |look: &Look| look.began + look.of.timeout <= self.now;
        if !self.looks.get(&run).is_some_and(over) {
            return self.probe_no_more(run);
        }
        let late = if executes { Sample::Bad("late".into()) } else { Sample::Unknown("".into()) };
        self.found(run, &late);
    }

    /// I-62: a line about its health is what was found.
    pub(super) fn told_of_health(&mut self, id: ProgramId, what: &What) {
        let tally = self.known[id.index()].tally.clone();
        let most = tally.as_ref().map_or(0, |tally| tally.of.retries);
        match what {
            What::Unhealthy { failures, .. } => {
                let good = tally.as_ref().is_some_and(|t| !t.unhealthy && t.row >= most);
                let same = tally.as_ref().is_some_and(|t| t.row == *failures);
                self.hold(62, good && same, || format!("{id:?} is told as unhealthy: {tally:?}"));
                if let Some(tally) = &mut self.known[id.index()].tally {
                    (tally.healthy, tally.unhealthy) = (false, true);
                }
            }
            What::Healthy { .. } => {
                let good = tally.as_ref().is_some_and(|tally| tally.healthy);
                self.hold(62, good, || format!("{id:?} is told as healthy: {tally:?}"));
            }
            What::Stopping { why: StopWhy::Unhealthy(_) } => {
                let acts = |tally: &Tally| tally.of.on_failure != OnUnhealthy::None;
                let good = tally.as_ref().is_some_and(|tally| tally.unhealthy && acts(tally));
                self.hold(62, good, || format!("{id:?} is stopped for its health: {tally:?}"));
            }
            _ => {}
        }
    }

    /// I-62, the other half: what is too much is told at once.
    pub(super) fn judge_health(&mut self) {
        while let Some(id) = self.sampled.pop() {
            let looked_at = self.engine.slot(id).is_some_and(|slot| slot.health.is_some());
            let Some(tally) = self.known[id.index()].tally.clone().filter(|_| looked_at) else {
                continue;
            };
            let good = tally.unhealthy || tally.row < tally.of.retries;
            self.hold(62, good, || format!("{id:?} is unhealthy, and nobody says so: {tally:?}"));
        }
    }

    /// Whether it is healthy, as far as looks have shown.
    pub(super) fn is_healthy(&self, id: ProgramId) -> bool {
        let known = &self.known[id.index()];
        let Some(of) = known.settings.as_ref().and_then(|of| of.health.as_ref()) else {
            return known.up;
        };
        let main = self.instance(id).map(|(main, _)| main);
        let of_this = |t: &Tally| t.of == *of && Some(t.main) == main;
        known.up && known.tally.as_ref().is_some_and(|t| t.healthy && of_this(t))
    }
}
