//! What verbs answer and with which exit code; what they must not do.

use std::fs;

use super::{
    programs,
    site::{Ran, Site, bare, json},
};

#[test]
fn each_exit_code_of_a_supervisor_is_the_documented_one() {
    let essential = |command: &str| {
        let policy = "restart: {policy: never}";
        let program = format!("  a: {{command: {command}, essential: true, {policy}}}");
        Site::written(&program).run(&[]).code
    };
    for (command, code) in [
        ("[\"true\"]", 0),
        ("[sh, -c, \"exit 7\"]", 7),
        ("[sh, -c, \"kill -KILL $$$$\"]", 137),
        ("[sh, -c, \"kill -TERM $$$$\"]", 143),
        ("[/nonexistent/program]", 127),
        ("[/etc/passwd]", 126),
    ] {
        assert_eq!(essential(command), Some(code), "{command}");
    }
    let site = Site::written(&programs());
    site.expect(2, &["--bogus"]);
    site.write_with(", pid_file: /nonexistent/pid", &programs());
    site.expect(1, &[]);
    site.write("  a: {comand: x}");
    site.expect(78, &[]);
    let mut site = Site::up(&programs());
    site.expect(73, &[]);
    assert_eq!(site.end(), Some(0), "by TERM");
    let panicking = Site::written("  a: {command: [sleep, \"1000\"]}");
    let mut command = panicking.command(&[]);
    command.env("SUPERVISOR_TEST_PANIC", "control");
    let mut panicking = panicking.started_by(command);
    panicking.run(&["status"]);
    assert_eq!(panicking.supervisor.take().unwrap().wait().unwrap().code(), Some(70));
}

#[test]
fn each_exit_code_of_a_verb_is_the_documented_one() {
    let site = Site::up(&programs());
    for (code, args) in [
        (0, &["status"][..]),
        (0, &["restart", "web"]),
        (1, &["start", "broken"]),
        (1, &["pid", "worker"]),
        (2, &["restart"]),
        (2, &["status", "--output", "colour"]),
        (3, &["status", "worker"]),
        (4, &["status", "nobody"]),
        (5, &["restart", "nobody"]),
        (5, &["start", "web", "--variant", "nope"]),
        (0, &["check"]),
    ] {
        site.expect(code, args);
    }
    site.write("  a: {comand: x}");
    for args in [&["check"][..], &["reload"], &["reread"], &["show-config"], &["-t"]] {
        site.expect(78, args);
    }
    let down = Site::written(&programs());
    down.expect(3, &["status"]);
    for verb in [&["stop", "web"][..], &["logs"], &["events"], &["shutdown"], &["reload"]] {
        down.expect(7, verb);
    }
    // 4, not permitted, needs another user: `cli::rights`.
}

#[test]
fn a_dry_run_touches_nothing_whatever_the_verb() {
    let site = Site::up(&programs());
    site.wait_state("web", "RUNNING");
    let before = site.expect(0, &["pid", "web"]).out;
    for (args, expected) in [
        (&["stop", "web"][..], "web                  RUNNING\n"),
        (&["restart", "web"], "web                  RUNNING\n"),
        (&["start", "worker"], "worker               STOPPED\n"),
        (&["signal", "KILL", "web"], "web                  RUNNING\n"),
        (&["reset", "worker"], "worker               STOPPED\n"),
        (&["reload", "web"], "web                  RUNNING\n"),
        (&["reload"], "nothing has changed\n"),
        (
            &["shutdown"],
            "robot                RUNNING\ntalker               RUNNING\n\
             web                  RUNNING\n",
        ),
        (
            &["shutdown", "--force"],
            "robot                RUNNING\ntalker               RUNNING\n\
             web                  RUNNING\n",
        ),
    ] {
        let dry = [args, &["--dry-run"]].concat();
        assert_eq!(site.expect(0, &dry).out, expected, "{args:?}");
        if args.len() > 1 {
            let dry = [&["--json"], &dry[..]].concat();
            assert_eq!(json(&site.expect(0, &dry).out)["complete"], true);
        }
    }
    site.expect(5, &["signal", "KILL", "nobody", "--dry-run"]);
    assert_eq!(site.expect(0, &["pid", "web"]).out, before);
}

#[test]
fn pids_are_for_scripts() {
    let site = Site::up(
        "  w: {command: [sleep, \"1000\"], instances: 2}\n  x: {command: [sleep, \"9\"], autostart: false}",
    );
    let pids = site.expect(0, &["pid", "w@*"]).out;
    assert!(pids.lines().count() == 2 && pids.lines().all(|l| l.parse::<u32>().is_ok()), "{pids}");
    let all = site.expect(1, &["pid", "all"]);
    assert_eq!(all.out, pids);
    assert_eq!(
        all.err,
        "supervisor: cannot show the pid of all: not running: x\nhint: supervisor status says why\n"
    );
    let document = json(&site.expect(0, &["pid", "w@1", "--json"]).out);
    assert_eq!(document["pids"][0]["name"], "w@1");
    let own = json(&site.expect(0, &["pid", "--json"]).out);
    assert_eq!(own["pid"], site.pid().as_raw());
}

