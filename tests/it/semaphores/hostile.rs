//! What somebody puts in the place of a semaphore, and what cannot be looked at.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use mini_supervisor::model::{Level, SemaphoreKind, Watched};
use nix::sys::stat::Mode;

use super::{Bench, Signaller};
use crate::e2e::harness::is_root;

/// What is put there is an alarm that says this, and forgotten when it is gone.
fn is_foreign(kind: SemaphoreKind, put: impl Fn(&Path), why: &str) {
    let bench = Bench::idle();
    bench.watch(Watched { kind, ..bench.lock() });
    bench.clear();
    put(&bench.path("lock"));
    let said = bench.foreign();
    assert!(said.ends_with(why), "{said}");
    let path = bench.path("lock");
    fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
    bench.clear();
}

#[test]
fn what_is_no_regular_file_is_an_alarm() {
    for kind in [SemaphoreKind::Flock, SemaphoreKind::File] {
        is_foreign(kind, |path| symlink("/etc/passwd", path).unwrap(), "it is a symbolic link");
        is_foreign(kind, |path| fs::create_dir(path).unwrap(), "it is a directory");
        let fifo = |path: &Path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap();
        is_foreign(kind, fifo, "it is a FIFO");
    }
}

#[test]
fn a_file_with_a_second_name_is_an_alarm() {
    let other = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    let link = |path: &Path| fs::hard_link(other.path(), path).unwrap();
    is_foreign(SemaphoreKind::Flock, link, "it has 2 names");
}

#[test]
fn a_file_of_another_owner_or_with_a_wider_mode_is_an_alarm_though_it_be_held() {
    if !is_root() {
        return;
    }
    let bench = Bench::idle();
    File::create(bench.path("lock")).unwrap();
    let mode = |mode| fs::set_permissions(bench.path("lock"), Permissions::from_mode(mode));
    mode(0o600).unwrap();
    std::os::unix::fs::chown(bench.path("lock"), Some(65534), None).unwrap();
    let _signaller = Signaller::python(&bench.path("lock"));
    bench.watch(Watched { owner: Some((0, 0)), ..bench.lock() });
    assert!(bench.foreign().ends_with("it belongs to uid 65534, not to uid 0"));
    std::os::unix::fs::chown(bench.path("lock"), Some(0), None).unwrap();
    bench.raised();
    mode(0o644).unwrap();
    assert!(bench.foreign().ends_with("its mode 0644 is wider than 0600"));
    mode(0o600).unwrap();
    bench.raised();
}

#[test]
fn what_cannot_be_looked_at_is_unknown_and_not_raised() {
    let bench = Bench::idle();
    File::create(bench.path("plain")).unwrap();
    bench.watch(super::watched(&bench.path("plain/lock")));
    let (reading, _) = bench.next();
    let Level::Unknown(why) = reading.level else { panic!("{reading:?}") };
    assert!(why.contains("Not a directory"), "{why}");
}
