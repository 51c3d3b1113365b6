//! Programs that do not run while somebody holds a lock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use expect_test::{Expect, expect};
use mini_supervisor::model::*;

use super::{play_sites, with};
use crate::site_builder::{name, on, program, site};

/// A reading of a lock: `free`, `held` by root, by a `stranger`, or `unknown`.
pub(super) fn reading(what: &str) -> Reading {
    let held = |uid: u32| Level::Raised {
        file: FileId { device: 1, inode: 1 },
        owner: 0,
        holders: vec![Holder {
            pid: 77,
            start_time: 5,
            uids: [uid; 4],
            gids: Vec::new(),
            command: "backup".into(),
        }],
    };
    let level = match what {
        "free" => Level::Clear,
        "held" => held(0),
        "stranger" => held(4711),
        _ => Level::Unknown("EACCES".into()),
    };
    Reading { level, info: None }
}

pub(super) fn backup() -> Semaphore {
    let watched = Watched {
        probe: LockProbe::Auto,
        kind: SemaphoreKind::Flock,
        path: "/dev/shm/backup.lock".into(),
        info_file: None,
        info_keys: BTreeMap::new(),
        poll_interval: Duration::from_secs(5),
        owner: None,
        mode: Mode(0o600),
    };
    Semaphore {
        name: name("backup"),
        description: None,
        watched: Arc::new(watched),
        allow: Who { users: Box::new([0]), groups: Box::default() },
        latch: false,
        debounce: Duration::ZERO,
        delay: Duration::from_secs(1000),
        min_uptime: Duration::ZERO,
        rate_limit: None,
        removes: false,
        windows: Box::default(),
        cases: Box::default(),
        deed: Deed::Reload,
    }
}

fn free() -> Dependency {
    Dependency { target: Target::Semaphore(name("backup")), condition: Condition::Ready }
}

fn of(programs: impl IntoIterator<Item = Program>) -> Site {
    let mut site = site(programs);
    site.semaphores.insert(name("backup"), Arc::new(backup()));
    site
}

fn check(programs: impl IntoIterator<Item = Program>, script: &str, then: &Expect) {
    then.assert_eq(&play_sites(vec![of(programs)], script));
}

fn db() -> Program {
    with(program("db"), |p| p.requires = Box::new([free()]))
}

#[test]
fn a_program_waits_until_the_lock_is_free_and_goes_while_somebody_holds_it() {
    check(
        [db()],
        "boot; 1s lock backup free; 5s lock backup held; 6s end db TERM; 7s state; \
         9s lock backup free; 10s state",
        &expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:backup
            0s db: waiting for semaphore:backup (it cannot be told)
            1s semaphore:backup: armed
            1s   spawn db command
            1s db: started (pid 1)
            1s db: ready
            5s semaphore:backup: raised by backup (pid 77, uid 0); acts in 16m40s (delay)
            5s db: stopping (a semaphore that has to be free is raised)
            5s   SIGTERM to main of db
            6s   SIGKILL to tree of db
            6s db: waiting for semaphore:backup (raised by backup (pid 77, uid 0))
            7s db WAITING
            9s semaphore:backup: cancelled: it is no longer raised
            9s   spawn db command
            9s db: started (pid 2)
            9s db: ready
            10s db RUNNING
        "#]],
    );
}

