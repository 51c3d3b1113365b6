//! What command mode does when: a function of what happens and of the time.
//!
//! ```text
//!   running ── exit ──► leaving ── grace over, or asked again ──► killing ──► done
//!      │                   └── nobody left ───────────────────────────────────►│
//!      └── stop timeout, second TERM: SIGKILL to everybody; given up after LAST ►│
//! ```

use std::time::Duration;

use super::Options;
use crate::model::{Exit, Instant, Signal};

/// Something that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A signal to us.
    Signal(Signal),
    /// The command was stopped by a signal, as by ^Z.
    Stopped,
    /// The command has ended.
    Exited(Exit),
    /// After the end of the command: none of its processes is left.
    NobodyLeft,
    /// The deadline has passed.
    Deadline,
}

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To the command.
    ToCommand(Signal),
    /// To the process group of the command.
    ToGroup(Signal),
    /// To all that the command left behind.
    ToLeftovers(Signal),
    /// SIGKILL to the command and to everything below it and left behind.
    KillAll,
    /// The terminal is ours again; then stop ourselves.
    Suspend,
    /// The terminal is the command's again; then wake its group.
    Resume,
    /// Say that the command has not ended in time.
    TellLate,
    /// Say that leftovers have not ended in time.
    TellLeftovers,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The command runs.
    Running {
        /// When it is killed.
        kill_at: Option<Instant>,
        /// When it was first asked to end by SIGTERM.
        asked: Option<Instant>,
        /// It was killed: when its end is no longer waited for.
        end_at: Option<Instant>,
        /// We have stopped ourselves with it.
        suspended: bool,
    },
    /// It has ended; what it left behind was asked to.
    Leaving { code: u8, kill_at: Instant },
    /// The same was killed.
    Killing { code: u8, again_at: Instant, end_at: Instant },
    /// All is over.
    Done { code: u8 },
}

/// How long SIGKILL may take until its end is no longer waited for.
const LAST: Duration = Duration::from_millis(500);
/// How often it is sent again meanwhile: to whoever was forked after the last look.
const AGAIN: Duration = Duration::from_millis(50);

/// A second SIGTERM so soon is the first one, said twice.
const ECHO: Duration = Duration::from_millis(100);
/// How long leftovers get at the least, even when the time of the stop is over.
const LEAST: Duration = Duration::from_millis(200);

/// The machine.
#[derive(Clone, Debug)]
pub struct Machine {
    state: State,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            state: State::Running { kill_at: None, asked: None, end_at: None, suspended: false },
        }
    }
}

impl Machine {
    /// Handles one event. `now` never goes back.
    pub fn handle(&mut self, event: Event, now: Instant, options: &Options, out: &mut Vec<Action>) {
        self.state = match self.state {
            State::Running { .. } => self.when_running(event, now, options, out),
            State::Leaving { code, kill_at } => when_leaving((code, kill_at), event, now, out),
            State::Killing { code, again_at, end_at } => {
                when_killing((code, again_at, end_at), event, now, out)
            }
            done @ State::Done { .. } => done,
        };
    }

    /// When it wants [`Event::Deadline`]; `None`: only when something happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Running { kill_at, end_at, .. } => end_at.or(kill_at),
            State::Leaving { kill_at, .. } => Some(kill_at),
            State::Killing { again_at, end_at, .. } => Some(again_at.min(end_at)),
            State::Done { .. } => None,
        }
    }

    /// The exit code, when all is over.
    #[must_use]
    pub fn code(&self) -> Option<u8> {
        match self.state {
            State::Done { code } => Some(code),
            State::Running { .. } | State::Leaving { .. } | State::Killing { .. } => None,
        }
    }

    /// Whether the command has ended and only what it left behind is waited for.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving { .. } | State::Killing { .. })
    }

    fn when_running(
        &self,
        event: Event,
        now: Instant,
        options: &Options,
        out: &mut Vec<Action>,
    ) -> State {
        let State::Running { kill_at, asked, end_at, suspended } = self.state else {
            return self.state;
        };
        match event {
            Event::Signal(signal) => {
                let first = State::Running { kill_at, asked, end_at, suspended };
                signalled(first, signal, now, options, out)
            }
            Event::Stopped if options.job_control => {
                out.push(Action::Suspend);
                State::Running { kill_at, asked, end_at, suspended: true }
            }
            Event::Exited(exit) => left(exit, kill_at, now, options, out),
            Event::Deadline if end_at.is_some_and(|at| at <= now) => State::Done { code: 137 },
            Event::Deadline if end_at.is_none() && kill_at.is_some_and(|at| at <= now) => {
                out.extend([Action::TellLate, Action::KillAll]);
                State::Running { kill_at: None, asked, end_at: Some(now + LAST), suspended }
            }
            Event::Stopped | Event::NobodyLeft | Event::Deadline => self.state,
        }
    }
}

