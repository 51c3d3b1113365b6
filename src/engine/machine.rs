//! What happens to one program: one function per state.
//!
//! Each `when_…` takes what its state knows and gives the next state; no arm is left to `_`.
//! Effects on other programs are not decided here: [`super::Engine`] looks at who is touched after
//! each step.
#![expect(clippy::needless_pass_by_value, reason = "each step takes the input that it uses up")]

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Action, Actions, Again, Cause, ChildEvent, Ended, Goal, Record, Role, RunId, Scope, Side,
    SiteStop, Slot, Spawn, State, StopWhy, What, birth::Birth, restart,
};
use crate::model::{Instant, KillMode, Limit, LimitAction, Signal, WallTime};

/// What a step may use of the world: the time given, a place for actions, numbers.
pub(super) struct Cx<'a> {
    pub(super) now: Instant,
    pub(super) wall: WallTime,
    pub(super) out: &'a mut Actions,
    pub(super) next_run: &'a mut u64,
    pub(super) random: &'a mut u64,
    /// Set when a start limit with `action: exit`, or an essential program, ends the site.
    pub(super) ends_site: &'a mut Option<(SiteStop, u8)>,
    /// Less than all when the site stops and has no time for more.
    pub(super) patience: Patience,
    pub(super) bugs: super::Bugs,
}

/// What there is time for of each stop timeout.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Patience {
    /// At most so long, ...
    pub(super) most: Duration,
    /// ... and of that so many thousandths.
    pub(super) share: u32,
}

impl Patience {
    /// All of it.
    pub(super) const ALL: Self = Self { most: Duration::MAX, share: 1000 };

    pub(super) fn of(self, wait: Duration) -> Duration {
        if self.share >= 1000 {
            wait
        } else {
            wait.min(self.most).saturating_mul(self.share) / 1000
        }
    }
}

/// What can happen to one program.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// The goal became up, or a restart is wanted of something that is down.
    Start,
    /// It is to end; the goal says what follows.
    Stop(StopWhy),
    /// End at once: SIGKILL, no ladder.
    Kill(StopWhy),
    /// Nothing holds the start back.
    GateOpen,
    /// Nothing that needs it is up any more.
    Free,
    /// A child of it.
    Child(RunId, ChildEvent),
    /// A deadline of it is due.
    Deadline,
}

impl Cx<'_> {
    /// When the share of `wait` that there is time for is over.
    pub(super) fn patience(&self, wait: Limit) -> Option<Instant> {
        match wait {
            Limit::After(time) => Some(self.now + self.patience.of(time)),
            Limit::Never => None,
        }
    }

    pub(super) fn run(&mut self) -> RunId {
        *self.next_run += 1;
        RunId(*self.next_run)
    }

    /// A number in 0..=1 (splitmix64, so that a seed replays).
    fn chance(&mut self) -> f64 {
        *self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let bits = u32::try_from(z >> 32).unwrap_or(0);
        f64::from(bits) / f64::from(u32::MAX)
    }

    pub(super) fn signal(&mut self, slot: &Slot, run: RunId, signal: Signal, scope: Scope) {
        let and_continue = [Signal::TERM, Signal::HUP, Signal::INT, Signal::ABRT].contains(&signal);
        self.out.push(Action::Signal { program: slot.id, run, signal, scope, and_continue });
    }
}

impl Slot {
    /// Handles `input` and leaves the slot in its next state.
    pub(super) fn step(&mut self, input: Input, cx: &mut Cx<'_>) {
        let Some(input) = self.step_probe(input, cx) else { return };
        let Some(input) = self.step_side(input, cx) else { return };
        let Some(input) = self.hear(input, cx) else { return };
        if cx.bugs.count_what_is_unknown && matches!(input, Input::Child(_, ChildEvent::Reaped)) {
            self.history.restarts += 1;
        }
        let before = self.word();
        let state = std::mem::replace(&mut self.state, State::Stopped);
        let next = match state {
            State::Stopped | State::Exited { .. } => self.when_down(state, input, cx),
            State::Fatal { .. } | State::Backoff { .. } => self.when_failed(state, input, cx),
            State::Waiting { .. } => self.when_waiting(state, input, cx),
            State::Retrying { at, pause, since, next } => {
                self.when_retrying((at, pause, since, next), input, cx)
            }
            State::Spawning { run, next, stop, tried, again } => {
                self.when_spawning(Birth { run, next, stop, tried, again }, input, cx)
            }
            State::Preparing { life, index, kill_at } => {
                self.when_preparing(life, index, kill_at, input, cx)
            }
            State::Claiming { run, step } => self.when_claiming((run, step), &input, cx),
            State::Tidying { run, then, until } => {
                self.when_tidying((run, then, until), &input, cx)
            }
            State::Sweeping { run, index, again } => {
                self.when_sweeping(run, index, again, input, cx)
            }
            State::Forking { life, fork } => self.when_forking(life, fork, input, cx),
            State::Proving { life, until, why } => self.when_proving((life, until, why), input, cx),
            State::Settling { life, index } => self.when_settling(life, index, input, cx),
            State::Running { life } => self.when_running(life, input, cx),
            State::Draining { life, why } => self.when_draining(life, why, input, cx),
            State::Stopping { life, why, rung, next_at } => {
                self.when_stopping((life, why, rung, next_at), input, cx)
            }
            State::Emptying { run, ended, again, empty } => {
                self.when_emptying((run, ended, again, empty), input, cx)
            }
            State::Cleaning { run, index, ended, again } => {
                self.when_cleaning((run, index, ended, again), input, cx)
            }
        };
        self.state = next;
        if self.word() != before {
            self.since = (cx.now, cx.wall);
        }
    }

