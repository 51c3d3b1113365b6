//! The init processes that are compared, run in a PID namespace that ends with the test.

use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    e2e::lines::Lines,
    outside::{BINARY, Ran, children_of, name_of, tied},
    sys_world::until,
};

/// Who runs the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Init {
    Tini,
    Dumb,
    Catatonit,
    /// `supervisor -- CMD`.
    Ours,
    /// The same binary under the name `tini`.
    AsTini,
}

pub(super) const ALL: [Init; 5] =
    [Init::Tini, Init::Dumb, Init::Catatonit, Init::Ours, Init::AsTini];

/// Whether it is process 1 of its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Pid1,
    Below,
}

pub(super) const PLACES: [Place; 2] = [Place::Pid1, Place::Below];

/// The other three, from Debian's packages, and what the namespaces need.
pub(super) fn possible() -> bool {
    crate::outside::possible(&["tini", "dumb-init", "catatonit", "unshare", "setpriv", "python3"])
}

/// A directory in which our binary has the name `tini`.
pub(super) struct Names(tempfile::TempDir);

impl Names {
    pub(super) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("ms-oracle-").tempdir().unwrap();
        for name in ["tini", "docker-init"] {
            std::os::unix::fs::symlink(BINARY, dir.path().join(name)).unwrap();
        }
        Self(dir)
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Makes a file of the directory, and gives its path.
    pub(super) fn file(&self, name: &str, text: &str, mode: u32) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// The words up to the command.
    pub(super) fn words(&self, init: Init, options: &[&str]) -> Vec<String> {
        let program = match init {
            Init::Tini => "/usr/bin/tini".to_owned(),
            Init::Dumb => "/usr/bin/dumb-init".to_owned(),
            Init::Catatonit => "/usr/bin/catatonit".to_owned(),
            Init::Ours => BINARY.to_owned(),
            Init::AsTini => self.path("tini"),
        };
        let options = options.iter().map(|option| (*option).to_owned());
        std::iter::once(program).chain(options).chain(["--".to_owned()]).collect()
    }

    /// The whole command line, in a namespace of its own.
    pub(super) fn command(
        &self,
        init: Init,
        place: Place,
        options: &[&str],
        command: &[&str],
    ) -> Command {
        let mut unshare = tied(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        if place == Place::Below {
            // Not the last command, so that the shell stays, and waits.
            unshare.args(["sh", "-c", "\"$@\"; exit $?", "sh"]);
        }
        unshare.args(self.words(init, options)).args(command);
        unshare.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        unshare
    }

    /// Runs it to its end.
    pub(super) fn run(&self, init: Init, place: Place, options: &[&str], command: &[&str]) -> Ran {
        self.command(init, place, options, command).output().unwrap().into()
    }

    /// Starts it and waits for the line `ready` of the command.
    pub(super) fn start(
        &self,
        init: Init,
        place: Place,
        options: &[&str],
        command: &[&str],
    ) -> Running {
        Running::of(self.command(init, place, options, command), place)
    }
}

/// An init whose command runs.
pub(super) struct Running {
    unshare: Child,
    place: Place,
    /// As we count.
    pub(super) init: i32,
    pub(super) lines: Lines,
    pub(super) errors: Lines,
    ended: Option<i32>,
}

impl Running {
    pub(super) fn of(mut command: Command, place: Place) -> Self {
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut unshare = command.spawn().unwrap();
        let lines = Lines::read(unshare.stdout.take().unwrap());
        let errors = Lines::read(unshare.stderr.take().unwrap());
        let mut this = Self { unshare, place, init: 0, lines, errors, ended: None };
        this.lines.wait_for("ready", |line| line == "ready");
        let first = children_of(this.unshare.id())[0];
        this.init = match place {
            Place::Pid1 => first,
            Place::Below => children_of(first.cast_unsigned())[0],
        };
        this
    }

    /// kill(1) knows more signals than libraries do.
    pub(super) fn signal(&self, number: i32) {
        send(self.init, number);
    }

    /// How often the command has said so.
    pub(super) fn count(&self, text: &str) -> usize {
        self.lines.all().iter().filter(|line| *line == text).count()
    }

    /// Its exit code, if it has ended.
    pub(super) fn try_code(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        if self.ended.is_none() {
            let status = self.unshare.try_wait().unwrap();
            self.ended = status.map(|s| s.code().unwrap_or_else(|| 128 + s.signal().unwrap()));
        }
        self.ended
    }

    /// Its exit code, as soon as it has ended.
    pub(super) fn code(&mut self) -> i32 {
        until("its end", || self.try_code().is_some());
        self.ended.unwrap()
    }

    /// SIGTERM until it has ended: its exit code.
    pub(super) fn insist(&mut self) -> i32 {
        let pid = Pid::from_raw(self.init);
        until("its end", || {
            kill(pid, Signal::SIGTERM).ok();
            self.try_code().is_some()
        });
        self.code()
    }

    /// Whether the init is still there.
    pub(super) fn lives(&self) -> bool {
        crate::sys_world::lives(&self.init.to_string())
    }

    pub(super) fn name(&self) -> String {
        name_of(self.init)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.try_code().is_none() {
            for pid in children_of(self.unshare.id()) {
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
            self.unshare.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("{:?}: {:#?} {:#?}", self.place, self.lines.all(), self.errors.all());
        }
    }
}

/// Sends a signal by its number.
pub(super) fn send(pid: i32, number: i32) {
    let words = [format!("-{number}"), pid.to_string()];
    Command::new("/bin/kill").args(words).stderr(Stdio::null()).status().unwrap();
}
