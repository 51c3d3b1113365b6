//! The plan for users and groups. Pure.

use std::path::{Path, PathBuf};

use super::{
    facts::{Facts, UsersBy},
    plan::SYSTEMCTL,
    step::{Action, Item, State},
};
use crate::model::{Site, User};

pub(super) fn users(site: &Site, facts: &Facts) -> Vec<Item> {
    if site.users.is_empty() {
        return vec![Item::skipped("the site declares none")];
    }
    let made = site.users.iter().map(|(name, user)| make_user(name, user, facts));
    let joined = site.users.iter().flat_map(|(name, user)| join(name, user, site, facts));
    made.chain(joined).collect()
}

fn make_user(name: &str, user: &User, facts: &Facts) -> Item {
    let mut about = vec![];
    if user.system {
        about.push("system".to_owned());
    }
    about.extend(user.home.iter().map(|home| format!("home {}", home.display())));
    about.extend(user.shell.iter().map(|shell| format!("shell {}", shell.display())));
    if let Some(account) = facts.accounts.get(name) {
        let other = |what: &str, is: &Path, wanted: &Option<PathBuf>| {
            let differs = wanted.as_deref().is_some_and(|wanted| wanted != is);
            differs.then(|| format!("{what} {} is left as it is", is.display()))
        };
        let home = other("home", &account.home, &user.home);
        let shell = other("shell", &account.shell, &user.shell);
        let notes: Vec<String> = home.into_iter().chain(shell).collect();
        let notes =
            if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
        return Item::new(format!("user {name}{notes}"), State::Already("already there"));
    }
    let about = if about.is_empty() { String::new() } else { format!(" ({})", about.join(", ")) };
    let what = format!("make user {name}{about}");
    let Some(by) = facts.users_by else {
        let cause = "neither useradd nor adduser of busybox is there";
        let hint = format!("make user {name} by other means, or install the package passwd");
        return Item::cannot(what, cause, hint);
    };
    let commands = commands(name, user, by, facts);
    Item::new(what, State::Do(Action::MakeUser { name: name.into(), commands }))
}

/// The commands that make an account.
fn commands(name: &str, user: &User, by: UsersBy, facts: &Facts) -> Vec<Vec<String>> {
    // A home that is there already is somebody's: it is neither filled nor given away.
    let home_is_made = match &user.home {
        Some(home) => !facts.homes.contains(home),
        None => !user.system,
    };
    let home = user.home.as_ref().map(|home| home.display().to_string());
    let home = home.or_else(|| user.system.then(|| "/nonexistent".to_owned()));
    let shell = user.shell.clone().or_else(|| user.system.then(|| facts.nologin.clone()));
    let shell = shell.map(|shell| shell.display().to_string());
    let group_exists = facts.groups.contains_key(name);
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    match by {
        UsersBy::Shadow => {
            let mut one = words(&["useradd"]);
            if user.system {
                one.push("--system".into());
            }
            one.extend(home.into_iter().flat_map(|home| ["--home-dir".to_owned(), home]));
            one.push(if home_is_made { "--create-home" } else { "--no-create-home" }.into());
            one.extend(shell.into_iter().flat_map(|shell| ["--shell".to_owned(), shell]));
            if group_exists {
                one.extend(words(&["--gid", name]));
            } else {
                one.push("--user-group".into());
            }
            one.extend(words(&["--", name]));
            vec![one]
        }
        UsersBy::Busybox => {
            let system: &[&str] = if user.system { &["-S"] } else { &[] };
            let group = [&["addgroup"], system, &[name]].concat();
            let mut one = words(&[&["adduser"], system, &["-D"]].concat());
            one.extend(home.into_iter().flat_map(|home| ["-h".to_owned(), home]));
            if !home_is_made {
                one.push("-H".into());
            }
            one.extend(shell.into_iter().flat_map(|shell| ["-s".to_owned(), shell]));
            one.extend(words(&["-G", name, name]));
            let group = (!group_exists).then(|| words(&group));
            group.into_iter().chain([one]).collect()
        }
    }
}

/// Membership in groups. One that does not exist is not made up: a slip of the pen would be hard to
/// find.
fn join(name: &str, user: &User, site: &Site, facts: &Facts) -> Vec<Item> {
    let exists = |group: &&str| {
        facts.groups.contains_key(*group)
            || site.users.contains_key(*group)
            || group.starts_with(|c: char| c.is_ascii_digit())
    };
    let all: Vec<&str> = user.groups.iter().map(|group| &**group).collect();
    let mut items: Vec<Item> = Vec::new();
    for group in all.iter().filter(|group| !exists(group)) {
        let what = format!("add {name} to {group}");
        let hint = format!("groupadd --system {group}, or remove it from users.{name}.groups");
        items.push(Item::cannot(what, format!("there is no group {group}"), hint));
    }
    let account = facts.accounts.get(name);
    let is_member = |group: &&str| {
        let gid = facts.groups.get(*group).copied().or_else(|| group.parse().ok());
        account.zip(gid).is_some_and(|(account, gid)| account.groups.contains(&gid))
    };
    let wanted = all.iter().copied().filter(exists);
    let (there, missing): (Vec<_>, Vec<_>) = wanted.partition(is_member);
    if !there.is_empty() {
        let what = format!("{name} in {}", there.join(", "));
        items.push(Item::new(what, State::Already("already there")));
    }
    let what = format!("add {name} to {}", missing.join(", "));
    let of = |words: &[&str]| Action::Command {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        limit: SYSTEMCTL,
    };
    match facts.users_by {
        _ if missing.is_empty() => {}
        None => {
            let hint = format!("add {name} to the groups by other means");
            items.push(Item::cannot(what, "there is no usermod", hint));
        }
        Some(UsersBy::Shadow) => {
            let groups = missing.join(",");
            let words = ["usermod", "--append", "--groups", &groups, "--", name];
            items.push(Item::new(what, State::Do(of(&words))));
        }
        Some(UsersBy::Busybox) => items.extend(missing.iter().map(|group| {
            let what = format!("add {name} to {group}");
            Item::new(what, State::Do(of(&["addgroup", name, group])))
        })),
    }
    items
}
