//! Coming back, with a delay, and giving up.

use mini_supervisor::control::{Reply, Request, StateWord, Targets};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::harness::{Plan, full, program};

#[test]
fn a_program_that_exits_too_often_is_given_up_and_a_start_by_hand_clears_it() {
    let mut site = Plan::new(
        "  bad: {command: [DIR/bad], restart: {delay: 10ms, jitter: 0%, factor: 2, max_delay: 40ms,
    start_limit: {burst: 4, interval: 1m, action: give-up}}}",
    )
    .script("bad", "echo x >> DIR/starts; test -e DIR/good && exec sleep 1000; exit 3")
    .start();
    let status = site.wait_state("bad", StateWord::Fatal);
    assert_eq!(status.exit.unwrap().code, Some(3));
    assert!(status.reason.contains("exit 3"), "{}", status.reason);
    let starts = || std::fs::read_to_string(site.path("starts")).unwrap().lines().count();
    assert_eq!(starts(), 4);
    let events = site.history();
    let delays: Vec<&str> = events
        .iter()
        .filter(|line| line.source == "program.backoff")
        .map(|line| line.text.rsplit(" in ").next().unwrap())
        .collect();
    assert_eq!(delays, ["10ms", "20ms", "40ms"]);
    site.bring_up(&["bad"]);
    site.wait_state("bad", StateWord::Fatal);
    std::fs::write(site.path("good"), "").unwrap();
    let outcome = site.bring_up(&["bad"]);
    assert!(outcome.programs[0].ok, "{outcome:?}");
    assert_eq!(site.program("bad").restarts, 0);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_given_up_program_is_tried_again_after_the_retry_time() {
    let mut site = Plan::new(
        "  bad: {command: [DIR/bad], restart: {delay: 1ms, start_limit: {burst: 2, interval: 1m,
    action: retry, retry_every: 200ms}}}",
    )
    .script("bad", "test -e DIR/good && exec sleep 1000; exit 1")
    .start();
    let status = site.wait_state("bad", StateWord::Fatal);
    assert!(status.next_in_s.is_some_and(|next| next <= 0.2), "{status:?}");
    std::fs::write(site.path("good"), "").unwrap();
    site.wait_state("bad", StateWord::Running);
    assert_eq!(site.end(), 0);
}

#[test]
fn reset_forgets_the_start_limit() {
    let mut site = Plan::new(
        "  bad: {command: [DIR/bad], restart: {delay: 1ms, start_limit: {burst: 2, interval: 1h,
    action: give-up}}}",
    )
    .script("bad", "test -e DIR/good && exec sleep 1000; exit 1")
    .start();
    site.wait_state("bad", StateWord::Fatal);
    std::fs::write(site.path("good"), "").unwrap();
    let reply = site.ask(&Request::Reset(Targets { names: vec!["bad".into()] }));
    assert_eq!(reply, Reply::Done);
    site.wait_state("bad", StateWord::Stopped);
    let outcome = site.bring_up(&["bad"]);
    assert!(outcome.programs[0].ok, "{outcome:?}");
    assert_eq!(site.end(), 0);
}

#[test]
fn the_restart_table_decides_who_comes_back() {
    let code = |code| format!("[sh, -c, 'exit {code}']");
    let programs = [
        ("never-1", code(1), "policy: never"),
        ("failure-0", code(0), "policy: on-failure"),
        ("abnormal-1", code(1), "policy: on-abnormal"),
        ("success-7", code(7), "policy: on-failure, success_exit_codes: [7]"),
        ("prevent-9", code(9), "policy: always, prevent_exit_codes: [9]"),
        ("failure-1", code(1), "policy: on-failure"),
        ("always-0", code(0), "policy: always"),
        ("force-0", code(0), "policy: never, force_exit_codes: [0]"),
        ("abnormal-kill", "[sh, -c, 'kill -KILL $$$$']".into(), "policy: on-abnormal"),
        ("failure-term", "[sh, -c, 'kill -TERM $$$$']".into(), "policy: on-failure"),
    ];
    let text: String = programs
        .iter()
        .map(|(name, command, restart)| {
            format!("  {name}: {{command: {command}, restart: {{{restart}, delay: 1h, max_delay: 1h}}}}\n")
        })
        .collect();
    let mut site = Plan::new(&text).start();
    let rests = ["never-1", "failure-0", "abnormal-1", "success-7", "prevent-9", "failure-term"];
    let settled = |state| matches!(state, StateWord::Exited | StateWord::Backoff);
    let status = site.wait_for("all settled", |s| s.programs.iter().all(|one| settled(one.state)));
    for one in &status.programs {
        let state =
            if rests.contains(&one.name.as_str()) { StateWord::Exited } else { StateWord::Backoff };
        assert_eq!(one.state, state, "{}: {}", one.name, one.reason);
    }
    assert_eq!(site.end(), 0);
}

#[test]
fn every_exit_code_and_signal_is_reported_as_it_is() {
    let mut site =
        Plan::new("  one: {command: [DIR/one], restart: {policy: never}, limits: {core: 0}}")
            .file("how", "exit 0")
            .script("one", ". DIR/how")
            .start();
    let codes: Vec<u8> =
        if full() { (0..=255).collect() } else { vec![0, 1, 2, 126, 127, 128, 254, 255] };
    for code in codes {
        site.wait_state("one", StateWord::Exited);
        std::fs::write(site.path("how"), format!("exit {code}")).unwrap();
        site.bring_up(&["one"]);
        let status = site.wait_for("the exit", |s| {
            program(s, "one").exit.is_some_and(|exit| exit.code == Some(code))
        });
        assert_eq!(program(&status, "one").exit.unwrap().signal, None);
    }
    for signal in ["HUP", "INT", "KILL", "SEGV", "ABRT", "TERM", "USR1", "PIPE", "ALRM"] {
        site.wait_state("one", StateWord::Exited);
        std::fs::write(site.path("how"), format!("kill -{signal} $$")).unwrap();
        site.bring_up(&["one"]);
        site.wait_for("the signal", |s| {
            program(s, "one").exit.is_some_and(|exit| {
                exit.code.is_none() && exit.signal.is_some_and(|one| one.name() == signal)
            })
        });
    }
    assert_eq!(site.end(), 0);
}

