//! A copy of a program that somebody has started by hand is taken on instead of a second one being
//! started: from then on it is the program.
//!
//! It is no child of ours. So its exit is [`Exit::Unknown`](crate::model::Exit::Unknown), which is
//! neither success nor failure, and what only a child can be given (its commands before and beside
//! it, environment, limits, pipes) it does not get.

use std::{sync::Arc, time::Duration};

use super::{
    Action, Cause, Claiming, Life, Record, RunId, Said, Slot, State, StopWhy, What, machine::Cx,
};
use crate::model::{Instant, OnDuplicate};

/// A copy that is the program now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoptee {
    /// Its process id.
    pub pid: u32,
    /// How long it has run.
    pub age: Duration,
    /// It, and who has started it, in words.
    pub who: Arc<str>,
}

impl Slot {
    /// Whether the process that runs is one that was adopted.
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.adopted.is_some() && self.adopted == self.present_run()
    }

    /// Whether one copy is taken on.
    pub(super) fn adopts(&self, cx: &Cx<'_>) -> bool {
        let single = self.program.single_instance.as_ref();
        single.is_some_and(|one| one.on_duplicate == OnDuplicate::Adopt) || cx.bugs.adopt_unasked
    }

    /// Takes on the one copy there is. It may be gone meanwhile: then there is another look.
    pub(super) fn adopt(&mut self, run: RunId, cx: &mut Cx<'_>) -> State {
        if cx.bugs.start_beside_the_copy {
            return self.begin_alone(cx);
        }
        cx.out.push(Action::Adopt { program: self.id, run });
        let until = cx.now + self.patience_of_a_look();
        State::Claiming { run, step: Claiming::Looking { until } }
    }

    /// It is the program, and up: nothing is known of it but that it runs.
    pub(super) fn is_adopted_now(&mut self, run: RunId, copy: &Adoptee, cx: &mut Cx<'_>) -> State {
        let age = u64::try_from(copy.age.as_nanos()).unwrap_or(u64::MAX);
        let started = Instant(cx.now.0.saturating_sub(age));
        (self.main, self.adopted) = (Some(run), Some(run));
        self.said = Said::nothing_in(run);
        self.sign(copy.pid, cx);
        cx.out.record(Record::of(self, What::Adopted { who: Arc::clone(&copy.who) }));
        self.up(Life { run, pid: copy.pid, started }, cx)
    }

    /// For a test fault: it is no longer asked after.
    pub(super) fn forget_the_adopted(
        &mut self,
        life: Life,
        why: StopWhy,
        cx: &mut Cx<'_>,
    ) -> Option<State> {
        let forgets = cx.bugs.forget_the_adopted && self.adopted == Some(life.run);
        forgets.then(|| self.ended(Cause::Stopped(why, None), None, cx))
    }
}
