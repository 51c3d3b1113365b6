//! What a status shows: the document of `status --json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Empty;
use crate::model::{Exit, Signal, WallTime};

/// The states that are shown: supervisord's words and WAITING.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StateWord {
    /// Down because somebody wants it so.
    Stopped,
    /// Wants to start; something it needs is not there.
    Waiting,
    /// On its way up.
    Starting,
    /// Up.
    Running,
    /// Ended; started again after a delay.
    Backoff,
    /// On its way down.
    Stopping,
    /// Ended by itself, not started again.
    Exited,
    /// Given up.
    Fatal,
}

impl StateWord {
    /// As shown: `RUNNING`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "STOPPED",
            Self::Waiting => "WAITING",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Backoff => "BACKOFF",
            Self::Stopping => "STOPPING",
            Self::Exited => "EXITED",
            Self::Fatal => "FATAL",
        }
    }
}

/// The whole site, as `status --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteStatus {
    /// Of this document; fields and their types are stable within one version.
    pub schema_version: u32,
    /// The supervisor.
    pub supervisor: SupervisorStatus,
    /// The programs asked for.
    pub programs: Vec<ProgramStatus>,
    /// A later issue.
    pub mounts: Vec<Empty>,
    /// The semaphores asked for.
    #[serde(default)]
    pub semaphores: Vec<SemaphoreStatus>,
    /// A later issue.
    pub tasks: Vec<Empty>,
}

/// The states of a semaphore that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SemaphoreWord {
    /// Nobody asks.
    Clear,
    /// Somebody asks, and it was done.
    Raised,
    /// Somebody asks, and it is done in a while.
    Pending,
    /// Somebody has asked, and it is being done.
    Acting,
    /// Somebody asks who may not.
    Refused,
    /// It cannot be told: nothing is done.
    Unknown,
}

impl SemaphoreWord {
    /// As shown: `CLEAR`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "CLEAR",
            Self::Raised => "RAISED",
            Self::Pending => "PENDING",
            Self::Acting => "ACTING",
            Self::Refused => "REFUSED",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// One semaphore in a status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SemaphoreStatus {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: SemaphoreWord,
    /// In words.
    pub reason: String,
    /// What it does: `restart:web`; `none`, a mere lock.
    pub action: String,
    /// `flock` or `file`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// User and group of the lock file, where it is made; nobody's else counts.
    #[serde(default)]
    pub owner: Option<(u32, u32)>,
    /// The mode of the lock file, where it is made.
    #[serde(default)]
    pub mode: u32,
    /// The lock, or the file.
    pub path: String,
    /// Where whoever asks says more.
    pub info_file: Option<String>,
    /// The keys in it, by our names.
    pub info_keys: BTreeMap<String, String>,
    /// What it says, by our names where there are such.
    pub info: Vec<(String, String)>,
    /// Who holds the lock.
    pub holders: Vec<HolderStatus>,
    /// When it was raised last.
    pub last_raised: Option<WallTime>,
    /// While it is pending: when it is done, seconds from now.
    pub next_in_s: Option<f64>,
    /// While it is pending: what it waits for: `debounce`, `delay`, `min_uptime`, `rate_limit`.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// For people.
    pub description: Option<String>,
}

/// A process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderStatus {
    /// Its pid.
    pub pid: u32,
    /// Its real user.
    pub uid: u32,
    /// Its command line.
    pub command: String,
}

/// The supervisor in a status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SupervisorStatus {
    /// The site's name.
    pub name: String,
    /// Its pid.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// `up`, `stopping`.
    pub state: String,
    /// How long it runs.
    pub uptime_s: f64,
    /// Orphans of others that it reaped.
    #[serde(default)]
    pub orphans_reaped: u64,
    /// Dead processes whose parents live and do not wait for them: no init can reap those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zombies: Vec<Zombies>,
}

/// Dead children of one process that does not wait for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zombies {
    /// The process that should.
    pub parent: u32,
    /// What it is called.
    pub name: String,
    /// How many.
    pub count: u64,
}

/// One program in a status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgramStatus {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: StateWord,
    /// `up` or `down`.
    pub goal: String,
    /// Of the main process.
    pub pid: Option<u32>,
    /// It was started by hand, and adopted: it is no child of the supervisor.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// Of the whole tree.
    pub pids: Vec<u32>,
    /// Since it was started.
    pub uptime_s: Option<f64>,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is healthy; null without a health check, or when it is not known yet.
    pub healthy: Option<bool>,
    /// How it is by its health check, in words; null without one, or when it is not up.
    #[serde(default)]
    pub health: Option<String>,
    /// Starts by itself since the last start by hand or boot.
    pub restarts: u64,
    /// How the last run ended.
    pub exit: Option<ExitStatus>,
    /// In words.
    pub reason: String,
    /// What holds it back.
    pub waiting_for: Vec<String>,
    /// When something happens next by itself (start, SIGKILL), seconds from now.
    pub next_in_s: Option<f64>,
    /// While it is being stopped: how long it is given in all until `next_signal`, seconds.
    #[serde(default)]
    pub next_total_s: Option<f64>,
    /// While it is being stopped: the signal that it gets then.
    #[serde(default)]
    pub next_signal: Option<Signal>,
    /// When something happens next by itself (start, SIGKILL).
    pub next_at: Option<WallTime>,
    /// Processor time of the tree.
    pub cpu_usage_ns: Option<u64>,
    /// Memory of the tree, bytes.
    pub memory_current: Option<u64>,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// Where to read more: a link.
    #[serde(default)]
    pub documentation: Option<String>,
    /// Bytes of output lost, with the reason in the log.
    #[serde(default)]
    pub log_lost_bytes: u64,
    /// For how long a log file of it has not been written although it should have been, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_stuck_s: Option<f64>,
    /// The lock of a program that runs once at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockStatus>,
    /// What it says that it is doing: `reloading`, `stopping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// A line that it says of itself (`STATUS=`), in its present run or its latest; escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_text: Option<String>,
    /// The errno(3) that it says its failure is (`ERRNO=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_errno: Option<u32>,
}

/// The lock of a program that runs once at the most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockStatus {
    /// The lock file.
    pub path: String,
    /// Who has it.
    pub state: LockWord,
    /// Whoever has it, if it is not this program and can be seen.
    pub holder: Option<HolderStatus>,
    /// Where its pid is written.
    pub pid_file: Option<String>,
}

/// Who has the lock of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockWord {
    /// This program.
    Held,
    /// Nobody.
    Free,
    /// Somebody else.
    Taken,
    /// It cannot be looked at.
    Unknown,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Exit code.
    pub code: Option<u8>,
    /// Signal.
    pub signal: Option<Signal>,
    /// The kernel killed it, as there was no memory left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
    /// It was adopted, so nobody knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// When.
    pub at: WallTime,
}

impl ExitStatus {
    /// From an [`Exit`].
    #[must_use]
    pub fn new(exit: Exit, at: WallTime) -> Self {
        let (code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal { signal, .. } => (None, Some(signal)),
            Exit::OutOfMemory => (None, Some(Signal::KILL)),
            Exit::Unknown => (None, None),
        };
        let (out_of_memory, unknown) = (exit == Exit::OutOfMemory, exit == Exit::Unknown);
        Self { code, signal, out_of_memory, unknown, at }
    }
}
