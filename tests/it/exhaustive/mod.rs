//! Small sites, and every order of what can happen to them: breadth first, each state once.
//!
//! What tells two states apart is all that the engine's future can depend on: times count from now,
//! runs by their order, and histories only as far as the settings of these sites look at them.

mod world;

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write as _,
    hash::{DefaultHasher, Hasher as _},
    sync::Arc,
    time::Duration,
};

use mini_supervisor::{engine::Bugs, model::*};
use world::{Happens, World};

use crate::site_builder::{hook, on, program, site};

impl World {
    /// All that its future depends on.
    fn key(&self, text: &mut String) {
        text.clear();
        for slot in self.engine.programs() {
            let h = &slot.history;
            let main = slot.main.filter(|run| self.procs.contains_key(run));
            let (goal, starts, over) = (slot.goal, h.starts.len(), h.start_over);
            write!(text, "{goal:?}{:?}{:?}{starts}{over}{main:?};", slot.state, slot.side).unwrap();
        }
        for (run, proc) in &self.procs {
            write!(text, "{run:?}{:?}{:?}{:?};", proc.program, proc.role, proc.life).unwrap();
        }
        for open in &self.open {
            let attempts = self.engine.slot(open.program).map_or(0, |s| s.history.attempts);
            let counts = open.verb != 'r' || attempts > open.mark;
            write!(text, "{}{:?}{counts};", open.verb, open.program).unwrap();
        }
        let killed = self.killing.map(|at| at + Duration::from_secs(2));
        let ends = self.engine.ends_by();
        write!(text, "{ends:?}{killed:?}{:?}{:?}", self.down, self.exit).unwrap();
    }

    fn hash(&self, text: &mut String) -> u64 {
        self.key(text);
        let runs: Vec<u64> = self.procs.keys().map(|run| run.0).collect();
        let mut hasher = DefaultHasher::new();
        let mut rest = text.as_str();
        // What cannot matter any more or only differs by when it was is made the same.
        while let Some((before, word, after)) = next_word(rest) {
            hasher.write(before.as_bytes());
            let (inside, behind) = after.split_at(after.find([')', ',', ' ']).unwrap_or(0));
            let number = inside.parse::<u64>().unwrap_or(0);
            hasher.write_u64(match word {
                "Instant(" => number.saturating_sub(self.now.0),
                "RunId(" => runs.iter().position(|run| *run == number).map_or(99, |n| n as u64),
                // The pause between two kills no longer grows there.
                "rung: " => number.min(9),
                _ => 0,
            });
            rest = behind;
        }
        hasher.write(rest.as_bytes());
        hasher.finish()
    }
}

/// The next word with a number behind it that has to be looked at.
fn next_word(text: &str) -> Option<(&str, &'static str, &str)> {
    const WORDS: [&str; 4] = ["Instant(", "RunId(", "rung: ", "lived: Some("];
    let found = WORDS.into_iter().filter_map(|word| Some((text.find(word)?, word)));
    let (at, word) = found.min()?;
    Some((text.get(..at)?, word, text.get(at + word.len()..)?))
}

/// For each state the one before it, and what happened there.
type Trail = Vec<(usize, Option<Happens>)>;

/// What a search has seen.
struct Search {
    states: usize,
    steps: usize,
    /// The longest way to a state.
    depth: usize,
    /// No state is left that was not looked at.
    closed: bool,
    wrong: Option<String>,
}

/// Looks at no more than `most` states, and from some of them how it ends.
fn search(site: &Site, bugs: Bugs, most: usize) -> Search {
    let mut text = String::new();
    let mut seen = BTreeSet::new();
    let mut trail: Trail = vec![(0, None)];
    let first = World::new(site, bugs);
    seen.insert(first.hash(&mut text));
    let mut open = VecDeque::from([0]);
    let mut steps = 0;
    while let Some(index) = open.pop_front() {
        // The way there takes less time than so many worlds take memory.
        let mut world = first.clone();
        for what in path(&trail, index) {
            world.happen(what);
        }
        for what in world.choices() {
            let mut next = world.clone();
            next.happen(what);
            steps += 1;
            let new = next.wrong.is_some() || seen.insert(next.hash(&mut text));
            if !new {
                continue;
            }
            let place = trail.len();
            trail.push((index, Some(what)));
            let wrong = next.wrong.clone();
            let wrong = wrong.or_else(|| (place % 8 == 1).then(|| next.judge_ends()).flatten());
            if let Some(wrong) = wrong {
                let wrong = Some(format!("{wrong}, after {:?}", path(&trail, place)));
                return Search { states: place, steps, depth: 0, closed: false, wrong };
            }
            if next.exit.is_none() {
                open.push_back(place);
            }
        }
        if trail.len() >= most {
            break;
        }
    }
    let depth = path(&trail, trail.len() - 1).len();
    Search { states: trail.len(), steps, depth, closed: open.is_empty(), wrong: None }
}

