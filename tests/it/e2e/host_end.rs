//! What asks for a reboot, in namespaces of its own: nothing here can reach the host. The commands
//! are stand-ins in a mount namespace, reboot(2) ends a PID namespace, and the trigger of `SysRq`
//! is /dev/null.

use mini_supervisor::control::{Reply, Request, SemaphoreName, SemaphoreWord, StateWord};

use super::{
    harness::{Plan, Site, program},
    init::{UNSHARE, possible},
};

/// Below a shell that is process 1. All four commands are stood in for, whoever is asked.
const BELOW: &str = "mount -t tmpfs none /usr/local/sbin && \
    for one in systemctl shutdown reboot poweroff; do cp DIR/$one /usr/local/sbin/; done && \
    { test ! -e /proc/sysrq-trigger || mount --bind /dev/null /proc/sysrq-trigger; } && \
    { \"$@\" & wait $!; }";

/// A site whose `bot` holds the lock as long as it runs, and whose commands do this.
fn asking(action: &str, command: &str) -> Plan {
    let text = format!(
        "  web: {{command: [sleep, '1000']}}\n  bot: {{command: [DIR/bot], autostart: false}}\n\
         semaphores:\n  host: {{path: DIR/lock, info_file: DIR/info, mode: '0600', \
         acknowledge: remove, {action}}}"
    );
    let mut plan =
        Plan::new(&text).script("bot", "exec 9>>DIR/lock; flock -n 9 && exec sleep 1000");
    for one in ["systemctl", "shutdown", "reboot", "poweroff"] {
        plan = plan.script(one, &format!("echo {one} \"$@\" >> DIR/called; {command}"));
    }
    let script = BELOW.replace("DIR", plan.dir.path().to_str().unwrap());
    let words = ["--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    let words: Vec<&str> = UNSHARE.iter().chain(&words).copied().collect();
    plan.wrapped(&words)
}

/// Has the bot ask.
fn ask(site: &mut Site) {
    site.wait_for("it is armed", |status| status.semaphores[0].state == SemaphoreWord::Clear);
    site.bring_up(&["bot"]);
}

fn shut_down(mut site: Site) {
    site.ask(&Request::Shutdown(mini_supervisor::control::Shutdown { force: false }));
    site.code();
}

fn called(site: &Site) -> String {
    std::fs::read_to_string(site.path("called")).unwrap_or_default()
}

#[test]
fn commands_that_fail_are_followed_by_the_next_and_their_words_are_told() {
    if !possible() {
        return;
    }
    let action = "action: {reboot: {methods: [systemctl, shutdown, reboot], grace: 1h}}";
    let fails = "case $0 in */reboot) exit 0;; esac; echo no bus >&2; exit 3";
    let mut site = asking(action, fails).start();
    ask(&mut site);
    site.stderr.wait_for("the last", |line| line.contains("reboot has accepted"));
    assert_eq!(called(&site), "systemctl reboot\nshutdown -r now\nreboot\n");
    let log = site.stderr.all().join("\n");
    assert!(log.contains("systemctl has failed: exit 3: no bus"), "{log}");
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text}: {log}"));
    assert!(at("web: stopped") < at("tries systemctl"), "{log}");
    let status = site.status();
    assert_eq!(status.semaphores[0].state, SemaphoreWord::Acting);
    assert!(!site.path("lock").exists(), "its file goes when a method has accepted");
    shut_down(site);
}

#[test]
fn a_command_that_hangs_is_killed_and_without_any_the_programs_are_back() {
    if !possible() {
        return;
    }
    let action = "action: {reboot: {methods: [systemctl, sysrq], timeout: 1s, retry: {delay: 1h}, \
                  sysrq: {sequence: reisub, wait: 10ms}}}";
    let mut site = asking(action, "exec sleep 999").start();
    ask(&mut site);
    site.stderr.wait_for("the time limit", |line| line.contains("no answer within 1s"));
    // What stands in for it takes every key, and nothing comes of it; not every kernel has one.
    site.stderr.wait_for("its keys", |line| line.contains("the keys e and i are left out"));
    site.stderr.wait_for("its end", |line| line.contains("reboot: sysrq has "));
    let name = || SemaphoreName { name: "host".into() };
    assert!(matches!(site.ask(&Request::ClearSemaphore(name())), Reply::Done));
    let status = site.wait_for("all is back", |status| {
        program(status, "web").state == StateWord::Running
            && status.semaphores[0].state != SemaphoreWord::Acting
    });
    assert_eq!(program(&status, "bot").state, StateWord::Running);
    shut_down(site);
}

