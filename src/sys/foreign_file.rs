//! Files that others make where anybody may: opened without being led astray, blocked or fooled.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata},
    io::{self, Read, Write as _},
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, fchown},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::stat::{Mode, fchmod},
    unistd::{UnlinkatFlags, unlinkat},
};

use super::directory;
use crate::model::{FileId, INFO_BYTES, InfoFile};

/// A name in a directory to which the way has no link that others could change.
///
/// What stands there is never followed, if it is a link.
#[derive(Debug)]
pub struct Spot {
    directory: OwnedFd,
    name: OsString,
}

/// Why a place cannot be reached.
#[derive(Debug)]
pub enum Astray {
    /// Others than root, or we, can change a link on the way.
    Link,
    /// open(2), with `NotFound` when a part of the way is not there.
    Failed(io::Error),
}

impl From<Astray> for io::Error {
    fn from(astray: Astray) -> Self {
        match astray {
            Astray::Link => Self::other("others than root can change a link on the way to it"),
            Astray::Failed(error) => error,
        }
    }
}

impl From<io::Error> for Astray {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Spot {
    /// Goes there.
    ///
    /// # Errors
    /// As in [`Astray`].
    pub fn reach(path: &Path) -> Result<Self, Astray> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Astray::Failed(Errno::EISDIR.into()));
        };
        let name = name.to_owned();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let no_links = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        match openat2(AT_FDCWD, parent, OpenHow::new().flags(flags).resolve(no_links)) {
            Ok(directory) => Ok(Self { directory, name }),
            // There is a link, and whether it is to be followed is seen step by step; or the call
            // is not there: before Linux 5.6, or hidden by a filter.
            Err(Errno::ELOOP | Errno::ENOSYS | Errno::EPERM) => {
                let (directory, name) = directory::way_to(path)?;
                Ok(Self { directory, name })
            }
            Err(errno) => Err(Astray::Failed(errno.into())),
        }
    }

    /// What stands there; nobody hears of it (inotify(7)).
    ///
    /// # Errors
    /// open(2), with `NotFound` when nothing is there.
    pub fn look(&self) -> io::Result<Metadata> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        File::from(self.at(flags, Mode::empty())?).metadata()
    }

    /// Opens the file for reading: waits for nobody, makes nothing.
    ///
    /// # Errors
    /// open(2).
    pub fn open(&self) -> io::Result<File> {
        Ok(self.at(flags(), Mode::empty())?.into())
    }

    /// Makes the file, which is not there, for this owner and group and with this mode.
    ///
    /// # Errors
    /// open(2), fchown(2), fchmod(2): then it is not there, unless it was before.
    pub fn make(&self, (uid, gid): (u32, u32), mode: u32) -> io::Result<File> {
        // For nobody else before it is theirs.
        let how = flags() | OFlag::O_CREAT | OFlag::O_EXCL;
        let file = File::from(self.at(how, Mode::S_IRUSR | Mode::S_IWUSR)?);
        let given = fchown(&file, Some(uid), Some(gid))
            .and_then(|()| Ok(fchmod(&file, Mode::from_bits_truncate(mode))?));
        if let Err(error) = given {
            // Ours, made a moment ago.
            self.unlink().ok();
            return Err(error);
        }
        Ok(file)
    }

    /// The bytes of an info file, one more than counts if it is longer, and what the file system
    /// says.
    ///
    /// # Errors
    /// It cannot be opened or read, or is no regular file.
    pub fn info(&self) -> io::Result<(InfoFile, Vec<u8>)> {
        // Whatever it is, it is not opened before that is known: a device may notice.
        not_strange(&self.look()?)?;
        let file = self.open()?;
        let meta = file.metadata()?;
        not_strange(&meta)?;
        let most = u64::try_from(INFO_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok((info_file(&meta), bytes))
    }

    fn at(&self, flags: OFlag, mode: Mode) -> io::Result<OwnedFd> {
        Ok(openat(&self.directory, self.name(), flags, mode)?)
    }

    fn unlink(&self) -> io::Result<()> {
        Ok(unlinkat(&self.directory, self.name(), UnlinkatFlags::NoRemoveDir)?)
    }

    fn name(&self) -> &OsStr {
        &self.name
    }
}

