//! `health`: what a HEALTHCHECK sees.

use std::os::unix::net::UnixListener;

use nix::sys::signal::{Signal, kill};

use super::site::{Ran, Site, bare, json};

const PROGRAMS: &str = r#"
  web: {command: [sleep, "1000"]}
  prepare: {type: oneshot, command: ["true"]}
  spare: {command: [sleep, "1000"], autostart: false}
"#;

#[test]
fn a_site_is_healthy_while_all_that_should_be_up_is() {
    let site = Site::up(PROGRAMS);
    site.wait_state("web", "RUNNING");
    site.wait_state("prepare", "EXITED");
    // What was never to start, and what has done its work, is as it should be.
    assert_eq!(site.expect(0, &["health"]).out, "OK: all 2 programs are running\n");
    assert_eq!(site.expect(0, &["health", "web"]).out, "OK: web is running\n");
    assert_eq!(json(&site.expect(0, &["health", "--json"]).out)["ok"], true);
    // Who asks by name wants to know whether it runs.
    let spare = site.expect(1, &["health", "spare"]).out;
    assert_eq!(spare, "ERROR: spare is not running (STOPPED: not started)\n");
    assert!(
        site.expect(1, &["health", "prepare"]).out.starts_with("ERROR: prepare is not running")
    );
    site.expect(0, &["stop", "web"]);
    site.expect(0, &["health"]);
    site.expect(1, &["health", "web"]);
    site.expect(5, &["health", "nobody"]);
}

#[test]
fn a_program_that_does_not_come_up_is_named_with_its_reason() {
    let site = Site::up(
        "  web: {command: [sleep, \"1000\"]}\n\
         \x20 broken: {command: [sh, -c, \"exit 3\"], restart: {policy: always, delay: 1h}}",
    );
    site.wait_state("broken", "BACKOFF");
    site.wait_state("web", "RUNNING");
    let ran = site.expect(1, &["health"]);
    assert!(ran.out.starts_with("ERROR: broken is not running (BACKOFF: exit 3 after "), "{ran:?}");
    assert_eq!(ran.out.lines().count(), 1, "{ran:?}");
    site.expect(0, &["health", "web"]);
    let document = json(&site.expect(1, &["health", "--json"]).out);
    assert_eq!(document["ok"], false);
    assert_eq!(document["errors"][0]["name"], "broken");
}

#[test]
fn a_supervisor_that_is_not_there_and_one_that_does_not_answer_are_told_apart() {
    let none = Site::written(PROGRAMS);
    let ran = none.expect(1, &["health"]);
    assert!(ran.out.starts_with("ERROR: supervisor is not running (no supervisor is "), "{ran:?}");
    let site = Site::up(PROGRAMS);
    kill(site.pid(), Signal::SIGSTOP).unwrap();
    let ran = site.run(&["health"]);
    kill(site.pid(), Signal::SIGCONT).unwrap();
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.out.starts_with("ERROR: supervisor is not responding (cannot speak to "),
        "{ran:?}"
    );
    // The same for somebody else at its socket, who hangs up.
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let thread = std::thread::spawn(move || drop(listener.accept()));
    let ran: Ran = bare(&["-s", socket.to_str().unwrap(), "health"]).output().unwrap().into();
    thread.join().unwrap();
    assert_eq!(ran.code, Some(2), "{ran:?}");
}
