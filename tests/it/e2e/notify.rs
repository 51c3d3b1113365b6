//! What a service manager is told by `sd_notify(3)`, and when. A false one writes it down.

use std::{
    fs,
    io::Read,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use mini_supervisor::control::{ReloadSite, Reply, Request, StateWord};
use nix::{sys::signal::Signal, unistd::Pid};

use super::{
    daemon::{Daemon, number_in},
    harness::{Plan, Site, fifo, is_root, pids_with, skip},
    lines::Lines,
};
use crate::sys_world::{lives, until};

const SLEEP: &str = "  one: {command: [sleep, '1000'], logging: {stdout: 'null', stderr: 'null'}}";

/// Each message as a line, its lines parted by ` | `; ends after the barrier. A descriptor that
/// comes with a message is closed, since nobody takes it: that is what the barrier waits for.
struct Messages(UnixDatagram);

impl Read for Messages {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let mut text = vec![0; 8000];
        let n = self.0.recv(&mut text)?;
        text.truncate(n);
        if text == b"BARRIER=1" {
            return Ok(0);
        }
        let line = String::from_utf8(text).unwrap().replace('\n', " | ") + "\n";
        to[..line.len()].copy_from_slice(line.as_bytes());
        Ok(line.len())
    }
}

/// A false service manager at `path`.
fn manager(path: &Path) -> Lines {
    Lines::read(Messages(UnixDatagram::bind(path).unwrap()))
}

/// A site that is told of a service manager in its directory, and that manager.
fn managed(plan: Plan) -> (Plan, Lines) {
    let socket = plan.path("notify");
    let messages = manager(&socket);
    (plan.env("NOTIFY_SOCKET", socket.to_str().unwrap()), messages)
}

/// What was told, without the status and the watchdog.
fn steps(messages: &Lines) -> Vec<String> {
    let step = |line: &String| !line.starts_with("STATUS=") && line != "WATCHDOG=1";
    messages.all().into_iter().filter(step).collect()
}

fn first_word(line: &str) -> &str {
    line.split(['=', ' ']).next().unwrap()
}

const READY: &str = "READY=1";

#[test]
fn a_life_is_told_from_ready_to_the_barrier() {
    let (plan, messages) = managed(Plan::new(SLEEP));
    let site = plan.start();
    messages.wait_for("ready", |line| line == READY);
    messages.wait_for("the status", |line| line == "STATUS=1/1 running");
    assert_eq!(site.end(), 0);
    // The end of the text is the barrier.
    messages.text();
    let told = steps(&messages);
    let extend = "EXTEND_TIMEOUT_USEC=10000000";
    assert_eq!(told, [READY, "STOPPING=1", extend], "{:?}", messages.all());
    let last = messages.all().pop().unwrap();
    assert_eq!(last, "STATUS=ended, exit 0 | EXIT_STATUS=0");
}

#[test]
fn with_ready_when_programs_ready_comes_after_them() {
    let programs = "  slow: {command: [DIR/slow], type: oneshot}
  one: {command: [sleep, '1000'], requires: [slow]}
  bad: {command: [/nowhere/bad], restart: {delay: 1h, max_delay: 1h}}
  held: {command: [sleep, '1000'], requires: [bad]}";
    let plan = Plan::new(programs).supervisor("ready_when: programs");
    fifo(&plan, "go");
    let (plan, messages) = managed(plan.script("slow", "echo up > DIR/begun; read w < DIR/go"));
    let mut site = plan.start();
    site.wait_state("bad", StateWord::Backoff);
    site.wait_state("slow", StateWord::Running);
    // More time is asked for while it comes up, and it is not up.
    messages.wait_for("more time", |line| line == "EXTEND_TIMEOUT_USEC=10000000");
    assert!(!messages.all().contains(&READY.to_owned()), "{:?}", messages.all());
    fs::write(site.path("go"), "go\n").unwrap();
    messages.wait_for("ready", |line| line == READY);
    site.wait_state("one", StateWord::Running);
    messages.wait_for("the status", |line| {
        line.starts_with("STATUS=1/3 running; backoff: bad (next at ")
            && line.ends_with("Z); waiting: held")
    });
    assert_eq!(site.end(), 0);
}

