//! The log thread with real pipes and real files.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use mini_supervisor::{
    daemon::logs::{
        Account, LogBatch, LogHandle, LogQuery, LogReport, Options, PATIENCE, Stream, Taken, Touch,
        Which, rotation, start,
    },
    model::{Bytes, Compress, LogTarget, Logging, Mode, Name, OnFull, Rotate},
};
use nix::{fcntl::OFlag, unistd::pipe2};
use tempfile::TempDir;

/// A log thread in a directory of its own.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) handle: LogHandle,
    pub(crate) reports: Receiver<LogReport>,
    thread: Option<JoinHandle<()>>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with_stdout(None)
    }

    pub(crate) fn with_stdout(stdout: Option<OwnedFd>) -> Self {
        Self::with(stdout, PATIENCE, None)
    }

    pub(crate) fn with(stdout: Option<OwnedFd>, patience: Duration, touch: Option<Touch>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tx, reports): (Sender<LogReport>, _) = unbounded();
        let (handle, thread) = start(Options {
            stdout,
            stderr: Some(File::create(dir.path().join("stderr")).unwrap().into()),
            no_color: false,
            make_below: Some(dir.path().join("own")),
            journal: dir.path().join("journal"),
            syslog: dir.path().join("syslog"),
            patience,
            touch,
            report: Box::new(move |r| tx.send(r).unwrap_or(())),
        })
        .unwrap();
        Self { dir, handle, reports, thread: Some(thread) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A pipe whose output is captured.
    pub(crate) fn program(&self, name: &str, which: Which, logging: &Arc<Logging>) -> File {
        let (fd, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let (program, logging) = (Name::new(name).unwrap(), logging.clone());
        self.handle.attach(Stream { program, which, run: 1, fd, logging, colour: 0 });
        File::from(write)
    }

    pub(crate) fn account(&self, name: &str) -> Account {
        self.handle.account(Name::new(name).unwrap()).unwrap()
    }

    pub(crate) fn finish(&mut self) {
        assert!(self.handle.shutdown(Duration::from_secs(10)).complete);
        self.thread.take().unwrap().join().unwrap();
    }
}

pub(crate) fn logging(target: LogTarget) -> Logging {
    Logging {
        stdout: target,
        stderr: LogTarget::Stdout,
        timestamps: false,
        rotate: Rotate {
            max_size: None,
            every: None,
            keep: 5,
            compress: Compress::None,
            after_reload: false,
        },
        max_line: Bytes(16 << 10),
        on_full: OnFull::DropOldest,
        owner: None,
        group: None,
        mode: Mode(0o640),
    }
}

/// Waits until `done`, at most ten seconds.
pub(crate) fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let (tick, attempts) = (Duration::from_millis(5), 2000);
    for _ in 0..attempts {
        if let Some(value) = done() {
            return value;
        }
        std::thread::park_timeout(tick);
    }
    panic!("waited in vain until {what}")
}

