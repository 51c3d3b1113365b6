//! What happens to the engine.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Claimed;
use crate::{
    control::{Peer, Request, RequestId},
    model::{Exit, Notice, Sample, Seen, Site, Zone},
    plan::ProgramId,
};

/// One life of a process that we started: spawn to reap. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunId(pub u64);

/// Everything that can happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// The shell is ready: start what starts by itself.
    Boot,
    /// A deadline may be due.
    Deadline,
    /// Something happened to a child.
    Child {
        /// Of which program.
        program: ProgramId,
        /// Which life.
        run: RunId,
        /// What.
        what: ChildEvent,
    },
    /// A condition of the world that was awaited is true.
    Condition {
        /// Whose.
        program: ProgramId,
        /// For which attempt, as in the action.
        attempt: u64,
        /// Which of its waits.
        index: usize,
    },
    /// A client asks.
    Request {
        /// For the reply.
        id: RequestId,
        /// Who.
        peer: Peer,
        /// What.
        request: Request,
    },
    /// The client of this request went away; what it asked for goes on.
    RequestGone(RequestId),
    /// The site file was read again and is good.
    Loaded {
        /// Who asked; `None`: a signal.
        request: Option<RequestId>,
        /// The new site.
        site: Arc<Site>,
        /// Only say what would change.
        dry_run: bool,
        /// Even if more than half of the running programs go.
        allow_removal: bool,
        /// Warnings, rendered.
        warnings: Vec<String>,
    },
    /// The site file was read again and is not good: nothing changes.
    NotLoaded {
        /// Who asked; `None`: a signal.
        request: Option<RequestId>,
        /// All findings, rendered.
        why: String,
    },
    /// What was stale in /dev/shm is gone, or cannot be removed.
    Tidied {
        /// Of which program; `None`: of the site.
        program: Option<ProgramId>,
        /// As in the action.
        run: RunId,
    },
    /// What a method to end the host has come to: it will, or why it will not.
    HostAnswered(RunId, Result<(), Arc<str>>),
    /// The lock of a program, and copies of it, were looked at.
    Claimed {
        /// Of which program.
        program: ProgramId,
        /// As in the action.
        run: RunId,
        /// What was found.
        what: Claimed,
    },
    /// What was to be looked at for a program was.
    Probed {
        /// For which program.
        program: ProgramId,
        /// As in the action.
        run: RunId,
        /// What came of it.
        sample: Sample,
    },
    /// The last words of a command that looks, right before its end.
    LastWords {
        /// For which program.
        program: ProgramId,
        /// Which life.
        run: RunId,
        /// One line.
        words: Arc<str>,
    },
    /// A semaphore was looked at.
    Seen(Seen),
    /// How local time goes, where the engine has to know it.
    Zone(Arc<Zone>),
    /// A signal to the supervisor.
    Told(Told),
}

/// What became of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildEvent {
    /// It executes.
    Spawned {
        /// Its process id.
        pid: u32,
    },
    /// It could not be started. Nothing of it is left.
    SpawnFailed(SpawnFailure),
    /// Its main process ended. It is not reaped yet: its group can still be signalled.
    Exited(Exit),
    /// Its main process is this one from now on, a daemon that its command has left.
    Main {
        /// Its process id.
        pid: u32,
    },
    /// Its daemon is not known yet, and why.
    NoMain(Arc<str>),
    /// It has said something of itself.
    Said(Arc<Notice>),
    /// It is ready.
    Ready,
    /// It is not ready yet, and why.
    Unready(Arc<str>),
    /// Its main process was reaped; others of its tree may live.
    Reaped,
    /// Its main process was reaped and no process of its tree is left.
    TreeEmpty,
}

/// Why a child could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnFailure {
    /// In words: "entering directory /srv/web: No such file or directory (os error 2)".
    pub text: Arc<str>,
    /// How it counts.
    pub class: FailureClass,
    /// The exit code that stands for it: 127 not found, 126 cannot be executed.
    pub code: u8,
}

/// How a failed spawn counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureClass {
    /// The system is out of something (EAGAIN, ENOMEM, EMFILE): tried again soon, not counted.
    Resources,
    /// The file is being written (ETXTBSY): tried again soon for 10 s, then counted.
    Busy,
    /// It is the program's own: counted.
    Own,
    /// It had not executed when its time was over: counted, as a timeout.
    Late,
}

/// What a signal asks of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// TERM, INT, PWR, RTMIN+3: orderly stop; the second one: SIGKILL everything.
    Stop,
    /// QUIT: immediate stop.
    Quit,
    /// HUP: read the file again.
    Reload,
    /// USR1: reopen log files.
    Reopen,
    /// An internal fault (a thread is lost): orderly stop, exit 70.
    Fault,
}
