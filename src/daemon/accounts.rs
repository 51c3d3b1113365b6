//! The accounts of this host, as `config` asks for them.

use crate::{
    config::Accounts,
    model::{Account, Mode},
    sys::{directory::Ownership, stdio, user},
};

/// The users and groups of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

impl Accounts for Host {
    fn user(&self, name: &str) -> Option<Account> {
        found(user::user(name))
    }

    fn user_by_id(&self, uid: u32) -> Option<Account> {
        found(user::user_by_id(uid))
    }

    fn group(&self, name: &str) -> Option<u32> {
        found(user::group(name))
    }

    fn user_names(&self) -> Vec<String> {
        user::user_names()
    }

    fn group_names(&self) -> Vec<String> {
        user::group_names()
    }
}

impl Host {
    /// Whose a directory is to be, by names or decimal ids: without an owner ours, without a group
    /// the owner's.
    ///
    /// # Errors
    /// There is no such user or group.
    pub fn ownership(
        &self,
        owner: Option<&str>,
        group: Option<&str>,
        mode: Mode,
    ) -> Result<Ownership, String> {
        let own = nix::unistd::geteuid().as_raw();
        let uid = match owner.map(|name| (name, name.parse())) {
            None => own,
            Some((_, Ok(uid))) => uid,
            Some((name, Err(_))) => {
                self.user(name).ok_or_else(|| format!("there is no user {name}"))?.uid
            }
        };
        let gid = match group.map(|name| (name, name.parse())) {
            None if uid == own => nix::unistd::getegid().as_raw(),
            None => self.user_by_id(uid).map_or(uid, |account| account.gid),
            Some((_, Ok(gid))) => gid,
            Some((name, Err(_))) => {
                self.group(name).ok_or_else(|| format!("there is no group {name}"))?
            }
        };
        Ok(Ownership { uid, gid, mode: mode.0 })
    }
}

/// Who gave no answer is as if not there; but why is said, for a name that is merely unknown is
/// another mistake.
fn found<T>(answer: Result<Option<T>, user::NoAnswer>) -> Option<T> {
    answer.unwrap_or_else(|why| {
        stdio::say(&format!("supervisor: {why}\n"));
        None
    })
}
