//! The fake world: it owns the processes, executes actions as the shell would, and has each of
//! them judged.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use mini_supervisor::{
    engine::{
        Action, Actions, Bugs, ChildEvent, Engine, Event, Record, Role, RunId, SemaphoreNews,
        Surroundings, What,
    },
    model::{Instant, Name, ShmMoment, Site, WallTime},
    plan::ProgramId,
};

use super::{
    draw::{Chance, Faults, draw_site},
    health::Look,
    known::Known,
    procs::Proc,
    semaphores::Locks,
    single::Lock,
};

/// What has to be over at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The site is down.
    Exit,
    /// This request is answered.
    Answer(u64),
    /// This run is stopped.
    Stop(RunId),
}

/// The world and the engine in it.
pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) faults: Faults,
    /// It stood still at times, perhaps right before there were no faults any more.
    pub(super) stood_still: bool,
    pub(super) engine: Engine,
    pub(super) is_init: bool,
    pub(super) now: Instant,
    pub(super) wall: i64,
    /// Whether jumps of the wall clock happen; they are drawn in either case.
    pub(super) jumps: bool,
    pub(super) site: Arc<Site>,
    pub(super) procs: BTreeMap<RunId, Proc>,
    /// Whoever removes files from /dev/shm, of which program, before a start or after an end.
    pub(super) sweeps: BTreeMap<RunId, (Option<ProgramId>, ShmMoment)>,
    pub(super) semaphores: Locks,
    /// Locks of programs, those that are asked for too.
    pub(super) locks: BTreeMap<ProgramId, Lock>,
    /// Looks at the health of programs that are under way, and some that were.
    pub(super) looks: BTreeMap<RunId, Look>,
    pub(super) old_looks: VecDeque<(ProgramId, RunId)>,
    /// Looks whether it is ready that are under way, and at which life.
    pub(super) proofs: BTreeMap<RunId, RunId>,
    /// Of whom something was found in the event under way.
    pub(super) sampled: Vec<ProgramId>,
    pub(super) later: BTreeMap<(Instant, u64), Event>,
    pub(super) finished: VecDeque<(ProgramId, RunId)>,
    /// The latest two waits for the world of each program: the earlier is old.
    pub(super) awaited: VecDeque<(ProgramId, u64, usize)>,
    /// By the id's index.
    pub(super) known: Vec<Known>,
    pub(super) ids: BTreeMap<Name, ProgramId>,
    /// Requests without a final answer; whether the engine keeps a list of them.
    pub(super) open: BTreeMap<u64, bool>,
    /// Requests whose client went away.
    pub(super) gone: BTreeSet<u64>,
    pub(super) due: BTreeSet<(Instant, Due)>,
    pub(super) requests: u64,
    pub(super) order: u64,
    /// Since when the site is stopping, and when it has to be over.
    pub(super) stopping: Option<(Instant, Instant)>,
    /// What each program has of its own time in that stop.
    pub(super) share: Option<u32>,
    pub(super) forced: bool,
    pub(super) exit: Option<u8>,
    pub(super) events: u64,
    pub(super) held: [u64; 65],
    pub(super) wrong: Option<(usize, String)>,
    pub(super) tells: bool,
    pub(super) story: VecDeque<String>,
    pub(super) trace: Option<String>,
    pub(super) busy: u64,
    /// Nothing goes wrong any more, and nobody wants anything.
    pub(super) peace: bool,
    /// The event under way must not do anything, by this invariant.
    pub(super) idle: Option<usize>,
    /// Programs that were given up in the event under way.
    pub(super) fatals: Vec<ProgramId>,
    /// Unkillable and dead at last: to be started.
    pub(super) revive: Option<ProgramId>,
    pub(super) pids: Vec<u32>,
    out: Actions,
}

impl World {
    pub(super) fn new(seed: u64, bugs: Bugs) -> Self {
        let mut chance = Chance(seed);
        let faults = Faults::draw(&mut chance);
        let site = draw_site(&mut chance);
        let around = Surroundings { seed, is_init: chance.is(20), is_contained: false, bugs };
        let engine = Engine::new(&site, around, (Instant(0), WallTime(0)));
        let mut world = Self {
            chance,
            stood_still: faults.pauses > 0,
            faults,
            engine,
            is_init: around.is_init,
            now: Instant(0),
            wall: 0,
            jumps: true,
            site: Arc::new(site),
            procs: BTreeMap::new(),
            sweeps: BTreeMap::new(),
            semaphores: Locks::default(),
            locks: BTreeMap::new(),
            looks: BTreeMap::new(),
            old_looks: VecDeque::new(),
            proofs: BTreeMap::new(),
            sampled: Vec::new(),
            later: BTreeMap::new(),
            finished: VecDeque::new(),
            awaited: VecDeque::new(),
            known: Vec::new(),
            ids: BTreeMap::new(),
            open: BTreeMap::new(),
            gone: BTreeSet::new(),
            due: BTreeSet::new(),
            requests: 0,
            order: 0,
            stopping: None,
            share: None,
            forced: false,
            exit: None,
            events: 0,
            held: [0; 65],
            wrong: None,
            tells: false,
            story: VecDeque::new(),
            trace: None,
            busy: 0,
            peace: false,
            idle: None,
            fatals: Vec::new(),
            revive: None,
            pids: Vec::new(),
            out: Actions::new(),
        };
        world.meet();
        world
    }