#[test]
fn each_reload_is_told_with_its_time_and_its_end() {
    let (plan, messages) = managed(Plan::new(SLEEP));
    let mut site = plan.start();
    messages.wait_for("ready", |line| line == READY);
    let two = format!("{SLEEP}\n  two: {{command: [sleep, '1000']}}");
    site.plan.write(&two);
    site.signal(Signal::SIGHUP);
    site.wait_for("the second", |status| status.programs.len() == 2);
    assert!(matches!(site.reload(SLEEP), Reply::Reloaded(_)));
    let refused = site.reload("  one: {comand: x}");
    assert!(matches!(refused, Reply::Error(_)), "{refused:?}");
    // A look at the difference changes nothing, and is no reload.
    site.plan.write(SLEEP);
    let dry = ReloadSite { dry_run: true, ..ReloadSite::default() };
    assert!(matches!(site.ask(&Request::Reload(dry)), Reply::Reloaded(_)));
    assert_eq!(site.end(), 0);
    messages.text();
    let told = steps(&messages);
    let words: Vec<&str> = told.iter().map(|line| first_word(line)).collect();
    let reload = ["RELOADING", "READY"];
    let expected =
        [&["READY"][..], &reload, &reload, &reload, &["STOPPING", "EXTEND_TIMEOUT_USEC"]].concat();
    assert_eq!(words, expected);
    for line in told.iter().filter(|line| line.starts_with("RELOADING")) {
        let stamp = line.strip_prefix("RELOADING=1 | MONOTONIC_USEC=").unwrap();
        let stamp = Duration::from_micros(stamp.parse().unwrap());
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let uptime = Duration::from_secs_f64(uptime + 1.0);
        assert!(!stamp.is_zero() && stamp <= uptime, "{line} at {uptime:?}");
    }
}

#[test]
fn the_status_is_told_when_it_changes_and_not_more_than_once_a_second() {
    let busy = "  one: {command: ['true'], type: simple, restart: {policy: always, delay: 50ms, \
                max_delay: 50ms, start_limit: {burst: 1000, interval: 1h}}}";
    let (plan, messages) = managed(Plan::new(busy));
    let begin = Instant::now();
    let mut site = plan.start();
    site.wait_for("many restarts", |status| status.programs[0].restarts > 40);
    assert_eq!(site.end(), 0);
    messages.text();
    let seconds = begin.elapsed().as_secs();
    let told = messages.all();
    let status = told.iter().filter(|line| line.starts_with("STATUS=")).count();
    // The last one comes with the end.
    assert!(status >= 2 && u64::try_from(status).unwrap() <= seconds + 3, "{told:#?}");
}

#[test]
fn in_the_background_nothing_is_told_before_the_starter_is_reaped() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let plan = Plan::new(SLEEP).supervisor("pid_file: DIR/pid");
    let plan = plan.supervisor("log: {file: DIR/own.log}");
    plan.write(SLEEP);
    let messages = manager(&plan.path("notify"));
    let begin = Instant::now();
    let mut starter = Command::new(env!("CARGO_BIN_EXE_supervisor"))
        .args(["-d", "-c", plan.path("site.yaml").to_str().unwrap()])
        .env("NOTIFY_SOCKET", plan.path("notify"))
        .env("E2E_MARK", plan.mark())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    // It has ended, and is a zombie until its parent, which is us, asks for it.
    until("the starter ends", || !lives(&starter.id().to_string()));
    let pid = number_in(&plan.path("pid"));
    assert!(lives(&pid.to_string()));
    let mut client = super::client::Client::connect(&plan.path("run/control.sock")).unwrap();
    client.send(&Request::Version(mini_supervisor::control::Empty {})).unwrap();
    client.reply(super::harness::PATIENCE).unwrap();
    let early = messages.all();
    // A service manager that never asks for its starter is not waited for for ever.
    if begin.elapsed() < Duration::from_secs(4) {
        assert_eq!(early, [""; 0]);
    }
    assert_eq!(starter.wait().unwrap().code(), Some(0));
    let first = messages.wait_for("the first message", |_| true);
    assert_eq!(first, format!("MAINPID={pid} | {READY}"));
    messages.wait_for("the status", |line| line == "STATUS=1/1 running");
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    messages.text();
    nix::sys::wait::waitpid(pid, None).unwrap();
    let told = steps(&messages);
    assert_eq!(told[1..], ["STOPPING=1", "EXTEND_TIMEOUT_USEC=10000000"]);
}

#[test]
fn the_watchdog_is_fed_while_nothing_happens_by_the_one_who_was_meant() {
    let fed = |plan: Plan| {
        let (plan, messages) = managed(plan.env("WATCHDOG_USEC", "200000"));
        let site = plan.start();
        messages.wait_for("ready", |line| line == READY);
        (site, messages)
    };
    let times =
        |messages: &Lines| messages.all().iter().filter(|line| *line == "WATCHDOG=1").count();
    let (site, messages) = fed(Plan::new(SLEEP));
    until("it is fed", || times(&messages) >= 5);
    assert_eq!(site.end(), 0);
    // Meant for the process that is started: its pid is known to nobody before.
    let own = ["/bin/sh", "-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\""];
    let (site, messages) = fed(Plan::new(SLEEP).wrapped(&own));
    until("it is fed", || times(&messages) >= 5);
    assert_eq!(site.end(), 0);
    let (site, messages) = fed(Plan::new(SLEEP).env("WATCHDOG_PID", "1"));
    assert_eq!(site.end(), 0);
    messages.text();
    assert_eq!(times(&messages), 0);
    // After the forks it was meant for the starter.
    let plan = Plan::new(SLEEP).supervisor("pid_file: DIR/pid").arg("-d");
    let plan = plan.supervisor("log: {file: DIR/own.log}").wrapped(&own);
    let (plan, messages) = managed(plan.env("WATCHDOG_USEC", "200000"));
    let daemon = Daemon::start(plan);
    until("it is fed", || times(&messages) >= 5);
    assert_eq!(daemon.end(), 0);
}

