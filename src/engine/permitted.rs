//! Who may raise a semaphore.

use std::sync::Arc;

use crate::model::{Holder, SemaphoreKind, Who};

/// Who may raise it.
pub(super) struct Permitted<'a>(pub(super) &'a Who);

impl Permitted<'_> {
    fn user(&self, uid: u32) -> bool {
        self.0.users.contains(&uid)
    }

    /// Why whoever asks may not: who holds the lock, or whose the file is.
    pub(super) fn refusal(
        &self,
        kind: SemaphoreKind,
        owner: u32,
        holders: &[Holder],
    ) -> Option<Arc<str>> {
        match kind {
            SemaphoreKind::Flock => self.refusal_of_holders(holders),
            SemaphoreKind::File => self.refusal_of_owner(owner),
        }
    }

    /// Attribution may refuse, and never grants: whoever could open the file is asked for his name.
    fn refusal_of_holders(&self, holders: &[Holder]) -> Option<Arc<str>> {
        if holders.is_empty() {
            let why = "nobody can be named for it: the holder is gone or in another PID namespace";
            return Some(why.into());
        }
        let stranger = holders.iter().find(|holder| !self.holder(holder))?;
        let [real, effective, ..] = stranger.uids;
        let as_whom = if real == effective {
            format!("uid {real}")
        } else {
            format!("uid {real} as uid {effective}")
        };
        Some(format!("{as_whom} may not (pid {}: {})", stranger.pid, stranger.command).into())
    }

    fn holder(&self, holder: &Holder) -> bool {
        let [real, ..] = holder.uids;
        // Whoever has some of another user has run something setuid with the lock open.
        let of_group = || {
            holder.uids.iter().all(|uid| *uid == real)
                && holder.gids.iter().any(|gid| self.0.groups.contains(gid))
        };
        holder.uids.iter().all(|uid| self.user(*uid)) || of_group()
    }

    pub(super) fn refusal_of_owner(&self, uid: u32) -> Option<Arc<str>> {
        (!self.user(uid)).then(|| format!("uid {uid} may not").into())
    }
}
