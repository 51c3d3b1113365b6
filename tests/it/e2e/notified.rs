//! Programs that say themselves that they are ready and alive, to the real binary.

use std::{fs, os::unix::net::UnixDatagram, path::Path};

use mini_supervisor::control::{ProgramStatus, StateWord};

use super::harness::{Plan, Site, is_root, program, skip};
use crate::sys_world::until;

/// Sends each argument as a datagram, then does what the first one says.
const SAY: &str = r"
import array, os, signal, socket, sys, time
address = os.environ['NOTIFY_SOCKET']
address = chr(0) + address[1:] if address[0] == '@' else address
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def say(text): s.sendto(text.encode('latin1'), address)
def wait(path):
    while not os.path.exists(path): time.sleep(0.01)
def barrier():
    r, w = os.pipe()
    fds = array.array('i', [w])
    s.sendmsg([b'BARRIER=1'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)], 0, address)
    os.close(w)
    os.read(r, 1)
";

fn plan(programs: &str, script: &str) -> Plan {
    Plan::new(programs).file("say.py", &format!("{SAY}{script}"))
}

fn notifies(name: &str, more: &str) -> String {
    format!("  {name}: {{type: notify, command: [python3, DIR/say.py]{more}}}\n")
}

/// Somebody who is no process of the program says this to it.
fn stranger(site: &Site, name: &str, text: &str) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(text.as_bytes(), site.path(&format!("run/{name}.notify"))).unwrap();
}

fn go(site: &Site, name: &str) {
    fs::write(site.path(name), "").unwrap();
}

fn wait_said(site: &mut Site, name: &str, text: &str) -> ProgramStatus {
    let said = |one: &ProgramStatus| one.status_text.as_deref() == Some(text);
    let status = site.wait_for(text, |status| said(program(status, name)));
    program(&status, name).clone()
}

#[test]
fn a_program_is_starting_until_it_says_that_it_is_ready() {
    let script = "say('STATUS=warming up\\x1b[31m')\nwait('DIR/go')\nsay('READY=1\\nSTATUS=up')\n\
                  signal.pause()";
    let programs = notifies("web", "") + "  user: {command: [sleep, '1000'], requires: [web]}\n";
    let mut site = plan(&programs, script).start();
    let web = wait_said(&mut site, "web", r"warming up\u{1b}[31m");
    assert_eq!((web.state, web.ready), (StateWord::Starting, false));
    assert_eq!(site.program("user").state, StateWord::Waiting);
    go(&site, "go");
    let web = wait_said(&mut site, "web", "up");
    assert_eq!((web.state, web.ready), (StateWord::Running, true));
    site.all_running();
}

#[test]
fn a_program_that_never_says_it_is_ready_is_given_up() {
    let more = ", start_timeout: 300ms, restart: never";
    let mut site = plan(&notifies("web", more), "signal.pause()").start();
    let web = site.wait_state("web", StateWord::Fatal);
    assert_eq!(web.reason, "given up (it was not ready in its time)");
    until("it is gone", || !site.path("run/web.notify").exists());
}

#[test]
fn more_time_is_given_to_whoever_asks_for_it() {
    let script = "for i in range(25):\n  say('EXTEND_TIMEOUT_USEC=20000000')\n  time.sleep(0.1)\n\
                  say('READY=1')\nsignal.pause()";
    let more = ", start_timeout: 2s, restart: never";
    let mut site = plan(&notifies("web", more), script).start();
    site.wait_state("web", StateWord::Running);
}

#[test]
fn systemd_notify_of_a_script_is_believed_though_it_has_ended() {
    if !Path::new("/usr/bin/systemd-notify").exists() {
        return skip("no systemd-notify here");
    }
    let line = "  web: {type: notify, command: [sh, -c, \
                'systemd-notify --ready --status=here; exec sleep 1000']}\n";
    let mut site = Plan::new(line).start();
    site.wait_state("web", StateWord::Running);
    wait_said(&mut site, "web", "here");
}

#[test]
fn what_a_process_says_that_is_gone_when_it_is_read_counts_if_its_user_is_the_programs() {
    let more = "  web: {type: notify, command: [sh, -c, \
                'python3 DIR/say.py; exec sleep 1000']}\n";
    let mut site = plan(more, "say('READY=1')").start();
    site.wait_state("web", StateWord::Running);
}

#[test]
fn a_program_of_another_user_reaches_its_socket() {
    if !is_root() {
        return skip("only root runs programs of others");
    }
    let mut site =
        plan(&notifies("web", ", user: nobody"), "say('READY=1')\nsignal.pause()").start();
    site.wait_state("web", StateWord::Running);
}

#[test]
fn strangers_garbage_and_floods_are_refused_and_told_of_once() {
    let script = "wait('DIR/go')\n\
        say('')\nsay('a\\0b')\nsay('X' * 5000)\nsay('WATCHDOG=perhaps')\n\
        fds = array.array('i', [0] * 250)\n\
        for i in range(30):\n  s.sendmsg([b'FDSTORE=1'], [(socket.SOL_SOCKET, \
        socket.SCM_RIGHTS, fds)], 0, address)\n\
        for i in range(300): say('STATUS=%d' % i)\n\
        say('READY=1\\nSTATUS=end')\nsignal.pause()";
    let mut site = plan(&notifies("web", ""), script).start();
    until("its socket", || site.path("run/web.notify").exists());
    stranger(&site, "web", "READY=1");
    stranger(&site, "web", "STATUS=stranger");
    let refused = "is not of this program is refused";
    site.stderr.wait_for("the refusal", |line| line.contains(refused));
    let web = site.program("web");
    assert_eq!((web.state, web.status_text), (StateWord::Starting, None));
    go(&site, "go");
    wait_said(&mut site, "web", "end");
    site.wait_state("web", StateWord::Running);
    let log = site.stderr.all();
    for told in [
        refused,
        "an empty message",
        "more than 4096 bytes",
        "WATCHDOG= with a value",
        "messages a second",
    ] {
        assert_eq!(log.iter().filter(|l| l.contains(told)).count(), 1, "{told}: {log:#?}");
    }
    let open = fs::read_dir(format!("/proc/{}/fd", site.pid)).unwrap().count();
    assert!(open < 100, "{open} descriptors are open");
}

