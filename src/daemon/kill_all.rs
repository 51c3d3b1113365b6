//! `kill-all`: after the programs are down, what they have left behind is ended, and the copies of
//! them that somebody else has started: asked first, then killed, and each named.
//!
//! Threads look and wait, the loop signals.

use std::{collections::BTreeMap, thread, time::Duration};

use super::{
    Shell,
    input::{self, Input},
    processes::{self, LISTED_MAX, Member},
};
use crate::{
    control::{
        KillAll, KillReport, Kind, LogLine, Peer, ProcessInfo, ProcessList, Refusal, RefusalCode,
        Reply, Request, RequestId,
    },
    engine::{Event, Slot},
    model::{Human, Instant, Limit, LogLevel, Name, RunAs, Signal},
    sys::{
        Pid, clock,
        tree::{self, Leftover, Process},
    },
};

/// How long whoever comes from no known program may take to clean up.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for the others at the most.
const MOST: Duration = Duration::from_secs(30);
/// How long SIGKILL may take.
const LAST_WAIT: Duration = Duration::from_millis(500);
/// Killed more than once: whoever is forked meanwhile must not get away.
const ROUNDS: u32 = 10;
/// So many are named in one line of the log.
const NAMED: usize = 8;

/// All that are under way.
#[derive(Default)]
pub(super) struct Killings {
    /// One that the engine is about to be told of.
    next: Option<Killing>,
    open: BTreeMap<RequestId, Killing>,
}

/// A `kill-all` that is under way.
struct Killing {
    /// Everybody who was there when it began.
    before: Vec<(Process, ProcessInfo)>,
    /// So many more were.
    unlisted: u64,
    /// Whose copies are to end.
    search: Search,
    rounds: u32,
}

/// What a thread has done for a `kill-all`.
pub(super) enum Step {
    /// It has looked at everybody who is there: the engine can be told.
    Looked {
        peer: Peer,
        order: KillAll,
        before: Vec<(Process, ProcessInfo)>,
        unlisted: u64,
        search: Search,
    },
    /// These are the copies that are left, now that everybody has ended or the time is over.
    Waited(Vec<Leftover>),
}

/// What tells copies of programs from others.
#[derive(Clone, Default)]
pub(super) struct Search {
    /// Each program with its word, and whose its copies are.
    words: Vec<(Name, Box<str>, u32)>,
    /// Who asks, and whoever has started him: never among them.
    spared: Vec<Process>,
}

impl Search {
    /// All copies and what is below them.
    fn copies(&self) -> Vec<(Name, Leftover)> {
        let is_spared = |process: Process| self.spared.iter().any(|one| is_same(*one, process));
        let mut found: Vec<(Name, Leftover)> = Vec::new();
        for (name, word, uid) in &self.words {
            let mut copies = tree::copies(word, *uid).unwrap_or_default();
            copies.retain(|copy| !is_spared(copy.process));
            for one in tree::with_descendants(&copies, *uid) {
                let known = found.iter().any(|(_, other)| is_same(other.process(), one.process()));
                if !known && !is_spared(one.process()) {
                    found.push((name.clone(), one));
                }
            }
        }
        found
    }

    /// The same, to be listed; but for those that are listed already, as adopted.
    fn members(&self, listed: &[Member]) -> Vec<Member> {
        let member = |(program, one): (Name, Leftover)| Member {
            process: one.process(),
            program: Some(program),
            kind: Kind::Copy,
        };
        let is_new = |(_, one): &(Name, Leftover)| {
            !listed.iter().any(|other| is_same(other.process, one.process()))
        };
        self.copies().into_iter().filter(is_new).map(member).collect()
    }
}

fn is_same(one: Process, other: Process) -> bool {
    (one.pid, one.start_time) == (other.pid, other.start_time)
}

