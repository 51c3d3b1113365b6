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
//! A program that runs once at the most first takes its lock: claiming, STARTING.
//! Before the first command of a start, and after the last one of a run, stale files in /dev/shm
//! may be removed: tidying, STARTING or STOPPING.
//!
//! A state has a [`Life`] exactly when a main process may be alive. What belongs to more than one
//! state (goal, history) stands in [`super::Slot`].

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Again, Claiming, Fork, RunId, SpawnFailure, Then};
use crate::{
    model::{Exit, Instant},
    plan::ProgramId,
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
    /// A semaphore that has to be free is raised.
    Lock,
    /// The supervisor stops.
    Shutdown,
    /// The host goes down.
    HostEnd,
    /// A reload removed it.
    Removed,
    /// A reload changed it.
    Changed,
    /// It ran longer than `max_runtime`.
    MaxRuntime,
    /// It took longer than `start_timeout`.
    StartTimeout,
    /// Its health check failed so often in a row.
    Unhealthy(u32),
    /// It was not ready in its time.
    NotReady,
    /// It has not said in its time that it is alive.
    Watchdog,
    /// This `start_post` command ended so.
    Post(usize, Exit),
}

impl StopWhy {
    /// Whether the stop is the program's own failure, so that its restart policy decides.
    pub(super) fn is_failure(self) -> bool {
        match self {
            Self::MaxRuntime
            | Self::StartTimeout
            | Self::NotReady
            | Self::Watchdog
            | Self::Unhealthy(_)
            | Self::Post(..) => true,
            Self::Asked
            | Self::Restart
            | Self::Requirement(_)
            | Self::Lock
            | Self::Shutdown
            | Self::HostEnd
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
    /// It forks, and its daemon is not known; why.
    NoMain(Arc<str>),
    /// It ended so, and well, before it was ready.
    Unready(Exit),
    /// It is running already, and not as ours; who, in words.
    Duplicate(Arc<str>),
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
        /// Whether the log has what is waited for.
        told: bool,
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
        /// When it has hung for too long before its exec; then the pause between kills.
        again: Again,
    },
    /// Its lock is being taken, and copies are looked for; nothing of it is alive.
    Claiming {
        /// Tells the answer from an earlier one.
        run: RunId,
        /// How far it is.
        step: Claiming,
    },
    /// Stale files in /dev/shm are being removed; nothing of it is alive.
    Tidying {
        /// Tells the answer from an earlier one.
        run: RunId,
        /// What follows.
        then: Then,
        /// When it is no longer waited for.
        until: Instant,
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
    /// The command of a program that forks runs, or its daemon is looked for.
    Forking {
        /// The command; after its end the daemon has its place.
        life: Life,
        /// How far it is.
        fork: Fork,
    },
    /// The program runs and is not known to be ready.
    Proving {
        /// The program.
        life: Life,
        /// When that has taken too long.
        until: Option<Instant>,
        /// Why it is not ready yet, where something is known of that.
        why: Option<Arc<str>>,
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
