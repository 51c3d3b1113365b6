//! Files that a privileged process makes, opens or removes without being led astray by links.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, fchown, lchown},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::{Dir, Type},
    fcntl::{AtFlags, OFlag},
    sys::stat::{Mode, fstatat},
    unistd::{UnlinkatFlags, unlinkat},
};

use super::SysError;

fn shown(doing: &str, path: &Path) -> String {
    format!("{doing} {}", path.display())
}

/// Makes the directory `path` with `mode`, owned by `uid` and `gid`; parents are made with 0755.
///
/// # Errors
/// Something else is there (a link, a file), or a directory of somebody else.
pub fn make_owned_dir(path: &Path, mode: u32, uid: u32, gid: u32) -> Result<(), SysError> {
    let fail = |e: io::Error| SysError::new(shown("making directory", path), e);
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(fail)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return check_dir(path, uid),
        Err(e) => return Err(fail(e)),
    }
    // Made by us just now: its mode without the umask, and its owner, through a descriptor that follows no link.
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = nix::fcntl::open(path, flags, Mode::empty()).map_err(|e| fail(e.into()))?;
    nix::sys::stat::fchmod(&dir, Mode::from_bits_truncate(mode)).map_err(|e| fail(e.into()))?;
    let meta = fs::symlink_metadata(path).map_err(fail)?;
    if meta.uid() != uid || meta.gid() != gid {
        fchown(&dir, Some(uid), Some(gid)).map_err(fail)?;
    }
    Ok(())
}

fn check_dir(path: &Path, uid: u32) -> Result<(), SysError> {
    let doing = shown("using directory", path);
    let meta = fs::symlink_metadata(path).map_err(|e| SysError::new(doing.clone(), e))?;
    if !meta.is_dir() {
        return Err(SysError::refused(doing, "it is not a directory"));
    }
    if meta.uid() != uid && meta.uid() != 0 {
        let why = format!("it belongs to uid {}, not to uid {uid} or root", meta.uid());
        return Err(SysError::refused(doing, why));
    }
    Ok(())
}

/// Removes a Unix socket that nobody listens on. Whether one was removed.
///
/// # Errors
/// It cannot be looked at or removed. Something other than a socket is left alone, and an error.
pub fn remove_stale_socket(path: &Path) -> Result<bool, SysError> {
    let doing = shown("removing stale socket", path);
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(SysError::new(doing, e)),
    };
    if !meta.file_type().is_socket() {
        return Err(SysError::refused(doing, "it is not a socket"));
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|e| SysError::new(doing, e))?;
            Ok(true)
        }
        // Somebody listens, or it is a datagram socket in use: not stale as far as we can prove.
        Ok(_) | Err(_) => Ok(false),
    }
}

/// Removes a regular file that belongs to `uid`. Whether one was removed.
///
/// # Errors
/// It is something else or somebody else's, or cannot be removed.
pub fn remove_regular_file(path: &Path, uid: u32) -> Result<bool, SysError> {
    let doing = shown("removing", path);
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(SysError::new(doing, e)),
    };
    if !meta.is_file() {
        return Err(SysError::refused(doing, "it is not a regular file"));
    }
    if meta.uid() != uid {
        let why = format!("it belongs to uid {}, not to uid {uid}", meta.uid());
        return Err(SysError::refused(doing, why));
    }
    fs::remove_file(path).map_err(|e| SysError::new(doing, e))?;
    Ok(true)
}

/// Removes a directory and what is in it: by descriptors, never through a link, never onto another file system.
/// A directory that is not there is no error.
///
/// # Errors
/// What stood in the way; what was removed before stays removed.
pub fn remove_dir_tree(path: &Path) -> Result<(), SysError> {
    let fail = |e: nix::errno::Errno| SysError::new(shown("removing directory", path), e);
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let top = match nix::fcntl::open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(nix::errno::Errno::ENOENT) => return Ok(()),
        Err(e) => return Err(fail(e)),
    };
    let device = nix::sys::stat::fstat(&top).map_err(fail)?.st_dev;
    let mut open = vec![top];
    let mut names: Vec<PathBuf> = Vec::new();
    while let Some(dir) = open.last() {
        match next_directory(dir, device).map_err(fail)? {
            Some((child, name)) => {
                open.push(child);
                names.push(name);
            }
            None => {
                open.pop();
                if let (Some(parent), Some(name)) = (open.last(), names.pop()) {
                    unlinkat(parent, &name, UnlinkatFlags::RemoveDir).map_err(fail)?;
                }
            }
        }
    }
    fs::remove_dir(path).map_err(|e| SysError::new(shown("removing directory", path), e))
}

/// Removes every file of `dir`; gives its first directory, opened, if it has one on the same device.
fn next_directory(dir: &OwnedFd, device: u64) -> nix::Result<Option<(OwnedFd, PathBuf)>> {
    let mut listing = Dir::from_fd(dir.try_clone().map_err(|_| nix::errno::Errno::EMFILE)?)?;
    let entries: Vec<_> = listing.iter().collect::<nix::Result<_>>()?;
    for entry in entries {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(nix::errno::Errno::ENOENT) => continue,
            other => other?,
        };
        if stat.st_dev != device {
            return Err(nix::errno::Errno::EXDEV);
        }
        let is_dir = entry.file_type() == Some(Type::Directory)
            || stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if is_dir {
            let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let child = nix::fcntl::openat(dir, name, flags, Mode::empty())?;
            let path = PathBuf::from(std::ffi::OsStr::new(&*name.to_string_lossy()));
            return Ok(Some((child, path)));
        }
        unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
    }
    Ok(None)
}

/// Gives a file or link to `uid` and `gid`, without following it.
///
/// # Errors
/// lchown(2).
pub fn give(path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<(), SysError> {
    lchown(path, uid, gid).map_err(|e| SysError::new(shown("changing the owner of", path), e))
}
