//! A robot on somebody's desk: no root, a terminal that is closed, copies that must not be, and
//! nothing that lingers.

use std::{
    fs,
    process::{Command, Stdio},
};

use mini_supervisor::control::StateWord;
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::openpty,
    sys::signal::{Signal, kill},
};

use super::{
    harness::{Plan, Site, is_root, pids_with, skip},
    processes::{command, listed, verb},
};
use crate::sys_world::until;

/// Twenty processes: plain ones, ones in sessions of their own, and ones that double-forked.
const TREE: &str = "  robot: {command: [sh, -c, 'for i in 1 2 3 4 5; do sleep 10$i & \
    setsid sleep 11$i & (sleep 12$i &); (setsid sh -c \"exec sleep 13$i\" &); done; \
    exec sleep 100']}";

/// The supervisor in the foreground of a terminal, with its tree of twenty.
fn on_a_terminal(supervisor: &str) -> (Site, std::os::fd::OwnedFd) {
    let ends = openpty(None, None).unwrap();
    for end in [&ends.master, &ends.slave] {
        // Whoever else has the terminal open would keep it from being closed.
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
    let plan = Plan::new(TREE).supervisor(supervisor);
    // Its controlling terminal; the exit code and what it logs come as ever.
    let terminal = nix::unistd::ttyname(&ends.slave).unwrap();
    let on_it = format!("exec setsid --ctty \"$@\" < {}", terminal.display());
    let mut site = plan.wrapped(&["sh", "-c", &on_it, "sh"]).start();
    drop(ends.slave);
    site.all_running();
    until("all are there", || {
        let all = listed(&site, &[]);
        all.len() == 21 && all.iter().all(|one| one["name"] == "sleep")
    });
    (site, ends.master)
}

#[test]
fn an_interrupt_at_the_terminal_leaves_no_process_of_a_tree_of_twenty() {
    let (mut site, master) = on_a_terminal("exit_when: stopped");
    nix::unistd::write(&master, b"\x03").unwrap();
    assert_eq!(site.end_by_itself(), 0);
}

#[test]
fn a_terminal_that_is_closed_stops_everything() {
    let (mut site, master) = on_a_terminal("stop_on_hangup: true");
    drop(master);
    assert_eq!(site.end_by_itself(), 0);
    let log = site.stderr.text();
    assert!(log.contains("SIGHUP") && log.contains("robot: stopped"), "{log}");
}

#[test]
fn term_int_and_hup_during_a_start_a_stop_or_a_restart_stop_the_programs_and_remove_the_files() {
    const PROGRAMS: &str = "  deaf: {command: [DIR/deaf], stop: {timeout: 1s}}
  slow: {command: [sleep, '1000'], requires: [deaf], start_pre: [{command: [DIR/pre]}]}";
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        for moment in ["start", "stop", "restart"] {
            let mut site = Plan::new(PROGRAMS)
                .supervisor("stop_on_hangup: true")
                .supervisor("pid_file: DIR/pid")
                .script("deaf", "trap '' TERM; echo ready; while :; do sleep 1000; done")
                .script("pre", "test -e DIR/started || { touch DIR/started; sleep 1000; }")
                .start();
            site.stdout.wait_for("its trap", |line| line.contains("ready"));
            until("slow is being started", || site.path("started").exists());
            if moment != "start" {
                assert_eq!(verb(&site, &["stop", "--force", "slow"]).code, Some(0));
                let args = [moment, "--no-wait", "deaf"];
                assert_eq!(verb(&site, &args).code, Some(0));
                site.wait_state("deaf", StateWord::Stopping);
            }
            site.signal(signal);
            assert_eq!(site.end_by_itself(), 0, "{signal} during a {moment}");
            assert!(!site.path("pid").exists(), "{signal} during a {moment}: the PID file is left");
        }
    }
}

#[test]
fn variants_take_the_arguments_that_they_allow() {
    let robot = "  robot: {command: [DIR/robot], autostart: false, restart: {policy: never},
    variants: {graphical: {default: true}, headless: {args: [--headless], extra_args: allow},
      test: {args: [--headless, --duration, '2']}}}";
    let site = Plan::new(robot).script("robot", "echo args: $*; exec sleep 1000").start();
    for (words, shown) in [
        (&["start", "robot"][..], "args:"),
        (&["restart", "robot", "--variant", "headless"], "args: --headless"),
        (
            &["restart", "robot", "--variant", "headless", "--", "--duration", "5"],
            "args: --headless --duration 5",
        ),
        (&["restart", "robot", "--variant", "test"], "args: --headless --duration 2"),
    ] {
        let ran = verb(&site, words);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let line = format!("robot | {shown}");
        site.stdout.wait_for(shown, |found| found.trim_end() == line);
    }
    let refused = verb(&site, &["restart", "robot", "--variant", "test", "--", "--duration", "9"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("variant test takes no further arguments"), "{refused:?}");
    assert_eq!(verb(&site, &["restart", "robot", "--", "x"]).code, Some(2));
    assert_eq!(site.end(), 0);
}

