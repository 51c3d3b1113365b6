//! `hardening`.

use std::path::{Path, PathBuf};

use super::{
    Context,
    read::{self, Flag},
};
use crate::{
    config::{
        diagnostic::Diagnostic,
        hardening::device_pattern,
        tree::{Node, Value},
    },
    model::{
        AddressFamilies, Capability, CapabilitySet, HardenedPath, Hardening, ProtectHome,
        ProtectSystem, SystemCallFilter, Verdict,
    },
};

/// All but `no_new_privileges`; `None` when nothing is asked for.
pub(super) fn hardening(
    node: &Node,
    path: &dyn Fn(&str) -> PathBuf,
    context: &mut Context<'_>,
) -> Option<Box<Hardening>> {
    let node = node.get("hardening")?;
    let flag = |key: &str| read::flag(node, key, Flag::Off);
    let word = |key: &str| node.get(key).and_then(Node::text).unwrap_or("false");
    let paths = |key: &str| paths(node.get(key), path);
    let (capabilities, ambient) = capabilities(node, context);
    let hardening = Hardening {
        private_tmp: flag("private_tmp"),
        protect_system: match word("protect_system") {
            "strict" => ProtectSystem::Strict,
            "full" => ProtectSystem::Full,
            "true" => ProtectSystem::Yes,
            _ => ProtectSystem::No,
        },
        protect_home: match word("protect_home") {
            "true" => ProtectHome::Yes,
            "read-only" => ProtectHome::ReadOnly,
            "tmpfs" => ProtectHome::Tmpfs,
            _ => ProtectHome::No,
        },
        protect_kernel_tunables: flag("protect_kernel_tunables"),
        protect_kernel_modules: flag("protect_kernel_modules"),
        protect_control_groups: flag("protect_control_groups"),
        read_write_paths: paths("read_write_paths"),
        read_only_paths: paths("read_only_paths"),
        inaccessible_paths: paths("inaccessible_paths"),
        devices: devices(node.get("devices")),
        capabilities,
        ambient_capabilities: ambient,
        address_families: families(node.get("restrict_address_families"), context),
        system_calls: system_calls(node.get("system_call_filter"), context),
    };
    hidden(node, &hardening, context);
    privileges(node, context);
    Some(hardening).filter(|wanted| *wanted != Hardening::default()).map(Box::new)
}

fn paths(node: Option<&Node>, path: &dyn Fn(&str) -> PathBuf) -> Box<[HardenedPath]> {
    let one = |text: &str| {
        let (text, optional) = text.strip_prefix('-').map_or((text, false), |rest| (rest, true));
        HardenedPath { path: path(text), optional }
    };
    node.map(Node::items).unwrap_or_default().iter().filter_map(Node::text).map(one).collect()
}

/// A list, even one without any; `false` is none at all.
fn devices(node: Option<&Node>) -> Option<Box<[Box<str>]>> {
    let node = node.filter(|node| matches!(node.value, Value::List(_)))?;
    let patterns = node.items().iter().filter_map(Node::text);
    Some(patterns.map(|text| device_pattern(text).into()).collect())
}

/// The bounding set, and the ambient one, which lies in it.
fn capabilities(node: &Node, context: &mut Context<'_>) -> (Option<CapabilitySet>, CapabilitySet) {
    let mut bounding = None;
    if let Some(list) = node.get("capabilities").filter(|n| matches!(n.value, Value::List(_))) {
        let marked = |item: &&Node| item.text().is_some_and(|text| text.starts_with('~'));
        let denies = list.items().first().as_ref().is_some_and(marked);
        let mut set = if denies { CapabilitySet::ALL } else { CapabilitySet::default() };
        for item in list.items() {
            let Some(text) = item.text() else { continue };
            if marked(&item) != denies {
                let text = "capabilities that it may have stand beside those that it may not";
                let found = Diagnostic::error("contradiction", item.place, text);
                context.found.push(found.hint("write `~` before each of them, or before none"));
            }
            let one = Capability::parse(text.trim_start_matches('~'));
            let change = if denies { CapabilitySet::without } else { CapabilitySet::with };
            set = one.map_or(set, |one| change(set, one));
        }
        bounding = Some(set);
    }
    let mut ambient = CapabilitySet::default();
    for item in node.get("ambient_capabilities").map(Node::items).unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        let Some(one) = Capability::parse(text) else {
            if Capability::parse(text.trim_start_matches('~')).is_some() {
                let text = "what is not ambient need not be taken away";
                let found = Diagnostic::error("bad-value", item.place, text);
                context.found.push(found.hint("remove what has a `~` in front"));
            }
            continue;
        };
        if bounding.is_some_and(|set| !set.contains(one)) {
            let text = format!("{one} is ambient, but `capabilities` does not have it");
            let found = Diagnostic::error("contradiction", item.place, text);
            context.found.push(found.hint(format!("add {one} to `capabilities`")));
        }
        ambient = ambient.with(one);
    }
    (bounding, ambient)
}

