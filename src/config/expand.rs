//! `${NAME}`, `${NAME:-default}` and `$$`, inside scalars only: a value can add no structure.

use std::{cell::Cell, collections::BTreeMap};

use super::{
    diagnostic::{Diagnostic, Findings, Place, nearest},
    tree::{Node, Value},
};

/// Where values of variables come from, the first that has one wins.
#[derive(Debug, Default)]
pub(crate) struct Variables<'a> {
    pub(crate) instance: Option<&'a str>,
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) environment: Option<&'a BTreeMap<String, String>>,
    /// Bytes that expansion has made so far.
    pub(crate) spent: Cell<usize>,
}

impl Variables<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        if name == "instance" && self.instance.is_some() {
            return self.instance;
        }
        let from_environment = || self.environment.and_then(|e| e.get(name));
        self.values.get(name).or_else(from_environment).map(String::as_str)
    }
}

/// Longer results are refused: variables of variables can grow without end.
const MAX_LEN: usize = 1 << 16;
/// And all results together.
const MAX_TOTAL: usize = 32 << 20;

/// Expands every scalar below `node`. Names for which `runtime` holds stay as they are.
pub(crate) fn tree(
    node: &mut Node,
    variables: &Variables<'_>,
    runtime: fn(&str) -> bool,
    found: &mut Findings,
) {
    match &mut node.value {
        Value::Null => {}
        Value::Scalar(scalar) => {
            if scalar.text.contains('$') {
                match text(&scalar.text, variables, runtime) {
                    Ok(expanded) => scalar.text = expanded.into(),
                    Err(error) => report(&error, node.place, node.start, variables, found),
                }
            }
        }
        Value::List(items) => {
            for item in items {
                tree(item, variables, runtime, found);
            }
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                if key.text.contains('$') {
                    match text(&key.text, variables, runtime) {
                        Ok(expanded) => key.text = expanded.into(),
                        Err(error) => report(&error, key.place, key.start, variables, found),
                    }
                }
                tree(value, variables, runtime, found);
            }
        }
    }
}

/// A mistake in a text, and the byte of the text at which it begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExpandError {
    at: usize,
    message: String,
    unset: Option<String>,
}

/// Expands `text`.
pub(crate) fn text(
    text: &str,
    variables: &Variables<'_>,
    runtime: fn(&str) -> bool,
) -> Result<String, ExpandError> {
    let error = |at, message: &str| ExpandError { at, message: message.to_owned(), unset: None };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let at = text.len() - after.len() - 1;
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
            continue;
        }
        let Some(inner) = after.strip_prefix('{') else {
            // `$NAME` is left to a shell that may read it.
            out.push('$');
            rest = after;
            continue;
        };
        let (inner, tail) =
            inner.split_once('}').ok_or_else(|| error(at, "`${` has no closing `}`"))?;
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if runtime(name) {
            out.push_str("${");
            out.push_str(inner);
            out.push('}');
        } else if !is_variable(name) {
            return Err(error(at, &format!("`{name}` is no name of a variable")));
        } else {
            let value = variables.value(name).filter(|v| !v.is_empty() || default.is_none());
            let unset = || ExpandError {
                at,
                message: format!("variable `{name}` is not set"),
                unset: Some(name.to_owned()),
            };
            out.push_str(value.or(default).ok_or_else(unset)?);
        }
        if out.len() > MAX_LEN {
            return Err(error(at, "the expanded text is too long"));
        }
        rest = tail;
    }
    out.push_str(rest);
    variables.spent.set(variables.spent.get() + out.len());
    if variables.spent.get() > MAX_TOTAL {
        return Err(error(0, "the site is too large when its variables are expanded"));
    }
    Ok(out)
}

/// Whether `name` may be a variable: letters, digits and `_`, not beginning with a digit.
pub(crate) fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Variables that only exist while a task runs or a mount changes.
pub(crate) fn is_runtime(name: &str) -> bool {
    matches!(name, "state_dir" | "urgency" | "title" | "message")
        || ["steps.", "info.", "mount."].iter().any(|p| name.starts_with(p))
}

fn report(
    error: &ExpandError,
    place: Place,
    start: u32,
    variables: &Variables<'_>,
    found: &mut Findings,
) {
    let place = inside(found, place, start, error.at);
    let mut diagnostic = Diagnostic::error("variable", place, error.message.clone());
    if let Some(name) = &error.unset {
        diagnostic.hint = Some(if name == "instance" {
            "`${instance}` is set in programs that have `instances`".to_owned()
        } else {
            match nearest(name, variables.values.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "set it under `variables`, with `--set {name}=VALUE`, \
                     or write `${{{name}:-default}}`"
                ),
            }
        });
    }
    found.push(diagnostic);
}

/// The place of byte `at` of a scalar that begins at byte `start` and is written on one line.
fn inside(found: &Findings, place: Place, start: u32, at: usize) -> Place {
    let source = || {
        let text = &found.file(place.file)?.text;
        let line = text.get(usize::try_from(start).ok()?..)?.lines().next()?;
        // A quote, or escapes before it, move the text to the right.
        let offset = line.get(at..)?.find("${")? + at;
        let columns = line.get(..offset)?.chars().count();
        let len = line.get(offset..)?.find('}').map_or(1, |n| n + 1);
        Some((u32::try_from(columns).ok()?, u32::try_from(len).ok()?))
    };
    match source() {
        Some((columns, len)) => Place { column: place.column + columns, len, ..place },
        None => place,
    }
}
