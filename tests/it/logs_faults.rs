//! The log thread when what it writes to fails, and the targets that are no files.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::net::UnixDatagram,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use mini_supervisor::{
    daemon::logs::Which,
    model::{Bytes, Compress, LogFormat, LogLevel, LogTarget, Mode, OnFull, Rotate, SupervisorLog},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::logs::{Bench, logging, text, wait_for};

const NONE: Option<&str> = None;

/// Mounts a file system of 64 KiB on `dir` that only this thread and the threads it starts see.
fn small_disk(dir: &Path) -> nix::Result<()> {
    disk(dir, "size=64k")
}

fn disk(dir: &Path, options: &str) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some("none"), dir, Some("tmpfs"), MsFlags::empty(), Some(options))
}

/// Runs `body` with a disk of its own; says why when there is none.
fn with_disk(options: &'static str, body: impl FnOnce(&Path) + Send + 'static) {
    let test = thread::Builder::new().spawn(move || {
        let dir = tempfile::tempdir().unwrap();
        match disk(dir.path(), options) {
            Ok(()) => body(dir.path()),
            Err(errno) => println!("skipped: cannot mount a disk: {errno}"),
        }
        nix::mount::umount(dir.path()).unwrap_or_default();
    });
    test.unwrap().join().unwrap();
}

fn full() -> bool {
    std::env::var_os("TESTS_FULL").is_some_and(|value| value == "1")
}

/// Offers a line until it is in the file at `path`.
fn until_written(bench: &Bench, out: &mut File, path: &Path) {
    let offered = bench.account("web").stdout.offered;
    let mut lines = 0;
    wait_for("it is written again", || {
        out.write_all(b"after\n").unwrap();
        lines += 6;
        wait_for("it is read", || {
            (bench.account("web").stdout.offered == offered + lines).then_some(())
        });
        text(path).ends_with("after\n").then_some(())
    });
}

#[test]
fn a_disk_that_can_be_written_again_is_written_by_itself() {
    with_disk("size=1m", |dir| {
        let remount = |flags| mount(NONE, dir, NONE, MsFlags::MS_REMOUNT | flags, NONE).unwrap();
        remount(MsFlags::MS_RDONLY);
        let bench = Bench::new();
        let path = dir.join("web.log");
        let to = Arc::new(logging(LogTarget::File(path.clone())));
        let mut out = bench.program("web", Which::Stdout, &to);
        out.write_all(b"lost\n").unwrap();
        let report = bench.reports.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(report.what.ends_with("web.log: Read-only file system"), "{report:?}");
        wait_for("it is counted", || (bench.account("web").stdout.dropped == 5).then_some(()));
        remount(MsFlags::empty());
        if !full() {
            // By itself it is tried again after ten seconds.
            bench.handle.reopen();
        }
        let (tx, rx) = crossbeam_channel::bounded::<()>(0);
        let patience = Duration::from_secs(if full() { 11 } else { 0 });
        assert!(rx.recv_timeout(patience).is_err());
        drop(tx);
        until_written(&bench, &mut out, &path);
        let found = text(&path);
        let mark = "supervisor: web: 1 lines (5 bytes) lost: Read-only file system\nafter\n";
        assert!(found.starts_with(mark), "{found}");
    });
}

#[test]
fn a_disk_without_inodes_keeps_the_old_file_and_loses_nothing() {
    with_disk("nr_inodes=3", |dir| {
        let mut bench = Bench::new();
        let path = dir.join("web.log");
        let mut to = logging(LogTarget::File(path.clone()));
        to.rotate = Rotate { max_size: Some(Bytes(10)), keep: 5, ..to.rotate };
        let mut out = bench.program("web", Which::Stdout, &Arc::new(to));
        // Two files fit; a third one for what follows cannot be made.
        for line in ["line one\n", "line two\n", "line three\n", "line four\n"] {
            out.write_all(line.as_bytes()).unwrap();
        }
        let report = bench.reports.recv_timeout(Duration::from_secs(10)).unwrap();
        let what = format!("cannot rotate {}: No space left on device", path.display());
        assert_eq!(report.what, what);
        drop(out);
        bench.finish();
        let names = ["web.log.2", "web.log.1", "web.log"];
        let all: String = names.iter().map(|n| text(&dir.join(n))).collect();
        assert_eq!(all, "line one\nline two\nline three\nline four\n");
    });
}

