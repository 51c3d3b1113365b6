//! What the engine wants done.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    control::{Reply, RequestId},
    engine::{ProbeOf, Record, RunId},
    model::{Exit, FileId, HostEnd, Method, Name, ShmMoment, Signal, WallTime, Watched},
    plan::ProgramId,
};

/// Something for the shell to do. Nothing is returned: what came of it arrives as an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start a child. Answered by `Spawned` or `SpawnFailed`.
    Spawn(Spawn),
    /// Send a signal; SIGCONT follows it where `and_continue`.
    Signal {
        /// Of which program.
        program: ProgramId,
        /// To which life.
        run: RunId,
        /// Which signal.
        signal: Signal,
        /// To whom of it.
        scope: Scope,
        /// A stopped process acts on SIGTERM only after SIGCONT.
        and_continue: bool,
    },
    /// Tell when this condition of the world is true.
    Await {
        /// Whose.
        program: ProgramId,
        /// To be given back.
        attempt: u64,
        /// Which of its waits.
        index: usize,
    },
    /// The command of a program that forks has ended well: find its daemon, among the processes of
    /// that run. Answered by `Main` or, as often as something is found out, by `NoMain`.
    FindMain {
        /// Of which program.
        program: ProgramId,
        /// Which life.
        run: RunId,
    },
    /// No longer interested in conditions of this program.
    AwaitNothing(ProgramId),
    /// The program is down: remove its runtime directory.
    RemoveRuntime(ProgramId),
    /// Look at what tells whether the program serves. Answered by `Probed`.
    Probe {
        /// For which program.
        program: ProgramId,
        /// To be given back.
        run: RunId,
        /// What for.
        of: ProbeOf,
    },
    /// Its answer is no longer waited for.
    ProbeNoMore(RunId),
    /// Remove what is stale in /dev/shm by the rules for this moment. Answered by `Tidied`.
    Tidy {
        /// Of which program; `None`: of the site.
        program: Option<ProgramId>,
        /// To be given back.
        run: RunId,
        /// By which of its rules.
        moment: ShmMoment,
    },
    /// Whoever removes files for this is to remove no more of them, from now on.
    TidyNoMore(RunId),
    /// Take the lock of this program, and look for copies of it that somebody else has started.
    /// Answered by `Claimed`.
    Claim {
        /// Of which program.
        program: ProgramId,
        /// To be given back.
        run: RunId,
    },
    /// Signal the copies that were found, and what they have started. Answered by `Claimed` when
    /// they are gone.
    EndCopies {
        /// Of which program.
        program: ProgramId,
        /// As in `Claim`.
        run: RunId,
        /// Which signal.
        signal: Signal,
    },
    /// Take the one copy that was found for the program: its end is to be told as that of this run,
    /// and signals to the run go to it. Answered by `Claimed`.
    Adopt {
        /// Of which program.
        program: ProgramId,
        /// As in `Claim`.
        run: RunId,
    },
    /// Write down who the program is, for its lock and its PID file.
    Sign {
        /// Which program.
        program: ProgramId,
        /// Its process id.
        pid: u32,
    },
    /// Nothing of this program is alive, or about to be: give its lock back.
    Unclaim(ProgramId),
    /// Write down what happened.
    Record(Record),
    /// Answer a client for good.
    Reply(RequestId, Box<Reply>),
    /// Show a waiting client how far its programs are.
    Progress(RequestId, Vec<ProgramId>),
    /// Read the site file.
    Load {
        /// Who asked.
        request: Option<RequestId>,
        /// Only say what would change.
        dry_run: bool,
        /// Even if more than half of the running programs go.
        allow_removal: bool,
    },
    /// The settings of this program changed without a restart.
    Reconfigure(ProgramId),
    /// The program is no longer part of the site.
    Forget(Name),
    /// Look at this semaphore from now on, instead of as before; no reading of what was looked at
    /// before is delivered any more.
    Watch(Name, Arc<Watched>),
    /// No longer.
    Unwatch(Name),
    /// The request is accepted: remove its files, if they are still these.
    Acknowledge {
        /// What was looked at.
        watched: Arc<Watched>,
        /// The lock, or the file.
        file: Option<FileId>,
        /// The info file.
        info: Option<FileId>,
    },
    /// A client wants everything ended: note who is there.
    KillAllBegins(RequestId),
    /// For that client the programs are down, or cannot be had down: end what they have left
    /// behind, and answer.
    EndTheRest(RequestId),
    /// Keep on disk that this semaphore was served now, and the latest `keep` times of it.
    Remember {
        /// Which.
        semaphore: Name,
        /// When.
        at: WallTime,
        /// How many times matter.
        keep: usize,
    },
    /// Ask this method to end the host. Answered by `HostAnswered`, if there is time for it.
    EndHost {
        /// To be given back.
        run: RunId,
        /// Which of its methods.
        method: Method,
        /// Everything about it.
        end: Arc<HostEnd>,
    },
    /// The answer of this method is no longer waited for: kill its command.
    EndHostNoMore(RunId),
    /// Close and open log files.
    ReopenLogs,
    /// Every program is down (or given up on): end with this code.
    Exit(u8),
}