/// With a `~` before each of them all others; `none` alone is none.
fn families(node: Option<&Node>, context: &mut Context<'_>) -> Option<AddressFamilies> {
    let list = node.filter(|node| matches!(node.value, Value::List(_)))?.items();
    let marked = |item: &Node| item.text().is_some_and(|text| text.starts_with('~'));
    let denies = list.first().is_some_and(marked);
    for item in list.iter().filter(|item| marked(item) != denies) {
        let text = "families that it may use stand beside those that it may not";
        let found = Diagnostic::error("contradiction", item.place, text);
        context.found.push(found.hint("write `~` before each of them, or before none"));
    }
    let names = list.iter().filter_map(Node::text).map(|text| text.trim_start_matches('~'));
    let mut numbers: Vec<u16> = names.filter_map(AddressFamilies::number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    Some(AddressFamilies { denies, numbers: numbers.into() })
}

fn system_calls(node: Option<&Node>, context: &mut Context<'_>) -> Option<SystemCallFilter> {
    let node = node.filter(|node| matches!(node.value, Value::List(_)))?;
    let words = node.items().iter().filter_map(Node::text).map(Into::into);
    let filter = SystemCallFilter(words.collect());
    if filter.verdict("execve") != Verdict::Allow {
        let text = "a program that may not `execve` cannot be started";
        let found = Diagnostic::error("contradiction", node.place, text);
        context.found.push(found.hint("put `execve` behind what forbids it"));
    }
    Some(filter)
}

/// The kernel takes a filter only from who cannot become more than he is.
fn privileges(node: &Node, context: &mut Context<'_>) {
    let Some((key, value)) = node.entry("no_new_privileges") else { return };
    let filters = ["restrict_address_families", "system_call_filter"];
    let Some(filter) = filters.into_iter().find(|key| node.get(key).is_some()) else { return };
    if value.text() == Some("false") {
        let text = format!("`{filter}` takes `no_new_privileges`");
        let found = Diagnostic::error("contradiction", key.place, text);
        context.found.push(found.hint("remove `no_new_privileges: false`"));
    }
}

/// What is hidden cannot have something in it that may be written.
fn hidden(node: &Node, hardening: &Hardening, context: &mut Context<'_>) {
    let homes = ProtectHome::HOMES.iter().map(|home| (Path::new(home), "protect_home"));
    let homes = homes.filter(|_| hardening.protect_home == ProtectHome::Yes);
    let named = hardening.inaccessible_paths.iter();
    let named = named.map(|of| (of.path.as_path(), "inaccessible_paths"));
    let all: Vec<(&Path, &str)> = homes.chain(named).collect();
    let items = node.get("read_write_paths").map(Node::items).unwrap_or_default();
    for (item, of) in items.iter().zip(&hardening.read_write_paths) {
        let above = |(hidden, _): &&(&Path, &str)| of.path.starts_with(hidden);
        let Some((hidden, key)) = all.iter().find(above) else { continue };
        let (path, hidden) = (of.path.display(), hidden.display());
        let text = format!("{path} cannot be written: `{key}` hides {hidden}");
        let found = Diagnostic::error("contradiction", item.place, text);
        let hint = match *key {
            "protect_home" => "`protect_home: tmpfs` hides homes but for what is named",
            _ => "hide what is beside it instead",
        };
        context.found.push(found.hint(hint));
    }
}
