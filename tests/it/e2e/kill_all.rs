//! `kill-all`: lists, asks, and ends what the supervisor has started, and nobody else.

use std::{
    fs,
    process::{Command, Stdio},
};

use mini_supervisor::control::StateWord;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{
    harness::{Plan, Site, pids_with},
    processes::{LEAVES, command, leave, listed, verb},
};
use crate::{
    cli::site::{Ran, Terminal, json},
    outside::BINARY,
    sys_world::{NAMESPACE, is_inside, is_skipped_without_root, lives, until},
};

fn pids(all: &[Value]) -> Vec<String> {
    all.iter().map(|one| one["pid"].to_string()).collect()
}

#[test]
fn without_a_terminal_it_lists_refuses_and_wants_a_yes() {
    let mut site = Plan::new(LEAVES).start();
    leave(&mut site);
    let there = pids(&listed(&site, &[]));
    assert_eq!(there.len(), 17);
    for args in [&["kill-all"][..], &["kill-all", "--dry-run"]] {
        let dry = args.len() > 1;
        let ran = verb(&site, args);
        assert_eq!(ran.code, Some(i32::from(!dry)), "{ran:?}");
        assert_eq!(ran.out.lines().count(), 18, "{ran:?}");
        for word in ["CPU", "RSS", "MiB", "sleep 304", "sleep 400", "tests (orphan)"] {
            assert!(ran.out.contains(word), "{ran:?}");
        }
        let refusal = "supervisor: cannot kill all: not confirmed, and there is no terminal to ask \
                       on\nhint: say --yes to do it\n";
        assert_eq!(ran.err, if dry { "" } else { refusal });
    }
    let unasked = verb(&site, &["kill-all", "--json"]);
    assert_eq!((unasked.code, &*unasked.out), (Some(1), ""));
    assert_eq!(json(&unasked.err)["code"], "needs_confirmation");
    assert!(there.iter().all(|pid| lives(pid)), "a refusal has ended something");
    let ran = verb(&site, &["kill-all", "--yes", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report = json(&ran.out);
    assert_eq!(pids(report["ended"].as_array().unwrap()).len(), 17, "{report}");
    assert_eq!((&report["left"], &report["programs"]), (&json("[]"), &json("[]")));
    assert!(!there.iter().any(|pid| lives(pid)));
    let again = verb(&site, &["kill-all"]);
    assert_eq!((again.code, &*again.err), (Some(0), "nothing to kill\n"), "{again:?}");
    assert_eq!(json(&verb(&site, &["kill-all", "--json"]).out)["ended"], json("[]"));
    site.stderr.wait_for("who asked", |line| line.contains("kill-all (asked by uid 0, pid "));
    assert_eq!(site.end(), 0);
}

#[test]
fn on_a_terminal_only_a_yes_ends_them() {
    let mut site = Plan::new(LEAVES).start();
    leave(&mut site);
    let there = pids(&listed(&site, &[]));
    for keys in ["n\n", "\n", "\u{3}", "\u{4}"] {
        let mut terminal = Terminal::run(&command(&site, &["kill-all"]), 100);
        let (code, text) = terminal.wait_for("end these 17 processes? [y/N] ").types(keys).end();
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("sleep 304") && text.contains("cannot kill all: not confirmed\n"));
        assert!(there.iter().all(|pid| lives(pid)), "{keys:?} has ended something");
    }
    let mut terminal = Terminal::run(&command(&site, &["kill-all"]), 100);
    let (code, text) = terminal.wait_for("[y/N] ").types("y\n").end();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with("ended 17 processes\n"), "{text}");
    assert!(!there.iter().any(|pid| lives(pid)));
    assert_eq!(site.end(), 0);
}

/// Neither its stop nor SIGTERM impresses what it leaves.
const DEAF: &str = "  deaf: {command: [sh, -c, \"trap '' TERM; \
    (trap '' TERM; echo x > DIR/up; while :; do sleep 1001; done) & \
    while :; do sleep 1000; done\"], stop: {timeout: 300ms, kill_mode: process}}
  web: {command: [sleep, '400']}";

#[test]
fn what_does_not_end_when_it_is_asked_is_killed() {
    let mut site = Plan::new(DEAF).start();
    site.all_running();
    until("it is deaf", || site.path("up").exists());
    let there = pids_with(&site.plan.mark());
    let mut terminal = Terminal::run(&command(&site, &["kill-all", "--yes"]), 100);
    let (code, text) = terminal.end();
    assert_eq!(code, Some(0), "{text}");
    let (_, after) = text.split_once(" more processes (SIGKILL in ").unwrap();
    assert!(!after.contains("waiting for deaf"), "it is down: {text}");
    let left: Vec<i32> =
        pids_with(&site.plan.mark()).into_iter().filter(|pid| there.contains(pid)).collect();
    assert_eq!(left, [site.pid.as_raw()]);
    for program in ["deaf", "web"] {
        assert_eq!(site.program(program).goal, "down");
    }
    // The supervisor goes on, and starts what it is asked to.
    site.bring_up(&["web"]);
    assert_eq!(site.end(), 0);
}

