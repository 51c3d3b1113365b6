//! Programs that run once at the most: their locks and files, and copies that were started by hand.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use mini_supervisor::control::{
    Kind, LockWord, ProcessesQuery, ProgramOutcome, Reply, Request, StateWord,
};
use nix::sys::signal::Signal;

use super::{
    client::Client,
    harness::{PATIENCE, Plan, Site, change, is_root, lock_is_free, skip},
};
use crate::sys_world::until;

/// Whoever runs writes a line, so that two are seen.
const ROBOT: &str = "echo run >> DIR/runs; exec sleep 1000";

/// A site whose robot has the lock in `folder`, and is called what `keys` say.
fn robot(folder: &Path, keys: &str) -> Plan {
    let folder = folder.display();
    Plan::new(&format!(
        "  robot: {{command: [DIR/robot.sh], autostart: false, restart: {{policy: never}},
    stop: {{timeout: 500ms}},
    single_instance: {{lock_file: {folder}/r.lock, pid_file: {folder}/r.pid{keys}}}}}"
    ))
    .script("robot.sh", ROBOT)
}

fn files(site: &Site) -> (PathBuf, PathBuf) {
    (site.path("r.lock"), site.path("r.pid"))
}

fn only(outcome: mini_supervisor::control::Outcome) -> ProgramOutcome {
    let [one] = <[_; 1]>::try_from(outcome.programs).unwrap();
    one
}

/// A copy that somebody has started by hand, gone with the value.
struct ByHand(Child);

impl ByHand {
    /// Started in a shell of its own, which is no copy.
    fn start(words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        let one = Self(command.spawn().unwrap());
        until("it executes", || {
            let line = fs::read_to_string(format!("/proc/{}/cmdline", one.0.id()));
            line.is_ok_and(|line| line.contains(words[1]))
        });
        one
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn the_files_say_who_runs_and_go_with_every_end() {
    let mut site = robot(Path::new("DIR"), "").start();
    let (lock, pid_file) = files(&site);
    let none = |what: &str| {
        assert!(!lock.exists() && !pid_file.exists(), "after {what}: files are left");
    };
    assert!(only(site.bring_up(&["robot"])).ok);
    let pid = site.main_pid("robot");
    let text = fs::read_to_string(&lock).unwrap();
    let [first, time] = <[_; 2]>::try_from(text.lines().collect::<Vec<_>>()).unwrap();
    assert_eq!(first, pid.to_string());
    assert!(time.parse::<f64>().unwrap() > 1_700_000_000.0, "{text}");
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), format!("{pid}\n"));
    assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!lock_is_free(&lock));
    let status = site.program("robot").lock.unwrap();
    assert_eq!((status.state, status.path), (LockWord::Held, lock.display().to_string()));
    assert!(only(site.bring_down(&["robot"])).ok);
    none("a stop");
    let again = only(site.bring_down(&["robot"]));
    assert_eq!((again.ok, &*again.reason), (true, "nothing to stop"));
    site.bring_up(&["robot"]);
    let pid = nix::unistd::Pid::from_raw(site.main_pid("robot").cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    site.wait_state("robot", StateWord::Exited);
    none("a crash");
    assert_eq!(site.program("robot").lock.unwrap().state, LockWord::Free);
    site.bring_up(&["robot"]);
    assert_eq!(site.end(), 0);
    none("the end of the site");
}

#[test]
fn the_lock_without_a_file_of_its_own_is_that_of_all_sites_of_the_user() {
    let programs = "  robot: {command: [sleep, '1000'], single_instance: true, \
                    restart: {policy: never}}";
    let home = tempfile::tempdir().unwrap();
    let place = format!("XDG_RUNTIME_DIR={}", home.path().display());
    let plan = || {
        let plan = Plan::new(programs).wrapped(&["env", &place]);
        // Root's would meet those of this machine.
        if is_root() { plan.run_as(65534, 65534) } else { plan }
    };
    if is_root() {
        nix::unistd::chown(home.path(), Some(65534.into()), Some(65534.into())).unwrap();
    }
    let mut first = plan().start();
    first.all_running();
    let mut second = plan().start();
    let refused = second.wait_state("robot", StateWord::Fatal);
    assert!(refused.reason.contains("/mini-supervisor/.instances/robot.lock"), "{refused:?}");
    assert_eq!((second.end(), first.end()), (0, 0));
}

