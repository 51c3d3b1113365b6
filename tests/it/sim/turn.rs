//! What happens next: something that is due, a deadline, or somebody's wish.

use std::time::Duration;

use mini_supervisor::{
    control::{Change, Peer, ReloadSite, Request, RequestId, SendSignal, Shutdown, Targets},
    engine::{ChildEvent, Engine, Event, Role, Slot, State, Told},
    model::{Exit, FileId, Level, Limit, Reading, Reload, Sample, ShmMoment, Signal},
    plan::ProgramId,
};

use super::world::{Due, World};
use crate::site_builder::name;

impl World {
    /// Lets the next thing happen; whether there is one.
    pub(super) fn turn(&mut self) -> bool {
        let due = self.engine.next_deadline();
        let next = self.later.keys().next().map(|(at, _)| *at);
        let at = [due, next].into_iter().flatten().min();
        let idle = at.is_none_or(|at| at > self.now + Duration::from_millis(200));
        let wish = !self.peace && self.exit.is_none() && self.chance.is(if idle { 30 } else { 2 });
        if wish {
            if idle {
                self.judge_time();
                self.now = self.now + Duration::from_millis(self.chance.below(200));
            }
            self.wish();
            return true;
        }
        let Some(at) = at.filter(|at| at.0 != u64::MAX) else {
            self.deadlock();
            self.judge_time();
            self.now = self.now + Duration::from_secs(1);
            return false;
        };
        if at > self.now {
            self.judge_time();
            (self.now, self.busy) = (at, 0);
            if self.chance.is(self.faults.pauses) {
                self.pause();
            }
        }
        if let Some(entry) = self.later.first_entry().filter(|e| e.key().0 <= self.now) {
            let event = entry.remove();
            self.give(event);
        } else {
            self.busy += 1;
            let most = 10 + 5 * u64::try_from(self.engine.names().len()).unwrap();
            let busy = self.busy;
            self.hold(45, busy < most, || "the engine wakes up again and again".to_owned());
            self.give(Event::Deadline);
        }
        true
    }

    /// The supervisor itself does not run for a while: all that is due comes late, at once.
    fn pause(&mut self) {
        let length = Duration::from_millis(self.chance.below(60_000));
        self.now = self.now + length;
        for p in self.procs.values_mut() {
            p.stop_by = p.stop_by.map(|by| by + length);
        }
        if let Some((_, end)) = &mut self.stopping {
            *end = *end + length;
        }
    }

    /// I-44: when nothing will happen, nobody may be in the middle of something, nor wait for what
    /// is there.
    pub(super) fn deadlock(&mut self) {
        if self.exit.is_some() {
            return;
        }
        let alone = |known: &super::known::Known| known.wants.is_empty() && known.after.is_empty();
        let stuck = self.engine.programs().find(|slot| match &slot.state {
            State::Running { .. } | State::Waiting { wait_until: Some(_), .. } => false,
            State::Waiting { wait_until: None, .. } => {
                let known = &self.known[slot.id.index()];
                alone(known) && self.missing(slot.id).is_none() && !self.has_lock(slot.id)
            }
            _ => slot.is_live() || slot.deadline().is_some(),
        });
        let stuck = stuck.map(|s| (s.id, s.state.clone()));
        let all = || {
            let one =
                |s: &Slot| format!("{} {:?} {:?} {:?}", s.program.name, s.goal, s.state, s.edges);
            self.engine.programs().map(one).collect::<Vec<String>>()
        };
        let all = if stuck.is_some() { all() } else { Vec::new() };
        self.hold(44, stuck.is_none(), || format!("{stuck:?} waits for nothing: {all:#?}"));
    }

