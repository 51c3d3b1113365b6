//! Policies of a program: when to start it again, how to stop it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Limit, Signal};

/// When a program that ended is started again (systemd.service(5), `Restart=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Not by itself.
    Never,
    /// After an unclean code, an unclean signal, a timeout, a watchdog.
    OnFailure,
    /// After an unclean signal, a timeout, a watchdog.
    OnAbnormal,
    /// Whatever the exit.
    Always,
}

/// `restart:` with all values resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// When to start again.
    pub policy: RestartPolicy,
    /// The first delay.
    pub delay: Duration,
    /// The longest delay.
    pub max_delay: Duration,
    /// Growth of the delay per consecutive failure, ≥ 1.
    pub factor: f64,
    /// Random share of the delay, 0..=1: 0.2 means ±20 %.
    pub jitter: f64,
    /// A run this long forgets earlier failures.
    pub reset_after: Limit,
    /// Exit codes that count as success.
    pub success_exit_codes: Box<[u8]>,
    /// Exit codes that always start again, whatever the policy.
    pub force_exit_codes: Box<[u8]>,
    /// Exit codes that never start again, whatever the policy; they win over `force`.
    pub prevent_exit_codes: Box<[u8]>,
    /// How many starts are too many; `None` switches the limit off.
    pub start_limit: Option<StartLimit>,
}

/// `start_limit:` — more than `burst` starts within `interval` are too many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartLimit {
    /// Starts allowed within the interval, ≥ 1.
    pub burst: u32,
    /// The interval.
    pub interval: Duration,
    /// What follows.
    pub action: LimitAction,
    /// With [`LimitAction::Retry`]: FATAL for so long, then one more round.
    pub retry_every: Duration,
}

/// What happens when the start limit is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitAction {
    /// FATAL, but tried again every `retry_every`.
    Retry,
    /// FATAL until somebody starts it.
    GiveUp,
    /// The supervisor stops the site and exits with the program's code.
    Exit,
    /// Started once more in its safe mode (a later issue).
    SafeMode,
}

/// `stop:` with all values resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// What asks the program to end, in this order; each waits before the next. Never empty.
    /// The last wait ends in SIGKILL.
    pub ladder: Box<[StopStep]>,
    /// A command that asks the program to end, run before the ladder's first signal is sent; the
    /// first signal follows when it fails, or when the program outlives the first wait.
    pub command: Option<Box<[Box<str>]>>,
    /// Who gets the signals.
    pub kill_mode: KillMode,
    /// Ask before stopping by hand.
    pub confirm: bool,
}

impl Stop {
    /// The longest time until SIGKILL; `Never` when a step has no limit.
    #[must_use]
    pub fn patience(&self) -> Limit {
        self.ladder.iter().fold(Limit::After(Duration::ZERO), |sum, step| match (sum, step.wait) {
            (Limit::After(a), Limit::After(b)) => Limit::After(a + b),
            (Limit::Never, _) | (_, Limit::Never) => Limit::Never,
        })
    }
}

/// One rung of the stop ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopStep {
    /// The signal to send.
    pub signal: Signal,
    /// How long to wait before the next rung, or SIGKILL.
    pub wait: Limit,
}

/// Who is signalled at a stop (systemd.kill(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KillMode {
    /// The main process is asked, then everything left is killed.
    Mixed,
    /// The whole tree is asked, then killed.
    Group,
    /// Only the main process; what it leaves behind goes on.
    Process,
}

/// `reload:` of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reload {
    /// Send this signal to the main process.
    Signal(Signal),
    /// Run this command.
    Command(Box<[Box<str>]>),
}
