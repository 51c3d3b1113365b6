//! Values in the words of the file: `1h30m`, `10MiB`, `20%`.

use std::{fmt::Write as _, path::Path, time::Duration};

use super::tree::Item;
use crate::{
    config::values,
    model::{Bytes, Condition, Dependency, Limit, Mode, RunAs, Signal, Target},
};

pub(super) fn word(text: impl std::fmt::Display) -> Item {
    Item::Word(format!("{text}"))
}

pub(super) fn text(text: impl Into<String>) -> Item {
    Item::Text(text.into())
}

pub(super) fn texts(list: &[Box<str>]) -> Item {
    Item::List(list.iter().map(|t| text(&**t)).collect())
}

pub(super) fn words(list: impl IntoIterator<Item = impl std::fmt::Display>) -> Item {
    Item::List(list.into_iter().map(word).collect())
}

pub(super) fn path(path: &Path) -> Item {
    text(path.to_string_lossy())
}

pub(super) fn mode(mode: Mode) -> Item {
    Item::Quoted(mode.to_string())
}

pub(super) fn signal(signal: Signal) -> Item {
    word(signal.name())
}

pub(super) fn limit(limit: Limit) -> Item {
    match limit {
        Limit::After(d) => duration(d),
        Limit::Never => word("none"),
    }
}

/// Nothing is rounded: `1m30s`, `1s500ms`.
pub(super) fn duration(d: Duration) -> Item {
    let (secs, nanos) = (d.as_secs(), d.subsec_nanos());
    let parts = [
        (secs / 86_400, "d"),
        (secs / 3600 % 24, "h"),
        (secs / 60 % 60, "m"),
        (secs % 60, "s"),
        (u64::from(nanos / 1_000_000), "ms"),
    ];
    let mut out = String::new();
    for (n, unit) in parts.into_iter().filter(|(n, _)| *n > 0) {
        // Writing to a string cannot fail.
        write!(out, "{n}{unit}").ok();
    }
    match (nanos / 1000 % 1000, nanos % 1000) {
        (0, 0) => {}
        (micros, 0) => write!(out, "{micros}us").unwrap_or_default(),
        (micros, rest) => write!(out, "{micros}.{rest:03}us").unwrap_or_default(),
    }
    word(if out.is_empty() { "0s" } else { &out })
}

/// In the largest unit that divides it.
pub(super) fn size(bytes: Bytes) -> Item {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let even = |(shift, _): &(u32, &str)| bytes.0 > 0 && bytes.0.trailing_zeros() >= *shift;
    match units.into_iter().find(even) {
        Some((shift, unit)) => word(format!("{}{unit}", bytes.0 >> shift)),
        None => word(bytes.0),
    }
}

/// 0.2 as `20%`. Dividing may have rounded, so neighbours are tried until one is read as `share`.
pub(super) fn percent(share: f64) -> Item {
    let bits = (share * 100.0).to_bits();
    let near = [0, 1, 2, 3].into_iter().flat_map(|n| [bits.checked_add(n), bits.checked_sub(n)]);
    let shown = near.flatten().map(|b| format!("{}%", f64::from_bits(b)));
    let exact = shown.clone().find(|t| values::percent(t) == Ok(share));
    word(exact.or_else(|| shown.clone().next()).unwrap_or_default())
}

/// `db@ready`. The condition is always written: an instance may be called `ready`.
pub(super) fn dependency(dependency: &Dependency) -> Item {
    let target = match &dependency.target {
        Target::Program(name) => name.to_string(),
        Target::Mount(name) => format!("mount:{name}"),
        Target::Semaphore(name) => format!("semaphore:{name}"),
        Target::Task(name) => format!("task:{name}"),
        Target::Network => "network".to_owned(),
    };
    let condition = match dependency.condition {
        Condition::Started => "started",
        Condition::Ready => "ready",
        Condition::Healthy => "healthy",
        Condition::Completed => "completed",
    };
    text(format!("{target}@{condition}"))
}

pub(super) fn user(user: &RunAs) -> Item {
    match user {
        RunAs::Supervisor { .. } => word("self"),
        RunAs::Account(account) => text(&*account.name),
    }
}