    fn wish(&mut self) {
        if self.chance.is(self.faults.stale) {
            return self.stale();
        }
        let jump = i64::try_from(self.chance.below(1_000_000)).unwrap() - 500_000;
        if self.chance.is(10) && self.jumps {
            self.wall += jump;
        }
        if let Some(id) = self.revive.take().filter(|_| self.chance.is(80)) {
            return self.start_at_once(id, 42);
        }
        if !self.site.semaphores.is_empty() && self.chance.is(40) {
            return self.signals();
        }
        let Some(id) = self.anyone() else { return };
        match self.chance.below(200) {
            0..=49 => self.start_at_once(id, 43),
            50..=139 => self.ask_for_change(id),
            140..=169 => self.ask_one(id),
            170..=179 => {
                let request = Request::Reload(ReloadSite {
                    dry_run: self.chance.is(10),
                    allow_removal: self.chance.is(50),
                });
                self.ask(request, Some(Duration::ZERO), false);
            }
            180..=193 => self.go_away(),
            194 => {
                let force = self.chance.is(30);
                self.end_sooner(force);
                self.ask(Request::Shutdown(Shutdown { force }), Some(Duration::ZERO), false);
            }
            195 if self.chance.is(30) => {
                let told = self.chance.of(&[Told::Stop, Told::Quit, Told::Fault, Told::Stop]);
                self.end_sooner(told == Told::Quit);
                self.give(Event::Told(told));
            }
            _ => {
                let told = self.chance.of(&[Told::Reload, Told::Reopen]);
                self.give(Event::Told(told));
            }
        }
    }

    fn anyone(&mut self) -> Option<ProgramId> {
        let index = usize::try_from(self.chance.below(30)).unwrap() % self.ids.len().max(1);
        self.ids.values().nth(index).copied()
    }

    /// A second wish for the end makes it come within two seconds.
    pub(super) fn end_sooner(&mut self, force: bool) {
        let sooner = self.now + Duration::from_secs(2);
        if let Some((_, end)) = self.stopping.as_mut().filter(|_| force) {
            *end = (*end).min(sooner);
            let end = *end;
            self.due.insert((end, Due::Exit));
        }
    }

    /// A request, and when it has to be answered; whether it stays with the engine until then.
    pub(super) fn ask(&mut self, request: Request, within: Option<Duration>, kept: bool) {
        self.requests += 1;
        let id = self.requests;
        self.open.insert(id, kept);
        if let Some(within) = within {
            self.due.insert((self.now + within, Due::Answer(id)));
        }
        self.give(Event::Request { id: RequestId(id), peer: Peer::default(), request });
    }

    /// A client hangs up.
    fn go_away(&mut self) {
        let index = usize::try_from(self.chance.below(self.open.len() as u64)).unwrap();
        let Some(id) = self.open.keys().nth(index).copied() else { return };
        self.open.remove(&id);
        self.gone.insert(id);
        self.give(Event::RequestGone(RequestId(id)));
    }

    /// Names as somebody would type them, and whom they mean; `None`: one of them means nobody.
    fn names(&mut self, id: ProgramId) -> (Vec<String>, Option<Vec<ProgramId>>) {
        let name = |w: &Self, id: ProgramId| {
            w.settings(id).map_or_else(String::new, |s| s.name.as_str().to_owned())
        };
        let mut words = vec![name(self, id)];
        match self.chance.below(20) {
            0 => words = vec!["all".to_owned()],
            1 => words = vec!["tag:t".to_owned()],
            2 => words = vec!["i".to_owned()],
            3 => words = vec!["p0[0-4]".to_owned()],
            4..=6 => {
                let other = self.anyone().unwrap_or(id);
                words.push(name(self, other));
            }
            _ => {}
        }
        let mut found = Vec::new();
        for word in &words {
            let before = found.len();
            for (name, id) in &self.ids {
                let known = &self.known[id.index()];
                let Some(of) = known.settings.as_ref().filter(|_| known.member) else { continue };
                let name = name.as_str();
                let meant = match word.as_str() {
                    "all" => true,
                    "tag:t" => of.tags.iter().any(|tag| &**tag == "t"),
                    "i" => of.template.is_some(),
                    "p0[0-4]" => name.starts_with("p0") && name < "p05",
                    word => name == word,
                };
                if meant {
                    found.push(*id);
                }
            }
            if found.len() == before && word != "all" {
                return (words, None);
            }
        }
        found.sort_unstable();
        found.dedup();
        (words, Some(found))
    }

