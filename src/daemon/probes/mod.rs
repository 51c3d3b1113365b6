//! Looks at whether programs serve: at addresses, sockets and files in a few threads, at output in
//! the thread that reads it anyway, and by commands, which the loop alone can start.
//!
//! A thread keeps the time of a look itself, as far as it can: the look-up of a name and a file
//! system that hangs cannot be left. Then the engine goes on without it, and the next look of that
//! program is not begun before it comes back.

mod http;
mod net;
mod words;

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};

pub(super) use words::Words;

use super::{
    Shell,
    input::{self, Input},
    logs::Ear,
};
use crate::{
    engine::{ChildEvent, Event, ProbeOf, RunId},
    model::{Probe, Sample},
    plan::ProgramId,
};

/// So many threads look at the most.
const THREADS: usize = 16;

/// What is being looked at, and who looks.
pub(super) struct Probes {
    jobs: (Sender<Job>, Receiver<Job>),
    threads: usize,
    /// Looks from which no thread has come back.
    under_way: BTreeMap<RunId, ProgramId>,
    /// What is listened for in the output of a run.
    heard: BTreeMap<RunId, Heard>,
    /// What commands that look have said.
    words: BTreeMap<RunId, Words>,
}

/// A text in the output of a run.
struct Heard {
    text: Box<str>,
    /// How many lines had it.
    lines: Arc<AtomicU64>,
    /// How many of them the last look has seen.
    seen: u64,
}

struct Job {
    program: ProgramId,
    run: RunId,
    probe: Probe,
    limit: Duration,
}

impl Probes {
    pub(super) fn new() -> Self {
        Self {
            jobs: unbounded(),
            threads: 0,
            under_way: BTreeMap::new(),
            heard: BTreeMap::new(),
            words: BTreeMap::new(),
        }
    }

    /// Has a thread look; why not, in words.
    fn begin(&mut self, job: Job, queue: &Sender<Input>) -> Result<(), String> {
        if self.under_way.values().any(|program| *program == job.program) {
            return Err("the look before this one hangs".to_owned());
        }
        if self.threads <= self.under_way.len() && self.threads < THREADS {
            let (jobs, queue) = (self.jobs.1.clone(), queue.clone());
            let started = thread::Builder::new().name("probe".into()).spawn(move || {
                for job in jobs {
                    let sample = look(&job.probe, job.limit);
                    let (program, run) = (job.program, job.run);
                    input::send(&queue, Input::Probed { program, run, sample });
                }
            });
            match started {
                Ok(_) => self.threads += 1,
                Err(why) if self.threads == 0 => return Err(format!("no thread for it: {why}")),
                Err(_) => {}
            }
        }
        self.under_way.insert(job.run, job.program);
        // Both ends are ours.
        self.jobs.0.send(job).unwrap_or_default();
        Ok(())
    }

    /// Nothing of that run is left.
    pub(super) fn forget(&mut self, run: RunId) {
        self.heard.remove(&run);
        self.words.remove(&run);
    }
}

/// One look, in a thread of its own.
fn look(probe: &Probe, limit: Duration) -> Sample {
    let end = crate::sys::clock::monotonic() + limit;
    let found = match probe {
        Probe::Http(url) => http::get(url, end),
        Probe::Tcp(address) => net::tcp(address, end).map(drop),
        Probe::Socket(path) => net::unix(path),
        Probe::File(path) => file(path),
        // The loop looks at these.
        Probe::Command(_) | Probe::Log(_) => Ok(()),
    };
    match found {
        Ok(()) => Sample::Good,
        Err(Failed::Bad(how)) => Sample::Bad(format!("{probe}: {how}").into()),
        Err(Failed::Unknown(how)) => Sample::Unknown(format!("{probe}: {how}").into()),
    }
}

/// Why a look is no good one, in words.
#[derive(Debug)]
enum Failed {
    /// The program does not serve.
    Bad(String),
    /// It could not be looked at.
    Unknown(String),
}

impl Failed {
    /// What came of a system call: want of ours says nothing about the program.
    fn of(error: &io::Error) -> Self {
        const OURS: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
        if error.raw_os_error().is_some_and(|errno| OURS.contains(&errno)) {
            Self::Unknown(error.to_string())
        } else {
            Self::Bad(error.to_string())
        }
    }
}

