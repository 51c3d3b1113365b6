//! Who waits for whom, up and down.

use std::time::Duration;

use expect_test::expect;
use mini_supervisor::model::*;

use super::{again, check, db_and_web, limit, waiter, with};
use crate::site_builder::{hook, on, program};

#[test]
fn what_is_required_starts_first() {
    check(
        db_and_web(),
        "0s manual; boot; 1s spawned db; 2s spawned web; state",
        expect![[r#"
        0s supervising 2 programs
        0s   spawn db command
        0s web: waiting for db (starting)
        1s db: started (pid 1)
        1s db: ready
        1s   spawn web command
        2s web: started (pid 2)
        2s web: ready
        2s db RUNNING, web RUNNING
    "#]],
    );
}

#[test]
fn dependants_of_a_failed_program_stop_wait_and_come_back() {
    check(
        [
            with(program("db"), |p| again(p, |r| r.start_limit = limit(1, LimitAction::Retry))),
            with(program("web"), |p| p.requires = Box::new([on("db")])),
        ],
        "0s boot; 1s end db 1; state; 2s end web TERM; state; 70s state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            0s db: ready
            0s   spawn web command
            0s web: started (pid 2)
            0s web: ready
            1s db: exit 1 after 1s
            1s   SIGKILL to tree of db
            1s db: given up (exit 1; too many starts); next try in 1m
            1s web: stopping (something it requires is down)
            1s   SIGTERM to main of web
            1s db FATAL, web STOPPING
            2s   SIGKILL to tree of web
            2s web: waiting for db (fatal)
            2s db FATAL, web WAITING
            61s   spawn db command
            61s db: started (pid 3)
            61s db: ready again
            61s   spawn web command
            61s web: started (pid 4)
            61s web: ready
            70s db RUNNING, web RUNNING
        "#]],
    );
}

#[test]
fn a_program_in_backoff_takes_nobody_with_it() {
    check(
        db_and_web(),
        "0s boot; 1s end db 1; state; 2s state",
        expect![[r#"
        0s supervising 2 programs
        0s   spawn db command
        0s web: waiting for db (starting)
        0s db: started (pid 1)
        0s db: ready
        0s   spawn web command
        0s web: started (pid 2)
        0s web: ready
        1s db: exit 1 after 1s
        1s   SIGKILL to tree of db
        1s db: exit 1; attempt 2 in 0.5s
        1s db BACKOFF, web RUNNING
        1500ms   spawn db command
        1500ms db: started (pid 3)
        1500ms db: ready
        2s db RUNNING, web RUNNING
    "#]],
    );
}

#[test]
fn what_is_only_wanted_is_waited_for_within_the_patience() {
    check(
        [
            with(program("db"), |p| p.start_pre = Box::new([hook(Duration::from_secs(300))])),
            with(program("web"), |p| {
                p.wants = Box::new([on("db")]);
                p.start_timeout = Limit::After(Duration::from_secs(5));
            }),
        ],
        "0s boot; 4s state; 6s state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db start_pre[0]
            0s web: waiting for db (starting)
            4s db STARTING, web WAITING
            5s   spawn web command
            5s web: started (pid 2)
            5s web: ready
            6s db STARTING, web RUNNING
        "#]],
    );
}

#[test]
fn after_is_order_only() {
    check(
        [program("db"), with(program("web"), |p| p.after = Box::new([on("db")]))],
        "0s manual; boot; 1s fails db ENOENT; state; 2s spawned web; state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            1s db: cannot start: ENOENT; attempt 2 in 0.5s
            1s   spawn web command
            1s db BACKOFF, web STARTING
            1500ms   spawn db command
            2s web: started (pid 1)
            2s web: ready
            2s db STARTING, web RUNNING
        "#]],
    );
}

#[test]
fn a_start_by_hand_brings_along_what_is_needed() {
    check(
        db_and_web().map(|p| with(p, |p| p.autostart = false)),
        "0s boot; state; 1s start web; state",
        expect![[r#"
            0s supervising 2 programs
            0s db STOPPED, web STOPPED
            1s start web (asked by uid 0, pid 0)
            1s   spawn db command
            1s web: waiting for db (starting)
            1s db: started (pid 1)
            1s db: ready
            1s   spawn web command
            1s web: started (pid 2)
            1s web: ready
            1s   reply 1: web RUNNING (ok)
            1s db RUNNING, web RUNNING
        "#]],
    );
}

#[test]
fn a_restart_takes_dependants_along() {
    check(
        db_and_web(),
        "0s boot; 1s restart db; 2s end web TERM; 3s end db TERM; state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            0s db: ready
            0s   spawn web command
            0s web: started (pid 2)
            0s web: ready
            1s restart db (asked by uid 0, pid 0)
            1s web: stopping (something it requires is down)
            1s   SIGTERM to main of web
            2s   SIGKILL to tree of web
            2s db: stopping (restart)
            2s   SIGTERM to main of db
            2s web: waiting for db (stopping)
            3s   SIGKILL to tree of db
            3s   spawn db command
            3s db: started (pid 3)
            3s db: ready
            3s   spawn web command
            3s   reply 1: db RUNNING (ok)
            3s web: started (pid 4)
            3s web: ready
            3s db RUNNING, web RUNNING
        "#]],
    );
}

#[test]
fn the_site_stops_in_reverse_order() {
    check(
        db_and_web(),
        "0s boot; 1s term; 2s end web TERM; 3s end db TERM",
        expect![[r#"
        0s supervising 2 programs
        0s   spawn db command
        0s web: waiting for db (starting)
        0s db: started (pid 1)
        0s db: ready
        0s   spawn web command
        0s web: started (pid 2)
        0s web: ready
        1s stopping the site (signal)
        1s web: stopping (shutdown)
        1s   SIGTERM to main of web
        2s   SIGKILL to tree of web
        2s web: stopped
        2s db: stopping (shutdown)
        2s   SIGTERM to main of db
        3s   SIGKILL to tree of db
        3s db: stopped
        3s   EXIT 0
    "#]],
    );
}

#[test]
fn a_wait_for_the_world_that_is_in_vain_is_a_failed_start() {
    check(
        [waiter()],
        "0s boot; 6s state; 7s true web 0; state",
        expect![[r#"
            0s supervising 1 program
            0s   await web wait_for[0]
            0s web: waiting for file /x
            5s   await nothing for web
            5s web: wait_for[0] took too long; attempt 2 in 0.5s
            5500ms   await web wait_for[0]
            5500ms web: waiting for file /x
            6s web WAITING
            7s   spawn web command
            7s web: started (pid 1)
            7s web: ready
            7s web RUNNING
        "#]],
    );
}

#[test]
fn after_a_wait_the_gate_is_asked_again() {
    check(
        [program("db"), with(waiter(), |p| p.requires = Box::new([on("db")]))],
        "0s boot; 1s stop db; end db TERM; 2s true web 0; state; 3s start db; state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            0s db: ready
            0s   await web wait_for[0]
            0s web: waiting for file /x
            1s stop db (asked by uid 0, pid 0)
            1s db: stopping (asked)
            1s   SIGTERM to main of db
            1s   SIGKILL to tree of db
            1s db: stopped
            1s   reply 1: db STOPPED (ok)
            2s web: waiting for db (stopped)
            2s db STOPPED, web WAITING
            3s start db (asked by uid 0, pid 0)
            3s   spawn db command
            3s db: started (pid 2)
            3s db: ready
            3s   spawn web command
            3s   reply 2: db RUNNING (ok)
            3s web: started (pid 3)
            3s web: ready
            3s db RUNNING, web RUNNING
        "#]],
    );
}

#[test]
fn what_requires_a_program_held_by_a_failed_one_stops_too() {
    let never = |p: &mut Program| again(p, |r| r.policy = RestartPolicy::Never);
    check(
        [
            with(program("a"), never),
            with(program("b"), |p| {
                p.requires = Box::new([on("a")]);
                again(p, |r| r.policy = RestartPolicy::Always);
            }),
            with(program("c"), |p| p.requires = Box::new([on("b")])),
        ],
        "0s boot; 1s exit a 1; 1s end b 1; 2s state; 3s gone a; 3s end c 0; 4s state",
        expect![[r#"
            0s supervising 3 programs
            0s   spawn a command
            0s b: waiting for a (starting)
            0s c: waiting for b (waiting)
            0s a: started (pid 1)
            0s a: ready
            0s   spawn b command
            0s b: started (pid 2)
            0s b: ready
            0s   spawn c command
            0s c: started (pid 3)
            0s c: ready
            1s a: exit 1 after 1s
            1s   SIGKILL to tree of a
            1s b: exit 1 after 1s
            1s   SIGKILL to tree of b
            1s b: exit 1; attempt 2 in 0.5s
            1500ms b: waiting for a (stopping)
            2s   SIGKILL to tree of a
            2s a STOPPING, b WAITING, c RUNNING
            3s a: ended badly, not started again (restart policy)
            3s c: stopping (something it requires is down)
            3s   SIGTERM to main of c
            3s   SIGKILL to tree of c
            3s c: waiting for b (waiting)
            4s a EXITED, b WAITING, c WAITING
        "#]],
    );
}
