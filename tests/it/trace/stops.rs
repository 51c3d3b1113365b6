//! How programs, and the whole site, are stopped.

use expect_test::expect;
use mini_supervisor::model::*;

use super::{again, check, db_and_web, stop, with};
use crate::site_builder::program;

#[test]
fn who_ignores_the_stop_signal_is_killed() {
    check(
        [program("web")],
        "0s boot; 1s stop web; 12s end web KILL; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            1s stop web (asked by uid 0, pid 0)
            1s web: stopping (asked)
            1s   SIGTERM to main of web
            11s web: still alive, sending SIGKILL
            11s   SIGKILL to tree of web
            12s   SIGKILL to tree of web
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
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            1s stop web (asked by uid 0, pid 0)
            1s web: stopping (asked)
            1s   SIGTERM to tree of web
            11s web: still alive, sending SIGKILL
            11s   SIGKILL to tree of web
            12s   SIGKILL to tree of web
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
            0s supervising 1 program
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
            0s supervising 1 program
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
            0s supervising 1 program
            0s   spawn web command
            1s stop web (asked by uid 0, pid 0)
            1s web: killing (asked)
            1s   SIGKILL to main of web
            2s   SIGKILL to main of web
            2s web: started (pid 1)
            2s web: killing (asked)
            2s   SIGKILL to tree of web
            2s   SIGKILL to tree of web
            2s web: stopped
            2s   reply 1: web STOPPED (ok)
            2s web STOPPED
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
            0s supervising 1 program
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
            0s supervising 1 program
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
            2s db: killing (shutdown)
            2s   SIGKILL to tree of db
            2s web: still alive, sending SIGKILL
            2s   SIGKILL to tree of web
            3s   SIGKILL to tree of db
            3s   SIGKILL to tree of web
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
            1s db: killing (shutdown)
            1s   SIGKILL to tree of db
            1s web: killing (shutdown)
            1s   SIGKILL to tree of web
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
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            1s stopping the site (signal)
            1s web: stopping (shutdown)
            1s   SIGTERM to main of web
            89s killing what is left: 1 program
            89s web: still alive, sending SIGKILL
            89s   SIGKILL to tree of web
            90s   SIGKILL to tree of web
            91s given up, as SIGKILL does not end: web (pid 1)
            91s   EXIT 1
            92s   SIGKILL to tree of web
            96s   SIGKILL to tree of web
            100s web STOPPING
        "#]],
    );
}

#[test]
fn a_second_term_while_spawning_kills() {
    check(
        [program("web")],
        "0s manual; boot; 1s term; 2s term; 3s spawned web; end web KILL",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            1s stopping the site (signal)
            2s killing what is left: 1 program
            2s web: killing (shutdown)
            2s   SIGKILL to main of web
            3s   SIGKILL to main of web
            3s web: started (pid 1)
            3s web: killing (shutdown)
            3s   SIGKILL to tree of web
            3s   SIGKILL to tree of web
            3s web: stopped
            3s   EXIT 0
        "#]],
    );
}
