//! The world around the engine: what can happen, what it does, and what must be true then.

use std::collections::{BTreeMap, BTreeSet};

use mini_supervisor::{
    control::{Change, Peer, Reply, Request, RequestId, Targets},
    engine::{
        Action, Actions, Bugs, ChildEvent, Engine, Event, FailureClass, Goal, Role, RunId, Scope,
        Slot, SpawnFailure, State, Surroundings, Told, What,
    },
    model::*,
    plan::{EdgeKind, ProgramId},
};

/// Everything that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happens {
    Start(ProgramId),
    Stop(ProgramId),
    Force(ProgramId),
    Restart(ProgramId),
    Reset(ProgramId),
    Term,
    Deadline,
    Spawned(RunId),
    NoRoom(RunId),
    CannotStart(RunId),
    Exits(RunId, u8),
    Reaped(RunId),
    Empty(RunId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Asked,
    Alive,
    Dead,
    Reaped,
}

#[derive(Clone, Debug)]
pub(super) struct Proc {
    pub(super) program: ProgramId,
    pub(super) role: Role,
    pub(super) life: Life,
    /// It was told to end.
    pub(super) told: bool,
}

/// A request without an answer, and the attempts of its program that do not count for it.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) id: u64,
    pub(super) verb: char,
    pub(super) program: ProgramId,
    pub(super) mark: u64,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) now: Instant,
    pub(super) procs: BTreeMap<RunId, Proc>,
    pub(super) open: Vec<Open>,
    pub(super) requests: u64,
    /// Their stop was acknowledged and nobody wants them up.
    pub(super) down: BTreeSet<ProgramId>,
    pub(super) stopping: Option<Instant>,
    pub(super) killing: Option<Instant>,
    pub(super) exit: Option<u8>,
    pub(super) wrong: Option<String>,
}

impl World {
    pub(super) fn new(site: &Site, bugs: Bugs) -> Self {
        let around = Surroundings { seed: 1, is_init: false, is_contained: false, bugs };
        let mut world = Self {
            engine: Engine::new(site, around, (Instant(0), WallTime(0))),
            now: Instant(0),
            procs: BTreeMap::new(),
            open: Vec::new(),
            requests: 0,
            down: BTreeSet::new(),
            stopping: None,
            killing: None,
            exit: None,
            wrong: None,
        };
        world.give(Event::Boot);
        world
    }

    fn hold(&mut self, good: bool, what: impl FnOnce() -> String) {
        if !good && self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }

    /// What can happen next.
    pub(super) fn choices(&self) -> Vec<Happens> {
        let mut all = Vec::new();
        if self.exit.is_some() {
            return all;
        }
        for (run, proc) in &self.procs {
            match proc.life {
                Life::Asked => all.extend([
                    Happens::Spawned(*run),
                    Happens::NoRoom(*run),
                    Happens::CannotStart(*run),
                ]),
                Life::Alive => all.extend([Happens::Exits(*run, 0), Happens::Exits(*run, 1)]),
                Life::Dead => all.push(Happens::Reaped(*run)),
                Life::Reaped => all.push(Happens::Empty(*run)),
            }
        }
        if self.engine.next_deadline().is_some() {
            all.push(Happens::Deadline);
        }
        if self.killing.is_none() {
            all.push(Happens::Term);
        }
        let asks = |verb: char, id: ProgramId| {
            self.open.len() < 2 && !self.open.iter().any(|o| (o.verb, o.program) == (verb, id))
        };
        for id in self.engine.names().values().copied() {
            let verbs = [
                ('u', Happens::Start(id)),
                ('d', Happens::Stop(id)),
                ('k', Happens::Force(id)),
                ('r', Happens::Restart(id)),
            ];
            all.extend(verbs.into_iter().filter(|(verb, _)| asks(*verb, id)).map(|(_, h)| h));
            all.push(Happens::Reset(id));
        }
        all
    }

    pub(super) fn happen(&mut self, what: Happens) {
        let child = |world: &Self, run: RunId, what| {
            let program = world.procs[&run].program;
            Event::Child { program, run, what }
        };
        match what {
            Happens::Start(id) => self.ask('u', id),
            Happens::Stop(id) => self.ask('d', id),
            Happens::Force(id) => self.ask('k', id),
            Happens::Restart(id) => self.ask('r', id),
            Happens::Reset(id) => {
                let names = vec![self.name(id)];
                self.send(Request::Reset(Targets { names }));
            }
            Happens::Term => self.give(Event::Told(Told::Stop)),
            Happens::Deadline => {
                let due = self.engine.next_deadline().unwrap();
                self.now = self.now.max(due);
                self.give(Event::Deadline);
                let next = self.engine.next_deadline();
                let late = next.is_some_and(|at| at <= self.now) && self.exit.is_none();
                self.hold(!late, || "a deadline is not over when it was handled".to_owned());
            }
            Happens::Spawned(run) => {
                let event = child(self, run, ChildEvent::Spawned { pid: 100 });
                self.procs.get_mut(&run).unwrap().life = Life::Alive;
                self.give(event);
            }
            Happens::NoRoom(run) => self.fail(run, FailureClass::Resources),
            Happens::CannotStart(run) => self.fail(run, FailureClass::Own),
            Happens::Exits(run, code) => {
                let event = child(self, run, ChildEvent::Exited(Exit::Code(code)));
                self.procs.get_mut(&run).unwrap().life = Life::Dead;
                self.give(event);
            }
            Happens::Reaped(run) => {
                let event = child(self, run, ChildEvent::Reaped);
                self.procs.get_mut(&run).unwrap().life = Life::Reaped;
                self.give(event);
            }
            Happens::Empty(run) => {
                let event = child(self, run, ChildEvent::TreeEmpty);
                self.procs.remove(&run);
                self.give(event);
            }
        }
        if self.exit.is_none() {
            self.judge();
        }
    }

