//! What the log thread does on file systems, apart from everything else: it may not come back.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Command, LogHandle, LogReport, compress, file,
    path::OpenError,
    pump::{OWN, Pump},
    query::Past,
    queue::{Segment, long, short},
    sink::{Backend, Write},
};
use crate::{
    model::{Compress, Instant},
    sys::mountinfo,
};

/// Something that touches files.
pub(super) enum Errand {
    /// Write what waits for a log file.
    Write(Box<Write>),
    /// Begin to compress a rotated file of this log, if there is one.
    Compress(Begin),
    /// Put a compressed file in its place.
    Finish(compress::Job, bool, Result<(), OpenError>),
    /// Read the end of files for somebody who asks.
    Past(Box<Past>),
}

/// The beginning of a compression, and whether there was something to compress.
pub(super) struct Begin {
    id: u32,
    path: PathBuf,
    compress: Compress,
    handle: LogHandle,
    begun: bool,
}

/// What is to be done, and what does not come back.
#[derive(Default)]
pub(super) struct Errands {
    /// Sinks whose files are to be written.
    pub(super) files: BTreeSet<u32>,
    pub(super) others: VecDeque<Errand>,
    pub(super) to_compress: BTreeSet<u32>,
    compressing: bool,
    /// The sink whose file is out, if it is one, and the file system of that.
    out: Option<(u32, Option<u64>)>,
    hung: Vec<Hung>,
}

/// A file that does not come back.
struct Hung {
    id: u32,
    since: Instant,
    mount: PathBuf,
    device: Option<u64>,
}

impl Errand {
    /// The log file that it is about.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Write(write) => Some(write.path()),
            Self::Compress(begin) => Some(&begin.path),
            Self::Finish(..) | Self::Past(_) => None,
        }
    }

    /// Does it; this may take for ever.
    pub(super) fn run(&mut self) {
        match self {
            Self::Write(write) => write.run(),
            Self::Compress(begin) => {
                file::tidy(&begin.path);
                let handle = begin.handle.clone();
                let done = move |job, complete| handle.send(Command::Compressed(job, complete));
                begin.begun = compress::start(&begin.path, begin.compress, done) == Ok(true);
            }
            Self::Finish(job, complete, result) => *result = compress::finish(job, *complete),
            Self::Past(past) => past.run(),
        }
    }
}

impl Pump {
    /// The next thing to be done elsewhere. Files on a file system that does not answer wait.
    pub(super) fn next_errand(&mut self) -> Option<Errand> {
        self.errands.out = None;
        while let Some(id) = self.errands.files.pop_first() {
            if self.is_where_one_hangs(id) {
                self.with_sink(id, |sink, _| sink.set_stuck(true));
                self.pause(id);
                continue;
            }
            if let Some(write) = self.with_sink(id, |sink, book| sink.depart(id, book)).flatten() {
                self.errands.out = Some((id, write.device()));
                return Some(Errand::Write(write));
            }
        }
        self.errands.others.pop_front().or_else(|| self.next_to_compress())
    }

    fn next_to_compress(&mut self) -> Option<Errand> {
        if self.errands.compressing {
            return None;
        }
        for id in self.errands.to_compress.clone() {
            let Some(sink) = self.sinks.at(id) else {
                self.errands.to_compress.remove(&id);
                continue;
            };
            let Backend::File(log) = &sink.backend else { continue };
            if sink.is_stuck() {
                continue;
            }
            let (path, compress) = (log.path().to_owned(), log.compress());
            self.errands.compressing = true;
            let handle = self.handle.clone();
            return Some(Errand::Compress(Begin { id, path, compress, handle, begun: false }));
        }
        None
    }

    /// Takes the result of an errand.
    pub(super) fn returned(&mut self, errand: Errand) {
        match errand {
            Errand::Write(write) => self.written(write),
            Errand::Compress(begin) => {
                self.errands.compressing = begin.begun;
                if begin.begun {
                    return;
                }
                self.errands.to_compress.remove(&begin.id);
                if let Some(sink) = self.sinks.at(begin.id)
                    && let Backend::File(log) = &mut sink.backend
                {
                    log.compressible = false;
                }
            }
            Errand::Finish(_, _, result) => {
                self.errands.compressing = false;
                if let Err(error) = result {
                    let what = format!("cannot compress a rotated log: {error}");
                    self.reports.push(LogReport { program: None, what, lost_bytes: 0 });
                }
            }
            Errand::Past(past) => self.answered(*past),
        }
    }

