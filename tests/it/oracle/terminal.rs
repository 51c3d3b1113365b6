//! On a terminal: who has the foreground, before, meanwhile and afterwards.

use std::{os::fd::AsFd, process::Command};

use nix::unistd::tcgetpgrp;

use super::{
    differences::differs,
    inits::{Init, Names, Place, possible},
    signals::LISTENER,
};
use crate::{cli::site::Terminal, sys_world::until};

const INITS: [Init; 3] = [Init::Tini, Init::AsTini, Init::Ours];

/// A terminal whose first process executes a script of sh; `$@` is the init.
fn terminal(names: &Names, init: Init, script: &str, command: &[&str]) -> Terminal {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).args(names.words(init, &[])).args(command);
    shell.env("PATH", "/usr/bin:/bin").env("LISTENER", LISTENER);
    Terminal::run(&shell, 100)
}

/// C4: ^C is the command's, once, and not the init's.
#[test]
fn an_interrupt_reaches_the_command_once() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let listen = ["python3", "-SEc", LISTENER];
    for init in INITS {
        let mut terminal = terminal(&names, init, "exec \"$@\"", &listen);
        terminal.wait_for("ready").types("\u{3}").wait_for("got 2\r\n");
        terminal.types("\u{1c}").wait_for("got 3\r\n");
        terminal.types("\u{1a}").wait_for("got 20\r\n");
        let seen = terminal.seen();
        assert_eq!(seen.matches("got ").count(), 3, "{init:?}: {seen:?}");
    }
}

/// C5: ^Z stops the command; without a shell above that could continue it, not the init.
#[test]
fn a_stop_from_the_terminal_stops_the_command_and_not_the_init() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let command = ["sh", "-c", "echo ready $$; read x; echo back $x"];
    for init in INITS {
        let mut terminal = terminal(&names, init, "exec \"$@\"", &command);
        terminal.wait_for("ready ").wait_for("\r\n");
        let pid = number_after(terminal.seen(), "ready ");
        let init_pid = terminal.pid();
        terminal.types("\u{1a}");
        let state = |pid: i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
        };
        until("it is stopped", || state(pid) == Some('T'));
        assert_ne!(state(init_pid), Some('T'), "{init:?}");
        super::inits::send(pid, 18);
        terminal.types("again\n").wait_for("back again");
        assert_eq!(terminal.end().0, Some(0), "{init:?}");
    }
}

/// C4: a job that was started with `&` leaves the terminal to the shell.
#[test]
fn a_job_in_the_background_leaves_the_terminal_to_the_shell() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let command = ["sh", "-c", "echo job is up; exec sleep 1000"];
    for init in INITS {
        let script = "set -m; \"$@\" & echo shell $$; read x; kill %1";
        let mut terminal = terminal(&names, init, script, &command);
        terminal.wait_for("shell ").wait_for("job is up");
        let shell = number_after(terminal.seen(), "shell ");
        let foreground = tcgetpgrp(terminal.master().as_fd()).unwrap().as_raw();
        let kept = foreground == shell;
        let ours = differs("A job in the background", init);
        if kept {
            // It ends its job; who has lost the terminal is ended with it.
            terminal.types("\n").end();
        }
        assert_eq!(kept, ours, "{init:?}: {shell} {foreground}");
    }
}

/// C4: a closed standard input is no reason not to run, and no terminal either.
#[test]
fn with_a_closed_standard_input_only_tini_refuses() {
    if !possible() {
        return;
    }
    let names = Names::new();
    for init in INITS {
        let words = names.words(init, if init == Init::Ours { &[] } else { &["-s"] });
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" <&-", "sh"]).args(words).args(["sh", "-c", "exit 5"]);
        let ran: crate::outside::Ran = shell.output().unwrap().into();
        let runs = differs("Closed standard input", init);
        assert_eq!(ran.code, if runs { 5 } else { 1 }, "{init:?}: {ran:?}");
    }
    for init in INITS {
        let ran = names.run(init, Place::Pid1, &[], &["sh", "-c", "exit 5"]);
        assert_eq!(ran.code, 5, "{init:?} with /dev/null: {ran:?}");
    }
}

/// C4: after the end the terminal is that of whoever had it.
#[test]
fn afterwards_the_terminal_is_given_back() {
    if !possible() {
        return;
    }
    let names = Names::new();
    for init in INITS {
        let script = "\"$@\"; echo ended; read x && echo read $x || echo cannot read";
        let mut terminal = terminal(&names, init, script, &["true"]);
        terminal.wait_for("ended").types("line\n");
        let (_, text) = terminal.end();
        let given = differs("The terminal afterwards", init);
        assert_eq!(text.contains("read line"), given, "{init:?}: {text:?}");
    }
}

fn number_after(text: &str, word: &str) -> i32 {
    let rest = &text[text.find(word).unwrap() + word.len()..];
    rest.split_whitespace().next().unwrap().parse().unwrap()
}
