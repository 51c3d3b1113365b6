//! The lock of a program that runs once at the most: a file that is locked (flock(2)) for as long
//! as the program lives, and says who that is. Beside it, perhaps, a PID file for others to read.
//!
//! Files are made and removed from a descriptor of their directory, and a link is followed nowhere
//! where others than root and we could have put it: root may do this for programs of others, in
//! directories of theirs.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, renameat},
    sys::stat::{Mode, fchmod, fstatat},
    unistd::{UnlinkatFlags, unlinkat},
};

use super::{Pid, SysError, directory, error::check, foreign_file, locks, spawn, tree, width};
use crate::model::WallTime;

/// A lock that we hold. It is given back by [`ProgramLock::release`] only: dropped without that, as
/// at our end, it stays with whoever has inherited it.
#[derive(Debug)]
pub struct ProgramLock {
    path: PathBuf,
    place: Place,
    file: File,
    /// What we wrote into it last.
    said: String,
    /// Who had it before us and did not give it back.
    stale: Option<Pid>,
    pid_file: Option<PidFile>,
}

/// A name in a directory.
#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    name: OsString,
}

#[derive(Debug)]
struct PidFile {
    place: Place,
    /// As long as it is open its number is no other file's.
    file: File,
    said: String,
}

/// Why a lock cannot be had.
#[derive(Debug)]
pub enum NotLocked {
    /// Somebody else holds it.
    Held(Holder),
    /// It cannot be made, or must not be used.
    Unusable(SysError),
}

/// Whoever holds a lock, as far as it can be told.
#[derive(Debug)]
pub enum Holder {
    /// This process: the one that the file names, if it has to do with the lock.
    Is(tree::Copy),
    /// We ourselves, for something else.
    We,
    /// Nobody that we can see.
    Hidden,
}

/// More than this is in no file of ours, in bytes.
const MOST: usize = 64;

const OPEN: OFlag = OFlag::O_RDWR
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_NOCTTY);

impl ProgramLock {
    /// Takes the lock file `path`, which is, or is made, a file of `owner`, and writes our pid into
    /// it. Nobody is waited for.
    ///
    /// # Errors
    /// [`NotLocked::Held`] when somebody else has it. What is no file like ours is left alone.
    pub fn take(path: &Path, owner: (u32, u32), now: WallTime) -> Result<Self, NotLocked> {
        let doing = || format!("take the lock {}", path.display());
        let fail = |why: io::Error| NotLocked::Unusable(SysError::new(doing(), why));
        let refuse = |why: &str| NotLocked::Unusable(SysError::refused(doing(), why));
        let place = Place::of(path, &doing()).map_err(NotLocked::Unusable)?;
        // Whoever gives it back removes it first: then we hold a lock on nothing, and try again.
        for _ in 0..64 {
            let Some(file) = place.open(owner, 0o600).map_err(fail)? else { continue };
            let meta = file.metadata().map_err(fail)?;
            if meta.nlink() == 0 {
                continue;
            }
            if let Some(why) = foreign(&meta, owner.0) {
                return Err(refuse(&why));
            }
            match lock(&file) {
                Ok(()) => {}
                Err(Errno::EWOULDBLOCK) => return Err(NotLocked::Held(holder(path, &file))),
                Err(errno) => return Err(fail(errno.into())),
            }
            if !place.is(&file) {
                continue;
            }
            let text = said(&file).map_err(fail)?;
            let stale = first_pid(&text);
            if stale.is_none() && !text.is_empty() {
                return Err(refuse("it holds something that is no pid, so it is no lock file"));
            }
            // Whoever may open it may lock it, and keep us away.
            fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|e| fail(e.into()))?;
            let file = File::from(spawn::aside(file.into()));
            let said = String::new();
            let mut ours = Self { path: path.into(), place, file, said, stale, pid_file: None };
            ours.say(std::process::id(), now);
            return Ok(ours);
        }
        Err(refuse("it is replaced again and again"))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who had it before us and did not give it back: nobody has it any more.
    #[must_use]
    pub fn stale(&self) -> Option<Pid> {
        self.stale
    }