#[test]
fn programs_that_cannot_be_started_say_why_and_the_others_run() {
    let programs = [
        ("missing", "[DIR/nothing]"),
        ("mode", "[DIR/mode]"),
        ("garbage", "[DIR/garbage]"),
        ("loop", "[DIR/loop]"),
        ("long", &*format!("[/{}]", "x".repeat(300))),
    ];
    let mut text = String::from(
        "  good: {command: [sleep, '1000']}\n  cwd: {command: [sleep, '1'], working_directory: DIR/gone, restart: {policy: never}}\n",
    );
    for (name, command) in programs {
        text += &format!(
            "  {name}: {{command: {command}, restart: {{delay: 1ms, start_limit: {{burst: 2, interval: 1m, action: give-up}}}}}}\n"
        );
    }
    let plan = Plan::new(&text).file("mode", "#!/bin/sh\n").script("garbage", "");
    std::fs::write(plan.path("garbage"), [0x7f, b'G', 0, 1, 2]).unwrap();
    std::os::unix::fs::symlink("loop", plan.path("loop")).unwrap();
    let mut site = plan.start();
    for (name, why) in [
        ("missing", "No such file"),
        ("mode", "Permission denied"),
        ("garbage", "Exec format error"),
        ("loop", "symbolic links"),
        ("long", "name too long"),
    ] {
        let status = site.wait_state(name, StateWord::Fatal);
        assert!(status.reason.contains(why), "{name}: {}", status.reason);
    }
    let status = site.wait_for("cwd", |s| program(s, "cwd").state != StateWord::Starting);
    let reason = &program(&status, "cwd").reason;
    assert!(reason.contains("gone") && reason.contains("directory"), "{reason}");
    assert_eq!(site.program("good").state, StateWord::Running);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_busy_executable_is_tried_again_until_it_is_written() {
    use std::os::unix::fs::OpenOptionsExt;
    let plan = Plan::new("  one: {command: [DIR/sleep, '1000']}");
    std::fs::copy("/bin/sleep", plan.path("sleep")).unwrap();
    let writer =
        std::fs::OpenOptions::new().write(true).mode(0o755).open(plan.path("sleep")).unwrap();
    let mut site = plan.start();
    site.wait_for("a retry", |s| {
        s.programs[0].state != StateWord::Running && s.programs[0].next_in_s.is_some()
    });
    drop(writer);
    let status = site.wait_state("one", StateWord::Running);
    assert_eq!(status.restarts, 0, "it is not counted");
    assert_eq!(site.end(), 0);
}

#[test]
fn programs_that_end_at_once_are_started_again_as_often_as_they_ended() {
    let rounds: u64 = if full() { 10_000 } else { 2_000 };
    let mut site = Plan::new(
        "  quick: {command: [/bin/true], logging: {stdout: 'null', stderr: 'null'},
    restart: {policy: always, delay: 0, max_delay: 0, start_limit: none}}
  calm: {command: [sleep, '1000']}",
    )
    .arg("-q")
    .start_quiet();
    let calm = site.main_pid("calm");
    site.wait_for("the rounds", |s| program(s, "quick").restarts >= rounds);
    site.bring_down(&["quick"]);
    let status = site.program("quick");
    assert_eq!(status.state, StateWord::Stopped);
    assert!(status.pids.is_empty() && status.restarts >= rounds);
    assert_eq!(site.main_pid("calm"), calm);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_flapping_program_waits_longer_each_time_up_to_the_longest_delay() {
    let mut site = Plan::new(
        "  flap: {command: ['false'], restart: {delay: 5ms, max_delay: 40ms, jitter: 0%,
    start_limit: none}}",
    )
    .start();
    site.wait_for("ten restarts", |s| s.programs[0].restarts >= 10);
    let delays: Vec<String> = site
        .history()
        .iter()
        .filter(|line| line.source == "program.backoff")
        .map(|line| line.text.rsplit(" in ").next().unwrap().to_owned())
        .collect();
    assert_eq!(delays[..5], ["5ms", "10ms", "20ms", "40ms", "40ms"]);
    assert_eq!(site.end(), 0);
}

#[test]
fn programs_killed_at_the_same_moment_all_come_back_once() {
    let text: String = (0..20)
        .map(|n| format!("  p{n}: {{command: [sleep, '1000'], restart: {{delay: 1ms}}}}\n"))
        .collect();
    let mut site = Plan::new(&text).start();
    let before = site.all_running();
    for one in &before.programs {
        kill(Pid::from_raw(one.pid.unwrap().cast_signed()), Signal::SIGKILL).unwrap();
    }
    let after = site.wait_for("all again", |s| {
        s.programs.iter().all(|one| one.restarts == 1 && one.state == StateWord::Running)
    });
    assert!(after.programs.iter().all(|one| one.pids.len() == 1), "{after:?}");
    assert_eq!(site.end(), 0);
}
