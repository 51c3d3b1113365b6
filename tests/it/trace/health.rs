//! How a program is: looks at it, what they find, and what follows.

use std::{sync::Arc, time::Duration};

use expect_test::expect;
use mini_supervisor::{engine::Event, model::*};

use super::{Story, check, play_sites, with};
use crate::site_builder::{on, program, site};

impl Story {
    /// `look web good`, `look web 503`, `keep web` (this look) and later `late web 503`;
    /// `words web WORD`, `health web`.
    pub(super) fn word_of_health(&mut self, words: &[&str]) -> bool {
        match words {
            [kind @ ("look" | "late"), who, found] => {
                let key = if *kind == "late" { "old" } else { "look" };
                let run = self.runs[&format!("{who} {key}")];
                let sample = match *found {
                    "good" => Sample::Good,
                    "unknown" => Sample::Unknown("no thread".into()),
                    why => Sample::Bad(why.into()),
                };
                let program = self.engine.names()[*who];
                self.give(Event::Probed { program, run, sample });
            }
            ["keep", who] => {
                let run = self.runs[&format!("{who} look")];
                self.runs.insert(format!("{who} old"), run);
            }
            ["words", who, said] => {
                let (program, run) = (self.engine.names()[*who], self.runs[&format!("{who}/")]);
                self.give(Event::LastWords { program, run, words: (*said).into() });
            }
            ["health", who] => {
                let slot = self.engine.slot(self.engine.names()[*who]).unwrap();
                let status = self.engine.status_of(slot, self.now, WallTime(self.wall));
                let words = status.health.unwrap_or_else(|| "nothing known".to_owned());
                self.line(&format!("{who} {:?}, {words}, {}", status.healthy, status.reason));
            }
            _ => return false,
        }
        true
    }
}

fn checked(on_failure: OnUnhealthy) -> HealthCheck {
    HealthCheck {
        probe: Probe::Tcp("localhost:80".into()),
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(5),
        retries: 3,
        start_period: Duration::ZERO,
        on_failure,
    }
}

fn web(on_failure: OnUnhealthy) -> Program {
    with(program("web"), |p| p.health = Some(Arc::new(checked(on_failure))))
}

#[test]
fn three_failures_in_a_row_start_it_again_as_a_failure_of_its_own() {
    check(
        [web(OnUnhealthy::Restart)],
        "0s boot; 1s look web good; health web; 32s look web 503; 40s health web; 63s look web 502; \
         94s look web 500; 95s end web TERM; health web; 96s state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s   look at web, Health
            1s web: healthy
            1s web Some(true), healthy, running since 1970-01-01T00:00:00.000Z
            31s   look at web, Health
            32s web: health check failed (1 of 3): 503
            40s web Some(true), failing (1 of 3): 503, running since 1970-01-01T00:00:00.000Z
            62s   look at web, Health
            93s   look at web, Health
            94s web: unhealthy: its health check failed 3 times: 500
            94s web: stopping (its health check failed 3 times)
            94s   SIGTERM to main of web
            95s   SIGKILL to tree of web
            95s web: its health check failed 3 times; attempt 2 in 0.5s
            95s web None, nothing known, its health check failed 3 times after 1m35s; 500
            95500ms   spawn web command
            95500ms web: started (pid 2)
            95500ms web: ready
            95500ms   look at web, Health
            96s web RUNNING
        "#]],
    );
}

