//! The thread that looks at semaphores: locks of flock(2) and files by which others ask.
//!
//! It blocks until inotify(7) tells that somebody opens, closes, makes or removes one of them. The
//! taking of a lock itself is told by nobody, but a lock is held only between an open and the last
//! close: so after an open it looks again and again, ever more slowly, until nobody has the file
//! open. It reads /proc/locks, which no signaller notices. Where that shows not everything, in a
//! PID namespace, it tries to share the lock and lets go at once: for less than a microsecond, at
//! the earliest 2 ms after an open and not more often than every 100 ms, so that nobody who locks
//! what he has opened meets it.
//!
//! A lock that is given back without a close (`LOCK_UN`) is noticed within a second.
//!
//! A path on a file system that hangs blocks this thread, and with it the other semaphores.

mod directories;
mod one;
mod watcher;

pub use one::wrong;

use std::{fmt, io, sync::Arc, thread};

use crossbeam_channel::{Sender, unbounded};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::model::{Name, Seen, Watched};

/// What the thread tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The first reading of a semaphore, or one that differs from that before.
    Seen(Seen),
    /// A trouble of the watching itself, in words; told once.
    Notice(Arc<str>),
}

/// The way to the thread. Nothing here blocks; the thread ends with its last handle.
#[derive(Clone, Debug)]
pub struct SemaphoreHandle(Arc<Way>);

struct Way {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
}

enum Command {
    Watch(Name, Box<Watched>),
    Forget(Name),
    Look(Name),
    End,
}

/// Starts the thread. `deliver` is called in it and must not block.
///
/// # Errors
/// No thread or no descriptor can be had.
pub fn start(deliver: impl Fn(Told) + Send + 'static) -> io::Result<SemaphoreHandle> {
    let (commands, receiver) = unbounded();
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let wake = Arc::new(EventFd::from_flags(flags)?);
    let mut watcher = watcher::Watcher::new(receiver, Arc::clone(&wake), Box::new(deliver));
    thread::Builder::new().name("semaphores".into()).spawn(move || watcher.run())?;
    Ok(SemaphoreHandle(Arc::new(Way { commands, wake })))
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

impl Way {
    fn send(&self, command: Command) {
        // After the thread has ended there is nobody to tell; at a full counter it is awake anyway.
        if self.commands.send(command).is_ok() {
            self.wake.write(1).unwrap_or_default();
        }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.send(Command::End);
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Way")
    }
}
