//! What a program says of itself (`sd_notify(3)`), and its watchdog.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    ChildEvent, Life, Record, Role, RunId, Scope, Slot, State, StopWhy, What,
    machine::{Cx, Input},
};
use crate::model::{Instant, KillMode, Limit, Notice, SaidPhase, Signal, Watchdog};

/// What a program has said of itself, or what was found out, in its latest run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// In which run.
    pub run: Option<RunId>,
    /// That it is ready; perhaps before we knew that it executes.
    pub ready: bool,
    /// What it is doing.
    pub busy: Option<Busy>,
    /// A line for people.
    pub status: Option<Arc<str>>,
    /// An errno(3) that explains its failure.
    pub errno: Option<u32>,
    /// How often it will say that it is alive, instead of what its settings say.
    pub watchdog: Option<Limit>,
    /// When it must have said so again.
    pub alive_by: Option<Instant>,
    /// It wants what follows when it has not.
    pub triggered: bool,
    /// The time limit under way does not end before.
    pub extended: Option<Instant>,
    /// When it was last written down that it begins to reload or to stop: not more than once a
    /// second.
    pub told: Option<Instant>,
    /// That what it does now was written down.
    pub told_busy: bool,
}

/// What a program says that it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Busy {
    /// RELOADING=1, and no READY=1 since.
    Reloading,
    /// STOPPING=1.
    Stopping,
}

impl Busy {
    /// As shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reloading => "reloading",
            Self::Stopping => "stopping",
        }
    }
}

impl Said {
    /// Nothing, in a run that begins.
    pub(super) fn nothing_in(run: RunId) -> Self {
        Self { run: Some(run), ..Self::default() }
    }

    /// Whether it is known to be ready.
    pub(super) fn is_ready(&self, run: RunId) -> bool {
        self.ready && self.run == Some(run)
    }

    /// A time limit, where it was not put off.
    pub(super) fn later(&self, limit: Option<Instant>) -> Option<Instant> {
        limit.map(|at| self.extended.map_or(at, |extended| extended.max(at)))
    }
}

