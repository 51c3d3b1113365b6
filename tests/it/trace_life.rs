//! One program and its neighbours, from start to stop, told as traces.

use std::{sync::Arc, time::Duration};

use expect_test::{Expect, expect};
use mini_supervisor::model::*;

use crate::{
    site_builder::{hook, name, on, program, restart, site},
    trace::{play, play_sites},
};

fn check(programs: impl IntoIterator<Item = Program>, script: &str, then: Expect) {
    then.assert_eq(&play(programs, script));
}

fn with(mut p: Program, change: impl FnOnce(&mut Program)) -> Program {
    change(&mut p);
    p
}

fn stop(p: &mut Program, change: impl FnOnce(&mut Stop)) {
    change(Arc::make_mut(&mut p.stop));
}

fn again(p: &mut Program, change: impl FnOnce(&mut Restart)) {
    change(Arc::make_mut(&mut p.restart));
}

fn limit(burst: u32, action: LimitAction) -> Option<StartLimit> {
    let interval = Duration::from_secs(300);
    Some(StartLimit { burst, interval, action, retry_every: Duration::from_secs(60) })
}

fn db_and_web() -> [Program; 2] {
    [program("db"), with(program("web"), |p| p.requires = Box::new([on("db")]))]
}

/// Waits five seconds for a file.
fn waiter() -> Program {
    with(program("web"), |p| {
        p.wait_for = Box::new([WaitFor {
            what: Awaited::File("/x".into()),
            timeout: Limit::After(Duration::from_secs(5)),
        }]);
    })
}

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
fn the_delay_grows_up_to_its_limit_and_a_long_run_forgets() {
    check(
        [with(program("web"), |p| again(p, |r| r.max_delay = Duration::from_secs(2)))],
        "0s boot; end web 1; 1s end web 1; 3s end web 1; 6s end web 1; 50s end web 1; 60s",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s web: exit 1 after 0s
            0s   SIGKILL to tree of web
            0s web: exit 1; attempt 2 in 0.5s
            500ms   spawn web command
            500ms web: started (pid 2)
            500ms web: ready
            1s web: exit 1 after 0.5s
            1s   SIGKILL to tree of web
            1s web: exit 1; attempt 3 in 1s
            2s   spawn web command
            2s web: started (pid 3)
            2s web: ready
            3s web: exit 1 after 1s
            3s   SIGKILL to tree of web
            3s web: exit 1; attempt 4 in 2s
            5s   spawn web command
            5s web: started (pid 4)
            5s web: ready
            6s web: exit 1 after 1s
            6s   SIGKILL to tree of web
            6s web: exit 1; attempt 5 in 2s
            8s   spawn web command
            8s web: started (pid 5)
            8s web: ready
            50s web: exit 1 after 42s
            50s   SIGKILL to tree of web
            50s web: exit 1; attempt 2 in 0.5s
            50500ms   spawn web command
            50500ms web: started (pid 6)
            50500ms web: ready
        "#]],
    );
}

#[test]
fn a_program_that_exits_too_often_is_given_up() {
    check(
        [with(program("web"), |p| again(p, |r| r.start_limit = limit(2, LimitAction::GiveUp)))],
        "0s boot; end web 1; 1s end web 1; 500s state; start web; 501s end web 1; state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s web: exit 1 after 0s
            0s   SIGKILL to tree of web
            0s web: exit 1; attempt 2 in 0.5s
            500ms   spawn web command
            500ms web: started (pid 2)
            500ms web: ready
            1s web: exit 1 after 0.5s
            1s   SIGKILL to tree of web
            1s web: given up (exit 1; too many starts)
            500s web FATAL
            500s start web (asked by uid 0, pid 0)
            500s   spawn web command
            500s web: started (pid 3)
            500s web: ready again
            500s   reply 1: web RUNNING (ok)
            501s web: exit 1 after 1s
            501s   SIGKILL to tree of web
            501s web: exit 1; attempt 2 in 0.5s
            501s web BACKOFF
        "#]],
    );
}