    /// Invariant `number` had to hold here; did it?
    pub(super) fn hold(&mut self, number: usize, good: bool, what: impl FnOnce() -> String) {
        self.held[number] += 1;
        if !good && self.wrong.is_none() {
            self.wrong = Some((number, what()));
        }
    }

    pub(super) fn at(&mut self, delay: Duration, event: Event) {
        self.order += 1;
        self.later.insert((self.now + delay, self.order), event);
    }

    pub(super) fn child(&mut self, delay: Duration, run: RunId, what: ChildEvent) {
        let Some(p) = self.procs.get(&run) else { return };
        let program = p.program;
        self.at(delay, Event::Child { program, run, what });
    }

    /// Gives one event to the engine and does what it says.
    pub(super) fn give(&mut self, event: Event) {
        self.events += 1;
        if self.tells {
            if self.story.len() == super::setting("SIM_STORY").unwrap_or(20) as usize {
                self.story.pop_front();
            }
            self.story.push_back(format!("{:?} {event:?}", self.now));
        }
        let (mut subject, mut seen) = (None, None);
        let mut reload = None;
        match &event {
            Event::Child { program, run, what } => {
                subject = Some((*program, *run, matches!(what, ChildEvent::Exited(_))));
                self.before_child(*run, what);
            }
            Event::Probed { run, sample, .. } => self.found(*run, sample),
            Event::Tidied { run, .. } => drop(self.sweeps.remove(run)),
            Event::Seen((name, _)) => {
                self.before_seen(name);
                seen = Some(name.clone());
            }
            Event::Claimed { program, run, what } => self.before_claimed(*program, *run, what),
            Event::Loaded { site, .. } => reload = Some(self.before_reload(site)),
            _ => {}
        }
        let ends_by = self.engine.ends_by();
        let mut out = std::mem::take(&mut self.out);
        self.engine.handle(event, self.now, WallTime(self.wall), &mut out);
        if let Some(line) = self.story.back_mut().filter(|_| self.tells) {
            write!(line, " => {:?}", out.as_slice()).unwrap();
        }
        self.judge_event(ends_by, &out);
        if let Some((_, run, true)) = subject {
            self.reap(run);
        }
        if let Some(reload) = reload {
            self.after_reload(&reload, &out);
        }
        for action in out.drain() {
            if let Some(trace) =
                self.trace.as_mut().filter(|_| !matches!(action, Action::Reply(..)))
            {
                writeln!(trace, "{} {action:?}", self.now.0).unwrap();
            }
            self.act(action);
        }
        self.out = out;
        self.judge_locks();
        self.judge_health();
        while let Some(id) = self.fatals.pop() {
            self.judge_fatal(id);
        }
        if let Some((program, run, _)) = subject {
            self.look_at(program, run);
        }
        if let Some(name) = seen {
            self.judge_beside(&name);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Spawn(spawn) => self.spawn(&spawn),
            Action::Signal { program, run, signal, scope, .. } => {
                self.judge_signal(program, run, signal, scope);
                self.signal(run, signal, scope);
            }
            Action::Tidy { program, run, moment } => self.tidies(program, run, moment),
            Action::Probe { program, run, of } => self.probes(program, run, of),
            Action::ProbeNoMore(run) => self.probe_no_more(run),
            Action::TidyNoMore(run) => drop(self.sweeps.remove(&run)),
            Action::Claim { program, run } => self.claims(program, run),
            Action::EndCopies { program, run, signal } => self.ends_copies(program, run, signal),
            Action::Adopt { program, run } => self.adopts(program, run),
            Action::Unclaim(program) => self.unclaims(program),
            Action::Sign { program, .. } => self.judge_locked(program),
            Action::Record(Record { program: Some(name), what }) => {
                if let Some(id) = self.ids.get(&name).copied() {
                    self.recorded(id, &what);
                }
            }
            Action::Record(Record { program: None, what }) => match what {
                What::SupervisorStopping { .. } => self.site_stops(),
                What::SupervisorKilling { .. } => self.forced = true,
                What::Semaphore { name, news: SemaphoreNews::Acted { deed } } => {
                    self.semaphore_acts(&name, &deed);
                }
                _ => {}
            },
            Action::Reply(id, _) => {
                let open = self.open.remove(&id.0).is_some() || self.gone.remove(&id.0);
                self.hold(41, open, || format!("{id:?} was answered twice"));
            }
            Action::Await { program, attempt, index } => {
                let known = &mut self.known[program.index()];
                (known.lived, known.bound) = (None, false);
                // Given up with a time for the next try, which this is.
                known.given_up &= known.retry_at.is_none();
                if self.awaited.len() == 50 {
                    self.awaited.pop_front();
                }
                self.awaited.push_back((program, attempt, index));
                let most = if self.peace { 1 } else { 9000 };
                if self.peace || self.chance.is(60) {
                    let delay = Duration::from_millis(self.chance.below(most));
                    self.at(delay, Event::Condition { program, attempt, index });
                }
            }
            Action::Load { request, dry_run, allow_removal } => {
                let site = if self.chance.is(30) {
                    Arc::clone(&self.site)
                } else {
                    Arc::new(super::draw::change_site(&self.site, &mut self.chance))
                };
                let warnings = Vec::new();
                let event = Event::Loaded { request, site, dry_run, allow_removal, warnings };
                self.at(Duration::ZERO, event);
            }
            Action::Exit(code) => {
                let late = self.stopping.is_none_or(|(_, end)| self.now > end);
                self.hold(38, !late, || "the shutdown took longer than its budget".to_owned());
                self.exit = Some(code);
            }
            Action::Forget(name) => self.forgotten(&name),
            Action::Watch(name, watched) => self.watched(&name, &watched),
            Action::Unwatch(name) => drop(self.semaphores.books.remove(&name)),
            Action::Acknowledge { watched, file, info } => {
                self.acknowledged(&watched, file, info);
            }
            Action::AwaitNothing(_)
            | Action::RemoveRuntime(_)
            | Action::Progress(..)
            | Action::Reconfigure(_)
            // No program of the simulation forks.
            | Action::FindMain { .. }
            // Nobody asks for the end of everything.
            | Action::KillAllBegins(_)
            | Action::EndTheRest(_)
            // No semaphore of it ends the host.
            | Action::EndHost { .. }
            | Action::Remember { .. }
            | Action::EndHostNoMore(_)
            | Action::ReopenLogs => {}
        }
    }

