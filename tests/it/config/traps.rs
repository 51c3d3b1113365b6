//! Surprises of YAML, of accounts, of sharing: a table of small documents, and what each means.

use mini_supervisor::{
    config::{Accounts as _, LoadOptions, Source, load},
    model::RunAs,
};
use serde_json::json;

use super::{Host, lines, options, read, site};

/// A document, and a part of the refusal; empty: it is taken.
const TABLE: &[(&str, &str)] = &[
    ("", "the file is empty"),
    ("# only\n", "the file is empty"),
    ("~\n", "the file is empty"),
    ("[]\n", "a site is a map"),
    ("x\n", "a site is a map"),
    ("version: 1\n", ""),
    ("version: 1\n...\n", ""),
    ("---\nversion: 1\n", ""),
    ("%YAML 1.2\n---\nversion: 1\n", ""),
    ("version: 1\n---\nversion: 1\n", "a second document"),
    ("version: 2\n", "expected 1"),
    ("version: \"1\"\n", ""),
    ("version: 01\n", "expected 1"),
    ("version: 1.0\n", "expected 1"),
    ("version: 0x1\n", "expected 1"),
    ("version:\n", "a value is missing"),
    ("programs: {}\n", "`version` is required"),
    ("version: 1\nversion: 1\n", "given twice"),
    ("version: 1\nprograms:\n", ""),
    ("version: 1\nprograms: []\n", "expected a map"),
    ("version: 1\nprograms: ''\n", "expected a map"),
    ("version: 1\nprograms:\n\tweb: {}\n", "tab"),
    ("version: 1\nprograms: {web: {command: x}, web: {command: y}}\n", "given twice"),
    ("version: 1\n? [a]\n: b\n", "a key is a word"),
    ("version: 1\n? {a: b}\n: c\n", "a key is a word"),
    ("version: 1\nprograms: *p\n", "anchor"),
    ("version: 1\nprograms: &p {web: *p}\n", "contains itself"),
    ("version: 1\nprograms: !x {}\n", "tags"),
    ("version: !!int 1\n", "tags"),
    ("version: 1\nprograms: {web: {command: x}\n", "unclosed bracket"),
    ("version: 1\nprograms: \"a\n", "quote"),
    ("version: 1\n<<: {programs: {}}\n", ""),
    ("version: 1\n<<: x\n", "`<<` takes a map"),
    ("version: 1\n\u{7}x: 1\n", "unexpected character"),
    ("\u{feff}version: 1\n", ""),
    ("version: 1\r\nprograms: {}\r\n", ""),
    ("version: 1", ""),
];

/// A program's key, and a part of the refusal; empty: it is taken.
const KEYS: &[(&str, &str)] = &[
    ("autostart: true", ""),
    ("autostart: false", ""),
    ("autostart: True", "write `true`"),
    ("autostart: TRUE", "write `true`"),
    ("autostart: yes", "write `true`"),
    ("autostart: on", "write `true`"),
    ("autostart: y", "write `true`"),
    ("autostart: no", "write `false`"),
    ("autostart: off", "write `false`"),
    ("autostart: 1", "expected true or false"),
    ("autostart: \"true\"", "remove the quotes"),
    ("autostart: !!bool true", "tags"),
    ("autostart: ~", "a value is missing"),
    ("umask: 0022", "not quoted"),
    ("umask: 022", "not quoted"),
    ("umask: 0o22", "octal"),
    ("umask: 18", "octal"),
    ("umask: \"0022\"", ""),
    ("umask: \"0o22\"", "octal"),
    ("umask: \"00022\"", "octal"),
    ("nice: 010", "whole number"),
    ("nice: 0x5", "whole number"),
    ("nice: 1_0", "whole number"),
    ("nice: 1e1", "whole number"),
    ("nice: 5.0", "whole number"),
    ("nice: +5", "whole number"),
    ("nice: -5", ""),
    ("max_runtime: 10", "no unit"),
    ("max_runtime: 1:30", "expected a duration"),
    ("max_runtime: .inf", "expected a duration"),
    ("max_runtime: -5s", "expected a duration"),
    ("max_runtime: 5 s", "expected a duration"),
    ("max_runtime: 5S", "expected a duration"),
    ("max_runtime: 1e9s", "expected a duration"),
    ("max_runtime: none", ""),
    ("max_runtime: 0", ""),
    ("environment: {A: no, B: 010, C: 12:30, D: 1.10, E: 2001-01-01}", ""),
    ("environment: {null: x, true: y, 1: z}", ""),
    ("environment: {A: [x]}", "expected text"),
    ("environment: {<<: {A: x}}", ""),
    ("tags: [a, [b]]", "expected a name"),
    ("tags: {a: b}", "expected a list"),
    ("logging: {max_line: 16KB}", "ambiguous"),
    ("logging: {max_line: 1.5KiB}", "expected a size"),
    ("logging: {max_line: -1}", "expected a size"),
    ("logging: {max_line: 99999999999999999999}", "expected a size"),
    ("restart: {factor: .nan}", "a number from"),
    ("restart: {factor: nan}", "a number from"),
    ("restart: {jitter: 0.2}", "percentage"),
    ("restart: {jitter: 0}", ""),
    ("restart: {jitter: 00}", "percentage"),
    ("logging: {stdout: null, stderr: \"null\"}", ""),
    ("logging: {stdout: ~}", "missing"),
    ("logging: {stdout: }", "missing"),
    ("logging: {rotate: null}", "missing"),
    ("working_directory: null", "missing"),
    ("stop: {signal: 0}", "a signal"),
    ("stop: {signal: 65}", "a signal"),
    ("stop: {signal: 9}", ""),
];

