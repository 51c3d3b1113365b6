//! What clients ask, and what they are answered.

use expect_test::expect;
use mini_supervisor::model::*;

use super::{again, check, db_and_web, limit, waiter, with};
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

fn reloading() -> Program {
    with(program("web"), |p| p.reload = Some(Reload::Command(Box::new(["reload".into()]))))
}

#[test]
fn a_reload_by_command_is_answered_when_the_command_has_ended() {
    check(
        [reloading()],
        "0s boot; reload web; 1s end web/ 0; reload web; 2s end web/ 3; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s reload web (asked by uid 0, pid 0)
            0s   spawn web reload command
            1s   SIGKILL to tree of web
            1s   reply 1: done
            1s reload web (asked by uid 0, pid 0)
            1s   spawn web reload command
            2s   SIGKILL to tree of web
            2s web: reload command: exit 3
            2s   reply 2: the reload command of web ended: exit 3 []
            2s web RUNNING
        "#]],
    );
}

#[test]
fn a_reload_by_command_is_refused_where_it_makes_no_sense() {
    check(
        [reloading(), program("db")],
        "0s boot; reload db; reload web; reload web; 1s stop web; end web TERM; end web/ KILL; \
         2s reload web",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s   spawn web command
            0s db: started (pid 1)
            0s db: ready
            0s web: started (pid 2)
            0s web: ready
            0s   reply 1: db has no reload [set programs.db.reload, or use supervisor restart db]
            0s reload web (asked by uid 0, pid 0)
            0s   spawn web reload command
            0s   reply 3: a reload of web is under way []
            1s stop web (asked by uid 0, pid 0)
            1s web: stopping (asked)
            1s   SIGTERM to main of web
            1s   SIGKILL to tree of web
            1s   SIGKILL to tree of web
            1s   SIGKILL to tree of web
            1s web: reload command: killed by SIGKILL
            1s   reply 2: the reload command of web ended: killed by SIGKILL []
            1s web: stopped
            1s   reply 4: web STOPPED (ok)
            2s   reply 5: web is stopped []
        "#]],
    );
}

