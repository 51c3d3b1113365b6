//! The processes of the world: how they start, fork, hang, ignore, die late, and are reaped.

use std::time::Duration;

use mini_supervisor::{
    engine::{
        ChildEvent, Event, FailureClass, ProbeOf, Role, RunId, Scope, Slot, Spawn, SpawnFailure,
    },
    model::{Exit, Instant, KillMode, Limit, Sample, Signal},
    plan::ProgramId,
};

use super::world::World;

/// A child of the world.
#[derive(Clone, Debug)]
pub(super) struct Proc {
    pub(super) program: ProgramId,
    pub(super) role: Role,
    pub(super) pid: u32,
    /// Whether the engine knows that it executes.
    pub(super) spawned: bool,
    /// It is no child: nobody knows how it ends.
    pub(super) adopted: bool,
    /// It hangs between fork and exec until it is killed.
    pub(super) hangs: bool,
    /// Whether the engine knows that its main process ended.
    pub(super) exited: bool,
    /// Whether its main process was reaped.
    pub(super) reaped: bool,
    /// Other members of its tree; they outlive it.
    pub(super) members: u64,
    pub(super) obeys: bool,
    /// How long SIGKILL takes.
    pub(super) lag: Duration,
    pub(super) dying: bool,
    /// When it was first asked to end.
    pub(super) asked: Option<Instant>,
    /// Somebody wants it dead at once.
    pub(super) forced: bool,
    /// Its settings changed on the way.
    pub(super) changed: bool,
    /// What is left of it stays, and whether that is all there is of it.
    pub(super) leaves: bool,
    pub(super) left: bool,
    /// When its stop has to be over, and what was found out about it.
    pub(super) stop_by: Option<Instant>,
    pub(super) unkillable: bool,
    /// That time was foreseen, before anybody began to stop it.
    pub(super) foreseen: bool,
    /// It has become ready.
    pub(super) ready: bool,
    /// It says no longer that it is alive.
    pub(super) silent: bool,
    /// It was told to end while it ran.
    pub(super) told: bool,
    /// Whether it ended well enough for what follows.
    pub(super) good: bool,
}

impl Proc {
    /// How its end is told.
    fn how(&self, how: Exit) -> Exit {
        if self.adopted { Exit::Unknown } else { how }
    }
}

impl World {
    /// Few pids, and those that are free are used again at once.
    pub(super) fn pid(&mut self) -> u32 {
        let recent = self.chance.is(60).then(|| self.pids.pop()).flatten();
        let taken = |pid: &u32| self.procs.values().any(|p| p.pid == *pid && !p.reaped);
        if let Some(pid) = recent.filter(|pid| !taken(pid)) {
            return pid;
        }
        (2..10_000).find(|pid| !taken(pid)).unwrap()
    }

    pub(super) fn spawn(&mut self, spawn: &Spawn) {
        let (program, run, role) = (spawn.program, spawn.run, spawn.role);
        self.judge_spawn(spawn);
        self.judge_shm(program);
        self.judge_lock(program, role);
        let faults = self.faults;
        let fails = self.chance.is(faults.spawn_fails);
        let slow = if self.peace { 1 } else { 3000 };
        let delay = if self.chance.is(faults.spawn_late) { self.chance.below(slow) } else { 0 };
        let delay = Duration::from_millis(delay);
        let pid = self.pid();
        self.make(program, run, role, pid);
        if self.procs[&run].hangs {
            return;
        }
        if fails {
            let class =
                self.chance.of(&[FailureClass::Resources, FailureClass::Busy, FailureClass::Own]);
            let failure = SpawnFailure { text: "x".into(), class, code: 127 };
            self.child(delay, run, ChildEvent::SpawnFailed(failure));
            return;
        }
        self.child(delay, run, ChildEvent::Spawned { pid });
        self.live(delay, run, role);
        if role == Role::Main {
            self.speaks(delay, run);
        }
    }

