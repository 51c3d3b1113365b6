//! The log thread and the one that stands by, so that a file system that does not answer holds up
//! its own files only.
//!
//! Whoever runs the log leaves it in the slot while it touches a file, and takes it out again
//! afterwards. Who stands by looks now and then, while files are written at all. When somebody is
//! out for too long it takes the log and goes on with it; the other one, should it ever come back,
//! finds the slot empty, sends what came of its errand, and ends.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Command, LogHandle, Touch, pump::Pump, turn};

/// So many threads may be lost to file systems that do not answer.
const LOST_MAX: u64 = 16;

/// What the threads of the log share.
pub(super) struct Relay {
    slot: (Sender<Box<Pump>>, Receiver<Box<Pump>>),
    bell: (Sender<()>, Receiver<()>),
    /// Beginnings and ends of errands: odd while somebody is out.
    trips: AtomicU64,
    /// Who stands by waits for the bell.
    asleep: AtomicBool,
    ended: AtomicBool,
    /// Threads that have not come back.
    lost: AtomicU64,
    patience: Duration,
    touch: Option<Touch>,
    handle: LogHandle,
}

/// Starts both threads; gives the one that works.
pub(super) fn start(
    pump: Pump,
    handle: LogHandle,
    (patience, touch): (Duration, Option<Touch>),
) -> io::Result<thread::JoinHandle<()>> {
    let relay = Arc::new(Relay {
        slot: bounded(1),
        bell: bounded(1),
        trips: AtomicU64::new(0),
        asleep: AtomicBool::new(false),
        ended: AtomicBool::new(false),
        lost: AtomicU64::new(0),
        patience,
        touch,
        handle,
    });
    stand_by(&relay)?;
    let pump = Box::new(pump);
    thread::Builder::new().name("logs".into()).spawn(move || turn::work(pump, &relay))
}

fn stand_by(relay: &Arc<Relay>) -> io::Result<()> {
    let relay = Arc::clone(relay);
    let work = move || {
        if let Some(pump) = relay.watch() {
            turn::work(pump, &relay);
        }
    };
    thread::Builder::new().name("logs-standby".into()).spawn(work).map(drop)
}

impl Relay {
    /// Runs all errands of the log; `None` when this thread was given up meanwhile.
    pub(super) fn errands(self: &Arc<Self>, mut pump: Box<Pump>) -> Option<Box<Pump>> {
        while let Some(mut errand) = pump.next_errand() {
            self.trips.fetch_add(1, Ordering::SeqCst);
            if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
                self.ring();
            }
            drop(self.slot.0.try_send(pump)); // it was just taken out: there is room
            let recall = Recall(self);
            if let (Some(touch), Some(path)) = (&self.touch, errand.path()) {
                touch(path);
            }
            errand.run();
            let back = recall.pump();
            let Some(mine) = back else {
                self.lost.fetch_sub(1, Ordering::SeqCst);
                self.handle.send(Command::Back(errand));
                return None;
            };
            pump = mine;
            self.trips.fetch_add(1, Ordering::SeqCst);
            pump.returned(errand);
        }
        Some(pump)
    }

    /// Both threads may go.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.ring();
    }

    fn ring(&self) {
        // One stroke is as good as two.
        self.bell.0.try_send(()).unwrap_or_default();
    }

    /// Waits until somebody does not come back from an errand; gives the log then. `None` at the
    /// end.
    fn watch(self: &Arc<Self>) -> Option<Box<Pump>> {
        loop {
            self.asleep.store(true, Ordering::SeqCst);
            let mut before = self.trips.load(Ordering::SeqCst);
            // An errand that began before that rings no bell.
            if before.is_multiple_of(2) {
                self.bell.1.recv().ok()?;
            }
            self.asleep.store(false, Ordering::SeqCst);
            loop {
                if self.pause_has_end() {
                    return None;
                }
                let now = self.trips.load(Ordering::SeqCst);
                if now == before && now.is_multiple_of(2) {
                    break;
                }
                if now == before
                    && let Some(pump) = self.take_over()
                {
                    return Some(pump);
                }
                before = now;
            }
        }
    }

    /// Waits for as long as an errand may take; gives whether the end has come.
    fn pause_has_end(&self) -> bool {
        while !self.ended.load(Ordering::SeqCst) {
            if self.bell.1.recv_timeout(self.patience).is_err() {
                return false;
            }
        }
        true
    }

    fn take_over(self: &Arc<Self>) -> Option<Box<Pump>> {
        if self.lost.load(Ordering::SeqCst) >= LOST_MAX {
            return None;
        }
        let mut pump = self.slot.1.try_recv().ok()?;
        self.lost.fetch_add(1, Ordering::SeqCst);
        self.trips.fetch_add(1, Ordering::SeqCst);
        let successor = stand_by(self);
        pump.stalled(self.patience, successor.err());
        Some(pump)
    }
}

/// Takes the log out of the slot again, also when an errand panics: then the log ends with its
/// thread, as after any other panic.
struct Recall<'a>(&'a Relay);

impl Recall<'_> {
    fn pump(self) -> Option<Box<Pump>> {
        self.0.slot.1.try_recv().ok()
    }
}

impl Drop for Recall<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            drop(self.0.slot.1.try_recv());
        }
    }
}
