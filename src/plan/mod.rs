//! Site → Plan: names become ids, dependencies become edges; nothing can be "unknown" after this.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::model::{
    Awaited, Condition, Dependency, Limit, Name, Program, ShmRule, Site, Supervisor, Target,
};

/// Identifies a program of the running site. Stable over reloads for as long as the name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProgramId(pub u32);

impl ProgramId {
    /// Its place in a table.
    #[must_use]
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A site with its names resolved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The supervisor's own settings.
    pub supervisor: Arc<Supervisor>,
    /// The programs, in the order of their names.
    pub programs: Vec<Planned>,
    /// Stale files in /dev/shm.
    pub shm: Arc<[ShmRule]>,
}

/// A program with its edges.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its id.
    pub id: ProgramId,
    /// Its settings.
    pub program: Arc<Program>,
    /// What it is connected to.
    pub edges: Edges,
}

/// The edges of one program in the dependency graph.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edges {
    /// What it needs.
    pub needs: Box<[Edge]>,
    /// What needs it.
    pub needed_by: Box<[Back]>,
    /// Conditions of the world, in order.
    pub waits: Box<[Wait]>,
    /// Semaphores that must be free.
    pub locks: Box<[Lock]>,
}

/// An edge to a semaphore.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lock {
    /// Which.
    pub semaphore: Name,
    /// How much it matters.
    pub kind: EdgeKind,
}

/// An edge to what a program needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Edge {
    /// To whom.
    pub target: ProgramId,
    /// What must be true of it.
    pub condition: Condition,
    /// How much it matters.
    pub kind: EdgeKind,
}

/// An edge seen from the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Back {
    /// Who needs it.
    pub from: ProgramId,
    /// How much it matters.
    pub kind: EdgeKind,
}

/// How much a dependency matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EdgeKind {
    /// Not without it.
    Requires,
    /// Better with it.
    Wants,
    /// Order only.
    After,
}

/// A condition of the world that a start waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// What.
    pub what: Awaited,
    /// How long.
    pub timeout: Limit,
    /// Whether the start goes on (or is a failure) when the time is over.
    pub go_on: bool,
}

impl Plan {
    /// Plans `site`. Names in `known` keep their ids; new ones get the lowest free ids.
    ///
    /// References were resolved by `config`: one that is not there all the same is left out.
    #[must_use]
    pub fn new(site: &Site, known: &BTreeMap<Name, ProgramId>) -> Self {
        let ids = assign(site, known);
        let mut backs: BTreeMap<ProgramId, Vec<Back>> = BTreeMap::new();
        let mut programs: Vec<Planned> = Vec::with_capacity(site.programs.len());
        for (name, program) in &site.programs {
            let Some(id) = ids.get(name).copied() else { continue };
            let edges = edges_of(program, &ids, site);
            for edge in &edges.needs {
                backs.entry(edge.target).or_default().push(Back { from: id, kind: edge.kind });
            }
            programs.push(Planned { id, program: Arc::clone(program), edges });
        }
        for planned in &mut programs {
            let mut back = backs.remove(&planned.id).unwrap_or_default();
            back.sort_unstable();
            back.dedup();
            planned.edges.needed_by = back.into();
        }
        let shm = site.shm.values().cloned().collect();
        Self { supervisor: Arc::new(site.supervisor.clone()), programs, shm }
    }
}

fn assign(site: &Site, known: &BTreeMap<Name, ProgramId>) -> BTreeMap<Name, ProgramId> {
    let taken: std::collections::BTreeSet<ProgramId> = known.values().copied().collect();
    let mut free = (0..).map(ProgramId).filter(|id| !taken.contains(id));
    let mut ids = BTreeMap::new();
    for name in site.programs.keys() {
        if let Some(id) = known.get(name).copied().or_else(|| free.next()) {
            ids.insert(name.clone(), id);
        }
    }
    ids
}

fn edges_of(program: &Program, ids: &BTreeMap<Name, ProgramId>, site: &Site) -> Edges {
    let lists = [
        (&program.requires, EdgeKind::Requires),
        (&program.wants, EdgeKind::Wants),
        (&program.after, EdgeKind::After),
    ];
    let mut needs = Vec::new();
    let mut waits = Vec::new();
    let mut locks = Vec::new();
    for (list, kind) in lists {
        for Dependency { target, condition } in list {
            match target {
                Target::Program(name) => needs.extend(ids.get(name).map(|t| Edge {
                    target: *t,
                    condition: *condition,
                    kind,
                })),
                Target::Network => waits.push(network(kind, program.start_timeout)),
                Target::Semaphore(name) => {
                    let known = site.semaphores.contains_key(name);
                    locks.extend(known.then(|| Lock { semaphore: name.clone(), kind }));
                }
                // Refused before a site runs: see `Site::unsupported`.
                Target::Mount(_) | Target::Task(_) => {}
            }
        }
    }
    waits.dedup();
    waits.extend(program.wait_for.iter().map(|w| Wait {
        what: w.what.clone(),
        timeout: w.timeout,
        go_on: false,
    }));
    needs.sort_unstable();
    needs.dedup();
    Edges {
        needs: needs.into(),
        needed_by: Box::default(),
        waits: waits.into(),
        locks: locks.into(),
    }
}

fn network(kind: EdgeKind, patience: Limit) -> Wait {
    let needed = kind == EdgeKind::Requires;
    Wait {
        what: Awaited::Network,
        timeout: if needed { Limit::Never } else { patience },
        go_on: !needed,
    }
}

pub mod reload;
