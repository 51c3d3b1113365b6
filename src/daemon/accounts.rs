//! The accounts of this host, as `config` asks for them.

use crate::{config::Accounts, model::Account, sys::user};

/// The users and groups of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

impl Accounts for Host {
    fn user(&self, name: &str) -> Option<Account> {
        user::user(name)
    }

    fn user_by_id(&self, uid: u32) -> Option<Account> {
        user::user_by_id(uid)
    }

    fn group(&self, name: &str) -> Option<u32> {
        user::group(name)
    }

    fn user_names(&self) -> Vec<String> {
        user::user_names()
    }

    fn group_names(&self) -> Vec<String> {
        user::group_names()
    }
}