#[test]
fn a_log_file_that_somebody_takes_away_or_replaces_is_made_again_or_refused() {
    // given what is done to `logs/web.log`, and what is said about it
    type Change = fn(&Path);
    let steps: [(Change, &str); 5] = [
        (|dir| fs::remove_file(dir.join("web.log")).unwrap(), ""),
        (|dir| fs::rename(dir.join("web.log"), dir.join("web.old")).unwrap(), ""),
        (
            |dir| {
                fs::remove_file(dir.join("web.log")).unwrap();
                std::os::unix::fs::symlink("elsewhere", dir.join("web.log")).unwrap();
            },
            "symbolic link",
        ),
        (
            |dir| {
                fs::remove_file(dir.join("web.log")).unwrap();
                fs::create_dir(dir.join("web.log")).unwrap();
            },
            "Is a directory",
        ),
        (
            |dir| {
                fs::rename(dir, dir.with_file_name("away")).unwrap();
                fs::write(dir, "").unwrap();
            },
            "Not a directory",
        ),
    ];
    for (change, why) in steps {
        let bench = Bench::new();
        let dir = bench.path("logs");
        fs::create_dir(&dir).unwrap();
        let path = dir.join("web.log");
        let to = Arc::new(logging(LogTarget::File(path.clone())));
        let mut out = bench.program("web", Which::Stdout, &to);
        out.write_all(b"before\n").unwrap();
        wait_for("it is written", || (text(&path) == "before\n").then_some(()));
        change(&dir);
        // The file is compared with its path once a second.
        if why.is_empty() {
            until_written(&bench, &mut out, &path);
            continue;
        }
        let report = wait_for("it is said", || {
            out.write_all(b"lost\n").unwrap();
            bench.reports.recv_timeout(Duration::from_millis(50)).ok()
        });
        assert!(report.what.contains(why), "{report:?}");
        assert!(!dir.join("elsewhere").exists());
    }
}

#[test]
fn ten_flooders_take_no_memory_and_every_byte_is_accounted_for() {
    let mut bench = Bench::new();
    let before = super::logs::resident();
    let total = 32 << 20;
    let flooders: Vec<_> = (0..10)
        .map(|n| {
            let name = format!("flood{n}");
            let mut to = logging(LogTarget::File(bench.path(&format!("{name}.log"))));
            to.rotate.max_size = Some(Bytes(1 << 20));
            to.rotate.keep = 1;
            let mut flood = bench.program(&name, Which::Stdout, &Arc::new(to));
            let work = move || {
                let block = "y\n".repeat(32 << 10);
                (0..total / block.len()).for_each(|_| flood.write_all(block.as_bytes()).unwrap());
                name
            };
            thread::Builder::new().spawn(work).unwrap()
        })
        .collect();
    let names: Vec<String> = flooders.into_iter().map(|f| f.join().unwrap()).collect();
    let grown = super::logs::resident().saturating_sub(before);
    // Each of the ten threads of this test has its block of 64 KiB, and rings have 4 MiB in all.
    assert!(grown < 12 << 20, "{grown}");
    for name in &names {
        let total = u64::try_from(total).unwrap();
        wait_for("all is written", || (bench.account(name).stdout.written == total).then_some(()));
    }
    bench.finish();
}

#[test]
fn when_the_disk_has_room_again_no_line_is_torn_and_the_loss_is_said() {
    let test = thread::Builder::new().spawn(|| {
        let dir = tempfile::tempdir().unwrap();
        if let Err(errno) = small_disk(dir.path()) {
            println!("skipped: cannot mount a small disk: {errno}");
            return;
        }
        let mut bench = Bench::new();
        let (path, ballast) = (dir.path().join("web.log"), dir.path().join("ballast"));
        fs::write(&ballast, vec![0; 40 << 10]).unwrap();
        let to = Arc::new(logging(LogTarget::File(path.clone())));
        let mut out = bench.program("web", Which::Stdout, &to);
        let line = |i: usize| format!("line {i:04} {}\n", "x".repeat(87));
        (0..1000).for_each(|i| out.write_all(line(i).as_bytes()).unwrap());
        let report = bench.reports.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(report.what.contains("No space left on device"), "{report:?}");
        wait_for("all is read", || (bench.account("web").stdout.offered == 98_000).then_some(()));
        fs::remove_file(&ballast).unwrap();
        bench.handle.reopen();
        out.write_all(b"after\n").unwrap();
        drop(out);
        let c = wait_for("nothing waits", || {
            let c = bench.account("web").stdout;
            (c.offered == 98_006 && c.pending() == 0).then_some(c)
        });
        bench.finish();
        let written = text(&path);
        let mark = format!("({} bytes) lost: No space left on device", c.dropped);
        assert!(written.contains(&mark), "{mark}");
        assert!(written.ends_with("\nafter\n"), "{}", &written[written.len() - 300..]);
        let torn = |l: &&str| !(l.len() == 97 && l.ends_with('x')) && l.starts_with("line");
        assert!(written.lines().filter(torn).count() <= 1);
    });
    test.unwrap().join().unwrap();
}

