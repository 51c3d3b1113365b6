//! A site: everything that one file describes, resolved.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Mode, Name, OnFull, Program, Rotate, Semaphore, ShmRule};

/// A whole site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// The supervisor itself.
    pub supervisor: Supervisor,
    /// Accounts that the site needs; `install` makes them.
    pub users: BTreeMap<Box<str>, User>,
    /// Directories that the site needs, by absolute path; `install` makes them.
    pub directories: BTreeMap<PathBuf, Directory>,
    /// The programs, instances multiplied.
    pub programs: BTreeMap<Name, Arc<Program>>,
    /// Stale files in /dev/shm that are nobody's in particular.
    pub shm: BTreeMap<Name, ShmRule>,
    /// Locks and files that ask for something.
    pub semaphores: BTreeMap<Name, Arc<Semaphore>>,
    /// What the file asks for that this version validates but cannot do yet. Empty or the site does
    /// not run.
    pub unsupported: Vec<Unsupported>,
}

/// An item of `users`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// A system account.
    pub system: bool,
    /// Home directory, absolute.
    pub home: Option<PathBuf>,
    /// Login shell, absolute.
    pub shell: Option<PathBuf>,
    /// Names of the groups that it is a member of, besides its own.
    pub groups: Box<[Box<str>]>,
}

/// An item of `directories`. Whose it is stands there by name: the account may be yet to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Name or decimal id; `None`: whoever runs the supervisor.
    pub owner: Option<Box<str>>,
    /// Name or decimal id; `None`: the owner's.
    pub group: Option<Box<str>>,
    /// Its mode.
    pub mode: Mode,
    /// The mode of the regular files in it; `None` leaves them as they are.
    pub files: Option<Mode>,
    /// One that is not there is left out instead of made.
    pub optional: bool,
    /// Made whenever the supervisor starts, too.
    pub at_start: bool,
}

/// Something validated that this version cannot do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsupported {
    /// `FILE:LINE:COLUMN`.
    pub place: String,
    /// `programs.web.health`.
    pub key: String,
}

/// `supervisor:` with all values resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Supervisor {
    /// Name of the site; the file's stem unless given.
    pub name: Name,
    /// Where to write the pid.
    pub pid_file: Option<PathBuf>,
    /// Go into the background.
    pub daemon: bool,
    /// When it counts as up to whoever started it.
    pub ready_when: ReadyWhen,
    /// Control socket, pid, lock; `None`: the fallback order is tried at start.
    pub runtime_dir: Option<PathBuf>,
    /// State that outlives a reboot; `None`: the default place.
    pub state_dir: Option<PathBuf>,
    /// The supervisor's own log.
    pub log: SupervisorLog,
    /// The control socket.
    pub control: Control,
    /// The whole budget of an orderly stop; `None`: 90s, 8s as PID 1.
    pub shutdown_timeout: Option<Duration>,
    /// When the supervisor ends by itself.
    pub exit_when: Option<ExitWhen>,
    /// SIGHUP stops the site instead of reloading the file.
    pub stop_on_hangup: bool,
    /// mlockall(2).
    pub lock_memory: bool,
    /// What to do with processes left over by a predecessor.
    pub orphans: Orphans,
    /// Names of variables whose values are never shown.
    pub redact: Box<[Box<str>]>,
}

/// `supervisor.log`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisorLog {
    /// Least important level that is written.
    pub level: LogLevel,
    /// A file in addition to, or instead of, standard error.
    pub file: Option<PathBuf>,
    /// The form of its lines.
    pub format: LogFormat,
    /// Write to standard error (always, while the file cannot be written).
    pub stderr: bool,
    /// Owner of the file.
    pub owner: Option<u32>,
    /// Group of the file.
    pub group: Option<u32>,
    /// Mode of the file.
    pub mode: Mode,
    /// Rotation of the file.
    pub rotate: Rotate,
    /// When the file cannot keep up.
    pub on_full: OnFull,
}

/// Importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// A human must act.
    Error,
    /// We coped.
    Warn,
    /// A state changed.
    Info,
    /// For finding faults.
    Debug,
    /// Everything.
    Trace,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Stamp in UTC with milliseconds, importance, what happened.
    Full,
    /// Local time in brackets, what happened; what a signaller says in lines of their own.
    Text,
    /// One JSON object a line.
    Json,
}

/// `supervisor.control`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Path of the socket; `None`: `control.sock` in the runtime directory.
    pub socket: Option<PathBuf>,
    /// Owner of the socket.
    pub owner: Option<u32>,
    /// Group of the socket.
    pub group: Option<u32>,
    /// Mode of the socket.
    pub mode: Mode,
    /// Who may do what; root and the supervisor's own user may do everything.
    pub access: Box<[Access]>,
}

/// An item of `supervisor.control.access`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// Users, as ids.
    pub users: Box<[u32]>,
    /// Groups, as ids.
    pub groups: Box<[u32]>,
    /// `status`, `logs`, `restart:web`, `start:*` …
    pub actions: Box<[Box<str>]>,
    /// How often in how long, changes only.
    pub rate_limit: Option<RateLimit>,
}

/// `{burst, interval}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// At most this often …
    pub burst: u32,
    /// … in this time.
    pub interval: Duration,
}

/// `supervisor.ready_when`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadyWhen {
    /// As soon as it can be asked; programs are being started.
    #[default]
    Up,
    /// When every program that starts by itself is ready, or has failed once, or waits for one that
    /// has.
    Programs,
}

/// `supervisor.exit_when`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitWhen {
    /// When an essential program has ended for good.
    Essential,
    /// When every program has ended for good.
    AllExited,
    /// Only when asked to stop.
    Stopped,
}

/// `supervisor.orphans`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Orphans {
    /// Take them over.
    Adopt,
    /// End them.
    Kill,
}
