//! What a supervisor takes before it begins: the runtime directory, the lock in it, the PID file.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{
    door,
    start::{EX_LOCKED, Refusal, RunOptions, refused},
};
use crate::{
    control::paths,
    model::{Site, Supervisor},
    sys::{
        Pid, SysError,
        lockfile::{InstanceLock, LockError, PidFile},
        rlimit,
    },
};

/// What the supervisor has in its runtime directory, for as long as it lives.
pub(super) struct Place {
    /// The runtime directory, and where the socket is to be.
    pub(super) paths: Option<(PathBuf, PathBuf)>,
    pub(super) lock: Option<InstanceLock>,
    /// Said once, when the log is there.
    pub(super) warning: Option<String>,
}

impl Place {
    /// Takes the first runtime directory that can be made, and the lock in it.
    /// `mark` is what our processes will be known by.
    pub(super) fn make(
        supervisor: &Supervisor,
        options: &RunOptions,
        mark: &str,
    ) -> Result<Self, Refusal> {
        let environment =
            |name: &str| options.environment.get(&OsString::from(name)).map(PathBuf::from);
        let uid = nix::unistd::geteuid().as_raw();
        let surroundings = paths::Surroundings {
            uid,
            runtime_directory: environment("RUNTIME_DIRECTORY"),
            xdg_runtime_dir: environment("XDG_RUNTIME_DIR"),
            home: environment("HOME"),
        };
        let name = supervisor.name.as_str();
        let candidates =
            paths::runtime_dirs(supervisor.runtime_dir.as_deref(), name, &surroundings);
        let mut why = None;
        for directory in candidates {
            match door::make_directory(&directory) {
                Ok(()) => match InstanceLock::take(&directory.join(door::LOCK), Some(mark)) {
                    Ok(lock) => {
                        let socket = supervisor.control.socket.clone();
                        let socket = socket.unwrap_or_else(|| directory.join(paths::SOCKET));
                        let paths = Some((directory, socket));
                        return Ok(Self { paths, lock: Some(lock), warning: None });
                    }
                    Err(LockError::Held(pid)) => return Err(held(name, pid)),
                    Err(LockError::Unusable(error)) => why = Some(error),
                },
                Err(error) => why = Some(error),
            }
        }
        let why =
            why.map_or_else(|| "no place for it".to_owned(), |error: SysError| error.to_string());
        let warning = format!("no runtime directory, so no control socket and no lock: {why}");
        Ok(Self { paths: None, lock: None, warning: Some(warning) })
    }
}

/// What to say when so few files may be open that some programs will not start.
pub(super) fn too_few_files(limit: rlimit::Pair, site: &Site) -> Option<String> {
    // Our own, and room for clients and for the one that is being started; two pipes a program.
    let programs = site.programs.len();
    let needed = u64::try_from(programs.saturating_mul(2).saturating_add(32)).unwrap_or(u64::MAX);
    (limit.hard < needed).then(|| {
        format!(
            "only {} files may be open, and {programs} programs need about {needed}: raise the \
             hard limit (ulimit -Hn, LimitNOFILE=)",
            limit.hard
        )
    })
}

/// What processes of ours are known by.
pub(super) fn mark(seed: u64) -> String {
    format!("{seed:016x}")
}

fn held(name: &str, pid: Option<Pid>) -> Refusal {
    let who = in_words(pid);
    let text = format!(
        "supervisor: cannot supervise {name}: {who} does so already\n\
         hint: supervisor status; supervisor shutdown ends it"
    );
    Refusal(EX_LOCKED, text)
}

fn in_words(pid: Option<Pid>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("pid {pid}"))
}

/// Takes the PID file, unless another supervisor has it.
pub(super) fn claim(path: &Path, site: &Site) -> Result<PidFile, Refusal> {
    PidFile::write(path).map_err(|why| match why {
        LockError::Unusable(why) => refused(why),
        LockError::Held(pid) => {
            let who = in_words(pid);
            let (name, path) = (&site.supervisor.name, path.display());
            let text = format!(
                "supervisor: cannot supervise {name}: the PID file {path} is that of {who}\n\
                 hint: each site needs its own: supervisor.pid_file, --pid-file"
            );
            Refusal(EX_LOCKED, text)
        }
    })
}
