//! `kill-all`: every program is stopped; then the shell ends what they have left behind.

use std::time::Duration;

use super::{
    Action, Actions, At, Engine, Record, What,
    outcome::{Operation, Verb, mark},
    requests::refuse,
};
use crate::{
    control::{KillAll, Peer, RefusalCode, RequestId},
    plan::ProgramId,
};

/// The budget of a container is short, as it is killed itself then: not so here.
const LEAST: Duration = Duration::from_secs(90);

impl Engine {
    /// Stops all programs in order, for at most the time that a stop of the site may take.
    pub(super) fn kill_all(
        &mut self,
        id: RequestId,
        peer: Peer,
        order: KillAll,
        at: At,
        out: &mut Actions,
    ) {
        if let Some(refusal) = self.refusal_while_stopping() {
            return out.reply(id, refusal);
        }
        if !order.confirmed {
            let message = "end every process of the site?".to_owned();
            return out.reply(id, refuse(RefusalCode::NeedsConfirmation, message, None));
        }
        out.record(Record::site(What::Asked { peer, verb: "kill-all".into(), names: "".into() }));
        // Before anything is signalled: whoever is there now is to be accounted for.
        out.push(Action::KillAllBegins(id));
        let all: Vec<ProgramId> = self.programs().map(|slot| slot.id).collect();
        let slots = all.iter().filter_map(|one| self.slot(*one));
        let targets = slots.map(|slot| (slot.id, mark(slot))).collect();
        let until = Some(at.now + self.budget().max(LEAST));
        let (verb, idle, shown) = (Verb::KillAll, Vec::new(), Vec::new());
        let operation = Operation { verb, targets, idle, until, shown };
        self.operations.insert(id, operation);
        self.stop_by_hand(&all, false, at, out);
    }
}
