//! The lock that only one supervisor of a site can hold (flock(2)), and its PID file.

use std::{
    fs,
    io::{Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg, OFlag};

use super::{Pid, SysError};

/// The lock, held until it is dropped or the process ends. Programs do not inherit it.
#[derive(Debug)]
pub struct InstanceLock {
    lock: Flock<fs::File>,
    /// The mark of our processes, unless the lock is for something else.
    mark: Option<String>,
    /// The marks of those before us that were killed, and so could not end what is theirs.
    before: Vec<String>,
}

/// So many that were killed one after the other are remembered.
const MOST_BEFORE: usize = 64;

/// Why the lock cannot be had.
#[derive(Debug)]
pub enum LockError {
    /// Somebody holds it; who, when its file says so.
    Held(Option<Pid>),
    /// It cannot be made.
    Unusable(SysError),
}

impl InstanceLock {
    /// Takes the lock file `path` and writes our pid into it, and below it the `mark` by which our
    /// processes are known. The marks of whoever had it before us and was killed stay below ours,
    /// until [`Self::settle`].
    ///
    /// # Errors
    /// [`LockError::Held`] when another process has it.
    pub fn take(path: &Path, mark: Option<&str>) -> Result<Self, LockError> {
        let unusable = |e: std::io::Error| {
            LockError::Unusable(SysError::new(format!("take the lock {}", path.display()), e))
        };
        // Somebody may replace the file between open and lock: then we hold a lock on nothing, and
        // try again.
        for _ in 0..16 {
            let file = open(path).map_err(unusable)?;
            let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                    return Err(LockError::Held(holder(&mut file)));
                }
                Err((_, errno)) => return Err(unusable(errno.into())),
            };
            let held = lock.metadata().map_err(unusable)?;
            let there = fs::symlink_metadata(path);
            if there.is_ok_and(|m| m.ino() == held.ino() && m.dev() == held.dev()) {
                return Self::sign(lock, mark).map_err(unusable);
            }
        }
        let why = "it is replaced again and again";
        Err(LockError::Unusable(SysError::refused(
            format!("take the lock {}", path.display()),
            why,
        )))
    }
}

impl InstanceLock {
    fn sign(mut lock: Flock<fs::File>, mark: Option<&str>) -> std::io::Result<Self> {
        let before = if mark.is_some() { marks(&mut lock) } else { Vec::new() };
        let mut signed = Self { lock, mark: mark.map(str::to_owned), before };
        match signed.write() {
            // What cannot be written (a full disk) does not make the lock less of a lock.
            Err(e) if e.kind() != std::io::ErrorKind::StorageFull => Err(e),
            Ok(()) | Err(_) => Ok(signed),
        }
    }

    fn write(&mut self) -> std::io::Result<()> {
        let mut text = format!("{}\n", std::process::id());
        for mark in self.mark.iter().chain(&self.before) {
            text.push_str(mark);
            text.push('\n');
        }
        // Longer text first: who reads between the two calls finds the pid in any case, and a full
        // disk leaves the old marks.
        self.lock.rewind()?;
        self.lock.write_all(text.as_bytes())?;
        self.lock.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
    }

    /// The marks of those before us that were killed.
    #[must_use]
    pub fn before(&self) -> &[String] {
        &self.before
    }

    /// Nothing is left of those before us.
    pub fn settle(&mut self) {
        self.before.clear();
        // Told again to the next one, if it cannot be written: that does no harm.
        self.write().ok();
    }

    /// Nothing is left of us: the next one need not look for it.
    pub fn clear(&mut self) {
        self.mark = None;
        self.write().ok();
    }

    /// Removes the lock file `path` if it is the one that we hold. Whoever has opened it meanwhile
    /// sees that it is gone and makes another ([`Self::take`]).
    fn remove(&self, path: &Path) {
        let there = fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()));
        let held = self.lock.metadata().ok().map(|m| (m.dev(), m.ino()));
        if there.is_some() && there == held {
            fs::remove_file(path).ok();
        }
    }
}

fn open(path: &Path) -> std::io::Result<fs::File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        // Whoever may open it may lock it, and keep us away.
        .mode(0o600)
        .custom_flags(flags.bits())
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(std::io::Error::other("it is not a regular file"))
    }
}

