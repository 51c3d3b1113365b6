//! A machine with systemd, booted for one test from the Debian of tests/root.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    e2e::{harness::skip, lines::Lines},
    outside::{BINARY, Cgroups, PATIENCE, Ran, child_of, possible, tied},
    sys_world::until,
};

/// Where tests/run has made the Debian.
const DEBIAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/full/bookworm");

/// Mounts the root over the Debian, in a mount namespace of its own, and boots it.
const BOOT: &str = r#"
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
exec systemd-nspawn -q -D "$1/root" --machine="$3" --register=no \
  --keep-unit --boot --console=pipe --private-network --bind-ro="$4:/usr/bin/supervisor"
"#;

/// A running machine; everything in it ends with the value.
pub(super) struct Machine {
    name: String,
    nspawn: Child,
    leader: Pid,
    follower: Option<Child>,
    journal: Lines,
    _cgroups: Cgroups,
    _dir: tempfile::TempDir,
}

impl Machine {
    /// `None` where it cannot be.
    pub(super) fn boot() -> Option<Self> {
        if !possible(&["systemd-nspawn", "nsenter", "setpriv", "unshare"]) {
            return None;
        }
        if !Path::new(DEBIAN).exists() {
            skip("tests/root target/full/bookworm was not run");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("ms-systemd-").tempdir().unwrap();
        let name = format!("ms-test-{}", nix::unistd::gettid());
        let cgroups = Cgroups::new(&name);
        let script = format!("set -e\n{}{BOOT}", cgroups.enter());
        let place = dir.path().to_str().unwrap();
        // A PID namespace around it all: its first process takes everybody with it.
        let mut nspawn = tied(&["unshare", "--mount", "--pid", "--fork", "--kill-child"]);
        nspawn.args(["--mount-proc", "--propagation", "private", "sh", "-c", &script]);
        nspawn.args(["boot", place, DEBIAN, &name, BINARY]);
        let log = fs::File::create(dir.path().with_extension("log")).unwrap();
        fs::remove_file(dir.path().with_extension("log")).unwrap();
        nspawn.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let nspawn = nspawn.spawn().unwrap();
        let mut this = Self {
            name,
            leader: Pid::from_raw(0),
            nspawn,
            follower: None,
            journal: Lines::default(),
            _cgroups: cgroups,
            _dir: dir,
        };
        this.leader = Pid::from_raw(child_of(
            child_of(this.nspawn.id(), "systemd-nspawn").cast_unsigned(),
            "systemd",
        ));
        until("systemd listens", || this.run(&["test", "-S", "/run/systemd/private"]).code == 0);
        this.run(&["systemctl", "is-system-running", "--wait"]);
        this.follow();
        if this.run(&["supervisor", "--version"]).code != 0 {
            skip("the binary of this machine does not run in that Debian");
            return None;
        }
        Some(this)
    }

    fn follow(&mut self) {
        let words = ["journalctl", "--follow", "--lines=all", "--output=short", "--quiet"];
        let mut child = self.command(&words).stdout(Stdio::piped()).spawn().unwrap();
        self.journal = Lines::read(child.stdout.take().unwrap());
        self.follower = Some(child);
    }

    fn command(&self, words: &[&str]) -> Command {
        let leader = self.leader.to_string();
        let mut command = tied(&["nsenter", "-t", &leader, "-a", "--"]);
        command.args(words).stdin(Stdio::null()).env_clear();
        command.envs([("PATH", "/usr/sbin:/usr/bin"), ("LANG", "C.UTF-8")]);
        command
    }

    /// Runs a command in the machine.
    pub(super) fn run(&self, words: &[&str]) -> Ran {
        self.command(words).output().unwrap().into()
    }

    /// Runs a script of sh in the machine that has to succeed; what it printed, trimmed.
    pub(super) fn sh(&self, script: &str) -> String {
        let ran = self.run(&["sh", "-c", script]);
        assert_eq!(ran.code, 0, "{script}: {ran:?}\n{}", self.log());
        ran.out.trim().to_owned()
    }

    /// systemctl, which has to succeed.
    pub(super) fn systemctl(&self, words: &[&str]) -> String {
        let ran = self.run(&[&["systemctl"], words].concat());
        assert_eq!(ran.code, 0, "systemctl {words:?}: {ran:?}\n{}", self.log());
        ran.out.trim().to_owned()
    }

    /// A property of a unit.
    pub(super) fn show(&self, unit: &str, property: &str) -> String {
        self.systemctl(&["show", "--value", "-p", property, unit])
    }

    /// The pid of the unit's main process, as the machine counts.
    pub(super) fn main_pid(&self, unit: &str) -> u32 {
        self.show(unit, "MainPID").parse().unwrap()
    }

    /// Where `path` of the machine is for us.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.leader))
    }