#[test]
fn a_copy_that_was_started_by_hand_is_named_and_nothing_is_started() {
    let mut site = robot(Path::new("DIR"), ", match: {argv: DIR/robot.sh}").start();
    let (lock, _) = files(&site);
    let path = site.path("robot.sh").display().to_string();
    // A word of it, and the name as a part of another, are no copies.
    let inside = format!("{path}c");
    let _decoys = [ByHand::start(&["perl", "-e", "sleep 1000", &inside])];
    assert!(only(site.bring_up(&["robot"])).ok);
    site.bring_down(&["robot"]);
    let copy = ByHand::start(&["perl", "-e", "sleep 1000", &path]);
    let refused = only(site.bring_up(&["robot"]));
    assert_eq!((refused.ok, refused.state), (false, StateWord::Fatal));
    let pid = copy.0.id();
    let begin = format!("not started: already running (pid {pid}, since 2");
    assert!(refused.reason.starts_with(&begin), "{refused:?}");
    assert!(refused.reason.contains(&format!(" {path})")), "{refused:?}");
    assert!(!lock.exists(), "a refused start leaves nothing");
    site.stderr.wait_for("the refusal", |line| line.contains(&begin));
    drop(copy);
    assert!(only(site.bring_up(&["robot"])).ok);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_copy_is_replaced_with_all_that_it_has_started() {
    let keys = ", match: {argv: DIR/robot.sh}, on_duplicate: replace";
    let mut site = robot(Path::new("DIR"), keys).start();
    let path = site.path("robot.sh").display().to_string();
    let child = site.path("child").display().to_string();
    for (script, killed) in [
        ("sleep 1000 & echo $! > $1; wait", false),
        ("trap '' TERM; sleep 1000 & echo $! > $1; wait; wait", true),
    ] {
        fs::remove_file(&child).ok();
        let mut copy = ByHand::start(&["sh", "-c", script, &path, &child]);
        until("its child", || fs::read_to_string(&child).is_ok_and(|text| text.ends_with('\n')));
        let below = fs::read_to_string(&child).unwrap().trim().to_owned();
        assert!(only(site.bring_up(&["robot"])).ok);
        assert!(copy.has_ended());
        until("its child is gone", || !crate::sys_world::lives(&below));
        let log = site.stderr.all().join("\n");
        assert!(log.contains(&format!("(pid {}, ", copy.0.id())), "{log}");
        assert_eq!(log.contains("still alive, sending KILL"), killed, "{log}");
        site.bring_down(&["robot"]);
    }
    assert_eq!(site.end(), 0);
}

#[test]
fn of_fifty_supervisors_with_one_lock_one_starts_it_and_the_others_name_it() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = place.path().display().to_string();
    let plan = |_| {
        let plan = robot(place.path(), "");
        plan.script("robot.sh", &ROBOT.replace("DIR", &folder))
    };
    let mut sites: Vec<Site> = (0..50).map(plan).map(Plan::start).collect();
    // Asked first, all of them, and then heard.
    let mut clients: Vec<Client> =
        sites.iter().map(|site| Client::connect(&site.socket()).unwrap()).collect();
    for client in &mut clients {
        client.send(&Request::Start(change(&["robot"]))).unwrap();
    }
    let answers = clients.iter_mut().map(|client| match client.reply(PATIENCE) {
        Some(Reply::Outcome(outcome)) => only(outcome),
        other => panic!("{other:?}"),
    });
    let answers: Vec<ProgramOutcome> = answers.collect();
    let winners: Vec<usize> = (0..50).filter(|index| answers[*index].ok).collect();
    let [winner] = <[_; 1]>::try_from(winners).unwrap();
    until("it has run", || place.path().join("runs").exists());
    assert_eq!(fs::read_to_string(place.path().join("runs")).unwrap(), "run\n");
    let (its, own_pid) = (sites[winner].main_pid("robot"), sites[winner].pid);
    for (index, refused) in answers.iter().enumerate().filter(|(index, _)| *index != winner) {
        // Before the program has executed it is its supervisor who has the lock.
        let names = |pid: String| refused.reason.contains(&format!("already running (pid {pid}, "));
        assert!(names(its.to_string()) || names(own_pid.to_string()), "{index}: {refused:?}");
    }
    assert_eq!(fs::read_to_string(place.path().join("r.pid")).unwrap(), format!("{its}\n"));
    for site in sites.drain(..) {
        assert_eq!(site.end(), 0);
    }
    assert!(!place.path().join("r.lock").exists());
}

