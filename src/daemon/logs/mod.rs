//! The output of all programs: one thread reads every pipe and writes every log.
//!
//! ```text
//!   pipes ─► splitter ─► ring (for `logs`)
//!               └──────► format ─► sink: console, file, journal, syslog
//! ```
//!
//! Every byte read is counted as written or dropped, per stream; what was dropped is said in a line
//! of its own where it is missing. A line longer than `max_line` goes on in the next line, and the
//! piece before ends in ` \`. A line that a program leaves unfinished at its end is ended for it.
//! Nothing wakes the thread up when no program writes and nothing is due.
//!
//! Files are written in errands, between which the state of all this lies where a second thread can
//! take it: a file system that does not answer holds up its own files only.

mod clock;
mod compress;
mod console;
mod datagram;
mod ear;
mod errand;
mod file;
mod format;
mod ledger;
mod orders;
mod path;
mod pump;
mod query;
mod queue;
mod relay;
mod ring;
pub mod rotation;
mod sink;
pub mod splitter;
mod table;
mod turn;

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use nix::sys::eventfd::{EfdFlags, EventFd};

pub use ear::Ear;

use crate::model::{Logging, Name, SupervisorLog, WallTime};

/// Lines of our own that may wait for the thread, in bytes.
const OWN_MAX: usize = 256 << 10;

/// One of the two output streams of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A pipe to capture.
#[derive(Debug)]
pub struct Stream {
    /// Whose it is.
    pub program: Name,
    /// Which of its streams.
    pub which: Which,
    /// The run it belongs to.
    pub run: u64,
    /// The end to read, nonblocking.
    pub fd: OwnedFd,
    /// Where it goes.
    pub logging: Arc<Logging>,
    /// The number of the program's colour on a terminal.
    pub colour: u8,
}

/// What the log thread is given at its start.
pub struct Options {
    /// For `NAME | line`; `None`: it is closed.
    pub stdout: Option<OwnedFd>,
    /// For our own log; `None`: it is closed.
    pub stderr: Option<OwnedFd>,
    /// `NO_COLOR` is set.
    pub no_color: bool,
    /// A missing directory of a log file is made when it lies below this.
    pub make_below: Option<PathBuf>,
    /// Socket of the journal.
    pub journal: PathBuf,
    /// Socket of syslog.
    pub syslog: PathBuf,
    /// How long a file may take to be written before another thread goes on with the others; up to
    /// twice as long, for it is looked at now and then.
    pub patience: Duration,
    /// Called before a file is touched, where it is touched: for tests, in place of a file system
    /// that does not answer.
    pub touch: Option<Touch>,
    /// Told about sinks that fail, in the log thread; must not block.
    pub report: Box<dyn Fn(LogReport) + Send>,
}

/// Something that is done with the path of a file before it is touched.
pub type Touch = Arc<dyn Fn(&Path) + Send + Sync>;

/// What [`Options::patience`] is unless a test is in a hurry.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Something a human should know about a sink; at most one a minute and sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReport {
    /// The program that lost output, when it is one.
    pub program: Option<Name>,
    /// `cannot write /var/log/web.log: No space left on device`.
    pub what: String,
    /// Bytes lost since the last report.
    pub lost_bytes: u64,
}

/// What became of the bytes of one stream, over all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Read from the program.
    pub offered: u64,
    /// Written to the sink.
    pub written: u64,
    /// Lost, and reported as lost.
    pub dropped: u64,
}

impl Counts {
    /// Bytes that wait for their sink or for the end of their line.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.offered.saturating_sub(self.written).saturating_sub(self.dropped)
    }
}

/// What became of the output of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Its standard output.
    pub stdout: Counts,
    /// Its standard error.
    pub stderr: Counts,
    /// For how long a file of its output has not been written although it should have been.
    pub stuck: Option<Duration>,
}

/// What `supervisor logs` asks for.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// Empty: all programs.
    pub programs: Vec<Name>,
    /// At most so many lines of the past, over all programs.
    pub lines: usize,
    /// Only lines from then on.
    pub since: Option<WallTime>,
    /// Only standard error.
    pub stderr_only: bool,
    /// Go on with what comes.
    pub follow: bool,
}

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Whose.
    pub program: Name,
    /// Which stream; lines read back from a file that both share count as standard output.
    pub which: Which,
    /// When it was read; `None`: before this supervisor was started.
    pub time: Option<WallTime>,
    /// The line without its newline, not made safe for terminals.
    pub text: Vec<u8>,
}

/// Lines for a reader of logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogBatch {
    /// In order of time.
    pub lines: Vec<LogLine>,
    /// Lines that the reader has missed before these because it was too slow.
    pub lost: u64,
}

/// What a reader of logs did with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Took it.
    Yes,
    /// Had no room: the batch is lost and counted in the next one.
    Full,
    /// Is gone.
    Gone,
}

/// Takes batches in the log thread; must not block. The first batch is the past.
pub type Reader = Box<dyn FnMut(LogBatch) -> Taken + Send>;

