//! What clients wait for: when it is done, and how it went.

use serde::{Deserialize, Serialize};

use super::{Action, Actions, At, Engine, Goal, Slot, State};
use crate::{
    control::{Outcome, ProgramOutcome, Reply, RequestId, StateWord},
    model::Instant,
    plan::ProgramId,
};

/// A change that a client waits for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Operation {
    pub(super) verb: Verb,
    /// Each target, with the number of its attempts when the operation began.
    pub(super) targets: Vec<(ProgramId, u64)>,
    /// Those that were down already, when it is a stop.
    pub(super) idle: Vec<ProgramId>,
    /// When the client no longer wants to wait.
    pub(super) until: Option<Instant>,
    /// What was shown last.
    pub(super) shown: Vec<StateWord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Verb {
    Start,
    Stop,
    Restart,
    /// Stop, and then what was left behind is ended. It goes on when its client is gone.
    KillAll,
}

impl Engine {
    /// Answers what is done, and shows the others how far they are.
    pub(super) fn finish_operations(&mut self, at: At, out: &mut Actions) {
        let mut moved = Vec::new();
        for (id, operation) in &self.operations {
            let slots =
                || operation.targets.iter().filter_map(|(t, mark)| Some((self.slot(*t)?, *mark)));
            let settled = slots().all(|(slot, mark)| is_settled(operation.verb, slot, mark));
            let words = || slots().map(|(slot, _)| slot.word());
            let waits = operation.until != Some(at.now);
            if settled || (waits && !words().eq(operation.shown.iter().copied())) {
                moved.push((*id, (!settled).then(|| words().collect())));
            }
        }
        for (id, shown) in moved {
            let Some(operation) = self.operations.get(&id) else { continue };
            if let Some(shown) = shown {
                let targets = operation.targets.iter().map(|(t, _)| *t).collect();
                out.push(Action::Progress(id, targets));
                if let Some(operation) = self.operations.get_mut(&id) {
                    operation.shown = shown;
                }
                continue;
            }
            if operation.verb == Verb::KillAll {
                out.push(Action::EndTheRest(id));
                self.operations.remove(&id);
                continue;
            }
            let reply = Reply::Outcome(self.outcome_of(operation, true));
            if !self.bugs.lose_the_answer || operation.verb != Verb::Restart {
                out.reply(id, reply);
            }
            self.operations.remove(&id);
        }
    }

    /// Answers those whose patience is over; what they asked for goes on.
    pub(super) fn operations_due(&mut self, at: At, out: &mut Actions) {
        let due: Vec<RequestId> = self
            .operations
            .iter()
            .filter(|(_, op)| op.until.is_some_and(|until| until <= at.now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            match self.operations.remove(&id) {
                Some(operation) if operation.verb == Verb::KillAll => {
                    out.push(Action::EndTheRest(id));
                }
                Some(operation) => {
                    out.reply(id, Reply::Outcome(self.outcome_of(&operation, false)));
                }
                None => {}
            }
        }
    }

    /// The client is gone: nobody is answered. What it began goes on.
    pub(super) fn operation_gone(&mut self, id: RequestId) {
        let ends = |op: &Operation| op.verb == Verb::KillAll;
        if !self.operations.get(&id).is_some_and(ends) {
            self.operations.remove(&id);
        }
    }

    /// The site is down: whoever still waits is answered.
    pub(super) fn end_operations(&mut self, out: &mut Actions) {
        for (id, operation) in std::mem::take(&mut self.operations) {
            if operation.verb == Verb::KillAll {
                continue; // answered when the rest has ended, too
            }
            out.reply(id, Reply::Outcome(self.outcome_of(&operation, false)));
        }
    }

    /// Whether a stop finds nothing to do.
    pub(super) fn is_idle(&self, id: ProgramId) -> bool {
        let down = |slot: &Slot| matches!(slot.state, State::Stopped | State::Exited { .. });
        self.slot(id).is_some_and(down)
    }

    fn outcome_of(&self, operation: &Operation, complete: bool) -> Outcome {
        let one = |(id, mark): &(ProgramId, u64)| {
            let slot = self.slot(*id)?;
            let mut entry = outcome(slot);
            entry.reason = self.reason(slot);
            if operation.idle.contains(id) && slot.word() == StateWord::Stopped {
                "nothing to stop".clone_into(&mut entry.reason);
            }
            entry.ok = is_settled(operation.verb, slot, *mark)
                && match operation.verb {
                    Verb::Stop | Verb::KillAll => slot.goal != Goal::Up,
                    Verb::Start | Verb::Restart => {
                        slot.is_ready() || slot.word() == StateWord::Running
                    }
                };
            Some(entry)
        };
        Outcome { programs: operation.targets.iter().filter_map(one).collect(), complete }
    }
}

pub(super) fn outcome(slot: &Slot) -> ProgramOutcome {
    ProgramOutcome {
        name: slot.program.name.as_str().to_owned(),
        ok: true,
        state: slot.word(),
        reason: String::new(),
    }
}

/// The attempts that a restart does not count as its own: one that has spawned nothing yet is good.
pub(super) fn mark(slot: &Slot) -> u64 {
    let begun = matches!(slot.state, State::Waiting { .. } | State::Retrying { .. });
    slot.history.attempts.saturating_sub(u64::from(begun))
}

fn is_settled(verb: Verb, slot: &Slot, mark: u64) -> bool {
    match verb {
        Verb::Stop | Verb::KillAll => match slot.word() {
            StateWord::Stopped | StateWord::Exited | StateWord::Fatal => true,
            // Wanted up again meanwhile: this stop is over.
            StateWord::Waiting
            | StateWord::Starting
            | StateWord::Running
            | StateWord::Backoff
            | StateWord::Stopping => slot.goal == Goal::Up,
        },
        Verb::Start => is_up_or_failed(slot),
        Verb::Restart => {
            // Wanted down meanwhile: this restart is over.
            slot.goal != Goal::Up || (slot.history.attempts > mark && is_up_or_failed(slot))
        }
    }
}

fn is_up_or_failed(slot: &Slot) -> bool {
    match slot.word() {
        StateWord::Running => !slot.is_oneshot(),
        StateWord::Stopped | StateWord::Backoff | StateWord::Exited | StateWord::Fatal => true,
        StateWord::Waiting | StateWord::Starting | StateWord::Stopping => false,
    }
}
