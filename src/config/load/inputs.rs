//! What a site reads besides its own file: included files, and variables.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use super::Load;
use crate::config::{
    Source,
    diagnostic::{Diagnostic, Place, nearest},
    dotenv,
    expand::{self, Variables, is_variable},
    lower::{self, absolute},
    source,
    tree::{Node, Value},
};

/// More are refused: they are resolved by trying.
const MAX_VARIABLES: usize = 1000;

impl Load<'_> {
    /// Adds the sections of included files; a name defined twice is an error.
    pub(super) fn include(&mut self, root: &mut Node, source: &Source) {
        let patterns: Vec<(Place, String)> = root
            .get("include")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(|n| Some((n.place, n.text()?.to_owned())))
            .collect();
        let mut seen =
            BTreeSet::from([self.directory.join(source.path.file_name().unwrap_or_default())]);
        for (place, pattern) in patterns {
            let full = self.directory.join(&pattern);
            let paths = match glob::glob(&full.to_string_lossy()) {
                Ok(paths) => paths.filter_map(Result::ok).collect::<Vec<_>>(),
                Err(e) => {
                    self.found.push(Diagnostic::error(
                        "include",
                        place,
                        format!("pattern: {}", e.msg),
                    ));
                    continue;
                }
            };
            if paths.is_empty() && !pattern.contains(['*', '?', '[']) {
                let text = format!("there is no file `{pattern}`");
                self.found.push(Diagnostic::error("include", place, text));
            }
            for path in paths {
                if seen.insert(path.clone()) {
                    self.include_one(root, &path, place);
                }
            }
        }
    }

    fn include_one(&mut self, root: &mut Node, path: &Path, place: Place) {
        let part = match source::read(path, self.options.uid) {
            Ok(part) => part,
            Err(e) => {
                self.found.push(Diagnostic::error("include", place, e.to_string()));
                return;
            }
        };
        let Some(part) = self.parse(&part) else { return };
        if !matches!(part.value, Value::Map(_)) {
            let text = "a partial site is a map";
            self.found.push(Diagnostic::error("include", part.place, text));
        }
        for (key, node) in part.entries() {
            if &*key.text == "version" {
                continue;
            }
            if matches!(&*key.text, "include" | "supervisor" | "defaults" | "variable_files") {
                let text = format!("`{}` belongs into the main file", key.text);
                self.found.push(Diagnostic::error("include", key.place, text));
                continue;
            }
            let Value::Map(sections) = &mut root.value else { return };
            let Some((_, whole)) = sections.iter_mut().find(|(k, _)| k.text == key.text) else {
                sections.push((key.clone(), node.clone()));
                continue;
            };
            if !matches!(node.value, Value::Map(_) | Value::Null) {
                let text = format!("`{}` is a map", key.text);
                self.found.push(Diagnostic::error("include", node.place, text));
            }
            for (name, value) in node.entries() {
                if let Some((first, _)) = whole.entry(&name.text) {
                    let text = format!("`{}` is defined twice", name.text);
                    let found = Diagnostic::error("duplicate-key", name.place, text);
                    self.found.push(found.label(first.place, "first defined here"));
                } else if let Value::Map(entries) = &mut whole.value {
                    entries.push((name.clone(), value.clone()));
                }
            }
        }
    }

    /// Makes the names of `directories` absolute paths without detours, each of them once.
    pub(super) fn absolute_keys(&mut self, directories: &mut Node) {
        let home = self.options.account.as_ref().map(|a| &*a.home);
        let Value::Map(entries) = &mut directories.value else { return };
        let mut seen: BTreeMap<Box<str>, Place> = BTreeMap::new();
        for (key, _) in entries {
            let path = absolute(&key.text, &self.directory, home);
            let (detour, odd) = (Component::ParentDir, key.text.contains(['\n', '\t', '\0']));
            if key.text.is_empty() || odd || path.components().any(|part| part == detour) {
                let text = "expected the path of a directory, on one line and without `..`";
                let found = Diagnostic::error("bad-name", key.place, text);
                self.found.push(found.key("directories"));
                continue;
            }
            key.text = path.components().collect::<PathBuf>().to_string_lossy().into();
            if let Some(first) = seen.insert(key.text.clone(), key.place) {
                let text = format!("`{}` is given twice", key.text);
                let found = Diagnostic::error("duplicate-key", key.place, text);
                self.found.push(found.label(first, "first given here"));
            }
        }
    }

    /// `variables`, `variable_files` over them, `--set` over both.
    pub(super) fn variables(&mut self, root: &Node, variables: &mut Variables<'_>) {
        variables.values.clone_from(&self.options.set);
        let mut rest: Vec<_> =
            root.get("variables").map(Node::entries).unwrap_or_default().to_vec();
        let mut declared: BTreeSet<String> =
            rest.iter().map(|(key, _)| key.text.to_string()).collect();
        for (key, _) in rest.iter().filter(|(k, _)| !is_variable(&k.text)) {
            let text = format!("`{}` is no name of a variable", key.text);
            self.found.push(Diagnostic::error("variable", key.place, text));
        }
        rest.retain(|(key, _)| !variables.values.contains_key(&*key.text));
        if rest.len() > MAX_VARIABLES {
            let text = format!("more than {MAX_VARIABLES} variables");
            self.found.push(Diagnostic::error("too-large", root.place, text));
            return;
        }
        // Variables may refer to each other in any order: as long as one more is clear, go on.
        loop {
            let before = rest.len();
            let names: BTreeSet<Box<str>> = rest.iter().map(|(k, _)| k.text.clone()).collect();
            rest.retain(|(key, node)| {
                let Some(text) = node.text() else { return false };
                let waits = references(text).any(|n| names.contains(n));
                let value = expand::text(text, variables, |_| false).ok().filter(|_| !waits);
                let clear = value.map(|v| variables.values.insert(key.text.to_string(), v));
                clear.is_none()
            });
            if rest.is_empty() || rest.len() == before {
                break;
            }
        }
        for (key, node) in &mut rest {
            let before = self.found.errors();
            expand::tree(node, variables, |_| false, &mut self.found);
            if self.found.errors() == before {
                let text = format!("variable `{}` refers to itself", key.text);
                self.found.push(Diagnostic::error("variable", node.place, text));
            }
        }
        for item in root.get("variable_files").map(Node::items).unwrap_or_default() {
            self.variable_file(item, variables, &mut declared);
        }
        self.refuse_unknown(&declared, root.place);
    }

    /// A `--set` that sets nothing is a slip of the pen: what was meant would keep its value.
    fn refuse_unknown(&mut self, declared: &BTreeSet<String>, place: Place) {
        for name in self.options.set.keys().filter(|name| !declared.contains(*name)) {
            if self.found.mentions(&format!("${{{name}")) {
                continue;
            }
            let text = format!("`--set {name}=…`, but the site has no variable `{name}`");
            let hint = match nearest(name, declared.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("`${{{name}}}` would be its place"),
            };
            self.found.push(Diagnostic::error("variable", place, text).hint(hint));
        }
    }

    fn variable_file(
        &mut self,
        item: &Node,
        variables: &mut Variables<'_>,
        declared: &mut BTreeSet<String>,
    ) {
        let mut item = item.clone();
        expand::tree(&mut item, variables, |_| false, &mut self.found);
        let Some(text) = item.text().or_else(|| item.get("path")?.text()) else { return };
        let home = self.options.account.as_ref().map(|a| &*a.home);
        let path = absolute(text, &self.directory, home);
        let optional = lower::read::flag(&item, "optional", lower::read::Flag::Off);
        let source = match source::read(&path, self.options.uid) {
            Ok(source) => source,
            Err(e) if optional && e.is_missing() => return,
            Err(e) => {
                self.found.push(Diagnostic::error("variable-file", item.place, e.to_string()));
                return;
            }
        };
        let file = self.found.add_file(path.to_string_lossy().into(), Arc::clone(&source.text));
        let (read, mistakes) = dotenv::parse(&source.text);
        declared.extend(read.iter().map(|(name, _)| name.clone()));
        let wins = |name: &str| !self.options.set.contains_key(name);
        variables.values.extend(read.into_iter().filter(|(name, _)| wins(name)));
        for mistake in mistakes {
            let place = Place { file, line: mistake.line, column: 1, len: 1 };
            self.found.push(Diagnostic::error("variable-file", place, mistake.cause));
        }
    }
}

/// Names that `text` refers to.
fn references(text: &str) -> impl Iterator<Item = &str> {
    let inner = text.split("${").skip(1).filter_map(|rest| rest.split('}').next());
    inner.map(|inner| inner.split(":-").next().unwrap_or(inner))
}