#[test]
fn another_main_process_is_taken_from_its_own_tree_alone() {
    let script = "say('MAINPID=%d' % os.getppid())\n\
        child = os.fork()\n\
        if child: say('MAINPID=%d\\nREADY=1' % child); barrier(); wait('DIR/go'); os._exit(0)\n\
        signal.pause()";
    let mut site = plan(&notifies("web", ", restart: never"), script).start();
    let first = site.wait_state("web", StateWord::Running).pid;
    site.stderr
        .wait_for("the refusal", |line| line.contains("MAINPID=") && line.contains("refused"));
    go(&site, "go");
    let status = site.wait_for("its heir", |status| program(status, "web").pid != first);
    let web = program(&status, "web");
    assert_eq!((web.state, web.pid.is_some()), (StateWord::Running, true));
    let heir = i32::try_from(web.pid.unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(heir), nix::sys::signal::Signal::SIGUSR1)
        .unwrap();
    // Its end is that of the program.
    let web = site.wait_state("web", StateWord::Exited);
    assert!(web.exit.unwrap().signal.is_some());
}

#[test]
fn a_watchdog_that_is_not_fed_kills_and_stop_post_is_told_so() {
    let script = "assert os.environ['WATCHDOG_PID'] == str(os.getpid())\n\
        assert os.environ['WATCHDOG_USEC'] == '2000000'\n\
        say('READY=1')\nfor i in range(25):\n  say('WATCHDOG=1')\n  time.sleep(0.1)\n\
        say('STATUS=hangs')\nsignal.pause()";
    let more = ", watchdog: 2s, restart: never, \
                stop_post: [[sh, -c, 'echo $SERVICE_RESULT $EXIT_STATUS > DIR/result']]";
    let mut site = plan(&notifies("web", more), script).start();
    wait_said(&mut site, "web", "hangs");
    site.wait_state("web", StateWord::Exited);
    assert_eq!(fs::read_to_string(site.path("result")).unwrap(), "watchdog ABRT\n");
}

#[test]
fn that_it_reloads_or_stops_is_shown() {
    let script = "say('READY=1')\n\
        def hup(*_): say('RELOADING=1\\nMONOTONIC_USEC=%d' % (time.monotonic_ns() // 1000)); \
        wait('DIR/go'); say('READY=1\\nSTATUS=reloaded')\n\
        def term(*_): say('STOPPING=1\\nERRNO=2'); wait('DIR/end'); os._exit(0)\n\
        signal.signal(signal.SIGHUP, hup)\nsignal.signal(signal.SIGTERM, term)\n\
        while True: signal.pause()";
    let mut site = plan(&notifies("web", ", reload: {signal: HUP}"), script).start();
    let pid = site.wait_state("web", StateWord::Running).pid.unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    wait_handler(pid.as_raw());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    let says = |word: Option<&'static str>| {
        move |status: &mini_supervisor::control::SiteStatus| {
            program(status, "web").says.as_deref() == word
        }
    };
    site.wait_for("reloading", says(Some("reloading")));
    go(&site, "go");
    site.wait_for("reloaded", says(None));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = site.wait_for("stopping", says(Some("stopping")));
    assert_eq!(program(&status, "web").status_errno, Some(2));
    go(&site, "end");
}

/// Waits until a process handles SIGTERM.
fn wait_handler(pid: i32) {
    until("it handles SIGTERM", || {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << 14) != 0
    });
}

#[test]
fn a_line_on_its_descriptor_makes_a_program_ready() {
    let line = "  web: {readiness: {fd: 9}, command: [sh, -c, \
                'printf rea >&9; until [ -e DIR/go ]; do sleep 0.01; done; echo dy >&9; \
                exec sleep 1000']}\n";
    let mut site = Plan::new(line).start();
    site.wait_state("web", StateWord::Starting);
    go(&site, "go");
    site.wait_state("web", StateWord::Running);
}

#[test]
fn a_descriptor_that_is_closed_without_a_line_is_told_of_and_its_time_ends() {
    let line = "  web: {readiness: {fd: 3, timeout: 500ms}, restart: never, command: [sh, -c, \
                'exec 3>&-; exec sleep 1000']}\n";
    let mut site = Plan::new(line).start();
    let words = "not ready: descriptor 3 was closed without a line";
    site.stderr.wait_for("the end", |line| line.contains(words));
    site.wait_state("web", StateWord::Fatal);
}

#[test]
fn no_program_gets_the_socket_or_the_descriptor_of_another() {
    let text = "  web: {type: notify, command: [python3, DIR/say.py]}\n\
                \u{20} fd: {readiness: {fd: 5}, command: [sh, -c, 'echo >&5; exec sleep 1000']}\n\
                \u{20} other: {command: [sh, -c, 'env; ls /proc/self/fd; exec sleep 1000']}\n";
    let mut site = plan(text, "say('READY=1')\nsignal.pause()").start();
    site.all_running();
    site.stdout.wait_for("its list", |line| line.contains("other") && line.ends_with("| 3"));
    let all = site.stdout.all();
    let leaked = all.iter().find(|l| l.contains("NOTIFY_SOCKET") || l.ends_with("| 5"));
    assert_eq!(leaked, None);
}
