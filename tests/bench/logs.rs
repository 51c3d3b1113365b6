//! Throughput of one writer into a rotated file, and of a hundred into a hundred, beside as many
//! `cat > file`. Of the hundred every line is accounted for.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a measurement, not a part of the product"
)]

use std::{
    fs::File,
    io::{PipeReader, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use mini_supervisor::{
    daemon::logs::{LogHandle, Options, PATIENCE, Stream, Which, start},
    model::{Bytes, Compress, LogTarget, Logging, Mode, Name, OnFull, Rotate},
};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike as _,
    },
    time::{ClockId, clock_gettime},
    unistd::pipe2,
};

const TOTAL: usize = 2 << 30;

fn writer(mut to: File) -> thread::JoinHandle<()> {
    let block = "a line of output as programs write it, of middling length\n".repeat(1130);
    let work = move || {
        for _ in 0..TOTAL / block.len() {
            to.write_all(block.as_bytes()).unwrap();
        }
    };
    thread::Builder::new().spawn(work).unwrap()
}

/// `cat > file`.
fn cat(from: PipeReader, file: &Path) -> Child {
    let to = File::create(file).unwrap();
    Command::new("/bin/cat").stdin(from).stdout(to).spawn().unwrap()
}

fn by_cat(dir: &Path) -> f64 {
    let (read, write) = std::io::pipe().unwrap();
    let begin = Instant::now();
    let mut cat = cat(read, &dir.join("cat"));
    writer(File::from(OwnedFd::from(write))).join().unwrap();
    assert!(cat.wait().unwrap().success());
    TOTAL as f64 / 1e6 / begin.elapsed().as_secs_f64()
}

fn logging(file: PathBuf, max_size: u64, keep: u32) -> Logging {
    let rotate = Rotate {
        max_size: Some(Bytes(max_size)),
        every: None,
        keep,
        compress: Compress::None,
        after_reload: false,
    };
    Logging {
        stdout: LogTarget::File(file),
        stderr: LogTarget::Stdout,
        timestamps: false,
        rotate,
        max_line: Bytes(16 << 10),
        on_full: OnFull::DropOldest,
        owner: None,
        group: None,
        mode: Mode(0o640),
    }
}

fn log_thread(dir: &Path) -> (LogHandle, thread::JoinHandle<()>) {
    start(Options {
        stdout: None,
        stderr: None,
        no_color: true,
        make_below: None,
        journal: dir.join("journal"),
        syslog: dir.join("syslog"),
        patience: PATIENCE,
        touch: None,
        report: Box::new(|report| println!("{}", report.what)),
    })
    .unwrap()
}

/// A pipe whose output is captured.
fn attach(handle: &LogHandle, name: &str, logging: Logging) -> File {
    let (fd, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let (program, logging) = (Name::new(name).unwrap(), Arc::new(logging));
    handle.attach(Stream { program, which: Which::Stdout, run: 1, fd, logging, colour: 0 });
    File::from(write)
}

fn captured(dir: &Path) -> f64 {
    let (handle, thread) = log_thread(dir);
    let write = attach(&handle, "w", logging(dir.join("log"), 10 << 20, 5));
    let begin = Instant::now();
    writer(write).join().unwrap();
    assert!(handle.shutdown(Duration::from_secs(60)).complete);
    thread.join().unwrap();
    TOTAL as f64 / 1e6 / begin.elapsed().as_secs_f64()
}

const WRITERS: usize = 100;
const LINES: usize = 100_000;

fn line(writer: usize, number: usize) -> String {
    format!("writer {writer:03} line {number:08}: output of middling length\n")
}

/// What something took, in seconds: on the clock, and of processors by those who are not writers.
#[derive(Clone, Copy)]
struct Cost {
    clock: f64,
    cpu: f64,
}

/// Processor time of this process and of its children that were waited for, in seconds.
fn spent() -> f64 {
    let of = |who| {
        let usage = getrusage(who).unwrap();
        [usage.user_time(), usage.system_time()].map(|t| t.num_microseconds() as f64 / 1e6)
    };
    let both = [of(UsageWho::RUSAGE_SELF), of(UsageWho::RUSAGE_CHILDREN)];
    both.as_flattened().iter().sum()
}

/// A hundred writers that number their lines.
fn hundred(mut to: impl FnMut(usize) -> File, finish: impl FnOnce()) -> Cost {
    let files: Vec<File> = (0..WRITERS).map(&mut to).collect();
    let (begin, before) = (Instant::now(), spent());
    let writer = |(n, mut file): (usize, File)| {
        let work = move || {
            let mut block = String::new();
            for i in 0..LINES {
                block.push_str(&line(n, i));
                if block.len() > 32 << 10 || i + 1 == LINES {
                    file.write_all(block.as_bytes()).unwrap();
                    block.clear();
                }
            }
            drop(file);
            Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap())
        };
        thread::Builder::new().spawn(work).unwrap()
    };
    let threads: Vec<_> = files.into_iter().enumerate().map(writer).collect();
    let writers: Duration = threads.into_iter().map(|t| t.join().unwrap()).sum();
    finish();
    Cost { clock: begin.elapsed().as_secs_f64(), cpu: spent() - before - writers.as_secs_f64() }
}

