//! Ends that nobody asked for, and what follows them.

use std::{fmt::Write as _, time::Duration};

use expect_test::expect;
use mini_supervisor::model::*;

use super::{again, check, limit, play, play_sites, with};
use crate::site_builder::{on, program, site};

#[test]
fn the_delay_grows_up_to_its_limit_and_a_long_run_forgets() {
    check(
        [with(program("web"), |p| again(p, |r| r.max_delay = Duration::from_secs(2)))],
        "0s boot; end web 1; 1s end web 1; 3s end web 1; 6s end web 1; 50s end web 1; 60s",
        expect![[r#"
            0s supervising 1 program
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
            0s supervising 1 program
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
            0s supervising 1 program
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
            0s stopping the site (a program has hit its start limit)
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
fn max_runtime_is_a_timeout() {
    check(
        [with(program("web"), |p| p.max_runtime = Limit::After(Duration::from_secs(5)))],
        "0s boot; 6s end web TERM; state; 7s state",
        expect![[r#"
            0s supervising 1 program
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
            0s supervising 1 program
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
            0s supervising 1 program
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
fn every_policy_and_every_end_follow_the_table_of_systemd() {
    let policies = [
        RestartPolicy::Never,
        RestartPolicy::OnFailure,
        RestartPolicy::OnAbnormal,
        RestartPolicy::Always,
    ];
    let mut table = String::new();
    for policy in policies {
        for how in ["0", "1", "TERM", "HUP", "SEGV", "KILL", "OOM"] {
            let web = with(program("web"), |p| again(p, |r| r.policy = policy));
            let trace = play([web], &format!("0s boot; end web {how}; state"));
            let last = trace.lines().last().unwrap();
            writeln!(table, "{policy:?} {how}: {last}").unwrap();
        }
    }
    expect![[r#"
        Never 0: 0s web EXITED
        Never 1: 0s web EXITED
        Never TERM: 0s web EXITED
        Never HUP: 0s web EXITED
        Never SEGV: 0s web EXITED
        Never KILL: 0s web EXITED
        Never OOM: 0s web EXITED
        OnFailure 0: 0s web EXITED
        OnFailure 1: 0s web BACKOFF
        OnFailure TERM: 0s web EXITED
        OnFailure HUP: 0s web EXITED
        OnFailure SEGV: 0s web BACKOFF
        OnFailure KILL: 0s web BACKOFF
        OnFailure OOM: 0s web BACKOFF
        OnAbnormal 0: 0s web EXITED
        OnAbnormal 1: 0s web EXITED
        OnAbnormal TERM: 0s web EXITED
        OnAbnormal HUP: 0s web EXITED
        OnAbnormal SEGV: 0s web BACKOFF
        OnAbnormal KILL: 0s web BACKOFF
        OnAbnormal OOM: 0s web BACKOFF
        Always 0: 0s web BACKOFF
        Always 1: 0s web BACKOFF
        Always TERM: 0s web BACKOFF
        Always HUP: 0s web BACKOFF
        Always SEGV: 0s web BACKOFF
        Always KILL: 0s web BACKOFF
        Always OOM: 0s web BACKOFF
    "#]]
    .assert_eq(&table);
}

#[test]
fn a_jump_of_the_wall_clock_moves_no_deadline() {
    let script = |wall: &str| {
        play([program("web")], &format!("0s boot; {wall} 1s end web 1; {wall} 9s state"))
    };
    assert_eq!(script(""), script("wall -900; "));
}

#[test]
fn the_site_may_end_when_all_programs_have() {
    let web = with(program("web"), |p| again(p, |r| r.policy = RestartPolicy::Never));
    let mut one = site([web]);
    one.supervisor.exit_when = Some(ExitWhen::AllExited);
    expect![[r#"
        0s supervising 1 program
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        1s web: exit 4 after 1s
        1s   SIGKILL to tree of web
        1s web: ended badly, not started again (restart policy)
        1s stopping the site (no program runs or will run again)
        1s   EXIT 4
    "#]]
    .assert_eq(&play_sites(vec![one], "0s boot; 1s end web 4"));
}

#[test]
fn the_site_ends_although_a_program_waits_for_one_that_was_given_up() {
    let mut one = site([
        with(program("a"), |p| p.requires = Box::new([on("b")])),
        with(program("b"), |p| p.requires = Box::new([on("c")])),
        with(program("c"), |p| again(p, |r| r.policy = RestartPolicy::Never)),
        with(program("d"), |p| again(p, |r| r.policy = RestartPolicy::Never)),
    ]);
    one.supervisor.exit_when = Some(ExitWhen::AllExited);
    let script = "0s manual; boot; spawned d; 1s fails c ENOENT; state; 2s end d 0";
    expect![[r#"
        0s supervising 4 programs
        0s   spawn c command
        0s   spawn d command
        0s a: waiting for b (waiting)
        0s b: waiting for c (starting)
        0s d: started (pid 1)
        0s d: ready
        1s c: given up (cannot start: ENOENT)
        1s a WAITING, b WAITING, c FATAL, d RUNNING
        2s d: exit 0 after 2s
        2s   SIGKILL to tree of d
        2s d: ended, not started again
        2s stopping the site (no program runs or will run again)
        2s a: stopped
        2s b: stopped
        2s c: stopped
        2s   EXIT 127
    "#]]
    .assert_eq(&play_sites(vec![one], script));
}

#[test]
fn the_site_does_not_end_while_something_is_scheduled() {
    let retry = with(program("a"), |p| again(p, |r| r.start_limit = limit(1, LimitAction::Retry)));
    let mut one = site([retry, with(program("b"), |p| p.requires = Box::new([on("a")]))]);
    one.supervisor.exit_when = Some(ExitWhen::AllExited);
    let mut world = site([with(super::waiter(), |p| {
        let what = Awaited::File("/x".into());
        p.wait_for = Box::new([WaitFor { what, timeout: Limit::Never }]);
    })]);
    world.supervisor.exit_when = Some(ExitWhen::AllExited);
    for (one, script) in [(one, "0s boot; end a 1; end b 0; 99s state"), (world, "0s boot; 99s")] {
        let story = play_sites(vec![one], script);
        assert!(!story.contains("EXIT"), "{story}");
    }
}