fn holder(file: &mut fs::File) -> Option<Pid> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    Pid::parse(text.lines().next()?.trim())
}

/// The marks below the pid; a line that is none is left out.
fn marks(file: &mut fs::File) -> Vec<String> {
    let mut text = Vec::new();
    file.take(8192).read_to_end(&mut text).ok();
    let text = String::from_utf8_lossy(&text);
    let is_mark = |line: &&str| line.len() == 16 && line.bytes().all(|b| b.is_ascii_hexdigit());
    text.lines().skip(1).filter(is_mark).take(MOST_BEFORE).map(str::to_owned).collect()
}

/// Our PID file: put in place by rename(2), removed only while it is still ours. A lock beside it
/// is held as long: two sites that name the same file do not overwrite each other's.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Another container may have our pid, but not our file.
    identity: (u64, u64),
    /// As long as it is open its number is no other file's, not even after it was removed.
    file: fs::File,
    lock: InstanceLock,
}

impl PidFile {
    /// Writes our pid to `path`; whatever was there is replaced, never followed. Nothing is touched
    /// while another process has the file.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process has it; the directory is missing or not writable,
    /// or writable for everybody: whoever reads the file may signal what stands there.
    pub fn write(path: &Path) -> Result<Self, LockError> {
        check_directory(path).map_err(LockError::Unusable)?;
        let lock = InstanceLock::take(&beside(path), None).map_err(|why| match why {
            LockError::Held(pid) => LockError::Held(pid),
            // It is the file that the user has named.
            LockError::Unusable(why) => LockError::Unusable(not_written(path, why.cause)),
        })?;
        Self::place(path, lock).map_err(|(why, lock)| {
            lock.remove(&beside(path));
            LockError::Unusable(why)
        })
    }

    fn place(path: &Path, lock: InstanceLock) -> Result<Self, (SysError, InstanceLock)> {
        match Self::rename(path) {
            Ok((identity, file)) => Ok(Self { path: path.into(), identity, file, lock }),
            Err(why) => Err((why, lock)),
        }
    }

    fn rename(path: &Path) -> Result<((u64, u64), fs::File), SysError> {
        let fail = |e| not_written(path, e);
        let pid = std::process::id();
        let temporary = path.with_extension(format!("{pid}.tmp"));
        // Left behind by one who had our pid before.
        fs::remove_file(&temporary).ok();
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o644)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(&temporary)
            .map_err(fail)?;
        let placed = file
            .write_all(format!("{pid}\n").as_bytes())
            .and_then(|()| file.metadata())
            .and_then(|meta| fs::rename(&temporary, path).map(|()| (meta.dev(), meta.ino())));
        match placed {
            Ok(identity) => Ok((identity, file)),
            Err(e) => {
                fs::remove_file(&temporary).ok();
                Err(fail(e))
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.is_ours() {
            fs::remove_file(&self.path).ok();
        }
        self.lock.remove(&beside(&self.path));
    }
}

/// Refuses a directory in which anybody may put another file in the place of ours.
fn check_directory(path: &Path) -> Result<(), SysError> {
    let named = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let directory = named.unwrap_or(Path::new("."));
    let mode = fs::metadata(directory).map_err(|e| not_written(path, e))?.mode();
    if mode & 0o002 == 0 || mode & 0o1000 != 0 {
        return Ok(());
    }
    let why = format!("everybody may replace files of {}", directory.display());
    Err(not_written(path, std::io::Error::other(why)))
}

fn not_written(path: &Path, why: std::io::Error) -> SysError {
    SysError::new(format!("write the PID file {}", path.display()), why)
}

/// The lock of the PID file `path`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

impl PidFile {
    /// Whether the file is the one that we wrote, and says what we wrote. What somebody put there
    /// instead is not opened.
    fn is_ours(&mut self) -> bool {
        let there = fs::symlink_metadata(&self.path);
        let same = there.is_ok_and(|meta| (meta.dev(), meta.ino()) == self.identity);
        let said = self.file.rewind().ok().and_then(|()| holder(&mut self.file));
        same && said.is_some_and(|pid| pid.number() == std::process::id())
    }
}
