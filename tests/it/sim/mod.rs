//! The simulator: the pure engine in a fake world, with invariants judged after every event.
//!
//! `SIM_SEED=N` replays one seed and prints its story; `SIM_EVENTS=N` sets the amount.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    clippy::struct_excessive_bools,
    reason = "helpers of tests"
)]

mod draw;
mod judge;
mod world;

use std::{sync::Arc, time::Duration};

use mini_supervisor::{
    control::{Change, Peer, ReloadSite, Request, RequestId, SendSignal, Shutdown, Targets},
    engine::{Bugs, ChildEvent, Engine, Event, Goal, Slot, State, Told},
    model::{Instant, LimitAction, Signal},
    plan::ProgramId,
};
use world::World;

/// Whether a story is wanted.
fn tells() -> bool {
    setting("SIM_SEED").is_some()
}

fn setting(name: &str) -> Option<u64> {
    // The tests read their environment, the program does not.
    #[expect(clippy::disallowed_methods, reason = "settings of the simulator")]
    std::env::var(name).ok()?.parse().ok()
}

impl World {
    /// Lets the next thing happen: something that is due, a deadline, or somebody's wish.
    fn turn(&mut self) {
        let due = self.engine.next_deadline();
        let next = self.later.keys().next().map(|(at, _)| *at);
        let at = [due, next].into_iter().flatten().min();
        let idle = at.is_none_or(|at| at > self.now + Duration::from_millis(200));
        let wish = !self.same && self.exit.is_none() && self.chance.is(if idle { 40 } else { 2 });
        if wish {
            let pause = Duration::from_millis(self.chance.below(200));
            self.now = self.now + if idle { pause } else { Duration::ZERO };
            self.wish();
            return;
        }
        let Some(at) = at.filter(|at| at.0 != u64::MAX) else {
            self.deadlock();
            self.now = self.now + Duration::from_secs(1);
            if self.same || self.exit.is_some() {
                self.events += 1;
            }
            return;
        };
        if at > self.now {
            (self.now, self.busy) = (at, 0);
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
    }

    /// I-44: when nothing will happen, nobody may be in the middle of something.
    fn deadlock(&mut self) {
        let stuck = self.engine.programs().find(|slot| {
            let held = matches!(slot.state, State::Running { .. } | State::Waiting { .. });
            !held && (slot.is_live() || slot.deadline().is_some())
        });
        let stuck = stuck.filter(|_| self.exit.is_none()).map(|s| (s.id, s.state.clone()));
        let all: Vec<String> = if stuck.is_some() {
            let one =
                |s: &Slot| format!("{} {:?} {:?} {:?}", s.program.name, s.goal, s.state, s.edges);
            self.engine.programs().map(one).collect()
        } else {
            Vec::new()
        };
        self.hold(44, stuck.is_none(), || format!("{stuck:?} waits for nothing: {all:#?}"));
    }

    fn wish(&mut self) {
        if self.chance.is(self.faults.stale) {
            return self.stale();
        }
        if self.faults.jumps && self.chance.is(5) {
            self.wall += i64::try_from(self.chance.below(1_000_000)).unwrap() - 500_000;
        }
        let ids: Vec<ProgramId> = self.engine.names().values().copied().collect();
        let Some(id) = ids.get(usize::try_from(self.chance.below(30)).unwrap() % ids.len().max(1))
        else {
            return;
        };
        let id = *id;
        let Some(slot) = self.engine.slot(id) else { return };
        let names = vec![slot.program.name.to_string()];
        let gone = slot.goal == Goal::Gone || !slot.program.enabled;
        let change = Change {
            names: names.clone(),
            no_wait: self.chance.is(20),
            force: self.chance.is(10),
            timeout: Some(Duration::from_secs(1 + self.chance.below(600))),
            ..Change::default()
        };
        let force = change.force;
        let kind = self.chance.below(100);
        if force && (30..70).contains(&kind) {
            self.procs.values_mut().filter(|p| p.program == id).for_each(|p| p.forced = true);
        }
        let request = match kind {
            0..=29 => {
                self.allow(id, gone, false);
                Request::Start(change)
            }
            30..=49 => {
                if self.engine.slot(id).is_some_and(|s| s.goal != Goal::Gone) {
                    let known = self.known.entry(id).or_default();
                    known.asked_down = true;
                    known.forced |= force;
                }
                Request::Stop(change)
            }
            50..=69 => {
                self.allow(id, gone, force);
                Request::Restart(change)
            }
            70..=74 => {
                let known = self.known.entry(id).or_default();
                (known.failures, known.given_up) = (0, false);
                known.starts.clear();
                Request::Reset(Targets { names })
            }
            75..=79 => Request::Signal(SendSignal { signal: Signal::USR1, names }),
            80..=84 => Request::ReloadProgram(Targets { names }),
            85..=97 => Request::Reload(ReloadSite::default()),
            98 => Request::Shutdown(Shutdown { force: self.chance.is(30) }),
            _ => {
                let told = self.chance.of(&[Told::Stop, Told::Reload, Told::Reopen, Told::Reload]);
                return self.give(Event::Told(told));
            }
        };
        self.requests += 1;
        self.open.insert(self.requests);
        let id = RequestId(self.requests);
        self.give(Event::Request { id, peer: Peer::default(), request });
    }

    /// Somebody wants it up: it and what it needs may start again.
    fn allow(&mut self, id: ProgramId, refused: bool, force: bool) {
        if refused || self.stopping.is_some() {
            return;
        }
        let mut open = vec![id];
        let mut seen = std::collections::BTreeSet::new();
        while let Some(one) = open.pop() {
            if !seen.insert(one) {
                continue;
            }
            let known = self.known.entry(one).or_default();
            (known.asked_down, known.given_up, known.retry_at) = (false, false, None);
            known.starts.clear();
            if one == id {
                known.failures = 0;
                known.lived = None;
                known.forced = force;
            }
            if let Some(slot) = self.engine.slot(one) {
                open.extend(slot.edges.needs.iter().map(|edge| edge.target));
            }
        }
    }

    /// I-10: what is late or of an earlier life changes nothing.
    fn stale(&mut self) {
        if self.finished.is_empty() {
            return;
        }
        let index = usize::try_from(self.chance.below(self.finished.len() as u64)).unwrap();
        let (program, run) = self.finished[index];
        let what = match self.chance.below(3) {
            0 => ChildEvent::Spawned { pid: 7 },
            1 => ChildEvent::Exited(mini_supervisor::model::Exit::Code(1)),
            _ => ChildEvent::TreeEmpty,
        };
        let look = |w: &Self| {
            let slot = w.engine.slot(program)?;
            Some((slot.state.clone(), slot.goal, slot.side, slot.history.clone()))
        };
        let before = look(self);
        self.give(Event::Child { program, run, what });
        let same = before == look(self);
        self.hold(10, same, || format!("a late event changed {program:?}"));
    }

    /// I-3, I-12: a run that never was, and a file that could not be read, change nothing.
    fn nothing_new(&mut self) {
        let Some(program) = self.engine.names().values().next().copied() else { return };
        let before = serde_json::to_string(&self.engine).unwrap();
        let run = mini_supervisor::engine::RunId(u64::MAX);
        let exit = mini_supervisor::model::Exit::Code(0);
        for what in [ChildEvent::Exited(exit), ChildEvent::TreeEmpty, ChildEvent::Reaped] {
            self.give(Event::Child { program, run, what });
            let same = serde_json::to_string(&self.engine).unwrap() == before;
            self.hold(3, same, || "an unknown run changed something".to_owned());
        }
        self.give(Event::NotLoaded { request: None, why: "bad".to_owned() });
        let same = serde_json::to_string(&self.engine).unwrap() == before;
        self.hold(12, same, || "a file that is bad changed something".to_owned());
    }

    /// I-56: the engine survives being written and read.
    fn round_trip(&mut self) {
        let text = serde_json::to_string(&self.engine).unwrap();
        let engine: Engine = serde_json::from_str(&text).unwrap();
        let same = serde_json::to_string(&engine).unwrap() == text;
        self.hold(56, same, || "a round trip changes the engine".to_owned());
        self.engine = engine;
    }

    /// I-13: an equal site changes nothing.
    fn same_site(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let mut out = mini_supervisor::engine::Actions::new();
        let event = Event::Loaded {
            request: None,
            site: Arc::clone(&self.site),
            dry_run: false,
            allow_removal: false,
            warnings: Vec::new(),
        };
        let wall = mini_supervisor::model::WallTime(self.wall);
        self.engine.handle(event, self.now, wall, &mut out);
        let only = out.as_slice().len();
        self.hold(13, only == 1, || format!("an equal site does {only} things"));
    }

    /// I-40, then I-38: without faults everything wanted comes up; then the site ends in its
    /// budget.
    fn converge(&mut self) {
        self.faults = draw::Faults { stale: 0, ..draw::Faults::NONE };
        self.same = true;
        self.settle_until(self.now + Duration::from_secs(1500), 400);
        if self.exit.is_none() && self.stopping.is_none() {
            self.judge_convergence();
            self.give(Event::Told(Told::Stop));
        }
        let begun = self.stopping.unwrap_or(self.now);
        self.settle_until(begun + Duration::from_secs(100), 4000);
        let done = self.exit.is_some();
        self.hold(39, done, || "the shutdown takes longer than its budget".to_owned());
    }

    fn settle_until(&mut self, end: Instant, most: u64) {
        let limit = self.events + most * (1 + self.engine.names().len() as u64);
        while self.now < end && self.exit.is_none() && self.wrong.is_none() && self.events < limit {
            self.turn();
        }
    }

    fn judge_convergence(&mut self) {
        let stuck: Vec<String> = self
            .engine
            .programs()
            .filter(|slot| match &slot.state {
                // A deadline is armed, or somebody has to start it.
                State::Backoff { at, .. } => *at < self.now,
                State::Fatal { limit, retry_at, .. } => {
                    let retry = slot.program.restart.start_limit.as_ref();
                    *limit
                        && !self.changed
                        && retry_at.is_none()
                        && retry.is_some_and(|l| l.action == LimitAction::Retry)
                }
                State::Waiting { .. } => {
                    slot.edges.needs.iter().all(|edge| {
                        self.engine
                            .slot(edge.target)
                            .is_some_and(|s| s.is_ready() && !s.is_ending())
                    }) && slot.edges.waits.is_empty()
                }
                // Up, or somebody has to start it, or a deadline is armed.
                _ => false,
            })
            .map(|slot| format!("{} {:?}", slot.program.name, slot.state))
            .collect();
        self.hold(40, stuck.is_empty(), || format!("not up again: {stuck:?}"));
    }
}

/// One seed: chaos for a while, then peace.
fn run(seed: u64, bugs: Bugs, trace: bool) -> World {
    let mut world = World::new(seed, bugs);
    world.trace = trace.then(String::new);
    world.give(Event::Boot);
    let amount = 300 + world.chance.below(1500);
    while world.events < amount && world.wrong.is_none() && world.exit.is_none() {
        world.turn();
        if world.chance.below(1000) == 0 {
            world.nothing_new();
            world.round_trip();
        }
        if world.chance.below(400) == 0 {
            world.same_site();
        }
    }
    if world.exit.is_none() && world.wrong.is_none() {
        world.converge();
    }
    world
}

fn run_many(amount: u64) -> [u64; 65] {
    let mut held = [0; 65];
    let (mut events, mut seed) = (0, 0);
    if let Some(only) = setting("SIM_SEED") {
        (seed, events) = (only, amount.saturating_sub(1));
    }
    while events < amount {
        let world = run(seed, Bugs::default(), false);
        let story: Vec<String> = world.story.iter().cloned().collect();
        if let (Some(_), Some(wrong)) = (setting("SIM_ALL"), &world.wrong) {
            println!("SIM_SEED={seed} event {}: {wrong}", world.events);
        } else if let Some(wrong) = world.wrong {
            panic!("SIM_SEED={seed} event {}: {wrong}\n{}", world.events, story.join("\n"));
        }
        events += world.events;
        seed += 1;
        for (sum, one) in held.iter_mut().zip(world.held) {
            *sum += one;
        }
    }
    held
}

/// The invariants that a run has to try.
const TRIED: [usize; 23] =
    [1, 3, 4, 5, 6, 7, 8, 10, 12, 13, 22, 29, 30, 31, 32, 35, 37, 38, 41, 45, 46, 47, 56];

#[test]
fn millions_of_events_keep_every_invariant() {
    let amount = setting("SIM_EVENTS").unwrap_or(3_000_000);
    let held = run_many(amount);
    if setting("SIM_SEED").is_some() || amount < 3_000_000 {
        return;
    }
    let rare: Vec<(usize, u64)> =
        TRIED.iter().map(|n| (*n, held[*n])).filter(|(_, times)| *times < 1000).collect();
    assert!(rare.is_empty(), "tried less than a thousand times: {rare:?}; all: {held:?}");
    println!("times tried: {held:?}");
}

#[test]
fn twenty_million_events_keep_every_invariant() {
    if setting("TESTS_FULL").is_some() {
        run_many(20_000_000);
    }
}

#[test]
fn a_seed_replays_byte_for_byte() {
    for seed in 0..20 {
        let (one, two) = (run(seed, Bugs::default(), true), run(seed, Bugs::default(), true));
        assert!(one.trace.is_some_and(|t| !t.is_empty() && Some(t) == two.trace), "seed {seed}");
    }
}

#[test]
fn each_seeded_bug_is_found() {
    let off = Bugs::default();
    let bugs = [
        ("forget_stop_while_spawning", Bugs { forget_stop_while_spawning: true, ..off }),
        ("restart_although_down", Bugs { restart_although_down: true, ..off }),
        ("leave_the_tree", Bugs { leave_the_tree: true, ..off }),
        ("skip_the_gate", Bugs { skip_the_gate: true, ..off }),
        ("skip_the_drain", Bugs { skip_the_drain: true, ..off }),
        ("count_fork_failures", Bugs { count_fork_failures: true, ..off }),
        ("ignore_generation", Bugs { ignore_generation: true, ..off }),
        ("start_in_shutdown", Bugs { start_in_shutdown: true, ..off }),
        ("kill_at_once", Bugs { kill_at_once: true, ..off }),
        ("lose_restarts", Bugs { lose_restarts: true, ..off }),
        ("keep_failures", Bugs { keep_failures: true, ..off }),
        ("ignore_the_limit", Bugs { ignore_the_limit: true, ..off }),
        ("restart_unchanged", Bugs { restart_unchanged: true, ..off }),
    ];
    let mut missed = Vec::new();
    for (name, bugs) in bugs {
        let found = (0..3000).find_map(|seed| Some((seed, run(seed, bugs, false).wrong?)));
        match found {
            Some((seed, wrong)) => println!("{name}: seed {seed}: {wrong}"),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
