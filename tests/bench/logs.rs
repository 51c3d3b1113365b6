//! Throughput of one writer into a rotated file, beside `cat > file`'s way of doing it.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "a measurement, not a part of the product"
)]

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use mini_supervisor::{
    daemon::logs::{Options, PATIENCE, Stream, Which, start},
    model::{Bytes, Compress, LogTarget, Logging, Mode, Name, OnFull, Rotate},
};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
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

fn cat(dir: &Path) -> f64 {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut file = File::create(dir.join("cat")).unwrap();
    let (begin, writer) = (Instant::now(), writer(File::from(write)));
    let (mut read, mut buffer) = (File::from(read), vec![0; 128 << 10]);
    loop {
        let n = read.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        file.write_all(&buffer[..n]).unwrap();
    }
    writer.join().unwrap();
    TOTAL as f64 / 1e6 / begin.elapsed().as_secs_f64()
}

fn captured(dir: &Path) -> f64 {
    let rotate = Rotate {
        max_size: Some(Bytes(10 << 20)),
        every: None,
        keep: 5,
        compress: Compress::None,
        after_reload: false,
    };
    let logging = Logging {
        stdout: LogTarget::File(dir.join("log")),
        stderr: LogTarget::Stdout,
        timestamps: false,
        rotate,
        max_line: Bytes(16 << 10),
        on_full: OnFull::DropOldest,
        owner: None,
        group: None,
        mode: Mode(0o640),
    };
    let (handle, thread) = start(Options {
        stdout: None,
        stderr: None,
        no_color: true,
        make_below: None,
        journal: dir.join("journal"),
        syslog: dir.join("syslog"),
        patience: PATIENCE,
        touch: None,
        report: Box::new(|_| ()),
    })
    .unwrap();
    let (fd, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let (program, logging) = (Name::new("w").unwrap(), Arc::new(logging));
    handle.attach(Stream { program, which: Which::Stdout, run: 1, fd, logging, colour: 0 });
    let begin = Instant::now();
    writer(File::from(write)).join().unwrap();
    assert!(handle.shutdown(Duration::from_secs(60)).complete);
    thread.join().unwrap();
    TOTAL as f64 / 1e6 / begin.elapsed().as_secs_f64()
}

fn main() {
    for _ in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        println!("cat {:5.0} MB/s, log {:5.0} MB/s", cat(dir.path()), captured(dir.path()));
    }
}
