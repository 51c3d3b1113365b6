//! What a start and a signal must not be.

use mini_supervisor::{
    engine::{Role, RunId, Scope, Slot, State, StopWhy},
    model::{Condition, Limit, Signal},
    plan::{EdgeKind, ProgramId},
};

use super::world::World;

impl World {
    /// I-1, I-2, I-6, I-7, I-22, I-31, I-32, I-38: a start.
    pub(super) fn judge_start(&mut self, id: ProgramId, run: RunId, role: Role) {
        let others = self
            .procs
            .iter()
            .filter(|(of, p)| **of != run && p.program == id)
            .filter(|(_, p)| matches!(p.role, Role::Main | Role::StartPre(_)) && !p.left);
        let others = others.count();
        self.hold(1, others == 0, || format!("{id:?} is spawned beside {others} of its own"));
        let wanted = self.wanted(id) || self.stop_now;
        self.hold(7, wanted, || format!("{id:?} is spawned though it is to be down"));
        let down = self.known.get(&id).is_some_and(|k| k.asked_down);
        self.hold(6, !down, || format!("{id:?} is spawned after its stop"));
        let (now, stopping) = (self.now, self.stopping.is_some() && !self.stop_now);
        self.hold(38, !stopping, || format!("{id:?} is spawned in a shutdown"));
        self.known.entry(id).or_default().lived = None;
        let Some(slot) = self.engine.slot(id) else { return };
        let first = match role {
            Role::StartPre(index) => index == 0,
            Role::Main
            | Role::StartPost(_)
            | Role::StopPost(_)
            | Role::StopCommand
            | Role::ReloadCommand => slot.program.start_pre.is_empty(),
        };
        if !first || self.stop_now || slot.attempt_at != now {
            return;
        }
        let missing = slot.edges.needs.iter().find(|edge| {
            let up = self.engine.slot(edge.target).is_some_and(Slot::is_ready);
            edge.kind == EdgeKind::Requires && edge.condition == Condition::Ready && !up
        });
        let missing =
            missing.map(|e| (e.target, self.engine.slot(e.target).map(|s| s.state.clone())));
        let limit = slot.program.restart.start_limit.clone();
        let alone = slot.edges.needs.is_empty();
        let retrying = matches!(slot.state, State::Spawning { tried: Some(_), .. });
        self.hold(22, missing.is_none(), || format!("{id:?} is spawned without {missing:?}"));
        let known = self.known.entry(id).or_default();
        let early = known.retry_at.is_some_and(|at| at > now);
        let given_up = known.given_up && known.retry_at.is_none();
        known.given_up = false;
        if !retrying {
            known.starts.push(now);
        }
        if known.starts.len() > 50 {
            known.starts.remove(0);
        }
        let starts = known.starts.clone();
        self.hold(32, !given_up, || format!("{id:?} is spawned after it was given up"));
        self.hold(35, !early, || format!("{id:?} is spawned before its time"));
        if let Some(limit) = limit.filter(|_| alone) {
            let recent = starts.iter().filter(|at| now - **at < limit.interval).count();
            let most = usize::try_from(limit.burst).unwrap();
            self.hold(31, recent <= most, || format!("{id:?}: {recent} starts of {most}"));
        }
    }

    /// I-4, I-5, I-23, I-37: a signal.
    pub(super) fn judge_signal(&mut self, id: ProgramId, run: RunId, signal: Signal, scope: Scope) {
        let Some(p) = self.procs.get(&run).cloned() else {
            self.hold(4, false, || format!("{signal} to {run:?} of {id:?}, which is gone"));
            return;
        };
        let fits = scope == Scope::Tree || !p.reaped;
        self.hold(4, fits, || format!("{signal} to the reaped main process of {id:?}"));
        self.hold(5, p.program == id, || format!("{signal} to another program than {id:?}"));
        if p.role != Role::Main || p.reaped {
            return;
        }
        if !p.spawned {
            // What has not executed in time is killed, and may have executed just then.
            self.procs.get_mut(&run).unwrap().forced |= signal == Signal::KILL;
            return;
        }
        let Some(slot) = self.engine.slot(id) else { return };
        let ladder = slot.program.stop.ladder.clone();
        let steps = ladder.iter().map(|step| match step.wait {
            Limit::After(wait) => wait,
            Limit::Never => std::time::Duration::MAX,
        });
        let patience = steps.fold(std::time::Duration::ZERO, std::time::Duration::saturating_add);
        let began = self.known.get(&id).and_then(|known| known.stop_began);
        let shutdown =
            matches!(slot.state, State::Stopping { .. }) && began == Some(StopWhy::Shutdown);
        let requirers: Vec<ProgramId> = slot
            .edges
            .needed_by
            .iter()
            .filter(|back| back.kind == EdgeKind::Requires)
            .map(|back| back.from)
            // A reload may have cut the edge: whoever has it knows.
            .filter(|from| {
                let of = self.engine.slot(*from);
                of.is_some_and(|s| s.edges.needs.iter().any(|edge| edge.target == id))
            })
            .collect();
        let forced = self.forced || self.known.get(&id).is_some_and(|k| k.forced);
        let state = format!("{:?}", slot.state);
        let polite = signal == Signal::TERM || signal == Signal::INT;
        let now = self.now;
        if polite && p.asked.is_none() {
            if shutdown && !forced {
                let alive = |of: &ProgramId| {
                    self.procs
                        .values()
                        .any(|p| p.program == *of && p.role == Role::Main && !p.reaped && p.spawned)
                };
                let alive = requirers.iter().find(|of| alive(of)).copied();
                self.hold(23, alive.is_none(), || format!("{id:?} is stopped before {alive:?}"));
            }
            if let Some(p) = self.procs.get_mut(&run) {
                p.asked = Some(now);
            }
        }
        if signal == Signal::KILL && !forced && !p.forced && !self.changed {
            let good = p.asked.is_some_and(|at| now - at >= patience);
            self.hold(37, good, || {
                format!("{id:?} is killed before its time: asked {:?}, {state}", p.asked)
            });
        }
    }
}
