//! What the tests in real environments share: commands that end with their test, cgroups, skips.

#![expect(clippy::disallowed_methods, reason = "a test is outside of the product: it starts it")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use crate::{
    e2e::harness::{full, is_root, skip},
    sys_world::until,
};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary that is tested.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_supervisor");

/// Whether this was asked for and can be done; says why not.
pub(crate) fn possible(commands: &[&str]) -> bool {
    if !full() || !is_root() {
        skip("TESTS_FULL=1 and root are needed");
        return false;
    }
    let missing: Vec<_> = commands.iter().filter(|name| !is_command(name)).collect();
    if !missing.is_empty() {
        skip(&format!("not installed: {missing:?}"));
    }
    missing.is_empty()
}

fn is_command(name: &str) -> bool {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"];
    folders.iter().any(|folder| Path::new(folder).join(name).exists())
}

/// A command that the kernel kills when the test is gone, whatever ended it.
///
/// Only for the thread of the test: a thread that ends counts as its process.
pub(crate) fn tied(words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).args(words);
    command
}

/// What a command said, and its exit code (128 and the signal's number).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Self {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap()),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Cgroups of its own for what is started in them, gone with the value.
pub(crate) struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    /// One in the hierarchy of systemd and one in cgroup2, where they are mounted.
    pub(crate) fn new(name: &str) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let of = |kind: &str| own.lines().find_map(|l| l.split_once(kind).map(|(_, path)| path));
        let mut made = Vec::new();
        let mounts = [
            ("/sys/fs/cgroup/systemd", ":name=systemd:"),
            ("/sys/fs/cgroup/unified", "0::"),
            ("/sys/fs/cgroup", "0::"),
        ];
        for (mount, kind) in mounts {
            let Some(path) = of(kind) else { continue };
            let folder = Path::new(mount).join(path.trim_start_matches('/'));
            if folder.join("cgroup.procs").exists() {
                let folder = folder.join(name);
                fs::create_dir(&folder).unwrap();
                made.push(folder);
            }
        }
        Self(made)
    }

    /// Commands of a shell that enter them.
    pub(crate) fn enter(&self) -> String {
        self.0.iter().map(|f| format!("echo $$ > {}/cgroup.procs\n", f.display())).collect()
    }
}

/// Removes the empty directories below, and this one; whether all are gone.
pub(crate) fn remove_tree(folder: &Path) -> bool {
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(folder).is_ok() || !folder.exists()
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for folder in &self.0 {
            if std::thread::panicking() {
                remove_tree(folder);
            } else {
                until("the cgroups are empty", || remove_tree(folder));
            }
        }
    }
}

/// The process of this name that `parent` has started, as soon as there is one.
pub(crate) fn child_of(parent: u32, name: &str) -> i32 {
    let mut pid = None;
    until("a child", || {
        pid = children_of(parent).into_iter().find(|pid| name_of(*pid) == name);
        pid.is_some()
    });
    pid.unwrap()
}

/// The processes that the first thread of `parent` has started, or was given.
pub(crate) fn children_of(parent: u32) -> Vec<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

/// The name of a process, at most 15 bytes of it.
pub(crate) fn name_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}
