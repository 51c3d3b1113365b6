//! Requests and replies as data: what a client may ask of a running supervisor.
//!
//! The wire is JSON-RPC 2.0, one object a line; the verbs are a closed enum, so that a client's
//! text is never dispatched on. Imports only [`crate::model`].

pub mod access;
pub mod paths;
mod processes;
mod status;
pub mod wire;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use processes::*;
pub use status::*;

use crate::model::{Signal, WallTime};

/// Identifies one request for its reply; unique per supervisor run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// Who asks, by `SO_PEERCRED` (unix(7)) at the time of connecting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Process id; for display only.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Everything a client can ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The state of the site, or of the named programs. Reply: [`Reply::Status`].
    Status(Targets),
    /// Bring programs up. Reply: [`Reply::Outcome`].
    Start(Change),
    /// Bring programs down.
    Stop(Change),
    /// Down and up again, with the newest accepted configuration; starts what is stopped.
    Restart(Change),
    /// Read the site file again and apply the difference.
    Reload(ReloadSite),
    /// Run the programs' own reload.
    ReloadProgram(Targets),
    /// Send a signal to the main processes.
    Signal(SendSignal),
    /// Forget failures and the start limit.
    Reset(Targets),
    /// Lines of output.
    Logs(LogsQuery),
    /// What happened; then, with `follow`, what happens.
    Events(EventsQuery),
    /// Cancel what a semaphore asks for, and remove its files.
    ClearSemaphore(SemaphoreName),
    /// The processes of the programs, and those that they have left behind.
    /// Reply: [`Reply::Processes`].
    Processes(ProcessesQuery),
    /// Stop all programs and end what they have left behind. Reply: [`Reply::Killed`].
    KillAll(KillAll),
    /// What happens to a semaphore from now on, for whoever raises it. Reply: [`Reply::Lines`], as
    /// they come.
    FollowSemaphore(SemaphoreName),
    /// Stop the site and end. Reply when it begins.
    Shutdown(Shutdown),
    /// Version, pid, name.
    Version(Empty),
}

impl Request {
    /// The word on the wire.
    #[must_use]
    pub fn method(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Start(_) => "start",
            Self::Stop(_) => "stop",
            Self::Restart(_) => "restart",
            Self::Reload(_) => "reload",
            Self::ReloadProgram(_) => "reload_program",
            Self::Signal(_) => "signal",
            Self::Reset(_) => "reset",
            Self::Logs(_) => "logs",
            Self::Events(_) => "events",
            Self::ClearSemaphore(_) => "clear_semaphore",
            Self::Processes(_) => "processes",
            Self::KillAll(_) => "kill_all",
            Self::FollowSemaphore(_) => "follow_semaphore",
            Self::Shutdown(_) => "shutdown",
            Self::Version(_) => "version",
        }
    }

    /// Whether it changes anything, so that it is logged and counted by a rate limit.
    #[must_use]
    pub fn is_change(&self) -> bool {
        match self {
            Self::Start(change) | Self::Stop(change) | Self::Restart(change) => !change.dry_run,
            Self::Reload(reload) => !reload.dry_run,
            Self::KillAll(order) => !order.dry_run,
            Self::ReloadProgram(_)
            | Self::Signal(_)
            | Self::Reset(_)
            | Self::ClearSemaphore(_)
            | Self::Shutdown(_) => true,
            Self::Status(_)
            | Self::Logs(_)
            | Self::Events(_)
            | Self::Processes(_)
            | Self::FollowSemaphore(_)
            | Self::Version(_) => false,
        }
    }
}

/// A time as a number of seconds, `null` for none.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
    pub(super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_f64(time.as_secs_f64()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<f64>::deserialize(from)?
            .map(|secs| Duration::try_from_secs_f64(secs).map_err(de::Error::custom))
            .transpose()
    }
}

/// No parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// Names, `'glob*'`, `tag:T`, `all`; empty means all where that is harmless (status, logs).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// As typed.
    #[serde(default)]
    pub names: Vec<String>,
}

/// Parameters of start, stop, restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a member of its own on the wire")]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// As typed.
    pub names: Vec<String>,
    /// Reply at once instead of when it is done.
    #[serde(default)]
    pub no_wait: bool,
    /// Do not wait for dependants, nor ask: the stop begins at SIGKILL.
    #[serde(default)]
    pub force: bool,
    /// Only say what would be touched.
    #[serde(default)]
    pub dry_run: bool,
    /// Reply with what is so far after this time; the operation continues. Seconds on the wire.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Start this variant.
    #[serde(default)]
    pub variant: Option<String>,
    /// The user was asked, or said `--yes`: stop even what has `stop.confirm`.
    #[serde(default)]
    pub confirmed: bool,
    /// Arguments for a variant that allows them.
    #[serde(default)]
    pub extra_args: Vec<String>,
}

