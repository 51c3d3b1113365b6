//! What happened, as data; its words stand here and nowhere else.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Busy, Cause, ProbeOf, Role, SemaphoreNews, Slot, StopWhy};
use crate::{
    control::Peer,
    model::{Exit, Human, LogLevel, Name, Signal},
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// To which program; `None`: to the supervisor.
    pub program: Option<Name>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields' words are those of the texts below")]
pub enum What {
    /// The supervisor is ready and starts its programs.
    SupervisorStarted { programs: usize },
    /// The site is being stopped.
    SupervisorStopping { why: SiteStop },
    /// Everything still alive is being killed.
    SupervisorKilling { left: usize },
    /// The site is down.
    SupervisorStopped { code: u8 },
    /// A reload was applied.
    Reloaded { added: usize, removed: usize, restarted: usize, changed: usize },
    /// A reload was refused; nothing changed.
    NotReloaded { why: Arc<str> },
    /// A client changed something.
    Asked { peer: Peer, verb: Arc<str>, names: Arc<str> },
    /// Log files were closed and opened.
    Reopened,
    /// Something of the supervisor's own that an operator should know.
    Note { level: LogLevel, text: Arc<str> },
    /// The gate is closed.
    Waiting { on: Arc<str> },
    /// The main process executes.
    Started { pid: u32 },
    /// It says that it is not ready, or a look at it has found that.
    NotReady { why: Arc<str> },
    /// It was to be ready by now.
    Late { after: Duration },
    /// It has not said in its time that it is alive, or has said that it is not well.
    Unfed { after: Option<Duration> },
    /// It says that it reloads or stops; none: that it is ready again.
    Says { busy: Option<Busy> },
    /// Its main process is another one.
    MainIs { pid: u32 },
    /// Up.
    Ready,
    /// Up again after trouble.
    Recovered,
    /// A oneshot is done.
    Completed,
    /// The main process ended by itself.
    Exited { exit: Exit, lived: Duration },
    /// Starts again after a delay.
    Backoff { cause: Cause, attempt: u32, delay: Duration },
    /// Stays down although the goal is up.
    Rested { success: bool },
    /// Given up.
    Fatal { cause: Cause, limit: bool, retry: Option<Duration> },
    /// Asked to end.
    Stopping { why: StopWhy },
    /// Asked harder.
    Escalated { signal: Signal },
    /// Ended without being asked.
    Killing { why: StopWhy },
    /// Down.
    Stopped,
    /// Processes outlive SIGKILL.
    Unkillable,
    /// A command beside the program ended badly.
    HookEnded { role: Role, exit: Exit, ignored: bool },
    /// A command beside the program could not be started.
    HookNotStarted { role: Role, text: Arc<str> },
    /// A time limit was reached.
    TimedOut { role: Role },
    /// A child hangs before its exec.
    NotExecuted { role: Role, after: Duration },
    /// The system has no room for a child.
    NoRoom { text: Arc<str>, pause: Duration },
    /// Stale files in /dev/shm were removed (or would be).
    ShmRemoved { count: usize, names: Arc<str>, kept: usize, dry_run: bool },
    /// The names that did not fit into that line.
    ShmAlso { names: Arc<str> },
    /// A file of a stale name stays.
    ShmKept { file: Arc<str>, why: Arc<str> },
    /// /dev/shm cannot be tidied.
    ShmFailed { why: Arc<str> },
    /// Its health check works, for the first time or again.
    Healthy { again: bool },
    /// The first failure of a row that may get too long.
    Failing { why: Arc<str>, of: u32 },
    /// So many in a row are too many.
    Unhealthy { why: Arc<str>, failures: u32 },
    /// It cannot be told how it is.
    HealthUnknown { why: Arc<str> },
    /// Copies that somebody else has started are being ended.
    CopiesEnded { who: Arc<str> },
    /// And killed.
    CopiesKilled,
    /// A copy that somebody else has started is the program from now on; who, in words.
    Adopted { who: Arc<str> },
    /// It ended, nobody knows how, and stays down although the goal is up.
    RestedUnknown,
    /// Something happened to a semaphore.
    Semaphore { name: Name, news: SemaphoreNews },
    /// A cell of the machine that cannot be reached was reached.
    Bug { text: Arc<str> },
}

/// Why the whole site stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SiteStop {
    /// By a signal.
    Signal,
    /// By a client.
    Asked,
    /// An essential program has ended.
    Essential,
    /// No program runs or will run again.
    AllExited,
    /// A start limit says so.
    Limit,
    /// A fault of our own.
    Fault,
    /// In a container, instead of a reboot.
    Reboot,
    /// In a container, instead of switching off.
    PowerOff,
}