enum Command {
    Attach(Box<Stream>),
    Listen(u64, Vec<Ear>),
    Ended(u64),
    Retire(Name),
    Reconfigure(Name, Arc<Logging>),
    Reopen,
    Query(Box<LogQuery>, Reader),
    Own(Vec<u8>),
    OwnLog(Box<SupervisorLog>),
    Account(Name, Sender<Account>),
    Shutdown(Duration, Sender<Drained>),
    Compressed(compress::Job, bool),
    Back(errand::Errand),
}

/// What was left when the log thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Whether everything that was in the pipes has been written or counted as lost.
    pub complete: bool,
}

/// The way to the log thread. Nothing here blocks, except where a reply is waited for.
#[derive(Clone)]
pub struct LogHandle {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
    /// Whether it was woken and has not looked yet.
    awake: Arc<AtomicBool>,
    own_waiting: Arc<AtomicUsize>,
    own_lost: Arc<AtomicU64>,
}

/// Starts the log thread, and one that stands by. They end after [`LogHandle::shutdown`]; if they
/// end otherwise, that is a bug.
///
/// # Errors
/// No thread or no descriptor can be had.
pub fn start(options: Options) -> io::Result<(LogHandle, thread::JoinHandle<()>)> {
    let (commands, receiver) = unbounded();
    let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let handle = LogHandle {
        commands,
        wake: Arc::new(wake),
        awake: Arc::default(),
        own_waiting: Arc::default(),
        own_lost: Arc::default(),
    };
    let (patience, touch) = (options.patience, options.touch.clone());
    let pump = pump::Pump::new(options, receiver, handle.clone())?;
    let thread = relay::start(pump, handle.clone(), (patience, touch))?;
    Ok((handle, thread))
}

/// Opens the file of our own log as the thread would, if there is one.
///
/// # Errors
/// Why it cannot be written.
pub fn try_own_log(log: &SupervisorLog, make_below: &str) -> Result<(), String> {
    let Some(path) = &log.file else { return Ok(()) };
    let ownership = path::Ownership { owner: log.owner, group: log.group, mode: log.mode.0 };
    let below = Some(PathBuf::from(make_below));
    let mut file = file::LogFile::new(path, below, log.rotate.clone(), ownership);
    let at = sink::Moment { now: clock::now(), wall: clock::wall() };
    file.prepare(at).map(drop).map_err(|why| format!("cannot write {}: {why}", path.display()))
}

impl LogHandle {
    /// Captures a stream until its end.
    pub fn attach(&self, stream: Stream) {
        self.send(Command::Attach(Box::new(stream)));
    }

    /// Listens to what the run writes, from now on, instead of as before. Of a run whose streams
    /// are captured later, all is heard.
    pub fn listen(&self, run: u64, ears: Vec<Ear>) {
        self.send(Command::Listen(run, ears));
    }

    /// The main process of this run has ended. Whoever else holds its pipes is read in the
    /// background; an unfinished line is no longer waited for.
    pub fn ended(&self, run: u64) {
        self.send(Command::Ended(run));
    }

    /// The program is no longer part of the site.
    pub fn retire(&self, program: Name) {
        self.send(Command::Retire(program));
    }

    /// The program's output is treated so from now on.
    pub fn reconfigure(&self, program: Name, logging: Arc<Logging>) {
        self.send(Command::Reconfigure(program, logging));
    }

    /// Opens all files again (SIGUSR1), and tries again what could not be written.
    pub fn reopen(&self) {
        self.send(Command::Reopen);
    }

    /// Gives lines to `reader`: the past at once, then, with `follow`, what comes.
    pub fn query(&self, query: LogQuery, reader: Reader) {
        self.send(Command::Query(Box::new(query), reader));
    }

    /// Where our own lines go from now on; standard error until then.
    pub fn own_log(&self, log: SupervisorLog) {
        self.send(Command::OwnLog(Box::new(log)));
    }

    /// Writes a line of our own, formed already. When too much waits it is dropped and counted.
    pub fn own_line(&self, line: &[u8]) {
        let before = self.own_waiting.fetch_add(line.len(), Ordering::Relaxed);
        if before.saturating_add(line.len()) > OWN_MAX {
            self.own_waiting.fetch_sub(line.len(), Ordering::Relaxed);
            self.own_lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.send(Command::Own(line.to_vec()));
    }

    /// What became of the output of `program`; `None` when the thread does not answer in a second.
    #[must_use]
    pub fn account(&self, program: Name) -> Option<Account> {
        let (reply, answer) = bounded(1);
        self.send(Command::Account(program, reply));
        answer.recv_timeout(Duration::from_secs(1)).ok()
    }

    /// Reads what is still in the pipes, writes what waits, and ends the thread, in `within`.
    #[must_use]
    pub fn shutdown(&self, within: Duration) -> Drained {
        let (reply, answer): (_, Receiver<Drained>) = bounded(1);
        self.send(Command::Shutdown(within, reply));
        let grace = within.saturating_add(Duration::from_millis(500));
        answer.recv_timeout(grace).unwrap_or(Drained { complete: false })
    }

    fn send(&self, command: Command) {
        // After the thread has ended there is nobody to tell; at a full counter it is awake anyway.
        if self.commands.send(command).is_ok() && !self.awake.swap(true, Ordering::AcqRel) {
            self.wake.write(1).unwrap_or_default();
        }
    }
}
