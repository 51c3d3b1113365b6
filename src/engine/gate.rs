//! What holds a start back, and what holds a stop back.

use super::{Engine, Goal, Slot, State, semaphore_view::Freedom};
use crate::{
    control::StateWord,
    model::{Condition, Instant, Name},
    plan::{Edge, EdgeKind, Lock, ProgramId},
};

/// The verdict on a program that wants to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing holds it back.
    Open,
    /// This does.
    Closed(Edge),
    /// A semaphore does.
    Locked,
}

impl Gate {
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}

impl Engine {
    /// Whether `id` may start now.
    pub(super) fn gate(&self, id: ProgramId, now: Instant) -> Gate {
        let Some(slot) = self.slot(id) else { return Gate::Open };
        let State::Waiting { patience, patient, .. } = slot.state else { return Gate::Open };
        let patient = patient && patience.is_none_or(|at| at > now);
        let closed = slot.edges.needs.iter().find(|edge| !self.passes(**edge, patient));
        let locked = || slot.edges.locks.iter().any(|lock| !self.unlocks(lock, patient));
        match closed {
            Some(edge) => Gate::Closed(*edge),
            None if locked() => Gate::Locked,
            None => Gate::Open,
        }
    }

    /// Everything that `id` waits for, in words: `db (starting)`.
    pub(super) fn blockers(&self, id: ProgramId, now: Instant) -> Vec<String> {
        let Some(slot) = self.slot(id) else { return Vec::new() };
        if matches!(slot.state, State::Retrying { .. }) {
            return vec!["the system".to_owned()];
        }
        let State::Waiting { patience, patient, waits_done, wait_until, .. } = slot.state else {
            return Vec::new();
        };
        if wait_until.is_some() {
            return vec![wait_in_words(slot, waits_done)];
        }
        let patient = patient && patience.is_none_or(|at| at > now);
        let closed = slot.edges.needs.iter().filter(|edge| !self.passes(**edge, patient));
        let programs =
            closed.filter_map(|edge| Some(in_words(self.slot(edge.target)?, edge.condition)));
        let locks = slot.edges.locks.iter().filter(|lock| !self.unlocks(lock, patient));
        programs.chain(locks.map(|lock| self.lock_in_words(&lock.semaphore))).collect()
    }

    /// Whether that semaphore lets a program start.
    fn unlocks(&self, lock: &Lock, patient: bool) -> bool {
        let free = self.freedom(&lock.semaphore) == Freedom::Free;
        free || (lock.kind != EdgeKind::Requires && !patient)
    }

    /// Whether it waits for a semaphore.
    pub(super) fn is_locked(&self, slot: &Slot) -> bool {
        let waits = matches!(slot.state, State::Waiting { wait_until: None, .. });
        waits && slot.edges.locks.iter().any(|lock| !self.unlocks(lock, true))
    }

    /// Whether it waits for one that somebody holds.
    pub(super) fn is_held(&self, slot: &Slot) -> bool {
        let held = |lock: &Lock| self.freedom(&lock.semaphore) == Freedom::Held;
        self.is_locked(slot) && slot.edges.locks.iter().any(held)
    }

    pub(super) fn passes(&self, edge: Edge, patient: bool) -> bool {
        let Some(target) = self.slot(edge.target) else { return edge.kind != EdgeKind::Requires };
        match edge.kind {
            EdgeKind::Requires => self.holds(target, edge.condition),
            EdgeKind::Wants => !patient || self.holds(target, edge.condition) || !is_coming(target),
            EdgeKind::After => !patient || !is_in_motion(target),
        }
    }

    /// Whether `condition` is true of `target`.
    fn holds(&self, target: &Slot, condition: Condition) -> bool {
        match condition {
            // One on its way down serves nobody who is about to start.
            Condition::Ready => target.is_ready() && !target.is_ending(),
            Condition::Healthy => {
                let healthy = target.is_healthy() != Some(false);
                let healthy = healthy || self.bugs.start_beside_the_unhealthy;
                target.is_ready() && !target.is_ending() && healthy
            }
            Condition::Completed => target.has_succeeded(),
            Condition::Started => {
                let started = matches!(
                    target.state,
                    State::Proving { .. } | State::Settling { .. } | State::Running { .. }
                );
                started || (target.is_oneshot() && target.has_succeeded())
            }
        }
    }

    /// Whether nothing that needs `id` stands in the way of its stop: whoever requires it is down,
    /// and whoever is ordered behind it and is being stopped as well is down.
    pub(super) fn is_free(&self, id: ProgramId) -> bool {
        let Some(edges) = self.edges(id) else { return true };
        edges.needed_by.iter().filter_map(|back| Some((back, self.slot(back.from)?))).all(
            |(back, other)| {
                // Of something removed the edges are old: the other side knows better.
                let still = other.edges.needs.iter().any(|edge| edge.target == id);
                !still || !other.is_live() || (back.kind != EdgeKind::Requires && !is_going(other))
            },
        )
    }

