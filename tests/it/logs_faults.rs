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

/// Mounts a file system of 64 KiB on `dir` that only this thread and the threads it starts see.
fn small_disk(dir: &Path) -> nix::Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some("none"), dir, Some("tmpfs"), MsFlags::empty(), Some("size=64k"))
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
