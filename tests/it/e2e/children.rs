//! Children by the hundred, children that die of anything, and users who mean ill.

use std::{
    io::Read,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use mini_supervisor::control::StateWord;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    harness::{Plan, change, fifo, full, is_root, program, skip},
    init::{UNSHARE, init, possible},
};
use crate::sys_world::{median, until};

#[test]
fn a_user_who_stops_all_his_processes_holds_up_nobody_else() {
    if !possible() {
        return;
    }
    // Whatever has this user id is stopped at once, in a namespace where only these have it: so the
    // victim is met between becoming the user and its exec.
    let mut site = Plan::new(
        "  evil: {command: [perl, -e, 'syswrite STDOUT, \"ready\\n\"; kill STOP => -1 while 1'],
    user: '61777', stop: {timeout: 100ms}, working_directory: /}
  victim: {command: [/bin/true], user: '61777', autostart: false, stop: {timeout: 100ms},
    working_directory: /, restart: {policy: always, delay: 1ms, start_limit: none}}
  calm: {command: [sleep, '1000'], restart: {delay: 1ms}}",
    )
    .wrapped(&UNSHARE)
    .start();
    site.stdout.wait_for("the evil one", |line| line.contains("ready"));
    let mut start = change(&["victim"]);
    start.no_wait = true;
    for _ in 0..20 {
        site.ask(&mini_supervisor::control::Request::Start(start.clone()));
        // Others are cared for.
        let calm = site.main_pid("calm");
        assert_eq!(site.program("calm").state, StateWord::Running);
        assert!(calm > 0);
        let outcome = site.bring_down(&["victim"]);
        assert!(outcome.programs[0].ok, "{outcome:?}");
    }
    let init = init(&site);
    kill(init, Signal::SIGTERM).unwrap();
    assert_eq!(site.end_by_itself(), 0);
}

#[test]
fn a_death_by_any_signal_is_told_by_its_name() {
    // That of these is not to end: CHLD CONT STOP TSTP TTIN TTOU URG WINCH.
    let harmless = [17, 18, 19, 20, 21, 22, 23, 28];
    let mut site = Plan::new(
        "  one: {command: [DIR/one], autostart: false, restart: {policy: never}, limits: {core: 0}}",
    )
    .script("one", "read n < DIR/how; kill -$n $$; exec sleep 1000")
    .start();
    for number in (1..=64).filter(|number| !harmless.contains(number)) {
        std::fs::write(site.path("how"), format!("{number}\n")).unwrap();
        site.bring_up(&["one"]);
        let meant = mini_supervisor::model::Signal::from_number(number);
        let status = site.wait_for(&format!("signal {number}"), |s| {
            s.programs[0].state == StateWord::Exited
                && s.programs[0].exit.is_some_and(|exit| exit.signal == meant)
        });
        assert_eq!(status.programs[0].exit.unwrap().code, None);
        let name = format!("killed by {}", meant.unwrap());
        assert!(status.programs[0].reason.contains(&name), "{}", status.programs[0].reason);
    }
    let log = site.stderr.text_so_far();
    assert!(!log.contains("core dumped"), "{log}");
    assert_eq!(site.end(), 0);
}

