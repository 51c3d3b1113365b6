//! The PID file of a supervisor in the background, who may have it, and whom nobody can name.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, symlink},
    path::Path,
    process::{Command, Stdio},
};

use mini_supervisor::control::{Reply, Request, SendSignal, StateWord};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    daemon::{Daemon, SLEEP, number_in, plan, stat},
    harness::{Plan, lock_is_free, pids_with, processes},
};
use crate::sys_world::{lives, until};

#[test]
fn whatever_stood_in_the_place_of_the_pid_file_is_replaced() {
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    let own = format!("{}\n", stranger.id());
    // A process id that nobody has: larger than any (proc_sys_kernel(5), pid_max).
    for stale in [own.as_str(), "4194304\n", "garbage\n", "", "1\n", "-1\n"] {
        let daemon = Daemon::start(plan(SLEEP).arg("-d").file("pid", stale));
        assert_eq!(stat(daemon.pid, 3).len(), 1, "{stale:?}");
        assert_eq!(daemon.end(), 0);
    }
    let linked = plan(SLEEP).arg("-d").file("victim", "precious\n");
    symlink(linked.path("victim"), linked.path("pid")).unwrap();
    let daemon = Daemon::start(linked);
    assert!(!fs::symlink_metadata(daemon.site.path("pid")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(daemon.site.path("victim")).unwrap(), "precious\n");
    assert_eq!(daemon.end(), 0);
    let piped = plan(SLEEP).arg("-d");
    super::harness::fifo(&piped, "pid");
    let daemon = Daemon::start(piped);
    assert!(!fs::metadata(daemon.site.path("pid")).unwrap().file_type().is_fifo());
    assert_eq!(daemon.end(), 0);
    assert_eq!(stranger.try_wait().unwrap(), None, "the stranger lives");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_pid_file_that_is_no_longer_ours_stays() {
    let daemon = Daemon::start(plan(SLEEP).arg("-d"));
    let (pid, path) = (daemon.pid, daemon.site.path("pid"));
    fs::write(daemon.site.path("other"), format!("{pid}\n")).unwrap();
    fs::rename(daemon.site.path("other"), &path).unwrap();
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{pid}\n"));
    daemon.site.assert_nothing_left();
}

#[test]
fn a_second_daemon_names_the_first_and_touches_nothing() {
    let daemon = Daemon::start(plan(SLEEP).arg("-d"));
    let identity = |name: &str| {
        let meta = fs::metadata(daemon.site.path(name)).unwrap();
        (meta.ino(), meta.mtime_nsec(), meta.ctime_nsec())
    };
    let before = ["pid", "pid.lock", "run/supervisor.lock", "run/control.sock"].map(identity);
    let second = |site: &Path, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
        let output = command.arg("-d").arg("-c").arg(site).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = second(&daemon.site.path("site.yaml"), &[]);
    assert_eq!(code, Some(73), "{text}");
    assert!(text.contains(&format!("pid {} does so already", daemon.pid)), "{text}");
    // Another site, with its own runtime directory, and the same PID file.
    let other = daemon.site.path("other.yaml");
    let text = fs::read_to_string(daemon.site.path("site.yaml")).unwrap();
    fs::write(&other, text.replace("/run,", "/run2,")).unwrap();
    let (code, text) = second(&other, &[]);
    assert_eq!(code, Some(73), "{text}");
    assert!(text.contains("PID file") && text.contains(&format!("pid {}", daemon.pid)), "{text}");
    // The command line names it too.
    let file = daemon.site.path("pid").display().to_string();
    fs::write(&other, text_without_pid_file(&other)).unwrap();
    assert_eq!(second(&other, &["--pid-file", &file]).0, Some(73));
    let after = ["pid", "pid.lock", "run/supervisor.lock", "run/control.sock"].map(identity);
    assert_eq!(before, after);
    assert_eq!(daemon.end(), 0);
}

fn text_without_pid_file(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let start = text.find("pid_file: ").unwrap();
    let end = text[start..].find('}').unwrap();
    format!("{}pid_file: /nowhere/pid{}", &text[..start], &text[start + end..])
}

#[test]
fn of_fifty_started_at_once_one_is_up_and_its_pid_file_is_whole() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let plan = plan(SLEEP);
    plan.write(SLEEP);
    let start = |_| {
        Command::new(env!("CARGO_BIN_EXE_supervisor"))
            .arg("-d")
            .arg("-c")
            .arg(plan.path("site.yaml"))
            .env("E2E_MARK", plan.mark())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let all: Vec<_> = (0..50).map(start).collect();
    let codes: Vec<i32> =
        all.into_iter().map(|mut one| one.wait().unwrap().code().unwrap()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 73).count(), 49, "{codes:?}");
    let pid = number_in(&plan.path("pid"));
    assert!(processes(&plan.mark()).iter().any(|one| one.starts_with(&format!("{pid} "))));
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
    assert!(!plan.path("pid").exists() && pids_with(&plan.mark()).is_empty());
}

#[test]
fn a_program_that_outlives_a_killed_daemon_does_not_hold_its_locks() {
    let Daemon { mut site, pid } = Daemon::start(plan(SLEEP).arg("-d"));
    let orphan = Pid::from_raw(site.main_pid("one").cast_signed());
    kill(pid, Signal::SIGKILL).unwrap();
    waitpid(pid, None).unwrap();
    assert!(lives(&orphan.to_string()));
    assert!(lock_is_free(&site.path("run/supervisor.lock")));
    assert!(lock_is_free(&site.path("pid.lock")));
    let empty = Plan::whole("");
    let daemon = Daemon::start(std::mem::replace(&mut site.plan, empty));
    assert_ne!(daemon.pid, pid);
    kill(orphan, Signal::SIGKILL).unwrap();
    waitpid(orphan, None).unwrap();
    assert_eq!(daemon.end(), 0);
}

#[test]
fn a_pid_file_that_a_program_leaves_behind_is_removed_when_it_is_down() {
    let programs = "  one: {command: [DIR/one], restart: {policy: never}, \
cleanup: [{file: DIR/one.pid}], stop_post: [{command: [rm, '-f', DIR/one.pid]}], \
logging: {stdout: 'null', stderr: 'null'}}";
    let script = "[ -e DIR/one.pid ] && echo stale > DIR/stale
echo $$ > DIR/one.pid; read w < DIR/go; kill -KILL $$";
    let plan = Plan::new(programs).file("one.pid", "4194304\n");
    super::harness::fifo(&plan, "go");
    let mut site = plan.script("one", script).start();
    let pid = site.main_pid("one");
    until("it writes its file", || {
        fs::read_to_string(site.path("one.pid")).is_ok_and(|text| text == format!("{pid}\n"))
    });
    assert!(!site.path("stale").exists(), "the one of its predecessor was removed before");
    fs::write(site.path("go"), "go\n").unwrap();
    site.wait_state("one", StateWord::Exited);
    assert!(!site.path("one.pid").exists());
    assert_eq!(site.end(), 0);
}

#[test]
fn what_a_client_names_is_a_program_of_the_site_or_nothing_is_touched() {
    let mut site = Plan::new(SLEEP).start();
    let pid = site.main_pid("one");
    let own = format!("{}", site.pid);
    let hostile =
        ["../one", "/one", "one/../one", "one\0", "\u{ff4f}ne", "-1", "0", "1", &own, "", " one"];
    for name in hostile {
        let change = super::harness::change(&[name]);
        let signal =
            SendSignal { names: vec![name.into()], signal: mini_supervisor::model::Signal::KILL };
        for request in [Request::Stop(change.clone()), Request::Signal(signal)] {
            let reply = site.ask(&request);
            assert!(matches!(reply, Reply::Error(_)), "{name:?}: {reply:?}");
        }
    }
    assert_eq!(site.main_pid("one"), pid);
    assert_eq!(site.end(), 0);
}