    /// STOPPED, EXITED: nothing of it is alive.
    fn when_down(&mut self, state: State, input: Input, cx: &mut Cx<'_>) -> State {
        match input {
            Input::Start => self.wait(cx),
            Input::Stop(_) | Input::Kill(_) => State::Stopped,
            // What is late finds nothing to change.
            Input::GateOpen | Input::Free | Input::Child(..) | Input::Deadline => state,
        }
    }

    /// FATAL, BACKOFF: down, and perhaps starting again by itself.
    fn when_failed(&mut self, state: State, input: Input, cx: &mut Cx<'_>) -> State {
        match input {
            Input::Start => self.wait(cx),
            Input::Stop(_) | Input::Kill(_) => {
                cx.out.record(Record::of(self, What::Stopped));
                State::Stopped
            }
            Input::Deadline => {
                let due = match &state {
                    State::Backoff { at, .. } => *at <= cx.now && !cx.bugs.lose_restarts,
                    State::Fatal { retry_at: Some(at), .. } => {
                        let due = *at <= cx.now;
                        if due {
                            // One more round: the starts before it no longer count.
                            self.history.starts.clear();
                        }
                        due
                    }
                    State::Fatal { retry_at: None, .. }
                    | State::Stopped
                    | State::Waiting { .. }
                    | State::Retrying { .. }
                    | State::Spawning { .. }
                    | State::Preparing { .. }
                    | State::Claiming { .. }
                    | State::Tidying { .. }
                    | State::Sweeping { .. }
                    | State::Forking { .. }
                    | State::Proving { .. }
                    | State::Settling { .. }
                    | State::Running { .. }
                    | State::Draining { .. }
                    | State::Stopping { .. }
                    | State::Emptying { .. }
                    | State::Cleaning { .. }
                    | State::Exited { .. } => false,
                };
                if due {
                    self.history.restarts = self.history.restarts.saturating_add(1);
                    self.wait(cx)
                } else {
                    state
                }
            }
            Input::GateOpen | Input::Free | Input::Child(..) => state,
        }
    }

    /// WAITING: the gate decides; see [`super::Engine`].
    fn when_waiting(&mut self, state: State, input: Input, cx: &mut Cx<'_>) -> State {
        let State::Waiting { since, mut patience, mut patient, waits_done, wait_until, told } =
            state
        else {
            return state;
        };
        match input {
            Input::Stop(_) | Input::Kill(_) if self.goal != Goal::Up => {
                if !self.edges.waits.is_empty() {
                    cx.out.push(Action::AwaitNothing(self.id));
                }
                cx.out.record(Record::of(self, What::Stopped));
                State::Stopped
            }
            Input::GateOpen if waits_done >= self.edges.waits.len() => self.attempt(cx),
            Input::GateOpen if wait_until.is_none() => {
                self.next_wait((since, patience, patient), waits_done, cx)
            }
            Input::Deadline => {
                if wait_until.is_some_and(|at| at <= cx.now) {
                    let go_on = self.edges.waits.get(waits_done).is_none_or(|wait| wait.go_on);
                    if !go_on {
                        return self.failed_attempt(Cause::WaitedInVain(waits_done), cx);
                    }
                    return self.next_wait((since, patience, patient), waits_done + 1, cx);
                }
                if patience.is_some_and(|at| at <= cx.now) {
                    (patience, patient) = (None, false); // the gate is asked after each step
                }
                State::Waiting { since, patience, patient, waits_done, wait_until, told }
            }
            Input::GateOpen
            | Input::Start
            | Input::Stop(_)
            | Input::Kill(_)
            | Input::Free
            | Input::Child(..) => {
                State::Waiting { since, patience, patient, waits_done, wait_until, told }
            }
        }
    }

