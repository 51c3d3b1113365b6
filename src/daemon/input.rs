//! What arrives in the one queue of the loop, and the thread that turns descriptors into it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{conditions::Met, control::ControlEvent, logs::LogReport};
use crate::{
    control::RequestId,
    engine::{Event, Record, RunId},
    model::Sample,
    plan::ProgramId,
    sys::signals,
};

/// Something for the loop.
pub(super) enum Input {
    /// Signals have arrived: see [`signals::drain`].
    Signals,
    /// There may be more who have ended.
    Deaths,
    /// The report pipe of a forked child has something to say.
    Report(RunId),
    /// Programs have said something of themselves.
    Notes,
    /// Something happened beside the PID file that the daemon of this run is to write.
    PidFile(RunId),
    /// From the control thread.
    Control(ControlEvent),
    /// From the log thread.
    Log(LogReport),
    /// A condition of the world is true.
    Condition(Met),
    /// A thread has done with /dev/shm.
    Tidied {
        /// Of which program; `None`: of the site.
        program: Option<ProgramId>,
        /// As in the action.
        run: RunId,
        /// What it has to say.
        records: Vec<Record>,
    },
    /// A thread has looked at whether a program serves.
    Probed {
        /// Which program.
        program: ProgramId,
        /// As in the action.
        run: RunId,
        /// What it has found.
        sample: Sample,
    },
    /// A command that looks at that has said something.
    Words(RunId),
    /// The lock of a program, and copies of it, were looked at.
    Claimed {
        /// Of which program.
        program: ProgramId,
        /// As in the action.
        run: RunId,
    },
    /// Copies of a program that were to end are gone.
    CopiesEnded {
        /// Of which program.
        program: ProgramId,
        /// As in the action.
        run: RunId,
    },
    /// The process that was adopted as this run has ended.
    AdoptedEnded(RunId),
    /// Those that it had started have ended.
    FamilyEnded(RunId),
    /// A semaphore was looked at.
    Semaphore(super::semaphores::Told),
    /// From the loader.
    Event(Box<Event>),
    /// What a thread has done for a `kill-all`.
    KillAll(RequestId, super::kill_all::Step),
    /// What a supervisor before us has left has ended, or its time is over.
    LeftoversEnded,
    /// A thread that we cannot be without has ended.
    ThreadLost(&'static str),
}

/// Puts `input` into the queue; after the loop has ended there is nobody to tell.
pub(super) fn send(queue: &Sender<Input>, input: Input) {
    drop(queue.send(input));
}

/// Something that a thread holds for as long as it lives: its end, by a panic too, is told to the
/// loop.
pub(super) struct LastWord {
    thread: &'static str,
    queue: Sender<Input>,
    /// There is such a thread.
    pub(super) armed: Arc<AtomicBool>,
}

impl LastWord {
    pub(super) fn new(thread: &'static str, queue: &Sender<Input>) -> Self {
        Self { thread, queue: queue.clone(), armed: Arc::default() }
    }
}

impl Drop for LastWord {
    fn drop(&mut self) {
        if self.armed.load(Ordering::Relaxed) {
            send(&self.queue, Input::ThreadLost(self.thread));
        }
    }
}

/// The mark of the signal pipe among the descriptors watched; no run has this number.
const SIGNALS: u64 = 0;
/// And of the directory of a PID file: beside the number of its run, which is never so large.
const PID_FILE: u64 = 1 << 63;
/// And of the pipe of a command that looks.
const WORDS: u64 = 1 << 61;
/// And of what is said by programs.
const NOTES: u64 = 1 << 62;
/// And of a process that is no child of ours.
const ADOPTED: u64 = 1 << 60;

/// The thread that waits for signals and for the reports of forked children.
pub(super) struct Watcher {
    epoll: Arc<Epoll>,
    /// Tells the thread that the loop has looked at the signals.
    seen: Sender<()>,
}

impl Watcher {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread or no descriptor can be had.
    pub(super) fn start(queue: Sender<Input>, signals: BorrowedFd<'static>) -> io::Result<Self> {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        epoll.add(signals, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, SIGNALS))?;
        let waiting = Arc::clone(&epoll);
        let (seen, looked) = bounded(1);
        super::essential("signals", &queue.clone(), move || watch(&waiting, &queue, &looked))?;
        Ok(Self { epoll, seen })
    }

    /// The signals that have arrived since the last look.
    pub(super) fn arrived(&self) -> Vec<signals::Arrived> {
        let arrived = signals::drain();
        // One is enough.
        self.seen.try_send(()).unwrap_or_default();
        arrived
    }

    /// Tell when the pipe of `run` has come to its end.
    pub(super) fn report(&self, run: RunId, pipe: &Arc<OwnedFd>) {
        // Only its end: that comes with the exec or with a failure, and what the child notes on
        // its way is read then (epoll_ctl(2): EPOLLHUP is always told).
        let event = EpollEvent::new(EpollFlags::EPOLLONESHOT, run.0);
        if self.epoll.add(pipe.as_fd(), event).is_err() {
            let mut event = event;
            // Known already: armed again. Should that not work either, its exit brings the report.
            self.epoll.modify(pipe.as_fd(), &mut event).ok();
        }
    }

    /// Tell once when any of those in `all` has something to say.
    pub(super) fn notes(&self, all: &Epoll) {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT;
        let event = EpollEvent::new(flags, NOTES);
        if self.epoll.add(&all.0, event).is_err() {
            let mut event = event;
            self.epoll.modify(&all.0, &mut event).ok();
        }
    }

    /// Tell once when the process has ended that was adopted as `run`.
    ///
    /// # Errors
    /// See `epoll_ctl(2)`: nothing will be told.
    pub(super) fn adopted(&self, run: RunId, process: BorrowedFd<'_>) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT;
        Ok(self.epoll.add(process, EpollEvent::new(flags, run.0 | ADOPTED))?)
    }

    /// Tell once when `directory`, an inotify(7), has something to say about the PID file of `run`.
    pub(super) fn pid_file(&self, run: RunId, directory: BorrowedFd<'_>) {
        self.once(directory, run.0 | PID_FILE);
    }

    /// Tell once when `pipe` has something to read, of the command of `run`.
    pub(super) fn words(&self, run: RunId, pipe: BorrowedFd<'_>) {
        self.once(pipe, run.0 | WORDS);
    }

    fn once(&self, fd: BorrowedFd<'_>, mark: u64) {
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, mark);
        if self.epoll.add(fd, event).is_err() {
            let mut event = event;
            self.epoll.modify(fd, &mut event).ok();
        }
    }
}

fn watch(epoll: &Epoll, queue: &Sender<Input>, looked: &Receiver<()>) {
    signals::listen();
    let mut events = [EpollEvent::empty(); 16];
    loop {
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(ready) => ready,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return,
        };
        let (mut signals, mut gone) = (false, false);
        for event in events.iter().take(ready) {
            let input = match event.data() {
                SIGNALS => Input::Signals,
                NOTES => Input::Notes,
                run if run & PID_FILE != 0 => Input::PidFile(RunId(run & !PID_FILE)),
                run if run & WORDS != 0 => Input::Words(RunId(run & !WORDS)),
                run if run & ADOPTED != 0 => Input::AdoptedEnded(RunId(run & !ADOPTED)),
                run => Input::Report(RunId(run)),
            };
            signals |= matches!(input, Input::Signals);
            gone |= queue.send(input).is_err();
        }
        if signals {
            // A thousand deaths while the loop is at work are one to it.
            signals::hold_deaths();
            gone |= looked.recv().is_err();
            signals::listen();
        }
        if gone {
            return;
        }
    }
}
