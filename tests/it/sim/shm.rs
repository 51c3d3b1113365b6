//! Who removes files from /dev/shm in the world, and that nobody who may use them lives meanwhile.

use std::time::Duration;

use mini_supervisor::{
    engine::{Event, RunId},
    model::{ShmMoment, ShmRule},
    plan::ProgramId,
};

use super::{draw::Chance, world::World};

/// A rule for some moments.
pub(super) fn draw_rule(chance: &mut Chance) -> ShmRule {
    let all: [&[ShmMoment]; 3] =
        [&[ShmMoment::Before], &[ShmMoment::After], &[ShmMoment::Before, ShmMoment::After]];
    ShmRule {
        remove: Box::new(["abc*".into()]),
        when: chance.of(&all).into(),
        owner: 0,
        older_than: None,
        dry_run: false,
    }
}

impl World {
    /// I-19: files are removed while nobody lives who may use them. It may take long, or for ever.
    pub(super) fn tidies(&mut self, program: Option<ProgramId>, run: RunId, moment: ShmMoment) {
        let ids: Vec<ProgramId> = match program {
            Some(id) => vec![id],
            None => self.ids.values().copied().collect(),
        };
        let alive = ids.iter().find_map(|id| self.alive(*id).next().map(|(run, p)| (run, p.role)));
        self.hold(19, alive.is_none(), || format!("files of {program:?} go while {alive:?} lives"));
        let rule = match program {
            Some(id) => self
                .settings(id)
                .is_some_and(|of| of.shm.as_deref().is_some_and(|rule| rule.applies(moment))),
            None => self.site.shm.values().any(|rule| rule.applies(moment)),
        };
        self.hold(19, rule, || format!("files of {program:?} go without a rule for {moment:?}"));
        self.sweeps.insert(run, (program, moment));
        if let (Some(id), ShmMoment::Before) = (program, moment)
            && !self.locks.contains_key(&id)
        {
            self.begins(id);
        }
        if self.chance.is(self.faults.slow_shm) && self.chance.is(30) {
            return;
        }
        let most = if self.chance.is(self.faults.slow_shm) { 60_000 } else { 50 };
        let delay = Duration::from_millis(self.chance.below(most));
        self.at(delay, Event::Tidied { program, run });
    }

    /// What is at files that are this program's.
    pub(super) fn sweep_of(&self, id: ProgramId) -> Option<RunId> {
        let own = |of: &Option<ProgramId>| of.is_none_or(|of| of == id);
        self.sweeps.iter().find(|(_, (of, _))| own(of)).map(|(run, _)| *run)
    }

    /// I-19, the other half: nobody is spawned while files go that are his.
    pub(super) fn judge_shm(&mut self, id: ProgramId) {
        let sweep = self.sweep_of(id);
        self.hold(19, sweep.is_none(), || format!("{id:?} is spawned while files go: {sweep:?}"));
    }
}