#[test]
fn it_goes_on_when_its_client_is_gone_and_others_may_ask_meanwhile() {
    let mut site = Plan::new(DEAF).start();
    site.all_running();
    until("it is deaf", || site.path("up").exists());
    let mut first = command(&site, &["kill-all", "--yes"]).spawn().unwrap();
    site.stderr.wait_for("the beginning", |line| line.contains("kill-all (asked by "));
    first.kill().unwrap();
    first.wait().unwrap();
    let second = verb(&site, &["kill-all", "--yes"]);
    assert_eq!(second.code, Some(0), "{second:?}");
    until("only the supervisor is there", || pids_with(&site.plan.mark()) == [site.pid.as_raw()]);
    assert_eq!(site.end(), 0);
}

#[test]
fn from_status_by_a_forced_stop_to_the_end_of_everything() {
    let mut site = Plan::new(LEAVES).start();
    site.all_running();
    assert_eq!(verb(&site, &["status"]).code, Some(0));
    leave(&mut site);
    let forced = verb(&site, &["stop", "--force", "all"]);
    assert_eq!(forced.code, Some(0), "{forced:?}");
    assert_eq!(listed(&site, &["--orphans"]).len(), 16, "they linger");
    let all = verb(&site, &["kill-all", "--yes"]);
    assert_eq!((all.code, all.out.ends_with("ended 16 processes\n")), (Some(0), true), "{all:?}");
    assert_eq!(pids_with(&site.plan.mark()), [site.pid.as_raw()]);
    assert_eq!(verb(&site, &["ps", "--orphans"]).err, "no orphans\n");
    assert_eq!(site.end(), 0);
}

