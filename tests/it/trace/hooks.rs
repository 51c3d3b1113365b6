//! Commands before, beside and after a program.

use std::time::Duration;

use expect_test::expect;

use super::{check, with};
use crate::site_builder::{hook, program};

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
            0s supervising 1 program
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
            0s supervising 1 program
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
            0s supervising 1 program
            0s   spawn web start_pre[0]
            5s web: start_pre[0] took too long
            5s web: killing (start took too long)
            5s   SIGKILL to tree of web
            6s   SIGKILL to tree of web
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
            0s supervising 1 program
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
            0s supervising 1 program
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
fn a_stop_while_start_pre_runs_ends_it() {
    check(
        [with(program("web"), |p| p.start_pre = Box::new([hook(Duration::from_secs(5))]))],
        "0s boot; 1s stop web; end web/ TERM; state",
        expect![[r#"
            0s supervising 1 program
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
