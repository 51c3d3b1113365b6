//! What is shipped: the units, the Debian package, the images.
#![expect(
    clippy::disallowed_methods,
    reason = "packages and images are made and used by the commands that users have"
)]

mod images;
mod package;
mod units;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::fcntl::{Flock, FlockArg};

/// The top of the project.
fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn shipped(path: &str) -> String {
    let path = top().join("packaging").join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Whether this was asked for, and these commands are there; says why not.
fn possible(commands: &[&str]) -> bool {
    let asked = std::env::var_os("TESTS_FULL").is_some_and(|value| value == "1");
    if !asked || !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: TESTS_FULL=1 and root are needed");
        return false;
    }
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let is_there = |name: &&&str| folders.iter().any(|f| Path::new(f).join(name).exists());
    let missing: Vec<_> = commands.iter().filter(|name| !is_there(name)).collect();
    if !missing.is_empty() {
        eprintln!("skipped: not installed: {missing:?}");
    }
    missing.is_empty()
}

/// Runs a command at the top of the project to its end; what it printed.
fn run(words: &[&str]) -> String {
    let mut command = Command::new(words[0]);
    let output = command.args(&words[1..]).current_dir(top()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{words:?}: {}\n{out}\n{err}", output.status);
    out
}

/// One test at a time makes what all use.
fn locked<T>(name: &str, make: impl FnOnce() -> T) -> T {
    let folder = top().join("target/full");
    fs::create_dir_all(&folder).unwrap();
    let file = fs::File::create(folder.join(name)).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();
    let made = make();
    drop(lock);
    made
}

/// A small Debian of this suite, made once; to be used below an overlay only.
fn debian(suite: &str) -> String {
    let root = format!("target/full/{suite}");
    run(&["tests/root", &root, suite]);
    root
}
