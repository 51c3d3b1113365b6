//! The plan for directories. Pure.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    facts::{Facts, Place, Written},
    plan::{NO_SYSTEMD, write},
    step::{Action, Item, State, Whose},
    unit::{self, Line, Target},
};
use crate::{
    model::{Directory, Site},
    sys::directory::Ownership,
};

/// What is lost at a boot.
const VOLATILE: [&str; 5] = ["/run", "/var/run", "/var/lock", "/tmp", "/dev/shm"];

fn whose(directory: &Directory) -> Whose {
    Whose {
        owner: directory.owner.clone().unwrap_or_else(|| "root".into()),
        group: directory.group.clone(),
        mode: directory.mode,
    }
}

/// As numbers, when all of it exists already.
fn wanted(whose: &Whose, facts: &Facts) -> Option<Ownership> {
    let account = facts.accounts.get(&whose.owner);
    let root = (&*whose.owner == "root").then_some((0, 0));
    let id = whose.owner.parse::<u32>().ok().map(|id| (id, id));
    let (uid, own) = account.map(|a| (a.uid, a.gid)).or(root).or(id)?;
    let gid = match whose.group.as_deref() {
        None => own,
        Some("root") => 0,
        Some(name) => facts.groups.get(name).copied().or_else(|| name.parse().ok())?,
    };
    Some(Ownership { uid, gid, mode: whose.mode.0 })
}

/// Directories that are there.
pub(super) fn permissions(
    all: &BTreeMap<PathBuf, Directory>,
    site: &Site,
    facts: &Facts,
) -> Vec<Item> {
    let mut items = Vec::new();
    for (path, directory) in all {
        let shown = path.display();
        let (now, files) = match facts.directories.get(path) {
            Some(Place::There(now, files)) => (now, files),
            Some(Place::Unusable(cause)) => {
                let hint = "what stands in the way is not removed by us";
                items.push(Item::cannot(shown.to_string(), cause.as_str(), hint));
                continue;
            }
            Some(Place::Missing) | None => continue,
        };
        let whose = whose(directory);
        let what = format!("{shown} ({whose})");
        let wanted = wanted(&whose, facts);
        if wanted == Some(*now) {
            items.push(Item::new(what, State::Already("already so")));
        } else if let Some(stranger) = stranger(now.uid, wanted, site, facts) {
            let hint = format!("declare its owner, or chown {stranger} {shown}");
            let cause = format!("it belongs to uid {stranger}, whom the site does not declare");
            items.push(Item::cannot(what, cause, hint));
        } else {
            let from = site.users.keys().cloned().collect();
            let action = Action::SetDirectory { path: path.clone(), whose, from };
            items.push(Item::new(what, State::Do(action)));
        }
        if files.left > 0 {
            let what = format!("{} in {shown}", count(files.left));
            let why = "they have other names as well, perhaps elsewhere";
            items.push(Item::new(what, State::Skipped(why.to_owned())));
        }
        let Some(mode) = directory.files.filter(|_| files.others > 0) else { continue };
        let what = format!("{} in {shown} ({mode})", count(files.others));
        items.push(Item::new(what, State::Do(Action::SetFiles { path: path.clone(), mode })));
    }
    if items.is_empty() {
        items.push(Item::skipped("no directory is there yet"));
    }
    items
}

fn count(files: usize) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

/// The owner of a directory that is not to be taken from him: neither root, nor the one it is to
/// belong to, nor a user of the site.
fn stranger(uid: u32, wanted: Option<Ownership>, site: &Site, facts: &Facts) -> Option<u32> {
    let declared = |account: &crate::model::Account| {
        account.uid == uid && site.users.contains_key(&account.name)
    };
    let known = uid == 0
        || wanted.is_some_and(|wanted| wanted.uid == uid)
        || facts.accounts.values().any(declared);
    (!known).then_some(uid)
}

/// Directories that are not there.
pub(super) fn missing(all: &BTreeMap<PathBuf, Directory>, facts: &Facts) -> Vec<Item> {
    let is_missing = |path: &Path| facts.directories.get(path) == Some(&Place::Missing);
    let items: Vec<Item> = all
        .iter()
        .filter(|(path, _)| is_missing(path))
        .map(|(path, directory)| {
            if directory.optional {
                let state = State::Skipped("not there, and declared as optional".to_owned());
                return Item::new(path.display().to_string(), state);
            }
            let whose = whose(directory);
            let what = format!("make {} ({whose})", path.display());
            Item::new(what, State::Do(Action::MakeDirectory { path: path.clone(), whose }))
        })
        .collect();
    if items.is_empty() { vec![Item::new("", State::Already("all there"))] } else { items }
}

/// Directories that vanish at a boot, for systemd to make them again.
pub(super) fn tmpfiles(all: &BTreeMap<PathBuf, Directory>, target: &Target, facts: &Facts) -> Item {
    if facts.systemd.is_none() {
        return Item::skipped(NO_SYSTEMD);
    }
    let volatile = |path: &Path| VOLATILE.iter().any(|base| path.starts_with(base));
    let all: Vec<_> = all
        .iter()
        .filter(|(path, directory)| volatile(path) && !directory.optional && !directory.at_start)
        .map(|(path, directory)| (path, whose(directory)))
        .collect();
    let line = |(path, whose): &(&PathBuf, Whose)| {
        // Its own group has its name, unless somebody has seen to it that it has another one.
        let account = facts.accounts.get(&whose.owner);
        let other = account.filter(|a| facts.groups.get(&whose.owner) != Some(&a.gid));
        let own = other.map(|account| account.gid.to_string());
        ((*path).clone(), whose.clone(), own)
    };
    let all: Vec<_> = all.iter().map(line).collect();
    let lines: Vec<Line<'_>> = all
        .iter()
        .map(|(path, whose, own)| Line {
            path,
            mode: whose.mode,
            owner: &whose.owner,
            group: whose.group.as_deref().or(own.as_deref()).unwrap_or(&whose.owner).to_owned(),
        })
        .collect();
    if !lines.is_empty() {
        let text = unit::tmpfiles(target, &lines);
        return write(&target.tmpfiles, text, &facts.tmpfiles, target);
    }
    match &facts.tmpfiles {
        Written::Text(text) if unit::written_for(text) == Some(&target.file) => {
            let what = format!("remove {}", target.tmpfiles.display());
            Item::new(what, State::Do(Action::Remove { path: target.tmpfiles.clone() }))
        }
        Written::Missing | Written::Text(_) | Written::Unusable(_) => {
            Item::skipped("no directory of the site vanishes at a boot")
        }
    }
}