/// A signal on its way to the command.
fn signalled(
    state: State,
    signal: Signal,
    now: Instant,
    options: &Options,
    out: &mut Vec<Action>,
) -> State {
    let State::Running { kill_at, asked, end_at, suspended } = state else { return state };
    if suspended && signal == Signal::CONT {
        out.push(Action::Resume);
        return State::Running { kill_at, asked, end_at, suspended: false };
    }
    let ends = signal == Signal::TERM || signal == Signal::INT;
    let Some(timeout) = options.stop_timeout.filter(|_| ends && end_at.is_none()) else {
        forward(signal, options, out);
        return state;
    };
    // timeout(1) tells its child, and then the whole group that it is in.
    let again = asked.is_some_and(|at| now.since(at) >= ECHO);
    if again && signal == Signal::TERM {
        out.push(Action::KillAll);
        return State::Running { kill_at: None, asked, end_at: Some(now + LAST), suspended };
    }
    forward(signal, options, out);
    State::Running {
        kill_at: kill_at.or(Some(now + timeout)),
        asked: asked.or((signal == Signal::TERM).then_some(now)),
        end_at,
        suspended,
    }
}

fn forward(signal: Signal, options: &Options, out: &mut Vec<Action>) {
    if let Some(signal) = options.rewritten(signal) {
        out.push(if options.group { Action::ToGroup(signal) } else { Action::ToCommand(signal) });
    }
}

/// The command has ended: what it left behind is asked to.
fn left(
    exit: Exit,
    stop_by: Option<Instant>,
    now: Instant,
    options: &Options,
    out: &mut Vec<Action>,
) -> State {
    let code = options.mapped(exit.shell_code());
    if options.grace.is_zero() {
        return State::Done { code };
    }
    // What is stopped acts on SIGTERM only after SIGCONT.
    out.extend([Action::ToLeftovers(Signal::TERM), Action::ToLeftovers(Signal::CONT)]);
    // Within the time that the whole stop has, if we were asked for one.
    let latest = stop_by.map_or(now + options.grace, |at| at.max(now + LEAST));
    State::Leaving { code, kill_at: latest.min(now + options.grace) }
}

fn when_leaving(
    (code, kill_at): (u8, Instant),
    event: Event,
    now: Instant,
    out: &mut Vec<Action>,
) -> State {
    let impatient = [Signal::TERM, Signal::INT, Signal::QUIT];
    match event {
        Event::NobodyLeft => State::Done { code },
        Event::Signal(signal) if impatient.contains(&signal) => kill(code, now, out),
        Event::Deadline if kill_at <= now => {
            out.push(Action::TellLeftovers);
            kill(code, now, out)
        }
        Event::Signal(_) | Event::Stopped | Event::Exited(_) | Event::Deadline => {
            State::Leaving { code, kill_at }
        }
    }
}

fn kill(code: u8, now: Instant, out: &mut Vec<Action>) -> State {
    out.push(Action::ToLeftovers(Signal::KILL));
    State::Killing { code, again_at: now + AGAIN, end_at: now + LAST }
}

fn when_killing(
    (code, again_at, end_at): (u8, Instant, Instant),
    event: Event,
    now: Instant,
    out: &mut Vec<Action>,
) -> State {
    match event {
        Event::NobodyLeft => State::Done { code },
        Event::Deadline if end_at <= now => State::Done { code },
        Event::Deadline if again_at <= now => {
            out.push(Action::ToLeftovers(Signal::KILL));
            State::Killing { code, again_at: now + AGAIN, end_at }
        }
        Event::Signal(_) | Event::Stopped | Event::Exited(_) | Event::Deadline => {
            State::Killing { code, again_at, end_at }
        }
    }
}
