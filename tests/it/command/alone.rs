//! `supervisor [--] CMD`, alone: as a user starts it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The binary under a name of its own: what stands below it dies with the test.
pub(super) fn supervisor(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
    command.args(args).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

/// Exit code, standard output, standard error.
pub(super) fn ran(mut command: Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// It runs, and its first line of output has come.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut child = supervisor(args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut this = Self { child, lines };
        assert_eq!(this.line(), "ready");
        this
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // nix has no real-time signals.
        let sent = Command::new("/bin/kill").args([format!("-{signal}"), pid.to_string()]).status();
        assert!(sent.unwrap().success(), "{signal}");
    }

    /// SIGTERM until it has ended.
    fn insist(mut self) -> i32 {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        crate::sys_world::until("the wrapper ends", || {
            kill(pid, Signal::SIGTERM).ok();
            self.child.try_wait().is_ok_and(|ended| ended.is_some())
        });
        self.end()
    }

    fn end(mut self) -> i32 {
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), None);
        status.code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // Until it is seen: the second one kills what does not end by itself.
            let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
            crate::sys_world::until("the wrapper ends", || {
                kill(pid, Signal::SIGTERM).ok();
                self.child.try_wait().is_ok_and(|ended| ended.is_some())
            });
            self.child.wait().ok();
        }
    }
}

#[test]
fn the_words_of_the_command_arrive_verbatim() {
    let words = ["a  b", "", "--json", "-c", "$HOME", "--", "\u{e4}"];
    for first in [&["--"][..], &[]] {
        let args = [first, &["printf", "%s|"], &words].concat();
        let (code, out, err) = ran(supervisor(&args));
        assert_eq!((code, out.as_str(), err.as_str()), (0, "a  b||--json|-c|$HOME|--|\u{e4}|", ""));
    }
    let (code, out, _) = ran(supervisor(&["ls", "-l", "/proc/self/exe"]));
    assert!(code == 0 && out.starts_with('l'), "{out}");
}

#[test]
fn the_exit_of_the_command_is_the_exit_of_the_wrapper() {
    for code in [0, 1, 2, 42, 126, 127, 128, 143, 255] {
        assert_eq!(ran(supervisor(&["--", "sh", "-c", &format!("exit {code}")])).0, code);
    }
    for signal in [1, 2, 6, 9, 11, 15, 34] {
        let script = format!("ulimit -c 0; kill -{signal} $$");
        assert_eq!(ran(supervisor(&["--", "bash", "-c", &script])).0, 128 + signal, "{signal}");
    }
    let mapped = ["-e", "3", "-e143", "--", "sh", "-c"];
    for (script, code) in [("exit 3", 0), ("exit 4", 4), ("kill $$", 0)] {
        assert_eq!(ran(supervisor(&[&mapped[..], &[script]].concat())).0, code, "{script}");
    }
}

#[test]
fn what_cannot_be_executed_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("data"), "x").unwrap();
    fs::write(path("script"), "echo $0 $1; exit 5").unwrap();
    fs::set_permissions(path("script"), fs::Permissions::from_mode(0o755)).unwrap();
    for (command, code, text) in [
        ("/nonexistent/x", 127, "cannot run /nonexistent/x: No such file or directory"),
        ("nosuchprogram", 127, "hint: it is in no directory of PATH"),
        (&path("data"), 126, "hint: make it executable"),
        (dir.path().to_str().unwrap(), 126, "Permission denied"),
    ] {
        let (got, out, err) = ran(supervisor(&["--", command]));
        assert_eq!((got, out.as_str()), (code, ""), "{command}");
        assert!(err.starts_with("supervisor: ") && err.contains(text), "{err}");
    }
    // As execvp(3), and so tini, does it.
    let (code, out, _) = ran(supervisor(&["--", &path("script"), "a"]));
    assert_eq!((code, out), (5, format!("{} a\n", path("script"))));
}

#[test]
fn a_misspelt_verb_starts_nothing_and_options_of_commands_need_one() {
    for (args, text) in [
        (&["stauts"][..], "did you mean status?"),
        (&["-c", "/nonexistent.yaml", "nosuchprogram"], "no verb is called"),
        (&["--"], "no command behind --"),
        (&["--grace", "1s"], "--grace is for a command"),
        (&["--rewrite", "TERM", "--", "true"], "write TERM:QUIT"),
        (&["--stop-timeout", "5", "--", "true"], "5s or 5m"),
    ] {
        let (code, out, err) = ran(supervisor(args));
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains(text), "{args:?}: {err}");
    }
    let mut wrong = supervisor(&["--", "true"]);
    wrong.env("SUPERVISOR_SHUTDOWN_TIMEOUT", "soon");
    assert_eq!(ran(wrong).0, 2);
    assert_eq!(ran(supervisor(&["--dry-run", "--", "echo", "a b"])).1, "run echo 'a b'\n");
}

