//! What a person at a terminal sees, types and interrupts.

use super::{programs, site::Site};

#[test]
fn a_question_takes_a_yes_and_nothing_else_for_a_yes() {
    let site = Site::up(&programs());
    for (keys, code, shown) in [
        ("n\n", 1, "n\n"),
        ("\n", 1, "\n"),
        ("yep\n", 1, "yep\n"),
        ("\u{4}", 1, "\n"),
        ("\u{3}", 1, "^C\n"),
    ] {
        let mut terminal = site.on_terminal(100, &["stop", "robot"]);
        let (got, text) = terminal.wait_for("[y/N] ").types(keys).end();
        // What would end is listed first: the program, and each process of it.
        let (listed, text) = text.split_at(text.find("stop robot? ").unwrap());
        assert!(listed.starts_with("robot                RUNNING   pid "), "{listed}");
        assert!(listed.ends_with("  sleep 1000\n") && listed.lines().count() == 2, "{listed}");
        assert_eq!(
            (got, text.to_owned()),
            (
                Some(code),
                format!(
                    "stop robot? [y/N] {shown}supervisor: cannot stop robot: not confirmed: \
                     stop robot?\nhint: say --yes to do it\n"
                )
            ),
            "{keys:?}"
        );
        assert_eq!(site.state("robot"), "RUNNING");
    }
    for (verb, yes, after) in [("restart", "y\n", "RUNNING"), ("stop", "yes\n", "STOPPED")] {
        let mut terminal = site.on_terminal(100, &[verb, "robot"]);
        let (code, text) = terminal.wait_for(&format!("{verb} robot? [y/N] ")).types(yes).end();
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(site.state("robot"), after);
    }
}

#[test]
fn with_json_or_without_a_terminal_nothing_is_asked() {
    let site = Site::up(&programs());
    let ran = site.expect(1, &["stop", "robot"]);
    assert!(!ran.err.contains("[y/N]"), "{ran:?}");
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let site = Site::up(&programs());
    site.wait_state("web", "RUNNING");
    let green = "\u{1b}[32mRUNNING  \u{1b}[0m";
    let (code, text) = site.on_terminal(100, &["status"]).end();
    assert_eq!(code, Some(0));
    assert!(text.contains(green), "{text:?}");
    let mut quiet = site.command(&["status"]);
    quiet.env("NO_COLOR", "1");
    let (_, text) = super::site::Terminal::run(&quiet, 100).end();
    assert!(text.contains("RUNNING") && !text.contains('\u{1b}'), "{text:?}");
    let mut empty = site.command(&["status"]);
    empty.env("NO_COLOR", "");
    let (_, text) = super::site::Terminal::run(&empty, 100).end();
    assert!(text.contains(green), "an empty NO_COLOR is none: {text:?}");
    assert!(!site.expect(0, &["status"]).out.contains('\u{1b}'));
    let (_, help) = site.on_terminal(100, &["--help"]).end();
    assert!(help.contains("\u{1b}[1m"), "{help:?}");
    assert!(!site.expect(0, &["--help"]).out.contains('\u{1b}'));
    site.write("  a: {comand: x}");
    let (_, check) = site.on_terminal(100, &["check"]).end();
    assert!(check.contains('\u{1b}'), "{check:?}");
    assert!(!site.expect(78, &["check"]).err.contains('\u{1b}'));
}

#[test]
fn a_narrow_terminal_cuts_lines_and_json_is_indented() {
    let site = Site::up(&programs());
    site.wait_output("talker", "three");
    for args in [&["status"][..], &["status", "web"], &["status", "talker"]] {
        let (_, text) = site.on_terminal(36, args).end();
        for line in text.replace("\u{1b}[0m", "").lines() {
            let plain =
                line.split("\u{1b}[").map(|part| part.split_once('m').map_or(part, |p| p.1));
            let width: usize = plain.map(|part| part.chars().count()).sum();
            assert!(width <= 40, "{width}: {line:?}");
        }
    }
    let (_, text) = site.on_terminal(36, &["status", "--json", "web"]).end();
    assert!(text.starts_with("{\n  \"schema_version\": 1,\n"), "{text}");
}

#[test]
fn what_is_waited_for_is_one_line_that_does_not_wrap() {
    let site = Site::up(&programs());
    site.expect(0, &["start", "stubborn"]);
    site.wait_output("stubborn", "up");
    let (code, text) = site.on_terminal(30, &["stop", "stubborn"]).end();
    assert_eq!(code, Some(0), "{text}");
    let mut drawn = text.split("\r\u{1b}[K").filter(|part| part.starts_with("waiting"));
    let first = drawn.next().unwrap();
    assert_eq!(first.chars().count(), 29, "{first:?}");
    assert!(first.starts_with("waiting for stubborn (pid ") && first.ends_with('…'), "{first:?}");
    assert!(text.contains("\r\u{1b}[Kstubborn"), "the line is cleared at the end: {text:?}");
}

#[test]
fn an_interrupt_at_the_terminal_detaches() {
    let site = Site::up(&programs());
    site.expect(0, &["start", "stubborn"]);
    site.wait_output("stubborn", "up");
    let mut terminal = site.on_terminal(100, &["stop", "stubborn"]);
    let (code, text) = terminal.wait_for("waiting for stubborn").types("\u{3}").end();
    assert_eq!(code, Some(1));
    let end = "supervisor: the operation continues\nhint: see supervisor status\n";
    assert!(text.ends_with(end), "{text:?}");
    site.wait_state("stubborn", "STOPPED");
}

#[test]
fn in_the_foreground_an_interrupt_stops_the_site_and_a_second_one_kills_it() {
    let site = Site::written(&programs().replace("autostart: false, stop", "stop"));
    let mut terminal = site.on_terminal(100, &[]);
    terminal.wait_for("supervising 6 programs").wait_for("| \u{1b}[0mup").types("\u{3}");
    terminal.wait_for("SIGINT from the terminal").wait_for("stubborn: stopping");
    let (code, text) = terminal.types("\u{3}").end();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("stubborn: still alive, sending SIGKILL"), "{text}");
    assert!(!site.socket().exists());
}
