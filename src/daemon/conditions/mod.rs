//! The thread that waits for conditions of the world: the network, files, ports, sockets.
//!
//! It blocks until the kernel tells of a change: netlink for addresses, inotify for paths. Only
//! ports and Unix sockets are tried now and again, since nobody tells when one is opened, and only
//! while somebody waits for them. When nothing is waited for it has neither timer nor watch.
//!
//! A path on a file system that hangs blocks this thread, and with it the other conditions, until
//! the file system answers; it never blocks the loop, whose deadlines for the starts go on.

mod connect;
mod files;
mod network;
mod watcher;

use std::{io, sync::Arc, thread};

use super::way::{Way, way};
use crate::{model::Awaited, plan::ProgramId};

/// A condition that is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    /// Whose start waits for it.
    pub program: ProgramId,
    /// Which attempt to start.
    pub attempt: u64,
    /// Which of the conditions of that attempt.
    pub index: usize,
}

/// The way to the thread. Nothing here blocks; the thread ends with its last handle.
#[derive(Clone, Debug)]
pub struct ConditionHandle(Arc<Way<Command>>);

enum Command {
    Await(Key, Awaited),
    Forget(ProgramId),
}

/// Identifies a condition that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    program: ProgramId,
    attempt: u64,
    index: usize,
}

/// Starts the thread. `deliver` is called in it, once for each condition that is true; it must not
/// block.
///
/// # Errors
/// No thread or no descriptor can be had.
pub fn start(deliver: impl Fn(Met) + Send + 'static) -> io::Result<ConditionHandle> {
    let (way, orders) = way()?;
    let mut watcher = watcher::Watcher::new(orders, Box::new(deliver));
    thread::Builder::new().name("conditions".into()).spawn(move || watcher.run())?;
    Ok(ConditionHandle(Arc::new(way)))
}

impl ConditionHandle {
    /// Waits for `what`, and forgets what earlier attempts of `program` have waited for. Delivered
    /// at once when it is true already.
    pub fn await_condition(&self, program: ProgramId, attempt: u64, index: usize, what: Awaited) {
        self.0.send(Command::Await(Key { program, attempt, index }, what));
    }

    /// Waits for nothing any more on behalf of `program`. What was delivered before may still be
    /// on its way.
    pub fn forget(&self, program: ProgramId) {
        self.0.send(Command::Forget(program));
    }
}