#[test]
fn a_core_dump_is_told() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.starts_with(['/', '|']) {
        return skip("core files do not go to the working directory here");
    }
    let mut site = Plan::new(
        "  one: {command: [sh, -c, 'kill -SEGV $$$$'], working_directory: DIR, limits: {core: unlimited}, restart: {policy: never}}",
    )
    .start();
    let status = site.wait_state("one", StateWord::Exited);
    assert!(status.reason.contains("killed by SIGSEGV, core dumped"), "{}", status.reason);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_flood_of_programs_that_end_at_once_and_leave_orphans_is_counted_to_the_last() {
    let (count, rounds) = (20, if full() { 200 } else { 30 });
    let text: String = (0..count)
        .map(|n| format!("  q{n}: {{command: [DIR/quick], logging: {{stdout: 'null', stderr: 'null'}}, restart: {{policy: always, delay: 0, max_delay: 0, start_limit: none}}}}\n"))
        .collect();
    let mut site = Plan::new(&text).script("quick", "/bin/true & /bin/true & exit 3").start();
    site.wait_for("the rounds", |s| s.programs.iter().all(|one| one.restarts >= rounds));
    let outcome = site.bring_down(&["all"]);
    assert!(outcome.programs.iter().all(|one| one.ok), "{outcome:?}");
    let status = site.status();
    for one in &status.programs {
        assert_eq!((one.state, one.pids.len()), (StateWord::Stopped, 0), "{one:?}");
    }
    assert!(status.supervisor.orphans_reaped > 0);
    let stderr = site.stderr.clone();
    assert_eq!(site.end(), 0);
    let log = stderr.text();
    for one in &status.programs {
        let count = |what: &str| {
            let meant = format!("{}: {what}", one.name);
            u64::try_from(log.lines().filter(|line| line.contains(&meant)).count()).unwrap()
        };
        let (starts, exits) = (count("started (pid"), count("exit 3 after"));
        assert_eq!(starts, one.restarts + 1, "{}: each start is counted once", one.name);
        assert!(exits == starts || exits + 1 == starts, "{}: {exits} of {starts}", one.name);
    }
}

#[test]
fn fifty_programs_take_ten_megabytes_at_most() {
    let text: String = (0..50).map(|n| format!("  p{n}: {{command: [sleep, '1000']}}\n")).collect();
    let mut site = Plan::new(&text).start();
    site.all_running();
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.pid)).unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let (all, own) = (kib("VmRSS:"), kib("RssAnon:"));
    eprintln!("resident {all} KiB, {own} KiB of it not from the file");
    // The file of a build for tests is many times that of a release.
    let most = if cfg!(debug_assertions) { own } else { all };
    assert!(most <= 10 << 10, "{status}");
    assert_eq!(site.end(), 0);
}

/// From the kill of a program to the first word of the next.
struct Rounds {
    words: std::fs::File,
}

impl Rounds {
    /// The pid that a new one says.
    fn next(&mut self) -> i32 {
        let mut text = String::new();
        let mut byte = [0];
        while self.words.read(&mut byte).unwrap() == 1 && byte != [b'\n'] {
            text.push(char::from(byte[0]));
        }
        text.parse().unwrap()
    }

    /// Kills `old`, and waits for the next with `again`.
    fn kill(&mut self, old: i32, again: impl FnOnce()) -> (i32, Duration) {
        let began = Instant::now();
        kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
        again();
        let new = self.next();
        (new, began.elapsed())
    }
}

fn words(plan: &Plan, name: &str) -> Rounds {
    let words = std::fs::OpenOptions::new().read(true).write(true).open(fifo(plan, name)).unwrap();
    Rounds { words }
}

