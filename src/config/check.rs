//! Holds a tree against the schema: shapes, words, units, names. Stops at nothing.

use std::collections::BTreeSet;

use super::{
    Accounts,
    diagnostic::{Diagnostic, Findings, Place, nearest},
    lower::{cpu_list, ionice, reference},
    schema::{Key as SchemaKey, Kind, Object},
    tree::{Node, Value, shortened},
    values::{self, Problem, problem},
};
use crate::model::{Name, Signal};

/// Names that the file declares, for references.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Programs: templates and instances.
    pub(crate) programs: BTreeSet<String>,
    pub(crate) mounts: BTreeSet<String>,
    pub(crate) semaphores: BTreeSet<String>,
    pub(crate) tasks: BTreeSet<String>,
    /// `users:`, known to `check` although they do not exist yet.
    pub(crate) users: BTreeSet<String>,
    pub(crate) groups: BTreeSet<String>,
    /// All that `users:` names, known or not.
    pub(crate) to_install: BTreeSet<String>,
}

/// One pass over a tree.
pub(crate) struct Check<'a> {
    pub(crate) names: &'a Names,
    pub(crate) accounts: &'a dyn Accounts,
    pub(crate) found: &'a mut Findings,
    /// Keys of later issues: place and path.
    pub(crate) later: &'a mut Vec<(Place, String)>,
    pub(crate) path: String,
    /// `defaults` need not be complete.
    pub(crate) complete: bool,
}