/// Says which signals come: `ready`, then a number a line, until SIGUSR2.
const LISTENER: &str = "import signal, os, sys
def heard(n, f): os.write(1, b'%d\\n' % n)
for n in range(1, 65):
    if n not in (9, 17, 19, 32, 33): signal.signal(n, heard)
os.write(1, b'ready\\n')
while True: signal.pause()";

#[test]
fn every_signal_that_can_be_caught_reaches_the_command() {
    let mut running =
        Running::start(&["--grace", "0", "--stop-timeout", "1h", "--", "python3", "-c", LISTENER]);
    let kept = [9, 17, 19, 32, 33, 21, 22, 11, 7, 8, 4];
    for number in (1..=64).filter(|number| !kept.contains(number)) {
        running.signal(number);
        assert_eq!(running.line(), number.to_string());
    }
    // The terminal's own are neither passed on nor do they stop us; SIGKILL ends the command.
    running.signal(21);
    running.signal(22);
    running.signal(10);
    assert_eq!(running.line(), "10");
}

#[test]
fn with_a_group_all_of_it_hears() {
    let script = "trap 'echo outer' HUP; (trap 'echo inner; exit' HUP; echo ready; \
                  while :; do read x < <(exec sleep 1000); done) & while :; do wait; done";
    let mut running = Running::start(&["-g", "--", "bash", "-c", script]);
    running.signal(1);
    let mut heard = [running.line(), running.line()];
    heard.sort();
    assert_eq!(heard, ["inner", "outer"]);
    running.signal(15);
    assert_eq!(running.end(), 143);
}

#[test]
fn signals_are_rewritten_by_name_and_number() {
    let args = [
        "--rewrite",
        "TERM:QUIT,1:0",
        "--rewrite",
        "10:SIGUSR2",
        "--grace",
        "0",
        "--stop-timeout",
        "1h",
        "--",
    ];
    let mut running = Running::start(&[&args[..], &["python3", "-c", LISTENER]].concat());
    for number in [1, 15, 10] {
        running.signal(number);
    }
    assert_eq!([running.line(), running.line()], ["3", "12"]);
}

#[test]
fn what_the_command_leaves_behind_has_time_to_clean_up() {
    let script = "(trap 'sleep 0.3; echo CLEANED; exit' TERM; while :; do sleep 0.05; done) & \
                  read x < <(sleep 0.2); exit 5";
    let (code, out, _) = ran(supervisor(&["--", "bash", "-c", script]));
    assert_eq!((code, out.as_str()), (5, "CLEANED\n"));
    // Who has left the session is found all the same.
    let escaped = "setsid bash -c 'trap \"echo CLEANED; exit\" TERM; echo ready; \
                   while :; do sleep 0.05; done' & read x < <(sleep 0.3); exit 6";
    let (code, out, _) = ran(supervisor(&["--", "bash", "-c", escaped]));
    assert_eq!((code, out.as_str()), (6, "ready\nCLEANED\n"));
}

#[test]
fn what_does_not_clean_up_is_killed_after_the_grace() {
    let script = "(trap '' TERM; echo $BASHPID; exec sleep 1000) & read x < <(sleep 0.2); exit 7";
    let (code, out, err) = ran(supervisor(&["--grace", "300ms", "--", "bash", "-c", script]));
    assert_eq!(code, 7);
    assert!(err.contains("what bash left behind still runs after 300ms: killing it"), "{err}");
    let pid: i32 = out.trim().parse().unwrap();
    assert!(kill(Pid::from_raw(pid), None).is_err(), "{pid} lives");
}

#[test]
fn children_that_were_there_before_the_wrapper_are_not_the_commands() {
    let binary = env!("CARGO_BIN_EXE_supervisor");
    let script = format!("sleep 1000 & echo $!; exec {binary} -- sh -c 'exit 3'");
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).stdin(Stdio::null());
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = shell.stdout(writer).spawn().unwrap();
    drop(shell);
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).unwrap();
    let pid = Pid::from_raw(line.trim().parse().unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert_eq!(kill(pid, None), Ok(()), "it was ended");
    kill(pid, Signal::SIGKILL).unwrap();
}

const DEAF: &str = "trap '' TERM; echo ready; while :; do sleep 1000 & wait; done";

#[test]
fn a_command_that_ignores_sigterm_is_killed_in_time_or_by_a_second_one() {
    let late = Running::start(&["--stop-timeout", "300ms", "--", "bash", "-c", DEAF]);
    late.signal(15);
    assert_eq!(late.end(), 137);
    let twice = Running::start(&["--stop-timeout", "1h", "--", "bash", "-c", DEAF]);
    assert_eq!(twice.insist(), 137);
}