#[test]
fn of_fifty_who_ask_one_supervisor_all_get_the_same_one() {
    let mut site = robot(Path::new("DIR"), ", match: {argv: DIR/robot.sh}").start();
    let mut clients: Vec<Client> =
        (0..50).map(|_| Client::connect(&site.socket()).unwrap()).collect();
    for client in &mut clients {
        client.send(&Request::Start(change(&["robot"]))).unwrap();
    }
    for client in &mut clients {
        let Some(Reply::Outcome(outcome)) = client.reply(PATIENCE) else {
            panic!("no answer");
        };
        assert!(only(outcome).ok);
    }
    site.main_pid("robot");
    until("it has run", || site.path("runs").exists());
    assert_eq!(fs::read_to_string(site.path("runs")).unwrap(), "run\n");
    assert_eq!(site.end(), 0);
}

#[test]
fn what_outlives_a_killed_supervisor_keeps_its_lock_and_a_stale_one_is_taken_over() {
    let mut site = robot(Path::new("DIR"), "").start();
    site.bring_up(&["robot"]);
    let (lock, pid_file) = files(&site);
    let pid = site.main_pid("robot");
    site.signal(Signal::SIGKILL);
    assert_eq!(site.code(), 137);
    assert!(!lock_is_free(&lock), "the program has it for as long as it lives");
    let folder = site.plan.dir.path().to_owned();
    let mut other = robot(&folder, "").start();
    let refused = only(other.bring_up(&["robot"]));
    assert!(refused.reason.contains(&format!("already running (pid {pid}, ")), "{refused:?}");
    assert!(refused.reason.contains(&format!("it has the lock {}", lock.display())));
    let holder = other.program("robot").lock.unwrap();
    assert_eq!(holder.state, LockWord::Taken);
    assert_eq!(holder.holder.unwrap().pid, pid);
    assert_eq!(other.end(), 0);
    let mut site = site.again();
    assert!(lock.exists() && lock_is_free(&lock));
    assert!(only(site.bring_up(&["robot"])).ok);
    let left = format!("was left behind by pid {pid}, and nobody has it: taken");
    site.stderr.wait_for("what became of it", |line| line.contains(&left));
    assert_eq!(site.end(), 0);
    assert!(!lock.exists() && !pid_file.exists());
}

#[test]
fn a_pid_in_a_stale_file_is_nobody_to_us() {
    let mut site = robot(Path::new("DIR"), "").start();
    let mut stranger = ByHand::start(&["sleep", "1000"]);
    let (lock, pid_file) = files(&site);
    for file in [&lock, &pid_file] {
        fs::write(file, format!("{}\n", stranger.0.id())).unwrap();
    }
    assert!(only(site.bring_up(&["robot"])).ok);
    assert!(only(site.bring_down(&["robot"])).ok);
    assert!(!stranger.has_ended());
    // Nor does what holds no pid make way for us.
    fs::write(&lock, "do not lose this\n").unwrap();
    let refused = only(site.bring_up(&["robot"]));
    assert!(refused.reason.contains("it holds something that is no pid"), "{refused:?}");
    assert_eq!(fs::read_to_string(&lock).unwrap(), "do not lose this\n");
    assert_eq!(site.end(), 0);
}

#[test]
fn the_files_belong_to_the_user_of_the_program() {
    if !is_root() {
        return skip("root is needed");
    }
    let mut site = Plan::new(
        "  robot: {command: [sleep, '1000'], user: '65534', group: '65534',
    single_instance: {lock_file: DIR/r.lock, pid_file: DIR/r.pid}}",
    )
    .start();
    site.all_running();
    let (lock, pid_file) = files(&site);
    for (file, mode) in [(&lock, 0o600), (&pid_file, 0o644)] {
        let meta = fs::metadata(file).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o777), (65534, mode), "{}", file.display());
    }
    assert!(!lock_is_free(&lock));
    assert_eq!(site.end(), 0);
    assert!(!lock.exists() && !pid_file.exists());
}

