//! Semaphores of a running site: raised by processes that know nothing of us.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use mini_supervisor::{
    control::{Reply, Request, SemaphoreName, SemaphoreWord, SiteStatus, StateWord},
    model::WallTime,
    sys::clock,
};

use super::harness::{Plan, Site, program};

/// As the signaller of the first document: locks, writes who asks, and holds on for so long.
const SIGNALLER: &str = "
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o644)
fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
if sys.argv[2]:
    with open(sys.argv[2], 'w') as info:
        info.write('Demandé par: Tigro\\nNode ID: 0xDEADBEEF\\nTimestamp: 2026-01-01 10:00:00\\n')
print('held', flush=True)
sys.stdin.read()
";

/// Fifty processes that lock at once; one of them has it, and holds on.
const FIFTY: &str = "
import fcntl, os, sys
for _ in range(50):
    if os.fork() == 0:
        fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os._exit(0)
        sys.stdin.read()
        os._exit(0)
for _ in range(49):
    os.wait()
print('held', flush=True)
sys.stdin.read()
os.wait()
";

struct Signaller(Child);

impl Signaller {
    /// Holds the lock until it is dropped.
    fn hold(site: &Site, lock: &str, info: &str) -> Self {
        Self::run(SIGNALLER, site, lock, info)
    }

    fn run(script: &str, site: &Site, lock: &str, info: &str) -> Self {
        use std::io::BufRead as _;
        let info = if info.is_empty() { String::new() } else { text(site, info) };
        let mut child = Command::new("python3")
            .args(["-c", script, &text(site, lock), &info])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        std::io::BufReader::new(out).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self(child)
    }

