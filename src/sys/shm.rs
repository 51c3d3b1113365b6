//! The files of /dev/shm, by their names in one directory and nowhere else (`shm_overview(7)`).
//!
//! The directory is opened once, never through a link; each name is looked at and removed by its
//! descriptor, and what stands in a directory below it is never touched.

mod users;

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, open},
    sys::{
        stat::{FileStat, Mode, fstatat},
        statfs::{TMPFS_MAGIC, fstatfs},
    },
    unistd::{UnlinkatFlags, unlinkat},
};
pub use users::{Unseen, Users, users};

use super::{
    SysError,
    width::{identity, signed, unsigned},
};
use crate::model::WallTime;

const DIRECTORY: OFlag =
    OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);

/// Which file a name stands for; another one may have the name later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    device: u64,
    inode: u64,
}

/// What a name stands for (inode(7)).
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    /// Which file.
    pub id: FileId,
    /// What it is when it is no regular file.
    pub other: Option<&'static str>,
    /// Whose it is.
    pub uid: u32,
    /// Whether its mode lets anybody else in.
    pub is_shared: bool,
    /// How many names it has.
    pub links: u64,
    /// When it, or what is known of it, last changed.
    pub changed: WallTime,
}

impl Looks {
    fn of(stat: &FileStat) -> Self {
        let other = match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => None,
            libc::S_IFDIR => Some("a directory"),
            libc::S_IFLNK => Some("a link"),
            libc::S_IFIFO => Some("a FIFO"),
            libc::S_IFSOCK => Some("a socket"),
            _ => Some("a device"),
        };
        let (device, inode) = identity(stat);
        let written = millis(signed(stat.st_mtime), signed(stat.st_mtime_nsec));
        let touched = millis(signed(stat.st_ctime), signed(stat.st_ctime_nsec));
        Self {
            id: FileId { device, inode },
            other,
            uid: stat.st_uid,
            is_shared: stat.st_mode & 0o077 != 0,
            links: unsigned(stat.st_nlink),
            changed: written.max(touched),
        }
    }
}

fn millis(seconds: i64, nanos: i64) -> WallTime {
    WallTime(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}

/// What became of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is removed.
    Now,
    /// Somebody was faster.
    Gone,
    /// It stands for something else by now.
    Other,
}

/// The directory, opened.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    fd: OwnedFd,
    /// Its devices are named alike by stat(2) and in `proc_pid_maps(5)`.
    is_tmpfs: bool,
}

/// Names of a directory.
#[derive(Debug, Default)]
pub struct Names {
    /// Those that were wanted.
    pub found: Vec<OsString>,
    /// How many more there are than were wanted at once.
    pub more: usize,
}

impl Directory {
    /// Opens it.
    ///
    /// # Errors
    /// It is not there, or a link.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        let fail = |e: Errno| SysError::new(format!("open {}", path.display()), e);
        let fd = open(path, DIRECTORY, Mode::empty()).map_err(fail)?;
        let is_tmpfs = fstatfs(&fd).map_err(fail)?.filesystem_type() == TMPFS_MAGIC;
        Ok(Self { path: path.to_owned(), fd, is_tmpfs })
    }

    /// At most so many of its names that are wanted.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn names(&self, wanted: impl Fn(&OsStr) -> bool, most: usize) -> Result<Names, SysError> {
        let fail = |e: Errno| SysError::new(format!("read {}", self.path.display()), e);
        let mut listing = Dir::openat(&self.fd, c".", DIRECTORY, Mode::empty()).map_err(fail)?;
        let mut names = Names::default();
        for entry in listing.iter() {
            let entry = entry.map_err(fail)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." || !wanted(name) {
                continue;
            }
            if names.found.len() < most {
                names.found.push(name.to_owned());
            } else {
                names.more = names.more.saturating_add(1);
            }
        }
        names.found.sort_unstable();
        Ok(names)
    }

    /// What `name` stands for; `None` when there is nothing (any more).
    ///
    /// # Errors
    /// See stat(2).
    pub fn look(&self, name: &OsStr) -> Result<Option<Looks>, SysError> {
        match fstatat(self.fd.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Looks::of(&stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(SysError::new("look at it", e)),
        }
    }

    /// Removes `name`, if it still stands for `file` and for nothing else.
    ///
    /// # Errors
    /// See unlink(2).
    pub fn remove(&self, name: &OsStr, file: FileId) -> Result<Removed, SysError> {
        match self.look(name)? {
            None => return Ok(Removed::Gone),
            Some(now) if now.id == file && now.other.is_none() && now.links == 1 => {}
            Some(_) => return Ok(Removed::Other),
        }
        match unlinkat(self.fd.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(Removed::Now),
            Err(Errno::ENOENT) => Ok(Removed::Gone),
            Err(e) => Err(SysError::new("remove it", e)),
        }
    }
}
