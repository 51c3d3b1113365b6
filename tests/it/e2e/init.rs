//! As PID 1 of a namespace: what a container's entrypoint has to do.

use std::time::{Duration, Instant};

use mini_supervisor::control::Reply;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::harness::{Plan, Site, full, is_root, program, skip};
use crate::sys_world::until;

pub(super) const UNSHARE: [&str; 4] = ["unshare", "--pid", "--fork", "--mount-proc"];

/// Whether a namespace can be had here.
pub(super) fn possible() -> bool {
    if !is_root() {
        skip("not root: no pid namespace");
        return false;
    }
    let tried = std::process::Command::new(UNSHARE[0]).args(&UNSHARE[1..]).arg("true").status();
    let can = tried.is_ok_and(|status| status.success());
    if !can {
        skip("no pid namespace can be made here");
    }
    can
}

/// The supervisor as this namespace sees it: the child of unshare.
pub(super) fn init(site: &Site) -> Pid {
    let children = format!("/proc/{0}/task/{0}/children", site.pid);
    let text = std::fs::read_to_string(children).unwrap();
    Pid::from_raw(text.trim().parse().unwrap())
}

#[test]
fn the_site_runs_as_pid_1_and_stops_in_order() {
    if !possible() {
        return;
    }
    let mut site = Plan::new(
        "  db: {command: [sleep, '1000']}\n  web: {command: [sleep, '1000'], requires: [db], restart: {delay: 1ms}}",
    )
    .wrapped(&UNSHARE)
    .start();
    site.all_running();
    let Reply::Version(version) = site.version() else { panic!() };
    assert_eq!(version.pid, 1);
    kill(init(&site), Signal::SIGTERM).unwrap();
    assert_eq!(site.end_by_itself(), 0);
    let log = site.stderr.text();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{log}"));
    assert!(at("web: stopped") < at("db: stopped"), "{log}");
}

#[test]
fn orphans_of_anybody_are_reaped_and_counted() {
    if !possible() {
        return;
    }
    let mut site = Plan::new("  breed: {command: [DIR/breed], type: oneshot}")
        .script("breed", "i=0; while test $i -lt 50; do (setsid /bin/true &); i=$((i+1)); done")
        .wrapped(&UNSHARE)
        .start();
    let init = init(&site);
    let children = format!("/proc/{init}/task/{init}/children");
    let status = site.wait_for("everybody reaped", |s| {
        s.supervisor.orphans_reaped >= 50
            && std::fs::read_to_string(&children).is_ok_and(|text| text.trim().is_empty())
    });
    assert!(status.supervisor.orphans_reaped >= 50);
    kill(init, Signal::SIGTERM).unwrap();
    assert_eq!(site.end_by_itself(), 0);
}

#[test]
fn an_orphan_has_time_to_clean_up() {
    if !possible() {
        return;
    }
    let mut site = Plan::new("  main: {command: [DIR/main], stop: {kill_mode: process}}")
        .script("orphan", "trap 'sleep 0.3; echo CLEANED > DIR/cleaned; exit 0' TERM; echo ready; sleep 1000 & wait")
        .script("main", "setsid DIR/orphan & exec sleep 1000")
        .wrapped(&UNSHARE)
        .start();
    site.stdout.wait_for("the orphan", |line| line.contains("ready"));
    kill(init(&site), Signal::SIGTERM).unwrap();
    assert_eq!(site.end_by_itself(), 0);
    assert_eq!(std::fs::read_to_string(site.path("cleaned")).unwrap(), "CLEANED\n");
}

#[test]
fn programs_that_ignore_term_do_not_outlast_the_time_a_container_has() {
    if !possible() {
        return;
    }
    let deaf = |n: u32| format!("  d{n}: {{command: [DIR/deaf], stop: {{timeout: 1m}}}}\n");
    let mut site = Plan::new(&(0..3).map(deaf).collect::<String>())
        .script("deaf", "trap '' TERM; echo ready; while :; do sleep 1000; done")
        .wrapped(&UNSHARE)
        .start();
    for n in 0..3 {
        site.stdout.wait_for("a trap", |line| line == format!("d{n} | ready"));
    }
    let began = Instant::now();
    kill(init(&site), Signal::SIGTERM).unwrap();
    site.end_by_itself();
    let took = began.elapsed();
    assert!(took <= Duration::from_millis(8_500), "{took:?}");
}

