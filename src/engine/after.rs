//! What follows the end of a run, or of an attempt at one: another one, rest, or giving up.

use super::{
    Action, Cause, Ended, Goal, Record, SiteStop, Slot, State, StopWhy, What, machine::Cx,
    restart::Decision,
};
use crate::model::{Exit, LimitAction};

impl Slot {
    /// Nothing of the program is alive any more: what follows.
    pub(super) fn finish(&mut self, ended: Ended, cx: &mut Cx<'_>) -> State {
        if self.program.leaves_directories() {
            cx.out.push(Action::RemoveRuntime(self.id));
        }
        self.let_go(cx);
        self.follow(ended, cx)
    }

    /// A run, or an attempt at one, is over, and nothing is left to be done for it: again, or not.
    pub(super) fn follow(&mut self, ended: Ended, cx: &mut Cx<'_>) -> State {
        let start_over = std::mem::take(&mut self.history.start_over);
        if self.goal != Goal::Up && !cx.bugs.restart_although_down {
            cx.out.record(Record::of(self, What::Stopped));
            return State::Stopped;
        }
        let asked = matches!(&ended.cause, Cause::Stopped(why, _) if !why.is_failure());
        if asked || start_over {
            return self.wait(cx);
        }
        match self.decision(&ended, cx) {
            Decision::Rest { .. } if cx.bugs.restart_what_rests => self.wait(cx),
            Decision::Again { delay } => {
                let attempt = self.history.failures;
                let cause = ended.cause.clone();
                cx.out.record(Record::of(self, What::Backoff { cause, attempt, delay }));
                if delay.is_zero() {
                    self.history.restarts = self.history.restarts.saturating_add(1);
                    return self.wait(cx);
                }
                State::Backoff { at: cx.now + cx.bugs.other_delay(delay, cx.wall), ended }
            }
            Decision::Rest { success } => self.rest(ended, success, cx),
            Decision::GiveUp { action, retry_every } => {
                self.history.troubled = true;
                let retry_at = (action == LimitAction::Retry).then(|| cx.now + retry_every);
                if let Some(code) = Self::limit_exit(action, &ended) {
                    *cx.ends_site = Some((SiteStop::Limit, code));
                } else if self.program.essential && retry_at.is_none() {
                    let code = exit_code(&ended.cause);
                    *cx.ends_site = Some((SiteStop::Essential, code));
                }
                let retry = retry_at.map(|_| retry_every);
                let cause = ended.cause.clone();
                cx.out.record(Record::of(self, What::Fatal { cause, limit: true, retry }));
                let secret = cx.bugs.retry_in_secret.then(|| cx.now + retry_every);
                State::Fatal { ended, limit: true, retry_at: retry_at.or(secret) }
            }
        }
    }

    /// It stays down although the goal is up.
    fn rest(&mut self, ended: Ended, success: bool, cx: &mut Cx<'_>) -> State {
        if self.program.essential {
            *cx.ends_site = Some((SiteStop::Essential, exit_code(&ended.cause)));
        }
        let ran = match ended.cause {
            Cause::Exit(_) => true,
            // It has never been up, or is to stay down.
            Cause::Stopped(why, _) => !matches!(why, StopWhy::NotReady | StopWhy::Unhealthy(_)),
            Cause::NotSpawned(_)
            | Cause::Pre(..)
            | Cause::WaitedInVain(_)
            | Cause::NoMain(_)
            | Cause::Unready(_)
            | Cause::Duplicate(_) => false,
        };
        if ran {
            if ended.cause == Cause::Exit(Exit::Unknown) {
                cx.out.record(Record::of(self, What::RestedUnknown));
            } else if success && self.is_oneshot() {
                cx.out.record(Record::of(self, What::Completed));
            } else {
                cx.out.record(Record::of(self, What::Rested { success }));
            }
            return State::Exited { ended, success };
        }
        self.history.troubled = true;
        let cause = ended.cause.clone();
        cx.out.record(Record::of(self, What::Fatal { cause, limit: false, retry: None }));
        State::Fatal { ended, limit: false, retry_at: None }
    }
}

/// The exit code that the end of an essential program gives the supervisor.
#[must_use]
pub fn exit_code(cause: &Cause) -> u8 {
    match cause {
        Cause::Exit(exit) | Cause::Pre(_, exit) | Cause::Stopped(_, Some(exit)) => {
            exit.shell_code()
        }
        // It has ended well, and that was its failure.
        Cause::Unready(exit) => exit.shell_code().max(1),
        Cause::NotSpawned(failure) => failure.code,
        Cause::Stopped(_, None)
        | Cause::WaitedInVain(_)
        | Cause::NoMain(_)
        | Cause::Duplicate(_) => Exit::Code(1).shell_code(),
    }
}
