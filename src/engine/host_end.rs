//! The way to the end of the host: the programs go, then one method after the other is tried.
//!
//! ```text
//!   Stopping ──► Killing ──► Trying ──► Waiting      accepted; is it still up?
//!                              ▲  ▲ failed  │
//!                              │  └─────────┴──► the next method
//!                              └── Retrying ◄─── none is left; the programs are started again
//! ```

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Action, Actions, At, Engine, Goal, HostNews, HostStep, Input, Record, RunId, SemaphoreNews,
    SiteStop, Slot, State, StopWhy, What, site::Phase,
};
use crate::{
    model::{HostEnd, HostGoal, Instant, Method, Name},
    plan::ProgramId,
};

/// The exit code of a container whose host would reboot (sysexits.h, `EX_TEMPFAIL`): its restart
/// policy makes it anew.
const RECREATE: u8 = 75;

/// The host is to go down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct GoingDown {
    end: Arc<HostEnd>,
    /// The semaphore that asked.
    by: Name,
    stage: Stage,
    /// Programs that were up and are not, for its sake.
    stopped: Vec<ProgramId>,
    /// One of the methods has accepted.
    accepted: bool,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// The programs are told to end.
    Stopping { kill_at: Instant },
    /// They were killed.
    Killing { go_at: Instant },
    /// This method is asked.
    Trying { method: usize, run: RunId, until: Instant },
    /// It has accepted.
    Waiting { method: usize, until: Instant },
    /// None has worked.
    Retrying { at: Instant },
}

impl GoingDown {
    fn deadline(&self) -> Instant {
        match self.stage {
            Stage::Stopping { kill_at } => kill_at,
            Stage::Killing { go_at } => go_at,
            Stage::Trying { until, .. } | Stage::Waiting { until, .. } => until,
            Stage::Retrying { at } => at,
        }
    }

    fn method(&self, index: usize) -> Option<Method> {
        self.end.methods.get(index).copied()
    }

    fn word(&self, index: usize) -> &'static str {
        self.method(index).map_or("", |method| method.as_str(self.end.goal))
    }

    fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Retrying { .. })
    }
}

impl Engine {
    /// What a semaphore asks for.
    pub(super) fn end_host(&mut self, by: &Name, end: &Arc<HostEnd>, at: At, out: &mut Actions) {
        if let Some(other) = &self.going_down
            && other.is_under_way()
            && (end.stops_programs || !other.end.stops_programs)
        {
            let why = format!("semaphore:{} has begun a {} already", other.by, other.end.goal);
            let (deed, why) = (end.goal.as_str().into(), why.into());
            let news = SemaphoreNews::NotDone { deed, why };
            return out.record(Record::site(What::Semaphore { name: by.clone(), news }));
        }
        if end.dry_run {
            let programs = if end.stops_programs { self.up().len() } else { 0 };
            let methods = end.in_words().into();
            self.host_news(by, end.goal, HostStep::Would { programs, methods }, out);
            return self.host_accepted(by, out);
        }
        if self.is_contained {
            return self.end_container(by, end.goal, at, out);
        }
        let before = self.going_down.take();
        Self::leave_method(before.as_ref(), out);
        let stopped = before.map(|before| before.stopped).unwrap_or_default();
        let (end, by) = (Arc::clone(end), by.clone());
        let stage = Stage::Retrying { at: at.now };
        self.going_down = Some(GoingDown { end, by, stage, stopped, accepted: false });
        self.stop_for_host(at, out);
    }

    /// In a container nothing but its own end is ours.
    fn end_container(&mut self, by: &Name, goal: HostGoal, at: At, out: &mut Actions) {
        let (why, code) = match goal {
            HostGoal::Reboot => (SiteStop::Reboot, RECREATE),
            HostGoal::PowerOff => (SiteStop::PowerOff, 0),
        };
        self.host_news(by, goal, HostStep::Contained { code }, out);
        self.host_accepted(by, out);
        self.end_site(why, code, at, out);
    }

    /// The programs first, unless it is an emergency.
    fn stop_for_host(&mut self, at: At, out: &mut Actions) {
        let up = self.up();
        let (budget, last, live) = (self.budget(), self.last_wait(), self.live());
        let Some(down) = &mut self.going_down else { return };
        if !down.end.stops_programs || (up.is_empty() && live == 0) {
            return self.try_method(0, at, out);
        }
        down.stage = Stage::Stopping { kill_at: at.now + budget.saturating_sub(last) };
        down.stopped.extend(up.iter().copied());
        let (by, goal) = (down.by.clone(), down.end.goal);
        let step = HostStep::Stopping { programs: up.len(), within: budget };
        self.host_news(&by, goal, step, out);
        let ids = self.ids();
        for id in &ids {
            if let Some(slot) = self.slot_mut(*id).filter(|slot| slot.goal == Goal::Up) {
                slot.goal = Goal::Down;
            }
        }
        for id in ids {
            self.step(id, Input::Stop(StopWhy::HostEnd), at, out);
        }
    }

