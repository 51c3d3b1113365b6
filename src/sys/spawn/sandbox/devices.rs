//! A /dev of its own: the devices that harm nobody, those that are named, and nothing else.

use std::{
    fs,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt as _, symlink},
    },
    path::{Path, PathBuf},
};

/// A device, or a directory, of the old /dev.
pub(super) struct Node {
    pub(super) path: PathBuf,
    pub(super) directory: bool,
    pub(super) mount: OwnedFd,
}

/// What every program may have (systemd.exec(5), `PrivateDevices`).
const HARMLESS: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Directories that are file systems of their own, without devices but terminals.
const DIRECTORIES: [&str; 4] = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/hugepages"];

/// The paths of the old /dev that are to be in the new one.
pub(super) fn wanted(patterns: &[Box<str>]) -> Vec<PathBuf> {
    let harmless = HARMLESS.into_iter().map(PathBuf::from).filter(|path| is_device(path));
    let directories = DIRECTORIES.into_iter().map(PathBuf::from);
    let directories = directories
        .filter(|path| path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_dir()));
    let named = patterns.iter().filter_map(|pattern| glob::glob(pattern).ok());
    // A link like /dev/serial/by-id/x becomes the device that it leads to.
    let named = named.flatten().filter_map(Result::ok).filter(|path| is_device(path));
    let mut all: Vec<PathBuf> = harmless.chain(directories).chain(named).collect();
    all.sort();
    all.dedup();
    all
}

fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| {
        let kind = meta.file_type();
        kind.is_char_device() || kind.is_block_device()
    })
}

/// The links that programs know.
pub(super) fn link() -> std::io::Result<()> {
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("pts/ptmx", "/dev/ptmx"),
    ];
    links.into_iter().try_for_each(|(to, from)| symlink(to, from))?;
    let journal = "/run/systemd/journal/dev-log";
    if Path::new(journal).exists() { symlink(journal, "/dev/log") } else { Ok(()) }
}
