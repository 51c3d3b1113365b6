//! Users and groups of the host, from `/etc/passwd` and `/etc/group` (passwd(5), group(5)).
//!
//! The files are read by ourselves: in a static glibc binary the look-up through NSS crashes. A
//! dynamic binary asks NSS for names that the files do not have (LDAP, sssd).

use std::{fs, path::Path};

use crate::model::Account;

/// The largest account file that is read, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// The account with this login name, with all its groups.
#[must_use]
pub fn user(name: &str) -> Option<Account> {
    let entry = users().into_iter().find(|user| &*user.name == name).or_else(|| nss::user(name))?;
    Some(with_groups(entry))
}

/// The account with this id, with all its groups.
#[must_use]
pub fn user_by_id(uid: u32) -> Option<Account> {
    let entry = users().into_iter().find(|user| user.uid == uid);
    entry.or_else(|| nss::user_by_id(uid)).map(with_groups)
}

/// The id of the group with this name.
#[must_use]
pub fn group(name: &str) -> Option<u32> {
    let found = groups().into_iter().find(|group| group.name == name);
    found.map(|group| group.gid).or_else(|| nss::group(name))
}

/// All login names of the files, for suggestions.
#[must_use]
pub fn user_names() -> Vec<String> {
    users().into_iter().map(|user| user.name.into()).collect()
}

/// All names of groups of the files, for suggestions.
#[must_use]
pub fn group_names() -> Vec<String> {
    groups().into_iter().map(|group| group.name).collect()
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

fn read(path: &str) -> String {
    let path = Path::new(path);
    let small = fs::metadata(path).is_ok_and(|meta| meta.len() <= FILE_MAX);
    let bytes = if small { fs::read(path).unwrap_or_default() } else { Vec::new() };
    String::from_utf8_lossy(&bytes).into_owned()
}

fn users() -> Vec<Account> {
    read("/etc/passwd").lines().filter_map(parse_user).collect()
}

fn groups() -> Vec<Group> {
    read("/etc/group").lines().filter_map(parse_group).collect()
}

/// An id as passwd(5) writes it. Not what setresuid(2) reads as "leave as it is", and not its old
/// 16-bit form.
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id = text.parse().ok().filter(|_| digits)?;
    is_id(id).then_some(id)
}

fn is_id(id: u32) -> bool {
    id != u32::MAX && id != 65_535
}

/// `name:password:uid:gid:comment:home:shell`.
fn parse_user(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
    if name.is_empty() {
        return None;
    }
    let (uid, gid) = (id(uid)?, id(gid)?);
    let shell = if shell.is_empty() { "/bin/sh" } else { shell };
    Some(Account {
        name: (*name).into(),
        uid,
        gid,
        groups: Box::from([gid]),
        home: home.into(),
        shell: shell.into(),
    })
}

/// `name:password:gid:member,member`.
fn parse_group(line: &str) -> Option<Group> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, gid, members] = fields.as_slice() else { return None };
    let members = members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
    Some(Group { name: (*name).to_owned(), gid: id(gid)?, members })
}

/// All groups of a user, its own first; what initgroups(3) would give.
fn with_groups(user: Account) -> Account {
    let is_member = |group: &Group| group.members.iter().any(|m| **m == *user.name);
    let mut all = vec![user.gid];
    all.extend(groups().into_iter().filter(is_member).map(|group| group.gid));
    all.extend(user.groups.iter().copied());
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|gid| seen.insert(*gid));
    Account { groups: all.into(), ..user }
}

#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
mod nss {
    use std::ffi::CString;

    use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

    use crate::model::Account;

    pub(super) fn user(name: &str) -> Option<Account> {
        account(User::from_name(name).ok()??)
    }

    pub(super) fn user_by_id(uid: u32) -> Option<Account> {
        account(User::from_uid(Uid::from_raw(uid)).ok()??)
    }

    pub(super) fn group(name: &str) -> Option<u32> {
        Some(Group::from_name(name).ok()??.gid.as_raw())
    }

    fn account(user: User) -> Option<Account> {
        let name = CString::new(user.name.clone()).ok()?;
        if !super::is_id(user.uid.as_raw()) || !super::is_id(user.gid.as_raw()) {
            return None;
        }
        let groups = getgrouplist(&name, user.gid).ok()?;
        Some(Account {
            name: user.name.into(),
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            home: user.dir,
            shell: user.shell,
        })
    }
}

/// Nothing but the files: NSS of a static glibc loads libraries that crash it.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
mod nss {
    use crate::model::Account;

    pub(super) fn user(_: &str) -> Option<Account> {
        None
    }

    pub(super) fn user_by_id(_: u32) -> Option<Account> {
        None
    }

    pub(super) fn group(_: &str) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_passwd_becomes_an_account() {
        let parsed = parse_user("www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin").unwrap();
        assert_eq!((parsed.uid, parsed.gid, &*parsed.name), (33, 33, "www-data"));
        assert_eq!(parsed.home, Path::new("/var/www"));
        assert!(parse_user("broken:x:33").is_none());
        for uid in ["-1", "+0", "0x0", "", " 0", "65535", "4294967295", "4294967296"] {
            assert!(parse_user(&format!("bad:x:{uid}:0::/:/bin/sh")).is_none(), "{uid}");
        }
        assert!(parse_user(":x:0:0::/:/bin/sh").is_none());
    }

    #[test]
    fn root_is_found_and_a_stranger_is_not() {
        let root = user("root").unwrap();
        assert_eq!(root.uid, 0);
        assert!(root.groups.contains(&0));
        assert!(user("no-such-user-here").is_none());
        assert_eq!(user_by_id(0).map(|a| a.name), Some("root".into()));
    }
}