impl Shell {
    /// Somebody wants everybody ended, or to know who that would be.
    pub(super) fn kill_all(&mut self, id: RequestId, peer: Peer, order: KillAll) {
        if let Err(refusal) = self.proc_is_usable("end all processes") {
            return self.reply(id, refusal);
        }
        let mut all = self.members();
        let spared = Pid::parse(&peer.pid.to_string()).map(tree::with_forebears);
        let spared = spared.unwrap_or_default();
        let search = Search { words: self.words_of_copies(), spared };
        if order.dry_run {
            let waiting = self.waiting(&all);
            return self.answer_apart(id, move || {
                all.extend(search.members(&all));
                Reply::Processes(Box::new(ProcessList { waiting, ..processes::list(&all) }))
            });
        }
        if let Some(refusal) = would_end_the_client(peer, &all, &search.spared) {
            return self.reply(id, refusal);
        }
        let queue = self.queue.clone();
        let thread = thread::Builder::new().name("kill-all".into()).spawn(move || {
            all.extend(search.members(&all));
            let unlisted = u64::try_from(all.len().saturating_sub(LISTED_MAX)).unwrap_or(u64::MAX);
            let infos = processes::infos(&all);
            let key = |process: Process| (process.pid.number(), process.start_time);
            let by_id: BTreeMap<_, Process> =
                all.iter().map(|one| (key(one.process), one.process)).collect();
            let of = |info: ProcessInfo| Some((*by_id.get(&(info.pid, info.start_ticks))?, info));
            let before = infos.into_iter().filter_map(of).collect();
            let step = Step::Looked { peer, order, before, unlisted, search };
            input::send(&queue, Input::KillAll(id, step));
        });
        if let Err(why) = thread {
            self.reply(id, processes::no_thread(&why));
        }
    }

    /// A thread has done its part.
    pub(super) fn kill_all_step(&mut self, id: RequestId, step: Step) {
        match step {
            Step::Looked { peer, order, before, unlisted, search } => {
                self.killings.next = Some(Killing { before, unlisted, search, rounds: 0 });
                self.feed(Event::Request { id, peer, request: Request::KillAll(order) });
                // Taken, unless it was refused.
                self.killings.next = None;
            }
            Step::Waited(copies) => self.one_round(id, copies),
        }
    }

    /// It is accepted, and begins.
    pub(super) fn kill_all_begins(&mut self, id: RequestId) {
        if let Some(next) = self.killings.next.take() {
            self.killings.open.insert(id, next);
        }
    }

    /// The programs are down, or cannot be had down.
    pub(super) fn end_the_rest(&mut self, id: RequestId) {
        self.wait_and_look(id, Vec::new(), clock::monotonic());
    }

    /// Has a thread wait until these have ended, or it is `end`, and look for copies then.
    fn wait_and_look(&mut self, id: RequestId, left: Vec<Leftover>, end: Instant) {
        let Some(killing) = self.killings.open.get(&id) else { return };
        let (queue, search) = (self.queue.clone(), killing.search.clone());
        let thread = thread::Builder::new().name("kill-all".into()).spawn(move || {
            tree::all_end(&left, end);
            let copies = search.copies().into_iter().map(|(_, one)| one).collect();
            input::send(&queue, Input::KillAll(id, Step::Waited(copies)));
        });
        if let Err(why) = thread {
            self.killings.open.remove(&id);
            self.reply(id, processes::no_thread(&why));
        }
    }

    /// Asks, or kills, what belongs to no living instance.
    fn one_round(&mut self, id: RequestId, copies: Vec<Leftover>) {
        let mut rest = self.members();
        rest.retain(|one| one.kind == Kind::Orphan);
        let Some(killing) = self.killings.open.get_mut(&id) else { return };
        let round = killing.rounds;
        killing.rounds = round.saturating_add(1);
        let mut left: Vec<Leftover> =
            rest.iter().filter_map(|one| Leftover::open(one.process)).collect();
        left.extend(copies);
        if left.is_empty() || round >= ROUNDS {
            return self.killed(id);
        }
        let signal = if round == 0 { Signal::TERM } else { Signal::KILL };
        let wait = if round == 0 { self.patience_with(&rest) } else { LAST_WAIT };
        if round <= 1 {
            let names: Vec<String> = left.iter().take(NAMED).map(Leftover::in_words).collect();
            let more = if left.len() > NAMED { ", …" } else { "" };
            let text = format!("kill-all: {signal} to {}{more}", names.join(", "));
            self.note(LogLevel::Info, text);
        }
        if round == 0 {
            self.tell_who_is_asked(id, left.len(), wait);
        }
        for one in &left {
            one.signal(signal);
            one.signal(Signal::CONT);
        }
        self.wait_and_look(id, left, clock::monotonic() + wait);
    }

