//! The thread that looks at semaphores: locks of flock(2) and files by which others ask.
//!
//! It blocks until inotify(7) tells that somebody opens, closes, makes or removes one of them. The
//! taking of a lock itself is told by nobody, but a lock is held only between an open and the last
//! close: so after an open it looks again and again, ever more slowly, until nobody has the file
//! open. It reads /proc/locks, which no signaller notices. Where that shows not everything, in a
//! PID namespace or on a file system that keeps its locks elsewhere, it tries to share the lock and
//! lets go at once: for less than a microsecond, at the earliest 2 ms after an open and not more
//! often than every 100 ms, so that nobody who locks what he has opened meets it.
//!
//! A lock that is given back without a close (`LOCK_UN`) is noticed within a second.
//!
//! No link is followed on the way to a file that others than root, or we, could change.
//!
//! A path on a file system that hangs blocks this thread, and with it the other semaphores.

mod one;
mod standing;
mod watcher;

pub use standing::wrong;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use super::way::{Way, way};
use crate::model::{LogLevel, Name, Seen, Watched};

/// What the thread tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The first reading of a semaphore, or one that differs from that before; by which watch.
    Seen(Seen, WatchId),
    /// A trouble of the watching itself, in words; told once, and when it is over.
    Notice(LogLevel, Arc<str>),
}

/// Tells the present watch of a semaphore from an earlier one, perhaps of another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchId(u64);

/// The way to the thread. Nothing here blocks; the thread ends with its last handle.
#[derive(Clone, Debug)]
pub struct SemaphoreHandle {
    way: Arc<Way<Command>>,
    watches: Arc<AtomicU64>,
}

enum Command {
    Watch(Name, Box<Watched>, WatchId),
    Forget(Name),
    Look(Name),
}

/// Starts the thread. `deliver` is called in it and must not block.
///
/// # Errors
/// No thread or no descriptor can be had.
pub fn start(deliver: impl Fn(Told) + Send + 'static) -> io::Result<SemaphoreHandle> {
    let (way, orders) = way()?;
    let mut watcher = watcher::Watcher::new(orders, Box::new(deliver));
    thread::Builder::new().name("semaphores".into()).spawn(move || watcher.run())?;
    Ok(SemaphoreHandle { way: Arc::new(way), watches: Arc::default() })
}

impl SemaphoreHandle {
    /// Watches this semaphore, instead of an earlier one of that name. Its first reading is
    /// delivered as soon as it is certain, within milliseconds. One of the earlier may still be on
    /// its way: it has another id.
    #[expect(clippy::must_use_candidate, reason = "it watches whether or not the id is asked for")]
    pub fn watch(&self, name: Name, what: Watched) -> WatchId {
        let id = WatchId(self.watches.fetch_add(1, Ordering::Relaxed));
        self.way.send(Command::Watch(name, Box::new(what), id));
        id
    }

    /// Watches it no more. A reading may still be on its way.
    pub fn forget(&self, name: Name) {
        self.way.send(Command::Forget(name));
    }

    /// Looks at it now; delivers its reading, if it is certain, though it be the same as before.
    pub fn look(&self, name: Name) {
        self.way.send(Command::Look(name));
    }
}