#[test]
fn reboot_2_ends_the_namespace_and_everybody_in_it() {
    if !possible() {
        return;
    }
    for (goal, signal) in [("reboot", 1), ("poweroff", 2)] {
        let action = format!("action: {{{goal}: {{methods: [syscall]}}}}");
        let mut site = asking(&action, "exit 1").start();
        ask(&mut site);
        // reboot(2): the parent of process 1 sees it end by SIGHUP, or by SIGINT.
        assert_eq!(site.code(), 128 + signal);
        assert_eq!(called(&site), "");
        let log = site.stderr.text();
        assert!(log.contains("web: stopped") && log.contains("tries syscall"), "{log}");
    }
}

#[test]
fn process_1_of_a_container_exits_with_75_and_its_files_are_gone() {
    if !possible() {
        return;
    }
    for (goal, code) in [("reboot", 75), ("poweroff", 0)] {
        let plan = asking(&format!("action: {goal}"), "exit 0");
        let mut site = plan.wrapped(&UNSHARE).start();
        ask(&mut site);
        assert_eq!(site.end_by_itself(), code);
        assert!(!site.path("lock").exists());
        assert_eq!(called(&site), "");
        let log = site.stderr.text();
        assert!(log.contains("this is a container"), "{log}");
    }
}

#[test]
fn a_dry_run_of_a_reboot_asks_nobody() {
    if !possible() {
        return;
    }
    let mut site = asking("action: {reboot: {dry_run: true}}", "exit 0").start();
    ask(&mut site);
    site.stderr.wait_for("it says so", |line| {
        line.contains("would stop 2 programs and try systemctl, shutdown, reboot, syscall, sysrq")
    });
    assert_eq!(site.program("web").state, StateWord::Running);
    assert_eq!(called(&site), "");
    shut_down(site);
}

#[test]
fn who_may_not_reboot_is_told_so_before_anything_is_armed() {
    if !possible() {
        return;
    }
    let text = "  web: {command: [sleep, '1000']}\nsemaphores:\n  host: {path: DIR/lock, \
                action: {reboot: {methods: [syscall, sysrq]}}}";
    let site = Plan::new(text).run_as(65534, 65534).start();
    site.stderr.wait_for("it is armed", |line| line.contains("semaphore:host: armed"));
    let log = site.stderr.all().join("\n");
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text}: {log}"));
    assert!(at("no method can reboot this host: syscall (no CAP_SYS_BOOT)") < at("armed"), "{log}");
    site.end();
}

#[test]
fn a_bot_that_asks_at_each_start_waits_for_min_uptime() {
    if !possible() {
        return;
    }
    let action = "min_uptime: 1h, action: {reboot: {methods: [syscall]}}";
    let mut site = asking(action, "exit 0").start();
    ask(&mut site);
    let status =
        site.wait_for("it waits", |status| status.semaphores[0].state == SemaphoreWord::Pending);
    assert!(status.semaphores[0].reason.contains("(min_uptime)"), "{status:?}");
    assert_eq!(site.program("web").state, StateWord::Running);
    shut_down(site);
}

/// S0-56: the rate limit outlives the end that it counts.
#[test]
fn how_often_it_was_asked_is_known_after_the_end() {
    if !possible() {
        return;
    }
    let action = "rate_limit: {burst: 2, interval: 1h}, action: {reboot: {methods: [syscall]}}";
    let mut site = asking(action, "exit 0").supervisor("state_dir: DIR/state").start();
    for _ in 0..2 {
        ask(&mut site);
        assert_eq!(site.code(), 128 + 1);
        site = site.again();
    }
    ask(&mut site);
    let status =
        site.wait_for("it waits", |status| status.semaphores[0].state == SemaphoreWord::Pending);
    assert!(status.semaphores[0].reason.contains("(rate_limit)"), "{status:?}");
    let left = status.semaphores[0].next_in_s.unwrap();
    assert!((3000.0..=3600.0).contains(&left), "{left}");
    shut_down(site);
}

#[test]
fn a_disk_that_keeps_nothing_is_told_of_and_stops_no_reboot() {
    if !possible() {
        return;
    }
    let action = "rate_limit: {burst: 2, interval: 1h}, action: {reboot: {methods: [syscall]}}";
    let plan = asking(action, "exit 0").supervisor("state_dir: /proc/nothing");
    let mut site = plan.start();
    ask(&mut site);
    assert_eq!(site.code(), 128 + 1);
    let log = site.stderr.text();
    assert!(log.contains("how often a reboot was asked for cannot be kept"), "{log}");
}