    /// Programs that run, or would run again by themselves.
    fn up(&self) -> Vec<ProgramId> {
        let is_up = |slot: &&Slot| {
            let waits = matches!(slot.state, State::Waiting { .. });
            slot.goal == Goal::Up && (slot.is_live() || waits || slot.deadline().is_some())
        };
        self.programs().filter(is_up).map(|slot| slot.id).collect()
    }

    /// After each event: whether the programs are down by now.
    pub(super) fn look_at_host(&mut self, at: At, out: &mut Actions) {
        let Some(down) = &self.going_down else { return };
        let waits = matches!(down.stage, Stage::Stopping { .. } | Stage::Killing { .. });
        if waits && !self.programs().any(Slot::is_live) {
            self.try_method(0, at, out);
        }
    }

    pub(super) fn host_deadline(&self) -> Option<Instant> {
        self.going_down.as_ref().map(GoingDown::deadline)
    }

    pub(super) fn host_due(&mut self, at: At, out: &mut Actions) {
        let Some(down) = self.going_down.as_ref().filter(|down| down.deadline() <= at.now) else {
            return;
        };
        let (by, goal, end) = (down.by.clone(), down.end.goal, Arc::clone(&down.end));
        match down.stage {
            Stage::Stopping { .. } => self.kill_for_host(&by, goal, at, out),
            Stage::Killing { .. } => {
                let left = self.live();
                self.host_news(&by, goal, HostStep::Leaving { left }, out);
                self.try_method(0, at, out);
            }
            Stage::Trying { method, .. } => {
                let why = format!("no answer within {}", crate::model::Human(end.timeout));
                let before = self.going_down.clone();
                Self::leave_method(before.as_ref(), out);
                self.method_failed(method, why.into(), at, out);
            }
            Stage::Waiting { method, .. } => {
                if let Some(method) = down.method(method) {
                    let step = HostStep::StillUp { method, after: end.grace };
                    self.host_news(&by, goal, step, out);
                }
                self.try_method(method.saturating_add(1), at, out);
            }
            Stage::Retrying { .. } => {
                let asks = self.semaphores.get(&by).is_some_and(super::SemaphoreSlot::still_asks);
                if asks || down.accepted {
                    return self.try_method(0, at, out);
                }
                self.going_down = None;
                self.host_news(&by, goal, HostStep::GivenUp, out);
            }
        }
    }

    fn kill_for_host(&mut self, by: &Name, goal: HostGoal, at: At, out: &mut Actions) {
        self.host_news(by, goal, HostStep::Killing { left: self.live() }, out);
        let go_at = at.now + self.last_wait();
        if let Some(down) = &mut self.going_down {
            down.stage = Stage::Killing { go_at };
        }
        for id in self.ids() {
            self.step(id, Input::Kill(StopWhy::HostEnd), at, out);
        }
    }

    fn live(&self) -> usize {
        self.programs().filter(|slot| slot.is_live()).count()
    }

    fn try_method(&mut self, index: usize, at: At, out: &mut Actions) {
        self.next_run += 1;
        let run = RunId(self.next_run);
        let Some(down) = &mut self.going_down else { return };
        let Some(method) = down.method(index) else { return self.none_worked(at, out) };
        let limit = down.end.timeout;
        let takes = match method {
            // It writes to the disks first, which has the limit to itself.
            Method::Syscall => limit.saturating_mul(2),
            Method::SysRq => limit.saturating_add(down.end.sysrq.takes()),
            Method::Systemctl | Method::Shutdown | Method::Command => limit,
        };
        down.stage = Stage::Trying { method: index, run, until: at.now + takes };
        let (by, end) = (down.by.clone(), Arc::clone(&down.end));
        let step = HostStep::Trying { method };
        self.host_news(&by, end.goal, step, out);
        out.push(Action::EndHost { run, method, end });
    }