impl Record {
    pub(super) fn of(slot: &Slot, what: What) -> Self {
        Self { program: Some(slot.program.name.clone()), what }
    }

    /// Of the supervisor itself.
    #[must_use]
    pub fn site(what: What) -> Self {
        Self { program: None, what }
    }

    /// Its name in the vocabulary of events.
    #[must_use]
    pub fn event(&self) -> &'static str {
        match &self.what {
            What::SupervisorStarted { .. } => "supervisor.started",
            What::SupervisorStopping { .. } => "supervisor.stopping",
            What::SupervisorKilling { .. } => "supervisor.killing",
            What::SupervisorStopped { .. } => "supervisor.stopped",
            What::Reloaded { .. } => "config.reloaded",
            What::NotReloaded { .. } => "config.refused",
            What::Asked { .. } => "control.request",
            What::Reopened => "supervisor.reopened",
            What::Note { .. } => "supervisor.note",
            What::Bug { .. } => "supervisor.bug",
            What::Semaphore { news, .. } => news.event(),
            What::Waiting { .. } => "program.waiting",
            What::Started { .. } => "program.started",
            What::NotReady { .. } => "program.not-ready",
            What::Unfed { .. } => "program.watchdog",
            What::Ready => "program.ready",
            What::Recovered => "program.recovered",
            What::Completed => "program.completed",
            What::Exited { .. } => "program.exited",
            What::Backoff { .. } => "program.backoff",
            What::Rested { .. } | What::RestedUnknown => "program.ended",
            What::Fatal { .. } => "program.fatal",
            What::Stopping { .. } => "program.stopping",
            What::Escalated { .. } => "program.escalated",
            What::Killing { .. } => "program.killing",
            What::Stopped => "program.stopped",
            What::Unkillable => "program.unkillable",
            What::HookEnded { .. } | What::HookNotStarted { .. } => "program.hook",
            What::TimedOut { .. } | What::NotExecuted { .. } | What::Late { .. } => {
                "program.timeout"
            }
            What::Says { .. } => "program.says",
            What::MainIs { .. } => "program.main",
            What::NoRoom { .. } => "program.delayed",
            What::Healthy { .. } => "program.healthy",
            What::Unhealthy { .. } => "program.unhealthy",
            What::Failing { .. } | What::HealthUnknown { .. } => "program.health",
            What::ShmRemoved { .. } | What::ShmAlso { .. } => "shm.removed",
            What::ShmKept { .. } => "shm.kept",
            What::ShmFailed { .. } => "shm.failed",
            What::CopiesEnded { .. } | What::CopiesKilled => "program.replaces",
            What::Adopted { .. } => "program.adopted",
        }
    }

    /// How important it is.
    #[must_use]
    pub fn level(&self) -> LogLevel {
        match &self.what {
            What::Fatal { .. } | What::Bug { .. } | What::NotReloaded { .. } | What::Unkillable => {
                LogLevel::Error
            }
            What::Note { level, .. } => *level,
            What::Semaphore { news, .. } => news.level(),
            What::Backoff { .. }
            | What::Escalated { .. }
            | What::Killing { .. }
            | What::HookEnded { .. }
            | What::HookNotStarted { .. }
            | What::TimedOut { .. }
            | What::NotReady { .. }
            | What::Late { .. }
            | What::Unfed { .. }
            | What::NotExecuted { .. }
            | What::NoRoom { .. }
            | What::ShmFailed { .. }
            | What::Unhealthy { .. }
            | What::HealthUnknown { .. }
            | What::CopiesEnded { .. }
            | What::CopiesKilled
            | What::SupervisorKilling { .. }
            | What::RestedUnknown
            | What::Rested { success: false } => LogLevel::Warn,
            What::Ready | What::ShmAlso { .. } => LogLevel::Debug,
            What::SupervisorStarted { .. }
            | What::SupervisorStopping { .. }
            | What::SupervisorStopped { .. }
            | What::Reloaded { .. }
            | What::Asked { .. }
            | What::Reopened
            | What::Waiting { .. }
            | What::Started { .. }
            | What::Adopted { .. }
            | What::ShmRemoved { .. }
            | What::ShmKept { .. }
            | What::Says { .. }
            | What::MainIs { .. }
            | What::Recovered
            | What::Healthy { .. }
            | What::Failing { .. }
            | What::Completed
            | What::Exited { .. }
            | What::Rested { success: true }
            | What::Stopping { .. }
            | What::Stopped => LogLevel::Info,
        }
    }

    /// The words, without what somebody says about it in lines of his own, and these lines.
    #[must_use]
    pub fn in_parts(&self) -> (String, Vec<String>) {
        let What::Semaphore { name, news } = &self.what else {
            return (self.to_string(), Vec::new());
        };
        let (news, said) = news.in_parts();
        (What::Semaphore { name: name.clone(), news }.to_string(), said)
    }

    /// The words, without the program's name.
    #[must_use]
    pub fn text(&self) -> String {
        self.what.to_string()
    }

    /// Whom it is about, and the words without that.
    #[must_use]
    pub fn in_list(&self) -> (String, String) {
        match (&self.program, &self.what) {
            (Some(program), _) => (program.as_str().to_owned(), self.text()),
            (None, What::Semaphore { name, news }) => {
                (format!("semaphore:{name}"), news.to_string())
            }
            (None, _) => ("supervisor".to_owned(), self.text()),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Some(name) => write!(f, "{name}: {}", self.what),
            None => write!(f, "{}", self.what),
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "parts of one match")]
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { on } => write!(f, "waiting for {on}"),
            Self::Started { pid } => write!(f, "started (pid {pid})"),
            Self::Ready => f.write_str("ready"),
            Self::Recovered => f.write_str("ready again"),
            Self::Completed => f.write_str("completed"),
            Self::Exited { exit: Exit::Unknown, lived } => write!(
                f,
                "ended after {}; its exit status is not known, because it was adopted",
                Human(*lived)
            ),
            Self::Exited { exit, lived } => write!(f, "{exit} after {}", Human(*lived)),
            Self::Backoff { cause, attempt, delay } => {
                write!(f, "{cause}; attempt {} in {}", attempt + 1, Human(*delay))
            }
            Self::Rested { success: true } => f.write_str("ended, not started again"),
            Self::Rested { success: false } => {
                f.write_str("ended badly, not started again (restart policy)")
            }
            Self::Fatal { cause: cause @ Cause::Duplicate(_), .. } => {
                write!(f, "not started: {cause}")
            }
            Self::Fatal { cause, limit, retry } => {
                let why = if *limit { "; too many starts" } else { "" };
                match retry {
                    Some(retry) => {
                        write!(f, "given up ({cause}{why}); next try in {}", Human(*retry))
                    }
                    None => write!(f, "given up ({cause}{why})"),
                }
            }
            Self::Stopping { why } => write!(f, "stopping ({why})"),
            Self::Escalated { signal } => write!(f, "still alive, sending {signal}"),
            Self::Killing { why } => write!(f, "killing ({why})"),
            Self::Stopped => f.write_str("stopped"),
            Self::Unkillable => f.write_str("has processes that outlive SIGKILL; waiting for them"),
            Self::HookEnded { role, exit, ignored } => {
                write!(f, "{role}: {exit}{}", if *ignored { " (ignored)" } else { "" })
            }
            Self::HookNotStarted { role, text } => write!(f, "{role}: cannot start: {text}"),
            Self::TimedOut { role } => write!(f, "{role} took too long"),
            Self::NotExecuted { role, after } => {
                write!(f, "{role}: no exec within {}, sending SIGKILL", Human(*after))
            }
            Self::NoRoom { text, pause } => {
                write!(f, "cannot start now: {text}; trying again in {}", Human(*pause))
            }
            Self::ShmRemoved { count, names, kept, dry_run } => {
                let verb = if *dry_run { "would remove" } else { "removed" };
                let files = if *count == 1 { "file" } else { "files" };
                write!(f, "shm: {verb} {count} stale {files}")?;
                f.write_str(if names.is_empty() { "" } else { ": " })?;
                f.write_str(names)?;
                if *kept > 0 { write!(f, "; kept {kept}") } else { Ok(()) }
            }
            Self::ShmAlso { names } => write!(f, "shm: among them {names}"),
            Self::ShmKept { file, why } => write!(f, "shm: kept {file}: {why}"),
            Self::ShmFailed { why } => write!(f, "shm: {why}"),
            Self::Healthy { again: false } => f.write_str("healthy"),
            Self::Healthy { again: true } => f.write_str("healthy again"),
            Self::Failing { why, of } => write!(f, "health check failed (1 of {of}): {why}"),
            Self::Unhealthy { why, failures } => {
                write!(f, "unhealthy: {}: {why}", StopWhy::Unhealthy(*failures))
            }
            Self::HealthUnknown { why } => {
                write!(f, "its health cannot be told, so nothing is done: {why}")
            }
            other => other.fmt_copies(f),
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "parts of one match")]
impl What {
    /// The words of what a program says of itself, or does not say.
    fn fmt_said(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady { why } => write!(f, "not ready: {why}"),
            Self::Late { after } => write!(f, "not ready within {}", Human(*after)),
            Self::Unfed { after: Some(after) } => {
                write!(
                    f,
                    "has not said within {} that it is alive, sending ABRT (watchdog)",
                    Human(*after)
                )
            }
            Self::Unfed { after: None } => {
                f.write_str("wants to be aborted, sending ABRT (WATCHDOG=trigger)")
            }
            Self::Says { busy: Some(busy) } => write!(f, "{}, it says", busy.as_str()),
            Self::Says { busy: None } => f.write_str("ready again, it says"),
            Self::MainIs { pid } => write!(f, "its main process is now pid {pid}, it says"),
            other => other.fmt_site(f),
        }
    }

    /// The words of what concerns the whole site.
    fn fmt_site(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SupervisorStarted { programs: 1 } => f.write_str("supervising 1 program"),
            Self::SupervisorStarted { programs } => write!(f, "supervising {programs} programs"),
            Self::SupervisorStopping { why } => write!(f, "stopping the site ({why})"),
            Self::SupervisorKilling { left: 1 } => f.write_str("killing what is left: 1 program"),
            Self::SupervisorKilling { left } => write!(f, "killing what is left: {left} programs"),
            Self::SupervisorStopped { code } => write!(f, "stopped, exit {code}"),
            Self::Reloaded { added, removed, restarted, changed } => write!(
                f,
                "reloaded: {added} added, {removed} removed, {restarted} restarted, {changed} changed"
            ),
            Self::NotReloaded { why } => write!(f, "reload refused, nothing changed: {why}"),
            Self::Asked { peer, verb, names } => {
                let space = if names.is_empty() { "" } else { " " };
                write!(f, "{verb}{space}{names} (asked by uid {}, pid {})", peer.uid, peer.pid)
            }
            Self::Reopened => f.write_str("log files reopened"),
            Self::Note { text, .. } => f.write_str(text),
            Self::Semaphore { name, news } => write!(f, "semaphore:{name}: {news}"),
            Self::Bug { text } => write!(f, "bug: {text}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(exit) => write!(f, "{exit}"),
            Self::Stopped(why, _) => write!(f, "{why}"),
            Self::NotSpawned(failure) => write!(f, "cannot start: {}", failure.text),
            Self::Pre(index, exit) => write!(f, "{}: {exit}", Role::StartPre(*index)),
            Self::NoMain(why) | Self::Duplicate(why) => f.write_str(why),
            Self::Unready(exit) => write!(f, "ended before it was ready ({exit})"),
            Self::WaitedInVain(index) => write!(f, "wait_for[{index}] took too long"),
        }
    }
}

