//! Programs of `type: forking`: the daemon that their command leaves is the program.

use std::{fs, process::Command};

use mini_supervisor::control::StateWord;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::harness::{PATIENCE, Plan, pids_with, program};
use crate::sys_world::until;

/// A daemon by the book, but for what its second argument asks for.
const DAEMON: &str = r"
import os, signal, sys, time
path, how = sys.argv[1], sys.argv[2]
os.umask(0 if how == 'open' else 0o022)
if how == 'fails': os._exit(7)
if how == 'hangs': signal.pause()
if how != 'stays' and os.fork(): os._exit(0)
if how == 'vanishes': os._exit(0)
if how == 'single': os.setsid()
elif how == 'seed' or how == 'stays': pass
else:
    os.setsid()
    if os.fork(): os._exit(0)
signal.signal(signal.SIGUSR1, lambda *a: os._exit(3))
signal.signal(signal.SIGTERM, lambda *a: os._exit(0))
me = os.getpid()
def write(text, to=path):
    with open(to, 'w') as file: file.write(text)
if how == 'late':
    while not os.path.exists(path + '.go'): time.sleep(0.01)
    write('')
    write(str(me)[:1])
    write('%d\n' % me)
elif how == 'deep':
    while not os.path.exists(path + '.go'): time.sleep(0.01)
    os.makedirs(os.path.dirname(path) + '/deep/er')
    write('%d\n' % me, os.path.dirname(path) + '/deep/er/pid')
elif how == 'renamed':
    write('%d\n' % me, path + '.new')
    os.rename(path + '.new', path)
elif how == 'fifo': os.mkfifo(path)
elif how == 'link':
    write('%d\n' % me, path + '.real')
    os.symlink(path + '.real', path)
elif how == 'big': write('1' * (1 << 20))
elif how.startswith('text:'): write(how[5:])
elif how != 'never': write('%d\n' % me)
while True: signal.pause()
";

fn line(name: &str, how: &str, more: &str) -> String {
    format!(
        "  {name}: {{type: forking, pid_file: DIR/{name}.pid, \
         command: [python3, DIR/daemon.py, DIR/{name}.pid, '{how}']{more}}}\n"
    )
}

fn plan(programs: &str) -> Plan {
    Plan::new(programs).file("daemon.py", DAEMON)
}

#[test]
fn the_daemon_is_the_program_and_its_real_exit_is_seen() {
    let restart = ", restart: {policy: on-failure, delay: 10ms}";
    let all = [("one", "self"), ("two", "renamed"), ("three", "single"), ("four", "seed")];
    let programs: String = all.iter().map(|(name, how)| line(name, how, restart)).collect();
    let mut site = plan(&programs).start();
    site.all_running();
    for (name, _) in all {
        let pid = site.main_pid(name);
        let file = fs::read_to_string(site.path(&format!("{name}.pid"))).unwrap();
        assert_eq!(file, format!("{pid}\n"));
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGUSR1).unwrap();
        site.stderr.wait_for("its exit", |l| l.contains(&format!("{name}: exit 3 after")));
        site.wait_for("its next life", |status| {
            let now = program(status, name);
            now.state == StateWord::Running && now.pid.is_some_and(|now| now != pid)
        });
        let now = site.main_pid(name);
        kill(Pid::from_raw(now.cast_signed()), Signal::SIGKILL).unwrap();
        site.wait_for("the one after", |status| {
            let then = program(status, name);
            then.state == StateWord::Running && then.pid.is_some_and(|then| then != now)
        });
    }
    // The supervisor and one daemon each.
    until("no second instance", || pids_with(&site.plan.mark()).len() == 1 + all.len());
    let dir = site.path("");
    assert_eq!(site.end(), 0);
    assert!(!dir.join("one.pid").exists() && !dir.join("two.pid").exists(), "a PID file is left");
}

#[test]
fn a_pid_file_that_comes_late_and_in_pieces_is_waited_for() {
    let programs =
        [line("late", "late", ""), "  after: {command: [sleep, '1000'], after: [late]}\n".into()];
    let mut site = plan(&programs.concat()).start();
    site.wait_for("the search", |status| {
        program(status, "late").reason.contains("its daemon is looked for: there is no ")
    });
    assert_eq!(program(&site.status(), "late").state, StateWord::Starting);
    assert_eq!(program(&site.status(), "after").state, StateWord::Waiting);
    fs::write(site.path("late.pid.go"), "").unwrap();
    site.all_running();
    assert_eq!(site.end(), 0);
}

#[test]
fn a_directory_that_is_made_later_is_looked_into() {
    let program = "  one: {type: forking, pid_file: DIR/deep/er/pid, \
                   command: [python3, DIR/daemon.py, DIR/one.pid, deep]}\n";
    let mut site = plan(program).start();
    site.wait_for("the search", |status| {
        program_reason(status, "one").contains("its daemon is looked for: there is no ")
    });
    fs::write(site.path("one.pid.go"), "").unwrap();
    site.all_running();
    assert_eq!(site.end(), 0);
}

