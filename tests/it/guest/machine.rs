//! A guest of QEMU, booted for one test.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use super::{
    console::{End, Shell, end_of, listen},
    disk::Disk,
};
use crate::{
    e2e::{harness::skip, lines::Lines},
    outside::{Ran, possible, tied},
};

/// How long anything may take: every instruction of a guest is translated, on a machine that has other things to do.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// What tests/guest has made.
const MADE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/full/guest");

/// What the init of a guest says when the scripts may come; once a boot.
const UP: &str = "guest: up";

/// Process 1 is a shell that does nothing but reap.
const IDLE: &str = "echo 'guest: up'\nwhile :; do wait; sleep 1; done";

/// A guest that is not booted yet.
pub(super) struct Plan {
    dir: tempfile::TempDir,
    disk: Disk,
    init: String,
    reboots: bool,
}

impl Plan {
    /// `None` where there cannot be one.
    pub(super) fn new() -> Option<Self> {
        if !possible(&["qemu-system-x86_64", "mke2fs", "setpriv", "ldd", "flock"]) {
            return None;
        }
        if !Path::new(MADE).join("made-by").exists() {
            skip("tests/guest target/full/guest was not run");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("ms-guest-").tempdir().unwrap();
        let disk = Disk::new(dir.path(), Path::new(MADE));
        Some(Self { dir, disk, init: IDLE.into(), reboots: false })
    }

    pub(super) fn file(self, path: &str, text: &str) -> Self {
        self.disk.write(path, text);
        self
    }

    pub(super) fn script(self, path: &str, text: &str) -> Self {
        self.disk.script(path, text);
        self
    }

    /// A command of this machine, which busybox has not.
    pub(super) fn command(self, path: &str) -> Self {
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        self.disk.command(path, &format!("/bin/{name}"));
        self
    }

    /// The supervisor of this site is process 1.
    pub(super) fn init(mut self, site: &str) -> Self {
        self.init = format!("echo '{UP}'\nexec supervisor -c {site}");
        self
    }

    /// These commands of a shell are run at each boot, before the scripts of the test.
    pub(super) fn at_boot(mut self, script: &str) -> Self {
        self.init = format!("{}\n{}", script.trim(), self.init);
        self
    }

    /// A reboot is one; without this the machine ends with it.
    pub(super) fn reboots(mut self) -> Self {
        self.reboots = true;
        self
    }

    /// Boots it, and waits until it takes scripts.
    pub(super) fn boot(self) -> Guest {
        let image = self.disk.image(&self.init);
        let listener = listen(self.dir.path());
        let mut machine = qemu(self.dir.path(), &image, self.reboots).spawn().unwrap();
        let console = Lines::read(machine.stdout.take().unwrap());
        let mut lives = || machine.try_wait().unwrap().is_none();
        let shell = Shell::accept(&listener, &mut lives);
        let mut guest = Guest { machine, console, shell, dir: self.dir };
        guest.wait_boot(1);
        guest
    }
}

fn qemu(folder: &Path, image: &Path, reboots: bool) -> std::process::Command {
    let made = |name: &str| PathBuf::from(MADE).join(name).to_str().unwrap().to_owned();
    let mut command = tied(&["qemu-system-x86_64", "-accel", "tcg", "-m", "256"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
    command.args(["-serial", "stdio", "-serial", "unix:shell.sock"]);
    command.args(["-monitor", "unix:monitor.sock,server=on,wait=off"]);
    command.args(["-kernel", &made("vmlinuz"), "-initrd", &made("initrd.gz")]);
    command.args(["-append", "console=ttyS0 quiet panic=-1"]);
    let image = image.to_str().unwrap();
    command.args(["-drive", &format!("id=root,file={image},format=raw,if=virtio,cache=unsafe")]);
    if !reboots {
        command.arg("-no-reboot");
    }
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A running guest; it ends with the value.
pub(super) struct Guest {
    machine: Child,
    console: Lines,
    shell: Shell,
    dir: tempfile::TempDir,
}

impl Guest {
    /// Runs a script of sh in it that has to succeed; what it printed, trimmed.
    pub(super) fn sh(&mut self, script: &str) -> String {
        let ran = self.run(script);
        assert_eq!(ran.code, 0, "{script}: {ran:?}");
        ran.out.trim().to_owned()
    }

    /// Runs a script of sh in it.
    pub(super) fn run(&mut self, script: &str) -> Ran {
        self.shell.run(script)
    }

    /// Has it run a script of sh that may bring it down.
    pub(super) fn send(&mut self, script: &str) {
        self.shell.send(script);
    }

    /// Starts a command in it; what that says is seen on the console.
    pub(super) fn start(&mut self, command: &str) {
        self.sh(&format!("setsid {command} </dev/null >/dev/console 2>&1 &"));
    }

    /// The first line of its console that is meant, as soon as it is there.
    pub(super) fn wait_for(&self, what: &str, meant: impl Fn(&str) -> bool) -> String {
        self.console.watch(PATIENCE, what, |lines, _| lines.iter().find(|l| meant(l)).cloned())
    }

    /// As many such lines of its console, as soon as they are there.
    pub(super) fn wait_for_count(&self, text: &str, count: usize) {
        self.console.watch(PATIENCE, text, |lines, _| {
            (lines.iter().filter(|line| line.contains(text)).count() >= count).then_some(())
        });
    }

    /// Waits until it was booted so often, and takes scripts again.
    pub(super) fn wait_boot(&mut self, number: usize) {
        self.wait_for_count(UP, number);
        self.shell.wait_ready();
    }

    /// How often it was booted.
    pub(super) fn boots(&self) -> usize {
        self.said(UP).len()
    }

    /// The lines of its console that have this text, until now.
    pub(super) fn said(&self, text: &str) -> Vec<String> {
        self.console.all().into_iter().filter(|line| line.contains(text)).collect()
    }

    /// That its console has said this in this order.
    pub(super) fn said_in_order(&self, texts: &[&str]) {
        let lines = self.console.all();
        let mut rest = lines.iter();
        for text in texts {
            let found = rest.any(|line| line.contains(text));
            assert!(found, "{text:?} is missing, or came before: {lines:#?}");
        }
    }

    /// From now on its disk answers nothing: whoever needs it waits for ever.
    pub(super) fn stall_disk(&mut self) {
        // What is needed below is in memory by then.
        self.sh("dd if=/dev/vda of=/dev/null bs=4096 count=1 2>/dev/null; usleep 1");
        self.sh("grep -qs '(dd) D' /proc/[0-9]*/stat || true");
        let mut monitor = UnixStream::connect(self.dir.path().join("monitor.sock")).unwrap();
        // A byte a second.
        monitor.write_all(b"block_set_io_throttle root 1 0 0 0 0 0\n").unwrap();
        let mut said = Vec::new();
        while String::from_utf8_lossy(&said).matches("(qemu)").count() < 2 {
            let mut bytes = [0; 4096];
            let n = monitor.read(&mut bytes).unwrap();
            assert!(n > 0, "no monitor: {}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&bytes[..n]);
        }
        // The first request is still let through: it is this one.
        self.sh("dd if=/dev/vda of=/dev/null bs=4096 count=2048 skip=1000 2>/dev/null &");
        self.sh("until grep -qs '(dd) D' /proc/[0-9]*/stat; do usleep 50000; done");
    }

    /// How it goes down, as soon as it has; a guest that does not reboot.
    pub(super) fn wait_end(&mut self) -> End {
        let end = self.console.watch(PATIENCE, "its end", |lines, is_all| {
            is_all.then(|| lines.iter().find_map(|line| end_of(line)))
        });
        self.machine.wait().unwrap();
        end.unwrap_or_else(|| panic!("it ended otherwise: {:#?}", self.console.all()))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.machine.kill().ok();
        self.machine.wait().ok();
        if std::thread::panicking() {
            eprintln!("console of the guest: {:#?}", self.console.all());
        }
    }
}