#[test]
fn a_long_stop_asks_for_more_time_again_and_again() {
    let stubborn = "  one: {command: [DIR/one], stop: {timeout: 60s}}";
    let plan = Plan::new(stubborn);
    fifo(&plan, "go");
    let script = "trap 'read word < DIR/go; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let (plan, messages) = managed(plan.script("one", script));
    let site = plan.start();
    site.stdout.wait_for("the program", |line| line.ends_with("up"));
    site.signal(Signal::SIGTERM);
    let times = || messages.all().iter().filter(|l| l.starts_with("EXTEND_TIMEOUT_USEC=")).count();
    until("more time is asked for twice", || times() >= 2);
    messages.wait_for("who is left", |line| line == "STATUS=stopping; 1 left: one");
    fs::write(site.path("go"), "go\n").unwrap();
    let mut site = site;
    assert_eq!(site.end_by_itself(), 0);
}

/// Sends TERM as systemd does with `KillMode=control-group`: to the main process, then to all.
fn term_to_all(site: &Site) {
    let all = pids_with(&site.plan.mark());
    site.signal(Signal::SIGTERM);
    for pid in all.into_iter().map(Pid::from_raw).filter(|pid| *pid != site.pid) {
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap_or_default();
    }
}

#[test]
fn when_the_whole_group_is_told_to_end_nothing_is_started_again() {
    let rounds = if super::harness::full() { 20 } else { 3 };
    for _ in 0..rounds {
        let programs = "  one: {command: [DIR/one], instances: 50, restart: {policy: always, \
                        delay: 0, max_delay: 0}}";
        let script = "echo up >> DIR/runs; exec sleep 1000";
        let mut site = Plan::new(programs).script("one", script).start();
        site.all_running();
        until("all have begun", || {
            fs::read_to_string(site.path("runs")).unwrap_or_default().lines().count() == 50
        });
        term_to_all(&site);
        assert_eq!(site.end_by_itself(), 0);
        assert_eq!(fs::read_to_string(site.path("runs")).unwrap().lines().count(), 50);
        let log = site.stderr.text();
        let after = log.split_once("stopping the site").unwrap().1;
        assert!(!after.contains("started (") && !after.contains("attempt"), "{after}");
        assert!(!log.contains("warn "), "nothing has crashed: {log}");
    }
}

#[test]
fn a_site_that_does_not_come_up_says_why_with_its_exit_code() {
    let (plan, messages) = managed(Plan::new("  one: {comand: x}"));
    let (code, _, _) = plan.run();
    assert_eq!(code, 78);
    messages.text();
    let told = messages.all();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("STATUS=/") && told[0].contains("programs.one: "), "{told:?}");
    assert!(told[0].ends_with(" | EXIT_STATUS=78"), "{told:?}");
}

#[test]
fn nothing_of_the_protocol_reaches_a_program() {
    let programs = "  all: {command: [DIR/one, all], inherit_environment: true, \
start_pre: [{command: [DIR/one, pre]}], start_post: [{command: [DIR/one, post]}], \
stop: {command: [DIR/one, stop]}, stop_post: [{command: [DIR/one, gone]}]}
  named: {command: [DIR/one, named], inherit_environment: [NOTIFY_SOCKET, WATCHDOG_USEC, \
WATCHDOG_PID, LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES, FDSTORE, KEPT]}";
    let ours = [
        ("WATCHDOG_PID", "1"),
        ("WATCHDOG_USEC", "60000000"),
        ("LISTEN_PID", "1"),
        ("LISTEN_FDS", "1"),
        ("LISTEN_FDNAMES", "state"),
        ("LISTEN_PIDFDID", "1"),
        ("FDSTORE", "5"),
    ];
    let plan = Plan::new(programs).env("KEPT", "yes").script(
        "one",
        "env > DIR/env.$1.new; mv DIR/env.$1.new DIR/env.$1
case $1 in
  all|named) exec sleep 1000 ;;
  stop) kill $MAINPID ;;
