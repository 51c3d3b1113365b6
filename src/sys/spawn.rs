//! Starting a program: everything is made ready before, and the child only makes system calls.
//!
//! | way | what the caller sees | when |
//! |---|---|---|
//! | [`vfork`] | the result; it stands still until the exec | else: costs the same at any size |
//! | [`fork`] | the result on a pipe, later | when something may hold up the child |
//!
//! [`fork`] alone puts the child into a cgroup: clone3(2) makes it there, while a move costs the
//! kernel milliseconds, for which whoever waits would stand still.
//!
//! Mounts, and whatever else needs more than a few system calls, are made by [`sandbox`]: our own
//! binary, executed before the program, in the same process.
//!
//! What may hold it up: a file system that hangs, and the user that it becomes. Between the change
//! of the user and the exec any process of that user may stop it (SIGSTOP), and whoever stands
//! still with it then stands still for ever.

mod as_is;
mod child;
mod method;
mod own_pid;
mod prepared;
pub mod sandbox;

use std::{ffi::OsString, fmt, os::fd::OwnedFd, path::PathBuf};

pub use as_is::AsIs;
pub use method::{Report, fork, read_report, vfork};
pub use prepared::{Prepared, aside};
pub use sandbox::Sandbox;

use super::{error::is_shortage, rlimit::Pair};
use crate::model::{IoNice, Resource, RlimitValue};

/// What a child is to be. Everything that it would otherwise inherit is named here.
#[derive(Debug)]
pub struct SpawnSpec {
    /// What to execute. Without a `/` it is looked for in the `PATH` of `env`; a relative path is
    /// relative to the working directory. Never given to a shell, not even a text without `#!`.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where; entered as the user, so with the user's permissions.
    pub working_directory: PathBuf,
    /// File mode creation mask.
    pub umask: u32,
    /// As whom; `None` leaves the supervisor's own identity.
    pub identity: Option<Identity>,
    /// Soft and hard limits alike.
    pub rlimits: Vec<(Resource, RlimitValue)>,
    /// The limit of open files unless `rlimits` has one: the supervisor's original, see
    /// [`super::rlimit::raise_open_files`].
    pub open_files: Option<Pair>,
    /// nice(2) value; `None` leaves the supervisor's.
    pub nice: Option<i8>,
    /// Input/output priority; `None` leaves the supervisor's.
    pub ionice: Option<IoNice>,
    /// `proc_pid_oom_score_adj(5)`; `None` leaves the supervisor's.
    pub oom_score_adj: Option<i16>,
    /// CPUs it may run on; empty leaves the supervisor's.
    pub cpu_affinity: Vec<u16>,
    /// `PR_SET_NO_NEW_PRIVS` (prctl(2)).
    pub no_new_privileges: bool,
    /// Descriptor 0; `None` is /dev/null.
    pub stdin: Option<OwnedFd>,
    /// Descriptor 1; `None` is /dev/null.
    pub stdout: Option<OwnedFd>,
    /// Descriptor 2; `None` is /dev/null.
    pub stderr: Option<OwnedFd>,
    /// Descriptors 3, 4, …, but for the number that `placed` has; every other one is closed.
    pub extra: Vec<OwnedFd>,
    /// The descriptor of this number, which is 3 or more.
    pub placed: Option<(u16, OwnedFd)>,
    /// A variable whose value is the process id of the child.
    pub own_pid: Option<&'static str>,
    /// Leads a session and a process group of its own (setsid(2)), without a terminal.
    pub new_session: bool,
    /// `None` is the supervisor's. One that cannot be entered is told of and done without.
    pub cgroup: Option<Cgroup>,
    /// What it is kept from; not together with `as_is`.
    pub sandbox: Option<Sandbox>,
    /// Run it as if we were not there. Then only `argv`, `env`, the cgroup and the limits count.
    pub as_is: Option<AsIs>,
}

impl SpawnSpec {
    /// A command without arguments worth naming: in `/`, umask 022, a session of its own, /dev/null
    /// on 0, 1 and 2.
    #[must_use]
    pub fn new(argv: Vec<OsString>) -> Self {
        Self {
            argv,
            env: Vec::new(),
            working_directory: PathBuf::from("/"),
            umask: 0o022,
            identity: None,
            rlimits: Vec::new(),
            open_files: None,
            nice: None,
            ionice: None,
            oom_score_adj: None,
            cpu_affinity: Vec::new(),
            no_new_privileges: false,
            stdin: None,
            stdout: None,
            stderr: None,
            extra: Vec::new(),
            placed: None,
            own_pid: None,
            new_session: true,
            cgroup: None,
            sandbox: None,
            as_is: None,
        }
    }
}

/// In which cgroup a child is before it executes.
#[derive(Debug)]
pub struct Cgroup {
    /// Its directory.
    pub directory: OwnedFd,
    /// Made outside and then moved, which costs milliseconds: for one that was killed
    /// (`cgroup.kill`). Since Linux 6.14 (`kill_seq`, kernel/cgroup/cgroup.c) the kernel takes a
    /// child that is made in it for one of those that were to die, for ever.
    pub moved: bool,
}

/// As whom a child runs: real, effective and saved ids alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id; not 4294967295, which setresuid(2) reads as "leave as it is".
    pub uid: u32,
    /// Group id; not 4294967295.
    pub gid: u32,
    /// All groups for setgroups(2).
    pub groups: Vec<u32>,
}

/// What failed, and why.
type Failure = (Stage, i32);

