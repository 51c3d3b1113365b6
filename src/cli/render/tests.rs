//! What is printed, as snapshots.

use std::time::Duration;

use expect_test::{Expect, expect};

use super::*;
use crate::{
    control::{
        Difference, ExitStatus, KillReport, Kind, LogLine, Outcome, ProcessInfo, ProcessList,
        ProgramOutcome, ProgramStatus,
    },
    model::Signal,
};

const NOW: WallTime = WallTime(1_767_261_600_000);

fn program(name: &str, state: StateWord, reason: &str) -> ProgramStatus {
    ProgramStatus {
        name: name.to_owned(),
        state,
        goal: "up".to_owned(),
        pid: None,
        adopted: false,
        pids: Vec::new(),
        uptime_s: None,
        ready: false,
        healthy: None,
        health: None,
        restarts: 0,
        exit: None,
        reason: reason.to_owned(),
        waiting_for: Vec::new(),
        next_in_s: None,
        next_total_s: None,
        next_signal: None,
        next_at: None,
        cpu_usage_ns: None,
        memory_current: None,
        description: None,
        documentation: None,
        log_lost_bytes: 0,
        log_stuck_s: None,
        lock: None,
        says: None,
        status_text: None,
        status_errno: None,
    }
}

fn web() -> ProgramStatus {
    ProgramStatus {
        pid: Some(4711),
        pids: vec![4711, 4712],
        uptime_s: Some(7511.2),
        ready: true,
        restarts: 1,
        cpu_usage_ns: Some(90_000_000_000),
        memory_current: Some(39_845_888),
        description: Some("the\u{202e}web".to_owned()),
        documentation: None,
        ..program("web", StateWord::Running, "running since 10:00:01")
    }
}

fn worker() -> ProgramStatus {
    let exit =
        ExitStatus { code: Some(1), signal: None, out_of_memory: false, unknown: false, at: NOW };
    ProgramStatus {
        exit: Some(exit),
        next_in_s: Some(3.2),
        ..program("worker@2", StateWord::Backoff, "exit 1 after 0.4s")
    }
}

fn stopping() -> ProgramStatus {
    ProgramStatus {
        pid: Some(12),
        next_in_s: Some(25.0),
        next_total_s: Some(30.0),
        next_signal: Some(Signal::KILL),
        ..program("web", StateWord::Stopping, "stopping (asked)")
    }
}

fn check(text: &str, expected: &Expect) {
    expected.assert_eq(text);
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    assert!(!text.contains(steers), "{text:?}");
}

fn view() -> View {
    View { now: NOW, width: None, colour: false }
}

