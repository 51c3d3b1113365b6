//! The command line, through the binary, against a supervisor that runs.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the binary is driven from outside, as a user drives it"
)]

mod answers;
mod health;
mod help;
mod places;
mod rights;
pub(crate) mod site;
mod streams;
mod terminal;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use self::site::{Ran, Site, bare, ended, json};

const STUBBORN: &str = "trap '' TERM; echo up; while :; do read -t 1000 x <> /dev/zero; done";

fn programs() -> String {
    format!(
        r#"
  web: {{command: [sleep, "1000"], description: "the web", tags: [front], reload: {{signal: URG}}}}
  worker: {{command: [sleep, "1000"], autostart: false, variants: {{fast: {{args: ["1"]}}}}}}
  robot: {{command: [sleep, "1000"], stop: {{confirm: true}}}}
  talker: {{command: [sh, -c, "printf 'one\\ntwo\\n\\033[31mthree\\n'; exec sleep 1000"]}}
  stubborn: {{command: [bash, -c, "{STUBBORN}"], autostart: false, stop: {{timeout: 2s}}}}
  broken: {{command: [/nonexistent/program], autostart: false, restart: {{policy: never}}}}
"#
    )
}

#[test]
fn programs_are_shown_started_stopped_and_restarted() {
    let site = Site::up(&programs());
    let table = site.expect(0, &["status"]).out;
    assert_eq!(table.lines().count(), 6, "{table}");
    assert!(table.contains("web                  RUNNING   pid "), "{table}");
    assert!(!table.contains('\u{1b}'), "no colour without a terminal");
    assert!(site.expect(0, &["status", "web"]).out.starts_with("● web - the web\n"));
    site.expect(3, &["status", "worker"]);
    site.expect(4, &["status", "nobody"]);
    assert!(site.expect(0, &["start", "worker"]).out.contains("worker               RUNNING"));
    site.expect(0, &["status", "worker"]);
    let before = site.expect(0, &["pid", "worker"]).out;
    site.expect(0, &["restart", "w*"]);
    assert_ne!(before, site.expect(0, &["pid", "worker"]).out);
    site.expect(0, &["stop", "tag:front"]);
    assert_eq!(site.state("web"), "STOPPED");
    site.expect(1, &["pid", "web"]);
    let dry = site.expect(0, &["start", "web", "--dry-run"]);
    assert!(dry.out.contains("web"), "{dry:?}");
    assert_eq!(site.state("web"), "STOPPED");
    let refused = site.expect(5, &["stop", "wep"]);
    assert_eq!(
        refused.err,
        "supervisor: cannot stop wep: no program is called wep\nhint: did you mean web?\n"
    );
    site.expect(1, &["start", "broken"]);
    site.expect(0, &["reset", "broken"]);
    site.expect(5, &["start", "worker", "--variant", "none"]);
    site.expect(0, &["signal", "CONT", "worker"]);
    site.expect(1, &["signal", "CONT", "web"]);
}

#[test]
fn what_asks_for_confirmation_is_stopped_only_with_a_yes() {
    let site = Site::up(&programs());
    let refused = site.expect(1, &["stop", "robot"]);
    assert_eq!(
        refused.err,
        "supervisor: cannot stop robot: not confirmed: stop robot?\nhint: say --yes to do it\n"
    );
    site.expect(1, &["restart", "robot"]);
    assert_eq!(site.state("robot"), "RUNNING");
    site.expect(0, &["restart", "robot", "--yes"]);
    site.expect(0, &["stop", "robot", "-y"]);
    site.expect(0, &["start", "robot"]);
    site.expect(0, &["stop", "robot", "--force"]);
    assert_eq!(site.state("robot"), "STOPPED");
}

#[test]
fn who_does_not_wait_does_not_end_the_operation() {
    let site = Site::up(&programs());
    site.expect(0, &["start", "stubborn"]);
    site.wait_output("stubborn", "up");
    let patience = site.expect(1, &["stop", "stubborn", "--timeout", "100ms"]);
    assert!(patience.err.contains("waiting for stubborn (pid "), "{patience:?}");
    assert!(patience.err.contains("s of 2s, then SIGKILL)"), "{patience:?}");
    assert!(patience.err.contains("the operation continues"), "{patience:?}");
    site.wait_state("stubborn", "STOPPED");
    site.expect(0, &["start", "stubborn"]);
    site.expect(0, &["stop", "stubborn", "--no-wait"]);
    site.expect(0, &["stop", "stubborn", "--force"]);
}

