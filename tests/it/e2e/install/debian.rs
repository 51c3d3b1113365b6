//! A Debian of its own for a script: an overlay over the one of tests/root, gone with the script.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
};

use super::super::harness::{full, is_root, skip};

/// Where tests/run has made the Debian.
const DEBIAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/full/bookworm");

/// Everything happens in namespaces of its own, so that all of it ends with their first process.
const ROOT: &str = r#"
set -e
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
mkdir -p "$1/root/etc/mini-supervisor"
cp "$3" "$1/root/usr/bin/supervisor"
cp "$4" "$1/root/etc/mini-supervisor/shop.yaml"
cp "$5" "$1/root/script"
"#;

/// Without an init.
const CHROOT: &str = r#"
mount -t proc proc "$1/root/proc"
mount --bind /dev "$1/root/dev"
exec chroot "$1/root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh /script
"#;

/// With systemd as its first process; once more when the script has made `/again`. The cgroups that
/// it leaves are empty.
const BOOT: &str = r#"
for root in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
  [ -e "$root/cgroup.procs" ] || continue
  mkdir "$root/$6" && echo $$ > "$root/$6/cgroup.procs"
done
mount -t tmpfs -o mode=0755 tmpfs /run
status=0
for round in first second; do
  systemd-nspawn -q -D "$1/root" --machine="$6" --register=no --keep-unit --boot --console=pipe \
    --private-network >"$1/console" 2>&1 </dev/null &
  nspawn=$!
  until leader=$(pgrep -P $nspawn -x systemd); do
    kill -0 $nspawn || { cat "$1/console"; exit 99; }
    sleep 0.05
  done
  inside="nsenter -t $leader -m -u -i -n -p -C"
  until $inside test -S /run/systemd/private 2>/dev/null; do sleep 0.05; done
  $inside systemctl is-system-running --wait >/dev/null || true
  $inside /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh /script $round || status=$?
  kill -s RTMIN+4 $leader
  wait $nspawn || true
  [ -e "$1/root/again" ] || break
done
exit $status
"#;

/// What a script wrote, both streams, and its exit code.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) text: String,
}

/// Whether tests in a Debian can be made here; says why not.
pub(super) fn possible(commands: &[&str]) -> bool {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let is_there = |name: &&&str| folders.iter().any(|dir| Path::new(dir).join(name).exists());
    let missing: Vec<_> = commands.iter().filter(|name| !is_there(name)).collect();
    let why = match () {
        () if !full() || !is_root() => "TESTS_FULL=1 and root are needed".to_owned(),
        () if !Path::new(DEBIAN).exists() => "tests/root target/full/bookworm was not run".into(),
        () if !missing.is_empty() => format!("not installed: {missing:?}"),
        () => return true,
    };
    skip(&why);
    false
}

/// Runs `script` of sh in a Debian without an init, with this site in /etc/mini-supervisor.
pub(super) fn chroot(site: &str, script: &str) -> Ran {
    run(CHROOT, site, script)
}

/// The same with systemd.
pub(super) fn booted(site: &str, script: &str) -> Ran {
    run(BOOT, site, script)
}

fn run(how: &str, site: &str, script: &str) -> Ran {
    let dir = tempfile::Builder::new().prefix("ms-install-").tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("root")).unwrap();
    fs::write(path("site.yaml"), site).unwrap();
    // What both streams say comes in one order.
    fs::write(path("script"), format!("exec 2>&1\n{script}")).unwrap();
    let name = format!("ms-install-{}", nix::unistd::gettid());
    let words = ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--fork"];
    let more = ["--kill-child", "--mount-proc", "--propagation", "private", "sh", "-c"];
    let output = Command::new(words[0])
        .args(&words[1..])
        .args(more)
        .args([&format!("{ROOT}{how}"), "debian", &path("root"), DEBIAN])
        .args([env!("CARGO_BIN_EXE_supervisor"), &path("site.yaml"), &path("script"), &name])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    for root in ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"] {
        remove_tree(&Path::new(root).join(&name));
    }
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap());
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ran { code, text }
}

/// Removes an empty cgroup and those below.
fn remove_tree(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(folder).ok();
}
