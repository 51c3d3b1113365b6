//! One program and everything the engine knows of it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Action, Claiming, Fork, Goal, Health, Life, Probing, Proof, Role, RunId, Said, State, Then,
    machine::Cx,
};
use crate::{
    control::{RequestId, StateWord},
    model::{Exit, Instant, Limit, Name, Program, ProgramType, WallTime},
    plan::{Edges, Planned, ProgramId},
};

/// When to signal a stubborn tree again, and the pause after that (doubled each time, up to a
/// minute).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// When; `None`: never.
    pub at: Option<Instant>,
    /// The pause that follows.
    pub pause: Duration,
}

impl Again {
    /// What is left behind is left alone; settings that change meanwhile do not matter.
    pub const NEVER: Self = Self { at: None, pause: Duration::ZERO };
    /// Nothing was tried, and nothing is due.
    pub(super) const UNTRIED: Self = Self { at: None, pause: Self::FIRST };
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);

    /// The first try is being made now.
    pub(super) fn first(now: Instant) -> Self {
        Self { at: Some(now + Self::FIRST), pause: Self::FIRST * 2 }
    }

    /// The first try is to be made when `limit` is over.
    pub(super) fn after(limit: Limit, now: Instant) -> Self {
        Self { at: limit.from(now), pause: Self::FIRST }
    }

    /// Whether nothing was tried yet: what is due is the time limit itself.
    pub(super) fn is_limit(self) -> bool {
        self.pause == Self::FIRST
    }

    /// A try is wanted now; those that were made before it still count.
    pub(super) fn at_once(self, now: Instant) -> Self {
        if self.is_limit() { Self::first(now) } else { self }
    }

    /// A try is being made now.
    pub(super) fn next(self, now: Instant) -> Self {
        Self { at: Some(now + self.pause), pause: (self.pause * 2).min(Self::LONGEST) }
    }
}

/// A command beside the running program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Which life.
    pub run: RunId,
    /// As what.
    pub role: Role,
    /// How it ended, while what it left behind is being killed.
    pub exit: Option<Exit>,
    /// Its time limit; then the pause between kills.
    pub again: Again,
    /// Who waits for its end.
    pub request: Option<RequestId>,
}

/// What is remembered of earlier runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Consecutive failures.
    pub failures: u32,
    /// The latest starts, at most `burst` of them.
    pub starts: VecDeque<Instant>,
    /// Starts by itself since the last start by hand or boot.
    pub restarts: u64,
    /// Attempts ever; tells a new run from the one before.
    pub attempts: u64,
    /// How the last main process ended, and when.
    pub exit: Option<(Exit, WallTime)>,
    /// What was found last, when that was the end of its last run: by its health check, or while
    /// it was not ready.
    pub unhealthy: Option<Arc<str>>,
    /// Whether it was given up or backing off before: its next ready is a recovery.
    pub troubled: bool,
    /// Somebody wants it up while a run of it ends: then its policy is not asked.
    pub start_over: bool,
}

/// A program and everything the engine knows of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Slot {
    /// Its id.
    pub id: ProgramId,
    /// The newest accepted settings.
    pub program: Arc<Program>,
    /// Its place in the graph.
    pub edges: Edges,
    /// What the operator wants.
    pub goal: Goal,
    /// Where it is.
    pub state: State,
    /// A command beside it.
    pub side: Option<Side>,
    /// A look at whether it serves that is under way, or what is left of one.
    pub probe: Option<Probing>,
    /// Whether it is ready is being found out.
    pub proof: Option<Proof>,
    /// How it is, while it is up and has a health check.
    pub health: Option<Health>,
    /// Its lock is held, or being taken: the answer that was waited for.
    pub claim: Option<RunId>,
    /// The latest life of its main process.
    pub main: Option<RunId>,
    /// What it has said of itself in its latest run.
    pub said: Said,
    /// The life that began when a copy was adopted, as long as it is not down since.
    pub adopted: Option<RunId>,
    /// Earlier runs.
    pub history: History,
    /// When the state that is shown began.
    pub since: (Instant, WallTime),
    /// When the present attempt began.
    pub attempt_at: Instant,
    /// The variant asked for, with arguments of the moment.
    pub variant: Option<(Name, Vec<String>)>,
    /// The deadline under which it stands in the index.
    pub(super) armed: Option<Instant>,
}

