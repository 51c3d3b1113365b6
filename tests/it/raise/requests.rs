//! What becomes of a request: damaged info files, restarts of the signaller, a stop of the site.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use nix::sys::{signal::Signal, stat::Mode};

use super::{INFO, WEB, done, finish, path, signal, up};
use crate::{
    cli::site::{Site, json},
    sys_world::until,
};

#[test]
fn no_info_file_is_so_broken_that_it_holds_up_what_is_asked_for() {
    let puts: [&dyn Fn(&Path); 7] = [
        &|_| {},
        &|path| fs::create_dir(path).unwrap(),
        &|path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap(),
        &|path| symlink("/dev/zero", path).unwrap(),
        &|path| fs::write(path, "x: y\n".repeat(1 << 18)).unwrap(),
        &|path| fs::write(path, b"\xff\xfe\0\x1b[2J: \xc3\n\n:::\n").unwrap(),
        &|path| {
            fs::write(path, "Name: x\n").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
        },
    ];
    for put in puts {
        let site = up(&format!("{INFO}, latch: false, action: 'restart:web', acknowledge: keep"));
        put(&path(&site, "info"));
        let mut flock = Command::new("flock");
        flock.args(["-n", "--no-fork"]).arg(path(&site, "lock")).args(["sleep", "1000"]);
        let mut holder = flock.spawn().unwrap();
        site.wait_log("semaphore:ask: does restart:web");
        assert!(site.log().lines().all(|line| !line.contains('\u{1b}')));
        holder.kill().ok();
        holder.wait().unwrap();
    }
}

#[test]
fn the_status_answers_by_its_exit_code_and_says_what_was_written() {
    let site = up(&format!("{INFO}, delay: 1h, action: 'restart:web'"));
    site.expect(1, &["semaphore", "status", "ask"]);
    let args = ["semaphore", "raise", "ask", "--info", "name=Bot", "--info", "Reason=watchdog"];
    let waiting = site.background(&args);
    site.wait_log("Reason=watchdog, timestamp=2");
    let page = site.expect(0, &["semaphore", "status", "ask"]).out;
    for line in ["        name: Bot\n", "      Reason: watchdog\n"] {
        assert!(page.contains(line), "{page}");
    }
    let status = json(&site.expect(0, &["semaphore", "status", "ask", "--json"]).out);
    let holder = &status["holders"][0];
    assert_eq!(holder["pid"], waiting.id());
    assert_eq!(holder["uid"], nix::unistd::getuid().as_raw());
    assert!(holder["command"].as_str().unwrap().contains("semaphore raise ask"));
    assert!(status["last_raised"].is_string());
    signal(&waiting, Signal::SIGINT);
    finish(waiting);
    until("it is clear", || site.run(&["semaphore", "status", "ask"]).code == Some(1));
    symlink("/etc/passwd", path(&site, "lock")).unwrap();
    until("it cannot be told", || site.run(&["semaphore", "status", "ask"]).code == Some(2));
}

#[test]
fn every_request_is_in_the_log_and_in_the_events() {
    let site = up(&format!("{INFO}, delay: 1s, action: 'restart:web'"));
    site.expect(0, &["semaphore", "raise", "ask", "--info", "name=done"]);
    site.expect(1, &["semaphore", "raise", "ask", "--info", "name=late", "--timeout", "200ms"]);
    site.wait_log("cancelled: it is no longer raised");
    let waiting = site.background(&["semaphore", "raise", "ask", "--info", "name=undone"]);
    site.wait_log("name=undone");
    site.expect(0, &["semaphore", "clear", "ask"]);
    finish(waiting);
    let events = site.expect(0, &["events"]).out;
    let of_it: Vec<_> = events.lines().filter(|line| line.contains(" semaphore:ask: ")).collect();
    let mut expected = [
        ("semaphore.raised", "name=done"),
        ("semaphore.acted", "does restart:web"),
        ("semaphore.raised", "name=late"),
        ("semaphore.cancelled", "it is no longer raised"),
        ("semaphore.raised", "name=undone"),
        ("semaphore.cancelled", "asked by uid "),
    ]
    .into_iter();
    let mut wanted = expected.next();
    for line in of_it {
        if wanted.is_some_and(|(event, text)| line.contains(event) && line.contains(text)) {
            wanted = expected.next();
        }
    }
    assert_eq!(wanted, None, "{events}");
    for text in ["name=done", "name=late", "name=undone", "asked by uid "] {
        site.wait_log(text);
    }
}