impl Check<'_> {
    /// Reports everything in `node` that `kind` does not allow.
    pub(crate) fn node(&mut self, node: &Node, kind: Kind) {
        match (kind, &node.value) {
            (Kind::OneOf(kinds), _) => self.one_of(node, kinds),
            (_, Value::Null) if !matches!(kind, Kind::Object(o) if self.may_be_empty(o)) => {
                let text = format!("a value is missing; expected {}", expected(kind));
                let hint = "write `\"\"` for empty text, or remove the key";
                self.report("missing-value", node.place, text, Some(hint.into()));
            }
            (Kind::Object(object), Value::Map(_) | Value::Null) => self.object(node, object),
            (Kind::List(item), Value::List(items)) => {
                for (i, child) in items.iter().enumerate() {
                    self.inside(&format!("[{i}]"), |c| c.node(child, *item));
                }
            }
            (Kind::Map(value), Value::Map(entries)) => {
                for (key, child) in entries {
                    self.inside(&key.text, |c| c.node(child, *value));
                }
            }
            (Kind::Names(value), Value::Map(entries)) => {
                for (key, child) in entries {
                    if let Err(error) = Name::new(&key.text) {
                        let text = format!("`{}` is no name: {error}", shortened(&key.text));
                        self.report("bad-name", key.place, text, None);
                    }
                    self.inside(&key.text, |c| c.node(child, *value));
                }
            }
            (Kind::Command, Value::List(items)) => self.command(node, items),
            (_, Value::Scalar(scalar)) if !is_collection(kind) => {
                if let Err(problem) = self.scalar(&scalar.text, scalar.quoted, kind) {
                    self.report("bad-value", node.place, problem.text, problem.hint);
                }
            }
            _ => {
                let text = format!("expected {}, found {}", expected(kind), node.describe());
                let hint = matches!((kind, &node.value), (Kind::List(_), Value::Scalar(_)))
                    .then(|| format!("write `[{}]`", node.text().unwrap_or_default()));
                self.report("bad-type", node.place, text, hint);
            }
        }
    }

    fn may_be_empty(&self, object: &Object) -> bool {
        object.exactly_one.is_empty() && !self.complete
    }

    fn object(&mut self, node: &Node, object: &Object) {
        for (key, child) in node.entries() {
            let Some(known) = object.key(&key.text) else {
                self.unknown_key(&key.text, key.place, object);
                continue;
            };
            self.inside(&key.text, |c| {
                if is_later(known, child) {
                    c.later.push((key.place, c.path.clone()));
                }
                c.node(child, known.kind);
            });
        }
        for key in object.all().filter(|k| k.required) {
            if self.complete && node.get(key.name).is_none() {
                let text = format!("`{}` is required in {}", key.name, object.what);
                self.report("missing-key", node.place, text, None);
            }
        }
        let given: Vec<_> =
            node.entries().iter().filter(|(k, _)| object.exactly_one.contains(&&*k.text)).collect();
        let list = || object.exactly_one.join(", ");
        if let [_, (second, _), ..] = given.as_slice() {
            let text = format!("{} has exactly one of {}", object.what, list());
            self.report("too-many", second.place, text, None);
        } else if self.complete && given.is_empty() && !object.exactly_one.is_empty() {
            let text = format!("{} needs one of {}", object.what, list());
            self.report("missing-key", node.place, text, None);
        }
    }

    fn unknown_key(&mut self, key: &str, place: Place, object: &Object) {
        let hint = if let Some(name) = nearest(key, object.all().map(|k| k.name)) {
            format!("did you mean `{name}`?")
        } else {
            let names: Vec<_> = object.all().map(|k| k.name).collect();
            format!("known keys are {}", names.join(", "))
        };
        let text = format!("unknown key `{}` in {}", shortened(key), object.what);
        self.report("unknown-key", place, text, Some(hint));
    }

    fn command(&mut self, node: &Node, items: &[Node]) {
        match items.first() {
            None => self.report("bad-value", node.place, "a command is not empty", None),
            Some(first) if first.text() == Some("") => {
                self.report("bad-value", first.place, "a command is not empty", None);
            }
            Some(_) => {}
        }
        for (i, child) in items.iter().enumerate() {
            self.inside(&format!("[{i}]"), |c| c.node(child, Kind::Text));
        }
    }

    /// The alternative whose shape fits; of several for a scalar, one that accepts it.
    fn one_of(&mut self, node: &Node, kinds: &[Kind]) {
        let fits = |k: &&Kind| match &node.value {
            Value::List(_) => matches!(k, Kind::List(_) | Kind::Command),
            Value::Map(_) => matches!(k, Kind::Map(_) | Kind::Names(_) | Kind::Object(_)),
            Value::Scalar(_) => !is_collection(**k),
            Value::Null => false,
        };
        let fitting: Vec<Kind> = kinds.iter().filter(fits).copied().collect();
        let all = kinds.iter().map(|k| expected(*k)).collect::<Vec<_>>().join(", or ");
        match (fitting.as_slice(), node.scalar()) {
            ([one], _) if kinds.len() == 1 || !matches!(one, Kind::Word(_)) => {
                self.node(node, *one);
            }
            ([_, ..], Some(s)) => {
                let mut problems =
                    fitting.iter().map(|k| self.scalar(&s.text, s.quoted, *k)).collect::<Vec<_>>();
                if problems.iter().all(Result::is_err) {
                    let hint = problems.drain(..).filter_map(Result::err).find_map(|p| p.hint);
                    let text = format!("expected {all}, found {}", node.describe());
                    self.report("bad-value", node.place, text, hint);
                }
            }
            _ => {
                let text = format!("expected {all}, found {}", node.describe());
                self.report("bad-type", node.place, text, None);
            }
        }
    }

    fn scalar(&self, text: &str, quoted: bool, kind: Kind) -> Result<(), Problem> {
        if !matches!(kind, Kind::Text | Kind::Command) && text.contains(['\n', '\t']) {
            return Err(problem(format!("expected {} on one line", expected(kind))));
        }
        let wrong = || problem(format!("expected {}, found `{}`", expected(kind), shortened(text)));
        match kind {
            Kind::Line | Kind::Path | Kind::Output if text.is_empty() => Err(wrong()),
            Kind::Text | Kind::Line | Kind::Path | Kind::Output => Ok(()),
            Kind::Name => Name::new(text).map(drop).map_err(|e| problem(e.to_string())),
            Kind::Bool if quoted => Err(wrong().hint("remove the quotes")),
            Kind::Bool => boolean(text).ok_or_else(|| match text.to_lowercase().as_str() {
                "yes" | "on" | "true" | "y" => wrong().hint("write `true`"),
                "no" | "off" | "false" | "n" => wrong().hint("write `false`"),
                _ => wrong(),
            }),
            Kind::Int(min, max) => {
                let number = integer(text).filter(|n| (min..=max).contains(n));
                number.map(drop).ok_or_else(wrong)
            }
            Kind::Number(min, max) => {
                let number = text.parse::<f64>().ok().filter(|n| (min..=max).contains(n));
                number.map(drop).ok_or_else(wrong)
            }
            Kind::Duration if text == "none" => Err(wrong().hint("`none` cannot switch this off")),
            Kind::Duration => values::duration(text).map(drop),
            Kind::Limit => values::limit(text).map(drop),
            Kind::Size => values::size(text).map(drop),
            Kind::Mode => values::mode(text, quoted).map(drop),
            Kind::Percent => values::percent(text).map(drop),
            Kind::Cron => values::cron(text),
            Kind::Window => values::window(text),
            Kind::Command => values::words(text).map(drop),
            Kind::Signal => Signal::parse(text).map(drop).ok_or_else(|| {
                let names: Vec<String> =
                    (1..=31).filter_map(Signal::from_number).map(Signal::name).collect();
                suggest(wrong(), text, names.iter().map(String::as_str))
            }),
            Kind::Word(words) => words
                .contains(&text)
                .then_some(())
                .ok_or_else(|| suggest(wrong(), text, words.iter().copied())),
            Kind::IoNice => ionice(text).map(drop).ok_or_else(wrong),
            Kind::Cpus => cpu_list(text).map(drop).ok_or_else(wrong),
            Kind::Hardening(word) => word.check(text),
            Kind::ShmPattern => values::shm_pattern(text),
            Kind::Glob => values::name_pattern(text),
            Kind::HostPort => {
                let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
                let ok = !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0);
                if ok && !host.contains(' ') { Ok(()) } else { Err(wrong()) }
            }
            Kind::Url => {
                let ok = ["http://", "https://"]
                    .iter()
                    .any(|p| text.strip_prefix(p).is_some_and(|r| !r.is_empty()));
                if ok { Ok(()) } else { Err(wrong()) }
            }
            Kind::User
            | Kind::Group
            | Kind::Dependency
            | Kind::Program
            | Kind::Programs
            | Kind::Mount
            | Kind::Action
            | Kind::Task => self.named(text, kind),
            Kind::List(_) | Kind::Map(_) | Kind::Names(_) | Kind::Object(_) | Kind::OneOf(_) => {
                Err(wrong())
            }
        }
    }

    /// What must be known to the host or declared in the file.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only called for names")]
    fn named(&self, text: &str, kind: Kind) -> Result<(), Problem> {
        let programs = &self.names.programs;
        if matches!(kind, Kind::Programs) && (text == "all" || text.starts_with("tag:")) {
            return Ok(());
        }
        match kind {
            Kind::User => self.user(text),
            Kind::Group => self.group(text),
            Kind::Dependency => reference::check(text, self.names),
            Kind::Mount => declared("mount", text, &self.names.mounts),
            Kind::Action if matches!(text, "reboot" | "poweroff" | "reload" | "none") => Ok(()),
            Kind::Action => match text.split_once(':') {
                Some(("restart" | "stop", name)) => declared("program", name, programs),
                _ => Err(problem(format!("expected {}, found `{text}`", expected(kind)))),
            },
            Kind::Task => declared("task", text, &self.names.tasks),
            _ => declared("program", text, programs), // Program, Programs
        }
    }

    fn user(&self, name: &str) -> Result<(), Problem> {
        let known = name == "self"
            || self.names.users.contains(name)
            || values::id(name).is_some()
            || (account_name(name) && self.accounts.user(name).is_some());
        if known {
            return Ok(());
        }
        let names = self.accounts.user_names();
        let names = names.iter().chain(&self.names.users).map(String::as_str);
        Err(self.unknown_account("user", name, names))
    }

    fn group(&self, name: &str) -> Result<(), Problem> {
        let known = self.names.groups.contains(name)
            || values::id(name).is_some()
            || (account_name(name) && self.accounts.group(name).is_some());
        if known {
            return Ok(());
        }
        let names = self.accounts.group_names();
        let names = names.iter().chain(&self.names.groups).map(String::as_str);
        Err(self.unknown_account("group", name, names))
    }

    fn unknown_account<'a>(
        &self,
        what: &str,
        name: &str,
        names: impl Iterator<Item = &'a str>,
    ) -> Problem {
        let found = problem(format!("there is no {what} `{}`", shortened(name)));
        if self.names.to_install.contains(name) {
            return found.hint("`supervisor install` makes the accounts that `users` declares");
        }
        match nearest(name, names) {
            Some(near) => found.hint(format!("did you mean `{near}`?")),
            None => found,
        }
    }

    pub(crate) fn inside(&mut self, part: &str, body: impl FnOnce(&mut Self)) {
        let len = self.path.len();
        if !self.path.is_empty() && !part.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(part);
        body(self);
        self.path.truncate(len);
    }

    fn report(
        &mut self,
        code: &'static str,
        at: Place,
        text: impl Into<String>,
        hint: Option<String>,
    ) {
        let mut diagnostic = Diagnostic::error(code, at, text).key(self.path.clone());
        diagnostic.hint = hint;
        self.found.push(diagnostic);
    }
}

