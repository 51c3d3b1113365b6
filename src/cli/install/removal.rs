//! The plan of `uninstall`. Pure.

use std::{path::Path, time::Duration};

use super::{
    facts::{Activity, Facts, Place, Written},
    plan::{self, SYSTEMCTL, systemctl},
    step::{Action, Item, State, Step},
    unit::{self, Target},
};
use crate::model::Site;

/// How long a stop may take when nobody says: longer than systemd waits for any site of ours.
const STOP: Duration = Duration::from_secs(3600);

/// The six steps. `running`: somebody answers on the control socket.
pub(super) fn uninstall(target: &Target, facts: &Facts, running: bool) -> Vec<Step> {
    let step = |name, items| Step { name, items };
    let unit = if target.packaged {
        Item::new(target.unit.as_str(), State::Skipped("it belongs to the package".to_owned()))
    } else {
        remove(&target.unit_file, &facts.unit, target)
    };
    let removed = matches!(unit.state, State::Do(_));
    let ours = removed || target.packaged;
    vec![
        step("stop", vec![stop(target, facts, ours, running)]),
        step("disable", vec![disable(target, facts, ours)]),
        step("unit", vec![unit]),
        step("privileges", vec![Item::skipped("nothing for sudo was written")]),
        step("tmpfiles", vec![remove(&target.tmpfiles, &facts.tmpfiles, target)]),
        step("reload", reload(target, facts, removed)),
    ]
}

fn stop(target: &Target, facts: &Facts, ours: bool, running: bool) -> Item {
    let active = facts.systemd.is_some_and(|systemd| systemd.activity == Activity::Up);
    if ours && active {
        return systemctl(&["stop", "--", &target.unit], STOP);
    }
    match (running, facts.systemd) {
        (false, _) => Item::new("", State::Already("it does not run")),
        (true, None) => Item::new("stop the supervisor of the site", State::Do(Action::Shutdown)),
        (true, Some(_)) => Item::skipped(format!(
            "a supervisor of this site runs that no unit of ours has started; \
             supervisor -c {} shutdown ends it",
            target.file.display()
        )),
    }
}

fn disable(target: &Target, facts: &Facts, ours: bool) -> Item {
    match facts.systemd {
        Some(systemd) if ours && systemd.enabled => {
            systemctl(&["disable", "--", &target.unit], SYSTEMCTL)
        }
        Some(_) | None => Item::new("", State::Already("it is not enabled")),
    }
}

/// Removes a file that we wrote for this site, and no other.
fn remove(path: &Path, now: &Written, target: &Target) -> Item {
    let shown = path.display();
    let what = format!("remove {shown}");
    match now {
        Written::Missing => Item::new(shown.to_string(), State::Already("not there")),
        Written::Unusable(cause) => {
            Item::cannot(what, cause.as_str(), format!("look at {shown}: it is not ours"))
        }
        Written::Text(text) => match unit::written_for(text) {
            Some(file) if file == target.file => {
                Item::new(what, State::Do(Action::Remove { path: path.into() }))
            }
            Some(file) => {
                let hint = format!("supervisor uninstall -c {}", file.display());
                Item::cannot(what, format!("it belongs to the site {}", file.display()), hint)
            }
            None => {
                let cause = "it was not written by supervisor install";
                Item::cannot(what, cause, format!("if nobody needs it, rm {shown}"))
            }
        },
    }
}

fn reload(target: &Target, facts: &Facts, removed: bool) -> Vec<Item> {
    let mut items = vec![plan::reload(removed, facts)];
    if removed && facts.systemd.is_some_and(|systemd| systemd.activity == Activity::Failed) {
        items.push(systemctl(&["reset-failed", "--", &target.unit], SYSTEMCTL));
    }
    items
}

/// What stays, so that nobody has to look for it.
pub(super) fn kept(site: Option<&Site>, target: &Target, facts: &Facts) -> String {
    let file = format!("    {}\n", target.file.display());
    let users = site.into_iter().flat_map(|site| site.users.keys());
    let users = users.filter(|name| facts.accounts.contains_key(*name));
    let there = |(_, place): &(_, &Place)| matches!(place, Place::There(..));
    let directories = facts.directories.iter().filter(there);
    let lines = users
        .map(|name| format!("    user {name}\n"))
        .chain(directories.map(|(path, _)| format!("    {}\n", path.display())));
    format!("kept:\n{file}{}", lines.collect::<String>())
}
