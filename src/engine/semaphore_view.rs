//! A semaphore as a status shows it.

use super::{Hold, SemaphoreSlot, SemaphoreState};
use crate::{
    control::{HolderStatus, SemaphoreStatus, SemaphoreWord},
    model::{Deed, Holder, Human, Info, Instant, Level},
};

/// What a semaphore is for programs that are not to run while it is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freedom {
    /// Nobody who may raise it does.
    Free,
    /// Somebody holds it.
    Held,
    /// It cannot be told: nothing starts, and nothing is stopped.
    Unknown,
}

impl SemaphoreSlot {
    /// Whether somebody who may holds the lock, or the file is there. An info file alone holds
    /// nothing.
    pub(super) fn freedom(&self) -> Freedom {
        let refused = matches!(self.state, SemaphoreState::Refused(_));
        match self.reading.as_ref().map(|reading| &reading.level) {
            Some(Level::Clear) => Freedom::Free,
            Some(Level::Raised { .. }) if refused => Freedom::Free,
            Some(Level::Raised { .. }) => Freedom::Held,
            Some(Level::Unknown(_) | Level::Foreign(_)) | None => Freedom::Unknown,
        }
    }

    /// As a status shows it.
    #[must_use]
    pub fn status(&self, now: Instant) -> SemaphoreStatus {
        let (state, reason) = self.in_words(now);
        let next = if let SemaphoreState::Pending { at, .. } = self.state {
            Some(at.since(now).as_secs_f64())
        } else {
            None
        };
        let watched = &self.settings.watched;
        let own = |text: &str| text.to_owned();
        let fields = self.info().map(|info| info.fields.as_slice()).unwrap_or_default();
        SemaphoreStatus {
            name: own(self.settings.name.as_str()),
            state,
            reason,
            action: self.settings.deed.to_string(),
            kind: own(watched.kind.as_str()),
            owner: watched.owner,
            mode: watched.mode.0,
            path: watched.path.display().to_string(),
            info_file: watched.info_file.as_ref().map(|path| path.display().to_string()),
            info_keys: watched.info_keys.iter().map(|(k, v)| (own(k), own(v))).collect(),
            info: fields.iter().map(|(key, value)| (own(key), own(value))).collect(),
            holders: self.holders().iter().map(holder_status).collect(),
            last_raised: self.last_raised,
            next_in_s: next,
            waits_for: self.waits_for().map(|why| why.to_string()),
            description: self.settings.description.as_deref().map(own),
        }
    }

    fn waits_for(&self) -> Option<Hold> {
        match self.state {
            SemaphoreState::Pending { why, .. } => Some(why),
            SemaphoreState::Unseen
            | SemaphoreState::Clear
            | SemaphoreState::Served { .. }
            | SemaphoreState::Refused(_)
            | SemaphoreState::Unknown(_)
            | SemaphoreState::Foreign(_) => None,
        }
    }

    fn in_words(&self, now: Instant) -> (SemaphoreWord, String) {
        match &self.state {
            SemaphoreState::Unseen => (SemaphoreWord::Unknown, "not looked at yet".into()),
            SemaphoreState::Clear if self.settings.deed == Deed::Nothing => {
                (SemaphoreWord::Clear, "free".into())
            }
            SemaphoreState::Clear => (SemaphoreWord::Clear, "armed".into()),
            SemaphoreState::Pending { at, why: Hold::Window(opens), .. } => {
                let (who, left) = (self.who(), Human(at.since(now)));
                let text = format!("{who}; waits for its window at {opens}, in {left}");
                (SemaphoreWord::Pending, text)
            }
            SemaphoreState::Pending { at, why, .. } => {
                let left = Human(at.since(now));
                (SemaphoreWord::Pending, format!("{}; acts in {left} ({why})", self.who()))
            }
            SemaphoreState::Served { .. } if self.settings.deed == Deed::Nothing => {
                (SemaphoreWord::Raised, self.who())
            }
            SemaphoreState::Served { .. } => {
                (SemaphoreWord::Raised, format!("{}; done", self.who()))
            }
            SemaphoreState::Refused(why) => (SemaphoreWord::Refused, why.to_string()),
            SemaphoreState::Unknown(why) | SemaphoreState::Foreign(why) => {
                (SemaphoreWord::Unknown, why.to_string())
            }
        }
    }

    /// Who asks, in words.
    #[must_use]
    pub fn who(&self) -> String {
        match self.reading.as_ref().map(|reading| &reading.level) {
            Some(Level::Raised { holders, .. }) if !holders.is_empty() => {
                let one = |holder: &Holder| {
                    let [uid, ..] = holder.uids;
                    format!("{} (pid {}, uid {uid})", holder.command, holder.pid)
                };
                holders.iter().take(3).map(one).collect::<Vec<_>>().join(", ")
            }
            Some(Level::Raised { owner, .. }) => format!("the file of uid {owner}"),
            _ => self.info().map_or_else(String::new, |info| format!("uid {}", info.uid)),
        }
    }

    /// The info file that was seen last.
    #[must_use]
    pub fn info(&self) -> Option<&Info> {
        self.reading.as_ref()?.info.as_deref()
    }

    fn holders(&self) -> &[Holder] {
        match self.reading.as_ref().map(|reading| &reading.level) {
            Some(Level::Raised { holders, .. }) => holders,
            Some(Level::Clear | Level::Unknown(_) | Level::Foreign(_)) | None => &[],
        }
    }
}

fn holder_status(holder: &Holder) -> HolderStatus {
    let [uid, ..] = holder.uids;
    HolderStatus { pid: holder.pid, uid, command: holder.command.to_string() }
}
