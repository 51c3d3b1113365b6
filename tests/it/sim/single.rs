//! Locks of programs that run once at the most, and copies that somebody else has started.

use std::time::Duration;

use mini_supervisor::{
    engine::{Adoptee, Claimed, Event, Role, RunId},
    model::{Instant, OnDuplicate, Signal, SingleInstance},
    plan::ProgramId,
};

use super::{draw::Chance, world::World};

/// How far the world is with the lock of a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lock {
    run: RunId,
    /// It is the program's, and nobody else runs it.
    free: bool,
    /// What runs ends when it is asked, when it is killed, or not at all.
    ends_by: Option<Signal>,
    ending: bool,
    /// There is one copy, and no other.
    one: bool,
}

/// Of some programs.
pub(super) fn draw_single(chance: &mut Chance) -> Option<Box<SingleInstance>> {
    use OnDuplicate::{Adopt, Refuse, Replace};
    chance.is(35).then(|| {
        Box::new(SingleInstance {
            lock_file: None,
            pid_file: None,
            argv: Some("p".into()),
            on_duplicate: chance.of(&[Refuse, Replace, Adopt, Adopt, Adopt]),
        })
    })
}

impl World {
    /// I-1: a lock is taken while nothing of the program lives. It may take long, or for ever.
    pub(super) fn claims(&mut self, id: ProgramId, run: RunId) {
        let alive = self.alive(id).next().map(|(run, p)| (run, p.role));
        self.hold(1, alive.is_none(), || format!("{id:?} is looked for while {alive:?} lives"));
        let wanted = self.settings(id).is_some_and(|of| of.single_instance.is_some());
        self.hold(1, wanted, || format!("{id:?} is locked without a wish"));
        let ends_by = self.chance.of(&[Some(Signal::TERM), Some(Signal::KILL), None]);
        let lock = Lock { run, free: false, ends_by, ending: false, one: false };
        let old = self.locks.insert(id, lock);
        self.hold(1, old.is_none(), || format!("{id:?} is locked twice: {old:?}"));
        self.begins(id);
        let often = self.faults.duplicates;
        let slow = self.chance.is(often);
        if slow && self.chance.is(30) {
            return;
        }
        let what = if self.chance.is(often) {
            self.chance.of(&["taken", "copies", "copies", "copy", "copy", "copy", "copy", "failed"])
        } else {
            "free"
        };
        let what = match what {
            "taken" => Claimed::Taken("somebody has it".into()),
            "copies" => Claimed::Copies("copies run".into()),
            "copy" => Claimed::Copy("a copy runs".into()),
            "failed" => Claimed::Failed("nobody knows".into()),
            _ => Claimed::Free,
        };
        let most = if slow { 60_000 } else { 50 };
        let delay = Duration::from_millis(self.chance.below(most));
        self.at(delay, Event::Claimed { program: id, run, what });
    }

    /// A start begins with this, and goes on as after a command before the program.
    pub(super) fn begins(&mut self, id: ProgramId) {
        let known = &mut self.known[id.index()];
        // It had begun before, and nothing of it came to be before that was in vain: the same start.
        known.cause |= known.prepared && known.runs.is_empty();
        (known.spawned_at, known.prepared) = (self.events, false);
        let hooks = known.settings.as_ref().is_some_and(|of| !of.start_pre.is_empty());
        self.judge_start(id, if hooks { Role::StartPre(0) } else { Role::Main });
        self.known[id.index()].prepared = true;
    }

    /// Before the engine hears of it.
    pub(super) fn before_claimed(&mut self, id: ProgramId, run: RunId, what: &Claimed) {
        if let Some(lock) = self.locks.get_mut(&id).filter(|lock| lock.run == run) {
            // A late look of the same claim is no news.
            lock.free |= *what == Claimed::Free;
            lock.one = matches!(what, Claimed::Copy(_));
            if let Claimed::Adopted(copy) = what {
                self.is_adopted(id, run, copy);
            }
        }
    }

