//! Programs that are not to run while a semaphore is raised.

use super::{Actions, At, Engine, Input, State, StopWhy, gate, semaphore_view::Freedom};
use crate::{
    model::Name,
    plan::{EdgeKind, Lock},
};

impl Engine {
    /// What the semaphore of this name is for programs.
    pub(super) fn freedom(&self, name: &Name) -> Freedom {
        // One that is not in the site holds nobody back: `config` has resolved the names.
        self.semaphores.get(name).map_or(Freedom::Free, super::SemaphoreSlot::freedom)
    }

    /// `semaphore:backup (raised by …)`.
    pub(super) fn lock_in_words(&self, name: &Name) -> String {
        match self.freedom(name) {
            Freedom::Held => {
                let who = self.semaphores.get(name).map(super::SemaphoreSlot::who);
                format!("semaphore:{name} (raised by {})", who.unwrap_or_default())
            }
            Freedom::Free | Freedom::Unknown => format!("semaphore:{name} (it cannot be told)"),
        }
    }

    /// Those that wait for a semaphore may start by now, and those that cannot run beside it stop.
    pub(super) fn look_at_lock(&mut self, name: &Name, at: At, out: &mut Actions) {
        let held = self.freedom(name) == Freedom::Held;
        for id in self.ids() {
            let Some(slot) = self.slot(id) else { continue };
            let mut locks = slot.edges.locks.iter().filter(|lock| lock.semaphore == *name);
            let Some(first) = locks.next() else { continue };
            let needs = |lock: &Lock| lock.kind == EdgeKind::Requires;
            let needs = needs(first) || locks.any(needs);
            if matches!(slot.state, State::Waiting { wait_until: None, .. }) {
                self.touched.push(id);
            } else if held && needs && gate::can_be_stopped(slot) {
                self.step(id, Input::Stop(StopWhy::Lock), at, out);
            }
        }
    }
}
