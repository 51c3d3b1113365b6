//! The way down of one program: the stop ladder, its tree, `stop_post`, and what follows.
#![expect(clippy::needless_pass_by_value, reason = "each step takes the input that it uses up")]

use std::{sync::Arc, time::Duration};

use super::{
    Action, Again, Cause, ChildEvent, Ended, EndedAs, Life, Record, Role, RunId, Scope,
    ServiceResult, Side, Slot, Spawn, State, StopWhy, What,
    machine::{Cx, Input},
    restart,
};
use crate::model::{Exit, Instant, KillMode, Signal};

impl Slot {
    /// The first rung of the ladder; with a stop command, the command in its place.
    pub(super) fn begin_stop(&mut self, life: Life, why: StopWhy, cx: &mut Cx<'_>) -> State {
        cx.out.record(Record::of(self, What::Stopping { why }));
        if let Some(forgotten) = self.forget_the_adopted(life, why, cx) {
            return forgotten;
        }
        let command = self.program.stop.command.is_some() && self.main == Some(life.run);
        if command && self.side.is_none() {
            let wait = self.program.stop.ladder.first().and_then(|step| cx.patience(step.wait));
            self.begin_side(Role::StopCommand, wait, None, Some(life.pid), cx);
            return State::Stopping { life, why, rung: 0, next_at: wait };
        }
        self.take_rung(life, why, 0, cx)
    }

    /// SIGKILL for everything, now.
    pub(super) fn begin_kill(&mut self, life: Life, why: StopWhy, cx: &mut Cx<'_>) -> State {
        cx.out.record(Record::of(self, What::Killing { why }));
        self.kill(life, why, self.program.stop.ladder.len(), cx)
    }

    /// Takes a rung of the ladder; above the last one, SIGKILL, again and again.
    fn take_rung(&mut self, life: Life, why: StopWhy, rung: usize, cx: &mut Cx<'_>) -> State {
        let whole = self.program.stop.kill_mode == KillMode::Group;
        let step = self.program.stop.ladder.get(rung).copied();
        if let Some(step) = step {
            let scope = if whole { Scope::Tree } else { Scope::Main };
            cx.signal(self, life.run, step.signal, scope);
            if rung > 0 {
                cx.out.record(Record::of(self, What::Escalated { signal: step.signal }));
            }
            let late = Duration::from_secs(if cx.bugs.slow_ladder { 5 } else { 0 });
            let next_at =
                cx.patience(step.wait).map(|at| at + late).filter(|_| !cx.bugs.kill_at_once);
            let next_at = next_at.or(cx.bugs.kill_at_once.then_some(cx.now));
            return State::Stopping { life, why, rung: rung + 1, next_at };
        }
        // Told once; the same again each few seconds would only fill the journal.
        if rung <= self.program.stop.ladder.len() {
            cx.out.record(Record::of(self, What::Escalated { signal: Signal::KILL }));
        }
        self.kill(life, why, rung, cx)
    }

    /// SIGKILL, and the wait before the next one.
    fn kill(&mut self, life: Life, why: StopWhy, rung: usize, cx: &mut Cx<'_>) -> State {
        let scope = if self.ends_tree() { Scope::Tree } else { Scope::Main };
        cx.signal(self, life.run, Signal::KILL, scope);
        if rung == self.program.stop.ladder.len() + 4 {
            cx.out.record(Record::of(self, What::Unkillable));
        }
        // A process in state D dies later than it is told to.
        let times = u32::try_from(rung - self.program.stop.ladder.len()).unwrap_or(6).min(6);
        let pause = Duration::from_secs(1 << times);
        State::Stopping { life, why, rung: rung + 1, next_at: Some(cx.now + pause) }
    }

    /// Waits until nothing that needs it is up.
    pub(super) fn when_draining(
        &mut self,
        life: Life,
        why: StopWhy,
        input: Input,
        cx: &mut Cx<'_>,
    ) -> State {
        match input {
            Input::Free => self.begin_stop(life, why, cx),
            Input::Kill(why) => self.begin_kill(life, why, cx),
            Input::Stop(why) => State::Draining { life, why },
            Input::Child(of, ChildEvent::Exited(exit)) if of == life.run => {
                // By itself: nobody has asked it yet.
                if self.main == Some(life.run) {
                    let lived = cx.now.since(life.started);
                    cx.out.record(Record::of(self, What::Exited { exit, lived }));
                }
                self.exited_while_stopping(life, why, exit, cx)
            }
            Input::Start => {
                self.history.start_over = true;
                State::Draining { life, why }
            }
            Input::GateOpen | Input::Deadline | Input::Child(..) => State::Draining { life, why },
        }
    }

