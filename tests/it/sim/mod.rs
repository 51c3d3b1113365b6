//! The simulator: the pure engine in a fake world, with invariants judged after every event.
//!
//! `SIM_SEED=N` replays one seed and prints the end of its story, `SIM_STORY=M` so many lines of
//! it; `SIM_EVENTS=N` sets the amount, `SIM_ALL=1` goes on after a finding.
//!
//! The world owns the processes, the clock, the clients and the site files. What it judges by is
//! its own history (`known`): what was asked, what its children did, what the journal said. The
//! engine's slots are read only where the invariant is about them: what it shows (I-8, I-11, I-25,
//! I-42, I-47, I-51), that nothing changed (I-3, I-10, I-12, I-56) and who waits (I-43, I-44); and
//! for what nothing outside shows: that a requirement is being drained (I-43), that a program that
//! is reset is given up, and, for I-14, which life runs before a reload and after it.
//!
//! | where | what |
//! |---|---|
//! | `judge` | starts: I-1, I-2, I-6, I-7, I-9, I-15, I-22, I-31 to I-33, I-35, I-38 |
//! | | signals and stops: I-4, I-5, I-23, I-36, I-37; any event: I-39, I-46 |
//! | | what is shown: I-8, I-11, I-25, I-42, I-47, I-51 |
//! | `known` | the journal: I-8, I-14, I-25, I-29, I-30, I-33 |
//! | `sites` | I-3, I-12, I-13, I-14, I-47, I-48, I-56 |
//! | `turn` | I-10, I-42, I-43, I-44, I-45 |
//! | `world` | I-38, I-41 |
//! | `ready` | what becomes ready late or never, and watchdogs: I-8, I-36, I-37 |
//! | `raises` | I-16 |
//! | `shm` | I-19 |
//! | `single` | I-1, I-57: of programs that run once at the most |
//! | `health` | I-62 |
//! | `peace` | I-40 |
//! | here | I-24, I-34: whole runs are compared |
//!
//! Judged with limits: I-15 is that a child is made of the newest accepted settings (the shell
//! takes the user from them; tests with real accounts are in `e2e`). I-36 takes the end of a stop
//! as the end of its processes; its own commands have their own limits. I-40 leaves out what waits
//! for files and what has a `max_runtime`, which is not healthy by its settings. I-48 is here that
//! the engine keeps just the requests that are open, I-51 the last exit, I-57 that one copy was found and
//! adoption is wished for: that it is still that process is the shell's (`e2e::single`).
//!
//! Not judged: I-17, I-18, I-20, I-21 and I-59 to I-61 (mounts, tasks) concern later parts, and
//! I-63 the shell; I-26 and I-28 have no key. I-27 is shown where sites are read (`config::cycles`):
//! a cycle never reaches the engine. I-50 concerns the writer of logs (`logs`); I-52 the client
//! (`cli`); I-53 to I-55 and I-58 the shell; I-49 and I-64 are not judged as such.
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
mod health;
mod judge;
mod known;
mod mutants;
mod peace;
mod procs;
mod raises;
mod ready;
mod semaphores;
mod shm;
mod single;
mod sites;
mod turn;
mod world;

use std::time::Duration;

pub(crate) use draw::Chance;
use mini_supervisor::engine::{Bugs, Event};
use world::World;

fn setting(name: &str) -> Option<u64> {
    // The tests read their environment, the program does not.
    #[expect(clippy::disallowed_methods, reason = "settings of the simulator")]
    std::env::var(name).ok()?.parse().ok()
}

/// How a run is made.
#[derive(Clone, Copy, Debug)]
struct Run {
    seed: u64,
    bugs: Bugs,
    trace: bool,
    tells: bool,
    jumps: bool,
}

impl Run {
    fn of(seed: u64) -> Self {
        Self { seed, bugs: Bugs::default(), trace: false, tells: false, jumps: true }
    }
}

/// One seed: chaos for a while, then peace.
fn run(with: Run) -> World {
    let mut world = World::new(with.seed, with.bugs);
    world.trace = with.trace.then(String::new);
    world.tells = with.tells;
    world.jumps = with.jumps;
    world.give(Event::Boot);
    let amount = 300 + world.chance.below(1500);
    while world.events < amount && world.wrong.is_none() && world.exit.is_none() {
        world.turn();
        // What is written is longer the more programs there are: not so often then.
        let many = world.ids.len() > 8 && world.chance.is(80);
        match world.chance.below(10_000) {
            0..=6 if !many => world.nothing_new(),
            7..=12 => world.same_site(),
            _ => {}
        }
    }
    if world.exit.is_none() && world.wrong.is_none() {
        world.converge();
    }
    world
}

/// The time that this thread has computed.
fn computed() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// As many seeds as it takes for so many events; how often each invariant was tried.
fn run_many(amount: u64) -> [u64; 65] {
    let mut held = [0; 65];
    let (mut events, mut seed) = (0, 0);
    if let Some(only) = setting("SIM_SEED") {
        (seed, events) = (only, amount.saturating_sub(1));
    }
    let all = setting("SIM_ALL").is_some();
    let begin = computed();
    while events < amount {
        let world = run(Run::of(seed));
        if let Some((number, wrong)) = world.wrong {
            println!("SIM_SEED={seed} event {}: I-{number}: {wrong}", world.events);
            if !all {
                let again = run(Run { tells: true, ..Run::of(seed) });
                let story: Vec<String> = again.story.into_iter().collect();
                panic!("SIM_SEED={seed}: I-{number}: {wrong}\n{}", story.join("\n"));
            }
        }
        events += world.events;
        seed += 1;
        for (sum, one) in held.iter_mut().zip(world.held) {
            *sum += one;
        }
    }
    let rate = u128::from(events) / computed().saturating_sub(begin).as_millis().max(1);
    println!("{events} events of {seed} seeds, {rate} thousand in a second of one core");
    held
}

/// The invariants that a run has to try.
const TRIED: [usize; 43] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19, 22, 23, 25, 29, 30, 31, 32, 33, 35,
    36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 51, 56, 57, 62,
];

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

/// I-34: what the engine does is the same with and without jumps of the wall clock.
fn jumps_change_nothing(seed: u64, bugs: Bugs) -> Option<(usize, String)> {
    let with = Run { trace: true, bugs, ..Run::of(seed) };
    let (jumping, still) = (run(with), run(Run { jumps: false, ..with }));
    let (one, two) = (jumping.trace?, still.trace?);
    let differs = one.lines().zip(two.lines()).find(|(a, b)| a != b);
    let differs = differs.map(|(a, b)| format!("{a} with jumps, {b} without"));
    (one != two).then(|| (34, differs.unwrap_or_default()))
}

#[test]
fn jumps_of_the_wall_clock_change_nothing() {
    for seed in 0..100 {
        let differs = jumps_change_nothing(seed, Bugs::default());
        assert_eq!(differs, None, "seed {seed}");
    }
}

#[test]
fn a_seed_replays_byte_for_byte() {
    for seed in 0..20 {
        let with = Run { trace: true, ..Run::of(seed) };
        let (one, two) = (run(with), run(with));
        assert!(one.trace.is_some_and(|t| !t.is_empty() && Some(t) == two.trace), "seed {seed}");
    }
}
