//! What becomes of a raise while a supervisor runs.

use std::{fs, os::unix::fs::PermissionsExt as _};

use nix::sys::signal::Signal;

use super::{INFO, done, finish, inode, left, path, signal, up};
use crate::{
    cli::site::{Site, json},
    sys_world::until,
};

#[test]
fn a_raise_is_accepted_and_its_files_are_gone() {
    let site = up(&format!("{INFO}, action: 'restart:web'"));
    let args = ["semaphore", "raise", "ask", "--info", "name=Bot", "--info", "node_id=0xFF"];
    let ran = site.expect(0, &args);
    assert_eq!((&*ran.out, &*ran.err), ("ask: accepted: restart:web\n", ""));
    let line = site.wait_log("semaphore:ask: raised by ");
    // It was read before it was acted upon, though that was at once.
    assert!(line.contains("): name=Bot, node_id=0xFF, timestamp=2"), "{line}");
    until("both files are gone", || left(&site).is_empty());
    let document = json(&site.expect(0, &["semaphore", "raise", "ask", "--json"]).out);
    assert_eq!(document["result"], "accepted");
    assert_eq!(document["action"], "restart:web");
    assert_eq!(done(&site), 2);
}

#[test]
fn the_info_file_is_that_of_the_bot_and_for_the_signaller_alone_to_write() {
    let site = up(&format!("{INFO}, delay: 1h, action: 'restart:web'"));
    let waiting = site.background(&["semaphore", "raise", "ask", "--info", "name=Tigro"]);
    site.wait_log("acts in 1h (delay)");
    let info = path(&site, "info");
    let text = fs::read_to_string(&info).unwrap();
    let [first, second] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert_eq!(first, "Demandé par: Tigro");
    let stamp = second.strip_prefix("Timestamp: ").unwrap();
    let shape: String = stamp.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "9999-99-99 99:99:99");
    assert_eq!(fs::metadata(&info).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(fs::metadata(path(&site, "lock")).unwrap().permissions().mode() & 0o7777, 0o600);
    let status = json(&site.expect(0, &["semaphore", "status", "ask", "--json"]).out);
    assert_eq!(status["state"], "PENDING");
    assert_eq!(status["waits_for"], "delay");
    assert_eq!(status["info"][0], serde_json::json!(["name", "Tigro"]));
    signal(&waiting, Signal::SIGTERM);
    assert_eq!(finish(waiting).code, Some(1));
}

#[test]
fn what_is_not_accepted_in_time_is_taken_back() {
    let site = up(&format!("{INFO}, delay: 1h, action: 'restart:web'"));
    let args = ["semaphore", "raise", "ask", "--timeout", "300ms"];
    let ran = site.expect(1, &args);
    assert!(ran.err.starts_with("ask: raised; restart:web in 1h (delay)\n"), "{ran:?}");
    assert!(
        ran.err.ends_with(
            "supervisor: cannot raise semaphore ask: not accepted within 0.3s; it is taken back\n"
        ),
        "{ran:?}"
    );
    assert_eq!(left(&site), [""; 0]);
    site.wait_log("semaphore:ask: cancelled: it is no longer raised");
    let error = json(&site.expect(1, &[&args[..], &["--json"]].concat()).err);
    assert_eq!(error["code"], "timeout");
    assert_eq!(done(&site), 0);
}

#[test]
fn whoever_is_interrupted_takes_it_back() {
    let site = up(&format!("{INFO}, delay: 1h, action: 'restart:web'"));
    for (n, how) in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().enumerate() {
        let waiting = site.background(&["semaphore", "raise", "ask"]);
        until("it is pending", || site.log().matches("(delay)").count() == n + 1);
        signal(&waiting, how);
        let ran = finish(waiting);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.ends_with("ask: interrupted; it is taken back\n"), "{ran:?}");
        assert_eq!(left(&site), [""; 0]);
        until("it is cancelled", || site.log().matches("cancelled").count() == n + 1);
    }
}

#[test]
fn what_is_no_longer_its_own_is_left_alone() {
    let site = up(&format!("{INFO}, delay: 1h, action: 'restart:web', acknowledge: keep"));
    fs::write(path(&site, "lock"), "").unwrap();
    let lock = inode(&path(&site, "lock"));
    let waiting = site.background(&["semaphore", "raise", "ask"]);
    site.wait_log("acts in 1h (delay)");
    fs::write(path(&site, "other"), "Demandé par: another\n").unwrap();
    fs::rename(path(&site, "other"), path(&site, "info")).unwrap();
    signal(&waiting, Signal::SIGINT);
    finish(waiting);
    assert_eq!(left(&site), ["info", "lock"]);
    assert_eq!(inode(&path(&site, "lock")), lock, "it was there before");
}

