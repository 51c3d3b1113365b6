//! `shm`: what is stale in /dev/shm.

use std::collections::BTreeMap;

use super::{
    Context,
    program::user_id,
    read::{self, Flag},
};
use crate::{
    config::{diagnostic::Diagnostic, tree::Node},
    model::{Name, ShmMoment, ShmRule},
};

/// The rules of the site: their files are the supervisor's own unless they say otherwise.
pub(crate) fn rules(node: Option<&Node>, context: &mut Context<'_>) -> BTreeMap<Name, ShmRule> {
    let mut out = BTreeMap::new();
    for (key, node) in node.map(Node::entries).unwrap_or_default() {
        let Ok(name) = Name::new(&key.text) else { continue };
        let before = context.found.count();
        let rule = rule(node, context.options.uid, context);
        context.found.name_since(before, &format!("shm.{name}"));
        out.insert(name, rule);
    }
    out
}

/// A rule for the files of `owner`, unless it names another.
pub(super) fn rule(node: &Node, owner: u32, context: &mut Context<'_>) -> ShmRule {
    let named = node.entry("owner").and_then(|(key, name)| Some((key.place, name.text()?)));
    let (own, given) = (context.options.uid, named.and_then(|(_, name)| user_id(name, context)));
    if let (Some((place, name)), Some(uid)) = (named, given)
        && own != 0
        && uid != own
    {
        let text = format!("a supervisor that is not root cannot remove files of `{name}`");
        let found = Diagnostic::error("not-root", place, text);
        context.found.push(found.hint("remove `owner`, or run the supervisor as root"));
    }
    ShmRule {
        remove: read::list(node, "remove"),
        when: moments(node),
        owner: given.unwrap_or(owner),
        older_than: read::duration(node, "older_than"),
        dry_run: read::flag(node, "dry_run", Flag::Off),
    }
}

/// Before, unless it is said: what a run leaves behind may be wanted to find out how it ended.
fn moments(node: &Node) -> Box<[ShmMoment]> {
    let words = node.get("when").map(Node::items).unwrap_or_default();
    if words.is_empty() {
        return Box::new([ShmMoment::Before]);
    }
    let moment = |word: &str| match word {
        "stop" | "post-stop" => ShmMoment::After,
        _ => ShmMoment::Before,
    };
    let mut all: Vec<ShmMoment> = words.iter().filter_map(Node::text).map(moment).collect();
    all.sort_unstable();
    all.dedup();
    all.into()
}
