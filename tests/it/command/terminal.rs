//! The command at a terminal.

use crate::cli::site::{Terminal, bare};

/// Numbered, so that each can be waited for.
const PROMPT: &str = "<\\#> ";

#[test]
fn the_command_has_the_foreground_and_its_interrupts() {
    let script = "trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 0.1; done";
    let mut terminal = Terminal::run(&bare(&["--", "bash", "-c", script]), 80);
    let (code, text) = terminal.wait_for("ready").types("\u{3}").end();
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("interrupted"), "{text}");
}

#[test]
fn a_shell_below_it_has_job_control() {
    let mut words = bare(&["--", "bash", "--norc", "-i"]);
    words.env("PS1", PROMPT);
    let mut terminal = Terminal::run(&words, 200);
    let job = "python3 -c 'import os, signal; signal.signal(18, lambda *_: os.write(1, \
               b\"wo\" + b\"ken\")); os.write(1, b\"re\" + b\"ady\\n\"); \
               [signal.pause() for _ in iter(int, 1)]'\n";
    terminal.wait_for("<1>").types(job).wait_for("ready\r\n");
    terminal.types("\u{1a}").wait_for("Stopped").wait_for("<2>").types("fg\n").wait_for("woken");
    terminal.types("\u{3}").wait_for("<3>");
    terminal.types("exit 3\n");
    let (code, text) = terminal.end();
    assert_eq!(code, Some(3), "{text}");
    assert!(!text.contains("no job control"), "{text}");
}

/// An interactive shell above it, as a person has.
fn person() -> Terminal {
    let mut words = std::process::Command::new("bash");
    words.args(["--norc", "-i"]).env_clear().env("PATH", "/usr/bin:/bin").env("PS1", PROMPT);
    let mut terminal = Terminal::run(&words, 200);
    terminal.wait_for("<1>");
    terminal
}

#[test]
fn a_stopped_command_gives_the_terminal_back_to_the_shell_above() {
    let binary = env!("CARGO_BIN_EXE_supervisor");
    let mut terminal = person();
    terminal.types(&format!("{binary} -- sh -c 'echo re''ady; exec cat'\n")).wait_for("ready\r\n");
    terminal.types("\u{1a}").wait_for("Stopped").wait_for("<2>");
    terminal.types("echo back $((40+2))\n").wait_for("back 42").wait_for("<3>").types("fg\n");
    terminal.wait_for("fg\r\n").types("echoed\n").wait_for("echoed\r\nechoed");
    terminal.types("\u{4}").wait_for("<4>").types("echo code $?\n").wait_for("code 0");
    terminal.wait_for("<5>").types("exit\n").end();
}

#[test]
fn without_a_shell_above_a_stopped_command_does_not_stop_the_wrapper() {
    // It leads the session, so nobody would ever continue it.
    let mut terminal = Terminal::run(&bare(&["--", "sh", "-c", "echo ready; exec cat"]), 80);
    terminal.wait_for("ready").types("\u{1a}");
    let init = terminal.pid();
    let stat = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let child = crate::outside::children_of(init.cast_unsigned())[0];
    crate::sys_world::until("the command is stopped", || stat(child).contains(") T "));
    for signal in [18, 15] {
        let words = [format!("-{signal}"), init.to_string()];
        std::process::Command::new("/bin/kill").args(words).status().unwrap();
    }
    let (code, text) = terminal.end();
    assert_eq!(code, Some(143), "{text}");
}

#[test]
fn a_job_in_the_background_does_not_steal_the_terminal() {
    let binary = env!("CARGO_BIN_EXE_supervisor");
    let mut terminal = person();
    terminal.types(&format!("{binary} -- sh -c 'echo re''ady; exec sleep 1000' &\n"));
    terminal.wait_for("ready\r\n").wait_for("<2>").types("read x; echo got $x\n");
    terminal.types("line\n").wait_for("got line").wait_for("<3>").types("kill %1; wait\n");
    terminal.wait_for("<4>").types("exit\n").end();
}
