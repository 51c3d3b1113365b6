//! `users` and `directories` in the words of a site file.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    tree::{Item, Map},
    words::{mode, path, text, texts, word},
};
use crate::model::{Directory, User};

pub(super) fn users(users: &BTreeMap<Box<str>, User>) -> Option<Item> {
    section(users.iter().map(|(name, user)| {
        let mut map = Map::default();
        map.add("system", word(user.system));
        map.add_some("home", user.home.as_deref().map(path));
        map.add_some("shell", user.shell.as_deref().map(path));
        map.add("groups", texts(&user.groups));
        (name.to_string(), map)
    }))
}

pub(super) fn directories(directories: &BTreeMap<PathBuf, Directory>) -> Option<Item> {
    section(directories.iter().map(|(path, directory)| {
        let mut map = Map::default();
        map.add("owner", directory.owner.as_deref().map_or_else(|| word("self"), text));
        map.add_some("group", directory.group.as_deref().map(text));
        map.add("mode", mode(directory.mode));
        map.add_some("files", directory.files.map(mode));
        map.add("optional", word(directory.optional));
        map.add("at_start", word(directory.at_start));
        (path.to_string_lossy().into_owned(), map)
    }))
}

fn section(items: impl Iterator<Item = (String, Map)>) -> Option<Item> {
    let mut section = Map::default();
    items.for_each(|(name, map)| section.add(name, Item::Map(map)));
    (!section.0.is_empty()).then_some(Item::Map(section))
}
