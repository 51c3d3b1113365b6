//! Programs that are ready later than they are started, and those that say that they are alive.

use std::time::Duration;

use expect_test::expect;
use mini_supervisor::model::*;

use super::{check, with};
use crate::site_builder::{hook, on, program};

fn secs(n: u64) -> Limit {
    Limit::After(Duration::from_secs(n))
}

fn notifies(name: &str) -> Program {
    with(program(name), |p| {
        p.kind = ProgramType::Notify;
        p.readiness = Some(Box::new(Readiness { by: ReadyBy::Notify, timeout: None }));
        p.start_timeout = secs(30);
    })
}

fn watched(name: &str) -> Program {
    with(notifies(name), |p| p.watchdog = secs(10))
}

fn after_it(name: &str, condition: Condition) -> Program {
    with(program(name), |p| p.requires = Box::new([Dependency { condition, ..on("db") }]))
}

#[test]
fn whoever_needs_it_ready_waits_and_whoever_needs_it_started_does_not() {
    let site =
        [notifies("db"), after_it("web", Condition::Ready), after_it("log", Condition::Started)];
    check(
        site,
        "0s boot; 1s state; reason db; 2s says db READY=1; state",
        expect![[r#"
        0s supervising 3 programs
        0s   spawn db command
        0s log: waiting for db (starting)
        0s web: waiting for db (starting)
        0s db: started (pid 1)
        0s   spawn log command
        0s log: started (pid 2)
        0s log: ready
        1s db STARTING, log RUNNING, web WAITING
        1s db: not ready yet
        2s db: ready
        2s   spawn web command
        2s web: started (pid 3)
        2s web: ready
        2s db RUNNING, log RUNNING, web RUNNING
    "#]],
    );
}

#[test]
fn a_program_that_never_says_it_is_ready_is_given_up() {
    let once = with(notifies("db"), |p| {
        std::sync::Arc::make_mut(&mut p.restart).policy = RestartPolicy::Never;
    });
    check(
        [once],
        "0s boot; 31s end db TERM; state; reason db",
        expect![[r#"
        0s supervising 1 program
        0s   spawn db command
        0s db: started (pid 1)
        30s db: not ready within 30s
        30s db: stopping (it was not ready in its time)
        30s   SIGTERM to main of db
        31s   SIGKILL to tree of db
        31s db: given up (it was not ready in its time)
        31s db FATAL
        31s db: given up (it was not ready in its time)
    "#]],
    );
}

#[test]
fn its_own_timeout_counts_from_its_exec() {
    let own = with(notifies("db"), |p| {
        p.start_pre = Box::new([hook(Duration::from_secs(90))]);
        p.readiness = Some(Box::new(Readiness { by: ReadyBy::Fd(3), timeout: Some(secs(60)) }));
    });
    check(
        [own],
        "0s boot; 20s end db/ 0; 21s says db READY=1; state; 79s unready db closed; state; \
         81s state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn db start_pre[0]
            20s   SIGKILL to tree of db
            20s   spawn db command
            20s db: started (pid 2)
            21s db STARTING
            79s db: not ready: closed
            79s db STARTING
            80s db: not ready within 1m
            80s db: stopping (it was not ready in its time)
            80s   SIGTERM to main of db
            81s db STOPPING
        "#]],
    );
}

#[test]
fn what_ends_before_it_is_ready_has_failed_however_it_ended() {
    check(
        [notifies("db")],
        "0s boot; 1s end db 0; state; 2s end db 7; state",
        expect![[r#"
        0s supervising 1 program
        0s   spawn db command
        0s db: started (pid 1)
        1s db: exit 0 after 1s
        1s   SIGKILL to tree of db
        1s db: ended before it was ready (exit 0); attempt 2 in 0.5s
        1s db BACKOFF
        1500ms   spawn db command
        1500ms db: started (pid 2)
        2s db: exit 7 after 0.5s
        2s   SIGKILL to tree of db
        2s db: exit 7; attempt 3 in 1s
        2s db BACKOFF
    "#]],
    );
}

#[test]
fn start_post_comes_after_ready_and_ready_may_come_before_we_know_of_the_exec() {
    let more = with(notifies("db"), |p| p.start_post = Box::new([hook(Duration::from_secs(9))]));
    check(
        [more],
        "0s manual; boot; 1s says db READY=1; 2s auto; spawned db; state; 3s end db/ 0; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn db command
            2s db: started (pid 1)
            2s   spawn db start_post[0]
            2s db STARTING
            3s   SIGKILL to tree of db
            3s db: ready
            3s db RUNNING
        "#]],
    );
}

#[test]
fn a_start_that_says_it_needs_more_time_has_it() {
    check(
        [notifies("db")],
        "0s boot; 25s says db EXTEND_TIMEOUT_USEC=10000000; 31s state; \
         34s says db EXTEND_TIMEOUT_USEC=1000; 35s state; 36s end db TERM; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn db command
            0s db: started (pid 1)
            31s db STARTING
            35s db: not ready within 35s
            35s db: stopping (it was not ready in its time)
            35s   SIGTERM to main of db
            35s db STOPPING
            36s   SIGKILL to tree of db
            36s db: it was not ready in its time; attempt 2 in 0.5s
            36s db BACKOFF
        "#]],
    );
}

#[test]
fn a_stop_that_says_it_needs_more_time_has_it_and_no_more() {
    check(
        [notifies("db")],
        "0s boot; 1s says db READY=1; 2s stop db; 3s says db STOPPING=1 STATUS=x; \
         11s says db EXTEND_TIMEOUT_USEC=5000000; 15s state; 16s state; 17s end db KILL; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn db command
            0s db: started (pid 1)
            1s db: ready
            2s stop db (asked by uid 0, pid 0)
            2s db: stopping (asked)
            2s   SIGTERM to main of db
            3s db: stopping, it says
            15s db STOPPING
            16s db: still alive, sending SIGKILL
            16s   SIGKILL to tree of db
            16s db STOPPING
            17s   SIGKILL to tree of db
            17s   SIGKILL to tree of db
            17s db: stopped
            17s   reply 1: db STOPPED (ok)
            17s db STOPPED
        "#]],
    );
}

#[test]
fn a_program_that_says_no_longer_that_it_is_alive_is_aborted_and_started_again() {
    check(
        [watched("db")],
        "0s boot; 5s says db READY=1; 14s says db WATCHDOG=1; 23s says db WATCHDOG=1; \
         32s state; 33s state; 34s end db ABRT; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn db command
            0s db: started (pid 1)
            5s db: ready
            32s db RUNNING
            33s db: has not said within 10s that it is alive, sending ABRT (watchdog)
            33s   SIGABRT to main of db
            33s db STOPPING
            34s   SIGKILL to tree of db
            34s db: watchdog; attempt 2 in 0.5s
            34s db BACKOFF
        "#]],
    );
}

#[test]
fn one_that_outlives_its_abort_is_killed() {
    check(
        [watched("db")],
        "0s boot; 5s says db READY=1; 24s state; 26s end db KILL; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn db command
            0s db: started (pid 1)
            5s db: ready
            15s db: has not said within 10s that it is alive, sending ABRT (watchdog)
            15s   SIGABRT to main of db
            24s db STOPPING
            25s db: still alive, sending SIGKILL
            25s   SIGKILL to tree of db
            26s   SIGKILL to tree of db
            26s   SIGKILL to tree of db
            26s db: watchdog; attempt 2 in 0.5s
            26s db BACKOFF
        "#]],
    );
}

#[test]
fn nothing_is_asked_of_it_before_it_is_ready_and_it_may_ask_for_other_times() {
    check(
        [watched("db")],
        "0s boot; 12s says db WATCHDOG=1; 25s says db READY=1; \
         26s says db WATCHDOG_USEC=2000000; 27s says db WATCHDOG=1; 28s says db WATCHDOG_USEC=0; \
         99s state; 100s says db WATCHDOG=trigger; 101s end db ABRT; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn db command
            0s db: started (pid 1)
            25s db: ready
            99s db RUNNING
            100s db: wants to be aborted, sending ABRT (WATCHDOG=trigger)
            100s   SIGABRT to main of db
            101s   SIGKILL to tree of db
            101s db: watchdog; attempt 2 in 0.5s
            101s db BACKOFF
        "#]],
    );
}

#[test]
fn that_it_reloads_is_shown_until_it_is_ready_again() {
    check(
        [notifies("db")],
        "0s boot; 1s says db READY=1; 5s says db RELOADING=1 MONOTONIC_USEC=5; \
         7s says db READY=1; 7s says db RELOADING=1; 7s says db READY=1; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn db command
            0s db: started (pid 1)
            1s db: ready
            5s db: reloading, it says
            7s db: ready again, it says
            7s db: reloading, it says
            7s db: ready again, it says
            7s db RUNNING
        "#]],
    );
}

#[test]
fn another_main_process_takes_the_place_of_the_first() {
    check(
        [notifies("db")],
        "0s boot; 1s main db 77; 2s says db READY=1; 3s main db 77; 4s main db 78; 5s stop db; \
         6s end db 0; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn db command
            0s db: started (pid 1)
            1s db: its main process is now pid 77, it says
            2s db: ready
            4s db: its main process is now pid 78, it says
            5s stop db (asked by uid 0, pid 0)
            5s db: stopping (asked)
            5s   SIGTERM to main of db
            6s   SIGKILL to tree of db
            6s db: stopped
            6s   reply 1: db STOPPED (ok)
            6s db STOPPED
        "#]],
    );
}

#[test]
fn what_an_earlier_run_has_said_is_forgotten() {
    check(
        [notifies("db"), after_it("web", Condition::Ready)],
        "0s boot; 1s says db READY=1; 2s end db 1; 3s state; 4s says db READY=1; state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            1s db: ready
            1s   spawn web command
            1s web: started (pid 2)
            1s web: ready
            2s db: exit 1 after 2s
            2s   SIGKILL to tree of db
            2s db: exit 1; attempt 2 in 0.5s
            2500ms   spawn db command
            2500ms db: started (pid 3)
            3s db STARTING, web RUNNING
            4s db: ready
            4s db RUNNING, web RUNNING
        "#]],
    );
}
