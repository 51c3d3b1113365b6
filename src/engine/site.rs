//! The supervisor's own states: up, draining, killing, done.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Action, Actions, At, Engine, Goal, Input, Patience, Record, SiteStop, State, StopWhy, Told,
    What,
};
use crate::{
    control::{Refusal, RefusalCode, Reply},
    model::{ExitWhen, Human, Instant, Limit, LogLevel, ShmMoment},
    plan::ProgramId,
};

/// Where the whole site is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Programs are kept up.
    Up,
    /// Programs are stopped in order.
    Draining {
        /// When the patience is over.
        kill_at: Instant,
        /// The exit code that follows.
        code: u8,
    },
    /// Everything was told to die.
    Killing {
        /// When even the unkillable is no longer waited for.
        end_at: Instant,
        /// The exit code that follows.
        code: u8,
    },
    /// Nothing is left to decide.
    Done,
}

impl Phase {
    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Up | Self::Done => None,
            Self::Draining { kill_at, .. } => Some(kill_at),
            Self::Killing { end_at, .. } => Some(end_at),
        }
    }
}

/// How long SIGKILL may take before what is left is given up.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Why nothing new is begun.
const IS_STOPPING: &str = "the supervisor is stopping";

pub(super) const HOST_GOES_DOWN: &str = "the host is about to go down";

impl Engine {
    pub(super) fn boot(&mut self, at: At, out: &mut Actions) {
        let programs = self.names.len();
        out.record(Record::site(What::SupervisorStarted { programs }));
        self.tidy_site(ShmMoment::Before, None, at, out);
        self.watch_semaphores(out);
        let ids = self.ids();
        // First all goals, so that an order between two of them is seen whoever is looked at first.
        let mut starting = Vec::new();
        for id in ids {
            let Some(slot) = self.slot_mut(id) else { continue };
            if slot.program.enabled && slot.program.autostart {
                slot.goal = Goal::Up;
                starting.push(id);
            }
        }
        let mut more: Vec<_> = starting.iter().flat_map(|id| self.needs(*id)).collect();
        starting.append(&mut more);
        self.start_all(starting, at, out);
    }

    /// Brings these up, all goals first.
    pub(super) fn start_all(&mut self, mut ids: Vec<ProgramId>, at: At, out: &mut Actions) {
        ids.sort_unstable();
        ids.dedup();
        if (self.phase != Phase::Up || self.host_goes_down()) && !self.bugs.start_in_shutdown {
            return;
        }
        let any = self.bugs.start_the_disabled;
        ids.retain(|id| self.slot(*id).is_some_and(|slot| slot.program.enabled || any));
        for id in &ids {
            if let Some(slot) = self.slot_mut(*id) {
                slot.goal = Goal::Up;
            }
        }
        for id in &ids {
            self.step(*id, Input::Start, at, out);
        }
        self.settle(at, out);
    }

    /// Says once what a program waits for.
    pub(super) fn record_waiting(&mut self, id: ProgramId, at: At, out: &mut Actions) {
        let untold = |slot: &super::Slot| matches!(slot.state, State::Waiting { told: false, .. });
        // While the gates are held for the whole site, nothing else is known to be missing.
        if self.tidying.is_some() || !self.slot(id).is_some_and(untold) {
            return;
        }
        let on = self.blockers(id, at.now);
        let Some(slot) = self.slot_mut(id).filter(|_| !on.is_empty()) else { return };
        if let State::Waiting { told: told @ false, .. } = &mut slot.state {
            *told = true;
            out.record(Record::of(slot, What::Waiting { on: on.join(", ").into() }));
        }
    }

    pub(super) fn slot_mut(&mut self, id: ProgramId) -> Option<&mut super::Slot> {
        self.slots.get_mut(id.index()).and_then(Option::as_deref_mut)
    }

    pub(super) fn told(&mut self, told: Told, at: At, out: &mut Actions) {
        match (told, self.phase) {
            (Told::Stop, Phase::Up) => self.end_site(SiteStop::Signal, 0, at, out),
            (Told::Fault, Phase::Up) => self.end_site(SiteStop::Fault, 70, at, out),
            (Told::Quit, Phase::Up) => {
                self.end_site(SiteStop::Signal, 0, at, out);
                self.kill_site(0, at, out);
            }
            // timeout(1) tells its child, and then the whole group that it is in.
            (Told::Stop, Phase::Draining { .. }) if self.is_echo(at.now) => {}
            (Told::Stop | Told::Quit, Phase::Draining { code, .. }) => {
                if self.bugs.second_stop_lengthens {
                    self.ends_by = Some(at.now + self.budget());
                }
                self.kill_site(code, at, out);
            }
            (Told::Reload, Phase::Up) if self.supervisor.stop_on_hangup => {
                self.end_site(SiteStop::Signal, 0, at, out);
            }
            (Told::Reload, Phase::Up) if self.host_goes_down() => {
                let why = Arc::from(HOST_GOES_DOWN);
                out.record(Record::site(What::NotReloaded { why }));
            }
            (Told::Reload, Phase::Up) => {
                out.push(Action::Load { request: None, dry_run: false, allow_removal: false });
            }
            (Told::Reload, Phase::Draining { .. } | Phase::Killing { .. } | Phase::Done) => {
                let why = Arc::from(IS_STOPPING);
                out.record(Record::site(What::NotReloaded { why }));
            }
            (Told::Reopen, _) => {
                out.push(Action::ReopenLogs);
                out.record(Record::site(What::Reopened));
            }
            (Told::Stop | Told::Quit, Phase::Killing { .. } | Phase::Done)
            | (Told::Fault, Phase::Draining { .. } | Phase::Killing { .. } | Phase::Done) => {}
        }
    }

