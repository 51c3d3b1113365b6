//! In the background: two forks, what the starter says of the daemon, the PID file.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
};

use mini_supervisor::control::StateWord;
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    client::Client,
    harness::{PATIENCE, Plan, Site, full, is_root, lock_is_free, pids_with, skip},
};
use crate::sys_world::until;

pub(super) const SLEEP: &str = "  one: {command: [sleep, '1000'], \
    logging: {stdout: 'null', stderr: 'null'}}";

/// A site that goes into the background and leaves nothing outside of its directory.
pub(super) fn plan(programs: &str) -> Plan {
    Plan::new(programs).supervisor("log: {file: DIR/own.log}").supervisor("pid_file: DIR/pid")
}

/// A supervisor in the background, whose orphan's lot makes it our child.
pub(super) struct Daemon {
    pub(super) site: Site,
    pub(super) pid: Pid,
}

impl Daemon {
    /// Starts it and waits for the starter.
    pub(super) fn start(plan: Plan) -> Self {
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let mut site = plan.spawn();
        let code = site.code();
        assert_eq!(code, 0, "{}\n{}", site.stderr.text(), log_of(&site));
        site.connect();
        let pid = number_in(&site.path("pid"));
        site.pid = pid;
        Self { site, pid }
    }

    /// TERM; its exit code. Nothing may be left.
    pub(super) fn end(self) -> i32 {
        kill(self.pid, Signal::SIGTERM).unwrap();
        self.end_by_itself()
    }

    pub(super) fn end_by_itself(self) -> i32 {
        let (pid, (ends, ended)) = (self.pid, mpsc::channel());
        let wait = move || ends.send(waitpid(pid, None).unwrap()).unwrap_or_default();
        std::thread::Builder::new().spawn(wait).unwrap();
        let code = match ended.recv_timeout(PATIENCE).expect("the daemon ends") {
            WaitStatus::Exited(_, code) => code,
            WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
            other => panic!("{other:?}"),
        };
        self.site.assert_nothing_left();
        assert!(!self.site.path("pid").exists(), "the PID file is left");
        assert!(!self.site.path("pid.lock").exists(), "the lock of the PID file is left");
        code
    }
}

fn log_of(site: &Site) -> String {
    fs::read_to_string(site.path("own.log")).unwrap_or_default()
}

pub(super) fn number_in(path: &Path) -> Pid {
    let text = fs::read_to_string(path).unwrap();
    Pid::from_raw(text.strip_suffix('\n').unwrap().parse().unwrap())
}

/// A field of /proc/PID/stat, counted as proc(5) does.
pub(super) fn stat(pid: Pid, field: usize) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(") ").unwrap().1;
    after.split(' ').nth(field - 3).unwrap().to_owned()
}

fn link(path: &str) -> PathBuf {
    fs::read_link(path).unwrap()
}

