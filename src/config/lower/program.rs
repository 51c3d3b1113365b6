//! A program.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Context, absolute, intern,
    logging::logging,
    policy::{limit_or, reload, restart, stop},
    read::{self, Flag},
    reference,
};
use crate::{
    config::{
        diagnostic::{Diagnostic, Place},
        tree::{Node, Value},
        values,
    },
    model::{
        Account, Awaited, Cleanup, Condition, Dependency, EnvironmentFile, Execution, Hook,
        Inherit, IoNice, Limit, Mode, Name, OwnedDirectory, Program, ProgramType, Resource,
        RlimitValue, RunAs, Target, Variant, WaitFor,
    },
};

/// Lowers a program that stands at `place` in the file. `instance` holds its own variables.
pub(crate) fn program(
    name: &Name,
    template: Option<&Name>,
    instance: &BTreeMap<Box<str>, Box<str>>,
    place: Place,
    node: &Node,
    context: &mut Context<'_>,
) -> Program {
    let user = run_as(node, place, context);
    let account = account_of(&user).cloned();
    let home = account.as_ref().map(|a| a.home.clone());
    let site_directory = context.directory.to_path_buf();
    let directory = node.get("working_directory").and_then(Node::text).map_or_else(
        || site_directory.clone(),
        |text| absolute(text, &site_directory, home.as_deref()),
    );
    let path = |text: &str| absolute(text, &directory, home.as_deref());
    let log = logging(node.get("logging"), name, &directory, account.as_ref(), context);
    let execution = execution(node, user, &directory, instance, &path, context);
    let (restart, stop) = (restart(node.get("restart"), context), stop(node.get("stop"), context));
    let hooks = |key: &str, context: &mut Context<'_>| hooks(node, key, context);
    let uid = account_of(&execution.user).map_or(context.options.uid, |account| account.uid);
    let health = super::probe::health(node, &log, &path, context);
    let found_ready = super::probe::readiness(node, &log, &path, context);
    let shm = node.get("shm").map(|n| Box::new(super::shm::rule(n, uid, context)));
    Program {
        name: name.clone(),
        template: template.cloned(),
        description: read::text(node, "description"),
        documentation: read::text(node, "documentation"),
        tags: read::list(node, "tags"),
        enabled: read::flag(node, "enabled", Flag::On),
        autostart: read::flag(node, "autostart", Flag::On),
        kind: kind(node, &path, context),
        command: node.get("command").map(read::command).unwrap_or_default(),
        execution: intern(&mut context.pool.executions, execution),
        after: dependencies(node, "after", context),
        requires: dependencies(node, "requires", context),
        wants: dependencies(node, "wants", context),
        wait_for: wait_for(node, &path),
        start_pre: hooks("start_pre", context),
        start_post: hooks("start_post", context),
        stop_post: hooks("stop_post", context),
        start_timeout: limit_or(node, "start_timeout", 90),
        readiness: super::readiness::readiness(node, found_ready, context),
        watchdog: super::readiness::watchdog(node, context),
        restart: intern(&mut context.pool.restarts, restart),
        stop: intern(&mut context.pool.stops, stop),
        reload: reload(node.get("reload")),
        health: health.map(Arc::new),
        essential: read::flag(node, "essential", Flag::Off),
        max_runtime: read::limit(node, "max_runtime").unwrap_or(Limit::Never),
        runtime_directory: owned(node, "runtime_directory", Path::new("/run"), context),
        state_directory: owned(node, "state_directory", Path::new("/var/lib"), context),
        cleanup: cleanup(node, &path),
        shm,
        single_instance: super::single::instance(node, &path, context),
        logging: intern(&mut context.pool.loggings, log),
        variants: variants(node, context),
    }
}

fn kind(node: &Node, path: &dyn Fn(&str) -> PathBuf, context: &mut Context<'_>) -> ProgramType {
    let word = node.get("type").and_then(Node::text).unwrap_or("simple");
    let only = |key: &str, wanted: &str, context: &mut Context<'_>| {
        if let Some((k, _)) = node.entry(key).filter(|_| word != wanted) {
            let text = format!("`{key}` belongs to `type: {wanted}`, this is `type: {word}`");
            context.found.push(Diagnostic::error("contradiction", k.place, text));
        }
    };
    only("remain", "oneshot", context);
    only("pid_file", "forking", context);
    match word {
        "oneshot" => ProgramType::Oneshot { remain: read::flag(node, "remain", Flag::Off) },
        "notify" => ProgramType::Notify,
        "forking" => {
            if let Some(text) = node.get("pid_file").and_then(Node::text) {
                return ProgramType::Forking { pid_file: path(text) };
            }
            let place = node.get("type").map_or(node.place, |n| n.place);
            let text = "`type: forking` needs a `pid_file`";
            context.found.push(Diagnostic::error("missing-key", place, text));
            ProgramType::Simple
        }
        _ => ProgramType::Simple,
    }
}

