//! `kill-all`: after the programs are down, what they have left behind is ended: asked first, then
//! killed, and each named.
//!
//! A thread waits, the loop signals.

use std::{collections::BTreeSet, thread, time::Duration};

use super::{
    Shell,
    input::{self, Input},
    processes::{self, LISTED_MAX, Member},
};
use crate::{
    control::{
        Kind, KillAll, KillReport, LogLine, Peer, ProcessInfo, Refusal, RefusalCode, Reply, Request,
        RequestId,
    },
    engine::Event,
    model::{Human, Limit, LogLevel, Signal},
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

/// A `kill-all` that is under way.
pub(super) struct Killing {
    /// Everybody who was there when it began.
    before: Vec<(Process, ProcessInfo)>,
    /// So many more were.
    unlisted: u64,
    rounds: u32,
}

impl Shell {
    /// Somebody wants everybody ended, or to know who that would be.
    pub(super) fn kill_all(&mut self, id: RequestId, peer: Peer, order: KillAll) {
        let reply = self.would_kill();
        let reply = match reply {
            Ok(_) if order.dry_run => reply,
            Ok(_) => match self.would_end_the_client(peer) {
                Some(refusal) => Err(refusal),
                None => return self.feed(Event::Request { id, peer, request: Request::KillAll(order) }),
            },
            Err(_) => reply,
        };
        self.reply(id, reply.unwrap_or_else(|refusal| refusal));
    }

    /// A client that one of our programs has started would not see the end.
    fn would_end_the_client(&mut self, peer: Peer) -> Option<Reply> {
        let client = Pid::parse(&peer.pid.to_string())?;
        let forebears: BTreeSet<Pid> = tree::with_forebears(client);
        let members = self.members();
        let one = members.iter().find(|one| forebears.contains(&one.process.pid))?;
        let of = match &one.program {
            Some(name) => format!("a process of {name}"),
            None => format!("below process {}, which a program has left", one.process.pid),
        };
        Some(Reply::Error(Refusal {
            code: RefusalCode::Failed,
            message: format!("whoever asks (pid {client}) is {of}, and would be ended with it"),
            hint: Some("ask from elsewhere".to_owned()),
        }))
    }

    /// Before anything is signalled: notes who is there.
    pub(super) fn kill_all_begins(&mut self, id: RequestId) {
        let all = self.members();
        let unlisted = u64::try_from(all.len().saturating_sub(LISTED_MAX)).unwrap_or(u64::MAX);
        let known = all.iter().take(LISTED_MAX);
        let before = known.filter_map(|one| Some((one.process, processes::info(one)?))).collect();
        self.killings.insert(id, Killing { before, unlisted, rounds: 0 });
    }

    /// The programs are down, or cannot be had down: one round against what they have left.
    pub(super) fn end_the_rest(&mut self, id: RequestId) {
        let rest = self.rest();
        let Some(killing) = self.killings.get_mut(&id) else { return };
        let round = killing.rounds;
        killing.rounds = round.saturating_add(1);
        if rest.is_empty() || round >= ROUNDS {
            return self.killed(id);
        }
        let signal = if round == 0 { Signal::TERM } else { Signal::KILL };
        let wait = if round == 0 { self.patience_with(&rest) } else { LAST_WAIT };
        let left: Vec<Leftover> = rest.iter().filter_map(|one| Leftover::of(one.process)).collect();
        if round <= 1 && !left.is_empty() {
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
        let (queue, end) = (self.queue.clone(), clock::monotonic() + wait);
        let thread = thread::Builder::new().name("kill-all".into()).spawn(move || {
            tree::all_end(&left, end);
            input::send(&queue, Input::KillAll(id));
        });
        if let Err(why) = thread {
            self.note(LogLevel::Warn, format!("kill-all: cannot start a thread to wait: {why}"));
            self.killed(id);
        }
    }

    /// So that the client knows what it waits for.
    fn tell_who_is_asked(&self, id: RequestId, count: usize, wait: Duration) {
        let Some(control) = &self.control else { return };
        let noun = if count == 1 { "process" } else { "processes" };
        let text = format!(
            "waiting for {count} {noun} that programs have left (SIGKILL in {})",
            Human(wait)
        );
        let (name, source) = ("kill-all".to_owned(), "supervisor".to_owned());
        control.lines(id, vec![LogLine { at: clock::wall(), name, source, text }]);
    }

    /// What belongs to no living instance.
    fn rest(&mut self) -> Vec<Member> {
        let mut all = self.members();
        all.retain(|one| one.kind == Kind::Orphan);
        all
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
        let Some(Killing { before, unlisted, .. }) = self.killings.remove(&id) else { return };
        let ended = before.into_iter().filter(|(process, _)| !tree::is_alive(process));
        let down = self.engine.programs().filter(|slot| !processes::is_down(slot));
        let programs = down.map(|slot| slot.program.name.as_str().to_owned()).collect();
        let report = KillReport {
            schema_version: 1,
            ended: ended.map(|(_, info)| info).collect(),
            left: self.members().iter().take(LISTED_MAX).filter_map(processes::info).collect(),
            unlisted,
            programs,
        };
        self.reply(id, Reply::Killed(Box::new(report)));
    }

    /// The supervisor ends, and so everybody has: whoever waits for that is told.
    pub(super) fn all_are_killed(&mut self) {
        for id in self.killings.keys().copied().collect::<Vec<_>>() {
            self.killed(id);
        }
    }
}
