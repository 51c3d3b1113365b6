//! New sites for the engine: what they may touch, and that a refused one changes nothing.

use std::{collections::BTreeMap, sync::Arc};

use mini_supervisor::{
    engine::{
        Action, Actions, ChildEvent, Engine, Event, Record, Role, RunId, SemaphoreNews, State, What,
    },
    model::{Deed, Name, Program, ReadyBy, Site, WallTime},
    plan::ProgramId,
};

use serde::de::IgnoredAny;

use super::world::World;

/// What the world remembers over a reload.
pub(super) struct Before {
    site: Arc<Site>,
    /// A deadline is due at this very moment: whatever is asked first acts on it.
    due: bool,
    /// Programs that run and have nothing to do with what changed.
    apart: Vec<(ProgramId, RunId)>,
}

/// How much there is of what the engine keeps.
#[derive(serde::Deserialize)]
struct Shape {
    slots: Vec<IgnoredAny>,
    names: BTreeMap<String, u32>,
    deadlines: Vec<IgnoredAny>,
    operations: BTreeMap<u64, Kept>,
}

/// One entry of that.
#[derive(serde::Deserialize)]
struct Kept {
    targets: Vec<IgnoredAny>,
}

/// Whether these settings cannot be changed under a running program, by the manual.
fn needs_restart(old: &Program, new: &Program) -> bool {
    old.template != new.template
        || old.kind != new.kind
        || old.command != new.command
        || (old.readiness != new.readiness && (is_heard(old) || is_heard(new)))
        || old.watchdog != new.watchdog
        || old.execution != new.execution
        || old.runtime_directory != new.runtime_directory
        || old.state_directory != new.state_directory
        || old.variants != new.variants
        || (old.enabled && !new.enabled)
}

/// Whether it says itself that it is ready: who is only looked at need not know of other settings.
fn is_heard(of: &Program) -> bool {
    of.readiness.as_ref().is_some_and(|of| !matches!(of.by, ReadyBy::Probe { .. }))
}

fn has(out: &Actions, is: impl Fn(&What) -> bool) -> bool {
    let record = |a: &Action| matches!(a, Action::Record(Record { what, .. }) if is(what));
    out.as_slice().iter().any(record)
}

impl World {
    /// Who must not be touched by this site, should it be accepted.
    pub(super) fn before_reload(&mut self, site: &Arc<Site>) -> Before {
        let mut touched = Vec::new();
        for id in self.ids.values() {
            let known = &self.known[id.index()];
            let Some(old) = &known.settings else { continue };
            let new = site.programs.get(&old.name);
            let apart = new.is_some_and(|new| {
                Arc::ptr_eq(new, old) || (!needs_restart(old, new) && old.requires == new.requires)
            });
            if !apart || !known.member {
                touched.push(*id);
            }
        }
        let bound = self.bound_to(touched);
        let running = |id: &ProgramId| match self.engine.slot(*id)?.state {
            State::Running { life } => Some((*id, life.run)),
            _ => None,
        };
        let ids = self.ids.values().filter(|id| !bound.contains(id));
        let apart = ids.filter_map(running).collect();
        Before { site: Arc::clone(site), due: self.is_due(), apart }
    }

    /// I-13, I-14, then: new settings; promises of the old ones are over.
    pub(super) fn after_reload(&mut self, before: &Before, out: &Actions) {
        if !has(out, |what| matches!(what, What::Reloaded { .. })) {
            return;
        }
        if Arc::ptr_eq(&before.site, &self.site) || before.site == self.site {
            let many = out.as_slice().iter().filter(|a| !matches!(a, Action::Reply(..))).count();
            self.hold(13, many == 1 || before.due, || {
                format!("an equal site does {:?}", out.as_slice())
            });
            return;
        }
        let named = |id: ProgramId, main: RunId| {
            // Another look at its health is not for it to notice.
            let of = |a: &Action| match a {
                Action::Spawn(spawn) => {
                    spawn.program == id && !matches!(spawn.role, Role::Probe(_))
                }
                Action::Signal { program, run, .. } => *program == id && *run == main,
                _ => false,
            };
            out.as_slice().iter().any(of)
        };
        let mut asked = self.asked_by_semaphores(&before.site, out);
        asked.extend(self.ids.values().filter(|id| self.has_lock(**id)));
        let asked = self.bound_to(asked);
        for (id, run) in before.apart.iter().filter(|(id, _)| !asked.contains(id)) {
            let same = self.engine.slot(*id).is_some_and(
                |slot| matches!(slot.state, State::Running { life } if life.run == *run),
            );
            let good = same && !named(*id, *run);
            self.hold(14, good, || format!("{id:?} is touched by a reload that is not its own"));
        }
        self.accept(&before.site);
    }