#[test]
fn a_reload_command_that_hangs_is_killed() {
    check(
        [reloading()],
        "0s boot; reload web; 91s end web/ KILL; state",
        expect![[r#"
        0s supervising 1 program
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        0s reload web (asked by uid 0, pid 0)
        0s   spawn web reload command
        90s web: reload command took too long
        90s   SIGKILL to tree of web
        91s   SIGKILL to tree of web
        91s   SIGKILL to tree of web
        91s web: reload command: killed by SIGKILL
        91s   reply 1: the reload command of web ended: killed by SIGKILL []
        91s web RUNNING
    "#]],
    );
}

#[test]
fn a_reset_of_what_was_given_up_makes_it_stopped() {
    let limited = |p: &mut Program| again(p, |r| r.start_limit = limit(1, LimitAction::Retry));
    check(
        [with(program("web"), limited)],
        "0s boot; end web 1; 1s reset web; state; 99s state; start web; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s web: exit 1 after 0s
            0s   SIGKILL to tree of web
            0s web: given up (exit 1; too many starts); next try in 1m
            1s reset web (asked by uid 0, pid 0)
            1s web: stopped
            1s   reply 1: done
            1s web STOPPED
            99s web STOPPED
            99s start web (asked by uid 0, pid 0)
            99s   spawn web command
            99s web: started (pid 2)
            99s web: ready
            99s   reply 2: web RUNNING (ok)
            99s web RUNNING
        "#]],
    );
}

#[test]
fn a_reset_of_what_runs_forgets_its_failures() {
    check(
        [program("web")],
        "0s boot; end web 1; 1s end web 1; reset web; 3s end web 1",
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
            1s reset web (asked by uid 0, pid 0)
            1s   reply 1: done
            2s   spawn web command
            2s web: started (pid 3)
            2s web: ready
            3s web: exit 1 after 1s
            3s   SIGKILL to tree of web
            3s web: exit 1; attempt 2 in 0.5s
        "#]],
    );
}

#[test]
fn a_start_while_stopping_starts_again() {
    check(
        [program("web")],
        "0s boot; 1s stop web; 2s start web; 3s exit web TERM; state; 4s gone web; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            1s stop web (asked by uid 0, pid 0)
            1s web: stopping (asked)
            1s   SIGTERM to main of web
            2s start web (asked by uid 0, pid 0)
            2s   reply 1: web STOPPING (not ok)
            3s   SIGKILL to tree of web
            3s web STOPPING
            4s   SIGKILL to tree of web
            4s   spawn web command
            4s web: started (pid 2)
            4s web: ready
            4s   reply 2: web RUNNING (ok)
            4s web RUNNING
        "#]],
    );
}

#[test]
fn a_start_of_what_runs_is_done_at_once() {
    check(
        [program("web")],
        "0s boot; 1s start web; state",
        expect![[r#"
        0s supervising 1 program
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        1s start web (asked by uid 0, pid 0)
        1s   reply 1: web RUNNING (ok)
        1s web RUNNING
    "#]],
    );
}

#[test]
fn a_restart_in_backoff_starts_at_once() {
    check(
        [program("web")],
        "0s boot; end web 1; 100ms state; restart web; 1s state; end web 1",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s web: exit 1 after 0s
            0s   SIGKILL to tree of web
            0s web: exit 1; attempt 2 in 0.5s
            100ms web BACKOFF
            100ms restart web (asked by uid 0, pid 0)
            100ms   spawn web command
            100ms web: started (pid 2)
            100ms web: ready
            100ms   reply 1: web RUNNING (ok)
            1s web RUNNING
            1s web: exit 1 after 0.9s
            1s   SIGKILL to tree of web
            1s web: exit 1; attempt 2 in 0.5s
        "#]],
    );
}

#[test]
fn a_stop_while_waiting_is_done_at_once_and_nothing_starts_later() {
    check(
        db_and_web(),
        "0s manual; boot; 1s stop web; 2s spawned db; 3s state; restart web; spawned web; state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            1s stop web (asked by uid 0, pid 0)
            1s web: stopped
            1s   reply 1: web STOPPED (ok)
            2s db: started (pid 1)
            2s db: ready
            3s db RUNNING, web STOPPED
            3s restart web (asked by uid 0, pid 0)
            3s   spawn web command
            3s web: started (pid 2)
            3s web: ready
            3s   reply 2: web RUNNING (ok)
            3s db RUNNING, web RUNNING
        "#]],
    );
}

#[test]
fn a_stop_while_waiting_for_the_world_ends_the_wait() {
    check(
        [waiter()],
        "0s boot; 1s stop web; 2s true web 0; 9s state",
        expect![[r#"
        0s supervising 1 program
        0s   await web wait_for[0]
        0s web: waiting for file /x
        1s stop web (asked by uid 0, pid 0)
        1s   await nothing for web
        1s web: stopped
        1s   reply 1: web STOPPED (ok)
        9s web STOPPED
    "#]],
    );
}

#[test]
fn a_variant_is_started_with_its_further_arguments_and_forgotten_by_a_stop() {
    let variant = |extra_args| Variant {
        args: Box::new(["--fast".into()]),
        environment: std::collections::BTreeMap::new(),
        default: false,
        extra_args,
    };
    let web = with(program("web"), |p| {
        p.variants = [(name("fast"), variant(true)), (name("plain"), variant(false))].into();
    });
    check(
        [web],
        "0s boot; start web variant=slow; start web variant=plain args=-x; start web variant=fast; \
         1s restart web variant=fast args=-x; end web TERM; 2s end web 1; \
         3s stop web; end web TERM; 4s start web",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s   reply 1: web has no variant slow [its variants: fast, plain]
            0s   reply 2: variant plain takes no further arguments []
            0s   reply 3: web runs already, not as fast [restart takes --variant too]
            1s restart web (asked by uid 0, pid 0)
            1s web: stopping (restart)
            1s   SIGTERM to main of web
            1s   SIGKILL to tree of web
            1s   spawn web command as fast -x
            1s web: started (pid 2)
            1s web: ready
            1s   reply 4: web RUNNING (ok)
            2s web: exit 1 after 1s
            2s   SIGKILL to tree of web
            2s web: exit 1; attempt 2 in 0.5s
            2500ms   spawn web command as fast -x
            2500ms web: started (pid 3)
            2500ms web: ready
            3s stop web (asked by uid 0, pid 0)
            3s web: stopping (asked)
            3s   SIGTERM to main of web
            3s   SIGKILL to tree of web
            3s web: stopped
            3s   reply 5: web STOPPED (ok)
            4s start web (asked by uid 0, pid 0)
            4s   spawn web command
            4s web: started (pid 4)
            4s web: ready
            4s   reply 6: web RUNNING (ok)
        "#]],
    );
}

#[test]
fn while_the_site_stops_nothing_is_started_or_reloaded() {
    check(
        db_and_web(),
        "0s boot; 1s shutdown; start db; restart web; reread; load 0; hup; reset db; state; \
         2s stop web; end web TERM; end db TERM",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            0s db: ready
            0s   spawn web command
            0s web: started (pid 2)
            0s web: ready
            1s shutdown (asked by uid 0, pid 0)
            1s   reply 1: done
            1s stopping the site (asked)
            1s web: stopping (shutdown)
            1s   SIGTERM to main of web
            1s   reply 2: the supervisor is stopping []
            1s   reply 3: the supervisor is stopping []
            1s   reply 4: the supervisor is stopping []
            1s   reply 100: the supervisor is stopping []
            1s reload refused, nothing changed: the supervisor is stopping
            1s reset db (asked by uid 0, pid 0)
            1s   reply 5: done
            1s db STOPPING, web STOPPING
            2s stop web (asked by uid 0, pid 0)
            2s   SIGKILL to tree of web
            2s web: stopped
            2s db: stopping (shutdown)
            2s   SIGTERM to main of db
            2s   reply 6: web STOPPED (ok)
            2s   SIGKILL to tree of db
            2s db: stopped
            2s   EXIT 0
        "#]],
    );
}
