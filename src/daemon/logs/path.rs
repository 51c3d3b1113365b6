//! Opening log files so that nobody who may write somewhere on the way can lead us elsewhere.
//!
//! A symbolic link is followed only out of a directory that belongs to root or to us and that
//! nobody else may change; the file itself is never a link, has one name only, and is a regular
//! file.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Component, Path},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat, readlinkat},
    sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat},
    unistd::{Gid, Uid, fchown, geteuid},
};

use crate::sys::{spawn, width};

/// Why a log file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenError {
    /// The kernel says so.
    Errno(Errno),
    /// We say so, for safety.
    Unsafe(&'static str),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(errno) => f.write_str(errno.desc()),
            Self::Unsafe(why) => f.write_str(why),
        }
    }
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// Owner and mode of a file that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ownership {
    pub(super) owner: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) mode: u32,
}

/// An open directory and whether nobody but root and we may change it.
pub(super) struct Parent {
    pub(super) fd: OwnedFd,
    trusted: bool,
    uid: u32,
}

const MAX_LINKS: u32 = 40;

fn is_kind(stat: &FileStat, kind: libc::mode_t) -> bool {
    stat.st_mode & libc::S_IFMT == kind
}

fn look_at(fd: OwnedFd) -> Result<Parent, Errno> {
    let stat = fstat(&fd)?;
    let ours = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
    let private = stat.st_mode & 0o022 == 0 || stat.st_mode & libc::S_ISVTX != 0;
    Ok(Parent { fd, trusted: ours && private, uid: stat.st_uid })
}

fn root() -> Result<Parent, Errno> {
    look_at(open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Opens the directory of `path`. A missing last directory below `make_below` is made.
pub(super) fn open_parent(
    path: &Path,
    make_below: Option<&Path>,
) -> Result<(Parent, OsString), OpenError> {
    let name = path.file_name().ok_or(OpenError::Unsafe("the path names no file"))?.to_owned();
    let dir = path.parent().ok_or(OpenError::Unsafe("the path names no directory"))?;
    let may_make = make_below.is_some_and(|top| dir.starts_with(top));
    let mut todo: Vec<OsString> = components(dir).rev().collect();
    let mut at = root()?;
    let mut untrusted = false;
    let mut links = 0;
    while let Some(next) = todo.pop() {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&at.fd, next.as_os_str(), flags, Mode::empty()) {
            Ok(fd) => at = look_at(fd)?,
            Err(Errno::ENOENT) if may_make && todo.is_empty() => {
                mkdirat(&at.fd, next.as_os_str(), Mode::from_bits_truncate(0o755))?;
                todo.push(next);
                continue;
            }
            Err(errno) => {
                let target = readlinkat(&at.fd, next.as_os_str()).map_err(|_| errno)?;
                links += 1;
                if untrusted || !at.trusted || links > MAX_LINKS {
                    return Err(OpenError::Unsafe("a directory on the way is a symbolic link"));
                }
                if Path::new(&target).is_absolute() {
                    at = root()?;
                }
                todo.extend(components(Path::new(&target)).rev());
                continue;
            }
        }
        untrusted |= !at.trusted;
    }
    Ok((at, name))
}

fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}

/// Opens `name` for appending, making it if need be; gives it and whether it ends within a line.
pub(super) fn open_log(
    parent: &Parent,
    name: &OsStr,
    ownership: Ownership,
) -> Result<(OwnedFd, FileStat, bool), OpenError> {
    let flags = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    // Without O_CREAT first: fs.protected_regular refuses that in sticky directories.
    let fd = match openat(&parent.fd, name, flags, Mode::empty()) {
        Err(Errno::ENOENT) => create(parent, name, flags, ownership)?,
        other => other.map_err(explain)?,
    };
    let stat = fstat(&fd)?;
    if !is_kind(&stat, libc::S_IFREG) {
        return Err(OpenError::Unsafe("it is not a regular file"));
    }
    if stat.st_nlink != 1 {
        return Err(OpenError::Unsafe("it has more than one name, or none"));
    }
    let owners = [0, geteuid().as_raw(), parent.uid, ownership.owner.unwrap_or(0)];
    if !owners.contains(&stat.st_uid) {
        return Err(OpenError::Unsafe("it belongs to somebody else"));
    }
    let open = stat.st_size > 0 && ends_within_line(parent, name, &stat);
    Ok((spawn::aside(fd), stat, open))
}

fn explain(errno: Errno) -> OpenError {
    if errno == Errno::ELOOP {
        OpenError::Unsafe("it is a symbolic link")
    } else if errno == Errno::ENXIO {
        OpenError::Unsafe("it is not a regular file") // a FIFO that nobody reads
    } else {
        OpenError::Errno(errno)
    }
}

fn create(
    parent: &Parent,
    name: &OsStr,
    flags: OFlag,
    ownership: Ownership,
) -> Result<OwnedFd, OpenError> {
    let flags = flags | OFlag::O_CREAT | OFlag::O_EXCL;
    let mode = Mode::from_bits_truncate(ownership.mode);
    let fd =
        openat(&parent.fd, name, flags, mode & Mode::from_bits_truncate(0o700)).map_err(explain)?;
    if ownership.owner.is_some() || ownership.group.is_some() {
        // Somebody who is not root cannot give files away; the log is worth more than its owner.
        match fchown(&fd, ownership.owner.map(Uid::from_raw), ownership.group.map(Gid::from_raw)) {
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    fchmod(&fd, mode)?;
    Ok(fd)
}

fn ends_within_line(parent: &Parent, name: &OsStr, stat: &FileStat) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let Ok(fd) = openat(&parent.fd, name, flags, Mode::empty()) else { return false };
    let mut last = [0_u8; 1];
    matches!(nix::sys::uio::pread(&fd, &mut last, stat.st_size - 1), Ok(1)) && last != *b"\n"
}

/// Whether `name` still is the file with this device and inode.
pub(super) fn is_file(parent: &Parent, name: &OsStr, id: (u64, u64)) -> bool {
    fstatat(&parent.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| width::identity(&stat) == id)
}

/// The names in a directory.
pub(super) fn names(parent: &Parent) -> Result<Vec<Vec<u8>>, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = nix::dir::Dir::openat(&parent.fd, OsStr::from_bytes(b"."), flags, Mode::empty())?;
    let entries = dir.iter().filter_map(Result::ok);
    Ok(entries.map(|e| e.file_name().to_bytes().to_vec()).collect())
}
