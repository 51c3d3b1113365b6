//! A program as it is written in a site.

use std::collections::BTreeMap;

use super::{
    supervisor::{on_full, rotate},
    tree::{Item, Map},
    words::{dependency, duration, limit, mode, path, percent, signal, size, text, texts, user},
    words::{word, words},
};
use crate::{
    config::tree::Node,
    model::{
        Awaited, Bytes, Cleanup, Dependency, EnvironmentFile, Execution, Hook, Inherit, IoNice,
        KillMode, LimitAction, LogTarget, Logging, OwnedDirectory, Program, ProgramType, Readiness,
        ReadyBy, Reload, Resource, Restart, RestartPolicy, RlimitValue, SingleInstance, StartLimit,
        Stop, Variant, WaitFor,
    },
};

/// `when` of its `shm`.
const OF_PROGRAM: [&str; 2] = ["pre-start", "post-stop"];

/// `node` is the program in the file. Groups and owners are added from there, as they are.
pub(super) fn program(p: &Program, node: Option<&Node>) -> Map {
    let mut map = Map::default();
    map.add("command", texts(&p.command));
    map.add_some("description", p.description.as_deref().map(text));
    map.add_some("documentation", p.documentation.as_deref().map(text));
    map.add("tags", texts(&p.tags));
    map.add("enabled", word(p.enabled));
    map.add("autostart", word(p.autostart));
    kind(&p.kind, &mut map);
    execution(&p.execution, &mut map);
    let list = |d: &[Dependency]| Item::List(d.iter().map(dependency).collect());
    map.add("after", list(&p.after));
    map.add("requires", list(&p.requires));
    map.add("wants", list(&p.wants));
    map.add("wait_for", Item::List(p.wait_for.iter().map(wait_for).collect()));
    for (key, hooks) in
        [("start_pre", &p.start_pre), ("start_post", &p.start_post), ("stop_post", &p.stop_post)]
    {
        map.add(key, Item::List(hooks.iter().map(hook).collect()));
    }
    map.add("start_timeout", limit(p.start_timeout));
    map.add_some("readiness", p.readiness.as_deref().map(readiness));
    map.add("watchdog", limit(p.watchdog));
    map.add("restart", Item::Map(restart(&p.restart)));
    map.add("stop", Item::Map(stop(&p.stop)));
    map.add_some("reload", p.reload.as_ref().map(reload));
    map.add_some(
        "health",
        p.health.as_deref().map(|health| Item::Map(super::probe::health(health))),
    );
    map.add("essential", word(p.essential));
    map.add("max_runtime", limit(p.max_runtime));
    let directory = |key: &str, d: &Option<OwnedDirectory>| {
        let given = node.and_then(|n| n.get(key)).map(|n| n.get("name").unwrap_or(n));
        Some(owned(d.as_ref()?, given?.text()?))
    };
    map.add_some("runtime_directory", directory("runtime_directory", &p.runtime_directory));
    map.add_some("state_directory", directory("state_directory", &p.state_directory));
    map.add("cleanup", Item::List(p.cleanup.iter().map(cleanup).collect()));
    map.add_some("shm", p.shm.as_deref().map(|rule| super::shm::rule(rule, OF_PROGRAM)));
    map.add_some("single_instance", p.single_instance.as_deref().map(single_instance));
    map.add("logging", Item::Map(logging(&p.logging)));
    if !p.variants.is_empty() {
        let mut variants = Map::default();
        for (name, v) in &p.variants {
            variants.add(name.as_str(), variant(v));
        }
        map.add("variants", Item::Map(variants));
    }
    map
}

fn kind(kind: &ProgramType, map: &mut Map) {
    match kind {
        ProgramType::Simple => map.add("type", word("simple")),
        ProgramType::Notify => map.add("type", word("notify")),
        ProgramType::Oneshot { remain } => {
            map.add("type", word("oneshot"));
            map.add("remain", word(remain));
        }
        ProgramType::Forking { pid_file } => {
            map.add("type", word("forking"));
            map.add("pid_file", path(pid_file));
        }
    }
}

