//! What clients ask, and what they are answered.

use expect_test::expect;

use super::{check, db_and_web, with};
use crate::site_builder::{name, program};

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
            0s supervising 1 program
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
            0s supervising 1 program
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
            0s supervising 1 program
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
