//! What a run would do, in words, without doing it.

use std::fmt::Write;

use crate::{
    engine::{Action, ChildEvent, Engine, Event, Role, Spawn, Surroundings},
    model::{Exit, Instant, Program, ProgramType, Site, WallTime},
};

/// The start order of `site`, found by letting the real machine start in an imaginary world.
pub(super) fn describe(site: &Site) -> String {
    let mut text = String::new();
    let directories = site.directories.iter().filter(|(_, directory)| directory.at_start);
    for (path, directory) in directories {
        // Writing to a string cannot be refused.
        writeln!(text, "would make directory {} ({})", path.display(), directory.mode).ok();
    }
    text.push_str("would start, in this order:\n");
    let mut log = |line: std::fmt::Arguments<'_>| {
        // Writing to a string cannot be refused.
        writeln!(text, "{line}").ok();
    };
    let around = Surroundings {
        seed: 0,
        is_init: false,
        is_contained: false,
        bugs: crate::engine::Bugs::default(),
    };
    let now = (Instant(1), WallTime(0));
    let mut engine = Engine::new(site, around, now);
    let mut events = std::collections::VecDeque::from([Event::Boot]);
    let mut out = crate::engine::Actions::new();
    let mut pid = 1;
    // Every program is spawned at most once here: nothing ends but what is meant to.
    for _ in 0..100_000 {
        let Some(event) = events.pop_front() else { break };
        engine.handle(event, now.0, now.1, &mut out);
        for action in out.drain() {
            match action {
                Action::Spawn(spawn) => {
                    let Some(program) = engine.program(spawn.program) else { continue };
                    log(format_args!("  {}: {}", program.name, in_words(&spawn, &program)));
                    pid += 1;
                    events.extend(lives(&spawn, &program, pid));
                }
                Action::Await { program, attempt, index } => {
                    events.push_back(Event::Condition { program, attempt, index });
                }
                Action::Tidy { program, run, moment } => {
                    let own = program.and_then(|id| engine.program(id));
                    let who = own.map(|program| format!("{}: ", program.name)).unwrap_or_default();
                    for line in super::shm::describe(&engine, program, moment).lines() {
                        log(format_args!("  {who}{line}"));
                    }
                    events.push_back(Event::Tidied { program, run });
                }
                Action::Watch(name, watched) => {
                    log(format_args!("  semaphore:{name}: looks at {}", watched.path.display()));
                }
                Action::FindMain { program, run } => {
                    let what = ChildEvent::Main { pid };
                    events.push_back(Event::Child { program, run, what });
                }
                Action::TidyNoMore(_)
                | Action::Signal { .. }
                | Action::Unwatch(_)
                | Action::Acknowledge { .. }
                | Action::AwaitNothing(_)
                | Action::RemoveRuntime(_)
                | Action::Record(_)
                | Action::Reply(..)
                | Action::Progress(..)
                | Action::Load { .. }
                | Action::Reconfigure(_)
                | Action::Forget(_)
                | Action::Remember { .. }
                | Action::EndHost { .. }
                | Action::EndHostNoMore(_)
                | Action::ReopenLogs
                | Action::Exit(_) => {}
            }
        }
    }
    text
}

fn in_words(spawn: &Spawn, program: &Program) -> String {
    if spawn.role == Role::Main {
        shell_words::join(program.command.iter())
    } else {
        spawn.role.to_string()
    }
}

/// What becomes of it: nothing ends but what is meant to.
fn lives(spawn: &Spawn, program: &Program, pid: u32) -> Vec<Event> {
    let mut all = vec![ChildEvent::Spawned { pid }];
    match (spawn.role, &program.kind) {
        (Role::Main, ProgramType::Simple | ProgramType::Notify) => {}
        (Role::Main, ProgramType::Forking { .. }) => all.push(ChildEvent::Exited(Exit::Code(0))),
        _ => all.extend([ChildEvent::Exited(Exit::Code(0)), ChildEvent::TreeEmpty]),
    }
    let event = |what| Event::Child { program: spawn.program, run: spawn.run, what };
    all.into_iter().map(event).collect()
}
