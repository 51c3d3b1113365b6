//! One semaphore of the engine as a story: what is seen at which time, and what it wants done.
//!
//! A script is a list of words behind a time: `0s free; 1s held 1000; 9s free`. `held UID` is a lock
//! that this user holds, `as UID` one whose holder has become another, `file UID` a file of this
//! user; `info N UID` beside it is an info file written at N. `now KEY` is a reload with another
//! value of it. Deadlines are delivered when due.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

use std::{fmt::Write as _, sync::Arc, time::Duration};

use expect_test::{Expect, expect};
use mini_supervisor::{
    engine::{SemaphoreEffect, SemaphoreSlot},
    model::*,
};

const BOT: u32 = 1000;

pub(crate) fn settings(change: impl FnOnce(&mut Semaphore)) -> Semaphore {
    let watched = Watched {
        kind: SemaphoreKind::Flock,
        path: "/dev/shm/x.lock".into(),
        info_file: Some("/dev/shm/x.info".into()),
        info_keys: std::collections::BTreeMap::new(),
        poll_interval: Duration::from_secs(5),
        owner: None,
        mode: Mode(0o600),
        probe: Probe::Auto,
    };
    let mut semaphore = Semaphore {
        name: Name::new("x").unwrap(),
        description: None,
        watched: Arc::new(watched),
        allow: Who { users: Box::new([0, BOT]), groups: Box::new([20]) },
        latch: true,
        debounce: Duration::ZERO,
        delay: Duration::ZERO,
        min_uptime: Duration::ZERO,
        rate_limit: None,
        removes: true,
        windows: Box::default(),
        cases: Box::default(),
        deed: Deed::Reload,
    };
    change(&mut semaphore);
    semaphore
}

fn seconds(text: &str) -> Instant {
    let tenths: f64 = text.strip_suffix('s').unwrap().parse().unwrap();
    Instant(0) + Duration::from_secs_f64(tenths)
}

fn id(inode: u64) -> FileId {
    FileId { device: 1, inode }
}

fn holder(real: u32, effective: u32) -> Holder {
    Holder {
        pid: 77,
        start_time: 5,
        uids: [real, effective, effective, effective],
        gids: vec![if real == 1001 { 20 } else { real }],
        command: "bot".into(),
    }
}

pub(crate) fn reading(words: &[&str]) -> Reading {
    let number = |word: &str| word.parse::<u32>().unwrap();
    let mut info = None;
    if let Some(at) = words.iter().position(|word| *word == "info") {
        info = Some(Arc::new(Info {
            file: id(900),
            modified_ns: words[at + 1].parse().unwrap(),
            uid: number(words[at + 2]),
            is_private: !words.contains(&"shared"),
            fields: vec![("name".into(), "Tigro".into())],
            damage: None,
        }));
    }
    let raised = |inode: u64, owner: u32, holders: Vec<Holder>| Level::Raised {
        file: id(inode),
        owner,
        holders,
    };
    let level = match words[0] {
        "free" => Level::Clear,
        "held" => raised(1, BOT, vec![holder(number(words[1]), number(words[1]))]),
        "again" => raised(2, BOT, vec![holder(number(words[1]), number(words[1]))]),
        "as" => raised(1, BOT, vec![holder(BOT, number(words[1]))]),
        "nobody" => raised(1, BOT, Vec::new()),
        "file" => raised(3, number(words[1]), Vec::new()),
        "unknown" => Level::Unknown("EACCES".into()),
        "foreign" => Level::Foreign("it is a symbolic link".into()),
        other => panic!("{other}"),
    };
    Reading { level, info }
}

/// The settings of the next version of the site.
fn changed(old: &Semaphore, key: &str) -> Semaphore {
    let (mut new, mut watched) = (old.clone(), (*old.watched).clone());
    match key {
        "allow" => new.allow = Who { users: Box::new([0]), groups: Box::default() },
        "poll_interval" => watched.poll_interval = Duration::from_secs(1),
        "path" => watched.path = "/dev/shm/y.lock".into(),
        other => panic!("{other}"),
    }
    new.watched = Arc::new(watched);
    new
}