    /// What came of a method.
    pub(super) fn host_answered(
        &mut self,
        of: RunId,
        answer: Result<(), Arc<str>>,
        at: At,
        out: &mut Actions,
    ) {
        let Some(down) = &mut self.going_down else { return };
        let Stage::Trying { method: index, run, .. } = down.stage else { return };
        let Some(method) = down.method(index).filter(|_| run == of) else { return };
        if let Err(why) = answer {
            return self.method_failed(index, why, at, out);
        }
        let grace = down.end.grace;
        down.stage = Stage::Waiting { method: index, until: at.now + grace };
        down.accepted = true;
        let (by, goal) = (down.by.clone(), down.end.goal);
        let step = HostStep::Accepted { method, grace };
        self.host_news(&by, goal, step, out);
        self.host_accepted(&by, out);
    }

    fn method_failed(&mut self, index: usize, why: Arc<str>, at: At, out: &mut Actions) {
        let Some(down) = &self.going_down else { return };
        let (by, goal) = (down.by.clone(), down.end.goal);
        if let Some(method) = down.method(index) {
            self.host_news(&by, goal, HostStep::Failed { method, why }, out);
        }
        self.try_method(index.saturating_add(1), at, out);
    }

    /// A host that stays up needs its programs, however often the methods are tried again.
    fn none_worked(&mut self, at: At, out: &mut Actions) {
        let Some(down) = &mut self.going_down else { return };
        let retry = down.end.retry;
        down.stage = Stage::Retrying { at: at.now + retry };
        let stopped = std::mem::take(&mut down.stopped);
        let (by, goal, methods) = (down.by.clone(), down.end.goal, down.end.in_words().into());
        let step = HostStep::NoneWorked { methods, retry, started: stopped.len() };
        self.host_news(&by, goal, step, out);
        self.start_all(stopped, at, out);
    }

    /// Somebody clears the semaphore that asked.
    pub(super) fn cancel_host_end(&mut self, by: &Name, at: At, out: &mut Actions) {
        let Some(down) = self.going_down.take_if(|down| down.by == *by) else { return };
        Self::leave_method(Some(&down), out);
        let step = HostStep::Cancelled { started: down.stopped.len() };
        self.host_news(by, down.end.goal, step, out);
        self.start_all(down.stopped, at, out);
    }

    /// The site ends before the host does: whoever goes on with it is not us.
    pub(super) fn forget_host_end(&mut self) {
        self.going_down = None;
    }

    fn leave_method(down: Option<&GoingDown>, out: &mut Actions) {
        if let Some(Stage::Trying { run, .. }) = down.map(|down| down.stage) {
            out.push(Action::EndHostNoMore(run));
        }
    }

    /// Whether nothing is to be begun, as the host is about to go down.
    pub(super) fn host_goes_down(&self) -> bool {
        self.phase == Phase::Up && self.going_down.as_ref().is_some_and(GoingDown::is_under_way)
    }

    /// Whether programs are down for the sake of that.
    pub(super) fn stopped_for_host(&self) -> bool {
        self.host_goes_down()
            && self.going_down.as_ref().is_some_and(|down| !down.stopped.is_empty())
    }

    /// How far it is, in words, and how long that may take; `None` when it is not asked for by
    /// this semaphore.
    pub(super) fn host_end_of(&self, by: &Name, now: Instant) -> Option<(String, Duration)> {
        let down = self.going_down.as_ref().filter(|down| down.by == *by)?;
        let text = match down.stage {
            Stage::Stopping { .. } => format!("stops {} programs first", self.live()),
            Stage::Killing { .. } => format!("kills {} programs", self.live()),
            Stage::Trying { method, .. } => format!("tries {}", down.word(method)),
            Stage::Waiting { method, .. } => {
                format!("{} has accepted; waits for the host to go down", down.word(method))
            }
            Stage::Retrying { .. } => "no method has worked; tried again".to_owned(),
        };
        Some((format!("{}: {text}", down.end.goal), down.deadline().since(now)))
    }

    /// The reboot, or power-off, that is under way, in one line.
    pub(super) fn host_end_in_words(&self, now: Instant) -> Option<String> {
        let down = self.going_down.as_ref()?;
        Some(self.host_end_of(&down.by, now)?.0)
    }

    fn host_accepted(&mut self, by: &Name, out: &mut Actions) {
        let mut effects = Vec::new();
        if let Some(slot) = self.semaphores.get_mut(by) {
            slot.accepted(&mut effects);
        }
        self.acknowledge(by, effects, out);
    }

    #[expect(clippy::unused_self, reason = "reads as a sentence")]
    fn host_news(&self, by: &Name, goal: HostGoal, what: HostStep, out: &mut Actions) {
        let news = SemaphoreNews::Host(HostNews { goal, what });
        out.record(Record::site(What::Semaphore { name: by.clone(), news }));
    }
}
