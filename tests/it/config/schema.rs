//! The JSON Schema, held against the examples by somebody else's validator.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "runs Python")]
#![expect(clippy::print_stdout, reason = "says what is skipped")]

use std::{fs, path::Path, process::Command};

use mini_supervisor::config::json_schema;

use super::{examples::EXAMPLES, site};

/// Exit code and output of `tests/schema.py`; `None`: nothing here can validate.
fn validate(name: &str, site: &str) -> Option<(i32, String)> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("schema.json"), json_schema().to_string()).unwrap();
    fs::write(at(name), site).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema.py");
    let python = std::env::var_os("TESTS_PYTHON").unwrap_or_else(|| "python3".into());
    let out = Command::new(python).arg(script).arg(at("schema.json")).arg(at(name)).output();
    let out = out.ok()?;
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    if out.status.code() == Some(3) {
        println!("skipped: {text}");
        return None;
    }
    Some((out.status.code().unwrap(), text.into_owned()))
}

#[test]
fn the_examples_and_what_is_shown_of_them_are_valid_by_the_schema() {
    for (name, text) in EXAMPLES {
        let Some((code, found)) = validate(name, text) else { return };
        assert_eq!(code, 0, "{found}");
    }
    for text in [super::shown::FULL, &super::shown::full_as_shown()] {
        let Some((code, found)) = validate("full", text) else { return };
        assert_eq!(code, 0, "{found}\n{text}");
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    for key in [
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
    ] {
        let command = if key.starts_with("command") { "" } else { "command: x, " };
        let text = site(&format!("programs: {{web: {{{command}{key}}}}}"));
        assert_ne!(super::lines(&text), "", "the reader takes {key}");
        let Some((code, found)) = validate("bad", &text) else { return };
        assert_eq!(code, 1, "{key}: {found}");
    }
}