impl Slot {
    /// A program that is down and unknown to history.
    #[must_use]
    pub fn new(
        id: ProgramId,
        program: Arc<Program>,
        edges: Edges,
        now: (Instant, WallTime),
    ) -> Self {
        Self {
            id,
            program,
            edges,
            goal: Goal::Down,
            state: State::Stopped,
            side: None,
            probe: None,
            proof: None,
            health: None,
            claim: None,
            main: None,
            said: Said::default(),
            adopted: None,
            history: History::default(),
            since: now,
            attempt_at: now.0,
            variant: None,
            armed: None,
        }
    }

    /// When it wants to be woken.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let watched = matches!(self.state, State::Settling { .. } | State::Running { .. });
        let own = earlier(self.next_at(), self.said.alive_by.filter(|_| watched));
        earlier(own, self.deadline_of_probe())
    }

    /// When something happens by itself, were it to say for ever that it is alive; looks at
    /// its health aside.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Stopped
            | State::Draining { .. }
            | State::Settling { .. }
            | State::Exited { .. } => None,
            State::Proving { until, .. } => self.said.later(*until),
            State::Waiting { patience, wait_until: None, .. } => *patience,
            State::Waiting { wait_until: Some(at), .. }
            | State::Retrying { at, .. }
            | State::Backoff { at, .. } => Some(*at),
            State::Preparing { kill_at, .. } => *kill_at,
            State::Tidying { until, .. }
            | State::Claiming { step: Claiming::Looking { until }, .. } => Some(*until),
            State::Forking { .. } => {
                self.said.later(self.program.start_timeout.from(self.attempt_at))
            }
            State::Running { life } => self.said.later(self.program.max_runtime.from(life.started)),
            State::Stopping { next_at, .. } => *next_at,
            State::Spawning { again, .. }
            | State::Claiming { step: Claiming::Ending { again, .. }, .. }
            | State::Sweeping { again, .. }
            | State::Emptying { again, .. }
            | State::Cleaning { again, .. } => again.at,
            State::Fatal { retry_at, .. } => *retry_at,
        };
        earlier(own, self.side.and_then(|side| side.again.at))
    }

    /// The main process (or the command in its place), while it may be alive.
    #[must_use]
    pub fn life(&self) -> Option<Life> {
        match &self.state {
            State::Preparing { life, .. }
            | State::Forking { life, fork: Fork::Starting }
            | State::Proving { life, .. }
            | State::Settling { life, .. }
            | State::Running { life }
            | State::Draining { life, .. }
            | State::Stopping { life, .. } => Some(*life),
            State::Stopped
            | State::Waiting { .. }
            | State::Retrying { .. }
            | State::Spawning { .. }
            | State::Claiming { .. }
            | State::Tidying { .. }
            | State::Sweeping { .. }
            | State::Forking { .. }
            | State::Emptying { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Fatal { .. } => None,
        }
    }

    /// The run that its state is about; for a test fault.
    pub(crate) fn present_run(&self) -> Option<RunId> {
        if let State::Spawning { run, .. } | State::Emptying { run, .. } = &self.state {
            return Some(*run);
        }
        if let State::Forking { life, .. } = &self.state {
            return Some(life.run);
        }
        self.life().map(|life| life.run)
    }

    /// Whether a run is the one that it is about, a command around it included: what else there is
    /// of it was left behind.
    #[must_use]
    pub fn holds(&self, run: RunId) -> bool {
        if let State::Sweeping { run: present, .. } | State::Cleaning { run: present, .. } =
            &self.state
            && *present == run
        {
            return true;
        }
        self.present_run() == Some(run)
            || self.side.is_some_and(|side| side.run == run)
            || self.probe.as_ref().is_some_and(|probe| probe.run == run)
    }

    /// Whether it is to be stopped although its child is not known to execute yet.
    #[must_use]
    pub fn is_stopped_while_spawning(&self) -> bool {
        matches!(self.state, State::Spawning { stop: Some(_), .. })
    }

    /// Whether any process of it may be alive, or is about to be.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match self.word() {
            StateWord::Starting => !matches!(self.state, State::Retrying { .. }),
            StateWord::Running | StateWord::Stopping => true,
            StateWord::Stopped
            | StateWord::Waiting
            | StateWord::Backoff
            | StateWord::Exited
            | StateWord::Fatal => false,
        }
    }

    /// Whether it is on its way down.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.word() == StateWord::Stopping
    }

    /// Whether its command ends by itself.
    #[must_use]
    pub fn is_oneshot(&self) -> bool {
        matches!(self.program.kind, ProgramType::Oneshot { .. })
    }

    /// Whether it has ended by itself, and well.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        matches!(self.state, State::Exited { success: true, .. })
    }

    /// Whether it serves: up, or, for a oneshot, done with success.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        if self.is_oneshot() {
            return self.has_succeeded();
        }
        matches!(self.state, State::Running { .. } | State::Draining { .. })
    }

    /// The word that is shown.
    #[must_use]
    pub fn word(&self) -> StateWord {
        match &self.state {
            State::Stopped => StateWord::Stopped,
            State::Waiting { .. } => StateWord::Waiting,
            State::Retrying { .. }
            | State::Spawning { stop: None, .. }
            | State::Claiming { .. }
            | State::Tidying { then: Then::Start, .. }
            | State::Preparing { .. }
            | State::Sweeping { .. }
            | State::Forking { .. }
            | State::Proving { .. }
            | State::Settling { .. } => StateWord::Starting,
            State::Running { .. } => StateWord::Running,
            State::Spawning { stop: Some(_), .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Emptying { .. }
            | State::Cleaning { .. }
            | State::Tidying { then: Then::Finish(_), .. } => StateWord::Stopping,
            State::Backoff { .. } => StateWord::Backoff,
            State::Exited { .. } => StateWord::Exited,
            State::Fatal { .. } => StateWord::Fatal,
        }
    }
}

