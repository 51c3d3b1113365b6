//! The log thread: waits for pipes, sinks and commands, and moves bytes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender};
use memchr::{memchr, memrchr};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    unistd::read,
};

use super::{
    Command, Drained, LogHandle, LogReport, Options, Which, clock,
    ear::Ear,
    errand::Errands,
    format::{Batch, Form, Look},
    ledger::Ledger,
    orders,
    query::Follower,
    queue::{Queue, Segment, long, short},
    ring::Ring,
    sink::{Backend, Book, Moment, Sink},
    splitter::Splitter,
    table::{Key, Sinks},
    turn::Step,
};
use crate::model::{Instant, Logging, Name, OnFull, SupervisorLog};

/// What is read at once.
const READ: usize = 256 << 10;
/// What is read at once of a stream whose lines are formed one by one, which makes them longer.
const READ_FORMED: usize = 32 << 10;
/// What one stream may read in a turn, so that the others have theirs soon.
pub(super) const TURN: usize = 512 << 10;
/// What is read of each stream at the end: more than a pipe holds, but not what is yet to come.
pub(super) const DRAIN: usize = 4 << 20;
/// The longest unfinished line that is held back.
const HELD_MAX: usize = 64 << 10;
/// How long an unfinished line is held back.
pub(super) const HOLD: Duration = Duration::from_millis(100);
/// Memory for all rings together.
const RINGS_MAX: usize = 4 << 20;
/// The size of a pipe unless it was changed, pipe(7).
const PIPE: usize = 64 << 10;

pub(super) const SINK: u64 = 1 << 32;
pub(super) const WAKE: u64 = 1 << 33;
/// The stream number of our own lines.
pub(super) const OWN: u32 = u32::MAX;

/// A stream that is captured.
pub(super) struct Tap {
    pub(super) fd: OwnedFd,
    pub(super) program: u32,
    pub(super) which: Which,
    pub(super) run: u64,
    pub(super) logging: Arc<Logging>,
    pub(super) ears: Box<[Ear]>,
    pub(super) sink: u32,
    pub(super) form: Form,
    pub(super) colour: u8,
    pub(super) splitter: Splitter,
    pub(super) held: Vec<u8>,
    pub(super) held_since: Instant,
    pub(super) skip: bool,
    pub(super) paused: bool,
    pub(super) ended: bool,
    pub(super) full_reads: u8,
}

/// A program that has written something or may yet.
pub(super) struct Source {
    pub(super) name: Name,
    pub(super) ring: Option<Box<Ring>>,
    pub(super) logging: Arc<Logging>,
    pub(super) retired: bool,
}

pub(super) struct Pump {
    pub(super) epoll: Epoll,
    pub(super) commands: Receiver<Command>,
    pub(super) handle: LogHandle,
    pub(super) taps: Vec<Option<Box<Tap>>>,
    pub(super) free: Vec<u32>,
    pub(super) holding: BTreeSet<u32>,
    /// Sinks that have something to do at some time.
    pub(super) timed: BTreeSet<u32>,
    pub(super) steps: VecDeque<Step>,
    /// What is to be done to files.
    pub(super) errands: Errands,
    pub(super) spare: Option<Box<Queue>>,
    pub(super) sinks: Sinks,
    pub(super) sources: BTreeMap<u32, Source>,
    pub(super) numbers: BTreeMap<Name, u32>,
    pub(super) ledger: Ledger,
    pub(super) reports: Vec<LogReport>,
    pub(super) report: Box<dyn Fn(LogReport) + Send>,
    pub(super) followers: Vec<Follower>,
    /// What is listened for, by run.
    pub(super) ears: BTreeMap<u64, Vec<Ear>>,
    pub(super) buffer: Vec<u8>,
    pub(super) batch: Batch,
    pub(super) ring_cost: usize,
    pub(super) width: usize,
    pub(super) no_color: bool,
    pub(super) own: (Option<SupervisorLog>, Option<u32>, u32),
    pub(super) closing: Option<(Instant, Sender<Drained>)>,
    pub(super) at: Moment,
}

/// The rest of `buf` from `from`.
fn tail(buf: &[u8], from: usize) -> &[u8] {
    buf.get(from..).unwrap_or_default()
}