    /// A process of the world.
    pub(super) fn make(&mut self, program: ProgramId, run: RunId, role: Role, pid: u32) {
        let faults = self.faults;
        let lag = if self.chance.is(faults.d_state) { 1 + self.chance.below(60) } else { 0 };
        let proc = Proc {
            program,
            role,
            pid,
            spawned: false,
            adopted: false,
            hangs: self.chance.is(faults.hangs),
            exited: false,
            reaped: false,
            members: if self.chance.is(faults.forks) { 1 + self.chance.below(3) } else { 0 },
            obeys: !self.chance.is(faults.ignores),
            lag: Duration::from_secs(lag),
            dying: false,
            asked: None,
            forced: false,
            changed: false,
            leaves: false,
            left: false,
            stop_by: None,
            unkillable: false,
            foreseen: false,
            ready: false,
            silent: false,
            told: false,
            good: false,
        };
        if let Role::Probe(ProbeOf::Health) = role {
            self.look_begins(program, run);
        }
        self.procs.insert(run, proc);
        self.known[program.index()].runs.push(run);
    }

    /// How long it will live by itself.
    pub(super) fn live(&mut self, delay: Duration, run: RunId, role: Role) {
        let program = self.procs[&run].program;
        if role != Role::Main || self.engine.slot(program).is_some_and(Slot::is_oneshot) {
            let most = if self.peace { 100 } else { 4000 };
            let lives = Duration::from_millis(self.chance.below(most));
            let code = u8::from(self.chance.is(self.faults.crashes));
            self.end(delay + lives, run, Exit::Code(code));
        } else if self.chance.is(self.faults.crashes) {
            let most = self.chance.of(&[1, 1000, 60_000]);
            let lives = Duration::from_millis(self.chance.below(most));
            let codes = [Exit::Code(0), Exit::Code(1), signalled(Signal::KILL)];
            let how = self.chance.of(&codes);
            self.end(delay + lives, run, how);
        }
    }

    /// Its main process will end.
    pub(super) fn end(&mut self, delay: Duration, run: RunId, how: Exit) {
        let Some(p) = self.procs.get_mut(&run).filter(|p| !p.dying) else { return };
        p.dying = true;
        let how = p.how(how);
        self.child(delay, run, ChildEvent::Exited(how));
    }

    pub(super) fn signal(&mut self, run: RunId, signal: Signal, scope: Scope) {
        let polite = [Signal::TERM, Signal::INT, Signal::ABRT].contains(&signal);
        let Some(p) = self.procs.get(&run) else { return };
        if let (Role::Probe(_), false, Signal::KILL) = (p.role, p.exited, signal) {
            self.look_is_killed(run, p.spawned);
        }
        let Some(p) = self.procs.get_mut(&run) else { return };
        p.told |= !p.exited && (polite || signal == Signal::KILL);
        if !p.spawned {
            // Before exec only SIGKILL works; sometimes it executes at the last moment.
            if p.hangs && signal == Signal::KILL && !p.dying {
                let (pid, lag) = (p.pid, p.lag);
                p.dying = true;
                if self.chance.is(20) {
                    self.child(lag, run, ChildEvent::Spawned { pid });
                    self.child(lag, run, ChildEvent::Exited(signalled(signal)));
                } else {
                    let class = FailureClass::Own;
                    let failure = SpawnFailure { text: "killed".into(), class, code: 127 };
                    self.child(lag, run, ChildEvent::SpawnFailed(failure));
                }
            }
            return;
        }
        if signal != Signal::KILL && !(polite && p.obeys) {
            return;
        }
        let lag = if signal == Signal::KILL { p.lag } else { Duration::from_millis(30) };
        let reaped = p.reaped;
        let empties = scope == Scope::Tree && p.members > 0;
        if empties {
            p.members = 0;
        }
        if !reaped {
            self.advance_end(run, lag, signal);
        } else if empties {
            self.child(lag, run, ChildEvent::TreeEmpty);
        }
    }