#[test]
fn whoever_is_started_again_by_itself_is_not_any_more() {
    let falls = "  falls: {command: [/bin/false], restart: {policy: always, delay: 1h}}";
    let mut site = Plan::new(falls).start();
    site.wait_for("it waits", |status| status.programs[0].next_in_s.is_some());
    let dry = verb(&site, &["kill-all", "--dry-run"]);
    assert_eq!(dry.out, "falls: no process, would start by itself\n");
    let ran = verb(&site, &["kill-all", "--yes"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.out.ends_with("nothing was ended\n"), "{ran:?}");
    assert_eq!(site.program("falls").goal, "down");
    assert_eq!(verb(&site, &["kill-all"]).err, "nothing to kill\n");
    assert_eq!(site.end(), 0);
    // One that was given up, and is tried again later.
    let tried = "  tried: {command: [/bin/false], restart: {delay: 1ms, \
                 start_limit: {burst: 1, interval: 1h, retry_every: 1h}}}";
    let mut site = Plan::new(tried).start();
    site.wait_state("tried", StateWord::Fatal);
    let dry = verb(&site, &["kill-all", "--dry-run"]);
    assert_eq!(dry.out, "tried: no process, would start by itself\n");
    assert_eq!(verb(&site, &["kill-all", "--yes"]).code, Some(0));
    assert_eq!(verb(&site, &["kill-all"]).err, "nothing to kill\n");
    assert_eq!(site.end(), 0);
}

#[test]
fn whom_it_would_end_with_them_is_refused() {
    let asks = format!(
        "  shell: {{command: [sh, -c, '{} -c DIR/site.yaml kill-all --yes 2> DIR/said; \
         echo $? > DIR/code.new; mv DIR/code.new DIR/code; exec sleep 1000']}}",
        env!("CARGO_BIN_EXE_supervisor")
    );
    let mut site = Plan::new(&asks).start();
    until("it is answered", || site.path("code").exists());
    let said = fs::read_to_string(site.path("said")).unwrap();
    assert_eq!(fs::read_to_string(site.path("code")).unwrap(), "1\n", "{said}");
    assert!(said.contains("is a process of shell, and would be ended with it"), "{said}");
    assert!(said.contains("hint: ask from elsewhere"), "{said}");
    site.all_running();
    assert_eq!(site.end(), 0);
}

#[test]
fn who_merely_looks_alike_is_not_touched() {
    let mut site = Plan::new("  reachy: {command: [sleep, '4711']}").start();
    site.all_running();
    // The same command line, and the mark of another supervisor.
    let mut twin = Command::new("sleep");
    let mut twin = twin.arg("4711").env("SUPERVISOR_RUN", "0123456789abcdef:1").spawn().unwrap();
    // An editor of a file that is called so.
    fs::write(site.path("reachy.py"), "").unwrap();
    let mut editor = Command::new("tail");
    let mut editor = editor.arg("-f").arg(site.path("reachy.py")).spawn().unwrap();
    let ran = verb(&site, &["kill-all", "--yes"]);
    assert_eq!((ran.code, ran.out.ends_with("ended 1 process\n")), (Some(0), true), "{ran:?}");
    for other in [&mut twin, &mut editor] {
        assert!(other.try_wait().unwrap().is_none(), "a stranger was ended");
        kill(Pid::from_raw(other.id().cast_signed()), Signal::SIGKILL).unwrap();
        other.wait().unwrap();
    }
    assert_eq!(site.end(), 0);
}

#[test]
fn a_site_that_ends_with_its_programs_still_says_what_was_ended() {
    let plan = Plan::new(LEAVES).supervisor("exit_when: all-exited");
    let mut site: Site = plan.start();
    leave(&mut site);
    let ran = verb(&site, &["kill-all", "--yes"]);
    assert_eq!((ran.code, ran.out.ends_with("ended 17 processes\n")), (Some(0), true), "{ran:?}");
    assert_eq!(site.end_by_itself(), 0);
}

/// A process that a test has started by hand, killed with it.
struct ByHand(std::process::Child);

impl ByHand {
    fn start(words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Runs a child of its own, and waits for it.
const COPY: &str = "sleep 6001 & echo $! > \"$0.child\"; wait";

#[test]
fn of_all_who_look_like_a_program_only_the_copies_of_the_same_user_are_ended() {
    let this = "e2e::kill_all::\
                of_all_who_look_like_a_program_only_the_copies_of_the_same_user_are_ended";
    if is_skipped_without_root() || !is_inside(NAMESPACE, this) {
        return;
    }
    // A supervisor in a directory that is called so, as the original was when it killed itself.
    let plan = Plan::new(
        "  reachy: {command: [sleep, '4711'], single_instance: {match: {argv: reachy.py}}}",
    );
    let folder = plan.path("bbia-reachy.py");
    fs::create_dir(&folder).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_supervisor"), folder.join("supervisor")).unwrap();
    let run = format!("shift; exec {}/supervisor \"$@\"", folder.display());
    let plan = plan.script("my-reachy.py", "exec sleep 1000").script("reachy.py", COPY);
    let mut site = plan.wrapped(&["sh", "-c", &run, "sh"]).start();
    site.all_running();
    let file = |name: &str| site.path(name).display().to_string();
    let mut decoys = [
        // An editor of a file whose name has the word in it.
        ByHand::start(&["tail", "-f", &file("my-reachy.py")]),
        // No argument of it is the word, though its command line has it.
        ByHand::start(&["sh", "-c", "sleep 1000; : python3 reachy.py"]),
        // It is called so, by another user.
        ByHand::start(&[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "sh",
            "-c",
            "sleep 1000; :",
            "reachy.py",
        ]),
        // The same command line as the program's.
        ByHand::start(&["sleep", "4711"]),
    ];
    let mut copy = ByHand::start(&["sh", &file("reachy.py")]);
    let child = site.path("reachy.py.child");
    until("it has a child", || fs::read_to_string(&child).is_ok_and(|text| text.ends_with('\n')));
    let child = fs::read_to_string(&child).unwrap().trim().to_owned();
    // Whoever asks, and has been started by something that is called so.
    let ask = |flag: &str| {
        let script = format!("supervisor={BINARY}; $supervisor kill-all {flag}; echo $?");
        fs::create_dir_all(site.path("asks")).unwrap();
        fs::write(site.path("asks/reachy.py"), script).unwrap();
        let mut command = command(&site, &[]);
        let environment: Vec<_> =
            command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
        command = Command::new("sh");
        command.arg(site.path("asks/reachy.py")).env_clear().envs(environment);
        let ran: Ran = command.stdin(Stdio::null()).output().unwrap().into();
        ran
    };
    let dry = ask("--dry-run");
    assert!(dry.out.ends_with("\n0\n"), "{dry:?}");
    assert_eq!(dry.out.matches("reachy (copy)").count(), 2, "{dry:?}");
    assert_eq!(dry.out.lines().count(), 1 + 1 + 2 + 1, "{dry:?}");
    let ran = ask("--yes");
    assert!(ran.out.ends_with("ended 3 processes\n0\n"), "{ran:?}");
    assert!(!copy.is_alive() && !lives(&child));
    for decoy in &mut decoys {
        assert!(decoy.is_alive(), "{:?} was ended", decoy.0);
    }
    assert_eq!(site.program("reachy").goal, "down");
    assert_eq!(site.end(), 0);
}