    /// Whether a stop that is asked for now is the one that was just asked for, said twice.
    #[must_use]
    pub fn is_echo(&self, now: Instant) -> bool {
        const SOON: Duration = Duration::from_millis(100);
        self.stop_began.is_some_and(|at| now.since(at) < SOON)
    }

    /// The whole budget of an orderly stop.
    pub(super) fn budget(&self) -> Duration {
        let default = if self.is_init { 8 } else { 90 };
        self.supervisor.shutdown_timeout.unwrap_or(Duration::from_secs(default))
    }

    /// How long an ordered stop can take at the most: along the chain of programs that wait for
    /// each other to stop with the most patience. What has no limit counts as the whole budget.
    /// `None` when nobody waits for that long for another: then the budget alone ends it.
    fn longest_stop(&self) -> Option<Duration> {
        let budget = self.budget();
        let mut longest: BTreeMap<ProgramId, Duration> = BTreeMap::new();
        let mut longest_alone = Duration::ZERO;
        // Who is needed stops after those that need it. Each round reaches one step further, and
        // there are no cycles.
        let mut open: Vec<ProgramId> = self.ids();
        while !open.is_empty() {
            let mut next = Vec::new();
            for id in open {
                let Some(slot) = self.slot(id).filter(|slot| slot.is_live()) else { continue };
                let before = slot.edges.needed_by.iter().filter_map(|back| longest.get(&back.from));
                let before = before.copied().max().unwrap_or_default();
                let stop = &slot.program.stop;
                let time = |limit: Limit| match limit {
                    Limit::After(time) => time.min(budget),
                    Limit::Never => budget,
                };
                let command = stop.command.as_ref().and(stop.ladder.first());
                let command = command.map(|step| time(step.wait)).unwrap_or_default();
                let own = time(stop.patience()).saturating_add(command);
                let all = before.saturating_add(own);
                longest_alone = longest_alone.max(own);
                if longest.insert(id, all) != Some(all) {
                    next.extend(slot.edges.needs.iter().map(|edge| edge.target));
                }
            }
            next.sort_unstable();
            next.dedup();
            open = next;
        }
        longest.into_values().max().filter(|all| *all > longest_alone)
    }

    /// The share of its stop timeouts that each program has in the stop of the site, so that
    /// whoever is stopped last is asked as well, and not only killed.
    fn share_of_patience(&self) -> Patience {
        let room = self.budget().saturating_sub(self.last_wait()).as_millis();
        let longest = self.longest_stop().unwrap_or_default().as_millis();
        let share = room.saturating_mul(1000).checked_div(longest).unwrap_or(1000);
        Patience { most: self.budget(), share: u32::try_from(share).unwrap_or(1000).min(1000) }
    }

    /// What to say when the init of a container has more time for its stop than it is likely to
    /// get.
    #[must_use]
    pub fn warning_of_budget(&self) -> Option<String> {
        const DOCKER: Duration = Duration::from_secs(10);
        let budget = self.budget();
        (self.is_init && budget >= DOCKER).then(|| {
            format!(
                "shutdown_timeout is {}, and docker stop kills after 10s unless it is told -t",
                Human(budget)
            )
        })
    }

    /// The part of the budget that is for what has to be killed.
    pub(super) fn last_wait(&self) -> Duration {
        LAST_WAIT.min(self.budget() / 4)
    }

    /// Begins the orderly stop of everything; a second request never lengthens the first.
    pub(super) fn end_site(&mut self, why: SiteStop, code: u8, at: At, out: &mut Actions) {
        if self.phase != Phase::Up {
            return;
        }
        self.forget_host_end();
        let budget = self.budget();
        let kill_at = at.now + budget.saturating_sub(self.last_wait());
        self.phase = Phase::Draining { kill_at, code };
        self.ends_by = Some(at.now + budget);
        self.stop_began = Some(at.now);
        self.patience = self.share_of_patience();
        self.leave_shm(out);
        out.record(Record::site(What::SupervisorStopping { why }));
        if self.patience.share < 1000 {
            let text = format!(
                "the stop timeouts add up to {}, and the whole stop has {}: each program has {}% \
                 of its own",
                Human(self.longest_stop().unwrap_or_default()),
                Human(budget),
                self.patience.share / 10
            );
            out.record(Record::site(What::Note { level: LogLevel::Info, text: text.into() }));
        }
        let ids = self.ids();
        for id in &ids {
            if let Some(slot) = self.slot_mut(*id).filter(|slot| slot.goal == Goal::Up) {
                slot.goal = Goal::Down;
            }
        }
        for id in ids {
            self.step(id, Input::Stop(StopWhy::Shutdown), at, out);
        }
    }

