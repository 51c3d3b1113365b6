//! The resolved site, in the words of a site file.

mod hardening;
mod host;
mod probe;
mod program;
mod shm;
mod supervisor;
mod tree;
mod words;

use std::collections::BTreeSet;

use super::{Loaded, diagnostic::Place, tree::Node};
use tree::{Item, Map, Origins, as_written, write_map};
use words::word;

const SECRET_WORDS: [&str; 5] = ["PASSWORD", "PASSWD", "TOKEN", "SECRET", "PRIVATE_KEY"];

/// Sections that are shown as they were written: no program needs them.
const SECTIONS: [&str; 3] = ["semaphores", "mounts", "tasks"];

/// The site that was understood, as a site file: defaults filled in, variables resolved, instances
/// as programs of their own. Loading it gives an equal site, unless something had to be hidden:
/// values of variables that look like secrets, or that `supervisor.redact` names. With `origin`,
/// each value has a comment that says where it was given.
#[must_use]
pub fn show(loaded: &Loaded, origin: bool) -> String {
    let written = &loaded.written;
    let mut site = Map::default();
    site.add("version", word(1));
    site.add("supervisor", Item::Map(supervisor::supervisor(&loaded.site.supervisor)));
    site.add_some("users", host::users(&loaded.site.users));
    site.add_some("directories", host::directories(&loaded.site.directories));
    site.add_some("shm", shm::rules(&loaded.site.shm));
    for section in SECTIONS {
        site.add_some(section, written.root.get(section).map(|n| as_written(n, true)));
    }
    let mut programs = Map::default();
    for (name, program) in &loaded.site.programs {
        let node = written.programs.get(name);
        let mut shown = program::program(program, node);
        if let Some(node) = node {
            shown.overlay(node, &["instances"]);
        }
        programs.add(name.as_str(), Item::Map(shown));
    }
    // Only keys of these sections are looked at: the programs above are complete.
    let skip = ["variables", "variable_files", "include", "defaults", "programs"];
    site.overlay(&written.root, &skip);
    site.add("programs", Item::Map(programs));
    hide_map(&mut site, &loaded.site.supervisor.redact);
    let mut defaults = BTreeSet::new();
    if let Some(node) = written.root.get("defaults") {
        places(node, &mut defaults);
    }
    let origins = Origins { files: &loaded.warnings, defaults };
    let mut out = String::new();
    write_map(&site, 0, origin.then_some(&origins), "default", &mut out);
    out
}

/// Every place below `node`; a tree of the file is shallow.
fn places(node: &Node, found: &mut BTreeSet<Place>) {
    found.insert(node.place);
    node.items().iter().chain(node.entries().iter().map(|(_, n)| n)).for_each(|n| places(n, found));
}

/// Hides values of secret names in every map.
fn hide_map(map: &mut Map, redact: &[Box<str>]) {
    for (name, field) in &mut map.0 {
        let upper = name.to_uppercase();
        let secret =
            redact.iter().any(|r| **r == **name) || SECRET_WORDS.iter().any(|w| upper.contains(w));
        match &mut field.value {
            value @ (Item::Word(_) | Item::Text(_) | Item::Quoted(_)) if secret => {
                *value = Item::Text("(hidden)".to_owned());
            }
            value @ (Item::Word(_)
            | Item::Text(_)
            | Item::Quoted(_)
            | Item::List(_)
            | Item::Map(_)) => hide(value, redact),
        }
    }
}

fn hide(item: &mut Item, redact: &[Box<str>]) {
    match item {
        Item::Map(map) => hide_map(map, redact),
        Item::List(items) => items.iter_mut().for_each(|i| hide(i, redact)),
        Item::Word(_) | Item::Text(_) | Item::Quoted(_) => {}
    }
}