#[test]
fn the_starter_ends_when_everything_of_the_daemon_is_there() {
    let daemon = Daemon::start(plan(SLEEP).arg("-d").wrapped(&[
        "/bin/sh",
        "-c",
        "umask 077; exec 9>nine; exec \"$0\" \"$@\"",
    ]));
    let (site, pid) = (&daemon.site, daemon.pid);
    // Its streams have come to their end: nobody holds them open.
    assert_eq!((site.stdout.text(), site.stderr.text()), (String::new(), String::new()));
    assert!(Client::connect(&site.socket()).is_ok());
    assert!(!lock_is_free(&site.path("run/supervisor.lock")));
    assert!(!lock_is_free(&site.path("pid.lock")));
    let meta = fs::metadata(site.path("pid")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o644);
    // Its own session, which it does not lead, without a terminal.
    let (session, tty) = (stat(pid, 6), stat(pid, 7));
    assert!(session != pid.to_string() && tty == "0", "{session} {tty}");
    assert_ne!(session, nix::unistd::getsid(None).unwrap().to_string());
    assert_eq!(link(&format!("/proc/{pid}/cwd")), Path::new("/"));
    for fd in 0..3 {
        assert_eq!(link(&format!("/proc/{pid}/fd/{fd}")), Path::new("/dev/null"));
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Umask:\t0022"), "{status}");
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(Result::ok);
    let mut open = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
    assert!(!open.any(|path| path == site.path("nine")), "it keeps what it was started with");
    assert_eq!(daemon.end(), 0);
}

#[test]
fn a_bad_site_is_told_on_the_standard_error_of_the_starter() {
    let mut site = plan("  one: {comand: [sleep, '1']}").arg("-d").file("pid", "4711\n").spawn();
    assert_eq!(site.code(), 78);
    let text = site.stderr.text();
    assert!(text.contains("site.yaml:") && text.contains("did you mean `command`?"), "{text}");
    site.assert_nothing_left();
    assert_eq!(fs::read_to_string(site.path("pid")).unwrap(), "4711\n", "nothing was touched");
}

#[test]
fn what_keeps_the_daemon_from_coming_up_is_told_by_the_starter_with_its_code() {
    let cases = [
        ("pid_file: DIR/nowhere/pid", "the PID file", 1),
        ("pid_file: DIR/run", "the PID file", 1),
        ("control: {socket: DIR/nowhere/control.sock}", "no control socket", 1),
    ];
    for (pair, why, code) in cases {
        let plan = Plan::new(SLEEP).supervisor("log: {file: DIR/own.log}").supervisor(pair);
        let mut site = plan.arg("-d").spawn();
        let text = site.stderr.text();
        assert_eq!((site.code(), text.contains(why)), (code, true), "{pair}: {text}");
        assert!(text.starts_with("supervisor: cannot "), "{text}");
        site.assert_nothing_left();
        assert!(!site.path("run.lock").exists());
    }
}

#[test]
fn a_log_that_cannot_be_opened_is_told_and_holds_up_nothing() {
    let plan = Plan::new(SLEEP)
        .supervisor("pid_file: DIR/pid")
        .supervisor("log: {file: DIR/nowhere/own.log}");
    let daemon = Daemon::start(plan.arg("-d"));
    let text = daemon.site.stderr.text();
    assert!(text.contains("/nowhere/own.log") && text.contains("tried again"), "{text}");
    assert_eq!(daemon.end(), 0);
}

/// A program of which the start waits, until somebody writes into `go`.
const SLOW: &str = "  slow: {command: [DIR/slow], type: oneshot, \
    logging: {stdout: 'null', stderr: 'null'}}";

/// A site that is not up before `go` was written to.
fn slow_plan() -> Plan {
    let plan = plan(SLOW).supervisor("ready_when: programs").arg("-d");
    super::harness::fifo(&plan, "go");
    plan.script("slow", "echo $$ >> DIR/begun; read word < DIR/go; exit $word")
}

/// Waits until the program of [`slow_plan`] runs.
fn has_begun(site: &Site) {
    until("the program is started", || {
        fs::read_to_string(site.path("begun")).is_ok_and(|text| text.ends_with('\n'))
    });
}

#[test]
fn with_ready_when_programs_the_starter_waits_for_them() {
    for word in ["0", "3"] {
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let mut site = slow_plan().spawn();
        has_begun(&site);
        let pid = number_in(&site.path("pid"));
        // The daemon answers, and the starter is still there.
        site.connect();
        site.wait_state("slow", StateWord::Running);
        assert!(!site.signal_if_alive(Signal::SIGCONT));
        fs::write(site.path("go"), word).unwrap();
        assert_eq!(site.code(), 0, "{}", site.stderr.text());
        assert_eq!(Daemon { site, pid }.end(), 0);
    }
}

#[test]
fn a_daemon_that_is_killed_before_it_is_up_is_told_as_that() {
    let mut site = slow_plan().spawn();
    has_begun(&site);
    kill(number_in(&site.path("pid")), Signal::SIGKILL).unwrap();
    assert_eq!(site.code(), 128 + 9);
    let text = site.stderr.text();
    assert!(text.contains("cannot start in the background: SIGKILL ended the daemon"), "{text}");
    // Nobody can end its programs any more but us.
    for pid in pids_with(&site.plan.mark()) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_default();
    }
    until("they are gone", || pids_with(&site.plan.mark()).is_empty());
}