#[test]
fn descriptors_and_variables_pass_through() {
    let file = tempfile::tempfile().unwrap();
    let mut command = supervisor(&[
        "--",
        "sh",
        "-c",
        "ls /proc/self/fd; env; exec grep SigBlk /proc/self/status",
    ]);
    command.env("NOTIFY_SOCKET", "/x").env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    // By the shell, which does not close it at exec.
    let mut shell = Command::new("sh");
    let binary = command.get_program().to_str().unwrap().to_owned();
    shell.args(["-c", "exec \"$0\" \"$@\" 7<&0", &binary]).args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(file);
    let command = shell;
    let (code, out, _) = ran(command);
    assert_eq!(code, 0);
    for line in ["7", "NOTIFY_SOCKET=/x", "LISTEN_FDS=1", "LISTEN_PID=1"] {
        assert!(out.lines().any(|l| l == line), "{line}: {out}");
    }
    assert!(out.contains("SigBlk:\t0000000000000000"), "{out}");
    assert!(!out.contains("SUPERVISOR_"), "{out}");
}

#[test]
fn sockets_for_us_are_the_commands() {
    let binary = env!("CARGO_BIN_EXE_supervisor");
    let script = "test $LISTEN_PID = $$ && echo ours $LISTEN_FDS";
    let script = format!("LISTEN_PID=$$ LISTEN_FDS=2 exec {binary} -- sh -c '{script}'");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ours 2\n");
}

#[test]
fn closed_standard_streams_are_no_fault() {
    let binary = env!("CARGO_BIN_EXE_supervisor");
    let script = format!("exec {binary} -- sh -c 'exit 9' <&- >&- 2>&-");
    assert_eq!(Command::new("sh").args(["-c", &script]).status().unwrap().code(), Some(9));
}

#[test]
fn it_speaks_when_asked_and_not_else() {
    // Not `true`: a subshell that is slow to end would have waited for it.
    let script = "(sleep 0.05 &); read x < <(sleep 0.3); exit 3";
    let (_, _, err) = ran(supervisor(&["--", "bash", "-c", script]));
    assert_eq!(err, "");
    let (_, _, err) = ran(supervisor(&["-w", "--", "bash", "-c", script]));
    assert!(err.contains("reaped pid ") && err.contains(", for which nobody waited"), "{err}");
    let (_, _, err) = ran(supervisor(&["-v", "--", "bash", "-c", script]));
    assert!(
        err.contains("supervisor: started bash as pid ") && err.contains("bash: exit 3"),
        "{err}"
    );
}

#[test]
fn nothing_wakes_it_while_nothing_happens() {
    let running = Running::start(&["--", "sh", "-c", "echo ready; exec sleep 1000"]);
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    crate::sys_world::until("it waits", || {
        fs::read_to_string(format!("/proc/{}/stat", running.child.id()))
            .is_ok_and(|stat| stat.contains(") S "))
    });
    let before = switches();
    // A whole second of another process: tini would have woken up by then.
    Command::new("sleep").arg("1.2").status().unwrap();
    assert_eq!(switches(), before);
}

#[test]
fn it_dies_as_it_was_told_when_its_parent_does() {
    let binary = env!("CARGO_BIN_EXE_supervisor");
    let inner = "trap \"echo GONE; exit\" HUP; echo ready; while :; do sleep 1000 & wait; done";
    let script =
        format!("{binary} --parent-death-signal HUP -- bash -c '{inner}' & read x < <(sleep 0.3)");
    // `bash` is the parent, and ends while the wrapper runs.
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ready\nGONE\n");
}

#[test]
fn called_as_tini_or_docker_init_it_behaves_as_tini() {
    let run = |name: &str, args: &[&str]| {
        let mut command = supervisor(args);
        command.arg0(name);
        ran(command)
    };
    for name in ["tini", "/usr/bin/docker-init"] {
        let (code, out, _) = run(name, &["--version"]);
        assert!(code == 0 && out.starts_with("tini version "), "{out}");
        let (code, out, err) = run(name, &["-s", "-e", "3", "--", "sh", "-c", "exit 3"]);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
        let (code, _, err) = run(name, &["sh", "-c", "exit 4"]);
        assert_eq!(code, 4);
        assert!(err.contains("Tini is not running as PID 1"), "{err}");
        let (code, _, err) = run(name, &["-s", "/nonexistent"]);
        assert_eq!(code, 127);
        assert!(err.contains("exec /nonexistent failed: No such file or directory\n"), "{err}");
    }
    // It does not wait for what is left behind.
    let script = "(trap '' TERM; exec sleep 1000 > /dev/null 2>&1) & echo $!; exit 2";
    let (code, out, _) = run("tini", &["-s", "--", "bash", "-c", script]);
    assert_eq!(code, 2);
    let pid = Pid::from_raw(out.trim().parse().unwrap());
    assert_eq!(kill(pid, Signal::SIGKILL), Ok(()), "it was ended");
}
