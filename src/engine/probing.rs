//! One look at whether a program serves: asked for, answered, or ended when its time is over.
//!
//! Whatever is not a command is looked at by threads of the shell, which report back. A command is
//! a child like any other: what is left of it is killed and waited for before the next look begins,
//! and before the end of its program is over.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Action, Again, ChildEvent, RunId, Scope, Slot, Spawn, State,
    action::Role,
    machine::{Cx, Input},
};
use crate::model::{Exit, Human, Instant, Probe, Program, ReadyBy, Sample, Signal};

/// What a look is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProbeOf {
    /// `health`.
    Health,
    /// `readiness`.
    Readiness,
}

/// A look that is under way, or what is left of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probing {
    /// Tells its answer from others; the life of its command.
    pub run: RunId,
    /// What for.
    pub of: ProbeOf,
    /// When it began.
    pub began: Instant,
    /// The last words of its command.
    said: Option<Arc<str>>,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Step {
    /// A thread looks, and keeps the time itself unless it hangs.
    Asked { until: Instant },
    /// Its command runs, or is about to.
    Runs { executes: bool, until: Instant, limit: Duration },
    /// What is left of its command is being killed; it has no more to say.
    Ends { executes: bool, again: Again },
}

/// What a thread gets on top, so that its own words come first.
const GRACE: Duration = Duration::from_secs(1);
/// A look whether it is ready takes no longer: then there is another one.
const LONGEST: Duration = Duration::from_secs(5);

impl Probing {
    /// Whether what it finds counts.
    fn is_fresh(&self) -> bool {
        match self.step {
            Step::Asked { .. } | Step::Runs { .. } => true,
            Step::Ends { .. } => false,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.step {
            Step::Asked { until } | Step::Runs { until, .. } => Some(until),
            Step::Ends { again, .. } => again.at,
        }
    }

    /// A failure in words, with the last ones of its command.
    fn failed(&self, probe: Option<&Probe>, how: impl std::fmt::Display) -> Arc<str> {
        let what = probe.map_or_else(|| "its command".to_owned(), ToString::to_string);
        match &self.said {
            Some(words) => format!("{what}: {how}: {words}").into(),
            None => format!("{what}: {how}").into(),
        }
    }
}

/// What is to be looked at of a program.
#[must_use]
pub fn probe_of(program: &Program, of: ProbeOf) -> Option<&Probe> {
    match of {
        ProbeOf::Health => program.health.as_ref().map(|health| &health.probe),
        ProbeOf::Readiness => match program.readiness.as_deref().map(|ready| &ready.by) {
            Some(ReadyBy::Probe { probe, .. }) => Some(probe),
            Some(ReadyBy::Notify | ReadyBy::Fd(_)) | None => None,
        },
    }
}

/// Looks at a program that was started and is not known to be ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// By what.
    by: ReadyBy,
    /// Of which life.
    run: RunId,
    /// When the next look is due, while none is under way.
    next: Instant,
}

impl Slot {
    /// When the look under way is over, or what is left of one is killed again; or when the next
    /// one is due.
    pub(super) fn deadline_of_probe(&self) -> Option<Instant> {
        if let Some(probe) = &self.probe {
            return probe.deadline();
        }
        let proof = self.proof.as_ref().map(|proof| proof.next);
        proof.or_else(|| self.health.as_ref().map(|health| health.next))
    }

    /// Begins a look. Nothing of an earlier one is left.
    pub(super) fn begin_probe(&mut self, of: ProbeOf, limit: Duration, cx: &mut Cx<'_>) {
        let run = cx.run();
        let command = matches!(self.probe_of(of), Some(Probe::Command(_)));
        let step = if command {
            let main_pid = self.life().map(|life| life.pid);
            let role = Role::Probe(of);
            let spawn = Spawn { program: self.id, run, role, ended: None, variant: None, main_pid };
            cx.out.push(Action::Spawn(spawn));
            Step::Runs { executes: false, until: cx.now + limit, limit }
        } else {
            cx.out.push(Action::Probe { program: self.id, run, of });
            Step::Asked { until: cx.now + limit + GRACE }
        };
        self.probe = Some(Probing { run, of, began: cx.now, said: None, step });
    }

    /// What is to be looked at.
    #[must_use]
    pub fn probe_of(&self, of: ProbeOf) -> Option<&Probe> {
        probe_of(&self.program, of)
    }

