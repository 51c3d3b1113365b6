//! From the wish for a child to its exec: asked for, hanging, tried again.
#![expect(clippy::needless_pass_by_value, reason = "each step takes the input that it uses up")]

use std::time::Duration;

use super::{
    Action, Again, Cause, ChildEvent, FailureClass, Halt, Life, Next, Record, Role, RunId, Said,
    Scope, Slot, Spawn, SpawnFailure, State, StopWhy, What,
    machine::{Cx, Input},
    slot::earlier,
};
use crate::model::{Human, Instant, Limit, Signal};

/// What [`State::Spawning`] knows.
#[derive(Clone, Copy)]
pub(super) struct Birth {
    pub(super) run: RunId,
    pub(super) next: Next,
    pub(super) stop: Option<Halt>,
    pub(super) tried: Option<(Duration, Instant)>,
    pub(super) again: Again,
}

impl From<Birth> for State {
    fn from(Birth { run, next, stop, tried, again }: Birth) -> Self {
        Self::Spawning { run, next, stop, tried, again }
    }
}

impl Slot {
    /// Spawns `start_pre[index]`, or the program when there are no more.
    pub(super) fn spawn_next(&mut self, index: usize, cx: &mut Cx<'_>) -> State {
        self.spawn(self.next_of(index), None, cx)
    }

    fn next_of(&self, index: usize) -> Next {
        if index < self.program.start_pre.len() { Next::Pre(index) } else { Next::Main }
    }

    fn spawn(&mut self, next: Next, tried: Option<(Duration, Instant)>, cx: &mut Cx<'_>) -> State {
        let run = cx.run();
        let variant = match next {
            Next::Main => {
                self.said = Said::nothing_in(run);
                self.variant.clone()
            }
            Next::Pre(_) => None,
        };
        cx.out.push(Action::Spawn(Spawn {
            program: self.id,
            run,
            role: role_of(next),
            ended: None,
            variant,
            main_pid: None,
        }));
        // What waited for room in the system is not to blame for the time that took.
        let begun = if tried.is_some() { cx.now } else { self.attempt_at };
        let (hook, all) = self.limits_of(next);
        let again = Again { at: earlier(hook.from(cx.now), all.from(begun)), ..Again::UNTRIED };
        Birth { run, next, stop: None, tried, again }.into()
    }

    /// The time limits of what is spawned: its own, and that of the whole start.
    fn limits_of(&self, next: Next) -> (Limit, Limit) {
        let hook = match next {
            Next::Pre(index) => self.program.start_pre.get(index).map(|hook| hook.timeout),
            Next::Main => None,
        };
        (hook.unwrap_or(Limit::Never), self.program.start_timeout)
    }

    /// The system had no room; waits for the moment of the next try.
    pub(super) fn when_retrying(
        &mut self,
        (at, pause, since, next): (Instant, Duration, Instant, Next),
        input: Input,
        cx: &mut Cx<'_>,
    ) -> State {
        match input {
            Input::Stop(why) | Input::Kill(why) => self.ended(Cause::Stopped(why, None), None, cx),
            Input::Deadline if at <= cx.now => {
                // A reload may have changed what there is before the program.
                let next = match next {
                    Next::Pre(index) => self.next_of(index),
                    Next::Main => Next::Main,
                };
                self.spawn(next, Some((pause, since)), cx)
            }
            Input::Start | Input::GateOpen | Input::Free | Input::Child(..) | Input::Deadline => {
                State::Retrying { at, pause, since, next }
            }
        }
    }

    /// Not yet executed, perhaps because a file system hangs. A stop is kept until that is known,
    /// or its patience is over.
    pub(super) fn when_spawning(
        &mut self,
        mut birth: Birth,
        input: Input,
        cx: &mut Cx<'_>,
    ) -> State {
        match input {
            Input::Stop(_) | Input::Kill(_) if cx.bugs.forget_stop_while_spawning => {}
            Input::Stop(why) => {
                if birth.stop.is_none() {
                    birth.again.at = earlier(birth.again.at, self.patience().from(cx.now));
                }
                let kill = birth.stop.is_some_and(|halt| halt.kill);
                birth.stop = Some(Halt { why, kill });
            }
            Input::Kill(why) => {
                cx.out.record(Record::of(self, What::Killing { why }));
                self.kill_unborn(&mut birth, why, cx);
            }
            Input::Deadline if birth.again.at.is_some_and(|at| at <= cx.now) => {
                self.hangs(&mut birth, cx);
            }
            Input::Child(of, ChildEvent::Spawned { pid })
                if of == birth.run || cx.bugs.believe_late_spawns =>
            {
                let life = Life { run: birth.run, pid, started: cx.now };
                return self.spawned(life, birth.next, birth.stop, cx);
            }
            Input::Child(of, ChildEvent::SpawnFailed(failure)) if of == birth.run => {
                return match birth.stop {
                    None => self.not_spawned(failure, birth.next, birth.tried, cx),
                    Some(Halt { why: StopWhy::StartTimeout, .. }) => {
                        let late = self.late(&failure, birth.next);
                        self.ended(Cause::NotSpawned(late), None, cx)
                    }
                    Some(halt) => self.ended(Cause::Stopped(halt.why, None), None, cx),
                };
            }
            // As while it is being stopped: it is to come back whatever the stop was for.
            Input::Start => self.history.start_over |= birth.stop.is_some(),
            Input::GateOpen | Input::Free | Input::Deadline | Input::Child(..) => {}
        }
        birth.into()
    }