#[test]
fn what_needs_it_goes_first_and_comes_back_behind_it() {
    check(
        [db(), with(program("web"), |p| p.requires = Box::new([on("db")]))],
        "boot; lock backup free; 5s lock backup held; 6s end web TERM; end db TERM; \
         9s lock backup free",
        &expect![[r#"
            0s supervising 2 programs
            0s   watch semaphore:backup
            0s db: waiting for semaphore:backup (it cannot be told)
            0s web: waiting for db (waiting)
            0s semaphore:backup: armed
            0s   spawn db command
            0s db: started (pid 1)
            0s db: ready
            0s   spawn web command
            0s web: started (pid 2)
            0s web: ready
            5s semaphore:backup: raised by backup (pid 77, uid 0); acts in 16m40s (delay)
            5s web: stopping (something it requires is down)
            5s   SIGTERM to main of web
            6s   SIGKILL to tree of web
            6s db: stopping (a semaphore that has to be free is raised)
            6s   SIGTERM to main of db
            6s web: waiting for db (stopping)
            6s   SIGKILL to tree of db
            6s db: waiting for semaphore:backup (raised by backup (pid 77, uid 0))
            9s semaphore:backup: cancelled: it is no longer raised
            9s   spawn db command
            9s db: started (pid 3)
            9s db: ready
            9s   spawn web command
            9s web: started (pid 4)
            9s web: ready
        "#]],
    );
}

#[test]
fn nothing_starts_and_nothing_is_stopped_while_it_cannot_be_told() {
    check(
        [db()],
        "boot; lock backup unknown; 1s state; 2s lock backup free; 3s lock backup unknown; \
         4s state; 5s end db 1; 9s state; 10s lock backup free",
        &expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:backup
            0s db: waiting for semaphore:backup (it cannot be told)
            0s semaphore:backup: nothing is done, as it cannot be told: EACCES
            1s db WAITING
            2s semaphore:backup: clear
            2s   spawn db command
            2s db: started (pid 1)
            2s db: ready
            3s semaphore:backup: nothing is done, as it cannot be told: EACCES
            4s db RUNNING
            5s db: exit 1 after 3s
            5s   SIGKILL to tree of db
            5s db: exit 1; attempt 2 in 0.5s
            5500ms db: waiting for semaphore:backup (it cannot be told)
            9s db WAITING
            10s semaphore:backup: clear
            10s   spawn db command
            10s db: started (pid 2)
            10s db: ready
        "#]],
    );
}

#[test]
fn whoever_may_not_raise_it_holds_nobody_back() {
    check(
        [db()],
        "boot; lock backup stranger; 1s state",
        &expect![[r#"
        0s supervising 1 program
        0s   watch semaphore:backup
        0s db: waiting for semaphore:backup (it cannot be told)
        0s semaphore:backup: refused: uid 4711 may not (pid 77: backup)
        0s   spawn db command
        0s db: started (pid 1)
        0s db: ready
        1s db RUNNING
    "#]],
    );
}

#[test]
fn who_only_wants_it_free_waits_for_its_start_timeout_and_is_not_stopped() {
    let web = with(program("web"), |p| p.wants = Box::new([free()]));
    check(
        [web],
        "boot; lock backup held; 1s state; 91s state; 92s lock backup free; lock backup held; state",
        &expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:backup
            0s web: waiting for semaphore:backup (it cannot be told)
            0s semaphore:backup: raised by backup (pid 77, uid 0); acts in 16m40s (delay)
            1s web WAITING
            90s   spawn web command
            90s web: started (pid 1)
            90s web: ready
            91s web RUNNING
            92s semaphore:backup: cancelled: it is no longer raised
            92s semaphore:backup: raised by backup (pid 77, uid 0); acts in 16m40s (delay)
            92s web RUNNING
        "#]],
    );
}

#[test]
fn a_held_lock_does_not_hold_up_whoever_waits_for_the_site() {
    check(
        [db(), program("web")],
        "boot; summary; 1s lock backup held; summary",
        &expect![[r#"
            0s supervising 2 programs
            0s   watch semaphore:backup
            0s   spawn web command
            0s db: waiting for semaphore:backup (it cannot be told)
            0s web: started (pid 1)
            0s web: ready
            0s 1/2 running; waiting: db [not coming up]
            1s semaphore:backup: raised by backup (pid 77, uid 0); acts in 16m40s (delay)
            1s 1/2 running; waiting: db [up]
        "#]],
    );
}

#[test]
fn a_reload_binds_a_program_that_runs() {
    let then = expect![[r#"
        0s supervising 1 program
        0s   watch semaphore:backup
        0s   spawn db command
        0s db: started (pid 1)
        0s db: ready
        0s semaphore:backup: raised by backup (pid 77, uid 0); acts in 16m40s (delay)
        1s   reconfigure db
        1s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        1s   reply 100: { added: [], removed: [], restarted: [], next_start: [], live: [("db", ["requires"])], supervisor: [], dry_run: false, warnings: [] }
        1s db: stopping (a semaphore that has to be free is raised)
        1s   SIGTERM to main of db
        2s   SIGKILL to tree of db
        2s db: waiting for semaphore:backup (raised by backup (pid 77, uid 0))
        3s db WAITING
    "#]];
    let sites = vec![of([program("db")]), of([db()])];
    then.assert_eq(&play_sites(
        sites,
        "boot; lock backup held; 1s load 1; 2s end db TERM; 3s state",
    ));
}

#[test]
fn a_site_that_ends_with_its_programs_does_not_end_while_one_waits_for_a_lock() {
    let mut site = of([with(db(), |p| p.kind = ProgramType::Oneshot { remain: false })]);
    site.supervisor.exit_when = Some(ExitWhen::AllExited);
    let then = expect![[r#"
        0s supervising 1 program
        0s   watch semaphore:backup
        0s db: waiting for semaphore:backup (it cannot be told)
        0s semaphore:backup: armed
        0s   spawn db command
        0s db: started (pid 1)
        1s semaphore:backup: raised by backup (pid 77, uid 0); acts in 16m40s (delay)
        1s db: stopping (a semaphore that has to be free is raised)
        1s   SIGTERM to main of db
        2s   SIGKILL to tree of db
        2s db: waiting for semaphore:backup (raised by backup (pid 77, uid 0))
        3s semaphore:backup: cancelled: it is no longer raised
        3s   spawn db command
        3s db: started (pid 2)
        4s db: exit 0 after 1s
        4s   SIGKILL to tree of db
        4s db: completed
        4s stopping the site (no program runs or will run again)
        4s   EXIT 0
    "#]];
    let script = "boot; lock backup free; 1s lock backup held; 2s end db TERM; 3s lock backup free; \
                  4s end db 0";
    then.assert_eq(&play_sites(vec![site], script));
}