    /// Everything that cannot be without `id`, transitively, `id` itself not included.
    pub(super) fn dependants(&self, id: ProgramId) -> Vec<ProgramId> {
        self.closure(id, |slot| {
            let required = slot.edges.needed_by.iter().filter(|b| b.kind == EdgeKind::Requires);
            required.map(|back| back.from).collect()
        })
    }

    /// Everything that `id` requires or wants, transitively, `id` itself not included.
    pub(super) fn needs(&self, id: ProgramId) -> Vec<ProgramId> {
        self.closure(id, |slot| {
            let needed = slot.edges.needs.iter().filter(|edge| edge.kind != EdgeKind::After);
            needed.map(|edge| edge.target).collect()
        })
    }

    fn closure(&self, id: ProgramId, next: impl Fn(&Slot) -> Vec<ProgramId>) -> Vec<ProgramId> {
        let mut seen = std::collections::BTreeSet::from([id]);
        let mut open = vec![id];
        let mut found = Vec::new();
        while let Some(one) = open.pop() {
            let Some(slot) = self.slot(one) else { continue };
            for other in next(slot) {
                if seen.insert(other) {
                    found.push(other);
                    open.push(other);
                }
            }
        }
        found
    }

    /// Whether what requires it must go down: it is down for good, or waits for what is.
    pub(super) fn is_down(&self, slot: &Slot) -> bool {
        let held = |slot: &Slot| matches!(slot.state, State::Waiting { wait_until: None, .. });
        let down = |id: &ProgramId| self.slot(*id).is_some_and(is_down_for_good);
        if !held(slot) {
            return is_down_for_good(slot);
        }
        let requires = |slot: &Slot| {
            let needs = slot.edges.needs.iter().filter(|_| held(slot));
            let required = needs.filter(|edge| edge.kind == EdgeKind::Requires);
            required.map(|edge| edge.target).collect()
        };
        self.closure(slot.id, requires).iter().any(down)
    }

    /// The name of a program, for messages.
    pub(super) fn name_of(&self, id: ProgramId) -> Option<&Name> {
        self.slot(id).map(|slot| &slot.program.name)
    }
}

/// Whether there is hope that it will be ready by itself.
fn is_coming(target: &Slot) -> bool {
    target.goal == Goal::Up
        && match target.word() {
            StateWord::Waiting
            | StateWord::Starting
            | StateWord::Running
            | StateWord::Backoff
            | StateWord::Stopping => true,
            StateWord::Stopped | StateWord::Exited | StateWord::Fatal => false,
        }
}

/// Whether it is between two settled states, so that an order behind it means something.
fn is_in_motion(target: &Slot) -> bool {
    match target.word() {
        StateWord::Waiting | StateWord::Starting | StateWord::Stopping => true,
        StateWord::Running => target.is_oneshot(),
        StateWord::Stopped | StateWord::Backoff | StateWord::Exited | StateWord::Fatal => false,
    }
}

/// Whether it is being stopped, or about to be.
fn is_going(slot: &Slot) -> bool {
    slot.is_ending() || slot.goal != Goal::Up
}

/// Whether what requires it must go down: it failed, or somebody wants it down. One that will come
/// back by itself (BACKOFF, WAITING after a crash) does not take others with it.
pub(super) fn is_down_for_good(slot: &Slot) -> bool {
    match slot.word() {
        StateWord::Fatal | StateWord::Stopped => true,
        StateWord::Exited => !slot.has_succeeded(),
        StateWord::Waiting
        | StateWord::Starting
        | StateWord::Running
        | StateWord::Stopping
        | StateWord::Backoff => false,
    }
}

/// Whether what is needed has to be started: it is not up, or up and to go down.
pub(super) fn has_to_start(slot: &Slot) -> bool {
    !slot.is_ready() || slot.goal != Goal::Up
}

/// Whether a stop would change anything about it.
pub(super) fn can_be_stopped(slot: &Slot) -> bool {
    match slot.word() {
        StateWord::Starting | StateWord::Running => true,
        StateWord::Stopped
        | StateWord::Waiting
        | StateWord::Stopping
        | StateWord::Backoff
        | StateWord::Exited
        | StateWord::Fatal => false,
    }
}

fn in_words(slot: &Slot, condition: Condition) -> String {
    let word = slot.word().as_str().to_ascii_lowercase();
    match (condition, slot.is_ready(), &slot.health) {
        (Condition::Healthy, true, Some(health)) => {
            format!("{} ({word}, {})", slot.program.name, health.in_words())
        }
        _ => format!("{} ({word})", slot.program.name),
    }
}

fn wait_in_words(slot: &Slot, index: usize) -> String {
    use crate::model::Awaited;
    match slot.edges.waits.get(index).map(|wait| &wait.what) {
        Some(Awaited::Network) => "network".to_owned(),
        Some(Awaited::File(path)) => format!("file {}", path.display()),
        Some(Awaited::Tcp(address)) => format!("tcp {address}"),
        Some(Awaited::Socket(path)) => format!("socket {}", path.display()),
        None => "nothing".to_owned(),
    }
}