    /// It has no tree yet, and takes no other signal before its exec.
    fn kill_unborn(&self, birth: &mut Birth, why: StopWhy, cx: &mut Cx<'_>) {
        cx.signal(self, birth.run, Signal::KILL, Scope::Main);
        birth.again = Again::first(cx.now);
        birth.stop = Some(Halt { why, kill: true });
    }

    /// Its time, or that of its stop, is over and it has not executed; or it outlives SIGKILL.
    fn hangs(&self, birth: &mut Birth, cx: &mut Cx<'_>) {
        match birth.stop {
            None => {
                let (role, after) = (role_of(birth.next), self.time_for(birth.next));
                cx.out.record(Record::of(self, What::NotExecuted { role, after }));
            }
            Some(_) if birth.again.is_limit() => {
                cx.out.record(Record::of(self, What::Escalated { signal: Signal::KILL }));
            }
            Some(_) if birth.again.pause == Duration::from_secs(16) => {
                cx.out.record(Record::of(self, What::Unkillable));
            }
            Some(_) => {}
        }
        let again = birth.again.next(cx.now);
        let why = birth.stop.map_or(StopWhy::StartTimeout, |halt| halt.why);
        self.kill_unborn(birth, why, cx);
        birth.again = again;
    }

    /// How long the way to its exec may take.
    fn time_for(&self, next: Next) -> Duration {
        let (hook, all) = self.limits_of(next);
        match hook.min(all) {
            Limit::After(time) => time,
            Limit::Never => Duration::ZERO,
        }
    }

    fn late(&self, failure: &SpawnFailure, next: Next) -> SpawnFailure {
        let text = format!("no exec within {} ({})", Human(self.time_for(next)), failure.text);
        SpawnFailure { text: text.into(), class: FailureClass::Late, code: failure.code }
    }

    /// A child executes; perhaps it is no longer wanted.
    fn spawned(&mut self, life: Life, next: Next, stop: Option<Halt>, cx: &mut Cx<'_>) -> State {
        match (next, stop) {
            (Next::Pre(index), None) => self.prepare(life, index, cx),
            (Next::Main, None) if self.forks() => {
                self.main = None;
                State::Forking { life, fork: super::Fork::Starting }
            }
            (Next::Main, None) => self.started(life, cx),
            (Next::Pre(_), Some(halt)) if !halt.kill => self.begin_stop(life, halt.why, cx),
            (Next::Pre(_), Some(halt)) => self.begin_kill(life, halt.why, cx),
            // Nobody needs it yet, and it is nothing yet.
            (Next::Main, Some(halt)) if self.forks() => {
                self.main = None;
                if halt.kill {
                    return self.begin_kill(life, halt.why, cx);
                }
                self.begin_stop(life, halt.why, cx)
            }
            (Next::Main, Some(halt)) => {
                self.main = Some(life.run);
                self.sign(life.pid, cx);
                cx.out.record(Record::of(self, What::Started { pid: life.pid }));
                if halt.kill {
                    return self.begin_kill(life, halt.why, cx);
                }
                // What needs it may still be up from its run before: that goes first.
                State::Draining { life, why: halt.why }
            }
        }
    }

    /// Transient causes are tried again soon and do not count (N15); a busy file for ten seconds.
    fn not_spawned(
        &mut self,
        failure: SpawnFailure,
        next: Next,
        tried: Option<(Duration, Instant)>,
        cx: &mut Cx<'_>,
    ) -> State {
        const FIRST: Duration = Duration::from_millis(100);
        const LONGEST: Duration = Duration::from_secs(2);
        const BUSY: Duration = Duration::from_secs(10);
        let (pause, since) = tried.unwrap_or((FIRST, cx.now));
        let again = match failure.class {
            FailureClass::Resources => !cx.bugs.count_fork_failures,
            FailureClass::Busy => cx.now.since(since) < BUSY,
            FailureClass::Own | FailureClass::Late => false,
        };
        if !again {
            return self.ended(Cause::NotSpawned(failure), None, cx);
        }
        if tried.is_none() {
            cx.out.record(Record::of(self, What::NoRoom { text: failure.text, pause }));
        }
        let late = Duration::from_secs(if cx.bugs.slow_retries { 3 } else { 0 });
        State::Retrying { at: cx.now + pause + late, pause: (pause * 2).min(LONGEST), since, next }
    }
}

fn role_of(next: Next) -> Role {
    match next {
        Next::Pre(index) => Role::StartPre(index),
        Next::Main => Role::Main,
    }
}
