//! `semaphores:`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Context, absolute,
    host_end::host_end,
    program::{group_id, lookup, user_id},
    read::{self, Flag},
    supervisor::rate,
};
use crate::{
    config::{diagnostic::Diagnostic, tree::Node},
    model::{
        Case, Deed, HostGoal, LockProbe, Mode, Name, Semaphore, SemaphoreKind, Watched, Who, Window,
    },
};

/// Looked at so often where the kernel tells of no change.
const POLL: Duration = Duration::from_secs(5);

pub(crate) fn semaphores(
    node: Option<&Node>,
    context: &mut Context<'_>,
) -> BTreeMap<Name, Arc<Semaphore>> {
    let mut out: BTreeMap<Name, Arc<Semaphore>> = BTreeMap::new();
    for (key, node) in node.map(Node::entries).unwrap_or_default() {
        let Ok(name) = Name::new(&key.text) else { continue };
        let Some(semaphore) = semaphore(&name, node, context) else { continue };
        let path = &semaphore.watched.path;
        if let Some(other) = out.values().find(|other| other.watched.path == *path) {
            let text =
                format!("`{}` is the file of semaphore {} already", path.display(), other.name);
            let place = node.get("path").map_or(node.place, |path| path.place);
            let found = Diagnostic::error("shared-file", place, text);
            context.found.push(found.key(format!("semaphores.{name}.path")));
        }
        out.insert(name, Arc::new(semaphore));
    }
    out
}

/// `None` when something that is required is missing: that is said elsewhere.
fn semaphore(name: &Name, node: &Node, context: &mut Context<'_>) -> Option<Semaphore> {
    let path = |key: &str| {
        let home = context.options.account.as_ref().map(|account| &*account.home);
        Some(absolute(node.get(key)?.text()?, context.directory, home))
    };
    let is_file = node.get("type").and_then(Node::text) == Some("file");
    let who = who(node.get("allow"), context);
    let watched = Watched {
        kind: if is_file { SemaphoreKind::File } else { SemaphoreKind::Flock },
        path: path("path")?,
        info_file: path("info_file"),
        info_keys: read::map(node.get("info_keys")),
        poll_interval: read::duration(node, "poll_interval").unwrap_or(POLL),
        owner: if is_file { None } else { owner(node, &who, context) },
        mode: read::mode(node, "mode").unwrap_or(Mode(0o600)),
        probe: probe(name, node, context),
    };
    let key = format!("semaphores.{name}");
    let cases = cases(&key, node, context);
    let deed = deed(&format!("{key}.action"), node.get("action")?, context)?;
    if matches!(deed, Deed::EndHost(_)) && node.get("min_uptime").is_none() {
        let text = "whoever asks at each start of the host has it reboot for ever";
        let found = Diagnostic::error("no-min-uptime", node.place, text).warning();
        context.found.push(found.key(key).hint("add `min_uptime: 5m`, and a `rate_limit`"));
    }
    let time = |key: &str| read::duration(node, key).unwrap_or_default();
    let is_asked = watched.info_file.is_some() && deed != Deed::Nothing;
    let latches = if is_asked { Flag::On } else { Flag::Off };
    Some(Semaphore {
        name: name.clone(),
        description: read::text(node, "description"),
        allow: with_ourselves(who, context.options.uid),
        latch: read::flag(node, "latch", latches),
        debounce: time("debounce"),
        delay: time("delay"),
        min_uptime: time("min_uptime"),
        windows: windows(node.get("window")),
        rate_limit: node.get("rate_limit").and_then(rate),
        // Removed while it is held, a lock would exclude nobody any more.
        removes: deed != Deed::Nothing
            && node.get("acknowledge").and_then(Node::text) != Some("keep"),
        cases,
        deed,
        watched: Arc::new(watched),
    })
}

fn probe(name: &Name, node: &Node, context: &mut Context<'_>) -> LockProbe {
    let Some(node) = node.get("probe") else { return LockProbe::Auto };
    match node.text() {
        Some("proc-locks") => LockProbe::ProcLocks,
        Some("try-lock") => {
            let text = "where /proc/locks may hide a holder, the lock is tried: who takes it in \
                        that microsecond, and does not wait for it, fails";
            let found = Diagnostic::error("try-lock", node.place, text.to_owned()).warning();
            context.found.push(found.key(format!("semaphores.{name}.probe")));
            LockProbe::TryLock
        }
        _ => LockProbe::Auto,
    }
}