/// The account `name` stands for; for `check`, one that the file declares is made up.
pub(crate) fn lookup(name: &str, context: &Context<'_>) -> Option<Account> {
    if let Some(uid) = values::id(name) {
        return Some(context.accounts.user_by_id(uid).unwrap_or_else(|| Account {
            name: name.into(),
            uid,
            gid: uid,
            groups: Box::new([uid]),
            home: "/".into(),
            shell: "/bin/sh".into(),
        }));
    }
    context.accounts.user(name).or_else(|| {
        context.names.users.contains(name).then(|| Account {
            name: name.into(),
            uid: 65_534,
            gid: 65_534,
            groups: Box::new([65_534]),
            home: "/nonexistent".into(),
            shell: "/bin/false".into(),
        })
    })
}

/// The id of the user that `text` names.
pub(crate) fn user_id(text: &str, context: &Context<'_>) -> Option<u32> {
    if text == "self" { Some(context.options.uid) } else { lookup(text, context).map(|a| a.uid) }
}

/// The id of the group that `text` names.
pub(crate) fn group_id(text: &str, context: &Context<'_>) -> Option<u32> {
    values::id(text).or_else(|| context.accounts.group(text))
}

fn run_as(node: &Node, place: Place, context: &mut Context<'_>) -> RunAs {
    let own = RunAs::Supervisor { account: context.options.account.clone().map(Arc::new) };
    let Some((key, name)) = node.entry("user") else {
        if context.options.uid == 0 {
            let text = "`user` is required: this supervisor runs as root";
            let hint = "write `user: NAME`, `user: root` to mean root, or `defaults: {user: root}`";
            context.found.push(Diagnostic::error("missing-user", place, text).hint(hint));
        }
        return groups(node, own, context);
    };
    let Some(text) = name.text().filter(|t| *t != "self") else {
        return groups(node, own, context);
    };
    // What is unknown has been reported by the check.
    let Some(account) = lookup(text, context) else { return own };
    if account.uid == context.options.uid {
        let account = Arc::new(account);
        // Who is not root may not even set the groups that he has (setgroups(2)): there is nothing
        // to change.
        let same = context.options.uid != 0;
        let run_as = if same {
            RunAs::Supervisor { account: Some(account) }
        } else {
            RunAs::Account(account)
        };
        return groups(node, run_as, context);
    }
    if context.options.uid != 0 {
        let text = format!("a supervisor that is not root cannot run programs as `{text}`");
        let found = Diagnostic::error("not-root", key.place, text);
        context.found.push(found.hint("remove `user`, or run the supervisor as root"));
        return own;
    }
    groups(node, RunAs::Account(Arc::new(account)), context)
}

/// Applies `group` and `supplementary_groups`.
fn groups(node: &Node, run_as: RunAs, context: &mut Context<'_>) -> RunAs {
    let group = node.get("group").and_then(Node::text).and_then(|t| group_id(t, context));
    let more = node.get("supplementary_groups").map(Node::items).unwrap_or_default();
    let more: Vec<u32> =
        more.iter().filter_map(Node::text).filter_map(|t| group_id(t, context)).collect();
    let account = account_of(&run_as).cloned();
    let Some(mut account) = account.filter(|_| group.is_some() || !more.is_empty()) else {
        return shared(run_as, context);
    };
    if context.options.uid != 0 {
        let is_member = |g: &u32| account.gid == *g || account.groups.contains(g);
        if !group.iter().chain(&more).all(is_member) {
            let place = node.entry("group").or_else(|| node.entry("supplementary_groups"));
            let text = "a supervisor that is not root cannot join other groups";
            let place = place.map_or(node.place, |(k, _)| k.place);
            context.found.push(Diagnostic::error("not-root", place, text));
        }
        return shared(run_as, context);
    }
    account.gid = group.unwrap_or(account.gid);
    let mut all: Vec<u32> = account.groups.iter().copied().chain(more).collect();
    all.push(account.gid);
    all.sort_unstable();
    all.dedup();
    account.groups = all.into();
    shared(RunAs::Account(Arc::new(account)), context)
}

