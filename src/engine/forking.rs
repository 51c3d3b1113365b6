//! A program of `type: forking`: its command starts a daemon and ends; the daemon is the program.
#![expect(clippy::needless_pass_by_value, reason = "each step takes the input that it uses up")]

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Action, Again, Cause, ChildEvent, Ended, Life, Record, Role, Scope, Slot, State, StopWhy, What,
    machine::{Cx, Input},
};
use crate::model::{Exit, ProgramType, Signal};

/// How far a program that forks is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fork {
    /// The command that starts it runs.
    Starting,
    /// The command has ended well; the daemon is looked for.
    Looking {
        /// Why it is not known yet.
        why: Option<Arc<str>>,
    },
}

impl Slot {
    /// Whether the command of it only starts a daemon.
    pub(super) fn forks(&self) -> bool {
        matches!(self.program.kind, ProgramType::Forking { .. })
    }

    /// Whether its daemon is looked for, among the processes of this run.
    #[must_use]
    pub fn is_looked_for(&self, run: super::RunId) -> bool {
        let found = |life: &Life| life.run == run;
        matches!(&self.state, State::Forking { life, fork: Fork::Looking { .. } } if found(life))
    }

    pub(super) fn when_forking(
        &mut self,
        life: Life,
        fork: Fork,
        input: Input,
        cx: &mut Cx<'_>,
    ) -> State {
        match fork {
            Fork::Starting => self.when_starter_runs(life, input, cx),
            Fork::Looking { why } => self.when_looked_for(life, why, input, cx),
        }
    }

    fn when_starter_runs(&mut self, life: Life, input: Input, cx: &mut Cx<'_>) -> State {
        match input {
            Input::Stop(why) => self.begin_stop(life, why, cx),
            Input::Kill(why) => self.begin_kill(life, why, cx),
            Input::Deadline if self.is_late(cx) => {
                cx.out.record(Record::of(self, What::TimedOut { role: Role::Main }));
                self.begin_stop(life, StopWhy::StartTimeout, cx)
            }
            Input::Child(of, ChildEvent::Exited(Exit::Code(0))) if of == life.run => {
                cx.out.push(Action::FindMain { program: self.id, run: life.run });
                State::Forking { life, fork: Fork::Looking { why: None } }
            }
            Input::Child(of, ChildEvent::Exited(exit)) if of == life.run => {
                let lived = cx.now.since(life.started);
                self.history.exit = Some((exit, cx.wall));
                cx.out.record(Record::of(self, What::Exited { exit, lived }));
                // However it ended: there is no daemon.
                let cause = Cause::NoMain(format!("its command: {exit}").into());
                self.empty(life.run, cause, Some(lived), cx)
            }
            Input::Start | Input::GateOpen | Input::Free | Input::Deadline | Input::Child(..) => {
                State::Forking { life, fork: Fork::Starting }
            }
        }
    }

    fn when_looked_for(
        &mut self,
        life: Life,
        why: Option<Arc<str>>,
        input: Input,
        cx: &mut Cx<'_>,
    ) -> State {
        match input {
            Input::Child(of, ChildEvent::Main { pid }) if of == life.run => {
                self.started(Life { pid, ..life }, cx)
            }
            Input::Child(of, ChildEvent::NoMain(now)) if of == life.run => {
                State::Forking { life, fork: Fork::Looking { why: Some(now) } }
            }
            Input::Child(of, ChildEvent::TreeEmpty) if of == life.run => {
                let why = why.unwrap_or_else(|| "nothing is known of it".into());
                let text = format!("the command has left no process behind ({why})").into();
                self.ended(Cause::NoMain(text), Some(cx.now.since(life.started)), cx)
            }
            Input::Stop(why) => self.abandon(life, Cause::Stopped(why, None), Signal::TERM, cx),
            Input::Kill(why) => self.abandon(life, Cause::Stopped(why, None), Signal::KILL, cx),
            Input::Deadline if self.is_late(cx) => {
                cx.out.record(Record::of(self, What::TimedOut { role: Role::Main }));
                let why = why.unwrap_or_else(|| "nothing is known of it".into());
                let cause = Cause::NoMain(format!("its daemon was not found: {why}").into());
                self.abandon(life, cause, Signal::TERM, cx)
            }
            Input::Start | Input::GateOpen | Input::Free | Input::Deadline | Input::Child(..) => {
                State::Forking { life, fork: Fork::Looking { why } }
            }
        }
    }

    /// Whether nobody knows yet which of its processes is the program.
    pub(super) fn has_no_main(&self) -> bool {
        self.forks() && self.main.is_none()
    }

    fn is_late(&self, cx: &Cx<'_>) -> bool {
        let limit = self.said.later(self.program.start_timeout.from(self.attempt_at));
        limit.is_some_and(|at| at <= cx.now)
    }

    /// Ends whatever the command has left, be it the daemon or not: which of them it is, nobody
    /// knows, so all of them are asked.
    fn abandon(&mut self, life: Life, cause: Cause, signal: Signal, cx: &mut Cx<'_>) -> State {
        if let Cause::Stopped(why, _) = cause {
            let what = match signal {
                Signal::KILL => What::Killing { why },
                _ => What::Stopping { why },
            };
            cx.out.record(Record::of(self, what));
        }
        cx.signal(self, life.run, signal, Scope::Tree);
        let again = match signal {
            Signal::KILL => Again::first(cx.now),
            _ => Again::after(self.patience(), cx.now),
        };
        let ended = Ended { cause, lived: Some(cx.now.since(life.started)) };
        State::Emptying { run: life.run, ended, again, empty: false }
    }
}
