//! Stale files in /dev/shm: they are removed only while nothing that may use them is alive.
//!
//! Whoever removes them is a thread of the shell and reports back. It is never waited for without
//! a limit; when it is given up, it is told so first, and removes nothing from then on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Action, Actions, At, Cause, Ended, Engine, Record, RunId, Slot, State, What,
    machine::{Cx, Input},
    slot::earlier,
};
use crate::model::{Instant, Limit, ShmMoment, ShmRule};

/// What follows when the stale files of a program are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    /// Its start goes on.
    Start,
    /// Its run, or an attempt at one, is over.
    Finish(Ended),
}

/// The stale files of the site are being removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SiteTidy {
    run: RunId,
    until: Instant,
}

/// Nothing waits longer than this for it.
const LONGEST: Duration = Duration::from_secs(30);

fn too_slow() -> What {
    What::ShmFailed { why: "the look for stale files takes too long; going on without it".into() }
}

impl Slot {
    fn tidies(&self, moment: ShmMoment) -> bool {
        self.program.shm.as_deref().is_some_and(|rule| rule.applies(moment))
    }

    /// Nobody else runs it: begins with what is stale, if there is a rule, and then with the first
    /// child.
    pub(super) fn begin_alone(&mut self, cx: &mut Cx<'_>) -> State {
        if !self.tidies(ShmMoment::Before) {
            return self.spawn_next(0, cx);
        }
        // The rest of its time is for the start itself.
        let longest = match self.program.start_timeout {
            Limit::After(time) => LONGEST.min(time / 2),
            Limit::Never => LONGEST,
        };
        let state = self.tidy(ShmMoment::Before, Then::Start, longest, cx);
        if cx.bugs.start_before_tidied { self.spawn_next(0, cx) } else { state }
    }

    /// Nothing of it is alive any more, and its last command has ended.
    pub(super) fn over(&mut self, ended: Ended, cx: &mut Cx<'_>) -> State {
        if !self.tidies(ShmMoment::After) {
            return self.finish(ended, cx);
        }
        self.tidy(ShmMoment::After, Then::Finish(ended), LONGEST, cx)
    }

    fn tidy(&self, moment: ShmMoment, then: Then, longest: Duration, cx: &mut Cx<'_>) -> State {
        let run = cx.run();
        cx.out.push(Action::Tidy { program: Some(self.id), run, moment });
        State::Tidying { run, then, until: cx.now + longest }
    }

    /// For a test fault: while processes of it live.
    pub(super) fn tidy_the_living(&self, cx: &mut Cx<'_>) {
        if cx.bugs.tidy_the_living && self.tidies(ShmMoment::After) {
            let run = cx.run();
            let moment = ShmMoment::After;
            cx.out.push(Action::Tidy { program: Some(self.id), run, moment });
        }
    }

    pub(super) fn when_tidying(
        &mut self,
        (run, then, until): (RunId, Then, Instant),
        input: &Input,
        cx: &mut Cx<'_>,
    ) -> State {
        if let Then::Finish(_) = then {
            self.note_start_over(input);
        }
        match (input, then) {
            (Input::Stop(why) | Input::Kill(why), Then::Start) => {
                leave(run, cx);
                self.ended(Cause::Stopped(*why, None), None, cx)
            }
            (Input::Kill(_), Then::Finish(ended)) => {
                leave(run, cx);
                self.finish(ended, cx)
            }
            (Input::Deadline, then) if until <= cx.now => {
                leave(run, cx);
                cx.out.record(Record::of(self, too_slow()));
                self.go_on(then, cx)
            }
            (
                Input::Start
                | Input::Stop(_)
                | Input::GateOpen
                | Input::Free
                | Input::Child(..)
                | Input::Deadline,
                then,
            ) => State::Tidying { run, then, until },
        }
    }

    /// What was stale is gone; called by the engine.
    pub(super) fn tidied(&mut self, of: RunId, cx: &mut Cx<'_>) {
        let State::Tidying { run, then, .. } = &self.state else { return };
        if *run != of {
            return;
        }
        let (before, then) = (self.word(), then.clone());
        self.state = self.go_on(then, cx);
        if self.word() != before {
            self.since = (cx.now, cx.wall);
        }
    }

    fn go_on(&mut self, then: Then, cx: &mut Cx<'_>) -> State {
        match then {
            Then::Start => self.spawn_next(0, cx),
            Then::Finish(ended) => self.finish(ended, cx),
        }
    }
}

fn leave(run: RunId, cx: &mut Cx<'_>) {
    if !cx.bugs.tidy_on {
        cx.out.push(Action::TidyNoMore(run));
    }
}

impl Engine {
    /// Removes what is stale of the whole site, if there is a rule. Until that is over, or it is
    /// `end`, no gate opens.
    pub(super) fn tidy_site(
        &mut self,
        moment: ShmMoment,
        end: Option<Instant>,
        at: At,
        out: &mut Actions,
    ) {
        if !self.shm.iter().any(|rule: &ShmRule| rule.applies(moment)) {
            return;
        }
        self.next_run += 1;
        let run = RunId(self.next_run);
        let until = earlier(end, Some(at.now + LONGEST)).unwrap_or(at.now);
        self.tidying = Some(SiteTidy { run, until });
        out.push(Action::Tidy { program: None, run, moment });
    }

    /// What may be removed for the whole site.
    #[must_use]
    pub fn shm(&self) -> &[ShmRule] {
        &self.shm
    }

    /// When it is no longer waited for.
    pub(super) fn tidy_deadline(&self) -> Option<Instant> {
        self.tidying.map(|tidy| tidy.until)
    }

    /// It is not waited for any more.
    pub(super) fn leave_shm(&mut self, out: &mut Actions) {
        if let Some(tidy) = self.tidying.take() {
            out.push(Action::TidyNoMore(tidy.run));
        }
    }

    pub(super) fn tidy_due(&mut self, at: At, out: &mut Actions) {
        if self.tidy_deadline().is_some_and(|until| until <= at.now) {
            self.leave_shm(out);
            out.record(Record::site(too_slow()));
            self.touched = self.ids();
        }
    }

    pub(super) fn site_tidied(&mut self, run: RunId) {
        if self.tidying.is_some_and(|tidy| tidy.run == run) {
            self.tidying = None;
            self.touched = self.ids();
        }
    }

    /// Every program is down: what they left in /dev/shm, then the end.
    pub(super) fn all_down(&mut self, (end, code): (Instant, u8), at: At, out: &mut Actions) {
        if !std::mem::replace(&mut self.tidied_last, true) {
            self.tidy_site(ShmMoment::After, Some(end), at, out);
        }
        if self.tidying.is_none() {
            self.done(code, out);
        }
    }
}