#[test]
fn the_first_look_brings_only_good_news_and_so_does_the_start_period() {
    let slow = |p: &mut Program| {
        let mut health = checked(OnUnhealthy::Restart);
        (health.retries, health.start_period) = (1, Duration::from_secs(60));
        p.health = Some(Arc::new(health));
    };
    check(
        [with(program("db"), slow)],
        "0s boot; 1s look db refused; health db; 32s look db refused; 63s look db refused; \
         64s end db TERM",
        expect![[r#"
            0s supervising 1 program
            0s   spawn db command
            0s db: started (pid 1)
            0s db: ready
            0s   look at db, Health
            1s db None, not known to be healthy yet: refused, running since 1970-01-01T00:00:00.000Z
            31s   look at db, Health
            62s   look at db, Health
            63s db: unhealthy: its health check failed: refused
            63s db: stopping (its health check failed)
            63s   SIGTERM to main of db
            64s   SIGKILL to tree of db
            64s db: its health check failed; attempt 2 in 0.5s
        "#]],
    );
    // A good one ends it.
    check(
        [with(program("db"), slow)],
        "0s boot; 1s look db refused; 32s look db good; 63s look db refused; 64s end db TERM",
        expect![[r#"
            0s supervising 1 program
            0s   spawn db command
            0s db: started (pid 1)
            0s db: ready
            0s   look at db, Health
            31s   look at db, Health
            32s db: healthy
            62s   look at db, Health
            63s db: unhealthy: its health check failed: refused
            63s db: stopping (its health check failed)
            63s   SIGTERM to main of db
            64s   SIGKILL to tree of db
            64s db: its health check failed; attempt 2 in 0.5s
        "#]],
    );
}

#[test]
fn what_cannot_be_looked_at_neither_counts_nor_ends_a_row() {
    check(
        [web(OnUnhealthy::Restart)],
        "0s boot; 1s look web good; 32s look web 503; 63s look web unknown; health web; \
         94s look web unknown; 125s look web 503; 156s look web good; health web; 400s state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s   look at web, Health
            1s web: healthy
            31s   look at web, Health
            32s web: health check failed (1 of 3): 503
            62s   look at web, Health
            63s web: its health cannot be told, so nothing is done: no thread
            63s web Some(true), failing (1 of 3): 503; not told by the last check: no thread, running since 1970-01-01T00:00:00.000Z
            93s   look at web, Health
            124s   look at web, Health
            155s   look at web, Health
            156s web: healthy again
            156s web Some(true), healthy, running since 1970-01-01T00:00:00.000Z
            186s   look at web, Health
            192s   look no more
            192s web: its health cannot be told, so nothing is done: tcp localhost:80: nobody has come back from there: a host name, a file system or too many other looks hang
            222s   look at web, Health
            228s   look no more
            258s   look at web, Health
            264s   look no more
            294s   look at web, Health
            300s   look no more
            330s   look at web, Health
            336s   look no more
            366s   look at web, Health
            372s   look no more
            400s web RUNNING
        "#]],
    );
}

#[test]
fn a_thread_that_does_not_come_back_says_nothing() {
    check(
        [web(OnUnhealthy::Restart)],
        "0s boot; keep web; 7s health web; 8s late web 503; health web; 36s keep web; \
         37s exit web 1; gone web; 39s late web good; health web",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s   look at web, Health
            6s   look no more
            6s web: its health cannot be told, so nothing is done: tcp localhost:80: nobody has come back from there: a host name, a file system or too many other looks hang
            7s web None, not known to be healthy yet; not told by the last check: tcp localhost:80: nobody has come back from there: a host name, a file system or too many other looks hang, running since 1970-01-01T00:00:00.000Z
            8s web None, not known to be healthy yet; not told by the last check: tcp localhost:80: nobody has come back from there: a host name, a file system or too many other looks hang, running since 1970-01-01T00:00:00.000Z
            36s   look at web, Health
            37s web: exit 1 after 37s
            37s   SIGKILL to tree of web
            37s   look no more
            37s web: exit 1; attempt 2 in 0.5s
            37500ms   spawn web command
            37500ms web: started (pid 2)
            37500ms web: ready
            37500ms   look at web, Health
            39s web None, not known to be healthy yet, running since 1970-01-01T00:00:00.000Z
        "#]],
    );
}

#[test]
fn an_unhealthy_program_can_be_given_up_or_left_alone() {
    let once = |on_failure| {
        with(program("web"), |p| {
            let health = HealthCheck { retries: 1, ..checked(on_failure) };
            p.health = Some(Arc::new(health));
        })
    };
    check(
        [once(OnUnhealthy::Stop)],
        "0s boot; 1s look web good; 32s look web 503; 33s end web TERM; health web; 400s state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s   look at web, Health
            1s web: healthy
            31s   look at web, Health
            32s web: unhealthy: its health check failed: 503
            32s web: stopping (its health check failed)
            32s   SIGTERM to main of web
            33s   SIGKILL to tree of web
            33s web: given up (its health check failed)
            33s web None, nothing known, given up (its health check failed); 503
            400s web FATAL
        "#]],
    );
    check(
        [once(OnUnhealthy::None)],
        "0s boot; 1s look web good; 32s look web 503; health web; 63s look web 502; \
         94s look web good; health web",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s   look at web, Health
            1s web: healthy
            31s   look at web, Health
            32s web: unhealthy: its health check failed: 503
            32s web Some(false), unhealthy (1 of 1): 503, running since 1970-01-01T00:00:00.000Z
            62s   look at web, Health
            93s   look at web, Health
            94s web: healthy again
            94s web Some(true), healthy, running since 1970-01-01T00:00:00.000Z
        "#]],
    );
}

#[test]
fn who_waits_for_its_health_starts_when_that_is_known() {
    let mut app = program("app");
    app.requires = Box::new([Dependency { condition: Condition::Healthy, ..on("web") }]);
    check(
        [app, web(OnUnhealthy::None)],
        "0s boot; 1s look web 503; 32s look web good",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn web command
            0s app: waiting for web (starting)
            0s web: started (pid 1)
            0s web: ready
            0s   look at web, Health
            31s   look at web, Health
            32s web: healthy
            32s   spawn app command
            32s app: started (pid 2)
            32s app: ready
        "#]],
    );
}

#[test]
fn a_command_that_looks_has_its_time_and_leaves_nothing() {
    let by_command = |p: &mut Program| {
        let mut health = checked(OnUnhealthy::Restart);
        (health.retries, health.probe) = (2, Probe::Command(Box::new(["check".into()])));
        p.health = Some(Arc::new(health));
    };
    check(
        [with(program("web"), by_command)],
        "0s boot; 1s end web/ 0; 32s words web gone; exit web/ 3; health web; 33s gone web/; \
         70s exit web KILL; 71s gone web; 72s exit web/ KILL; gone web/; 73s state",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s   spawn web health check
            1s   SIGKILL to tree of web
            1s web: healthy
            31s   spawn web health check
            32s   SIGKILL to tree of web
            32s web: health check failed (1 of 2): command check: exit 3: gone
            32s web Some(true), failing (1 of 2): command check: exit 3: gone, running since 1970-01-01T00:00:00.000Z
            33s   SIGKILL to tree of web
            62s   spawn web health check
            67s   SIGKILL to tree of web
            67s web: unhealthy: its health check failed 2 times: command check: no end within 5s
            67s web: stopping (its health check failed 2 times)
            67s   SIGTERM to main of web
            68s   SIGKILL to tree of web
            70s   SIGKILL to tree of web
            70s   SIGKILL to tree of web
            71s   SIGKILL to tree of web
            72s   SIGKILL to tree of web
            72s web: its health check failed 2 times; attempt 2 in 0.5s
            72500ms   spawn web command
            72500ms web: started (pid 5)
            72500ms web: ready
            72500ms   spawn web health check
            73s web RUNNING
        "#]],
    );
    // What could not even be executed says nothing.
    check(
        [with(program("web"), by_command)],
        "0s manual; boot; spawned web; fails web/ ENOENT; health web; 31s spawned web/; \
         32s stop web; 33s end web TERM; 34s end web/ KILL",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s   spawn web health check
            0s web: its health cannot be told, so nothing is done: command check: cannot start: ENOENT
            0s web None, not known to be healthy yet; not told by the last check: command check: cannot start: ENOENT, running since 1970-01-01T00:00:00.000Z
            30s   spawn web health check
            32s stop web (asked by uid 0, pid 0)
            32s   SIGKILL to tree of web
            32s web: stopping (asked)
            32s   SIGTERM to main of web
            33s   SIGKILL to tree of web
            33s   SIGKILL to tree of web
            34s   SIGKILL to tree of web
            34s web: stopped
            34s   reply 1: web STOPPED (ok)
        "#]],
    );
}

#[test]
fn other_settings_begin_anew() {
    let other = with(program("web"), |p| {
        let health = HealthCheck { retries: 1, ..checked(OnUnhealthy::Restart) };
        p.health = Some(Arc::new(health));
    });
    let none = program("web");
    let sites = vec![site([web(OnUnhealthy::Restart)]), site([other]), site([none])];
    let script = "0s boot; 1s look web good; 31s keep web; 32s load 1; late web 503; health web; \
                  33s look web 503; health web; 34s load 2; health web; 100s state";
    expect![[r#"
        0s supervising 1 program
        0s   spawn web command
        0s web: started (pid 1)
        0s web: ready
        0s   look at web, Health
        1s web: healthy
        31s   look at web, Health
        32s   reconfigure web
        32s   look no more
        32s   look at web, Health
        32s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        32s   reply 100: { added: [], removed: [], restarted: [], next_start: [], live: [("web", ["health"])], supervisor: [], dry_run: false, warnings: [] }
        32s web None, not known to be healthy yet, running since 1970-01-01T00:00:00.000Z
        33s web None, not known to be healthy yet: 503, running since 1970-01-01T00:00:00.000Z
        34s   reconfigure web
        34s reloaded: 0 added, 0 removed, 0 restarted, 1 changed
        34s   reply 100: { added: [], removed: [], restarted: [], next_start: [], live: [("web", ["health"])], supervisor: [], dry_run: false, warnings: [] }
        34s web None, nothing known, running since 1970-01-01T00:00:00.000Z
        100s web RUNNING
    "#]].assert_eq(&play_sites(sites, script));
}

#[test]
fn readiness_is_found_by_looking_until_it_is() {
    let found = with(program("web"), |p| {
        let probe = Probe::Tcp("localhost:80".into());
        let by = ReadyBy::Probe { probe, interval: Duration::from_secs(1) };
        p.readiness = Some(Box::new(Readiness { by, timeout: None }));
    });
    let mut app = program("app");
    app.requires = Box::new([on("web")]);
    check(
        [app, found.clone()],
        "0s boot; 500ms look web refused; health web; 1600ms look web 503; health web; \
         2700ms look web good; 3s state",
        expect![[r#"
            0s supervising 2 programs
            0s   spawn web command
            0s app: waiting for web (starting)
            0s web: started (pid 1)
            0s   look at web, Readiness
            500ms web: not ready: refused
            500ms web None, nothing known, not ready yet: refused
            1500ms   look at web, Readiness
            1600ms web None, nothing known, not ready yet: 503
            2600ms   look at web, Readiness
            2700ms web: ready
            2700ms   spawn app command
            2700ms app: started (pid 2)
            2700ms app: ready
            3s app RUNNING, web RUNNING
        "#]],
    );
    check(
        [with(found, |p| p.start_timeout = Limit::After(Duration::from_secs(3)))],
        "0s boot; 500ms look web refused; 1600ms look web 503; 4s end web TERM; health web",
        expect![[r#"
            0s supervising 1 program
            0s   spawn web command
            0s web: started (pid 1)
            0s   look at web, Readiness
            500ms web: not ready: refused
            1500ms   look at web, Readiness
            2600ms   look at web, Readiness
            3s web: not ready within 3s
            3s web: stopping (it was not ready in its time)
            3s   SIGTERM to main of web
            3s   look no more
            4s   SIGKILL to tree of web
            4s web: it was not ready in its time; attempt 2 in 0.5s
            4s web None, nothing known, it was not ready in its time after 4s; 503
        "#]],
    );
}