    /// A process that would end later by itself ends now.
    fn advance_end(&mut self, run: RunId, lag: Duration, signal: Signal) {
        let is_end = |event: &Event| match event {
            Event::Child { run: of, what: ChildEvent::Exited(_), .. } => *of == run,
            _ => false,
        };
        let due = self.now + lag;
        let dying = self.procs.get(&run).is_some_and(|p| p.dying);
        let find = || self.later.iter().find(|(_, event)| is_end(event)).map(|(key, _)| *key);
        let old = if dying { find() } else { None };
        if let Some(old) = old {
            if old.0 <= due {
                return;
            }
            self.later.remove(&old);
        }
        let Some(p) = self.procs.get_mut(&run) else { return };
        p.dying = true;
        let how = p.how(signalled(signal));
        self.child(lag, run, ChildEvent::Exited(how));
    }

    /// What the world knows before the engine hears of it.
    pub(super) fn before_child(&mut self, run: RunId, what: &ChildEvent) {
        self.before_end_of_look(run, what);
        let now = self.now;
        let Some(p) = self.procs.get_mut(&run) else { return };
        let (program, role) = (p.program, p.role);
        let known = &mut self.known[program.index()];
        let ignores = match (&known.settings, role) {
            (Some(of), Role::StartPre(index)) => of.start_pre.get(index),
            (Some(of), Role::StartPost(index)) => of.start_post.get(index),
            _ => None,
        };
        let ignores = ignores.is_some_and(|hook| hook.ignore_failure);
        match what {
            ChildEvent::Spawned { .. } => {
                p.spawned = true;
                if role == Role::Main {
                    known.began = Some(now);
                }
            }
            ChildEvent::Exited(exit) => {
                p.exited = true;
                p.good = *exit == Exit::Code(0) || ignores;
                if role == Role::Main {
                    known.lived = known.began.take().map(|began| now - began);
                    known.exit = Some(*exit);
                    known.cause |= std::mem::take(&mut known.drains);
                    known.up = false;
                }
            }
            ChildEvent::SpawnFailed(failure) => {
                let again = failure.class != FailureClass::Own;
                let starts = matches!(role, Role::Main | Role::StartPre(_));
                known.no_room = (again && starts).then_some(now);
                p.good = ignores;
            }
            ChildEvent::Reaped => p.left = p.leaves,
            // No program of the simulation forks.
            ChildEvent::TreeEmpty
            | ChildEvent::Main { .. }
            | ChildEvent::NoMain(_)
            | ChildEvent::Unready(_) => {}
            ChildEvent::Ready => self.becomes_ready(run),
            ChildEvent::Said(notice) => self.says(run, notice),
        }
        let Some(p) = self.procs.get(&run) else { return };
        let known = &mut self.known[program.index()];
        if matches!(what, ChildEvent::SpawnFailed(_) | ChildEvent::TreeEmpty) {
            match role {
                Role::StartPre(_) if p.good && matches!(what, ChildEvent::TreeEmpty) => {
                    known.prepared = true;
                }
                Role::StartPost(index) if p.good => known.posts = index + 1,
                _ => {}
            }
            self.end_of(program, run);
        }
    }

    /// A command that looks has something to say by its end, unless it was killed before.
    fn before_end_of_look(&mut self, run: RunId, what: &ChildEvent) {
        if !self.looks.contains_key(&run) {
            return;
        }
        match what {
            ChildEvent::Exited(Exit::Code(0)) => self.found(run, &Sample::Good),
            ChildEvent::Exited(_) => self.found(run, &Sample::Bad("exit".into())),
            ChildEvent::SpawnFailed(_) => self.found(run, &Sample::Unknown("spawn".into())),
            _ => {}
        }
    }