    fn name(&self, id: ProgramId) -> String {
        self.engine.slot(id).unwrap().program.name.to_string()
    }

    fn fail(&mut self, run: RunId, class: FailureClass) {
        let program = self.procs.remove(&run).unwrap().program;
        let failure = SpawnFailure { text: "x".into(), class, code: 127 };
        self.give(Event::Child { program, run, what: ChildEvent::SpawnFailed(failure) });
    }

    fn ask(&mut self, verb: char, id: ProgramId) {
        let slot = self.engine.slot(id).unwrap();
        let begun = matches!(slot.state, State::Waiting { .. } | State::Retrying { .. });
        let mark = slot.history.attempts - u64::from(begun);
        let force = verb == 'k';
        let change = Change { names: vec![self.name(id)], force, ..Change::default() };
        self.open.push(Open { id: self.requests + 1, verb, program: id, mark });
        if (verb == 'u' || verb == 'r') && self.stopping.is_none() {
            self.down.remove(&id);
            for need in needs(&self.engine, id, false) {
                self.down.remove(&need);
            }
        }
        self.send(match verb {
            'u' => Request::Start(change),
            'r' => Request::Restart(change),
            _ => Request::Stop(change),
        });
    }

    fn send(&mut self, request: Request) {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.give(Event::Request { id, peer: Peer::default(), request });
    }
}

/// What a program needs, or only what it requires.
fn needs(engine: &Engine, id: ProgramId, only_required: bool) -> Vec<ProgramId> {
    let edges = engine.slot(id).unwrap().edges.needs.iter();
    let meant = edges.filter(|edge| !only_required || edge.kind == EdgeKind::Requires);
    meant.map(|edge| edge.target).collect()
}

/// Carrying out, and judging.
impl World {
    fn give(&mut self, event: Event) {
        let mut out = Actions::new();
        self.engine.handle(event, self.now, WallTime(0), &mut out);
        for action in out.drain() {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Spawn(spawn) => {
                self.judge_spawn(spawn.program, spawn.role);
                let (program, role) = (spawn.program, spawn.role);
                let proc = Proc { program, role, life: Life::Asked, told: false };
                self.procs.insert(spawn.run, proc);
            }
            Action::Signal { program, run, signal, scope, .. } => {
                self.judge_signal(program, run, signal, scope);
            }
            Action::Record(record) => match record.what {
                What::SupervisorStopping { .. } => self.stopping = Some(self.now),
                What::SupervisorKilling { .. } => self.killing = Some(self.now),
                _ => {}
            },
            Action::Reply(id, reply) => self.answered(id.0, &reply),
            Action::Exit(code) => self.exit = Some(code),
            _ => {}
        }
    }

    fn answered(&mut self, id: u64, reply: &Reply) {
        let index = self.open.iter().position(|open| open.id == id);
        let Some(index) = index else {
            // A reset is answered at once, and nobody waits for it here.
            return self.hold(id <= self.requests, || format!("an answer to {id}"));
        };
        let open = self.open.remove(index);
        let ok =
            matches!(reply, Reply::Outcome(o) if o.complete && o.programs.iter().all(|p| p.ok));
        if ok && (open.verb == 'd' || open.verb == 'k') {
            let alive = self.mains(open.program).count();
            self.hold(alive == 0, || format!("stopped with {alive} processes"));
            self.down.insert(open.program);
        }
    }

    /// The lives of a main process that are not over.
    fn mains(&self, id: ProgramId) -> impl Iterator<Item = &Proc> {
        let left = self.engine.slot(id).unwrap().program.stop.kill_mode == KillMode::Process;
        self.procs.values().filter(move |proc| {
            let over = left && proc.life == Life::Reaped;
            proc.program == id && proc.role == Role::Main && !over
        })
    }

    /// I-1, I-6, I-22, I-38.
    fn judge_spawn(&mut self, id: ProgramId, role: Role) {
        if !matches!(role, Role::Main | Role::StartPre(_)) {
            return;
        }
        let others = self.mains(id).count();
        self.hold(others == 0, || format!("{id:?} runs twice"));
        let down = self.down.contains(&id);
        self.hold(!down, || format!("{id:?} is started after its stop was acknowledged"));
        self.hold(self.stopping.is_none(), || format!("{id:?} is started in a shutdown"));
        let slot = self.engine.slot(id).unwrap();
        let again = matches!(slot.state, State::Spawning { tried: Some(_), .. });
        let missing = needs(&self.engine, id, true)
            .into_iter()
            .find(|need| !self.engine.slot(*need).unwrap().is_ready());
        self.hold(again || missing.is_none(), || format!("{id:?} is started without {missing:?}"));
    }