    /// A condition of the world is true; called by the engine for the wait under way.
    pub(super) fn condition_met(&mut self, attempt: u64, index: usize, cx: &mut Cx<'_>) {
        if attempt != self.history.attempts {
            return;
        }
        if let State::Waiting { since, patience, patient, waits_done, wait_until: Some(_), .. } =
            self.state
            && waits_done == index
        {
            self.state = self.next_wait((since, patience, patient), waits_done + 1, cx);
        }
    }

    /// The next wait for the world, or the start. After the last wait the gate is asked again: what
    /// was up before it may be down by now.
    fn next_wait(
        &mut self,
        (since, patience, patient): (Instant, Option<Instant>, bool),
        waits_done: usize,
        cx: &mut Cx<'_>,
    ) -> State {
        let Some(wait) = self.edges.waits.get(waits_done) else {
            let wait_until = None;
            return State::Waiting {
                since,
                patience,
                patient,
                waits_done,
                wait_until,
                told: false,
            };
        };
        // A wait without limit still needs a mark that it is under way.
        let until = wait.timeout.from(cx.now).unwrap_or(Instant(u64::MAX));
        cx.out.push(Action::Await {
            program: self.id,
            attempt: self.history.attempts,
            index: waits_done,
        });
        let wait_until = Some(until);
        State::Waiting { since, patience, patient, waits_done, wait_until, told: false }
    }

    /// Wants to start: at the gate.
    pub(super) fn wait(&mut self, cx: &mut Cx<'_>) -> State {
        self.history.attempts += 1;
        State::Waiting {
            since: cx.now,
            patience: self.patience_at_the_gate(cx.now),
            patient: true,
            waits_done: 0,
            wait_until: None,
            told: false,
        }
    }

    /// The gate is open: begins with the first child.
    fn attempt(&mut self, cx: &mut Cx<'_>) -> State {
        self.attempt_at = cx.now;
        if let Some(limit) = &self.program.restart.start_limit {
            let burst = usize::try_from(limit.burst).unwrap_or(usize::MAX);
            while self.history.starts.len() >= burst.max(1) && !cx.bugs.keep_starts {
                self.history.starts.pop_front();
            }
            self.history.starts.push_back(cx.now);
        }
        if cx.bugs.spawn_twice {
            let _twice: State = self.spawn_next(0, cx);
        }
        self.begin(cx)
    }
}

/// What the machine's other half (the way down) shares.
impl Slot {
    /// A command beside the program begins.
    pub(super) fn begin_side(
        &mut self,
        role: Role,
        limit: Option<Instant>,
        request: Option<crate::control::RequestId>,
        main_pid: Option<u32>,
        cx: &mut Cx<'_>,
    ) {
        let run = cx.run();
        let again = Again { at: limit, pause: Duration::from_secs(1) };
        self.side = Some(Side { run, role, exit: None, again, request });
        let spawn = Spawn { program: self.id, run, role, ended: None, variant: None, main_pid };
        cx.out.push(Action::Spawn(spawn));
    }

    /// The patience of its stop ladder's group phase.
    pub(super) fn patience(&self) -> Limit {
        self.program.stop.patience()
    }

    /// Whether leftovers are ended with it.
    pub(super) fn ends_tree(&self) -> bool {
        self.program.stop.kill_mode != KillMode::Process || self.has_no_main()
    }

    /// What `action` of the start limit means for the site.
    pub(super) fn limit_exit(action: LimitAction, ended: &Ended) -> Option<u8> {
        (action == LimitAction::Exit).then(|| super::exit_code(&ended.cause))
    }

    pub(super) fn decision(&mut self, ended: &Ended, cx: &mut Cx<'_>) -> restart::Decision {
        let chance = cx.chance();
        let failures = self.history.failures;
        let mut decision = restart::decide(&self.program, &mut self.history, ended, cx.now, chance);
        if let (true, restart::Decision::Again { delay }) = (cx.bugs.short_delays, &mut decision) {
            *delay /= 2;
        }
        if cx.bugs.keep_failures {
            self.history.failures = failures.saturating_add(1);
        }
        if cx.bugs.ignore_the_limit && matches!(decision, restart::Decision::GiveUp { .. }) {
            let (of, failures) = (&self.program.restart, self.history.failures);
            let delay = restart::delay(of.delay, of.max_delay, of.factor, failures);
            decision = restart::Decision::Again { delay };
        }
        decision
    }
}
