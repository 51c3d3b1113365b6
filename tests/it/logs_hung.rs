//! A file system that does not answer holds up its own files only.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use mini_supervisor::{
    daemon::logs::{LogQuery, Taken, Touch, Which},
    model::{LogTarget, OnFull},
};
use nix::{
    fcntl::OFlag,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::pipe2,
};

use super::logs::{Bench, logging, text, wait_for};

const SOON: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(20);

/// A gate before all files whose path has `part` in it: closed until the sender is dropped. Each
/// arrival there is told.
fn gate(part: &'static str) -> (Touch, Sender<()>, Receiver<String>) {
    let (open, closed) = bounded::<()>(0);
    let (tx, arrivals) = crossbeam_channel::unbounded();
    let touch = move |path: &Path| {
        let path = path.display().to_string();
        if path.contains(part) {
            tx.send(path).unwrap_or_default();
            closed.recv().unwrap_or_default();
        }
    };
    (Arc::new(touch), open, arrivals)
}

/// The bytes that marks in `written` say are lost.
fn lost(written: &str) -> u64 {
    let marks = written.lines().filter_map(|l| l.strip_prefix("supervisor: "));
    marks.filter_map(|l| l.split_once('(')?.1.split(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn a_file_that_does_not_come_back_is_named_and_others_go_on() {
    let (touch, open, arrivals) = gate("hung");
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut bench = Bench::with(Some(write), SOON, Some(touch));
    let path = bench.path("hung.log");
    let to = Arc::new(logging(LogTarget::File(path.clone())));
    let mut hung = bench.program("hung", Which::Stdout, &to);
    let mut calm = bench.program("calm", Which::Stdout, &Arc::new(logging(LogTarget::Console)));
    // given a file that is being written and does not come back
    hung.write_all(b"first\n").unwrap();
    arrivals.recv_timeout(LONG).unwrap();
    // then another's output goes on, and it is said which file it is
    calm.write_all(b"hello\n").unwrap();
    let mut line = String::new();
    BufReader::new(File::from(read)).read_line(&mut line).unwrap();
    assert_eq!(line, "calm | hello\n");
    let report = bench.reports.recv_timeout(LONG).unwrap();
    let start = format!("writing {} has not come back for", path.display());
    assert!(report.what.starts_with(&start), "{report:?}");
    assert!(bench.account("hung").stuck.is_some() && bench.account("calm").stuck.is_none());
    // and its program is not held up, and what is lost of it is counted
    let flood = "a line of output that nobody takes\n".repeat(50_000);
    hung.write_all(flood.as_bytes()).unwrap();
    let offered = 6 + u64::try_from(flood.len()).unwrap();
    wait_for("all is read", || (bench.account("hung").stdout.offered == offered).then_some(()));
    // when it comes back
    drop(open);
    let c = wait_for("nothing waits", || {
        let c = bench.account("hung").stdout;
        (c.pending() == 0).then_some(c)
    });
    // then nothing but what is said to be lost is lost, and no line is torn
    assert_eq!(c.offered, c.written + c.dropped);
    hung.write_all(b"last\n").unwrap();
    bench.finish();
    let written = text(&path);
    assert!(written.starts_with("first\n") && written.ends_with("\nlast\n"));
    assert_eq!(lost(&written), c.dropped);
    let whole = written.lines().filter(|l| *l == "a line of output that nobody takes").count();
    assert_eq!(u64::try_from(whole).unwrap() * 35 + 6, c.written);
    assert!(written.lines().all(|l| l.starts_with("supervisor: ") || l.len() <= 34));
    let said: Vec<_> = bench.reports.try_iter().map(|r| r.what).collect();
    assert!(said.iter().any(|what| what.contains("has come back after")), "{said:?}");
}

#[test]
fn who_would_rather_wait_for_a_hung_file_waits_alone() {
    let (touch, open, arrivals) = gate("hung");
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut bench = Bench::with(Some(write), SOON, Some(touch));
    let path = bench.path("hung.log");
    let mut to = logging(LogTarget::File(path.clone()));
    to.on_full = OnFull::Block;
    let mut slow = bench.program("wait", Which::Stdout, &Arc::new(to));
    let mut calm = bench.program("calm", Which::Stdout, &Arc::new(logging(LogTarget::Console)));
    let lines: String = (0..100_000).map(|i| format!("line {i}\n")).collect();
    let all = lines.clone();
    let (done, is_done) = bounded(1);
    let writer = thread::Builder::new().spawn(move || {
        slow.write_all(all.as_bytes()).unwrap();
        done.send(()).unwrap();
    });
    arrivals.recv_timeout(LONG).unwrap();
    bench.reports.recv_timeout(LONG).unwrap();
    calm.write_all(b"hello\n").unwrap();
    let mut line = [0; 13];
    File::from(read).read_exact(&mut line).unwrap();
    assert_eq!(&line, b"calm | hello\n");
    assert!(is_done.try_recv().is_err(), "a megabyte does not fit in what may wait");
    drop(open);
    is_done.recv_timeout(LONG).unwrap();
    writer.unwrap().join().unwrap();
    bench.finish();
    assert!(text(&path) == lines, "{} of {} bytes", text(&path).len(), lines.len());
}

#[test]
fn the_end_does_not_wait_for_a_hung_file() {
    let (touch, open, arrivals) = gate("hung");
    let bench = Bench::with(None, SOON, Some(touch));
    let to = Arc::new(logging(LogTarget::File(bench.path("hung.log"))));
    let mut hung = bench.program("hung", Which::Stdout, &to);
    hung.write_all(b"first\n").unwrap();
    arrivals.recv_timeout(LONG).unwrap();
    bench.reports.recv_timeout(LONG).unwrap();
    assert!(!bench.handle.shutdown(Duration::from_millis(100)).complete);
    drop(open);
}

#[test]
fn logs_of_a_hung_file_make_nobody_else_wait() {
    let (touch, open, arrivals) = gate("hung");
    let bench = Bench::with(None, SOON, Some(touch));
    let hung = Arc::new(logging(LogTarget::File(bench.path("hung.log"))));
    let mut hung = bench.program("hung", Which::Stdout, &hung);
    let mut calm = bench.program("calm", Which::Stdout, &Arc::new(logging(LogTarget::Null)));
    hung.write_all(b"in memory\n").unwrap();
    arrivals.recv_timeout(LONG).unwrap();
    calm.write_all(b"hello\n").unwrap();
    wait_for("it is read", || (bench.account("calm").stdout.offered == 6).then_some(()));
    let (tx, rx) = bounded(1);
    let query = LogQuery { lines: 10, ..LogQuery::default() };
    let reader = move |batch| tx.send(batch).map_or(Taken::Gone, |()| Taken::Gone);
    bench.handle.query(query, Box::new(reader));
    let batch = rx.recv_timeout(LONG).unwrap();
    let texts: Vec<_> = batch.lines.into_iter().map(|l| l.text).collect();
    assert_eq!(texts, [b"in memory".to_vec(), b"hello".to_vec()]);
    drop(open);
}

#[test]
fn a_panic_where_a_file_is_touched_ends_the_logs_and_is_not_waited_for() {
    let touch = |_: &Path| panic!("asked for");
    // Nobody who stands by would look for an hour.
    let bench = Bench::with(None, Duration::from_secs(3600), Some(Arc::new(touch)));
    let to = Arc::new(logging(LogTarget::File(bench.path("web.log"))));
    let mut web = bench.program("web", Which::Stdout, &to);
    web.write_all(b"first\n").unwrap();
    // The log is gone, and with it what reports hold on to: that is how the loop is told.
    let gone = bench.reports.recv_timeout(LONG).unwrap_err();
    assert_eq!(gone, crossbeam_channel::RecvTimeoutError::Disconnected);
}

/// Runs `body` where it may mount what nobody else sees; says why when that is not possible.
fn apart(body: impl FnOnce() + Send + 'static) {
    let test = thread::Builder::new().spawn(|| {
        const NONE: Option<&str> = None;
        let alone = unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE));
        match alone {
            Ok(()) => body(),
            Err(errno) => println!("skipped: cannot mount: {errno}"),
        }
    });
    test.unwrap().join().unwrap();
}

#[test]
fn files_beside_a_hung_one_wait_with_it_and_those_elsewhere_do_not() {
    apart(|| {
        let (touch, open, arrivals) = gate("/bad/");
        let mut bench = Bench::with(None, SOON, Some(touch));
        for disk in ["bad", "good"] {
            fs::create_dir(bench.path(disk)).unwrap();
            let flags = MsFlags::empty();
            mount(Some("none"), &bench.path(disk), Some("tmpfs"), flags, None::<&str>).unwrap();
        }
        let to = |name: &str| Arc::new(logging(LogTarget::File(bench.path(name))));
        let names = ["bad/a.log", "bad/b.log", "bad/c.log", "good/d.log"];
        let mut programs = ["a", "b", "c", "d"].map(|name| {
            let file = names.iter().find(|n| n.contains(&format!("/{name}"))).unwrap();
            bench.program(name, Which::Stdout, &to(file))
        });
        programs[0].write_all(b"one\n").unwrap();
        arrivals.recv_timeout(LONG).unwrap();
        bench.reports.recv_timeout(LONG).unwrap();
        for program in &mut programs {
            program.write_all(b"two\n").unwrap();
        }
        wait_for("it is written", || (text(&bench.path(names[3])) == "two\n").then_some(()));
        wait_for("they wait", || {
            let stuck = ["a", "b", "c"].iter().all(|name| bench.account(name).stuck.is_some());
            stuck.then_some(())
        });
        // Each that went there would have cost a thread.
        assert_eq!(arrivals.try_iter().count(), 0);
        drop(open);
        wait_for("all is written", || {
            names.iter().all(|n| text(&bench.path(n)).ends_with("two\n")).then_some(())
        });
        bench.finish();
        assert_eq!(text(&bench.path(names[0])), "one\ntwo\n");
    });
}

/// A file system in a file, that thaws and goes when it is dropped.
struct Disk(std::path::PathBuf);

#[expect(clippy::disallowed_methods, reason = "the test is no supervisor")]
fn run(words: &[&str]) -> bool {
    let (command, args) = words.split_first().unwrap();
    std::process::Command::new(command).args(args).status().is_ok_and(|s| s.success())
}

impl Drop for Disk {
    fn drop(&mut self) {
        let point = self.0.to_str().unwrap();
        run(&["fsfreeze", "-u", point]);
        run(&["umount", point]);
    }
}

#[test]
fn a_frozen_file_system_holds_up_its_own_files_only() {
    if std::env::var_os("TESTS_FULL").is_none_or(|value| value != "1") {
        println!("skipped: TESTS_FULL is not 1");
        return;
    }
    apart(|| {
        let mut bench = Bench::with(None, Duration::from_secs(1), None);
        let (image, point) = (bench.path("image"), bench.path("mnt"));
        fs::create_dir(&point).unwrap();
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let (image, at) = (image.to_str().unwrap(), point.to_str().unwrap());
        if !run(&["mkfs.ext4", "-q", "-F", image]) || !run(&["mount", "-o", "loop", image, at]) {
            println!("skipped: no file system in a file can be had");
            return;
        }
        let disk = Disk(point.clone());
        let to = |path| Arc::new(logging(LogTarget::File(path)));
        let mut hung = bench.program("hung", Which::Stdout, &to(point.join("web.log")));
        let mut calm = bench.program("calm", Which::Stdout, &to(bench.path("calm.log")));
        hung.write_all(b"before\n").unwrap();
        wait_for("it is written", || (text(&point.join("web.log")) == "before\n").then_some(()));
        assert!(run(&["fsfreeze", "-f", at]));
        hung.write_all(b"within\n").unwrap();
        let report = bench.reports.recv_timeout(LONG).unwrap();
        assert!(report.what.contains("has not come back"), "{report:?}");
        calm.write_all(b"hello\n").unwrap();
        wait_for("it goes on", || (text(&bench.path("calm.log")) == "hello\n").then_some(()));
        assert!(run(&["fsfreeze", "-u", at]));
        hung.write_all(b"after\n").unwrap();
        let all = "before\nwithin\nafter\n";
        wait_for("all is written", || (text(&point.join("web.log")) == all).then_some(()));
        drop((hung, calm));
        bench.finish();
        drop(disk);
    });
}