#[test]
fn given_up_is_tried_again_later() {
    check(
        [with(program("web"), |p| again(p, |r| r.start_limit = limit(1, LimitAction::Retry)))],
        "0s boot; end web 1; 59s state; 61s state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s web: exit 1 after 0s
            0s   SIGKILL to tree of web
            0s web: given up (exit 1; too many starts); next try in 1m
            59s web FATAL
            60s   spawn web command
            60s web: started (pid 2)
            60s web: ready again
            61s web RUNNING
        "#]],
    );
}

#[test]
fn a_start_limit_can_end_the_site() {
    check(
        [
            program("db"),
            with(program("web"), |p| again(p, |r| r.start_limit = limit(1, LimitAction::Exit))),
        ],
        "0s boot; end web 9; 1s end db TERM",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s   spawn web command
            0s db: started (pid 1)
            0s db: ready
            0s web: started (pid 2)
            0s web: ready
            0s web: exit 9 after 0s
            0s   SIGKILL to tree of web
            0s web: given up (exit 9; too many starts)
            0s stopping the site (an essential program has ended)
            0s web: stopped
            0s db: stopping (shutdown)
            0s   SIGTERM to main of db
            1s   SIGKILL to tree of db
            1s db: stopped
            1s   EXIT 9
        "#]],
    );
}

#[test]
fn an_essential_program_ends_the_site_with_its_code() {
    check(
        [
            program("db"),
            with(program("web"), |p| {
                p.essential = true;
                again(p, |r| r.policy = RestartPolicy::Never);
            }),
        ],
        "0s boot; 1s end web 7; 2s end db TERM",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s   spawn web command
            0s db: started (pid 1)
            0s db: ready
            0s web: started (pid 2)
            0s web: ready
            1s web: exit 7 after 1s
            1s   SIGKILL to tree of web
            1s web: ended badly, not started again (restart policy)
            1s stopping the site (an essential program has ended)
            1s db: stopping (shutdown)
            1s   SIGTERM to main of db
            2s   SIGKILL to tree of db
            2s db: stopped
            2s   EXIT 7
        "#]],
    );
}

#[test]
fn a_oneshot_is_ready_when_it_is_done() {
    check(
        [
            with(program("db"), |p| p.kind = ProgramType::Oneshot { remain: false }),
            with(program("web"), |p| p.requires = Box::new([on("db")])),
        ],
        "0s boot; 3s end db 0; state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            3s db: exit 0 after 3s
            3s   SIGKILL to tree of db
            3s db: completed
            3s   spawn web command
            3s web: started (pid 2)
            3s web: ready
            3s db EXITED, web RUNNING
        "#]],
    );
}

#[test]
fn commands_before_beside_and_after_run_in_order() {
    check(
        [with(program("web"), |p| {
            p.start_pre = Box::new([hook(Duration::from_secs(5)), hook(Duration::from_secs(5))]);
            p.start_post = Box::new([hook(Duration::from_secs(5))]);
            p.stop_post = Box::new([hook(Duration::from_secs(5))]);
        })],
        "0s boot; 1s end web/ 0; 2s end web/ 0; 3s end web/ 0; 4s stop web; 5s end web TERM; 6s end web/ 0",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web start_pre[0]
            1s   SIGKILL to tree of web
            1s   spawn web start_pre[1]
            2s   SIGKILL to tree of web
            2s   spawn web command
            2s web: started (pid 3)
            2s   spawn web start_post[0]
            3s   SIGKILL to tree of web
            3s web: ready
            4s stop web (asked by uid 0, pid 0)
            4s web: stopping (asked)
            4s   SIGTERM to main of web
            5s   SIGKILL to tree of web
            5s   spawn web stop_post[0]
            6s   SIGKILL to tree of web
            6s web: stopped
            6s   reply 1: web STOPPED (ok)
        "#]],
    );
}

