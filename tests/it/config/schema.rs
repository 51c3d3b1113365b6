//! The JSON Schema, held against the examples by somebody else's validator.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "runs Python")]
#![expect(clippy::print_stdout, clippy::panic, reason = "says what is skipped, or wrong")]

use std::{fs, path::Path, process::Command};

use mini_supervisor::config::json_schema;

use super::{examples::EXAMPLES, site};

/// The mistakes that `tests/schema.py` finds, a line each that begins with the name of the site;
/// `None`: nothing here can validate.
fn validate(sites: &[(String, String)]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("schema.json"), json_schema().to_string()).unwrap();
    for (name, text) in sites {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema.py");
    let python = std::env::var_os("TESTS_PYTHON").unwrap_or_else(|| "python3".into());
    let names = sites.iter().map(|(name, _)| name);
    let mut command = Command::new(python);
    command.current_dir(&dir).arg(script).arg("schema.json").args(names);
    let out = command.output().inspect_err(|e| println!("skipped: {e}")).ok()?;
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    match out.status.code() {
        Some(0 | 1) => Some(text.into_owned()),
        Some(3) => {
            println!("skipped: {text}");
            None
        }
        code => panic!("{code:?}: {text}"),
    }
}

#[test]
fn the_examples_and_what_is_shown_of_a_site_are_valid_by_the_schema() {
    let mut sites: Vec<(String, String)> =
        EXAMPLES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    sites.push(("full".to_owned(), super::shown::FULL.to_owned()));
    sites.push(("shown".to_owned(), super::shown::full_as_shown()));
    let niceties = "programs: {web: {command: x, logging: {stdout: null}, restart: {jitter: 0}}}";
    sites.push(("niceties".to_owned(), site(niceties)));
    let Some(found) = validate(&sites) else { return };
    assert_eq!(found, "");
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let keys = [
        "autostrat: true",
        "start_timeout: 10",
        "start_timeout: 10 parsecs",
        "start_timeout: -5s",
        "umask: 0o22",
        "umask: \"0999\"",
        "autostart: yes",
        "autostart: \"true\"",
        "logging: {max_line: 16KB}",
        "nice: 20",
        "nice: 0x5",
        "restart: on-failur",
        "restart: {jitter: 20}",
        "restart: {dealy: 1s}",
        "tags: web",
        "environment: [A=1]",
        "command: []",
        "health: {interval: 5s}",
        "instances: {a b: {}}",
    ];
    let mut sites = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let command = if key.starts_with("command") { "" } else { "command: x, " };
        let text = site(&format!("programs: {{web: {{{command}{key}}}}}"));
        assert_ne!(super::lines(&text), "", "the reader takes {key}");
        sites.push((format!("bad{i}"), text));
    }
    let Some(found) = validate(&sites) else { return };
    for (i, key) in keys.iter().enumerate() {
        let name = format!("bad{i}: ");
        assert!(found.lines().any(|l| l.starts_with(&name)), "the schema takes {key}: {found}");
    }
}
