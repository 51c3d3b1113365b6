//! Cycles of dependencies, named along the cycle. Without recursion: chains may be long.

use std::collections::BTreeMap;

use crate::config::diagnostic::{Diagnostic, Place};

/// Who depends on whom, and where the file says so.
pub(crate) type Graph = BTreeMap<String, Vec<(String, Place)>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Open,
    Done,
}

/// One diagnostic for each cycle that a depth-first walk meets.
pub(crate) fn cycles(graph: &Graph) -> Vec<Diagnostic> {
    let mut marks: BTreeMap<&str, Mark> = BTreeMap::new();
    let mut out = Vec::new();
    for root in graph.keys() {
        // The way to here: name, index of the next edge, place of the edge that led here.
        let mut way: Vec<(&str, usize, Place)> = Vec::new();
        if !marks.contains_key(root.as_str()) {
            marks.insert(root, Mark::Open);
            way.push((root, 0, Place::default()));
        }
        while let Some((name, next, _)) = way.last_mut() {
            let edge = graph.get(*name).and_then(|edges| edges.get(*next));
            let Some((target, place)) = edge else {
                marks.insert(name, Mark::Done);
                way.pop();
                continue;
            };
            *next += 1;
            match marks.get(target.as_str()) {
                Some(Mark::Done) => {}
                Some(Mark::Open) => out.push(describe(&way, target, *place)),
                None => {
                    marks.insert(target, Mark::Open);
                    way.push((target, 0, *place));
                }
            }
        }
    }
    out
}

fn describe(way: &[(&str, usize, Place)], target: &str, place: Place) -> Diagnostic {
    let from = way.iter().position(|(name, ..)| *name == target).unwrap_or(0);
    let cycle = way.get(from..).unwrap_or_default();
    if cycle.len() == 1 {
        return Diagnostic::error("cycle", place, format!("`{target}` depends on itself"));
    }
    let mut names: Vec<&str> = cycle.iter().map(|(name, ..)| *name).collect();
    names.push(target);
    if names.len() > 12 {
        let rest = names.len() - 11;
        names.splice(10..names.len() - 1, ["..."]);
        names.push("");
        names.pop();
        names.truncate(12);
        let text = format!("dependency cycle: {} ({rest} left out)", names.join(" -> "));
        return Diagnostic::error("cycle", place, text);
    }
    let text = format!("dependency cycle: {}", names.join(" -> "));
    let found = Diagnostic::error("cycle", place, text).hint("remove one of these dependencies");
    cycle.iter().skip(1).zip(cycle).fold(found, |found, ((name, _, at), (before, ..))| {
        found.label(*at, format!("`{before}` depends on `{name}`"))
    })
}