#[test]
fn a_failing_start_pre_is_a_failed_start() {
    check(
        [with(program("web"), |p| p.start_pre = Box::new([hook(Duration::from_secs(5))]))],
        "0s boot; 1s end web/ 3; state; 2s state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web start_pre[0]
            1s web: start_pre[0]: exit 3
            1s   SIGKILL to tree of web
            1s web: start_pre[0]: exit 3; attempt 2 in 0.5s
            1s web BACKOFF
            1500ms   spawn web start_pre[0]
            2s web STARTING
        "#]],
    );
}

#[test]
fn a_start_pre_that_hangs_is_killed() {
    check(
        [with(program("web"), |p| p.start_pre = Box::new([hook(Duration::from_secs(5))]))],
        "0s boot; 6s end web/ KILL; state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web start_pre[0]
            5s web: start_pre[0] took too long
            5s   SIGKILL to tree of web
            5s web: still alive, sending SIGKILL
            6s   SIGKILL to tree of web
            6s web: still alive, sending SIGKILL
            6s   SIGKILL to tree of web
            6s web: start took too long; attempt 2 in 0.5s
            6s web BACKOFF
        "#]],
    );
}

#[test]
fn a_failing_start_post_stops_the_program() {
    check(
        [with(program("web"), |p| p.start_post = Box::new([hook(Duration::from_secs(5))]))],
        "0s boot; 1s end web/ 1; 2s end web TERM; state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            0s web: started (pid 1)
            0s   spawn web start_post[0]
            1s   SIGKILL to tree of web
            1s web: start_post[0]: exit 1
            1s web: stopping (start_post[0]: exit 1)
            1s   SIGTERM to main of web
            2s   SIGKILL to tree of web
            2s web: start_post[0]: exit 1; attempt 2 in 0.5s
            2s web BACKOFF
        "#]],
    );
}

#[test]
fn a_stop_post_that_hangs_is_killed() {
    check(
        [with(program("web"), |p| p.stop_post = Box::new([hook(Duration::from_secs(5))]))],
        "0s boot; 1s stop web; end web TERM; 7s end web/ KILL; state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            1s stop web (asked by uid 0, pid 0)
            1s web: stopping (asked)
            1s   SIGTERM to main of web
            1s   SIGKILL to tree of web
            1s   spawn web stop_post[0]
            6s web: stop_post[0] took too long
            6s   SIGKILL to tree of web
            7s web: stop_post[0] took too long
            7s   SIGKILL to tree of web
            7s web: stop_post[0]: killed by SIGKILL (ignored)
            7s   SIGKILL to tree of web
            7s web: stopped
            7s   reply 1: web STOPPED (ok)
            7s web STOPPED
        "#]],
    );
}

