//! A new site for a running machine: only what changed is touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Action, Actions, At, Engine, Goal, Input, Record, State, StopWhy, What, gate::has_to_start,
};
use crate::{
    control::{Difference, Refusal, RefusalCode, Reply, RequestId},
    model::{Control, Name, Site},
    plan::{
        Back, Plan, ProgramId,
        reload::{Change, change},
    },
};

/// The settings that only a new socket has.
fn of_socket(control: &Control) -> impl PartialEq + '_ {
    let Control { socket, owner, group, mode, access: _ } = control;
    (socket, owner, group, mode)
}

/// How many mistakes of a refused site are in the log.
const MISTAKES_MAX: usize = 20;

/// One line each; a hint on a line of its own belongs to the line before.
fn mistakes(why: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for line in why.lines().filter(|line| !line.trim().is_empty()) {
        match (line.strip_prefix("hint: "), all.last_mut()) {
            (Some(hint), Some(last)) => *last = format!("{last} (hint: {hint})"),
            _ => all.push(line.to_owned()),
        }
    }
    if all.is_empty() {
        all.push("the site file is invalid".to_owned());
    }
    all
}

/// How a reload was asked for.
pub(super) struct Order {
    pub(super) request: Option<RequestId>,
    pub(super) dry_run: bool,
    pub(super) allow_removal: bool,
    pub(super) warnings: Vec<String>,
}

impl Engine {
    pub(super) fn not_loaded(request: Option<RequestId>, why: &str, out: &mut Actions) {
        Self::refuse_reload(request, RefusalCode::InvalidSite, why, out);
    }

    fn refuse_reload(request: Option<RequestId>, code: RefusalCode, why: &str, out: &mut Actions) {
        let mistakes = mistakes(why);
        let more = mistakes.len().saturating_sub(MISTAKES_MAX);
        for why in mistakes.into_iter().take(MISTAKES_MAX) {
            out.record(Record::site(What::NotReloaded { why: why.into() }));
        }
        if more > 0 {
            let why = format!("and {more} more mistakes; see supervisor check").into();
            out.record(Record::site(What::NotReloaded { why }));
        }
        if let Some(id) = request {
            out.reply(
                id,
                Reply::Error(Refusal {
                    code,
                    message: why.to_owned(),
                    hint: Some("nothing was changed; the site goes on as it was".to_owned()),
                }),
            );
        }
    }

    pub(super) fn loaded(&mut self, site: &Site, order: &Order, at: At, out: &mut Actions) {
        if let Some(refusal) = self.refusal_while_stopping() {
            if let Some(id) = order.request {
                out.reply(id, refusal);
            }
            return;
        }
        let plan = Plan::new(site, &self.names);
        let mut difference = self.difference(&plan);
        difference.dry_run = order.dry_run;
        difference.warnings.clone_from(&order.warnings);
        if let Some(why) = self.removes_too_much(&difference, order) {
            if self.bugs.apply_what_is_refused {
                self.apply(plan, at, out);
            }
            return Self::refuse_reload(order.request, RefusalCode::Failed, &why, out);
        }
        if !order.dry_run {
            let counts = What::Reloaded {
                added: difference.added.len(),
                removed: difference.removed.len(),
                restarted: difference.restarted.len(),
                changed: difference.live.len() + difference.next_start.len(),
            };
            // First, so that nothing starts beside a lock that is new.
            let effects = self.renew_semaphores(site, at, out);
            self.apply(plan, at, out);
            self.semaphores_renewed(effects, at, out);
            out.record(Record::site(counts));
        }
        if let Some(id) = order.request {
            out.reply(id, Reply::Reloaded(Box::new(difference)));
        }
    }

    /// A half-written file is valid half of the time (N8): losing most of what runs needs a word.
    fn removes_too_much(&self, difference: &Difference, order: &Order) -> Option<String> {
        let live = self.programs().filter(|slot| slot.is_live()).count();
        let gone = self
            .programs()
            .filter(|slot| slot.is_live())
            .filter(|slot| difference.removed.iter().any(|n| n == slot.program.name.as_str()))
            .count();
        let refuse = !order.dry_run && !order.allow_removal && gone >= 2 && gone * 2 > live;
        refuse.then(|| {
            format!(
                "the new site has no more place for {gone} of {live} running programs ({}); \
                 if that is meant: supervisor reload --allow-removal",
                difference.removed.join(", ")
            )
        })
    }