/// [`Spot::look`] by path.
///
/// # Errors
/// As there, and when it cannot be reached.
pub fn look(path: &Path) -> io::Result<Metadata> {
    Spot::reach(path)?.look()
}

/// [`Spot::open`] by path.
///
/// # Errors
/// As there, and when it cannot be reached.
pub fn open(path: &Path) -> io::Result<File> {
    Spot::reach(path)?.open()
}

/// [`Spot::make`] by path.
///
/// # Errors
/// As there, and when it cannot be reached.
pub fn make(path: &Path, owner: (u32, u32), mode: u32) -> io::Result<File> {
    Spot::reach(path)?.make(owner, mode)
}

/// Removes what stands at `path` if it is that file; whether it was.
///
/// # Errors
/// It cannot be reached or removed. That it is gone is none.
pub fn remove(path: &Path, file: FileId) -> io::Result<bool> {
    let removed = Spot::reach(path).map_err(io::Error::from).and_then(|spot| {
        // Another one is none of ours.
        let is_it = id(&spot.look()?) == file;
        if is_it { spot.unlink().map(|()| true) } else { Ok(false) }
    });
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other,
    }
}

/// A file that is written and has not got its name yet; removed unless it gets it.
#[derive(Debug)]
pub struct Draft {
    temporary: PathBuf,
    path: PathBuf,
    id: FileId,
    named: bool,
}

impl Draft {
    /// Writes `bytes` beside `path`, for everybody to read and for us alone to write.
    ///
    /// # Errors
    /// open(2), write(2): nothing is left.
    pub fn write(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = format!(".{name}.{:016x}.tmp", super::random::number());
        let temporary = path.with_file_name(temporary);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(flags().bits())
            .open(&temporary)?;
        let id = id(&file.metadata()?);
        let draft = Self { temporary, path: path.to_owned(), id, named: false };
        file.write_all(bytes)?;
        // The umask may have taken bits away.
        fchmod(&file, Mode::from_bits_truncate(0o644))?;
        Ok(draft)
    }

    /// Gives it its name, instead of whatever had that; which file it is.
    ///
    /// # Errors
    /// rename(2); nothing is left.
    pub fn publish(mut self) -> io::Result<FileId> {
        fs::rename(&self.temporary, &self.path)?;
        self.named = true;
        Ok(self.id)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.named {
            // Made by us, under a name that nobody else can guess.
            fs::remove_file(&self.temporary).ok();
        }
    }
}

/// Which file this is.
#[must_use]
pub fn id(meta: &Metadata) -> FileId {
    FileId { device: meta.dev(), inode: meta.ino() }
}

/// What it is, if it is no regular file.
#[must_use]
pub fn strange(meta: &Metadata) -> Option<&'static str> {
    let kind = meta.file_type();
    if kind.is_file() {
        None
    } else if kind.is_symlink() {
        Some("a symbolic link")
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

fn not_strange(meta: &Metadata) -> io::Result<()> {
    strange(meta).map_or(Ok(()), |what| Err(io::Error::other(format!("it is {what}"))))
}

fn flags() -> OFlag {
    OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY
}

/// What the file system says of an info file.
#[must_use]
pub fn info_file(meta: &Metadata) -> InfoFile {
    let seconds = i128::from(meta.mtime()).saturating_mul(1_000_000_000);
    InfoFile {
        file: id(meta),
        modified_ns: seconds.saturating_add(i128::from(meta.mtime_nsec())),
        uid: meta.uid(),
        is_private: meta.is_file() && meta.nlink() == 1 && meta.mode() & 0o022 == 0,
    }
}