impl Pump {
    pub(super) fn new(
        mut options: Options,
        commands: Receiver<Command>,
        handle: LogHandle,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(handle.wake.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let mut sinks = Sinks::new(&mut options);
        let stderr = sinks.join(&Key::Stderr, &orders::no_rotation(), orders::PRIVATE);
        let mut ledger = Ledger::default();
        if let Ok(name) = Name::new("supervisor") {
            ledger.add(name); // number 0: our own lines
        }
        Ok(Self {
            epoll,
            commands,
            handle,
            taps: Vec::new(),
            free: Vec::new(),
            holding: BTreeSet::new(),
            timed: BTreeSet::new(),
            steps: VecDeque::new(),
            errands: Errands::default(),
            spare: None,
            sinks,
            sources: BTreeMap::new(),
            numbers: BTreeMap::new(),
            ledger,
            reports: Vec::new(),
            report: options.report,
            followers: Vec::new(),
            ears: BTreeMap::new(),
            buffer: vec![0; READ + HELD_MAX],
            batch: Batch::default(),
            ring_cost: 0,
            width: 0,
            no_color: options.no_color,
            own: (None, None, stderr),
            closing: None,
            at: Moment { now: clock::now(), wall: clock::wall() },
        })
    }

    pub(super) fn timeout(&mut self) -> EpollTimeout {
        let mut next = self.closing.as_ref().map(|(at, _)| *at);
        let mut soonest = |at: Instant| next = Some(next.map_or(at, |n: Instant| n.min(at)));
        for slot in &self.holding {
            if let Some(tap) = self.taps.get(long(*slot)).and_then(Option::as_ref) {
                soonest(if tap.ended { tap.held_since } else { tap.held_since + HOLD });
            }
        }
        for id in &self.timed {
            let Some(sink) = self.sinks.at(*id) else { continue };
            sink.retry_at().into_iter().for_each(&mut soonest);
            let Backend::File(file) = &sink.backend else { continue };
            if let Some(due) = file.due().filter(|_| !sink.is_stuck()) {
                let ms = u64::try_from(due.0.saturating_sub(self.at.wall.0)).unwrap_or(0);
                soonest(self.at.now + Duration::from_millis(ms));
            }
        }
        let Some(at) = next else { return EpollTimeout::NONE };
        let left = at.since(clock::now());
        if left.is_zero() {
            return EpollTimeout::ZERO;
        }
        // Rounded up, so that what is due is due when we wake; cut at what epoll_wait(2) takes.
        EpollTimeout::try_from(left.saturating_add(Duration::from_millis(1)))
            .unwrap_or(EpollTimeout::MAX)
    }

    /// Runs `work` on a sink and arranges for what the sink then waits for.
    pub(super) fn with_sink<T>(
        &mut self,
        id: u32,
        work: impl FnOnce(&mut Sink, &mut Book<'_>) -> T,
    ) -> Option<T> {
        let sink = self.sinks.at(id)?;
        let mut book = Book {
            at: self.at,
            ledger: &mut self.ledger,
            reports: &mut self.reports,
            spare: &mut self.spare,
        };
        let result = work(sink, &mut book);
        if sink.wants_errand() {
            self.errands.files.insert(id);
        }
        let waiting = sink.is_waiting() && !sink.is_failing();
        let change = if waiting == sink.watched { None } else { sink.fd() };
        if let Some(fd) = change {
            let event = EpollEvent::new(EpollFlags::EPOLLOUT, SINK | u64::from(id));
            let set = if waiting { self.epoll.add(fd, event) } else { self.epoll.delete(fd) };
            // Regular files cannot be watched (EPERM) and never make anybody wait.
            sink.watched = set.is_ok() && waiting;
        }
        let mut timed = sink.retry_at().is_some();
        if let Backend::File(file) = &sink.backend {
            timed |= file.due().is_some();
            if file.compressible && file.compress() != crate::model::Compress::None {
                self.errands.to_compress.insert(id);
            }
        }
        if timed {
            self.timed.insert(id);
        } else {
            self.timed.remove(&id);
        }
        Some(result)
    }

    pub(super) fn flush(&mut self, id: u32) {
        let waits = self.with_sink(id, |sink, book| {
            sink.flush(book);
            sink.is_waiting()
        });
        if waits == Some(false) {
            self.resume(id);
        }
    }

    /// Reads those programs no longer that rather wait until this sink takes their output.
    pub(super) fn pause(&mut self, id: u32) {
        for tap in self.taps.iter_mut().flatten() {
            let waits = tap.sink == id && tap.logging.on_full == OnFull::Block;
            if waits && !tap.paused && self.closing.is_none() {
                tap.paused = self.epoll.delete(&tap.fd).is_ok();
            }
        }
    }

    /// Reads the programs again that waited for this sink.
    pub(super) fn resume(&mut self, id: u32) {
        let epoll = &self.epoll;
        for (slot, tap) in (0_u32..).zip(&mut self.taps) {
            if let Some(tap) = tap.as_mut().filter(|t| t.paused && t.sink == id) {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(slot));
                tap.paused = epoll.add(&tap.fd, event).is_err();
            }
        }
    }

    /// Reads a stream once. Gives how much of `left` it may yet read, if there may be more.
    pub(super) fn pull(&mut self, slot: u32, left: usize, drain: bool) -> usize {
        let Some(mut tap) = self.taps.get_mut(long(slot)).and_then(Option::take) else { return 0 };
        let mut buffer = std::mem::take(&mut self.buffer);
        let size =
            if tap.form == Form::Plain && !tap.logging.timestamps { READ } else { READ_FORMED };
        let held = tap.held.len();
        if let Some(head) = buffer.get_mut(..held) {
            head.copy_from_slice(&tap.held);
        }
        let room = buffer.get_mut(held..held + size).unwrap_or_default();
        let (mut left, mut open) = (left, true);
        match if tap.paused { Err(Errno::EAGAIN) } else { read(&tap.fd, room) } {
            Ok(0) => open = false,
            Ok(n) => {
                left = left.saturating_sub(n);
                let owner = Ledger::owner(tap.program, tap.which);
                self.ledger.offered(owner, n);
                for ear in &mut tap.ears {
                    ear.listen(buffer.get(held..held + n).unwrap_or_default());
                }
                self.take(slot, &mut tap, buffer.get(..held + n).unwrap_or_default());
                enlarge(&mut tap, n);
                if n < PIPE.min(size) && !drain {
                    left = 0;
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => left = 0,
            Err(_) => open = false,
        }
        self.buffer = buffer;
        if open {
            if let Some(place) = self.taps.get_mut(long(slot)) {
                *place = Some(tap);
            }
            left
        } else {
            self.end(slot, tap);
            0
        }
    }

    /// Takes what was read; the unfinished line at its end may have to wait.
    fn take(&mut self, slot: u32, tap: &mut Tap, chunk: &[u8]) {
        let shared = self.sinks.at(tap.sink).is_some_and(|s| s.users > 1);
        let formed = tap.form != Form::Plain || tap.logging.timestamps;
        let now = if shared || formed || !self.followers.is_empty() {
            let most = HELD_MAX.min(max_line(&tap.logging));
            memrchr(b'\n', chunk)
                .map_or(if chunk.len() >= most { chunk.len() } else { 0 }, |at| at + 1)
        } else {
            chunk.len()
        };
        // What is too long to wait goes now.
        let now = if chunk.len() - now >= HELD_MAX { chunk.len() } else { now };
        if now > 0 || tap.held.is_empty() {
            tap.held_since = self.at.now;
        }
        let rest = tail(chunk, now);
        tap.held.clear();
        if rest.is_empty() {
            tap.held = Vec::new();
            self.holding.remove(&slot);
        } else {
            tap.held.extend_from_slice(rest);
            self.holding.insert(slot);
        }
        self.emit(slot, tap, chunk.get(..now).unwrap_or_default());
    }

    fn emit(&mut self, slot: u32, tap: &mut Tap, mut data: &[u8]) {
        let owner = Ledger::owner(tap.program, tap.which);
        if tap.skip {
            let end = memchr(b'\n', data).map(|at| at + 1);
            let gone = data.get(..end.unwrap_or(data.len())).unwrap_or_default();
            self.with_sink(tap.sink, |sink, book| sink.lose_rest(owner, gone, book));
            tap.skip = end.is_none();
            data = tail(data, gone.len());
        }
        if data.is_empty() {
            return;
        }
        self.remember(tap, data);
        self.tell_followers(tap.program, tap.which, data);
        let keep = tap.logging.on_full == OnFull::Block;
        let name = self.sources.get(&tap.program).map(|s| s.name.clone());
        let mut batch = std::mem::take(&mut self.batch);
        let (width, wall, no_color) = (self.width, self.at.wall, self.no_color);
        let torn = self.with_sink(tap.sink, |sink, book| {
            let fresh = !sink.continues(slot);
            if fresh {
                tap.splitter.restart();
            }
            let max_line = max_line(&tap.logging);
            let plain = tap.form == Form::Plain && !tap.logging.timestamps;
            if plain && tap.splitter.passes(data, max_line) {
                let len = short(data.len());
                return sink.offer(
                    slot,
                    data,
                    &[Segment { owner, raw: len, out: len, keep }],
                    book,
                );
            }
            let terminal = matches!(&sink.backend, Backend::Console(c) if c.is_terminal());
            let look = Look {
                form: tap.form,
                stamped: tap.logging.timestamps,
                name: name.as_ref().map_or("", |n| n.as_str()),
                which: tap.which,
                at: wall,
                owner,
                keep,
                max_line,
                width,
                colour: (terminal && !no_color).then_some(tap.colour),
                terminal,
            };
            batch.form(&mut tap.splitter, data, look, fresh);
            sink.offer(slot, &batch.bytes, &batch.segments, book)
        });
        self.batch = batch;
        tap.skip = torn == Some(true);
        let waits = self.sinks.at(tap.sink).is_some_and(|s| s.holds_up());
        if keep && waits && self.closing.is_none() && !tap.paused {
            tap.paused = self.epoll.delete(&tap.fd).is_ok();
        }
    }

    fn remember(&mut self, tap: &Tap, data: &[u8]) {
        let Some(source) = self.sources.get_mut(&tap.program) else { return };
        let ring = source.ring.get_or_insert_default();
        let before = ring.cost();
        ring.push(self.at.wall, tap.which, data);
        self.ring_cost = (self.ring_cost + ring.cost()).saturating_sub(before);
        while self.ring_cost > RINGS_MAX {
            let rings = self.sources.values_mut().filter_map(|s| s.ring.as_mut());
            let Some(largest) = rings.max_by_key(|r| r.cost()) else { break };
            let before = largest.cost();
            largest.halve();
            let after = largest.cost();
            self.ring_cost -= before.saturating_sub(after).min(self.ring_cost);
            if after >= before {
                break;
            }
        }
    }

    /// Lets go of the unfinished line of a stream.
    pub(super) fn finish_line(&mut self, slot: u32) {
        let Some(mut tap) = self.taps.get_mut(long(slot)).and_then(Option::take) else { return };
        self.release(slot, &mut tap);
        if let Some(place) = self.taps.get_mut(long(slot)) {
            *place = Some(tap);
        }
    }

    fn release(&mut self, slot: u32, tap: &mut Tap) {
        self.holding.remove(&slot);
        let held = std::mem::take(&mut tap.held);
        self.emit(slot, tap, &held);
    }

    /// The stream has come to its end.
    fn end(&mut self, slot: u32, mut tap: Box<Tap>) {
        self.release(slot, &mut tap);
        self.with_sink(tap.sink, |sink, book| {
            if sink.continues(slot) {
                sink.end_line(book);
            }
        });
        self.sinks.leave(tap.sink);
        let program = tap.program;
        drop(tap); // closes the pipe, which takes it out of the epoll set
        self.free.push(slot);
        self.forget_if_retired(program);
    }

    pub(super) fn close_if_done(&mut self) -> bool {
        let Some((at, reply)) = &self.closing else { return false };
        let mut waiting = false;
        for id in self.sinks.ids() {
            waiting |= self.sinks.at(id).is_some_and(|s| s.is_waiting());
        }
        if waiting && self.at.now < *at {
            return false;
        }
        reply.try_send(Drained { complete: !waiting }).unwrap_or_default();
        true
    }
}

fn max_line(logging: &Logging) -> usize {
    usize::try_from(logging.max_line.0).unwrap_or(usize::MAX).max(1)
}

/// A pipe that is full each time it is read gets larger: fewer switches between us and the writer.
fn enlarge(tap: &mut Tap, n: usize) {
    if n < PIPE || tap.full_reads > 2 {
        tap.full_reads = if tap.full_reads > 2 { 3 } else { 0 };
        return;
    }
    tap.full_reads += 1;
    if tap.full_reads == 2 {
        tap.full_reads = 3;
        for size in [1 << 20, 512 << 10, 256 << 10] {
            if fcntl(&tap.fd, FcntlArg::F_SETPIPE_SZ(size)).is_ok() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_idle_programs_cost_little() {
        let program = 2 * size_of::<Tap>() + size_of::<Sink>() + size_of::<Source>();
        assert!(program <= 2 * 400, "{program} bytes for two streams");
    }
}
