//! Files are written elsewhere, in errands: who touches a file system may not come back.
//!
//! A sink gives its file and what waits away and gets them back with what came of it. Meanwhile it
//! takes output as a sink does that is full.

use memchr::memchr;

use super::{Backend, Book, LogReport, Moment, Sink};
use crate::{
    daemon::logs::{
        file::LogFile,
        path::{OpenError, Ownership},
        queue::Queue,
    },
    model::Rotate,
};

/// A file on its way, what is to be written to it, and then what came of that.
pub(in super::super) struct Write {
    pub(in super::super) id: u32,
    file: LogFile,
    queue: Option<Box<Queue>>,
    /// How much of the queue at the most.
    limit: usize,
    reopen: bool,
    was_open: bool,
    at: Moment,
    done: usize,
    last: Option<u8>,
    changed: Option<bool>,
    result: Result<(), OpenError>,
}

/// What is wished of a file, and whether it can be had.
#[derive(Default)]
pub(super) struct Trip {
    /// It does not come back, or is where another does not.
    pub(super) stuck: bool,
    look: bool,
    pub(super) reopen: bool,
    later: Option<Box<(Rotate, Ownership)>>,
}

impl Write {
    /// Does it; this may take for ever.
    pub(in super::super) fn run(&mut self) {
        if self.reopen {
            self.file.close();
        }
        self.result = self.write();
    }

    fn write(&mut self) -> Result<(), OpenError> {
        self.changed = self.file.prepare(self.at)?;
        self.changed = self.file.rotate_if_old(self.at)?.or(self.changed);
        let Some(queue) = &mut self.queue else { return Ok(()) };
        if self.changed == Some(true) {
            // What somebody else began is not ours to go on with.
            self.file.write(b"\n", self.at).1?;
        }
        let bytes = queue.parts().0;
        let bytes = bytes.get(..self.limit).unwrap_or(bytes);
        let (done, result) = self.file.write(bytes, self.at);
        self.done = done;
        self.last = done.checked_sub(1).and_then(|at| bytes.get(at).copied());
        result
    }

    /// The file that it goes to.
    pub(in super::super) fn path(&self) -> &std::path::Path {
        self.file.path()
    }

    /// The file system that it is on, if that is known.
    pub(in super::super) fn device(&self) -> Option<u64> {
        self.file.device()
    }

    /// What could not be written.
    pub(in super::super) fn unwritten(&mut self) -> Vec<u8> {
        if self.result.is_ok() {
            return Vec::new();
        }
        let bytes = self.queue.as_mut().map(|q| q.parts().0).unwrap_or_default();
        bytes.get(self.done..).unwrap_or_default().to_vec()
    }

    fn is_open_at_the_end(&self) -> bool {
        match (self.last, self.changed) {
            (Some(last), _) => last != b'\n',
            (None, Some(within_line)) => within_line && self.queue.is_none(),
            (None, None) => self.was_open,
        }
    }
}

impl Sink {
    pub(super) fn is_file(&self) -> bool {
        matches!(self.backend, Backend::File(_) | Backend::Away)
    }

    /// Whether there is something to do for which its file must be touched, and may be.
    pub(in super::super) fn wants_errand(&self) -> bool {
        let may =
            matches!(self.backend, Backend::File(_)) && !self.trip.stuck && !self.is_failing();
        may && (self.queue.is_some() || self.trip.look || self.trip.reopen)
    }

    /// Whether who rather waits than loses output waits for it.
    pub(in super::super) fn holds_up(&self) -> bool {
        self.is_waiting() && (!self.is_file() || self.trip.stuck || self.is_failing())
    }

    /// Whether its file does not come back, or is where another does not.
    pub(in super::super) fn is_stuck(&self) -> bool {
        self.trip.stuck
    }

    pub(in super::super) fn set_stuck(&mut self, stuck: bool) {
        self.trip.stuck = stuck;
    }

    /// Have a look at the file although nothing is to be written: it may be too old.
    pub(in super::super) fn look(&mut self) {
        self.trip.look = true;
    }

    /// Treats the file so from now on.
    pub(in super::super) fn reconfigure(&mut self, rotate: Rotate, ownership: Ownership) {
        match &mut self.backend {
            Backend::File(file) => file.reconfigure(rotate, ownership),
            Backend::Away => self.trip.later = Some(Box::new((rotate, ownership))),
            Backend::Console(_) | Backend::Datagrams(_) | Backend::Null => {}
        }
    }

    /// Sends the file away to be written.
    pub(in super::super) fn depart(&mut self, id: u32, book: &mut Book<'_>) -> Option<Box<Write>> {
        if !self.wants_errand() {
            return None;
        }
        self.place_mark(book);
        let Backend::File(file) = std::mem::replace(&mut self.backend, Backend::Away) else {
            return None; // it is one, or nothing would be wished of it
        };
        let (was_open, mut limit) = (self.written_open, usize::MAX);
        let mut queue = self.queue.take();
        if let Some(bytes) = queue.as_mut().map(|q| q.parts().0) {
            // The mark of what was lost comes behind the line that was begun.
            if was_open && !self.lost.is_empty() {
                limit = memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
            }
            let last = bytes.get(..limit).unwrap_or(bytes).last();
            self.written_open = last.is_some_and(|b| *b != b'\n');
        }
        self.trip.look = false;
        Some(Box::new(Write {
            id,
            file,
            queue,
            limit,
            reopen: std::mem::take(&mut self.trip.reopen),
            was_open,
            at: book.at,
            done: 0,
            last: None,
            changed: None,
            result: Ok(()),
        }))
    }

    /// Takes the file back. Gives the stream whose unfinished line lost its end.
    pub(in super::super) fn arrive(
        &mut self,
        write: Box<Write>,
        book: &mut Book<'_>,
    ) -> Option<u32> {
        self.written_open = write.is_open_at_the_end();
        let Write { mut file, queue, done, changed, result, .. } = *write;
        if let Some(error) = file.trouble.take() {
            let what = format!("cannot rotate {}: {error}", self.label);
            book.reports.push(LogReport { program: None, what, lost_bytes: 0 });
        }
        if let Some(later) = self.trip.later.take() {
            file.reconfigure(later.0, later.1);
        }
        self.backend = Backend::File(file);
        self.trip.stuck = false;
        match queue {
            Some(mut queue) => {
                queue.consume(done, |owner, raw| book.ledger.written(owner, raw));
                if queue.len() > 0 {
                    if let Some(mut newer) = self.queue.take() {
                        queue.append(&mut newer);
                    }
                    self.queue = Some(queue);
                } else {
                    *book.spare = Some(queue);
                }
            }
            None if changed.is_some() && self.queue.is_none() => {
                (self.ends_open, self.open_line) = (self.written_open, None);
            }
            None => {}
        }
        match result {
            Ok(()) => {
                self.retry_at = None;
                if self.queue.is_none() {
                    self.place_mark(book);
                }
                None
            }
            Err(error) => {
                let stream = self.open_line;
                self.fail(error, book);
                let queue = self.queue.take()?;
                if self.give_up(queue, book) { stream } else { None }
            }
        }
    }
}