    pub(super) fn when_stopping(
        &mut self,
        (life, why, rung, next_at): (Life, StopWhy, usize, Option<Instant>),
        input: Input,
        cx: &mut Cx<'_>,
    ) -> State {
        match input {
            Input::Child(_, ChildEvent::Exited(exit))
                if cx.bugs.forget_the_unkillable && rung > self.program.stop.ladder.len() + 4 =>
            {
                self.history.exit = Some((exit, cx.wall));
                State::Stopping { life, why, rung, next_at: None }
            }
            Input::Child(of, ChildEvent::Exited(exit)) if of == life.run => {
                self.exited_while_stopping(life, why, exit, cx)
            }
            Input::Deadline if next_at.is_some_and(|at| at <= cx.now) => {
                self.take_rung(life, why, rung, cx)
            }
            Input::Kill(why) if rung <= self.program.stop.ladder.len() => {
                self.take_rung(life, why, self.program.stop.ladder.len(), cx)
            }
            // A later reason that is nobody's failure takes the place of the earlier one.
            Input::Stop(later) if !later.is_failure() => {
                State::Stopping { life, why: later, rung, next_at }
            }
            Input::Start => {
                self.history.start_over = true;
                State::Stopping { life, why, rung, next_at }
            }
            Input::Stop(_)
            | Input::Kill(_)
            | Input::GateOpen
            | Input::Free
            | Input::Deadline
            | Input::Child(..) => State::Stopping { life, why, rung, next_at },
        }
    }

    fn exited_while_stopping(
        &mut self,
        life: Life,
        why: StopWhy,
        exit: Exit,
        cx: &mut Cx<'_>,
    ) -> State {
        let is_main = self.main == Some(life.run);
        if is_main && !cx.bugs.forget_the_exit {
            self.history.exit = Some((exit, cx.wall));
        }
        // A command before the program is no run of it: it makes nothing stable.
        let lived = is_main.then(|| cx.now.since(life.started));
        let cause = Cause::Stopped(why, is_main.then_some(exit));
        self.empty(life.run, cause, lived, cx)
    }

    /// The main process is gone: now the rest of its tree, and a command beside it.
    pub(super) fn empty(
        &mut self,
        run: RunId,
        cause: Cause,
        lived: Option<Duration>,
        cx: &mut Cx<'_>,
    ) -> State {
        self.tidy_the_living(cx);
        self.let_go_of_the_living(cx);
        if let Some(side) = self.side {
            cx.signal(self, side.run, Signal::KILL, Scope::Tree);
            let side = Side { again: Again::first(cx.now), ..side };
            self.side = (!cx.bugs.lose_the_side).then_some(side);
        }
        let ended = Ended { cause, lived };
        if !self.ends_tree() || cx.bugs.leave_the_tree {
            // Its reaping is waited for, not its tree: whatever it left behind goes on.
            let again = Again::NEVER;
            return State::Emptying { run, ended, again, empty: false };
        }
        let asked = matches!(ended.cause, Cause::Stopped(..));
        if self.program.stop.kill_mode == KillMode::Group && !asked {
            cx.signal(self, run, Signal::TERM, Scope::Tree);
            let again = Again::after(self.patience(), cx.now);
            return State::Emptying { run, ended, again, empty: false };
        }
        cx.signal(self, run, Signal::KILL, Scope::Tree);
        State::Emptying { run, ended, again: Again::first(cx.now), empty: false }
    }

    pub(super) fn when_emptying(
        &mut self,
        (run, ended, again, empty): (RunId, Ended, Again, bool),
        input: Input,
        cx: &mut Cx<'_>,
    ) -> State {
        self.note_start_over(&input);
        match input {
            Input::Child(of, ChildEvent::Reaped) if of == run && again != Again::NEVER => {
                State::Emptying { run, ended, again, empty }
            }
            Input::Child(of, ChildEvent::TreeEmpty | ChildEvent::Reaped) if of == run => {
                if cx.bugs.signal_the_gone {
                    cx.signal(self, run, Signal::KILL, Scope::Tree);
                }
                if self.side.is_none() && self.probe.is_none() {
                    return self.clean(0, ended, cx);
                }
                let again = Again { at: None, ..again };
                State::Emptying { run, ended, again, empty: true }
            }
            Input::Deadline if again.at.is_some_and(|at| at <= cx.now) => {
                cx.signal(self, run, Signal::KILL, Scope::Tree);
                if again.pause == Duration::from_secs(16) {
                    cx.out.record(Record::of(self, What::Unkillable));
                }
                State::Emptying { run, ended, again: again.next(cx.now), empty }
            }
            Input::Kill(_) if !empty => {
                cx.signal(self, run, Signal::KILL, Scope::Tree);
                let again = again.at_once(cx.now);
                State::Emptying { run, ended, again, empty }
            }
            Input::Stop(_)
            | Input::Kill(_)
            | Input::Start
            | Input::GateOpen
            | Input::Free
            | Input::Deadline
            | Input::Child(..) => State::Emptying { run, ended, again, empty },
        }
    }

