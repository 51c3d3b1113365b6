//! A system that is out of something, races, and the cost of doing nothing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use mini_supervisor::control::{Reply, Request, StateWord};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    client::Client,
    harness::{PATIENCE, Plan, Site, change, full, is_root, pids_with, program, skip},
};

#[test]
fn a_process_limit_delays_a_start_and_is_not_counted() {
    if !is_root() {
        return skip("not root: cannot make a user without other processes");
    }
    // Nobody else runs as this user; the neighbours that it gets leave no room for one more.
    let uid = 61_000 + std::process::id() % 4_000;
    let mut site = Plan::new("  one: {command: [sleep, '1000'], restart: {delay: 1ms}}")
        .run_as(uid, uid)
        .wrapped(&["bash", "-c", "ulimit -Su 16; exec \"$@\"", "bash"])
        .start();
    let old = site.main_pid("one");
    let neighbour = |_| {
        let mut command = std::process::Command::new("sleep");
        std::os::unix::process::CommandExt::uid(command.arg("1000"), uid).spawn().unwrap()
    };
    let neighbours: Vec<_> = (0..20).map(neighbour).collect();
    kill(Pid::from_raw(old.cast_signed()), Signal::SIGKILL).unwrap();
    site.stderr.wait_for("the delay", |line| line.contains("cannot start now"));
    site.wait_for("several tries", |s| s.programs[0].next_in_s.is_some());
    for mut one in neighbours {
        one.kill().unwrap();
        one.wait().unwrap();
    }
    let began = Instant::now();
    site.wait_for("one again", |s| s.programs[0].pid.is_some_and(|pid| pid != old));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(site.program("one").restarts, 1);
    assert!(site.happened(&["program.fatal"]).is_empty());
    assert_eq!(site.end(), 0);
}

#[test]
fn an_idle_supervisor_does_nothing() {
    let text: String = (0..20).map(|n| format!("  p{n}: {{command: [sleep, '1000']}}\n")).collect();
    let mut site = Plan::new(&text).start();
    site.all_running();
    let pid = site.pid;
    let switches = || -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let of = |task: std::fs::DirEntry| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let count = |line: &str| line.rsplit('\t').next().unwrap().parse::<u64>().unwrap();
            status.lines().filter(|l| l.contains("ctxt_switches")).map(count).sum::<u64>()
        };
        tasks.map(|task| of(task.unwrap())).sum()
    };
    // What the start needed comes to rest: until nothing has happened for a while.
    let end = Instant::now() + PATIENCE;
    let mut before = switches();
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = switches();
        if now == before {
            break;
        }
        assert!(Instant::now() < end, "it does not come to rest");
        before = now;
    }
    std::thread::sleep(Duration::from_secs(if full() { 10 } else { 5 }));
    let spent = switches() - before;
    assert!(spent <= 2, "{spent} context switches");
    assert_eq!(site.end(), 0);
}

/// How many processes each program has, by the marker in their environment.
fn census(site: &Site) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for pid in pids_with(&site.plan.mark()) {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let name = environ.split(|byte| *byte == 0).find_map(|one| {
            one.strip_prefix(b"SUPERVISOR_PROGRAM=")
                .map(|n| String::from_utf8_lossy(n).into_owned())
        });
        if let Some(name) = name {
            *all.entry(name).or_insert(0) += 1;
        }
    }
    all
}

#[test]
fn random_commands_and_kills_end_in_a_consistent_state() {
    let names = ["f0", "f1", "f2", "f3", "f4"];
    let text: String = (0..5)
        .map(|n| format!("  f{n}: {{command: [sleep, '0.0{}'], restart: {{policy: always, delay: {n}ms, jitter: 0%, start_limit: none}}}}\n", n * 2 + 1))
        .collect();
    let mut site = Plan::new(&text).arg("-q").start_quiet();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64 ^ u64::from(std::process::id());
    eprintln!("seed {seed}");
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut clients: Vec<Client> =
        (0..4).map(|_| Client::connect(&site.socket()).unwrap()).collect();
    for round in 0..if full() { 2_000 } else { 200 } {
        let name = names[usize::try_from(random(5)).unwrap()];
        let mut what = change(&[name]);
        what.no_wait = random(2) == 0;
        what.force = random(4) == 0;
        let client = &mut clients[round % 4];
        match random(4) {
            0 => client.send(&Request::Start(what)).unwrap(),
            1 => client.send(&Request::Stop(what)).unwrap(),
            2 => client.send(&Request::Restart(what)).unwrap(),
            _ => {
                if let Some(pid) = site.program(name).pid {
                    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).ok();
                }
                continue;
            }
        }
        let reply = client.reply(PATIENCE);
        assert!(matches!(reply, Some(Reply::Outcome(_))), "round {round}: {reply:?}");
    }
    for name in names {
        site.bring_down(&[name]);
    }
    let status = site.status();
    assert!(status.programs.iter().all(|one| one.state == StateWord::Stopped), "{status:#?}");
    assert!(census(&site).is_empty(), "{:?}", census(&site));
    let calm = text.replace("'0.0", "'1000.0");
    assert!(matches!(site.reload(&calm), Reply::Reloaded(_)));
    site.bring_up(&["all"]);
    site.all_running();
    let end = Instant::now() + PATIENCE;
    while census(&site).values().sum::<usize>() < 5 {
        assert!(Instant::now() < end);
    }
    assert!(census(&site).values().all(|count| *count == 1), "{:?}", census(&site));
    assert_eq!(site.end(), 0);
}

