//! When stale files in /dev/shm are removed.

use std::time::Duration;

use expect_test::expect;
use mini_supervisor::model::{Limit, ShmMoment, ShmRule, Site};

use super::{check, db_and_web, play_sites, with};
use crate::site_builder::{hook, name, program, site};

const BOTH: [ShmMoment; 2] = [ShmMoment::Before, ShmMoment::After];

fn rule(when: &[ShmMoment]) -> ShmRule {
    let remove = Box::new(["web_*".into()]);
    ShmRule { remove, when: when.into(), owner: 0, older_than: None, dry_run: false }
}

fn tidy(when: &[ShmMoment]) -> mini_supervisor::model::Program {
    with(program("web"), |p| p.shm = Some(Box::new(rule(when))))
}

fn tidy_site(when: &[ShmMoment]) -> Site {
    let mut site = site(db_and_web());
    site.shm.insert(name("old"), rule(when));
    site
}

#[test]
fn a_start_waits_for_it_and_so_does_the_end_of_a_run() {
    check(
        [with(tidy(&BOTH), |p| {
            p.start_pre = Box::new([hook(Duration::from_secs(5))]);
            p.stop_post = Box::new([hook(Duration::from_secs(5))]);
        })],
        "0s manual; boot; 1s tidied web; auto; spawned web/; end web/ 0; 2s manual; exit web 1; \
         gone web; spawned web/; end web/ 0; 3s state; tidied web; state; 4s tidied web; state",
        expect![[r#"
            0s supervising 1 program
            0s   tidy web Before
            1s   spawn web start_pre[0]
            1s   SIGKILL to tree of web
            1s   spawn web command
            1s web: started (pid 2)
            1s web: ready
            2s web: exit 1 after 1s
            2s   SIGKILL to tree of web
            2s   spawn web stop_post[0]
            2s   SIGKILL to tree of web
            2s   tidy web After
            3s web STOPPING
            3s web: exit 1; attempt 2 in 0.5s
            3s web BACKOFF
            3500ms   tidy web Before
            4s   spawn web start_pre[0]
            4s web STARTING
        "#]],
    );
}

#[test]
fn a_stop_while_it_is_under_way_does_not_wait() {
    check(
        [tidy(&[ShmMoment::Before])],
        "0s manual; boot; 1s stop web; state; 2s tidied web; state",
        expect![[r#"
            0s supervising 1 program
            0s   tidy web Before
            1s stop web (asked by uid 0, pid 0)
            1s   tidy no more
            1s web: stopped
            1s   reply 1: web STOPPED (ok)
            1s web STOPPED
            2s web STOPPED
        "#]],
    );
}

#[test]
fn a_restart_while_it_is_under_way_begins_again() {
    check(
        [tidy(&BOTH)],
        "0s manual; boot; 1s restart web; 2s tidied web; 3s tidied web; state",
        expect![[r#"
            0s supervising 1 program
            0s   tidy web Before
            1s restart web (asked by uid 0, pid 0)
            1s   tidy no more
            1s   tidy web After
            2s   tidy web Before
            3s   spawn web command
            3s web STARTING
        "#]],
    );
}

#[test]
fn a_start_after_the_end_waits_for_the_end() {
    check(
        [tidy(&[ShmMoment::After])],
        "0s boot; manual; 1s stop web; end web TERM; 2s start web; state; 3s tidied web",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            1s stop web (asked by uid 0, pid 0)
            1s web: stopping (asked)
            1s   SIGTERM to main of web
            1s   SIGKILL to tree of web
            1s   tidy web After
            2s start web (asked by uid 0, pid 0)
            2s   reply 1: web STOPPING (not ok)
            2s web STOPPING
            3s   spawn web command
        "#]],
    );
}

#[test]
fn what_takes_half_of_the_time_to_start_is_left() {
    check(
        [with(tidy(&[ShmMoment::Before]), |p| {
            p.start_timeout = Limit::After(Duration::from_secs(20));
        })],
        "0s manual; boot; 11s tidied web; 12s spawned web; state",
        expect![[r#"
            0s supervising 1 program
            0s   tidy web Before
            10s   tidy no more
            10s web: shm: the look for stale files takes too long; going on without it
            10s   spawn web command
            12s web: started (pid 1)
            12s web: ready
            12s web RUNNING
        "#]],
    );
}

#[test]
fn a_kill_at_the_end_of_a_run_does_not_wait_for_it() {
    check(
        [tidy(&[ShmMoment::After])],
        "0s boot; manual; 1s term; end web TERM; 2s state; quit; state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            1s stopping the site (signal)
            1s web: stopping (shutdown)
            1s   SIGTERM to main of web
            1s   SIGKILL to tree of web
            1s   tidy web After
            2s web STOPPING
            2s killing what is left: 1 program
            2s   tidy no more
            2s web: stopped
            2s   EXIT 0
            2s web STOPPED
        "#]],
    );
}

#[test]
fn files_of_the_site_go_before_the_first_start_and_after_the_last_stop() {
    let site = tidy_site(&BOTH);
    expect![[r#"
        0s supervising 2 programs
        0s   tidy site Before
        0s db WAITING, web WAITING
        1s   spawn db command
        1s web: waiting for db (starting)
        1s db: started (pid 1)
        1s db: ready
        1s   spawn web command
        1s web: started (pid 2)
        1s web: ready
        2s stopping the site (signal)
        2s web: stopping (shutdown)
        2s   SIGTERM to main of web
        2s   SIGKILL to tree of web
        2s web: stopped
        2s db: stopping (shutdown)
        2s   SIGTERM to main of db
        2s   SIGKILL to tree of db
        2s db: stopped
        2s   tidy site After
        3s   EXIT 0
    "#]]
    .assert_eq(&play_sites(
        vec![site],
        "0s manual; boot; state; 1s auto; tidied site; \
            2s manual; term; end web TERM; end db TERM; 3s tidied site",
    ));
}

#[test]
fn a_stop_before_the_first_start_leaves_the_files_of_the_site() {
    let site = tidy_site(&[ShmMoment::Before]);
    expect![[r#"
        0s supervising 2 programs
        0s   tidy site Before
        1s   tidy no more
        1s stopping the site (signal)
        1s db: stopped
        1s web: stopped
        1s   EXIT 0
    "#]]
    .assert_eq(&play_sites(vec![site], "0s manual; boot; 1s term; tidied site"));
}

#[test]
fn files_of_the_site_are_not_waited_for_without_end() {
    let mut site = tidy_site(&BOTH);
    site.supervisor.shutdown_timeout = Some(Duration::from_secs(8));
    site.programs.remove(&name("web"));
    expect![[r#"
        0s supervising 1 program
        0s   tidy site Before
        30s   tidy no more
        30s shm: the look for stale files takes too long; going on without it
        30s   spawn db command
        31s db: started (pid 1)
        31s db: ready
        40s stopping the site (signal)
        40s db: stopping (shutdown)
        40s   SIGTERM to main of db
        40s   SIGKILL to tree of db
        40s db: stopped
        40s   tidy site After
        46s   tidy no more
        46s shm: the look for stale files takes too long; going on without it
        46s   EXIT 0
        60s db STOPPED
    "#]]
    .assert_eq(&play_sites(
        vec![site],
        "0s manual; boot; 31s spawned db; 40s term; end db TERM; 60s state",
    ));
}

#[test]
fn a_site_that_ends_by_itself_has_started_first() {
    let mut site = tidy_site(&[ShmMoment::Before]);
    site.supervisor.exit_when = Some(mini_supervisor::model::ExitWhen::AllExited);
    expect![[r#"
        0s supervising 2 programs
        0s   tidy site Before
        1s db WAITING, web WAITING
    "#]]
    .assert_eq(&play_sites(vec![site], "0s manual; boot; 1s state"));
}

#[test]
fn a_new_rule_of_the_site_counts_from_the_stop_on() {
    let (old, new) = (site([program("web")]), {
        let mut new = site([program("web")]);
        new.shm.insert(name("old"), rule(&BOTH));
        new
    });
    expect![[r#"
        0s supervising 1 program
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        1s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        1s   reply 100: { added: [], removed: [], restarted: [], next_start: [], live: [("supervisor", ["shm"])], supervisor: [], dry_run: false, warnings: [] }
        2s stopping the site (signal)
        2s web: stopping (shutdown)
        2s   SIGTERM to main of web
        2s   SIGKILL to tree of web
        2s web: stopped
        2s   tidy site After
        2s   EXIT 0
    "#]]
        .assert_eq(&play_sites(vec![old, new], "0s boot; 1s load 1; 2s term; end web TERM"));
}
