//! One connected client: its bounded buffers, its deadlines, what it is owed.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use crate::{
    control::{LogLine, Peer, RequestId, wire},
    model::Instant,
};

use super::{MAX_OUTPUT_BYTES, MAX_PENDING, REQUEST_DEADLINE, WRITE_DEADLINE};

/// How much is encoded ahead of what the kernel takes.
const AHEAD_BYTES: usize = 64 * 1024;
/// The most lines in one notification.
const BATCH_LINES: usize = 64;

/// Something queued for a client.
enum Item {
    /// A whole line of the protocol.
    Frame(Vec<u8>),
    /// A line of a stream, encoded as late as possible so that it can still be dropped.
    Line(RequestId, LogLine),
}

/// A request that waits for its reply.
struct Pending {
    id: wire::Id,
    /// It has been sent lines: its client may be slow.
    streams: bool,
}

pub(super) struct Client {
    pub(super) stream: UnixStream,
    pub(super) peer: Peer,
    pub(super) groups: Vec<u32>,
    /// When something was last read or connected, for "the oldest idle one".
    pub(super) active_at: Instant,
    input: Vec<u8>,
    /// The request that has begun to arrive must be complete by then.
    input_deadline: Option<Instant>,
    /// It has closed its side for writing.
    pub(super) ended: bool,
    pending: BTreeMap<RequestId, Pending>,
    queue: VecDeque<Item>,
    queue_bytes: usize,
    dropped: u64,
    output: Vec<u8>,
    written: usize,
    output_deadline: Option<Instant>,
    /// Close once everything is written: what it sent was no protocol.
    closing: bool,
    /// The events it is registered for, as epoll has them.
    pub(super) interest: (bool, bool),
}

/// What [`Client::receive`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Nothing more for now.
    Wait,
    /// The connection is of no use any more.
    Broken,
}

