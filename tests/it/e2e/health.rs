//! Looks at whether programs serve, at real servers.

use std::fs;

use mini_supervisor::control::StateWord;

use super::harness::{Plan, Site, pids_with, program};
use crate::sys_world::until;

/// Answers as its third argument says, or as the file of that name says at the moment.
const SERVER: &str = r"
import os, socket, sys, threading, time
port, how = sys.argv[1], sys.argv[2]
with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    s.listen()
    with open(port + '.new', 'w') as file: file.write(str(s.getsockname()[1]))
    os.rename(port + '.new', port)
    def answer(c):
        c.recv(4096)
        said = how
        if os.path.exists(how):
            with open(how) as file: said = file.read()
        if said == 'hang': time.sleep(1000)
        if said != 'close': c.sendall(b'HTTP/1.1 %s\r\n\r\n' % said.encode())
        c.close()
    while True: threading.Thread(target=answer, args=(s.accept()[0],), daemon=True).start()
";

/// A port that nobody has just now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server on a given port instead.
fn server(port: u16) -> String {
    SERVER
        .replace("('127.0.0.1', 0)", &format!("('127.0.0.1', {port})"))
        .replace("s.bind", "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n    s.bind")
}

/// What the log says of a program.
fn said_of(site: &mut Site, name: &str) -> Vec<String> {
    let lines = site.history().into_iter().filter(|line| line.name == name);
    lines.map(|line| line.text).collect()
}