#[test]
fn a_test_run_ends_by_itself_after_its_time() {
    let robot = "  robot: {command: [DIR/robot], autostart: false, restart: {policy: never},
    variants: {test: {args: ['0.2']}}}\n  \
    limited: {command: [sleep, '1000'], max_runtime: 300ms, restart: {policy: never}}";
    let mut site = Plan::new(robot).script("robot", "exec sleep $1").start();
    assert_eq!(verb(&site, &["start", "robot", "--variant", "test"]).code, Some(0));
    assert_eq!(site.wait_state("robot", StateWord::Exited).exit.unwrap().code, Some(0));
    let limited = site.wait_state("limited", StateWord::Exited);
    assert!(limited.exit.unwrap().signal.is_some(), "{limited:?}");
    assert_eq!(site.end(), 0);
}

const ONE: &str =
    "echo $HOME >> DIR/runs; test $(wc -l < DIR/runs) -gt 1 || exit 3; exec sleep 1000";

/// A user of his own, with a home and nothing else.
fn unprivileged(supervisor: &str) -> Plan {
    let text = format!(
        "version: 1\nsupervisor: {{{supervisor}}}\n\
         defaults: {{user: self, inherit_environment: [E2E_MARK]}}\n\
         programs:\n  one: {{command: [DIR/one], restart: {{delay: 10ms}}}}\n"
    );
    Plan::whole(&text).script("one", ONE)
}

#[test]
fn without_root_everything_is_in_the_home_of_the_user() {
    if !is_root() {
        return skip("not root: cannot become somebody without rights");
    }
    let plan = unprivileged("runtime_dir: ~/run");
    let home = plan.mark();
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let plan = plan.file("passwd", &format!("{accounts}robot:x:4321:4321::{home}:/bin/sh\n"));
    fs::copy(env!("CARGO_BIN_EXE_supervisor"), plan.path("supervisor")).unwrap();
    nix::unistd::chown(plan.dir.path(), Some(4321.into()), Some(4321.into())).unwrap();
    let become_him = format!(
        "mount --bind {home}/passwd /etc/passwd && shift && unset XDG_RUNTIME_DIR && \
         exec setpriv --reuid=4321 --regid=4321 --clear-groups {home}/supervisor \"$@\""
    );
    let wrapper = ["unshare", "--mount", "sh", "-c", &become_him, "sh"];
    let mut site = plan.wrapped(&wrapper).start();
    // Its end is known, as it stays the child of the supervisor.
    let status = site.wait_for("the second run", |s| {
        s.programs[0].restarts == 1 && s.programs[0].state == StateWord::Running
    });
    assert_eq!(status.programs[0].exit.unwrap().code, Some(3));
    let socket = site.socket();
    let ppid = &listed(&site, &["-s", socket.to_str().unwrap()])[0]["ppid"];
    assert_eq!(ppid.as_i64(), Some(site.pid.as_raw().into()));
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(site.path("run")).unwrap());
    assert_eq!(owner, 4321);
    assert_eq!(fs::read_to_string(site.path("runs")).unwrap(), format!("{home}\n").repeat(2));
    assert_eq!(site.end(), 0);
}

#[test]
fn with_no_place_to_write_it_runs_and_says_what_is_missing() {
    if !is_root() {
        return skip("not root: cannot become somebody without rights");
    }
    let plan = unprivileged("runtime_dir: /proc/nowhere").run_as(65534, 65534);
    let mut site = plan.spawn();
    let said =
        site.stderr.wait_for("what is missing", |line| line.contains("no runtime directory"));
    assert!(said.contains("no control socket and no lock"), "{said}");
    site.stderr.wait_for("the second run", |line| line.contains("one: exit 3"));
    until("the second run", || {
        fs::read_to_string(site.path("runs")).is_ok_and(|runs| runs.lines().count() == 2)
    });
    site.signal(Signal::SIGTERM);
    assert_eq!(site.code(), 0);
    until("nobody is left", || pids_with(&site.plan.mark()).is_empty());
}

