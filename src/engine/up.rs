//! The way up of one program: `start_pre`, the main process, `start_post`, up.
#![expect(clippy::needless_pass_by_value, reason = "each step takes the input that it uses up")]

use super::{
    Again, Cause, ChildEvent, Ended, Life, Record, Role, RunId, Scope, Slot, State, StopWhy, What,
    machine::{Cx, Input},
};
use crate::model::{Exit, Instant, Signal};

impl Slot {
    /// A `start_pre` command runs.
    pub(super) fn prepare(&mut self, life: Life, index: usize, cx: &mut Cx<'_>) -> State {
        let own = self.program.start_pre.get(index).and_then(|hook| hook.timeout.from(cx.now));
        let all = self.program.start_timeout.from(self.attempt_at);
        State::Preparing { life, index, kill_at: super::slot::earlier(own, all) }
    }

    pub(super) fn when_preparing(
        &mut self,
        life: Life,
        index: usize,
        kill_at: Option<Instant>,
        input: Input,
        cx: &mut Cx<'_>,
    ) -> State {
        match input {
            Input::Stop(why) => self.begin_stop(life, why, cx),
            Input::Kill(why) => self.begin_kill(life, why, cx),
            Input::Deadline if kill_at.is_some_and(|at| at <= cx.now) => {
                cx.out.record(Record::of(self, What::TimedOut { role: Role::StartPre(index) }));
                self.begin_kill(life, StopWhy::StartTimeout, cx)
            }
            Input::Child(of, ChildEvent::Exited(exit)) if of == life.run => {
                let ignore = self.program.start_pre.get(index).is_some_and(|h| h.ignore_failure);
                if exit != Exit::Code(0) {
                    let role = Role::StartPre(index);
                    cx.out
                        .record(Record::of(self, What::HookEnded { role, exit, ignored: ignore }));
                    if !ignore {
                        return self.empty(life.run, Cause::Pre(index, exit), None, cx);
                    }
                }
                cx.signal(self, life.run, Signal::KILL, Scope::Tree);
                State::Sweeping { run: life.run, index, again: Again::first(cx.now) }
            }
            Input::Start | Input::GateOpen | Input::Free | Input::Deadline | Input::Child(..) => {
                State::Preparing { life, index, kill_at }
            }
        }
    }

    pub(super) fn when_sweeping(
        &mut self,
        run: RunId,
        index: usize,
        again: Again,
        input: Input,
        cx: &mut Cx<'_>,
    ) -> State {
        match input {
            Input::Child(of, ChildEvent::TreeEmpty) if of == run => self.spawn_next(index + 1, cx),
            Input::Stop(why) | Input::Kill(why) => {
                let ended = Ended { cause: Cause::Stopped(why, None), lived: None };
                State::Emptying { run, ended, again, empty: false }
            }
            Input::Deadline if again.at.is_some_and(|at| at <= cx.now) => {
                cx.signal(self, run, Signal::KILL, Scope::Tree);
                State::Sweeping { run, index, again: again.next(cx.now) }
            }
            Input::Start | Input::GateOpen | Input::Free | Input::Deadline | Input::Child(..) => {
                State::Sweeping { run, index, again }
            }
        }
    }

    /// The main process executes.
    pub(super) fn started(&mut self, life: Life, cx: &mut Cx<'_>) -> State {
        self.main = Some(life.run);
        self.sign(life.pid, cx);
        cx.out.record(Record::of(self, What::Started { pid: life.pid }));
        self.prove(life, cx)
    }

    /// The next `start_post` command, or up.
    pub(super) fn settle(&mut self, life: Life, index: usize, cx: &mut Cx<'_>) -> State {
        if index == 0 && !cx.bugs.no_watchdog {
            self.begin_watchdog(cx.now);
        }
        let hook = self.program.start_post.get(index).filter(|_| !cx.bugs.ready_too_early);
        let Some(hook) = hook else { return self.up(life, cx) };
        let limit = super::slot::earlier(
            hook.timeout.from(cx.now),
            self.program.start_timeout.from(self.attempt_at),
        );
        self.begin_side(Role::StartPost(index), limit, None, Some(life.pid), cx);
        State::Settling { life, index }
    }

    pub(super) fn up(&mut self, life: Life, cx: &mut Cx<'_>) -> State {
        if !self.is_oneshot() {
            let recovered = std::mem::take(&mut self.history.troubled);
            let what = if recovered { What::Recovered } else { What::Ready };
            cx.out.record(Record::of(self, what));
        }
        State::Running { life }
    }

    pub(super) fn when_settling(
        &mut self,
        life: Life,
        index: usize,
        input: Input,
        cx: &mut Cx<'_>,
    ) -> State {
        match input {
            Input::Stop(why) => State::Draining { life, why },
            Input::Kill(why) => self.begin_kill(life, why, cx),
            Input::Child(of, ChildEvent::Exited(exit)) if of == life.run => {
                self.main_exited(life, exit, cx)
            }
            Input::Deadline if self.is_unfed(cx.now) => self.abort(life, cx),
            Input::Start | Input::GateOpen | Input::Free | Input::Deadline | Input::Child(..) => {
                State::Settling { life, index }
            }
        }
    }

    pub(super) fn when_running(&mut self, life: Life, input: Input, cx: &mut Cx<'_>) -> State {
        match input {
            Input::Stop(why) => State::Draining { life, why },
            Input::Kill(why) => self.begin_kill(life, why, cx),
            Input::Child(of, ChildEvent::Exited(exit)) if of == life.run => {
                self.main_exited(life, exit, cx)
            }
            Input::Deadline if self.is_unfed(cx.now) => self.abort(life, cx),
            Input::Deadline if self.runs_too_long(life, cx.now) => {
                cx.out.record(Record::of(self, What::TimedOut { role: Role::Main }));
                self.begin_stop(life, StopWhy::MaxRuntime, cx)
            }
            Input::Start | Input::GateOpen | Input::Free | Input::Deadline | Input::Child(..) => {
                State::Running { life }
            }
        }
    }

    fn runs_too_long(&self, life: Life, now: Instant) -> bool {
        let limit = self.said.later(self.program.max_runtime.from(life.started));
        limit.is_some_and(|at| at <= now)
    }

    pub(super) fn main_exited(&mut self, life: Life, exit: Exit, cx: &mut Cx<'_>) -> State {
        let lived = cx.now.since(life.started);
        self.history.exit = Some((exit, cx.wall));
        cx.out.record(Record::of(self, What::Exited { exit, lived }));
        self.empty(life.run, Cause::Exit(exit), Some(lived), cx)
    }
}
