//! A container engine of the test's own: its network, mounts and processes are in namespaces.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    cli::site::Terminal,
    outside::{BINARY, Ran, children_of, possible, remove_tree, tied},
    sys_world::until,
};

/// The image of all containers: a shell, a few tools, and the binary.
pub(super) const IMAGE: &str = "ms-test";

/// No bridge, no firewall, no forwarding; what is in the namespaces ends with the first process.
const DAEMON: &str = r#"
exec dockerd --data-root "$1/root" --exec-root "$1/exec" -H "unix://$1/docker.sock" -p "$1/pid" \
  --bridge=none --iptables=false --ip6tables=false --ip-forward=false \
  --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent="/$2"
"#;

/// What the image has of this machine.
const TOOLS: [&str; 14] = [
    "sh", "sleep", "cat", "kill", "id", "ls", "touch", "mkdir", "stty", "setsid", "env", "tty",
    "yes", "head",
];

/// A running engine; its containers end with the value.
pub(super) struct Engine {
    dir: tempfile::TempDir,
    daemon: Child,
    cgroup: String,
}

impl Engine {
    /// `None` where it cannot be.
    pub(super) fn start(init: Option<&str>) -> Option<Self> {
        if !possible(&["dockerd", "docker", "unshare", "setpriv", "tar", "ldd"]) {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("ms-docker-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let cgroup = format!("ms-docker-{}", nix::unistd::gettid());
        let mut script = DAEMON.trim().to_owned();
        if let Some(path) = init {
            script.push_str(&format!(" --init-path {path}"));
        }
        let mut daemon = tied(&["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]);
        daemon.args(["--mount-proc", "--propagation", "private", "sh", "-c", &script, "dockerd"]);
        daemon.arg(dir.path()).arg(&cgroup);
        let log = fs::File::create(dir.path().join("log")).unwrap();
        daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let daemon = daemon.spawn().unwrap();
        let mut this = Self { dir, daemon, cgroup };
        until("the engine answers", || {
            let ended = this.daemon.try_wait().unwrap();
            assert!(ended.is_none(), "dockerd: {}", this.log());
            this.docker(&["version"]).code == 0
        });
        this.import();
        Some(this)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Makes the image.
    fn import(&self) {
        let root = self.dir.path().join("image");
        for folder in ["usr/bin", "etc", "tmp", "proc", "dev"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for tool in TOOLS {
            let found = ["/usr/bin", "/bin"].map(|f| Path::new(f).join(tool));
            let found = found.iter().find(|path| path.exists());
            copy(found.unwrap_or_else(|| panic!("no {tool} here")), &root, "usr/bin", tool);
        }
        std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
        copy(Path::new(BINARY), &root, "usr/bin", "supervisor");
        let passwd = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
        fs::write(root.join("etc/passwd"), passwd).unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").unwrap();
        let pack = "tar -C \"$1\" -c . | docker import - \"$2\"";
        let mut command = Command::new("sh");
        command.args(["-c", pack, "pack"]).arg(&root).arg(IMAGE);
        let ran: Ran = command.env("DOCKER_HOST", self.host()).output().unwrap().into();
        assert_eq!(ran.code, 0, "{ran:?}");
    }

    /// Makes another image; `text` is its Dockerfile.
    pub(super) fn build(&self, name: &str, text: &str) {
        let folder = self.folder(&format!("build-{name}"));
        fs::write(folder.join("Dockerfile"), text).unwrap();
        let mut command = self.command(&["build", "-q", "-t", name]);
        // The classic builder: the other one is another package.
        let ran: Ran = command.arg(&folder).env("DOCKER_BUILDKIT", "0").output().unwrap().into();
        assert_eq!(ran.code, 0, "{text}: {ran:?}");
    }

    fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.dir.path().display())
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = tied(&["docker"]);
        command.args(words).env_clear().env("DOCKER_HOST", self.host());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.dir.path());
        command
    }

    /// Runs the client to its end.
    pub(super) fn docker(&self, words: &[&str]) -> Ran {
        self.command(words).stdin(Stdio::null()).output().unwrap().into()
    }

    /// The same, which has to succeed; what it printed, trimmed.
    pub(super) fn ok(&self, words: &[&str]) -> String {
        let ran = self.docker(words);
        assert_eq!(ran.code, 0, "docker {words:?}: {ran:?}");
        ran.out.trim().to_owned()
    }

    /// `docker run` with these words, to its end.
    pub(super) fn run(&self, words: &[&str]) -> Ran {
        self.docker(&[&["run", "--rm", "--network=none"], words].concat())
    }

    /// `docker run` with these words, in the background.
    pub(super) fn container(&self, words: &[&str]) -> Container<'_> {
        let id = self.ok(&[&["run", "-d", "--network=none"], words].concat());
        Container { engine: self, id }
    }

    /// The client on a terminal.
    pub(super) fn terminal(&self, words: &[&str]) -> Terminal {
        let run = ["run", "--rm", "--network=none", "-it"];
        Terminal::run(&self.command(&[&run, words].concat()), 100)
    }

    /// A file of the test, for `-v`.
    pub(super) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A directory of the test, for `-v`, that everybody may write.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        path
    }

    /// The option that mounts a site with these programs as the site.
    pub(super) fn site(&self, name: &str, programs: &str) -> String {
        let text = format!("version: 1\ndefaults: {{user: self}}\nprograms:\n{programs}\n");
        let path = self.file(&format!("{name}.yaml"), &text);
        format!("-v={}:/etc/mini-supervisor/site.yaml:ro", path.display())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The first process of the namespace takes all others with it; unshare waits for that.
        for pid in children_of(self.daemon.id()) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).ok();
        }
        self.daemon.kill().ok();
        self.daemon.wait().ok();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let folder = hierarchy.path().join(&self.cgroup);
            if folder.exists() {
                let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
                while !remove_tree(&folder) && std::time::Instant::now() < end {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
            }
        }
        remove_tree(&Path::new("/sys/fs/cgroup").join(&self.cgroup));
    }
}

