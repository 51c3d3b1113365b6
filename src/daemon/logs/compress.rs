//! Compression of rotated files in a thread of its own that lives for one file.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    thread,
};

use flate2::{Compression, write::GzEncoder};
use nix::{
    fcntl::{OFlag, openat, renameat},
    sys::stat::{Mode, fchmod, fstat},
    unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat},
};

use super::{
    path::{self, OpenError, Parent},
    rotation::{self, Old},
};
use crate::{model::Compress, sys::width};

/// A compression that was done; its result is put in place by [`finish`], because meanwhile the
/// files may have got other numbers.
#[derive(Clone, Debug)]
pub(super) struct Job {
    path: PathBuf,
    temporary: OsString,
    id: (u64, u64),
}

/// The suffix of unfinished results.
const SUFFIX: &[u8] = b".gz.tmp";

/// Whether `name` is an unfinished result beside `base`.
pub(super) fn is_unfinished(base: &OsStr, name: &[u8]) -> bool {
    name.strip_prefix(base.as_encoded_bytes()).is_some_and(|r| r.ends_with(SUFFIX))
}

fn olds(parent: &Parent, base: &OsStr) -> Result<Vec<Old>, OpenError> {
    Ok(path::names(parent)?.iter().filter_map(|n| Old::parse(base, n)).collect())
}

/// Starts to compress the next file of the log `path`; gives whether there is one. `done` gets the
/// job and whether its result is complete, in the other thread.
pub(super) fn start(
    path: &std::path::Path,
    compress: Compress,
    done: impl FnOnce(Job, bool) + Send + 'static,
) -> Result<bool, OpenError> {
    let (parent, base) = path::open_parent(path, None)?;
    let Some(old) = rotation::to_compress(&olds(&parent, &base)?, compress) else {
        return Ok(false);
    };
    let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let from = openat(&parent.fd, old.name(&base).as_os_str(), read, Mode::empty())?;
    let stat = fstat(&from)?;
    let mut temporary = base;
    temporary.push(format!(".{}.gz.tmp", stat.st_ino));
    let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    if let Ok(()) = unlinkat(&parent.fd, temporary.as_os_str(), UnlinkatFlags::NoRemoveDir) {
        log::debug!("{}: removed an unfinished compression", path.display());
    }
    let to = openat(&parent.fd, temporary.as_os_str(), write, Mode::from_bits_truncate(0o600))?;
    match fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid))) {
        Ok(()) | Err(nix::errno::Errno::EPERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    fchmod(&to, Mode::from_bits_truncate(stat.st_mode & 0o777))?;
    let job = Job { path: path.to_owned(), temporary, id: width::identity(&stat) };
    let work = move || {
        let complete = squeeze(from, to).is_ok();
        done(job, complete);
    };
    thread::Builder::new()
        .name("log-gzip".into())
        .spawn(work)
        .map(|_| true)
        .map_err(|_| OpenError::Unsafe("no thread can be had"))
}

fn squeeze(from: OwnedFd, to: OwnedFd) -> io::Result<()> {
    let mut encoder = GzEncoder::new(File::from(to), Compression::fast());
    io::copy(&mut File::from(from), &mut encoder)?;
    encoder.finish()?.sync_data()
}

/// Puts the result in the place of the file, whatever its number is now.
pub(super) fn finish(job: &Job, complete: bool) -> Result<(), OpenError> {
    let (parent, base) = path::open_parent(&job.path, None)?;
    let mut place = None;
    if complete {
        let plain = olds(&parent, &base)?.into_iter().filter(|o| !o.gz);
        place = plain.into_iter().find(|o| path::is_file(&parent, &o.name(&base), job.id));
    }
    let Some(old) = place else {
        unlinkat(&parent.fd, job.temporary.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
        return if complete { Ok(()) } else { Err(OpenError::Unsafe("it cannot be compressed")) };
    };
    let gz = Old { gz: true, ..old }.name(&base);
    renameat(&parent.fd, job.temporary.as_os_str(), &parent.fd, gz.as_os_str())?;
    unlinkat(&parent.fd, old.name(&base).as_os_str(), UnlinkatFlags::NoRemoveDir)?;
    Ok(())
}