    fn written(&mut self, mut write: Box<Write>) {
        let id = write.id;
        self.goes_on(id, &write);
        // What our own file does not take is worth showing elsewhere.
        let ours = self.own.1 == Some(id) && self.own.0.as_ref().is_none_or(|log| !log.stderr);
        let own = if ours { write.unwritten() } else { Vec::new() };
        let torn = self.with_sink(id, |sink, book| sink.arrive(write, book)).flatten();
        if let Some(slot) = torn.filter(|slot| *slot != OWN)
            && let Some(tap) = self.taps.get_mut(long(slot)).and_then(Option::as_mut)
        {
            tap.skip |= tap.sink == id;
        }
        if !own.is_empty() {
            let owner = super::ledger::Ledger::owner(0, super::Which::Stderr);
            let out = short(own.len());
            let segment = Segment { owner, raw: out, out, keep: false };
            self.ledger.offered(owner, own.len());
            self.with_sink(self.own.2, |sink, book| sink.offer(OWN, &own, &[segment], book));
        }
        if self.sinks.at(id).is_some_and(|s| s.holds_up()) {
            self.pause(id);
        } else if self.sinks.at(id).is_some_and(|s| !s.is_waiting()) {
            self.resume(id);
        }
        self.sinks.forget_unused(id);
    }

    /// Somebody has not come back from the last errand: notes and says so.
    pub(super) fn stalled(&mut self, patience: Duration, successor: Option<io::Error>) {
        let since = self.at.now;
        self.at.now = super::clock::now();
        let after = patience.as_secs_f64();
        let what = if let Some((id, device)) = self.errands.out {
            let label = self.sinks.at(id).map(|sink| {
                sink.set_stuck(true);
                sink.label.to_string()
            });
            let label = label.unwrap_or_default();
            let mount = mountinfo::mount_of(Path::new(&label));
            self.errands.hung.push(Hung { id, since, mount, device });
            self.pause(id);
            format!(
                "writing {label} has not come back for {after:.0} s; what goes there waits, and \
                 when too much does the oldest is lost"
            )
        } else {
            format!("reading or compressing an old log has not come back for {after:.0} s")
        };
        self.reports.push(LogReport { program: None, what, lost_bytes: 0 });
        if let Some(error) = successor {
            let what = format!("cannot start a thread that stands by for the logs: {error}");
            self.reports.push(LogReport { program: None, what, lost_bytes: 0 });
        }
    }

    /// Whether the file of a sink is on a file system that does not answer.
    fn is_where_one_hangs(&mut self, id: u32) -> bool {
        if self.errands.hung.is_empty() {
            return false;
        }
        let Some(Backend::File(file)) = self.sinks.at(id).map(|s| &s.backend) else { return false };
        let device = file.device();
        let place = file.path().to_owned();
        let mut mount = None;
        self.errands.hung.iter().any(|hung| match (device, hung.device) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => *mount.get_or_insert_with(|| mountinfo::mount_of(&place)) == hung.mount,
        })
    }

    /// A file that did not come back has: those that waited with it are tried again.
    fn goes_on(&mut self, id: u32, write: &Write) {
        let Some(at) = self.errands.hung.iter().position(|hung| hung.id == id) else { return };
        let hung = self.errands.hung.remove(at);
        let after = self.at.now.since(hung.since).as_secs_f64();
        let what = format!("writing {} has come back after {after:.0} s", write.path().display());
        self.reports.push(LogReport { program: None, what, lost_bytes: 0 });
        for other in self.sinks.ids() {
            if self.errands.hung.iter().all(|hung| hung.id != other) {
                self.with_sink(other, |sink, _| sink.set_stuck(false));
            }
        }
    }

    /// For how long the output of this sink has not been taken, if it is stuck.
    pub(super) fn stuck_for(&mut self, id: u32) -> Option<Duration> {
        let (now, stuck) = (self.at.now, self.sinks.at(id).is_some_and(|s| s.is_stuck()));
        let since = self.errands.hung.iter().map(|hung| hung.since).min();
        since.filter(|_| stuck).map(|since| now.since(since))
    }
}
