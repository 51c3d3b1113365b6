//! A log file: appended to, rotated at line ends, opened anew when it was moved.

use std::{
    ffi::OsStr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use memchr::{memchr, memrchr};
use nix::{
    errno::Errno,
    fcntl::renameat,
    sys::statvfs::{FsFlags, fstatvfs},
    unistd::{UnlinkatFlags, unlinkat, write},
};

use super::{
    compress, path,
    path::{OpenError, Ownership, Parent},
    rotation::{self, Old, Step},
    sink::Moment,
};
use crate::{
    model::{Compress, Instant, Rotate, WallTime},
    sys::width,
};

/// How often a file that is written to is compared with its path.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long a rotation that cannot be done is left alone.
const ROTATE_RETRY: Duration = Duration::from_secs(10);
/// The same, in milliseconds of the wall clock.
const RETRY_MS: i64 = 10_000;

/// A log file.
pub(super) struct LogFile {
    path: PathBuf,
    make_below: Option<PathBuf>,
    open: Option<Open>,
    rotate: Rotate,
    ownership: Ownership,
    rotate_after: Instant,
    /// There may be files to compress.
    pub(super) compressible: bool,
    /// A rotation could not be done.
    pub(super) trouble: Option<OpenError>,
}

struct Open {
    fd: OwnedFd,
    id: (u64, u64),
    size: u64,
    within_line: bool,
    checked: Instant,
    window_end: Option<WallTime>,
}

/// Whether the file system can only be read by now.
fn is_read_only(fd: &OwnedFd) -> bool {
    fstatvfs(fd).is_ok_and(|about| about.flags().contains(FsFlags::ST_RDONLY))
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

impl LogFile {
    pub(super) fn new(
        path: &Path,
        make_below: Option<PathBuf>,
        rotate: Rotate,
        ownership: Ownership,
    ) -> Self {
        Self {
            path: path.to_owned(),
            make_below,
            open: None,
            rotate,
            ownership,
            rotate_after: Instant(0),
            compressible: true,
            trouble: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn compress(&self) -> Compress {
        self.rotate.compress
    }

    /// The file system it is on, while it is open.
    pub(super) fn device(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.id.0)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn close(&mut self) {
        self.open = None;
    }

    pub(super) fn reconfigure(&mut self, rotate: Rotate, ownership: Ownership) {
        self.rotate = rotate;
        self.ownership = ownership;
        if let (Some(open), Some(every)) = (&mut self.open, self.rotate.every) {
            let old = open.window_end;
            open.window_end = old.or(Some(rotation::window_end(super::clock::wall(), every)));
        }
        self.compressible = true;
    }

    /// When the file becomes too old, if it has anything in it. While it ends within a line that is
    /// never: the end of the line will come with a write.
    pub(super) fn due(&self) -> Option<WallTime> {
        self.rotate.every?;
        self.open.as_ref().filter(|o| o.size > 0 && !o.within_line)?.window_end
    }

    /// Opens the file unless it is open and still the one its path names. Gives whether the next
    /// output starts in the middle of a line that somebody else began; `None` when nothing changed.
    pub(super) fn prepare(&mut self, at: Moment) -> Result<Option<bool>, OpenError> {
        if let Some(open) = &mut self.open {
            if at.now.since(open.checked) < CHECK_EVERY {
                return Ok(None);
            }
            open.checked = at.now;
            // Once a disk was found faulty the kernel takes what is written to a file that is open,
            // and drops it: only an open is refused.
            if is_read_only(&open.fd) {
                return Err(Errno::EROFS.into());
            }
            let (id, make) = (open.id, self.make_below.as_deref());
            let same = path::open_parent(&self.path, make)
                .is_ok_and(|(parent, name)| path::is_file(&parent, &name, id));
            if same {
                return self.rotate_if_old(at);
            }
            self.open = None;
        }
        let (parent, name) = path::open_parent(&self.path, self.make_below.as_deref())?;
        self.open_in(&parent, &name, at)?;
        let rotated = self.rotate_if_old(at)?;
        Ok(rotated.or(self.open.as_ref().map(|o| o.within_line)))
    }

    fn open_in(&mut self, parent: &Parent, name: &OsStr, at: Moment) -> Result<(), OpenError> {
        let (fd, stat, within_line) = path::open_log(parent, name, self.ownership)?;
        let written = WallTime(width::signed(stat.st_mtime).saturating_mul(1000));
        let begun = if stat.st_size > 0 { written } else { at.wall };
        self.open = Some(Open {
            fd,
            id: width::identity(&stat),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            within_line,
            checked: at.now,
            window_end: self.rotate.every.map(|every| rotation::window_end(begun, every)),
        });
        Ok(())
    }

    /// Rotates a file that has become too old.
    pub(super) fn rotate_if_old(&mut self, at: Moment) -> Result<Option<bool>, OpenError> {
        let Some(every) = self.rotate.every else { return Ok(None) };
        let Some(open) = &mut self.open else { return Ok(None) };
        if open.window_end.is_none_or(|end| at.wall < end) {
            return Ok(None);
        }
        if open.size == 0 {
            open.window_end = Some(rotation::window_end(at.wall, every));
            return Ok(None);
        }
        if at.now < self.rotate_after || open.within_line {
            return Ok(None);
        }
        self.rotate(at).map(|()| Some(false))
    }

    /// Appends; gives how much was written before an error, if there is one.
    pub(super) fn write(&mut self, bytes: &[u8], at: Moment) -> (usize, Result<(), OpenError>) {
        let mut done = 0;
        while done < bytes.len() {
            let rest = bytes.get(done..).unwrap_or_default();
            let (len, then_rotate) = self.room(rest, at.now);
            if let Err(error) = self.append(rest.get(..len).unwrap_or_default(), &mut done) {
                return (done, Err(error));
            }
            let rotated = if then_rotate { self.rotate(at) } else { Ok(()) };
            if let Err(error) = rotated {
                return (done, Err(error));
            }
        }
        (done, Ok(()))
    }

    fn append(&mut self, mut bytes: &[u8], done: &mut usize) -> Result<(), OpenError> {
        let open = self.open.as_mut().ok_or(OpenError::Unsafe("it is not open"))?;
        while !bytes.is_empty() {
            let n = match write(&open.fd, bytes) {
                Ok(0) => return Err(Errno::ENOSPC.into()),
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let (wrote, rest) = bytes.split_at_checked(n).unwrap_or((bytes, &[]));
            open.within_line = wrote.last() != Some(&b'\n');
            open.size = open.size.saturating_add(count(n));
            *done += n;
            bytes = rest;
        }
        Ok(())
    }

    /// How much of `bytes` goes into this file, and whether a new file is begun after that.
    fn room(&self, bytes: &[u8], now: Instant) -> (usize, bool) {
        let (Some(max), Some(open)) = (self.rotate.max_size, &self.open) else {
            return (bytes.len(), false);
        };
        let after = open.size.saturating_add(count(bytes.len()));
        if after <= max.0 || now < self.rotate_after {
            return (bytes.len(), false);
        }
        let left = usize::try_from(max.0.saturating_sub(open.size)).unwrap_or(usize::MAX);
        let fits = bytes.get(..left).unwrap_or(bytes);
        if let Some(end) = memrchr(b'\n', fits) {
            return (end + 1, true);
        }
        if open.size > 0 && !open.within_line {
            return (0, true);
        }
        memchr(b'\n', bytes).map_or((bytes.len(), false), |end| (end + 1, true))
    }

    fn rotate(&mut self, at: Moment) -> Result<(), OpenError> {
        let Some(id) = self.open.as_ref().map(|o| o.id) else { return Ok(()) };
        let (parent, name) = path::open_parent(&self.path, self.make_below.as_deref())?;
        // Somebody else has rotated already when the path names another file.
        let ours = path::is_file(&parent, &name, id);
        let shifted = if ours { shift(&parent, &name, self.rotate.keep) } else { Ok(()) };
        if let Err(error) = shifted {
            self.not_rotated(error, at);
            return Ok(());
        }
        let old = self.open.take();
        let opened = self.open_in(&parent, &name, at);
        if let Err(error) = opened {
            // No inode or descriptor can be had: the old file takes more, if it can be had back.
            if !ours || self.rotate.keep == 0 {
                return Err(error);
            }
            rename(&parent, &Old { number: 1, gz: false }.name(&name), &name)?;
            self.open = old;
            self.not_rotated(error, at);
            return Ok(());
        }
        self.compressible = true;
        Ok(())
    }

    fn not_rotated(&mut self, error: OpenError, at: Moment) {
        self.rotate_after = at.now + ROTATE_RETRY;
        self.trouble = Some(error);
        if let Some(end) = self.open.as_mut().and_then(|o| o.window_end.as_mut()) {
            end.0 = at.wall.0.saturating_add(RETRY_MS);
        }
    }
}

/// Gives the files their next numbers.
fn shift(parent: &Parent, base: &OsStr, keep: u32) -> Result<(), OpenError> {
    let entries = path::names(parent)?;
    let olds: Vec<Old> = entries.iter().filter_map(|n| Old::parse(base, n)).collect();
    for step in rotation::plan(&olds, keep) {
        let result = match step {
            Step::Remove(old) => remove(parent, &old.name(base)),
            Step::Rename(from, to) => rename(parent, &from.name(base), &to.name(base)),
            Step::Retire => rename(parent, base, &Old { number: 1, gz: false }.name(base)),
            Step::Forget => remove(parent, base),
        };
        match result {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn remove(parent: &Parent, name: &OsStr) -> Result<(), Errno> {
    unlinkat(&parent.fd, name, UnlinkatFlags::NoRemoveDir)
}

fn rename(parent: &Parent, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
    renameat(&parent.fd, from, &parent.fd, to)
}

/// Removes what an interrupted compression left behind.
pub(super) fn tidy(path: &Path) {
    let Ok((parent, base)) = path::open_parent(path, None) else { return };
    for name in path::names(&parent).unwrap_or_default() {
        if compress::is_unfinished(&base, &name) {
            let name = std::os::unix::ffi::OsStrExt::from_bytes(name.as_slice());
            if let Err(errno) = remove(&parent, name) {
                log::debug!("cannot remove {}: {errno}", Path::new(name).display());
            }
        }
    }
}
