//! Where output goes: one sink for each file, service or descriptor, however many streams share it.

mod away;

use std::{collections::BTreeMap, os::fd::BorrowedFd, time::Duration};

pub(super) use self::away::Write;

use memchr::memchr;
use nix::errno::Errno;

use super::{
    LogReport, Which,
    console::Console,
    datagram::{self, Datagrams},
    file::LogFile,
    ledger::Ledger,
    path::OpenError,
    queue::{Loss, NOBODY, Queue, Segment, lines_in, long, short},
};
use crate::model::{Instant, WallTime};

/// What may wait for one sink.
const QUEUE_MAX: usize = 256 << 10;
/// What is left when lines were dropped: so that it is not done for each line.
const QUEUE_LOW: usize = 192 << 10;
/// How long a sink that cannot be written is left alone.
const RETRY: Duration = Duration::from_secs(10);
/// At most one report a sink in this time.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// At most one mark of a slow sink in this time, while it stays slow.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// Both clocks at the start of a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) wall: WallTime,
}

/// What sinks need of the thread they live in.
pub(super) struct Book<'a> {
    pub(super) at: Moment,
    pub(super) ledger: &'a mut Ledger,
    pub(super) reports: &'a mut Vec<LogReport>,
    /// A queue that was emptied, so that its memory is used again.
    pub(super) spare: &'a mut Option<Box<Queue>>,
}

/// What a sink writes to.
pub(super) enum Backend {
    Console(Console),
    File(LogFile),
    /// A file that is being written elsewhere.
    Away,
    Datagrams(Datagrams),
    Null,
}

enum Stop {
    Done,
    Full,
    Failed(OpenError),
}

/// A sink.
pub(super) struct Sink {
    pub(super) label: Box<str>,
    pub(super) backend: Backend,
    /// Streams that use it.
    pub(super) users: u32,
    /// Whether it is in the epoll set.
    pub(super) watched: bool,
    trip: away::Trip,
    queue: Option<Box<Queue>>,
    /// The stream whose unfinished line is the last thing in it.
    open_line: Option<u32>,
    /// What was last accepted, and what was last written, does not end a line.
    ends_open: bool,
    written_open: bool,
    retry_at: Option<Instant>,
    reason: Box<str>,
    lost: BTreeMap<u32, Loss>,
    unreported: u64,
    reported: Option<Instant>,
    marked: Option<Instant>,
}

impl Sink {
    pub(super) fn new(label: &str, backend: Backend) -> Self {
        Self {
            label: label.into(),
            backend,
            users: 0,
            watched: false,
            trip: away::Trip::default(),
            queue: None,
            open_line: None,
            ends_open: false,
            written_open: false,
            retry_at: None,
            reason: Box::default(),
            lost: BTreeMap::new(),
            unreported: 0,
            reported: None,
            marked: None,
        }
    }

    /// Whether output waits in it, or is on its way.
    pub(super) fn is_waiting(&self) -> bool {
        self.queue.is_some() || matches!(self.backend, Backend::Away)
    }

    /// Whether it cannot be written at present.
    pub(super) fn is_failing(&self) -> bool {
        self.retry_at.is_some()
    }

