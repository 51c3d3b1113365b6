//! The stop ladder, whole trees, and who gets which signal.

use std::time::{Duration, Instant};

use mini_supervisor::control::{Request, StateWord};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::harness::{Plan, change, fifo, pids_with, program};

#[test]
fn a_program_that_ignores_term_is_killed_after_its_timeout() {
    let mut site = Plan::new("  deaf: {command: [DIR/deaf], stop: {timeout: 300ms}}")
        .script("deaf", "trap '' TERM; echo ready; while :; do sleep 1000; done")
        .start();
    site.stdout.wait_for("its trap", |line| line.contains("ready"));
    let began = Instant::now();
    let outcome = site.bring_down(&["deaf"]);
    let took = began.elapsed();
    assert!(outcome.programs[0].ok, "{outcome:?}");
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
    let exit = site.program("deaf").exit.unwrap();
    assert_eq!(exit.signal.map(mini_supervisor::model::Signal::name), Some("KILL".to_owned()));
    assert_eq!(site.happened(&["program.escalated"]), ["deaf program.escalated"]);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_stopped_process_is_woken_to_obey_term() {
    let mut site = Plan::new("  asleep: {command: [sleep, '1000'], stop: {timeout: 15s}}").start();
    let pid = site.main_pid("asleep");
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGSTOP).unwrap();
    assert_eq!(site.program("asleep").state, StateWord::Running);
    let began = Instant::now();
    site.bring_down(&["asleep"]);
    assert!(began.elapsed() < Duration::from_secs(10));
    let exit = site.program("asleep").exit.unwrap();
    assert_eq!(exit.signal.map(mini_supervisor::model::Signal::name), Some("TERM".to_owned()));
    assert_eq!(site.end(), 0);
}

#[test]
fn the_ladder_sends_its_signals_in_order() {
    let mut site = Plan::new(
        "  one: {command: [DIR/one], stop: {signals: [{signal: HUP, wait: 200ms},
    {signal: INT, wait: 200ms}, {signal: USR1, wait: 15s}]}}",
    )
    .script(
        "one",
        "trap 'echo HUP' HUP; trap 'echo INT' INT; trap 'echo USR1; exit 0' USR1; echo ready
setsid sleep 1000 & while :; do wait; done",
    )
    .start();
    site.stdout.wait_for("its traps", |line| line.contains("ready"));
    site.bring_down(&["one"]);
    let stdout = site.stdout.clone();
    assert_eq!(site.end(), 0);
    assert_eq!(stdout.text(), "one | ready\none | HUP\none | INT\none | USR1\n");
}

/// A main process with a child of its group, one in its own session, and a double fork.
const TREE: &str =
    "sleep 1001 & setsid sleep 1002 & (setsid sh -c 'sleep 1003 & exec sleep 1004' &)
sh -c 'trap \"\" TERM; while :; do sleep 1; done' &
echo ready; exec sleep 1000";

#[test]
fn stopped_means_that_the_whole_tree_is_gone() {
    for mode in ["mixed", "group"] {
        let mut site = Plan::new(&format!(
            "  tree: {{command: [DIR/tree], stop: {{timeout: 500ms, kill_mode: {mode}}}}}"
        ))
        .script("tree", TREE)
        .start();
        site.stdout.wait_for("the tree", |line| line.contains("ready"));
        let status = site.wait_for("its processes", |s| program(s, "tree").pids.len() >= 6);
        let pids = program(&status, "tree").pids.clone();
        let outcome = site.bring_down(&["tree"]);
        assert!(outcome.programs[0].ok, "{mode}: {outcome:?}");
        let mark = site.plan.mark();
        let own = site.pid.as_raw();
        let left: Vec<i32> = pids_with(&mark).into_iter().filter(|pid| *pid != own).collect();
        assert_eq!(left, Vec::<i32>::new(), "{mode}: of {pids:?}");
        assert_eq!(site.end(), 0);
    }
}