    /// Programs of semaphores that do, by the new settings, what was asked for before.
    fn asked_by_semaphores(&self, site: &Site, out: &Actions) -> Vec<ProgramId> {
        let acts = |action: &Action| match action {
            Action::Record(Record {
                what: What::Semaphore { name, news: SemaphoreNews::Acted { .. } },
                ..
            }) => match &site.semaphores.get(name)?.deed {
                Deed::Restart(program) | Deed::Stop(program) => self.ids.get(program).copied(),
                Deed::Reload | Deed::EndHost(_) | Deed::Nothing => None,
            },
            _ => None,
        };
        out.as_slice().iter().filter_map(acts).collect()
    }

    fn accept(&mut self, site: &Arc<Site>) {
        self.site = Arc::clone(site);
        let mut starting = Vec::new();
        let mut touched = Vec::new();
        for (name, id) in self.engine.names() {
            self.ids.insert(name.clone(), *id);
            if self.known.len() <= id.index() {
                self.known.resize_with(id.index() + 1, Default::default);
            }
            let known = &mut self.known[id.index()];
            let Some(new) = site.programs.get(name) else {
                touched.push(*id);
                (known.member, known.wanted) = (false, false);
                continue;
            };
            let was_member = std::mem::replace(&mut known.member, true);
            let old = known.settings.replace(Arc::clone(new));
            let restarts = old.as_ref().is_some_and(|old| needs_restart(old, new));
            let enabled = old.as_ref().is_some_and(|old| old.enabled) && was_member;
            let differs = old.as_ref().is_none_or(|old| !Arc::ptr_eq(old, new) && old != new);
            if new.enabled && new.autostart && !enabled {
                starting.push(*id);
            }
            known.cause |= restarts;
            if differs {
                touched.push(*id);
                known.starts.clear();
                for run in &known.runs {
                    if let Some(p) = self.procs.get_mut(run) {
                        p.changed = true;
                        // How long it may take from its exec on is no longer known.
                        if p.foreseen && !p.spawned {
                            (p.stop_by, p.foreseen) = (None, false);
                        }
                    }
                }
            }
            if !new.enabled {
                (known.wanted, known.done, known.rests) = (false, false, false);
            } else if restarts && known.given_up && known.retry_at.is_none_or(|at| at > self.now) {
                (known.failures, known.given_up) = (0, false);
                starting.push(*id);
            }
        }
        self.relate();
        self.other_semaphores();
        self.put_off(&touched);
        self.bring_up(&starting, false);
        self.excuse(touched);
    }

    /// Who is being stopped by other settings now gets both times, in the worst case.
    fn put_off(&mut self, touched: &[ProgramId]) {
        for id in touched {
            let wait = self.patience(*id) + self.command_patience(*id);
            for run in self.known[id.index()].runs.clone() {
                let Some(p) = self.procs.get_mut(&run) else { continue };
                p.stop_by = p.stop_by.map(|old| old + wait);
            }
        }
    }

