//! The command at a terminal.

use crate::cli::site::{Terminal, bare};

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
    let mut terminal = Terminal::run(&bare(&["--", "bash", "--norc", "-i"]), 80);
    terminal.types("cat\n").wait_for("cat\r\n").types("\u{1a}").wait_for("Stopped");
    terminal.types("fg\n").wait_for("fg\r\n").types("\u{3}").types("echo still $((40+2))\n");
    terminal.wait_for("still 42").types("exit 3\n");
    let (code, text) = terminal.end();
    assert_eq!(code, Some(3), "{text}");
    assert!(!text.contains("no job control"), "{text}");
}

#[test]
fn a_stopped_command_gives_the_terminal_back_to_the_shell_above() {
    let binary = env!("CARGO_BIN_EXE_supervisor");
    let mut shell = bare(&[]);
    // Not the binary itself: the shell that a person has.
    shell.env("PS1", "$ ");
    let mut words = std::process::Command::new("bash");
    words
        .args(["--norc", "-i"])
        .env_clear()
        .envs(shell.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let mut terminal = Terminal::run(&words, 200);
    terminal.types(&format!("{binary} -- sh -c 'echo re''ady; cat'\n")).wait_for("ready");
    terminal.types("\u{1a}").wait_for("Stopped").types("echo back $((40+2))\n").wait_for("back 42");
    terminal.types("fg\n").wait_for("fg").types("echoed\n").wait_for("echoed\r\nechoed");
    terminal.types("\u{4}").types("echo code $?\n").wait_for("code 0").types("exit\n");
    terminal.end();
}

#[test]
fn a_job_in_the_background_does_not_steal_the_terminal() {
    let binary = env!("CARGO_BIN_EXE_supervisor");
    let mut words = std::process::Command::new("bash");
    words.args(["--norc", "-i"]).env_clear().env("PATH", "/usr/bin:/bin").env("PS1", "$ ");
    let mut terminal = Terminal::run(&words, 200);
    terminal.types(&format!("{binary} -- sh -c 'echo re''ady; exec sleep 1000' &\n"));
    terminal.wait_for("ready").types("read x; echo got $x\n").types("line\n").wait_for("got line");
    terminal.types("kill %1; wait; echo en''ded\n").wait_for("ended").types("exit\n");
    terminal.end();
}
