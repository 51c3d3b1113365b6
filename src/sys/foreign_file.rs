//! Files that others make where anybody may: opened without being led astray, blocked or fooled.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::OFlag,
    sys::stat::{Mode, fchmod},
};

use crate::model::{FileId, INFO_BYTES, InfoFile};

/// What stands at `path`, not followed if it is a link; nobody hears of it (inotify(7)).
///
/// # Errors
/// lstat(2), with `NotFound` when nothing is there.
pub fn look(path: &Path) -> io::Result<Metadata> {
    fs::symlink_metadata(path)
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

fn flags() -> i32 {
    (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY).bits()
}

/// Opens the file for reading: follows no link, waits for nobody, makes nothing.
///
/// # Errors
/// open(2).
pub fn open(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().read(true).custom_flags(flags()).open(path)
}

/// Makes the file, which is not there, for this owner and group and with this mode.
///
/// # Errors
/// open(2), fchown(2), fchmod(2): then it is not there, unless it was before.
pub fn make(path: &Path, (uid, gid): (u32, u32), mode: u32) -> io::Result<File> {
    // For nobody else before it is theirs.
    let how = OFlag::from_bits_truncate(flags()) | OFlag::O_CREAT | OFlag::O_EXCL;
    let file = File::from(nix::fcntl::open(path, how, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let given = fchown(&file, Some(uid), Some(gid))
        .and_then(|()| Ok(fchmod(&file, Mode::from_bits_truncate(mode))?));
    if let Err(error) = given {
        // Ours, made a moment ago.
        fs::remove_file(path).ok();
        return Err(error);
    }
    Ok(file)
}

/// Removes what stands at `path` if it is that file; whether it was.
///
/// # Errors
/// lstat(2), unlink(2).
pub fn remove(path: &Path, id: FileId) -> io::Result<bool> {
    match look(path) {
        Ok(meta) if self::id(&meta) == id => fs::remove_file(path).map(|()| true),
        // Another one, which is none of ours.
        Ok(_) => Ok(false),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(why) => Err(why),
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
            .custom_flags(flags())
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

/// The bytes of an info file, one more than counts if it is longer, and what the file system says.
///
/// # Errors
/// It cannot be opened or read, or is no regular file.
pub fn info(path: &Path) -> io::Result<(InfoFile, Vec<u8>)> {
    let file = open(path)?;
    let meta = file.metadata()?;
    if let Some(what) = strange(&meta) {
        return Err(io::Error::other(format!("it is {what}")));
    }
    let most = u64::try_from(INFO_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok((info_file(&meta), bytes))
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
