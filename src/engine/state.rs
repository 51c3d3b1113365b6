//! One program: its states, what each needs to know, and when each wants to be woken.
//!
//! ```text
//!              ┌───────────────────────── goal up ──────────────────────────┐
//!              ▼                                                            │
//! STOPPED ► WAITING ► (start_pre…) ► spawning ► (start_post…) ► RUNNING     │
//!    ▲         ▲        STARTING                   STARTING        │ exit   │
//!    │         │                                                   ▼        │
//!    │         └── BACKOFF ◄─────────┐            draining ► stopping       │
//!    │                               │                STOPPING     │        │
//!    └── goal down ── finished ◄── stop_post ◄── emptying ◄────────┘        │
//!                        │                                                  │
//!                        ├─► EXITED   ended by itself, not again            │
//!                        └─► FATAL    given up; with a retry time ──────────┘
//! ```
//!
//! A state has a [`Life`] exactly when a main process may be alive. What belongs to more than one
//! state (goal, history) stands in [`Slot`].

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Role, RunId, SpawnFailure};
use crate::{
    control::{RequestId, StateWord},
    model::{Exit, Instant, Limit, Name, Program, ProgramType, WallTime},
    plan::{Edges, ProgramId},
};

/// What the operator wants of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// It is to be up.
    Up,
    /// It is to be down.
    Down,
    /// It is to be down and then forgotten: the site no longer has it.
    Gone,
}

/// A main process (or a `start_pre` command in its place) that may be alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Which life.
    pub run: RunId,
    /// Its process id.
    pub pid: u32,
    /// Since when.
    pub started: Instant,
}

/// What is to be spawned on the way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Next {
    /// This `start_pre` command.
    Pre(usize),
    /// The program itself.
    Main,
}

/// Why a program is being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopWhy {
    /// Somebody asked for it.
    Asked,
    /// To start it again.
    Restart,
    /// Something that it requires is down.
    Requirement(ProgramId),
    /// The supervisor stops.
    Shutdown,
    /// A reload removed it.
    Removed,
    /// A reload changed it.
    Changed,
    /// It ran longer than `max_runtime`.
    MaxRuntime,
    /// It took longer than `start_timeout`.
    StartTimeout,
    /// This `start_post` command ended so.
    Post(usize, Exit),
}

impl StopWhy {
    /// Whether the stop is the program's own failure, so that its restart policy decides.
    pub(super) fn is_failure(self) -> bool {
        match self {
            Self::MaxRuntime | Self::StartTimeout | Self::Post(..) => true,
            Self::Asked
            | Self::Restart
            | Self::Requirement(_)
            | Self::Shutdown
            | Self::Removed
            | Self::Changed => false,
        }
    }
}

/// A stop that has to wait for the answer of a spawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// Why.
    pub why: StopWhy,
    /// By SIGKILL, without the ladder.
    pub kill: bool,
}

/// Why a run, or an attempt at one, is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Its main process ended by itself.
    Exit(Exit),
    /// We stopped it; `exit` is none when no main process ran.
    Stopped(StopWhy, Option<Exit>),
    /// It could not be started.
    NotSpawned(SpawnFailure),
    /// This `start_pre` command ended so.
    Pre(usize, Exit),
    /// This condition of the world did not come true in time.
    WaitedInVain(usize),
}

/// The end of a run or of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Why.
    pub cause: Cause,
    /// How long the main process lived.
    pub lived: Option<Duration>,
}

