//! A program as it is to be run: every default filled in, every name resolved, instances
//! multiplied.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Bytes, Hardening, HealthCheck, Limit, Mode, Name, Probe, Reload, Restart, ShmRule,
    SingleInstance, Stop,
};

/// A program. Parts that many programs have in common are shared (`Arc`), so a thousand stay small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Its name; `web@1` for an instance.
    pub name: Name,
    /// The name it was declared under, when it is an instance of it: `web`.
    pub template: Option<Name>,
    /// For people.
    pub description: Option<Box<str>>,
    /// For people: where to read more.
    pub documentation: Option<Box<str>>,
    /// For `tag:T` on the command line.
    pub tags: Box<[Box<str>]>,
    /// A disabled program is never started.
    pub enabled: bool,
    /// Whether it is started with the site.
    pub autostart: bool,
    /// How it behaves.
    pub kind: ProgramType,
    /// What to execute: never empty, never given to a shell.
    pub command: Box<[Box<str>]>,
    /// As whom, where, with what.
    pub execution: Arc<Execution>,
    /// Ordered behind these.
    pub after: Box<[Dependency]>,
    /// Not without these.
    pub requires: Box<[Dependency]>,
    /// Better with these.
    pub wants: Box<[Dependency]>,
    /// Conditions of the world to wait for.
    pub wait_for: Box<[WaitFor]>,
    /// Commands before the program.
    pub start_pre: Box<[Hook]>,
    /// Commands after the program was started.
    pub start_post: Box<[Hook]>,
    /// Commands after each run, however it ended.
    pub stop_post: Box<[Hook]>,
    /// For `start_pre`, `start_post` and, for a oneshot that sets it, the command.
    pub start_timeout: Limit,
    /// How it is known to be ready; `None`: started means ready.
    pub readiness: Option<Box<Readiness>>,
    /// It says that it is alive at least as often as this.
    pub watchdog: Limit,
    /// When to start again.
    pub restart: Arc<Restart>,
    /// How to stop.
    pub stop: Arc<Stop>,
    /// How to reload, if it can.
    pub reload: Option<Reload>,
    /// How it is told whether it serves.
    pub health: Option<Arc<HealthCheck>>,
    /// Its final exit stops the site and gives the exit code.
    pub essential: bool,
    /// A run longer than this is stopped as a timeout.
    pub max_runtime: Limit,
    /// `/run/NAME`, made before the start, removed after the stop.
    pub runtime_directory: Option<OwnedDirectory>,
    /// `/var/lib/NAME`, made before the start, kept.
    pub state_directory: Option<OwnedDirectory>,
    /// Stale files removed before the start.
    pub cleanup: Box<[Cleanup]>,
    /// Stale files in /dev/shm.
    pub shm: Option<Box<ShmRule>>,
    /// It runs once at the most.
    pub single_instance: Option<Box<SingleInstance>>,
    /// Where its output goes.
    pub logging: Arc<Logging>,
    /// Other ways to start it, by name.
    pub variants: BTreeMap<Name, Variant>,
}

impl Program {
    /// Whether directories are made for each run of it and removed afterwards.
    #[must_use]
    pub fn leaves_directories(&self) -> bool {
        let hardening = self.execution.hardening.as_ref();
        self.runtime_directory.is_some() || hardening.is_some_and(|wanted| wanted.private_tmp)
    }
}

/// `type:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramType {
    /// Runs in the foreground; started means ready.
    Simple,
    /// Ends by itself; success is its being ready. `remain`: counts as up after success.
    Oneshot {
        /// Stay ready (and not start again) after success.
        remain: bool,
    },
    /// Says READY=1.
    Notify,
    /// Forks into the background.
    Forking {
        /// Where it writes its pid.
        pid_file: PathBuf,
    },
}

/// `readiness:`, or what `type: notify` means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// How it is known.
    pub by: ReadyBy,
    /// How long it may take from the exec on; `None`: the rest of `start_timeout`.
    pub timeout: Option<Limit>,
}

