//! `logging`: where output goes, and the rotation of files.

use std::{path::Path, time::Duration};

use super::{
    Context, absolute,
    program::{group_id, user_id},
    read,
};
use crate::{
    config::tree::Node,
    model::{Account, Bytes, Compress, LogTarget, Logging, Mode, Name, OnFull, Rotate},
};

pub(crate) fn logging(
    node: Option<&Node>,
    name: &Name,
    directory: &Path,
    account: Option<&Account>,
    context: &Context<'_>,
) -> Logging {
    let target = |key: &str| {
        let text = node?.get(key)?.text()?;
        Some(match text {
            "inherit" => LogTarget::Inherit,
            "null" | "/dev/null" => LogTarget::Null,
            "journal" => LogTarget::Journal,
            "syslog" => LogTarget::Syslog,
            "stdout" => LogTarget::Stdout,
            "console" => LogTarget::Console,
            path => LogTarget::File(absolute(path, directory, account.map(|a| &*a.home))),
        })
    };
    let file = || LogTarget::File(context.log_directory().join(format!("{name}.log")));
    let default = || if context.daemon { file() } else { LogTarget::Console };
    let stdout = target("stdout").filter(|t| *t != LogTarget::Stdout).unwrap_or_else(default);
    let follow = matches!(stdout, LogTarget::File(_));
    let otherwise = || if follow { LogTarget::Stdout } else { default() };
    let stderr = target("stderr").unwrap_or_else(otherwise);
    let id = |key: &str| node.and_then(|n| n.get(key)).and_then(Node::text);
    Logging {
        stdout,
        stderr,
        timestamps: node.is_some_and(|n| read::flag(n, "timestamps", read::Flag::Off)),
        rotate: rotate(node.and_then(|n| n.get("rotate"))),
        max_line: node.and_then(|n| read::size(n, "max_line")).unwrap_or(Bytes(16 << 10)),
        on_full: on_full(node),
        owner: id("owner").and_then(|t| user_id(t, context)),
        group: id("group").and_then(|t| group_id(t, context)),
        mode: node.and_then(|n| read::mode(n, "mode")).unwrap_or(Mode(0o640)),
    }
}

pub(crate) fn on_full(node: Option<&Node>) -> OnFull {
    match node.and_then(|n| n.get("on_full")).and_then(Node::text) {
        Some("block") => OnFull::Block,
        _ => OnFull::DropOldest,
    }
}

pub(crate) fn rotate(node: Option<&Node>) -> Rotate {
    let word = |key: &str| node.and_then(|n| n.get(key)).and_then(Node::text);
    let every = match word("every") {
        Some("hourly") => Some(Duration::from_secs(3600)),
        Some("daily") => Some(Duration::from_secs(86_400)),
        Some("weekly") => Some(Duration::from_secs(604_800)),
        _ => node.and_then(|n| read::duration(n, "every")),
    };
    let given = node.and_then(|n| read::size(n, "max_size"));
    Rotate {
        max_size: if word("max_size") == Some("none") {
            None
        } else {
            Some(given.unwrap_or(Bytes(10 << 20)))
        },
        every,
        keep: node.and_then(|n| read::number(n, "keep")).unwrap_or(5),
        compress: match word("compress") {
            Some("none") => Compress::None,
            Some("gzip") => Compress::Gzip,
            _ => Compress::Delayed,
        },
        after_reload: word("after") == Some("reload"),
    }
}
