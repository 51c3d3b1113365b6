//! A stop at any system call of the loop: while it starts programs, reloads and stops.
//!
//! strace(1) stops the whole supervisor (SIGSTOP) at a chosen call of the loop's thread. The signal
//! is sent then, and after that it may go on.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use mini_supervisor::control::Request;
use nix::sys::signal::Signal;

use super::{
    client::Client,
    harness::{Plan, Site, change, full, is_root, skip},
};
use crate::sys_world::until;

fn site() -> Site {
    let user = if is_root() { "nobody" } else { "self" };
    Plan::new(&format!(
        "  one: {{command: [sleep, '1001'], working_directory: /, autostart: false}}
  two: {{command: [sleep, '1002'], working_directory: /, user: {user}, requires: [one], autostart: false}}
  three: {{command: [sleep, '1003'], working_directory: /, restart: {{delay: 1ms}}, autostart: false}}",
    ))
    .start()
}

fn is_possible() -> bool {
    let can = Path::new("/usr/bin/strace").exists() && is_root();
    if !can {
        skip("no strace, or not the right to trace");
    }
    can
}

/// What a supervisor that is at rest is asked for, and the word that says that it is done.
#[derive(Clone, Copy)]
struct Act {
    prepare: fn(&mut Site),
    /// What it gives is kept until the end.
    begin: fn(&mut Site) -> Option<Client>,
    last: &'static str,
}

fn run_all(site: &mut Site) {
    let _client = start_and_go_on(site);
    for name in ["one", "two", "three"] {
        let meant = format!("{name}: started (pid");
        site.stderr.wait_for(name, |line| line.contains(&meant));
    }
    site.all_running();
}

fn reload(site: &mut Site) -> Option<Client> {
    site.plan.write(
        "  one: {command: [sleep, '1001'], working_directory: /}
  three: {command: [sleep, '1004'], working_directory: /}
  four: {command: [sleep, '1005'], working_directory: /}
  five: {command: [sleep, '1006'], working_directory: /, requires: [three]}",
    );
    site.signal(Signal::SIGHUP);
    None
}

fn stop(site: &mut Site) -> Option<Client> {
    site.signal(Signal::SIGTERM);
    None
}

const START: Act =
    Act { prepare: |_| (), begin: |site| Some(start_and_go_on(site)), last: "two: started (pid" };
const RELOAD: Act = Act { prepare: run_all, begin: reload, last: "five: started (pid" };
const STOP: Act = Act { prepare: run_all, begin: stop, last: "stopped, exit" };

/// Nobody waits for an answer of a supervisor that stands still.
fn start_and_go_on(site: &Site) -> Client {
    let mut client = Client::connect(&site.socket()).unwrap();
    let mut all = change(&["all"]);
    all.no_wait = true;
    client.send(&Request::Start(all)).unwrap();
    client
}

/// The thread that decides: the main one where there is no other.
fn thread_of_the_loop(site: &Site) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", site.pid)).unwrap();
    let named = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "loop")
    };
    let found = tasks.filter_map(|task| Some(task.ok()?.path())).find(named);
    let id = found.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    id.unwrap_or_else(|| site.pid.to_string())
}

/// A system call: its name, and the how-manieth of this name since strace is there.
type Moment = (String, usize);

/// strace on the loop of `site`, when it is attached; what is given waits for its end.
fn trace(site: &Site, words: &[&str]) -> impl FnOnce() + use<> {
    let mut strace = Command::new("strace");
    strace.args(["-p", &thread_of_the_loop(site)]).args(words).stderr(Stdio::piped());
    let mut strace = strace.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(strace.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("attached"), "{line}");
    move || drop(strace.wait())
}

/// Every system call of the loop during this act.
fn moments_of(act: Act) -> Vec<Moment> {
    let mut site = site();
    (act.prepare)(&mut site);
    let path = site.path("trace");
    let wait = trace(&site, &["-o", path.to_str().unwrap()]);
    let _client = (act.begin)(&mut site);
    site.stderr.wait_for(act.last, |line| line.contains(act.last));
    site.signal_if_alive(Signal::SIGTERM);
    assert_eq!(ended(&mut site, "without a signal"), 0);
    wait();
    let text = std::fs::read_to_string(path).unwrap();
    let mut counts = BTreeMap::new();
    let count = |line: &str| {
        let name = line.split_once('(')?.0.to_owned();
        let index = counts.entry(name.clone()).and_modify(|n| *n += 1).or_insert(1);
        (!name.contains(' ')).then_some((name, *index))
    };
    text.lines().filter_map(count).collect()
}

/// It has ended well, and after it was told nothing was started.
fn ended(site: &mut Site, what: &str) -> i32 {
    let code = site.code();
    site.assert_nothing_left();
    let log = site.stderr.text();
    let told = log.split_once("stopping the site").map_or("", |(_, after)| after);
    let late: Vec<&str> = told.lines().filter(|line| line.contains("started (pid")).collect();
    // One that becomes another user may just have been on its way: it is told to stop next.
    let known = late.iter().all(|line| line.contains("two: ") && told.contains("two: stopping"));
    assert!(known && late.len() <= 1, "{what}: {log}");
    assert!(!log.contains("bug:"), "{what}: {log}");
    code
}

fn is_stopped(site: &Site) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", site.pid)).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// Sends SIGTERM at many moments of the act; how many of them were met.
fn sweep(act: Act) -> usize {
    let moments = moments_of(act);
    assert!(moments.len() > 30, "{moments:?}");
    let step = if full() { 1 } else { moments.len().div_ceil(25) };
    let mut met = 0;
    for at in moments.iter().step_by(step) {
        let mut site = site();
        (act.prepare)(&mut site);
        let inject = format!("inject={}:signal=SIGSTOP:when={}", at.0, at.1);
        let wait = trace(&site, &["-o", "/dev/null", "-e", &inject]);
        let _client = (act.begin)(&mut site);
        let log = site.stderr.clone();
        let is_done = || log.all().iter().any(|line| line.contains(act.last));
        until("either", || is_stopped(&site) || is_done());
        met += usize::from(is_stopped(&site));
        site.signal_if_alive(Signal::SIGTERM);
        // That moment may still come.
        until("its end", || site.signal_if_alive(Signal::SIGCONT));
        assert_eq!(ended(&mut site, &format!("{at:?}")), 0, "{at:?}");
        wait();
    }
    eprintln!("{met} moments of {} were met", moments.len().div_ceil(step));
    met
}

#[test]
fn a_term_at_any_moment_of_a_start_ends_everything() {
    if is_possible() {
        assert!(sweep(START) > 10);
    }
}

#[test]
fn a_term_at_any_moment_of_a_reload_ends_everything() {
    if is_possible() {
        assert!(sweep(RELOAD) > 10);
    }
}

#[test]
fn a_second_term_at_any_moment_of_the_stop_ends_everything() {
    if is_possible() {
        assert!(sweep(STOP) > 10);
    }
}
