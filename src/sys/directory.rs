//! Directories that root makes and gives away, where others may own a part of the way to them.
//!
//! Every step is made from a descriptor. A link is followed only where it stands in a directory
//! that root, or we, alone can write: nobody else can have put it there, or put something in its
//! place meanwhile. What a path names at last is never a link.

use std::{
    collections::VecDeque,
    ffi::{CString, OsStr, OsString},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::fchown},
    },
    path::{Component, Path},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat, readlinkat},
    sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat},
    unistd::geteuid,
};

use super::{SysError, foreign_file::Astray};

const PATH: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const FILE: OFlag =
    OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);
/// More links on one way are a loop.
const MOST_LINKS: usize = 40;

/// Whose something is, and who may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// The twelve bits of chmod(2).
    pub mode: u32,
}

impl Ownership {
    fn of(stat: &FileStat) -> Self {
        Self { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 }
    }
}

/// The directory at `path`; `None` when there is nothing.
///
/// # Errors
/// Something else is there, or on the way.
pub fn look(path: &Path) -> Result<Option<Ownership>, SysError> {
    let fail = |e| refusal("look at directory", path, e);
    let Some((parent, name)) = parent_of(path, Missing::Absent).map_err(fail)? else {
        return Ok(None);
    };
    match fstatat(&parent, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) if is(&stat, libc::S_IFDIR) => Ok(Some(Ownership::of(&stat))),
        Ok(_) => Err(fail(Stop::NoDirectory)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(fail(e.into())),
    }
}

/// Makes the directory at `path`, and its parents, which are ours, with mode 0755. Whether it is
/// new; one that exists stays as it is.
///
/// # Errors
/// Something else is there, or on the way.
pub fn make(path: &Path, wanted: Ownership) -> Result<bool, SysError> {
    let fail = |e| refusal("make directory", path, e);
    let way = parent_of(path, Missing::Made).map_err(fail)?;
    let Some((parent, name)) = way else { return Err(fail(Errno::ENOENT.into())) };
    // Nobody's but ours until it is as it is to be.
    match mkdirat(&parent, name.as_os_str(), Mode::S_IRWXU) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let there = openat(&parent, name.as_os_str(), DIRECTORY, Mode::empty());
            return there.map(|_| false).map_err(|_| fail(Stop::NoDirectory));
        }
        Err(e) => return Err(fail(e.into())),
    }
    let directory = openat(&parent, name.as_os_str(), DIRECTORY, Mode::empty());
    let directory = directory.map_err(|e| fail(e.into()))?;
    let now = Ownership::of(&fstat(&directory).map_err(|e| fail(e.into()))?);
    if now.uid != geteuid().as_raw() {
        return Err(fail(Stop::Replaced));
    }
    give(&directory, now, wanted).map_err(|e| fail(Stop::Kernel(e)))?;
    Ok(true)
}

/// Gives the directory at `path` to whom it is to belong. Whether that changed anything.
///
/// # Errors
/// It belongs to somebody who is neither root, nor the one it is given to, nor in `from`.
pub fn set(path: &Path, wanted: Ownership, from: &[u32]) -> Result<bool, SysError> {
    let fail = |e| refusal("change directory", path, e);
    let directory = open_at(path).map_err(fail)?;
    let now = Ownership::of(&fstat(&directory).map_err(|e| fail(e.into()))?);
    if now == wanted {
        return Ok(false);
    }
    if now.uid != 0 && now.uid != wanted.uid && !from.contains(&now.uid) {
        return Err(fail(Stop::Foreign { uid: now.uid, wanted: wanted.uid }));
    }
    give(&directory, now, wanted).map_err(|e| fail(Stop::Kernel(e)))?;
    Ok(true)
}