    /// When waiting output is to be tried again although nothing says that it can be written.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.queue.is_some())
    }

    /// Whether `stream` continues the line it began.
    pub(super) fn continues(&self, stream: u32) -> bool {
        self.open_line == Some(stream)
    }

    fn is_datagrams(&self) -> bool {
        matches!(self.backend, Backend::Datagrams(_))
    }

    /// Whether it can be forgotten: nothing waits and nothing is left to be said.
    pub(super) fn owes_nothing(&self) -> bool {
        !self.is_waiting() && self.lost.is_empty()
    }

    /// What epoll is to watch while output waits.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.backend {
            Backend::Console(console) => Some(console.fd()),
            Backend::Datagrams(datagrams) => datagrams.fd(),
            Backend::File(_) | Backend::Away | Backend::Null => None,
        }
    }

    /// Makes it ready to be written; false while it fails. Whether a file can be written is seen
    /// when it is tried.
    fn prepare(&mut self, book: &mut Book<'_>) -> bool {
        if self.retry_at.is_some_and(|at| book.at.now < at) {
            return false;
        }
        if let Backend::Datagrams(datagrams) = &mut self.backend
            && let Err(errno) = datagrams.prepare()
        {
            self.fail(errno.into(), book);
            return false;
        }
        self.retry_at = None;
        true
    }

    /// Takes output of `stream`. Gives true when the end of its unfinished line was lost, so that
    /// the rest of the line must not come either.
    pub(super) fn offer(
        &mut self,
        stream: u32,
        bytes: &[u8],
        segments: &[Segment],
        book: &mut Book<'_>,
    ) -> bool {
        let Some(last) = bytes.last() else { return false };
        let open = *last != b'\n' && !self.is_datagrams();
        let keep = segments.iter().any(|s| s.keep);
        let usable = self.prepare(book);
        if usable && self.queue.is_none() && !self.lost.is_empty() {
            self.flush(book);
        }
        if self.ends_open && !self.continues(stream) {
            self.end_line(book);
        }
        let mut done = 0;
        if self.queue.is_none() && !self.is_failing() {
            done = self.write(bytes, segments, book);
        }
        let mut torn = false;
        if done < bytes.len() {
            let (mut rest, mut bytes, mut segments) = (Queue::default(), bytes, segments);
            if done > 0 {
                rest.push(bytes, segments.iter().copied());
                rest.consume(done, |_, _| {});
                (bytes, segments) = rest.parts();
            }
            if self.is_failing() && !keep {
                self.discard(bytes, segments, book);
                torn = open;
            } else {
                let queue = self.queue.get_or_insert_with(|| book.spare.take().unwrap_or_default());
                queue.push(bytes, segments.iter().copied());
                torn = self.shed(open, book);
            }
        }
        self.ends_open = if torn { self.tail_is_open() } else { open };
        self.open_line = (open && !torn).then_some(stream);
        torn
    }

    /// Ends the unfinished line of somebody else, or of a stream that was closed.
    pub(super) fn end_line(&mut self, book: &mut Book<'_>) {
        if !self.ends_open || self.is_failing() && self.queue.is_none() {
            self.open_line = None;
            return;
        }
        let segment = Segment { owner: NOBODY, raw: 0, out: 1, keep: true };
        let done = if self.queue.is_none() { self.write(b"\n", &[segment], book) } else { 0 };
        if done == 0 {
            let queue = self.queue.get_or_insert_default();
            queue.push(b"\n", std::iter::once(segment));
        }
        self.ends_open = false;
        self.open_line = None;
    }

    /// Writes what waits, as far as it goes.
    pub(super) fn flush(&mut self, book: &mut Book<'_>) {
        if !self.prepare(book) {
            return;
        }
        self.place_mark(book);
        if self.is_file() {
            return;
        }
        while let Some(mut queue) = self.queue.take() {
            let (bytes, segments) = queue.parts();
            let done = self.write_quietly(bytes, segments, book);
            queue.consume(done, |owner, raw| book.ledger.written(owner, raw));
            if queue.len() > 0 {
                self.queue = Some(queue);
                break;
            }
            if !self.lost.is_empty() {
                self.place_mark(book);
            }
        }
        let kept = if self.is_failing() { self.queue.take() } else { None };
        if let Some(queue) = kept {
            self.give_up(queue, book);
        }
    }

    /// After a failure only the output of programs that rather wait is kept. Gives whether the
    /// unfinished line at the end was lost.
    fn give_up(&mut self, mut queue: Box<Queue>, book: &mut Book<'_>) -> bool {
        let datagrams = self.is_datagrams();
        let mut losses = Vec::new();
        let torn = queue.drop_oldest(0, false, datagrams, |o, loss| losses.push((o, loss)));
        self.lose(losses, book);
        if queue.len() > 0 {
            self.queue = Some(queue);
        } else {
            self.ends_open = self.written_open;
            self.open_line = None;
        }
        torn
    }

    /// Puts the mark of what was lost where the lines are missing, once the line that was begun is
    /// complete.
    fn place_mark(&mut self, book: &mut Book<'_>) {
        let recent = self.marked.is_some_and(|m| book.at.now.since(m) < MARK_EVERY);
        if self.lost.is_empty() || (recent && self.queue.is_some()) {
            return;
        }
        if let Some(mut queue) = self.queue.take() {
            if self.written_open && !self.is_file() {
                let (bytes, segments) = queue.parts();
                let line = memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
                let head = bytes.get(..line).unwrap_or_default();
                let done = self.write_quietly(head, segments, book);
                queue.consume(done, |owner, raw| book.ledger.written(owner, raw));
            }
            if queue.len() > 0 {
                self.queue = Some(queue);
            }
            if self.written_open || self.is_failing() {
                return;
            }
        } else if self.ends_open && self.open_line.is_some() {
            return;
        }
        self.marked = Some(book.at.now);
        let reason = self.reason.clone();
        for (owner, loss) in std::mem::take(&mut self.lost) {
            let name = book.ledger.name(owner).map_or("supervisor", |n| n.as_str());
            let mut text = Vec::new();
            if let Backend::Datagrams(d) = &self.backend {
                datagram::head(&mut text, d.service(), name, Which::Stderr, book.at.wall);
            } else if self.written_open && self.queue.is_none() {
                text.push(b'\n');
            }
            text.extend_from_slice(loss.mark(name, &reason).as_bytes());
            if !self.is_datagrams() {
                text.push(b'\n');
            }
            self.queue.get_or_insert_default().push_front(&text);
            if self.queue.as_ref().is_some_and(|q| q.len() == text.len()) {
                (self.ends_open, self.open_line) = (false, None);
            }
        }
    }

    fn tail_is_open(&mut self) -> bool {
        match &mut self.queue {
            Some(queue) => queue.parts().0.last().is_some_and(|b| *b != b'\n'),
            None => self.written_open,
        }
    }

    /// Drops the oldest lines when too much waits.
    fn shed(&mut self, open: bool, book: &mut Book<'_>) -> bool {
        let datagrams = self.is_datagrams();
        if self.is_file() && !self.trip.stuck {
            return false; // it is written before more is read
        }
        let Some(queue) = self.queue.as_mut().filter(|q| q.cost() > QUEUE_MAX) else {
            return false;
        };
        let mut losses = Vec::new();
        let torn = queue.drop_oldest(QUEUE_LOW, self.written_open, datagrams, |owner, loss| {
            losses.push((owner, loss));
        });
        if queue.len() == 0 {
            self.queue = None;
        }
        let why = if self.trip.stuck { "it does not take them" } else { "it is read too slowly" };
        self.reason = why.into();
        self.lose(losses, book);
        torn && open
    }

    fn discard(&mut self, mut bytes: &[u8], segments: &[Segment], book: &mut Book<'_>) {
        let datagrams = self.is_datagrams();
        let mut losses = Vec::new();
        for s in segments {
            let (text, after) = bytes.split_at_checked(long(s.out)).unwrap_or((bytes, &[]));
            bytes = after;
            let lines = if datagrams { 1 } else { lines_in(text) };
            losses.push((s.owner, Loss { lines, bytes: u64::from(s.raw) }));
        }
        self.lose(losses, book);
    }

    /// Counts bytes that are lost because the rest of their line is.
    pub(super) fn lose_rest(&mut self, owner: u32, text: &[u8], book: &mut Book<'_>) {
        let bytes = u64::from(short(text.len()));
        self.lose(vec![(owner, Loss { lines: 0, bytes })], book);
    }

    fn lose(&mut self, losses: Vec<(u32, Loss)>, book: &mut Book<'_>) {
        let mut first = None;
        for (owner, loss) in losses.into_iter().filter(|(owner, _)| *owner != NOBODY) {
            let sum = self.lost.entry(owner).or_default();
            sum.lines += loss.lines;
            sum.bytes += loss.bytes;
            book.ledger.dropped(owner, loss.bytes);
            self.unreported += loss.bytes;
            first.get_or_insert(owner);
        }
        self.report(first, book);
    }

    fn report(&mut self, owner: Option<u32>, book: &mut Book<'_>) {
        if self.reported.is_some_and(|at| book.at.now.since(at) < REPORT_EVERY) {
            return;
        }
        self.reported = Some(book.at.now);
        book.reports.push(LogReport {
            program: owner.and_then(|o| book.ledger.name(o)).cloned(),
            what: format!("cannot write {}: {}", self.label, self.reason),
            lost_bytes: std::mem::take(&mut self.unreported),
        });
    }

    fn fail(&mut self, error: OpenError, book: &mut Book<'_>) {
        self.retry_at = Some(book.at.now + RETRY);
        self.reason = error.to_string().into();
        match &mut self.backend {
            Backend::File(file) => file.close(),
            Backend::Datagrams(datagrams) => datagrams.close(),
            Backend::Console(_) | Backend::Away | Backend::Null => {}
        }
        // The line that was begun stays unfinished.
        self.open_line = None;
        self.report(None, book);
    }

    /// Tries again now; a file is opened anew.
    pub(super) fn reopen(&mut self) {
        self.retry_at = None;
        self.trip.reopen = match &self.backend {
            Backend::File(file) => file.is_open(),
            Backend::Away => true,
            Backend::Console(_) | Backend::Datagrams(_) | Backend::Null => false,
        };
    }

    fn write(&mut self, bytes: &[u8], segments: &[Segment], book: &mut Book<'_>) -> usize {
        let done = self.write_quietly(bytes, segments, book);
        let mut left = done;
        for s in segments {
            let part = left.min(long(s.out));
            left -= part;
            let whole = part == long(s.out);
            let raw = if whole {
                s.raw
            } else if s.raw == s.out {
                short(part)
            } else {
                0
            };
            book.ledger.written(s.owner, raw);
            if !whole {
                break;
            }
        }
        done
    }

    fn write_quietly(&mut self, bytes: &[u8], segments: &[Segment], book: &mut Book<'_>) -> usize {
        let (done, stop) = match &mut self.backend {
            Backend::Null => (bytes.len(), Stop::Done),
            Backend::Console(console) => write_console(console, bytes),
            Backend::File(_) | Backend::Away => (0, Stop::Full),
            Backend::Datagrams(datagrams) => {
                let mut refused = Vec::new();
                let result = send_all(datagrams, bytes, segments, &mut refused);
                for s in refused {
                    book.ledger.refused(s.owner, s.raw);
                }
                result
            }
        };
        if let Some(last) = done.checked_sub(1).and_then(|i| bytes.get(i)) {
            self.written_open = *last != b'\n' && !self.is_datagrams();
        }
        if let Stop::Failed(error) = stop {
            self.fail(error, book);
        }
        done
    }
}

fn write_console(console: &Console, bytes: &[u8]) -> (usize, Stop) {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|r| !r.is_empty()) {
        match console.write(rest) {
            Ok(0) | Err(Errno::EAGAIN) => return (done, Stop::Full),
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(errno) => return (done, Stop::Failed(errno.into())),
        }
    }
    (done, Stop::Done)
}

fn send_all(
    datagrams: &Datagrams,
    bytes: &[u8],
    segments: &[Segment],
    refused: &mut Vec<Segment>,
) -> (usize, Stop) {
    let mut done = 0;
    for s in segments {
        let Some(message) = bytes.get(done..done + long(s.out)) else { break };
        match datagrams.send(message) {
            Ok(()) => {}
            Err(Errno::EAGAIN) => return (done, Stop::Full),
            Err(Errno::EMSGSIZE) => refused.push(*s),
            Err(errno) => return (done, Stop::Failed(errno.into())),
        }
        done += long(s.out);
    }
    (done, Stop::Done)
}
