//! Events a second of the bare engine: crash loops, and the start and stop of whole sites.
#![expect(
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::wildcard_imports,
    reason = "a measurement, not a part of the product"
)]

#[path = "../it/site_builder.rs"]
mod site_builder;

use std::{collections::VecDeque, sync::Arc, time};

use mini_supervisor::{
    engine::{
        Action, Actions, Bugs, ChildEvent, Engine, Event, Role, RunId, Scope, Surroundings, Told,
    },
    model::{Exit, Instant, Limit, Program, RestartPolicy, WallTime},
    plan::ProgramId,
};
use site_builder::{hook, name, on, program, site};

/// The engine and the least world that answers it.
struct World {
    engine: Engine,
    now: Instant,
    next: VecDeque<Event>,
    out: Actions,
    events: u64,
    crash: bool,
    done: bool,
}

impl World {
    fn new(programs: impl IntoIterator<Item = Program>) -> Self {
        let around =
            Surroundings { seed: 1, is_init: false, is_contained: false, bugs: Bugs::default() };
        Self {
            engine: Engine::new(&site(programs), around, (Instant(0), WallTime(0))),
            now: Instant(0),
            next: VecDeque::new(),
            out: Actions::new(),
            events: 0,
            crash: false,
            done: false,
        }
    }

    fn give(&mut self, event: Event) {
        self.events += 1;
        self.engine.handle(event, self.now, WallTime(0), &mut self.out);
        let next = &mut self.next;
        let mut child = |program: ProgramId, run: RunId, what: ChildEvent| {
            next.push_back(Event::Child { program, run, what });
        };
        for action in self.out.drain() {
            match action {
                Action::Spawn(spawn) => {
                    child(spawn.program, spawn.run, ChildEvent::Spawned { pid: 7 });
                    if self.crash && spawn.role == Role::Main {
                        child(spawn.program, spawn.run, ChildEvent::Exited(Exit::Code(1)));
                    }
                }
                Action::Signal { program, run, scope: Scope::Main, .. } => {
                    child(program, run, ChildEvent::Exited(Exit::Code(0)));
                }
                Action::Signal { program, run, scope: Scope::Tree, .. } => {
                    child(program, run, ChildEvent::Reaped);
                    child(program, run, ChildEvent::TreeEmpty);
                }
                Action::Exit(_) => self.done = true,
                _ => {}
            }
        }
    }

    /// Handles what follows; with no event left, the next deadline.
    fn turn(&mut self) -> bool {
        if let Some(event) = self.next.pop_front() {
            self.give(event);
        } else if let Some(at) = self.engine.next_deadline().filter(|_| self.crash) {
            self.now = self.now.max(at);
            self.give(Event::Deadline);
        } else {
            return false;
        }
        !self.done
    }
}

fn programs(count: u32, chain: bool) -> Vec<Program> {
    let one = |n: u32| {
        let mut p = program(&format!("p{n:04}"));
        let restart = Arc::make_mut(&mut p.restart);
        restart.policy = RestartPolicy::Always;
        restart.start_limit = None;
        p.start_timeout = Limit::Never;
        if chain && n > 0 {
            p.requires = Box::new([on(&format!("p{:04}", n / 2))]);
        }
        p
    };
    (u32::from(chain)..count + u32::from(chain))
        .map(|n| if n == 1 { Program { requires: Box::default(), ..one(n) } } else { one(n) })
        .collect()
}

fn crash_loop(count: u32, events: u64) {
    let mut world = World::new(programs(count, false));
    world.crash = true;
    let begin = time::Instant::now();
    world.give(Event::Boot);
    while world.events < events && world.turn() {}
    report(&format!("{count} programs in a crash loop"), world.events, begin.elapsed());
}

fn start_and_stop(count: u32, times: u32) {
    let mut events = 0;
    let begin = time::Instant::now();
    for _ in 0..times {
        let mut world = World::new(programs(count, true));
        world.give(Event::Boot);
        while world.turn() {}
        world.give(Event::Told(Told::Stop));
        while world.turn() {}
        assert!(world.done, "the site of {count} programs does not end");
        events += world.events;
    }
    report(&format!("{count} programs started and stopped"), events, begin.elapsed());
}

fn report(what: &str, events: u64, took: time::Duration) {
    let rate = events as f64 / took.as_secs_f64() / 1e6;
    println!("{what}: {events} events in {:.3} s: {rate:.2} M events/s", took.as_secs_f64());
}

fn main() {
    // The builder's other words are for the tests.
    let _ = (name("x"), hook(time::Duration::ZERO));
    crash_loop(1, 4_000_000);
    crash_loop(100, 4_000_000);
    crash_loop(1000, 4_000_000);
    start_and_stop(1, 50_000);
    start_and_stop(100, 1000);
    start_and_stop(1000, 50);
}
