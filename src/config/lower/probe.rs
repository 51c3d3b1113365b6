//! `health`: what is looked at, how often, and what follows.

use std::{path::PathBuf, time::Duration};

use super::{Context, read};
use crate::{
    config::{
        diagnostic::Diagnostic,
        schema::PROBE_NAMES,
        tree::{Key, Node},
    },
    model::{HealthCheck, HttpUrl, LogTarget, Logging, OnUnhealthy, Probe, ReadyBy},
};

/// The shortest time between two looks.
const SOONEST: Duration = Duration::from_millis(100);

/// What `program` says of its health; `path` makes a path of it absolute.
pub(super) fn health(
    program: &Node,
    logging: &Logging,
    path: &dyn Fn(&str) -> PathBuf,
    context: &mut Context<'_>,
) -> Option<HealthCheck> {
    let (key, node) = program.entry("health").filter(|(_, n)| n.text() != Some("none"))?;
    if program.get("type").and_then(Node::text) == Some("oneshot") {
        let text = "`health` is for what stays up, this is `type: oneshot`";
        let found = Diagnostic::error("contradiction", key.place, text);
        context.found.push(found.hint("write `health: none` if it stands in `defaults`"));
    }
    let probe = probe(node, logging, path, context)?;
    let interval = time(node, "interval", 30, SOONEST, context);
    let timeout = time(node, "timeout", 5, Duration::from_millis(1), context);
    Some(HealthCheck {
        probe,
        interval,
        timeout,
        retries: read::number(node, "retries").unwrap_or(3),
        start_period: read::duration(node, "start_period").unwrap_or(Duration::ZERO),
        on_failure: match node.get("on_failure").and_then(Node::text) {
            Some("stop") => OnUnhealthy::Stop,
            Some("none") => OnUnhealthy::None,
            _ => OnUnhealthy::Restart,
        },
    })
}

/// By what `program` is found to be ready, if it is that.
pub(super) fn readiness(
    program: &Node,
    logging: &Logging,
    path: &dyn Fn(&str) -> PathBuf,
    context: &mut Context<'_>,
) -> Option<ReadyBy> {
    let node = program.get("readiness")?;
    let probe = probe(node, logging, path, context);
    let looks = PROBE_NAMES.iter().any(|key| *key != "log" && node.get(key).is_some());
    if let Some((key, _)) = node.entry("interval").filter(|_| !looks) {
        let text = "`interval` is how often something is looked at, and nothing is";
        let hint = "remove it: what the program says is heard at once";
        context.found.push(Diagnostic::error("contradiction", key.place, text).hint(hint));
    }
    let interval = time(node, "interval", 1, SOONEST, context);
    probe.map(|probe| ReadyBy::Probe { probe, interval })
}

/// A time that is not too short to mean anything.
pub(super) fn time(
    node: &Node,
    key: &str,
    default: u64,
    least: Duration,
    context: &mut Context<'_>,
) -> Duration {
    let given = read::duration(node, key);
    if let (Some(_), Some(n)) = (given.filter(|given| *given < least), node.get(key)) {
        let text = format!("`{key}` is at least {}ms", least.as_millis());
        context.found.push(Diagnostic::error("bad-value", n.place, text));
    }
    given.unwrap_or(Duration::from_secs(default))
}

/// The one thing that is looked at.
pub(super) fn probe(
    node: &Node,
    logging: &Logging,
    path: &dyn Fn(&str) -> PathBuf,
    context: &mut Context<'_>,
) -> Option<Probe> {
    let text = |key: &str| node.get(key).and_then(Node::text);
    if let Some((_, url)) = node.entry("http") {
        return http(url, context).map(Probe::Http);
    }
    if let Some((key, _)) = node.entry("log") {
        let text = text("log")?;
        read_by_us(key, logging, context);
        return Some(Probe::Log(text.into()));
    }
    if let Some(command) = node.get("command") {
        return Some(Probe::Command(read::command(command)));
    }
    let tcp = text("tcp").map(|address| Probe::Tcp(address.into()));
    let socket = || text("socket").map(|socket| Probe::Socket(path(socket)));
    tcp.or_else(socket).or_else(|| text("file").map(|file| Probe::File(path(file))))
}

fn http(node: &Node, context: &mut Context<'_>) -> Option<HttpUrl> {
    let text = node.text()?;
    let found = if text.starts_with("https://") {
        let words = "a probe does not speak TLS, so `https://` cannot be asked";
        Diagnostic::error("not-supported", node.place, words).hint(format!(
            "let a command do it: `command: [curl, -fsS, -o, /dev/null, \"{text}\"]`"
        ))
    } else {
        match HttpUrl::parse(text) {
            Ok(url) => return Some(url),
            // What is no address at all has been reported by the check.
            Err(_) if !text.starts_with("http://") => return None,
            Err(why) => {
                let words = format!("this address cannot be asked: {why}");
                Diagnostic::error("bad-value", node.place, words)
                    .hint("write it like `http://127.0.0.1:8080/health`")
            }
        }
    };
    context.found.push(found);
    None
}

/// A line can be looked for where the output passes through our hands.
fn read_by_us(key: &Key, logging: &Logging, context: &mut Context<'_>) {
    let passes = |target: &LogTarget| !matches!(target, LogTarget::Null | LogTarget::Inherit);
    let joined = logging.stderr == LogTarget::Stdout;
    let stderr = if joined { &logging.stdout } else { &logging.stderr };
    if !passes(&logging.stdout) && !passes(stderr) {
        let text = "`log` looks at the program's output, and `logging` has it pass us by";
        let hint = "let `logging.stdout` or `logging.stderr` be a file, console, journal or syslog";
        context.found.push(Diagnostic::error("contradiction", key.place, text).hint(hint));
    }
}
