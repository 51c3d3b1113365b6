//! Signals to the supervisor, and what it ends with.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::harness::{Plan, Site};

const SLEEP: &str = "  one: {command: [sleep, '1000']}\n";

fn deaf(plan: &str) -> Site {
    let site = Plan::new(plan)
        .script("deaf", "trap '' TERM INT; echo ready; while :; do sleep 1000; done")
        .start();
    site.stdout.wait_for("its trap", |line| line.contains("ready"));
    site
}

#[test]
fn term_int_and_quit_end_the_site_with_code_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let mut site = Plan::new(SLEEP).start();
        site.all_running();
        site.signal(signal);
        assert_eq!(site.end_by_itself(), 0, "{signal}");
    }
}

#[test]
fn a_stop_is_not_taken_from_a_process_of_a_program() {
    let mut site = Plan::new("  bold: {command: [DIR/bold]}")
        .script(
            "bold",
            "up=$PPID; kill -TERM $up; sh -c \"kill -QUIT $up; exec sleep 1000\" &
             (setsid sh -c \"kill -INT $up; exec sleep 1000\" &)
             sleep 1000",
        )
        .start();
    for signal in ["SIGTERM", "SIGQUIT", "SIGINT"] {
        let line = site.stderr.wait_for("the refusal", |line| line.contains(signal));
        assert!(line.contains("a process of bold: ignored"), "{line}");
    }
    site.all_running();
    assert_eq!(site.end(), 0);
}

#[test]
fn a_second_term_kills_at_once() {
    let mut site = deaf("  deaf: {command: [DIR/deaf], stop: {timeout: 1m}}");
    site.signal(Signal::SIGTERM);
    site.stderr.wait_for("the stop", |line| line.contains("stopping the site"));
    let began = Instant::now();
    site.insist(site.pid);
    site.end_by_itself();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_term_that_is_said_twice_is_one() {
    let mut site = Plan::new("  one: {command: [DIR/one], stop: {timeout: 1m}}")
        .script(
            "one",
            "trap 'sleep 0.3; echo bye; exit' TERM; echo up; while :; do sleep 0.05; done",
        )
        .wrapped(&["timeout", "1h"])
        .start();
    site.stdout.wait_for("up", |line| line == "one | up");
    // timeout(1) sends it to its child, and to its group.
    site.signal(Signal::SIGTERM);
    site.code();
    assert!(site.stdout.text().contains("one | bye"), "{}", site.stderr.text());
    site.assert_nothing_left();
}

#[test]
fn quit_does_not_wait_for_anybody() {
    let mut site = deaf("  deaf: {command: [DIR/deaf], stop: {timeout: 1m}}");
    let began = Instant::now();
    site.signal(Signal::SIGQUIT);
    site.end_by_itself();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn the_shutdown_timeout_is_the_budget_of_the_whole_stop() {
    let plan = Plan::new(
        "  a: {command: [DIR/deaf], stop: {timeout: 1m}}\n  b: {command: [DIR/deaf], stop: {timeout: 1m}, requires: [a]}",
    )
    .supervisor("shutdown_timeout: 1s")
    .script("deaf", "trap '' TERM; echo ready; while :; do sleep 1000; done");
    let mut site = plan.start();
    site.stdout.wait_for("b", |line| line.starts_with("b | ready"));
    let began = Instant::now();
    site.signal(Signal::SIGTERM);
    site.end_by_itself();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn hup_reads_the_file_again_and_other_signals_do_nothing() {
    let mut site = Plan::new(SLEEP).start();
    let pid = site.main_pid("one");
    for signal in [Signal::SIGALRM, Signal::SIGPIPE, Signal::SIGWINCH, Signal::SIGCONT] {
        site.signal(signal);
    }
    site.plan.write(&format!("{SLEEP}  two: {{command: [sleep, '1000']}}"));
    site.signal(Signal::SIGHUP);
    site.wait_for("the new one", |s| s.programs.len() == 2);
    site.all_running();
    assert_eq!(site.main_pid("one"), pid);
    assert_eq!(site.end(), 0);
}

#[test]
fn hup_ends_the_site_when_it_was_asked_to() {
    let mut site = Plan::new(SLEEP).supervisor("stop_on_hangup: true").start();
    site.all_running();
    site.signal(Signal::SIGHUP);
    assert_eq!(site.end_by_itself(), 0);
}

#[test]
fn a_term_while_everything_starts_ends_everything() {
    for after in ["supervising", "p0: started", "p5: started", "p13: started", "p19: started"] {
        let programs: String =
            (0..20).map(|n| format!("  p{n}: {{command: [sleep, '1000']}}\n")).collect();
        let mut site = Plan::new(&programs).spawn();
        site.stderr.wait_for("the start", |line| line.contains(after));
        site.signal(Signal::SIGTERM);
        assert_eq!(site.end_by_itself(), 0, "after {after}");
        let log = site.stderr.text();
        let (_, after) = log.split_once("stopping the site").unwrap();
        assert!(!after.contains("started (pid"), "{after}");
    }
}

#[test]
fn the_exit_of_the_essential_program_is_the_exit_of_the_site() {
    let ends = [("exit 0", 0), ("exit 1", 1), ("exit 42", 42), ("exit 255", 255)]
        .into_iter()
        .chain([("kill -KILL $$", 137), ("kill -TERM $$", 143), ("kill -SEGV $$", 139)]);
    for (how, code) in ends {
        let mut site = Plan::new(&format!(
            "{SLEEP}  main: {{command: [DIR/main], essential: true, restart: {{policy: never}}, limits: {{core: 0}}}}"
        ))
        .script("main", how)
        .spawn();
        assert_eq!(site.end_by_itself(), code, "{how}");
    }
}

#[test]
fn an_essential_program_that_cannot_be_executed_gives_126_or_127() {
    for (command, code) in [("DIR/nothing", 127), ("DIR/mode", 126)] {
        let mut site = Plan::new(&format!(
            "  main: {{command: [{command}], essential: true, restart: {{policy: never}}}}"
        ))
        .file("mode", "")
        .spawn();
        assert_eq!(site.end_by_itself(), code, "{command}");
    }
}

#[test]
fn the_site_ends_when_all_programs_have_ended() {
    for (second, code) in [("exit 0", 0), ("exit 3", 3)] {
        let mut site = Plan::new(
            "  one: {command: ['true']}\n  two: {command: [DIR/two], restart: {policy: never}}",
        )
        .supervisor("exit_when: all-exited")
        .script("two", second)
        .spawn();
        assert_eq!(site.end_by_itself(), code, "{second}");
    }
}
