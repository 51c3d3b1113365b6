//! The mistakes of a site that would reboot its host.

use expect_test::{Expect, expect};

use super::{lines, read, site};

fn check(semaphore: &str, expected: &Expect) {
    let body = format!("semaphores:\n  s: {{path: /l, min_uptime: 5m, {semaphore}}}");
    expected.assert_eq(&lines(&site(&body)));
}

#[test]
fn methods_are_known_and_each_stands_there_once() {
    check(
        "action: {reboot: {methods: [systemctl, poweroff, systemctl]}}",
        &expect![[r#"
        site.yaml:4:72: error: semaphores.s.action.reboot.methods[1]: expected one of systemctl, shutdown, reboot, syscall, sysrq, found `poweroff`
        site.yaml:4:82: error: semaphores.s.action.reboot.methods: `systemctl` stands there twice
    "#]],
    );
    check(
        "action: {poweroff: {methods: []}}",
        &expect![[r#"
        site.yaml:4:62: error: semaphores.s.action.poweroff.methods: expected at least one method (hint: leave `methods` out to have all of them tried)
    "#]],
    );
    check(
        "action: {reboot: {}, poweroff: {}}",
        &expect![[r#"
        site.yaml:4:54: error: semaphores.s.action: `action` has exactly one of reboot, poweroff
    "#]],
    );
    check(
        "action: {reboot: {grce: 5s}}",
        &expect![[r#"
        site.yaml:4:51: error: semaphores.s.action.reboot: unknown key `grce` in `reboot` (hint: did you mean `grace`?)
    "#]],
    );
}

#[test]
fn no_time_is_so_short_that_nothing_could_happen_in_it() {
    check(
        "action: {reboot: {timeout: 0s, retry: {delay: 10ms}}}",
        &expect![[r#"
        site.yaml:4:60: error: semaphores.s.action.reboot.timeout: expected at least 1s
        site.yaml:4:79: error: semaphores.s.action.reboot.retry.delay: expected at least 1s
    "#]],
    );
}

#[test]
fn the_last_key_is_the_one_that_ends_the_host() {
    for (sequence, expected) in [
        (
            "xub",
            expect![[r#"
            site.yaml:4:69: error: semaphores.s.action.reboot.sysrq.sequence: `x` is no key for that (hint: `sub`; keys: r (keyboard), e (SIGTERM to all), i (SIGKILL to all), s (sync), u (remount read-only), b (reboot))
        "#]],
        ),
        (
            "su",
            expect![[r#"
            site.yaml:4:69: error: semaphores.s.action.reboot.sysrq.sequence: it has to end in `b`, which is what does the reboot (hint: `sub`; keys: r (keyboard), e (SIGTERM to all), i (SIGKILL to all), s (sync), u (remount read-only), b (reboot))
        "#]],
        ),
        (
            "suo",
            expect![[r#"
            site.yaml:4:69: error: semaphores.s.action.reboot.sysrq.sequence: `o` is no key for that (hint: `sub`; keys: r (keyboard), e (SIGTERM to all), i (SIGKILL to all), s (sync), u (remount read-only), b (reboot))
        "#]],
        ),
        (
            "sbub",
            expect![[r#"
            site.yaml:4:69: error: semaphores.s.action.reboot.sysrq.sequence: nothing comes after `b` or `o` (hint: `sub`; keys: r (keyboard), e (SIGTERM to all), i (SIGKILL to all), s (sync), u (remount read-only), b (reboot))
        "#]],
        ),
    ] {
        check(&format!("action: {{reboot: {{sysrq: {{sequence: {sequence}}}}}}}"), &expected);
    }
}

#[test]
fn a_case_goes_by_fields_of_an_info_file_that_there_is() {
    check(
        "action: reload, cases: [{when: {info.name: x}, action: reload}]",
        &expect![[r#"
        site.yaml:4:56: error: semaphores.s.cases: `cases` go by the info file, and there is none (hint: add `info_file`)
    "#]],
    );
    check(
        "info_file: /i, action: reload, cases: [{when: {name: x}, action: reload}, {when: {}, \
         action: reload}, {when: {info.name: y}}, {when: {info.name: y}, action: restart:web}]",
        &expect![[r#"
            site.yaml:4:80: error: semaphores.s.cases[0].when: `name` cannot be asked for (hint: expected `info.` and a key: `info.name`)
            site.yaml:4:114: error: semaphores.s.cases[1].when: expected at least one field of the info file
            site.yaml:4:135: error: semaphores.s.cases[2]: an item of `cases` needs one of task, action
            site.yaml:4:190: error: semaphores.s.cases[3].action: there is no program `web`
        "#]],
    );
}

#[test]
fn a_reboot_without_min_uptime_is_warned_of() {
    let body = "semaphores:\n  s: {path: /l, action: reboot}";
    let warnings = read(&site(body)).unwrap().warnings;
    expect![[r#"
        site.yaml:4:6: warning: semaphores.s: whoever asks at each start of the host has it reboot for ever (hint: add `min_uptime: 5m`, and a `rate_limit`)
    "#]].assert_eq(&warnings.lines());
}

#[test]
fn what_is_not_said_has_its_default() {
    use mini_supervisor::model::{Deed, HostEnd, Method};
    let end = |action: &str| -> HostEnd {
        let body = format!("semaphores:\n  s: {{path: /l, min_uptime: 5m, action: {action}}}");
        let loaded = read(&site(&body));
        let semaphores = loaded.unwrap().site.semaphores;
        let semaphore = semaphores.values().next().unwrap();
        let Deed::EndHost(end) = &semaphore.deed else { panic!() };
        HostEnd::clone(end)
    };
    let reboot = end("reboot");
    assert_eq!(reboot.in_words(), "systemctl, shutdown, reboot, syscall, sysrq");
    assert_eq!(
        (reboot.timeout.as_secs(), reboot.grace.as_secs(), reboot.retry.as_secs()),
        (5, 90, 30)
    );
    assert_eq!((&*reboot.sysrq.sequence, reboot.sysrq.wait.as_secs()), ("sub", 2));
    assert!(reboot.stops_programs && !reboot.dry_run);
    let emergency = end("{poweroff: {methods: [sysrq, syscall]}}");
    assert_eq!(&*emergency.methods, [Method::SysRq, Method::Syscall]);
    assert!(!emergency.stops_programs, "a disk that has failed is not waited for");
    assert_eq!(&*emergency.sysrq.sequence, "suo");
}

#[test]
fn a_window_is_two_times_of_the_day_and_not_empty() {
    check(
        "action: reboot, window: [\"03:00-04:00\", \"3-4\", \"03:00-03:00\"]",
        &expect![[r#"
            site.yaml:4:73: error: semaphores.s.window[1]: `3-4` is no time of the day (hint: from and until in local time: `03:00-04:00`, `23:00-01:00`)
            site.yaml:4:80: error: semaphores.s.window[2]: nothing is in the window `03:00-03:00` (hint: the whole day is `00:00-24:00`)
        "#]],
    );
    check("action: reboot, window: \"23:00-01:00\"", &expect![[r#""#]]);
}

#[test]
fn a_lock_that_is_to_be_tried_is_warned_of_and_the_other_ways_are_not() {
    let warnings = |probe: &str| {
        let body = format!("semaphores:\n  s: {{path: /l, action: reload, probe: {probe}}}");
        read(&site(&body)).unwrap().warnings.lines()
    };
    expect![[r#"
        site.yaml:4:40: warning: semaphores.s.probe: where /proc/locks may hide a holder, the lock is tried: who takes it in that microsecond, and does not wait for it, fails
    "#]].assert_eq(&warnings("try-lock"));
    assert_eq!(warnings("proc-locks") + &warnings("auto"), "");
}
