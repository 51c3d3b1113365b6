//! What a run would do, in words, without doing it.

use std::fmt::Write;

use crate::{
    engine::{Action, ChildEvent, Claimed, Engine, Event, Role, Spawn, Surroundings},
    model::{Exit, Instant, Program, ProgramType, Sample, Site, WallTime},
};

/// The start order of `site`, found by letting the real machine start in an imaginary world.
pub(super) fn describe(site: &Site) -> String {
    let mut text = made_at_start(site);
    text.push_str("would start, in this order:\n");
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
            let mut world = World { engine: &engine, pid, said: String::new() };
            events.extend(world.answer(action));
            pid = world.pid;
            text.push_str(&world.said);
        }
    }
    text
}

/// What the machine acts upon.
struct World<'a> {
    engine: &'a Engine,
    /// The latest that was given to a process.
    pid: u32,
    said: String,
}

impl World<'_> {
    fn say(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot be refused.
        writeln!(self.said, "{line}").ok();
    }

    /// Says what an action does, and gives what comes of it.
    fn answer(&mut self, action: Action) -> Vec<Event> {
        match action {
            // That it serves is what is played.
            Action::Probe { program, run, .. } => {
                vec![Event::Probed { program, run, sample: Sample::Good }]
            }
            Action::Spawn(spawn) => {
                let program = self.engine.program(spawn.program);
                let Some(program) = program else { return Vec::new() };
                if !matches!(spawn.role, Role::Probe(_)) {
                    self.say(format_args!("  {}: {}", program.name, in_words(&spawn, &program)));
                }
                self.pid += 1;
                lives(&spawn, &program, self.pid)
            }
            Action::Await { program, attempt, index } => {
                vec![Event::Condition { program, attempt, index }]
            }
            Action::Tidy { program, run, moment } => {
                let own = program.and_then(|id| self.engine.program(id));
                let who = own.map(|program| format!("{}: ", program.name)).unwrap_or_default();
                for line in super::shm::describe(self.engine, program, moment).lines() {
                    self.say(format_args!("  {who}{line}"));
                }
                vec![Event::Tidied { program, run }]
            }
            Action::Watch(name, watched) => {
                self.say(format_args!("  semaphore:{name}: looks at {}", watched.path.display()));
                Vec::new()
            }
            Action::FindMain { program, run } => {
                let what = ChildEvent::Main { pid: self.pid };
                let ready = Event::Child { program, run, what: ChildEvent::Ready };
                vec![Event::Child { program, run, what }, ready]
            }
            Action::Claim { program, run } => {
                let mut what = Claimed::Free;
                if let Some((line, adopted)) = super::single::describe(self.engine, program) {
                    self.say(format_args!("  {line}"));
                    what = adopted.map_or(what, Claimed::Adopted);
                }
                vec![Event::Claimed { program, run, what }]
            }
            Action::ProbeNoMore(_)
            | Action::TidyNoMore(_)
            | Action::EndCopies { .. }
            | Action::Adopt { .. }
            | Action::Sign { .. }
            | Action::Unclaim(_)
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
            | Action::KillAllBegins(_)
            | Action::EndTheRest(_)
            | Action::Remember { .. }
            | Action::EndHost { .. }
            | Action::EndHostNoMore(_)
            | Action::ReopenLogs
            | Action::Exit(_) => Vec::new(),
        }
    }
}

fn made_at_start(site: &Site) -> String {
    let directories = site.directories.iter().filter(|(_, directory)| directory.at_start);
    let line = |(path, directory): (&std::path::PathBuf, &crate::model::Directory)| {
        format!("would make directory {} ({})\n", path.display(), directory.mode)
    };
    directories.map(line).collect()
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
        (Role::Main, ProgramType::Simple | ProgramType::Notify) => {
            all.extend(program.readiness.is_some().then_some(ChildEvent::Ready));
        }
        (Role::Main, ProgramType::Forking { .. }) => all.push(ChildEvent::Exited(Exit::Code(0))),
        _ => all.extend([ChildEvent::Exited(Exit::Code(0)), ChildEvent::TreeEmpty]),
    }
    let event = |what| Event::Child { program: spawn.program, run: spawn.run, what };
    all.into_iter().map(event).collect()
}