    /// The lock for a child, which has it for as long as it keeps the descriptor.
    ///
    /// # Errors
    /// No descriptor can be had.
    pub fn for_child(&self) -> io::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned()
    }

    /// Writes down that it is `pid` who runs, since `now`. What cannot be written, on a full disk,
    /// does not make the lock less of a lock.
    pub fn say(&mut self, pid: u32, now: WallTime) {
        let (seconds, ms) = (now.0.div_euclid(1000), now.0.rem_euclid(1000));
        let text = format!("{pid}\n{seconds}.{ms:03}\n");
        // Longer text first: whoever reads between the two calls finds the pid in any case.
        let length = u64::try_from(text.len()).unwrap_or(0);
        let written =
            self.file.write_all_at(text.as_bytes(), 0).and_then(|()| self.file.set_len(length));
        if written.is_ok() {
            self.said = text;
        }
    }

    /// Whether [`Self::write_pid`] to `path` would not be refused now.
    ///
    /// # Errors
    /// As there.
    pub fn check_pid_file(path: &Path, owner: (u32, u32)) -> Result<(), SysError> {
        let doing = format!("write the PID file {}", path.display());
        Place::of(path, &doing)?.check_pid_file(owner.0, &doing)
    }

    /// Puts `pid` into a PID file of `owner`, whole or not at all (rename(2)). It goes with the
    /// lock.
    ///
    /// # Errors
    /// Something is there that is no PID file of `owner`; or it cannot be written.
    pub fn write_pid(&mut self, path: &Path, owner: (u32, u32), pid: u32) -> Result<(), SysError> {
        let doing = format!("write the PID file {}", path.display());
        let fail = |why: io::Error| SysError::new(doing.clone(), why);
        let place = Place::of(path, &doing)?;
        place.check_pid_file(owner.0, &doing)?;
        let mut name = OsString::from(".");
        name.push(&place.name);
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = Place { directory: place.directory.try_clone().map_err(fail)?, name };
        // Left behind by one who had our pid before.
        temporary.remove();
        let text = format!("{pid}\n");
        let file = temporary.make(owner, 0o644).map_err(fail)?;
        let written = file.write_all_at(text.as_bytes(), 0).and_then(|()| {
            let (from, to) = (temporary.name.as_os_str(), place.name.as_os_str());
            Ok(renameat(&temporary.directory, from, &place.directory, to)?)
        });
        if let Err(why) = written {
            temporary.remove();
            return Err(fail(why));
        }
        let file = File::from(spawn::aside(file.into()));
        self.pid_file = Some(PidFile { place, file, said: text });
        Ok(())
    }

    /// Removes the files, if they are still ours and say what we wrote, and gives the lock back,
    /// also for those that have inherited it.
    pub fn release(self) {
        if let Some(PidFile { place, file, said }) = &self.pid_file {
            place.remove_if_says(file, said);
        }
        // First the name: whoever has the file open sees that it is gone, and makes another.
        self.place.remove_if_says(&self.file, &self.said);
        // SAFETY: a plain system call on a descriptor that is open (flock(2)).
        let _nothing_to_do = check(unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_UN) });
    }
}

/// Whoever holds the lock file `path` of the user `uid`, seen without taking it; `None`: nobody.
///
/// # Errors
/// It cannot be looked at.
pub fn look(path: &Path) -> Result<Option<Holder>, SysError> {
    let doing = format!("look at the lock {}", path.display());
    let file = match foreign_file::open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(SysError::new(doing, why)),
    };
    let listed = file
        .metadata()
        .and_then(|meta| locks::listed(&locks::Written::of(file.as_fd(), foreign_file::id(&meta))));
    let listed = listed.map_err(|why| SysError::new(doing, why))?;
    Ok((!listed.is_empty()).then(|| holder(path, &file)))
}

impl Place {
    fn of(path: &Path, doing: &str) -> Result<Self, SysError> {
        let (directory, name) = directory::directory_of(path, doing)?;
        Ok(Self { directory, name })
    }

