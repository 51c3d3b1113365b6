//! What somebody puts in the place of a semaphore, and what cannot be looked at.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use mini_supervisor::{
    daemon::semaphores::Told,
    model::{Level, Reading, SemaphoreKind, Watched},
};
use nix::{
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    sys::stat::Mode,
};

use super::{Bench, Signaller, watched};
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

/// A directory for everybody, as /tmp is, with one of somebody in it that has the lock.
fn everybodys(bench: &Bench) -> PathBuf {
    let directory = bench.path("tmp/bot");
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(bench.path("tmp"), Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::chown(&directory, Some(65534), None).unwrap();
    directory
}

#[test]
fn a_directory_that_somebody_swaps_for_a_link_is_an_alarm_and_not_followed() {
    if !is_root() {
        return;
    }
    let bench = Bench::idle();
    let directory = everybodys(&bench);
    bench.watch(watched(&directory.join("lock")));
    bench.clear();
    let _signaller = Signaller::python(&bench.path("lock"));
    fs::remove_dir(&directory).unwrap();
    symlink(bench.dir.path(), &directory).unwrap();
    std::os::unix::fs::lchown(&directory, Some(65534), None).unwrap();
    let said = bench.foreign();
    let why = "others than root can change a link on the way to it";
    assert!(said.ends_with(why), "{said}");
    fs::remove_file(&directory).unwrap();
    bench.clear();
}

#[test]
fn a_link_that_root_alone_can_change_is_followed_to_where_it_leads_now() {
    let bench = Bench::idle();
    for name in ["one", "two"] {
        fs::create_dir(bench.path(name)).unwrap();
    }
    symlink("one", bench.path("link")).unwrap();
    bench.watch(watched(&bench.path("link/lock")));
    bench.clear();
    let _signaller = Signaller::python(&bench.path("one/lock"));
    bench.raised();
    symlink("two", bench.path("new")).unwrap();
    fs::rename(bench.path("new"), bench.path("link")).unwrap();
    bench.clear();
    let _other = Signaller::python(&bench.path("two/lock"));
    bench.raised();
}

#[test]
fn however_fast_a_directory_and_a_link_are_swapped_the_link_is_not_followed() {
    if !is_root() {
        return;
    }
    let full = std::env::var_os("TESTS_FULL").is_some_and(|value| value == "1");
    let bench = Bench::idle();
    let directory = everybodys(&bench);
    let link = bench.path("tmp/link");
    symlink(bench.dir.path(), &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
    // Where the link leads somebody holds a lock of that name.
    let _signaller = Signaller::python(&bench.path("lock"));
    bench.watch(watched(&directory.join("lock")));
    let (mut clear, mut alarms) = (0, 0);
    for _ in 0..if full { 100_000 } else { 10_000 } {
        renameat2(AT_FDCWD, &link, AT_FDCWD, &directory, RenameFlags::RENAME_EXCHANGE).unwrap();
        bench.handle.look(super::name());
        for (told, _) in bench.told.try_iter() {
            match told {
                Told::Seen((_, Reading { level: Level::Clear, .. }), _) => clear += 1,
                Told::Seen((_, Reading { level: Level::Foreign(_), .. }), _) => alarms += 1,
                Told::Seen((_, Reading { level: Level::Raised { .. }, .. }), _) => {
                    panic!("followed")
                }
                Told::Seen(..) | Told::Notice(..) => {}
            }
        }
    }
    println!("{clear} clear, {alarms} alarms");
    // Both were looked at, and both are seen when they stay.
    bench.handle.look(super::name());
    bench.clear();
    renameat2(AT_FDCWD, &link, AT_FDCWD, &directory, RenameFlags::RENAME_EXCHANGE).unwrap();
    bench.foreign();
}

#[test]
fn what_cannot_be_looked_at_is_unknown_and_not_raised() {
    let bench = Bench::idle();
    File::create(bench.path("plain")).unwrap();
    bench.watch(watched(&bench.path("plain/lock")));
    let (reading, _) = bench.next();
    let Level::Unknown(why) = reading.level else { panic!("{reading:?}") };
    assert!(why.contains("Not a directory"), "{why}");
}
