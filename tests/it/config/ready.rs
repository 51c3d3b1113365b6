//! Mistakes about how a program is known to be ready and alive.

use expect_test::expect;

use super::mistakes::program;

#[test]
fn readiness_is_one_thing_and_fits_the_type() {
    program(
        "readiness: {}",
        expect![[r#"
            site.yaml:6:16: error: programs.web.readiness: `readiness` needs one of http,
              tcp, socket, command, file, log, notify, fd
        "#]],
    );
    program(
        "readiness: {notify: true, fd: 3}",
        expect![[r#"
            site.yaml:6:31: error: programs.web.readiness: `readiness` has exactly one of
              http, tcp, socket, command, file, log, notify, fd
        "#]],
    );
    program(
        "readiness: {notify: false}",
        expect![[r#"
        site.yaml:6:25: error: programs.web.readiness.notify: expected `true`, found
          `false`
    "#]],
    );
    program(
        "readiness: {fd: 2, timeout: soon}",
        expect![[r#"
        site.yaml:6:21: error: programs.web.readiness.fd: expected a whole number from 3
          to 1023, found `2`
        site.yaml:6:33: error: programs.web.readiness.timeout: expected a duration like
          `10s`, found `soon` (hint: units are ms, s, m, h, d, w: `500ms`, `1h30m`)
    "#]],
    );
    program(
        "type: oneshot\n    readiness: {fd: 3}",
        expect![[r#"
        site.yaml:7:5: error: programs.web: `readiness` and `type: oneshot` contradict
          each other (hint: remove one of them: it is ready when it has succeeded)
    "#]],
    );
    program(
        "type: notify\n    readiness: {fd: 3}",
        expect![[r#"
        site.yaml:7:5: error: programs.web: `readiness` and `type: notify` contradict
          each other (hint: remove one of them: it is ready when it says READY=1)
    "#]],
    );
    program(
        "type: forking\n    pid_file: /r\n    readiness: {notify: true}",
        expect![[r#"
        site.yaml:8:5: error: programs.web: `readiness` and `type: forking` contradict
          each other (hint: remove one of them: it is ready when its daemon is found)
    "#]],
    );
}

#[test]
fn a_watchdog_has_some_time_and_something_that_goes_on() {
    program(
        "watchdog: 0s",
        expect![[r#"
        site.yaml:6:15: error: programs.web: a watchdog needs some time (hint:
          `watchdog: none` switches it off)
    "#]],
    );
    program(
        "watchdog: often",
        expect![[r#"
        site.yaml:6:15: error: programs.web.watchdog: expected a duration like `10s`,
          found `often` (hint: units are ms, s, m, h, d, w: `500ms`, `1h30m`)
    "#]],
    );
    program(
        "type: oneshot\n    watchdog: 5s",
        expect![[r#"
        site.yaml:7:5: error: programs.web: `watchdog` and `type: oneshot` contradict
          each other (hint: it ends by itself: `max_runtime` limits how long it runs)
    "#]],
    );
    program("type: oneshot\n    watchdog: none", expect![[r#""#]]);
}