    /// So that the client knows what it waits for.
    fn tell_who_is_asked(&self, id: RequestId, count: usize, wait: Duration) {
        let Some(control) = &self.control else { return };
        let noun = if count == 1 { "process" } else { "processes" };
        let text = format!("waiting for {count} more {noun} (SIGKILL in {})", Human(wait));
        let (name, source) = ("kill-all".to_owned(), "supervisor".to_owned());
        control.lines(id, vec![LogLine { at: clock::wall(), name, source, text }]);
    }

    /// As long as the most patient of the programs that they come from may take.
    fn patience_with(&self, rest: &[Member]) -> Duration {
        let of = |one: &Member| {
            let id = self.engine.names().get(one.program.as_ref()?)?;
            match self.engine.slot(*id)?.program.stop.patience() {
                Limit::After(time) => Some(time),
                Limit::Never => Some(MOST),
            }
        };
        rest.iter().map(|one| of(one).unwrap_or(PATIENCE)).max().unwrap_or(PATIENCE).min(MOST)
    }

    /// Tells what became of everybody.
    fn killed(&mut self, id: RequestId) {
        let Some(killing) = self.killings.open.remove(&id) else { return };
        let Killing { before, unlisted, search, .. } = killing;
        let down = self.engine.programs().filter(|slot| !processes::is_down(slot));
        let programs = down.map(|slot| slot.program.name.as_str().to_owned()).collect();
        let mut all = self.members();
        self.answer_apart(id, move || {
            all.extend(search.members(&all));
            let ended = before.into_iter().filter(|(process, _)| !tree::is_alive(process));
            Reply::Killed(Box::new(KillReport {
                schema_version: 1,
                ended: ended.map(|(_, info)| info).collect(),
                left: processes::infos(&all),
                unlisted,
                programs,
            }))
        });
    }

    /// The supervisor ends, and so everybody has: whoever waits for that is told.
    pub(super) fn all_are_killed(&mut self) {
        for (id, killing) in std::mem::take(&mut self.killings.open) {
            let ended = killing.before.into_iter();
            let (ended, left): (Vec<_>, Vec<_>) =
                ended.partition(|(process, _)| !tree::is_alive(process));
            let infos = |all: Vec<(Process, ProcessInfo)>| all.into_iter().map(|(_, one)| one);
            let report = KillReport {
                schema_version: 1,
                ended: infos(ended).collect(),
                left: infos(left).collect(),
                unlisted: killing.unlisted,
                programs: Vec::new(),
            };
            self.reply(id, Reply::Killed(Box::new(report)));
        }
    }

    /// The programs that say how their copies are told.
    fn words_of_copies(&self) -> Vec<(Name, Box<str>, u32)> {
        let word = |slot: &Slot| {
            let program = &slot.program;
            let word = program.single_instance.as_ref()?.argv.clone()?;
            let uid = match &program.execution.user {
                RunAs::Account(account) => account.uid,
                RunAs::Supervisor { .. } => nix::unistd::geteuid().as_raw(),
            };
            Some((program.name.clone(), word, uid))
        };
        self.engine.programs().filter_map(word).collect()
    }
}

/// A client that one of our programs has started would not see the end.
fn would_end_the_client(peer: Peer, all: &[Member], forebears: &[Process]) -> Option<Reply> {
    let is_above = |one: &&Member| forebears.iter().any(|other| is_same(*other, one.process));
    let one = all.iter().find(is_above)?;
    let of = match &one.program {
        Some(name) => format!("a process of {name}"),
        None => format!("below process {}, which a program has left", one.process.pid),
    };
    Some(Reply::Error(Refusal {
        code: RefusalCode::Failed,
        message: format!("whoever asks (pid {}) is {of}, and would be ended with it", peer.pid),
        hint: Some("ask from elsewhere".to_owned()),
    }))
}