pub(crate) fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn output_is_written_to_the_file_as_it_is() {
    let mut bench = Bench::new();
    let path = bench.path("web.log");
    let mut out =
        bench.program("web", Which::Stdout, &Arc::new(logging(LogTarget::File(path.clone()))));
    out.write_all(b"one\ntwo \0\xff\nthree").unwrap();
    drop(out);
    bench.finish();
    assert_eq!(fs::read(&path).unwrap(), b"one\ntwo \0\xff\nthree\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn two_streams_in_one_file_keep_their_lines_whole() {
    let mut bench = Bench::new();
    let path = bench.path("web.log");
    let to = Arc::new(logging(LogTarget::File(path.clone())));
    let mut out = bench.program("web", Which::Stdout, &to);
    let mut err = bench.program("web", Which::Stderr, &to);
    for i in 0..500 {
        for (stream, c) in [(&mut out, 'o'), (&mut err, 'e')] {
            let line = format!("{}{i}\n", String::from(c).repeat(50));
            let (a, b) = line.split_at(i % 40 + 1);
            stream.write_all(a.as_bytes()).unwrap();
            stream.write_all(b.as_bytes()).unwrap();
        }
    }
    drop((out, err));
    bench.finish();
    let written = text(&path);
    for c in ['o', 'e'] {
        let wanted: Vec<_> =
            (0..500).map(|i| format!("{}{i}", String::from(c).repeat(50))).collect();
        let found: Vec<_> = written.lines().filter(|l| l.starts_with(c)).collect();
        assert_eq!(found, wanted);
    }
}

#[test]
fn under_a_flood_with_rotation_every_line_is_there_in_order() {
    for compress in [Compress::None, Compress::Gzip, Compress::Delayed] {
        let mut bench = Bench::new();
        let path = bench.path("web.log");
        let mut to = logging(LogTarget::File(path.clone()));
        to.rotate = Rotate { max_size: Some(Bytes(100_000)), keep: 1000, compress, ..to.rotate };
        let mut out = bench.program("web", Which::Stdout, &Arc::new(to));
        let mut wanted = String::new();
        for i in 0..200_000 {
            writeln!(wanted, "line {i}").unwrap();
        }
        out.write_all(wanted.as_bytes()).unwrap();
        let total = u64::try_from(wanted.len()).unwrap();
        wait_for("all is written", || (bench.account("web").stdout.written == total).then_some(()));
        bench.handle.reopen();
        drop(out);
        bench.finish();
        let mut all = String::new();
        for number in (1..1000).rev() {
            for gz in [true, false] {
                let name = rotation::Old { number, gz }.name(path.file_name().unwrap());
                let Ok(file) = File::open(path.with_file_name(name)) else { continue };
                let before = all.len();
                if gz {
                    flate2::read::GzDecoder::new(file).read_to_string(&mut all).unwrap();
                } else {
                    let mut file = file;
                    file.read_to_string(&mut all).unwrap();
                }
                assert!(all.len() - before <= 100_000);
                assert!(all.ends_with('\n'));
            }
        }
        all.push_str(&text(&path));
        assert!(all == wanted, "{compress:?}: {} of {}", all.len(), wanted.len());
    }
}

#[test]
fn a_full_disk_loses_whole_lines_and_says_how_many() {
    let mut bench = Bench::new();
    let dir = bench.path("gone");
    fs::create_dir(&dir).unwrap();
    let path = dir.join("web.log");
    let mut out =
        bench.program("web", Which::Stdout, &Arc::new(logging(LogTarget::File(path.clone()))));
    out.write_all(b"before\n").unwrap();
    wait_for("the file is there", || (text(&path) == "before\n").then_some(()));
    fs::rename(&dir, bench.path("away")).unwrap();
    let report = wait_for("it is reported", || {
        out.write_all(b"lost\n").unwrap();
        bench.reports.recv_timeout(Duration::from_millis(50)).ok()
    });
    assert!(
        report.what.contains("web.log: ENOENT") || report.what.contains("No such file"),
        "{report:?}"
    );
    wait_for("losses are counted", || (bench.account("web").stdout.dropped > 0).then_some(()));
    fs::create_dir(&dir).unwrap();
    bench.handle.reopen();
    out.write_all(b"after\n").unwrap();
    drop(out);
    bench.finish();
    let found = text(&path);
    assert!(
        found.starts_with("supervisor: web: ")
            && found.ends_with(" lost: No such file or directory\nafter\n"),
        "{found}"
    );
}

#[test]
fn a_symbolic_link_or_another_kind_of_file_is_refused() {
    let mut bench = Bench::new();
    let victim = bench.path("victim");
    fs::write(&victim, "precious\n").unwrap();
    std::os::unix::fs::symlink(&victim, bench.path("link.log")).unwrap();
    fs::hard_link(&victim, bench.path("hard.log")).unwrap();
    nix::unistd::mkfifo(&bench.path("fifo.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (name, why) in
        [("link", "symbolic link"), ("hard", "more than one name"), ("fifo", "not a regular file")]
    {
        let path = bench.path(&format!("{name}.log"));
        let mut out = bench.program(name, Which::Stdout, &Arc::new(logging(LogTarget::File(path))));
        out.write_all(b"evil\n").unwrap();
        let report = bench.reports.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(report.what.contains(why), "{report:?}");
    }
    bench.finish();
    assert_eq!(text(&victim), "precious\n");
}

#[test]
fn after_a_rename_and_reopen_the_new_file_gets_the_lines() {
    let mut bench = Bench::new();
    let path = bench.path("web.log");
    let mut out =
        bench.program("web", Which::Stdout, &Arc::new(logging(LogTarget::File(path.clone()))));
    out.write_all(b"old\n").unwrap();
    wait_for("the file is there", || (text(&path) == "old\n").then_some(()));
    fs::rename(&path, bench.path("web.old")).unwrap();
    bench.handle.reopen();
    wait_for("the file is made anew", || path.exists().then_some(()));
    out.write_all(b"new\n").unwrap();
    drop(out);
    bench.finish();
    assert_eq!(text(&bench.path("web.old")), "old\n");
    assert_eq!(text(&path), "new\n");
}

#[test]
fn a_stalled_reader_of_our_output_blocks_nobody_and_losses_add_up() {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut bench = Bench::with_stdout(Some(write));
    let mut out = bench.program("web", Which::Stdout, &Arc::new(logging(LogTarget::Console)));
    let line = "x".repeat(99) + "\n";
    for _ in 0..20_000 {
        out.write_all(line.as_bytes()).unwrap();
    }
    let c = wait_for("all is read", || {
        let c = bench.account("web").stdout;
        (c.offered == 2_000_000).then_some(c)
    });
    assert!(c.dropped > 1_000_000, "{c:?}");
    drop(out);
    let reader = std::thread::Builder::new()
        .spawn(move || {
            let mut all = String::new();
            File::from(read).read_to_string(&mut all).unwrap();
            all
        })
        .unwrap();
    let c = wait_for("all is written", || {
        let c = bench.account("web").stdout;
        (c.pending() == 0).then_some(c)
    });
    assert_eq!(c.offered, c.written + c.dropped);
    bench.finish();
    let all = reader.join().unwrap();
    let whole = all.lines().filter(|l| *l == format!("web | {}", line.trim_end())).count();
    assert_eq!(u64::try_from(whole).unwrap() * 100, c.written);
    let lost: u64 = all
        .lines()
        .filter_map(|l| l.strip_prefix("supervisor: web: ")?.split(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(lost * 100, c.dropped);
    assert!(all.lines().all(|l| l.starts_with("web | x") || l.starts_with("supervisor: web: ")));
}

#[test]
fn a_program_that_would_rather_wait_loses_nothing() {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut bench = Bench::with_stdout(Some(write));
    let mut to = logging(LogTarget::Console);
    to.on_full = OnFull::Block;
    let mut out = bench.program("web", Which::Stdout, &Arc::new(to));
    let writer = std::thread::Builder::new()
        .spawn(move || (0..50_000).for_each(|i| writeln!(out, "line {i}").unwrap()))
        .unwrap();
    let reader = std::thread::Builder::new()
        .spawn(move || {
            let mut all = String::new();
            File::from(read).read_to_string(&mut all).unwrap();
            all
        })
        .unwrap();
    writer.join().unwrap();
    wait_for("all is written", || {
        let c = bench.account("web").stdout;
        (c.offered > 0 && c.pending() == 0 && c.written >= 538_890).then_some(())
    });
    bench.finish();
    let wanted: String = (0..50_000).fold(String::new(), |mut all, i| {
        writeln!(all, "web | line {i}").unwrap();
        all
    });
    assert!(reader.join().unwrap() == wanted);
}

#[test]
fn logs_gives_the_last_lines_by_time_and_follows() {
    let mut bench = Bench::new();
    fs::write(bench.path("a.log"), "ancient\n").unwrap();
    let a = Arc::new(logging(LogTarget::File(bench.path("a.log"))));
    let b = Arc::new(logging(LogTarget::File(bench.path("b.log"))));
    let (mut a, mut b) =
        (bench.program("a", Which::Stdout, &a), bench.program("b", Which::Stderr, &b));
    a.write_all(b"first\n").unwrap();
    wait_for("it is read", || (bench.account("a").stdout.written == 6).then_some(()));
    b.write_all(b"second\n").unwrap();
    wait_for("it is read", || (bench.account("b").stderr.written == 7).then_some(()));
    let (tx, rx) = unbounded();
    let query = LogQuery { lines: 10, follow: true, ..LogQuery::default() };
    bench.handle.query(
        query,
        Box::new(move |batch| if tx.send(batch).is_ok() { Taken::Yes } else { Taken::Gone }),
    );
    let texts = |batch: LogBatch| -> Vec<String> {
        batch
            .lines
            .into_iter()
            .map(|l| format!("{}:{}", l.program, String::from_utf8_lossy(&l.text)))
            .collect()
    };
    let past = rx.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(texts(past), ["a:ancient", "a:first", "b:second"]);
    b.write_all(b"third\n").unwrap();
    assert_eq!(texts(rx.recv_timeout(Duration::from_secs(10)).unwrap()), ["b:third"]);
    bench.finish();
}

#[test]
fn a_grandchild_that_keeps_the_pipe_delays_nothing() {
    let mut bench = Bench::new();
    let path = bench.path("web.log");
    let mut out = bench.program("web", Which::Stdout, &Arc::new(logging(LogTarget::Console)));
    let mut file =
        bench.program("web", Which::Stdout, &Arc::new(logging(LogTarget::File(path.clone()))));
    file.write_all(b"unfinished").unwrap();
    out.write_all(b"x").unwrap();
    bench.handle.ended(1);
    wait_for("it is written", || (text(&path) == "unfinished").then_some(()));
    bench.finish();
}

#[test]
fn the_past_of_a_hundred_programs_is_bounded_and_the_latest_of_each_is_there() {
    let mut bench = Bench::new();
    let to = Arc::new(logging(LogTarget::Null));
    let before = resident();
    let block = "a line of the past\n".repeat(20_000);
    for n in 0..100 {
        let name = format!("p{n}");
        let mut out = bench.program(&name, Which::Stdout, &to);
        out.write_all(block.as_bytes()).unwrap();
        writeln!(out, "the last of {name}").unwrap();
    }
    let total = u64::try_from(block.len()).unwrap();
    wait_for("all is read", || (bench.account("p99").stdout.offered > total).then_some(()));
    // 38 MB were said; rings have 4 MiB in all, and the thread its buffer.
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown}");
    let (tx, rx) = unbounded();
    let query = LogQuery { lines: usize::MAX, ..LogQuery::default() };
    bench
        .handle
        .query(query, Box::new(move |batch| tx.send(batch).map_or(Taken::Gone, |()| Taken::Gone)));
    let past = rx.recv_timeout(Duration::from_secs(10)).unwrap().lines;
    assert!(past.iter().map(|l| l.text.len()).sum::<usize>() <= 4 << 20);
    for n in 0..100 {
        let last = format!("the last of p{n}");
        assert!(past.iter().any(|l| l.text == last.as_bytes()), "{last}");
    }
    bench.finish();
}

#[test]
fn a_line_without_end_is_cut_and_takes_no_memory() {
    let mut bench = Bench::new();
    let path = bench.path("web.log");
    let mut out =
        bench.program("web", Which::Stdout, &Arc::new(logging(LogTarget::File(path.clone()))));
    let before = resident();
    let block = vec![0_u8; 1 << 20];
    for _ in 0..64 {
        out.write_all(&block).unwrap();
    }
    drop(out);
    wait_for("all is written", || (bench.account("web").stdout.written == 64 << 20).then_some(()));
    assert!(resident().saturating_sub(before) < 8 << 20, "{before} {}", resident());
    bench.finish();
    let written = fs::read(&path).unwrap();
    let marks = (64 << 20) / (16 << 10) - 1;
    assert_eq!(memchr::memchr_iter(b'\n', &written).count(), marks + 1);
    assert_eq!(memchr::memchr_iter(0, &written).count(), 64 << 20);
}

pub(crate) fn resident() -> usize {
    let pages = text(Path::new("/proc/self/statm"));
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