    /// The file, made if there is none; `None` when it came or went meanwhile.
    fn open(&self, owner: (u32, u32), mode: u32) -> io::Result<Option<File>> {
        match openat(&self.directory, self.name.as_os_str(), OPEN, Mode::empty()) {
            Ok(fd) => Ok(Some(fd.into())),
            Err(Errno::ENOENT) => match self.make(owner, mode) {
                Ok(file) => Ok(Some(file)),
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(None),
                Err(why) => Err(why),
            },
            Err(Errno::ELOOP) => Err(io::Error::other("it is a link, which is not followed")),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A new file; never one that is there.
    fn make(&self, owner: (u32, u32), mode: u32) -> io::Result<File> {
        let how = OPEN | OFlag::O_CREAT | OFlag::O_EXCL;
        let only_us = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = File::from(openat(&self.directory, self.name.as_os_str(), how, only_us)?);
        let given = (|| {
            let meta = file.metadata()?;
            if meta.uid() != owner.0 {
                std::os::unix::fs::fchown(&file, Some(owner.0), Some(owner.1))?;
            }
            Ok(fchmod(&file, Mode::from_bits_truncate(mode))?)
        })();
        if let Err(why) = given {
            // Ours, made a moment ago.
            self.remove();
            return Err(why);
        }
        Ok(file)
    }

    /// Whether the name is this file's.
    fn is(&self, file: &File) -> bool {
        let there = fstatat(&self.directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        let there = there.ok().map(|stat| width::identity(&stat));
        there.is_some() && there == file.metadata().ok().map(|meta| (meta.dev(), meta.ino()))
    }

    fn remove(&self) {
        unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir).ok();
    }

    fn remove_if_says(&self, file: &File, text: &str) {
        if self.is(file) && said(file).is_ok_and(|now| now == text.as_bytes()) {
            self.remove();
        }
    }

    /// Refuses to put a PID file in the place of anything else.
    fn check_pid_file(&self, uid: u32, doing: &str) -> Result<(), SysError> {
        let fail = |why: io::Error| SysError::new(doing, why);
        let flags = OFlag::O_RDONLY | OPEN.difference(OFlag::O_RDWR);
        let file = match openat(&self.directory, self.name.as_os_str(), flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::ELOOP) => {
                return Err(SysError::refused(doing, "a link is there, which is not replaced"));
            }
            Err(errno) => return Err(fail(errno.into())),
        };
        let meta = file.metadata().map_err(fail)?;
        let text = said(&file).map_err(fail)?;
        let why = foreign(&meta, uid).or_else(|| {
            let other = first_pid(&text).is_none() && !text.is_empty();
            other.then(|| "what is there holds no pid, so it is no PID file".to_owned())
        });
        why.map_or(Ok(()), |why| Err(SysError::refused(doing, why)))
    }
}

/// Why a file is not one of ours, by its looks.
fn foreign(meta: &std::fs::Metadata, uid: u32) -> Option<String> {
    if let Some(kind) = foreign_file::strange(meta) {
        return Some(format!("it is {kind}"));
    }
    if meta.uid() != uid {
        return Some(format!("it belongs to uid {}, not to uid {uid}", meta.uid()));
    }
    (meta.nlink() > 1).then(|| format!("it has {} names", meta.nlink()))
}

fn lock(file: &File) -> nix::Result<()> {
    // SAFETY: a plain system call on a descriptor that is open (flock(2)).
    check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

/// What a file says, up to a little more than is ever ours. Its place in the file, which children
/// share, does not move.
fn said(file: &File) -> io::Result<Vec<u8>> {
    let mut text = vec![0; MOST];
    let read = file.read_at(&mut text, 0)?;
    text.truncate(read);
    Ok(text)
}

/// The pid in the first line.
fn first_pid(text: &[u8]) -> Option<Pid> {
    Pid::parse(std::str::from_utf8(text).ok()?.lines().next()?.trim())
}

/// Who holds the lock on `file`: the process that it names, if it holds it or was started by
/// whoever does; else any that holds it.
fn holder(path: &Path, file: &File) -> Holder {
    let Ok(meta) = file.metadata() else { return Holder::Hidden };
    let written = locks::Written::of(file.as_fd(), foreign_file::id(&meta));
    let named = said(file).ok().and_then(|text| first_pid(&text));
    let listed = locks::listed(&written).unwrap_or_default();
    if listed.contains(&std::process::id()) {
        return Holder::We;
    }
    let first: Vec<u32> = named.iter().map(|pid| pid.number()).chain(listed).collect();
    let all = locks::holders(&written, path.file_name().unwrap_or_default(), &first);
    let has = |pid: Pid| all.iter().any(|one| one.pid == pid.number());
    let of_holder = |pid: &Pid| has(*pid) || tree::above(*pid).iter().any(|one| has(*one));
    let one = named.filter(of_holder).or_else(|| {
        let first = all.first()?;
        Pid::new(i32::try_from(first.pid).ok()?)
    });
    one.and_then(tree::process).map_or(Holder::Hidden, Holder::Is)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    fn own() -> (u32, u32) {
        (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    }

    fn take(path: &Path) -> Result<ProgramLock, NotLocked> {
        ProgramLock::take(path, own(), WallTime(1_764_341_234_056))
    }

    fn refusal(path: &Path) -> String {
        match take(path) {
            Err(NotLocked::Unusable(why)) => why.cause.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lock_says_who_has_it_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, pid_file) = (folder.path().join("r.lock"), folder.path().join("r.pid"));
        let mut lock = take(&path).unwrap();
        let own_pid = std::process::id();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{own_pid}\n1764341234.056\n"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(take(&path), Err(NotLocked::Held(Holder::We))));
        assert!(matches!(look(&path), Ok(Some(Holder::We))));
        lock.say(7, WallTime(5));
        lock.write_pid(&pid_file, own(), 7).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "7\n0.005\n");
        assert_eq!(fs::read_to_string(&pid_file).unwrap(), "7\n");
        assert_eq!(fs::metadata(&pid_file).unwrap().permissions().mode() & 0o777, 0o644);
        lock.release();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(matches!(look(&path), Ok(None)));
    }

    #[test]
    fn whoever_has_inherited_it_has_it_until_it_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.lock");
        let lock = take(&path).unwrap();
        let inherited = lock.for_child().unwrap();
        drop(lock);
        assert!(matches!(take(&path), Err(NotLocked::Held(_))));
        drop(inherited);
        // It was left behind, and nobody has it: neither text nor age matter, a lock would.
        let again = take(&path).unwrap();
        assert_eq!(again.stale().map(Pid::number), Some(std::process::id()));
        let inherited = again.for_child().unwrap();
        again.release();
        let third = take(&path).unwrap();
        assert_eq!(third.stale(), None);
        drop(inherited);
        assert!(matches!(take(&path), Err(NotLocked::Held(_))));
        third.release();
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("notes"), "to do\n").unwrap();
        symlink(at("notes"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        fs::write(at("one"), "").unwrap();
        fs::hard_link(at("one"), at("two")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        for (name, why) in [
            ("notes", "it holds something that is no pid"),
            ("link", "it is a link"),
            ("dangling", "it is a link"),
            ("two", "it has 2 names"),
            ("directory", "directory"),
            ("fifo", "it is a FIFO"),
            ("missing/r.lock", "No such file"),
        ] {
            assert!(refusal(&at(name)).contains(why), "{name}: {}", refusal(&at(name)));
        }
        assert_eq!(fs::read_to_string(at("notes")).unwrap(), "to do\n");
        assert!(!at("nowhere").exists());
        let mut lock = take(&at("r.lock")).unwrap();
        for name in ["notes", "link", "dangling", "two", "fifo"] {
            let refused = lock.write_pid(&at(name), own(), 7);
            assert!(refused.is_err(), "{name}");
        }
        assert_eq!(fs::read_to_string(at("notes")).unwrap(), "to do\n");
        lock.release();
    }

    #[test]
    fn an_empty_file_is_taken_over_and_what_somebody_else_wrote_since_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, pid_file) = (folder.path().join("r.lock"), folder.path().join("r.pid"));
        fs::write(&path, "").unwrap();
        let mut lock = take(&path).unwrap();
        lock.write_pid(&pid_file, own(), 7).unwrap();
        fs::write(&path, "8\n0\n").unwrap();
        fs::remove_file(&pid_file).unwrap();
        fs::write(&pid_file, "8\n").unwrap();
        lock.release();
        assert_eq!(fs::read_to_string(&path).unwrap(), "8\n0\n");
        assert_eq!(fs::read_to_string(&pid_file).unwrap(), "8\n");
    }

    #[test]
    fn a_file_that_was_put_in_the_place_of_the_locked_one_is_locked_instead() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.lock");
        let first = take(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = take(&path).unwrap();
        first.release();
        assert!(path.exists(), "that of another is not removed");
        second.release();
        assert!(!path.exists());
    }
}
