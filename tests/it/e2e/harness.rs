//! A site in a directory of its own, run by the built binary, of which nothing may be left.

use std::{
    fs,
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use mini_supervisor::control::{
    Change, Empty, EventsQuery, LogLine, Outcome, ProgramStatus, ReloadSite, Reply, Request,
    SiteStatus, StateWord, Targets,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub(crate) use super::host::{full, is_root, lock_is_free, pids_with, processes, skip};
use super::{client::Client, lines::Lines};
use crate::sys_world::until;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Where the supervisor's standard output goes.
pub(crate) enum Stdout {
    /// Into [`Site::stdout`].
    Read,
    /// Somewhere else.
    Other(Stdio),
}

/// A site that is not started yet.
pub(crate) struct Plan {
    pub(crate) dir: tempfile::TempDir,
    /// Below `programs:`, indented by two.
    programs: String,
    /// In `supervisor: {…}`.
    supervisor: Vec<String>,
    /// In `defaults: {…}`.
    defaults: Vec<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    wrapper: Vec<String>,
    ids: Option<(u32, u32)>,
    stdout: Stdout,
    raw: bool,
}

impl Plan {
    /// `programs` stands below `programs:`; `DIR` in it is the site's directory.
    pub(crate) fn new(programs: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("ms-e2e-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            dir,
            programs: programs.to_owned(),
            supervisor: Vec::new(),
            defaults: vec!["user: self".into(), "inherit_environment: [E2E_MARK]".into()],
            args: Vec::new(),
            env: Vec::new(),
            wrapper: Vec::new(),
            ids: None,
            stdout: Stdout::Read,
            raw: false,
        }
    }

    /// The whole file is `text`; nothing is added.
    pub(crate) fn whole(text: &str) -> Self {
        Self { raw: true, ..Self::new(text) }
    }

    pub(crate) fn supervisor(mut self, pair: &str) -> Self {
        self.supervisor.push(pair.into());
        self
    }

    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A command that executes the supervisor.
    pub(crate) fn wrapped(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Runs the supervisor as this user, from a copy of the binary that it can reach.
    pub(crate) fn run_as(mut self, uid: u32, gid: u32) -> Self {
        nix::unistd::chown(self.dir.path(), Some(uid.into()), Some(gid.into())).unwrap();
        self.ids = Some((uid, gid));
        self
    }

    pub(crate) fn stdout(mut self, stdout: Stdio) -> Self {
        self.stdout = Stdout::Other(stdout);
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.path(name), self.filled(text)).unwrap();
        self
    }

    /// A shell script that can be executed as `DIR/name`.
    pub(crate) fn script(self, name: &str, text: &str) -> Self {
        let text = format!("#!/bin/sh\n{text}\n");
        let this = self.file(name, &text);
        fs::set_permissions(this.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        this
    }

    fn filled(&self, text: &str) -> String {
        text.replace("DIR", self.dir.path().to_str().unwrap())
    }

    /// The site file with these programs.
    pub(crate) fn text(&self, programs: &str) -> String {
        if self.raw {
            return self.filled(programs);
        }
        let supervisor = [&["runtime_dir: DIR/run".to_owned()], &self.supervisor[..]].concat();
        self.filled(&format!(
            "version: 1\nsupervisor: {{{}}}\ndefaults: {{{}}}\nprograms:\n{programs}\n",
            supervisor.join(", "),
            self.defaults.join(", "),
        ))
    }

    pub(crate) fn write(&self, programs: &str) {
        fs::write(self.path("site.yaml"), self.text(programs)).unwrap();
    }

    /// The supervisor's command, with `args` instead of the site file when there are any.
    fn command(&self) -> Command {
        let mut binary = PathBuf::from(env!("CARGO_BIN_EXE_supervisor"));
        if self.ids.is_some() {
            let copy = self.path("supervisor");
            fs::copy(&binary, &copy).unwrap();
            binary = copy;
        }
        let mut words = self.wrapper.clone();
        words.push(binary.to_str().unwrap().to_owned());
        words.extend(["-c".to_owned(), self.path("site.yaml").to_str().unwrap().to_owned()]);
        words.extend(self.args.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.dir.path());
        command.env("E2E_MARK", self.mark()).stdin(Stdio::null());
        for (name, value) in &self.env {
            command.env(name, value);
        }
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid).env("HOME", self.dir.path());
            command.env_remove("XDG_RUNTIME_DIR");
        }
        command
    }

    /// What the environment of all its processes has.
    pub(crate) fn mark(&self) -> String {
        self.dir.path().display().to_string()
    }

    /// Runs it to its end: exit code, standard output, standard error.
    pub(crate) fn run(self) -> (i32, String, String) {
        let mut site = self.spawn();
        let code = site.code();
        (code, site.stdout.text(), site.stderr.text())
    }

    /// Starts the supervisor and does not wait for anything.
    pub(crate) fn spawn(mut self) -> Site {
        self.write(&self.programs);
        let mut command = self.command();
        command.stderr(Stdio::piped());
        match std::mem::replace(&mut self.stdout, Stdout::Read) {
            Stdout::Read => command.stdout(Stdio::piped()),
            Stdout::Other(other) => command.stdout(other),
        };
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(Lines::read).unwrap_or_default();
        let stderr = Lines::read(child.stderr.take().unwrap());
        let pid = i32::try_from(child.id()).unwrap();
        let (sender, exit) = mpsc::channel();
        let wait = move || {
            let status = child.wait().unwrap();
            sender.send(status.code().unwrap_or_else(|| 128 + status.signal().unwrap())).ok();
        };
        thread::Builder::new().spawn(wait).unwrap();
        let (client, events) = (None, None);
        Site {
            plan: self,
            pid: Pid::from_raw(pid),
            exit,
            ended: None,
            stdout,
            stderr,
            client,
            events,
        }
    }

    /// Starts the supervisor and waits until it has begun to start its programs.
    pub(crate) fn start(self) -> Site {
        let mut site = self.spawn();
        site.stderr.wait_for("the start", |line| line.contains("supervising "));
        site.connect();
        site
    }
}

impl Plan {
    /// As [`Self::start`], for a supervisor that does not say that it begins.
    pub(crate) fn start_quiet(self) -> Site {
        let mut site = self.spawn();
        // Nothing tells when somebody listens on a socket that may not even be there yet.
        until("it listens", || Client::connect(&site.socket()).is_ok());
        site.connect();
        site
    }
}

/// A running site.
pub(crate) struct Site {
    pub(crate) plan: Plan,
    pub(crate) pid: Pid,
    exit: mpsc::Receiver<i32>,
    ended: Option<i32>,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
    client: Option<Client>,
    events: Option<Client>,
}

impl Site {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.plan.path(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("run/control.sock")
    }

    pub(super) fn connect(&mut self) {
        let mut events = Client::connect(&self.socket()).unwrap();
        events.send(&Request::Events(EventsQuery { follow: true })).unwrap();
        self.events = Some(events);
        self.client = Some(Client::connect(&self.socket()).unwrap());
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Reply {
        let client = self.client.as_mut().expect("connected");
        client.send(request).unwrap();
        client
            .reply(PATIENCE)
            .unwrap_or_else(|| panic!("no reply to {request:?}; the log: {:#?}", self.stderr.all()))
    }

    pub(crate) fn status(&mut self) -> SiteStatus {
        match self.ask(&Request::Status(Targets::default())) {
            Reply::Status(status) => *status,
            other => panic!("no status: {other:?}"),
        }
    }

    pub(crate) fn program(&mut self, name: &str) -> ProgramStatus {
        program(&self.status(), name).clone()
    }

    pub(crate) fn main_pid(&mut self, name: &str) -> u32 {
        self.program(name).pid.unwrap_or_else(|| panic!("{name} has no pid"))
    }

    /// Waits, by what happens, until the status is as wanted.
    pub(crate) fn wait_for(
        &mut self,
        what: &str,
        wanted: impl Fn(&SiteStatus) -> bool,
    ) -> SiteStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            let left = end.saturating_duration_since(Instant::now());
            let log = self.stderr.all();
            assert!(!left.is_zero(), "{what} does not come: {status:#?}\n{log:#?}");
            // A change of what only the kernel knows makes no event: look again after a while.
            let patience = left.min(Duration::from_millis(500));
            self.events.as_mut().expect("connected").lines(patience);
        }
    }

    pub(crate) fn wait_state(&mut self, name: &str, state: StateWord) -> ProgramStatus {
        let what = format!("{name} {}", state.as_str());
        let status = self.wait_for(&what, |status| program(status, name).state == state);
        program(&status, name).clone()
    }

    /// Waits until every program runs.
    pub(crate) fn all_running(&mut self) -> SiteStatus {
        self.wait_for("all RUNNING", |status| {
            status.programs.iter().all(|one| one.state == StateWord::Running && one.ready)
        })
    }

    /// What happened so far, oldest first.
    pub(crate) fn history(&mut self) -> Vec<LogLine> {
        match self.ask(&Request::Events(EventsQuery::default())) {
            Reply::Lines(lines) => lines,
            other => panic!("no events: {other:?}"),
        }
    }

    /// `NAME EVENT` of the events named so, in order.
    pub(crate) fn happened(&mut self, events: &[&str]) -> Vec<String> {
        let meant = |line: &LogLine| events.contains(&line.source.as_str());
        let text = |line: LogLine| format!("{} {}", line.name, line.source);
        self.history().into_iter().filter(meant).map(text).collect()
    }

    pub(crate) fn bring_up(&mut self, names: &[&str]) -> Outcome {
        self.outcome(&Request::Start(change(names)))
    }

    pub(crate) fn bring_down(&mut self, names: &[&str]) -> Outcome {
        self.outcome(&Request::Stop(change(names)))
    }

    pub(crate) fn restart(&mut self, names: &[&str]) -> Outcome {
        self.outcome(&Request::Restart(change(names)))
    }

    fn outcome(&mut self, request: &Request) -> Outcome {
        match self.ask(request) {
            Reply::Outcome(outcome) => outcome,
            other => panic!("no outcome of {request:?}: {other:?}"),
        }
    }

    /// Writes these programs into the site file and asks for a reload.
    pub(crate) fn reload(&mut self, programs: &str) -> Reply {
        self.plan.write(programs);
        self.ask(&Request::Reload(ReloadSite::default()))
    }

    pub(crate) fn version(&mut self) -> Reply {
        self.ask(&Request::Version(Empty {}))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// The same, unless it has ended already; whether it has.
    pub(crate) fn signal_if_alive(&mut self, signal: Signal) -> bool {
        if self.ended.is_none() {
            self.ended = self.exit.try_recv().ok();
        }
        if self.ended.is_none() {
            kill(self.pid, signal).ok();
        }
        self.ended.is_some()
    }

    /// Asks `pid` to end until the supervisor has: what comes right after the first is no second.
    pub(crate) fn insist(&mut self, pid: Pid) {
        until("it ends", || {
            kill(pid, Signal::SIGTERM).ok();
            self.ended = self.ended.or_else(|| self.exit.try_recv().ok());
            self.ended.is_some()
        });
    }

    /// The exit code, when it has ended (128 + N for a signal).
    pub(crate) fn code(&mut self) -> i32 {
        if let Some(code) = self.ended {
            return code;
        }
        let code = self.exit.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!("the supervisor does not end; its log: {:#?}", self.stderr.all())
        });
        self.ended = Some(code);
        code
    }

    /// After its end: a new supervisor of the same site.
    pub(crate) fn again(self) -> Self {
        assert!(self.ended.is_some());
        let mut this = self;
        let empty = Plan::whole("");
        std::mem::replace(&mut this.plan, empty).start()
    }

    /// The same, without waiting for it to supervise.
    pub(crate) fn again_at_once(self) -> Self {
        assert!(self.ended.is_some());
        let mut this = self;
        std::mem::replace(&mut this.plan, Plan::whole("")).spawn()
    }

    /// TERM; its exit code. Nothing may be left: no process, no socket, no lock.
    pub(crate) fn end(mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.end_by_itself()
    }

    /// As [`Self::end`], without asking for it.
    pub(crate) fn end_by_itself(&mut self) -> i32 {
        let code = self.code();
        self.assert_nothing_left();
        code
    }

    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(processes(&self.plan.mark()), Vec::<String>::new(), "processes are left");
        assert!(!self.socket().exists(), "the socket is left");
        assert!(lock_is_free(&self.path("run/supervisor.lock")), "the lock is held");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.ended.is_none() {
            kill(self.pid, Signal::SIGTERM).ok();
            if self.exit.recv_timeout(Duration::from_secs(10)).is_err() {
                kill(self.pid, Signal::SIGKILL).ok();
                self.exit.recv_timeout(PATIENCE).ok();
            }
        }
        let mark = self.plan.mark();
        let left = processes(&mark);
        for pid in pids_with(&mark) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        if thread::panicking() {
            eprintln!("log of the supervisor: {:#?}", self.stderr.all());
        } else {
            assert_eq!(left, Vec::<String>::new(), "processes are left");
        }
    }
}

pub(crate) fn change(names: &[&str]) -> Change {
    Change { names: names.iter().map(|name| (*name).to_owned()).collect(), ..Change::default() }
}

pub(crate) fn program<'a>(status: &'a SiteStatus, name: &str) -> &'a ProgramStatus {
    status.programs.iter().find(|one| one.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Makes a pipe with this name, for scripts that wait for each other.
pub(crate) fn fifo(plan: &Plan, name: &str) -> PathBuf {
    let path = plan.path(name);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    path
}
