//! `supervisor -c FILE -- CMD`: the command beside the programs of a site.

use crate::e2e::harness::Plan;

const WEB: &str = "  web: {command: [sh, -c, \"trap 'echo bye; exit' TERM; echo up; while :; do sleep 1000 & wait; done\"]}";

fn plan(words: &[&str]) -> Plan {
    words.iter().fold(Plan::new(WEB), |plan, word| plan.arg(word))
}

#[test]
fn the_command_is_essential_and_its_exit_is_ours() {
    let (code, out, log) = plan(&["--", "sh", "-c", "echo \"a  b\"; exit 4"]).env("FOO", "1").run();
    assert_eq!(code, 4, "{log}");
    assert!(out.contains("a  b"), "{out}");
    assert!(
        log.contains("web: stopped") && log.contains("an essential program has ended"),
        "{log}"
    );
    let mapped = plan(&["-e", "4", "--", "sh", "-c", "exit 4"]).run();
    assert_eq!(mapped.0, 0, "{}", mapped.2);
}

#[test]
fn a_stop_gives_the_exit_of_the_command_and_stops_the_rest() {
    let script = "trap 'echo asked; exit 9' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let mut site = plan(&["--", "bash", "-c", script]).start();
    site.stdout.wait_for("ready", |line| line == "ready");
    site.stdout.wait_for("up", |line| line == "web | up");
    site.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(site.end_by_itself(), 9);
    assert!(site.stdout.text().contains("asked") && site.stdout.text().contains("web | bye"));
}

#[test]
fn what_means_nothing_to_us_is_passed_on_rewritten() {
    let script = "trap 'echo winch' WINCH; trap 'echo prof' PROF; trap 'echo quit; exit 3' QUIT; echo ready; while :; do sleep 0.05; done";
    let mut site = plan(&["--rewrite", "TERM:QUIT,URG:PROF", "--", "bash", "-c", script]).start();
    site.stdout.wait_for("ready", |line| line == "ready");
    site.signal(nix::sys::signal::Signal::SIGWINCH);
    site.stdout.wait_for("winch", |line| line == "winch");
    site.signal(nix::sys::signal::Signal::SIGURG);
    site.stdout.wait_for("prof", |line| line == "prof");
    site.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(site.end_by_itself(), 3);
    assert!(site.stdout.text().contains("quit"));
}

#[test]
fn the_command_keeps_what_we_were_started_with() {
    let (code, out, log) = plan(&["--", "sh", "-c", "env; pwd; readlink /proc/self/fd/0"])
        .env("FOO", "a b")
        .env("NOTIFY_SOCKET", "/nonexistent")
        .env("LISTEN_FDS", "1")
        .run();
    assert_eq!(code, 0, "{log}");
    for line in ["FOO=a b", "LISTEN_FDS=1", "SUPERVISOR_PROGRAM=command", "/dev/null"] {
        assert!(out.lines().any(|l| l == line), "{line}: {out}");
    }
    assert!(!out.contains("NOTIFY_SOCKET"), "{out}");
}

#[test]
fn a_site_with_such_a_program_or_a_missing_command_is_told() {
    let taken = Plan::new("  command: {command: [sleep, '1000']}").arg("--").arg("true");
    let (code, _, err) = taken.run();
    assert_eq!(code, 78);
    assert!(err.contains("a program of the site is called command"), "{err}");
    let (code, _, log) = plan(&["--", "/nonexistent/x"]).run();
    assert_eq!(code, 127, "{log}");
}

#[test]
fn what_the_command_leaves_behind_has_time_to_clean_up_here_too() {
    let script = "(trap 'sleep 0.3; echo CLEANED; exit' TERM; echo up; while :; do sleep 0.05; done) & \
                  read x < <(sleep 0.3); exit 5";
    let (code, out, log) = plan(&["--", "bash", "-c", script]).run();
    assert_eq!(code, 5, "{log}");
    assert!(out.contains("CLEANED"), "{out} {log}");
}
