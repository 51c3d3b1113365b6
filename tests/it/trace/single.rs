//! A program that runs once at the most: its lock, and copies of it.

use std::{sync::Arc, time::Duration};

use expect_test::expect;
use mini_supervisor::model::{
    OnDuplicate, Program, RestartPolicy, ShmMoment, ShmRule, SingleInstance,
};

use super::{check, play_sites, with};
use crate::site_builder::{hook, on, program, site};

pub(super) fn alone(on_duplicate: OnDuplicate) -> Program {
    with(program("robot"), |p| {
        let argv = Some("robot.py".into());
        let single = SingleInstance { lock_file: None, pid_file: None, argv, on_duplicate };
        p.single_instance = Some(Box::new(single));
    })
}

#[test]
fn the_lock_is_held_from_before_the_first_command_until_nothing_is_left() {
    check(
        [with(alone(OnDuplicate::Refuse), |p| {
            p.start_pre = Box::new([hook(Duration::from_secs(5))]);
            p.stop_post = Box::new([hook(Duration::from_secs(5))]);
            let remove = Box::new(["web_*".into()]);
            let when = Box::new([ShmMoment::Before, ShmMoment::After]);
            let rule = ShmRule { remove, when, owner: 0, older_than: None, dry_run: false };
            p.shm = Some(Box::new(rule));
        })],
        "0s manual; boot; 1s locked robot free; auto; tidied robot; end robot/ 0; \
         2s exit robot 1; 3s gone robot; end robot/ 0; 3200ms state; 3600ms state",
        expect![[r#"
            0s supervising 1 program
            0s   lock robot
            1s   tidy robot Before
            1s   spawn robot start_pre[0]
            1s   SIGKILL to tree of robot
            1s   spawn robot command
            1s   sign robot 2
            1s robot: started (pid 2)
            1s robot: ready
            2s robot: exit 1 after 1s
            2s   SIGKILL to tree of robot
            3s   SIGKILL to tree of robot
            3s   spawn robot stop_post[0]
            3s   SIGKILL to tree of robot
            3s   tidy robot After
            3s   unlock robot
            3s robot: exit 1; attempt 2 in 0.5s
            3200ms robot BACKOFF
            3500ms   lock robot
            3500ms   tidy robot Before
            3500ms   spawn robot start_pre[0]
            3600ms robot STARTING
        "#]],
    );
}

#[test]
fn whoever_runs_already_is_named_and_nothing_is_started_whatever_the_policy() {
    check(
        [with(alone(OnDuplicate::Refuse), |p| {
            Arc::make_mut(&mut p.restart).policy = RestartPolicy::Always;
            p.stop_post = Box::new([hook(Duration::from_secs(5))]);
        })],
        "0s manual; boot; locked robot taken already running (pid 7); 100s state; \
         start robot; locked robot copies already running (pid 8); 200s state; stop robot; state",
        expect![[r#"
            0s supervising 1 program
            0s   lock robot
            0s   unlock robot
            0s robot: not started: already running (pid 7)
            100s robot FATAL
            100s start robot (asked by uid 0, pid 0)
            100s   lock robot
            100s   unlock robot
            100s robot: not started: already running (pid 8)
            100s   reply 1: robot FATAL (not ok)
            200s robot FATAL
            200s stop robot (asked by uid 0, pid 0)
            200s robot: stopped
            200s   reply 2: robot STOPPED (ok)
            200s robot STOPPED
        "#]],
    );
}

#[test]
fn what_requires_it_is_not_started_either() {
    check(
        [
            alone(OnDuplicate::Refuse),
            with(program("web"), |p| p.requires = Box::new([on("robot")])),
        ],
        "0s manual; boot; locked robot taken already running (pid 7); state",
        expect![[r#"
            0s supervising 2 programs
            0s   lock robot
            0s web: waiting for robot (starting)
            0s   unlock robot
            0s robot: not started: already running (pid 7)
            0s robot FATAL, web WAITING
        "#]],
    );
}

#[test]
fn a_copy_is_asked_then_killed_and_only_then_it_starts() {
    check(
        [alone(OnDuplicate::Replace)],
        "0s manual; boot; locked robot copies already running (pid 7); 9s state; 11s state; \
         11500ms locked robot free; auto; spawned robot",
        expect![[r#"
            0s supervising 1 program
            0s   lock robot
            0s robot: already running (pid 7); ending it first
            0s   SIGTERM to copies of robot
            9s robot STARTING
            10s robot: what runs already is still alive, sending KILL
            10s   SIGKILL to copies of robot
            11s   SIGKILL to copies of robot
            11s robot STARTING
            11500ms   spawn robot command
            11500ms   sign robot 1
            11500ms robot: started (pid 1)
            11500ms robot: ready
        "#]],
    );
}

#[test]
fn a_copy_that_outlives_sigkill_or_comes_back_is_named() {
    check(
        [alone(OnDuplicate::Replace)],
        "0s manual; boot; locked robot copies already running (pid 7); 60s state; \
         start robot; locked robot copies already running (pid 8); \
         locked robot copies already running (pid 9); locked robot copies already running (pid 10); \
         locked robot copies already running (pid 11); \
         locked robot copies already running (pid 12); \
         locked robot copies already running (pid 13); state",
        expect![[r#"
            0s supervising 1 program
            0s   lock robot
            0s robot: already running (pid 7); ending it first
            0s   SIGTERM to copies of robot
            10s robot: what runs already is still alive, sending KILL
            10s   SIGKILL to copies of robot
            11s   SIGKILL to copies of robot
            13s   SIGKILL to copies of robot
            17s   SIGKILL to copies of robot
            25s   unlock robot
            25s robot: not started: already running (pid 7); SIGKILL does not end it
            60s robot FATAL
            60s start robot (asked by uid 0, pid 0)
            60s   lock robot
            60s robot: already running (pid 8); ending it first
            60s   SIGTERM to copies of robot
            60s robot: already running (pid 9); ending it first
            60s   SIGTERM to copies of robot
            60s robot: already running (pid 10); ending it first
            60s   SIGTERM to copies of robot
            60s robot: already running (pid 11); ending it first
            60s   SIGTERM to copies of robot
            60s robot: already running (pid 12); ending it first
            60s   SIGTERM to copies of robot
            60s   unlock robot
            60s robot: not started: already running (pid 13); it comes back when it is ended
            60s   reply 1: robot FATAL (not ok)
            60s robot FATAL
        "#]],
    );
}

#[test]
fn a_lock_that_cannot_be_had_is_tried_again_as_any_failed_start() {
    check(
        [alone(OnDuplicate::Refuse)],
        "0s manual; boot; locked robot failed cannot take the lock /x: no; 400ms state; 600ms; \
         40s state; locked robot free; state",
        expect![[r#"
            0s supervising 1 program
            0s   lock robot
            0s   unlock robot
            0s robot: cannot start: cannot take the lock /x: no; attempt 2 in 0.5s
            400ms robot BACKOFF
            500ms   lock robot
            30500ms   unlock robot
            30500ms robot: cannot start: its lock was not to be had, nor copies of it found, in 30s; attempt 3 in 1s
            31500ms   lock robot
            40s robot STARTING
            40s   spawn robot command
            40s robot STARTING
        "#]],
    );
}

#[test]
fn a_stop_while_it_is_looked_for_gives_the_lock_back() {
    check(
        [alone(OnDuplicate::Replace)],
        "0s manual; boot; stop robot; locked robot free; start robot; \
         locked robot copies already running (pid 7); restart robot; state; term",
        expect![[r#"
            0s supervising 1 program
            0s   lock robot
            0s stop robot (asked by uid 0, pid 0)
            0s   unlock robot
            0s robot: stopped
            0s   reply 1: robot STOPPED (ok)
            0s start robot (asked by uid 0, pid 0)
            0s   lock robot
            0s robot: already running (pid 7); ending it first
            0s   SIGTERM to copies of robot
            0s restart robot (asked by uid 0, pid 0)
            0s   unlock robot
            0s   lock robot
            0s robot STARTING
            0s stopping the site (signal)
            0s   unlock robot
            0s robot: stopped
            0s   reply 2: robot STOPPED (not ok)
            0s   reply 3: robot STOPPED (not ok)
            0s   EXIT 0
        "#]],
    );
}

#[test]
fn a_program_that_is_given_the_wish_while_it_runs_is_locked_from_its_next_start_on() {
    let (old, new) = (program("robot"), alone(OnDuplicate::Refuse));
    let sites = vec![site([old]), site([new]), site([program("robot")])];
    let text = play_sites(
        sites,
        "0s boot; load 1; 1s restart robot; end robot TERM; 2s load 2; restart robot; \
         end robot TERM",
    );
    expect![[r#"
        0s supervising 1 program
        0s   spawn robot command
        0s robot: started (pid 1)
        0s robot: ready
        0s   reconfigure robot
        0s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        0s   reply 100: { added: [], removed: [], restarted: [], next_start: [("robot", ["single_instance"])], live: [], supervisor: [], dry_run: false, warnings: [] }
        1s restart robot (asked by uid 0, pid 0)
        1s robot: stopping (restart)
        1s   SIGTERM to main of robot
        1s   SIGKILL to tree of robot
        1s   lock robot
        1s   spawn robot command
        1s   sign robot 2
        1s robot: started (pid 2)
        1s robot: ready
        1s   reply 1: robot RUNNING (ok)
        2s   reconfigure robot
        2s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        2s   reply 100: { added: [], removed: [], restarted: [], next_start: [("robot", ["single_instance"])], live: [], supervisor: [], dry_run: false, warnings: [] }
        2s restart robot (asked by uid 0, pid 0)
        2s robot: stopping (restart)
        2s   SIGTERM to main of robot
        2s   SIGKILL to tree of robot
        2s   unlock robot
        2s   spawn robot command
        2s robot: started (pid 3)
        2s robot: ready
        2s   reply 2: robot RUNNING (ok)
    "#]].assert_eq(&text);
}

#[test]
fn a_stop_of_what_is_down_says_so() {
    check(
        [with(alone(OnDuplicate::Refuse), |p| p.autostart = false)],
        "0s boot; stop robot; start robot; stop robot; end robot TERM; stop robot",
        expect![[r#"
            0s supervising 1 program
            0s stop robot (asked by uid 0, pid 0)
            0s   reply 1: robot STOPPED (ok)
            0s start robot (asked by uid 0, pid 0)
            0s   lock robot
            0s   spawn robot command
            0s   sign robot 1
            0s robot: started (pid 1)
            0s robot: ready
            0s   reply 2: robot RUNNING (ok)
            0s stop robot (asked by uid 0, pid 0)
            0s robot: stopping (asked)
            0s   SIGTERM to main of robot
            0s   SIGKILL to tree of robot
            0s   unlock robot
            0s robot: stopped
            0s   reply 3: robot STOPPED (ok)
            0s stop robot (asked by uid 0, pid 0)
            0s   reply 4: robot STOPPED (ok)
        "#]],
    );
}
