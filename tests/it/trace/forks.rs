//! A program of `type: forking`, as the engine sees it.

use std::time::Duration;

use expect_test::expect;
use mini_supervisor::model::*;

use super::{check, with};
use crate::site_builder::program;

fn forks() -> Program {
    with(program("web"), |p| {
        p.kind = ProgramType::Forking { pid_file: "/run/web.pid".into() };
        p.start_timeout = Limit::After(Duration::from_secs(30));
    })
}

#[test]
fn the_daemon_takes_the_place_of_the_command() {
    check(
        [forks()],
        "0s boot; 1s exit web 0; 2s nomain web not-yet; state; 3s main web 77; state; 9s stop web; \
         10s end web 0; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            1s   find web
            2s web STARTING
            3s web: started (pid 77)
            3s web: ready
            3s web RUNNING
            9s stop web (asked by uid 0, pid 0)
            9s web: stopping (asked)
            9s   SIGTERM to main of web
            10s   SIGKILL to tree of web
            10s web: stopped
            10s   reply 1: web STOPPED (ok)
            10s web STOPPED
        "#]],
    );
}

#[test]
fn a_daemon_that_is_not_found_in_time_is_ended_with_all_that_the_command_left() {
    check(
        [forks()],
        "0s boot; 1s exit web 0; 2s nomain web not-yet; 41s state; 42s gone web; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            1s   find web
            30s web: command took too long
            30s   SIGTERM to tree of web
            40s   SIGKILL to tree of web
            41s   SIGKILL to tree of web
            41s web STOPPING
            42s web: its daemon was not found: not-yet; attempt 2 in 0.5s
            42s web BACKOFF
        "#]],
    );
}

#[test]
fn a_daemon_that_dies_before_it_is_found_is_a_failed_start() {
    check(
        [forks()],
        "0s boot; 1s exit web 0; 2s gone web; state",
        expect![[r#"
        0s supervising 1 program
        0s   spawn web command
        1s   find web
        2s web: the command has left no process behind (nothing is known of it); attempt 2 in 0.5s
        2s web BACKOFF
    "#]],
    );
}

#[test]
fn a_command_that_fails_is_a_failed_start() {
    check(
        [forks()],
        "0s boot; 1s end web 7; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            1s web: exit 7 after 1s
            1s   SIGKILL to tree of web
            1s web: its command: exit 7; attempt 2 in 0.5s
            1s web BACKOFF
        "#]],
    );
}

#[test]
fn a_stop_while_the_daemon_is_looked_for_asks_all_of_them_first() {
    check(
        [forks()],
        "0s boot; 1s exit web 0; 2s stop web; 3s main web 77; state; 13s state; 14s gone web; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            1s   find web
            2s stop web (asked by uid 0, pid 0)
            2s web: stopping (asked)
            2s   SIGTERM to tree of web
            3s web STOPPING
            12s   SIGKILL to tree of web
            13s   SIGKILL to tree of web
            13s web STOPPING
            14s web: stopped
            14s   reply 1: web STOPPED (ok)
            14s web STOPPED
        "#]],
    );
}

#[test]
fn a_stop_while_the_command_runs_is_the_stop_of_a_command() {
    check(
        [forks()],
        "0s boot; 1s stop web; 2s end web TERM; state",
        expect![[r#"
        0s supervising 1 program
        0s   spawn web command
        1s stop web (asked by uid 0, pid 0)
        1s web: stopping (asked)
        1s   SIGTERM to main of web
        2s   SIGKILL to tree of web
        2s web: stopped
        2s   reply 1: web STOPPED (ok)
        2s web STOPPED
    "#]],
    );
}

#[test]
fn a_command_that_does_not_end_in_time_is_stopped() {
    check(
        [forks()],
        "0s boot; 31s end web TERM; state",
        expect![[r#"
        0s supervising 1 program
        0s   spawn web command
        30s web: command took too long
        30s web: stopping (start took too long)
        30s   SIGTERM to main of web
        31s   SIGKILL to tree of web
        31s web: start took too long; attempt 2 in 0.5s
        31s web BACKOFF
    "#]],
    );
}
