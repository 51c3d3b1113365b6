//! What tests with real processes have in common.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "for tests")]

use std::{
    ffi::OsString,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use mini_supervisor::{
    model::{Exit, Signal},
    sys::{
        child::{Children, Peeked, has_children},
        clock,
        spawn::{Prepared, SpawnSpec, vfork},
    },
};
use tempfile::TempDir;

/// A command of /bin/sh.
pub(crate) fn shell(script: &str) -> SpawnSpec {
    SpawnSpec::new(["/bin/sh", "-c", script].map(OsString::from).to_vec())
}

/// Starts it as `run`.
pub(crate) fn start(children: &mut Children, run: u64, spec: SpawnSpec) {
    children.insert(run, vfork(&Prepared::new(spec).unwrap()).unwrap());
}

/// The next exit, reaped; blocks in waitid(2), so no test has to sleep.
pub(crate) fn next_exit(children: &mut Children) -> Peeked {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    // Its result is not used: nix cannot decode real-time signals.
    waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).ok();
    let peeked = children.peek_exited().expect("somebody has ended");
    children.reap(peeked);
    peeked
}

/// Reaps until there is nobody left; blocks in waitid(2).
pub(crate) fn reap_everybody(children: &mut Children) {
    while has_children() {
        let _child = next_exit(children);
    }
}

/// Runs the test of this name once more below `wrapper`, a command that executes its arguments, and
/// gives its exit; `None` when this is that second run.
pub(crate) fn again_below(wrapper: &str, test: &str) -> Option<Exit> {
    const INSIDE: &str = "SUPERVISOR_TEST_INSIDE";
    if std::env::vars_os().any(|(name, _)| name == INSIDE) {
        return None;
    }
    let this = std::env::current_exe().unwrap();
    let run = format!("exec {wrapper} {} --nocapture --exact {test}", this.display());
    let mut spec = shell(&run);
    spec.env = vec![(INSIDE.into(), "1".into()), ("PATH".into(), "/usr/bin:/bin".into())];
    spec.stdout = Some(std::io::stdout().as_fd().try_clone_to_owned().unwrap());
    spec.stderr = Some(std::io::stderr().as_fd().try_clone_to_owned().unwrap());
    let mut children = Children::new();
    start(&mut children, 1, spec);
    Some(next_exit(&mut children).exit)
}

/// The same for a test that succeeds inside; whether this is inside.
pub(crate) fn is_inside(wrapper: &str, test: &str) -> bool {
    let exit = again_below(wrapper, test);
    assert!(exit.is_none_or(|exit| exit == Exit::Code(0)), "inside: {exit:?}");
    exit.is_none()
}

/// A PID namespace of its own, whose PID 1 is what it executes.
pub(crate) const NAMESPACE: &str = "unshare -pf --mount-proc";

/// Kills and reaps every descendant of this process when it goes, so that a test that fails leaves
/// nobody behind. A test has a process of its own, which is a subreaper where it has grandchildren.
pub(crate) struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        while has_children() {
            for task in fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok) {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                for pid in children.split_whitespace() {
                    let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
                    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).ok();
                }
            }
            // One at least, by waiting, and then who is there.
            let mut children = Children::new();
            let _child = next_exit(&mut children);
            while let Some(peeked) = children.peek_exited() {
                children.reap(peeked);
            }
        }
    }
}

/// The middle of these.
pub(crate) fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

/// Waits until it is so; half a minute at the most.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let (_never, timer) = std::sync::mpsc::channel::<()>();
    let begin = clock::monotonic();
    while !is_so() {
        assert!(clock::monotonic().since(begin) < Duration::from_secs(30), "never: {what}");
        timer.recv_timeout(Duration::from_millis(2)).ok();
    }
}

/// Whether this process lives (and is no zombie).
pub(crate) fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Says why a test is not run, and whether it is not.
pub(crate) fn is_skipped_without_root() -> bool {
    let skipped = !nix::unistd::geteuid().is_root();
    if skipped {
        println!("skipped: only root can do this");
    }
    skipped
}

/// A supervisor in a directory of its own.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) children: Children,
}

impl World {
    /// For the site `yaml`; `DIR` in it is the directory.
    pub(crate) fn new(yaml: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("sv").tempdir_in("/tmp").unwrap();
        let head = "version: 1\nsupervisor:\n  runtime_dir: DIR/run\n  pid_file: DIR/pid\n\
                    defaults: {user: self}\n";
        // What stands in `yaml` is for the shell, not for the site.
        let yaml = yaml.replace('$', "$$");
        let text = format!("{head}{yaml}").replace("DIR", dir.path().to_str().unwrap());
        fs::write(dir.path().join("site.yaml"), text).unwrap();
        Self { dir, children: Children::new() }
    }

    /// A path in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The text of a file in its directory.
    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// What starts it, with `RUN` in `script` standing for the supervisor, as run `run`.
    pub(crate) fn start(&mut self, run: u64, script: &str) {
        let log = fs::File::create(self.path(&format!("log{run}"))).unwrap();
        self.start_with(run, script, Some(log.try_clone().unwrap().into()), Some(log.into()));
    }

    /// The same with these descriptors.
    pub(crate) fn start_with(
        &mut self,
        run: u64,
        script: &str,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) {
        let site = self.path("site.yaml");
        let command = format!("{} -c {}", env!("CARGO_BIN_EXE_supervisor"), site.display());
        let script = script.replace("RUN", &command);
        let script = script.replace("BIN", env!("CARGO_BIN_EXE_supervisor"));
        let mut spec = shell(&script.replace("DIR", self.dir.path().to_str().unwrap()));
        spec.env = vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())];
        spec.working_directory = self.dir.path().into();
        (spec.stdout, spec.stderr) = (stdout, stderr);
        start(&mut self.children, run, spec);
    }

    pub(crate) fn signal(&self, run: u64, signal: Signal) {
        self.children.signal_main(run, signal).unwrap();
    }

    /// Waits for the end of the next of them, with a limit.
    pub(crate) fn exit(&mut self) -> (Option<u64>, Exit) {
        let mut found = None;
        until("the supervisor ends", || {
            found = self.children.peek_exited();
            found.is_some()
        });
        let peeked = found.unwrap();
        self.children.reap(peeked);
        (peeked.run, peeked.exit)
    }

    /// Every pid that a program wrote into this file is gone.
    pub(crate) fn nobody_of(&self, file: &str) {
        for pid in self.text(file).split_whitespace() {
            assert!(!lives(pid), "{pid} has outlived the supervisor");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A test that panics leaves nobody behind: the supervisor ends what it started.
        for run in 0..100 {
            self.children.signal_main(run, Signal::TERM).ok();
        }
        if std::thread::panicking() {
            for name in ["log1", "log2"] {
                println!("{name}: {}", self.text(name));
            }
        } else {
            while !self.children.is_empty() {
                let _child = next_exit(&mut self.children);
            }
        }
    }
}

/// A descriptor for this file, made new.
pub(crate) fn file(path: &Path) -> OwnedFd {
    fs::File::create(path).unwrap().into()
}
