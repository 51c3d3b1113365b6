//! Probes of `health` and `readiness` that cannot work, and what they mean in `defaults`.

use expect_test::expect;

use super::mistakes::program;

#[test]
fn a_probe_that_cannot_work_is_refused() {
    program(
        "health: {http: 'https://h/x'}",
        expect![[r#"
        site.yaml:6:20: error: programs.web: a probe does not speak TLS, so `https://`
          cannot be asked (hint: let a command do it: `command: [curl, -fsS, -o,
          /dev/null, "https://h/x"]`)
    "#]],
    );
    program(
        "health: {http: 'http://h:x/'}",
        expect![[r#"
        site.yaml:6:20: error: programs.web: this address cannot be asked: its port is
          no number from 1 to 65535 (hint: write it like `http://127.0.0.1:8080/health`)
    "#]],
    );
    program(
        "health: {log: beat}\n    logging: {stdout: 'null', stderr: inherit}",
        expect![[r#"
            site.yaml:6:14: error: programs.web: `log` looks at the program's output, and
              `logging` has it pass us by (hint: let `logging.stdout` or `logging.stderr` be a
              file, console, journal or syslog)
        "#]],
    );
    program(
        "health: {tcp: 'h:1'}\n    type: oneshot",
        expect![[r#"
        site.yaml:6:5: error: programs.web: `health` is for what stays up, this is
          `type: oneshot` (hint: write `health: none` if it stands in `defaults`)
    "#]],
    );
    program(
        "health: {tcp: 'h:1', interval: 10ms}",
        expect![[r#"
        site.yaml:6:36: error: programs.web: `interval` is at least 100ms
    "#]],
    );
    program(
        "health: {tcp: 'h:1', timeout: 0}",
        expect![[r#"
        site.yaml:6:35: error: programs.web: `timeout` is at least 1ms
    "#]],
    );
    program(
        "health: {tcp: 'h:1', file: x}",
        expect![[r#"
        site.yaml:6:26: error: programs.web.health: `health` has exactly one of http,
          tcp, socket, command, file, log
    "#]],
    );
    program(
        "readiness: {log: ready, interval: 5s}",
        expect![[r#"
        site.yaml:6:29: error: programs.web: `interval` is how often something is looked
          at, and nothing is (hint: remove it: what the program says is heard at once)
    "#]],
    );
    program(
        "readiness: {tcp: 'h:1', retries: 5}",
        expect![[r#"
        site.yaml:6:29: error: programs.web.readiness: unknown key `retries` in
          `readiness` (hint: known keys are http, tcp, socket, command, file, log, notify,
          fd, interval, timeout)
    "#]],
    );
    program(
        "readiness: {tcp: 'h:1'}\n    type: notify",
        expect![[r#"
        site.yaml:6:5: error: programs.web: `readiness` and `type: notify` contradict
          each other (hint: remove one of them: it is ready when it says READY=1)
    "#]],
    );
}
