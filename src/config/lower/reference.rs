//! Items of `after`, `requires`, `wants`.

use crate::{
    config::{
        check::{Names, declared},
        values::{Problem, problem},
    },
    model::{Condition, Name, Target},
};

/// Splits `web@healthy`. A program may have an `@` in its name, so only the four words count.
pub(crate) fn split(text: &str) -> (&str, Option<Condition>) {
    let Some((head, tail)) = text.rsplit_once('@') else { return (text, None) };
    let condition = match tail {
        "started" => Condition::Started,
        "ready" => Condition::Ready,
        "healthy" => Condition::Healthy,
        "completed" => Condition::Completed,
        _ => return (text, None),
    };
    (head, Some(condition))
}

/// Whether `text` refers to something that the file declares.
pub(crate) fn check(text: &str, names: &Names) -> Result<(), Problem> {
    let (head, condition) = split(text);
    match head.split_once(':') {
        Some(("mount", name)) => declared("mount", name, &names.mounts),
        Some(("semaphore", name)) => declared("semaphore", name, &names.semaphores),
        Some(("task", name)) => declared("task", name, &names.tasks),
        Some((kind, _)) => Err(problem(format!("there is no kind of dependency `{kind}`"))
            .hint("write `mount:X`, `semaphore:X`, `task:X`, or the name of a program")),
        None if head == "network" => Ok(()),
        None => declared("program", head, &names.programs).map_err(|found| {
            let base = head.split_once('@').map(|(base, _)| base);
            match base.filter(|b| condition.is_none() && names.programs.contains(*b)) {
                Some(_) => found.hint("conditions are @started, @ready, @healthy, @completed"),
                None => found,
            }
        }),
    }
}

/// What `head` names, when it is not a program.
pub(crate) fn other(head: &str) -> Option<Target> {
    let (kind, name) = head.split_once(':').unwrap_or((head, ""));
    match kind {
        "network" => Some(Target::Network),
        "mount" => Name::new(name).ok().map(Target::Mount),
        "semaphore" => Name::new(name).ok().map(Target::Semaphore),
        "task" => Name::new(name).ok().map(Target::Task),
        _ => None,
    }
}
