//! What a reading of a semaphore asks for.

use std::sync::Arc;

use super::{
    SemaphoreSlot,
    permitted::Permitted,
    semaphore::{RequestKey, written},
};
use crate::model::{Info, Level, Reading};

/// What a reading asks for.
pub(super) enum Verdict {
    Nothing,
    Asked(RequestKey),
    Refused(Arc<str>),
    Unknown(Arc<str>),
    Foreign(Arc<str>),
}

impl SemaphoreSlot {
    /// What this reading asks for, by what was served.
    pub(super) fn judge(&self, reading: &Reading) -> Verdict {
        let (permitted, kind) = (Permitted(&self.settings.allow), self.settings.watched.kind);
        match &reading.level {
            Level::Unknown(why) => Verdict::Unknown(Arc::clone(why)),
            Level::Foreign(why) => Verdict::Foreign(Arc::clone(why)),
            Level::Raised { file, owner, holders } => {
                // Who was served is about to end: his descriptors go before his lock does.
                let leaves = holders.is_empty() && self.served_file == Some(*file);
                let lets = leaves || self.bugs.serve_strangers;
                match permitted.refusal(kind, *owner, holders).filter(|_| !lets) {
                    Some(why) => Verdict::Refused(why),
                    None => Verdict::Asked(RequestKey::File(*file)),
                }
            }
            Level::Clear => self.judge_info(reading.info.as_deref(), &permitted),
        }
    }

    /// A fresh info file whose writer is gone.
    fn judge_info(&self, info: Option<&Info>, permitted: &Permitted<'_>) -> Verdict {
        let Some(info) = info.filter(|info| self.settings.latch && self.is_fresh(info)) else {
            return Verdict::Nothing;
        };
        if !info.is_private {
            return Verdict::Refused("others may have written its info file".into());
        }
        match permitted.refusal_of_owner(info.uid) {
            Some(why) => Verdict::Refused(why),
            None => Verdict::Asked(RequestKey::Info(written(info))),
        }
    }

    pub(super) fn is_fresh(&self, info: &Info) -> bool {
        self.served_info != Some(written(info))
    }
}