/// What comes of `script`, one line each.
fn play(semaphore: Semaphore, script: &str) -> String {
    let mut slot = SemaphoreSlot::new(Arc::new(semaphore), Instant(0));
    let mut text = String::new();
    let mut tell = |at: Instant, effects: &mut Vec<SemaphoreEffect>| {
        for effect in effects.drain(..) {
            let at = at.since(Instant(0)).as_secs_f64();
            match effect {
                SemaphoreEffect::Record(news) => writeln!(text, "{at}s {news}").unwrap(),
                SemaphoreEffect::Do(deed) => writeln!(text, "{at}s DO {deed}").unwrap(),
                SemaphoreEffect::Acknowledge { file, info } => {
                    let inode = |file: Option<FileId>| file.map(|file| file.inode);
                    let (file, info) = (inode(file), inode(info));
                    writeln!(text, "{at}s remove {file:?} {info:?}").unwrap();
                }
            }
        }
    };
    let mut effects = Vec::new();
    for part in script.split(';') {
        let words: Vec<&str> = part.split_whitespace().collect();
        let now = seconds(words[0]);
        while let Some(at) = slot.deadline().filter(|at| *at <= now) {
            slot.due((at, WallTime(0)), &mut effects);
            tell(at, &mut effects);
        }
        match words[1] {
            "end" => {}
            "cancel" => slot.cancel("somebody", now, &mut effects),
            "now" => {
                let settings = Arc::new(changed(&slot.settings, words[2]));
                slot.renew(&settings, (now, WallTime(0)), &mut effects);
            }
            _ => slot.seen(reading(&words[1..]), (now, WallTime(0)), &mut effects),
        }
        tell(now, &mut effects);
    }
    text
}

pub(crate) fn check(semaphore: Semaphore, script: &str, expected: &Expect) {
    expected.assert_eq(&play(semaphore, script));
}

#[test]
fn a_held_lock_is_done_once_however_often_it_is_seen() {
    check(
        settings(|_| ()),
        "0s free; 1s held 1000; 2s held 1000; 3s unknown; 4s held 1000; 8s nobody; 9s free; 10s held 1000",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000)
            1s does reload
            1s DO reload
            1s remove Some(1) None
            3s nothing is done, as it cannot be told: EACCES
            9s clear
            10s raised by bot (pid 77, uid 1000)
            10s does reload
            10s DO reload
            10s remove Some(1) None
        "#]],
    );
}

