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

use std::{io, sync::Arc, thread};

use super::way::{Way, way};
use crate::model::{LogLevel, Name, Seen, Watched};

/// What the thread tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The first reading of a semaphore, or one that differs from that before.
    Seen(Seen),
    /// A trouble of the watching itself, in words; told once, and when it is over.
    Notice(LogLevel, Arc<str>),
}

/// The way to the thread. Nothing here blocks; the thread ends with its last handle.
#[derive(Clone, Debug)]
pub struct SemaphoreHandle(Arc<Way<Command>>);

enum Command {
    Watch(Name, Box<Watched>),
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
    Ok(SemaphoreHandle(Arc::new(way)))
}

impl SemaphoreHandle {
    /// Watches this semaphore, instead of an earlier one of that name. Its first reading is
    /// delivered as soon as it is certain, within milliseconds.
    pub fn watch(&self, name: Name, what: Watched) {
        self.0.send(Command::Watch(name, Box::new(what)));
    }

    /// Watches it no more. A reading may still be on its way.
    pub fn forget(&self, name: Name) {
        self.0.send(Command::Forget(name));
    }

    /// Looks at it now; delivers its reading, if it is certain, though it be the same as before.
    pub fn look(&self, name: Name) {
        self.0.send(Command::Look(name));
    }
}
