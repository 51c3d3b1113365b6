//! A site and the facts of the host make a plan. Pure.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    accounts,
    facts::{Activity, Facts, Written},
    places,
    step::{Action, Item, State, Step},
    unit::{self, Target},
};
use crate::{
    cli::options::InstallArgs,
    control::paths::PRODUCT,
    model::{Directory, Mode, Site},
};

/// How long systemd may take for anything but starts and stops.
pub(super) const SYSTEMCTL: Duration = Duration::from_secs(60);
/// How long a start may take: systemd has its own limit, which is shorter.
const START: Duration = Duration::from_secs(3600);

/// The eight steps.
pub(super) fn install(site: &Site, target: &Target, facts: &Facts, args: InstallArgs) -> Vec<Step> {
    let directories = directories(site, &target.site);
    let unit = unit(site, target, facts);
    let is_new = matches!(unit.state, State::Do(_));
    let step = |name, items| Step { name, items };
    vec![
        step("users", accounts::users(site, facts)),
        step("permissions", places::permissions(&directories, site, facts)),
        step("directories", places::missing(&directories, facts)),
        step("unit", vec![unit]),
        step("privileges", vec![privileges(site)]),
        step("tmpfiles", vec![places::tmpfiles(&directories, target, facts)]),
        step("reload", vec![reload(is_new, facts)]),
        step("enable", enable(args, target, facts)),
    ]
}

/// Every directory of the site: those that it declares, and its own.
pub(super) fn directories(site: &Site, name: &str) -> BTreeMap<PathBuf, Directory> {
    let own = Directory {
        owner: None,
        group: None,
        mode: Mode(0o755),
        files: None,
        optional: false,
        at_start: false,
    };
    let supervisor = &site.supervisor;
    let (run, made_by_systemd) = unit::runtime_dir(supervisor);
    let below = |base: &str| Path::new(base).join(PRODUCT).join(name);
    let state = supervisor.state_dir.clone().unwrap_or_else(|| below("/var/lib"));
    let mut all = BTreeMap::from([(state, own.clone()), (below("/var/log"), own.clone())]);
    if made_by_systemd.is_none() {
        all.insert(run, own);
    }
    all.extend(site.directories.iter().map(|(path, directory)| (path.clone(), directory.clone())));
    all
}

pub(super) const NO_SYSTEMD: &str = "systemd does not run here";

fn unit(site: &Site, target: &Target, facts: &Facts) -> Item {
    if facts.systemd.is_none() {
        return Item::skipped(NO_SYSTEMD);
    }
    if target.packaged {
        let what = format!("{} of the package", target.unit);
        return Item::new(what, State::Already("already there"));
    }
    if let Some((rival, state)) = &facts.packaged
        && (state.enabled || state.activity == Activity::Up)
    {
        let cause = format!("{rival} of the package starts this site as well");
        let hint = format!("systemctl disable --now {rival}");
        return Item::cannot(format!("write {}", target.unit_file.display()), cause, hint);
    }
    let text = unit::service(&site.supervisor, target, &facts.binary, site);
    write(&target.unit_file, text, &facts.unit, target)
}

/// A file of ours, which is written only where it is not there or ours.
pub(super) fn write(path: &Path, text: String, now: &Written, target: &Target) -> Item {
    let shown = path.display();
    let hint = || format!("look at {shown}, and move it away if nobody needs it");
    let write = |text| State::Do(Action::Write { path: path.into(), text });
    match now {
        Written::Missing => Item::new(format!("write {shown}"), write(text)),
        Written::Unusable(cause) => Item::cannot(format!("write {shown}"), cause.as_str(), hint()),
        Written::Text(now) if *now == text => {
            Item::new(shown.to_string(), State::Already("already there"))
        }
        Written::Text(now) => match unit::written_for(now) {
            Some(file) if file == target.file => {
                Item::new(format!("write {shown} anew"), write(text))
            }
            Some(file) => {
                let cause = format!("it belongs to the site {}", file.display());
                let hint = "give one of the two sites another name (supervisor.name)";
                Item::cannot(format!("write {shown}"), cause, hint)
            }
            None => {
                let cause = "it was not written by supervisor install";
                Item::cannot(format!("write {shown}"), cause, hint())
            }
        },
    }
}

/// Nothing of sudo: who may do what is a matter of the control socket.
fn privileges(site: &Site) -> Item {
    let control = &site.supervisor.control;
    let rules = control.access.len();
    let closed = control.mode.0 & 0o066 == 0 && control.owner.is_none_or(|uid| uid == 0);
    Item::skipped(match rules {
        0 => "nothing for sudo: supervisor.control.access would let others than root do something"
            .to_owned(),
        _ if closed => format!(
            "nothing for sudo, but supervisor.control.mode {} lets nobody but root use the rules \
             of supervisor.control.access ({rules})",
            control.mode
        ),
        _ => format!("nothing for sudo: supervisor.control.access says who may do what ({rules})"),
    })
}

pub(super) fn systemctl(words: &[&str], limit: Duration) -> Item {
    let words: Vec<String> =
        ["systemctl"].iter().chain(words).map(|word| (*word).to_owned()).collect();
    let what = words.iter().filter(|word| *word != "--").cloned().collect::<Vec<_>>().join(" ");
    Item::new(what, State::Do(Action::Command { words, limit }))
}

/// systemd reads its files anew when one of ours is another one.
pub(super) fn reload(is_new: bool, facts: &Facts) -> Item {
    match facts.systemd {
        None => Item::skipped(NO_SYSTEMD),
        Some(systemd) if is_new || systemd.outdated => systemctl(&["daemon-reload"], SYSTEMCTL),
        Some(_) => Item::new("systemctl daemon-reload", State::Already("not needed")),
    }
}

fn enable(args: InstallArgs, target: &Target, facts: &Facts) -> Vec<Item> {
    let Some(systemd) = facts.systemd else { return vec![Item::skipped(NO_SYSTEMD)] };
    let mut items = vec![if args.no_enable {
        Item::skipped("--no-enable")
    } else if systemd.enabled {
        Item::new(format!("systemctl enable {}", target.unit), State::Already("already so"))
    } else {
        systemctl(&["enable", "--", &target.unit], SYSTEMCTL)
    }];
    if args.now && systemd.activity == Activity::Up {
        items.push(Item::new(target.unit.as_str(), State::Already("runs already")));
    } else if args.now {
        items.push(systemctl(&["start", "--", &target.unit], START));
    }
    items
}

/// How to go on.
pub(super) fn next_steps(target: &Target, facts: &Facts, started: bool) -> String {
    let file = target.file.display();
    let unit = &target.unit;
    let (start, journal) = match facts.systemd {
        Some(systemd) if started || systemd.activity == Activity::Up => {
            (format!("systemctl restart {unit}"), Some(unit))
        }
        Some(_) => (format!("systemctl start {unit}"), Some(unit)),
        None => (format!("supervisor -d -c {file}"), None),
    };
    let word = if start.contains(" restart ") { "start again" } else { "start" };
    let journal =
        journal.map_or_else(String::new, |unit| format!("    its own:  journalctl -u {unit} -f\n"));
    let boot = match facts.systemd {
        None => {
            "systemd does not run here: let the init of this host, or the entrypoint of the \
                 container, start it.\n"
        }
        Some(_) => "",
    };
    format!(
        "{boot}{word}:\n    {start}\nlogs:\n    supervisor -c {file} logs -f\n{journal}status:\n    \
         supervisor -c {file} status\n"
    )
}
