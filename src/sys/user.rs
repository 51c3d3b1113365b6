//! Users and groups of the host, from `/etc/passwd` and `/etc/group` (passwd(5), group(5)).
//!
//! The files are read by ourselves: in a static glibc binary the look-up through NSS crashes. A
//! dynamic binary asks NSS for names that the files do not have (LDAP, sssd), and not for longer
//! than [`PATIENCE`]: a directory server may never answer.

use std::{fmt, fs, path::Path, time::Duration};

use crate::model::Account;

/// How long NSS may take for one name.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The largest account file that is read, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// NSS did not answer in time, or there is no thread to ask it from: nobody knows whether there is
/// such a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// `user alice`, `uid 1000`.
    pub whom: String,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot look up {}: no answer within {} s", self.whom, PATIENCE.as_secs())
    }
}

impl std::error::Error for NoAnswer {}

/// The account with this login name, with all its groups.
///
/// # Errors
/// It is in no file, and NSS does not answer.
pub fn user(name: &str) -> Result<Option<Account>, NoAnswer> {
    let entry = match users().into_iter().find(|user| &*user.name == name) {
        Some(entry) => Some(entry),
        None => nss::user(name)?,
    };
    Ok(entry.map(with_groups))
}

/// The account with this id, with all its groups.
///
/// # Errors
/// As [`user`].
pub fn user_by_id(uid: u32) -> Result<Option<Account>, NoAnswer> {
    let entry = match users().into_iter().find(|user| user.uid == uid) {
        Some(entry) => Some(entry),
        None => nss::user_by_id(uid)?,
    };
    Ok(entry.map(with_groups))
}

/// The id of the group with this name.
///
/// # Errors
/// As [`user`].
pub fn group(name: &str) -> Result<Option<u32>, NoAnswer> {
    match groups().into_iter().find(|group| group.name == name) {
        Some(group) => Ok(Some(group.gid)),
        None => nss::group(name),
    }
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

/// Not empty, no comment, and not one of the `+name` and `-name` by which NIS is included.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(['#', '+', '-'])
}

/// `name:password:uid:gid:comment:home:shell`.
fn parse_user(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
    if !is_name(name) {
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
    if !is_name(name) {
        return None;
    }
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
    use std::{
        ffi::CString,
        sync::{
            Arc,
            atomic::{AtomicIsize, AtomicU8, Ordering},
            mpsc,
        },
    };

    use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

    use super::{NoAnswer, PATIENCE};
    use crate::model::Account;

    pub(super) fn user(name: &str) -> Result<Option<Account>, NoAnswer> {
        let asked = name.to_owned();
        ask(format!("user {name}"), move || account(User::from_name(&asked).ok()??))
    }

    pub(super) fn user_by_id(uid: u32) -> Result<Option<Account>, NoAnswer> {
        ask(format!("uid {uid}"), move || account(User::from_uid(Uid::from_raw(uid)).ok()??))
    }

    pub(super) fn group(name: &str) -> Result<Option<u32>, NoAnswer> {
        let asked = name.to_owned();
        ask(format!("group {name}"), move || Some(Group::from_name(&asked).ok()??.gid.as_raw()))
    }

    /// Questions that were given up and are still not answered. Each has a thread that nobody can
    /// end; while there is one, nothing more is asked.
    static LATE: AtomicIsize = AtomicIsize::new(0);

    const OPEN: u8 = 0;
    const ANSWERED: u8 = 1;
    const GIVEN_UP: u8 = 2;

    /// Asks in a thread of its own, and waits for the answer as long as is bearable.
    fn ask<T: Send + 'static>(
        whom: String,
        question: impl FnOnce() -> Option<T> + Send + 'static,
    ) -> Result<Option<T>, NoAnswer> {
        if LATE.load(Ordering::Relaxed) > 0 {
            return Err(NoAnswer { whom });
        }
        let (sender, answer) = mpsc::sync_channel(1);
        let state = Arc::new(AtomicU8::new(OPEN));
        let its = Arc::clone(&state);
        let asking = std::thread::Builder::new().name("accounts".into()).spawn(move || {
            sender.send(question()).ok();
            if its.swap(ANSWERED, Ordering::Relaxed) == GIVEN_UP {
                LATE.fetch_sub(1, Ordering::Relaxed);
            }
        });
        if asking.is_err() {
            return Err(NoAnswer { whom });
        }
        if let Ok(found) = answer.recv_timeout(PATIENCE) {
            return Ok(found);
        }
        let late =
            state.compare_exchange(OPEN, GIVEN_UP, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if late {
            LATE.fetch_add(1, Ordering::Relaxed);
        }
        Err(NoAnswer { whom })
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
#[expect(clippy::unnecessary_wraps, reason = "a dynamic binary may get no answer")]
mod nss {
    use super::NoAnswer;
    use crate::model::Account;

    pub(super) fn user(_: &str) -> Result<Option<Account>, NoAnswer> {
        Ok(None)
    }

    pub(super) fn user_by_id(_: u32) -> Result<Option<Account>, NoAnswer> {
        Ok(None)
    }

    pub(super) fn group(_: &str) -> Result<Option<u32>, NoAnswer> {
        Ok(None)
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
    fn odd_lines_are_nobody_and_do_not_hide_the_others() {
        let text = "\n# root:x:0:0::/:/bin/sh\n+::::::\n-nis:x:5:5::/:/bin/sh\n:x:0:0::/:/bin/sh\n\
                    short:x:1:1\nlong:x:1:1::/:/bin/sh:more\nno-shell:x:1:1::/home:\n\
                    \u{fffd}odd:x:2:2::/:/bin/sh\r\ntwice:x:3:3::/:/bin/sh\ntwice:x:0:0::/:/bin/sh";
        let all: Vec<Account> = text.lines().filter_map(parse_user).collect();
        let names: Vec<&str> = all.iter().map(|user| &*user.name).collect();
        assert_eq!(names, ["no-shell", "\u{fffd}odd", "twice", "twice"]);
        assert_eq!(all.iter().map(|u| u.uid).collect::<Vec<_>>(), [1, 2, 3, 0]);
        assert!(all.iter().all(|user| user.shell == Path::new("/bin/sh")));
        let text = "+:::\nbad:x:-1:a\nshort:x:1\nempty:x:2:\nmany:x:3:a,,b,\n#c:x:4:a";
        let all: Vec<Group> = text.lines().filter_map(parse_group).collect();
        let found: Vec<(u32, usize)> = all.iter().map(|g| (g.gid, g.members.len())).collect();
        assert_eq!(found, [(2, 0), (3, 2)]);
    }

    #[test]
    fn root_is_found_and_a_stranger_is_not() {
        let root = user("root").unwrap().unwrap();
        assert_eq!(root.uid, 0);
        assert!(root.groups.contains(&0));
        assert_eq!(user("no-such-user-here"), Ok(None));
        assert_eq!(group("no-such-group-here"), Ok(None));
        assert_eq!(user_by_id(0).unwrap().map(|a| a.name), Some("root".into()));
    }
}