    /// A start or restart that arrives after the end of a run is kept until all of it is gone.
    pub(super) fn note_start_over(&mut self, input: &Input) {
        match input {
            Input::Start
            | Input::Stop(StopWhy::Restart | StopWhy::Changed)
            | Input::Kill(StopWhy::Restart) => self.history.start_over = true,
            Input::Stop(_)
            | Input::Kill(_)
            | Input::GateOpen
            | Input::Free
            | Input::Deadline
            | Input::Child(..) => {}
        }
    }

    /// An attempt is over before there was a main process.
    pub(super) fn failed_attempt(&mut self, cause: Cause, cx: &mut Cx<'_>) -> State {
        cx.out.push(Action::AwaitNothing(self.id));
        self.finish(Ended { cause, lived: None }, cx)
    }

    /// A run, or an attempt at one, is over: `stop_post`, then what follows.
    pub(super) fn ended(
        &mut self,
        cause: Cause,
        lived: Option<Duration>,
        cx: &mut Cx<'_>,
    ) -> State {
        self.clean(0, Ended { cause, lived }, cx)
    }

    pub(super) fn clean(&mut self, index: usize, ended: Ended, cx: &mut Cx<'_>) -> State {
        let Some(hook) = self.program.stop_post.get(index) else { return self.over(ended, cx) };
        let again = Again::after(hook.timeout, cx.now);
        *cx.next_run += 1;
        let run = RunId(*cx.next_run);
        cx.out.push(Action::Spawn(Spawn {
            program: self.id,
            run,
            role: Role::StopPost(index),
            ended: Some(self.ended_as(&ended)),
            variant: None,
            main_pid: None,
        }));
        State::Cleaning { run, index, ended, again }
    }

    fn ended_as(&self, ended: &Ended) -> EndedAs {
        let exit = if let Cause::Exit(exit) | Cause::Unready(exit) | Cause::Stopped(_, Some(exit)) =
            ended.cause
        {
            Some(exit)
        } else {
            None
        };
        let result = match (restart::classify(&self.program, ended), &ended.cause) {
            (restart::Class::Clean, _) => ServiceResult::Success,
            (_, Cause::NoMain(_) | Cause::Unready(_)) => ServiceResult::Protocol,
            (restart::Class::Timeout, _) => ServiceResult::Timeout,
            (restart::Class::Watchdog, _) => ServiceResult::Watchdog,
            (_, Cause::NotSpawned(_)) => ServiceResult::Resources,
            (restart::Class::Unknown, _) => ServiceResult::Unknown,
            (restart::Class::UncleanCode, _) => ServiceResult::ExitCode,
            (restart::Class::UncleanSignal, Cause::Exit(Exit::Signal { core: true, .. })) => {
                ServiceResult::CoreDump
            }
            (restart::Class::UncleanSignal, Cause::Exit(Exit::OutOfMemory)) => {
                ServiceResult::OomKill
            }
            (restart::Class::UncleanSignal, _) => ServiceResult::Signal,
        };
        EndedAs { result, exit }
    }

    pub(super) fn when_cleaning(
        &mut self,
        (run, index, ended, again): (RunId, usize, Ended, Again),
        input: Input,
        cx: &mut Cx<'_>,
    ) -> State {
        self.note_start_over(&input);
        match input {
            Input::Child(of, ChildEvent::Exited(exit)) if of == run => {
                if exit != Exit::Code(0) {
                    let role = Role::StopPost(index);
                    cx.out.record(Record::of(self, What::HookEnded { role, exit, ignored: true }));
                }
                cx.signal(self, run, Signal::KILL, Scope::Tree);
                State::Cleaning { run, index, ended, again: Again::first(cx.now) }
            }
            Input::Child(of, ChildEvent::TreeEmpty) if of == run => {
                self.clean(index + 1, ended, cx)
            }
            Input::Child(of, ChildEvent::SpawnFailed(failure)) if of == run => {
                let (role, text) = (Role::StopPost(index), failure.text);
                cx.out.record(Record::of(self, What::HookNotStarted { role, text }));
                self.clean(index + 1, ended, cx)
            }
            Input::Deadline if again.at.is_some_and(|at| at <= cx.now) => {
                if again.is_limit() {
                    let role = Role::StopPost(index);
                    cx.out.record(Record::of(self, What::TimedOut { role }));
                }
                cx.signal(self, run, Signal::KILL, Scope::Tree);
                State::Cleaning { run, index, ended, again: again.next(cx.now) }
            }
            Input::Kill(_) => {
                cx.signal(self, run, Signal::KILL, Scope::Tree);
                State::Cleaning { run, index, ended, again: again.at_once(cx.now) }
            }
            Input::Start
            | Input::Stop(_)
            | Input::GateOpen
            | Input::Free
            | Input::Deadline
            | Input::Child(..) => State::Cleaning { run, index, ended, again },
        }
    }

