//! Directories, locks, PID files and sockets in places where others may write too.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fs,
    os::fd::AsFd,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use mini_supervisor::sys::{
    directory::{self, Files, Ownership},
    files::{make_owned_dir, remove_dir_tree, remove_regular_file, remove_stale_socket},
    lockfile::{InstanceLock, LockError, PidFile},
    socket::{listen_on, peer_groups},
};
use nix::sys::stat::Mode;

use crate::sys_world::is_skipped_without_root;

fn me() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_directory_is_made_with_its_mode_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    for (umask, mode) in [(0o077, 0o755), (0, 0o750), (0o022, 0o2775)] {
        nix::sys::stat::umask(Mode::from_bits_truncate(umask));
        let path = dir.path().join(format!("a{mode:o}/b"));
        make_owned_dir(&path, mode, me().0, me().1).unwrap();
        assert_eq!(mode_of(&path), mode);
        make_owned_dir(&path, 0o700, me().0, me().1).unwrap();
        assert_eq!(mode_of(&path), 0o700, "one that exists gets the mode");
    }
}

#[test]
fn no_link_and_no_file_is_taken_for_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
    let link = dir.path().join("link");
    symlink(&target, &link).unwrap();
    make_owned_dir(&link, 0o777, me().0, me().1).unwrap_err();
    remove_dir_tree(&link).unwrap_err();
    assert_eq!(mode_of(&target), 0o700);
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    make_owned_dir(&file, 0o777, me().0, me().1).unwrap_err();
    remove_dir_tree(&file).unwrap_err();
    assert_eq!(fs::read(&file).unwrap(), b"x");
    remove_dir_tree(&dir.path().join("none")).unwrap();
}

#[test]
fn a_directory_of_root_is_given_to_the_user_and_one_of_a_stranger_is_not() {
    if is_skipped_without_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    fs::create_dir(&path).unwrap();
    make_owned_dir(&path, 0o750, 65534, 65534).unwrap();
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.uid(), meta.gid(), mode_of(&path)), (65534, 65534, 0o750));
    let error = make_owned_dir(&path, 0o777, 33, 33).unwrap_err().to_string();
    assert!(error.ends_with("it belongs to uid 65534, not to uid 33 or root"), "{error}");
    assert!(error.starts_with("cannot use directory /"), "{error}");
    assert_eq!(mode_of(&path), 0o750);
}

#[test]
fn a_tree_is_removed_whatever_its_names_depth_and_size() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    let mut deep = top.clone();
    for _ in 0..500 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    let odd = top.join(std::ffi::OsStr::from_bytes(b"\xff\xfe dir\n"));
    fs::create_dir(&odd).unwrap();
    for number in 0..3000 {
        fs::write(odd.join(number.to_string()), "").unwrap();
        if number % 10 == 0 {
            fs::create_dir(top.join(format!("s{number}"))).unwrap();
        }
    }
    let kept = dir.path().join("kept");
    fs::write(&kept, "x").unwrap();
    symlink(&kept, top.join("link")).unwrap();
    symlink(dir.path(), odd.join("up")).unwrap();
    nix::unistd::mkfifo(&top.join("fifo"), Mode::S_IRWXU).unwrap();
    remove_dir_tree(&top).unwrap();
    assert!(!top.exists() && kept.exists());
}

#[test]
fn nothing_behind_a_mount_is_removed() {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };
    if is_skipped_without_root() {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (top, precious) = (dir.path().join("top"), dir.path().join("precious"));
    fs::create_dir_all(top.join("a/bound")).unwrap();
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("data"), "x").unwrap();
    // On the same file system: the device number tells nothing.
    mount(Some(&precious), &top.join("a/bound"), none, MsFlags::MS_BIND, none).unwrap();
    remove_dir_tree(&top).unwrap_err();
    assert_eq!(fs::read(precious.join("data")).unwrap(), b"x");
    nix::mount::umount(&top.join("a/bound")).unwrap();
    remove_dir_tree(&top).unwrap();
}

#[test]
fn a_socket_is_removed_only_when_nobody_listens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    assert!(!remove_stale_socket(&path).unwrap());
    // A backlog that is full must not hold us up.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    // The connection of the first look still waits in it.
    assert!(!remove_stale_socket(&path).unwrap());
    drop(listener);
    assert!(remove_stale_socket(&path).unwrap());
    assert!(!remove_stale_socket(&path).unwrap());
    fs::write(&path, "").unwrap();
    remove_stale_socket(&path).unwrap_err();
    assert!(remove_regular_file(&path, me().0).unwrap());
    symlink("/etc/passwd", &path).unwrap();
    remove_regular_file(&path, me().0).unwrap_err();
}

