//! `readiness` and `watchdog` of a program.

use std::time::Duration;

use super::{Context, read};
use crate::{
    config::{diagnostic::Diagnostic, tree::Node},
    model::{Limit, Readiness, ReadyBy},
};

/// How it is known to be ready: by `readiness`, or since its type says so.
/// `probe`: what finds it out, if that is so.
pub(crate) fn readiness(
    node: &Node,
    probe: Option<ReadyBy>,
    context: &mut Context<'_>,
) -> Option<Box<Readiness>> {
    let kind = node.get("type").and_then(Node::text).unwrap_or("simple");
    let Some((key, given)) = node.entry("readiness") else {
        let by = ReadyBy::Notify;
        return (kind == "notify").then(|| Box::new(Readiness { by, timeout: None }));
    };
    let timeout = read::limit(given, "timeout");
    let by = match read::number(given, "fd") {
        Some(fd) => ReadyBy::Fd(fd),
        None if given.get("notify").is_some() => ReadyBy::Notify,
        // Without any there is a mistake, which was reported.
        None => probe?,
    };
    let found = matches!(by, ReadyBy::Probe { .. });
    if kind == "oneshot"
        || (kind == "forking" && !found)
        || (kind == "notify" && by != ReadyBy::Notify)
    {
        let why = match kind {
            "oneshot" => "it is ready when it has succeeded",
            "forking" => "it is ready when its daemon is found",
            _ => "it is ready when it says READY=1",
        };
        let text = format!("`readiness` and `type: {kind}` contradict each other");
        let found = Diagnostic::error("contradiction", key.place, text);
        context.found.push(found.hint(format!("remove one of them: {why}")));
    }
    Some(Box::new(Readiness { by, timeout }))
}

/// How often it says that it is alive.
pub(crate) fn watchdog(node: &Node, context: &mut Context<'_>) -> Limit {
    let Some((key, value)) = node.entry("watchdog") else { return Limit::Never };
    let limit = read::limit(node, "watchdog").unwrap_or(Limit::Never);
    let oneshot = node.get("type").and_then(Node::text) == Some("oneshot");
    if limit == Limit::After(Duration::ZERO) {
        let found = Diagnostic::error("bad-value", value.place, "a watchdog needs some time");
        context.found.push(found.hint("`watchdog: none` switches it off"));
    } else if oneshot && limit != Limit::Never {
        let text = "`watchdog` and `type: oneshot` contradict each other";
        let found = Diagnostic::error("contradiction", key.place, text);
        context.found.push(found.hint("it ends by itself: `max_runtime` limits how long it runs"));
    }
    limit
}