/// Whether this occurrence asks for something that this version cannot do.
fn is_later(key: &SchemaKey, value: &Node) -> bool {
    if matches!(value.text(), Some("false" | "none"))
        || matches!(&value.value, Value::List(l) if l.is_empty())
    {
        return false;
    }
    key.later || (key.name == "action" && matches!(value.text(), Some("safe-mode")))
}

/// Names that no account can have are not even looked up (`0day`, ` root`, `-1`).
pub(crate) fn account_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let body = name.trim_end_matches('$');
    first
        && name.len() <= 32
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

pub(crate) fn declared(what: &str, name: &str, names: &BTreeSet<String>) -> Result<(), Problem> {
    if names.contains(name) {
        return Ok(());
    }
    let found = problem(format!("there is no {what} `{}`", shortened(name)));
    Err(match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => found.hint(format!("did you mean `{near}`?")),
        None => found,
    })
}

fn suggest<'a>(found: Problem, text: &str, words: impl Iterator<Item = &'a str>) -> Problem {
    match nearest(text, words) {
        Some(near) => found.hint(format!("did you mean `{near}`?")),
        None => found,
    }
}

fn boolean(text: &str) -> Option<()> {
    matches!(text, "true" | "false").then_some(())
}

/// A decimal number without a leading zero, so that `010` is never a guess.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let padded = digits.len() > 1 && digits.starts_with('0');
    text.parse().ok().filter(|_| plain && !padded)
}