#[test]
fn one_of_fifty_takers_gets_the_lock_and_the_others_know_who() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let own = std::process::id();
    for left in ["", "garbage", "999999\n", "-1", "0"] {
        fs::write(&path, left).unwrap();
        let (barrier, won, named) = (Barrier::new(50), AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| {
                    barrier.wait();
                    let taken = InstanceLock::take(&path, None);
                    match &taken {
                        Ok(_) => won.fetch_add(1, Ordering::Relaxed),
                        Err(LockError::Held(_)) => named.fetch_add(1, Ordering::Relaxed),
                        Err(LockError::Unusable(why)) => unreachable!("{why}"),
                    };
                    barrier.wait();
                });
            }
        });
        assert_eq!((won.into_inner(), named.into_inner()), (1, 49));
        let _lock = InstanceLock::take(&path, None).unwrap();
        let Err(LockError::Held(Some(holder))) = InstanceLock::take(&path, None) else {
            unreachable!("it is held, and says by whom")
        };
        assert_eq!(holder.number(), own);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{own}\n"));
    }
    fs::remove_file(&path).unwrap();
    symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(InstanceLock::take(&path, None), Err(LockError::Unusable(_))));
}

#[test]
fn a_pid_file_is_removed_only_while_it_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.pid");
    let own = format!("{}\n", std::process::id());
    let victim = dir.path().join("victim");
    fs::write(&victim, "x").unwrap();
    symlink(&victim, &path).unwrap();
    let written = PidFile::write(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), own);
    assert_eq!(fs::read(&victim).unwrap(), b"x");
    drop(written);
    assert!(!path.exists());
    for content in ["4711\n", &own] {
        let written = PidFile::write(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(dir.path().join("other"), content).unwrap();
        fs::rename(dir.path().join("other"), &path).unwrap();
        drop(written);
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    let written = PidFile::write(&path).unwrap();
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
    drop(written);
    assert!(path.exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");
}

#[test]
fn a_pid_file_that_another_has_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.pid");
    let first = PidFile::write(&path).unwrap();
    let before = fs::metadata(&path).unwrap();
    // flock(2) is between open file descriptions: in one process as between two.
    let Err(LockError::Held(Some(holder))) = PidFile::write(&path) else { panic!("not held") };
    assert_eq!(holder.number(), std::process::id());
    let after = fs::metadata(&path).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
    assert_eq!(mode_of(&dir.path().join("web.pid.lock")), 0o600, "nobody else can lock it");
    drop(first);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    // A lock that somebody has put in the place of ours is theirs.
    let first = PidFile::write(&path).unwrap();
    fs::remove_file(dir.path().join("web.pid.lock")).unwrap();
    fs::write(dir.path().join("web.pid.lock"), "other").unwrap();
    drop(first);
    assert_eq!(fs::read(dir.path().join("web.pid.lock")).unwrap(), b"other");
    // No way through a link, and no file without its directory.
    symlink(dir.path().join("victim"), dir.path().join("b.pid.lock")).unwrap();
    assert!(PidFile::write(&dir.path().join("b.pid")).is_err());
    assert!(!dir.path().join("victim").exists() && !dir.path().join("b.pid").exists());
    let Err(LockError::Unusable(why)) = PidFile::write(&dir.path().join("no/x")) else { panic!() };
    assert!(why.to_string().starts_with("cannot write the PID file "), "{why}");
    // Where everybody may put another one in its place; a sticky directory is none of that.
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    for (mode, good) in [(0o777, false), (0o1777, true), (0o775, true), (0o702, false)] {
        fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
        let written = PidFile::write(&open.join("x"));
        assert_eq!(written.is_ok(), good, "{mode:o}");
        drop(written);
        assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
    }
}

#[test]
fn at_no_moment_a_socket_can_be_used_by_others() {
    nix::sys::stat::umask(Mode::empty());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let (done, seen) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let mode = fs::symlink_metadata(&path).map_or(0, |meta| meta.mode() & 0o777);
                seen.fetch_or(mode, Ordering::Relaxed);
            }
        });
        let mut rounds = 0;
        // On a busy host the other thread may have to wait for its turn.
        while rounds < 300 || (seen.load(Ordering::Relaxed) == 0 && rounds < 1_000_000) {
            let (_listener, _bound) = listen_on(&path, 0o600, (None, None)).unwrap();
            assert_eq!(mode_of(&path), 0o600);
            rounds += 1;
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(seen.load(Ordering::Relaxed), 0o600);
    assert!(!path.exists(), "it is removed with its listener");
}

#[test]
fn a_socket_of_another_is_left_alone_and_a_long_path_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let first = listen_on(&path, 0o660, (None, None)).unwrap();
    let error = listen_on(&path, 0o660, (None, None)).unwrap_err().to_string();
    assert!(error.contains("Address already in use"), "{error}");
    assert!(path.exists());
    fs::rename(&path, dir.path().join("old")).unwrap();
    let second = listen_on(&path, 0o660, (None, None)).unwrap();
    drop(first);
    assert!(path.exists(), "it is the second one's");
    drop(second);
    let long = |n: usize| dir.path().join("x".repeat(n - dir.path().as_os_str().len() - 1));
    let error = listen_on(&long(108), 0o660, (None, None)).unwrap_err().to_string();
    assert!(error.ends_with("the path is longer than 107 bytes"), "{error}");
    drop(listen_on(&long(107), 0o660, (None, None)).unwrap());
}