#[test]
fn only_the_program_itself_inherits_its_lock() {
    let list = "ls -l /proc/self/fd > DIR/";
    let mut site = Plan::new(&format!(
        "  robot:
    command: [sh, -c, '{list}main; exec sleep 1000']
    start_pre: [[sh, -c, '{list}before']]
    start_post: [[sh, -c, '{list}beside']]
    single_instance: {{lock_file: DIR/r.lock}}
  other: {{command: [sh, -c, '{list}other; exec sleep 1000'], after: [robot]}}"
    ))
    .start();
    site.all_running();
    until("both have looked", || site.path("other").exists());
    for (file, has) in [("main", true), ("before", false), ("beside", false), ("other", false)] {
        until("it is written", || fs::read_to_string(site.path(file)).is_ok_and(|t| t.len() > 10));
        let text = fs::read_to_string(site.path(file)).unwrap();
        assert_eq!(text.contains("r.lock"), has, "{file}: {text}");
    }
    assert_eq!(site.end(), 0);
}

/// A site that adopts copies of its robot, which starts one of its own by `command`.
fn adopting(keys: &str) -> Plan {
    Plan::new(&format!(
        "  robot: {{command: [DIR/robot.sh], autostart: false, stop: {{timeout: 500ms}},
    restart: {{policy: on-failure, delay: 100ms}}{keys},
    single_instance: {{lock_file: DIR/r.lock, pid_file: DIR/r.pid,
      match: {{argv: DIR/robot.sh}}, on_duplicate: adopt}}}}"
    ))
    .script("robot.sh", ROBOT)
}

/// A copy with a child, whose pid it writes down.
fn with_child(site: &Site, script: &str) -> (ByHand, String) {
    let (path, child) = (site.path("robot.sh"), site.path("child"));
    let (path, child) = (path.display().to_string(), child.display().to_string());
    fs::remove_file(&child).ok();
    let copy = ByHand::start(&["sh", "-c", script, &path, &child]);
    until("its child", || fs::read_to_string(&child).is_ok_and(|text| text.ends_with('\n')));
    (copy, fs::read_to_string(&child).unwrap().trim().to_owned())
}

#[test]
fn the_one_copy_is_adopted_and_a_stop_ends_all_that_it_has_started() {
    let mut site = adopting("").start();
    let (lock, pid_file) = files(&site);
    for (script, killed) in [
        // In a session of its own, and below nobody once the copy is gone.
        ("setsid sleep 1000 & echo $! > $1; wait", false),
        ("trap '' TERM; sleep 1000 & echo $! > $1; wait; wait", true),
    ] {
        let (mut copy, child) = with_child(&site, script);
        let pid = copy.0.id();
        let adopted = only(site.bring_up(&["robot"]));
        assert_eq!((adopted.ok, adopted.state), (true, StateWord::Running));
        assert!(adopted.reason.starts_with("adopted 2"), "{adopted:?}");
        assert!(adopted.reason.ends_with(", not started by the supervisor"), "{adopted:?}");
        let status = site.program("robot");
        assert_eq!((status.adopted, status.pid), (true, Some(pid)));
        let all: Vec<u32> = [pid, child.parse().unwrap()].into();
        assert!(all.iter().all(|one| status.pids.contains(one)), "{status:?}");
        assert_eq!(status.lock.unwrap().state, LockWord::Held);
        assert!(fs::read_to_string(&lock).unwrap().starts_with(&format!("{pid}\n")));
        assert_eq!(fs::read_to_string(&pid_file).unwrap(), format!("{pid}\n"));
        assert!(!lock_is_free(&lock));
        let begin = format!("adopted, not started by the supervisor: pid {pid}, since 2");
        let starter = format!(" (pid {}); its output is not ours", std::process::id());
        site.stderr.wait_for("the adoption", |line| {
            line.contains(&begin) && line.contains(", started by uid ") && line.contains(&starter)
        });
        let stopped = only(site.bring_down(&["robot"]));
        assert_eq!((stopped.ok, stopped.state), (true, StateWord::Stopped));
        assert!(copy.has_ended(), "stopped means ended");
        until("its child is reaped", || !crate::sys_world::lives(&child));
        assert!(!lock.exists() && !pid_file.exists());
        let log = site.stderr.all().join("\n");
        assert_eq!(log.contains("still alive, sending SIGKILL"), killed, "{log}");
        assert!(site.program("robot").exit.unwrap().unknown);
    }
    assert!(!site.path("runs").exists(), "nothing was started beside it");
    assert_eq!(site.end(), 0);
}

