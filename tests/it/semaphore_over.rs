//! Stories of `semaphore`: what is over is no request again, whatever comes between.

use std::{sync::Arc, time::Duration};

use expect_test::expect;
use mini_supervisor::{
    engine::SemaphoreSlot,
    model::{Instant, RateLimit, WallTime},
};

use super::semaphore::{as_file, check, reading, settings};

#[test]
fn a_file_that_could_not_be_looked_at_first_is_no_request_either() {
    check(
        settings(as_file),
        "0s unknown; 1s file 1000; 2s file 1000; 3s free; 4s file 1000",
        &expect![[r#"
            0s nothing is done, as it cannot be told: EACCES
            1s left over from before the start: no request
            3s clear
            4s raised by the file of uid 1000
            4s does reload
            4s DO reload
            4s remove Some(3) None
        "#]],
    );
}

#[test]
fn what_trails_behind_a_served_raise_is_no_request_though_it_cannot_be_told_for_a_moment() {
    check(
        settings(|_| ()),
        "0s free; 1s held 1000; 2s unknown info 5 1000; 3s free info 5 1000; 30s free info 5 1000",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000)
            1s does reload
            1s DO reload
            1s remove Some(1) None
            2s who has raised it says name=Tigro
            2s remove None Some(900)
            2s nothing is done, as it cannot be told: EACCES
            3s clear
        "#]],
    );
}

#[test]
fn an_info_file_that_is_written_in_two_steps_is_one_request() {
    check(
        settings(|_| ()),
        "0s free; 1s free info 5 1000; 1.1s free info 6 1000; 30s free info 6 1000",
        &expect![[r#"
            0s armed
            1s raised by uid 1000: name=Tigro
            1s does reload
            1s DO reload
            1s remove None Some(900)
            1.1s who has raised it says name=Tigro
            1.1s remove None Some(900)
            1.1s clear
        "#]],
    );
}

#[test]
fn what_trails_behind_a_cancelled_raise_is_no_request() {
    check(
        settings(|s| s.delay = Duration::from_secs(60)),
        "0s free; 1s held 1000; 2s cancel; 3s free; 4s free info 5 1000; 99s free info 5 1000",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000); acts in 1m (delay)
            2s cancelled: somebody
            2s remove Some(1) None
            4s who has raised it says name=Tigro
            4s remove None Some(900)
        "#]],
    );
}

#[test]
fn a_reload_that_lets_less_people_ask_counts_for_what_is_pending() {
    check(
        settings(|s| s.delay = Duration::from_secs(60)),
        "0s free; 1s held 1000; 2s now allow; 99s held 1000",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000); acts in 1m (delay)
            2s refused: uid 1000 may not (pid 77: bot)
        "#]],
    );
}

#[test]
fn a_reload_does_not_serve_again_what_was_served() {
    check(
        settings(|_| ()),
        "0s free; 1s held 1000; 2s now poll_interval; 3s held 1000; 4s free; 5s held 1000",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000)
            1s does reload
            1s DO reload
            1s remove Some(1) None
            4s clear
            5s raised by bot (pid 77, uid 1000)
            5s does reload
            5s DO reload
            5s remove Some(1) None
        "#]],
    );
}

#[test]
fn another_path_does_not_get_around_the_rate_limit() {
    check(
        settings(|s| {
            s.rate_limit = Some(RateLimit { burst: 1, interval: Duration::from_secs(100) });
            s.delay = Duration::from_secs(10);
        }),
        "0s free; 1s held 1000; 12s free; 13s held 1000; 14s now path; 15s again 1000; 200s free",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000); acts in 10s (delay)
            11s does reload
            11s DO reload
            11s remove Some(1) None
            12s clear
            13s raised by bot (pid 77, uid 1000); acts in 1m38s (rate_limit)
            14s cancelled: the site has another file for it
            15s raised by bot (pid 77, uid 1000); acts in 1m36s (rate_limit)
            111s does reload
            111s DO reload
            111s remove Some(2) None
            200s clear
        "#]],
    );
}

#[test]
fn what_was_done_before_the_start_counts_and_a_clock_that_was_set_makes_it_no_older() {
    let limited = |wall: i64| {
        let settings = settings(|s| {
            s.rate_limit = Some(RateLimit { burst: 2, interval: Duration::from_secs(100) });
        });
        let mut slot = SemaphoreSlot::new(Arc::new(settings), Instant(0));
        let done = [30_000, 60_000].map(WallTime);
        let (now, wall) = (Instant(0), WallTime(wall));
        slot.recall(&done, (now, wall));
        let mut effects = Vec::new();
        slot.seen(reading(&["free"]), (now, wall), &mut effects);
        slot.seen(reading(&["held", "1000"]), (now, wall), &mut effects);
        slot.deadline().map(|at| at.since(now).as_secs())
    };
    assert_eq!(limited(70_000), Some(60), "the older one is 40s old");
    assert_eq!(limited(131_000), None, "only one of them still counts");
    assert_eq!(limited(10_000), Some(100), "both are of the future: they count from now on");
}

#[test]
fn what_the_signaller_writes_after_it_was_served_is_no_second_request() {
    check(
        settings(|_| ()),
        "0s free; 1s held 1000; 1.1s free; 1.2s free info 5 1000; 1.3s free; 1.4s free info 6 4711;
         20s free info 9 1000",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000)
            1s does reload
            1s DO reload
            1s remove Some(1) None
            1.1s clear
            1.2s who has raised it says name=Tigro
            1.2s remove None Some(900)
            1.4s who has raised it says name=Tigro
            20s raised by uid 1000: name=Tigro
            20s does reload
            20s DO reload
            20s remove None Some(900)
        "#]],
    );
}

#[test]
fn what_is_written_late_is_no_second_request_because_a_stranger_held_the_lock_when_it_was_seen() {
    check(
        settings(|_| ()),
        "0s free; 1s held 1000; 1.1s free; 1.2s as 4711 info 5 1000; 20s free info 5 1000",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000)
            1s does reload
            1s DO reload
            1s remove Some(1) None
            1.1s clear
            1.2s who has raised it says name=Tigro
            1.2s remove None Some(900)
            1.2s refused: uid 1000 as uid 4711 may not (pid 77: bot)
            20s clear
        "#]],
    );
}