/// The directory of the file at `path`, and its name there, whether it is there or not. A directory
/// in which anybody may replace the file is refused.
///
/// # Errors
/// There is no such directory, or others could lead the way to it elsewhere.
pub(super) fn directory_of(path: &Path, doing: &str) -> Result<(OwnedFd, OsString), SysError> {
    let fail = |stop: Stop| refused(doing.to_owned(), stop);
    let way = parent_of(path, Missing::Absent).map_err(fail)?;
    let (parent, name) = way.ok_or_else(|| fail(Errno::ENOENT.into()))?;
    let stat = fstat(&parent).map_err(|e| fail(e.into()))?;
    if stat.st_mode & 0o1002 == 0o002 {
        let why = "everybody may replace files of its directory";
        return Err(SysError::refused(doing, why));
    }
    Ok((parent, name))
}

/// Regular files directly in a directory whose mode is not the wanted one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// That have, or are to be given, another mode.
    pub others: usize,
    /// That are left alone: known under several names, perhaps elsewhere, or not there any more.
    pub left: usize,
}

/// Counts them.
///
/// # Errors
/// The directory cannot be read.
pub fn count_files(path: &Path, mode: u32) -> Result<Files, SysError> {
    each_file(path, "look at the files of", |_, _, stat| Ok(stat.st_mode & 0o7777 != mode))
}

/// Gives them the mode.
///
/// # Errors
/// The directory cannot be read, or a mode not be set.
pub fn set_files(path: &Path, mode: u32) -> Result<Files, SysError> {
    each_file(path, "change the files of", |directory, name, stat| {
        if stat.st_mode & 0o7777 == mode {
            return Ok(false);
        }
        let file = openat(directory, name, FILE, Mode::empty())?;
        let now = fstat(&file)?;
        if !is(&now, libc::S_IFREG) || now.st_nlink != 1 {
            return Err(Errno::ESTALE);
        }
        fchmod(&file, Mode::from_bits_truncate(mode))?;
        Ok(true)
    })
}

fn each_file(
    path: &Path,
    doing: &str,
    work: impl Fn(&OwnedFd, &OsStr, &FileStat) -> nix::Result<bool>,
) -> Result<Files, SysError> {
    let fail = |e: Stop| refusal(doing, path, e);
    let directory = open_at(path).map_err(fail)?;
    let mut listing =
        Dir::openat(&directory, c".", DIRECTORY, Mode::empty()).map_err(|e| fail(e.into()))?;
    let mut files = Files::default();
    for entry in listing.iter() {
        let name: CString = entry.map_err(|e| fail(e.into()))?.file_name().to_owned();
        let name = OsStr::from_bytes(name.as_bytes());
        let stat = match fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => continue,
            other => other.map_err(|e| fail(e.into()))?,
        };
        if !is(&stat, libc::S_IFREG) {
            continue;
        }
        // Somebody may have made it a name of a file that he could not change himself (link(2)).
        if stat.st_nlink != 1 {
            files.left = files.left.saturating_add(1);
            continue;
        }
        match work(&directory, name, &stat) {
            Ok(true) => files.others = files.others.saturating_add(1),
            Ok(false) => {}
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ESTALE) => {
                files.left = files.left.saturating_add(1);
            }
            Err(e) => return Err(fail(e.into())),
        }
    }
    Ok(files)
}

fn give(directory: &OwnedFd, now: Ownership, wanted: Ownership) -> io::Result<()> {
    if (now.uid, now.gid) != (wanted.uid, wanted.gid) {
        fchown(directory, Some(wanted.uid), Some(wanted.gid))?;
    }
    // After the owner: a change of it may take bits away (chown(2)).
    fchmod(directory, Mode::from_bits_truncate(wanted.mode))?;
    Ok(())
}

fn is(stat: &FileStat, kind: u32) -> bool {
    stat.st_mode & libc::S_IFMT == kind
}

/// Why a path is not gone.
enum Stop {
    Kernel(io::Error),
    NoDirectory,
    Link,
    Replaced,
    Foreign { uid: u32, wanted: u32 },
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno.into())
    }
}