/// What a new site means for a program that is there.
impl Slot {
    /// Takes its new settings and edges; whether it now waits for other things of the world.
    pub(super) fn renew(&mut self, new: Planned, keep: bool) -> bool {
        let (old, rungs) = (self.program.stop.ladder.len(), new.program.stop.ladder.len());
        if let State::Stopping { rung, .. } = &mut self.state {
            // What was not killed yet is killed after the last rung that there is now.
            *rung = if *rung <= old { (*rung).min(rungs) } else { *rung - old + rungs };
        }
        let other_waits = self.edges.waits != new.edges.waits;
        if !keep {
            self.program = new.program;
        }
        self.edges = new.edges;
        other_waits
    }

    /// What it waits for is no longer the same: a patience that it did not need begins, and its
    /// waits for the world begin anew.
    pub(super) fn edges_changed(&mut self, other_waits: bool, cx: &mut Cx<'_>) {
        let limit = self.patience_at_the_gate(cx.now);
        let State::Waiting { patience, patient, waits_done, wait_until, .. } = &mut self.state
        else {
            return;
        };
        if patience.is_none() && *patient {
            *patience = limit;
        }
        if other_waits {
            (*waits_done, *wait_until) = (0, None);
            // An answer to an earlier wait is late from now on.
            self.history.attempts += 1;
            cx.out.push(Action::AwaitNothing(self.id));
        }
    }
}

/// The earlier of two moments, where `None` is never.
pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}