fn readiness(r: &Readiness) -> Item {
    let mut map = Map::default();
    match &r.by {
        ReadyBy::Notify => map.add("notify", word(true)),
        ReadyBy::Fd(fd) => map.add("fd", word(fd)),
        ReadyBy::Probe { probe, interval } => {
            let (key, value) = super::probe::probe(probe);
            map.add(key, value);
            let looks = !matches!(probe, crate::model::Probe::Log(_));
            map.add_some("interval", looks.then(|| duration(*interval)));
        }
    }
    map.add_some("timeout", r.timeout.map(limit));
    Item::Map(map)
}

fn execution(e: &Execution, map: &mut Map) {
    map.add("user", user(&e.user));
    map.add("umask", mode(e.umask));
    map.add("working_directory", path(&e.working_directory));
    map.add("environment", Item::Map(environment(&e.environment)));
    map.add("environment_files", Item::List(e.environment_files.iter().map(file).collect()));
    map.add(
        "inherit_environment",
        match &e.inherit_environment {
            Inherit::Basic => word(false),
            Inherit::All => word(true),
            Inherit::Names(names) => texts(names),
        },
    );
    if !e.rlimits.is_empty() {
        let mut limits = Map::default();
        for (resource, value) in &e.rlimits {
            let (key, value) = rlimit(*resource, *value);
            limits.add(key, value);
        }
        map.add("limits", Item::Map(limits));
    }
    map.add_some("nice", e.nice.map(word));
    map.add_some("ionice", e.ionice.map(ionice));
    map.add_some("oom_score_adj", e.oom_score_adj.map(word));
    let cpus = (!e.cpu_affinity.is_empty()).then(|| words(&e.cpu_affinity));
    map.add_some("cpu_affinity", cpus);
    map.add("hardening", super::hardening::hardening(e));
}

fn environment(variables: &BTreeMap<Box<str>, Box<str>>) -> Map {
    let mut map = Map::default();
    for (name, value) in variables {
        map.add(&**name, text(&**value));
    }
    map
}

