//! What is shown, as a tree: values, and where they came from. And the tree as YAML.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::config::{
    diagnostic::{Findings, Place, is_forbidden},
    expand::is_runtime,
    tree::{Node, Value},
};

/// A value to be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    /// A number, a word of the format, a value with its unit: never quoted.
    Word(String),
    /// Text of the user's: quoted where it could be read as something else.
    Text(String),
    /// Text that has to be quoted.
    Quoted(String),
    List(Vec<Self>),
    Map(Map),
}

/// A map, in the order in which it is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Map(pub(super) Vec<(String, Field)>);

/// A value with its origin; `None`: it is a default of the format.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) value: Item,
    pub(super) origin: Option<Place>,
}

impl Map {
    pub(super) fn add(&mut self, key: impl Into<String>, value: Item) {
        self.0.push((key.into(), Field { value, origin: None }));
    }

    pub(super) fn add_some(&mut self, key: &str, value: Option<Item>) {
        self.0.extend(value.map(|value| (key.to_owned(), Field { value, origin: None })));
    }

    fn field(&mut self, key: &str) -> Option<&mut Field> {
        self.0.iter_mut().find(|(k, _)| k == key).map(|(_, field)| field)
    }

    /// Takes origins from `node`, and whatever it has that is not shown yet: what this version
    /// only validates, and names that stand for ids. Keys that `skip` names were resolved.
    pub(super) fn overlay(&mut self, node: &Node, skip: &[&str]) {
        for (key, node) in node.entries().iter().filter(|(k, _)| !skip.contains(&&*k.text)) {
            let Some(field) = self.field(&key.text) else {
                let field = Field { value: as_written(node, false), origin: Some(node.place) };
                self.0.push((key.text.to_string(), field));
                continue;
            };
            match (&mut field.value, &node.value) {
                (Item::Map(map), Value::Map(_)) => {
                    // One signal is shown as `signal`, several are as `signals`.
                    let stop = &["signal", "timeout", "signals"];
                    map.overlay(node, if &*key.text == "stop" { stop } else { &[] });
                    if &*key.text == "stop" {
                        map.mark(node, stop);
                    }
                }
                // `restart: always` and `runtime_directory: web` give the first key alone.
                (Item::Map(map), _) => {
                    if let Some((_, first)) = map.0.first_mut() {
                        first.origin = Some(node.place);
                    }
                }
                (_, _) => field.origin = Some(node.place),
            }
        }
    }

    fn mark(&mut self, node: &Node, keys: &[&str]) {
        for key in keys {
            if let (Some(field), Some(given)) = (self.field(key), node.get(key)) {
                field.origin = Some(given.place);
            }
        }
    }
}

/// A part of the file as it stands there, variables resolved. `runtime`: it may contain variables
/// that only exist later.
pub(super) fn as_written(node: &Node, runtime: bool) -> Item {
    let field = |n: &Node| Field { value: as_written(n, runtime), origin: Some(n.place) };
    match &node.value {
        Value::Null => Item::Map(Map::default()),
        Value::Scalar(s) => {
            let text = escaped(&s.text, runtime);
            match (s.quoted, is_plain(&text)) {
                (false, true) => Item::Word(text),
                _ => Item::Quoted(text),
            }
        }
        Value::List(items) => Item::List(items.iter().map(|n| as_written(n, runtime)).collect()),
        Value::Map(entries) => {
            Item::Map(Map(entries.iter().map(|(k, n)| (k.text.to_string(), field(n))).collect()))
        }
    }
}

/// `text` so that it is not expanded again. `runtime`: variables that exist later stay.
fn escaped(text: &str, runtime: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let rest = text.get(at + 1..).filter(|_| c == '$').unwrap_or_default();
        let later = |inner: &str| inner.split_once('}').is_some_and(|(n, _)| is_runtime(n));
        let variable = rest.strip_prefix('{').is_some_and(|inner| !(runtime && later(inner)));
        if rest.starts_with('$') || variable {
            out.push('$');
        }
        out.push(c);
    }
    out
}

/// Whether YAML takes `text` as it stands, whatever stands around it.
fn is_plain(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"_./@%+=~ -".contains(&b);
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.'))
        && text.bytes().all(ok)
        && !text.ends_with(' ')
}

/// Whether YAML takes `text` for text, and for nothing else.
fn is_plainly_text(text: &str) -> bool {
    let rest = text.strip_prefix('.').unwrap_or(text);
    let lower = rest.to_ascii_lowercase();
    let other = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan"];
    rest.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_'))
        && is_plain(text)
        && !other.contains(&&*lower)
}

/// The inside of double quotes: safe for YAML and for a terminal.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_forbidden(c) || c == '\u{feff}' => {
                write!(out, "\\u{:04x}", u32::from(c)).ok();
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn text(text: &str) -> String {
    if is_plainly_text(text) { text.to_owned() } else { quoted(text) }
}

/// On one line.
fn flow(item: &Item) -> String {
    match item {
        Item::Word(word) => word.clone(),
        Item::Text(t) => text(&escaped(t, false)),
        Item::Quoted(t) => quoted(t),
        Item::List(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Item::Map(Map(fields)) => {
            let one = |(k, f): &(String, Field)| format!("{}: {}", key(k), flow(&f.value));
            format!("{{{}}}", fields.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    }
}

fn key(name: &str) -> String {
    text(&escaped(name, false))
}

/// Writes where a value came from.
pub(super) struct Origins<'a> {
    pub(super) files: &'a Findings,
    /// Every place below `defaults:`.
    pub(super) defaults: BTreeSet<Place>,
}

impl Origins<'_> {
    fn comment(&self, origin: Option<Place>, otherwise: &str) -> String {
        let Some(place) = origin else { return format!("  # {otherwise}") };
        let name = self.files.file(place.file).map_or("site", |f| &f.name);
        let section = if self.defaults.contains(&place) { "defaults, " } else { "" };
        let name: String = name.chars().filter(|c| !is_forbidden(*c)).collect();
        format!("  # {section}{name}:{}", place.line)
    }
}

/// Writes `map` as a block; `otherwise` is the origin of what the file does not say.
pub(super) fn write_map(
    map: &Map,
    indent: usize,
    origins: Option<&Origins<'_>>,
    otherwise: &str,
    out: &mut String,
) {
    let pad = " ".repeat(indent);
    for (name, field) in &map.0 {
        // Writing to a string cannot fail.
        write!(out, "{pad}{}:", key(name)).ok();
        let comment = origins.map(|o| o.comment(field.origin, otherwise)).unwrap_or_default();
        match &field.value {
            Item::Map(inner) if !inner.0.is_empty() => {
                out.push('\n');
                // What a program's environment has beyond the file, its instance gave.
                let inside = if name == "environment" { "instances" } else { otherwise };
                write_map(inner, indent + 2, origins, inside, out);
            }
            Item::List(items) if items.iter().any(|i| matches!(i, Item::Map(_))) => {
                writeln!(out, "{comment}").ok();
                for item in items {
                    writeln!(out, "{pad}  - {}", flow(item)).ok();
                }
            }
            value @ (Item::Word(_)
            | Item::Text(_)
            | Item::Quoted(_)
            | Item::List(_)
            | Item::Map(_)) => {
                writeln!(out, " {}{comment}", flow(value)).ok();
            }
        }
    }
}