    fn let_go(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Signaller {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn text(site: &Site, name: &str) -> String {
    site.path(name).to_str().unwrap().to_owned()
}

/// A site with `web` and this semaphore `ask`.
fn site(keys: &str) -> Site {
    let text = format!(
        "  web: {{command: [sleep, '1000']}}\nsemaphores:\n  ask: {{path: DIR/lock, {keys}}}"
    );
    let mut site = Plan::new(&text).start();
    site.all_running();
    site
}

fn word(status: &SiteStatus) -> SemaphoreWord {
    status.semaphores[0].state
}

const WHO: &str = "info_file: DIR/info, info_keys: {name: 'Demandé par', node_id: 'Node ID'}, action: 'restart:web'";

#[test]
fn a_held_lock_restarts_the_program_once_and_says_who_has_asked() {
    let mut site = site(&format!("{WHO}, acknowledge: keep"));
    site.wait_for("it is armed", |status| word(status) == SemaphoreWord::Clear);
    let before = site.main_pid("web");
    let signaller = Signaller::hold(&site, "lock", "info");
    site.wait_for("a new life", |status| {
        let web = program(status, "web");
        web.state == StateWord::Running && web.pid.is_some_and(|pid| pid != before)
    });
    let pid = signaller.0.id();
    site.stderr.wait_for("who", |line| {
        line.contains("semaphore:ask: raised by ") && line.contains(&format!("(pid {pid}, uid "))
    });
    site.wait_for("what he wrote", |status| {
        let ask = &status.semaphores[0];
        let name = ("name".to_owned(), "Tigro".to_owned());
        word(status) == SemaphoreWord::Raised && ask.info.contains(&name)
    });
    let now = site.main_pid("web");
    signaller.let_go();
    site.wait_for("it is clear", |status| word(status) != SemaphoreWord::Pending);
    assert_eq!(site.main_pid("web"), now, "one raise was served twice");
    assert_eq!(site.end(), 0);
}

/// As the log of the first document: `[2026-01-01 10:00:00] text`.
fn is_stamped(line: &str, text: &str) -> bool {
    let shape: String =
        line.chars().take(22).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "[0000-00-00 00:00:00] " && line.get(22..) == Some(text)
}

#[test]
fn the_log_in_text_has_what_the_signaller_says_on_lines_of_their_own() {
    let text = format!(
        "  web: {{command: [sleep, '1000']}}\nsemaphores:\n  ask: {{path: DIR/lock, {WHO}, \
         acknowledge: keep}}"
    );
    let log = "log: {file: DIR/own.log, format: text, stderr: true, mode: '0644'}";
    let mut site = Plan::new(&text).supervisor(log).env("TZ", "UTC-2").start_quiet();
    site.wait_for("it is armed", |status| {
        status.semaphores.first().is_some_and(|ask| ask.state == SemaphoreWord::Clear)
    });
    let signaller = Signaller::hold(&site, "lock", "info");
    let said = ["  name: Tigro", "  Node ID: 0xDEADBEEF", "  Timestamp: 2026-01-01 10:00:00"];
    let said = said.map(|line| line.replace("Node ID", "node_id"));
    for line in &said {
        site.stderr.wait_for("what he says", |found| is_stamped(found, line));
    }
    let raised = format!("semaphore:ask: raised by python3 (pid {}, uid ", signaller.0.id());
    let written = fs::read_to_string(site.path("own.log")).unwrap();
    let fact = written.lines().position(|line| {
        line.get(22..).is_some_and(|text| text.starts_with("semaphore:ask: raised by "))
    });
    let lines: Vec<&str> = written.lines().collect();
    let first = lines.iter().position(|line| is_stamped(line, &said[0])).unwrap();
    assert!(fact.is_some_and(|fact| fact < first), "{raised}: {written}");
    assert!(is_stamped(lines[first + 1], &said[1]) && is_stamped(lines[first + 2], &said[2]));
    let stamp =
        WallTime::parse(&format!("{}T{}.000Z", &lines[first][1..11], &lines[first][12..20]));
    let ahead = stamp.unwrap().0 - clock::wall().0;
    assert!((7_100_000..=7_200_000).contains(&ahead), "not two hours ahead: {ahead} ms");
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(site.path("own.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
    signaller.let_go();
    assert_eq!(site.end(), 0);
}

#[test]
fn what_is_asked_for_waits_for_its_window_in_local_time() {
    // Two hours ahead of UTC, and a window that opens in two hours.
    let minute = (clock::wall().0 / 60_000 + 240).rem_euclid(1440);
    let hhmm = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
    let (from, until) = (hhmm(minute), hhmm((minute + 30) % 1440));
    let text = format!(
        "  web: {{command: [sleep, '1000']}}\nsemaphores:\n  ask: {{path: DIR/lock, action: \
         'stop:web', window: '{from}-{until}', acknowledge: keep}}"
    );
    let mut site = Plan::new(&text).env("TZ", "UTC-2").start();
    site.all_running();
    let signaller = Signaller::hold(&site, "lock", "");
    let waits = format!("; waits for its window at {from}, in ");
    site.wait_for("it waits", |status| {
        let ask = &status.semaphores[0];
        let soon = ask.next_in_s.is_some_and(|left| (7100.0..=7200.0).contains(&left));
        word(status) == SemaphoreWord::Pending && ask.reason.contains(&waits) && soon
    });
    let clear = Request::ClearSemaphore(SemaphoreName { name: "ask".into() });
    assert_eq!(site.ask(&clear), Reply::Done);
    site.wait_for("it is cancelled", |status| word(status) != SemaphoreWord::Pending);
    signaller.let_go();
    assert_eq!(site.end(), 0);
}

#[test]
fn a_program_does_not_run_while_somebody_holds_its_lock() {
    let text = "  web: {command: [sleep, '1000'], requires: ['semaphore:backup']}\nsemaphores:\n  \
                backup: {path: DIR/lock, action: reload, delay: 1h, acknowledge: keep}";
    let mut site = Plan::new(text).start();
    site.all_running();
    let signaller = Signaller::hold(&site, "lock", "");
    let web = site.wait_state("web", StateWord::Waiting);
    assert!(web.waiting_for[0].starts_with("semaphore:backup (raised by "), "{web:?}");
    signaller.let_go();
    site.wait_state("web", StateWord::Running);
    assert_eq!(site.end(), 0);
}

#[test]
fn fifty_who_signal_at_once_are_one_request() {
    let mut site = site("action: 'restart:web', acknowledge: keep");
    site.wait_for("it is armed", |status| word(status) == SemaphoreWord::Clear);
    let before = site.main_pid("web");
    let all = Signaller::run(FIFTY, &site, "lock", "");
    site.wait_for("a new life", |status| {
        let web = program(status, "web");
        web.state == StateWord::Running && web.pid.is_some_and(|pid| pid != before)
    });
    let now = site.main_pid("web");
    all.let_go();
    site.wait_for("it is clear", |status| word(status) == SemaphoreWord::Clear);
    assert_eq!(site.main_pid("web"), now, "one raise was served twice");
    let acted = site.happened(&["semaphore.acted"]);
    assert_eq!(acted.len(), 1, "{acted:?}");
    assert_eq!(site.end(), 0);
}

#[test]
fn a_signaller_that_exits_at_once_is_heard() {
    let mut site = site(WHO);
    site.wait_for("it is armed", |status| word(status) == SemaphoreWord::Clear);
    let before = site.main_pid("web");
    Signaller::hold(&site, "lock", "info").let_go();
    site.wait_for("a new life", |status| {
        program(status, "web").pid.is_some_and(|pid| pid != before)
    });
    // Accepted, so both files are gone.
    site.wait_for("it is clear", |status| word(status) == SemaphoreWord::Clear);
    assert!(!site.path("info").exists());
    assert_eq!(site.end(), 0);
}

#[test]
fn what_is_asked_for_is_cancelled_by_hand_and_by_letting_go() {
    let mut site = site("delay: 1h, action: 'stop:web', acknowledge: keep");
    site.wait_for("it is armed", |status| word(status) == SemaphoreWord::Clear);
    let signaller = Signaller::hold(&site, "lock", "");
    site.wait_for("it is pending", |status| word(status) == SemaphoreWord::Pending);
    signaller.let_go();
    site.stderr.wait_for("it is cancelled", |l| l.contains("cancelled: it is no longer raised"));
    site.wait_for("it is clear", |status| word(status) == SemaphoreWord::Clear);
    let signaller = Signaller::hold(&site, "lock", "");
    site.wait_for("it is pending again", |status| word(status) == SemaphoreWord::Pending);
    let clear = Request::ClearSemaphore(SemaphoreName { name: "ask".into() });
    assert_eq!(site.ask(&clear), Reply::Done);
    site.stderr.wait_for("by whom", |line| line.contains("cancelled: asked by uid "));
    drop(signaller);
    assert_eq!(program(&site.status(), "web").state, StateWord::Running);
    let wrong = Request::ClearSemaphore(SemaphoreName { name: "other".into() });
    match site.ask(&wrong) {
        Reply::Error(refusal) => assert_eq!(refusal.hint.as_deref(), Some("there are: ask")),
        other => panic!("{other:?}"),
    }
    assert_eq!(site.end(), 0);
}

#[test]
fn what_was_left_before_the_start_is_no_request() {
    let text = format!(
        "  web: {{command: [sleep, '1000']}}\nsemaphores:\n  ask: {{path: DIR/lock, {WHO}}}\n  \
         old: {{path: DIR/old, type: file, action: 'stop:web'}}"
    );
    let plan = Plan::new(&text).file("lock", "").file("info", "Demandé par: X\n").file("old", "");
    let mut site = plan.start();
    site.all_running();
    for name in ["ask", "old"] {
        let said = format!("semaphore:{name}: left over from before the start: no request");
        site.stderr.wait_for("it is told", |line| line.contains(&said));
    }
    assert_eq!(program(&site.status(), "web").restarts, 0);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_file_that_appears_asks_once_and_is_consumed() {
    let mut site = site("type: file, action: 'stop:web'");
    site.wait_for("it is armed", |status| word(status) == SemaphoreWord::Clear);
    fs::write(site.path("lock"), "").unwrap();
    site.wait_state("web", StateWord::Stopped);
    site.wait_for("it is clear", |status| word(status) == SemaphoreWord::Clear);
    assert!(!site.path("lock").exists());
    assert_eq!(site.end(), 0);
}

#[test]
fn something_else_in_its_place_is_an_alarm_and_does_nothing() {
    let mut site = site("action: 'stop:web'");
    site.wait_for("it is armed", |status| word(status) == SemaphoreWord::Clear);
    std::os::unix::fs::symlink("/etc/passwd", site.path("lock")).unwrap();
    site.stderr.wait_for("the alarm", |line| {
        line.contains("error semaphore:ask: nothing is done, as it is no longer ours: ")
    });
    site.wait_for("it is shown", |status| word(status) == SemaphoreWord::Unknown);
    assert_eq!(program(&site.status(), "web").state, StateWord::Running);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_reload_takes_and_leaves_semaphores() {
    let mut site = site("delay: 1h, action: 'stop:web'");
    site.wait_for("it is armed", |status| word(status) == SemaphoreWord::Clear);
    site.plan.write(
        "  web: {command: [sleep, '1000']}\nsemaphores:\n  other: {path: DIR/other, type: file, \
         action: 'stop:web'}",
    );
    site.signal(nix::sys::signal::Signal::SIGHUP);
    site.wait_for("the other one", |status| {
        status.semaphores.len() == 1
            && status.semaphores[0].name == "other"
            && word(status) == SemaphoreWord::Clear
    });
    fs::write(site.path("other"), "").unwrap();
    site.wait_state("web", StateWord::Stopped);
    assert_eq!(site.end(), 0);
}
