//! What the log thread does when it is told to: streams, settings, our own lines, compression.

use std::sync::{Arc, atomic::Ordering};

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{
    Account, Command, LogReport, Stream, Which,
    errand::Errand,
    format::{Form, WIDTH_MAX},
    ledger::Ledger,
    path::Ownership,
    pump::{DRAIN, HOLD, OWN, Pump, Source, Tap},
    queue::{Segment, long, short},
    sink::Backend,
    splitter::Splitter,
    table::{Key, ownership},
    turn::Step,
};
use crate::model::{Instant, LogTarget, Logging, Name, SupervisorLog};

impl Pump {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Attach(stream) => self.attach(*stream),
            Command::Listen(run, ears) => {
                let mut listens = false;
                for tap in self.taps.iter_mut().flatten().filter(|tap| tap.run == run) {
                    tap.ears = ears.clone().into();
                    listens = true;
                }
                if !listens {
                    self.ears.insert(run, ears); // it is yet to be captured
                }
            }
            Command::Ended(run) => {
                self.ears.remove(&run);
                self.taps.iter_mut().flatten().for_each(|t| t.ended |= t.run == run);
            }
            Command::Retire(name) => self.retire(&name),
            Command::Reconfigure(name, logging) => self.reconfigure(&name, &logging),
            Command::Reopen => {
                for id in self.sinks.ids() {
                    self.with_sink(id, |sink, book| {
                        sink.reopen();
                        sink.flush(book);
                    });
                }
            }
            Command::Query(query, reader) => self.answer(*query, reader),
            Command::Own(line) => self.own_line(line),
            Command::OwnLog(log) => self.own_log(*log),
            Command::Account(name, reply) => {
                let number = self.numbers.get(&name).copied().unwrap_or(u32::MAX / 2);
                let sinks = self.taps.iter().flatten().filter(|t| t.program == number);
                let sinks: Vec<u32> = sinks.map(|t| t.sink).collect();
                let stuck = sinks.into_iter().filter_map(|id| self.stuck_for(id)).max();
                let account = Account { stuck, ..self.ledger.account(number) };
                // Who no longer waits for the answer does not need it.
                reply.try_send(account).unwrap_or_default();
            }
            Command::Shutdown(within, reply) => {
                self.closing = Some((self.at.now + within, reply));
                for slot in 0..short(self.taps.len()) {
                    self.steps.push_back(Step::Pull { slot, left: DRAIN, drain: true });
                    self.steps.push_back(Step::Finish(slot));
                }
            }
            Command::Compressed(job, complete) => {
                self.errands.others.push_back(Errand::Finish(job, complete, Ok(())));
            }
            Command::Back(errand) => self.returned(errand),
        }
    }

    pub(super) fn do_what_is_due(&mut self) {
        let now = self.at.now;
        let due = |slot: &u32| {
            let tap = self.taps.get(long(*slot)).and_then(Option::as_ref);
            tap.is_some_and(|t| t.ended || now >= t.held_since + HOLD)
        };
        for slot in self.holding.iter().copied().filter(due).collect::<Vec<_>>() {
            self.finish_line(slot);
        }
        for id in self.timed.iter().copied().collect::<Vec<_>>() {
            let Some(sink) = self.sinks.at(id) else {
                self.timed.remove(&id);
                continue;
            };
            if sink.retry_at().is_some_and(|at| now >= at) {
                self.flush(id);
            }
            let wall = self.at.wall;
            self.with_sink(id, |sink, _| {
                if let Backend::File(file) = &sink.backend
                    && file.due().is_some_and(|at| at <= wall)
                {
                    sink.look();
                }
            });
        }
    }

    pub(super) fn attach(&mut self, stream: Stream) {
        let Stream { program: name, which, run, fd, logging, colour } = stream;
        let known = self.numbers.get(&name).copied();
        let program = known.unwrap_or_else(|| {
            let number = self.ledger.add(name.clone());
            self.numbers.insert(name.clone(), number);
            number
        });
        self.width = self.width.max(name.as_str().len().min(WIDTH_MAX));
        let source = Source { name, ring: None, logging: logging.clone(), retired: false };
        let source = self.sources.entry(program).or_insert(source);
        (source.logging, source.retired) = (logging.clone(), false);
        let (sink, form) = self.join(&logging, which);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.taps.push(None);
            short(self.taps.len() - 1)
        });
        let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(slot));
        if let Err(errno) = self.epoll.add(&fd, event) {
            let what = format!("cannot read the output of a program: {}", errno.desc());
            self.reports.push(LogReport { program: None, what, lost_bytes: 0 });
        }
        let ears = self.ears.get(&run).cloned().unwrap_or_default().into();
        let tap = Tap {
            fd,
            ears,
            program,
            which,
            run,
            logging,
            sink,
            form,
            colour,
            splitter: Splitter::default(),
            held: Vec::new(),
            held_since: Instant(0),
            skip: false,
            paused: false,
            ended: false,
            full_reads: 0,
        };
        if let Some(place) = self.taps.get_mut(long(slot)) {
            *place = Some(Box::new(tap));
        }
    }

    pub(super) fn join(&mut self, logging: &Logging, which: Which) -> (u32, Form) {
        let target = match (which, &logging.stderr) {
            (Which::Stdout, _) | (Which::Stderr, LogTarget::Stdout) => &logging.stdout,
            (Which::Stderr, target) => target,
        };
        let (key, form) = Key::of(target);
        (self.sinks.join(&key, &logging.rotate, ownership(logging)), form)
    }

    pub(super) fn retire(&mut self, name: &Name) {
        let Some(number) = self.numbers.get(name).copied() else { return };
        if let Some(source) = self.sources.get_mut(&number) {
            source.retired = true;
        }
        self.forget_if_retired(number);
    }

    /// A retired program is forgotten with its last stream.
    pub(super) fn forget_if_retired(&mut self, number: u32) {
        let retired = self.sources.get(&number).is_some_and(|s| s.retired);
        if retired && !self.taps.iter().flatten().any(|t| t.program == number) {
            let ring = self.sources.remove(&number).and_then(|s| s.ring);
            self.ring_cost = self.ring_cost.saturating_sub(ring.map_or(0, |r| r.cost()));
        }
    }

    pub(super) fn reconfigure(&mut self, name: &Name, logging: &Arc<Logging>) {
        let Some(number) = self.numbers.get(name).copied() else { return };
        if let Some(source) = self.sources.get_mut(&number) {
            source.logging = logging.clone();
        }
        for slot in 0..short(self.taps.len()) {
            let tap = self.taps.get(long(slot)).and_then(Option::as_ref);
            let Some(tap) = tap.filter(|t| t.program == number) else { continue };
            let (which, old) = (tap.which, tap.sink);
            self.finish_line(slot);
            let (sink, form) = self.join(logging, which);
            self.sinks.leave(old);
            if let Some(tap) = self.taps.get_mut(long(slot)).and_then(Option::as_mut) {
                (tap.sink, tap.form, tap.logging) = (sink, form, logging.clone());
            }
            self.with_sink(sink, |_, _| ());
            self.resume(old);
        }
    }

    pub(super) fn own_log(&mut self, log: SupervisorLog) {
        let old = self.own.1.take();
        self.own.1 = log.file.as_ref().map(|path| {
            let own = Ownership { owner: log.owner, group: log.group, mode: log.mode.0 };
            self.sinks.join(&Key::File(path.clone()), &log.rotate, own)
        });
        if let Some(id) = old {
            self.sinks.leave(id);
        }
        self.own.0 = Some(log);
    }

    /// Writes a line of our own: to the file, and to standard error when it is to go there or the
    /// file fails.
    pub(super) fn own_line(&mut self, mut line: Vec<u8>) {
        self.handle.own_waiting.fetch_sub(line.len(), Ordering::Relaxed);
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        let lost = self.handle.own_lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            line.extend_from_slice(
                format!("supervisor: {lost} lines of its own lost\n").as_bytes(),
            );
        }
        let owner = Ledger::owner(0, Which::Stderr);
        let out = short(line.len());
        let segment = Segment { owner, raw: out, out, keep: false };
        let mut to_stderr = self.own.0.as_ref().is_none_or(|log| log.stderr);
        let write = |pump: &mut Self, id: u32| {
            pump.ledger.offered(owner, line.len());
            pump.with_sink(id, |sink, book| {
                sink.offer(OWN, &line, &[segment], book);
                sink.is_failing() || sink.is_stuck()
            })
        };
        if let Some(id) = self.own.1 {
            to_stderr |= write(self, id) == Some(true);
        }
        if to_stderr {
            write(self, self.own.2);
        }
    }
}

pub(super) const PRIVATE: Ownership = Ownership { owner: None, group: None, mode: 0o640 };

pub(super) fn no_rotation() -> crate::model::Rotate {
    let compress = crate::model::Compress::None;
    crate::model::Rotate { max_size: None, every: None, keep: 0, compress, after_reload: false }
}