    /// What `plan` changes.
    fn difference(&self, plan: &Plan) -> Difference {
        let mut difference = Difference::default();
        let mut kept = BTreeSet::new();
        for planned in &plan.programs {
            kept.insert(planned.id);
            let name = planned.program.name.as_str().to_owned();
            let Some(slot) = self.slot(planned.id).filter(|slot| slot.goal != Goal::Gone) else {
                difference.added.push(name);
                continue;
            };
            let (kind, keys) = change(&slot.program, &planned.program);
            let keys = keys.into_iter().map(str::to_owned).collect();
            match kind {
                Change::None => {}
                Change::Live => difference.live.push((name, keys)),
                Change::Restart if slot.is_live() => difference.restarted.push((name, keys)),
                Change::NextStart | Change::Restart => difference.next_start.push((name, keys)),
            }
        }
        let gone = |slot: &&super::Slot| !kept.contains(&slot.id) && slot.goal != Goal::Gone;
        difference.removed =
            self.programs().filter(gone).map(|s| s.program.name.as_str().to_owned()).collect();
        let (old, new) = (&*self.supervisor, &*plan.supervisor);
        for (key, differs) in [
            ("control", of_socket(&old.control) != of_socket(&new.control)),
            ("runtime_dir", old.runtime_dir != new.runtime_dir),
            ("state_dir", old.state_dir != new.state_dir),
            ("name", old.name != new.name),
            ("pid_file", old.pid_file != new.pid_file),
            ("lock_memory", old.lock_memory != new.lock_memory),
        ] {
            if differs {
                difference.supervisor.push(key.to_owned());
            }
        }
        let live = [
            ("control.access", old.control.access != new.control.access),
            ("log", old.log != new.log),
            ("shm", self.shm != plan.shm),
        ];
        let live: Vec<String> =
            live.iter().filter(|(_, differs)| *differs).map(|(key, _)| (*key).to_owned()).collect();
        if !live.is_empty() {
            difference.live.push(("supervisor".to_owned(), live));
        }
        difference
    }

    fn apply(&mut self, plan: Plan, at: At, out: &mut Actions) {
        self.supervisor = plan.supervisor;
        self.shm = plan.shm;
        let bugs = self.bugs;
        let mut kept = BTreeSet::new();
        let mut starting = Vec::new();
        let mut stopping = Vec::new();
        for planned in plan.programs {
            let id = planned.id;
            kept.insert(id);
            let Some(slot) = self.slot_mut(id) else {
                let starts = planned.program.enabled && planned.program.autostart;
                self.add(planned, (at.now, at.wall));
                if starts {
                    starting.push(id);
                }
                continue;
            };
            let (mut kind, _) = change(&slot.program, &planned.program);
            if bugs.restart_unchanged || (bugs.restart_live_changes && kind == Change::Live) {
                kind = Change::Restart;
            }
            let was_enabled = slot.program.enabled;
            let keep = bugs.keep_settings && kind == Change::NextStart;
            let other_waits = slot.renew(planned, keep);
            let autostart = slot.program.enabled && slot.program.autostart;
            if slot.goal == Goal::Gone {
                // It was removed, is not down yet, and is wanted again.
                slot.goal = Goal::Down;
                if autostart {
                    starting.push(id);
                }
            } else if autostart && !was_enabled {
                starting.push(id);
            }
            let disabled = !slot.program.enabled;
            if disabled && slot.goal == Goal::Up {
                slot.goal = Goal::Down;
            }
            let restarts = kind == Change::Restart && slot.is_live();
            if restarts || (disabled && !matches!(slot.state, State::Stopped)) {
                stopping.push(id);
            } else if kind == Change::Restart && matches!(slot.state, State::Fatal { .. }) {
                // Given up with its old settings: the new ones get their chance.
                slot.history.starts.clear();
                slot.history.failures = 0;
                starting.push(id);
            }
            if kind != Change::None || bugs.reconfigure_unchanged {
                out.push(Action::Reconfigure(id));
            }
            // Its deadline may follow from what changed.
            self.with(id, at, out, |slot, cx| slot.edges_changed(other_waits, cx));
        }
        self.remove_others(&kept, at, out);
        for id in stopping {
            self.step(id, Input::Stop(StopWhy::Changed), at, out);
        }
        let needs: Vec<ProgramId> = starting.iter().flat_map(|id| self.needs(*id)).collect();
        let needed = needs.into_iter().filter(|id| self.slot(*id).is_some_and(has_to_start));
        starting.extend(needed.collect::<Vec<_>>());
        self.start_all(starting, at, out);
    }

    fn remove_others(&mut self, kept: &BTreeSet<ProgramId>, at: At, out: &mut Actions) {
        let gone: Vec<ProgramId> = self.ids().into_iter().filter(|id| !kept.contains(id)).collect();
        for id in &gone {
            if let Some(slot) = self.slot_mut(*id) {
                slot.goal = Goal::Gone;
            }
        }
        self.remember_order(&gone);
        for id in gone {
            self.step(id, Input::Stop(StopWhy::Removed), at, out);
        }
    }

    /// What is being removed is no longer in the plan, but what it needs stays until it is down.
    fn remember_order(&mut self, gone: &[ProgramId]) {
        for id in gone {
            let needs = self.slot(*id).map(|slot| slot.edges.needs.clone()).unwrap_or_default();
            for edge in needs {
                let Some(slot) = self.slot_mut(edge.target) else { continue };
                let back = Back { from: *id, kind: edge.kind };
                if !slot.edges.needed_by.contains(&back) {
                    slot.edges.needed_by =
                        slot.edges.needed_by.iter().copied().chain([back]).collect();
                }
            }
        }
    }

    /// The names that a reload would keep their ids for; for tests.
    #[must_use]
    pub fn known(&self) -> &BTreeMap<Name, ProgramId> {
        &self.names
    }

    /// The settings of a program, shared.
    #[must_use]
    pub fn program(&self, id: ProgramId) -> Option<Arc<crate::model::Program>> {
        self.slot(id).map(|slot| Arc::clone(&slot.program))
    }
}