#[test]
fn two_hundred_programs_start_and_stop_quickly() {
    let text: String =
        (0..200).map(|n| format!("  p{n}: {{command: [sleep, '1000']}}\n")).collect();
    let began = Instant::now();
    let mut site = Plan::new(&text).start();
    site.all_running();
    assert!(began.elapsed() < Duration::from_secs(5), "start {:?}", began.elapsed());
    let memory = std::fs::read_to_string(format!("/proc/{}/status", site.pid)).unwrap();
    eprintln!("{:?}", memory.lines().find(|line| line.starts_with("VmRSS")));
    let began = Instant::now();
    assert_eq!(site.end(), 0);
    assert!(began.elapsed() < Duration::from_secs(5), "stop {:?}", began.elapsed());
}

#[test]
fn injected_failures_of_fork_are_tried_again() {
    let available = std::process::Command::new("strace").arg("-V").output().is_ok();
    if !available || !is_root() {
        return skip("strace or the right to trace is missing");
    }
    // Threads are made first; then four programs; the failures meet some of them.
    let text: String = (0..4).map(|n| format!("  p{n}: {{command: [sleep, '1000']}}\n")).collect();
    let mut site = Plan::new(&text)
        .wrapped(&[
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=clone",
            "-e",
            "inject=clone:error=EAGAIN:when=1..3",
        ])
        .start();
    let status = site.all_running();
    assert!(status.programs.iter().all(|one| one.restarts == 0), "{status:#?}");
    let pid = status.supervisor.pid;
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(site.end_by_itself(), 0);
    let log = site.stderr.text();
    assert!(log.contains("cannot start now"), "{log}");
}

#[test]
fn with_few_descriptors_what_fits_runs_and_the_rest_is_tried_again() {
    let one = |n| format!("  p{n}: {{command: [sleep, '1000'], stop: {{timeout: 1s}}}}\n");
    let text: String = (0..20).map(one).collect();
    let mut site =
        Plan::new(&text).wrapped(&["bash", "-c", "ulimit -n 40; exec \"$@\"", "bash"]).start();
    let log = site.stderr.wait_for("what is missing", |line| line.contains("cannot start now"));
    assert!(log.contains("Too many open files"), "{log}");
    let running = |s: &mini_supervisor::control::SiteStatus| {
        s.programs.iter().filter(|p| p.state == StateWord::Running).count()
    };
    let status = site.wait_for("some of them", |s| running(s) >= 5);
    let runs = running(&status);
    assert!(runs < 20, "{runs}");
    assert!(site.happened(&["program.fatal"]).is_empty());
    // Those that run give their descriptors to others, which start by themselves.
    let names: Vec<String> = (0..20).map(|n| format!("p{n}")).collect();
    let of = |s: &mini_supervisor::control::SiteStatus, name: &str| program(s, name).state;
    let (mut up, mut down): (Vec<&str>, Vec<&str>) =
        names.iter().map(String::as_str).partition(|n| of(&status, n) == StateWord::Running);
    let first = up.pop().unwrap();
    site.bring_down(&up);
    down.push(first);
    site.wait_for("the others", |s| {
        down.iter().filter(|name| of(s, name) == StateWord::Running).count() >= down.len().min(runs)
    });
    assert_eq!(site.end(), 0);
}

#[test]
fn a_thread_that_cannot_be_had_is_named_and_never_a_panic() {
    let available = std::process::Command::new("strace").arg("-V").output().is_ok();
    if !available || !is_root() {
        return skip("strace or the right to trace is missing");
    }
    let text = "  one: {command: [sleep, '1000'], wait_for: [{file: /, timeout: none}]}";
    // given which of the threads that each thread makes fail (the main thread makes one, for the
    // loop, or does its work; that makes all others); then the first thing that is said of it
    for (when, said) in [
        ("1", "started (pid"),
        ("1..2", "cannot start the log thread"),
        ("2", "cannot start the log thread"),
        ("3", "cannot start a thread"),
        ("4", "no control socket"),
        ("5", "cannot wait for conditions"),
        ("6", "started (pid"),
    ] {
        let inject = format!("inject=clone3:error=EAGAIN:when={when}");
        let words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=clone3", "-e", &inject];
        let mut site = Plan::new(text).wrapped(&words).spawn();
        let log = site.stderr.wait_for("how it goes", |line| {
            ["cannot ", "no control socket", "started (pid"].iter().any(|word| line.contains(word))
        });
        assert!(log.contains(said), "{when}: {log}");
        if said.starts_with("cannot start") {
            assert!(log.contains("Resource temporarily unavailable"), "{log}");
            assert_eq!(site.end_by_itself(), 1, "{log}");
            continue;
        }
        let traced = format!("/proc/{0}/task/{0}/children", site.pid);
        let traced = std::fs::read_to_string(traced).unwrap();
        kill(Pid::from_raw(traced.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
        assert_eq!(site.end_by_itself(), 0, "{log}");
        assert!(!site.stderr.text().contains("panic"), "{:#?}", site.stderr.all());
    }
}

#[test]
fn every_program_of_a_deep_chain_starts_after_the_one_before() {
    let depth = if full() { 1_000 } else { 100 };
    let one = |n: usize| {
        let needs = if n == 0 { String::new() } else { format!(", requires: [p{}]", n - 1) };
        format!("  p{n}: {{command: ['true'], type: oneshot{needs}}}\n")
    };
    let mut site = Plan::new(&(0..depth).map(one).collect::<String>()).start();
    site.wait_for("the last", |s| {
        program(s, &format!("p{}", depth - 1)).state == StateWord::Exited
    });
    assert_eq!(site.end(), 0);
}
