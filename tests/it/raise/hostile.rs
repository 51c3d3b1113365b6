//! What stands in the place of a semaphore, who may not, and files that are replaced.

use std::{
    fs::{self, File, Permissions},
    os::unix::{
        fs::{PermissionsExt as _, chown, symlink},
        process::CommandExt as _,
    },
    path::Path,
    sync::mpsc,
    time::Duration,
};

use mini_supervisor::sys::{
    flock::{self, Making, NotTaken},
    foreign_file,
};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::{
        signal::Signal,
        stat::{Mode, umask},
    },
};

use super::{INFO, WEB, done, finish, left, path, signal, up, written};
use crate::{
    cli::site::{Ran, Site, bare, json},
    sys_world::is_skipped_without_root,
};

const OURS: Making = Making { owner: None, mode: 0o600 };

#[test]
fn nothing_but_a_file_with_one_name_is_locked() {
    let site = written("action: 'restart:web'");
    let lock = path(&site, "lock");
    let secret = path(&site, "secret");
    fs::write(&secret, "secret").unwrap();
    type Put<'a> = &'a dyn Fn(&Path);
    let puts: [(Put<'_>, &str); 4] = [
        (&|path| symlink(&secret, path).unwrap(), "it is a symbolic link"),
        (&|path| fs::create_dir(path).unwrap(), "it is a directory"),
        (&|path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap(), "it is a FIFO"),
        (&|path| fs::hard_link(&secret, path).unwrap(), "it has 2 names"),
    ];
    for (put, why) in puts {
        put(&lock);
        let ran = site.expect(1, &["semaphore", "raise", "ask", "--timeout", "10s"]);
        assert!(ran.err.contains("is no file to lock: "), "{ran:?}");
        assert!(ran.err.trim_end().ends_with(why), "{ran:?}");
        fs::remove_file(&lock).or_else(|_| fs::remove_dir(&lock)).unwrap();
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
}

#[test]
fn what_stands_in_the_place_of_the_info_file_is_replaced_and_not_followed() {
    let site = up(&format!("{INFO}, delay: 1h, action: 'restart:web'"));
    let secret = path(&site, "secret");
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, path(&site, "info")).unwrap();
    let waiting = site.background(&["semaphore", "raise", "ask"]);
    site.wait_log("acts in 1h (delay)");
    assert!(fs::symlink_metadata(path(&site, "info")).unwrap().is_file());
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    signal(&waiting, Signal::SIGINT);
    finish(waiting);
    // A directory cannot be replaced: it is raised all the same.
    fs::create_dir(path(&site, "info")).unwrap();
    let ran = site.expect(1, &["semaphore", "raise", "ask", "--timeout", "1s"]);
    assert!(ran.err.starts_with("supervisor: raised without its info file: "), "{ran:?}");
    assert_eq!(left(&site), ["info", "secret"]);
}

#[test]
fn an_info_file_gets_no_mode_of_the_umask_and_no_trace_of_a_failure_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("info");
    umask(Mode::from_bits_truncate(0o077));
    foreign_file::Draft::write(&file, b"a: b\n").unwrap().publish().unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
    let (info, _) = foreign_file::Spot::reach(&file).unwrap().info().unwrap();
    assert!(info.is_private);
    drop(foreign_file::Draft::write(&file, b"never\n").unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(fs::read(&file).unwrap(), b"a: b\n");
}

#[test]
fn a_lock_that_is_replaced_while_it_is_waited_for_is_not_taken_for_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lock");
    let old = Flock::lock(File::create(&file).unwrap(), FlockArg::LockExclusive).unwrap();
    let (tell, told) = mpsc::channel();
    let waited = file.clone();
    std::thread::Builder::new()
        .spawn(move || tell.send(flock::wait(&waited, OURS)).unwrap())
        .unwrap();
    crate::sys_world::until("it waits", || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let waits = format!(" {} ", std::process::id());
        locks.lines().any(|row| row.contains("->") && row.contains(&waits))
    });
    fs::remove_file(&file).unwrap();
    fs::write(&file, "").unwrap();
    drop(old);
    let taken = told.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
    assert!(taken.is_at(&file));
    assert!(matches!(flock::take(&file, OURS), Err(NotTaken::Held(_))));
    // One that is removed while we hold it is a lock no longer.
    fs::remove_file(&file).unwrap();
    assert!(!taken.is_at(&file));
}

