//! `action: {reboot: …}` and `action: {poweroff: …}`.

use std::time::Duration;

use super::{
    Context,
    read::{self, Flag},
};
use crate::{
    config::{diagnostic::Diagnostic, tree::Node},
    model::{HostEnd, HostGoal, Method, SysRq},
};

/// How long a method may take to accept.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long an orderly end of the host may take.
const GRACE: Duration = Duration::from_secs(90);
/// Between two rounds.
const RETRY: Duration = Duration::from_secs(30);
/// Between two keys.
const KEY_WAIT: Duration = Duration::from_secs(2);
/// Less would be no wait.
const LEAST: Duration = Duration::from_secs(1);

/// How the host goes down; `node` is absent when only the goal is given.
pub(super) fn host_end(
    goal: HostGoal,
    node: Option<&Node>,
    key: &str,
    context: &mut Context<'_>,
) -> HostEnd {
    let time = |name: &str| node.and_then(|node| read::duration(node, name));
    let inner = |object: &str, name: &str| read::duration(node?.get(object)?, name);
    let methods = methods(goal, node, key, context);
    // A disk that has failed may never let them end.
    let orderly = methods.first() != Some(&Method::SysRq);
    let flag = |name: &str, default: Flag| {
        node.map_or(default == Flag::On, |node| read::flag(node, name, default))
    };
    let end = HostEnd {
        goal,
        timeout: time("timeout").unwrap_or(TIMEOUT),
        grace: time("grace").unwrap_or(GRACE),
        retry: inner("retry", "delay").unwrap_or(RETRY),
        sysrq: SysRq {
            sequence: sequence(goal, node, key, context),
            wait: inner("sysrq", "wait").unwrap_or(KEY_WAIT),
        },
        stops_programs: flag("stop_programs", if orderly { Flag::On } else { Flag::Off }),
        dry_run: flag("dry_run", Flag::Off),
        methods,
    };
    for (name, value, node) in [
        ("timeout", end.timeout, node.and_then(|node| node.get("timeout"))),
        ("retry.delay", end.retry, node.and_then(|node| node.get("retry")?.get("delay"))),
    ] {
        if let Some(node) = node.filter(|_| value < LEAST) {
            let found = Diagnostic::error("bad-value", node.place, "expected at least 1s");
            context.found.push(found.key(format!("{key}.{name}")));
        }
    }
    end
}

fn methods(
    goal: HostGoal,
    node: Option<&Node>,
    key: &str,
    context: &mut Context<'_>,
) -> Box<[Method]> {
    let Some(list) = node.and_then(|node| node.get("methods")) else { return goal.methods() };
    let mut methods = Vec::new();
    for item in list.items() {
        let known = goal.methods().into_iter().find(|m| item.text() == Some(m.as_str(goal)));
        // What is no method was refused before.
        let Some(method) = known else { continue };
        if methods.contains(&method) {
            let text = format!("`{}` stands there twice", method.as_str(goal));
            let found = Diagnostic::error("bad-value", item.place, text);
            context.found.push(found.key(format!("{key}.methods")));
        }
        methods.push(method);
    }
    if list.items().is_empty() {
        let text = "expected at least one method";
        let found = Diagnostic::error("bad-value", list.place, text).key(format!("{key}.methods"));
        context.found.push(found.hint("leave `methods` out to have all of them tried"));
    }
    methods.into()
}

/// Checked here: whatever the keys are, the last one has to end the host.
fn sequence(goal: HostGoal, node: Option<&Node>, key: &str, context: &mut Context<'_>) -> Box<str> {
    let default = goal.sysrq_sequence();
    let given = node.and_then(|node| node.get("sysrq")?.get("sequence"));
    let Some((text, node)) = given.and_then(|node| Some((node.text()?, node))) else {
        return default.into();
    };
    let last = match goal {
        HostGoal::Reboot => 'b',
        HostGoal::PowerOff => 'o',
    };
    let stranger = text.chars().find(|c| !"reisub".contains(*c) && *c != last);
    let early = text.find(['b', 'o']).is_some_and(|at| at.saturating_add(1) < text.len());
    let wrong = match stranger {
        Some(c) => Some(format!("`{c}` is no key for that")),
        None if !text.ends_with(last) => {
            Some(format!("it has to end in `{last}`, which is what does the {goal}"))
        }
        None if early => Some("nothing comes after `b` or `o`".to_owned()),
        None => None,
    };
    if let Some(wrong) = wrong {
        let found = Diagnostic::error("bad-value", node.place, wrong);
        let found = found.key(format!("{key}.sysrq.sequence"));
        context.found.push(found.hint(format!(
            "`{default}`; keys: r (keyboard), e (SIGTERM to all), i (SIGKILL to all), s (sync), \
             u (remount read-only), {last} ({goal})"
        )));
    }
    text.into()
}