    /// start, stop, restart, of one or many.
    fn ask_for_change(&mut self, id: ProgramId) {
        let (names, meant) = self.names(id);
        let change = Change {
            names,
            no_wait: self.chance.is(20),
            force: self.chance.is(10),
            dry_run: self.chance.is(5),
            timeout: Some(Duration::from_secs(1 + self.chance.below(600))),
            ..Change::default()
        };
        let kind = self.chance.below(3);
        let enabled = |id: &ProgramId| self.settings(*id).is_some_and(|s| s.enabled);
        let meant = match meant {
            Some(meant) if kind == 1 => Some(meant),
            Some(one) if one.len() == 1 && !enabled(&one[0]) => None,
            Some(many) => Some(many.into_iter().filter(enabled).collect()),
            None => None,
        };
        let begins = !change.dry_run && (kind == 1 || self.stopping.is_none());
        if let Some(meant) = meant.as_ref().filter(|_| begins) {
            if change.force && kind > 0 {
                self.force(meant);
            }
            match kind {
                0 => self.bring_up(meant, true),
                1 => self.bring_down(meant),
                _ => self.bring_again(meant, change.force),
            }
        }
        let now = change.no_wait || change.dry_run || meant.is_none() || !begins;
        let within = if now { Some(Duration::ZERO) } else { change.timeout };
        let request = match kind {
            0 => Request::Start(change),
            1 => Request::Stop(change),
            _ => Request::Restart(change),
        };
        self.ask(request, within, true);
    }

    /// SIGKILL at once, and no word before it.
    fn force(&mut self, these: &[ProgramId]) {
        let by = self.now + Duration::from_secs(1);
        for id in these {
            let known = &mut self.known[id.index()];
            known.up = false;
            for run in &known.runs {
                let Some(p) = self.procs.get_mut(run) else { continue };
                p.forced = true;
                if p.role == Role::Main && p.spawned && !p.exited {
                    p.stop_by = Some(by);
                    self.due.insert((by, Due::Stop(*run)));
                }
            }
        }
    }

    pub(super) fn bring_down(&mut self, these: &[ProgramId]) {
        for id in these {
            let known = &mut self.known[id.index()];
            (known.wanted, known.done) = (false, false);
        }
        self.excuse(these.iter().copied());
    }

    pub(super) fn bring_again(&mut self, these: &[ProgramId], force: bool) {
        // A program is not down yet while its files are looked for after it, but a kill ends that.
        let swept =
            |id: ProgramId| self.sweeps.values().any(|of| *of == (Some(id), ShmMoment::After));
        let live = |id: &ProgramId| self.alive(*id).next().is_some() || !force && swept(*id);
        let (live, down): (Vec<ProgramId>, Vec<ProgramId>) = these.iter().partition(|id| live(id));
        for id in &live {
            let known = &mut self.known[id.index()];
            (known.wanted, known.cause, known.failures) = (true, true, 0);
            (known.given_up, known.retry_at) = (false, None);
            known.starts.clear();
            known.lived = None;
        }
        self.excuse(live);
        self.bring_up(&down, true);
    }

    /// reset, signal, reload of one program.
    fn ask_one(&mut self, id: ProgramId) {
        let Some(of) = self.settings(id).cloned() else { return };
        let names = vec![of.name.as_str().to_owned()];
        match self.chance.below(3) {
            0 => {
                let state = self.engine.slot(id).map(|slot| &slot.state);
                let fatal = matches!(state, Some(State::Fatal { .. }));
                let known = &mut self.known[id.index()];
                if known.member {
                    known.wanted &= !fatal;
                    (known.failures, known.given_up) = (0, false);
                    known.starts.clear();
                }
                self.ask(Request::Reset(Targets { names }), Some(Duration::ZERO), false);
            }
            1 => {
                let names =
                    vec![if self.chance.is(50) { "all".to_owned() } else { of.name.to_string() }];
                let send = SendSignal { signal: Signal::USR1, names };
                self.ask(Request::Signal(send), Some(Duration::ZERO), false);
            }
            _ => {
                // Its command may hang until its time is over, and die late.
                let within = match (&of.reload, of.start_timeout) {
                    (Some(Reload::Command(_)), Limit::After(time)) => {
                        Some(time + Duration::from_secs(180))
                    }
                    (Some(Reload::Command(_)), Limit::Never) => None,
                    _ => Some(Duration::ZERO),
                };
                self.ask(Request::ReloadProgram(Targets { names }), within, false);
            }
        }
    }