fn shared(run_as: RunAs, context: &mut Context<'_>) -> RunAs {
    let mut keep = |a: Arc<Account>| intern(&mut context.pool.accounts, Arc::unwrap_or_clone(a));
    match run_as {
        RunAs::Supervisor { account } => RunAs::Supervisor { account: account.map(keep) },
        RunAs::Account(account) => RunAs::Account(keep(account)),
    }
}

fn account_of(run_as: &RunAs) -> Option<&Account> {
    match run_as {
        RunAs::Supervisor { account } => account.as_deref(),
        RunAs::Account(account) => Some(account),
    }
}

fn execution(
    node: &Node,
    user: RunAs,
    directory: &Path,
    instance: &BTreeMap<Box<str>, Box<str>>,
    path: &dyn Fn(&str) -> PathBuf,
    context: &mut Context<'_>,
) -> Execution {
    let mut environment = read::map(node.get("environment"));
    environment.extend(instance.clone());
    let files = node.get("environment_files").map(Node::items).unwrap_or_default();
    let file = |n: &Node| {
        let text = n.text().or_else(|| n.get("path")?.text())?;
        Some(EnvironmentFile { path: path(text), optional: read::flag(n, "optional", Flag::Off) })
    };
    let inherit = match node.get("inherit_environment") {
        Some(n) if n.text() == Some("true") => Inherit::All,
        Some(n) if !n.items().is_empty() => {
            Inherit::Names(n.items().iter().filter_map(Node::text).map(Into::into).collect())
        }
        _ => Inherit::Basic,
    };
    Execution {
        user,
        umask: read::mode(node, "umask").unwrap_or(Mode(0o022)),
        working_directory: directory.to_path_buf(),
        environment,
        environment_files: files.iter().filter_map(file).collect(),
        inherit_environment: inherit,
        rlimits: rlimits(node.get("limits")),
        nice: read::number(node, "nice"),
        ionice: node.get("ionice").and_then(Node::text).and_then(ionice),
        oom_score_adj: read::number(node, "oom_score_adj"),
        cpu_affinity: node.get("cpu_affinity").and_then(cpus).unwrap_or_default(),
        no_new_privileges: node
            .get("hardening")
            .is_none_or(|h| read::flag(h, "no_new_privileges", Flag::On)),
        hardening: super::hardening::hardening(node, path, context),
    }
}

fn rlimits(node: Option<&Node>) -> Box<[(Resource, RlimitValue)]> {
    let all = [
        ("nofile", Resource::Nofile),
        ("nproc", Resource::Nproc),
        ("core", Resource::Core),
        ("stack", Resource::Stack),
        ("memlock", Resource::Memlock),
        ("fsize", Resource::Fsize),
    ];
    let value = |key: &str| {
        let text = node?.get(key)?.text()?;
        if text == "unlimited" {
            Some(RlimitValue::Unlimited)
        } else {
            values::size(text).ok().map(|b| RlimitValue::Max(b.0))
        }
    };
    all.into_iter().filter_map(|(key, resource)| Some((resource, value(key)?))).collect()
}

/// `idle`, `best-effort`, `best-effort:7`, `realtime:0`.
pub(crate) fn ionice(text: &str) -> Option<IoNice> {
    let (class, level) = text.split_once(':').unwrap_or((text, "4"));
    let level = level.parse::<u8>().ok().filter(|n| *n <= 7)?;
    match class {
        "idle" if !text.contains(':') => Some(IoNice::Idle),
        "best-effort" => Some(IoNice::BestEffort(level)),
        "realtime" => Some(IoNice::Realtime(level)),
        _ => None,
    }
}

/// `[0, 2]` or `0-3,8`.
fn cpus(node: &Node) -> Option<Box<[u16]>> {
    if !node.items().is_empty() {
        return node.items().iter().map(|n| n.text()?.parse().ok()).collect();
    }
    cpu_list(node.text()?)
}