    /// Nothing of it is left.
    fn end_of(&mut self, program: ProgramId, run: RunId) {
        let Some(p) = self.procs.remove(&run) else { return };
        self.pids.push(p.pid);
        if self.pids.len() > 20 {
            self.pids.remove(0);
        }
        let known = &mut self.known[program.index()];
        known.runs.retain(|of| *of != run);
        known.died_late |= p.unkillable && !p.left;
        if self.finished.len() == 50 {
            self.finished.pop_front();
        }
        self.finished.push_back((program, run));
    }

    pub(super) fn reap(&mut self, run: RunId) {
        let Some(p) = self.procs.get(&run) else { return };
        // What a command before the program leaves when it ended well is swept, not left.
        let begins = match p.role {
            Role::Main => true,
            Role::StartPre(_) => !p.good || p.told,
            _ => false,
        };
        let left = begins && (self.leaves(p.program) || self.engine.slot(p.program).is_none());
        let Some(p) = self.procs.get_mut(&run).filter(|p| p.exited) else { return };
        p.reaped = true;
        p.leaves = left;
        let empty = p.members == 0;
        self.child(Duration::ZERO, run, ChildEvent::Reaped);
        if empty {
            self.child(Duration::ZERO, run, ChildEvent::TreeEmpty);
        } else if left {
            let lives = Duration::from_secs(self.chance.below(100));
            self.child(lives, run, ChildEvent::TreeEmpty);
        }
    }

    /// Whether leftovers of it may live on.
    pub(super) fn leaves(&self, id: ProgramId) -> bool {
        let mode = self.engine.slot(id).map(|s| s.program.stop.kill_mode);
        mode == Some(KillMode::Process)
    }

    /// How long its stop may take, its own commands aside.
    pub(super) fn patience(&self, id: ProgramId) -> Duration {
        let Some(of) = &self.known[id.index()].settings else { return Duration::ZERO };
        let wait = |limit: Limit| match limit {
            Limit::After(wait) => wait,
            Limit::Never => Duration::MAX,
        };
        let steps = of.stop.ladder.iter().map(|step| wait(step.wait));
        steps.fold(Duration::ZERO, Duration::saturating_add)
    }

    /// How long it has at the least. While the whole site stops that is the share of its own that
    /// there is room for, were all stopped one after the other.
    pub(super) fn least_patience(&self, id: ProgramId) -> Duration {
        let own = self.patience(id);
        match self.share.filter(|_| self.stopping.is_some()) {
            None | Some(1000..) => own,
            Some(share) => own.min(self.budget()).saturating_mul(share) / 1000,
        }
    }

    fn budget(&self) -> Duration {
        let default = Duration::from_secs(if self.is_init { 8 } else { 90 });
        self.site.supervisor.shutdown_timeout.unwrap_or(default)
    }

    /// That share, in thousandths, of all that are there when the stop begins.
    pub(super) fn share_of_each(&self) -> u32 {
        let budget = self.budget();
        let room = budget.saturating_sub(Duration::from_secs(2).min(budget / 4));
        let ids = (0..self.known.len()).map(|index| ProgramId(index as u32));
        let each = |id| self.patience(id).min(budget) + self.command_patience(id).min(budget);
        let sum: Duration = ids.map(each).sum();
        let share = room.as_millis().saturating_mul(1000).checked_div(sum.as_millis());
        u32::try_from(share.unwrap_or(1000)).unwrap_or(1000)
    }

    /// How long the command may take that stands before the ladder.
    pub(super) fn command_patience(&self, id: ProgramId) -> Duration {
        let Some(of) = &self.known[id.index()].settings else { return Duration::ZERO };
        let first = of.stop.ladder.first().map(|step| step.wait);
        match (&of.stop.command, first) {
            (Some(_), Some(Limit::After(wait))) => wait,
            _ => Duration::ZERO,
        }
    }
}

fn signalled(signal: Signal) -> Exit {
    Exit::Signal { signal, core: false }
}