/// A child to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Spawn {
    /// Of which program.
    pub program: ProgramId,
    /// Which life.
    pub run: RunId,
    /// As what.
    pub role: Role,
    /// For `stop_post`: how the main process ended.
    pub ended: Option<EndedAs>,
    /// The variant to start, with arguments of the moment.
    pub variant: Option<(Name, Vec<String>)>,
    /// Process id of the main process, for commands beside it ($MAINPID).
    pub main_pid: Option<u32>,
}

/// What a child is for its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The program itself.
    Main,
    /// `start_pre[i]`.
    StartPre(usize),
    /// `start_post[i]`.
    StartPost(usize),
    /// `stop_post[i]`.
    StopPost(usize),
    /// `stop.command`.
    StopCommand,
    /// `reload.command`.
    ReloadCommand,
    /// The `command` of a probe.
    Probe(ProbeOf),
}

/// What `stop_post` is told, in systemd's words (systemd.exec(5), `$SERVICE_RESULT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedAs {
    /// `success`, `exit-code`, `signal`, `core-dump`, `oom-kill`, `timeout`, `watchdog`,
    /// `protocol`, `resources`.
    pub result: ServiceResult,
    /// How the main process ended, when it ran.
    pub exit: Option<Exit>,
}

/// `$SERVICE_RESULT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceResult {
    /// It ended well.
    Success,
    /// An unclean code.
    ExitCode,
    /// An unclean signal.
    Signal,
    /// The same, with a core dump.
    CoreDump,
    /// The kernel, for want of memory.
    OomKill,
    /// A time limit.
    Timeout,
    /// It has not said that it is alive, or its health check says that it is not.
    Watchdog,
    /// It could not be started.
    Resources,
    /// It has not done what its `type` promises.
    Protocol,
    /// It was adopted, so nobody knows; no word of systemd's.
    Unknown,
}

impl Role {
    /// Whether it is a command of `start_post`.
    pub(super) fn is_start_post(&self) -> bool {
        matches!(self, Self::StartPost(_))
    }

    /// Whether it is the command that asks the program to end.
    pub(super) fn is_stop_command(&self) -> bool {
        *self == Self::StopCommand
    }
}

impl ServiceResult {
    /// As systemd writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ExitCode => "exit-code",
            Self::Signal => "signal",
            Self::CoreDump => "core-dump",
            Self::OomKill => "oom-kill",
            Self::Timeout => "timeout",
            Self::Watchdog => "watchdog",
            Self::Resources => "resources",
            Self::Protocol => "protocol",
            Self::Unknown => "unknown",
        }
    }
}

/// Who of a run gets a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// The main process.
    Main,
    /// Every process of its tree, escapees included.
    Tree,
}

/// The buffer of actions, with verbs, so that a transition reads as a sentence.
#[derive(Debug, Default)]
pub struct Actions(Vec<Action>);

impl Actions {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an action.
    pub fn push(&mut self, action: Action) {
        self.0.push(action);
    }

    /// Takes the actions in their order; the buffer is empty then.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Action> {
        self.0.drain(..)
    }

    /// The actions so far.
    #[must_use]
    pub fn as_slice(&self) -> &[Action] {
        &self.0
    }

    /// Writes down what happened.
    pub fn record(&mut self, record: Record) {
        self.push(Action::Record(record));
    }

    /// Answers a client.
    pub fn reply(&mut self, request: RequestId, reply: Reply) {
        self.push(Action::Reply(request, Box::new(reply)));
    }
}
