//! Raising where no supervisor runs, or none may be asked: the file is all there is.

use std::fs;

use nix::sys::signal::Signal;

use super::{INFO, done, finish, left, path, signal, up, written};
use crate::{
    cli::site::{Ran, bare},
    e2e::harness::lock_is_free,
    sys_world::until,
};

#[test]
fn without_a_supervisor_the_removal_of_the_file_is_the_acceptance() {
    let site = written(&format!("{INFO}, action: 'restart:web'"));
    let waiting = site.background(&["semaphore", "raise", "ask", "--info", "name=Bot"]);
    until("it is raised", || left(&site) == ["info", "lock"]);
    assert!(fs::read_to_string(path(&site, "info")).unwrap().starts_with("Demandé par: Bot\n"));
    fs::remove_file(path(&site, "lock")).unwrap();
    let ran = finish(waiting);
    let said = "ask: raised; no supervisor runs: waiting until its file is removed\n";
    assert_eq!((ran.code, &*ran.err), (Some(0), said), "{ran:?}");
    assert_eq!(ran.out, "ask: accepted: its file was removed\n");
    assert_eq!(left(&site), [""; 0], "the info file that nobody took away");
}

#[test]
fn a_lock_that_is_replaced_is_one_that_nobody_looks_at_any_more() {
    let site = written("action: 'restart:web'");
    let waiting = site.background(&["semaphore", "raise", "ask"]);
    until("it is raised", || left(&site) == ["lock"] && !lock_is_free(&path(&site, "lock")));
    fs::write(path(&site, "new"), "").unwrap();
    fs::rename(path(&site, "new"), path(&site, "lock")).unwrap();
    assert_eq!(finish(waiting).code, Some(0));
    assert_eq!(left(&site), ["lock"], "that of another is removed");
}

#[test]
fn a_supervisor_that_starts_serves_whoever_waits() {
    let site = written("action: 'restart:web', acknowledge: keep");
    let waiting = site.background(&["semaphore", "raise", "ask"]);
    until("it is raised", || left(&site) == ["lock"] && !lock_is_free(&path(&site, "lock")));
    let site = site.started();
    let ran = finish(waiting);
    assert_eq!((ran.code, &*ran.out), (Some(0), "ask: accepted: restart:web\n"), "{ran:?}");
    assert_eq!(done(&site), 1);
}

#[test]
fn a_supervisor_that_ends_leaves_the_request_to_the_next_one() {
    let mut site = up("delay: 2s, action: 'restart:web', acknowledge: keep");
    let waiting = site.background(&["semaphore", "raise", "ask"]);
    site.wait_log("acts in 2s (delay)");
    assert_eq!(site.end(), Some(0));
    let site = site.started();
    let ran = finish(waiting);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.err.contains("ask: the supervisor has ended: waiting for another one\n"),
        "{ran:?}"
    );
    assert_eq!(done(&site), 1);
}

#[test]
fn it_is_taken_back_and_mistakes_are_told_as_with_a_supervisor() {
    let site = written(&format!("{INFO}, action: 'restart:web'"));
    site.expect(1, &["semaphore", "raise", "ask", "--timeout", "200ms"]);
    let waiting = site.background(&["semaphore", "raise", "ask"]);
    until("it is raised", || left(&site) == ["info", "lock"]);
    let second = site.expect(0, &["semaphore", "raise", "ask"]).out;
    assert!(second.starts_with("ask: already raised by pid "), "{second}");
    signal(&waiting, Signal::SIGINT);
    assert_eq!(finish(waiting).code, Some(1));
    assert_eq!(left(&site), [""; 0]);
    let none = site.expect(5, &["semaphore", "raise", "aks"]);
    assert!(none.err.contains("no semaphore is called aks\nhint: there are: ask\n"), "{none:?}");
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("no.sock");
    let args = ["-s", socket.to_str().unwrap(), "semaphore", "raise", "ask"];
    let ran: Ran = bare(&args).output().unwrap().into();
    assert_eq!(ran.code, Some(7), "{ran:?}");
    fs::write(site.file(), "version: 1\nprogram: {}\n").unwrap();
    let bad = site.expect(78, &["semaphore", "raise", "ask"]);
    assert!(bad.err.contains("there are mistakes in "), "{bad:?}");
}