#[test]
fn the_groups_of_a_peer_are_those_it_has() {
    let (one, _two) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut theirs = peer_groups(one.as_fd()).unwrap();
    let mut ours: Vec<u32> =
        nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
    theirs.sort_unstable();
    ours.sort_unstable();
    assert_eq!(theirs, ours);
    let file = fs::File::open("/dev/null").unwrap();
    assert_eq!(peer_groups(file.as_fd()), Err(nix::errno::Errno::ENOTSOCK));
}

/// Ours, with this mode.
fn own(mode: u32) -> Ownership {
    Ownership { uid: me().0, gid: me().1, mode }
}

#[test]
fn a_directory_is_made_with_its_parents_and_looked_at_without_changing_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/c");
    assert_eq!(directory::look(&path).unwrap(), None);
    assert!(directory::make(&path, own(0o2750)).unwrap());
    assert_eq!(directory::look(&path).unwrap(), Some(own(0o2750)));
    assert!(!directory::make(&path, own(0o700)).unwrap());
    assert_eq!(mode_of(&path), 0o2750, "one that exists stays as it is");
    assert!(directory::set(&path, own(0o700), &[]).unwrap());
    assert!(!directory::set(&path, own(0o700), &[]).unwrap());
    assert_eq!(directory::look(Path::new("/")).unwrap().map(|root| root.uid), Some(0));
}

#[test]
fn a_link_is_followed_only_where_nobody_else_can_have_put_it() {
    let dir = tempfile::tempdir().unwrap();
    let (real, way) = (dir.path().join("real"), dir.path().join("way"));
    fs::create_dir_all(real.join("sub")).unwrap();
    symlink("real/sub/../../real", dir.path().join("odd")).unwrap();
    symlink(&real, &way).unwrap();
    assert!(directory::look(&way.join("sub")).unwrap().is_some());
    assert!(directory::make(&way.join("new"), own(0o755)).unwrap());
    assert!(real.join("new").is_dir());
    let refused = |path: &Path| directory::look(path).unwrap_err().to_string();
    assert!(refused(&way).ends_with("way: it is no directory"), "the last one is never followed");
    symlink("loop", dir.path().join("loop")).unwrap();
    assert!(refused(&dir.path().join("loop/x")).contains("Too many levels"));
    assert!(directory::look(&dir.path().join("odd/sub")).unwrap().is_some());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(refused(&way.join("sub")).contains("others than root can change a link"));
    directory::make(&way.join("other"), own(0o755)).unwrap_err();
    assert!(!real.join("other").exists());
}

#[test]
fn files_of_a_directory_get_a_mode_and_what_has_two_names_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::NamedTempFile::new_in(dir.path().parent().unwrap()).unwrap();
    let inside = |name: &str| dir.path().join(name);
    for name in ["a", "b"] {
        fs::write(inside(name), "").unwrap();
        fs::set_permissions(inside(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::create_dir(inside("sub")).unwrap();
    symlink(outside.path(), inside("link")).unwrap();
    fs::hard_link(outside.path(), inside("hard")).unwrap();
    nix::unistd::mkfifo(&inside("fifo"), Mode::S_IRWXU).unwrap();
    let found = Files { others: 2, left: 1 };
    assert_eq!(directory::count_files(dir.path(), 0o640).unwrap(), found);
    assert_eq!(directory::set_files(dir.path(), 0o640).unwrap(), found);
    assert_eq!((mode_of(&inside("a")), mode_of(outside.path())), (0o640, 0o600));
    assert_eq!(mode_of(&inside("fifo")), 0o700);
    assert_eq!(directory::count_files(dir.path(), 0o640).unwrap(), Files { others: 0, left: 1 });
}

#[test]
fn a_directory_of_a_stranger_is_not_taken_from_him() {
    if is_skipped_without_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("his");
    let his = Ownership { uid: 4242, gid: 4242, mode: 0o755 };
    let hers = Ownership { uid: 4343, ..his };
    directory::make(&path, his).unwrap();
    let refused = directory::set(&path, hers, &[]).unwrap_err().to_string();
    assert!(refused.contains("it belongs to uid 4242, not to uid 4343"), "{refused}");
    directory::set(&path, own(0o755), &[]).unwrap_err();
    assert_eq!(directory::look(&path).unwrap(), Some(his));
    assert!(directory::set(&path, hers, &[4242]).unwrap());
    assert_eq!(directory::look(&path).unwrap(), Some(hers));
}
