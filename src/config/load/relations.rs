//! What programs are to each other: dependencies, cycles, files they share.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{Declared, Load};
use crate::{
    config::{
        diagnostic::{Diagnostic, Place},
        lower::{cycle, reference},
        tree::Node,
    },
    model::{LogTarget, Name, Program, ProgramType},
};

impl Load<'_> {
    pub(super) fn later_dependencies(&mut self, programs: &[Declared]) {
        for p in programs {
            for (key, item) in edges(&p.node) {
                let (head, _) = reference::split(item.text().unwrap_or_default());
                if ["mount:", "task:"].iter().any(|k| head.starts_with(k)) {
                    let name = p.template.as_ref().unwrap_or(&p.name);
                    self.later.push((item.place, format!("programs.{name}.{key}")));
                }
            }
        }
    }

    /// Programs and mounts are one graph.
    pub(super) fn graph(
        &mut self,
        root: &Node,
        programs: &[Declared],
        by_template: &BTreeMap<String, Vec<Name>>,
    ) {
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
        for (key, mount) in root.get("mounts").map(Node::entries).unwrap_or_default() {
            let items = mount.get("after").map(Node::items).unwrap_or_default();
            let targets = items.iter().filter_map(|n| Some((n, reference::split(n.text()?).0)));
            let targets = targets.map(|(n, head)| (head.to_owned(), n.place));
            graph.entry(format!("mount:{}", key.text)).or_default().extend(targets);
        }
        for found in cycle::cycles(&graph) {
            self.found.push(found);
        }
    }

    /// `@healthy` needs a health check, `@completed` something that ends.
    pub(super) fn conditions(&mut self, programs: &[Declared]) {
        let mut by_name: BTreeMap<&str, &Node> = BTreeMap::new();
        for p in programs {
            by_name.insert(p.name.as_str(), &p.node);
            by_name.extend(p.template.iter().map(|t| (t.as_str(), &p.node)));
        }
        for (_, item) in programs.iter().flat_map(|p| edges(&p.node)) {
            let text = item.text().unwrap_or_default();
            let (head, condition) = reference::split(text);
            if head.starts_with("semaphore:") && condition.is_some() {
                let found = format!("`{head}` is free or not, and nothing else");
                let found = Diagnostic::error("condition", item.place, found);
                self.found.push(found.hint(format!("write `{head}`")));
                continue;
            }
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

    /// Two programs must not share what each of them rotates, overwrites or removes.
    pub(super) fn shared_files(
        &mut self,
        programs: &BTreeMap<Name, Arc<Program>>,
        declared: &[Declared],
    ) {
        let places: BTreeMap<&Name, &Declared> = declared.iter().map(|d| (&d.name, d)).collect();
        let at = |name: &Name, keys: &[&str]| {
            places.get(name).map_or_else(Place::default, |d| {
                let value = keys.iter().try_fold(&d.node, |node, key| node.get(key));
                value.map_or(d.place, |n| n.place)
            })
        };
        let mut owners: BTreeMap<&Path, &Name> = BTreeMap::new();
        for (name, program) in programs {
            for (path, what, keys) in own_paths(program) {
                let Some(first) = owners.insert(path, name).filter(|first| *first != name) else {
                    continue;
                };
                let text = format!("`{first}` and `{name}` {what}, {}", path.display());
                let found = Diagnostic::error("shared-file", at(name, keys), text);
                let label = format!("`{first}` has it too");
                self.found.push(found.label(at(first, keys), label));
            }
        }
    }
}

/// Paths that belong to `program` alone: what others must not share, and which key gives it.
fn own_paths(
    program: &Program,
) -> impl Iterator<Item = (&Path, &'static str, &'static [&'static str])> {
    let pid_file = match &program.kind {
        ProgramType::Forking { pid_file } => Some(&**pid_file),
        ProgramType::Simple | ProgramType::Oneshot { .. } | ProgramType::Notify => None,
    };
    let directory = program.runtime_directory.as_ref().map(|d| &*d.path);
    let single = program.single_instance.as_deref();
    let all: [(Option<&Path>, _, &[&str]); 6] = [
        (file(&program.logging.stdout), "write one log file", &["logging", "stdout"]),
        (file(&program.logging.stderr), "write one log file", &["logging", "stderr"]),
        (pid_file, "have one pid file", &["pid_file"]),
        (directory, "have one runtime directory", &["runtime_directory"]),
        (
            single.and_then(|single| single.lock_file.as_deref()),
            "have one lock file",
            &["single_instance", "lock_file"],
        ),
        (
            single.and_then(|single| single.pid_file.as_deref()),
            "have one pid file",
            &["single_instance", "pid_file"],
        ),
    ];
    all.into_iter().filter_map(|(path, what, keys)| Some((path?, what, keys)))
}

fn file(target: &LogTarget) -> Option<&Path> {
    if let LogTarget::File(path) = target { Some(path) } else { None }
}

fn edges(node: &Node) -> impl Iterator<Item = (&'static str, &Node)> {
    ["after", "requires", "wants"].into_iter().flat_map(|key| {
        node.get(key).map(Node::items).unwrap_or_default().iter().map(move |n| (key, n))
    })
}