#[test]
fn whoever_looks_by_taking_the_lock_is_no_holder() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lock");
    fs::write(&file, "").unwrap();
    // As a watcher that polls without a pause, of which each try holds it for a moment.
    let script = "
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
print('polling', flush=True)
while True:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_UN)
    except BlockingIOError:
        pass
";
    let mut watcher = super::python(script, &[&file]).spawn().unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(watcher.stdout.as_mut().unwrap(), &mut byte).unwrap();
    let taken = (0..100).filter(|_| flock::take(&file, OURS).is_ok()).count();
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    assert_eq!(taken, 100);
}

/// A site that anybody can speak to, with a lock that anybody may open.
fn open_to_all(rights: &str) -> Site {
    let site = written("action: 'restart:web'");
    fs::set_permissions(site.dir.path(), Permissions::from_mode(0o755)).unwrap();
    let lock = path(&site, "lock");
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, Permissions::from_mode(0o644)).unwrap();
    let control = format!(", control: {{mode: '0666', access: [{rights}]}}");
    let text = format!(
        "{WEB}\nsemaphores:\n  ask: {{path: {}, action: 'restart:web', acknowledge: keep}}",
        lock.display()
    );
    site.write_with(&control, &text);
    let site = site.started();
    site.wait_log("semaphore:ask: armed");
    site
}

fn as_nobody(site: &Site, args: &[&str]) -> Ran {
    let mut command = bare(args);
    command.env("SUPERVISOR_CONFIG", site.file()).uid(65_534).gid(65_534);
    command.output().unwrap().into()
}

#[test]
fn who_may_not_is_refused_and_told_so() {
    if is_skipped_without_root() {
        return; // only root can be somebody else
    }
    let rule = "{allow: {users: [nobody]}, actions: [status, \"raise:ask\"]}";
    let site = open_to_all(rule);
    let ran = as_nobody(&site, &["semaphore", "raise", "ask"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.err.contains("cannot raise semaphore ask: refused: uid 65534 may not (pid "),
        "{ran:?}"
    );
    let ran = as_nobody(&site, &["semaphore", "raise", "ask", "--json"]);
    assert_eq!(json(&ran.err)["code"], "refused");
    site.wait_log("warn  semaphore:ask: refused: uid 65534 may not");
    assert_eq!(done(&site), 0);
}

#[test]
fn the_right_to_raise_it_is_that_to_open_its_file() {
    if is_skipped_without_root() {
        return; // only root can be somebody else
    }
    // It is made for nobody, who may not speak to the supervisor.
    let site = written("");
    fs::set_permissions(site.dir.path(), Permissions::from_mode(0o755)).unwrap();
    let lock = path(&site, "lock");
    let keys = "action: 'restart:web', allow: {users: [nobody]}";
    site.write(&format!("{WEB}\nsemaphores:\n  ask: {{path: {}, {keys}}}", lock.display()));
    fs::set_permissions(site.file(), Permissions::from_mode(0o644)).unwrap();
    let site = site.started();
    site.wait_log("semaphore:ask: armed");
    let ran = as_nobody(&site, &["semaphore", "raise", "ask"]);
    assert_eq!(
        (ran.code, &*ran.out),
        (Some(0), "ask: accepted: its file was removed\n"),
        "{ran:?}"
    );
    assert_eq!(done(&site), 1);
    // Made again for him at once; it is made first, and then given away.
    use std::os::unix::fs::MetadataExt as _;
    let is_his = || fs::metadata(&lock).is_ok_and(|meta| meta.uid() == 65_534);
    crate::sys_world::until("it is made again", is_his);
    chown(&lock, Some(0), Some(0)).unwrap();
    site.wait_log("error semaphore:ask: nothing is done, as it is no longer ours: ");
    let ran = as_nobody(&site, &["semaphore", "raise", "ask"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.err.contains("Permission denied"), "{ran:?}");
}

#[test]
fn a_stranger_who_holds_the_lock_is_named_as_the_obstacle() {
    if is_skipped_without_root() {
        return; // only root can be somebody else
    }
    let site = open_to_all("");
    let mut holder = super::python(
        "import fcntl, os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\n\
         fcntl.flock(fd, fcntl.LOCK_EX)\nsys.stdin.read()",
        &[&path(&site, "lock")],
    );
    let holder = holder.uid(65_534).gid(65_534).spawn().unwrap();
    site.wait_log("semaphore:ask: refused: uid 65534 may not");
    let ran = site.expect(4, &["semaphore", "raise", "ask"]);
    let who = format!("ask: it is held by pid {} (nobody, python3 ", holder.id());
    assert!(ran.err.contains(&who), "{ran:?}");
    finish(holder);
}
