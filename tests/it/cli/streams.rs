//! What goes on: `logs -f`, `events -f`, and the logging of a program that changes meanwhile.

use std::fs;

use nix::sys::signal::{Signal, kill};

use super::site::{Site, json};

/// Says what it is told through a FIFO.
fn parrot(site: &Site) -> String {
    let fifo = site.dir.path().join("words");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    format!("command: [sh, -c, \"echo up; exec cat <>{}\"]", fifo.display())
}

fn say(site: &Site, text: &str) {
    let fifo = site.dir.path().join("words");
    fs::write(fifo, format!("{text}\n")).unwrap();
}

#[test]
fn followers_of_a_log_go_on_over_restarts_and_rotation() {
    let site = Site::written("");
    let file = site.dir.path().join("parrot.log");
    site.write(&format!(
        "  parrot: {{{}, logging: {{stdout: {}, rotate: {{max_size: 4KiB, keep: 2, \
         compress: none}}}}}}",
        parrot(&site),
        file.display()
    ));
    let mut site = site.started();
    let mut follower = site.follow(&["logs", "-f", "parrot"]);
    follower.until(|line| line == "up");
    site.expect(0, &["restart", "parrot"]);
    assert_eq!(follower.line(), "up", "the next run");
    let long = "x".repeat(1000);
    for n in 0..20 {
        say(&site, &format!("{n} {long}"));
        assert_eq!(follower.line(), format!("{n} {long}"));
    }
    say(&site, "after the rotation");
    assert_eq!(follower.line(), "after the rotation");
    // Somebody else moves the file away and says so, as logrotate(8) does.
    fs::rename(&file, site.dir.path().join("moved")).unwrap();
    kill(site.pid(), Signal::SIGUSR1).unwrap();
    site.wait_log("SIGUSR1");
    site.expect(0, &["stop", "parrot"]);
    site.expect(0, &["start", "parrot"]);
    assert_eq!(follower.line(), "up");
    // Whoever follows may be told before the file is written; at its end all is.
    assert_eq!(site.end(), Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap(), "up\n");
    let rotated = site.dir.path().join("parrot.log.1");
    assert!(rotated.exists(), "20 kB are more than one file of 4 KiB");
}

#[test]
fn followers_of_events_are_told_of_restarts_rotation_and_reload() {
    let site = Site::up("  a: {command: [sleep, \"1000\"]}");
    let mut text = site.follow(&["events", "--follow"]);
    let mut document = site.follow(&["events", "--follow", "--json"]);
    site.expect(0, &["restart", "a"]);
    site.write("  a: {command: [sleep, \"1001\"]}");
    site.expect(0, &["reload"]);
    // A reload does not wait for what it restarts; this does.
    site.expect(0, &["start", "a"]);
    kill(site.pid(), Signal::SIGUSR1).unwrap();
    site.expect(0, &["stop", "a"]);
    let seen = text.until(|line| line.contains("program.stopped"));
    let seen: Vec<&str> = seen.iter().filter_map(|line| line.split_whitespace().nth(1)).collect();
    let mut rest = seen.iter();
    for event in [
        "supervisor.started",
        "program.started",
        "program.ready",
        "control.request",
        "program.started",
        "config.reloaded",
        "program.started",
    ] {
        assert!(rest.any(|one| *one == event), "no {event} in {seen:?}");
    }
    let last = document.until(|line| line.contains("program.stopped"));
    for line in &last {
        let event = json(line);
        for key in ["at", "name", "source", "text"] {
            assert!(event[key].is_string(), "{key} of {line}");
        }
    }
    assert_eq!(json(last.last().unwrap())["name"], "a");
}

#[test]
fn the_logging_of_a_program_changes_while_it_runs() {
    let site = Site::written("");
    let (one, two) = (site.dir.path().join("one.log"), site.dir.path().join("two.log"));
    let parrot = parrot(&site);
    let text = |file: &std::path::Path, more: &str| {
        format!("  parrot: {{{parrot}, logging: {{stdout: {}{more}}}}}", file.display())
    };
    site.write(&text(&one, ""));
    let mut site = site.started();
    let mut follower = site.follow(&["logs", "-f", "parrot"]);
    follower.until(|line| line == "up");
    let pid = site.expect(0, &["pid", "parrot"]).out;
    let more = ", timestamps: true, max_line: 100, mode: \"0600\"";
    site.write(&text(&one, more));
    let live = site.expect(0, &["reload"]).out;
    let keys = "logging.timestamps, logging.max_line, logging.mode";
    assert_eq!(live, format!("· parrot live ({keys})\n"));
    say(&site, "stamped");
    assert_eq!(follower.line(), "stamped");
    assert_eq!(site.expect(0, &["pid", "parrot"]).out, pid, "it was not restarted");
    site.write(&text(&two, more));
    let restart = site.expect(0, &["reload"]).out;
    assert_eq!(restart, "~ parrot restarted (logging.stdout)\n");
    assert_eq!(follower.line(), "up", "whoever follows goes on, wherever it is written");
    assert_eq!(site.end(), Some(0));
    let (first, second) = (fs::read_to_string(&one).unwrap(), fs::read_to_string(&two).unwrap());
    let lines: Vec<&str> = first.lines().collect();
    let is_stamped = |line: &str, text: &str| line.starts_with("20") && line.ends_with(text);
    assert!(lines.len() == 2 && lines[0] == "up", "{first:?}");
    assert!(is_stamped(lines[1], "Z stamped"), "{first:?}");
    assert!(is_stamped(second.trim_end(), "Z up"), "{second:?}");
}
