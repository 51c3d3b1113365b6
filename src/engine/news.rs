//! What happened to a semaphore, as data; its words stand here and nowhere else.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::HostNews;
use crate::model::{Human, Info, LogLevel, MinuteOfDay};

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// Its `debounce`.
    Debounce,
    /// Its `delay`.
    Delay,
    /// The supervisor's `min_uptime`.
    Uptime,
    /// Its `rate_limit`.
    Rate,
    /// The info file, by which a case is chosen.
    Info,
    /// Its `window`, which opens then.
    Window(MinuteOfDay),
}

/// What happened to a semaphore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields' words are those of the texts below")]
pub enum SemaphoreNews {
    /// Somebody asks by it.
    Raised { by: Arc<str>, info: Option<Arc<Info>>, hold: Option<(Hold, Duration)> },
    /// And says this.
    Said { info: Arc<Info> },
    /// Somebody holds it, and that is all there is to it.
    Held { by: Arc<str> },
    /// What it asks for is done.
    Acted { deed: Arc<str> },
    /// What it asks for cannot be done.
    NotDone { deed: Arc<str>, why: Arc<str> },
    /// It is no longer asked for.
    Cancelled { why: Arc<str> },
    /// It was looked at for the first time, and nobody asks.
    Armed,
    /// Nobody asks any more.
    Cleared,
    /// What was there at the start is no request.
    Stale,
    /// Somebody asks who may not.
    Refused { why: Arc<str> },
    /// It cannot be told whether somebody asks.
    Unknown { why: Arc<str> },
    /// In its place stands something else.
    Foreign { why: Arc<str> },
    /// The host is to go down, or is not after all.
    Host(HostNews),
}

impl SemaphoreNews {
    /// Its name in the vocabulary of events.
    pub(super) fn event(&self) -> &'static str {
        match self {
            Self::Raised { .. } => "semaphore.raised",
            Self::Held { .. } => "semaphore.held",
            Self::Said { .. } => "semaphore.said",
            Self::Acted { .. } => "semaphore.acted",
            Self::NotDone { .. } => "semaphore.failed",
            Self::Cancelled { .. } => "semaphore.cancelled",
            Self::Armed => "semaphore.armed",
            Self::Cleared => "semaphore.cleared",
            Self::Stale => "semaphore.stale",
            Self::Refused { .. } => "semaphore.refused",
            Self::Unknown { .. } => "semaphore.unknown",
            Self::Foreign { .. } => "semaphore.foreign",
            Self::Host(news) => news.event(),
        }
    }

    /// The news without what the signaller says, and that line by line.
    pub(super) fn in_parts(&self) -> (Self, Vec<String>) {
        let lines = |info: &Info| -> Vec<String> {
            info.fields.iter().map(|(key, value)| format!("{key}: {value}")).collect()
        };
        if let Self::Raised { by, info: Some(info), hold } = self {
            return (Self::Raised { by: Arc::clone(by), info: None, hold: *hold }, lines(info));
        }
        if let Self::Said { info } = self {
            let silent = Info { fields: Vec::new(), ..Info::clone(info) };
            return (Self::Said { info: Arc::new(silent) }, lines(info));
        }
        (self.clone(), Vec::new())
    }

    /// How important it is.
    pub(super) fn level(&self) -> LogLevel {
        match self {
            Self::Host(news) => news.level(),
            Self::Foreign { .. } | Self::NotDone { .. } => LogLevel::Error,
            Self::Raised { .. } | Self::Refused { .. } | Self::Unknown { .. } => LogLevel::Warn,
            Self::Armed
            | Self::Held { .. }
            | Self::Said { .. }
            | Self::Acted { .. }
            | Self::Cancelled { .. }
            | Self::Cleared
            | Self::Stale => LogLevel::Info,
        }
    }
}

impl fmt::Display for SemaphoreNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raised { by, info, hold } => {
                write!(f, "raised by {by}")?;
                if let Some(info) = info.as_ref().filter(|info| !info.fields.is_empty()) {
                    write!(f, ": {}", in_words(info))?;
                }
                match hold {
                    Some((why, left)) => write!(f, "; acts in {} ({why})", Human(*left)),
                    None => Ok(()),
                }
            }
            Self::Held { by } => write!(f, "held by {by}"),
            Self::Said { info } if info.fields.is_empty() => f.write_str("who has raised it says"),
            Self::Said { info } => write!(f, "who has raised it says {}", in_words(info)),
            Self::Acted { deed } => write!(f, "does {deed}"),
            Self::NotDone { deed, why } => write!(f, "cannot do {deed}: {why}"),
            Self::Cancelled { why } => write!(f, "cancelled: {why}"),
            Self::Armed => f.write_str("armed"),
            Self::Cleared => f.write_str("clear"),
            Self::Stale => f.write_str("left over from before the start: no request"),
            Self::Refused { why } => write!(f, "refused: {why}"),
            Self::Unknown { why } => write!(f, "nothing is done, as it cannot be told: {why}"),
            Self::Host(news) => news.fmt(f),
            Self::Foreign { why } => write!(f, "nothing is done, as it is no longer ours: {why}"),
        }
    }
}

/// `name=Tigro, node_id=!a1`.
fn in_words(info: &Info) -> String {
    let fields = info.fields.iter().map(|(key, value)| format!("{key}={value}"));
    fields.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Window(opens) => return write!(f, "its window opens at {opens}"),
            Self::Debounce => "debounce",
            Self::Delay => "delay",
            Self::Uptime => "min_uptime",
            Self::Rate => "rate_limit",
            Self::Info => "waits for the info file",
        })
    }
}
