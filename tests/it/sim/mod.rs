//! The simulator: the real engine in an imaginary world, millions of events, named invariants.
//!
//! A seed is all there is to a run: `SIM_SEED=17 cargo nextest run a_seed` replays it and tells its story.

mod check;
mod commands;
mod run;
mod site;
mod world;

use std::{collections::BTreeMap, time::Instant as Clock};

use mini_supervisor::engine::Bugs;

use self::run::{How, Outcome, run};

const PLAIN: How = How { events: 3000, bugs: NONE, jumps: false, stores: false };
const NONE: Bugs = Bugs::NONE;

/// The invariants that a full run must have had occasion to judge.
const NAMED: [u8; 32] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 22, 23, 25, 29, 30, 31, 32, 33, 36, 37, 38, 39, 40,
    41, 44, 45, 46, 47, 56,
];

fn must_hold(seed: u64, how: How) -> Outcome {
    run(seed, how).unwrap_or_else(|broken| {
        let story: Vec<String> = broken.story.into_iter().collect();
        panic!(
            "seed {seed} breaks I-{}: {}\n(SIM_SEED={seed} tells the story)\n{}",
            broken.violation.0,
            broken.violation.1,
            story.join("\n")
        )
    })
}

/// Runs seeds from `first` on until so many events were handled; gives how often each invariant was judged.
fn campaign(first: u64, events: u64) -> (u64, BTreeMap<u8, u64>) {
    let mut done = 0;
    let mut held: BTreeMap<u8, u64> = BTreeMap::new();
    let mut seed = first;
    while done < events {
        let how = How { stores: seed % 4 == 0, jumps: seed % 3 == 0, ..PLAIN };
        let outcome = must_hold(seed, how);
        done += outcome.events;
        for (number, times) in outcome.held {
            *held.entry(number).or_default() += times;
        }
        seed += 1;
    }
    (done, held)
}

#[test]
fn millions_of_events_keep_every_invariant() {
    let full = std::env::var_os("TESTS_FULL").is_some();
    let events = std::env::var("SIM_EVENTS").ok().and_then(|text| text.parse().ok());
    let events = events.unwrap_or(if full { 20_000_000 } else { 2_000_000 });
    let clock = Clock::now();
    let (done, held) = campaign(1, events);
    let rate = done as f64 / clock.elapsed().as_secs_f64();
    println!("{done} events, {rate:.0} a second; judged: {held:?}");
    for number in NAMED {
        let times = held.get(&number).copied().unwrap_or(0);
        assert!(times >= 1000, "I-{number} was judged {times} times only");
    }
}

#[test]
fn a_seed_replays_byte_for_byte() {
    let seeds = match std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 1..40,
    };
    for seed in seeds {
        let first = must_hold(seed, PLAIN).trace;
        assert_eq!(must_hold(seed, PLAIN).trace, first, "I-24: seed {seed}");
    }
}

#[test]
fn jumps_of_the_wall_clock_change_no_deadline() {
    for seed in 1..40 {
        let steady = must_hold(seed, PLAIN).trace;
        let jumping = must_hold(seed, How { jumps: true, ..PLAIN }).trace;
        assert_eq!(steady, jumping, "I-34: seed {seed}");
    }
}

#[test]
fn each_seeded_bug_is_found() {
    for (name, bugs) in Bugs::each() {
        let how = How { bugs, ..PLAIN };
        let found = (1..400).find_map(|seed| run(seed, how).err().map(|broken| (seed, broken)));
        let (seed, broken) = found.unwrap_or_else(|| panic!("{name} is not found"));
        println!("{name}: seed {seed}, I-{}: {}", broken.violation.0, broken.violation.1);
    }
}
