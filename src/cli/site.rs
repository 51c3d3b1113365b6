//! The verbs about the site file: check, show-config, schema.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    Context,
    fail::{Failure, INVALID},
    out::{Out, tell},
};
use crate::{
    config::{self, Accounts as _, Colour, Findings, LoadOptions, Loaded, Severity},
    control::paths,
    daemon::Host,
    model::{Account, Unsupported},
};

/// Why a site cannot be had.
pub(super) enum Unreadable {
    /// Not even its text.
    File(Failure),
    /// What stands in it.
    Mistakes(Findings),
}

/// Reads the site in `file`.
pub(super) fn load(context: &Context, file: &Path, for_check: bool) -> Result<Loaded, Unreadable> {
    let uid = nix::unistd::geteuid().as_raw();
    let source =
        if file == Path::new("-") { config::read_stdin() } else { config::read(file, uid) };
    let source = source.map_err(|e| {
        let failure = Failure::new(INVALID, "invalid_site", e.to_string());
        let unnamed = || "name the site file with -c FILE".to_owned();
        let hint = e.hint.or_else(|| context.config().is_none().then(unnamed));
        Unreadable::File(Failure { hint, ..failure })
    })?;
    let account: Option<Account> = Host.user_by_id(uid);
    let text = |(k, v): (&std::ffi::OsString, &std::ffi::OsString)| {
        Some((k.to_str()?.to_owned(), v.to_str()?.to_owned()))
    };
    let options = LoadOptions {
        daemon: None,
        journal: false,
        uid,
        account,
        current_directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        inherit_all: false,
        set: context.global.set.iter().cloned().collect(),
        environment: context.environment.iter().filter_map(text).collect(),
        for_check,
    };
    config::load(&source, &options, &Host).map_err(Unreadable::Mistakes)
}

fn file(context: &Context) -> PathBuf {
    context.config().unwrap_or_else(|| PathBuf::from(paths::DEFAULT_CONFIG))
}

/// `check`: everything that is wrong, then one line that says how much that is.
pub(super) fn check(context: &Context, out: &mut Out) -> Result<u8, Failure> {
    let file = file(context);
    let name = file.display().to_string();
    let (findings, unsupported, programs, of_host) = match load(context, &file, true) {
        Ok(Loaded { site, warnings, .. }) => {
            let of_host = super::hardening::notes(&site);
            (warnings, site.unsupported, Some(site.programs.len()), of_host)
        }
        Err(Unreadable::Mistakes(findings)) => (findings, Vec::new(), None, Vec::new()),
        Err(Unreadable::File(failure)) => return Err(failure),
    };
    if out.json {
        out.print_json(&document(&name, &findings, &unsupported, programs, &of_host));
        return Ok(if programs.is_some() { 0 } else { INVALID });
    }
    let text = if !std::io::stderr().is_terminal() {
        findings.lines()
    } else if out.no_color() {
        findings.snippets(Colour::Never)
    } else {
        findings.snippets(Colour::Always)
    };
    if !text.is_empty() {
        tell(text.trim_end());
    }
    for later in &unsupported {
        tell(&format!(
            "{}: note: {} is valid but this version cannot do it yet",
            later.place, later.key
        ));
    }
    for note in &of_host {
        tell(&format!("{name}: note: {note}"));
    }
    let warnings = findings.iter().filter(|d| d.severity == Severity::Warning).count();
    let Some(programs) = programs else {
        tell(&format!(
            "{name}: {}, {}",
            count(findings.errors(), "error"),
            count(warnings, "warning")
        ));
        return Ok(INVALID);
    };
    let noted =
        if warnings == 0 { String::new() } else { format!(", {}", count(warnings, "warning")) };
    out.print(&format!("{name}: ok ({}{noted})\n", count(programs, "program")));
    Ok(0)
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn document(
    name: &str,
    findings: &Findings,
    unsupported: &[Unsupported],
    programs: Option<usize>,
    of_host: &[String],
) -> serde_json::Value {
    let item = |d: &config::Diagnostic| {
        json!({
            "severity": match d.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "code": d.code, "message": d.message, "key": d.key, "hint": d.hint,
            "place": findings.locate(d.place), "line": d.place.line, "column": d.place.column,
        })
    };
    json!({
        "schema_version": 1, "file": name, "ok": programs.is_some(), "programs": programs,
        "findings": findings.iter().map(item).collect::<Vec<_>>(),
        "unsupported": unsupported, "notes": of_host,
    })
}

/// `show-config`: the site with all defaults, secrets hidden.
pub(super) fn show(context: &Context, origin: bool, out: &mut Out) -> Result<u8, Failure> {
    match load(context, &file(context), true) {
        Ok(loaded) if out.json => {
            let yaml = config::show(&loaded, false);
            let value: serde_json::Value = serde_yaml::from_str(&yaml).unwrap_or_default();
            out.print_json(&value);
            Ok(0)
        }
        Ok(loaded) => {
            out.print(&config::show(&loaded, origin));
            Ok(0)
        }
        Err(Unreadable::File(failure)) => Err(failure),
        Err(Unreadable::Mistakes(_)) => check(context, out),
    }
}

/// `schema`.
pub(super) fn schema(out: &mut Out) -> u8 {
    let text = serde_json::to_string_pretty(&config::json_schema()).unwrap_or_default();
    out.print(&(text + "\n"));
    0
}
