//! When the kernel does not tell: the limits of inotify(7), in a user namespace with its own.

use std::{fs, time::Duration};

use mini_supervisor::{
    daemon::semaphores::Told,
    model::{Level, LogLevel, Watched},
};

use super::{Bench, SOON, Signaller, name};
use crate::{e2e::harness::is_root, sys_world::is_inside};

/// What it says of the watching itself; readings before that are passed over.
fn notice(bench: &Bench) -> (LogLevel, String) {
    loop {
        match bench.told.recv_timeout(SOON).expect("a notice").0 {
            Told::Notice(level, text) => return (level, text.to_string()),
            Told::Seen(..) => {}
        }
    }
}

/// With this limit at zero locks are seen by looking again and again; then by being told.
fn it_looks_until_it_is_told_again(limit: &str, hint: &str) {
    let limit = format!("/proc/sys/user/{limit}");
    let before = fs::read_to_string(&limit).unwrap();
    fs::write(&limit, "0").unwrap();
    let bench = Bench::idle();
    bench.watch(Watched { poll_interval: Duration::from_millis(200), ..bench.lock() });
    let (level, text) = notice(&bench);
    assert_eq!(level, LogLevel::Warn);
    assert!(text.contains(hint) && text.ends_with("looking at it every 0.2s"), "{text}");
    let signaller = Signaller::python(&bench.path("lock"));
    bench.raised();
    drop(signaller);
    bench.clear();
    // By no poll any more.
    bench.watch(Watched { poll_interval: Duration::from_secs(3600), ..bench.lock() });
    bench.clear();
    fs::write(&limit, before).unwrap();
    bench.handle.look(name());
    assert_eq!(notice(&bench).0, LogLevel::Info);
    let _signaller = Signaller::python(&bench.path("lock"));
    bench.until(|level| matches!(level, Level::Raised { .. }));
}

#[test]
fn without_watches_it_looks_now_and_again_and_returns_by_itself() {
    let test = "semaphores::blind::without_watches_it_looks_now_and_again_and_returns_by_itself";
    if is_root() && is_inside("unshare -Ur", test) {
        it_looks_until_it_is_told_again("max_inotify_watches", "fs.inotify.max_user_watches");
    }
}

#[test]
fn without_inotify_it_looks_now_and_again_and_returns_by_itself() {
    let test = "semaphores::blind::without_inotify_it_looks_now_and_again_and_returns_by_itself";
    if is_root() && is_inside("unshare -Ur", test) {
        it_looks_until_it_is_told_again("max_inotify_instances", "fs.inotify.max_user_instances");
    }
}