fn file(path: &Path) -> Result<(), Failed> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(Failed::Bad("a directory".to_owned())),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failed::Bad(error.to_string()))
        }
        // Nobody has said that it is not there.
        Err(error) => Err(Failed::Unknown(error.to_string())),
    }
}

impl Shell {
    /// Looks; the answer arrives as an event.
    pub(super) fn probe(&mut self, program: ProgramId, run: RunId, of: ProbeOf) {
        let Some(slot) = self.engine.slot(program) else { return };
        let (Some(probe), main) = (slot.probe_of(of).cloned(), slot.main) else { return };
        let Some(limit) = slot.limit_of_probe(of) else { return };
        let sample = if let (Probe::Log(_), Some(main)) = (&probe, main) {
            self.look_at_output(program, main, &probe)
        } else {
            let words = probe.to_string();
            match self.probes.begin(Job { program, run, probe, limit }, &self.queue) {
                Ok(()) => return,
                Err(how) => Sample::Unknown(format!("{words}: {how}").into()),
            }
        };
        self.results.push_back(Event::Probed { program, run, sample });
    }

    /// A thread has come back.
    pub(super) fn probed(&mut self, program: ProgramId, run: RunId, sample: Sample) {
        if self.probes.under_way.remove(&run).is_some() {
            self.feed(Event::Probed { program, run, sample });
        }
    }

    /// Whether such a line was written since the look before, or the start.
    fn look_at_output(&mut self, program: ProgramId, main: RunId, probe: &Probe) -> Sample {
        self.listen(program, main);
        let Some(heard) = self.probes.heard.get_mut(&main) else { return Sample::Good };
        let lines = heard.lines.load(Ordering::Relaxed);
        if std::mem::replace(&mut heard.seen, lines) == lines {
            Sample::Bad(format!("{probe}: no such line since the last look").into())
        } else {
            Sample::Good
        }
    }

    /// Listens for what is to be in the output of a run, if that is not done already.
    pub(super) fn listen(&mut self, program: ProgramId, main: RunId) {
        let Some(slot) = self.engine.slot(program) else { return };
        let text = |of| match slot.probe_of(of) {
            Some(Probe::Log(text)) => Some(text.clone()),
            _ => None,
        };
        let (health, readiness) = (text(ProbeOf::Health), text(ProbeOf::Readiness));
        let known = self.probes.heard.get(&main).map(|heard| &heard.text);
        if known == health.as_ref() && (known.is_some() || readiness.is_none()) {
            return;
        }
        let mut ears = Vec::new();
        if let Some(text) = health {
            let lines: Arc<AtomicU64> = Arc::default();
            let counts = Arc::clone(&lines);
            ears.push(Ear::new(&text, move || {
                counts.fetch_add(1, Ordering::Relaxed);
            }));
            self.probes.heard.insert(main, Heard { text, lines, seen: 0 });
        }
        ears.extend(readiness.map(|text| {
            let queue = self.queue.clone();
            let told = AtomicBool::new(false);
            Ear::new(&text, move || {
                if !told.swap(true, Ordering::Relaxed) {
                    let event = Event::Child { program, run: main, what: ChildEvent::Ready };
                    input::send(&queue, Input::Event(Box::new(event)));
                }
            })
        }));
        self.logs.listen(main.0, ears);
    }

    /// Keeps the last of what a command that looks says.
    pub(super) fn keep_words(&mut self, run: RunId, words: Words) {
        self.watcher.words(run, words.pipe());
        self.probes.words.insert(run, words);
    }

    /// A command that looks has said something.
    pub(super) fn read_words(&mut self, run: RunId) {
        let Some(words) = self.probes.words.get_mut(&run) else { return };
        let more = words.read();
        let line = words.last();
        if more {
            self.watcher.words(run, words.pipe());
        } else {
            // It says too much, or no more.
            self.probes.words.remove(&run);
        }
        self.tell_words(run, line);
    }

    /// A command that looks has ended: its last words come before that.
    pub(super) fn last_words_of(&mut self, run: RunId) {
        let Some(mut words) = self.probes.words.remove(&run) else { return };
        words.read();
        self.tell_words(run, words.last());
    }

    fn tell_words(&mut self, run: RunId, line: Option<String>) {
        if let (Some(program), Some(line)) = (self.runs.get(&run).copied(), line) {
            self.feed(Event::LastWords { program, run, words: line.into() });
        }
    }
}