#[test]
fn what_a_killed_supervisor_has_left_is_ended_without_another_one() {
    let mut site = Plan::new(TREE).start();
    site.all_running();
    until("all are there", || listed(&site, &[]).len() == 21);
    let mut stranger = Command::new("sleep");
    stranger.arg("105").env("SUPERVISOR_RUN", "0123456789abcdef:1").stdin(Stdio::null());
    let mut stranger = stranger.spawn().unwrap();
    site.signal(Signal::SIGKILL);
    assert_eq!(site.code(), 137);
    let mark = site.plan.mark();
    assert_eq!(pids_with(&mark).len(), 21);
    let refused = verb(&site, &["kill-all"]);
    assert_eq!((refused.code, refused.out.lines().count()), (Some(1), 22), "{refused:?}");
    assert!(refused.err.contains("not confirmed, and there is no terminal"), "{refused:?}");
    for _ in 0..3 {
        assert_eq!(verb(&site, &["kill-all", "--dry-run"]).code, Some(0));
    }
    assert_eq!(pids_with(&mark).len(), 21);
    let lock = fs::read_to_string(site.path("run/supervisor.lock")).unwrap();
    assert_eq!(lock.lines().count(), 2, "one pid, and one mark: {lock}");
    let ran = verb(&site, &["kill-all", "--yes"]);
    assert_eq!((ran.code, ran.out.ends_with("ended 21 processes\n")), (Some(0), true), "{ran:?}");
    assert_eq!(pids_with(&mark), Vec::<i32>::new());
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
    kill(nix::unistd::Pid::from_raw(stranger.id().cast_signed()), Signal::SIGKILL).unwrap();
    stranger.wait().unwrap();
    // Nobody else looks for them again.
    let again = verb(&site, &["kill-all"]);
    assert_eq!(again.code, Some(7), "{again:?}");
    assert!(again.err.contains("no supervisor is running for this site"), "{again:?}");
    let mut site = site.again();
    site.all_running();
    let log = site.stderr.all();
    assert!(!log.iter().any(|line| line.contains("before this one was killed")), "{log:?}");
    assert_eq!(site.end(), 0);
}

#[test]
fn one_day_with_the_robot() {
    let robot = "  robot: {command: [sh, DIR/robot.py], stop: {confirm: true, timeout: 2s},
    restart: {policy: never}, single_instance: {lock_file: DIR/lock, match: {argv: robot.py}}}";
    let mut site = Plan::new(robot)
        .supervisor("stop_on_hangup: true")
        .script("robot.py", "sleep 901 & setsid sleep 902 & wait")
        .start();
    let is_there = |site: &Site| until("all are there", || listed(site, &["robot"]).len() == 3);
    site.all_running();
    is_there(&site);
    // A second supervisor is detected, and a second robot.
    let second = command(&site, &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(73));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&format!("pid {}", site.pid)), "{said}");
    // It is watched.
    let table = verb(&site, &["ps"]).out;
    assert!(table.contains("sleep 902") && table.contains("% "), "{table}");
    let (page, main) = (verb(&site, &["status", "robot"]).out, site.main_pid("robot"));
    assert!(page.contains(&format!(" LOCKED {main}: ")) && page.contains(" ACTIVE "), "{page}");
    // It is asked about before it is stopped, and then nothing lingers.
    let refused = verb(&site, &["stop", "robot"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("not confirmed: stop robot?"), "{refused:?}");
    assert_eq!(verb(&site, &["stop", "--force", "robot"]).code, Some(0));
    assert_eq!(pids_with(&site.plan.mark()), [site.pid.as_raw()], "something lingers");
    assert_eq!(verb(&site, &["stop", "--yes", "robot"]).code, Some(0), "there is nothing to stop");
    // One that was started by hand is named, and ended by the last resort.
    let mut copy = Command::new("sh");
    copy.arg(site.path("robot.py")).stdin(Stdio::null()).stdout(Stdio::null());
    let mut copy = copy.spawn().unwrap();
    until("it works", || crate::outside::children_of(copy.id()).len() == 2);
    let refused = verb(&site, &["start", "robot"]);
    assert_eq!(refused.code, Some(1));
    assert!(format!("{refused:?}").contains(&format!("pid {}", copy.id())), "{refused:?}");
    let ended = verb(&site, &["kill-all", "--yes"]);
    assert_eq!((ended.code, ended.out.ends_with("ended 3 processes\n")), (Some(0), true));
    assert!(copy.try_wait().unwrap().is_some());
    assert_eq!(verb(&site, &["start", "robot"]).code, Some(0));
    is_there(&site);
    // The terminal is closed.
    site.signal(Signal::SIGHUP);
    assert_eq!(site.end_by_itself(), 0);
    assert!(!site.path("lock").exists(), "the lock is left");
}
