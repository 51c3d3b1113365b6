//! `restart`, `stop`, `reload`.

use std::time::Duration;

use super::{Context, read};
use crate::{
    config::{
        diagnostic::Diagnostic,
        tree::{Node, Value},
        values,
    },
    model::{
        KillMode, Limit, LimitAction, Reload, Restart, RestartPolicy, Signal, StartLimit, Stop,
        StopStep,
    },
};

pub(crate) fn restart(node: Option<&Node>, context: &mut Context<'_>) -> Restart {
    let empty = Node { place: crate::config::Place::default(), start: 0, value: Value::Null };
    let node = node.unwrap_or(&empty);
    let policy = match node.text().or_else(|| node.get("policy")?.text()) {
        Some("never") => RestartPolicy::Never,
        Some("always") => RestartPolicy::Always,
        Some("on-abnormal") => RestartPolicy::OnAbnormal,
        _ => RestartPolicy::OnFailure,
    };
    let delay = read::duration(node, "delay").unwrap_or(Duration::from_millis(500));
    let given = read::duration(node, "max_delay");
    if let (Some(max), Some(at)) = (given, node.get("max_delay"))
        && max < delay
    {
        let text = "`max_delay` is shorter than `delay`";
        context.found.push(Diagnostic::error("contradiction", at.place, text));
    }
    let factor = node.get("factor").and_then(Node::text).and_then(|t| t.parse().ok());
    let codes = |key: &str| -> Box<[u8]> {
        let items = node.get(key).map(Node::items).unwrap_or_default();
        items.iter().filter_map(|n| n.text()?.parse().ok()).collect()
    };
    let success = if node.get("success_exit_codes").is_some() {
        codes("success_exit_codes")
    } else {
        Box::new([0])
    };
    Restart {
        policy,
        delay,
        max_delay: given.unwrap_or(Duration::from_secs(30).max(delay)),
        factor: factor.unwrap_or(2.0),
        jitter: read::percent(node, "jitter").unwrap_or(0.2).min(1.0),
        reset_after: read::limit(node, "reset_after").unwrap_or(secs(30)),
        success_exit_codes: success,
        force_exit_codes: codes("force_exit_codes"),
        prevent_exit_codes: codes("prevent_exit_codes"),
        start_limit: start_limit(node.get("start_limit")),
    }
}

fn secs(n: u64) -> Limit {
    Limit::After(Duration::from_secs(n))
}

fn start_limit(node: Option<&Node>) -> Option<StartLimit> {
    let default = StartLimit {
        burst: 10,
        interval: Duration::from_secs(300),
        action: LimitAction::Retry,
        retry_every: Duration::from_secs(300),
    };
    let Some(node) = node else { return Some(default) };
    if node.text() == Some("none") {
        return None;
    }
    let action = match node.get("action").and_then(Node::text) {
        Some("give-up") => LimitAction::GiveUp,
        Some("exit") => LimitAction::Exit,
        Some("safe-mode") => LimitAction::SafeMode,
        _ => LimitAction::Retry,
    };
    Some(StartLimit {
        burst: read::number(node, "burst").unwrap_or(default.burst),
        interval: read::duration(node, "interval").unwrap_or(default.interval),
        action,
        retry_every: read::duration(node, "retry_every").unwrap_or(default.retry_every),
    })
}

pub(crate) fn stop(node: Option<&Node>, context: &mut Context<'_>) -> Stop {
    let wait = node.and_then(|n| read::limit(n, "timeout")).unwrap_or(secs(10));
    let signal = node.and_then(|n| read::signal(n, "signal")).unwrap_or(Signal::TERM);
    let mut ladder = vec![StopStep { signal, wait }];
    if let Some((key, list)) = node.and_then(|n| n.entry("signals")) {
        for other in ["signal", "timeout"] {
            if let Some((second, _)) = node.and_then(|n| n.entry(other)) {
                let text = format!("`signals` and `{other}` contradict each other");
                let hint = "give each signal its own `wait`";
                let found = Diagnostic::error("contradiction", second.place, text);
                context.found.push(found.hint(hint).label(key.place, "`signals` is given here"));
            }
        }
        let step = |n: &Node| {
            let signal = n.text().and_then(Signal::parse).or_else(|| read::signal(n, "signal"))?;
            Some(StopStep { signal, wait: read::limit(n, "wait").unwrap_or(secs(10)) })
        };
        ladder = list.items().iter().filter_map(step).collect();
        if list.items().is_empty() {
            let text = "`signals` is not empty";
            context.found.push(Diagnostic::error("bad-value", list.place, text));
        }
    }
    let kill_mode = match node.and_then(|n| n.get("kill_mode")).and_then(Node::text) {
        Some("group") => KillMode::Group,
        Some("process") => KillMode::Process,
        _ => KillMode::Mixed,
    };
    Stop {
        ladder: ladder.into(),
        command: node.and_then(|n| n.get("command")).map(read::command),
        kill_mode,
        confirm: node.is_some_and(|n| read::flag(n, "confirm", read::Flag::Off)),
    }
}

pub(crate) fn reload(node: Option<&Node>) -> Option<Reload> {
    let node = node?;
    let command = node.get("command").map(|n| Reload::Command(read::command(n)));
    read::signal(node, "signal").map(Reload::Signal).or(command)
}

/// A duration or `none`, as text; for callers that hold no map.
pub(crate) fn limit_or(node: &Node, key: &str, default: u64) -> Limit {
    node.get(key).and_then(Node::text).and_then(|t| values::limit(t).ok()).unwrap_or(secs(default))
}
