//! A site as the entrypoint of a container.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::engine::{Container, Engine, IMAGE};

const TWO: &str = "  db: {command: [sleep, '1000']}
  web: {command: [sleep, '1000'], requires: [db], restart: {delay: 1ms}}";

/// Leaves a file when it was asked to end and had the time for it.
const CLEANS: &str = "#!/bin/sh
trap 'sleep 0.3; echo CLEANED > /data/$1; exit 0' TERM
echo $1 is up
while :; do sleep 0.1; done
";

/// States of the processes in a container, without those of `docker exec`.
fn zombies(container: &Container<'_>) -> Vec<String> {
    let ran = container.exec(&["sh", "-c", "cat /proc/[0-9]*/stat"]);
    ran.out.lines().filter(|line| line.contains(") Z ")).map(str::to_owned).collect()
}

/// P2, P6: what asks for a stop stops in order, and that is exit 0; nothing else disturbs.
#[test]
fn every_signal_of_the_table_does_what_the_table_says() {
    let Some(engine) = Engine::start(None) else { return };
    let site = engine.site("two", TWO);
    let up = || {
        let container = engine.container(&[&site, IMAGE, "supervisor"]);
        container.wait_for("web: started");
        container
    };
    for stop in ["TERM", "INT", "PWR", "RTMIN+3", "QUIT"] {
        let container = up();
        for ignored in ["WINCH", "CONT", "URG", "IO", "VTALRM", "ALRM", "RTMIN+10"] {
            container.signal(ignored);
        }
        assert_eq!(container.signal(stop).code(), 0, "{stop}");
        let log = container.logs();
        let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{stop}: {log}"));
        assert!(at("stopping the site") < at("stopped, exit 0"), "{stop}: {log}");
        if stop != "QUIT" {
            assert!(at("web: stopped") < at("db: stopped"), "{stop}: {log}");
        }
    }
    let container = up();
    container.signal("HUP").wait_for("SIGHUP").signal("USR1").wait_for("SIGUSR1");
    let began = Instant::now();
    assert_eq!(container.stop(), 0);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

/// P3, P5: the engine's own patience, ten seconds, is never used up.
#[test]
fn who_ignores_the_stop_is_killed_in_time_and_by_a_second_stop_at_once() {
    let Some(engine) = Engine::start(None) else { return };
    let deaf = "trap '' TERM; echo is deaf; while :; do sleep 1000; done";
    let deaf: String = (0..3)
        .map(|n| format!("  d{n}: {{command: [sh, -c, \"{deaf}\"], stop: {{timeout: 1m}}}}\n"))
        .collect();
    let site = engine.site("deaf", &deaf);
    let up = || {
        let container = engine.container(&[&site, IMAGE, "supervisor"]);
        container.wait_for_times("is deaf", 3);
        container
    };
    let container = up();
    let began = Instant::now();
    assert_eq!(container.stop(), 0, "137 is the engine's kill");
    let took = began.elapsed();
    assert!(took < Duration::from_millis(9_900), "{took:?}");
    let container = up();
    let began = Instant::now();
    container.signal("TERM").wait_for("stopping the site");
    // Not at once: that would be the first one, said twice.
    container.insist();
    assert_eq!(container.code(), 0);
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

/// P7: they belong to nobody, so they are the entrypoint's: they may clean up, and are gone.
#[test]
fn what_exec_and_health_checks_leave_is_reaped_and_ended_with_the_site() {
    let Some(engine) = Engine::start(None) else { return };
    let site = engine.site("two", TWO);
    let data = format!("-v={}:/data", engine.folder("data").display());
    engine.file("data/cleans", CLEANS);
    let health = "--health-cmd=(sleep 0.01 &); supervisor status web";
    let check = [health, "--health-interval=100ms", "--health-retries=1"];
    let container = engine.container(&[&check[..], &[&site, &data, IMAGE, "supervisor"]].concat());
    let health = |wanted: &str| {
        crate::sys_world::until(wanted, || container.inspect("{{.State.Health.Status}}") == wanted);
    };
    health("healthy");
    for name in ["one", "two"] {
        let leave = format!("/data/cleans {name} > /data/{name}.log 2>&1 & sleep 0.2");
        assert_eq!(container.exec(&["sh", "-c", &leave]).code, 0);
    }
    let probes = || container.inspect("{{len .State.Health.Log}}");
    crate::sys_world::until("five health checks", || probes() == "5");
    crate::sys_world::until("no zombie", || zombies(&container).is_empty());
    assert_eq!(container.exec(&["supervisor", "stop", "web"]).code, 0);
    health("unhealthy");
    assert_eq!(container.stop(), 0);
    for name in ["one", "two"] {
        let done = fs::read_to_string(engine.folder("data").join(name));
        assert_eq!(done.unwrap_or_default(), "CLEANED\n", "{name}: {}", container.logs());
    }
}

/// P8: nothing may be written but /dev/shm, nobody has a name, nothing may be done.
#[test]
fn without_rights_a_name_and_a_place_to_write_it_runs_and_can_be_asked() {
    let Some(engine) = Engine::start(None) else { return };
    let site = engine.site("two", TWO);
    let confined = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"];
    for user in ["--user=1000", "--user=123456:0", "--user=65534:65534", "--user=0"] {
        let container =
            engine.container(&[&confined[..], &[user, &site, IMAGE, "supervisor"]].concat());
        container.wait_for("web: started");
        let status = container.exec(&["supervisor", "status"]);
        assert_eq!((status.code, status.out.matches("RUNNING").count()), (0, 2), "{status:?}");
        assert_eq!(container.stop(), 0, "{user}");
        let log = container.logs();
        let warnings: Vec<_> = log.lines().filter(|line| line.contains(" warn ")).collect();
        let mut once = warnings.clone();
        once.dedup();
        assert!(warnings.len() <= 2 && once.len() == warnings.len(), "{user}: {warnings:#?}");
        assert!(!log.contains(" error "), "{user}: {log}");
    }
}

/// P6, S4-34: the code is what a restart policy acts on.
#[test]
fn the_exit_of_the_essential_program_is_that_of_the_container() {
    let Some(engine) = Engine::start(None) else { return };
    for (end, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$$$", 137)] {
        let main = format!(
            "  main: {{command: [sh, -c, '{end}'], essential: true, restart: {{policy: never}}}}"
        );
        let site = engine.site("main", &main);
        assert_eq!(engine.run(&[&site, IMAGE, "supervisor"]).code, code, "{end}");
    }
    let site = engine.site(
        "fails",
        "  main: {command: [sh, -c, 'exit 7'], essential: true, restart: {policy: never}}",
    );
    let container = engine.container(&["--restart=on-failure:2", &site, IMAGE, "supervisor"]);
    let status = "{{.State.Running}} {{.State.Restarting}} {{.RestartCount}}";
    crate::sys_world::until("given up", || container.inspect(status) == "false false 2");
    assert_eq!(container.code(), 7);
    assert_eq!(container.logs().matches("supervising 1 program").count(), 3);
    let broken = engine.site("broken", "  main: {comand: [sh]}");
    let ran = engine.run(&[&broken, IMAGE, "supervisor"]);
    assert!(ran.code == 78 && ran.err.contains("comand"), "{ran:?}");
}

/// P9: what the container was given, its programs have.
#[test]
fn programs_have_the_environment_of_the_container_and_what_is_configured() {
    let Some(engine) = Engine::start(None) else { return };
    let printed = |words: &[&str]| {
        let ran = engine.run(&[&["-e=GIVEN=a b", "--hostname=here"], words].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        let lines = ran.out.lines().map(|line| line.trim_start_matches("main | ").to_owned());
        lines.filter(|line| line.contains('=')).collect::<std::collections::BTreeSet<_>>()
    };
    let bare = printed(&[IMAGE, "env"]);
    let site = engine.site(
        "env",
        "  main: {command: [env], essential: true, restart: {policy: never}, environment: {MORE: '1'}}",
    );
    let ours = printed(&[&site, IMAGE, "supervisor"]);
    assert!(bare.contains("GIVEN=a b"), "{bare:?}");
    assert!(bare.is_subset(&ours), "{bare:?}\n{ours:?}");
    for added in ours.difference(&bare) {
        let known = ["SUPERVISOR_", "MORE=1", "USER=", "LOGNAME=", "SHELL="];
        assert!(known.iter().any(|start| added.starts_with(start)), "{added}");
    }
}

/// P1: another process is PID 1, as the engine's init or as a pod's pause container.
#[test]
fn where_it_is_not_pid_1_it_reaps_its_own_orphans_and_kills_nobody_else() {
    let Some(engine) = Engine::start(None) else { return };
    let pause = engine.container(&[IMAGE, "sh", "-c", "sleep 1001 & echo paused; wait"]);
    pause.wait_for("paused");
    let breed = "  breed: {command: [sh, -c, '(sleep 0.01 &); (setsid sleep 1002 &); sleep 1003'], stop: {kill_mode: process}}";
    let site = engine.site("breed", breed);
    let share = format!("--pid=container:{}", pause.id);
    let container = engine.container(&[&share, &site, IMAGE, "supervisor"]);
    container.wait_for("breed: started");
    let reaped = || {
        let status = container.exec(&["supervisor", "status", "--json"]).out;
        let value: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
        value["supervisor"]["orphans_reaped"].as_u64().unwrap_or_default()
    };
    crate::sys_world::until("an orphan", || reaped() > 0);
    let words = || pause.exec(&["sh", "-c", "cat /proc/[0-9]*/cmdline"]).out.replace('\0', " ");
    assert!(words().contains("sleep 1002"), "{}", words());
    assert_eq!(container.stop(), 0);
    let left = words();
    assert!(left.contains("sleep 1001"), "not ours: {left}");
    assert!(!left.contains("sleep 1002") && !left.contains("sleep 1003"), "{left}");
    let below = engine.container(&["--init", &site, IMAGE, "supervisor"]);
    below.wait_for("breed: started");
    assert_eq!(below.stop(), 0);
}

/// On a terminal ^C stops the site, as in a shell.
#[test]
fn on_a_terminal_an_interrupt_stops_the_site() {
    let Some(engine) = Engine::start(None) else { return };
    let site = engine.site("two", TWO);
    let mut terminal = engine.terminal(&[&site, IMAGE, "supervisor"]);
    terminal.wait_for("web: started").types("\u{3}");
    let (code, text) = terminal.wait_for("stopped, exit 0").end();
    assert_eq!(code, Some(0), "{text}");
}