    /// How long such a look may take.
    #[must_use]
    pub fn limit_of_probe(&self, of: ProbeOf) -> Option<Duration> {
        match of {
            ProbeOf::Health => self.program.health.as_ref().map(|health| health.timeout),
            ProbeOf::Readiness => self.proof.as_ref().map(|_| LONGEST),
        }
    }

    /// What the look under way finds no longer counts.
    pub(super) fn end_probe(&mut self, of: ProbeOf, cx: &mut Cx<'_>) {
        let keeps = cx.bugs.believe_old_probes;
        let ends = |probe: &mut Probing| probe.of == of && !keeps;
        let Some(probe) = self.probe.take_if(ends) else { return };
        self.probe = match probe.step {
            Step::Asked { .. } => {
                cx.out.push(Action::ProbeNoMore(probe.run));
                None
            }
            Step::Runs { executes, .. } => Some(self.kill_probe(probe, executes, cx)),
            Step::Ends { .. } => Some(probe),
        };
    }

    /// It has no tree before its exec, and takes no other signal.
    fn kill_probe(&self, probe: Probing, executes: bool, cx: &mut Cx<'_>) -> Probing {
        let scope = if executes { Scope::Tree } else { Scope::Main };
        cx.signal(self, probe.run, Signal::KILL, scope);
        Probing { step: Step::Ends { executes, again: Again::first(cx.now) }, ..probe }
    }

    /// A thread has looked; called by the engine.
    pub(super) fn probed(&mut self, run: RunId, sample: Sample, cx: &mut Cx<'_>) {
        let mine = |probe: &Probing| probe.run == run && matches!(probe.step, Step::Asked { .. });
        if cx.bugs.believe_any_probe && self.health.is_some() {
            return self.sampled(ProbeOf::Health, cx.now, sample, cx);
        }
        let Some(probe) = self.probe.take_if(|probe| mine(probe)) else { return };
        self.sampled(probe.of, probe.began, sample, cx);
    }

