//! What the simulator found: each was a defect once.

use std::time::Duration;

use expect_test::expect;
use mini_supervisor::model::*;

use super::{check, play_sites, stop, waiter, with};
use crate::site_builder::{hook, on, program, site};

fn rungs(p: &mut Program, signals: &[Signal]) {
    let wait = Limit::After(Duration::from_secs(10));
    let ladder = signals.iter().map(|signal| StopStep { signal: *signal, wait });
    stop(p, |s| s.ladder = ladder.collect());
}

#[test]
fn a_start_brings_back_what_is_about_to_go_down() {
    let needs_db = |name: &str| with(program(name), |p| p.requires = Box::new([on("db")]));
    check(
        [with(needs_db("api"), |p| p.autostart = false), program("db"), needs_db("web")],
        "0s boot; 1s stop db; 2s start api; 3s end web TERM; end db TERM; state",
        expect![[r#"
            0s supervising 3 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            0s db: ready
            0s   spawn web command
            0s web: started (pid 2)
            0s web: ready
            1s stop db (asked by uid 0, pid 0)
            1s web: stopping (something it requires is down)
            1s   SIGTERM to main of web
            2s start api (asked by uid 0, pid 0)
            2s api: waiting for db (stopping)
            2s   reply 1: db STOPPING (not ok)
            3s   SIGKILL to tree of web
            3s db: stopping (asked)
            3s   SIGTERM to main of db
            3s web: waiting for db (stopping)
            3s   SIGKILL to tree of db
            3s   spawn db command
            3s db: started (pid 3)
            3s db: ready
            3s   spawn api command
            3s   spawn web command
            3s api: started (pid 4)
            3s api: ready
            3s   reply 2: api RUNNING (ok)
            3s web: started (pid 5)
            3s web: ready
            3s api RUNNING, db RUNNING, web RUNNING
        "#]],
    );
}

#[test]
fn who_waits_has_patience_with_what_a_reload_makes_it_want() {
    let db = with(program("db"), |p| p.enabled = false);
    let old = with(program("web"), |p| p.requires = Box::new([on("db")]));
    let new = with(program("web"), |p| {
        p.wants = Box::new([on("cache")]);
        p.start_timeout = Limit::After(Duration::from_secs(5));
    });
    let script = "0s manual; boot; 1s load 1; 9s state";
    let sites = vec![site([db.clone(), old]), site([program("cache"), db, new])];
    expect![[r#"
        0s supervising 2 programs
        0s web: waiting for db (stopped)
        1s   reconfigure web
        1s   spawn cache command
        1s reloaded: 1 added, 0 removed, 0 restarted, 1 changed
        1s   reply 100: { added: ["cache"], removed: [], restarted: [], next_start: [], live: [("web", ["requires", "wants", "start_timeout"])], supervisor: [], dry_run: false, warnings: [] }
        6s   spawn web command
        9s cache STARTING, db STOPPED, web STARTING
    "#]].assert_eq(&play_sites(sites, script));
}

#[test]
fn who_waits_for_what_a_reload_takes_away_starts() {
    let never = with(waiter(), |p| p.wait_for[0].timeout = Limit::Never);
    let script = "0s boot; 1s load 1; true web 0; state";
    expect![[r#"
        0s supervising 1 program
        0s   await web wait_for[0]
        0s web: waiting for file /x
        1s   reconfigure web
        1s   await nothing for web
        1s   spawn web command
        1s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        1s   reply 100: { added: [], removed: [], restarted: [], next_start: [("web", ["wait_for"])], live: [], supervisor: [], dry_run: false, warnings: [] }
        1s web: started (pid 1)
        1s web: ready
        1s web RUNNING
    "#]].assert_eq(&play_sites(vec![site([never]), site([program("web")])], script));
}

#[test]
fn a_start_that_is_tried_again_follows_the_newest_settings() {
    let one = hook(Duration::from_secs(9));
    let old = with(program("web"), |p| p.start_pre = Box::new([one.clone(), one]));
    let script = "0s manual; boot; spawned web/; end web/ 0; fails web/ EAGAIN; load 1; 1s state";
    expect![[r#"
        0s supervising 1 program
        0s   spawn web start_pre[0]
        0s   SIGKILL to tree of web
        0s   spawn web start_pre[1]
        0s web: cannot start now: EAGAIN; trying again in 0.1s
        0s   reconfigure web
        0s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        0s   reply 100: { added: [], removed: [], restarted: [], next_start: [("web", ["start_pre"])], live: [], supervisor: [], dry_run: false, warnings: [] }
        100ms   spawn web command
        1s web STARTING
    "#]].assert_eq(&play_sites(vec![site([old]), site([program("web")])], script));
}

#[test]
fn a_short_budget_of_the_whole_stop_is_kept() {
    let mut small = site([program("web")]);
    small.supervisor.shutdown_timeout = Some(Duration::from_secs(4));
    expect![[r#"
        0s supervising 1 program
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        1s stopping the site (signal)
        1s web: stopping (shutdown)
        1s   SIGTERM to main of web
        4s killing what is left: 1 program
        4s web: still alive, sending SIGKILL
        4s   SIGKILL to tree of web
        5s   SIGKILL to tree of web
        5s given up, as SIGKILL does not end: web (pid 1)
        5s   EXIT 1
        7s   SIGKILL to tree of web
        9s web STOPPING
    "#]]
    .assert_eq(&play_sites(vec![small], "0s boot; 1s term; 9s state"));
}

#[test]
fn a_ladder_that_is_shorter_now_can_still_be_cut_short() {
    let old = with(program("web"), |p| rungs(p, &[Signal::INT, Signal::TERM]));
    let new = with(program("web"), |p| rungs(p, &[Signal::INT]));
    let script = "0s boot; 1s stop web; 12s load 1; 13s stop web --force; 14s state";
    expect![[r#"
        0s supervising 1 program
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        1s stop web (asked by uid 0, pid 0)
        1s web: stopping (asked)
        1s   SIGINT to main of web
        11s   SIGTERM to main of web
        11s web: still alive, sending SIGTERM
        12s   reconfigure web
        12s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        12s   reply 100: { added: [], removed: [], restarted: [], next_start: [], live: [("web", ["stop"])], supervisor: [], dry_run: false, warnings: [] }
        13s stop web (asked by uid 0, pid 0)
        13s web: still alive, sending SIGKILL
        13s   SIGKILL to tree of web
        14s   SIGKILL to tree of web
        14s web STOPPING
    "#]].assert_eq(&play_sites(vec![site([old]), site([new])], script));
}

#[test]
fn who_no_longer_requires_what_is_removed_goes_on() {
    let old = with(program("web"), |p| p.requires = Box::new([on("db")]));
    let script = "0s boot; 1s load 1; 2s end db TERM; state";
    let sites = vec![site([program("db"), old]), site([program("web")])];
    expect![[r#"
        0s supervising 2 programs
        0s   spawn db command
        0s web: waiting for db (starting)
        0s db: started (pid 1)
        0s db: ready
        0s   spawn web command
        0s web: started (pid 2)
        0s web: ready
        1s   reconfigure web
        1s db: stopping (removed from the site)
        1s   SIGTERM to main of db
        1s reloaded: 0 added, 1 removed, 0 restarted, 1 changed
        1s   reply 100: { added: [], removed: ["db"], restarted: [], next_start: [], live: [("web", ["requires"])], supervisor: [], dry_run: false, warnings: [] }
        2s   SIGKILL to tree of db
        2s db: stopped
        2s   forget db
        2s web RUNNING
    "#]].assert_eq(&play_sites(sites, script));
}

#[test]
fn force_again_and_again_does_not_put_off_the_word_unkillable() {
    check(
        [program("web")],
        "0s boot; 1s exit web 1; 6s stop web --force; 12s stop web --force; 20s state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            1s web: exit 1 after 1s
            1s   SIGKILL to tree of web
            2s   SIGKILL to tree of web
            4s   SIGKILL to tree of web
            6s stop web (asked by uid 0, pid 0)
            6s   SIGKILL to tree of web
            8s   SIGKILL to tree of web
            12s stop web (asked by uid 0, pid 0)
            12s   SIGKILL to tree of web
            16s   SIGKILL to tree of web
            16s web: has processes that outlive SIGKILL; waiting for them
            20s web STOPPING
        "#]],
    );
}

#[test]
fn what_ends_by_itself_before_its_stop_has_that_in_the_log() {
    let web = with(program("web"), |p| p.requires = Box::new([on("db")]));
    check(
        [program("db"), web],
        "0s boot; 1s stop db; 2s end db 7; 3s end web TERM; state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn db command
            0s web: waiting for db (starting)
            0s db: started (pid 1)
            0s db: ready
            0s   spawn web command
            0s web: started (pid 2)
            0s web: ready
            1s stop db (asked by uid 0, pid 0)
            1s web: stopping (something it requires is down)
            1s   SIGTERM to main of web
            2s db: exit 7 after 2s
            2s   SIGKILL to tree of db
            2s db: stopped
            2s   reply 1: db STOPPED (ok)
            3s   SIGKILL to tree of web
            3s web: waiting for db (stopped)
            3s db STOPPED, web WAITING
        "#]],
    );
}
