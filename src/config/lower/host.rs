//! `users` and `directories`: what the site needs of its host.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    Context, absolute,
    read::{self, Flag},
};
use crate::{
    config::{check::account_name, diagnostic::Diagnostic, tree::Node, values},
    model::{Directory, Mode, User},
};

pub(crate) fn users(node: Option<&Node>, context: &mut Context<'_>) -> BTreeMap<Box<str>, User> {
    let mut out = BTreeMap::new();
    for (key, node) in node.map(Node::entries).unwrap_or_default() {
        if !account_name(&key.text) {
            let text = format!("`{}` is no name of a user", key.text);
            context.found.push(Diagnostic::error("bad-name", key.place, text).key("users"));
        }
        let groups = node.get("groups").map(Node::items).unwrap_or_default();
        for group in groups {
            let text = group.text().unwrap_or_default();
            if !account_name(text) && values::id(text).is_none() {
                let found = format!("`{text}` is no name of a group");
                let found = Diagnostic::error("bad-name", group.place, found);
                context.found.push(found.key(format!("users.{}.groups", key.text)));
            }
        }
        let path = |key: &str| {
            let text = node.get(key).and_then(Node::text)?;
            Some(absolute(text, context.directory, None))
        };
        let user = User {
            system: read::flag(node, "system", Flag::Off),
            home: path("home"),
            shell: path("shell"),
            groups: read::list(node, "groups"),
        };
        out.insert(key.text.clone(), user);
    }
    out
}

/// The keys are absolute paths already.
pub(crate) fn directories(node: Option<&Node>) -> BTreeMap<PathBuf, Directory> {
    let entries = node.map(Node::entries).unwrap_or_default();
    entries.iter().map(|(key, node)| (PathBuf::from(&*key.text), directory(node))).collect()
}

fn directory(node: &Node) -> Directory {
    Directory {
        owner: read::text(node, "owner").filter(|name| &**name != "self"),
        group: read::text(node, "group"),
        mode: read::mode(node, "mode").unwrap_or(Mode(0o755)),
        files: read::mode(node, "files"),
        optional: read::flag(node, "optional", Flag::Off),
        at_start: read::flag(node, "at_start", Flag::Off),
    }
}
