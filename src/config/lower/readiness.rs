//! `readiness` and `watchdog` of a program.

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
        None => probe.unwrap_or(ReadyBy::Notify),
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
pub(crate) fn watchdog(node: &Node, _: &mut Context<'_>) -> Limit {
    read::limit(node, "watchdog").unwrap_or(Limit::Never)
}