    /// I-42, I-43: what can start does so at once, whatever the others do.
    fn start_at_once(&mut self, id: ProgramId, number: usize) {
        let Some(of) = self.settings(id).cloned() else { return };
        let known = &self.known[id.index()];
        let member = known.member;
        let ending = |(to, _): &(ProgramId, _)| self.engine.slot(*to).is_none_or(Slot::is_ending);
        let down = known.runs.is_empty() && known.no_room.is_none();
        let down = down && self.sweep_of(id).is_none() && !self.locks.contains_key(&id);
        let free = member && of.enabled && down && self.stopping.is_none();
        let alone = known.wants.is_empty() && known.after.is_empty() && of.wait_for.is_empty();
        let ready =
            self.missing(id).is_none() && !self.has_lock(id) && !known.requires.iter().any(ending);
        // What is up without what it requires by now goes down when that is wanted up.
        let ready = ready && known.requires.iter().all(|(to, _)| self.missing(*to).is_none());
        let recent = |k: &super::known::Known| {
            k.flapped.is_some_and(|at| self.now - at < Duration::from_secs(60))
        };
        let flapping = self.known.iter().filter(|k| recent(k)).count();
        if member && of.enabled && self.stopping.is_none() {
            self.bring_up(&[id], true);
        }
        let timeout = Duration::from_secs(1 + self.chance.below(600));
        let refused = !member || !of.enabled || self.stopping.is_some();
        let within = if refused { Duration::ZERO } else { timeout };
        let names = vec![of.name.as_str().to_owned()];
        let change = Change { names, timeout: Some(timeout), ..Change::default() };
        self.ask(Request::Start(change), Some(within), true);
        if free && alone && ready && (flapping > 0 || number == 42) {
            let now = self.known[id.index()].spawned_at == self.events;
            self.hold(number, now, || format!("{id:?} is not started at once"));
        }
    }

    /// I-10: what is late or of an earlier life changes nothing.
    fn stale(&mut self) {
        if self.is_due() {
            return;
        }
        let event = match self.chance.below(8) {
            0 => {
                let index = self.chance.below(self.awaited.len() as u64);
                let Some((program, attempt, index)) =
                    self.awaited.get(usize::try_from(index).unwrap()).copied()
                else {
                    return;
                };
                let newer = |(of, n, _): &(ProgramId, u64, usize)| *of == program && *n > attempt;
                if !self.awaited.iter().any(newer) {
                    return;
                }
                Event::Condition { program, attempt, index }
            }
            1 => Event::Deadline,
            // Of a look that nobody waits for.
            3 => {
                let index = self.chance.below(self.old_looks.len() as u64);
                let index = usize::try_from(index).unwrap();
                let Some((program, run)) = self.old_looks.get(index).copied() else { return };
                let all = [Sample::Good, Sample::Bad("old".into()), Sample::Unknown("old".into())];
                let sample = all[usize::try_from(self.chance.below(3)).unwrap()].clone();
                Event::Probed { program, run, sample }
            }
            // Of a semaphore that went.
            2 => {
                let file = FileId { device: 1, inode: 1 };
                let level = Level::Raised { file, owner: 0, holders: Vec::new() };
                Event::Seen((name("gone"), Reading { level, info: None }))
            }
            _ => {
                let index = self.chance.below(self.finished.len() as u64);
                let index = usize::try_from(index).unwrap();
                let Some((program, run)) = self.finished.get(index).copied() else { return };
                let what = match self.chance.below(3) {
                    0 => ChildEvent::Spawned { pid: 7 },
                    1 => ChildEvent::Exited(Exit::Code(1)),
                    _ => ChildEvent::TreeEmpty,
                };
                Event::Child { program, run, what }
            }
        };
        let look = |engine: &Engine| {
            let one = |s: &Slot| {
                let looks = (s.probe.clone(), s.health.clone());
                (s.state.clone(), s.goal, s.side, looks, s.history.clone())
            };
            engine.programs().map(one).collect::<Vec<_>>()
        };
        let before = look(&self.engine);
        self.idle = Some(10);
        let held = self.held;
        self.give(event);
        self.held[10] = held[10] + 1;
        self.idle = None;
        let same = before == look(&self.engine);
        self.hold(10, same, || "a late event changed something".to_owned());
    }
}