#[test]
fn a_daemon_that_is_not_up_in_time_is_ended_with_its_programs() {
    let mut site = slow_plan().arg("--start-timeout").arg("1s").spawn();
    has_begun(&site);
    assert_eq!(site.code(), 1);
    let text = site.stderr.text();
    assert!(text.contains("it is not up after 1s") && text.contains("hint: "), "{text}");
    site.assert_nothing_left();
    assert!(!site.path("pid").exists());
}

#[test]
fn a_starter_that_is_told_to_end_ends_the_daemon() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut site = slow_plan().spawn();
        has_begun(&site);
        site.signal(signal);
        assert_eq!(site.code(), 128 + signal as i32);
        let text = site.stderr.text();
        assert!(text.contains(&format!("{signal} came before it was up")), "{text}");
        site.assert_nothing_left();
    }
}

#[test]
fn a_site_that_is_over_before_it_is_up_gives_its_code() {
    let essential = "  vital: {command: [DIR/vital], essential: true, restart: {policy: never}, \
                     logging: {stdout: 'null', stderr: 'null'}}";
    let plan = plan(&format!("{SLOW}\n{essential}")).supervisor("ready_when: programs").arg("-d");
    super::harness::fifo(&plan, "go");
    let plan = plan
        .script("slow", "echo $$ >> DIR/begun; read word < DIR/go; exit $word")
        .script("vital", "until [ -s DIR/begun ]; do sleep 0.01; done; exit 9");
    let mut site = plan.spawn();
    assert_eq!(site.code(), 9);
    let text = site.stderr.text();
    let log = site.path("own.log").display().to_string();
    assert!(text.contains("the site ended before it was up") && text.contains(&log), "{text}");
    site.assert_nothing_left();
}

#[test]
fn relative_paths_are_those_of_the_directory_of_the_start() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let plan = Plan::new(SLEEP).supervisor("log: {file: logs/own.log}").arg("-d");
    fs::create_dir_all(plan.path("logs")).unwrap();
    plan.write(SLEEP);
    let output = Command::new(env!("CARGO_BIN_EXE_supervisor"))
        .args(["-d", "-c", "../site.yaml", "--pid-file", "pid"])
        .current_dir(plan.path("logs"))
        .env("E2E_MARK", plan.mark())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let pid = number_in(&plan.path("logs/pid"));
    assert!(fs::read_to_string(plan.path("logs/own.log")).unwrap().contains("supervising "));
    // The file is found again although its directory is no longer ours.
    plan.write(&format!("{SLEEP}\n{}", SLEEP.replace("one", "two")));
    kill(pid, Signal::SIGHUP).unwrap();
    until("the reload", || {
        fs::read_to_string(plan.path("logs/own.log")).unwrap().contains("two: started")
    });
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
    assert!(!plan.path("logs/pid").exists());
}

#[test]
fn the_file_system_of_the_start_can_be_unmounted() {
    if !is_root() {
        return skip("only root may mount");
    }
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let plan = plan(
        "  one: {command: [sleep, '1000'], working_directory: /, \
            logging: {stdout: 'null', stderr: 'null'}}",
    );
    fs::create_dir(plan.path("mnt")).unwrap();
    plan.write(
        "  one: {command: [sleep, '1000'], working_directory: /, \
            logging: {stdout: 'null', stderr: 'null'}}",
    );
    let script = "mount -t tmpfs none mnt && cp site.yaml mnt && cd mnt && \
                  \"$0\" -d -c site.yaml && cd .. && umount mnt";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_supervisor")])
        .current_dir(plan.dir.path())
        .env("E2E_MARK", plan.mark())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let pid = number_in(&plan.path("pid"));
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
}

