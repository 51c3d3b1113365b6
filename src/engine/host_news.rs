//! What happens on the way to the end of the host, as data; its words stand here.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::model::{HostGoal, Human, LogLevel, Method};

/// What happened on the way to a reboot, or to a power-off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNews {
    /// Which of the two.
    pub goal: HostGoal,
    /// What.
    pub what: HostStep,
}

/// A step of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields' words are those of the texts below")]
pub enum HostStep {
    /// Programs end first.
    Stopping { programs: usize, within: Duration },
    /// Those that have not ended are killed.
    Killing { left: usize },
    /// Those that SIGKILL does not end are not waited for.
    Leaving { left: usize },
    /// A method is begun.
    Trying { method: Method },
    /// It says that it will happen.
    Accepted { method: Method, grace: Duration },
    /// It says that it will not.
    Failed { method: Method, why: Arc<str> },
    /// It has said so, and it did not happen.
    StillUp { method: Method, after: Duration },
    /// None has worked.
    NoneWorked { methods: Arc<str>, retry: Duration, started: usize },
    /// It is not tried again.
    GivenUp,
    /// Somebody has cancelled it.
    Cancelled { started: usize },
    /// What would be done.
    Would { programs: usize, methods: Arc<str> },
    /// A container ends with this code instead.
    Contained { code: u8 },
}

impl HostNews {
    /// Its name in the vocabulary of events.
    pub(super) fn event(&self) -> &'static str {
        match &self.what {
            HostStep::Stopping { .. } => "host.stopping",
            HostStep::Killing { .. } | HostStep::Leaving { .. } => "host.killing",
            HostStep::Trying { .. } => "host.trying",
            HostStep::Accepted { .. } => "host.accepted",
            HostStep::Failed { .. } | HostStep::StillUp { .. } => "host.failed",
            HostStep::NoneWorked { .. } => "host.alarm",
            HostStep::GivenUp | HostStep::Cancelled { .. } => "host.cancelled",
            HostStep::Would { .. } => "host.dry_run",
            HostStep::Contained { .. } => "host.contained",
        }
    }

    /// How important it is.
    pub(super) fn level(&self) -> LogLevel {
        match &self.what {
            HostStep::NoneWorked { .. } => LogLevel::Error,
            HostStep::GivenUp | HostStep::Cancelled { .. } | HostStep::Would { .. } => {
                LogLevel::Info
            }
            HostStep::Stopping { .. }
            | HostStep::Killing { .. }
            | HostStep::Leaving { .. }
            | HostStep::Trying { .. }
            | HostStep::Accepted { .. }
            | HostStep::Failed { .. }
            | HostStep::StillUp { .. }
            | HostStep::Contained { .. } => LogLevel::Warn,
        }
    }
}

impl fmt::Display for HostNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let goal = self.goal;
        let word = |method: &Method| method.as_str(goal);
        write!(f, "{goal}: ")?;
        match &self.what {
            HostStep::Stopping { programs, within } => {
                write!(f, "stops {} first, within {}", Programs(*programs), Human(*within))
            }
            HostStep::Killing { left } => {
                write!(f, "{} not ended in time: killed", Programs(*left))
            }
            HostStep::Leaving { left } => {
                write!(f, "goes on, although SIGKILL does not end {}", Programs(*left))
            }
            HostStep::Trying { method } => write!(f, "tries {}", word(method)),
            HostStep::Accepted { method, grace } => {
                let (method, grace) = (word(method), Human(*grace));
                write!(f, "{method} has accepted; the host has {grace} to go down")
            }
            HostStep::Failed { method, why } => write!(f, "{} has failed: {why}", word(method)),
            HostStep::StillUp { method, after } => {
                let (method, after) = (word(method), Human(*after));
                write!(f, "the host is still up {after} after {method} had accepted")
            }
            HostStep::NoneWorked { methods, retry, started } => {
                write!(f, "none of its methods has worked ({methods}); ")?;
                if *started > 0 {
                    write!(f, "{} started again; ", Programs(*started))?;
                }
                let retry = Human(*retry);
                write!(f, "tried again in {retry}, unless it is cleared or no longer asked for")
            }
            HostStep::GivenUp => f.write_str("not tried again, as nobody asks for it any more"),
            HostStep::Cancelled { started: 0 } => f.write_str("cancelled"),
            HostStep::Cancelled { started } => {
                write!(f, "cancelled; {} started again", Programs(*started))
            }
            HostStep::Would { programs, methods } => {
                write!(f, "would stop {} and try {methods} (dry_run)", Programs(*programs))
            }
            HostStep::Contained { code } => {
                write!(f, "this is a container: it ends with code {code} for its restart policy")
            }
        }
    }
}

/// `1 program`, `2 programs`.
struct Programs(usize);

impl fmt::Display for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 program"),
            n => write!(f, "{n} programs"),
        }
    }
}