impl Slot {
    /// What a program says is taken down here, whatever its state; what its state has to know is
    /// handed on.
    pub(super) fn hear(&mut self, input: Input, cx: &mut Cx<'_>) -> Option<Input> {
        match input {
            Input::Child(run, ChildEvent::Ready) if self.said.run == Some(run) => {
                // It may be ready before it is known to execute.
                self.said.ready = true;
                Some(Input::Child(run, ChildEvent::Ready))
            }
            Input::Child(run, ChildEvent::Said(notice)) => self.heard(run, &notice, cx),
            Input::Child(run, ChildEvent::Main { pid }) if !self.is_looked_for(run) => {
                self.other_main(run, pid, cx);
                None
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

    fn heard(&mut self, run: RunId, notice: &Notice, cx: &mut Cx<'_>) -> Option<Input> {
        if self.said.run != Some(run) {
            return None; // of an earlier life
        }
        if let Some(status) = &notice.status {
            let text: Arc<str> = status.as_ref().into();
            self.said.status = (!status.is_empty()).then_some(text);
        }
        self.said.errno = notice.errno.or(self.said.errno);
        if let Some(time) = notice.watchdog_time {
            let limit = if time.is_zero() { Limit::Never } else { Limit::After(time) };
            self.said.watchdog = Some(limit);
            self.feed_watchdog(cx.now);
        }
        match notice.watchdog {
            Some(Watchdog::Alive) if cx.bugs.deaf => {}
            Some(Watchdog::Alive) => self.feed_watchdog(cx.now),
            Some(Watchdog::Trigger) => self.said.triggered = true,
            None => {}
        }
        if let Some(time) = notice.extend {
            self.extend(cx.now + time);
        }
        let ready = notice.phase == Some(SaidPhase::Ready);
        self.phase(notice.phase, cx);
        if ready && self.is_to_say_so() {
            self.said.ready = true;
            return Some(Input::Child(run, ChildEvent::Ready));
        }
        // This one is acted on at once.
        (notice.watchdog == Some(Watchdog::Trigger)).then_some(Input::Deadline)
    }

    /// Whether READY=1 is what makes it ready.
    fn is_to_say_so(&self) -> bool {
        let readiness = self.program.readiness.as_deref();
        readiness.is_some_and(|readiness| readiness.by == crate::model::ReadyBy::Notify)
    }

    fn phase(&mut self, phase: Option<SaidPhase>, cx: &mut Cx<'_>) {
        let busy = match phase {
            None => return,
            Some(SaidPhase::Ready) => None,
            Some(SaidPhase::Reloading) => Some(Busy::Reloading),
            Some(SaidPhase::Stopping) => Some(Busy::Stopping),
        };
        let before = std::mem::replace(&mut self.said.busy, busy);
        if before == busy {
            return;
        }
        let ends = busy.is_none() && std::mem::take(&mut self.said.told_busy);
        // It can begin a hundred times a second: that is not for the log.
        let lately = self.said.told.is_some_and(|at| cx.now < at + Duration::from_secs(1));
        if busy.is_some() && !lately {
            (self.said.told, self.said.told_busy) = (Some(cx.now), true);
            cx.out.record(Record::of(self, What::Says { busy }));
        } else if ends {
            cx.out.record(Record::of(self, What::Says { busy }));
        }
    }

    /// Its time limit does not end before `at`, be it that of its start, of its run, of its stop or
    /// of its watchdog.
    fn extend(&mut self, at: Instant) {
        let later = |old: Option<Instant>| old.map(|old| old.max(at));
        self.said.alive_by = later(self.said.alive_by);
        let rungs = self.program.stop.ladder.len();
        match &mut self.state {
            State::Stopping { rung, next_at, .. } if *rung <= rungs => {
                *next_at = later(*next_at);
                self.extend_side(Role::is_stop_command, at);
            }
            State::Settling { .. } => self.extend_side(Role::is_start_post, at),
            State::Spawning { .. }
            | State::Forking { .. }
            | State::Proving { .. }
            | State::Running { .. } => {
                self.said.extended = self.said.extended.max(Some(at));
            }
            State::Stopped
            | State::Waiting { .. }
            | State::Retrying { .. }
            | State::Claiming { .. }
            | State::Tidying { .. }
            | State::Preparing { .. }
            | State::Sweeping { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Emptying { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Fatal { .. } => {}
        }
    }

    fn extend_side(&mut self, is: fn(&Role) -> bool, at: Instant) {
        if let Some(side) = &mut self.side
            && is(&side.role)
            && side.exit.is_none()
            && side.again.is_limit()
        {
            side.again.at = side.again.at.map(|old| old.max(at));
        }
    }

    /// It says that its main process is another one, which is ours from now on.
    fn other_main(&mut self, run: RunId, now: u32, cx: &mut Cx<'_>) {
        let life = match &mut self.state {
            State::Proving { life, .. }
            | State::Settling { life, .. }
            | State::Running { life }
            | State::Draining { life, .. }
            | State::Stopping { life, .. } => life,
            State::Stopped
            | State::Waiting { .. }
            | State::Retrying { .. }
            | State::Spawning { .. }
            | State::Claiming { .. }
            | State::Tidying { .. }
            | State::Preparing { .. }
            | State::Sweeping { .. }
            | State::Forking { .. }
            | State::Emptying { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Fatal { .. } => return,
        };
        if life.run != run || life.pid == now {
            return;
        }
        life.pid = now;
        self.sign(now, cx);
        cx.out.record(Record::of(self, What::MainIs { pid: now }));
    }
}

/// The watchdog.
impl Slot {
    /// How often it has to say that it is alive.
    fn watchdog(&self) -> Limit {
        self.said.watchdog.unwrap_or(self.program.watchdog)
    }

    /// It is ready: from now on it has to say that it is alive.
    pub(super) fn begin_watchdog(&mut self, now: Instant) {
        self.said.extended = None;
        self.said.alive_by = self.watchdog().from(now);
    }

    /// It has said that it is alive.
    fn feed_watchdog(&mut self, now: Instant) {
        let up = matches!(self.state, State::Settling { .. } | State::Running { .. });
        if up && (self.said.alive_by.is_some() || self.said.watchdog.is_some()) {
            self.said.alive_by = self.watchdog().from(now);
        }
    }

    /// Whether it has missed its time.
    pub(super) fn is_unfed(&self, now: Instant) -> bool {
        self.said.triggered || self.said.alive_by.is_some_and(|at| at <= now)
    }

    /// SIGABRT, so that there is a core dump to look at; then, after the time that its stop has,
    /// SIGKILL.
    pub(super) fn abort(&mut self, life: Life, cx: &mut Cx<'_>) -> State {
        let asked = std::mem::take(&mut self.said.triggered);
        let after = match self.watchdog() {
            Limit::After(time) if !asked => Some(time),
            Limit::After(_) | Limit::Never => None,
        };
        self.said.alive_by = None;
        cx.out.record(Record::of(self, What::Unfed { after }));
        let whole = self.program.stop.kill_mode == KillMode::Group;
        let scope = if whole { Scope::Tree } else { Scope::Main };
        cx.signal(self, life.run, Signal::ABRT, scope);
        let (why, rung) = (StopWhy::Watchdog, self.program.stop.ladder.len());
        State::Stopping { life, why, rung, next_at: cx.patience(self.patience()) }
    }
}