impl Client {
    pub(super) fn new(fd: OwnedFd, peer: Peer, groups: Vec<u32>, now: Instant) -> Self {
        Self {
            stream: UnixStream::from(fd),
            peer,
            groups,
            active_at: now,
            input: Vec::new(),
            input_deadline: None,
            ended: false,
            pending: BTreeMap::new(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            dropped: 0,
            output: Vec::new(),
            written: 0,
            output_deadline: None,
            closing: false,
            interest: (true, false),
        }
    }

    /// Reads what has arrived, at most one buffer of it.
    pub(super) fn receive(&mut self, buffer: &mut [u8], now: Instant) -> Received {
        match self.stream.read(buffer) {
            Ok(0) => {
                // What has no line end never was a request.
                self.ended = true;
                let whole = memchr::memrchr(b'\n', &self.input).map_or(0, |end| end + 1);
                self.input.truncate(whole);
                self.input_deadline = None;
            }
            Ok(n) => {
                self.active_at = now;
                self.input.extend_from_slice(buffer.get(..n).unwrap_or_default());
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return Received::Broken,
        }
        Received::Wait
    }

    /// The next whole line that has arrived; not while too many requests wait for their replies.
    pub(super) fn next_line(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.closing || self.pending.len() >= MAX_PENDING {
            self.input_deadline = None; // we are the ones who do not read
            return None;
        }
        if let Some(end) = memchr::memchr(b'\n', &self.input) {
            let mut line: Vec<u8> = self.input.drain(..=end).collect();
            line.pop();
            self.input_deadline = None;
            return Some(line);
        }
        if self.input.len() > wire::MAX_REQUEST_BYTES {
            self.push(wire::encode_fault(&wire::too_long()));
            self.close_when_written();
        } else if self.input.is_empty() {
            self.input = Vec::new(); // an idle client costs no buffer
            self.input_deadline = None;
        } else if self.input_deadline.is_none() {
            self.input_deadline = Some(now + REQUEST_DEADLINE);
        }
        None
    }

    /// Nothing more is read from it; it is closed when all that it is owed is written.
    pub(super) fn close_when_written(&mut self) {
        self.closing = true;
        self.input = Vec::new();
        self.input_deadline = None;
    }

    pub(super) fn await_reply(&mut self, request: RequestId, id: wire::Id) {
        self.pending.insert(request, Pending { id, streams: false });
    }

    pub(super) fn wire_id(&self, request: RequestId) -> Option<&wire::Id> {
        self.pending.get(&request).map(|pending| &pending.id)
    }

    pub(super) fn finish(&mut self, request: RequestId) {
        // Its lines are encoded under its id, so they have to be before it is forgotten.
        if self.pending.get(&request).is_some_and(|pending| pending.streams) {
            self.encode_all();
        }
        self.pending.remove(&request);
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.pending.keys().copied()
    }

    pub(super) fn push(&mut self, frame: Vec<u8>) {
        self.queue_bytes = self.queue_bytes.saturating_add(frame.len());
        self.queue.push_back(Item::Frame(frame));
    }

    /// Queues lines of a stream; the oldest are dropped when it gets too much.
    pub(super) fn push_lines(&mut self, request: RequestId, lines: Vec<LogLine>) {
        let Some(pending) = self.pending.get_mut(&request) else { return };
        pending.streams = true;
        for line in lines {
            self.queue_bytes = self.queue_bytes.saturating_add(cost(&line));
            self.queue.push_back(Item::Line(request, line));
        }
        while self.queued() > MAX_OUTPUT_BYTES {
            let Some(at) = self.queue.iter().position(|i| matches!(i, Item::Line(..))) else {
                break;
            };
            if let Some(Item::Line(_, line)) = self.queue.remove(at) {
                self.queue_bytes = self.queue_bytes.saturating_sub(cost(&line));
                self.dropped = self.dropped.saturating_add(1);
            }
        }
    }

    fn queued(&self) -> usize {
        self.queue_bytes.saturating_add(self.output.len().saturating_sub(self.written))
    }

    /// Whether more is queued than is kept for anybody.
    pub(super) fn overflows(&self) -> bool {
        self.queued() > MAX_OUTPUT_BYTES.saturating_mul(2)
    }

    /// Writes as much as the kernel takes.
    pub(super) fn send(&mut self, now: Instant) -> Received {
        loop {
            self.encode_some();
            let rest = self.output.get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                self.output = Vec::new();
                self.written = 0;
                self.output_deadline = None;
                return if self.closing { Received::Broken } else { Received::Wait };
            }
            // Rust ignores SIGPIPE at the start, so a closed peer is an error here and no signal.
            match self.stream.write(rest) {
                Ok(n) => {
                    self.written = self.written.saturating_add(n);
                    if self.written >= AHEAD_BYTES {
                        self.output_deadline = None;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let patient = self.pending.values().any(|pending| pending.streams);
                    if patient {
                        self.output_deadline = None;
                    } else if self.output_deadline.is_none() {
                        self.output_deadline = Some(now + WRITE_DEADLINE);
                    }
                    return Received::Wait;
                }
                Err(_) => return Received::Broken,
            }
        }
    }

    fn encode_some(&mut self) {
        if self.written >= AHEAD_BYTES {
            self.output.drain(..self.written);
            self.written = 0;
        }
        while self.output.len() < AHEAD_BYTES && self.encode_next() {}
    }

    fn encode_all(&mut self) {
        let mut frames = Vec::new();
        std::mem::swap(&mut self.output, &mut frames);
        while self.encode_next() {}
        std::mem::swap(&mut self.output, &mut frames);
        if !frames.is_empty() {
            self.push(frames);
        }
    }

    fn encode_next(&mut self) -> bool {
        match self.queue.pop_front() {
            None => return false,
            Some(Item::Frame(frame)) => {
                self.queue_bytes = self.queue_bytes.saturating_sub(frame.len());
                self.output.extend_from_slice(&frame);
            }
            Some(Item::Line(request, line)) => {
                let mut batch = vec![line];
                while batch.len() < BATCH_LINES
                    && let Some(Item::Line(next, _)) = self.queue.front()
                    && *next == request
                    && let Some(Item::Line(_, line)) = self.queue.pop_front()
                {
                    batch.push(line);
                }
                let bytes = batch.iter().map(cost).fold(0, usize::saturating_add);
                self.queue_bytes = self.queue_bytes.saturating_sub(bytes);
                let Some(pending) = self.pending.get(&request) else { return true };
                let dropped = std::mem::take(&mut self.dropped);
                self.output.extend(wire::encode_lines(&pending.id, &batch, dropped));
            }
        }
        true
    }

    /// Whether it wants to be read from, and written to.
    pub(super) fn wants(&self) -> (bool, bool) {
        let read = !self.ended && !self.closing && self.pending.len() < MAX_PENDING;
        (read, self.written < self.output.len() || !self.queue.is_empty())
    }

    /// Nothing under way in either direction.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.input.is_empty() && !self.wants().1
    }

    /// It is owed nothing but has begun to say something.
    pub(super) fn is_dribbling(&self) -> bool {
        self.pending.is_empty() && !self.input.is_empty()
    }

    /// It will ask nothing more and has got everything.
    pub(super) fn is_done(&self) -> bool {
        self.ended && self.is_idle()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.input_deadline, self.output_deadline].into_iter().flatten().min()
    }
}

/// What a queued line counts, in bytes.
fn cost(line: &LogLine) -> usize {
    line.text.len().saturating_add(line.name.len()).saturating_add(128)
}
