//! What a site may say: one table, from which checking, suggestions and the JSON Schema come.

mod export;
mod later;
mod program;
mod supervisor;

pub(crate) use export::json_schema;
pub(crate) use later::{MOUNT, SEMAPHORE, TASK};
pub(crate) use program::PROGRAM;
pub(crate) use supervisor::SITE;

use super::hardening::HardeningWord;

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Any text; numbers are taken as they are written.
    Text,
    /// Text on one line that is not empty.
    Line,
    /// A name of ours (`model::Name`).
    Name,
    /// `true` or `false`.
    Bool,
    /// A whole number in a range.
    Int(i64, i64),
    /// A number in a range.
    Number(f64, f64),
    /// `10s`.
    Duration,
    /// `10s` or `none`.
    Limit,
    /// `10MiB`.
    Size,
    /// `"0640"`.
    Mode,
    /// `TERM`.
    Signal,
    /// `20%`.
    Percent,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A path on one line.
    Path,
    /// A path or a word, of which `null` is one: unquoted too, although YAML means nothing by it.
    Output,
    /// A name pattern, `*` and `?`.
    Glob,
    /// The same for names in /dev/shm.
    ShmPattern,
    /// A user of the host, or a decimal id; `self` is whoever runs the supervisor.
    User,
    /// A group of the host, or a decimal id.
    Group,
    /// `HOST:PORT`.
    HostPort,
    /// An `http:` or `https:` address.
    Url,
    /// `idle`, `best-effort:7`, `realtime:0`.
    IoNice,
    /// `0-3,8`.
    Cpus,
    /// A word of `hardening`.
    Hardening(HardeningWord),
    /// Five fields of crontab(5).
    Cron,
    /// `03:00-04:00`.
    Window,
    /// An item of `after`, `requires`, `wants`.
    Dependency,
    /// The name of a program of this site.
    Program,
    /// The name of a program of this site, or `all`.
    Programs,
    /// The name of a mount of this site.
    Mount,
    /// What a semaphore does without a task.
    Action,
    /// The name of a task of this site.
    Task,
    /// A list of words, or a string split like shell words.
    Command,
    /// A list.
    List(&'static Self),
    /// A map with free keys.
    Map(&'static Self),
    /// A map whose keys are names of ours.
    Names(&'static Self),
    /// A map with these keys.
    Object(&'static Object),
    /// The first whose shape (scalar, list, map) fits.
    OneOf(&'static [Self]),
}

/// A map with known keys.
#[derive(Debug)]
pub(crate) struct Object {
    /// What it is, for messages: `a program`.
    pub(crate) what: &'static str,
    pub(crate) keys: &'static [&'static [Key]],
    /// Exactly one of these keys is given.
    pub(crate) exactly_one: &'static [&'static str],
}

/// A key of an [`Object`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    /// Validated, but this version cannot do it yet.
    pub(crate) later: bool,
}

impl Object {
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().flat_map(|group| group.iter())
    }

    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.all().find(|k| k.name == name)
    }
}

pub(crate) const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, required: false, later: false }
}

impl Key {
    pub(crate) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(crate) const fn later(mut self) -> Self {
        self.later = true;
        self
    }
}

pub(crate) const fn object(what: &'static str, keys: &'static [&'static [Key]]) -> Object {
    Object { what, keys, exactly_one: &[] }
}

pub(crate) const fn one_of(
    what: &'static str,
    keys: &'static [&'static [Key]],
    exactly_one: &'static [&'static str],
) -> Object {
    Object { what, keys, exactly_one }
}

pub(crate) const TEXTS: Kind = Kind::List(&Kind::Text);
pub(crate) const LINES: Kind = Kind::List(&Kind::Line);
pub(crate) const PATHS: Kind = Kind::List(&Kind::Path);
pub(crate) const ENVIRONMENT: Kind = Kind::Map(&Kind::Text);
pub(crate) const RATE: Kind = Kind::Object(&object(
    "a rate limit",
    &[&[
        key("burst", Kind::Int(1, 1_000_000)).required(),
        key("interval", Kind::Duration).required(),
    ]],
));
pub(crate) const ALLOW: Kind = Kind::Object(&object(
    "`allow`",
    &[&[key("users", Kind::List(&Kind::User)), key("groups", Kind::List(&Kind::Group))]],
));
pub(crate) const ROTATE: Kind = Kind::Object(&object(
    "`rotate`",
    &[&[
        key("max_size", Kind::OneOf(&[Kind::Word(&["none"]), Kind::Size])),
        key(
            "every",
            Kind::OneOf(&[Kind::Word(&["hourly", "daily", "weekly", "none"]), Kind::Duration]),
        ),
        key("keep", Kind::Int(0, 10_000)),
        key("compress", Kind::Word(&["none", "delayed", "gzip"])),
        key("after", Kind::Word(&["reload"])).later(),
    ]],
));
/// How often and how long a probe is tried.
pub(crate) const PROBE_TIMES: &[Key] = &[
    key("interval", Kind::Duration),
    key("timeout", Kind::Duration),
    key("retries", Kind::Int(1, 1000)),
    key("start_period", Kind::Duration),
];
/// The names of [`PROBES`].
pub(crate) const PROBE_NAMES: &[&str] = &["http", "tcp", "socket", "command", "file", "log"];
/// What a probe looks at.
pub(crate) const PROBES: &[Key] = &[
    key("http", Kind::Url),
    key("tcp", Kind::HostPort),
    key("socket", Kind::Path),
    key("command", Kind::Command),
    key("file", Kind::Path),
    key("log", Kind::Line),
];