impl fmt::Display for StopWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("asked"),
            Self::Restart => f.write_str("restart"),
            Self::Requirement(_) => f.write_str("something it requires is down"),
            Self::Lock => f.write_str("a semaphore that has to be free is raised"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::HostEnd => f.write_str("the host goes down"),
            Self::Removed => f.write_str("removed from the site"),
            Self::Changed => f.write_str("its settings changed"),
            Self::MaxRuntime => f.write_str("ran longer than max_runtime"),
            Self::StartTimeout => f.write_str("start took too long"),
            Self::Unhealthy(1) => f.write_str("its health check failed"),
            Self::Unhealthy(times) => write!(f, "its health check failed {times} times"),
            Self::NotReady => f.write_str("it was not ready in its time"),
            Self::Watchdog => f.write_str("watchdog"),
            Self::Post(index, exit) => write!(f, "{}: {exit}", Role::StartPost(*index)),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Main => f.write_str("command"),
            Self::StartPre(index) => write!(f, "start_pre[{index}]"),
            Self::StartPost(index) => write!(f, "start_post[{index}]"),
            Self::StopPost(index) => write!(f, "stop_post[{index}]"),
            Self::StopCommand => f.write_str("stop command"),
            Self::ReloadCommand => f.write_str("reload command"),
            Self::Probe(ProbeOf::Health) => f.write_str("health check"),
            Self::Probe(ProbeOf::Readiness) => f.write_str("readiness"),
        }
    }
}

impl fmt::Display for SiteStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signal => "signal",
            Self::Asked => "asked",
            Self::Essential => "an essential program has ended",
            Self::AllExited => "no program runs or will run again",
            Self::Limit => "a program has hit its start limit",
            Self::Fault => "a fault of the supervisor",
            Self::Reboot => "a reboot was asked for",
            Self::PowerOff => "a power-off was asked for",
        })
    }
}

impl What {
    #[expect(clippy::wildcard_enum_match_arm, reason = "parts of one match")]
    fn fmt_copies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RestedUnknown => f.write_str("ended, not started again (restart policy)"),
            Self::CopiesEnded { who } => write!(f, "{who}; ending it first"),
            Self::Adopted { who } => {
                write!(f, "adopted, not started by the supervisor: {who}; its output is not ours")
            }
            Self::CopiesKilled => f.write_str("what runs already is still alive, sending KILL"),
            other => other.fmt_said(f),
        }
    }
}