#[test]
fn who_comes_second_is_told_who_was_first_and_asks_for_nothing_more() {
    let site = up(&format!("{INFO}, delay: 1h, action: 'restart:web'"));
    let first = site.background(&["semaphore", "raise", "ask"]);
    site.wait_log("acts in 1h (delay)");
    let info = inode(&path(&site, "info"));
    let second = site.expect(0, &["semaphore", "raise", "ask", "--info", "name=second"]).out;
    let who = format!("ask: already raised by pid {} (", first.id());
    assert!(second.starts_with(&who) && second.contains("semaphore raise ask)"), "{second}");
    let document = json(&site.expect(0, &["semaphore", "raise", "ask", "--json"]).out);
    assert_eq!(document["result"], "already_raised");
    assert_eq!(document["holders"][0]["pid"], first.id());
    assert_eq!(inode(&path(&site, "info")), info, "the info of the first is replaced");
    signal(&first, Signal::SIGINT);
    finish(first);
}

#[test]
fn fifty_at_once_are_one_request() {
    let site = up("debounce: 6s, action: 'restart:web'");
    let all: Vec<_> = (0..50).map(|_| site.background(&["semaphore", "raise", "ask"])).collect();
    let mut accepted = 0;
    for one in all {
        let ran = finish(one);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        accepted += usize::from(ran.out.starts_with("ask: accepted"));
        assert!(ran.out.starts_with("ask: a"), "{ran:?}");
    }
    assert_eq!((accepted, done(&site)), (1, 1), "{}", site.log());
}

#[test]
fn one_raise_after_the_other_is_heard_each_time_though_the_lock_file_stays() {
    let site = up("action: 'restart:web', acknowledge: keep");
    for n in 1..=15 {
        site.expect(0, &["semaphore", "raise", "ask"]);
        until("it is in the log", || done(&site) >= n);
        assert_eq!(done(&site), n);
    }
}

#[test]
fn a_clear_by_hand_is_told_to_whoever_raised_it() {
    let site = up(&format!("{INFO}, delay: 1h, action: 'restart:web'"));
    let waiting = site.background(&["semaphore", "raise", "ask"]);
    site.wait_log("acts in 1h (delay)");
    site.expect(0, &["semaphore", "clear", "ask"]);
    let ran = finish(waiting);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("cannot raise semaphore ask: cancelled: asked by uid "), "{ran:?}");
    assert_eq!((left(&site), done(&site)), (Vec::new(), 0));
}

#[test]
fn what_cannot_be_done_is_told_to_whoever_raised_it() {
    let site = Site::written("");
    site.write(&format!(
        "  spare: {{command: [sleep, '1'], enabled: false}}\nsemaphores:\n  \
         ask: {{path: {}, action: 'restart:spare'}}",
        path(&site, "lock").display()
    ));
    let site = site.started();
    site.wait_log("semaphore:ask: armed");
    let ran = site.expect(1, &["semaphore", "raise", "ask"]);
    assert!(ran.err.contains("cannot do restart:spare: spare is disabled"), "{ran:?}");
}

#[test]
fn a_file_that_asks_by_being_there_is_made_and_taken_back() {
    let site = up("type: file, action: 'restart:web'");
    site.expect(0, &["semaphore", "raise", "ask"]);
    until("it is consumed", || left(&site).is_empty());
    assert_eq!(done(&site), 1);
    let site = up("type: file, delay: 1h, action: 'restart:web'");
    let waiting = site.background(&["semaphore", "raise", "ask"]);
    site.wait_log("acts in 1h (delay)");
    let second = site.expect(0, &["semaphore", "raise", "ask"]).out;
    assert!(second.starts_with("ask: already raised by the file of "), "{second}");
    signal(&waiting, Signal::SIGINT);
    assert_eq!((finish(waiting).code, left(&site)), (Some(1), Vec::new()));
}

#[test]
fn mistakes_are_said_before_anything_is_touched() {
    let site = up("action: 'restart:web'");
    let none = site.expect(5, &["semaphore", "raise", "aks"]);
    assert!(none.err.contains("no semaphore is called aks\nhint: there are: ask\n"), "{none:?}");
    let info = site.expect(2, &["semaphore", "raise", "ask", "--info", "a=b"]);
    assert!(info.err.contains("it has no info_file"), "{info:?}");
    for bad in ["a", "a=b\nc: d", "a=\u{1b}[2J", "a:b=c"] {
        site.expect(2, &["semaphore", "raise", "ask", "--info", bad]);
    }
    let dry = site.expect(0, &["semaphore", "raise", "ask", "--dry-run"]).out;
    let expected =
        format!("would lock {}, which asks for restart:web (ask)\n", path(&site, "lock").display());
    assert_eq!(dry, expected);
    assert_eq!((left(&site), done(&site)), (Vec::new(), 0));
}

#[test]
fn on_a_terminal_the_time_that_is_left_is_counted() {
    let site = up("delay: 4s, action: 'restart:web'");
    let mut terminal = site.on_terminal(60, &["semaphore", "raise", "ask"]);
    terminal.wait_for("ask: raised; restart:web in 4s (delay)");
    terminal.wait_for("in 3s (delay)").wait_for("in 2s (delay)").wait_for("accepted");
    let (code, seen) = terminal.end();
    assert_eq!(code, Some(0));
    assert!(seen.ends_with("\r\u{1b}[Kask: accepted: restart:web\n"), "{seen:?}");
    let mut terminal = site.on_terminal(60, &["semaphore", "raise", "ask"]);
    terminal.wait_for("in 4s (delay)").types("\u{3}");
    assert_eq!(terminal.end().0, Some(1));
    assert_eq!(left(&site), [""; 0]);
}
