//! A YAML document as a tree with places. Built without recursion, within fixed budgets.

#![expect(clippy::result_large_err, reason = "one error ends the reading of a file")]

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::diagnostic::{Diagnostic, Place, is_forbidden};

/// Deeper nesting is refused, aliases followed. So everything after this may recurse.
pub(crate) const MAX_DEPTH: usize = 64;
/// More nodes are refused, aliases counted as often as they are used.
const MAX_NODES: usize = 100_000;

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    /// First byte in the file, for messages that point inside.
    pub(crate) start: u32,
    pub(crate) value: Value,
}

/// A value; what a scalar means is decided by who reads it.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the file; no key twice.
    Map(Vec<(Key, Node)>),
}

/// Text, and whether it was quoted (or a block).
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: Box<str>,
    pub(crate) quoted: bool,
}

/// A key of a map.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: Box<str>,
    pub(crate) place: Place,
    pub(crate) start: u32,
}

impl Node {
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, n)| n)
    }

    pub(crate) fn entry(&self, key: &str) -> Option<(&Key, &Self)> {
        self.entries().iter().find(|(k, _)| &*k.text == key).map(|(k, n)| (k, n))
    }

    /// The entries of a map; none for anything else.
    pub(crate) fn entries(&self) -> &[(Key, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Null | Value::Scalar(_) | Value::List(_) => &[],
        }
    }

    /// The items of a list; none for anything else.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            Value::Null | Value::Scalar(_) | Value::Map(_) => &[],
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar().map(|s| &*s.text)
    }

    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// What it is, for "expected …, found …".
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Scalar(s) => format!("`{}`", shortened(&s.text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }

    /// Number of nodes and levels, this one included. The tree is at most [`MAX_DEPTH`] deep.
    pub(crate) fn measure(&self) -> (usize, usize) {
        let join = |(n, d): (usize, usize), child: &Self| {
            let (count, depth) = child.measure();
            (n + count, d.max(depth))
        };
        let (n, d) = match &self.value {
            Value::Null | Value::Scalar(_) => (0, 0),
            Value::List(items) => items.iter().fold((0, 0), join),
            Value::Map(entries) => entries.iter().map(|(_, n)| n).fold((0, 0), join),
        };
        (n + 1, d + 1)
    }
}

/// `text` cut so that it fits into a message.
pub(crate) fn shortened(text: &str) -> String {
    if text.chars().count() <= 60 {
        text.to_owned()
    } else {
        text.chars().take(57).chain("...".chars()).collect()
    }
}

/// Reads `text` as one YAML document. Mistakes that leave the structure clear go to `found`.
///
/// # Errors
/// The mistake that makes the structure unclear.
pub(crate) fn parse(
    file: u16,
    text: &str,
    found: &mut Vec<Diagnostic>,
) -> Result<Node, Diagnostic> {
    let mut builder = Builder::new(file, found);
    let options = granit_parser::options! { flow_nesting_limit: 255, block_nesting_limit: 255 };
    let mut documents = 0_u32;
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|e| syntax_error(file, &e))?;
        if matches!(event, Event::DocumentStart(..)) {
            documents += 1;
            if documents > 1 {
                let place = place(file, &span);
                return Err(Diagnostic::error("syntax", place, "a second document begins here")
                    .hint("one file describes one site: remove `---`, or use `include:`"));
            }
        }
        builder.event(event, &span)?;
    }
    let empty = || {
        Diagnostic::error("syntax", Place { file, line: 1, column: 1, len: 1 }, "the file is empty")
    };
    let root = builder.root.ok_or_else(empty)?;
    if matches!(root.value, Value::Null) {
        return Err(empty().hint("a site begins with `version: 1`"));
    }
    Ok(root)
}

fn syntax_error(file: u16, error: &granit_parser::ScanError) -> Diagnostic {
    let marker = error.marker();
    let place = Place {
        file,
        line: u32::try_from(marker.line()).unwrap_or(1).max(1),
        column: u32::try_from(marker.col()).unwrap_or(0).saturating_add(1),
        len: 1,
    };
    let message = error.kind().to_string();
    let found = Diagnostic::error("syntax", place, message.clone());
    if message.contains("tab") {
        found.hint("indent with spaces; YAML forbids tabs")
    } else if message.contains("anchor") || message.contains("alias") {
        found.hint("quote a value that begins with `*` or `&`")
    } else {
        found
    }
}

pub(crate) fn place(file: u16, span: &Span) -> Place {
    let line = u32::try_from(span.start.line()).unwrap_or(1).max(1);
    let column = u32::try_from(span.start.col()).unwrap_or(0).saturating_add(1);
    let len = if span.end.line() == span.start.line() {
        span.end.col().saturating_sub(span.start.col())
    } else {
        1
    };
    Place { file, line, column, len: u32::try_from(len).unwrap_or(1).max(1) }
}

fn start(span: &Span) -> u32 {
    span.byte_range().and_then(|r| u32::try_from(r.start).ok()).unwrap_or(0)
}

/// A collection that is not finished.
struct Open {
    anchor: usize,
    node: Node,
    /// In a map: the key whose value comes next.
    key: Option<Key>,
}