#[test]
fn an_interrupt_detaches_and_the_stop_goes_on() {
    let site = Site::up(&programs());
    site.expect(0, &["start", "stubborn"]);
    site.wait_output("stubborn", "up");
    let mut waiting = site.background(&["stop", "stubborn"]);
    let mut first = String::new();
    BufReader::new(waiting.stderr.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("waiting for stubborn"), "{first}");
    let pid = Pid::from_raw(i32::try_from(waiting.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(ended(waiting).code, Some(1));
    site.wait_state("stubborn", "STOPPED");
}

#[test]
fn mistakes_on_the_command_line_are_usage() {
    let site = Site::written("  a: {command: [sleep, \"1\"]}");
    for args in [&["bogus"][..], &["--bogus"], &["stop"], &["signal", "NOPE", "a"], &["-q", "-v"]] {
        let ran = site.expect(2, args);
        assert!(ran.err.starts_with("supervisor: cannot read the command line: "), "{ran:?}");
        assert!(ran.out.is_empty());
        assert!(!ran.err.contains("mean logs"), "{ran:?}");
    }
    assert!(site.expect(2, &["stauts"]).err.contains("did you mean status?"));
    let error = json(&site.expect(2, &["--json", "bogus"]).err);
    assert_eq!((&error["code"], &error["exit"]), (&"usage".into(), &2.into()));
    let bad = site.expect(2, &["stop", "a", "--timeout", "10"]).err;
    assert!(bad.contains("10s or 10m"), "{bad}");
}

#[test]
fn without_a_supervisor_that_is_said_with_the_command_that_starts_it() {
    let site = Site::written("  a: {command: [sleep, \"1\"]}");
    let ran = site.expect(7, &["stop", "a"]);
    let file = site.file();
    assert_eq!(
        ran.err,
        format!(
            "supervisor: no supervisor is running for this site\n\
             hint: start it with: supervisor -c {}\n",
            file.display()
        )
    );
    site.expect(3, &["status"]);
    let error = json(&site.expect(7, &["stop", "a", "--json"]).err);
    assert_eq!(error["code"], "no_supervisor");
    let version = site.expect(0, &["version"]).out;
    assert!(version.ends_with("running: none\n"), "{version}");
}

#[test]
fn the_supervisor_is_found_by_socket_environment_and_file() {
    let site = Site::up(&programs());
    let (file, socket) = (site.file(), site.socket());
    let (file, socket) = (file.to_str().unwrap(), socket.to_str().unwrap());
    for args in [
        ["-c", file, "status", "web"],
        ["status", "web", "-c", file],
        ["-s", socket, "status", "web"],
        ["status", "-s", socket, "web"],
    ] {
        let ran: Ran = bare(&args).output().unwrap().into();
        assert_eq!(ran.code, Some(0), "{args:?} {ran:?}");
    }
    let ran: Ran = bare(&["status"]).env("SUPERVISOR_SOCKET", socket).output().unwrap().into();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let second = site.expect(73, &[]);
    let pid = site.supervisor.as_ref().unwrap().id().to_string();
    assert!(second.err.contains(&format!("pid {pid}")), "{second:?}");
}

#[test]
fn json_is_one_document_and_its_errors_one_object() {
    let site = Site::up(&programs());
    let status = json(&site.expect(0, &["status", "--json"]).out);
    assert_eq!(status["schema_version"], 1);
    assert_eq!(status["programs"].as_array().unwrap().len(), 6);
    assert_eq!(status["programs"][0]["state"], "STOPPED");
    let error = json(&site.expect(5, &["--json", "restart", "nobody"]).err);
    assert_eq!(error["code"], "no_such_name");
    assert!(json(&site.expect(0, &["stop", "web", "--json"]).out)["complete"].as_bool().unwrap());
    json(&site.expect(0, &["version", "--json"]).out);
    for line in site.expect(0, &["events", "--json"]).out.lines() {
        json(line);
    }
    for line in site.expect(0, &["logs", "--json"]).out.lines() {
        json(line);
    }
    assert_eq!(json(&site.expect(0, &["signal", "CONT", "robot", "--json"]).out)["ok"], true);
}

#[test]
fn logs_are_lines_without_control_characters() {
    let site = Site::up(&programs());
    site.wait_output("talker", "three");
    let logs = site.expect(0, &["logs", "talker"]).out;
    assert_eq!(logs, "one\ntwo\n\\u{1b}[31mthree\n");
    assert_eq!(site.expect(0, &["tail", "-n", "1", "talker"]).out, "\\u{1b}[31mthree\n");
    assert!(site.expect(0, &["logs", "t*"]).out.starts_with("talker | one\n"));
}

#[test]
fn what_follows_ends_with_the_supervisor() {
    let mut site = Site::up(&programs());
    let mut followers: Vec<Child> =
        [&["logs", "-f"][..], &["events", "-f"], &["status", "--watch"]]
            .into_iter()
            .map(|args| site.background(args))
            .collect();
    for follower in &mut followers {
        let mut byte = [0_u8; 1];
        follower.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    }
    let shutdown = site.expect(0, &["shutdown"]);
    assert!(!shutdown.err.contains("cannot"), "{shutdown:?}");
    for follower in followers {
        let ran = ended(follower);
        assert!(matches!(ran.code, Some(0 | 1)), "{ran:?}");
    }
    let mut supervisor = site.supervisor.take().unwrap();
    assert_eq!(supervisor.wait().unwrap().code(), Some(0), "{}", site.log());
    assert!(!site.socket().exists());
}

#[test]
fn a_pipe_that_is_closed_early_is_no_noise() {
    let site = Site::up(&programs());
    for args in [&["status"][..], &["schema"], &["events", "-f"], &["completions", "bash"]] {
        // Nobody can read before the command begins: how quick it is does not matter.
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        let mut command = site.command(args);
        command.stdin(Stdio::null()).stdout(writer);
        let ran: Ran = command.output().unwrap().into();
        assert_eq!((ran.code, &*ran.err), (Some(141), ""), "{args:?}");
    }
}

#[test]
fn a_reload_prints_the_difference_and_an_invalid_file_changes_nothing() {
    let site = Site::up("  a: {command: [sleep, \"1000\"]}\n  b: {command: [sleep, \"1000\"]}");
    assert_eq!(site.expect(0, &["reload"]).out, "nothing has changed\n");
    site.write("  a: {command: [sleep, \"1001\"]}\n  c: {command: [sleep, \"1000\"]}");
    let expected = "+ c added\n- b removed\n~ a restarted (command)\n";
    assert_eq!(site.expect(0, &["reread"]).out, expected);
    assert_eq!(site.expect(0, &["reload", "--dry-run"]).out, expected);
    assert_eq!(site.state("b"), "RUNNING");
    assert_eq!(site.expect(0, &["update"]).out, expected);
    site.wait_state("c", "RUNNING");
    site.write("  a: {comand: x}");
    let refused = site.expect(78, &["reload"]);
    assert!(refused.err.contains("comand"), "{refused:?}");
    assert_eq!(site.state("c"), "RUNNING");
    let none = site.expect(1, &["reload", "c"]);
    assert!(none.err.contains("c has no reload"), "{none:?}");
}

#[test]
fn a_site_file_is_checked_shown_and_described() {
    let site = Site::written(&programs());
    let name = site.file();
    let ok = format!("{}: ok (6 programs)\n", name.display());
    assert_eq!(site.expect(0, &["check"]).out, ok);
    assert_eq!(site.expect(0, &["-t"]).out, ok);
    assert!(site.expect(0, &["show-config"]).out.contains("start_timeout"));
    assert!(site.expect(0, &["show-config", "--origin"]).out.contains("site.yaml"));
    json(&site.expect(0, &["show-config", "--json"]).out);
    json(&site.expect(0, &["schema"]).out);
    for shell in ["bash", "zsh", "fish"] {
        let script = site.expect(0, &["completions", shell]).out;
        assert!(script.contains("restart"), "{shell}");
    }
    site.write("  a: {comand: x}\n  b: {command: [x], restart: {delay: 10}}");
    let ran = site.expect(78, &["check"]);
    assert!(ran.err.ends_with("3 errors, 0 warnings\n"), "{ran:?}");
    let document = json(&site.expect(78, &["check", "--json"]).out);
    assert_eq!(document["ok"], false);
    assert_eq!(document["findings"].as_array().unwrap().len(), 3);
    site.expect(78, &[]);
    let missing: Ran = bare(&["-c", "/nonexistent.yaml", "check"]).output().unwrap().into();
    assert_eq!(missing.code, Some(78), "{missing:?}");
}