/// How a program that was started is known to be ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadyBy {
    /// It says READY=1, `sd_notify(3)`.
    Notify,
    /// It writes a line to this descriptor.
    Fd(u32),
    /// It is found to be.
    Probe {
        /// What is looked at.
        probe: Probe,
        /// How often; a line of its output is noticed when it is written.
        interval: Duration,
    },
}

impl Program {
    /// Whether it is given `$NOTIFY_SOCKET`.
    #[must_use]
    pub fn notifies(&self) -> bool {
        let ready = self.readiness.as_deref();
        ready.is_some_and(|r| r.by == ReadyBy::Notify) || self.watchdog != Limit::Never
    }
}

/// As whom, where and with what a program and its commands are executed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// As whom.
    pub user: RunAs,
    /// File mode creation mask.
    pub umask: Mode,
    /// Where; absolute.
    pub working_directory: PathBuf,
    /// Variables set for it, by name.
    pub environment: BTreeMap<Box<str>, Box<str>>,
    /// Files of variables read at each start.
    pub environment_files: Box<[EnvironmentFile]>,
    /// What it gets of the supervisor's own environment.
    pub inherit_environment: Inherit,
    /// Resource limits (setrlimit(2)) that differ from the supervisor's.
    pub rlimits: Box<[(Resource, RlimitValue)]>,
    /// nice(2) value, -20..=19.
    pub nice: Option<i8>,
    /// Input/output scheduling (`ioprio_set(2)`).
    pub ionice: Option<IoNice>,
    /// -1000..=1000, see `proc_pid_oom_score_adj(5)`.
    pub oom_score_adj: Option<i16>,
    /// CPUs it may run on (`sched_setaffinity(2)`); empty means all.
    pub cpu_affinity: Box<[u16]>,
    /// `PR_SET_NO_NEW_PRIVS`: set-user-id programs give it nothing.
    pub no_new_privileges: bool,
    /// What it is kept from; `None` is nothing.
    pub hardening: Option<Box<Hardening>>,
}

/// As whom a program runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunAs {
    /// As whoever runs the supervisor (`user: self`, or an unprivileged supervisor).
    Supervisor {
        /// HOME, USER, LOGNAME, SHELL for it, when the account is known.
        account: Option<Arc<Account>>,
    },
    /// As this account.
    Account(Arc<Account>),
}

/// A user with its groups, looked up when the file was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Login name.
    pub name: Box<str>,
    /// User id; never 65535 or 4294967295.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// All groups for setgroups(2), `gid` included.
    pub groups: Box<[u32]>,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// `environment_files:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentFile {
    /// Absolute path of a dotenv file.
    pub path: PathBuf,
    /// Whether it may be missing.
    pub optional: bool,
}

/// `inherit_environment:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inherit {
    /// PATH and LANG only.
    Basic,
    /// Everything but the supervisor's own control variables.
    All,
    /// These, and PATH and LANG.
    Names(Box<[Box<str>]>),
}

/// A resource of setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Open files.
    Nofile,
    /// Processes of the user.
    Nproc,
    /// Core dump, bytes.
    Core,
    /// Stack, bytes.
    Stack,
    /// Locked memory, bytes.
    Memlock,
    /// Written file, bytes.
    Fsize,
}

/// Value of a resource limit; soft and hard alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RlimitValue {
    /// At most this.
    Max(u64),
    /// `RLIM_INFINITY`.
    Unlimited,
}

/// Input/output priority, ionice(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IoNice {
    /// Realtime, 0 (highest) to 7.
    Realtime(u8),
    /// Best effort, 0 (highest) to 7.
    BestEffort(u8),
    /// Only when nobody else wants the disk.
    Idle,
}

/// An item of `after`, `requires`, `wants`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dependency {
    /// What.
    pub target: Target,
    /// What must be true of it.
    pub condition: Condition,
}