#[test]
fn surprises_of_yaml_are_refused_or_mean_what_they_seem_to() {
    let keys = KEYS
        .iter()
        .map(|(key, part)| (site(&format!("programs:\n  web:\n    command: x\n    {key}")), *part));
    let all = TABLE.iter().map(|(text, part)| ((*text).to_owned(), *part)).chain(keys);
    let mut wrong = String::new();
    let mut count = 0;
    for (text, part) in all {
        let found = lines(&text);
        count += 1;
        if found.is_empty() != part.is_empty() || !found.contains(part) {
            wrong = format!("{wrong}{text:?}: expected {part:?}, found {found:?}\n");
        }
    }
    assert!(count >= 80, "{count}");
    assert_eq!(wrong, "");
}

fn as_pi(text: &str) -> String {
    let options = LoadOptions { uid: 1000, account: Host.user("pi"), ..options() };
    load(&Source::from_text("site.yaml", text), &options, &Host)
        .err()
        .map_or_else(String::new, |f| f.lines())
}

#[test]
fn who_is_not_root_can_run_programs_as_nobody_else() {
    let text = |keys| format!("version: 1\nprograms: {{web: {{command: x, {keys}}}}}\n");
    for (keys, part) in [
        ("tags: []", ""),
        ("user: pi", ""),
        ("user: self", ""),
        ("user: \"1000\"", ""),
        ("user: root", "cannot run programs as `root`"),
        ("user: \"0\"", "cannot run programs as `0`"),
        ("group: dialout", "cannot join other groups"),
        ("supplementary_groups: [video]", "cannot join other groups"),
        ("start_pre: [{command: x, user: root}]", "cannot run programs as `root`"),
    ] {
        let found = as_pi(&text(keys));
        assert!(found.contains(part) && found.is_empty() == part.is_empty(), "{keys}: {found}");
    }
}

#[test]
fn a_numeric_user_is_the_account_with_that_id_or_the_bare_id() {
    for (id, name, gid) in [("1000", "pi", 1000), ("4242", "4242", 4242), ("0", "root", 0)] {
        let text = format!("version: 1\nprograms: {{web: {{command: x, user: \"{id}\"}}}}\n");
        let loaded = read(&text).unwrap();
        let RunAs::Account(account) = &loaded.site.programs["web"].execution.user else {
            panic!("{id}");
        };
        assert_eq!((&*account.name, account.gid), (name, gid));
    }
}

#[test]
fn two_programs_share_no_pid_file_and_no_runtime_directory() {
    for (keys, part) in [
        ("type: forking, pid_file: /run/x.pid", "have one pid file, /run/x.pid"),
        ("runtime_directory: x", "have one runtime directory, /run/x"),
        ("runtime_directory: {name: x}", "have one runtime directory, /run/x"),
        ("logging: {stderr: /x.log}", "write one log file, /x.log"),
        ("state_directory: x", ""),
    ] {
        let found = lines(&site(&format!(
            "programs: {{a: {{command: x, {keys}}}, b: {{command: x, {keys}}}}}"
        )));
        assert!(found.contains(part) && found.is_empty() == part.is_empty(), "{keys}: {found}");
    }
}

#[test]
fn findings_are_also_there_for_programs() {
    let found = read(&site("programs: {web: {command: x, nice: 20, autostrat: true}}"));
    assert_eq!(
        found.unwrap_err().json(),
        json!([
            {"severity": "error", "code": "bad-value", "key": "programs.web.nice",
             "message": "expected a whole number from -20 to 19, found `20`",
             "file": "site.yaml", "line": 3, "column": 36, "hint": null},
            {"severity": "error", "code": "unknown-key", "key": "programs.web",
             "message": "unknown key `autostrat` in a program",
             "file": "site.yaml", "line": 3, "column": 40, "hint": "did you mean `autostart`?"},
        ])
    );
}

#[test]
fn a_variable_of_the_file_wins_over_the_environment_and_set_over_both() {
    let text = site("variables: {FROM_ENV: file}\nprograms: {web: {command: [\"${FROM_ENV}\"]}}");
    let with = |set: &[(&str, &str)]| {
        let set = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let options = LoadOptions { set, ..options() };
        let loaded = load(&Source::from_text("site.yaml", &text), &options, &Host).unwrap();
        loaded.site.programs["web"].command[0].to_string()
    };
    assert_eq!(with(&[]), "file");
    assert_eq!(with(&[("FROM_ENV", "set")]), "set");
}