/// Copies a program and the libraries that it needs.
fn copy(program: &Path, root: &Path, folder: &str, name: &str) {
    fs::copy(program, root.join(folder).join(name)).unwrap();
    let output = Command::new("ldd").arg(program).output().unwrap();
    for word in String::from_utf8_lossy(&output.stdout).split_whitespace() {
        if word.starts_with('/') {
            let target = root.join(word.trim_start_matches('/'));
            if !target.exists() {
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                fs::copy(word, target).unwrap();
            }
        }
    }
}

/// A container that was started in the background.
pub(super) struct Container<'a> {
    engine: &'a Engine,
    pub(super) id: String,
}

impl Container<'_> {
    /// `docker logs`: both streams.
    pub(super) fn logs(&self) -> String {
        let ran = self.engine.docker(&["logs", &self.id]);
        ran.out + &ran.err
    }

    /// Waits until `text` is in its output.
    pub(super) fn wait_for(&self, text: &str) -> &Self {
        self.wait_for_times(text, 1)
    }

    pub(super) fn wait_for_times(&self, text: &str, times: usize) -> &Self {
        let mut logs = String::new();
        until(text, || {
            logs = self.logs();
            let there = logs.matches(text).count() >= times;
            assert!(there || self.inspect("{{.State.Running}}") == "true", "{text}: {logs}");
            there
        });
        self
    }

    pub(super) fn inspect(&self, format: &str) -> String {
        self.engine.ok(&["inspect", "--format", format, &self.id])
    }

    pub(super) fn signal(&self, signal: &str) -> &Self {
        self.engine.ok(&["kill", "-s", signal, &self.id]);
        self
    }

    /// SIGTERM until it has ended.
    pub(super) fn insist(&self) {
        until("it ends", || {
            self.engine.docker(&["kill", "-s", "TERM", &self.id]);
            let state = self.engine.docker(&["inspect", "-f", "{{.State.Running}}", &self.id]);
            state.out.trim() == "false"
        });
    }

    /// `docker exec` to its end.
    pub(super) fn exec(&self, words: &[&str]) -> Ran {
        self.engine.docker(&[&["exec", &self.id], words].concat())
    }

    /// Waits for its end: its exit code.
    pub(super) fn code(&self) -> i32 {
        self.engine.ok(&["wait", &self.id]).parse().unwrap()
    }

    /// `docker stop`, and the exit code.
    pub(super) fn stop(&self) -> i32 {
        self.engine.ok(&["stop", &self.id]);
        self.code()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the container's output: {}", self.logs());
        }
        self.engine.docker(&["rm", "-f", &self.id]);
    }
}
