//! What process 1 of a container must never do.

use std::process::Stdio;

use crate::{
    e2e::lines::Lines,
    outside::{BINARY, children_of, possible, tied},
    sys_world::until,
};

/// P12: although it may: it has every capability here.
#[test]
fn no_signal_makes_process_1_call_reboot() {
    if !possible(&["strace", "unshare", "setpriv"]) {
        return;
    }
    let dir = tempfile::Builder::new().prefix("ms-reboot-").tempdir().unwrap();
    let site = dir.path().join("site.yaml");
    let text = format!(
        "version: 1\nsupervisor: {{runtime_dir: {}}}\nprograms:\n  a: {{command: [sleep, '1000'], user: self}}\n",
        dir.path().join("run").display()
    );
    std::fs::write(&site, text).unwrap();
    let trace = dir.path().join("trace");
    // Ctrl-alt-del is SIGINT, a power failure SIGPWR; what systemd and SysV init take for more.
    for signal in [1, 2, 3, 10, 12, 15, 30, 37, 38, 39, 40] {
        let mut command = tied(&["strace", "-f", "-q", "-e", "trace=reboot,exit_group", "-o"]);
        command.arg(&trace).args(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(BINARY).arg("-c").arg(&site);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = Lines::read(child.stderr.take().unwrap());
        lines.wait_for("a start", |line| line.contains("a: started"));
        let unshare = children_of(child.id())[0];
        let init = children_of(unshare.cast_unsigned())[0];
        let send = |number: i32| {
            let words = [format!("-{number}"), init.to_string()];
            std::process::Command::new("/bin/kill").args(words).status().unwrap();
        };
        send(signal);
        send(15);
        until("its end", || child.try_wait().unwrap().is_some());
        let text = std::fs::read_to_string(&trace).unwrap();
        assert!(text.contains("exit_group("), "{signal}: nothing was traced: {text}");
        assert!(!text.contains("reboot("), "{signal}: {text}");
    }
}
