//! The way from text to site: parse, include, expand, merge, check, lower.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Accounts, LoadOptions, Loaded, Source,
    check::{Check, Names},
    diagnostic::{Diagnostic, Findings, Place},
    expand::{self, Variables, is_variable},
    lower::{self, Context, Pool, absolute, cycle, reference},
    merge::merge,
    schema::{Kind, PROGRAM, SITE},
    source,
    tree::{self, Key, Node, Scalar, Value},
};
use crate::model::{LogTarget, Name, Program, Site, Unsupported};

/// Reads a site out of `source`: all mistakes at once.
///
/// # Errors
/// Everything that is wrong with the file, warnings included.
pub fn load(
    source: &Source,
    options: &LoadOptions,
    accounts: &dyn Accounts,
) -> Result<Loaded, Findings> {
    let mut load = Load {
        options,
        accounts,
        directory: directory(source, options),
        found: Findings::default(),
        later: Vec::new(),
        origins: BTreeMap::new(),
    };
    let site = load.site(source);
    load.found.tidy();
    let Load { found, origins, .. } = load;
    match site {
        Some(site) if found.errors() == 0 => {
            Ok(Loaded { site, warnings: found.warnings_only(), origins })
        }
        _ => Err(found),
    }
}

fn directory(source: &Source, options: &LoadOptions) -> PathBuf {
    let here = &options.current_directory;
    if source.path.as_os_str() == "-" {
        return here.clone();
    }
    here.join(source.path.parent().unwrap_or(Path::new("")))
}

struct Load<'a> {
    options: &'a LoadOptions,
    accounts: &'a dyn Accounts,
    directory: PathBuf,
    found: Findings,
    later: Vec<(Place, String)>,
    origins: BTreeMap<Arc<str>, Place>,
}

/// A program of the file, before and after multiplication.
struct Declared {
    name: Name,
    template: Option<Name>,
    instance: BTreeMap<Box<str>, Box<str>>,
    place: Place,
    node: Node,
}

