//! A program that runs once at the most: before its start its lock is taken, and copies of it that
//! somebody else has started are looked for.
//!
//! Whoever takes the lock and looks is a thread of the shell and reports back. The lock is held
//! from then on until nothing of the run is alive.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Action, Adoptee, Again, Cause, Ended, FailureClass, Record, RunId, Slot, SpawnFailure, State,
    What,
    machine::{Cx, Input},
};
use crate::model::{Human, Instant, Limit, OnDuplicate, Signal};

/// How far a program is with its lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Claiming {
    /// The lock is being taken, and copies are being looked for.
    Looking {
        /// When it is no longer waited for.
        until: Instant,
    },
    /// Copies are being ended.
    Ending {
        /// Who they are, in words.
        who: Arc<str>,
        /// How often some were found.
        rounds: u8,
        /// When they are killed (again).
        again: Again,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The lock is ours, and there is no copy.
    Free,
    /// Somebody else has the lock; who, in words.
    Taken(Arc<str>),
    /// The lock is ours, but these copies run; in words.
    Copies(Arc<str>),
    /// The lock is ours, but one copy runs, which can be adopted; in words.
    Copy(Arc<str>),
    /// That copy is adopted: its end will be told.
    Adopted(Adoptee),
    /// It cannot be told, and why.
    Failed(Arc<str>),
}

/// Nothing waits longer than this for a look.
const LONGEST: Duration = Duration::from_secs(30);
/// What comes back so often when it is ended is started again by somebody.
const ROUNDS: u8 = 5;

impl Slot {
    /// Begins a start: alone, if it has to be.
    pub(super) fn begin(&mut self, cx: &mut Cx<'_>) -> State {
        if self.program.single_instance.is_none() || cx.bugs.start_without_the_lock {
            return self.begin_alone(cx);
        }
        let run = cx.run();
        self.claim = Some(run);
        cx.out.push(Action::Claim { program: self.id, run });
        let until = cx.now + self.patience_of_a_look();
        let state = State::Claiming { run, step: Claiming::Looking { until } };
        if cx.bugs.start_before_claimed { self.begin_alone(cx) } else { state }
    }

    /// The rest of its time is for the start itself.
    pub(super) fn patience_of_a_look(&self) -> Duration {
        match self.program.start_timeout {
            Limit::After(time) => LONGEST.min(time / 2),
            Limit::Never => LONGEST,
        }
    }

    pub(super) fn when_claiming(
        &mut self,
        (run, step): (RunId, Claiming),
        input: &Input,
        cx: &mut Cx<'_>,
    ) -> State {
        match (input, step) {
            (Input::Stop(why) | Input::Kill(why), _) => {
                self.not_begun(Cause::Stopped(*why, None), cx)
            }
            (Input::Deadline, Claiming::Looking { until }) if until <= cx.now => {
                let time = Human(self.patience_of_a_look());
                let text = format!("its lock was not to be had, nor copies of it found, in {time}");
                let class = FailureClass::Late;
                let failure = SpawnFailure { text: text.into(), class, code: 1 };
                self.not_begun(Cause::NotSpawned(failure), cx)
            }
            (Input::Deadline, Claiming::Ending { who, rounds, again })
                if again.at.is_some_and(|at| at <= cx.now) =>
            {
                if again.pause >= Duration::from_secs(16) {
                    let who = format!("{who}; SIGKILL does not end it").into();
                    return self.not_begun(Cause::Duplicate(who), cx);
                }
                if again.is_limit() {
                    cx.out.record(Record::of(self, What::CopiesKilled));
                }
                self.end_copies(run, Signal::KILL, cx);
                let step = Claiming::Ending { who, rounds, again: again.next(cx.now) };
                State::Claiming { run, step }
            }
            (
                Input::Start | Input::GateOpen | Input::Free | Input::Child(..) | Input::Deadline,
                step,
            ) => State::Claiming { run, step },
        }
    }

    fn end_copies(&self, run: RunId, signal: Signal, cx: &mut Cx<'_>) {
        cx.out.push(Action::EndCopies { program: self.id, run, signal });
    }

    /// Whether it may start; called by the engine.
    pub(super) fn claimed(&mut self, of: RunId, what: Claimed, cx: &mut Cx<'_>) {
        let State::Claiming { run, step } = &self.state else { return };
        if *run != of {
            return;
        }
        let (before, step) = (self.word(), step.clone());
        self.state = match what {
            Claimed::Free => self.begin_alone(cx),
            Claimed::Taken(_) if cx.bugs.start_without_asking => self.begin_alone(cx),
            Claimed::Taken(who) => self.not_begun(Cause::Duplicate(who), cx),
            Claimed::Copy(_) if self.adopts(cx) => self.adopt(of, cx),
            Claimed::Copies(who) | Claimed::Copy(who) => self.found(of, who, &step, cx),
            Claimed::Adopted(copy) => self.is_adopted_now(of, &copy, cx),
            Claimed::Failed(text) => {
                let failure = SpawnFailure { text, class: FailureClass::Own, code: 1 };
                self.not_begun(Cause::NotSpawned(failure), cx)
            }
        };
        if self.word() != before {
            self.since = (cx.now, cx.wall);
        }
    }

    /// Copies run that somebody else has started.
    fn found(&mut self, run: RunId, who: Arc<str>, step: &Claiming, cx: &mut Cx<'_>) -> State {
        let single = self.program.single_instance.as_ref();
        let replaces = single.is_some_and(|one| one.on_duplicate == OnDuplicate::Replace);
        if !replaces {
            return self.not_begun(Cause::Duplicate(who), cx);
        }
        let (rounds, again) = match *step {
            Claiming::Looking { .. } => (1, Again::after(self.patience(), cx.now)),
            Claiming::Ending { rounds, again, .. } if rounds < ROUNDS => (rounds + 1, again),
            Claiming::Ending { .. } => {
                let who = format!("{who}; it comes back when it is ended").into();
                return self.not_begun(Cause::Duplicate(who), cx);
            }
        };
        cx.out.record(Record::of(self, What::CopiesEnded { who: Arc::clone(&who) }));
        let signal = if again.is_limit() { Signal::TERM } else { Signal::KILL };
        self.end_copies(run, signal, cx);
        State::Claiming { run, step: Claiming::Ending { who, rounds, again } }
    }

    /// A start ends before anything of it was executed: there is nothing to clean up after, and
    /// what there is may belong to whoever runs.
    fn not_begun(&mut self, cause: Cause, cx: &mut Cx<'_>) -> State {
        self.let_go(cx);
        self.follow(Ended { cause, lived: None }, cx)
    }

    /// Nothing of it is alive: its lock is given back.
    pub(super) fn let_go(&mut self, cx: &mut Cx<'_>) {
        self.adopted = None;
        if self.claim.take().is_some() && !cx.bugs.keep_the_lock {
            cx.out.push(Action::Unclaim(self.id));
        }
    }

    /// Who it is, for its lock and its PID file.
    pub(super) fn sign(&self, pid: u32, cx: &mut Cx<'_>) {
        if self.claim.is_some() {
            cx.out.push(Action::Sign { program: self.id, pid });
        }
    }

    /// For a test fault: while processes of it live.
    pub(super) fn let_go_of_the_living(&mut self, cx: &mut Cx<'_>) {
        if cx.bugs.let_go_of_the_living {
            self.let_go(cx);
        }
    }
}