    /// I-3, I-12, I-47, I-48, I-56: a run that never was, and a site that is refused, change nothing.
    pub(super) fn nothing_new(&mut self) {
        if self.is_due() {
            return;
        }
        let Some(program) = self.engine.names().values().next().copied() else { return };
        let before = self.written();
        let run = RunId(u64::MAX);
        let exit = mini_supervisor::model::Exit::Code(0);
        for what in [ChildEvent::Exited(exit), ChildEvent::TreeEmpty, ChildEvent::Reaped] {
            self.idle = Some(3);
            self.give(Event::Child { program, run, what });
            self.idle = None;
        }
        let same = self.written() == before;
        self.hold(3, same, || "an unknown run changed something".to_owned());
        self.give(Event::NotLoaded { request: None, why: "bad".to_owned() });
        let changed = Arc::new(super::draw::change_site(&self.site, &mut self.chance));
        self.give(loaded(changed, true));
        let dropped = self.removal();
        let same = self.written() == before;
        self.hold(12, same, || format!("a bad file, a dry run or one without {dropped:?} counts"));
        self.round_trip(&before);
    }

    /// A site that drops most of what runs, which is refused; whom it drops.
    fn removal(&mut self) -> Vec<ProgramId> {
        let swept = |id: ProgramId| self.sweeps.values().any(|(of, _)| *of == Some(id));
        // What waits for room has its lock, and nothing lives of it.
        let claims = |id: ProgramId| {
            self.locks.contains_key(&id) && self.known[id.index()].no_room.is_none()
        };
        let begun = |id: ProgramId| swept(id) || claims(id);
        let live = |id: &&ProgramId| self.alive(**id).next().is_some() || begun(**id);
        let live: Vec<ProgramId> = self.ids.values().filter(live).copied().collect();
        let keep = self.chance.below(3);
        let mut site = Site::clone(&self.site);
        let names: Vec<Name> = site.programs.keys().cloned().collect();
        for name in names.iter().skip(usize::try_from(keep).unwrap()) {
            site.programs.remove(name);
        }
        let dropped = |id: &&ProgramId| {
            let known = &self.known[id.index()];
            let name = known.settings.as_ref().map(|s| &s.name);
            known.member && name.is_some_and(|name| !site.programs.contains_key(name))
        };
        let gone: Vec<ProgramId> = live.iter().filter(dropped).copied().collect();
        if self.stopping.is_some() || gone.len() < 2 || gone.len() * 2 <= live.len() {
            return Vec::new();
        }
        self.held[12] += 1;
        self.give(loaded(Arc::new(site), false));
        gone
    }

    fn written(&self) -> String {
        serde_json::to_string(&self.engine).unwrap()
    }

    /// I-47, I-48, I-56: the engine survives being written and read, and is not more than it has
    /// to be.
    fn round_trip(&mut self, text: &str) {
        let engine: Engine = serde_json::from_str(text).unwrap();
        let same = serde_json::to_string(&engine).unwrap() == text;
        self.hold(56, same, || "a round trip changes the engine".to_owned());
        self.engine = engine;
        let shape: Shape = serde_json::from_str(text).unwrap();
        let programs = self.engine.names().len();
        let (deadlines, slots) = (shape.deadlines.len(), shape.slots.len());
        let bounded = deadlines <= programs && slots <= 64 && shape.names.len() == programs;
        self.hold(47, bounded, || format!("{deadlines} deadlines, {slots} slots of {programs}"));
        let targets = shape.operations.values().all(|of| of.targets.len() <= 64);
        let kept = shape.operations.len();
        let open = self.open.values().filter(|kept| **kept).count();
        self.hold(48, kept == open && targets, || {
            format!("{kept} operations of {open} open requests")
        });
    }

    /// Whether a deadline is due by now: whatever comes first acts on it.
    pub(super) fn is_due(&self) -> bool {
        self.engine.next_deadline().is_some_and(|at| at <= self.now)
    }

    /// I-13: an equal site changes nothing.
    pub(super) fn same_site(&mut self) {
        if self.stopping.is_some() || self.is_due() {
            return;
        }
        let mut out = Actions::new();
        let event = loaded(Arc::clone(&self.site), false);
        self.engine.handle(event, self.now, WallTime(self.wall), &mut out);
        let only = out.as_slice().len();
        self.hold(13, only == 1, || format!("an equal site does {:?}", out.as_slice()));
    }
}

fn loaded(site: Arc<Site>, dry_run: bool) -> Event {
    let (request, warnings) = (None, Vec::new());
    Event::Loaded { request, site, dry_run, allow_removal: false, warnings }
}