    /// I-4, I-5, I-23.
    fn judge_signal(&mut self, id: ProgramId, run: RunId, signal: Signal, scope: Scope) {
        let Some(proc) = self.procs.get_mut(&run) else {
            return self.hold(false, || format!("{signal} to {run:?}, which is gone"));
        };
        proc.told = true;
        let (own, reaped) = (proc.program == id, proc.life == Life::Reaped);
        self.hold(own, || format!("{signal} to a process of another program"));
        self.hold(!reaped || scope == Scope::Tree, || format!("{signal} to a reaped process"));
        let slot = self.engine.slot(id).unwrap();
        let requirers = slot.edges.needed_by.iter().filter(|b| b.kind == EdgeKind::Requires);
        let up = requirers.map(|back| back.from).find(|from| self.mains(*from).next().is_some());
        let first = signal != Signal::KILL && !reaped && up.is_some();
        self.hold(!first, || format!("{id:?} is stopped before {up:?}, which requires it"));
    }

    /// I-44, I-41: whoever is on the way has somebody to wait for.
    fn judge(&mut self) {
        let mut stuck = None;
        for slot in self.engine.programs() {
            let own = self.procs.values().any(|proc| proc.program == slot.id);
            let held = !self.engine.status_of(slot, self.now, WallTime(0)).waiting_for.is_empty();
            let users = slot.edges.needed_by.iter().filter_map(|b| self.engine.slot(b.from));
            let good = match &slot.state {
                State::Waiting { .. } => held && slot.goal == Goal::Up,
                State::Draining { .. } => own && users.into_iter().any(Slot::is_live),
                State::Retrying { .. } | State::Backoff { .. } => slot.goal == Goal::Up,
                State::Stopped => slot.goal != Goal::Up && !own_main(self, slot),
                State::Exited { .. } | State::Fatal { .. } => !own_main(self, slot),
                _ => own,
            };
            if !good {
                stuck = Some(format!("{} {:?} {:?}", slot.program.name, slot.goal, slot.state));
            }
        }
        self.hold(stuck.is_none(), || format!("{stuck:?} waits for nothing"));
        if self.procs.is_empty() && self.engine.next_deadline().is_none() {
            let waits = |open: &Open| {
                let state = &self.engine.slot(open.program).unwrap().state;
                matches!(state, State::Waiting { .. }) && open.verb != 'd' && open.verb != 'k'
            };
            let lost = self.open.iter().find(|open| !waits(open)).cloned();
            self.hold(lost.is_none(), || format!("{lost:?} is never answered"));
        }
    }

    /// The most obedient thing that can happen now.
    fn obey(&self) -> Option<Happens> {
        let one = |(run, proc): (&RunId, &Proc)| {
            let slot = self.engine.slot(proc.program)?;
            match proc.life {
                Life::Asked => Some(Happens::Spawned(*run)),
                Life::Alive if proc.told || slot.is_oneshot() || proc.role != Role::Main => {
                    Some(Happens::Exits(*run, 0))
                }
                Life::Alive => None,
                Life::Dead => Some(Happens::Reaped(*run)),
                Life::Reaped => Some(Happens::Empty(*run)),
            }
        };
        let deadline = self.engine.next_deadline().map(|_| Happens::Deadline);
        self.procs.iter().find_map(one).or(deadline)
    }

    fn obeys(mut self, most: usize) -> Self {
        for _ in 0..most {
            let Some(next) = self.obey().filter(|_| self.exit.is_none()) else { break };
            self.happen(next);
        }
        self
    }

    /// From here, where everybody obeys, everything comes up when asked for, and the site ends.
    pub(super) fn judge_ends(&self) -> Option<String> {
        if self.stopping.is_none() {
            let mut up = self.clone();
            for id in self.engine.names().values() {
                up.ask('u', *id);
            }
            let mut up = up.obeys(200);
            let low = up.engine.programs().find(|slot| !slot.is_ready());
            let low = low.map(|slot| format!("{} {:?}", slot.program.name, slot.state));
            let open = up.open.len();
            up.hold(low.is_none(), || format!("{low:?} does not come up"));
            up.hold(open == 0, || format!("{open} requests are not answered when all is up"));
            if up.wrong.is_some() {
                return up.wrong;
            }
        }
        let mut end = self.clone();
        end.give(Event::Told(Told::Stop));
        let mut end = end.obeys(200);
        let open = end.open.len();
        let over = end.exit.is_some() && open == 0;
        end.hold(over, || format!("a stop does not end the site; {open} requests are open"));
        end.wrong
    }
}

fn own_main(world: &World, slot: &Slot) -> bool {
    world.mains(slot.id).next().is_some()
}
