//! The site in one line, and whether it has come up: what whoever started us is told.

use std::collections::BTreeSet;

use super::{Engine, Goal, Slot, State};
use crate::{
    control::StateWord,
    model::{Instant, ReadyWhen, WallTime},
    plan::ProgramId,
};

/// So many programs of a kind are named; the others are counted.
const NAMED: usize = 3;

impl Engine {
    /// The site in one line: `9/10 running; backoff: cam2 (next at 10:15:32Z)`. What has ended well
    /// and is to stay so is not counted.
    #[must_use]
    pub fn summary(&self, now: Instant, wall: WallTime) -> String {
        let counted: Vec<&Slot> = self.programs().filter(|slot| is_counted(slot)).collect();
        if self.phase_word() != "up" {
            let left: Vec<&Slot> = counted.iter().copied().filter(|slot| slot.is_live()).collect();
            return match left.len() {
                0 => "stopping".to_owned(),
                n => format!("stopping; {n} left: {}", names(&left, |_| None)),
            };
        }
        let running = counted.iter().filter(|slot| slot.is_ready()).count();
        let mut parts: Vec<String> = self.host_end_in_words(now).into_iter().collect();
        parts.push(format!("{running}/{} running", counted.len()));
        for (word, kind) in [
            ("fatal", StateWord::Fatal),
            ("backoff", StateWord::Backoff),
            ("exited", StateWord::Exited),
            ("waiting", StateWord::Waiting),
            ("starting", StateWord::Starting),
            ("stopping", StateWord::Stopping),
        ] {
            let of_kind = |slot: &&Slot| stands_as(slot) == kind;
            let some: Vec<&Slot> = counted.iter().copied().filter(of_kind).collect();
            if !some.is_empty() {
                let named = names(&some, |slot| next(slot, now, wall));
                parts.push(format!("{word}: {named}"));
            }
        }
        parts.join("; ")
    }

    /// Whether the site counts as up.
    #[must_use]
    pub fn has_come_up(&self, when: ReadyWhen) -> bool {
        when == ReadyWhen::Up || self.unsettled().next().is_none()
    }

    /// Whether something that has not come up yet is on its way: its start has begun, or what it
    /// waits for has a limit.
    #[must_use]
    pub fn is_coming_up(&self) -> bool {
        let under_way = |slot: &Slot| stands_as(slot) == StateWord::Starting;
        // A wait without a limit has the last moment of all.
        let has_end = |slot: &Slot| slot.deadline().is_some_and(|at| at.0 != u64::MAX);
        let tidying = self.tidy_deadline().is_some();
        self.unsettled().any(|slot| tidying || under_way(slot) || has_end(slot))
    }

    /// Programs that are to be up, have never failed, and are not ready; without those that wait
    /// for one that has failed, or for somebody who holds a lock.
    fn unsettled(&self) -> impl Iterator<Item = &Slot> {
        let open = |slot: &&Slot| slot.goal == Goal::Up && !slot.is_ready() && !has_failed(slot);
        let is_open = self.programs().any(|slot| open(&slot));
        let held = if is_open { self.held_by_failures() } else { BTreeSet::new() };
        self.programs().filter(open).filter(move |slot| !held.contains(&slot.id))
    }

    /// Programs that wait for one that has failed, or for one that does so itself.
    fn held_by_failures(&self) -> BTreeSet<ProgramId> {
        let mut held = BTreeSet::new();
        loop {
            let before = held.len();
            let stuck = |id: &ProgramId| {
                held.contains(id)
                    || self.slot(*id).is_some_and(|slot| !slot.is_ready() && has_failed(slot))
            };
            let more: Vec<ProgramId> = self
                .programs()
                .filter(|slot| self.closed_gates(slot).any(|id| stuck(&id)) || self.is_held(slot))
                .map(|slot| slot.id)
                .collect();
            held.extend(more);
            if held.len() == before {
                return held;
            }
        }
    }

    /// The programs that keep `slot` waiting.
    fn closed_gates(&self, slot: &Slot) -> impl Iterator<Item = ProgramId> {
        let patient = if let State::Waiting { wait_until: None, patient, .. } = slot.state {
            Some(patient)
        } else {
            None
        };
        let needs = slot.edges.needs.iter().filter(move |_| patient.is_some());
        let closed = needs.filter(move |edge| !self.passes(**edge, patient == Some(true)));
        closed.map(|edge| edge.target)
    }
}

/// Its state, where a command that is to end is starting until it has.
fn stands_as(slot: &Slot) -> StateWord {
    let word = slot.word();
    if word == StateWord::Running && slot.is_oneshot() { StateWord::Starting } else { word }
}

/// Whether it has ended or could not be started, at least once.
fn has_failed(slot: &Slot) -> bool {
    let over = matches!(slot.word(), StateWord::Backoff | StateWord::Exited | StateWord::Fatal);
    over || slot.history.exit.is_some() || slot.history.failures > 0
}

/// Whether it is to be up, or still is.
fn is_counted(slot: &Slot) -> bool {
    (slot.goal == Goal::Up || slot.is_live()) && !slot.has_succeeded()
}

fn names(slots: &[&Slot], about: impl Fn(&Slot) -> Option<String>) -> String {
    let one = |slot: &&Slot| match about(slot) {
        Some(about) => format!("{} ({about})", slot.program.name),
        None => slot.program.name.to_string(),
    };
    let mut all: Vec<String> = slots.iter().take(NAMED).map(one).collect();
    if let Some(more) = slots.len().checked_sub(NAMED).filter(|more| *more > 0) {
        all.push(format!("and {more} more"));
    }
    all.join(", ")
}

/// When it is started again. As a time of day: a line that says "in 12s" is wrong a second later.
fn next(slot: &Slot, now: Instant, wall: WallTime) -> Option<String> {
    let (State::Backoff { .. } | State::Fatal { .. }) = slot.state else { return None };
    let at = slot.deadline()?;
    let ms = i64::try_from(at.since(now).as_millis()).unwrap_or(i64::MAX);
    let next = WallTime(wall.0.saturating_add(ms));
    let stamp = next.rfc3339();
    let time =
        if next.civil_day() == wall.civil_day() { stamp.get(11..19) } else { stamp.get(..19) };
    Some(format!("next at {}Z", time?))
}
