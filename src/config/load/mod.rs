//! The way from text to site: parse, include, expand, merge, check, lower.

mod inputs;
mod relations;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Accounts, LoadOptions, Loaded, Source, Written,
    check::{Check, Names},
    diagnostic::{Diagnostic, Findings, Place},
    expand::{self, Variables},
    lower::{self, Context, Pool},
    merge::merge,
    schema::{Kind, PROGRAM, SITE},
    tree::{self, Key, Node, Scalar, Value},
};
use crate::model::{Account, Name, Site, Unsupported};

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
    };
    let read = load.site(source);
    load.found.tidy();
    let found = load.found;
    match read {
        Some((site, written)) if found.errors() == 0 => {
            Ok(Loaded { site, warnings: found.warnings_only(), written })
        }
        _ => Err(found),
    }
}

/// Whether the site goes into the background: a look at nothing else, before all the rest is read.
/// Mistakes are left to [`load`].
#[must_use]
pub fn is_daemon(source: &Source, options: &LoadOptions) -> bool {
    if !source.text.contains("daemon") {
        return false;
    }
    let directory = directory(source, options);
    let (found, accounts) = (Findings::default(), &Nobody);
    let mut load = Load { options, accounts, directory, found, later: Vec::new() };
    let Some(root) = load.parse(source) else { return false };
    let Some(mut section) = root.get("supervisor").cloned() else { return false };
    let written = section.get("daemon").and_then(Node::text);
    if written.is_some_and(|text| text.contains('$')) {
        let mut variables =
            Variables { environment: Some(&options.environment), ..Variables::default() };
        load.variables(&root, &mut variables);
        expand::tree(&mut section, &variables, |_| false, &mut load.found);
    }
    lower::read::flag(&section, "daemon", lower::read::Flag::Off)
}

/// Accounts for a look at what has nothing to do with them: asking for one may take a thread.
struct Nobody;

impl Accounts for Nobody {
    fn user(&self, _: &str) -> Option<Account> {
        None
    }

    fn group(&self, _: &str) -> Option<u32> {
        None
    }

    fn user_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn group_names(&self) -> Vec<String> {
        Vec::new()
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
}

/// Suffix and variables of an instance.
type Instance = (String, BTreeMap<Box<str>, Box<str>>);

/// Defaults and instances multiply values; more than this is refused.
const MAX_MULTIPLIED: usize = 1_000_000;

/// A program of the file, before and after multiplication.
struct Declared {
    name: Name,
    template: Option<Name>,
    instance: BTreeMap<Box<str>, Box<str>>,
    place: Place,
    node: Node,
}

impl Load<'_> {
    fn site(&mut self, source: &Source) -> Option<(Site, Written)> {
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
        let site = self.lower(&root, &programs, &names, source)?;
        let programs = programs.into_iter().map(|p| (p.name, p.node)).collect();
        Some((site, Written { root, programs }))
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
        for mistake in mistakes {
            self.found.push(mistake);
        }
        let mut root = root.map_err(|d| self.found.push(d)).ok()?;
        take_null_for_a_word(&mut root, Kind::Object(&SITE), &source.text);
        Some(root)
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
                    expand::tree(node, variables, expand::is_runtime, &mut self.found);
                }
                "variables" | "variable_files" | "include" => {}
                "directories" => {
                    expand::tree(node, variables, |_| false, &mut self.found);
                    self.absolute_keys(node);
                }
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
        let shared = defaults.map_or(0, |d| d.measure().0);
        let mut total = 0_usize;
        for (key, node) in section.entries() {
            let count = node.get("instances").or_else(|| defaults?.get("instances"));
            let times = count.map_or(1, |n| instances(n).len().max(1));
            total = total.saturating_add((shared + node.measure().0).saturating_mul(times));
            if total > MAX_MULTIPLIED {
                let text = "defaults and instances make the site too large";
                self.found.push(Diagnostic::error("too-large", key.place, text));
                return out;
            }
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
                    spent: variables.spent.clone(),
                };
                let mut node = whole.clone();
                expand::tree(&mut node, &own, |_| false, &mut self.found);
                variables.spent.set(own.spent.get());
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
            groups: declared.iter().cloned().chain(self.declared_groups(root)).collect(),
            users: declared,
            to_install: keys("users"),
        }
    }

    /// The groups that the users of the file are members of.
    fn declared_groups(&self, root: &Node) -> BTreeSet<String> {
        let users = root.get("users").filter(|_| self.options.for_check);
        let users = users.map(Node::entries).unwrap_or_default();
        let groups = users.iter().filter_map(|(_, user)| user.get("groups")).flat_map(Node::items);
        lower::texts(groups.filter_map(Node::text))
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
    ) -> Option<Site> {
        let empty = Node { place: root.place, start: 0, value: Value::Null };
        let section = root.get("supervisor").unwrap_or(&empty);
        let Some(site) = site_name(section, source) else {
            let text = "the name of this file is no name of a site";
            let found = Diagnostic::error("bad-name", root.place, text);
            self.found.push(found.hint("set `supervisor: {name: …}`"));
            return None;
        };
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
            let before = context.found.count();
            let program =
                lower::program(&p.name, template, &p.instance, p.place, node, &mut context);
            let key = format!("programs.{}", template.unwrap_or(&p.name));
            context.found.name_since(before, &key);
            out.insert(p.name.clone(), Arc::new(program));
        }
        let supervisor = lower::supervisor(section, &context);
        let users = lower::users(root.get("users"), &mut context);
        let directories = lower::directories(root.get("directories"));
        let shm = lower::shm(root.get("shm"), &mut context);
        let semaphores = lower::semaphores(root.get("semaphores"), &mut context);
        self.later_dependencies(programs);
        self.graph(root, programs, &by_template);
        self.conditions(programs);
        self.shared_files(&out, programs);
        self.later.sort();
        self.later.dedup();
        let unsupported = self
            .later
            .iter()
            .map(|(place, key)| Unsupported { place: self.found.locate(*place), key: key.clone() })
            .collect();
        Some(Site { supervisor, users, directories, programs: out, shm, semaphores, unsupported })
    }
}

/// Where `null` is one of the words, whoever writes it without quotes means the word.
fn take_null_for_a_word(node: &mut Node, kind: Kind, text: &str) {
    match (&mut node.value, kind) {
        (value @ Value::Null, Kind::Output) => {
            let at = usize::try_from(node.start).unwrap_or(usize::MAX);
            if text.get(at..).is_some_and(|rest| rest.starts_with("null")) {
                *value = Value::Scalar(Scalar { text: "null".into(), quoted: false });
            }
        }
        (Value::Map(entries), Kind::Object(object)) => {
            for (key, child) in entries {
                if let Some(known) = object.key(&key.text) {
                    take_null_for_a_word(child, known.kind, text);
                }
            }
        }
        (Value::Map(entries), Kind::Names(inner) | Kind::Map(inner)) => {
            for (_, child) in entries {
                take_null_for_a_word(child, *inner, text);
            }
        }
        _ => {}
    }
}

/// Suffix and variables of each instance.
fn instances(node: &Node) -> Vec<Instance> {
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

/// The name that is given, or the stem of the file; `None` when neither is one (reported elsewhere
/// for a name that is given).
fn site_name(section: &Node, source: &Source) -> Option<Name> {
    let given = section.get("name").and_then(Node::text);
    let stem = source.path.file_stem().and_then(|s| s.to_str());
    let text = given.or(stem.filter(|s| *s != "-")).unwrap_or("site");
    Name::new(text).ok()
}