impl Load<'_> {
    fn site(&mut self, source: &Source) -> Option<Site> {
        let mut root = self.parse(source)?;
        if !matches!(root.value, Value::Map(_)) {
            let text = format!("a site is a map (`name: value` lines), not {}", root.describe());
            self.found.push(Diagnostic::error("bad-type", root.place, text));
            return None;
        }
        self.include(&mut root, source);
        let options = self.options;
        let mut variables =
            Variables { environment: Some(&options.environment), ..Variables::default() };
        self.variables(&root, &mut variables);
        let programs = self.expand(&mut root, &variables);
        let names = self.names(&root, &programs);
        self.check(&root, &programs, &names);
        Some(self.lower(&root, &programs, &names, source))
    }

    fn parse(&mut self, source: &Source) -> Option<Node> {
        let name = source.path.to_string_lossy().into_owned().into();
        let file = self.found.add_file(name, Arc::clone(&source.text));
        if source.text.len() > 1 << 20 {
            let place = Place { file, ..Place::default() };
            self.found.push(Diagnostic::error("too-large", place, "it is larger than 1 MiB"));
            return None;
        }
        let mut mistakes = Vec::new();
        let root = tree::parse(file, &source.text, &mut mistakes);
        mistakes.into_iter().for_each(|d| self.found.push(d));
        root.map_err(|d| self.found.push(d)).ok()
    }

    /// Adds the sections of included files; a name defined twice is an error.
    fn include(&mut self, root: &mut Node, source: &Source) {
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
        for (key, node) in part.entries() {
            if &*key.text == "version" {
                continue;
            }
            if matches!(&*key.text, "include" | "supervisor" | "defaults") {
                let text = format!("`{}` belongs into the main file", key.text);
                self.found.push(Diagnostic::error("include", key.place, text));
                continue;
            }
            let Value::Map(sections) = &mut root.value else { return };
            let Some((_, whole)) = sections.iter_mut().find(|(k, _)| k.text == key.text) else {
                sections.push((key.clone(), node.clone()));
                continue;
            };
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

    /// `variables`, `variable_files` over them, `--set` over both.
    fn variables(&mut self, root: &Node, variables: &mut Variables<'_>) {
        variables.values.clone_from(&self.options.set);
        let mut rest: Vec<_> =
            root.get("variables").map(Node::entries).unwrap_or_default().to_vec();
        for (key, _) in rest.iter().filter(|(k, _)| !is_variable(&k.text)) {
            let text = format!("`{}` is no name of a variable", key.text);
            self.found.push(Diagnostic::error("variable", key.place, text));
        }
        rest.retain(|(key, _)| !variables.values.contains_key(&*key.text));
        // Variables may refer to each other in any order: as long as one more is clear, go on.
        loop {
            let before = rest.len();
            let names: BTreeSet<Box<str>> = rest.iter().map(|(k, _)| k.text.clone()).collect();
            rest.retain(|(key, node)| {
                let Some(text) = node.text() else { return false };
                let waits = names.iter().any(|n| {
                    text.contains(&format!("${{{n}}}")) || text.contains(&format!("${{{n}:-"))
                });
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
            self.variable_file(item, variables);
        }
    }

    fn variable_file(&mut self, item: &Node, variables: &mut Variables<'_>) {
        let mut item = item.clone();
        expand::tree(&mut item, variables, |_| false, &mut self.found);
        let Some(text) = item.text().or_else(|| item.get("path")?.text()) else { return };
        let home = self.options.account.as_ref().map(|a| &*a.home);
        let path = absolute(text, &self.directory, home);
        let optional = lower::read::flag(&item, "optional", lower::read::Flag::Off);
        if optional && !path.exists() {
            return;
        }
        let source = match source::read(&path, self.options.uid) {
            Ok(source) => source,
            Err(e) => {
                self.found.push(Diagnostic::error("variable-file", item.place, e.to_string()));
                return;
            }
        };
        let file = self.found.add_file(path.to_string_lossy().into(), Arc::clone(&source.text));
        for (line, number) in source.text.lines().zip(1_u32..) {
            match dotenv(line) {
                Ok(Some((name, value))) if !self.options.set.contains_key(name) => {
                    variables.values.insert(name.to_owned(), value);
                }
                Ok(_) => {}
                Err(text) => {
                    let place = Place { file, line: number, column: 1, len: 1 };
                    self.found.push(Diagnostic::error("variable-file", place, text));
                }
            }
        }
    }

    /// Expands everything; returns the programs with their defaults, instances multiplied.
    fn expand(&mut self, root: &mut Node, variables: &Variables<'_>) -> Vec<Declared> {
        let defaults = root.get("defaults").cloned();
        let Value::Map(sections) = &mut root.value else { return Vec::new() };
        let mut out = Vec::new();
        for (key, node) in sections {
            match &*key.text {
                "programs" => out = self.programs(node, defaults.as_ref(), variables),
                "defaults" => expand::tree(node, variables, |n| n == "instance", &mut self.found),
                "tasks" | "mounts" | "semaphores" => {
                    expand::tree(node, variables, runtime, &mut self.found);
                }
                "variables" | "variable_files" | "include" => {}
                _ => expand::tree(node, variables, |_| false, &mut self.found),
            }
        }
        out
    }

    fn programs(
        &mut self,
        section: &Node,
        defaults: Option<&Node>,
        variables: &Variables<'_>,
    ) -> Vec<Declared> {
        let mut out = Vec::new();
        for (key, node) in section.entries() {
            let whole = defaults.map_or_else(|| node.clone(), |d| merge(d, node));
            let Ok(name) = Name::new(&key.text) else { continue };
            let mut count = whole.get("instances").cloned();
            if let Some(count) = &mut count {
                expand::tree(count, variables, |n| n == "instance", &mut self.found);
            }
            let Some(instances) = count.as_ref().map(instances).filter(|i| !i.is_empty()) else {
                let mut node = whole;
                expand::tree(&mut node, variables, |_| false, &mut self.found);
                let (instance, place) = (BTreeMap::new(), key.place);
                out.push(Declared { name, template: None, instance, place, node });
                continue;
            };
            for (suffix, instance) in instances {
                let own = Variables {
                    instance: Some(&suffix),
                    values: variables.values.clone(),
                    environment: variables.environment,
                };
                let mut node = whole.clone();
                expand::tree(&mut node, &own, |_| false, &mut self.found);
                let template = Some(name.clone());
                match Name::new(&format!("{name}@{suffix}")) {
                    Ok(name) => {
                        let place = key.place;
                        out.push(Declared { name, template, instance, place, node });
                    }
                    Err(e) => {
                        let text = format!("`{name}@{suffix}` is no name: {e}");
                        self.found.push(Diagnostic::error("bad-name", key.place, text));
                    }
                }
            }
        }
        out
    }

    fn names(&self, root: &Node, programs: &[Declared]) -> Names {
        let keys = |section: &str| -> BTreeSet<String> {
            let entries = root.get(section).map(Node::entries).unwrap_or_default();
            lower::texts(entries.iter().map(|(k, _)| &k.text))
        };
        let each = programs.iter().flat_map(|p| p.template.iter().chain([&p.name]));
        let declared = if self.options.for_check { keys("users") } else { BTreeSet::new() };
        let mut programs = lower::texts(each.map(Name::as_str));
        programs.extend(keys("programs"));
        Names {
            programs,
            mounts: keys("mounts"),
            semaphores: keys("semaphores"),
            tasks: keys("tasks"),
            groups: declared.clone(),
            users: declared,
        }
    }

    fn check(&mut self, root: &Node, programs: &[Declared], names: &Names) {
        let mut check = Check {
            names,
            accounts: self.accounts,
            found: &mut self.found,
            later: &mut self.later,
            path: String::new(),
            complete: true,
        };
        // `programs` and `defaults` are looked at below, merged, instance by instance.
        let mut top = root.clone();
        if let Value::Map(sections) = &mut top.value {
            sections.retain(|(k, n)| {
                let inner = matches!(&*k.text, "programs" | "defaults");
                !inner || !matches!(n.value, Value::Map(_) | Value::Null)
            });
        }
        check.node(&top, Kind::Object(&SITE));
        check.complete = false;
        if let Some(defaults) = root.get("defaults") {
            check.inside("defaults", |c| c.node(defaults, Kind::Object(&PROGRAM)));
        }
        check.complete = true;
        for (key, _) in root.get("programs").map(Node::entries).unwrap_or_default() {
            if let Err(e) = Name::new(&key.text) {
                let text = format!("`{}` is no name: {e}", tree::shortened(&key.text));
                let found = Diagnostic::error("bad-name", key.place, text);
                check.found.push(found.key("programs"));
            }
        }
        for program in programs {
            let name = program.template.as_ref().unwrap_or(&program.name);
            let path = format!("programs.{name}");
            let node = Node { place: program.place, ..program.node.clone() };
            check.inside(&path, |c| c.node(&node, Kind::Object(&PROGRAM)));
        }
    }

    fn lower(
        &mut self,
        root: &Node,
        programs: &[Declared],
        names: &Names,
        source: &Source,
    ) -> Site {
        let empty = Node { place: root.place, start: 0, value: Value::Null };
        let section = root.get("supervisor").unwrap_or(&empty);
        let site = self.site_name(section, source);
        let by_file = lower::read::flag(section, "daemon", lower::read::Flag::Off);
        let mut by_template: BTreeMap<String, Vec<Name>> = BTreeMap::new();
        for program in programs {
            if let Some(template) = &program.template {
                by_template.entry(template.to_string()).or_default().push(program.name.clone());
            }
        }
        let mut pool = Pool::default();
        let mut context = Context {
            options: self.options,
            accounts: self.accounts,
            names,
            directory: &self.directory,
            site: &site,
            daemon: self.options.daemon.unwrap_or(by_file),
            instances: &by_template,
            found: &mut self.found,
            pool: &mut pool,
        };
        let mut out = BTreeMap::new();
        for p in programs {
            let inherit = self.options.inherit_all && p.node.get("inherit_environment").is_none();
            let with_all = inherit.then(|| inheriting(&p.node));
            let node = with_all.as_ref().unwrap_or(&p.node);
            let template = p.template.as_ref();
            let program =
                lower::program(&p.name, template, &p.instance, p.place, node, &mut context);
            out.insert(p.name.clone(), Arc::new(program));
        }
        let supervisor = lower::supervisor(section, &context);
        self.later_dependencies(programs);
        self.graph(programs, &by_template);
        self.conditions(programs);
        self.shared_files(&out, programs);
        self.remember(root, programs);
        self.later.sort();
        self.later.dedup();
        let unsupported = self
            .later
            .iter()
            .map(|(place, key)| Unsupported { place: self.found.locate(*place), key: key.clone() })
            .collect();
        Site { supervisor, programs: out, unsupported }
    }

    fn site_name(&mut self, section: &Node, source: &Source) -> Name {
        let given = section.get("name").and_then(Node::text);
        let stem = source.path.file_stem().and_then(|s| s.to_str()).unwrap_or("site");
        let fits = |t: &&str| Name::new(t).is_ok();
        let text = given.filter(fits).or(Some(stem).filter(fits)).unwrap_or("site");
        // "site" is a name, so the loop ends at its first turn.
        loop {
            if let Ok(name) = Name::new(text) {
                return name;
            }
        }
    }

    fn later_dependencies(&mut self, programs: &[Declared]) {
        for p in programs {
            for (key, item) in edges(&p.node) {
                let (head, _) = reference::split(item.text().unwrap_or_default());
                if ["mount:", "semaphore:", "task:"].iter().any(|k| head.starts_with(k)) {
                    let name = p.template.as_ref().unwrap_or(&p.name);
                    self.later.push((item.place, format!("programs.{name}.{key}")));
                }
            }
        }
    }

    fn graph(&mut self, programs: &[Declared], by_template: &BTreeMap<String, Vec<Name>>) {
        let mut graph = cycle::Graph::new();
        for p in programs {
            // Instances have their template's dependencies, so templates stand for them.
            let to_template = |head: &str| by_template.contains_key(head).then(|| head.to_owned());
            let name = p.template.as_ref().unwrap_or(&p.name).to_string();
            let targets = edges(&p.node).filter_map(|(_, item)| {
                let (head, _) = reference::split(item.text()?);
                let base = head.rsplit_once('@').and_then(|(base, _)| to_template(base));
                Some((base.unwrap_or_else(|| head.to_owned()), item.place))
            });
            graph.entry(name).or_default().extend(targets);
        }
        cycle::cycles(&graph).into_iter().for_each(|d| self.found.push(d));
    }

    /// `@healthy` needs a health check, `@completed` something that ends.
    fn conditions(&mut self, programs: &[Declared]) {
        let mut by_name: BTreeMap<&str, &Node> = BTreeMap::new();
        for p in programs {
            by_name.insert(p.name.as_str(), &p.node);
            by_name.extend(p.template.iter().map(|t| (t.as_str(), &p.node)));
        }
        for (_, item) in programs.iter().flat_map(|p| edges(&p.node)) {
            let text = item.text().unwrap_or_default();
            let (head, _) = reference::split(text);
            let Some(target) = by_name.get(head) else { continue };
            let kind = target.get("type").and_then(Node::text);
            let found = if text.ends_with("@healthy") && target.get("health").is_none() {
                format!("`{head}` has no `health`, so it is never healthy")
            } else if text.ends_with("@completed") && kind != Some("oneshot") {
                format!("`{head}` is no `type: oneshot`, so it never completes")
            } else {
                continue;
            };
            self.found.push(Diagnostic::error("condition", item.place, found));
        }
    }

    /// Two programs must not write one log file: each would rotate it under the other.
    fn shared_files(&mut self, programs: &BTreeMap<Name, Arc<Program>>, declared: &[Declared]) {
        let places: BTreeMap<&Name, &Declared> = declared.iter().map(|d| (&d.name, d)).collect();
        let mut owners: BTreeMap<&Path, &Name> = BTreeMap::new();
        for (name, program) in programs {
            for (key, target) in
                [("stdout", &program.logging.stdout), ("stderr", &program.logging.stderr)]
            {
                let LogTarget::File(path) = target else { continue };
                let Some(first) = owners.insert(path, name).filter(|first| *first != name) else {
                    continue;
                };
                let at = |name: &Name| {
                    places.get(name).map_or_else(Place::default, |d| {
                        let log = d.node.get("logging").and_then(|l| l.get(key));
                        log.map_or(d.place, |n| n.place)
                    })
                };
                let text = format!("`{first}` and `{name}` write one log file, {}", path.display());
                let found = Diagnostic::error("shared-file", at(name), text);
                self.found.push(found.label(at(first), format!("`{first}` writes it too")));
            }
        }
    }

    fn remember(&mut self, root: &Node, programs: &[Declared]) {
        for (key, node) in root.get("supervisor").map(Node::entries).unwrap_or_default() {
            self.origins.insert(format!("supervisor.{}", key.text).into(), node.place);
        }
        for p in programs {
            for (key, node) in p.node.entries() {
                self.origins.insert(format!("programs.{}.{}", p.name, key.text).into(), node.place);
            }
        }
    }
}

fn edges(node: &Node) -> impl Iterator<Item = (&'static str, &Node)> {
    ["after", "requires", "wants"].into_iter().flat_map(|key| {
        node.get(key).map(Node::items).unwrap_or_default().iter().map(move |n| (key, n))
    })
}

/// Variables that only exist while a task runs or a mount changes.
fn runtime(name: &str) -> bool {
    matches!(name, "state_dir" | "urgency" | "title" | "message")
        || ["steps.", "info.", "mount."].iter().any(|p| name.starts_with(p))
}

/// Suffix and variables of each instance.
fn instances(node: &Node) -> Vec<(String, BTreeMap<Box<str>, Box<str>>)> {
    let count = node.text().and_then(|t| t.parse::<u32>().ok()).filter(|n| *n <= 1000);
    let numbered = (1..=count.unwrap_or(0)).map(|n| (n.to_string(), BTreeMap::new()));
    let named = node.entries().iter().map(|(k, n)| (k.text.to_string(), lower::read::map(Some(n))));
    numbered.chain(named).collect()
}

fn inheriting(node: &Node) -> Node {
    let mut node = node.clone();
    let value = Value::Scalar(Scalar { text: "true".into(), quoted: false });
    let (place, start) = (node.place, node.start);
    if let Value::Map(entries) = &mut node.value {
        let key = Key { text: "inherit_environment".into(), place, start };
        entries.push((key, Node { place, start, value }));
    }
    node
}

/// One line of a dotenv file: `export NAME='value' # comment`.
fn dotenv(line: &str) -> Result<Option<(&str, String)>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or("expected `NAME=value`")?;
    let name = name.trim();
    if !is_variable(name) {
        return Err(format!("`{}` is no name of a variable", tree::shortened(name)));
    }
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            let (inner, after) = rest.split_once(quote).ok_or("a quote has no end")?;
            let after = after.trim();
            if !after.is_empty() && !after.starts_with('#') {
                return Err("text follows the closing quote".to_owned());
            }
            return Ok(Some((name, inner.to_owned())));
        }
    }
    let value = value.split(" #").next().unwrap_or_default().trim_end();
    Ok(Some((name, value.to_owned())))
}