#[test]
fn a_stop_of_the_site_does_nothing_of_what_is_pending() {
    for how in [Signal::SIGTERM, Signal::SIGINT] {
        let mut site = up("delay: 1s, action: 'restart:web'");
        let waiting = site.background(&["semaphore", "raise", "ask", "--timeout", "15s"]);
        site.wait_log("acts in 1s (delay)");
        nix::sys::signal::kill(site.pid(), how).unwrap();
        assert_eq!(site.supervisor.take().unwrap().wait().unwrap().code(), Some(0));
        site.wait_log("stopping the site (");
        site.wait_log("stopped, exit 0");
        assert_eq!(done(&site), 0);
        signal(&waiting, Signal::SIGINT);
        finish(waiting);
    }
}

/// The bot is a program of the site: it asks while a file is there, as long as it lives.
const BOT: &str = "
import fcntl, os, sys, time
if os.path.exists('DIR/ask'):
    fd = os.open('DIR/lock', os.O_CREAT | os.O_WRONLY, 0o644)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open('DIR/info', 'w') as info:
        info.write('Demandé par: bot\\\\n')
    os.unlink('DIR/ask')
print('bot is up', flush=True)
time.sleep(1000)
";

#[test]
fn a_restart_of_the_bot_neither_loses_nor_fakes_a_request() {
    let site = Site::written(WEB);
    let dir = site.dir.path().to_str().unwrap();
    let bot = BOT.replace("DIR", dir).replace('\n', "\\n").replace('"', "\\\"");
    let ask = format!("ask: {{path: DIR/lock, {INFO}, delay: 3s, action: 'restart:web'}}");
    let text = format!(
        "{WEB}\n  bot: {{command: [python3, -c, \"{bot}\"]}}\nsemaphores:\n  {}",
        ask.replace("DIR", dir)
    );
    site.write(&text);
    let site = site.started();
    site.wait_log("semaphore:ask: armed");
    site.wait_output("bot", "bot is up");
    site.expect(0, &["restart", "bot"]);
    assert!(!site.log().contains("semaphore:ask: raised"), "{}", site.log());
    fs::write(path(&site, "ask"), "").unwrap();
    site.expect(0, &["restart", "bot"]);
    site.wait_log("semaphore:ask: raised by ");
    until("it has said who asks", || path(&site, "info").exists());
    until("it was read", || {
        let status = site.run(&["semaphore", "status", "ask"]).out;
        status.contains("name: bot")
    });
    // Its lock goes with it; what it wrote stays.
    site.expect(0, &["restart", "bot"]);
    site.wait_log("semaphore:ask: does restart:web");
    assert!(!site.log().contains("cancelled"), "{}", site.log());
    site.expect(0, &["restart", "bot"]);
    assert_eq!(done(&site), 1);
}

#[test]
fn each_of_several_does_what_it_is_for() {
    let site = Site::written(WEB);
    let dir = site.dir.path().to_str().unwrap();
    let one = |name: &str, action: &str| format!("  {name}: {{path: {dir}/{name}, {action}}}\n");
    let text = [
        format!("{WEB}\n  db: {{command: [sleep, '1000']}}\nsemaphores:\n"),
        one("again", "action: 'restart:web'"),
        one("down", "action: 'stop:db'"),
        one("read", "type: file, action: reload"),
        one("lock", "action: none"),
    ];
    site.write(&text.concat());
    let site = site.started();
    for name in ["again", "down", "read", "lock"] {
        site.wait_log(&format!("semaphore:{name}: armed"));
    }
    let before = site.expect(0, &["pid", "web"]).out;
    site.expect(0, &["semaphore", "raise", "down"]);
    site.wait_state("db", "STOPPED");
    assert_eq!(site.expect(0, &["pid", "web"]).out, before);
    site.expect(0, &["semaphore", "raise", "read"]);
    site.wait_log("reloaded: 0 added");
    site.expect(0, &["semaphore", "hold", "lock", "--", "true"]);
    assert_eq!(site.expect(0, &["pid", "web"]).out, before);
    site.expect(0, &["semaphore", "raise", "again"]);
    until("a new life", || {
        let pid = site.run(&["pid", "web"]).out;
        !pid.is_empty() && pid != before
    });
    assert_eq!(site.state("db"), "STOPPED");
}
