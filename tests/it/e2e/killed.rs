//! After a SIGKILL of the supervisor: what it has left is ended before anything is started again.

use std::{fs, path::Path, process::Command};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::harness::{Plan, Site, pids_with};
use crate::sys_world::until;

/// Killed, with everything that it has started still there.
fn killed(site: &mut Site) -> Vec<i32> {
    let left = pids_with(&site.plan.mark());
    site.signal(Signal::SIGKILL);
    assert_eq!(site.code(), 137);
    let left: Vec<i32> = left.into_iter().filter(|pid| lives(*pid)).collect();
    assert!(!left.is_empty());
    left
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
}

fn number_in(path: &Path) -> i32 {
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

const EACH_KIND: &str = "  plain: {command: [sleep, '1000']}
  worker: {command: [sh, -c, 'sleep 1001 & wait']}
  escaped: {command: [sh, -c, 'setsid sleep 1002 & exec sleep 1003']}
  forgetful: {command: [sh, -c, 'env -i sleep 1004 & echo $! > DIR/forgetful; wait']}
  bare: {command: [env, -u, E2E_MARK, setsid, -w, env, -i, sleep, '1005']}
  deaf: {command: [sh, -c, \"trap '' TERM; while :; do sleep 1006; done\"]}";

/// So many of them, and the supervisor, have the mark of the test.
const COUNT: usize = 9;

#[test]
fn no_program_runs_twice_after_the_supervisor_was_killed() {
    for orphans in ["adopt", "kill"] {
        let programs = EACH_KIND.replace("]}", "], stop: {timeout: 300ms}}");
        let plan = Plan::new(&programs).supervisor(&format!("orphans: {orphans}"));
        let mut site = plan.start();
        site.all_running();
        until("all are there", || pids_with(&site.plan.mark()).len() == COUNT);
        until("it has written", || {
            fs::read_to_string(site.path("forgetful")).is_ok_and(|text| text.ends_with('\n'))
        });
        let (forgetful, bare) = (number_in(&site.path("forgetful")), site.main_pid("bare"));
        let mut left = killed(&mut site);
        left.extend([forgetful, bare.cast_signed()]);
        let mut site = site.again();
        site.all_running();
        site.stderr.wait_for("what was left", |line| {
            line.contains("the supervisor before this one was killed and has left ")
                && line.contains("ending them before anything is started")
                && line.contains("cannot adopt them") == (orphans == "adopt")
        });
        for pid in left {
            assert!(!lives(pid), "{pid} of {EACH_KIND} still lives beside its successor");
        }
        until("each is there once", || pids_with(&site.plan.mark()).len() == COUNT);
        assert_eq!(site.end(), 0);
    }
}

#[test]
fn what_bears_another_mark_is_not_touched() {
    let mut site = Plan::new("  one: {command: [sleep, '1000']}").start();
    site.all_running();
    let stranger =
        |mark: &str| Command::new("sleep").arg("1000").env("SUPERVISOR_RUN", mark).spawn().unwrap();
    let mut strangers = [stranger("0123456789abcdef:1"), stranger(""), stranger("garbage")];
    killed(&mut site);
    let mut site = site.again();
    site.all_running();
    for stranger in &mut strangers {
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
    assert_eq!(site.end(), 0);
}

#[test]
fn who_was_killed_before_that_is_remembered_too() {
    let deaf = "  deaf: {command: [sh, -c, \"trap '' TERM; echo x > DIR/up; \
                while :; do sleep 1000; done\"], stop: {timeout: 20s}}";
    let mut site = Plan::new(deaf).start();
    until("it is deaf", || site.path("up").exists());
    let first = killed(&mut site);
    let mut site = site.again_at_once();
    site.stderr.wait_for("what was left", |line| line.contains("ending them before"));
    site.signal(Signal::SIGKILL);
    assert_eq!(site.code(), 137);
    // Nobody waits twenty seconds for the second time.
    let mut site = site.again_at_once();
    site.stderr.wait_for("what was left", |line| line.contains("ending them before"));
    // A stop means what was left as well, and at once.
    site.signal(Signal::SIGTERM);
    assert_eq!(site.code(), 0);
    assert!(first.iter().all(|pid| !lives(*pid)), "{first:?}");
    site.assert_nothing_left();
    // It came to its end, so the next one has nothing to look for.
    let lock = fs::read_to_string(site.path("run/supervisor.lock")).unwrap();
    assert_eq!(lock, format!("{}\n", site.pid));
}

#[test]
fn a_supervisor_that_a_leftover_has_started_refuses_rather_than_run_it_twice() {
    let shell = format!(
        "  shell: {{command: [sh, -c, 'mkfifo DIR/go; read x < DIR/go; {} -c DIR/site.yaml \
         2> DIR/said; echo $? > DIR/code.new; mv DIR/code.new DIR/code; exec sleep 1000'], \
         inherit_environment: true}}",
        env!("CARGO_BIN_EXE_supervisor")
    );
    let mut site = Plan::new(&shell).start();
    until("it listens", || site.path("go").exists());
    let left = killed(&mut site);
    fs::write(site.path("go"), "now\n").unwrap();
    until("it has ended", || site.path("code").exists());
    let said = fs::read_to_string(site.path("said")).unwrap();
    assert_eq!(number_in(&site.path("code")), 1, "{said}");
    assert!(said.contains("it would run twice; start the supervisor from elsewhere"), "{said}");
    assert!(left.iter().any(|pid| lives(*pid)), "a refusal has ended something");
    let mut site = site.again();
    site.all_running();
    for pid in left {
        assert!(kill(Pid::from_raw(pid), None).is_err() || !lives(pid));
    }
    assert_eq!(site.end(), 0);
}