/// One, or several.
fn windows(node: Option<&Node>) -> Box<[Window]> {
    let Some(node) = node else { return Box::default() };
    let list = node.items().iter().filter_map(Node::text);
    node.text().into_iter().chain(list).filter_map(|text| Window::parse(text).ok()).collect()
}

fn who(node: Option<&Node>, context: &Context<'_>) -> Who {
    let list = |key: &str| {
        let list = node.and_then(|node| node.get(key));
        list.map(Node::items).unwrap_or_default().iter().filter_map(Node::text)
    };
    Who {
        users: list("users").filter_map(|text| user_id(text, context)).collect(),
        groups: list("groups").filter_map(|text| group_id(text, context)).collect(),
    }
}

/// Root may everything, and so may whoever runs the supervisor.
fn with_ourselves(who: Who, own: u32) -> Who {
    let mut users: Vec<u32> = who.users.into_vec();
    users.extend([0, own]);
    users.sort_unstable();
    users.dedup();
    Who { users: users.into(), ..who }
}

/// Whose the lock file is: as given, else the only one who may raise it, so that nobody squats it.
fn owner(node: &Node, who: &Who, context: &Context<'_>) -> Option<(u32, u32)> {
    let account = match node.get("owner").and_then(Node::text) {
        Some("self") => context.accounts.user_by_id(context.options.uid),
        Some(text) => lookup(text, context),
        None => match *who.users {
            [uid] => context.accounts.user_by_id(uid),
            _ => None,
        },
    };
    account.map(|account| (account.uid, account.gid))
}

/// What is done instead of `action`, by fields of the info file.
fn cases(key: &str, node: &Node, context: &mut Context<'_>) -> Box<[Case]> {
    let mut cases = Vec::new();
    let list = node.get("cases");
    for (index, item) in list.map(Node::items).unwrap_or_default().iter().enumerate() {
        let key = format!("{key}.cases[{index}]");
        let mut when = Vec::new();
        for (field, value) in item.get("when").map(Node::entries).unwrap_or_default() {
            let Some(name) = field.text.strip_prefix("info.").filter(|name| !name.is_empty())
            else {
                let text = format!("`{}` cannot be asked for", field.text);
                let found = Diagnostic::error("bad-value", field.place, text);
                let found = found.key(format!("{key}.when"));
                context.found.push(found.hint("expected `info.` and a key: `info.name`"));
                continue;
            };
            when.push((name.into(), value.text().unwrap_or_default().into()));
        }
        if let Some(node) = item.get("when").filter(|when| when.entries().is_empty()) {
            let text = "expected at least one field of the info file";
            let found = Diagnostic::error("bad-value", node.place, text);
            context.found.push(found.key(format!("{key}.when")));
        }
        let action = item.get("action");
        let deed = action.and_then(|node| deed(&format!("{key}.action"), node, context));
        cases.extend(deed.map(|deed| Case { when: when.into(), deed }));
    }
    if let Some(list) = list.filter(|_| node.get("info_file").is_none()) {
        let text = "`cases` go by the info file, and there is none";
        let found = Diagnostic::error("missing-key", list.place, text);
        context.found.push(found.key(format!("{key}.cases")).hint("add `info_file`"));
    }
    cases.into()
}

fn deed(key: &str, action: &Node, context: &mut Context<'_>) -> Option<Deed> {
    for goal in [HostGoal::Reboot, HostGoal::PowerOff] {
        let settings = action.get(goal.as_str());
        if settings.is_some() || action.text() == Some(goal.as_str()) {
            let key = format!("{key}.{goal}");
            return Some(Deed::EndHost(Arc::new(host_end(goal, settings, &key, context))));
        }
    }
    let text = action.text()?;
    let (verb, program) = text.split_once(':').map_or((text, None), |(v, p)| (v, Some(p)));
    match (verb, program.map(Name::new)) {
        ("reload", None) => Some(Deed::Reload),
        ("none", None) => Some(Deed::Nothing),
        ("restart" | "stop", Some(Ok(program))) => {
            if let Some(instances) = context.instances.get(program.as_str()) {
                let one = instances.first().map_or("NAME", Name::as_str);
                let text = format!("{program} has several instances");
                let found = Diagnostic::error("bad-value", action.place, text).key(key);
                context.found.push(found.hint(format!("name one of them: {verb}:{one}")));
                return None;
            }
            Some(if verb == "stop" { Deed::Stop(program) } else { Deed::Restart(program) })
        }
        _ => None,
    }
}