#[test]
fn a_full_standard_output_is_counted_and_reported_once() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut bench = Bench::with_stdout(Some(full.into()));
    let to = Arc::new(logging(LogTarget::Console));
    let mut out = bench.program("web", Which::Stdout, &to);
    (0..100).for_each(|_| out.write_all(b"gone\n").unwrap());
    wait_for("it is lost", || (bench.account("web").stdout.dropped == 500).then_some(()));
    bench.finish();
    assert_eq!(bench.reports.try_iter().count(), 1);
}

#[test]
fn the_directory_of_our_own_logs_is_made_again() {
    let mut bench = Bench::new();
    fs::create_dir(bench.path("own")).unwrap();
    let path = bench.path("own/web/out.log");
    let to = Arc::new(logging(LogTarget::File(path.clone())));
    let mut out = bench.program("web", Which::Stdout, &to);
    out.write_all(b"one\n").unwrap();
    wait_for("it is made", || (text(&path) == "one\n").then_some(()));
    fs::rename(bench.path("own/web"), bench.path("away")).unwrap();
    wait_for("it is made again", || {
        out.write_all(b"two\n").unwrap();
        path.exists().then_some(())
    });
    bench.finish();
}

#[test]
fn the_journal_and_syslog_get_a_datagram_a_line() {
    let mut bench = Bench::new();
    let journal = UnixDatagram::bind(bench.path("journal")).unwrap();
    let syslog = UnixDatagram::bind(bench.path("syslog")).unwrap();
    let mut to = logging(LogTarget::Journal);
    to.stderr = LogTarget::Syslog;
    let to = Arc::new(to);
    let mut out = bench.program("web", Which::Stdout, &to);
    let mut err = bench.program("web", Which::Stderr, &to);
    out.write_all(b"hello\n").unwrap();
    err.write_all(b"oh no\n").unwrap();
    let mut buffer = [0; 1000];
    let n = journal.recv(&mut buffer).unwrap();
    let wanted = "PRIORITY=6\nSYSLOG_IDENTIFIER=web\nSUPERVISOR_PROGRAM=web\nMESSAGE=hello";
    assert_eq!(std::str::from_utf8(&buffer[..n]).unwrap(), wanted);
    let n = syslog.recv(&mut buffer).unwrap();
    let message = String::from_utf8_lossy(&buffer[..n]).into_owned();
    assert!(message.starts_with("<27>") && message.ends_with(" web: oh no"), "{message}");
    bench.finish();
}

#[test]
fn our_own_lines_go_to_standard_error_while_their_file_fails() {
    let mut bench = Bench::new();
    let path = bench.path("missing/supervisor.log");
    let rotate = Rotate {
        max_size: Some(Bytes(1 << 20)),
        every: None,
        keep: 1,
        compress: Compress::None,
        after_reload: false,
    };
    bench.handle.own_log(SupervisorLog {
        level: LogLevel::Info,
        file: Some(path.clone()),
        format: LogFormat::Text,
        stderr: false,
        owner: None,
        group: None,
        mode: Mode(0o640),
        rotate,
        on_full: OnFull::DropOldest,
    });
    bench.handle.own_line(b"one");
    wait_for("it is on standard error", || (text(&bench.path("stderr")) == "one\n").then_some(()));
    fs::create_dir(bench.path("missing")).unwrap();
    bench.handle.reopen();
    bench.handle.own_line(b"two");
    bench.finish();
    assert!(text(&path).ends_with("\ntwo\n"), "{}", text(&path));
    assert_eq!(text(&bench.path("stderr")), "one\n");
}

/// Our own lines go to `path`.
fn own_log(bench: &Bench, path: &Path) {
    bench.handle.own_log(SupervisorLog { file: Some(path.to_owned()), ..own_settings() });
}

fn own_settings() -> SupervisorLog {
    SupervisorLog {
        level: LogLevel::Info,
        file: None,
        format: LogFormat::Text,
        stderr: false,
        owner: None,
        group: None,
        mode: Mode(0o644),
        rotate: logging(LogTarget::Null).rotate,
        on_full: OnFull::DropOldest,
    }
}

