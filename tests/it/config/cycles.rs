//! I-27: a cycle never reaches the engine. Graphs are drawn, written as site files and read: one
//! is refused for a cycle exactly when it has one.

use std::fmt::Write as _;

use super::{lines, site};
use crate::sim::Chance;

/// The edges of program `n`: what it comes after, requires and wants.
type Graph = Vec<[Vec<usize>; 3]>;

const KEYS: [&str; 3] = ["after", "requires", "wants"];

fn draw(chance: &mut Chance) -> Graph {
    let count = 1 + usize::try_from(chance.below(8)).unwrap();
    let sparse = 2 + chance.below(20);
    let mut graph = vec![[Vec::new(), Vec::new(), Vec::new()]; count];
    for edges in &mut graph {
        for to in 0..count {
            if chance.below(sparse) == 0 {
                edges[usize::try_from(chance.below(3)).unwrap()].push(to);
            }
        }
    }
    graph
}

/// Takes away what needs nothing that is left, until nothing changes: what stays has a cycle.
fn has_cycle(graph: &Graph) -> bool {
    let mut left: Vec<usize> = (0..graph.len()).collect();
    loop {
        let before = left.len();
        let all = left.clone();
        left.retain(|n| graph[*n].iter().flatten().any(|to| all.contains(to)));
        if left.len() == before {
            return !left.is_empty();
        }
    }
}

fn written(graph: &Graph) -> String {
    let mut text = "programs:\n".to_owned();
    for (n, edges) in graph.iter().enumerate() {
        writeln!(text, "  p{n}:\n    command: [/bin/true]").unwrap();
        for (key, list) in KEYS.iter().zip(edges).filter(|(_, list)| !list.is_empty()) {
            let names: Vec<String> = list.iter().map(|to| format!("p{to}")).collect();
            writeln!(text, "    {key}: [{}]", names.join(", ")).unwrap();
        }
    }
    site(&text)
}

#[test]
fn a_cycle_never_reaches_the_engine() {
    let mut chance = Chance(27);
    let mut seen = [0_u32; 2];
    for _ in 0..4000 {
        let graph = draw(&mut chance);
        let text = written(&graph);
        let found = lines(&text);
        let cycle = has_cycle(&graph);
        seen[usize::from(cycle)] += 1;
        let about_cycles = |line: &str| line.contains("cycle") || line.contains("itself");
        assert_eq!(!found.is_empty(), cycle, "{text}{found}");
        assert!(found.lines().all(about_cycles), "{text}{found}");
    }
    assert!(seen.iter().all(|times| *times >= 1000), "{seen:?}");
}
