//! Files and directories that come, go and are replaced.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
};

use mini_supervisor::{
    daemon::semaphores::{Told, start},
    model::{Level, SemaphoreKind, Watched},
};

use super::{Bench, SOON, Signaller, name, watched};

fn inode(level: &Level) -> u64 {
    match level {
        Level::Raised { file, .. } => file.inode,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lock_that_is_removed_and_made_anew_is_the_new_one() {
    let bench = Bench::new();
    let first = Signaller::python(&bench.path("lock"));
    let old = inode(&bench.raised().0.level);
    fs::remove_file(bench.path("lock")).unwrap();
    bench.clear();
    let second = Signaller::python(&bench.path("lock"));
    let new = inode(&bench.raised().0.level);
    assert_ne!(old, new);
    drop(second);
    bench.clear();
    drop(first);
}

#[test]
fn a_lock_that_is_replaced_by_a_rename_is_the_new_one() {
    let bench = Bench::new();
    let _first = Signaller::python(&bench.path("lock"));
    bench.raised();
    File::create(bench.path("new")).unwrap();
    fs::rename(bench.path("new"), bench.path("lock")).unwrap();
    bench.clear();
    let _second = Signaller::python(&bench.path("lock"));
    let new = inode(&bench.raised().0.level);
    assert_eq!(new, fs::metadata(bench.path("lock")).unwrap().ino());
}

#[test]
fn a_lock_whose_directories_come_and_go_is_seen() {
    let bench = Bench::idle();
    let path = bench.path("a/b/lock");
    bench.watch(watched(&path));
    bench.clear();
    for _ in 0..3 {
        fs::create_dir_all(bench.path("a/b")).unwrap();
        let signaller = Signaller::python(&path);
        bench.raised();
        fs::remove_file(&path).unwrap();
        bench.clear();
        drop(signaller);
        fs::remove_dir(bench.path("a/b")).unwrap();
        fs::remove_dir(bench.path("a")).unwrap();
    }
}

#[test]
fn a_directory_that_is_made_anew_while_somebody_has_the_old_one_open_is_watched() {
    let bench = Bench::idle();
    let (directory, path) = (bench.path("a/b"), bench.path("a/b/lock"));
    fs::create_dir_all(&directory).unwrap();
    File::create(&path).unwrap();
    bench.watch(watched(&path));
    bench.clear();
    for _ in 0..3 {
        // Of the end of the directory inotify tells nothing before these are closed.
        let open = [File::open(&path).unwrap(), File::open(&directory).unwrap()];
        fs::remove_file(&path).unwrap();
        fs::remove_dir(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        let signaller = Signaller::python(&path);
        bench.raised();
        drop(signaller);
        bench.clear();
        drop(open);
    }
}

#[test]
fn a_directory_above_that_is_moved_away_takes_the_lock_with_it() {
    let bench = Bench::idle();
    fs::create_dir_all(bench.path("a/b")).unwrap();
    let path = bench.path("a/b/lock");
    bench.watch(watched(&path));
    bench.clear();
    let _old = Signaller::python(&path);
    let old = inode(&bench.raised().0.level);
    fs::rename(bench.path("a"), bench.path("away")).unwrap();
    bench.clear();
    fs::create_dir_all(bench.path("a/b")).unwrap();
    let _new = Signaller::python(&path);
    assert_ne!(inode(&bench.raised().0.level), old);
}

#[test]
fn a_lock_is_made_where_it_is_declared_and_made_again() {
    let bench = Bench::idle();
    let own = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    bench.watch(Watched { owner: Some(own), ..bench.lock() });
    bench.clear();
    let meta = fs::metadata(bench.path("lock")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o600, own.0, own.1));
    fs::remove_file(bench.path("lock")).unwrap();
    crate::sys_world::until("it is there again", || bench.path("lock").exists());
    let _signaller = Signaller::python(&bench.path("lock"));
    bench.raised();
}

#[test]
fn a_file_asks_as_long_as_it_is_there() {
    let bench = Bench::idle();
    bench.watch(Watched { kind: SemaphoreKind::File, ..bench.lock() });
    bench.clear();
    File::create(bench.path("lock")).unwrap();
    let (reading, _) = bench.raised();
    let Level::Raised { owner, holders, .. } = reading.level else { unreachable!() };
    assert_eq!((owner, holders), (nix::unistd::getuid().as_raw(), Vec::new()));
    fs::remove_file(bench.path("lock")).unwrap();
    bench.clear();
}

#[test]
fn the_info_file_is_read_when_it_is_written() {
    let bench = Bench::idle();
    bench.watch(Watched { info_file: Some(bench.path("info")), ..bench.lock() });
    assert_eq!(bench.next().0.info, None);
    let text = "Demandé par: Tigro\nNode ID: 0x16\nTimestamp: 2025-12-05 10:20:30\n";
    fs::write(bench.path("info"), text).unwrap();
    let mut info = bench.next().0.info;
    while info.as_ref().is_none_or(|info| info.fields.len() < 3) {
        info = bench.next().0.info;
    }
    let info = info.unwrap();
    assert_eq!(info.fields[0], ("name".into(), "Tigro".into()));
    assert!(info.is_private && info.damage.is_none());
    fs::remove_file(bench.path("info")).unwrap();
    assert_eq!(bench.next().0.info, None);
}

#[test]
fn when_the_kernel_could_not_tell_all_everything_is_looked_at() {
    let (told_to, told) = crossbeam_channel::unbounded();
    let (go, wait) = crossbeam_channel::unbounded::<()>();
    let handle = start(move |what| {
        told_to.send(what).unwrap_or(());
        // It stands still until it is let go, and reads no events.
        wait.recv().unwrap_or(());
    })
    .unwrap();
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    handle.watch(name(), watched(&dir.path().join("lock")));
    told.recv_timeout(SOON).unwrap();
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    for _ in 0..most.trim().parse::<u32>().unwrap() / 2 + 8 {
        File::create(dir.path().join("other")).unwrap();
    }
    let _signaller = Signaller::python(&dir.path().join("lock"));
    drop(go);
    let Told::Seen((_, reading), _) = told.recv_timeout(SOON).unwrap() else { panic!("a notice") };
    assert!(matches!(reading.level, Level::Raised { .. }), "{reading:?}");
}

#[test]
fn a_reading_says_of_which_watch_it_is() {
    let bench = Bench::idle();
    let first = bench.handle.watch(name(), bench.lock());
    let second = bench.handle.watch(name(), watched(&bench.path("other")));
    assert_ne!(first, second);
    loop {
        match bench.told.recv_timeout(SOON).unwrap().0 {
            Told::Seen(_, id) if id == second => return,
            Told::Seen(_, id) => assert_eq!(id, first),
            Told::Notice(_, text) => panic!("{text}"),
        }
    }
}