/// How a state was come to.
fn path(trail: &Trail, mut place: usize) -> Vec<Happens> {
    let mut way = Vec::new();
    while let Some((before, Some(what))) = trail.get(place) {
        way.push(*what);
        place = *before;
    }
    way.reverse();
    way
}

/// Times that are all alike, so that few differences between them are possible.
fn plain(name: &str, change: impl FnOnce(&mut Program)) -> Program {
    let mut p = program(name);
    p.start_timeout = Limit::Never;
    let restart = Arc::make_mut(&mut p.restart);
    (restart.delay, restart.factor, restart.reset_after) = (TEN, 1.0, Limit::Never);
    change(&mut p);
    p
}

const TEN: Duration = Duration::from_secs(10);

fn limited(p: &mut Program, policy: RestartPolicy, action: LimitAction) {
    let interval = Duration::from_secs(1 << 40);
    let restart = Arc::make_mut(&mut p.restart);
    restart.policy = policy;
    restart.start_limit = Some(StartLimit { burst: 2, interval, action, retry_every: TEN });
}

/// A site whose second program needs the first.
fn chain() -> Site {
    sited([
        plain("db", |p| limited(p, RestartPolicy::OnFailure, LimitAction::GiveUp)),
        plain("web", |p| p.requires = Box::new([on("db")])),
    ])
}

/// A oneshot before a program.
fn prepared() -> Site {
    sited([
        plain("init", |p| {
            p.kind = ProgramType::Oneshot { remain: false };
            Arc::make_mut(&mut p.restart).policy = RestartPolicy::Never;
        }),
        plain("web", |p| p.requires = Box::new([on("init")])),
    ])
}

/// One that leaves its tree alone and comes back again and again, up to a limit.
fn lasting() -> Site {
    sited([
        plain("keep", |p| {
            limited(p, RestartPolicy::Always, LimitAction::Retry);
            Arc::make_mut(&mut p.stop).kill_mode = KillMode::Process;
        }),
        plain("slow", |p| {
            p.wants = Box::new([on("keep")]);
            p.start_timeout = Limit::After(TEN);
            limited(p, RestartPolicy::Never, LimitAction::GiveUp);
        }),
    ])
}

/// Nothing but a program.
fn alone() -> Site {
    sited([plain("one", |p| limited(p, RestartPolicy::OnFailure, LimitAction::GiveUp))])
}

/// With a command before, beside and after it.
fn hooked() -> Site {
    sited([plain("one", |p| {
        limited(p, RestartPolicy::OnFailure, LimitAction::GiveUp);
        p.start_pre = Box::new([hook(TEN)]);
        p.start_post = Box::new([hook(TEN)]);
        p.stop_post = Box::new([hook(TEN)]);
    })])
}

fn sited(programs: impl IntoIterator<Item = Program>) -> Site {
    let mut site = site(programs);
    site.supervisor.shutdown_timeout = Some(TEN);
    site
}

fn is_full() -> bool {
    std::env::var_os("TESTS_FULL").is_some_and(|value| value == "1")
}

/// Everything up to a number of states that takes seconds, or minutes when there is time.
fn nothing_breaks(site: &Site) -> Search {
    let most = if is_full() { 2_000_000 } else { 40_000 };
    let found = search(site, Bugs::default(), most);
    assert_eq!(found.wrong, None);
    let Search { states, steps, closed, depth, .. } = found;
    let all = if closed { "all" } else { "the nearest" };
    println!("{states} states ({all}), {steps} steps, up to {depth} events in a row");
    assert!(closed || states >= most, "{states}");
    found
}

#[test]
fn no_order_of_events_breaks_a_promise_of_a_program_and_one_that_requires_it() {
    nothing_breaks(&chain());
}

#[test]
fn no_order_of_events_breaks_a_promise_of_a_oneshot_and_one_that_requires_it() {
    nothing_breaks(&prepared());
}

#[test]
fn no_order_of_events_breaks_a_promise_of_programs_with_limits() {
    nothing_breaks(&lasting());
}

#[test]
fn every_state_of_a_program_alone_keeps_its_promises() {
    assert!(nothing_breaks(&alone()).closed);
}

#[test]
fn no_order_of_events_breaks_a_promise_of_a_program_with_commands_around_it() {
    nothing_breaks(&hooked());
}

#[test]
fn seeded_bugs_are_found_within_a_few_steps() {
    let off = Bugs::default();
    let bugs = [
        ("forget_stop_while_spawning", Bugs { forget_stop_while_spawning: true, ..off }),
        ("restart_although_down", Bugs { restart_although_down: true, ..off }),
        ("skip_the_gate", Bugs { skip_the_gate: true, ..off }),
        ("skip_the_drain", Bugs { skip_the_drain: true, ..off }),
        ("start_in_shutdown", Bugs { start_in_shutdown: true, ..off }),
        ("lose_restarts", Bugs { lose_restarts: true, ..off }),
    ];
    for (name, bugs) in bugs {
        let wrong = search(&chain(), bugs, 20_000).wrong;
        let wrong = wrong.unwrap_or_else(|| panic!("{name} is not found"));
        println!("{name}: {wrong}");
    }
}
