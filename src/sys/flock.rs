//! Taking the lock of a file that others open, lock, replace and remove as well (flock(2)).
//!
//! A name in a directory of everybody is opened without `O_CREAT` first, which
//! `fs.protected_regular` (`proc_sys_fs(5)`) forbids even to root where the file is another user's,
//! and only then made with `O_EXCL`. After the lock is had, the name must still lead to the file
//! that is locked: else it is a lock that nobody looks at.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    poll::{PollTimeout, poll},
};

use super::{
    foreign_file,
    locks::{self, Written},
};
use crate::model::{FileId, Holder};

/// A file that is replaced this many times in a row is given up.
const ROUNDS: usize = 16;
/// Somebody who looks whether a lock is held by taking it holds it for a moment only.
const MOMENT: Duration = Duration::from_millis(10);
/// So many such moments, one after the other, are no moments any more.
const MOMENTS: usize = 20;

/// A lock that is ours until this is dropped. Programs that are executed do not inherit it.
#[derive(Debug)]
pub struct Taken {
    lock: Flock<File>,
    id: FileId,
    made: bool,
}

/// Whose a lock file is that is made, and its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Making {
    /// User and group; `None`: ours.
    pub owner: Option<(u32, u32)>,
    /// Its mode.
    pub mode: u32,
}

/// Why a lock is not ours.
#[derive(Debug)]
pub enum NotTaken {
    /// These hold it; empty when they cannot be seen, in another PID namespace.
    Held(Vec<Holder>),
    /// In its place stands something that is no lock file, and what.
    Strange(String),
    /// It cannot be opened, made or locked.
    Failed(io::Error),
}

impl Taken {
    /// Which file is locked.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Whether the file was not there, and we have made it.
    #[must_use]
    pub fn is_made(&self) -> bool {
        self.made
    }

    /// Whether `path` still leads to the file that is locked.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        foreign_file::look(path).is_ok_and(|meta| foreign_file::id(&meta) == self.id)
    }
}

/// Takes the lock of the file at `path` now, or says who has it.
///
/// # Errors
/// See [`NotTaken`].
pub fn take(path: &Path, making: Making) -> Result<Taken, NotTaken> {
    let mut moments = 0;
    for _ in 0..ROUNDS {
        let (mut file, made) = open(path, making)?;
        let lock = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err((back, Errno::EWOULDBLOCK)) => file = back,
                Err((_, errno)) => return Err(NotTaken::Failed(errno.into())),
            }
            // Whoever looks by taking it is gone by the next try; whoever asks is there, and
            // still is.
            let before = holders(path, &file).map_err(NotTaken::Failed)?;
            pause();
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err((back, Errno::EWOULDBLOCK)) => file = back,
                Err((_, errno)) => return Err(NotTaken::Failed(errno.into())),
            }
            let after = holders(path, &file).map_err(NotTaken::Failed)?;
            let known = |one: &Holder| after.iter().any(|other| other.pid == one.pid);
            moments += 1;
            let stays = before.iter().any(known) || before.is_empty() && !locks::sees_all();
            if stays || moments == MOMENTS {
                return Err(NotTaken::Held(after));
            }
        };
        if let Some(taken) = Taken::checked(lock, made, path)? {
            return Ok(taken);
        }
    }
    Err(NotTaken::Failed(io::Error::other("it is replaced again and again")))
}

/// Waits until the lock of the file at `path` is ours.
///
/// # Errors
/// See [`NotTaken`]; never [`NotTaken::Held`].
pub fn wait(path: &Path, making: Making) -> Result<Taken, NotTaken> {
    for _ in 0..ROUNDS {
        let (mut file, made) = open(path, making)?;
        let lock = loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => break lock,
                Err((back, Errno::EINTR)) => file = back,
                Err((_, errno)) => return Err(NotTaken::Failed(errno.into())),
            }
        };
        if let Some(taken) = Taken::checked(lock, made, path)? {
            return Ok(taken);
        }
    }
    Err(NotTaken::Failed(io::Error::other("it is replaced again and again")))
}

impl Taken {
    /// `None` when the name leads to another file by now.
    fn checked(lock: Flock<File>, made: bool, path: &Path) -> Result<Option<Self>, NotTaken> {
        let meta = lock.metadata().map_err(NotTaken::Failed)?;
        let taken = Self { lock, id: foreign_file::id(&meta), made };
        Ok(taken.is_at(path).then_some(taken))
    }

    /// Removes the file, if `path` still leads to it, and lets go.
    ///
    /// # Errors
    /// unlink(2).
    pub fn remove(self, path: &Path) -> io::Result<bool> {
        let removed = foreign_file::remove(path, self.id);
        drop(self.lock);
        removed
    }
}

/// The lock file, and whether it was made for this.
fn open(path: &Path, making: Making) -> Result<(File, bool), NotTaken> {
    for _ in 0..ROUNDS {
        match foreign_file::open(path) {
            Ok(file) => {
                let meta = file.metadata().map_err(NotTaken::Failed)?;
                if let Some(what) = foreign_file::strange(&meta) {
                    return Err(NotTaken::Strange(format!("it is {what}")));
                }
                if meta.nlink() > 1 {
                    return Err(NotTaken::Strange(format!("it has {} names", meta.nlink())));
                }
                return Ok((file, false));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                // O_NOFOLLOW: a link is too many of them (ELOOP), a socket no device (ENXIO).
                let there = foreign_file::look(path).ok();
                let what = there.as_ref().and_then(foreign_file::strange);
                return Err(what.map_or(NotTaken::Failed(e), |what| {
                    NotTaken::Strange(format!("it is {what}"))
                }));
            }
        }
        let owner = making.owner.unwrap_or_else(ourselves);
        match foreign_file::make(path, owner, making.mode) {
            Ok(file) => return Ok((file, true)),
            // Somebody was faster.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(NotTaken::Failed(e)),
        }
    }
    Err(NotTaken::Failed(io::Error::other("it comes and goes again and again")))
}

/// Our user and group.
#[must_use]
pub fn ourselves() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

fn holders(path: &Path, file: &File) -> io::Result<Vec<Holder>> {
    let id = foreign_file::id(&file.metadata()?);
    let written = Written::of(file.as_fd(), id);
    // Without /proc they cannot be named.
    let listed = locks::listed(&written).unwrap_or_default();
    Ok(locks::holders(&written, path.file_name().unwrap_or_default(), &listed))
}

/// Waits for a moment.
fn pause() {
    let time = PollTimeout::try_from(MOMENT).unwrap_or(PollTimeout::ZERO);
    // EINTR: then it was shorter.
    poll(&mut [], time).unwrap_or_default();
}