fn is_collection(kind: Kind) -> bool {
    matches!(kind, Kind::List(_) | Kind::Map(_) | Kind::Names(_) | Kind::Object(_))
}

fn expected(kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::Line => "text".into(),
        Kind::Name => "a name".into(),
        Kind::Bool => "true or false".into(),
        Kind::Int(min, i64::MAX) => format!("a whole number from {min}"),
        Kind::Int(1, 1) => "1".into(),
        Kind::Int(min, max) => format!("a whole number from {min} to {max}"),
        Kind::Number(min, max) => format!("a number from {min} to {max}"),
        Kind::Duration => "a duration like `10s`".into(),
        Kind::Limit => "a duration like `10s`, or none".into(),
        Kind::Size => "a size like `10MiB`".into(),
        Kind::Mode => "a mode like `\"0640\"`".into(),
        Kind::Signal => "a signal like `TERM`".into(),
        Kind::Percent => "a percentage like `20%`".into(),
        Kind::Word([word]) => format!("`{word}`"),
        Kind::Word(words) => format!("one of {}", words.join(", ")),
        Kind::Path => "a path".into(),
        Kind::Output => "a path, or console, inherit, null, journal, syslog, stdout".into(),
        Kind::Glob | Kind::ShmPattern => "a name pattern".into(),
        Kind::User => "a user".into(),
        Kind::Group => "a group".into(),
        Kind::HostPort => "HOST:PORT".into(),
        Kind::Url => "an http:// or https:// address".into(),
        Kind::IoNice => "idle, best-effort:N or realtime:N (N from 0 to 7)".into(),
        Kind::Cpus => "CPUs like `0-3,8`".into(),
        Kind::Hardening(word) => word.expected().into(),
        Kind::Cron => "a cron line like `30 3 * * *`".into(),
        Kind::Window => "times of the day like `03:00-04:00`".into(),
        Kind::Dependency => "a program, `mount:X`, `semaphore:X`, `task:X` or `network`".into(),
        Kind::Program => "a program".into(),
        Kind::Programs => "a program, or `all`".into(),
        Kind::Mount => "a mount".into(),
        Kind::Action => "reboot, poweroff, reload, none, restart:NAME or stop:NAME".into(),
        Kind::Task => "a task".into(),
        Kind::Command => "a command (a list of words, or a string)".into(),
        Kind::List(_) => "a list".into(),
        Kind::Map(_) | Kind::Names(_) => "a map (`name: value` lines)".into(),
        Kind::Object(object) => format!("a map for {}", object.what),
        Kind::OneOf(kinds) => kinds.iter().map(|k| expected(*k)).collect::<Vec<_>>().join(", or "),
    }
}