/// Every line is there, once, whole and in order.
fn account(writer: usize, parts: impl Iterator<Item = PathBuf>) {
    let mut number = 0;
    for path in parts.filter(|path| path.exists()) {
        let text = std::fs::read_to_string(&path).unwrap();
        for found in text.split_inclusive('\n') {
            assert_eq!(found, line(writer, number), "{}", path.display());
            number += 1;
        }
    }
    assert_eq!(number, LINES, "lines of writer {writer}");
}

fn hundred_by_cat(dir: &Path) -> Cost {
    let mut cats = Vec::new();
    let to = |n: usize| {
        let (read, write) = std::io::pipe().unwrap();
        cats.push(cat(read, &dir.join(format!("cat{n}"))));
        File::from(OwnedFd::from(write))
    };
    // The ends that we hold are closed on exec, so each cat sees its end.
    let files: Vec<File> = (0..WRITERS).map(to).collect();
    let mut files = files.into_iter();
    let cost = hundred(
        |_| files.next().unwrap(),
        || cats.iter_mut().for_each(|cat| assert!(cat.wait().unwrap().success())),
    );
    (0..WRITERS).for_each(|n| account(n, std::iter::once(dir.join(format!("cat{n}")))));
    cost
}

fn hundred_captured(dir: &Path) -> Cost {
    let (handle, log) = log_thread(dir);
    let path = |n: usize| dir.join(format!("log{n}"));
    let to = |n: usize| attach(&handle, &format!("w{n}"), logging(path(n), 1 << 20, 1000));
    let cost = hundred(to, || {
        assert!(handle.shutdown(Duration::from_secs(60)).complete);
        log.join().unwrap();
    });
    for n in 0..WRITERS {
        let old = (1..=1000).rev().map(|k| dir.join(format!("log{n}.{k}")));
        account(n, old.chain([path(n)]));
    }
    cost
}

fn main() {
    for _ in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let (cat, log) = (by_cat(dir.path()), captured(dir.path()));
        println!("1 writer: cat {cat:5.0} MB/s, log {log:5.0} MB/s, ratio {:.2}", log / cat);
    }
    let bytes = (WRITERS * LINES * line(0, 0).len()) as f64 / 1e6;
    for _ in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let (cat, log) = (hundred_by_cat(dir.path()), hundred_captured(dir.path()));
        println!(
            "{WRITERS} writers: cat {:4.0} MB/s, log {:4.0} MB/s, ratio {:.2}; processor time cat \
             {:.2} s, log {:.2} s, ratio {:.2}; every line there",
            bytes / cat.clock,
            bytes / log.clock,
            cat.clock / log.clock,
            cat.cpu,
            log.cpu,
            log.cpu / cat.cpu,
        );
    }
}