#[test]
fn a_failed_start_leaves_no_daemon_whatever_the_kill_mode() {
    let more = ", restart: never, start_timeout: 1s, stop: {timeout: 200ms, kill_mode: process}";
    let mut site = plan(&line("one", "never", more)).start();
    site.wait_state("one", StateWord::Fatal);
    until("its daemon is ended", || pids_with(&site.plan.mark()).len() == 1);
    assert_eq!(site.end(), 0);
}

fn program_reason(status: &mini_supervisor::control::SiteStatus, name: &str) -> String {
    program(status, name).reason.clone()
}

#[test]
fn what_an_earlier_run_has_left_in_the_pid_file_is_not_believed() {
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    for stale in [stranger.id().to_string(), "4194300".into(), "1".into()] {
        let plan = plan(&line("one", "late", "")).file("one.pid", &format!("{stale}\n"));
        let mut site = plan.start();
        site.wait_for("the search", |status| {
            program(status, "one").reason.contains("its daemon is looked for: ")
        });
        fs::write(site.path("one.pid.go"), "").unwrap();
        site.all_running();
        assert_ne!(site.main_pid("one").to_string(), stale);
        assert_eq!(site.end(), 0);
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
    }
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_pid_file_that_cannot_be_trusted_starts_nothing_and_ends_nobody_else() {
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    let foreign = format!("text:{}", stranger.id());
    let cases = [
        ("never", "never", "there is no "),
        ("garbage", "text:garbage", "holds no pid, but \"garbage\""),
        ("empty", "text:", "holds no pid, but \"\""),
        ("zero", "text:0", "holds no pid"),
        ("init", "text:1", "holds no pid"),
        ("minus", "text:-1", "holds no pid"),
        ("huge", "text:99999999999", "holds no pid"),
        ("two", "text:12 34", "holds no pid"),
        ("big", "big", "holds no pid"),
        ("fifo", "fifo", "is no regular file"),
        ("link", "link", "is a symbolic link, which is not followed"),
        ("open", "open", "others may write "),
        ("foreign", foreign.as_str(), "which is no process of this start"),
    ];
    let more = ", restart: never, start_timeout: 2s, stop: {timeout: 200ms}";
    let programs: String = cases.iter().map(|(name, how, _)| line(name, how, more)).collect();
    let mut site = plan(&programs).start();
    for (name, _, why) in cases {
        site.wait_state(name, StateWord::Fatal);
        let reason = program(&site.status(), name).reason.clone();
        assert!(reason.contains("its daemon was not found: ") && reason.contains(why), "{reason}");
        site.stderr
            .wait_for("the time limit", |l| l.contains(&format!("{name}: command took too long")));
    }
    until("their daemons are ended", || pids_with(&site.plan.mark()).len() == 1);
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
    assert_eq!(site.end(), 0);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_command_that_fails_or_leaves_nobody_is_a_failed_start() {
    let more = ", restart: never";
    let programs = [line("fails", "fails", more), line("gone", "vanishes", more)].concat();
    let mut site = plan(&programs).start();
    site.wait_state("fails", StateWord::Fatal);
    site.wait_state("gone", StateWord::Fatal);
    assert!(program(&site.status(), "fails").reason.contains("its command: exit 7"));
    let reason = program(&site.status(), "gone").reason.clone();
    assert!(reason.contains("the command has left no process behind"), "{reason}");
    assert_eq!(site.end(), 0);
}

#[test]
fn a_stop_while_it_starts_ends_command_and_daemon() {
    for how in ["hangs", "never"] {
        let mut site = plan(&line("one", how, "")).start();
        until("it is on its way", || pids_with(&site.plan.mark()).len() == 2);
        site.wait_state("one", StateWord::Starting);
        let began = std::time::Instant::now();
        assert_eq!(site.end(), 0);
        assert!(began.elapsed() < PATIENCE / 2, "{how}: {:?}", began.elapsed());
    }
}

#[test]
fn one_program_runs_the_same_in_front_and_behind() {
    let programs = [
        line("behind", "self", ", restart: {delay: 10ms}"),
        "  front: {command: [python3, DIR/daemon.py, DIR/front.pid, stays], \
         restart: {delay: 10ms}}\n"
            .to_owned(),
    ];
    let mut site = plan(&programs.concat()).start();
    site.all_running();
    for name in ["behind", "front"] {
        let pid = site.main_pid(name);
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGUSR1).unwrap();
        site.stderr.wait_for("its exit", |l| l.contains(&format!("{name}: exit 3 after")));
        site.wait_for("its next life", |status| {
            let now = program(status, name);
            now.state == StateWord::Running && now.pid.is_some_and(|now| now != pid)
        });
    }
    assert_eq!(site.end(), 0);
}
