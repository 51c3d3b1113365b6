//! Typed values of a checked tree. What is missing or was refused before is simply absent.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    config::{check::integer, tree::Node, values},
    model::{Bytes, Limit, Mode, Signal},
};

pub(crate) fn text(node: &Node, key: &str) -> Option<Box<str>> {
    node.get(key)?.text().map(Into::into)
}

pub(crate) fn flag(node: &Node, key: &str, default: Flag) -> bool {
    match node.get(key).and_then(Node::text) {
        Some("true") => true,
        Some("false") => false,
        _ => default == Flag::On,
    }
}

/// The default of a boolean key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    On,
    Off,
}

pub(crate) fn duration(node: &Node, key: &str) -> Option<Duration> {
    values::duration(node.get(key)?.text()?).ok()
}

pub(crate) fn limit(node: &Node, key: &str) -> Option<Limit> {
    values::limit(node.get(key)?.text()?).ok()
}

pub(crate) fn size(node: &Node, key: &str) -> Option<Bytes> {
    values::size(node.get(key)?.text()?).ok()
}

pub(crate) fn mode(node: &Node, key: &str) -> Option<Mode> {
    let scalar = node.get(key)?.scalar()?;
    values::mode(&scalar.text, scalar.quoted).ok()
}

pub(crate) fn percent(node: &Node, key: &str) -> Option<f64> {
    values::percent(node.get(key)?.text()?).ok()
}

pub(crate) fn signal(node: &Node, key: &str) -> Option<Signal> {
    Signal::parse(node.get(key)?.text()?)
}

pub(crate) fn number<T: TryFrom<i64>>(node: &Node, key: &str) -> Option<T> {
    T::try_from(integer(node.get(key)?.text()?)?).ok()
}

/// Items of a list as text.
pub(crate) fn list(node: &Node, key: &str) -> Box<[Box<str>]> {
    let items = node.get(key).map(Node::items).unwrap_or_default();
    items.iter().filter_map(Node::text).map(Into::into).collect()
}

/// Entries of a map as text.
pub(crate) fn map(node: Option<&Node>) -> BTreeMap<Box<str>, Box<str>> {
    let entries = node.map(Node::entries).unwrap_or_default();
    entries.iter().filter_map(|(k, v)| Some((k.text.clone(), v.text()?.into()))).collect()
}

/// A command: a list of words, or a string split like shell words.
pub(crate) fn command(node: &Node) -> Box<[Box<str>]> {
    match node.text() {
        Some(text) => values::words(text)
            .unwrap_or_default()
            .into_iter()
            .map(String::into_boxed_str)
            .collect(),
        None => node.items().iter().filter_map(Node::text).map(Into::into).collect(),
    }
}