#[test]
fn a_daemon_that_is_started_on_a_terminal_has_none() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let plan = plan(SLEEP);
    plan.write(SLEEP);
    let command =
        format!("{} -d -c {}", env!("CARGO_BIN_EXE_supervisor"), plan.path("site.yaml").display());
    let output = Command::new("script")
        .args(["-qec", &format!("tty && {command}"), "/dev/null"])
        .env("E2E_MARK", plan.mark())
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else { return skip("no script(1)") };
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), text.starts_with("/dev/")), (Some(0), true), "{text}");
    // The terminal is gone, and the daemon is not.
    let pid = number_in(&plan.path("pid"));
    assert_eq!(stat(pid, 7), "0");
    assert!(Client::connect(&plan.path("run/control.sock")).is_ok());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
}

#[test]
fn process_1_does_not_go_into_the_background() {
    if !is_root() {
        return skip("only root makes PID namespaces");
    }
    let wrapper = ["unshare", "-pf", "--mount-proc", "--kill-child"];
    for plan in [plan(SLEEP).arg("-d"), plan(SLEEP).supervisor("daemon: true")] {
        let (code, _, text) = plan.wrapped(&wrapper).run();
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("as process 1") && text.contains("hint: "), "{text}");
    }
    let mut site = plan(SLEEP).supervisor("daemon: true").arg("-n").wrapped(&wrapper).spawn();
    until("it listens", || Client::connect(&site.socket()).is_ok());
    site.connect();
    site.all_running();
    let Ok(mini_supervisor::control::Reply::Done) =
        Ok::<_, ()>(site.ask(&mini_supervisor::control::Request::Shutdown(
            mini_supervisor::control::Shutdown { force: false },
        )))
    else {
        panic!("no shutdown")
    };
    assert_eq!(site.code(), 0);
}

#[test]
fn the_site_file_can_ask_for_the_background_and_n_overrides_it() {
    let daemon = Daemon::start(plan(SLEEP).supervisor("daemon: true"));
    assert_eq!(daemon.end(), 0);
    let variable = "version: 1
variables: {BACK: $NOT_YET}
supervisor:
  daemon: ${BACK}
  runtime_dir: DIR/run
  pid_file: DIR/pid
  log: {file: DIR/own.log}
programs: {}\n"
        .replace("$NOT_YET", "\"${WANTED:-false}\"");
    let daemon = Daemon::start(Plan::whole(&variable).env("WANTED", "true"));
    assert_eq!(daemon.end(), 0);
    let site = plan(SLEEP).supervisor("daemon: true").arg("-n").start_quiet();
    assert_eq!(number_in(&site.path("pid")), site.pid);
    assert_eq!(site.end(), 0);
    let (code, _, text) = plan(SLEEP).arg("-n").arg("-d").run();
    assert_eq!(code, 2, "{text}");
}

#[test]
fn a_site_from_standard_input_can_go_into_the_background() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    for (pair, option) in [("daemon: true", "-c"), ("daemon: false", "-dc")] {
        let plan = plan(SLEEP).supervisor("name: piped").supervisor(pair);
        plan.write(SLEEP);
        let output = Command::new(env!("CARGO_BIN_EXE_supervisor"))
            .args([option, "-"])
            .env("E2E_MARK", plan.mark())
            .stdin(fs::File::open(plan.path("site.yaml")).unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let pid = number_in(&plan.path("pid"));
        kill(pid, Signal::SIGTERM).unwrap();
        assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
    }
}

