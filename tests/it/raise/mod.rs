//! `semaphore raise`, `hold` and `watch`, through the binary: files, locks, exit codes, words.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the binary is driven from outside, as a user drives it"
)]

mod hold;
mod hostile;
mod originals;
mod raising;
mod requests;
mod unattended;
mod watch;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::cli::site::{Ran, Site, ended};

const WEB: &str = "  web: {command: [sleep, '1000']}";
/// As the bot's own.
const INFO: &str = "info_file: DIR/info, \
                    info_keys: {name: 'Demandé par', node_id: 'Node ID', timestamp: Timestamp}";

/// A site that does not run, with `web` and the semaphore `ask`; `DIR` is its directory.
fn written(keys: &str) -> Site {
    let site = Site::written(WEB);
    let text = format!("{WEB}\nsemaphores:\n  ask: {{path: DIR/lock, {keys}}}");
    site.write(&text.replace("DIR", site.dir.path().to_str().unwrap()));
    site
}

/// The same, up and armed.
fn up(keys: &str) -> Site {
    let site = written(keys).started();
    site.wait_log("semaphore:ask: armed");
    site
}

fn path(site: &Site, name: &str) -> PathBuf {
    site.dir.path().join(name)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    fs::symlink_metadata(path).ok().map(|meta| meta.ino())
}

/// All names in the directory of a site that have to do with its semaphore.
fn left(site: &Site) -> Vec<String> {
    let names = fs::read_dir(site.dir.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != "run" && name != "site.yaml").collect();
    names.sort();
    names
}

/// How often the supervisor has done it so far.
fn done(site: &Site) -> usize {
    site.log().matches("semaphore:ask: does restart:web").count()
}

/// Waits until it has left its lock, by taking it.
fn python(script: &str, args: &[&Path]) -> Command {
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped());
    command
}

fn finish(child: Child) -> Ran {
    ended(child)
}
