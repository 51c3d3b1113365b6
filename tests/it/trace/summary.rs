//! The site in one line, as systemd shows it, and when it counts as up.

use expect_test::{Expect, expect};
use mini_supervisor::model::*;

use super::{again, db_and_web, limit, play, waiter, with};
use crate::site_builder::{on, program};

/// The summaries alone.
fn check(programs: impl IntoIterator<Item = Program>, script: &str, then: Expect) {
    let told = play(programs, script);
    let lines = told.lines().filter(|line| line.ends_with(']'));
    then.assert_eq(&lines.map(|line| format!("{line}\n")).collect::<String>());
}

fn oneshot(text: &str) -> Program {
    with(program(text), |p| p.kind = ProgramType::Oneshot { remain: false })
}

#[test]
fn it_counts_what_runs_and_names_what_does_not() {
    check(
        [program("a"), program("b"), program("c")],
        "0s manual; boot; summary; spawned a; summary; spawned b; spawned c; summary; \
         9s auto; end b 1; summary",
        expect![[r#"
            0s 0/3 running; starting: a, b, c [coming up]
            0s 1/3 running; starting: b, c [coming up]
            0s 3/3 running [up]
            9s 2/3 running; backoff: b (next at 00:00:09Z) [up]
        "#]],
    );
}

#[test]
fn what_has_done_its_work_is_not_counted() {
    check(
        [oneshot("migrate"), with(program("web"), |p| p.requires = Box::new([on("migrate")]))],
        "0s boot; summary; 5s end migrate 0; summary",
        expect![[r#"
            0s 0/2 running; waiting: web; starting: migrate [coming up]
            5s 1/1 running [up]
        "#]],
    );
}

#[test]
fn what_waits_for_a_failure_does_not_hold_up_the_start() {
    check(
        [
            oneshot("migrate"),
            with(program("web"), |p| p.requires = Box::new([on("migrate")])),
            with(program("front"), |p| p.requires = Box::new([on("web")])),
        ],
        "0s boot; summary; 5s end migrate 3; summary",
        expect![[r#"
            0s 0/3 running; waiting: front, web; starting: migrate [coming up]
            5s 0/3 running; backoff: migrate (next at 00:00:05Z); waiting: front, web [up]
        "#]],
    );
}

#[test]
fn what_fails_once_does_not_hold_up_the_start_whatever_comes_after() {
    check(
        [with(program("web"), |p| again(p, |r| r.start_limit = limit(2, LimitAction::Retry)))],
        "0s boot; end web 1; summary; 1s summary; 2s end web 1; summary; 62s summary",
        expect![[r#"
            0s 0/1 running; backoff: web (next at 00:00:00Z) [up]
            1s 1/1 running [up]
            2s 0/1 running; fatal: web (next at 00:01:02Z) [up]
            62s 1/1 running [up]
        "#]],
    );
}

#[test]
fn a_wait_with_a_limit_has_an_end_and_one_without_has_none() {
    let for_ever = with(waiter(), |p| p.wait_for[0].timeout = Limit::Never);
    let [db, web] = db_and_web();
    check(
        [waiter()],
        "0s boot; summary; 4s true web 0; summary",
        expect![[r#"
            0s   await web wait_for[0]
            0s 0/1 running; waiting: web [coming up]
            4s 1/1 running [up]
        "#]],
    );
    check(
        [for_ever],
        "0s boot; summary; 99s summary",
        expect![[r#"
            0s   await web wait_for[0]
            0s 0/1 running; waiting: web [not coming up]
            99s 0/1 running; waiting: web [not coming up]
        "#]],
    );
    check(
        [db, web],
        "0s manual; boot; summary; fails db no-such-file; summary",
        expect![[r#"
            0s 0/2 running; waiting: web; starting: db [coming up]
            0s 0/2 running; backoff: db (next at 00:00:00Z); waiting: web [up]
        "#]],
    );
}

#[test]
fn what_nobody_wants_up_is_not_waited_for() {
    check(
        [
            program("a"),
            with(program("b"), |p| p.autostart = false),
            with(program("c"), |p| p.enabled = false),
        ],
        "0s boot; summary; 1s stop a; summary; end a 0; summary",
        expect![[r#"
            0s 1/1 running [up]
            1s 0/1 running; stopping: a [up]
            1s 0/0 running [up]
        "#]],
    );
}

#[test]
fn a_day_away_is_said_with_its_date_and_many_are_counted() {
    let many: Vec<Program> = (1..=5)
        .map(|n| {
            with(program(&format!("p{n}")), |p| {
                again(p, |r| {
                    r.start_limit = limit(1, LimitAction::Retry);
                    if let Some(limit) = &mut r.start_limit {
                        limit.retry_every = std::time::Duration::from_secs(86_400);
                    }
                });
            })
        })
        .collect();
    check(
        many,
        "0s boot; 1s end p1 1; summary; end p2 1; end p3 1; end p4 1; end p5 1; summary",
        expect![[r#"
            1s 4/5 running; fatal: p1 (next at 1970-01-02T00:00:01Z) [up]
            1s 0/5 running; fatal: p1 (next at 1970-01-02T00:00:01Z), p2 (next at 1970-01-02T00:00:01Z), p3 (next at 1970-01-02T00:00:01Z), and 2 more [up]
        "#]],
    );
}

#[test]
fn a_site_that_stops_says_who_is_left() {
    check(
        [program("a"), program("b")],
        "0s boot; 1s term; summary; end a 0; summary; end b 0; summary",
        expect![[r#"
            1s stopping; 2 left: a, b [up]
            1s stopping; 1 left: b [up]
            1s stopping [up]
        "#]],
    );
}