#[test]
fn a_program_that_dies_is_back_almost_as_soon_as_a_loop_that_does_nothing_else_could() {
    let script = "echo $$ > DIR/$1; exec sleep 1000";
    let plan = Plan::new(
        "  one: {command: [DIR/one, ours], restart: {policy: always, delay: 0, max_delay: 0, start_limit: none}}",
    )
    .script("one", script);
    let (mut ours, mut theirs) = (words(&plan, "ours"), words(&plan, "theirs"));
    let bare = || {
        let mut command = Command::new(plan.path("one"));
        command.arg("theirs").stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().unwrap()
    };
    let mut child = bare();
    let mut bare_pid = theirs.next();
    let mut bare_times = Vec::new();
    let command = plan.path("one");
    let site = plan.start();
    let mut pid = ours.next();
    let mut times = Vec::new();
    // In turn, so that a slow moment of the host is one of both.
    for _ in 0..if full() { 1000 } else { 200 } {
        let (new, took) = ours.kill(pid, || ());
        pid = new;
        times.push(took);
        let (new, took) = theirs.kill(bare_pid, || {
            child.wait().unwrap();
            let mut next = Command::new(&command);
            child = next.arg("theirs").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        });
        bare_pid = new;
        bare_times.push(took);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    let (ours, bare) = (median(times), median(bare_times));
    eprintln!("from a death to the next run: median {ours:?}, p99 {p99:?}; a bare loop {bare:?}");
    assert!(ours < bare * 10 + Duration::from_millis(20), "{ours:?}, a bare loop {bare:?}");
    assert_eq!(site.end(), 0);
}

#[test]
fn five_hundred_orphans_are_reaped_about_as_quickly_as_by_a_bare_loop() {
    let count = 500;
    let plan = Plan::new("  breed: {command: [DIR/breed], stop: {kill_mode: process}}").script(
        "breed",
        "i=0; while test $i -lt 500; do (sh -c 'echo; exec sleep 1000' &); i=$((i+1)); done
echo bred; exec sleep 1000",
    );
    let mut site = plan.start();
    site.stdout.wait_for("the last", |line| line.contains("bred"));
    let children = format!("/proc/{0}/task/{0}/children", site.pid);
    let main = i32::try_from(site.main_pid("breed")).unwrap();
    let orphans = || -> Vec<i32> {
        let text = std::fs::read_to_string(&children).unwrap_or_default();
        let pids = text.split_whitespace().map(|pid| pid.parse().unwrap());
        pids.filter(|pid| *pid != main).collect()
    };
    until("all have come", || orphans().len() == count);
    let before = site.status().supervisor.orphans_reaped;
    let all = orphans();
    let began = Instant::now();
    for pid in &all {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap();
    }
    // One that is reaped is no child any more.
    until("none is left", || orphans().is_empty());
    let ours = began.elapsed();
    assert_eq!(site.status().supervisor.orphans_reaped - before, u64::try_from(count).unwrap());
    let mut bare: Vec<_> =
        (0..count).map(|_| Command::new("sleep").arg("1000").spawn().unwrap()).collect();
    let began = Instant::now();
    for one in &mut bare {
        one.kill().unwrap();
    }
    for one in &mut bare {
        one.wait().unwrap();
    }
    let bare = began.elapsed();
    eprintln!("500 deaths were reaped within {ours:?}; by a bare loop within {bare:?}");
    assert!(ours < bare * 5 + Duration::from_millis(100), "{ours:?}, a bare loop {bare:?}");
    assert_eq!(program(&site.status(), "breed").restarts, 0);
    assert_eq!(site.end(), 0);
}

#[test]
fn programs_of_another_user_start_stop_and_fail_as_others_do() {
    if !is_root() {
        return skip("not root");
    }
    let mut site = Plan::new(
        "  one: {command: [sleep, '1000'], user: nobody, working_directory: /, restart: {delay: 1ms}}
  busy: {command: [sh, -c, 'exit 4'], user: nobody, working_directory: /, restart: {policy: never}}
  none: {command: [/no/such], user: nobody, working_directory: /, restart: {policy: never}}
  dir: {command: [sleep, '1'], user: nobody, working_directory: /root, restart: {policy: never}}",
    )
    .start();
    let status = site.wait_for("all settled", |s| {
        program(s, "one").state == StateWord::Running
            && ["busy", "none", "dir"]
                .iter()
                .all(|name| matches!(program(s, name).state, StateWord::Exited | StateWord::Fatal))
    });
    assert_eq!(program(&status, "busy").exit.unwrap().code, Some(4));
    let reason = |name: &str| program(&status, name).reason.clone();
    assert!(reason("none").contains("executing /no/such: No such file"), "{}", reason("none"));
    assert!(reason("dir").contains("entering directory /root: Permission"), "{}", reason("dir"));
    let old = site.main_pid("one");
    kill(Pid::from_raw(old.cast_signed()), Signal::SIGKILL).unwrap();
    site.wait_for("again", |s| {
        let one = program(s, "one");
        one.restarts == 1 && one.state == StateWord::Running && one.pid != Some(old)
    });
    assert!(site.bring_down(&["one"]).programs[0].ok);
    assert_eq!(site.end(), 0);
}