/// Where a program is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Down because the goal is down.
    Stopped,
    /// The gate is closed: something that must come first is not there.
    Waiting {
        /// Since when.
        since: Instant,
        /// When wants and afters are no longer waited for; `None`: never, or that time is over.
        patience: Option<Instant>,
        /// Whether wants and afters are still waited for.
        patient: bool,
        /// How many of its waits for the world are over.
        waits_done: usize,
        /// When the wait for the world that is under way has lasted too long.
        wait_until: Option<Instant>,
    },
    /// The system had no room for a child; tried again soon, without counting.
    Retrying {
        /// When.
        at: Instant,
        /// The pause after that.
        pause: Duration,
        /// Since when it is tried.
        since: Instant,
        /// What.
        next: Next,
    },
    /// Asked to be spawned, not yet answered.
    Spawning {
        /// Which life.
        run: RunId,
        /// What.
        next: Next,
        /// A stop that arrived meanwhile.
        stop: Option<Halt>,
        /// Pause and begin of earlier tries.
        tried: Option<(Duration, Instant)>,
    },
    /// A `start_pre` command runs.
    Preparing {
        /// Its process.
        life: Life,
        /// Which.
        index: usize,
        /// Its time limit.
        kill_at: Option<Instant>,
    },
    /// A `start_pre` command ended well; what it left behind is being killed.
    Sweeping {
        /// Which life.
        run: RunId,
        /// Which command.
        index: usize,
        /// When to kill again.
        again: Again,
    },
    /// The program runs and its `start_post` commands run beside it.
    Settling {
        /// The program.
        life: Life,
        /// Which command.
        index: usize,
    },
    /// Up.
    Running {
        /// The program.
        life: Life,
    },
    /// To be stopped when nothing that needs it is up any more.
    Draining {
        /// The program.
        life: Life,
        /// Why.
        why: StopWhy,
    },
    /// Asked to end.
    Stopping {
        /// The program.
        life: Life,
        /// Why.
        why: StopWhy,
        /// Which rung of the ladder was taken last; its length means SIGKILL.
        rung: usize,
        /// When the next is taken.
        next_at: Option<Instant>,
    },
    /// The main process is gone; the rest of its tree is being ended.
    Emptying {
        /// Which life.
        run: RunId,
        /// How it ended.
        ended: Ended,
        /// When to kill (again).
        again: Again,
        /// Whether the tree of the main process is empty (a command beside it may not be).
        empty: bool,
    },
    /// A `stop_post` command runs or is being ended.
    Cleaning {
        /// Which life.
        run: RunId,
        /// Which command.
        index: usize,
        /// How the program ended.
        ended: Ended,
        /// Its time limit; then the pause between kills.
        again: Again,
    },
    /// Ended; starts again by itself.
    Backoff {
        /// When.
        at: Instant,
        /// How it ended.
        ended: Ended,
    },
    /// Ended by itself and stays down.
    Exited {
        /// How it ended.
        ended: Ended,
        /// Whether that is success.
        success: bool,
    },
    /// Given up.
    Fatal {
        /// How it ended last.
        ended: Ended,
        /// The start limit was hit (and not merely a final failure).
        limit: bool,
        /// When it is tried once more.
        retry_at: Option<Instant>,
    },
}

/// When to signal a stubborn tree again, and the pause after that (doubled each time, up to a minute).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// When; `None`: never.
    pub at: Option<Instant>,
    /// The pause that follows.
    pub pause: Duration,
}

impl Again {
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
    /// The latest life of its main process.
    pub main: Option<RunId>,
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
            main: None,
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
        let own = match &self.state {
            State::Stopped | State::Spawning { .. } | State::Draining { .. } => None,
            State::Settling { .. } | State::Exited { .. } => None,
            State::Waiting { wait_until: Some(at), .. } => Some(*at),
            State::Waiting { patience, wait_until: None, .. } => *patience,
            State::Retrying { at, .. } | State::Backoff { at, .. } => Some(*at),
            State::Preparing { kill_at, .. } => *kill_at,
            State::Running { life } => self.program.max_runtime.from(life.started),
            State::Stopping { next_at, .. } => *next_at,
            State::Sweeping { again, .. }
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
            | State::Settling { life, .. }
            | State::Running { life }
            | State::Draining { life, .. }
            | State::Stopping { life, .. } => Some(*life),
            State::Stopped
            | State::Waiting { .. }
            | State::Retrying { .. }
            | State::Spawning { .. }
            | State::Sweeping { .. }
            | State::Emptying { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Fatal { .. } => None,
        }
    }

    /// The run that its state is about; for a test fault.
    pub(super) fn present_run(&self) -> Option<RunId> {
        if let State::Spawning { run, .. } | State::Emptying { run, .. } = &self.state {
            return Some(*run);
        }
        self.life().map(|life| life.run)
    }

    /// Whether any process of it may be alive, or is about to be.
    #[must_use]
    pub fn is_live(&self) -> bool {
        match &self.state {
            State::Stopped
            | State::Waiting { .. }
            | State::Retrying { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Fatal { .. } => false,
            State::Spawning { .. }
            | State::Preparing { .. }
            | State::Sweeping { .. }
            | State::Settling { .. }
            | State::Running { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Emptying { .. }
            | State::Cleaning { .. } => true,
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

    /// Whether it serves: up, or, for a oneshot, done with success.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match &self.state {
            State::Running { .. } | State::Draining { .. } => !self.is_oneshot(),
            State::Exited { success, .. } => self.is_oneshot() && *success,
            State::Stopped
            | State::Waiting { .. }
            | State::Retrying { .. }
            | State::Spawning { .. }
            | State::Preparing { .. }
            | State::Sweeping { .. }
            | State::Settling { .. }
            | State::Stopping { .. }
            | State::Emptying { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Fatal { .. } => false,
        }
    }

    /// The word that is shown.
    #[must_use]
    pub fn word(&self) -> StateWord {
        match &self.state {
            State::Stopped => StateWord::Stopped,
            State::Waiting { .. } => StateWord::Waiting,
            State::Retrying { .. }
            | State::Spawning { .. }
            | State::Preparing { .. }
            | State::Sweeping { .. }
            | State::Settling { .. } => StateWord::Starting,
            State::Running { .. } => StateWord::Running,
            State::Draining { .. }
            | State::Stopping { .. }
            | State::Emptying { .. }
            | State::Cleaning { .. } => StateWord::Stopping,
            State::Backoff { .. } => StateWord::Backoff,
            State::Exited { .. } => StateWord::Exited,
            State::Fatal { .. } => StateWord::Fatal,
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
