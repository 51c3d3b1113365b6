//! Files that a privileged process makes, opens or removes without being led astray by links.

use std::{
    ffi::CString,
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, fchown, lchown},
    },
    path::Path,
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2},
    sys::{
        socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
        stat::{FileStat, Mode, fchmod, fstat, fstatat},
    },
    unistd::{UnlinkatFlags, unlinkat},
};

use super::{SysError, width};

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn shown(doing: &str, path: &Path) -> String {
    format!("{doing} {}", path.display())
}

/// Makes the directory `path` with `mode`, owned by `uid` and `gid`; parents are made with 0755.
///
/// One that exists gets this mode and owner, if it was root's or theirs before.
///
/// # Errors
/// Something else is there (a link, a file), or a directory of somebody else.
pub fn make_owned_dir(path: &Path, mode: u32, uid: u32, gid: u32) -> Result<(), SysError> {
    let fail = |e: io::Error| SysError::new(shown("make directory", path), e);
    let is_new = make(path, mode).map_err(fail)?;
    // From here on by a descriptor: whatever the path leads to later, this is what was checked.
    let dir = open(path, DIRECTORY, Mode::empty()).map_err(|e| fail(e.into()))?;
    let stat = fstat(&dir).map_err(|e| fail(e.into()))?;
    if !is_new {
        check_owner(&stat, uid, &shown("use directory", path))?;
    }
    if (stat.st_uid, stat.st_gid) != (uid, gid) {
        fchown(&dir, Some(uid), Some(gid)).map_err(fail)?;
    }
    // After the owner: a change of it takes bits away (chown(2)). The umask did so before.
    if stat.st_mode & 0o7777 != mode || stat.st_uid != uid {
        fchmod(&dir, Mode::from_bits_truncate(mode)).map_err(|e| fail(e.into()))?;
    }
    Ok(())
}

/// Makes the directory `path` for the supervisor itself, which runs as `uid`; one that exists stays
/// as it is.
///
/// # Errors
/// Something else is there (a link, a file), or a directory of somebody other than `uid` and root.
pub fn make_own_dir(path: &Path, mode: u32, uid: u32) -> Result<(), SysError> {
    make(path, mode).map_err(|e| SysError::new(shown("make directory", path), e))?;
    let doing = shown("use directory", path);
    let dir = open(path, DIRECTORY, Mode::empty()).map_err(|e| SysError::new(doing.clone(), e))?;
    let stat = fstat(&dir).map_err(|e| SysError::new(doing.clone(), e))?;
    check_owner(&stat, uid, &doing)
}

/// Whether the directory is new.
fn make(path: &Path, mode: u32) -> io::Result<bool> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

fn check_owner(stat: &FileStat, uid: u32, doing: &str) -> Result<(), SysError> {
    if stat.st_uid == uid || stat.st_uid == 0 {
        return Ok(());
    }
    let why = format!("it belongs to uid {}, not to uid {uid} or root", stat.st_uid);
    Err(SysError::refused(doing, why))
}

/// Puts a file with this text and mode at `path`: whole, or not at all (rename(2)).
///
/// # Errors
/// Its directory is missing, or cannot be written.
pub fn replace_file(path: &Path, text: &[u8], mode: u32) -> Result<(), SysError> {
    let fail = |e| SysError::new(shown("write", path), e);
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    // Left behind by one who had our pid before.
    fs::remove_file(&temporary).ok();
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(text)?;
            // The umask may have taken bits away.
            fchmod(&file, Mode::from_bits_truncate(mode))?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(e) = written {
        fs::remove_file(&temporary).ok();
        return Err(fail(e));
    }
    // A file system that cannot do this has nothing to lose.
    if let Ok(directory) = fs::File::open(path.parent().unwrap_or(Path::new("/"))) {
        directory.sync_all().ok();
    }
    Ok(())
}

/// The text of a file that is ours, at most `most` bytes of it; `None` when there is none.
///
/// # Errors
/// It cannot be read, is no regular file, or others may have written it.
pub fn read_own(path: &Path, most: u64) -> Result<Option<Vec<u8>>, SysError> {
    let fail = |e| SysError::new(shown("read", path), e);
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = match fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(fail)?,
    };
    let meta = file.metadata().map_err(fail)?;
    let own = [0, nix::unistd::geteuid().as_raw()].contains(&meta.uid());
    if !meta.is_file() || !own || meta.mode() & 0o022 != 0 {
        let why = "others may have written it, or it is no file";
        return Err(SysError::refused(shown("read", path), why));
    }
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text).map_err(fail)?;
    Ok(Some(text))
}

/// Removes a Unix socket that nobody listens on. Whether one was removed.
///
/// # Errors
/// It cannot be looked at or removed. Something other than a socket is left alone, and an error.
pub fn remove_stale_socket(path: &Path) -> Result<bool, SysError> {
    let doing = shown("remove stale socket", path);
    let Some(meta) = metadata(path, &doing)? else { return Ok(false) };
    if !meta.file_type().is_socket() {
        return Err(SysError::refused(doing, "it is not a socket"));
    }
    // A full backlog would make a blocking connect(2) wait; EAGAIN says that somebody listens.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None);
    let probe = probe.map_err(|e| SysError::new(doing.clone(), e))?;
    let address = UnixAddr::new(path).map_err(|e| SysError::new(doing.clone(), e))?;
    if connect(std::os::fd::AsRawFd::as_raw_fd(&probe), &address) != Err(Errno::ECONNREFUSED) {
        // Somebody listens, or it is of another type and in use: not stale as far as we can prove.
        return Ok(false);
    }
    unlink(path, doing)
}

