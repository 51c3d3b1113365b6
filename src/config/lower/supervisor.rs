//! `supervisor:`.

use std::path::PathBuf;

use super::{
    Context, absolute,
    logging::{on_full, rotate},
    program::{group_id, user_id},
    read::{self, Flag},
};
use crate::{
    config::tree::Node,
    model::{
        Access, Control, ExitWhen, LogFormat, LogLevel, Mode, Orphans, RateLimit, ReadyWhen,
        Supervisor, SupervisorLog,
    },
};

/// Our own log beside those of the programs.
const OWN_LOG: &str = "supervisor.log";

pub(crate) fn supervisor(node: &Node, context: &Context<'_>) -> Supervisor {
    let path = |key: &str| file(node, key, context);
    let word = |key: &str| node.get(key).and_then(Node::text);
    Supervisor {
        name: context.site.clone(),
        pid_file: path("pid_file"),
        daemon: context.daemon,
        ready_when: match word("ready_when") {
            Some("programs") => ReadyWhen::Programs,
            _ => ReadyWhen::Up,
        },
        runtime_dir: path("runtime_dir"),
        state_dir: path("state_dir"),
        log: log(node.get("log").unwrap_or(node), node.get("log").is_some(), context),
        control: control(node.get("control"), context),
        shutdown_timeout: read::duration(node, "shutdown_timeout"),
        exit_when: match word("exit_when") {
            Some("essential") => Some(ExitWhen::Essential),
            Some("all-exited") => Some(ExitWhen::AllExited),
            Some("stopped") => Some(ExitWhen::Stopped),
            _ => None,
        },
        stop_on_hangup: read::flag(node, "stop_on_hangup", Flag::Off),
        lock_memory: read::flag(node, "lock_memory", Flag::Off),
        orphans: if word("orphans") == Some("kill") { Orphans::Kill } else { Orphans::Adopt },
        redact: read::list(node, "redact"),
    }
}

fn file(node: &Node, key: &str, context: &Context<'_>) -> Option<PathBuf> {
    let home = context.options.account.as_ref().map(|a| &*a.home);
    Some(absolute(node.get(key)?.text()?, context.directory, home))
}

fn log(node: &Node, given: bool, context: &Context<'_>) -> SupervisorLog {
    let node = given.then_some(node);
    let word = |key: &str| node.and_then(|n| n.get(key)).and_then(Node::text);
    // In the background nobody sees standard error, unless it is the journal's.
    let own = || context.log_directory().join(OWN_LOG);
    let hidden = context.daemon && !context.options.journal;
    let path = node.and_then(|n| file(n, "file", context)).or_else(|| hidden.then(own));
    SupervisorLog {
        level: match word("level") {
            Some("error") => LogLevel::Error,
            Some("warn") => LogLevel::Warn,
            Some("debug") => LogLevel::Debug,
            Some("trace") => LogLevel::Trace,
            _ => LogLevel::Info,
        },
        format: match word("format") {
            Some("json") => LogFormat::Json,
            Some("text") => LogFormat::Text,
            _ => LogFormat::Full,
        },
        // Without a file, standard error is all there is.
        stderr: {
            let default = if path.is_some() { Flag::Off } else { Flag::On };
            node.map_or(path.is_none(), |n| read::flag(n, "stderr", default))
        },
        owner: word("owner").and_then(|t| user_id(t, context)),
        group: word("group").and_then(|t| group_id(t, context)),
        mode: node.and_then(|n| read::mode(n, "mode")).unwrap_or(Mode(0o640)),
        rotate: rotate(node.and_then(|n| n.get("rotate"))),
        on_full: on_full(node),
        file: path,
    }
}

fn control(node: Option<&Node>, context: &Context<'_>) -> Control {
    let word = |key: &str| node.and_then(|n| n.get(key)).and_then(Node::text);
    let items = node.and_then(|n| n.get("access")).map(Node::items).unwrap_or_default();
    Control {
        socket: node.and_then(|n| file(n, "socket", context)),
        owner: word("owner").and_then(|t| user_id(t, context)),
        group: word("group").and_then(|t| group_id(t, context)),
        mode: node.and_then(|n| read::mode(n, "mode")).unwrap_or(Mode(0o600)),
        access: items.iter().map(|item| access(item, context)).collect(),
    }
}

fn access(node: &Node, context: &Context<'_>) -> Access {
    let list = |key: &str| -> Vec<&str> {
        let list = node.get("allow").and_then(|a| a.get(key));
        list.map(Node::items).unwrap_or_default().iter().filter_map(Node::text).collect()
    };
    Access {
        users: list("users").into_iter().filter_map(|t| user_id(t, context)).collect(),
        groups: list("groups").into_iter().filter_map(|t| group_id(t, context)).collect(),
        actions: read::list(node, "actions"),
        rate_limit: node.get("rate_limit").and_then(rate),
    }
}

/// `{burst, interval}`.
pub(crate) fn rate(node: &Node) -> Option<RateLimit> {
    Some(RateLimit {
        burst: read::number(node, "burst")?,
        interval: read::duration(node, "interval")?,
    })
}