fn refusal(doing: &str, path: &Path, stop: Stop) -> SysError {
    refused(format!("{doing} {}", path.display()), stop)
}

fn refused(doing: String, stop: Stop) -> SysError {
    match stop {
        Stop::Kernel(e) => SysError::new(doing, e),
        Stop::NoDirectory => SysError::refused(doing, "it is no directory"),
        Stop::Link => {
            SysError::refused(doing, "others than root can change a link on the way to it")
        }
        Stop::Replaced => SysError::refused(doing, "somebody else has put something in its place"),
        Stop::Foreign { uid, wanted } => SysError::refused(
            doing,
            format!("it belongs to uid {uid}, not to uid {wanted}, root or a declared user"),
        ),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Absent,
    Made,
}

/// The directory itself, opened.
fn open_at(path: &Path) -> Result<OwnedFd, Stop> {
    let (parent, name) = parent_of(path, Missing::Absent)?.ok_or(Errno::ENOENT)?;
    match openat(&parent, name.as_os_str(), DIRECTORY, Mode::empty()) {
        Ok(directory) => Ok(directory),
        Err(Errno::ELOOP | Errno::ENOTDIR) => Err(Stop::NoDirectory),
        Err(e) => Err(e.into()),
    }
}

/// The directory in which the last name of `path` stands, and that name.
pub(super) fn way_to(path: &Path) -> Result<(OwnedFd, OsString), Astray> {
    match parent_of(path, Missing::Absent) {
        Ok(Some(way)) => Ok(way),
        Ok(None) => Err(Astray::Failed(Errno::ENOENT.into())),
        Err(Stop::Kernel(error)) => Err(Astray::Failed(error)),
        Err(Stop::Link) => Err(Astray::Link),
        // Not said of the way.
        Err(Stop::NoDirectory | Stop::Replaced | Stop::Foreign { .. }) => {
            Err(Astray::Failed(Errno::ENOTDIR.into()))
        }
    }
}

/// The directory in which the last name of `path` stands, and that name; `None` when a part of the
/// way is not there.
fn parent_of(path: &Path, missing: Missing) -> Result<Option<(OwnedFd, OsString)>, Stop> {
    let mut left = names(path);
    // The root itself is `.` in the root.
    let last = left.pop_back().unwrap_or_else(|| ".".into());
    let mut here = open("/", PATH | OFlag::O_DIRECTORY, Mode::empty())?;
    let mut links = 0_usize;
    while let Some(name) = left.pop_front() {
        let next = match openat(&here, name.as_os_str(), PATH, Mode::empty()) {
            Err(Errno::ENOENT) if missing == Missing::Absent => return Ok(None),
            Err(Errno::ENOENT) => {
                match mkdirat(&here, name.as_os_str(), Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                openat(&here, name.as_os_str(), PATH | OFlag::O_DIRECTORY, Mode::empty())?
            }
            other => other?,
        };
        let stat = fstat(&next)?;
        if is(&stat, libc::S_IFDIR) {
            here = next;
        } else if is(&stat, libc::S_IFLNK) {
            links = links.saturating_add(1);
            if links > MOST_LINKS {
                return Err(Errno::ELOOP.into());
            }
            if !is_trusted(&fstat(&here)?) {
                return Err(Stop::Link);
            }
            let target = readlinkat(here.as_fd(), name.as_os_str())?;
            if Path::new(&target).is_absolute() {
                here = open("/", PATH | OFlag::O_DIRECTORY, Mode::empty())?;
            }
            names(Path::new(&target)).into_iter().rev().for_each(|name| left.push_front(name));
        } else {
            return Err(Errno::ENOTDIR.into());
        }
    }
    Ok(Some((here, last)))
}

/// Whether nobody but root and we can change what stands in this directory.
fn is_trusted(stat: &FileStat) -> bool {
    let ours = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
    ours && stat.st_mode & 0o022 == 0
}

/// The names of a path; `..`, which only links have, is one of them.
fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}