/// A map without origins, for items of lists.
fn item(entries: impl IntoIterator<Item = (&'static str, Item)>) -> Item {
    let mut map = Map::default();
    for (key, value) in entries {
        map.add(key, value);
    }
    Item::Map(map)
}

fn single_instance(of: &SingleInstance) -> Item {
    let mut map = Map::default();
    map.add_some("lock_file", of.lock_file.as_deref().map(path));
    map.add_some("pid_file", of.pid_file.as_deref().map(path));
    let Some(argv) = &of.argv else {
        return if map.0.is_empty() { word(true) } else { Item::Map(map) };
    };
    map.add("match", item([("argv", text(&**argv))]));
    map.add("on_duplicate", word(of.on_duplicate.as_str()));
    Item::Map(map)
}

fn file(file: &EnvironmentFile) -> Item {
    item([("path", path(&file.path)), ("optional", word(file.optional))])
}

fn rlimit(resource: Resource, value: RlimitValue) -> (&'static str, Item) {
    let (key, bytes) = match resource {
        Resource::Nofile => ("nofile", false),
        Resource::Nproc => ("nproc", false),
        Resource::Core => ("core", true),
        Resource::Stack => ("stack", true),
        Resource::Memlock => ("memlock", true),
        Resource::Fsize => ("fsize", true),
    };
    let value = match value {
        RlimitValue::Unlimited => word("unlimited"),
        RlimitValue::Max(n) if bytes => size(Bytes(n)),
        RlimitValue::Max(n) => word(n),
    };
    (key, value)
}

fn ionice(ionice: IoNice) -> Item {
    text(match ionice {
        IoNice::Realtime(n) => format!("realtime:{n}"),
        IoNice::BestEffort(n) => format!("best-effort:{n}"),
        IoNice::Idle => "idle".to_owned(),
    })
}

fn wait_for(wait: &WaitFor) -> Item {
    let what = match &wait.what {
        Awaited::Network => ("network", word(true)),
        Awaited::File(p) => ("file", path(p)),
        Awaited::Tcp(address) => ("tcp", text(&**address)),
        Awaited::Socket(p) => ("socket", path(p)),
    };
    item([what, ("timeout", limit(wait.timeout))])
}

fn hook(hook: &Hook) -> Item {
    let run_as = hook.user.as_ref().map(|u| ("user", user(u)));
    let keys = [
        ("command", texts(&hook.command)),
        ("ignore_failure", word(hook.ignore_failure)),
        ("timeout", limit(hook.timeout)),
    ];
    item(keys.into_iter().chain(run_as))
}

fn restart(r: &Restart) -> Map {
    let mut map = Map::default();
    map.add(
        "policy",
        word(match r.policy {
            RestartPolicy::Never => "never",
            RestartPolicy::OnFailure => "on-failure",
            RestartPolicy::OnAbnormal => "on-abnormal",
            RestartPolicy::Always => "always",
        }),
    );
    map.add("delay", duration(r.delay));
    map.add("max_delay", duration(r.max_delay));
    map.add("factor", word(r.factor));
    map.add("jitter", percent(r.jitter));
    map.add("reset_after", limit(r.reset_after));
    map.add("success_exit_codes", words(&r.success_exit_codes));
    map.add("force_exit_codes", words(&r.force_exit_codes));
    map.add("prevent_exit_codes", words(&r.prevent_exit_codes));
    map.add("start_limit", r.start_limit.as_ref().map_or_else(|| word("none"), start_limit));
    map
}

fn start_limit(limit: &StartLimit) -> Item {
    let action = match limit.action {
        LimitAction::Retry => "retry",
        LimitAction::GiveUp => "give-up",
        LimitAction::Exit => "exit",
        LimitAction::SafeMode => "safe-mode",
    };
    item([
        ("burst", word(limit.burst)),
        ("interval", duration(limit.interval)),
        ("action", word(action)),
        ("retry_every", duration(limit.retry_every)),
    ])
}

fn stop(stop: &Stop) -> Map {
    let mut map = Map::default();
    if let [only] = stop.ladder.as_ref() {
        map.add("signal", signal(only.signal));
        map.add("timeout", limit(only.wait));
    } else {
        let rung = |s: &crate::model::StopStep| {
            item([("signal", signal(s.signal)), ("wait", limit(s.wait))])
        };
        map.add("signals", Item::List(stop.ladder.iter().map(rung).collect()));
    }
    map.add_some("command", stop.command.as_deref().map(texts));
    map.add(
        "kill_mode",
        word(match stop.kill_mode {
            KillMode::Mixed => "mixed",
            KillMode::Group => "group",
            KillMode::Process => "process",
        }),
    );
    map.add("confirm", word(stop.confirm));
    map
}

fn reload(reload: &Reload) -> Item {
    match reload {
        Reload::Signal(s) => item([("signal", signal(*s))]),
        Reload::Command(command) => item([("command", texts(command))]),
    }
}

fn owned(directory: &OwnedDirectory, name: &str) -> Item {
    item([("name", text(name)), ("mode", mode(directory.mode))])
}

fn cleanup(cleanup: &Cleanup) -> Item {
    item([match cleanup {
        Cleanup::Socket(p) => ("socket", path(p)),
        Cleanup::File(p) => ("file", path(p)),
    }])
}

fn logging(l: &Logging) -> Map {
    let target = |t: &LogTarget| match t {
        LogTarget::Console => word("console"),
        LogTarget::File(p) => path(p),
        LogTarget::Inherit => word("inherit"),
        LogTarget::Null => Item::Quoted("null".to_owned()),
        LogTarget::Stdout => word("stdout"),
        LogTarget::Journal => word("journal"),
        LogTarget::Syslog => word("syslog"),
    };
    let mut map = Map::default();
    map.add("stdout", target(&l.stdout));
    map.add("stderr", target(&l.stderr));
    map.add("timestamps", word(l.timestamps));
    map.add("rotate", Item::Map(rotate(&l.rotate)));
    map.add("max_line", size(l.max_line));
    map.add("on_full", on_full(l.on_full));
    map.add("mode", mode(l.mode));
    map
}

fn variant(v: &Variant) -> Item {
    item([
        ("args", texts(&v.args)),
        ("environment", Item::Map(environment(&v.environment))),
        ("default", word(v.default)),
        ("extra_args", word(if v.extra_args { "allow" } else { "refuse" })),
    ])
}