    /// When wants and afters are no longer waited for; a requirement is waited for as long as it
    /// takes.
    pub(super) fn patience_at_the_gate(&self, now: Instant) -> Option<Instant> {
        let kinds = self.edges.needs.iter().map(|edge| edge.kind);
        let mut kinds = kinds.chain(self.edges.locks.iter().map(|lock| lock.kind));
        let any = kinds.any(|kind| kind != crate::plan::EdgeKind::Requires);
        self.program.start_timeout.from(now).filter(|_| any)
    }

    /// What concerns the command beside the program; the rest is handed on.
    pub(super) fn step_side(&mut self, input: Input, cx: &mut Cx<'_>) -> Option<Input> {
        let Some(side) = self.side else { return Some(input) };
        match input {
            Input::Child(of, what) if of == side.run => {
                match what {
                    ChildEvent::Spawned { .. }
                    | ChildEvent::Main { .. }
                    | ChildEvent::NoMain(_)
                    | ChildEvent::Said(_)
                    | ChildEvent::Ready
                    | ChildEvent::Unready(_)
                    | ChildEvent::Reaped => {}
                    ChildEvent::SpawnFailed(failure) => {
                        let (role, text) = (side.role, Arc::clone(&failure.text));
                        cx.out.record(Record::of(self, What::HookNotStarted { role, text }));
                        self.side_over(side, Exit::Code(failure.code), cx);
                    }
                    ChildEvent::Exited(exit) => {
                        cx.signal(self, side.run, Signal::KILL, Scope::Tree);
                        let again = Again::first(cx.now);
                        self.side = Some(Side { exit: Some(exit), again, ..side });
                    }
                    ChildEvent::TreeEmpty => {
                        self.side_over(side, side.exit.unwrap_or(Exit::Code(1)), cx);
                    }
                }
                None
            }
            Input::Deadline if side.again.at.is_some_and(|at| at <= cx.now) => {
                if side.exit.is_none() && side.again.is_limit() {
                    cx.out.record(Record::of(self, What::TimedOut { role: side.role }));
                }
                cx.signal(self, side.run, Signal::KILL, Scope::Tree);
                self.side = Some(Side { again: side.again.next(cx.now), ..side });
                Some(Input::Deadline)
            }
            Input::Start
            | Input::Stop(_)
            | Input::Kill(_)
            | Input::GateOpen
            | Input::Free
            | Input::Deadline
            | Input::Child(..) => Some(input),
        }
    }

    /// The command beside the program is over, and so is all that it left behind.
    fn side_over(&mut self, side: Side, exit: Exit, cx: &mut Cx<'_>) {
        self.side = None;
        let good = exit == Exit::Code(0);
        let ignored = match side.role {
            Role::StartPost(index) => {
                self.program.start_post.get(index).is_some_and(|hook| hook.ignore_failure)
            }
            Role::Main
            | Role::StartPre(_)
            | Role::StopPost(_)
            | Role::StopCommand
            | Role::ReloadCommand
            | Role::Probe(_) => false,
        };
        if !good {
            cx.out.record(Record::of(self, What::HookEnded { role: side.role, exit, ignored }));
        }
        if let Some(request) = side.request {
            cx.out.reply(request, super::requests::reload_reply(self, exit));
        }
        let before = self.word();
        let state = std::mem::replace(&mut self.state, State::Stopped);
        self.state = match (state, side.role) {
            (State::Settling { life, index }, Role::StartPost(done)) if index == done => {
                if good || ignored {
                    self.settle(life, index + 1, cx)
                } else {
                    self.begin_stop(life, StopWhy::Post(index, exit), cx)
                }
            }
            (State::Stopping { life, why, rung: 0, .. }, Role::StopCommand) if !good => {
                self.take_rung(life, why, 0, cx)
            }
            (State::Emptying { ended, empty: true, .. }, _) if self.probe.is_none() => {
                self.clean(0, ended, cx)
            }
            (other, _) => other,
        };
        if self.word() != before {
            self.since = (cx.now, cx.wall);
        }
    }
}
