//! Mistakes about programs that run once at the most.

use expect_test::expect;

use super::{
    mistakes::{check, program, wrapped},
    read, site,
};

#[test]
fn a_program_that_runs_once_has_a_lock_of_its_own_and_a_word_of_its_own() {
    program(
        "single_instance: {match: {}, on_duplicate: ask, lock_file: \"\"}",
        expect![[r#"
            site.yaml:6:30: error: programs.web.single_instance.match: `argv` is required in
              `match`
            site.yaml:6:48: error: programs.web.single_instance.on_duplicate: expected one
              of refuse, adopt, replace, found `ask`
            site.yaml:6:64: error: programs.web.single_instance.lock_file: expected a path,
              found ``
        "#]],
    );
    program(
        "single_instance: {match: {argv: python3}}",
        expect![[r#"
        site.yaml:6:37: error: programs.web: `python3` runs other programs, which are no
          copies of this one (hint: name what it runs, like `launch_robot.py`)
    "#]],
    );
    program(
        "single_instance: {match: robot.py}",
        expect![[r#"
        site.yaml:6:30: error: programs.web.single_instance.match: expected a map for
          `match`, found `robot.py`
    "#]],
    );
    program(
        "single_instance: {on_duplicate: replace}",
        expect![[r#"
        site.yaml:6:23: error: programs.web: `on_duplicate` is about copies that `match`
          finds, and there is no `match` (hint: add `match: {argv: WORD}`; without one,
          whoever holds the lock is refused)
    "#]],
    );
    for kind in ["oneshot", "forking\n    pid_file: /d"] {
        program(
            &format!(
                "type: {kind}\n    single_instance: {{match: {{argv: x}}, on_duplicate: adopt}}"
            ),
            match kind {
                "oneshot" => expect![[r#"
                    site.yaml:7:55: error: programs.web: `adopt` does not go with `type: oneshot`:
                      how a copy ends that was adopted is not to be known, so it would never be done
                      (hint: `refuse` names the copy, `replace` ends it first)
                "#]],
                _ => expect![[r#"
                    site.yaml:8:55: error: programs.web: `adopt` does not go with `type: forking`:
                      whether a copy is the command that starts the daemon, or the daemon, is not to
                      be known (hint: `refuse` names the copy, `replace` ends it first)
                "#]],
            },
        );
    }
    program(
        "watchdog: 10s\n    single_instance: {match: {argv: x}, on_duplicate: adopt}",
        expect![[r#"
            site.yaml:7:55: error: programs.web: `adopt` does not go with what a program
              says of itself (`type: notify`, `watchdog`, `readiness` or `health` by `notify`,
              `fd` or `log`): a copy that was started by hand is not heard (hint: `refuse`
              names the copy, `replace` ends it first)
        "#]],
    );
    program(
        "single_instance: {lock_file: /r, pid_file: /r}",
        expect![[r#"
        site.yaml:6:48: error: programs.web: the lock and the pid need a file each: this
          is the `lock_file`
    "#]],
    );
    program(
        "type: forking\n    pid_file: /r\n    single_instance: {lock_file: /r}",
        expect![[r#"
            site.yaml:8:34: error: programs.web: this file is written by the program itself:
              it is its `pid_file`
        "#]],
    );
    program(
        "single_instance: maybe",
        expect![[r#"
        site.yaml:6:22: error: programs.web.single_instance: expected true or false,
          found `maybe`
    "#]],
    );
    check(
        "programs:\n  a: {command: x, single_instance: {lock_file: /r}}\n  b: {command: y, \
         single_instance: {lock_file: /r}}\n  c: {command: z, instances: 2, single_instance: \
         {pid_file: /p}}",
        expect![[r#"
            site.yaml:5:48: error: `a` and `b` have one lock file, /r
            site.yaml:6:61: error: `c@1` and `c@2` have one pid file, /p
        "#]],
    );
}

#[test]
fn a_word_that_finds_no_copy_of_the_program_is_warned_of() {
    let warnings = |word: &str, command: &str| {
        let single = format!("single_instance: {{match: {{argv: {word}}}}}");
        let text = site(&format!("programs: {{web: {{command: {command}, {single}}}}}"));
        wrapped(&read(&text).unwrap().warnings.lines())
    };
    for (word, command) in [("x.py", "[python3, a/x.py]"), ("web", "/opt/web"), ("/a", "[b, /a]")] {
        assert_eq!(warnings(word, command), "");
    }
    expect![[r#"
        site.yaml:3:79: warning: programs.web: `y.py` is no argument of the program's
          own command, nor the last part of one: what is started with that command by hand
          is not found
    "#]]
    .assert_eq(&warnings("y.py", "[python3, my-y.py]"));
}
