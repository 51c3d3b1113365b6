//! What is asked for waits for a time of the day, in local time. The stories begin on 1970-01-01 at
//! 00:00 UTC, 01:00 there.

use std::sync::Arc;

use expect_test::{Expect, expect};
use mini_supervisor::model::*;

use super::{locks::backup, play_sites};
use crate::site_builder::{name, program, site};

/// An hour ahead of UTC, from the second day at 02:00 on two hours.
pub(super) fn zone() -> Zone {
    let hour = 3_600_000;
    let changes = vec![(WallTime(25 * hour), 7200)];
    Zone { known: (WallTime(0), WallTime(1000 * hour)), offset: 3600, changes }
}

/// `backup` restarts `web`, from 03:00 to 04:00 and in what else there is.
fn check(more: &[&str], script: &str, then: &Expect) {
    let mut site = site([program("web")]);
    let all = ["03:00-04:00"].iter().chain(more);
    let windows = all.map(|text| Window::parse(text).unwrap()).collect();
    let delay = std::time::Duration::ZERO;
    let one = Semaphore { windows, delay, deed: Deed::Restart(name("web")), ..backup() };
    site.semaphores.insert(name("backup"), Arc::new(one));
    then.assert_eq(&play_sites(vec![site], &format!("clock; zone; boot; {script}")));
}

#[test]
fn it_is_done_when_the_window_opens_and_can_be_seen_until_then() {
    check(
        &[],
        "lock backup free; 1s lock backup held; 60s asks; 7199s asks; 7200s end web TERM; \
         7300s lock backup free",
        &expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:backup
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s semaphore:backup: armed
            1s semaphore:backup: raised by backup (pid 77, uid 0); acts in 1h59m59s (its window opens at 03:00)
            60s backup (pid 77, uid 0); waits for its window at 03:00, in 1h59m
            7199s backup (pid 77, uid 0); waits for its window at 03:00, in 1s
            7200s semaphore:backup: does restart:web
            7200s web: stopping (restart)
            7200s   SIGTERM to main of web
            7200s   SIGKILL to tree of web
            7200s   spawn web command
            7200s web: started (pid 2)
            7200s web: ready
            7300s semaphore:backup: clear
        "#]],
    );
}

#[test]
fn who_lets_go_before_the_window_opens_has_cancelled() {
    check(
        &[],
        "lock backup free; 1s lock backup held; 7000s lock backup free; 8000s asks",
        &expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:backup
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s semaphore:backup: armed
            1s semaphore:backup: raised by backup (pid 77, uid 0); acts in 1h59m59s (its window opens at 03:00)
            7000s semaphore:backup: cancelled: it is no longer raised
            8000s armed
        "#]],
    );
}

#[test]
fn in_one_of_its_windows_it_is_done_at_once() {
    check(
        &["00:30-01:30"],
        "lock backup free; 1s lock backup held; 2s end web TERM",
        &expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:backup
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s semaphore:backup: armed
            1s semaphore:backup: raised by backup (pid 77, uid 0)
            1s semaphore:backup: does restart:web
            1s web: stopping (restart)
            1s   SIGTERM to main of web
            2s   SIGKILL to tree of web
            2s   spawn web command
            2s web: started (pid 2)
            2s web: ready
        "#]],
    );
}

#[test]
fn a_clock_that_is_set_forward_into_the_window_is_noticed_within_a_minute() {
    check(
        &[],
        "lock backup free; 1s lock backup held; 90s wall 2; 200s end web TERM",
        &expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:backup
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s semaphore:backup: armed
            1s semaphore:backup: raised by backup (pid 77, uid 0); acts in 1h59m59s (its window opens at 03:00)
            121s semaphore:backup: does restart:web
            121s web: stopping (restart)
            121s   SIGTERM to main of web
            131s web: still alive, sending SIGKILL
            131s   SIGKILL to tree of web
            132s   SIGKILL to tree of web
            134s   SIGKILL to tree of web
            138s   SIGKILL to tree of web
            146s   SIGKILL to tree of web
            146s web: has processes that outlive SIGKILL; waiting for them
            162s   SIGKILL to tree of web
            194s   SIGKILL to tree of web
            200s   SIGKILL to tree of web
            200s   spawn web command
            200s web: started (pid 2)
            200s web: ready
        "#]],
    );
}

#[test]
fn a_clock_that_is_set_back_has_it_wait_for_the_window_again() {
    check(
        &[],
        "lock backup free; 1s lock backup held; 7199s wall -1; 7250s asks; 10800s end web TERM",
        &expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:backup
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s semaphore:backup: armed
            1s semaphore:backup: raised by backup (pid 77, uid 0); acts in 1h59m59s (its window opens at 03:00)
            7250s backup (pid 77, uid 0); waits for its window at 03:00, in 59m10s
            10800s semaphore:backup: does restart:web
            10800s web: stopping (restart)
            10800s   SIGTERM to main of web
            10800s   SIGKILL to tree of web
            10800s   spawn web command
            10800s web: started (pid 2)
            10800s web: ready
        "#]],
    );
}

#[test]
fn what_comes_just_too_late_waits_for_the_next_day_which_has_an_hour_less() {
    check(
        &[],
        "lock backup free; 10800s lock backup held; 50000s asks; 90000s end web TERM",
        &expect![[r#"
            0s supervising 1 program
            0s   watch semaphore:backup
            0s   spawn web command
            0s web: started (pid 1)
            0s web: ready
            0s semaphore:backup: armed
            10800s semaphore:backup: raised by backup (pid 77, uid 0); acts in 22h (its window opens at 03:00)
            50000s backup (pid 77, uid 0); waits for its window at 03:00, in 11h6m40s
            90000s semaphore:backup: does restart:web
            90000s web: stopping (restart)
            90000s   SIGTERM to main of web
            90000s   SIGKILL to tree of web
            90000s   spawn web command
            90000s web: started (pid 2)
            90000s web: ready
        "#]],
    );
}