/// Parameters of reload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadSite {
    /// Print the difference, change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Allow the reload to remove more than half of the running programs.
    #[serde(default)]
    pub allow_removal: bool,
}

/// Parameters of signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendSignal {
    /// Which.
    pub signal: Signal,
    /// To whom.
    pub names: Vec<String>,
}

/// Parameters of logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogsQuery {
    /// Of whom; empty means all.
    #[serde(default)]
    pub names: Vec<String>,
    /// At most so many lines (in all).
    #[serde(default)]
    pub lines: Option<u32>,
    /// Not older than this. Seconds on the wire.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub since: Option<Duration>,
    /// Standard error only.
    #[serde(default)]
    pub stderr: bool,
    /// Go on with what comes.
    #[serde(default)]
    pub follow: bool,
}

/// Parameters of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Go on with what comes.
    #[serde(default)]
    pub follow: bool,
}

/// Parameters of what concerns one semaphore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SemaphoreName {
    /// Its name, without `semaphore:`.
    pub name: String,
}

/// Parameters of shutdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// SIGKILL at once.
    #[serde(default)]
    pub force: bool,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
pub enum Reply {
    /// To status.
    Status(Box<SiteStatus>),
    /// To a change: what became of each program.
    Outcome(Outcome),
    /// To a reload of the site.
    Reloaded(Box<Difference>),
    /// Done, nothing to tell.
    Done,
    /// To version.
    Version(VersionInfo),
    /// To processes.
    Processes(Box<ProcessList>),
    /// To a `kill_all`: what became of everybody.
    Killed(Box<KillReport>),
    /// One or more lines, log or event; more may follow.
    Lines(Vec<LogLine>),
    /// It was refused or could not be done.
    Error(Refusal),
}

/// A refusal with a stable code; the text names the object, the cause and the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable, for programs.
    pub code: RefusalCode,
    /// For people, without "supervisor: cannot".
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

/// Stable codes of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// No program is called that. Client exit 5 (status: 4).
    NoSuchName,
    /// The peer may not. Client exit 4.
    NotPermitted,
    /// The site file is invalid. Client exit 78.
    InvalidSite,
    /// Anything else that did not work. Client exit 1.
    Failed,
    /// The request cannot be read. Client exit 2.
    BadRequest,
    /// The program has `stop.confirm`, and neither `confirmed` nor `force` was said. The message is
    /// the question. Client exit 1.
    NeedsConfirmation,
    /// The supervisor is stopping. Client exit 1.
    ShuttingDown,
}

/// What became of each program of a change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// One entry a program, in the site's order.
    pub programs: Vec<ProgramOutcome>,
    /// False when a timeout or `no_wait` ended the waiting.
    pub complete: bool,
}

/// What became of one program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgramOutcome {
    /// Which.
    pub name: String,
    /// Whether it is as was asked.
    pub ok: bool,
    /// Its state now.
    pub state: StateWord,
    /// In words.
    pub reason: String,
}

/// The difference that a reload makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Names that are new.
    pub added: Vec<String>,
    /// Names that are gone (stopped).
    pub removed: Vec<String>,
    /// Restarted, with the keys that say so.
    pub restarted: Vec<(String, Vec<String>)>,
    /// Changed from their next start on.
    pub next_start: Vec<(String, Vec<String>)>,
    /// Changed at once without a restart.
    pub live: Vec<(String, Vec<String>)>,
    /// Changed settings of the supervisor that need its own restart.
    pub supervisor: Vec<String>,
    /// Whether it was only asked for.
    pub dry_run: bool,
    /// Warnings about the file, rendered.
    pub warnings: Vec<String>,
}

/// To version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// Of the running supervisor.
    pub version: String,
    /// Its pid.
    pub pid: u32,
    /// The site's name.
    pub name: String,
    /// The site file.
    pub config: Option<String>,
}

/// A line of a log, or an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// When.
    pub at: WallTime,
    /// Program; or the subject of an event.
    pub name: String,
    /// `stdout`, `stderr`, or the event's name (`program.started`).
    pub source: String,
    /// The text, lossily UTF-8.
    pub text: String,
}