    /// The budget of an orderly stop, from the settings.
    fn site_stops(&mut self) {
        let default = Duration::from_secs(if self.is_init { 8 } else { 90 });
        let end = self.now + self.site.supervisor.shutdown_timeout.unwrap_or(default);
        if self.stopping.is_none() {
            self.share = Some(self.share_of_each());
        }
        self.stopping = Some((self.now, end));
        self.due.insert((end, Due::Exit));
        for known in &mut self.known {
            known.wanted = false;
        }
    }

    /// What had to be over by now is over; called when time goes on.
    pub(super) fn judge_time(&mut self) {
        while let Some((at, what)) = self.due.first().copied().filter(|(at, _)| *at <= self.now) {
            self.due.remove(&(at, what));
            match what {
                // A pause of ours puts it off.
                Due::Exit if self.stopping.is_some_and(|(_, end)| end > at && end > self.now) => {
                    let end = self.stopping.map_or(at, |(_, end)| end);
                    self.due.insert((end, Due::Exit));
                }
                Due::Exit => {
                    let over = self.exit.is_some();
                    self.hold(38, over, || "the shutdown takes longer than its budget".to_owned());
                }
                Due::Answer(id) => {
                    let open = self.open.contains_key(&id);
                    self.hold(41, !open, || format!("request {id} is not answered in its time"));
                }
                Due::Stop(run) => self.judge_stop(run),
            }
        }
    }

    /// The children of a program that it is answerable for.
    pub(super) fn alive(&self, id: ProgramId) -> impl Iterator<Item = (RunId, &Proc)> {
        let runs = self.known.get(id.index()).map_or(&[][..], |known| &known.runs);
        runs.iter().filter_map(|run| Some((*run, self.procs.get(run)?))).filter(|(_, p)| !p.left)
    }

    /// Its main process or what is there in its place, until it is reaped.
    pub(super) fn instance(&self, id: ProgramId) -> Option<(RunId, &Proc)> {
        let main = |p: &Proc| matches!(p.role, Role::Main | Role::StartPre(_)) && !p.reaped;
        self.alive(id).find(|(_, p)| main(p))
    }
}