/// Offers lines of our own until one is in the file at `path` again.
fn until_own_is_written(bench: &Bench, path: &Path, line: &str) {
    wait_for("it is written again", || {
        // By itself it is tried again after ten seconds.
        bench.handle.reopen();
        bench.handle.own_line(line.as_bytes());
        text(path).ends_with(&format!("{line}\n")).then_some(())
    });
}

#[test]
fn our_own_lines_go_to_standard_error_while_the_disk_is_read_only_or_full() {
    with_disk("size=64k", |dir| {
        let remount = |flags| mount(NONE, dir, NONE, MsFlags::MS_REMOUNT | flags, NONE).unwrap();
        let bench = Bench::new();
        let path = dir.join("own.log");
        let on_stderr = |line: &str| {
            let stderr = bench.path("stderr");
            wait_for("it is on standard error", || text(&stderr).contains(line).then_some(()));
        };
        own_log(&bench, &path);
        until_own_is_written(&bench, &path, "in the file");
        assert!(!text(&bench.path("stderr")).contains("in the file"));
        let mode = fs::metadata(&path).unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o7777, 0o644);
        // A file that is open for writing keeps a file system from becoming read-only.
        bench.handle.own_log(SupervisorLog { file: None, ..own_settings() });
        wait_for("the disk is read-only", || {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(NONE, dir, NONE, flags, NONE).ok()
        });
        own_log(&bench, &path);
        bench.handle.own_line(b"EROFS");
        on_stderr("EROFS\n");
        remount(MsFlags::empty());
        until_own_is_written(&bench, &path, "writable");
        fs::write(dir.join("ballast"), vec![0; 1 << 20]).unwrap_err();
        // What is being written when it fails waits for its turn; what follows goes there.
        wait_for("it is on standard error", || {
            bench.handle.own_line("ENOSPC".repeat(1000).as_bytes());
            text(&bench.path("stderr")).contains("ENOSPC").then_some(())
        });
        fs::remove_file(dir.join("ballast")).unwrap();
        until_own_is_written(&bench, &path, "room again");
    });
}

#[test]
fn a_flooder_does_not_delay_another_program() {
    let mut bench = Bench::new();
    let to = |name: &str| Arc::new(logging(LogTarget::File(bench.path(name))));
    let mut flood = bench.program("flood", Which::Stdout, &to("/dev/null"));
    let mut calm = bench.program("calm", Which::Stdout, &to("calm.log"));
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let flooder = thread::Builder::new().spawn(move || {
        let block = "y\n".repeat(32 << 10);
        while stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
            flood.write_all(block.as_bytes()).unwrap();
        }
    });
    let path = bench.path("calm.log");
    for i in 1..=20 {
        calm.write_all(b"hello\n").unwrap();
        let mut ticks = 0;
        while text(&path).len() < i * 6 {
            thread::park_timeout(Duration::from_millis(2));
            ticks += 1;
            assert!(ticks < 100, "later than 200 ms");
        }
    }
    drop(stop);
    flooder.unwrap().join().unwrap();
    bench.finish();
}

#[test]
fn an_old_file_is_rotated_although_nothing_is_written() {
    let mut bench = Bench::new();
    let path = bench.path("web.log");
    let mut to = logging(LogTarget::File(path.clone()));
    to.rotate.every = Some(Duration::from_millis(1500));
    to.rotate.compress = Compress::Gzip;
    let mut out = bench.program("web", Which::Stdout, &Arc::new(to));
    out.write_all(b"old\n").unwrap();
    wait_for("it is compressed", || bench.path("web.log.1.gz").exists().then_some(()));
    assert_eq!(text(&path), "");
    out.write_all(b"new\n").unwrap();
    wait_for("it is written", || (text(&path) == "new\n").then_some(()));
    bench.finish();
}

#[test]
fn a_program_that_floods_at_the_end_does_not_hold_up_the_end() {
    let mut bench = Bench::new();
    let to = Arc::new(logging(LogTarget::Null));
    let mut flood = bench.program("flood", Which::Stdout, &to);
    let flooder = thread::Builder::new().spawn(move || {
        let block = [b'y'; 4096];
        while flood.write_all(&block).is_ok() {}
    });
    wait_for("it floods", || (bench.account("flood").stdout.offered > 0).then_some(()));
    bench.finish();
    flooder.unwrap().join().unwrap();
}
