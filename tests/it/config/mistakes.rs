//! The words of the messages.

#![expect(clippy::needless_pass_by_value, clippy::too_many_lines, reason = "tables")]

use expect_test::{Expect, expect};

use super::{lines, read, site};

pub(super) fn check(body: &str, expected: Expect) {
    expected.assert_eq(&wrapped(&lines(&site(body))));
}

/// Long messages, folded so that they can be read here.
pub(super) fn wrapped(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut width = 0;
        for word in line.split(' ') {
            if width + word.len() > 80 {
                out.truncate(out.trim_end().len());
                out.push_str("\n  ");
                width = 0;
            }
            out.push_str(word);
            out.push(' ');
            width += word.len() + 1;
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

pub(super) fn program(keys: &str, expected: Expect) {
    check(&format!("programs:\n  web:\n    command: x\n    {keys}"), expected);
}

#[test]
fn keys() {
    program(
        "autostrat: true",
        expect![[r#"
            site.yaml:6:5: error: programs.web: unknown key `autostrat` in a program (hint:
              did you mean `autostart`?)
        "#]],
    );
    program(
        "restart: {dealy: 1s}",
        expect![[r#"
            site.yaml:6:15: error: programs.web.restart: unknown key `dealy` in `restart`
              (hint: did you mean `delay`?)
        "#]],
    );
    program(
        "tags: [a]\n    tags: [b]",
        expect![[r#"
        site.yaml:7:5: error: key `tags` is given twice
    "#]],
    );
    check(
        "program: {}",
        expect![[r#"
            site.yaml:3:1: error: unknown key `program` in a site (hint: did you mean
              `programs`?)
        "#]],
    );
    check(
        "programs: {web: {description: d}}",
        expect![[r#"
        site.yaml:3:12: error: programs.web: `command` is required in a program
    "#]],
    );
    check(
        "programs: {\"a b\": {command: x}}",
        expect![[r#"
            site.yaml:3:12: error: programs: `a b` is no name: a name has only letters,
              digits and _ . @ -
        "#]],
    );
    check(
        "tasks: {t: {steps: [{rnu: [x]}]}}",
        expect![[r#"
            site.yaml:3:21: error: tasks.t.steps[0]: a step needs one of run, capture,
              first_of, backup, restore, archive, prune, sync_files, start, stop, restart,
              reload, signal, mount, unmount, wait_for, notify, reboot, poweroff
            site.yaml:3:22: error: tasks.t.steps[0]: unknown key `rnu` in a step (hint: did
              you mean `run`?)
        "#]],
    );
    check(
        "tasks: {t: {steps: [{run: [x], stop: all}]}}",
        expect![[r#"
            site.yaml:3:32: error: tasks.t.steps[0]: a step has exactly one of run, capture,
              first_of, backup, restore, archive, prune, sync_files, start, stop, restart,
              reload, signal, mount, unmount, wait_for, notify, reboot, poweroff
        "#]],
    );
}

#[test]
fn values() {
    program(
        "start_timeout: 10",
        expect![[r#"
            site.yaml:6:20: error: programs.web.start_timeout: duration `10` has no unit
              (hint: `10s` or `10m`?)
        "#]],
    );
    program(
        "start_timeout: 10 parsecs",
        expect![[r#"
            site.yaml:6:20: error: programs.web.start_timeout: expected a duration like
              `10s`, found `10 parsecs` (hint: units are ms, s, m, h, d, w: `500ms`, `1h30m`)
        "#]],
    );
    program(
        "start_timeout:",
        expect![[r#"
            site.yaml:6:18: error: programs.web.start_timeout: a value is missing; expected
              a duration like `10s`, or none (hint: write `""` for empty text, or remove the
              key)
        "#]],
    );
    program(
        "autostart: yes",
        expect![[r#"
            site.yaml:6:16: error: programs.web.autostart: expected true or false, found
              `yes` (hint: write `true`)
        "#]],
    );
    program(
        "autostart: \"true\"",
        expect![[r#"
            site.yaml:6:16: error: programs.web.autostart: expected true or false, found
              `true` (hint: remove the quotes)
        "#]],
    );
    program(
        "umask: 0022",
        expect![[r#"
            site.yaml:6:12: error: programs.web.umask: mode `0022` is not quoted (hint:
              write `"0022"`: YAML reads it as a decimal number)
        "#]],
    );
    program(
        "umask: \"0999\"",
        expect![[r#"
            site.yaml:6:12: error: programs.web.umask: expected a mode in octal digits,
              found `0999` (hint: write it like `"0640"`)
        "#]],
    );
    program(
        "restart: on-failur",
        expect![[r#"
            site.yaml:6:14: error: programs.web.restart.policy: expected one of never,
              on-failure, on-abnormal, always, found `on-failur` (hint: did you mean
              `on-failure`?)
        "#]],
    );
    program(
        "restart: {jitter: 20}",
        expect![[r#"
            site.yaml:6:23: error: programs.web.restart.jitter: expected a percentage like
              `20%`, found `20`
        "#]],
    );
    program(
        "restart: {success_exit_codes: [256]}",
        expect![[r#"
            site.yaml:6:36: error: programs.web.restart.success_exit_codes[0]: expected a
              whole number from 0 to 255, found `256`
        "#]],
    );
    program(
        "restart: {delay: 1m, max_delay: 1s}",
        expect![[r#"
            site.yaml:6:37: error: programs.web: `max_delay` is shorter than `delay`
        "#]],
    );
    program(
        "stop: {signal: TREM}",
        expect![[r#"
            site.yaml:6:20: error: programs.web.stop.signal: expected a signal like `TERM`,
              found `TREM` (hint: did you mean `TERM`?)
        "#]],
    );
    program(
        "stop: {signals: [TERM], timeout: 5s}",
        expect![[r#"
            site.yaml:6:29: error: programs.web: `signals` and `timeout` contradict each
              other (hint: give each signal its own `wait`)
        "#]],
    );
    program(
        "logging: {max_line: 16KB}",
        expect![[r#"
            site.yaml:6:25: error: programs.web.logging.max_line: `KB` is ambiguous (1000 or
              1024?) (hint: write `16KiB`)
        "#]],
    );
    program(
        "tags: web",
        expect![[r#"
            site.yaml:6:11: error: programs.web.tags: expected a list, found `web` (hint:
              write `[web]`)
        "#]],
    );
    program(
        "environment: [A=1]",
        expect![[r#"
            site.yaml:6:18: error: programs.web.environment: expected a map (`name: value`
              lines), found a list
        "#]],
    );
    program(
        "environment: {A: ~}",
        expect![[r#"
            site.yaml:6:22: error: programs.web.environment.A: a value is missing; expected
              text (hint: write `""` for empty text, or remove the key)
        "#]],
    );
    program(
        "nice: 20",
        expect![[r#"
            site.yaml:6:11: error: programs.web.nice: expected a whole number from -20 to
              19, found `20`
        "#]],
    );
    program(
        "user: rot",
        expect![[r#"
            site.yaml:6:11: error: programs.web.user: there is no user `rot` (hint: did you
              mean `root`?)
        "#]],
    );
    program(
        "group: dialuot",
        expect![[r#"
            site.yaml:6:12: error: programs.web.group: there is no group `dialuot` (hint:
              did you mean `dialout`?)
        "#]],
    );
    program(
        "health: {interval: 5s}",
        expect![[r#"
            site.yaml:6:13: error: programs.web.health: `health` needs one of http, tcp,
              socket, command, file, log
        "#]],
    );
    program(
        "type: forking",
        expect![[r#"
            site.yaml:6:11: error: programs.web: `type: forking` needs a `pid_file`
        "#]],
    );
    program(
        "remain: true",
        expect![[r#"
            site.yaml:6:5: error: programs.web: `remain` belongs to `type: oneshot`, this is
              `type: simple`
        "#]],
    );
    program(
        "description: !secret x",
        expect![[r#"
        site.yaml:6:26: error: tags (`!name`) mean nothing here (hint: remove the tag)
    "#]],
    );
    program(
        "description: ${NAEM}",
        expect![[r#"
            site.yaml:6:18: error: variable `NAEM` is not set (hint: set it under
              `variables`, with `--set NAEM=VALUE`, or write `${NAEM:-default}`)
        "#]],
    );
    program(
        "description: \"a ${FROM_ENV\"",
        expect![[r#"
        site.yaml:6:21: error: `${` has no closing `}`
    "#]],
    );
    check(
        "programs: {web: {command: a | b}}",
        expect![[r#"
            site.yaml:3:27: error: programs.web.command: `|` means nothing here: no shell
              reads a command (hint: to use a shell, write `[sh, -c, "…"]`)
        "#]],
    );
    check(
        "programs: {web: {command: \"a 'b\"}}",
        expect![[r#"
        site.yaml:3:27: error: programs.web.command: a quote in this command has no end
    "#]],
    );
    check(
        "programs: {web: {command: []}}",
        expect![[r#"
        site.yaml:3:27: error: programs.web.command: a command is not empty
    "#]],
    );
    check(
        "programs: [web]",
        expect![[r#"
            site.yaml:3:11: error: programs: expected a map (`name: value` lines), found a
              list
        "#]],
    );
    check(
        "tasks: {t: {schedule: {cron: \"61 * * * *\"}, steps: []}}",
        expect![[r#"
            site.yaml:3:30: error: tasks.t.schedule.cron: `61` is no minute of a cron line
              (hint: 0 to 59, `*`, `1-5`, `*/10`, `1,15`)
        "#]],
    );
}

#[test]
fn scheduling() {
    check(
        "semaphores: {s: {path: /s, action: \"restart:x\"}}",
        expect![[r#"
        site.yaml:3:36: error: semaphores.s.action: there is no program `x`
    "#]],
    );
    program(
        "ionice: best-effort:9",
        expect![[r#"
            site.yaml:6:13: error: programs.web.ionice: expected idle, best-effort:N or
              realtime:N (N from 0 to 7), found `best-effort:9`
        "#]],
    );
    program(
        "cpu_affinity: 3-1",
        expect![[r#"
            site.yaml:6:19: error: programs.web.cpu_affinity: expected CPUs like `0-3,8`,
              found `3-1`
        "#]],
    );
}

#[test]
fn references() {
    check(
        "semaphores: {s: {path: /s, action: reload}}\nprograms: {web: {command: x, requires: \
         [\"semaphore:s@started\"]}}",
        expect![[r#"
            site.yaml:4:41: error: `semaphore:s` is free or not, and nothing else (hint:
              write `semaphore:s`)
        "#]],
    );
    program(
        "after: [databse]\n  database: {command: x}",
        expect![[r#"
            site.yaml:6:13: error: programs.web.after[0]: there is no program `databse`
              (hint: did you mean `database`?)
        "#]],
    );
    program(
        "after: [web]",
        expect![[r#"
        site.yaml:6:13: error: `web` depends on itself
    "#]],
    );
    program(
        "requires: [db]\n  db: {command: x, after: [web]}",
        expect![[r#"
            site.yaml:6:16: error: dependency cycle: db -> web -> db (hint: remove one of
              these dependencies)
        "#]],
    );
    program(
        "after: [db@healthy]\n  db: {command: x}",
        expect![[r#"
        site.yaml:6:13: error: `db` has no `health`, so it is never healthy
    "#]],
    );
    program(
        "after: [db@completed]\n  db: {command: x}",
        expect![[r#"
        site.yaml:6:13: error: `db` is no `type: oneshot`, so it never completes
    "#]],
    );
    program(
        "wants: [\"mount:nas\"]",
        expect![[r#"
        site.yaml:6:13: error: programs.web.wants[0]: there is no mount `nas`
    "#]],
    );
    program(
        "after: [\"disk:nas\"]",
        expect![[r#"
            site.yaml:6:13: error: programs.web.after[0]: there is no kind of dependency
              `disk` (hint: write `mount:X`, `semaphore:X`, `task:X`, or the name of a
              program)
        "#]],
    );
    program(
        "logging: {stdout: /l}\n  db: {command: x, logging: {stdout: /l}}",
        expect![[r#"
        site.yaml:6:23: error: `db` and `web` write one log file, /l
    "#]],
    );
}

#[test]
fn a_root_supervisor_wants_to_know_the_user() {
    let text = lines("version: 1\nprograms:\n  web: {command: x}\n");
    expect![[r#"
        site.yaml:3:3: error: programs.web: `user` is required: this supervisor runs as
          root (hint: write `user: NAME`, `user: root` to mean root, or `defaults: {user:
          root}`)
    "#]]
    .assert_eq(&wrapped(&text));
}

#[test]
fn a_snippet_shows_the_place() {
    let found = read(&site("programs:\n  web:\n    command: x\n    autostrat: true")).unwrap_err();
    expect![[r#"
        error: programs.web: unknown key `autostrat` in a program
         --> site.yaml:6:5
          |
        6 |     autostrat: true
          |     ^^^^^^^^^
          = hint: did you mean `autostart`?

    "#]]
    .assert_eq(&found.snippets(mini_supervisor::config::Colour::Never));
}

#[test]
fn patterns_of_names_in_dev_shm_cannot_mean_everything() {
    program(
        "shm: {remove: [\"*\", \"ab*\", a/b*, \"[abc]*\", abc]}",
        expect![[r#"
        site.yaml:6:20: error: programs.web.shm.remove[0]: pattern `*` has fewer than 3
          characters of its own (hint: write what the names begin with, like
          `prismatron_*`)
        site.yaml:6:25: error: programs.web.shm.remove[1]: pattern `ab*` has fewer than
          3 characters of its own (hint: write what the names begin with, like
          `prismatron_*`)
        site.yaml:6:32: error: programs.web.shm.remove[2]: a name in /dev/shm has no
          `/`, found `a/b*` (hint: write the name alone, like `prismatron_*`)
        site.yaml:6:38: error: programs.web.shm.remove[3]: pattern `[abc]*` has fewer
          than 3 characters of its own (hint: write what the names begin with, like
          `prismatron_*`)
    "#]],
    );
    check(
        "shm: {all: {remove: [../etc/passwd, \"???*\", \"a[bc\", \"ok_*\"]}}",
        expect![[r#"
        site.yaml:3:22: error: shm.all.remove[0]: a name in /dev/shm has no `/`, found
          `../etc/passwd` (hint: write the name alone, like `prismatron_*`)
        site.yaml:3:37: error: shm.all.remove[1]: pattern `???*` has fewer than 3
          characters of its own (hint: write what the names begin with, like
          `prismatron_*`)
        site.yaml:3:45: error: shm.all.remove[2]: pattern `a[bc`: invalid range pattern
    "#]],
    );
    program(
        "shm: {when: [start], remove: [abc]}",
        expect![[r#"
        site.yaml:6:18: error: programs.web.shm.when[0]: expected one of pre-start,
          post-stop, found `start`
    "#]],
    );
    check(
        "shm: {one: {when: [post-stop], owner: nobody-there}}",
        expect![[r#"
        site.yaml:3:12: error: shm.one: `remove` is required in a rule of `shm`
        site.yaml:3:20: error: shm.one.when[0]: expected one of start, stop, found
          `post-stop`
        site.yaml:3:39: error: shm.one.owner: there is no user `nobody-there`
    "#]],
    );
}
