//! Snapshots of what the command prints about itself and about a file with many mistakes.

use std::{fmt::Write as _, process::Command};

use expect_test::{Expect, expect, expect_file};

use super::site::{Ran, Site, bare};

fn help(args: &[&str]) -> String {
    let ran: Ran = bare(args).output().unwrap().into();
    assert_eq!((ran.code, &*ran.err), (Some(0), ""), "{args:?}");
    ran.out
}

#[test]
fn the_summary_of_verbs_and_options() {
    expect_file!["help.txt"].assert_eq(&help(&["--help"]));
    assert_eq!(help(&["-h"]), help(&["--help"]));
}

#[test]
fn the_help_of_each_verb() {
    let mut all = String::new();
    let mut put = |words: &[&str]| {
        let text = help(&[words, &["--help"]].concat());
        // What every verb has stands in the summary.
        let own = text.split("Options of every verb:").next().unwrap();
        writeln!(all, "# {}\n{}", words.join(" "), own.trim_end()).unwrap();
    };
    for verb in mini_supervisor::cli::command().get_subcommands() {
        put(&[verb.get_name()]);
        for below in verb.get_subcommands() {
            put(&[verb.get_name(), below.get_name()]);
        }
    }
    expect_file!["help-verbs.txt"].assert_eq(&all);
}

#[test]
fn bash_completes_verbs_and_options() {
    let complete = |words: &str, current: &str, before: &str| {
        let script = format!(
            "source <({} completions bash); COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); \
             _supervisor supervisor '{current}' {before}; echo \"${{COMPREPLY[@]}}\"",
            env!("CARGO_BIN_EXE_supervisor")
        );
        let ran: Ran = Command::new("bash").args(["-c", &script]).output().unwrap().into();
        assert_eq!((ran.code, &*ran.err), (Some(0), ""));
        ran.out.trim().to_owned()
    };
    assert_eq!(complete("supervisor st", "st", "supervisor"), "status start stop");
    assert_eq!(complete("supervisor stop --no", "--no", "stop"), "--no-wait");
    let shells = complete("supervisor completions ''", "", "completions");
    assert!(shells.contains("bash") && shells.contains("zsh"), "{shells}");
}

fn mistakes(text: &str, expected: &Expect) {
    let site = Site::written("");
    std::fs::write(site.file(), text).unwrap();
    let ran = site.expect(78, &["check"]);
    assert_eq!(ran.out, "");
    expected.assert_eq(&ran.err.replace(site.dir.path().to_str().unwrap(), "DIR"));
}

#[test]
fn a_file_with_many_mistakes() {
    mistakes(
        r#"version: 1
supervisor: {nam: x, shutdown_timeout: 10}
defaults: {user: self}
programs:
  web:
    comand: [sleep, "1"]
    restart: {policy: on-error, delay: 5 sec}
    stop: {signal: TREM, timeout: 10}
    umask: 22
  db:
    command: [sleep, "1"]
    requires: [wbe]
    autostart: yes
    limits: {nofile: -1}
  db:
    command: [sleep, "1"]
  loop: {command: [sleep, "1"], requires: [pool]}
  pool: {command: [sleep, "1"], requires: [loop]}
"#,
        &expect![[r#"
            DIR/site.yaml:2:14: error: supervisor: unknown key `nam` in `supervisor` (hint: did you mean `name`?)
            DIR/site.yaml:2:40: error: supervisor.shutdown_timeout: duration `10` has no unit (hint: `10s` or `10m`?)
            DIR/site.yaml:5:3: error: programs.web: `command` is required in a program
            DIR/site.yaml:6:5: error: programs.web: unknown key `comand` in a program (hint: did you mean `command`?)
            DIR/site.yaml:7:23: error: programs.web.restart.policy: expected one of never, on-failure, on-abnormal, always, found `on-error`
            DIR/site.yaml:7:40: error: programs.web.restart.delay: expected a duration like `10s`, found `5 sec` (hint: units are ms, s, m, h, d, w: `500ms`, `1h30m`)
            DIR/site.yaml:8:20: error: programs.web.stop.signal: expected a signal like `TERM`, found `TREM` (hint: did you mean `TERM`?)
            DIR/site.yaml:8:35: error: programs.web.stop.timeout: duration `10` has no unit (hint: `10s` or `10m`?)
            DIR/site.yaml:9:12: error: programs.web.umask: expected a mode in octal digits, found `22` (hint: write it like `"0640"`)
            DIR/site.yaml:12:16: error: programs.db.requires[0]: there is no program `wbe` (hint: did you mean `web`?)
            DIR/site.yaml:13:16: error: programs.db.autostart: expected true or false, found `yes` (hint: write `true`)
            DIR/site.yaml:14:22: error: programs.db.limits.nofile: expected `unlimited`, or a whole number from 0, found `-1`
            DIR/site.yaml:15:3: error: key `db` is given twice
            DIR/site.yaml:18:44: error: dependency cycle: loop -> pool -> loop (hint: remove one of these dependencies)
            DIR/site.yaml: 14 errors, 0 warnings
        "#]],
    );
}