#[test]
fn process_mode_leaves_the_rest_alone_until_the_site_ends() {
    let mut site = Plan::new("  main: {command: [DIR/main], stop: {kill_mode: process}}")
        .script("main", "sleep 1006 & echo $! > DIR/rest; echo ready; exec sleep 1000")
        .start();
    site.stdout.wait_for("the rest", |line| line.contains("ready"));
    site.bring_down(&["main"]);
    let rest: i32 = std::fs::read_to_string(site.path("rest")).unwrap().trim().parse().unwrap();
    assert!(pids_with(&site.plan.mark()).contains(&rest));
    assert_eq!(site.end(), 0);
}

#[test]
fn group_mode_tells_every_process_of_the_group_and_mixed_only_the_main_one() {
    for (mode, told) in [("group", "yes\n"), ("mixed", "no\n")] {
        let mut site = Plan::new(&format!(
            "  two: {{command: [DIR/two], stop: {{timeout: 15s, kill_mode: {mode}}}}}"
        ))
        // The main one asks by a signal of a higher number: a TERM that came before is seen first.
        .script("child", "told=no; trap 'told=yes' TERM; trap 'echo $told > DIR/told; exit 0' WINCH; echo child
sleep 1000 & while :; do wait; done")
        .script("two", "trap 'kill -WINCH $child; wait $child; exit 0' TERM; DIR/child & child=$!; echo main; wait")
        .start();
        site.stdout.wait_for("the child", |line| line.contains("child"));
        site.stdout.wait_for("the main", |line| line.contains("main"));
        site.bring_down(&["two"]);
        assert_eq!(std::fs::read_to_string(site.path("told")).unwrap(), told, "{mode}");
        assert_eq!(site.end(), 0);
    }
}

#[test]
fn a_stop_command_asks_before_any_signal() {
    let plan = Plan::new("  one: {command: [DIR/one], stop: {command: [DIR/ask], timeout: 15s}}")
        .script("ask", "echo please > DIR/please")
        .script("one", "trap 'echo TERM' TERM; echo ready; read word < DIR/please; echo bye");
    fifo(&plan, "please");
    let mut site = plan.start();
    site.stdout.wait_for("its trap", |line| line.contains("ready"));
    site.bring_down(&["one"]);
    let stdout = site.stdout.clone();
    assert_eq!(site.end(), 0);
    assert_eq!(stdout.text(), "one | ready\none | bye\n");
}

#[test]
fn a_forced_stop_begins_with_kill() {
    let mut site = Plan::new("  one: {command: [DIR/one], stop: {timeout: 1m}}")
        .script("one", "trap '' TERM; echo ready; while :; do sleep 1; done")
        .start();
    site.stdout.wait_for("its trap", |line| line.contains("ready"));
    let mut force = change(&["one"]);
    force.force = true;
    site.ask(&Request::Stop(force));
    assert_eq!(site.wait_state("one", StateWord::Stopped).pids, Vec::<u32>::new());
    assert_eq!(site.end(), 0);
}

#[test]
fn background_processes_of_a_program_that_crashed_are_gone_before_it_starts_again() {
    let mut site = Plan::new("  one: {command: [DIR/one], restart: {delay: 1ms}}")
        .script("one", "setsid sleep 1005 & echo $! >> DIR/pids; test $(wc -l < DIR/pids) -lt 3 && exit 1; exec sleep 1000")
        .start();
    site.wait_for("the third run", |s| {
        s.programs[0].restarts == 2 && s.programs[0].pids.len() == 2
    });
    let pids = std::fs::read_to_string(site.path("pids")).unwrap();
    let old: Vec<&str> = pids.lines().take(2).collect();
    let alive = pids_with(&site.plan.mark());
    assert!(old.iter().all(|pid| !alive.contains(&pid.parse().unwrap())), "{old:?} {alive:?}");
    assert_eq!(site.end(), 0);
}