    /// I-57: whoever is adopted is the only copy, and that is wished for. He may be gone by then,
    /// have company, or never be seen again.
    pub(super) fn adopts(&mut self, id: ProgramId, run: RunId) {
        let alive = self.alive(id).next().map(|(run, p)| (run, p.role));
        self.hold(1, alive.is_none(), || format!("a copy of {id:?} is adopted beside {alive:?}"));
        let single = self.settings(id).and_then(|of| of.single_instance.as_ref());
        let wanted = single.is_some_and(|one| one.on_duplicate == OnDuplicate::Adopt);
        let alone = self.locks.get(&id).is_some_and(|lock| lock.run == run && lock.one);
        self.hold(57, wanted && alone, || format!("a copy of {id:?} is adopted unasked"));
        let what = match self.chance.below(20) {
            0 => return,
            1..=2 => Claimed::Free,
            3 => Claimed::Copies("another is there".into()),
            _ => {
                let age = Duration::from_millis(self.chance.below(200_000));
                Claimed::Adopted(Adoptee { pid: self.pid(), age, who: "a copy".into() })
            }
        };
        let delay = Duration::from_millis(self.chance.below(50));
        self.at(delay, Event::Claimed { program: id, run, what });
    }

    /// From now on it counts as an instance.
    fn is_adopted(&mut self, id: ProgramId, run: RunId, copy: &Adoptee) {
        let age = u64::try_from(copy.age.as_nanos()).unwrap();
        self.make(id, run, Role::Main, copy.pid);
        let proc = self.procs.get_mut(&run).unwrap();
        (proc.spawned, proc.adopted, proc.hangs) = (true, true, false);
        let known = &mut self.known[id.index()];
        known.began = Some(Instant(self.now.0.saturating_sub(age)));
        known.prepared = false;
        self.live(Duration::ZERO, run, Role::Main);
    }

    /// I-1: copies are ended only where that is wished for, and before anything of ours lives.
    pub(super) fn ends_copies(&mut self, id: ProgramId, run: RunId, signal: Signal) {
        let alive = self.alive(id).next().map(|(run, p)| (run, p.role));
        self.hold(1, alive.is_none(), || format!("copies of {id:?} end while {alive:?} lives"));
        let Some(lock) = self.locks.get_mut(&id).filter(|lock| lock.run == run) else {
            self.hold(1, false, || format!("copies of {id:?} end by an old look"));
            return;
        };
        let ends = lock.ends_by == Some(Signal::TERM) || lock.ends_by == Some(signal);
        if lock.ending || !ends {
            return;
        }
        // Sometimes it is there again.
        let again = self.chance.is(20);
        let what = if again { Claimed::Copies("another".into()) } else { Claimed::Free };
        if let Some(lock) = self.locks.get_mut(&id) {
            lock.ending = !again;
        }
        let delay = Duration::from_millis(self.chance.below(500));
        self.at(delay, Event::Claimed { program: id, run, what });
    }

    /// I-1: a lock is given back when nothing of the program lives.
    pub(super) fn unclaims(&mut self, id: ProgramId) {
        let alive = self.alive(id).next().map(|(run, p)| (run, p.role));
        self.hold(1, alive.is_none(), || {
            format!("the lock of {id:?} is given back while {alive:?} lives")
        });
        let had = self.locks.remove(&id);
        self.hold(1, had.is_some(), || format!("the lock of {id:?} is given back twice"));
    }

    /// I-1: whoever is spawned is the only one.
    pub(super) fn judge_lock(&mut self, id: ProgramId, role: Role) {
        if let (Role::Main | Role::StartPre(_), Some(lock)) = (role, self.locks.get(&id).copied()) {
            self.hold(1, lock.free, || format!("{id:?} is spawned, and others may run: {lock:?}"));
        }
    }

    /// I-1: a start without its lock.
    pub(super) fn judge_locked(&mut self, id: ProgramId) {
        let wanted = self.settings(id).is_some_and(|of| of.single_instance.is_some());
        let locked = !wanted || self.locks.contains_key(&id);
        self.hold(1, locked, || format!("{id:?} is started without its lock"));
    }

    /// I-1: what is down has no lock: another supervisor may start it.
    pub(super) fn judge_locks(&mut self) {
        let idle = |id: &ProgramId| {
            let slot = self.engine.slot(*id);
            slot.is_none_or(|slot| !slot.is_live() && slot.claim.is_none())
        };
        let kept = self.locks.keys().copied().find(idle);
        self.hold(1, kept.is_none(), || format!("{kept:?} is down and has its lock"));
    }
}
