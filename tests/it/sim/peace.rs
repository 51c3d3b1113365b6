//! When faults cease: everything wanted comes up in its time (I-40), and the site ends in its
//! budget (I-38).

use std::time::Duration;

use mini_supervisor::{
    engine::{Event, State, Told},
    model::{Condition, Instant, Limit},
    plan::ProgramId,
};

use super::{draw::Faults, known::is_oneshot, world::World};

/// What may still crash by itself when peace begins is dead after this.
const CALM: Duration = Duration::from_secs(65);

impl World {
    pub(super) fn converge(&mut self) {
        self.faults = Faults::NONE;
        self.peace = true;
        self.let_go();
        let begin = self.now + CALM;
        self.settle_until(begin, 400);
        if self.exit.is_none() && self.stopping.is_none() {
            self.settle_until(begin + Duration::from_secs(1500), 400);
            self.judge_peace(begin);
        }
        if self.exit.is_none() && self.stopping.is_none() {
            self.give(Event::Told(Told::Stop));
        }
        if self.exit.is_none() && self.chance.is(40) {
            self.settle_until(self.now + Duration::from_millis(500), 20);
            self.end_sooner(true);
            self.give(Event::Told(Told::Stop));
        }
        let end = self.stopping.map_or(self.now, |(_, end)| end) + Duration::from_secs(1);
        self.settle_until(end, 4000);
        self.judge_time();
    }

    fn settle_until(&mut self, end: Instant, most: u64) {
        let limit = self.events + most * (1 + self.ids.len() as u64);
        while self.now < end && self.exit.is_none() && self.wrong.is_none() && self.events < limit {
            if !self.turn() {
                // Nothing will ever happen by itself.
                self.now = self.now.max(end);
            }
        }
    }

    /// I-40: up, and since when.
    fn judge_peace(&mut self, begin: Instant) {
        let all: Vec<ProgramId> = self.ids.values().copied().collect();
        for id in all {
            let Some(within) = self.time_to_be_up(id, begin) else { continue };
            if self.settings(id).is_none_or(|of| is_oneshot(of)) || self.now < begin + within {
                continue;
            }
            let known = &self.known[id.index()];
            let state = self.engine.slot(id).map(|slot| slot.state.clone());
            let up = known.up && matches!(state, Some(State::Running { .. }));
            let took = known.up_since - begin;
            let missing = self.missing(id);
            self.hold(40, up && took <= within, || {
                format!("{id:?}: up after {took:?} (of {within:?})? {state:?}, not {missing:?}")
            });
        }
    }

    /// How long it may take until it is up; `None`: nothing says that it has to be.
    fn time_to_be_up(&self, id: ProgramId, begin: Instant) -> Option<Duration> {
        let known = self.known.get(id.index())?;
        let of = known.settings.as_ref()?;
        let never = known.given_up && known.retry_at.is_none();
        let stays = known.member
            && self.locked(id).is_none()
            && of.enabled
            && known.wanted
            && !known.rests
            && !never;
        if !stays || of.max_runtime != Limit::Never || !of.wait_for.is_empty() {
            return None;
        }
        let Limit::After(patience) = of.start_timeout else { return None };
        let mut before = Duration::ZERO;
        for (to, condition) in &known.requires {
            let target = &self.known[to.index()];
            let ends = target.settings.as_ref().is_none_or(|of| is_oneshot(of));
            if ends || *condition == Condition::Completed {
                (target.done && target.done_since <= begin).then_some(())?;
            } else {
                let looks = match target.settings.as_ref().and_then(|of| of.health.as_ref()) {
                    // What is left of the look before may die late.
                    Some(of) if *condition == Condition::Healthy => {
                        of.interval + of.timeout + Duration::from_secs(70)
                    }
                    _ => Duration::ZERO,
                };
                before = before.max(self.time_to_be_up(*to, begin)? + looks);
            }
        }
        let cap = of.restart.max_delay.mul_f64(1.0 + of.restart.jitter);
        let retry = of.restart.start_limit.as_ref().map_or(Duration::ZERO, |l| l.retry_every);
        // What was said before a reload holds, whatever the settings are by now.
        let retry = retry.max(known.retry_at.map_or(Duration::ZERO, |at| at - begin));
        let down = self.patience(id) + self.command_patience(id) + Duration::from_secs(65);
        Some(before + cap.max(retry) + patience + down + Duration::from_secs(5))
    }
}