struct Builder<'a> {
    file: u16,
    found: &'a mut Vec<Diagnostic>,
    stack: Vec<Open>,
    root: Option<Node>,
    anchors: BTreeMap<usize, (Node, usize, usize)>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn new(file: u16, found: &'a mut Vec<Diagnostic>) -> Self {
        Self { file, found, stack: Vec::new(), root: None, anchors: BTreeMap::new(), nodes: 0 }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the parser's enum may grow")]
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Diagnostic> {
        let at = place(self.file, span);
        let node = |value| Node { place: at, start: start(span), value };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some_and(|t| !t.is_yaml_core_schema_tag("str")), at);
                let plain = style == ScalarStyle::Plain;
                self.refuse_control(&text, at);
                let empty = plain && (span.is_empty() || matches!(&*text, "~" | "null" | ""));
                let text = if plain && span.is_empty() { "".into() } else { text };
                let scalar = Scalar { text: text.into(), quoted: !plain };
                // A key may be called `null`; as a value it is nothing.
                let is_key = self.expects_key();
                let value = if empty && !is_key { Value::Null } else { Value::Scalar(scalar) };
                self.complete(anchor, node(value))
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some_and(|t| !t.is_yaml_core_schema_tag("seq")), at);
                self.open(anchor, node(Value::List(Vec::new())))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some_and(|t| !t.is_yaml_core_schema_tag("map")), at);
                self.open(anchor, node(Value::Map(Vec::new())))
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => self.alias(id, at),
            _ => Ok(()), // start and end of stream and document
        }
    }

    fn expects_key(&self) -> bool {
        self.stack.last().is_some_and(|o| matches!(o.node.value, Value::Map(_)) && o.key.is_none())
    }

    fn refuse_tag(&mut self, unknown: bool, at: Place) {
        if unknown {
            let text = "tags (`!name`) mean nothing here";
            self.found.push(Diagnostic::error("tag", at, text).hint("remove the tag"));
        }
    }

    fn refuse_control(&mut self, text: &str, at: Place) {
        if let Some(c) = text.chars().find(|c| is_forbidden(*c) && !matches!(c, '\n' | '\t')) {
            let text = format!("a control character (U+{:04X}) is not allowed", u32::from(c));
            self.found.push(Diagnostic::error("control-character", at, text));
        }
    }

    fn open(&mut self, anchor: usize, node: Node) -> Result<(), Diagnostic> {
        if self.expects_key() {
            return Err(Diagnostic::error(
                "syntax",
                node.place,
                "a key is a word, not a collection",
            )
            .hint("quote a value that begins with `{` or `[`"));
        }
        self.count(1, self.stack.len() + 1, node.place)?;
        self.stack.push(Open { anchor, node, key: None });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Diagnostic> {
        let Some(mut open) = self.stack.pop() else { return Ok(()) };
        if let Value::Map(entries) = &mut open.node.value {
            self.merge(entries);
            self.refuse_duplicates(entries);
        }
        self.attach(open.anchor, open.node)
    }

    fn complete(&mut self, anchor: usize, node: Node) -> Result<(), Diagnostic> {
        self.count(1, self.stack.len(), node.place)?;
        self.attach(anchor, node)
    }

    fn alias(&mut self, id: usize, at: Place) -> Result<(), Diagnostic> {
        let Some((node, nodes, depth)) = self.anchors.get(&id).cloned() else {
            return Err(Diagnostic::error("alias", at, "this alias contains itself"));
        };
        self.count(nodes, self.stack.len() + depth, at)?;
        self.attach(0, node)
    }

    fn count(&mut self, nodes: usize, depth: usize, at: Place) -> Result<(), Diagnostic> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let text = format!("more than {MAX_NODES} values, aliases included");
            return Err(Diagnostic::error("too-large", at, text));
        }
        if depth > MAX_DEPTH {
            let text = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(Diagnostic::error("too-deep", at, text));
        }
        Ok(())
    }

    fn attach(&mut self, anchor: usize, node: Node) -> Result<(), Diagnostic> {
        if anchor != 0 {
            let (nodes, depth) = node.measure();
            self.anchors.insert(anchor, (node.clone(), nodes, depth));
        }
        let Some(top) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut top.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match top.key.take() {
                Some(key) => entries.push((key, node)),
                None => top.key = Some(key_of(node)?),
            },
            Value::Null | Value::Scalar(_) => {}
        }
        Ok(())
    }

    /// `<<: *base`: keys of the base that the map does not have itself.
    fn merge(&mut self, entries: &mut Vec<(Key, Node)>) {
        let mut bases = Vec::new();
        entries.retain(|(key, node)| {
            let is_merge = &*key.text == "<<";
            if is_merge {
                bases.push((key.place, node.clone()));
            }
            !is_merge
        });
        for (at, base) in bases {
            let maps = match base.value {
                Value::List(items) => items,
                Value::Map(_) | Value::Null | Value::Scalar(_) => vec![base],
            };
            for map in maps {
                let Value::Map(inherited) = map.value else {
                    let text = "`<<` takes a map, or a list of maps";
                    self.found.push(Diagnostic::error("merge", at, text));
                    continue;
                };
                let own: BTreeSet<_> = entries.iter().map(|(k, _)| k.text.clone()).collect();
                for (key, node) in inherited {
                    if !own.contains(&key.text) {
                        entries.push((key, node));
                    }
                }
            }
        }
    }

    fn refuse_duplicates(&mut self, entries: &mut Vec<(Key, Node)>) {
        let mut first: BTreeMap<Box<str>, Place> = BTreeMap::new();
        entries.retain(|(key, _)| {
            let Some(earlier) = first.get(&key.text) else {
                first.insert(key.text.clone(), key.place);
                return true;
            };
            let text = format!("key `{}` is given twice", shortened(&key.text));
            let found = Diagnostic::error("duplicate-key", key.place, text);
            self.found.push(found.label(*earlier, "first given here"));
            false
        });
    }
}

fn key_of(node: Node) -> Result<Key, Diagnostic> {
    match node.value {
        Value::Scalar(s) if !s.text.contains(['\n', '\t']) => {
            Ok(Key { text: s.text, place: node.place, start: node.start })
        }
        Value::Null | Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
            Err(Diagnostic::error("syntax", node.place, "a key is a word on one line"))
        }
    }
}