    /// The last words of its command; called by the engine right before the end of that.
    pub(super) fn has_said(&mut self, run: RunId, words: Arc<str>) {
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.run == run) {
            probe.said = Some(words);
        }
    }

    /// What concerns the look under way; the rest is handed on.
    pub(super) fn step_probe(&mut self, input: Input, cx: &mut Cx<'_>) -> Option<Input> {
        let Some(probe) = self.probe.clone() else { return Some(input) };
        match input {
            Input::Child(of, what) if of == probe.run => {
                self.command_of_probe(probe, what, cx);
                None
            }
            Input::Deadline if probe.deadline().is_some_and(|at| at <= cx.now) => {
                self.probe_is_late(probe, cx);
                Some(Input::Deadline)
            }
            Input::Start
            | Input::Stop(_)
            | Input::Kill(_)
            | Input::GateOpen
            | Input::Free
            | Input::Deadline
            | Input::Child(..) => Some(input),
        }
    }

    fn command_of_probe(&mut self, probe: Probing, what: ChildEvent, cx: &mut Cx<'_>) {
        let (of, began, fresh) = (probe.of, probe.began, probe.is_fresh());
        match what {
            ChildEvent::Spawned { .. } => {
                if let Some(Step::Runs { executes, .. } | Step::Ends { executes, .. }) =
                    self.probe.as_mut().map(|probe| &mut probe.step)
                {
                    *executes = true;
                }
            }
            ChildEvent::SpawnFailed(failure) => {
                self.probe_is_gone(cx);
                if fresh {
                    let what = self.probe_of(of);
                    let why = probe.failed(what, format_args!("cannot start: {}", failure.text));
                    self.sampled(of, began, Sample::Unknown(why), cx);
                }
            }
            ChildEvent::Exited(exit) => {
                let sample = match exit {
                    Exit::Code(0) => Sample::Good,
                    Exit::Code(_) | Exit::Signal { .. } | Exit::OutOfMemory | Exit::Unknown => {
                        Sample::Bad(probe.failed(self.probe_of(of), exit))
                    }
                };
                self.probe = Some(self.kill_probe(probe, true, cx));
                if fresh {
                    self.sampled(of, began, sample, cx);
                }
            }
            ChildEvent::TreeEmpty => self.probe_is_gone(cx),
            ChildEvent::Main { .. }
            | ChildEvent::NoMain(_)
            | ChildEvent::Said(_)
            | ChildEvent::Ready
            | ChildEvent::Unready(_)
            | ChildEvent::Reaped => {}
        }
    }

    fn probe_is_late(&mut self, probe: Probing, cx: &mut Cx<'_>) {
        let (of, began) = (probe.of, probe.began);
        let sample = match probe.step {
            Step::Asked { .. } => {
                cx.out.push(Action::ProbeNoMore(probe.run));
                self.probe = None;
                let why = "nobody has come back from there: a host name, a file system or too many \
                           other looks hang";
                Sample::Unknown(probe.failed(self.probe_of(of), why))
            }
            Step::Runs { executes, limit, .. } => {
                let what = self.probe_of(of);
                let sample = if executes {
                    let how = format_args!("no end within {}", Human(limit));
                    Sample::Bad(probe.failed(what, how))
                } else {
                    let how = format_args!("no exec within {}", Human(limit));
                    Sample::Unknown(probe.failed(what, how))
                };
                self.probe = Some(self.kill_probe(probe, executes, cx));
                sample
            }
            Step::Ends { executes, again } => {
                let killed = self.kill_probe(probe, executes, cx);
                let step = Step::Ends { executes, again: again.next(cx.now) };
                self.probe = Some(Probing { step, ..killed });
                return;
            }
        };
        self.sampled(of, began, sample, cx);
    }

    /// Nothing is left of its command: the end of a run may have waited for that.
    fn probe_is_gone(&mut self, cx: &mut Cx<'_>) {
        self.probe = None;
        if self.side.is_some() || !matches!(self.state, State::Emptying { empty: true, .. }) {
            return;
        }
        let before = self.word();
        let state = std::mem::replace(&mut self.state, State::Stopped);
        if let State::Emptying { ended, .. } = state {
            self.state = self.clean(0, ended, cx);
        }
        if self.word() != before {
            self.since = (cx.now, cx.wall);
        }
    }

    /// What was found.
    fn sampled(&mut self, of: ProbeOf, began: Instant, sample: Sample, cx: &mut Cx<'_>) {
        match of {
            ProbeOf::Health => self.health_sampled(began, sample, cx),
            ProbeOf::Readiness => self.readiness_sampled(sample, cx),
        }
    }

    /// After each step: looks begin and end as its state has it.
    pub(super) fn look_after_probes(&mut self, cx: &mut Cx<'_>) {
        self.look_after_readiness(cx);
        self.look_after_health(cx);
    }

    fn look_after_readiness(&mut self, cx: &mut Cx<'_>) {
        let by = self.program.readiness.as_deref().map(|readiness| &readiness.by);
        let wanted = match (&self.state, by) {
            // A line of its output is told when it is written.
            (State::Proving { .. }, Some(ReadyBy::Probe { probe: Probe::Log(_), .. })) => None,
            (State::Proving { life, .. }, Some(by @ ReadyBy::Probe { .. })) => Some((life.run, by)),
            _ => None,
        };
        let Some((run, by)) = wanted else {
            if self.proof.take().is_some() {
                self.end_probe(ProbeOf::Readiness, cx);
            }
            return;
        };
        if !self.proof.as_ref().is_some_and(|proof| proof.run == run && proof.by == *by) {
            let by = by.clone();
            self.end_probe(ProbeOf::Readiness, cx);
            self.proof = Some(Proof { by, run, next: cx.now });
        }
        let due = self.proof.as_ref().is_some_and(|proof| proof.next <= cx.now);
        if due && self.probe.is_none() {
            self.begin_probe(ProbeOf::Readiness, LONGEST, cx);
        }
    }

    /// What a look whether it is ready has found.
    fn readiness_sampled(&mut self, sample: Sample, cx: &mut Cx<'_>) {
        let (Some(proof), State::Proving { life, why, .. }) = (&mut self.proof, &mut self.state)
        else {
            return;
        };
        let run = life.run;
        if let ReadyBy::Probe { interval, .. } = proof.by {
            proof.next = cx.now + interval;
        }
        let what = match sample {
            Sample::Good => ChildEvent::Ready,
            Sample::Bad(now) | Sample::Unknown(now) => {
                if why.is_some() {
                    // Told once; shown as it is.
                    *why = Some(now);
                    return;
                }
                ChildEvent::Unready(now)
            }
        };
        self.step(Input::Child(run, what), cx);
    }
}
