//! The accounts of this host, as `config` asks for them.

use crate::{
    config::Accounts,
    model::Account,
    sys::{stdio, user},
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

/// Who gave no answer is as if not there; but why is said, for a name that is merely unknown is
/// another mistake.
fn found<T>(answer: Result<Option<T>, user::NoAnswer>) -> Option<T> {
    answer.unwrap_or_else(|why| {
        stdio::say(&format!("supervisor: {why}\n"));
        None
    })
}