#[test]
fn without_another_place_logs_are_in_a_directory_of_the_site() {
    if !is_root() {
        return skip("only root can start it as another user");
    }
    let plan = Plan::new("  one: {command: [sh, -c, 'echo hello; exec sleep 1000']}")
        .supervisor("pid_file: DIR/pid")
        .arg("-d");
    let state = plan.path("state").display().to_string();
    let plan = plan.env("XDG_STATE_HOME", &state).run_as(54321, 54321);
    let mut daemon = Daemon::start(plan);
    daemon.site.all_running();
    let logs = daemon.site.path("state/mini-supervisor/site/log");
    until("the line", || fs::read_to_string(logs.join("one.log")).is_ok_and(|t| t == "hello\n"));
    for name in ["one.log", "supervisor.log"] {
        let meta = fs::metadata(logs.join(name)).unwrap();
        assert_eq!((meta.uid(), meta.permissions().mode() & 0o7777), (54321, 0o640), "{name}");
    }
    assert_eq!(fs::metadata(&logs).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(daemon.end(), 0);
}

#[test]
fn what_goes_to_the_journal_stays_open() {
    let script = "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/$$/fd/2); exec \"$0\" \"$@\"";
    let plan = Plan::new(SLEEP).supervisor("pid_file: DIR/pid").arg("-d");
    let daemon = Daemon::start(plan.wrapped(&["/bin/sh", "-c", script]));
    daemon.site.stderr.wait_for("the log", |line| line.starts_with("<6>supervising 1 program"));
    assert_eq!(link(&format!("/proc/{}/fd/1", daemon.pid)), Path::new("/dev/null"));
    let log = daemon.site.stderr.clone();
    assert_eq!(daemon.end(), 0);
    assert!(log.text().contains("<6>stopped, exit 0"));
}

#[test]
fn a_site_runs_the_same_in_the_background_and_in_the_foreground() {
    let body = "  one: {command: [DIR/one], logging: {stdout: 'null', stderr: 'null'}}
  two: {command: [sleep, '1000'], requires: [one], logging: {stdout: 'null', stderr: 'null'}}";
    let script = "env | grep -v -e SUPERVISOR_RUN -e ^_= -e PWD | sort > DIR/said
ulimit -a >> DIR/said; umask >> DIR/said; pwd >> DIR/said
grep -e SigBlk -e SigIgn -e Cap /proc/self/status >> DIR/said; exec sleep 1000";
    let said = |dir: &Plan| {
        let text = fs::read_to_string(dir.path("said")).unwrap();
        text.replace(&dir.mark(), "DIR")
    };
    let mut site = plan(body).script("one", script).start_quiet();
    site.all_running();
    until("its words", || site.path("said").exists() && said(&site.plan).contains("CapAmb"));
    let foreground = said(&site.plan);
    assert_eq!(site.end(), 0);
    let mut daemon = Daemon::start(plan(body).script("one", script).arg("-d"));
    daemon.site.all_running();
    until("its words", || {
        daemon.site.path("said").exists() && said(&daemon.site.plan).contains("CapAmb")
    });
    assert_eq!(said(&daemon.site.plan), foreground);
    assert_eq!(daemon.end(), 0);
}

/// What the starter waits for stands before its exit, and the forks before any thread.
#[test]
fn the_starter_exits_after_the_lock_the_pid_file_and_the_socket() {
    if !full() || Command::new("strace").arg("-V").output().is_err() {
        return skip("only with TESTS_FULL=1 and strace");
    }
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let plan = plan(SLEEP);
    plan.write(SLEEP);
    let calls = "trace=clone,clone3,fork,vfork,setsid,flock,rename,listen,exit_group";
    let mut starter = Command::new("strace")
        .args(["-D", "-f", "-o", plan.path("trace").to_str().unwrap(), "-e", calls])
        .args([env!("CARGO_BIN_EXE_supervisor"), "-d", "-c"])
        .arg(plan.path("site.yaml"))
        .env("E2E_MARK", plan.mark())
        .spawn()
        .unwrap();
    assert!(starter.wait().unwrap().success());
    kill(number_in(&plan.path("pid")), Signal::SIGTERM).unwrap();
    until("everything is over", || pids_with(&plan.mark()).is_empty());
    let text = fs::read_to_string(plan.path("trace")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let first = |meant: &dyn Fn(&str) -> bool| lines.iter().position(|line| meant(line)).unwrap();
    let own = format!("{} ", starter.id());
    let exit = first(&|line| line.starts_with(&own) && line.contains("exit_group(0)"));
    for before in ["setsid(", "flock(", "rename(", "listen("] {
        assert!(first(&|line| line.contains(before)) < exit, "{before}: {text}");
    }
    let thread = first(&|line| line.contains("CLONE_THREAD"));
    let forks = lines[..thread].iter().filter(|line| line.contains("flags=CLONE_CHILD"));
    assert_eq!(forks.count(), 2, "{text}");
}