/// What a child was doing when it could not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Making everything ready, before there was a child.
    Preparation,
    /// fork(2) or clone(2).
    Fork,
    /// setsid(2).
    Session,
    /// Writing `oom_score_adj`.
    OomScore,
    /// `setpriority(2)`, `ioprio_set(2)`.
    Priority,
    /// `sched_setaffinity(2)`.
    Affinity,
    /// dup2(2) of descriptors 0, 1, 2 and the declared ones.
    Descriptors,
    /// prlimit(2).
    Limits,
    /// setgroups(2).
    Groups,
    /// setresgid(2).
    Gid,
    /// setresuid(2).
    Uid,
    /// Looking whether the privileges are really gone.
    Verification,
    /// capset(2): nothing inheritable.
    Capabilities,
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// chdir(2).
    WorkingDirectory,
    /// execve(2).
    Exec,
    /// Entering the cgroup; not a failure.
    Cgroup,
    /// A key of `hardening`; which one, and why, comes as text.
    Sandbox,
}

/// In the order of the numbers that travel from the child.
const STAGES: [Stage; 18] = [
    Stage::Preparation,
    Stage::Fork,
    Stage::Session,
    Stage::OomScore,
    Stage::Priority,
    Stage::Affinity,
    Stage::Descriptors,
    Stage::Limits,
    Stage::Groups,
    Stage::Gid,
    Stage::Uid,
    Stage::Verification,
    Stage::Capabilities,
    Stage::NoNewPrivileges,
    Stage::WorkingDirectory,
    Stage::Exec,
    Stage::Cgroup,
    Stage::Sandbox,
];

impl Stage {
    /// The number that travels from the child. Starts at 1: 0 is "nothing went wrong".
    fn code(self) -> i32 {
        match self {
            Self::Preparation => 1,
            Self::Fork => 2,
            Self::Session => 3,
            Self::OomScore => 4,
            Self::Priority => 5,
            Self::Affinity => 6,
            Self::Descriptors => 7,
            Self::Limits => 8,
            Self::Groups => 9,
            Self::Gid => 10,
            Self::Uid => 11,
            Self::Verification => 12,
            Self::Capabilities => 13,
            Self::NoNewPrivileges => 14,
            Self::WorkingDirectory => 15,
            Self::Exec => 16,
            Self::Cgroup => 17,
            Self::Sandbox => 18,
        }
    }

    fn from_code(code: i32) -> Option<Self> {
        STAGES.into_iter().find(|stage| stage.code() == code)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preparation => "preparing",
            Self::Fork => "making a process",
            Self::Session => "starting a session",
            Self::OomScore => "setting oom_score_adj",
            Self::Priority => "setting the priority",
            Self::Affinity => "setting the CPU affinity",
            Self::Descriptors => "connecting input and output",
            Self::Limits => "setting resource limits",
            Self::Groups => "setting the groups",
            Self::Gid => "changing to the group",
            Self::Uid => "changing to the user",
            Self::Verification => "giving up privileges",
            Self::Capabilities => "dropping capabilities",
            Self::NoNewPrivileges => "forbidding new privileges",
            Self::WorkingDirectory => "entering directory",
            Self::Exec => "executing",
            Self::Cgroup => "entering its cgroup",
            Self::Sandbox => "setting up hardening",
        })
    }
}

/// Why there is no program: `entering directory /srv/web: No such file or directory (os error 2)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpawnError {
    /// What could not be done.
    pub stage: Stage,
    /// Why (errno(3)); 0 where no system call said it.
    pub errno: i32,
    /// To what, in the user's words; empty where the stage says it all.
    pub object: Box<str>,
}

impl SpawnError {
    fn new(stage: Stage, errno: i32, object: impl Into<Box<str>>) -> Self {
        Self { stage, errno, object: object.into() }
    }

    /// A lack of processes, memory or descriptors on our side: worth another try soon, and no
    /// fault of the program.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        // Whatever it was doing: an exec that finds no memory or no room in the host's table of
        // files is as passing as a fork that finds no process.
        is_shortage(self.errno)
    }

    /// The file is open for writing: a deployment is under way, and it will soon be whole.
    #[must_use]
    pub fn is_text_busy(&self) -> bool {
        self.stage == Stage::Exec && self.errno == libc::ETXTBSY
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stage == Stage::Sandbox && !self.object.is_empty() {
            return f.write_str(&self.object);
        }
        self.stage.fmt(f)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        if self.errno == 0 {
            return Ok(());
        }
        write!(f, ": {}", std::io::Error::from_raw_os_error(self.errno))
    }
}

impl std::error::Error for SpawnError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_comes_back_from_its_number() {
        for stage in STAGES {
            assert_eq!(Stage::from_code(stage.code()), Some(stage));
        }
        assert_eq!(Stage::from_code(0), None);
        assert_eq!(Stage::from_code(19), None);
    }

    #[test]
    fn an_error_names_stage_object_and_cause() {
        let error = SpawnError::new(Stage::WorkingDirectory, libc::ENOENT, "/srv/web");
        assert_eq!(
            error.to_string(),
            "entering directory /srv/web: No such file or directory (os error 2)"
        );
        assert!(!error.is_transient());
        assert!(SpawnError::new(Stage::Fork, libc::EAGAIN, "").is_transient());
        assert!(SpawnError::new(Stage::Exec, libc::ETXTBSY, "/bin/x").is_text_busy());
    }
}