#[test]
fn who_ignores_the_stop_signal_is_killed() {
    check(
        [program("web")],
        "0s boot; 1s stop web; 12s end web KILL; state",
        expect![[r#"
        0s supervising 1 programs
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        1s stop web (asked by uid 0, pid 0)
        1s web: stopping (asked)
        1s   SIGTERM to main of web
        11s   SIGKILL to tree of web
        11s web: still alive, sending SIGKILL
        12s   SIGKILL to tree of web
        12s web: still alive, sending SIGKILL
        12s   SIGKILL to tree of web
        12s web: stopped
        12s   reply 1: web STOPPED (ok)
        12s web STOPPED
    "#]],
    );
}

#[test]
fn kill_mode_group_asks_the_whole_tree() {
    check(
        [with(program("web"), |p| stop(p, |s| s.kill_mode = KillMode::Group))],
        "0s boot; 1s stop web; 12s exit web KILL; gone web; state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            1s stop web (asked by uid 0, pid 0)
            1s web: stopping (asked)
            1s   SIGTERM to tree of web
            11s   SIGKILL to tree of web
            11s web: still alive, sending SIGKILL
            12s   SIGKILL to tree of web
            12s web: still alive, sending SIGKILL
            12s   SIGKILL to tree of web
            12s web: stopped
            12s   reply 1: web STOPPED (ok)
            12s web STOPPED
        "#]],
    );
}

#[test]
fn kill_mode_process_leaves_the_rest_alone() {
    check(
        [with(program("web"), |p| stop(p, |s| s.kill_mode = KillMode::Process))],
        "0s boot; 1s stop web; exit web TERM; state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            1s stop web (asked by uid 0, pid 0)
            1s web: stopping (asked)
            1s   SIGTERM to main of web
            1s web: stopped
            1s   reply 1: web STOPPED (ok)
            1s web STOPPED
        "#]],
    );
}

#[test]
fn a_stop_while_spawning_is_kept() {
    check(
        [program("web")],
        "0s manual; boot; 1s stop web; 2s spawned web; 3s end web TERM; state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            1s stop web (asked by uid 0, pid 0)
            2s web: started (pid 1)
            2s web: stopping (asked)
            2s   SIGTERM to main of web
            3s   SIGKILL to tree of web
            3s web: stopped
            3s   reply 1: web STOPPED (ok)
            3s web STOPPED
        "#]],
    );
}

#[test]
fn a_forced_stop_while_spawning_kills() {
    check(
        [program("web")],
        "0s manual; boot; 1s stop web --force; 2s spawned web; end web KILL; state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            1s stop web (asked by uid 0, pid 0)
            2s web: started (pid 1)
            2s   SIGKILL to tree of web
            2s web: still alive, sending SIGKILL
            2s   SIGKILL to tree of web
            2s web: stopped
            2s   reply 1: web STOPPED (ok)
            2s web STOPPED
        "#]],
    );
}

#[test]
fn a_stop_while_start_pre_runs_ends_it() {
    check(
        [with(program("web"), |p| p.start_pre = Box::new([hook(Duration::from_secs(5))]))],
        "0s boot; 1s stop web; end web/ TERM; state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web start_pre[0]
            1s stop web (asked by uid 0, pid 0)
            1s web: stopping (asked)
            1s   SIGTERM to main of web
            1s   SIGKILL to tree of web
            1s web: stopped
            1s   reply 1: web STOPPED (ok)
            1s web STOPPED
        "#]],
    );
}

#[test]
fn a_stop_in_backoff_or_waiting_is_done_at_once() {
    check(
        db_and_web(),
        "0s manual; boot; fails db ENOENT; stop db; stop web; 99s state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: cannot start: ENOENT; attempt 2 in 0.5s
            0s stop db (asked by uid 0, pid 0)
            0s db: stopped
            0s   reply 1: db STOPPED (ok)
            0s stop web (asked by uid 0, pid 0)
            0s web: stopped
            0s   reply 2: web STOPPED (ok)
            99s db STOPPED, web STOPPED
        "#]],
    );
}

#[test]
fn a_restart_while_stopping_starts_again() {
    check(
        [program("web")],
        "0s boot; 1s stop web; 2s restart web; 3s end web TERM; state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            1s stop web (asked by uid 0, pid 0)
            1s web: stopping (asked)
            1s   SIGTERM to main of web
            2s restart web (asked by uid 0, pid 0)
            2s   reply 1: web STOPPING (not ok)
            3s   SIGKILL to tree of web
            3s   spawn web command
            3s web: started (pid 2)
            3s web: ready
            3s   reply 2: web RUNNING (ok)
            3s web RUNNING
        "#]],
    );
}

#[test]
fn a_start_while_the_tree_is_ended_is_kept() {
    check(
        [with(program("web"), |p| again(p, |r| r.policy = RestartPolicy::Never))],
        "0s boot; 1s exit web 0; start web; 2s gone web; state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            1s web: exit 0 after 1s
            1s   SIGKILL to tree of web
            1s start web (asked by uid 0, pid 0)
            2s   SIGKILL to tree of web
            2s   spawn web command
            2s web: started (pid 2)
            2s web: ready
            2s   reply 1: web RUNNING (ok)
            2s web RUNNING
        "#]],
    );
}

#[test]
fn a_restart_of_a_waiting_program_is_answered() {
    check(
        db_and_web(),
        "0s manual; boot; restart web; 1s spawned db; spawned web; state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s restart web (asked by uid 0, pid 0)
            0s web: waiting for db (starting)
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
fn a_second_term_kills() {
    check(
        db_and_web(),
        "0s boot; 1s term; 2s term; 3s end web KILL; end db KILL",
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
        2s killing what is left: 2 programs
        2s   SIGKILL to tree of db
        2s db: still alive, sending SIGKILL
        2s   SIGKILL to tree of web
        2s web: still alive, sending SIGKILL
        3s   SIGKILL to tree of db
        3s db: still alive, sending SIGKILL
        3s   SIGKILL to tree of web
        3s web: still alive, sending SIGKILL
        3s   SIGKILL to tree of web
        3s web: stopped
        3s   SIGKILL to tree of db
        3s db: stopped
        3s   EXIT 0
    "#]],
    );
}

#[test]
fn quit_kills_at_once() {
    check(
        db_and_web(),
        "0s boot; 1s quit; end web KILL; end db KILL",
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
        1s killing what is left: 2 programs
        1s   SIGKILL to tree of db
        1s db: still alive, sending SIGKILL
        1s   SIGKILL to tree of web
        1s web: still alive, sending SIGKILL
        1s   SIGKILL to tree of web
        1s web: stopped
        1s   SIGKILL to tree of db
        1s db: stopped
        1s   EXIT 0
    "#]],
    );
}

#[test]
fn what_outlives_the_budget_is_killed_and_given_up() {
    check(
        [with(program("web"), |p| stop(p, |s| s.ladder[0].wait = Limit::Never))],
        "0s boot; 1s term; 100s state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            1s stopping the site (signal)
            1s web: stopping (shutdown)
            1s   SIGTERM to main of web
            89s killing what is left: 1 programs
            89s   SIGKILL to tree of web
            89s web: still alive, sending SIGKILL
            90s   SIGKILL to tree of web
            90s web: still alive, sending SIGKILL
            91s   EXIT 1
            92s   SIGKILL to tree of web
            92s web: still alive, sending SIGKILL
            96s   SIGKILL to tree of web
            96s web: still alive, sending SIGKILL
            100s web STOPPING
        "#]],
    );
}

#[test]
fn a_second_term_while_spawning_kills() {
    check(
        [program("web")],
        "0s manual; boot; 1s term; term; 2s spawned web; end web KILL",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            1s stopping the site (signal)
            1s killing what is left: 1 programs
            2s web: started (pid 1)
            2s   SIGKILL to tree of web
            2s web: still alive, sending SIGKILL
            2s   SIGKILL to tree of web
            2s web: stopped
            2s   EXIT 0
        "#]],
    );
}

#[test]
fn max_runtime_is_a_timeout() {
    check(
        [with(program("web"), |p| p.max_runtime = Limit::After(Duration::from_secs(5)))],
        "0s boot; 6s end web TERM; state; 7s state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            5s web: command took too long
            5s web: stopping (ran longer than max_runtime)
            5s   SIGTERM to main of web
            6s   SIGKILL to tree of web
            6s web: ran longer than max_runtime; attempt 2 in 0.5s
            6s web BACKOFF
            6500ms   spawn web command
            6500ms web: started (pid 2)
            6500ms web: ready
            7s web RUNNING
        "#]],
    );
}

#[test]
fn a_full_system_is_tried_again_and_not_counted() {
    check(
        [with(program("web"), |p| again(p, |r| r.start_limit = limit(1, LimitAction::GiveUp)))],
        "0s manual; boot; fails web EAGAIN; 1s fails web EAGAIN; 2s spawned web; state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            0s web: cannot start now: EAGAIN; trying again in 0.1s
            100ms   spawn web command
            1200ms   spawn web command
            2s web: started (pid 1)
            2s web: ready
            2s web RUNNING
        "#]],
    );
}

#[test]
fn a_busy_file_is_tried_again_for_ten_seconds() {
    check(
        [program("web")],
        "0s manual; boot; fails web ETXTBSY; 1s fails web ETXTBSY; 11s fails web ETXTBSY; state",
        expect![[r#"
            0s supervising 1 programs
            0s   spawn web command
            0s web: cannot start now: ETXTBSY; trying again in 0.1s
            100ms   spawn web command
            1200ms   spawn web command
            11s web: cannot start: ETXTBSY; attempt 2 in 0.5s
            11s web BACKOFF
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
fn a_dry_run_touches_nothing() {
    check(
        db_and_web(),
        "0s boot; 1s stop db --dry-run; state",
        expect![[r#"
        0s supervising 2 programs
        0s   spawn db command
        0s web: waiting for db (starting)
        0s db: started (pid 1)
        0s db: ready
        0s   spawn web command
        0s web: started (pid 2)
        0s web: ready
        1s   reply 1: db RUNNING (ok), web RUNNING (ok)
        1s db RUNNING, web RUNNING
    "#]],
    );
}

#[test]
fn nobody_waits_longer_than_asked() {
    check(
        [program("web")],
        "0s boot; 1s stop web timeout=3; 5s state",
        expect![[r#"
        0s supervising 1 programs
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        1s stop web (asked by uid 0, pid 0)
        1s web: stopping (asked)
        1s   SIGTERM to main of web
        4s   reply 1: web STOPPING (not ok), incomplete
        5s web STOPPING
    "#]],
    );
}

#[test]
fn no_wait_is_answered_at_once() {
    check(
        [program("web")],
        "0s boot; 1s stop web --no-wait; 2s end web TERM",
        expect![[r#"
        0s supervising 1 programs
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        1s stop web (asked by uid 0, pid 0)
        1s web: stopping (asked)
        1s   SIGTERM to main of web
        1s   reply 1: web STOPPING (not ok), incomplete
        2s   SIGKILL to tree of web
        2s web: stopped
    "#]],
    );
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest() {
    check(
        [program("web")],
        "0s boot; stop wbe; stop x*",
        expect![[r#"
        0s supervising 1 programs
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        0s   reply 1: no program is called wbe [did you mean web?]
        0s   reply 2: no program is called x* [supervisor status shows the names]
    "#]],
    );
}

#[test]
fn programs_are_selected_by_glob_tag_template_and_all() {
    check(
        [
            with(program("web@1"), |p| p.template = Some(name("web"))),
            with(program("db"), |p| p.tags = Box::new(["blue".into()])),
        ],
        "0s boot; stop web --dry-run; stop tag:blue --dry-run; stop w* --dry-run; stop all --dry-run",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s   spawn web@1 command
            0s db: started (pid 1)
            0s db: ready
            0s web@1: started (pid 2)
            0s web@1: ready
            0s   reply 1: web@1 RUNNING (ok)
            0s   reply 2: db RUNNING (ok)
            0s   reply 3: web@1 RUNNING (ok)
            0s   reply 4: db RUNNING (ok), web@1 RUNNING (ok)
        "#]],
    );
}

#[test]
fn a_wait_for_the_world_that_is_in_vain_is_a_failed_start() {
    check(
        [waiter()],
        "0s boot; 6s state; 7s true web 0; state",
        expect![[r#"
        0s supervising 1 programs
        0s   await web wait_for[0]
        0s web: waiting for file /x
        5s   await nothing for web
        5s web: wait_for[0] took too long; attempt 2 in 0.5s
        5500ms   await web wait_for[0]
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
            1s stop db (asked by uid 0, pid 0)
            1s db: stopping (asked)
            1s   SIGTERM to main of db
            1s   SIGKILL to tree of db
            1s db: stopped
            1s   reply 1: db STOPPED (ok)
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
fn every_policy_and_every_end_follow_the_table_of_systemd() {
    let policies = [
        RestartPolicy::Never,
        RestartPolicy::OnFailure,
        RestartPolicy::OnAbnormal,
        RestartPolicy::Always,
    ];
    let mut table = String::new();
    for policy in policies {
        for how in ["0", "1", "TERM", "HUP", "SEGV", "KILL"] {
            let web = with(program("web"), |p| again(p, |r| r.policy = policy));
            let trace = play([web], &format!("0s boot; end web {how}; state"));
            let last = trace.lines().last().unwrap();
            table += &format!("{policy:?} {how}: {last}\n");
        }
    }
    expect![[r#"
        Never 0: 0s web EXITED
        Never 1: 0s web EXITED
        Never TERM: 0s web EXITED
        Never HUP: 0s web EXITED
        Never SEGV: 0s web EXITED
        Never KILL: 0s web EXITED
        OnFailure 0: 0s web EXITED
        OnFailure 1: 0s web BACKOFF
        OnFailure TERM: 0s web EXITED
        OnFailure HUP: 0s web EXITED
        OnFailure SEGV: 0s web BACKOFF
        OnFailure KILL: 0s web BACKOFF
        OnAbnormal 0: 0s web EXITED
        OnAbnormal 1: 0s web EXITED
        OnAbnormal TERM: 0s web EXITED
        OnAbnormal HUP: 0s web EXITED
        OnAbnormal SEGV: 0s web BACKOFF
        OnAbnormal KILL: 0s web BACKOFF
        Always 0: 0s web BACKOFF
        Always 1: 0s web BACKOFF
        Always TERM: 0s web BACKOFF
        Always HUP: 0s web BACKOFF
        Always SEGV: 0s web BACKOFF
        Always KILL: 0s web BACKOFF
    "#]]
    .assert_eq(&table);
}

#[test]
fn a_reload_touches_only_what_changed() {
    let old = [program("gone"), program("same"), program("web")];
    let new = [
        program("new"),
        program("same"),
        with(program("web"), |p| p.command = Box::new(["/bin/false".into()])),
    ];
    let script = "0s boot; 1s load 1 dry; 2s load 1; end gone TERM; end web TERM; state; 3s load 1";
    expect![[r#"
        0s supervising 3 programs
        0s   spawn gone command
        0s   spawn same command
        0s   spawn web command
        0s gone: started (pid 1)
        0s gone: ready
        0s same: started (pid 2)
        0s same: ready
        0s web: started (pid 3)
        0s web: ready
        1s   reply 100: { added: ["new"], removed: ["gone"], restarted: [("web", ["command"])], next_start: [], live: [], supervisor: [], dry_run: true, warnings: [] }
        2s   reconfigure web
        2s web: stopping (its settings changed)
        2s   SIGTERM to main of web
        2s gone: stopping (removed from the site)
        2s   SIGTERM to main of gone
        2s   spawn new command
        2s reloaded: 1 added, 1 removed, 1 restarted, 0 changed
        2s   reply 100: { added: ["new"], removed: ["gone"], restarted: [("web", ["command"])], next_start: [], live: [], supervisor: [], dry_run: false, warnings: [] }
        2s new: started (pid 4)
        2s new: ready
        2s   SIGKILL to tree of gone
        2s gone: stopped
        2s   forget gone
        2s   SIGKILL to tree of web
        2s   spawn web command
        2s web: started (pid 5)
        2s web: ready
        2s new RUNNING, same RUNNING, web RUNNING
        3s reloaded: 0 added, 0 removed, 0 restarted, 0 changed
        3s   reply 100: { added: [], removed: [], restarted: [], next_start: [], live: [], supervisor: [], dry_run: false, warnings: [] }
    "#]].assert_eq(&play_sites(vec![site(old), site(new)], script));
}

#[test]
fn a_reload_that_removes_most_of_what_runs_needs_a_word() {
    let old = [program("a"), program("b"), program("c")];
    let script =
        "0s boot; 1s load 1; 2s load 1 allow; state; 3s load 0; end a TERM; end b TERM; state";
    expect![[r#"
        0s supervising 3 programs
        0s   spawn a command
        0s   spawn b command
        0s   spawn c command
        0s a: started (pid 1)
        0s a: ready
        0s b: started (pid 2)
        0s b: ready
        0s c: started (pid 3)
        0s c: ready
        1s reload refused, nothing changed: the new site has no more place for 2 of 3 running programs (a, b); if that is meant: supervisor reload --allow-removal
        1s   reply 100: the new site has no more place for 2 of 3 running programs (a, b); if that is meant: supervisor reload --allow-removal [nothing was changed; the site goes on as it was]
        2s a: stopping (removed from the site)
        2s   SIGTERM to main of a
        2s b: stopping (removed from the site)
        2s   SIGTERM to main of b
        2s reloaded: 0 added, 2 removed, 0 restarted, 0 changed
        2s   reply 100: { added: [], removed: ["a", "b"], restarted: [], next_start: [], live: [], supervisor: [], dry_run: false, warnings: [] }
        2s a STOPPING, b STOPPING, c RUNNING
        3s reloaded: 2 added, 0 removed, 0 restarted, 0 changed
        3s   reply 100: { added: ["a", "b"], removed: [], restarted: [], next_start: [], live: [], supervisor: [], dry_run: false, warnings: [] }
        3s   SIGKILL to tree of a
        3s   spawn a command
        3s a: started (pid 4)
        3s a: ready
        3s   SIGKILL to tree of b
        3s   spawn b command
        3s b: started (pid 5)
        3s b: ready
        3s a RUNNING, b RUNNING, c RUNNING
    "#]].assert_eq(&play_sites(vec![site(old), site([program("c")])], script));
}

#[test]
fn a_program_disabled_in_backoff_stays_down() {
    let off = with(program("web"), |p| p.enabled = false);
    let script = "0s boot; 1s end web 1; load 1; 9s state; load 0; state";
    expect![[r#"
        0s supervising 1 programs
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        1s web: exit 1 after 1s
        1s   SIGKILL to tree of web
        1s web: exit 1; attempt 2 in 0.5s
        1s   reconfigure web
        1s web: stopped
        1s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        1s   reply 100: { added: [], removed: [], restarted: [], next_start: [("web", ["enabled"])], live: [], supervisor: [], dry_run: false, warnings: [] }
        9s web STOPPED
        9s   reconfigure web
        9s   spawn web command
        9s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        9s   reply 100: { added: [], removed: [], restarted: [], next_start: [("web", ["enabled"])], live: [], supervisor: [], dry_run: false, warnings: [] }
        9s web: started (pid 2)
        9s web: ready
        9s web RUNNING
    "#]].assert_eq(&play_sites(vec![site([program("web")]), site([off])], script));
}

#[test]
fn a_given_up_program_gets_a_chance_with_new_settings() {
    let bad = with(program("web"), |p| again(p, |r| r.start_limit = limit(1, LimitAction::GiveUp)));
    let good = with(bad.clone(), |p| p.command = Box::new(["/bin/good".into()]));
    let script = "0s boot; 1s end web 1; state; load 1; state";
    expect![[r#"
        0s supervising 1 programs
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        1s web: exit 1 after 1s
        1s   SIGKILL to tree of web
        1s web: given up (exit 1; too many starts)
        1s web FATAL
        1s   reconfigure web
        1s   spawn web command
        1s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        1s   reply 100: { added: [], removed: [], restarted: [], next_start: [("web", ["command"])], live: [], supervisor: [], dry_run: false, warnings: [] }
        1s web: started (pid 2)
        1s web: ready again
        1s web RUNNING
    "#]].assert_eq(&play_sites(vec![site([bad]), site([good])], script));
}

#[test]
fn a_jump_of_the_wall_clock_moves_no_deadline() {
    let script = |wall: &str| {
        play([program("web")], &format!("0s boot; {wall} 1s end web 1; {wall} 9s state"))
    };
    assert_eq!(script(""), script("wall -900; "));
    assert_eq!(restart().jitter, 0.0);
}

#[test]
fn the_site_may_end_when_all_programs_have() {
    let web = with(program("web"), |p| again(p, |r| r.policy = RestartPolicy::Never));
    let mut one = site([web]);
    one.supervisor.exit_when = Some(ExitWhen::AllExited);
    expect![[r#"
        0s supervising 1 programs
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        1s web: exit 4 after 1s
        1s   SIGKILL to tree of web
        1s web: ended badly, not started again (restart policy)
        1s stopping the site (every program has ended)
        1s   EXIT 4
    "#]]
    .assert_eq(&play_sites(vec![one], "0s boot; 1s end web 4"));
}
