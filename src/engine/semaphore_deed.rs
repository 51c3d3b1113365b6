//! What is done for a semaphore, how often, and what its info file says.

use std::time::Duration;

use super::{
    Hold, SemaphoreEffect, SemaphoreNews, SemaphoreSlot,
    permitted::Permitted,
    semaphore::{Begun, burst, written},
};
use crate::model::{Case, Info, Instant, WallTime, Window};

impl SemaphoreSlot {
    /// The first moment from `found` on that is in one of its windows.
    pub(super) fn window_of(
        &self,
        found: (Instant, Hold),
        (now, wall): (Instant, WallTime),
    ) -> (Instant, Hold) {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let at = WallTime(wall.0.saturating_add(ms(found.0.since(now))));
        let opens = Window::next_in(&self.settings.windows, &self.zone, at);
        if opens <= at {
            return found;
        }
        let wait = u64::try_from(opens.0.saturating_sub(wall.0)).unwrap_or(0);
        (now + Duration::from_millis(wait), Hold::Window(self.zone.minute(opens)))
    }

    /// Notes what the signaller says after he has raised it.
    pub(super) fn hear(&mut self, old: bool, out: &mut Vec<SemaphoreEffect>) {
        let Some(info) = self.reading.as_ref().and_then(|reading| reading.info.clone()) else {
            return;
        };
        let this = Some(written(&info));
        let news = std::mem::replace(&mut self.heard, this) != this && !info.fields.is_empty();
        let pending = self.deadline().is_some();
        if news && !old && (pending || self.served_info == this) {
            out.push(SemaphoreEffect::Record(SemaphoreNews::Said { info }));
        }
    }

    pub(super) fn count(&mut self, until: Instant, most: usize) {
        self.counted.push_back(until);
        while self.counted.len() > most {
            self.counted.pop_front();
        }
    }

    /// It was done at these times, oldest first, before we were started. A clock that was set
    /// since then makes none of them older than it is.
    pub fn recall(&mut self, times: &[WallTime], (now, wall): (Instant, WallTime)) {
        let Some(limit) = self.settings.rate_limit else { return };
        for time in times {
            let age = Duration::from_millis(wall.0.saturating_sub(time.0).try_into().unwrap_or(0));
            let left = limit.interval.saturating_sub(age);
            if !left.is_zero() {
                self.count(now + left, burst(limit));
            }
        }
    }

    /// What it asked for is under way for sure: its files are no longer needed.
    pub fn accepted(&mut self, out: &mut Vec<SemaphoreEffect>) {
        let Some(Begun(file)) = self.acting.take().filter(|_| self.settings.removes) else {
            return;
        };
        let info = self.info().filter(|info| !self.is_fresh(info)).map(|info| info.file);
        out.push(SemaphoreEffect::Acknowledge { file, info });
    }

    /// What the signaller has written after his request was served is no longer needed, either:
    /// at the next start it would only be called stale.
    pub(super) fn clear_away(&self, out: &mut Vec<SemaphoreEffect>) {
        let may = Permitted(&self.settings.allow);
        let his = |info: &&Info| info.is_private && may.refusal_of_owner(info.uid).is_none();
        let is_over = self.settings.removes && self.acting.is_none();
        if let Some(info) = self.info().filter(his).filter(|_| is_over) {
            out.push(SemaphoreEffect::Acknowledge { file: None, info: Some(info.file) });
        }
    }

    /// Whether what was served last is still asked for: the lock is held, or what was written is
    /// there.
    #[must_use]
    pub fn still_asks(&self) -> bool {
        self.served_file.is_some() || self.info().is_some_and(|info| !self.is_fresh(info))
    }

    /// The case that the info file makes of it: only what somebody has written who may, and whom
    /// nobody could help with it.
    pub(super) fn case(&self) -> Option<&Case> {
        let info = self.info().filter(|info| self.is_fresh(info) && info.is_private)?;
        if Permitted(&self.settings.allow).refusal_of_owner(info.uid).is_some() {
            return None;
        }
        let says = |(key, value): &(Box<str>, Box<str>)| {
            info.fields.iter().find(|(field, _)| field == key).is_some_and(|(_, v)| v == value)
        };
        self.settings.cases.iter().find(|case| case.when.iter().all(says))
    }
}
