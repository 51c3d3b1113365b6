//! From started to ready, where that is not the same: a program says so, or it is found out.

use std::sync::Arc;

use super::{
    Cause, ChildEvent, Life, Record, Slot, State, StopWhy, What,
    machine::{Cx, Input},
    restart,
};
use crate::model::{Exit, Instant};

impl Slot {
    /// The program runs: it is ready, or that is waited for.
    pub(super) fn prove(&mut self, life: Life, cx: &mut Cx<'_>) -> State {
        let Some(readiness) = self.program.readiness.as_deref() else {
            return self.settle(life, 0, cx);
        };
        if self.said.is_ready(life.run) || cx.bugs.started_is_ready {
            return self.settle(life, 0, cx);
        }
        let until = match readiness.timeout {
            Some(limit) => limit.from(life.started),
            None => self.program.start_timeout.from(self.attempt_at),
        };
        State::Proving { life, until: until.filter(|_| !cx.bugs.wait_for_ever), why: None }
    }

    pub(super) fn when_proving(
        &mut self,
        (life, until, why): (Life, Option<Instant>, Option<Arc<str>>),
        input: Input,
        cx: &mut Cx<'_>,
    ) -> State {
        match input {
            Input::Child(of, ChildEvent::Ready) if of == life.run => self.settle(life, 0, cx),
            Input::Child(of, ChildEvent::Unready(now)) if of == life.run => {
                if why.as_ref() != Some(&now) {
                    cx.out.record(Record::of(self, What::NotReady { why: Arc::clone(&now) }));
                }
                State::Proving { life, until, why: Some(now) }
            }
            // Nobody was told that it is there, but by `@started`.
            Input::Stop(why) => State::Draining { life, why },
            Input::Kill(why) => self.begin_kill(life, why, cx),
            Input::Child(of, ChildEvent::Exited(exit)) if of == life.run => {
                self.exited_unready(life, exit, cx)
            }
            Input::Deadline if self.said.later(until).is_some_and(|at| at <= cx.now) => {
                let own = self.program.readiness.as_deref().is_some_and(|r| r.timeout.is_some());
                let after = cx.now.since(if own { life.started } else { self.attempt_at });
                cx.out.record(Record::of(self, What::Late { after }));
                self.history.unhealthy = why;
                self.begin_stop(life, StopWhy::NotReady, cx)
            }
            Input::Start | Input::GateOpen | Input::Free | Input::Deadline | Input::Child(..) => {
                State::Proving { life, until, why }
            }
        }
    }

    /// It has ended before it was ready: however well, that is a failure.
    fn exited_unready(&mut self, life: Life, exit: Exit, cx: &mut Cx<'_>) -> State {
        let lived = cx.now.since(life.started);
        self.history.exit = Some((exit, cx.wall));
        cx.out.record(Record::of(self, What::Exited { exit, lived }));
        let ended = super::Ended { cause: Cause::Exit(exit), lived: Some(lived) };
        let cause = match restart::classify(&self.program, &ended) {
            restart::Class::Clean => Cause::Unready(exit),
            restart::Class::UncleanCode
            | restart::Class::UncleanSignal
            | restart::Class::Timeout
            | restart::Class::Watchdog
            | restart::Class::Unknown => ended.cause,
        };
        self.empty(life.run, cause, Some(lived), cx)
    }
}