    pub(super) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }

    /// A script that can be executed.
    pub(super) fn script(&self, path: &str, text: &str) {
        self.write(path, &format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A site file of its own, with these programs.
    pub(super) fn site(&self, name: &str, programs: &str) {
        let text = format!("version: 1\ndefaults: {{user: root}}\nprograms:\n{programs}\n");
        self.write(&format!("/etc/mini-supervisor/{name}.yaml"), &text);
    }

    pub(super) fn unit(&self, name: &str, text: &str) {
        self.write(&format!("/etc/systemd/system/{name}"), text);
        self.systemctl(&["daemon-reload"]);
    }

    /// Live processes of the machine whose command line contains `text`.
    pub(super) fn processes(&self, text: &str) -> Vec<u32> {
        let proc = self.path("/proc");
        let meant = |pid: &u32| {
            let line = fs::read(proc.join(format!("{pid}/cmdline"))).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(text) && !line.starts_with("journalctl")
        };
        let entries = fs::read_dir(&proc).unwrap().filter_map(Result::ok);
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(meant).collect()
    }

    /// The first process whose command line contains `text`, as soon as there is one.
    pub(super) fn wait_process(&self, text: &str) -> u32 {
        self.wait_processes(text, 1)[0]
    }

    pub(super) fn wait_processes(&self, text: &str, count: usize) -> Vec<u32> {
        self.until(text, |this| this.processes(text).len() >= count);
        self.processes(text)
    }

    /// Waits until it is so; the kernel and systemd tell nobody.
    pub(super) fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < end, "never: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the unit is `active`, `inactive` or `failed`.
    pub(super) fn wait_state(&self, unit: &str, state: &str) {
        self.until(state, |this| this.show(unit, "ActiveState") == state);
    }

    /// Waits until another process than `old` is the main one.
    pub(super) fn wait_new_main(&self, unit: &str, old: u32) -> u32 {
        let is_new = |this: &Self| ![0, old].contains(&this.main_pid(unit));
        self.until("a new main process", is_new);
        self.main_pid(unit)
    }

    /// The environment of a process of the machine.
    pub(super) fn environment(&self, pid: u32) -> Vec<String> {
        let bytes = fs::read(self.path(&format!("/proc/{pid}/environ"))).unwrap();
        let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    /// Waits for a line of the journal.
    pub(super) fn wait_for(&self, what: &str, meant: impl Fn(&str) -> bool) -> String {
        self.journal.wait_for(what, meant)
    }

    /// What the supervisor of this site has logged until now.
    pub(super) fn unit_log(&self, name: &str) -> String {
        self.run(&["journalctl", "--sync"]);
        let unit = format!("--unit={name}");
        let words = ["journalctl", "--output=cat", "--no-pager", "--quiet", "_COMM=supervisor"];
        self.run(&[&words[..], &[&unit]].concat()).out
    }

    /// The journal, with all that was written until now.
    pub(super) fn log(&self) -> String {
        self.run(&["journalctl", "--sync"]);
        self.run(&["journalctl", "--output=short", "--no-pager", "--quiet"]).out
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.leader.as_raw() > 0 {
            let log = self.log();
            let after_boot = log.split_once("Startup finished").map_or(&*log, |(_, rest)| rest);
            eprintln!("journal of the machine: {after_boot}");
        }
        if let Some(mut follower) = self.follower.take() {
            follower.kill().ok();
            follower.wait().ok();
        }
        if self.leader.as_raw() > 0 {
            kill(self.leader, Signal::SIGKILL).ok();
        }
        let end = Instant::now() + Duration::from_secs(10);
        while self.leader.as_raw() > 0 && Instant::now() < end {
            if self.nspawn.try_wait().is_ok_and(|ended| ended.is_some()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.nspawn.kill().ok();
        self.nspawn.wait().ok();
        fs::remove_dir(format!("/run/systemd/nspawn/propagate/{}", self.name)).ok();
    }
}
