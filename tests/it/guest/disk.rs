//! The disk of a guest: an ext4 with busybox, our binary and what the test puts there.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::console::AGENT;
use crate::outside::BINARY;

/// Process 1, until it executes what the test wants there.
const INIT: &str = r#"
export PATH=/bin:/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
exec </dev/console >/dev/console 2>&1
setsid sh /agent &
"#;

/// What a root has, beside that of tests/guest.
pub(super) struct Disk {
    tree: PathBuf,
}

impl Disk {
    /// In this folder, copied from what tests/guest has made.
    pub(super) fn new(folder: &Path, made: &Path) -> Self {
        let tree = folder.join("root");
        run("cp", &["-a", made.join("root").to_str().unwrap(), tree.to_str().unwrap()]);
        let this = Self { tree };
        this.command(BINARY, "/bin/supervisor");
        this.script("/agent", AGENT);
        this
    }

    /// A command of this machine, with the libraries that it is linked with.
    pub(super) fn command(&self, from: &str, to: &str) {
        // Not through a link: busybox has a name for each of its commands.
        fs::remove_file(self.path(to)).ok();
        fs::copy(from, self.path(to)).unwrap();
        let list = run("ldd", &[from]);
        let words = list.split_whitespace().filter(|word| word.starts_with('/'));
        for library in words.filter(|library| !self.path(library).exists()) {
            fs::create_dir_all(self.path(library).parent().unwrap()).unwrap();
            fs::copy(library, self.path(library)).unwrap();
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.tree.join(path.trim_start_matches('/'))
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    /// A script that can be executed.
    pub(super) fn script(&self, path: &str, text: &str) {
        fs::remove_file(self.path(path)).ok();
        self.write(path, &format!("#!/bin/sh\n{}\n", text.trim()));
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The image of it, whose process 1 goes on with these commands of a shell.
    pub(super) fn image(self, init: &str) -> PathBuf {
        self.script("/init", &format!("{INIT}{init}"));
        let image = self.tree.with_extension("img");
        let (tree, to) = (self.tree.to_str().unwrap(), image.to_str().unwrap());
        run("mke2fs", &["-q", "-F", "-t", "ext4", "-d", tree, to, "128M"]);
        fs::remove_dir_all(&self.tree).unwrap();
        image
    }
}

/// A command that is to succeed; what it printed.
fn run(name: &str, words: &[&str]) -> String {
    let output = Command::new(name).args(words).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), &output.stderr);
    assert!(output.status.success(), "{name} {words:?}: {}", String::from_utf8_lossy(err));
    out.into_owned()
}