esac",
    );
    let (mut plan, messages) = managed(plan);
    for (name, value) in ours {
        plan = plan.env(name, value);
    }
    let mut site = plan.start();
    messages.wait_for("ready", |line| line == READY);
    site.all_running();
    for who in ["all", "named"] {
        until("its environment", || site.path(&format!("env.{who}")).exists());
    }
    site.signal(Signal::SIGTERM);
    assert_eq!(site.end_by_itself(), 0);
    for who in ["all", "pre", "post", "stop", "gone", "named"] {
        let text = fs::read_to_string(site.path(&format!("env.{who}"))).unwrap();
        let names: Vec<&str> = text.lines().filter_map(|l| l.split('=').next()).collect();
        assert!(names.contains(&"KEPT"), "{who}: {names:?}");
        for (name, _) in ours.iter().chain(&[("NOTIFY_SOCKET", "")]) {
            assert!(!names.contains(name), "{who} has {name}");
        }
    }
}

#[test]
fn a_program_ends_by_sigpipe_although_systemd_ignores_it() {
    let programs = "  one: {command: [sh, -c, 'kill -PIPE $$$$; exit 5'], restart: {policy: never}}
  two: {command: [sh, -c, 'yes | head -1'], type: oneshot}";
    let ignoring = ["/bin/sh", "-c", "trap '' PIPE; exec \"$0\" \"$@\""];
    let mut site = Plan::new(programs).wrapped(&ignoring).start();
    let one = site.wait_for("its end", |status| status.programs[0].exit.is_some()).programs;
    let exit = one[0].exit.unwrap();
    assert_eq!((exit.code, exit.signal.map(|s| s.to_string()).as_deref()), (None, Some("SIGPIPE")));
    site.wait_state("two", StateWord::Exited);
    site.stdout.wait_for("its line", |line| line.ends_with("| y"));
    let told = site.stdout.all().join("\n") + &site.stderr.all().join("\n");
    assert!(!told.contains("Broken pipe"), "{told}");
    assert_eq!(site.end(), 0);
}

#[test]
fn as_process_1_the_service_manager_is_told_the_same() {
    if !is_root() {
        return skip("only root makes PID namespaces");
    }
    let wrapper = ["unshare", "-pf", "--mount-proc", "--kill-child"];
    let (plan, messages) = managed(Plan::new(SLEEP).wrapped(&wrapper));
    let mut site = plan.start();
    messages.wait_for("ready", |line| line == READY);
    let stop = mini_supervisor::control::Shutdown { force: false };
    assert!(matches!(site.ask(&Request::Shutdown(stop)), Reply::Done));
    assert_eq!(site.code(), 0);
    messages.text();
    assert_eq!(steps(&messages)[..2], [READY, "STOPPING=1"]);
}

#[test]
fn an_abstract_address_is_as_good_as_a_path() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("ms-e2e-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let messages = Lines::read(Messages(UnixDatagram::bind_addr(&address).unwrap()));
    let site = Plan::new(SLEEP).env("NOTIFY_SOCKET", &format!("@{name}")).start();
    messages.wait_for("ready", |line| line == READY);
    assert_eq!(site.end(), 0);
    messages.text();
}

#[test]
fn a_service_manager_that_is_gone_or_reads_nothing_holds_up_nothing() {
    // Nobody was ever there.
    let absent = Plan::new(SLEEP);
    let address = absent.path("nobody").display().to_string();
    for address in [address.as_str(), "relative", "@", "/", &"/x".repeat(100), "vsock:2:1"] {
        let plan = Plan::new(SLEEP).env("NOTIFY_SOCKET", address).env("WATCHDOG_USEC", "100000");
        let mut site = plan.start();
        site.all_running();
        assert_eq!(site.end(), 0, "{address}");
    }
    // It goes away meanwhile.
    let (plan, messages) = managed(Plan::new(SLEEP).env("WATCHDOG_USEC", "100000"));
    let mut site = plan.start();
    messages.wait_for("ready", |line| line == READY);
    fs::remove_file(site.path("notify")).unwrap();
    assert!(matches!(site.reload(SLEEP), Reply::Reloaded(_)));
    site.all_running();
    assert_eq!(site.end(), 0);
    // It is there and reads nothing: its queue is full after a few messages.
    let plan = Plan::new(SLEEP).env("WATCHDOG_USEC", "2000");
    let socket = plan.path("deaf");
    let deaf = UnixDatagram::bind(&socket).unwrap();
    let mut site = plan.env("NOTIFY_SOCKET", socket.to_str().unwrap()).start();
    site.all_running();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    until("its queue is full", || sender.send_to(b"X=1", &socket).is_err());
    assert!(matches!(site.reload(SLEEP), Reply::Reloaded(_)));
    assert_eq!(site.end(), 0);
    drop(deaf);
}
