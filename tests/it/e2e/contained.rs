//! As PID 1 of a container: what the runtime gives and takes, who else is there, how it ends.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use mini_supervisor::control::StateWord;
use nix::sys::signal::{Signal, kill};

use super::{
    harness::{Plan, Site},
    init::{UNSHARE, init, possible},
};

/// A shell script that executes what it is given, as PID 1 in a mount namespace of its own.
fn prepared(script: &str) -> Vec<String> {
    let words = ["--mount", "--propagation", "private", "sh", "-c", script, "sh"];
    UNSHARE.iter().chain(&words).map(ToString::to_string).collect()
}

fn wrapped(plan: Plan, script: &str) -> Plan {
    let script = script.replace("DIR", plan.dir.path().to_str().unwrap());
    let words = prepared(&script);
    plan.wrapped(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs a script as `docker exec` would: in the namespaces, below nobody.
fn exec(site: &Site, script: &str) -> std::process::Child {
    let pid = init(site).to_string();
    Command::new("nsenter")
        .args(["-t", &pid, "-p", "-m", "sh", "-c", &script.replace("DIR", &site.plan.mark())])
        .env("E2E_MARK", site.plan.mark())
        .spawn()
        .unwrap()
}

const DEAF: &str = "  deaf: {command: [DIR/deaf], stop: {timeout: 1h}}";
const DEAF_SCRIPT: &str = "trap '' TERM; echo ready; while :; do sleep 1000; done";

#[test]
fn the_second_sigterm_kills_whatever_is_left() {
    if !possible() {
        return;
    }
    let mut site = Plan::new(DEAF)
        .supervisor("shutdown_timeout: 1h")
        .script("deaf", DEAF_SCRIPT)
        .wrapped(&UNSHARE)
        .start();
    site.stdout.wait_for("a trap", |line| line == "deaf | ready");
    let pid = init(&site);
    kill(pid, Signal::SIGTERM).unwrap();
    site.stderr.wait_for("it", |line| line.contains("SIGTERM from outside the container"));
    site.stderr.wait_for("the stop", |line| line.contains("stopping the site"));
    site.insist(pid);
    site.end_by_itself();
}

#[test]
fn whoever_is_stopped_last_is_asked_as_well_when_there_is_no_time_for_all() {
    if !possible() {
        return;
    }
    let programs = format!(
        "{}, requires: [db]}}\n  db: {{command: [DIR/db], stop: {{timeout: 1h}}}}",
        &DEAF[..DEAF.len() - 1]
    );
    let mut site = Plan::new(&programs)
        .script("deaf", DEAF_SCRIPT)
        .script("db", "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.05; done")
        .env("SUPERVISOR_SHUTDOWN_TIMEOUT", "4s")
        .wrapped(&UNSHARE)
        .start();
    site.stdout.wait_for("a trap", |line| line == "deaf | ready");
    kill(init(&site), Signal::SIGTERM).unwrap();
    assert_eq!(site.end_by_itself(), 0);
    assert!(site.stdout.text().contains("db   | asked"), "{}", site.stdout.text());
    assert!(site.stderr.text().contains("and the whole stop has 4s: each program has"));
}

#[test]
fn what_docker_exec_left_behind_is_reaped_and_has_time_to_clean_up() {
    if !possible() {
        return;
    }
    let mut site = Plan::new("  one: {command: [sleep, '1000']}").wrapped(&UNSHARE).start();
    // Its parent ends at once, so it is ours, and it takes its time at the end.
    let left = "(trap 'sleep 0.3; echo CLEANED > DIR/cleaned; exit' TERM; touch DIR/up; \
                while :; do sleep 0.05; done) & (true &) & exit 0";
    assert!(exec(&site, left).wait().unwrap().success());
    let up = site.path("up");
    let status = site.wait_for("the orphan", |s| s.supervisor.orphans_reaped > 0 && up.exists());
    assert!(status.supervisor.orphans_reaped > 0);
    kill(init(&site), Signal::SIGTERM).unwrap();
    assert_eq!(site.end_by_itself(), 0);
    assert_eq!(fs::read_to_string(site.path("cleaned")).unwrap(), "CLEANED\n");
}

#[test]
fn whoever_asks_for_a_stop_is_named() {
    if !possible() {
        return;
    }
    let start = || Plan::new("  one: {command: [sleep, '1000']}").wrapped(&UNSHARE).start();
    let mut site = start();
    kill(init(&site), Signal::SIGTERM).unwrap();
    assert_eq!(site.end_by_itself(), 0);
    let log = site.stderr.text();
    assert!(log.contains("SIGTERM from outside the container"), "{log}");
    let mut site = start();
    // It waits to be ended with the others, so it still has its name when that is looked for.
    let mut inside = exec(&site, "kill -TERM 1; exec sleep 1000");
    assert_eq!(site.end_by_itself(), 0);
    inside.wait().unwrap();
    let log = site.stderr.text();
    let named = |name: &str| {
        log.contains(&format!("SIGTERM from {name} (pid ")) && log.contains(", uid 0)")
    };
    assert!(named("sh") || named("sleep"), "{log}");
}

#[test]
fn zombies_that_only_their_parent_can_reap_are_named() {
    if !possible() {
        return;
    }
    let script = "import os, time\nfor n in range(3):\n  if os.fork() == 0: os._exit(0)\nprint('bred', flush=True)\ntime.sleep(1000)";
    let mut site = Plan::new("  breeder: {command: [python3, DIR/breed.py]}")
        .file("breed.py", script)
        .wrapped(&UNSHARE)
        .start();
    site.stdout.wait_for("zombies", |line| line == "breeder | bred");
    let status = site.wait_for("three", |s| s.supervisor.zombies.iter().any(|z| z.count == 3));
    let pid = site.main_pid("breeder");
    let zombies = &status.supervisor.zombies[0];
    assert_eq!((zombies.parent, zombies.name.as_str()), (pid, "python3"));
    let output = Command::new(env!("CARGO_BIN_EXE_supervisor"))
        .args(["status", "-s", site.socket().to_str().unwrap()])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = format!("note: 3 zombies of python3 (pid {pid}), which has not waited for them");
    assert!(told.contains(&text), "{told}");
    assert_eq!(site.program("breeder").state, StateWord::Running, "nothing was killed");
    kill(init(&site), Signal::SIGTERM).unwrap();
    assert_eq!(site.end_by_itself(), 0);
}

#[test]
fn a_program_has_the_environment_of_the_container_and_what_is_ours_is_marked() {
    if !possible() {
        return;
    }
    let site = "version: 1\nsupervisor: {runtime_dir: DIR/run, exit_when: all-exited}\nprograms:\n  \
                env: {command: [env], user: self, type: oneshot}\n";
    let (code, out, log) = Plan::whole(site)
        .env("FOO", "a b=c")
        .env("EMPTY", "")
        .env("NOTIFY_SOCKET", "/nonexistent")
        .env("SUPERVISOR_SHUTDOWN_TIMEOUT", "3s")
        .wrapped(&UNSHARE)
        .run();
    assert_eq!(code, 0, "{log}");
    let inside: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("env | ")).collect();
    let ours = std::env::vars()
        .filter(|(name, _)| !name.starts_with("NEXTEST") && !name.contains("CARGO"));
    for (name, value) in ours.filter(|(_, value)| !value.contains('\n')) {
        // The account's are set for it.
        if !["HOME", "USER", "LOGNAME", "SHELL"].contains(&name.as_str()) {
            let line = format!("{name}={value}");
            assert!(inside.contains(&line.as_str()), "{line}: {inside:?}");
        }
    }
    assert!(inside.contains(&"FOO=a b=c") && inside.contains(&"EMPTY="), "{inside:?}");
    assert!(!out.contains("NOTIFY_SOCKET"), "{out}");
    let added = inside.iter().filter(|line| line.starts_with("SUPERVISOR_"));
    let mut added: Vec<&str> = added.filter_map(|line| line.split('=').next()).collect();
    added.sort_unstable();
    assert_eq!(added, ["SUPERVISOR_PROGRAM", "SUPERVISOR_RUN", "SUPERVISOR_SHUTDOWN_TIMEOUT"]);
}

#[test]
fn a_read_only_root_a_random_user_and_closed_streams_are_no_reason_not_to_run() {
    if !possible() {
        return;
    }
    let site = "version: 1\nsupervisor: {name: poor, log: {file: DIR/shm/log}}\nprograms:\n  \
                one: {command: [sh, -c, 'id -u; echo up; exec sleep 1000'], logging: {stdout: DIR/shm/out}}\n";
    let plan = Plan::whole(site);
    let copy = plan.path("supervisor");
    fs::copy(env!("CARGO_BIN_EXE_supervisor"), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let shm = plan.path("shm");
    fs::create_dir(&shm).unwrap();
    // Ours to look at, and the only place that can be written.
    nix::unistd::chown(&shm, Some(54321.into()), Some(54321.into())).unwrap();
    let script = "set -e; mount -t tmpfs -o ro none /run; mount --rbind / /mnt; \
                  mount -o remount,ro,bind /mnt; mount --bind DIR/shm /mnt/DIR/shm; shift; \
                  exec chroot /mnt setpriv --reuid 54321 --regid 54321 --clear-groups \
                  --bounding-set=-all --inh-caps=-all --no-new-privs \
                  env -i PATH=/usr/bin:/bin E2E_MARK=DIR DIR/supervisor \"$@\" <&- >&- 2>&-";
    let mut site = wrapped(plan, script).spawn();
    let out = shm.join("out");
    crate::sys_world::until("the program runs", || {
        fs::read_to_string(&out).is_ok_and(|text| text == "54321\nup\n")
    });
    kill(init(&site), Signal::SIGTERM).unwrap();
    assert_eq!(site.code(), 0);
    let log = fs::read_to_string(shm.join("log")).unwrap();
    assert!(log.contains("one: stopped") && log.contains("stopped, exit 0"), "{log}");
    assert!(log.matches(" warn ").count() <= 2, "{log}");
    let left = Path::new("/dev/shm/mini-supervisor-54321");
    if left.exists() {
        fs::remove_dir_all(left).unwrap();
    }
}

#[test]
fn without_proc_it_runs_and_says_so_once() {
    if !possible() {
        return;
    }
    let plan = Plan::new("  one: {command: [sh, -c, 'echo up; exec sleep 1000']}");
    let mut site = wrapped(plan, "mount -t tmpfs none /proc; exec \"$@\"").start_quiet();
    site.stdout.wait_for("up", |line| line == "one | up");
    kill(init(&site), Signal::SIGTERM).unwrap();
    assert_eq!(site.code(), 0);
    assert_eq!(site.stderr.text().matches("no usable /proc").count(), 1);
}

#[test]
fn kubernetes_is_told_why_it_ended() {
    if !possible() {
        return;
    }
    let plan = Plan::new("  main: {command: [DIR/missing], essential: true, restart: never}");
    let dev = plan.path("dev");
    fs::create_dir(&dev).unwrap();
    for name in ["null", "termination-log"] {
        fs::write(dev.join(name), "").unwrap();
    }
    let script = "mount --bind /dev/null DIR/dev/null; mount --rbind DIR/dev /dev; exec \"$@\"";
    let mut site = wrapped(plan, script).spawn();
    assert_eq!(site.code(), 127);
    let told = fs::read_to_string(dev.join("termination-log")).unwrap();
    assert!(told.starts_with("supervisor: exit 127\n"), "{told}");
    assert!(told.contains(" main: ") && told.contains("No such file or directory"), "{told}");
}

#[test]
fn reboot_is_never_called() {
    if !possible() {
        return;
    }
    let plan = Plan::new("  one: {command: [sleep, '1000'], essential: true}");
    let trace = plan.path("trace");
    let words = ["strace", "-f", "-qq", "-e", "trace=reboot", "-o", trace.to_str().unwrap()];
    let words = [&words[..], &UNSHARE].concat();
    // As process 1 it is the child of unshare, which is the child of strace.
    let mut site = plan.wrapped(&words).start();
    site.all_running();
    let unshare = init(&site);
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    let pid = nix::unistd::Pid::from_raw(children.trim().parse().unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(site.end_by_itself(), 0);
    assert!(!fs::read_to_string(&trace).unwrap().contains("reboot("));
}

#[test]
fn not_being_process_1_is_no_reason_to_refuse() {
    if !possible() {
        return;
    }
    // As with shareProcessNamespace: somebody else is process 1, and orphans are ours all the same.
    let words = [&UNSHARE[..], &["sh", "-c", "\"$@\"; exit $?", "sh"]].concat();
    let mut site = Plan::new("  breed: {command: [DIR/breed], type: oneshot}")
        .script("breed", "for i in 1 2 3; do (setsid true &); done")
        .wrapped(&words)
        .start();
    site.wait_for("orphans reaped", |s| s.supervisor.orphans_reaped >= 3);
    let mut stop = Command::new(env!("CARGO_BIN_EXE_supervisor"));
    stop.args(["shutdown", "-s", site.socket().to_str().unwrap()]);
    assert!(stop.output().unwrap().status.success());
    assert_eq!(site.end_by_itself(), 0);
}
