//! A site that the binary runs, and the commands that a user gives it, with and without a terminal.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{Winsize, openpty},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::e2e::lines::Lines;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A site in a directory of its own; ended and removed with the test.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) supervisor: Option<Child>,
    stderr: Lines,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Site {
    /// A site that does not run.
    pub(crate) fn written(programs: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Self { dir, supervisor: None, stderr: Lines::default() };
        site.write(programs);
        site
    }

    pub(crate) fn write(&self, programs: &str) {
        self.write_with("", programs);
    }

    /// With more keys of `supervisor: {…}`, each after a comma.
    pub(crate) fn write_with(&self, supervisor: &str, programs: &str) {
        let run = self.dir.path().join("run");
        let text = format!(
            "version: 1\nsupervisor: {{name: t, runtime_dir: {}{supervisor}}}\n\
             defaults: {{user: self}}\nprograms:\n{programs}\n",
            run.display()
        );
        fs::write(self.file(), text).unwrap();
    }

    /// A site that listens to its clients.
    pub(crate) fn up(programs: &str) -> Self {
        Self::written(programs).started()
    }

    pub(crate) fn started(self) -> Self {
        let command = self.command(&[]);
        self.started_by(command)
    }

    /// The same, started by `command`.
    pub(crate) fn started_by(mut self, mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped()).stdin(Stdio::null());
        let mut supervisor = command.spawn().unwrap();
        self.stderr = Lines::read(supervisor.stderr.take().unwrap());
        self.supervisor = Some(supervisor);
        self.stderr.wait_for("the start", |line| line.contains("supervising "));
        self
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("site.yaml")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("run/control.sock")
    }

    /// The process id of the supervisor.
    pub(crate) fn pid(&self) -> Pid {
        let id = self.supervisor.as_ref().unwrap().id();
        Pid::from_raw(i32::try_from(id).unwrap())
    }

    /// `supervisor …` for this site, with an environment of its own.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = bare(args);
        command.env("SUPERVISOR_CONFIG", self.file());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.command(args).stdin(Stdio::null()).output().unwrap().into()
    }

    /// The exit code, with the output for when it is another.
    pub(crate) fn expect(&self, code: i32, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}\n{}", self.log());
        ran
    }

    pub(crate) fn state(&self, name: &str) -> String {
        let ran = self.run(&["status", name, "--output", "state"]);
        ran.out.trim().to_owned()
    }

    /// Waits, by what happens, until `name` is in this state.
    pub(crate) fn wait_state(&self, name: &str, state: &str) {
        let args = ["status", name, "--watch", "--output", "state"];
        self.follow(&args).until(|line| line == state);
    }

    /// Waits until `name` has written a line with `text` in it.
    pub(crate) fn wait_output(&self, name: &str, text: &str) {
        self.follow(&["logs", "-f", name]).until(|line| line.contains(text));
    }

    /// What the supervisor has logged so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.all().join("\n")
    }

    /// Waits until the supervisor has logged a line with `text` in it.
    pub(crate) fn wait_log(&self, text: &str) -> String {
        self.stderr.wait_for(text, |line| line.contains(text))
    }

    pub(crate) fn background(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    pub(crate) fn follow(&self, args: &[&str]) -> Follower {
        let mut child = self.background(args);
        let out = BufReader::new(child.stdout.take().unwrap());
        Follower { child, out }
    }

    /// The same on a terminal of so many columns.
    pub(crate) fn on_terminal(&self, columns: u16, args: &[&str]) -> Terminal {
        Terminal::run(&self.command(args), columns)
    }

    /// Ends it; the exit code of the supervisor.
    pub(crate) fn end(&mut self) -> Option<i32> {
        kill(self.pid(), Signal::SIGTERM).ok();
        self.supervisor.take().unwrap().wait().unwrap().code()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let Some(mut supervisor) = self.supervisor.take() else { return };
        let pid = Pid::from_raw(i32::try_from(supervisor.id()).unwrap());
        if matches!(supervisor.try_wait(), Ok(None)) {
            kill(pid, Signal::SIGTERM).and_then(|()| kill(pid, Signal::SIGINT)).ok();
        }
        drop(supervisor.wait());
    }
}

/// A command that goes on; killed with this.
pub(crate) struct Follower {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Follower {
    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> String {
        assert!(readable(self.out.get_ref(), &self.out), "no line comes");
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "it has ended: {line:?}");
        line.trim_end().to_owned()
    }

    /// The lines up to the one that is meant.
    pub(crate) fn until(&mut self, meant: impl Fn(&str) -> bool) -> Vec<String> {
        let mut lines = vec![self.line()];
        while !meant(lines.last().unwrap()) {
            lines.push(self.line());
        }
        lines
    }
}

fn readable(fd: &impl std::os::fd::AsFd, buffered: &BufReader<impl std::io::Read>) -> bool {
    if !buffered.buffer().is_empty() {
        return true;
    }
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap() > 0
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A command whose standard streams are a terminal, its controlling one.
pub(crate) struct Terminal {
    child: Child,
    master: fs::File,
    seen: String,
}

impl Terminal {
    pub(crate) fn run(command: &Command, columns: u16) -> Self {
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let ends = openpty(&size, None).unwrap();
        let slave = || Stdio::from(ends.slave.try_clone().unwrap());
        // It makes the terminal the controlling one, so that Ctrl-C is a signal.
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        setsid.envs(command.get_envs().filter_map(|(k, v)| Some((k, v?))));
        let child = setsid.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        Self { child, master: ends.master.into(), seen: String::new() }
    }

    /// Reads on until `text` has been printed.
    pub(crate) fn wait_for(&mut self, text: &str) -> &mut Self {
        while !self.seen.contains(text) {
            assert!(self.read(), "{text:?} is not printed: {:?}", self.seen);
        }
        self
    }

    pub(crate) fn types(&mut self, keys: &str) -> &mut Self {
        self.master.write_all(keys.as_bytes()).unwrap();
        self
    }

    /// What was printed and read until now.
    pub(crate) fn seen(&self) -> &str {
        &self.seen
    }

    pub(crate) fn master(&self) -> &fs::File {
        &self.master
    }

    /// The process that it was made for.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Reads to its end: the exit code, and all that was printed, with `\n` as line ends.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        while self.read() {}
        (self.child.wait().unwrap().code(), self.seen.replace("\r\n", "\n"))
    }

    fn read(&mut self) -> bool {
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
        assert!(ready > 0, "it hangs after {:?}", self.seen);
        let mut chunk = [0; 4096];
        // When nobody has its other end any more a terminal gives EIO.
        let n = self.master.read(&mut chunk).unwrap_or(0);
        self.seen.push_str(&String::from_utf8_lossy(&chunk[..n]));
        n > 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// `supervisor …` without a site.
pub(crate) fn bare(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
    command.args(args).env_clear().env("PATH", "/usr/bin:/bin");
    command
}

pub(crate) fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

pub(crate) fn ended(child: Child) -> Ran {
    child.wait_with_output().unwrap().into()
}