/// What `health NAME` says.
fn health(site: &Site, name: &str) -> (Option<i32>, String) {
    let binary = env!("CARGO_BIN_EXE_supervisor");
    let output = std::process::Command::new(binary)
        .args(["--socket", site.socket().to_str().unwrap(), "health", name])
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_server_that_answers_badly_three_times_is_started_again() {
    let port = free_port();
    let mut site = Plan::new(&format!(
        "  web: {{command: [python3, DIR/web.py, DIR/port, DIR/says], \
         health: {{http: 'http://127.0.0.1:{port}/x', interval: 100ms}}}}\n  \
         app: {{command: [sleep, '1000'], requires: [web@healthy]}}\n"
    ))
    .file("web.py", &server(port))
    .file("says", "200 OK")
    .start();
    site.wait_state("app", StateWord::Running);
    let web = site.program("web");
    assert_eq!((web.healthy, web.health.as_deref()), (Some(true), Some("healthy")));
    assert_eq!(health(&site, "web"), (Some(0), "OK: web is healthy\n".to_owned()));
    assert_eq!(health(&site, "app"), (Some(0), "OK: app is running\n".to_owned()));

    fs::write(site.path("says"), "503 Out").unwrap();
    site.wait_for("web started again", |status| program(status, "web").restarts > 0);
    let said = said_of(&mut site, "web");
    for line in [
        &format!("its health check failed 3 times: GET http://127.0.0.1:{port}/x: 503 Out"),
        "stopping (its health check failed 3 times)",
        "its health check failed 3 times; attempt 2",
    ] {
        assert!(said.iter().any(|one| one.contains(line)), "{line}: {said:#?}");
    }
    let (code, words) = health(&site, "web");
    assert!(matches!(code, Some(1 | 2)), "{code:?} {words}");
    assert!(words.starts_with("ERROR: web is not "), "{words}");

    fs::write(site.path("says"), "200 OK").unwrap();
    site.wait_for("healthy again", |status| program(status, "web").healthy == Some(true));
    site.end();
}

#[test]
fn a_server_that_hangs_holds_up_nobody_and_one_that_only_closes_is_unhealthy() {
    let (hangs, closes) = (free_port(), free_port());
    let line = |name: &str, port: u16, how: &str| {
        format!(
            "  {name}: {{command: [python3, DIR/{name}.py, DIR/{name}.port, '{how}'], \
             health: {{http: 'http://localhost:{port}', interval: 100ms, timeout: 300ms, \
             retries: 2, on_failure: none}}}}\n"
        )
    };
    let mut site = Plan::new(&(line("hangs", hangs, "hang") + &line("closes", closes, "close")))
        .file("hangs.py", &server(hangs))
        .file("closes.py", &server(closes))
        .start();
    for (name, why) in [("hangs", "no answer in time"), ("closes", "closed without an answer")] {
        site.wait_for("unhealthy", |status| program(status, name).healthy == Some(false));
        let words = site.program(name).health.unwrap();
        assert!(words.starts_with("unhealthy (2 of 2): GET http://localhost:"), "{words}");
        assert!(words.ends_with(why), "{words}");
        let (code, said) = health(&site, name);
        assert_eq!((code, said), (Some(2), format!("ERROR: {name} is not responding ({words})\n")));
    }
    // Once each, however often it is looked at.
    let said = site.happened(&["program.unhealthy"]);
    assert_eq!(said.len(), 2, "{said:?}");
    site.end();
}

#[test]
fn a_command_that_hangs_is_killed_with_all_that_it_has_started() {
    let mut site = Plan::new(
        "  web: {command: [sleep, '1000'], health: {command: [sh, DIR/look], interval: 100ms, \
         timeout: 500ms, retries: 1, on_failure: stop}}\n",
    )
    .file("look", "sleep 1001 &\nsetsid sleep 1002 &\necho looking; echo $! > DIR/began; wait")
    .start();
    let web = site.wait_state("web", StateWord::Fatal);
    let expected = "given up (its health check failed); command sh: no end within 0.5s: looking";
    assert_eq!(web.reason, expected);
    assert!(site.path("began").exists());
    let mark = site.plan.mark();
    let own = site.pid.as_raw();
    until("nothing is left of it", || pids_with(&mark).iter().all(|pid| *pid == own));
    site.end();
}

#[test]
fn the_last_words_of_a_command_are_told_and_a_missing_one_says_nothing_of_the_program() {
    let mut site = Plan::new(
        "  full: {command: [sleep, '1000'], health: {command: [sh, DIR/look], interval: 100ms, \
         retries: 1, on_failure: none}}\n  \
         blind: {command: [sleep, '1000'], health: {command: [DIR/missing], interval: 100ms, \
         retries: 1}}\n",
    )
    // More than a pipe holds, and more than is heard.
    .file("look", "head -c 300000 /dev/zero | tr '\\0' x; echo; echo '  the disk is full'; exit 3")
    .start();
    site.wait_for("unhealthy", |status| program(status, "full").healthy == Some(false));
    let words = site.program("full").health.unwrap();
    assert_eq!(words, "unhealthy (1 of 1): command sh: exit 3: the disk is full");
    site.wait_for("told", |status| {
        program(status, "blind").health.as_ref().is_some_and(|words| words.contains("not told"))
    });
    let blind = site.program("blind");
    assert_eq!((blind.state, blind.healthy, blind.restarts), (StateWord::Running, None, 0));
    assert!(blind.health.unwrap().contains("No such file"));
    site.end();
}

#[test]
fn ports_sockets_files_and_lines_are_looked_at() {
    let port = free_port();
    let plan = Plan::new(&format!(
        "  port: {{command: [python3, DIR/web.py, DIR/port, '200'], \
         health: {{tcp: 'localhost:{port}', interval: 100ms}}}}\n  \
         sock: {{command: [python3, -c, 'import socket, time; s = socket.socket(socket.AF_UNIX); \
         s.bind(\"DIR/sock\"); s.listen(); time.sleep(1000)'], \
         health: {{socket: DIR/sock, interval: 100ms}}}}\n  \
         file: {{command: [sleep, '1000'], health: {{file: DIR/there, interval: 100ms, \
         on_failure: none}}}}\n  \
         line: {{command: [sh, -c, 'while read word < DIR/fifo; do echo \"$$word\" >&2; done'], \
         logging: {{stdout: DIR/log, stderr: stdout}}, \
         health: {{log: beat, interval: 300ms, retries: 1, on_failure: none}}}}\n"
    ))
    .file("web.py", &server(port));
    let fifo = super::harness::fifo(&plan, "fifo");
    let mut site = plan.start();
    for name in ["port", "sock"] {
        site.wait_for("healthy", |status| program(status, name).healthy == Some(true));
    }
    site.wait_for("no file", |status| program(status, "file").healthy == Some(false));
    fs::write(site.path("there"), "").unwrap();
    site.wait_for("a file", |status| program(status, "file").healthy == Some(true));
    let say = |word: &str| fs::write(&fifo, format!("{word}\n")).unwrap();
    site.wait_for("silence", |status| program(status, "line").healthy == Some(false));
    say("a heartbeat it is");
    until("a beat", || said_of(&mut site, "line").iter().any(|line| line == "healthy again"));
    site.wait_for("silence", |status| program(status, "line").healthy == Some(false));
    say("other words");
    site.end();
}

#[test]
fn a_program_is_ready_when_it_is_found_to_be() {
    let port = free_port();
    let plan = Plan::new(&format!(
        "  web: {{command: [sh, -c, 'read go < DIR/fifo; exec python3 DIR/web.py DIR/port 200'], \
         readiness: {{http: 'http://127.0.0.1:{port}', interval: 100ms}}}}\n  \
         says: {{command: [sh, -c, 'echo not yet; read go < DIR/fifo2; echo now it is ready; \
         exec sleep 1000'], readiness: {{log: it is ready}}}}\n  \
         app: {{command: [sleep, '1000'], requires: [web, says]}}\n  \
         never: {{command: [sleep, '1000'], readiness: {{file: DIR/never, interval: 100ms, \
         timeout: 500ms}}, restart: never}}\n"
    ))
    .file("web.py", &server(port));
    let (one, two) = (super::harness::fifo(&plan, "fifo"), super::harness::fifo(&plan, "fifo2"));
    let mut site = plan.start();
    site.wait_for("given up", |status| {
        let never = program(status, "never");
        matches!(never.state, StateWord::Exited | StateWord::Fatal)
    });
    let why = site.program("never").reason;
    assert!(why.contains("not ready in its time); file "), "{why}");
    for name in ["web", "says"] {
        let slot = site.program(name);
        assert_eq!((slot.state, slot.ready), (StateWord::Starting, false), "{name}");
    }
    assert_eq!(site.program("app").state, StateWord::Waiting);
    fs::write(one, "go\n").unwrap();
    fs::write(two, "go\n").unwrap();
    site.wait_state("app", StateWord::Running);
    assert!(site.program("web").ready && site.program("says").ready);
    site.end();
}

#[test]
fn nothing_is_left_of_looks_when_the_site_stops() {
    let site = Plan::new(
        "  web: {command: [sleep, '1000'], health: {command: [sleep, '1003'], timeout: 1000s}}\n",
    )
    .start();
    let mark = site.plan.mark();
    // The supervisor, the program, and the command that looks.
    until("it looks", || pids_with(&mark).len() >= 3);
    site.end();
}