/// `0-3,8`.
pub(crate) fn cpu_list(text: &str) -> Option<Box<[u16]>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        let (a, b): (u16, u16) = (a.trim().parse().ok()?, b.trim().parse().ok()?);
        if a > b || b > 8191 {
            return None;
        }
        all.extend(a..=b);
    }
    Some(all.into())
}

fn dependencies(node: &Node, key: &str, context: &mut Context<'_>) -> Box<[Dependency]> {
    let mut out = Vec::new();
    for item in node.get(key).map(Node::items).unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        let (head, condition) = reference::split(text);
        let condition = condition.unwrap_or(Condition::Ready);
        if let Some(target) = reference::other(head) {
            out.push(Dependency { target, condition });
        } else if let Some(instances) = context.instances.get(head) {
            let each = instances.iter().cloned().map(Target::Program);
            out.extend(each.map(|target| Dependency { target, condition }));
        } else if let Ok(name) = Name::new(head) {
            out.push(Dependency { target: Target::Program(name), condition });
        }
    }
    out.into()
}

fn wait_for(node: &Node, path: &dyn Fn(&str) -> PathBuf) -> Box<[WaitFor]> {
    let items = node.get("wait_for").map(Node::items).unwrap_or_default();
    let one = |n: &Node| {
        let text = |key: &str| n.get(key).and_then(Node::text);
        let what = if let Some(file) = text("file") {
            Awaited::File(path(file))
        } else if let Some(tcp) = text("tcp") {
            Awaited::Tcp(tcp.into())
        } else if let Some(socket) = text("socket") {
            Awaited::Socket(path(socket))
        } else {
            Awaited::Network
        };
        WaitFor { what, timeout: limit_or(n, "timeout", 90) }
    };
    items.iter().map(one).collect()
}

fn hooks(node: &Node, key: &str, context: &mut Context<'_>) -> Box<[Hook]> {
    let items = node.get(key).map(Node::items).unwrap_or_default();
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        let is_map = matches!(item.value, Value::Map(_));
        let command = if is_map { item.get("command") } else { Some(item) };
        let user = item.get("user").is_some().then(|| run_as(item, item.place, context));
        out.push(Hook {
            command: command.map(read::command).unwrap_or_default(),
            ignore_failure: read::flag(item, "ignore_failure", Flag::Off),
            timeout: read::limit(item, "timeout").unwrap_or(Limit::After(Duration::from_secs(90))),
            user,
        });
    }
    out.into()
}

fn owned(node: &Node, key: &str, base: &Path, context: &mut Context<'_>) -> Option<OwnedDirectory> {
    let value = node.get(key)?;
    let at = value.get("name").unwrap_or(value);
    let name = at.text()?;
    let plain = !name.is_empty() && name.split('/').all(|p| !matches!(p, "" | "." | ".."));
    if !plain {
        let text = format!("expected the name of a directory below {}", base.display());
        context.found.push(Diagnostic::error("bad-value", at.place, text));
    }
    let base = context.owned_base(key, base);
    let mode = read::mode(value, "mode").unwrap_or(Mode(0o755));
    Some(OwnedDirectory { path: base.join(name), mode })
}

fn cleanup(node: &Node, path: &dyn Fn(&str) -> PathBuf) -> Box<[Cleanup]> {
    let items = node.get("cleanup").map(Node::items).unwrap_or_default();
    let one = |n: &Node| {
        let text = |key: &str| n.get(key).and_then(Node::text).map(path);
        text("socket").map(Cleanup::Socket).or_else(|| text("file").map(Cleanup::File))
    };
    items.iter().filter_map(one).collect()
}

fn variants(node: &Node, context: &mut Context<'_>) -> BTreeMap<Name, Variant> {
    let mut first: Option<Place> = None;
    let mut out = BTreeMap::new();
    for (key, value) in node.get("variants").map(Node::entries).unwrap_or_default() {
        let Ok(name) = Name::new(&key.text) else { continue };
        let default = read::flag(value, "default", Flag::Off);
        if default {
            if let Some(earlier) = first {
                let text = "only one variant is the default";
                let found = Diagnostic::error("contradiction", key.place, text);
                context.found.push(found.label(earlier, "the first default"));
            }
            first = Some(key.place);
        }
        out.insert(
            name,
            Variant {
                args: read::list(value, "args"),
                environment: read::map(value.get("environment")),
                default,
                extra_args: value.get("extra_args").and_then(Node::text) == Some("allow"),
            },
        );
    }
    out
}
