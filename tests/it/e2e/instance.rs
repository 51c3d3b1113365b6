//! One supervisor a site, its lock and its pid file, and files that are refused.

use std::{collections::BTreeSet, sync::mpsc};

use mini_supervisor::control::{Reply, VersionInfo};
use nix::sys::signal::Signal;

use super::{
    harness::{PATIENCE, Plan, Site, lock_is_free, pids_with},
    lines::Lines,
};

const SLEEP: &str = "  one: {command: [sleep, '1000']}";

/// A second supervisor of the site of `first`: its exit code and standard error.
fn second(first: &Site) -> (i32, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_supervisor"))
        .arg("-c")
        .arg(first.path("site.yaml"))
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_second_supervisor_of_the_same_site_is_refused_and_names_the_first() {
    let mut site = Plan::new(SLEEP).start();
    let before = site.main_pid("one");
    let (code, text) = second(&site);
    assert_eq!(code, 73, "{text}");
    assert!(text.contains(&format!("pid {}", site.pid)) && text.contains("hint:"), "{text}");
    assert_eq!(site.main_pid("one"), before);
    let Reply::Version(VersionInfo { pid, .. }) = site.version() else { panic!() };
    assert_eq!(pid.cast_signed(), site.pid.as_raw());
    assert_eq!(site.end(), 0);
}

#[test]
fn of_fifty_started_at_once_one_wins() {
    let plan = Plan::new("  one: {command: [DIR/one]}")
        .script("one", "echo run >> DIR/runs; echo up; exec sleep 1000");
    plan.write("  one: {command: [DIR/one]}");
    let (output, outputs) = std::io::pipe().unwrap();
    let output = Lines::read(output);
    let (ends, ended) = mpsc::channel();
    let start = |_| {
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_supervisor"))
            .arg("-c")
            .arg(plan.path("site.yaml"))
            .env("E2E_MARK", plan.mark())
            .stdin(std::process::Stdio::null())
            .stdout(outputs.try_clone().unwrap())
            .stderr(std::process::Stdio::null())
            .spawn();
        let (mut child, ends) = (child.unwrap(), ends.clone());
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        let wait = move || ends.send((pid, child.wait().unwrap().code())).unwrap();
        std::thread::Builder::new().spawn(wait).unwrap();
        pid
    };
    let mut all: BTreeSet<_> = (0..50).map(start).collect();
    for _ in 0..49 {
        let (pid, code) = ended.recv_timeout(PATIENCE).unwrap();
        assert_eq!(code, Some(73));
        all.remove(&pid);
    }
    output.wait_for("the program of the winner", |line| line.ends_with("up"));
    assert_eq!(std::fs::read_to_string(plan.path("runs")).unwrap(), "run\n");
    nix::sys::signal::kill(*all.first().unwrap(), Signal::SIGTERM).unwrap();
    assert_eq!(ended.recv_timeout(PATIENCE).unwrap().1, Some(0));
    assert_eq!(pids_with(&plan.mark()), Vec::<i32>::new());
}

#[test]
fn after_a_supervisor_was_killed_the_next_one_takes_over() {
    let mut first = Plan::new(SLEEP).supervisor("pid_file: DIR/pid").start();
    let orphan = nix::unistd::Pid::from_raw(first.main_pid("one").cast_signed());
    let pid_file = std::fs::read_to_string(first.path("pid")).unwrap();
    assert_eq!(pid_file.trim(), first.pid.to_string());
    first.signal(Signal::SIGKILL);
    assert_eq!(first.code(), 137);
    assert!(first.socket().exists(), "it had no time to remove it");
    assert!(lock_is_free(&first.path("run/supervisor.lock")));
    nix::sys::signal::kill(orphan, Signal::SIGKILL).unwrap();
    let mut next = std::process::Command::new(env!("CARGO_BIN_EXE_supervisor"))
        .arg("-c")
        .arg(first.path("site.yaml"))
        .env("E2E_MARK", first.plan.mark())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let log = Lines::read(next.stderr.take().unwrap());
    log.wait_for("the next start", |line| line.contains("supervising "));
    assert_eq!(std::fs::read_to_string(first.path("pid")).unwrap(), format!("{}\n", next.id()));
    super::client::Client::connect(&first.socket()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(next.id().cast_signed()), Signal::SIGTERM)
        .unwrap();
    assert_eq!(next.wait().unwrap().code(), Some(0));
    assert!(!first.path("pid").exists(), "the pid file is left");
    first.assert_nothing_left();
}

#[test]
fn a_stale_pid_file_does_not_matter() {
    for stale in ["", "garbage\n", "1\n", "99999999999\n", "4194303\n"] {
        let mut site = Plan::new(SLEEP).supervisor("pid_file: DIR/pid").file("pid", stale).start();
        site.all_running();
        assert_eq!(std::fs::read_to_string(site.path("pid")).unwrap(), format!("{}\n", site.pid));
        assert_eq!(site.end(), 0);
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_with_code_78() {
    let (code, out, text) = Plan::new(
        "  one: {comand: [sleep, '1'], stop: {timeout: 10}}
  two: {command: [sleep, '1'], requires: [nobody], umask: 22}
  three: {command: [sleep, '1'], requires: [three]}",
    )
    .run();
    assert_eq!((code, &*out), (78, ""), "{text}");
    for word in ["comand", "timeout", "nobody", "umask", "three"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    let places = text.lines().filter(|line| line.contains("/site.yaml:")).count();
    assert!(places >= 5, "{text}");
}

#[test]
fn what_this_version_does_not_support_is_refused_in_one_place() {
    let (code, _, text) = Plan::new(
        "  one: {command: [sleep, '1'], resources: {interval: 10s, cpu_max: 50%}}
  two: {command: [sleep, '1'], sockets: [{listen: '80'}]}",
    )
    .run();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("resources") && text.contains("sockets"), "{text}");
}

#[test]
fn a_file_that_cannot_be_read_is_an_invalid_configuration() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_supervisor"))
        .args(["-c", "/nowhere/site.yaml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("/nowhere/site.yaml") && text.contains("No such file"), "{text}");
}

#[test]
fn a_root_supervisor_wants_to_be_told_as_whom_programs_run() {
    if !super::harness::is_root() {
        return super::harness::skip("not root");
    }
    let (code, _, text) = Plan::whole(
        "version: 1\nsupervisor: {runtime_dir: DIR/run}\nprograms:\n  one: {command: ['true']}\n",
    )
    .run();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("user"), "{text}");
}
