//! Between the fork and the exec of a child, where a file system may hang.

use std::time::Duration;

use expect_test::expect;
use mini_supervisor::model::*;

use super::{check, db_and_web, stop, with};
use crate::site_builder::{hook, program};

fn hasty() -> Program {
    with(program("web"), |p| p.start_timeout = Limit::After(Duration::from_secs(30)))
}

#[test]
fn what_does_not_execute_in_time_is_killed_and_has_failed() {
    check(
        [hasty()],
        "0s manual; boot; 29s state; 30s fails web at-/mnt/x; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            29s web STARTING
            30s web: command: no exec within 30s, sending SIGKILL
            30s   SIGKILL to main of web
            30s web: cannot start: no exec within 30s (at-/mnt/x); attempt 2 in 0.5s
            30s web BACKOFF
        "#]],
    );
}

#[test]
fn a_start_pre_that_does_not_execute_in_time_is_killed() {
    check(
        [with(hasty(), |p| p.start_pre = Box::new([hook(Duration::from_secs(5))]))],
        "0s manual; boot; 6s fails web/ at-/mnt/x; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web start_pre[0]
            5s web: start_pre[0]: no exec within 5s, sending SIGKILL
            5s   SIGKILL to main of web
            6s   SIGKILL to main of web
            6s web: cannot start: no exec within 5s (at-/mnt/x); attempt 2 in 0.5s
            6s web BACKOFF
        "#]],
    );
}

#[test]
fn a_stop_before_the_exec_kills_when_its_patience_is_over() {
    check(
        [program("web")],
        "0s manual; boot; 1s stop web; state; 11s fails web at-/mnt/x; 99s state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            1s stop web (asked by uid 0, pid 0)
            1s web STOPPING
            11s web: still alive, sending SIGKILL
            11s   SIGKILL to main of web
            11s web: stopped
            11s   reply 1: web STOPPED (ok)
            99s web STOPPED
        "#]],
    );
}

#[test]
fn a_forced_stop_before_the_exec_kills_at_once() {
    check(
        [program("web")],
        "0s manual; boot; 1s stop web --force; fails web at-/mnt/x; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            1s stop web (asked by uid 0, pid 0)
            1s web: killing (asked)
            1s   SIGKILL to main of web
            1s web: stopped
            1s   reply 1: web STOPPED (ok)
            1s web STOPPED
        "#]],
    );
}

#[test]
fn a_stop_before_the_exec_without_a_time_limit_is_ended_by_that_of_the_start() {
    check(
        [with(hasty(), |p| stop(p, |s| s.ladder[0].wait = Limit::Never))],
        "0s manual; boot; 1s stop web; 30s fails web at-/mnt/x; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            1s stop web (asked by uid 0, pid 0)
            30s web: still alive, sending SIGKILL
            30s   SIGKILL to main of web
            30s web: stopped
            30s   reply 1: web STOPPED (ok)
            30s web STOPPED
        "#]],
    );
}

#[test]
fn a_restart_before_the_exec_starts_again() {
    check(
        [program("web")],
        "0s manual; boot; 1s restart web; 11s fails web at-/mnt/x; 12s spawned web; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            1s restart web (asked by uid 0, pid 0)
            11s web: still alive, sending SIGKILL
            11s   SIGKILL to main of web
            11s   spawn web command
            12s web: started (pid 1)
            12s web: ready
            12s   reply 1: web RUNNING (ok)
            12s web RUNNING
        "#]],
    );
}

#[test]
fn a_second_term_kills_what_has_not_executed() {
    check(
        [program("web")],
        "0s manual; boot; 1s term; 2s term; fails web at-/mnt/x; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            1s stopping the site (signal)
            2s killing what is left: 1 program
            2s web: killing (shutdown)
            2s   SIGKILL to main of web
            2s web: stopped
            2s   EXIT 0
            2s web STOPPED
        "#]],
    );
}

#[test]
fn a_shutdown_does_not_wait_for_an_exec_beyond_the_patience() {
    check(
        db_and_web(),
        "0s manual; boot; 1s term; state; 11s fails db at-/mnt/x; state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            1s stopping the site (signal)
            1s web: stopped
            1s db STOPPING, web STOPPED
            11s db: still alive, sending SIGKILL
            11s   SIGKILL to main of db
            11s db: stopped
            11s   EXIT 0
            11s db STOPPED, web STOPPED
        "#]],
    );
}

#[test]
fn what_outlives_sigkill_before_its_exec_is_told_and_waited_for() {
    check(
        [hasty()],
        "0s manual; boot; 60s state; 61s stop web timeout=5; 90s fails web at-/mnt/x; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            30s web: command: no exec within 30s, sending SIGKILL
            30s   SIGKILL to main of web
            31s   SIGKILL to main of web
            33s   SIGKILL to main of web
            37s   SIGKILL to main of web
            45s web: has processes that outlive SIGKILL; waiting for them
            45s   SIGKILL to main of web
            60s web STOPPING
            61s   SIGKILL to main of web
            61s stop web (asked by uid 0, pid 0)
            66s   reply 1: web STOPPING (not ok), incomplete
            90s web: stopped
            90s web STOPPED
        "#]],
    );
}

#[test]
fn an_exec_in_the_moment_of_the_kill_is_killed_as_well() {
    check(
        [hasty()],
        "0s manual; boot; 30s spawned web; end web KILL; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            30s web: command: no exec within 30s, sending SIGKILL
            30s   SIGKILL to main of web
            30s web: started (pid 1)
            30s web: killing (start took too long)
            30s   SIGKILL to tree of web
            30s   SIGKILL to tree of web
            30s web: start took too long; attempt 2 in 0.5s
            30s web BACKOFF
        "#]],
    );
}

#[test]
fn room_that_was_waited_for_does_not_shorten_the_time_to_execute() {
    check(
        [hasty()],
        "0s manual; boot; fails web EAGAIN; 29s fails web EAGAIN; 31s state; 60s state; 61s state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: cannot start now: EAGAIN; trying again in 0.1s
            100ms   spawn web command
            29200ms   spawn web command
            31s web STARTING
            59200ms web: command: no exec within 30s, sending SIGKILL
            59200ms   SIGKILL to main of web
            60s web STOPPING
            60200ms   SIGKILL to main of web
            61s web STOPPING
        "#]],
    );
}