#[test]
fn why_a_supervisor_does_not_come_up_can_be_json() {
    let site = Site::up("  a: {command: [sleep, \"1000\"]}");
    let locked = json(&site.expect(73, &["--json"]).err);
    assert_eq!((&locked["code"], &locked["exit"]), (&"locked".into(), &73.into()));
    assert!(locked["message"].as_str().unwrap().starts_with("cannot supervise t: pid "));
    assert!(locked["hint"].is_string(), "{locked}");
    site.write("  a: {comand: x}");
    let invalid = json(&site.expect(78, &["--json"]).err);
    assert_eq!(invalid["code"], "invalid_site");
    assert!(invalid["message"].as_str().unwrap().contains("unknown key `comand`"), "{invalid}");
    let plain = site.expect(78, &[]).err;
    assert!(plain.ends_with("(hint: did you mean `command`?)\n"), "{plain:?}");
}

#[test]
fn ten_conflicting_commands_at_once_all_get_their_answer() {
    let site = Site::up(&programs());
    let verbs = ["start", "stop", "restart", "start", "stop", "restart", "reset", "stop", "start"];
    let all: Vec<_> = verbs.iter().map(|verb| site.background(&[verb, "web"])).collect();
    let reload = site.background(&["reload"]);
    for child in all.into_iter().chain([reload]) {
        let ran = super::ended(child);
        assert!(matches!(ran.code, Some(0 | 1)), "{ran:?}");
        assert!(!ran.err.contains("closed the connection"), "{ran:?}");
    }
    site.expect(0, &["start", "web"]);
    assert_eq!(site.state("web"), "RUNNING");
}

#[test]
fn a_variant_gives_its_arguments_and_environment() {
    let site = Site::up(
        r#"
  a:
    command: [sh, -c, "echo $$0 $$MODE; exec sleep 1000", plain]
    environment: {MODE: day}
    autostart: false
    variants: {fast: {args: [more], environment: {MODE: night}}}
"#,
    );
    site.expect(0, &["start", "a"]);
    site.wait_output("a", "plain day");
    site.expect(0, &["restart", "a", "--variant", "fast"]);
    site.wait_output("a", "plain night");
    let pid = site.expect(0, &["pid", "a"]).out;
    let line = fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap();
    assert!(line.starts_with(b"sleep"), "{line:?}");
    site.expect(0, &["restart", "a"]);
    site.wait_output("a", "plain day");
}

#[test]
fn what_cannot_be_written_is_an_error_and_not_a_closed_pipe() {
    let site = Site::written("  a: {command: [sleep, \"1\"]}");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran: Ran = site.command(&["check"]).stdout(full).output().unwrap().into();
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.err,
        "supervisor: cannot write to standard output: No space left on device (os error 28)\n"
    );
}

#[test]
fn a_site_without_programs_says_so() {
    let site = Site::up("");
    let ran = site.expect(0, &["status"]);
    assert_eq!((&*ran.out, &*ran.err), ("", "the site has no programs\n"));
    site.expect(5, &["stop", "web"]);
    site.expect(0, &["stop", "all"]);
    site.expect(0, &["shutdown"]);
}

#[test]
fn a_wait_that_is_short_is_no_news_and_one_that_lasts_is_said_once() {
    let site = Site::up(&programs());
    site.wait_state("web", "RUNNING");
    let quick = site.expect(0, &["stop", "web"]);
    assert_eq!((&*quick.out, &*quick.err), ("web                  STOPPED\n", ""));
    site.expect(0, &["start", "stubborn"]);
    site.wait_output("stubborn", "up");
    let slow = site.expect(0, &["stop", "stubborn"]);
    assert_eq!(slow.err.matches("s of 2s, then SIGKILL)").count(), 1, "{slow:?}");
}

#[test]
fn a_shutdown_says_what_it_waits_for() {
    let mut site = Site::up(&programs());
    site.expect(0, &["start", "stubborn"]);
    site.wait_output("stubborn", "up");
    let ran = site.expect(0, &["shutdown"]);
    assert!(ran.err.starts_with("waiting for stubborn (pid "), "{ran:?}");
    assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
    assert_eq!(site.supervisor.take().unwrap().wait().unwrap().code(), Some(0));
}

#[test]
fn mistakes_of_arguments_are_told_with_what_would_be_right() {
    for (args, expected) in [
        (
            &["status", "-o", "colour"][..],
            "invalid value 'colour' for '--output <A,B,C>'\n\
             hint: write one of: name, state, goal, pid, uptime, ready, healthy, restarts, exit, \
             reason, cpu, memory\n",
        ),
        (
            &["signal"],
            "it needs <SIG>, <NAME>...\nhint: usage: supervisor signal <SIG> <NAME>...\n",
        ),
        (
            &["events", "web"],
            "unexpected argument 'web' found\nhint: usage: supervisor events [OPTIONS]\n",
        ),
        (
            &["stop", ""],
            "a value is required for '<NAME>...' but none was supplied\n\
             hint: supervisor --help lists verbs and options\n",
        ),
    ] {
        let ran: Ran = bare(args).output().unwrap().into();
        assert_eq!(ran.code, Some(2));
        assert_eq!(ran.err, format!("supervisor: cannot read the command line: {expected}"));
    }
}
