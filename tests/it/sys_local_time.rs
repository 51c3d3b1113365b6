//! Local time by the C library, with a `TZ` that needs no files.
#![expect(clippy::disallowed_methods, reason = "it runs itself, with another time zone")]

use mini_supervisor::{model::WallTime, sys::local_time};

/// In a process of its own, as the time zone is one of a process.
#[test]
fn summer_time_begins_and_ends_at_the_second() {
    let wall = |text: &str| WallTime::parse(text).unwrap();
    if std::env::var_os("ZONE_OF_A_TEST").is_some() {
        let zone = local_time::zone(wall("2026-01-01T00:00:00.000Z"));
        let begins = (wall("2026-03-29T01:00:00.000Z"), 7200);
        let ends = (wall("2026-10-25T01:00:00.000Z"), 3600);
        assert_eq!((zone.offset, zone.changes), (3600, vec![begins, ends]));
        return;
    }
    let own = "sys_local_time::summer_time_begins_and_ends_at_the_second";
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", own])
        .env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        .env("ZONE_OF_A_TEST", "1")
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}