#[test]
fn what_follows_the_end_of_an_adopted_copy_is_started_by_us() {
    let mut site = adopting("").start();
    let (mut copy, child) = with_child(&site, "sleep 1000 & echo $! > $1; wait");
    let pid = copy.0.id();
    assert!(only(site.bring_up(&["robot"])).ok);
    // What it leaves behind goes first, though nobody was told whose it is.
    copy.0.kill().unwrap();
    site.stderr.wait_for("its end", |line| {
        line.contains("its exit status is not known, because it was adopted")
    });
    assert!(copy.0.wait().unwrap().code().is_none());
    until("one of ours", || {
        let status = site.program("robot");
        status.state == StateWord::Running && status.pid != Some(pid)
    });
    until("its child is gone", || !crate::sys_world::lives(&child));
    let status = site.program("robot");
    assert!(!status.adopted && status.exit.unwrap().unknown, "{status:?}");
    until("it has run", || site.path("runs").exists());
    assert_eq!(site.end(), 0);
}

#[test]
fn of_two_copies_none_is_adopted_and_both_are_named() {
    let mut site = adopting("").start();
    let path = site.path("robot.sh").display().to_string();
    let mut copies = [(); 2].map(|()| ByHand::start(&["perl", "-e", "sleep 1000", &path]));
    let refused = only(site.bring_up(&["robot"]));
    assert_eq!((refused.ok, refused.state), (false, StateWord::Fatal));
    for copy in &copies {
        assert!(refused.reason.contains(&format!("pid {}, ", copy.0.id())), "{refused:?}");
    }
    assert!(refused.reason.contains("2 copies") && refused.reason.contains("none is chosen"));
    assert!(!copies[0].has_ended() && !copies[1].has_ended());
    drop(copies);
    assert!(only(site.bring_up(&["robot"])).ok);
    assert!(!site.program("robot").adopted);
    assert_eq!(site.end(), 0);
}

#[test]
fn whoever_has_the_lock_is_not_adopted() {
    let mut site = adopting("").start();
    let (lock, _) = files(&site);
    let path = site.path("robot.sh").display().to_string();
    let file = lock.display().to_string();
    let script = "use Fcntl ':flock'; open(F, '>>', $ARGV[1]); flock(F, LOCK_EX); sleep 1000";
    let mut copy = ByHand::start(&["perl", "-e", script, &path, &file]);
    until("it has the lock", || lock.exists() && !lock_is_free(&lock));
    let refused = only(site.bring_up(&["robot"]));
    assert_eq!(refused.state, StateWord::Fatal);
    let pid = copy.0.id();
    assert!(refused.reason.contains(&format!("already running (pid {pid}, ")), "{refused:?}");
    assert!(!copy.has_ended());
    assert_eq!(site.end(), 0);
}

#[test]
fn an_adopted_copy_outlives_a_killed_supervisor_and_is_adopted_again() {
    let mut site = adopting("").start();
    let (mut copy, child) = with_child(&site, "sleep 1000 & echo $! > $1; wait");
    let pid = copy.0.id();
    assert!(only(site.bring_up(&["robot"])).ok);
    site.signal(Signal::SIGKILL);
    assert_eq!(site.code(), 137);
    assert!(!copy.has_ended());
    let mut site = site.again();
    assert!(only(site.bring_up(&["robot"])).ok);
    let status = site.program("robot");
    assert_eq!((status.adopted, status.pid), (true, Some(pid)));
    assert!(!site.path("runs").exists(), "there was never a second one");
    // The end of the site is its end, as of any program.
    assert_eq!(site.end(), 0);
    until("it has ended", || copy.has_ended());
    until("its child is gone", || !crate::sys_world::lives(&child));
}

#[test]
fn new_settings_and_a_restart_make_an_adopted_copy_ours() {
    let mut site = adopting("").start();
    let (mut copy, _) = with_child(&site, "sleep 1000 & echo $! > $1; wait");
    assert!(only(site.bring_up(&["robot"])).ok);
    let Reply::Processes(listed) = site.ask(&Request::Processes(ProcessesQuery::default())) else {
        panic!("no list");
    };
    let listed = listed.processes;
    let of = |pid: u32| listed.iter().find(|one| one.pid == pid).map(|one| one.kind);
    assert_eq!(of(copy.0.id()), Some(Kind::Main), "{listed:?}");
    assert!(only(site.restart(&["robot"])).ok);
    assert!(copy.has_ended());
    let status = site.program("robot");
    assert!(!status.adopted && status.state == StateWord::Running, "{status:?}");
    assert_eq!(site.end(), 0);
}