#[test]
fn what_was_there_before_the_start_is_no_request_and_what_is_written_later_is() {
    check(
        settings(|_| ()),
        "0s free info 5 1000; 1s free info 5 1000; 2s free info 6 1000",
        &expect![[r#"
            0s armed
            0s left over from before the start: no request
            2s raised by uid 1000: name=Tigro
            2s does reload
            2s DO reload
            2s remove None Some(900)
        "#]],
    );
}

#[test]
fn a_lock_that_is_held_at_the_start_is_a_request() {
    check(
        settings(|_| ()),
        "0s held 1000 info 5 1000; 1s free info 5 1000; 7s free info 5 1000",
        &expect![[r#"
            0s raised by bot (pid 77, uid 1000): name=Tigro
            0s does reload
            0s DO reload
            0s remove Some(1) Some(900)
            1s clear
        "#]],
    );
}

#[test]
fn a_signaller_that_exits_at_once_still_counts_by_what_it_wrote() {
    check(
        settings(|_| ()),
        "0s free; 1s free info 5 1000; 2s free",
        &expect![[r#"
            0s armed
            1s raised by uid 1000: name=Tigro
            1s does reload
            1s DO reload
            1s remove None Some(900)
            2s clear
        "#]],
    );
}

#[test]
fn without_latch_only_the_lock_counts() {
    check(
        settings(|s| s.latch = false),
        "0s free; 1s free info 5 1000; 2s free",
        &expect![[r#"
        0s armed
    "#]],
    );
}

#[test]
fn an_info_file_of_a_stranger_or_that_others_may_write_is_refused() {
    check(
        settings(|_| ()),
        "0s free; 1s free info 5 4711; 2s free; 3s free info 6 1000 shared",
        &expect![[r#"
            0s armed
            1s refused: uid 4711 may not
            2s clear
            3s refused: others may have written its info file
        "#]],
    );
}

#[test]
fn who_lets_go_before_the_time_has_come_has_cancelled() {
    check(
        settings(|s| s.debounce = Duration::from_secs(2)),
        "0s free; 1s held 1000; 2s free; 10s held 1000; 13s held 1000; 14s free",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000); acts in 2s (debounce)
            2s cancelled: it is no longer raised
            10s raised by bot (pid 77, uid 1000); acts in 2s (debounce)
            12s does reload
            12s DO reload
            12s remove Some(1) None
            14s clear
        "#]],
    );
}

#[test]
fn the_delay_can_be_cancelled_by_hand_and_is_not_asked_for_again() {
    check(
        settings(|s| s.delay = Duration::from_secs(600)),
        "0s free; 1s held 1000; 5s cancel; 6s held 1000; 700s free; 701s held 1000; 1302s free",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000); acts in 10m (delay)
            5s cancelled: somebody
            5s remove Some(1) None
            700s clear
            701s raised by bot (pid 77, uid 1000); acts in 10m (delay)
            1301s does reload
            1301s DO reload
            1301s remove Some(1) None
            1302s clear
        "#]],
    );
}

#[test]
fn nothing_is_done_before_min_uptime() {
    check(
        settings(|s| s.min_uptime = Duration::from_secs(300)),
        "0s held 1000; 400s held 1000; 401s free",
        &expect![[r#"
            0s raised by bot (pid 77, uid 1000); acts in 5m (min_uptime)
            300s does reload
            300s DO reload
            300s remove Some(1) None
            401s clear
        "#]],
    );
}

#[test]
fn no_more_than_the_rate_limit_is_done() {
    check(
        settings(|s| {
            s.rate_limit = Some(RateLimit { burst: 2, interval: Duration::from_secs(100) });
        }),
        "0s free; 1s held 1000; 2s free; 3s held 1000; 4s free; 5s held 1000; 200s free",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000)
            1s does reload
            1s DO reload
            1s remove Some(1) None
            2s clear
            3s raised by bot (pid 77, uid 1000)
            3s does reload
            3s DO reload
            3s remove Some(1) None
            4s clear
            5s raised by bot (pid 77, uid 1000); acts in 1m36s (rate_limit)
            101s does reload
            101s DO reload
            101s remove Some(1) None
            200s clear
        "#]],
    );
}

#[test]
fn what_cannot_be_told_ends_what_was_pending() {
    check(
        settings(|s| s.delay = Duration::from_secs(10)),
        "0s free; 1s held 1000; 5s unknown; 60s unknown; 61s held 1000; 100s free",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000); acts in 10s (delay)
            5s nothing is done, as it cannot be told: EACCES
            61s raised by bot (pid 77, uid 1000); acts in 10s (delay)
            71s does reload
            71s DO reload
            71s remove Some(1) None
            100s clear
        "#]],
    );
}

#[test]
fn something_foreign_in_its_place_is_an_alarm_and_no_request() {
    check(
        settings(|_| ()),
        "0s free; 1s foreign; 2s foreign; 3s free",
        &expect![[r#"
            0s armed
            1s nothing is done, as it is no longer ours: it is a symbolic link
            3s clear
        "#]],
    );
}

#[test]
fn who_may_not_or_cannot_be_named_is_refused() {
    check(
        settings(|_| ()),
        "0s free; 1s held 4711; 2s free; 3s nobody; 4s free; 5s held 1001; 6s free",
        &expect![[r#"
            0s armed
            1s refused: uid 4711 may not (pid 77: bot)
            2s clear
            3s refused: nobody can be named for it: the holder is gone or in another PID namespace
            4s clear
            5s raised by bot (pid 77, uid 1001)
            5s does reload
            5s DO reload
            5s remove Some(1) None
            6s clear
        "#]],
    );
}

#[test]
fn who_has_become_another_with_the_lock_open_is_refused() {
    check(
        settings(|s| s.allow.users = Box::new([0])),
        "0s free; 1s as 0; 2s free; 3s held 0; 4s free",
        &expect![[r#"
            0s armed
            1s refused: uid 1000 as uid 0 may not (pid 77: bot)
            2s clear
            3s raised by bot (pid 77, uid 0)
            3s does reload
            3s DO reload
            3s remove Some(1) None
            4s clear
        "#]],
    );
}

#[test]
fn another_file_is_another_request() {
    check(
        settings(|_| ()),
        "0s free; 1s held 1000; 2s again 1000; 3s again 1000",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000)
            1s does reload
            1s DO reload
            1s remove Some(1) None
            2s raised by bot (pid 77, uid 1000)
            2s does reload
            2s DO reload
            2s remove Some(2) None
        "#]],
    );
}

#[test]
fn a_file_that_is_there_asks_once_even_when_it_cannot_be_removed() {
    check(
        settings(as_file),
        "0s free; 1s file 1000; 2s file 1000; 900s file 1000; 901s free; 902s file 4711",
        &expect![[r#"
            0s armed
            1s raised by the file of uid 1000
            1s does reload
            1s DO reload
            1s remove Some(3) None
            901s clear
            902s refused: uid 4711 may not
        "#]],
    );
}

#[test]
fn a_file_that_was_there_before_the_start_is_no_request() {
    check(
        settings(as_file),
        "0s file 1000; 1s file 1000; 2s free; 3s file 1000",
        &expect![[r#"
        0s left over from before the start: no request
        2s clear
        3s raised by the file of uid 1000
        3s does reload
        3s DO reload
        3s remove Some(3) None
    "#]],
    );
}

#[test]
fn with_keep_nothing_is_removed() {
    check(
        settings(|s| s.removes = false),
        "0s free; 1s held 1000 info 5 1000; 2s free info 5 1000; 9s free info 5 1000",
        &expect![[r#"
            0s armed
            1s raised by bot (pid 77, uid 1000): name=Tigro
            1s does reload
            1s DO reload
            2s clear
        "#]],
    );
}

pub(crate) fn as_file(semaphore: &mut Semaphore) {
    semaphore.watched = Arc::new(Watched {
        kind: SemaphoreKind::File,
        info_file: None,
        ..(*semaphore.watched).clone()
    });
    semaphore.latch = false;
}