#[test]
fn the_table_has_one_line_a_program() {
    let evil = program("x", StateWord::Fatal, "\u{1b}]0;owned\u{7}\r\nnext\u{9b}2J");
    let mut by_hand = ProgramStatus { adopted: true, uptime_s: Some(1.0), ..web() };
    by_hand.cpu_usage_ns = None;
    let exit =
        ExitStatus { code: None, signal: None, out_of_memory: false, unknown: true, at: NOW };
    let gone = ProgramStatus { exit: Some(exit), ..program("y", StateWord::Exited, "") };
    let all = [web(), worker(), stopping(), evil, by_hand.clone(), gone];
    check(
        &table(&all, view()),
        &expect![[r#"
        web                  RUNNING   pid 4711, uptime 2:05:11, ready, 1 restart, 1.2% cpu, 38 MiB
        worker@2             BACKOFF   exit 1 after 0.4s, next start in 3.2s
        web                  STOPPING  pid 12, asked, SIGKILL in 25s
        x                    FATAL     \u{1b}]0;owned\u{7}\u{d}\u{a}next\u{9b}2J
        web                  RUNNING   pid 4711, uptime 0:00:01, ready, adopted, 1 restart, 38 MiB
        y                    EXITED    exit status not known, today at 10:00 UTC
    "#]],
    );
    let output = "      Output: where whoever started it has sent it, not here\n";
    assert!(page(&by_hand, &[], &[], view()).contains(output));
    let narrow = View { width: Some(50), ..view() };
    assert!(table(&all, narrow).lines().all(|line| line.chars().count() <= 50));
    let coloured = View { colour: true, ..view() };
    assert!(table(&all, coloured).contains("\u{1b}[32mRUNNING  \u{1b}[0m"));
}

#[test]
fn the_page_tells_all_about_one_program() {
    let line = LogLine {
        at: NOW,
        name: "web".to_owned(),
        source: "stdout".to_owned(),
        text: "listening\u{1b}[2J".to_owned(),
    };
    check(
        &page(&web(), &[], &[line], view()),
        &expect![[r#"
        ● web - the\u{202e}web
               State: RUNNING (since 10:00:01)
                Goal: up
              Up for: 2:05:11
            Main PID: 4711
           Processes: 2
                      └─ 4712
                 CPU: 90.000s (1.2% cpu)
              Memory: 38 MiB
               Ready: yes
            Restarts: 1

        10:00:00 listening\u{1b}[2J
    "#]],
    );
    check(
        &page(&worker(), &[], &[], view()),
        &expect![[r#"
        ● worker@2
               State: BACKOFF (exit 1 after 0.4s)
                Goal: up
                Next: start in 3.2s
               Ready: no
            Restarts: 0
           Last exit: exit 1, today at 10:00 UTC

        hint: supervisor logs worker@2; then supervisor restart worker@2
    "#]],
    );
}

#[test]
fn the_page_of_who_waits_names_whom_to_ask_next() {
    for (waiting_for, hint) in [
        (&["db (starting)"][..], Some("supervisor status db")),
        (&["tcp 127.0.0.1:80", "worker@1@healthy (waiting)"], Some("supervisor status worker@1")),
        (&["file /srv/a (b)"], None),
        (&["network"], None),
    ] {
        let waiting_for = waiting_for.iter().map(|w| (*w).to_owned()).collect();
        let base = program("web", StateWord::Waiting, "waiting");
        let text = page(&ProgramStatus { waiting_for, ..base }, &[], &[], view());
        let found = text.lines().find_map(|line| line.strip_prefix("hint: "));
        assert_eq!(found, hint, "{text}");
    }
}

#[test]
fn a_reason_does_not_say_the_state_again() {
    for (state, reason, expected) in [
        (StateWord::Stopping, "stopping (asked)", "asked"),
        (StateWord::Stopped, "stopped", ""),
        (StateWord::Stopped, "not started", "not started"),
        (StateWord::Running, "running since 10:00:01", "since 10:00:01"),
        (StateWord::Starting, "being started", ""),
        (StateWord::Waiting, "waiting", ""),
        (
            StateWord::Fatal,
            "given up (exit 9; too many starts)",
            "given up (exit 9; too many starts)",
        ),
        (StateWord::Stopping, "stopping (a) or (b)", "(a) or (b)"),
        (StateWord::Stopped, "stoppedé", "stoppedé"),
        (StateWord::Exited, "exité", "exité"),
    ] {
        assert_eq!(text::beyond(state, reason), expected);
    }
}

#[test]
fn differences_outcomes_and_progress_are_short() {
    let keys = |all: &[&str]| all.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>();
    let changed = Difference {
        added: keys(&["a"]),
        removed: keys(&["b"]),
        restarted: vec![("c".to_owned(), keys(&["command", "user"]))],
        next_start: vec![("d".to_owned(), keys(&["cleanup"]))],
        live: vec![("supervisor".to_owned(), keys(&["control.access"]))],
        supervisor: keys(&["name"]),
        ..Difference::default()
    };
    check(
        &difference(&changed),
        &expect![[r#"
        + a added
        - b removed
        ~ c restarted (command, user)
        > d changed from its next start on (cleanup)
        · supervisor live (control.access)
        ! name needs a restart of the supervisor
    "#]],
    );
    check(
        &difference(&Difference::default()),
        &expect![[r#"
        nothing has changed
    "#]],
    );
    let one = ProgramOutcome {
        name: "web".to_owned(),
        ok: false,
        state: StateWord::Fatal,
        reason: "exit 1\u{1b}[2J".to_owned(),
    };
    check(
        &outcome(&Outcome { programs: vec![one], complete: true }, view()),
        &expect![[r#"
        web                  FATAL     exit 1\u{1b}[2J
    "#]],
    );
    check(
        &waiting(&stopping(), Duration::from_secs(2)),
        &expect!["waiting for web (pid 12, 7s of 30s, then SIGKILL)"],
    );
    check(
        &waiting(&worker(), Duration::from_secs(1)),
        &expect!["waiting for worker@2 (backoff, exit 1 after 0.4s, next start in 2.2s)"],
    );
    check(
        &fields(&[web()], &[Field::Name, Field::Pid, Field::Exit]),
        &expect![[r#"
        web	4711	-
    "#]],
    );
}

#[test]
fn no_control_character_reaches_the_terminal() {
    for c in (0..=0x3000).filter_map(char::from_u32) {
        let text = escape(&c.to_string());
        let safe =
            |c: char| (c >= ' ' || c == '\t') && !('\u{7f}'..='\u{9f}').contains(&c) && !is_bidi(c);
        assert!(text.chars().all(safe), "{:x}", u32::from(c));
    }
}

fn is_bidi(c: char) -> bool {
    let marks = ['\u{61c}', '\u{200e}', '\u{200f}'];
    marks.contains(&c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

fn process(
    program: Option<&str>,
    kind: Kind,
    (pid, parent): (u32, u32),
    command: &[&str],
) -> ProcessInfo {
    ProcessInfo {
        program: program.map(str::to_owned),
        kind,
        pid,
        ppid: parent,
        uid: 1000,
        start_ticks: 4200,
        started_at: NOW,
        age_s: 100.0,
        cpu_usage_ns: 2_300_000_000,
        memory_bytes: 47_395_635,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        name: "na\u{7}me".to_owned(),
    }
}

fn all_kinds() -> ProcessList {
    let (web, python) = (Some("web"), ["python3", "a b.py"]);
    ProcessList {
        clock_s: 1000.0,
        processes: vec![
            process(web, Kind::Main, (4711, 12), &python),
            process(web, Kind::Member, (4712, 4711), &[]),
            process(web, Kind::Orphan, (5000, 12), &["x\u{1b}[2J", "\t"]),
            process(web, Kind::Orphan, (5001, 5000), &["sleep", "1"]),
            process(web, Kind::Copy, (6000, 1), &["python3", "web"]),
            process(None, Kind::Orphan, (7000, 12), &["sleep", "2"]),
        ],
        unlisted: 3,
        ..ProcessList::default()
    }
}

#[test]
fn processes_are_a_table_with_children_below_their_parents() {
    let list = all_kinds();
    let by_life = shares(&ProcessList::default(), &list);
    check(
        &processes(&list, &by_life, view()),
        &expect![[r#"
        PROGRAM        PID  PPID   CPU       RSS   STARTED  COMMAND
        web           4711    12  2.3%  45.2 MiB  10:00:00  python3 'a b.py'
        web           4712  4711  2.3%  45.2 MiB  10:00:00    [na\u{7}me]
        web (orphan)  5000    12  2.3%  45.2 MiB  10:00:00  'x\u{1b}[2J' '\t'
        web (orphan)  5001  5000  2.3%  45.2 MiB  10:00:00    sleep 1
        web (copy)    6000     1  2.3%  45.2 MiB  10:00:00  python3 web
        - (orphan)    7000    12  2.3%  45.2 MiB  10:00:00  sleep 2
        and 3 more
    "#]],
    );
    let narrow = View { width: Some(70), ..view() };
    let text = processes(&list, &by_life, narrow);
    assert!(text.lines().all(|line| line.chars().count() <= 70), "{text}");
}

#[test]
fn the_share_of_a_processor_is_that_of_the_time_between_two_lists() {
    let before = all_kinds();
    let mut now = ProcessList { clock_s: 1002.0, ..before.clone() };
    now.processes[0].cpu_usage_ns += 1_000_000_000;
    // Somebody else with its number.
    now.processes[1].start_ticks += 1;
    let all = shares(&before, &now);
    let of = |pid: u32| format!("{:.1}", all[&pid]);
    assert_eq!((of(4711), of(4712), of(5000)), ("50.0".into(), "2.3".into(), "0.0".into()));
}

#[test]
fn the_page_lists_the_processes_with_their_commands() {
    let list = all_kinds();
    let text = page(&web(), &list.processes, &[], view());
    let (_, text) = text.split_once("   Processes: ").unwrap();
    let (text, _) = text.split_once("         CPU:").unwrap();
    check(
        text,
        &expect![[r#"
        6
                      MAIN 4711: 2.3% cpu, 45.2 MiB
                         python3 'a b.py'
                      ACTIVE 4712: 2.3% cpu, 45.2 MiB
                         [na\u{7}me]
                      ORPHAN 5000: 2.3% cpu, 45.2 MiB
                         'x\u{1b}[2J' '\t'
                      ORPHAN 5001: 2.3% cpu, 45.2 MiB
                         sleep 1
                      COPY 6000: 2.3% cpu, 45.2 MiB
                         python3 web
                      ORPHAN 7000: 2.3% cpu, 45.2 MiB
                         sleep 2
    "#]],
    );
}

#[test]
fn what_is_left_is_named() {
    let report = |ended: usize, left: usize| KillReport {
        ended: all_kinds().processes.into_iter().take(ended).collect(),
        left: all_kinds().processes.into_iter().cycle().take(left).collect(),
        programs: vec!["web".to_owned()],
        ..KillReport::default()
    };
    assert_eq!(killed(&report(0, 0)), "nothing was ended\n");
    assert_eq!(killed(&report(1, 0)), "ended 1 process\n");
    assert_eq!(killed(&report(2, 0)), "ended 2 processes\n");
    assert_eq!(left(&report(1, 0)), "web");
    assert_eq!(left(&report(1, 1)), "na\\u{7}me (pid 4711, web)");
    assert!(left(&report(1, 100)).ends_with(", and 92 more"));
}