/// Removes a socket in a directory of our own, whoever has made it and whoever uses it.
///
/// # Errors
/// It is something else, or cannot be removed.
pub(super) fn remove_own_socket(path: &Path) -> Result<bool, SysError> {
    let doing = shown("remove socket", path);
    let Some(meta) = metadata(path, &doing)? else { return Ok(false) };
    if !meta.file_type().is_socket() {
        return Err(SysError::refused(doing, "it is not a socket"));
    }
    unlink(path, doing)
}

/// Removes a regular file that belongs to `uid`. Whether one was removed.
///
/// # Errors
/// It is something else or somebody else's, or cannot be removed.
pub fn remove_regular_file(path: &Path, uid: u32) -> Result<bool, SysError> {
    let doing = shown("remove", path);
    let Some(meta) = metadata(path, &doing)? else { return Ok(false) };
    if !meta.is_file() {
        return Err(SysError::refused(doing, "it is not a regular file"));
    }
    if meta.uid() != uid {
        let why = format!("it belongs to uid {}, not to uid {uid}", meta.uid());
        return Err(SysError::refused(doing, why));
    }
    unlink(path, doing)
}

/// Of the thing itself, not of what a link leads to; `None` when there is nothing.
fn metadata(path: &Path, doing: &str) -> Result<Option<fs::Metadata>, SysError> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(SysError::new(doing, e)),
    }
}

fn unlink(path: &Path, doing: String) -> Result<bool, SysError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(SysError::new(doing, e)),
    }
}

/// Removes a directory and what is in it: by descriptors, never through a link, never into another
/// mount. A directory that is not there is no error.
///
/// # Errors
/// What stood in the way; what was removed before stays removed.
pub fn remove_dir_tree(path: &Path) -> Result<(), SysError> {
    let fail = |e: Errno| SysError::new(shown("remove directory", path), e);
    let mut here = match open(path, DIRECTORY, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::ENOENT) => return Ok(()),
        Err(e) => return Err(fail(e)),
    };
    // One descriptor whatever the depth; the way back is compared with the way there.
    let mut above: Vec<(CString, (u64, u64))> = Vec::new();
    loop {
        if let Some((child, name)) = next_directory(here.as_fd()).map_err(fail)? {
            above.push((name, identity(here.as_fd()).map_err(fail)?));
            here = child;
            continue;
        }
        let Some((name, parent)) = above.pop() else { break };
        here = openat(&here, c"..", DIRECTORY, Mode::empty()).map_err(fail)?;
        if identity(here.as_fd()).map_err(fail)? != parent {
            let why = "it is being moved meanwhile";
            return Err(SysError::refused(shown("remove directory", path), why));
        }
        unlinkat(&here, name.as_c_str(), UnlinkatFlags::RemoveDir).map_err(fail)?;
    }
    fs::remove_dir(path).map_err(|e| SysError::new(shown("remove directory", path), e))
}

fn identity(dir: BorrowedFd<'_>) -> nix::Result<(u64, u64)> {
    fstat(dir).map(|stat| width::identity(&stat))
}

/// Removes every file of `dir` up to its first directory, which it gives, opened; `None` when the
/// directory is empty.
fn next_directory(dir: BorrowedFd<'_>) -> nix::Result<Option<(OwnedFd, CString)>> {
    loop {
        // A reader of its own: `dir` keeps no place in the listing. What a listing that changes
        // under us leaves out, the next one has.
        let mut listing = Dir::openat(dir, c".", DIRECTORY, Mode::empty())?;
        let mut removed = false;
        for entry in listing.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => continue,
                other => other?,
            };
            if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
                return Ok(Some((open_below(dir, name)?, name.to_owned())));
            }
            unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
            removed = true;
        }
        if !removed {
            return Ok(None);
        }
    }
}

/// Opens a directory of `dir` that is no link and no mount point, bind mounts included.
fn open_below(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_NO_XDEV
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_BENEATH;
    match openat2(dir, name, OpenHow::new().flags(DIRECTORY).resolve(resolve)) {
        // Before Linux 5.6, or hidden by a filter.
        Err(Errno::ENOSYS | Errno::EPERM) => {}
        other => return other,
    }
    let child = openat(dir, name, DIRECTORY, Mode::empty())?;
    let same_device = fstat(dir)?.st_dev == fstat(&child)?.st_dev;
    if same_device && mount_id(dir)? == mount_id(child.as_fd())? {
        Ok(child)
    } else {
        Err(Errno::EXDEV)
    }
}

/// The mount that a descriptor is on (`proc_pid_fdinfo(5)`).
fn mount_id(fd: BorrowedFd<'_>) -> nix::Result<String> {
    let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{raw}")).map_err(|_| Errno::EXDEV)?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.map(|id| id.trim().to_owned()).ok_or(Errno::EXDEV)
}

/// Gives a file or link to `uid` and `gid`, without following it.
///
/// # Errors
/// lchown(2).
pub fn give(path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<(), SysError> {
    lchown(path, uid, gid).map_err(|e| SysError::new(shown("change the owner of", path), e))
}