    fn kill_site(&mut self, code: u8, at: At, out: &mut Actions) {
        self.leave_shm(out);
        let left = self.programs().filter(|slot| slot.is_live()).count();
        if left > 0 {
            out.record(Record::site(What::SupervisorKilling { left }));
        }
        self.phase = Phase::Killing { end_at: at.now + self.last_wait(), code };
        for id in self.ids() {
            self.step(id, Input::Kill(StopWhy::Shutdown), at, out);
        }
    }

    /// Whether the site is at an end, after each event.
    pub(super) fn look_at_site(&mut self, at: At, out: &mut Actions) {
        match self.phase {
            Phase::Up => self.look_for_end(at, out),
            Phase::Draining { kill_at, code } => {
                if !self.programs().any(super::Slot::is_live) {
                    self.all_down((kill_at, code), at, out);
                } else if kill_at <= at.now {
                    self.kill_site(code, at, out);
                    self.settle(at, out);
                }
            }
            Phase::Killing { end_at, code } => {
                if end_at <= at.now {
                    self.end_tidying(at, out);
                }
                if !self.programs().any(super::Slot::is_live) {
                    self.all_down((end_at, code), at, out);
                } else if end_at <= at.now {
                    let left = self.programs().filter(|slot| slot.is_live());
                    let name = |slot: &super::Slot| match slot.life() {
                        Some(life) => format!("{} (pid {})", slot.program.name, life.pid),
                        None => slot.program.name.to_string(),
                    };
                    let left: Vec<String> = left.map(name).collect();
                    let text = format!("given up, as SIGKILL does not end: {}", left.join(", "));
                    let (level, text) = (LogLevel::Error, text.into());
                    out.record(Record::site(What::Note { level, text }));
                    self.done(if code == 0 { 1 } else { code }, out);
                }
            }
            Phase::Done => {}
        }
    }

    /// Files are no longer worth a wait.
    fn end_tidying(&mut self, at: At, out: &mut Actions) {
        let tidying = |slot: &&super::Slot| {
            matches!(slot.state, State::Tidying { .. } | State::Claiming { .. })
        };
        let ids: Vec<ProgramId> = self.programs().filter(tidying).map(|slot| slot.id).collect();
        for id in ids {
            self.step(id, Input::Kill(StopWhy::Shutdown), at, out);
        }
    }

    pub(super) fn done(&mut self, code: u8, out: &mut Actions) {
        self.phase = Phase::Done;
        self.end_operations(out);
        out.push(Action::Exit(code));
    }

    /// `exit_when: all-exited`: nothing runs and nothing is scheduled. What waits for a program
    /// that is down for good is part of that.
    fn look_for_end(&mut self, at: At, out: &mut Actions) {
        let busy = self.tidying.is_some() || self.stopped_for_host();
        if self.supervisor.exit_when != Some(ExitWhen::AllExited) || busy {
            return;
        }
        let over = |slot: &super::Slot| {
            !slot.is_live() && slot.deadline().is_none() && !self.is_locked(slot)
        };
        let ran = self.programs().any(|slot| slot.history.attempts > 0);
        if ran && self.programs().all(over) {
            let code = self.programs().find_map(first_failure).unwrap_or(0);
            self.end_site(SiteStop::AllExited, code, at, out);
            self.settle(at, out);
        }
    }

    /// Refuses what would start something while the site stops.
    pub(super) fn refusal_while_stopping(&self) -> Option<Reply> {
        let message = if self.host_goes_down() {
            HOST_GOES_DOWN
        } else if self.phase != Phase::Up && !self.bugs.start_in_shutdown {
            IS_STOPPING
        } else {
            return None;
        };
        let (code, message) = (RefusalCode::ShuttingDown, message.to_owned());
        Some(Reply::Error(Refusal { code, message, hint: None }))
    }

    /// `up` or `stopping`.
    #[must_use]
    pub fn phase_word(&self) -> &'static str {
        if self.phase == Phase::Up { "up" } else { "stopping" }
    }

    /// When the whole stop is to be over, orphans included; `None` while the site is up.
    #[must_use]
    pub fn ends_by(&self) -> Option<Instant> {
        self.ends_by
    }

    /// Whether the end was decided: [`Action::Exit`] was given.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }
}

fn first_failure(slot: &super::Slot) -> Option<u8> {
    if let State::Exited { ended, success: false } | State::Fatal { ended, .. } = &slot.state {
        return Some(super::exit_code(&ended.cause));
    }
    None
}
