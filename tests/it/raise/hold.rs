//! `semaphore hold`: scripts that exclude each other.

use std::{fs, os::unix::fs::PermissionsExt as _};

use nix::sys::signal::Signal;

use super::{finish, path, signal, up, written};
use crate::{
    cli::site::{Site, bare, json},
    e2e::harness::lock_is_free,
    sys_world::until,
};

const HOLD: [&str; 2] = ["semaphore", "hold"];

fn hold<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&HOLD[..], words].concat()
}

fn lock() -> Site {
    up("action: none")
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let site = lock();
    for (script, code) in [("true", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        site.expect(code, &hold(&["ask", "--", "sh", "-c", script]));
    }
    let missing = site.expect(127, &hold(&["ask", "--", "/nonexistent"]));
    assert!(missing.err.contains("cannot run /nonexistent: "), "{missing:?}");
    let text = site.expect(0, &hold(&["ask", "--", "echo", "--timeout", "$HOME"])).out;
    assert_eq!(text, "--timeout $HOME\n", "the words of the command are not ours");
    site.expect(2, &hold(&["ask"]));
}

#[test]
fn while_it_is_held_the_status_says_by_whom_and_nothing_is_done() {
    let site = lock();
    let holder = site.background(&hold(&["ask", "--", "sleep", "1000"]));
    site.wait_log("info  semaphore:ask: held by ");
    let status = json(&site.expect(0, &["semaphore", "status", "ask", "--json"]).out);
    assert_eq!(status["state"], "RAISED");
    assert_eq!(status["action"], "none");
    assert_eq!(status["holders"][0]["pid"], holder.id());
    let page = site.expect(0, &["semaphore", "status", "ask"]).out;
    assert!(page.contains("        Does: nothing: it is a lock\n"), "{page}");
    assert!(path(&site, "lock").exists(), "a lock that is removed excludes nobody");
    signal(&holder, Signal::SIGTERM);
    assert_eq!(finish(holder).code, Some(143), "the signal is the command's");
    site.wait_log("semaphore:ask: clear");
    site.expect(1, &["semaphore", "status", "ask"]);
    let raised = site.expect(2, &["semaphore", "raise", "ask"]);
    assert!(raised.err.contains("hint: hold it: supervisor semaphore hold ask -- CMD"));
}

#[test]
fn two_never_run_at_once() {
    let site = written("action: none");
    // Whoever finds the mark of another one says so.
    let script = "mkdir \"$0\" || exit 9; for n in 1 2 3 4 5 6 7 8; do :; done; rmdir \"$0\"";
    let mark = path(&site, "mark");
    let args = hold(&["ask", "--quiet", "--", "sh", "-c", script, mark.to_str().unwrap()]);
    let all: Vec<_> = (0..20).map(|_| site.background(&args)).collect();
    for one in all {
        let ran = finish(one);
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
}

#[test]
fn another_holder_is_waited_for_as_long_as_is_said_and_named() {
    let site = written("action: none");
    let file = path(&site, "begun");
    let script = "touch \"$0\"; exec sleep 1000";
    let words = ["ask", "--", "sh", "-c", script, file.to_str().unwrap()];
    let holder = site.background(&hold(&words));
    until("it is held", || file.exists());
    let named = format!("cannot hold ask: it is held by pid {} (", holder.id());
    let refused = site.expect(1, &hold(&["ask", "--no-wait", "--", "true"]));
    assert!(refused.err.contains(&named), "{refused:?}");
    let late = site.expect(9, &hold(&["ask", "--timeout", "100ms", "-E", "9", "--", "true"]));
    assert!(late.err.contains("supervisor: waiting for ask: it is held by pid "), "{late:?}");
    assert!(late.err.contains(&named), "{late:?}");
    for timeout in [&[][..], &["--timeout", "1h"]] {
        let words = [&["ask"], timeout, &["--", "echo", "mine"]].concat();
        let waiting = site.background(&hold(&words));
        if timeout.is_empty() {
            // Who waits and gives up leaves the others alone.
            signal(&waiting, Signal::SIGINT);
            assert_eq!(finish(waiting).out, "");
            continue;
        }
        signal(&holder, Signal::SIGTERM);
        let ran = finish(waiting);
        assert_eq!((ran.code, &*ran.out), (Some(0), "mine\n"), "{ran:?}");
    }
    finish(holder);
}

#[test]
fn the_command_and_what_it_leaves_behind_do_not_have_the_lock() {
    let site = written("action: none");
    let file = path(&site, "lock");
    let fds = site.expect(0, &hold(&["ask", "--", "sh", "-c", "ls -l /proc/self/fd"])).out;
    assert!(!fds.contains("/lock"), "{fds}");
    let script = "sleep 1000 >/dev/null 2>&1 & echo $!";
    let left = site.expect(0, &hold(&["ask", "--", "sh", "-c", script])).out;
    assert!(crate::sys_world::lives(left.trim()), "it is ended");
    assert!(lock_is_free(&file));
    site.expect(0, &hold(&["ask", "--no-wait", "--", "kill", left.trim()]));
}

#[test]
fn a_path_is_a_lock_of_nobodys_site() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.lock");
    let hold = |words: &[&str]| -> crate::cli::site::Ran {
        let words = [&HOLD[..], &[file.to_str().unwrap()], words].concat();
        bare(&words).output().unwrap().into()
    };
    assert_eq!(hold(&["--", "true"]).code, Some(0));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    // The same lock as that of flock(1).
    let flock = "flock -n \"$0\" true; echo $?";
    let inside = hold(&["--", "sh", "-c", flock, file.to_str().unwrap()]);
    assert_eq!(inside.out, "1\n");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    let refused = hold(&["--", "true"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("is no file to lock: it is a symbolic link"), "{refused:?}");
}

#[test]
fn one_that_does_something_is_not_held_by_mistake() {
    let site = up("action: 'restart:web'");
    let refused = site.expect(2, &hold(&["ask", "--", "true"]));
    assert!(refused.err.contains("whoever holds it asks for restart:web"), "{refused:?}");
    let site = up("type: file, action: 'restart:web'");
    site.expect(2, &hold(&["ask", "--", "true"]));
}