/// What a dependency names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A program (instances are already multiplied).
    Program(Name),
    /// `mount:X` (a later issue).
    Mount(Name),
    /// `semaphore:X` is free.
    Semaphore(Name),
    /// `task:X` (a later issue).
    Task(Name),
    /// A network address other than loopback is up.
    Network,
}

/// What must be true of a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Its process was started.
    Started,
    /// It is ready; a oneshot has succeeded.
    Ready,
    /// Its health check passes.
    Healthy,
    /// It ended with success.
    Completed,
}

/// An item of `wait_for`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitFor {
    /// What to wait for.
    pub what: Awaited,
    /// How long; then the start has failed.
    pub timeout: Limit,
}

/// A condition of the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Awaited {
    /// An address other than loopback is up.
    Network,
    /// This path exists.
    File(PathBuf),
    /// `HOST:PORT` accepts a connection.
    Tcp(Box<str>),
    /// This Unix socket accepts a connection.
    Socket(PathBuf),
}

/// A command of `start_pre`, `start_post`, `stop_post`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    /// What to execute.
    pub command: Box<[Box<str>]>,
    /// Go on when it fails.
    pub ignore_failure: bool,
    /// Killed after this.
    pub timeout: Limit,
    /// As whom; `None` is the program's user.
    pub user: Option<RunAs>,
}

/// `runtime_directory:`, `state_directory:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedDirectory {
    /// Absolute path.
    pub path: PathBuf,
    /// Mode.
    pub mode: Mode,
}

/// An item of `cleanup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cleanup {
    /// A Unix socket, removed only when nobody listens.
    Socket(PathBuf),
    /// A regular file of the program's user.
    File(PathBuf),
}

/// `logging:` with all values resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// Where standard output goes.
    pub stdout: LogTarget,
    /// Where standard error goes.
    pub stderr: LogTarget,
    /// Put a time stamp before each line.
    pub timestamps: bool,
    /// When and how files are rotated.
    pub rotate: Rotate,
    /// Longer lines are split, with a mark.
    pub max_line: Bytes,
    /// When the target cannot keep up.
    pub on_full: OnFull,
    /// Owner of the files: uid, gid; `None` is the supervisor's.
    pub owner: Option<u32>,
    /// Group of the files.
    pub group: Option<u32>,
    /// Mode of the files.
    pub mode: Mode,
}

/// Where a stream goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogTarget {
    /// The supervisor's standard output, as `NAME | line`.
    Console,
    /// A file.
    File(PathBuf),
    /// The supervisor's own descriptor, not captured.
    Inherit,
    /// Nowhere.
    Null,
    /// Where stdout goes (for stderr).
    Stdout,
    /// The systemd journal's socket.
    Journal,
    /// /dev/log.
    Syslog,
}

/// `logging.rotate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotate {
    /// When the file is this large.
    pub max_size: Option<Bytes>,
    /// When the file is this old.
    pub every: Option<Duration>,
    /// How many old files are kept.
    pub keep: u32,
    /// How old files are compressed.
    pub compress: Compress,
    /// Ask the program to reload after its own files were rotated (a later issue).
    pub after_reload: bool,
}

/// `logging.rotate.compress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compress {
    /// Not.
    None,
    /// All but the newest old file, by gzip.
    Delayed,
    /// All old files, by gzip.
    Gzip,
}

/// `logging.on_full`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFull {
    /// Forget the oldest waiting lines and count them; the program is never blocked.
    DropOldest,
    /// Let the program wait.
    Block,
}

/// A variant of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// Arguments appended to the command.
    pub args: Box<[Box<str>]>,
    /// Variables set in addition.
    pub environment: BTreeMap<Box<str>, Box<str>>,
    /// Used when none is named.
    pub default: bool,
    /// More arguments may be given on the command line.
    pub extra_args: bool,
}