#[test]
fn the_exit_of_the_essential_program_is_the_exit_of_the_container() {
    if !possible() {
        return;
    }
    let codes = if full() { (0..=255).collect() } else { vec![0, 1, 42, 126, 200, 255] };
    let ends = codes.into_iter().map(|code| (format!("exit {code}"), code));
    let killed = [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("INT", 2)];
    let killed = killed.into_iter().map(|(name, n)| (format!("kill -{name} $$"), 128 + n));
    for (how, code) in ends.chain(killed) {
        let mut site = Plan::new("  main: {command: [DIR/main], essential: true, restart: {policy: never}, limits: {core: 0}}")
            .script("main", &how)
            .wrapped(&UNSHARE)
            .spawn();
        assert_eq!(site.end_by_itself(), code, "{how}");
    }
}

#[test]
fn many_orphans_at_once_leave_no_zombie() {
    let count = 500;
    let plan = Plan::new("  breed: {command: [DIR/breed], stop: {kill_mode: process}}\n  calm: {command: [sleep, '1000'], restart: {delay: 1ms}}")
        .script("breed", &format!("i=0; while test $i -lt {count}; do (sh -c 'read x' < DIR/gate &); i=$((i+1)); done; touch DIR/bred; sleep 1000"));
    nix::unistd::mkfifo(&plan.path("gate"), nix::sys::stat::Mode::from_bits_truncate(0o600))
        .unwrap();
    let gate = std::fs::OpenOptions::new().read(true).write(true).open(plan.path("gate")).unwrap();
    let mut site = plan.start();
    let children = format!("/proc/{0}/task/{0}/children", site.pid);
    let zombies = move || {
        let text = std::fs::read_to_string(&children).unwrap_or_default();
        let zombie = |pid: &&str| {
            std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") Z "))
        };
        (text.split_whitespace().count(), text.split_whitespace().filter(zombie).count())
    };
    let all = zombies.clone();
    site.wait_for("all orphans", move |_| all().0 >= count);
    for pid in super::harness::pids_with(&site.plan.mark()) {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if line.windows(6).any(|six| six == b"read x") {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
    until("all are reaped", || zombies().0 <= 2);
    assert!(site.status().supervisor.orphans_reaped > 0);
    assert!(program(&site.status(), "calm").restarts == 0);
    drop(gate);
    assert_eq!(site.end(), 0);
}

#[test]
fn as_pid_1_no_signal_has_its_default_action_and_what_asks_for_a_stop_stops_in_order() {
    if !possible() {
        return;
    }
    // Ctrl-alt-del is SIGINT from the kernel, LXC sends SIGPWR, systemd SIGRTMIN+3.
    for stop in [2, 15, 30, 37] {
        let mut site = Plan::new("  one: {command: [sleep, '1000'], restart: {delay: 1ms}}")
            .wrapped(&UNSHARE)
            .start();
        let pid = site.main_pid("one");
        let init = init(&site).as_raw().to_string();
        let send = |number: i32| {
            let words = [format!("-{number}"), init.clone()];
            let sent = std::process::Command::new("/bin/kill").args(words).status().unwrap();
            assert!(sent.success(), "{number}");
        };
        // Not KILL, STOP, and what means something to us.
        let meant = [1, 2, 3, 9, 10, 12, 15, 17, 19, 30, 32, 33, 37];
        for number in (1..=64).filter(|number| !meant.contains(number)) {
            send(number);
        }
        assert!(matches!(site.version(), Reply::Version(_)));
        assert_eq!(site.main_pid("one"), pid);
        assert_eq!(site.program("one").restarts, 0);
        send(stop);
        assert_eq!(site.end_by_itself(), 0, "{stop}");
        let log = site.stderr.text();
        assert!(log.contains("one: stopped") && log.contains("stopped, exit 0"), "{log}");
    }
}
