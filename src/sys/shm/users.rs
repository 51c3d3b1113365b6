//! Who has which of some files open, mapped or locked, as /proc shows it: one look at all
//! processes for all files.
//!
//! What is not seen: a file that nobody has but as a message in a socket (unix(7)), and processes
//! of another PID namespace that shares the directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CStr,
    fs, io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag},
    sys::stat::{Mode, fstatat, makedev},
};

use super::{Directory, FileId};
use crate::sys::{
    Pid,
    error::check,
    tree::{name_of, proc_is_ours},
};

/// Who uses the files that were asked for.
#[derive(Debug, Default)]
pub struct Users {
    /// By file: how, and who.
    pub known: BTreeMap<FileId, String>,
    /// Processes that we may not look at.
    pub unseen: Vec<Unseen>,
    /// Why nothing can be said of any file.
    pub blind: Option<String>,
}

/// A process that we may not look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Which.
    pub pid: Pid,
    /// Its real, effective, saved and file system user id.
    pub uids: [u32; 4],
}

/// Looks at all processes for the users of `files`, which stand in `directory`.
#[must_use]
pub fn users(directory: &Directory, files: &BTreeSet<FileId>) -> Users {
    let mut look = Look { files, by_inode: !directory.is_tmpfs, found: Users::default() };
    if files.is_empty() {
        return look.found;
    }
    if let Err(why) = look.at_all() {
        look.found.blind = Some(why);
    }
    look.found
}

struct Look<'a> {
    files: &'a BTreeSet<FileId>,
    /// The inode alone tells a mapped or locked file: the device may be named otherwise.
    by_inode: bool,
    found: Users,
}

/// What came of a look at one process or thread.
enum Seen {
    /// All of it.
    All,
    /// It has no memory: a thread of the kernel, or one that has ended.
    Bare,
    /// It is gone.
    Gone,
    /// We may not.
    Hidden,
}

impl Look<'_> {
    fn at_all(&mut self) -> Result<(), String> {
        if !proc_is_ours() {
            return Err("/proc does not show the processes that are here".to_owned());
        }
        if hides_processes() {
            return Err("/proc is mounted so that it hides processes (hidepid)".to_owned());
        }
        let text = fs::read_to_string("/proc/locks");
        let text = text.map_err(|e| format!("cannot read /proc/locks: {e}"))?;
        for id in text.lines().filter_map(locked) {
            self.used(id, || "it is locked".to_owned());
        }
        let all = fs::read_dir("/proc").map_err(|e| format!("cannot read /proc: {e}"))?;
        for entry in all {
            let entry = entry.map_err(|e| format!("cannot read /proc: {e}"))?;
            let Some(pid) = entry.file_name().to_str().and_then(Pid::parse) else { continue };
            self.at_process(pid);
        }
        Ok(())
    }

    fn at_process(&mut self, pid: Pid) {
        let own = format!("/proc/{pid}");
        let seen = self.at(pid, &own);
        let mut hidden = matches!(seen, Seen::Hidden);
        if matches!(seen, Seen::Bare | Seen::Hidden) {
            // Its first thread may have ended before the others (pthread_exit(3)).
            let threads = fs::read_dir(format!("{own}/task")).into_iter().flatten();
            let names = threads.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let others: Vec<String> = names.filter(|name| *name != pid.to_string()).collect();
            if hidden && others.is_empty() && is_zombie(&own) {
                return;
            }
            for thread in &others {
                hidden |= matches!(self.at(pid, &format!("{own}/task/{thread}")), Seen::Hidden);
            }
        }
        if hidden && let Some(uids) = uids_of(&own) {
            self.found.unseen.push(Unseen { pid, uids });
        }
    }

    fn at(&mut self, pid: Pid, place: &str) -> Seen {
        match self.open_files(pid, place) {
            Ok(()) => {}
            Err(Errno::ENOENT | Errno::ESRCH) => return Seen::Gone,
            // We may not, or it is not known what it has.
            Err(_) => return Seen::Hidden,
        }
        match fs::read(format!("{place}/maps")) {
            Ok(text) if text.is_empty() => Seen::Bare,
            Ok(text) => {
                for line in text.split(|byte| *byte == b'\n') {
                    if let Some(id) = mapped(&String::from_utf8_lossy(line)) {
                        self.used(id, || format!("it is mapped by {}", named(pid)));
                    }
                }
                Seen::All
            }
            Err(e) if is_gone(&e) => Seen::Gone,
            Err(_) => Seen::Hidden,
        }
    }

    fn open_files(&mut self, pid: Pid, place: &str) -> Result<(), Errno> {
        let flags = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC);
        let mut listing = Dir::open(&*format!("{place}/fd"), flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            names.push(entry?.file_name().to_owned());
        }
        for name in names.iter().filter(|name| name.to_bytes().first() != Some(&b'.')) {
            match file_behind(listing.as_fd(), name) {
                Ok(id) => self.used_exactly(id, || format!("{} has it open", named(pid))),
                Err(e @ (Errno::EACCES | Errno::EPERM)) => return Err(e),
                // Closed by now, or of a file system that is gone.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn used_exactly(&mut self, id: FileId, how: impl FnOnce() -> String) {
        if self.files.contains(&id) {
            self.found.known.entry(id).or_insert_with(how);
        }
    }

    fn used(&mut self, id: FileId, how: impl FnOnce() -> String) {
        if !self.by_inode {
            return self.used_exactly(id, how);
        }
        let same = self.files.iter().find(|file| file.inode == id.inode).copied();
        if let Some(file) = same {
            self.used_exactly(file, how);
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

fn named(pid: Pid) -> String {
    match name_of(pid) {
        Some(name) => format!("{name} (pid {pid})"),
        None => format!("pid {pid}"),
    }
}

/// The file behind a descriptor of another process. A server that does not answer is not asked:
/// what is known of its files will do (statx(2)).
fn file_behind(directory: BorrowedFd<'_>, name: &CStr) -> Result<FileId, Errno> {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `name` ends in a null byte and `stat` has room for what is asked for; both outlive
    // the call.
    let result = unsafe {
        libc::statx(
            directory.as_raw_fd(),
            name.as_ptr(),
            libc::AT_STATX_DONT_SYNC,
            libc::STATX_INO,
            stat.as_mut_ptr(),
        )
    };
    match check(result) {
        Ok(_) => {}
        // A kernel before 4.11, or a filter of system calls that does not know it.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let stat = fstatat(directory, name, AtFlags::empty())?;
            return Ok(super::Looks::of(&stat).id);
        }
        Err(e) => return Err(e),
    }
    // SAFETY: all of it was zero, which is a value of each of its fields, before statx(2) wrote.
    let stat = unsafe { stat.assume_init() };
    Ok(file_id(stat.stx_dev_major.into(), stat.stx_dev_minor.into(), stat.stx_ino))
}

fn file_id(major: u64, minor: u64, inode: u64) -> FileId {
    FileId { device: makedev(major, minor), inode }
}

/// `7f0c-7f0d rw-s 00000000 00:1a 1234    /dev/shm/x`, `proc_pid_maps(5)`.
fn mapped(line: &str) -> Option<FileId> {
    let mut words = line.split_ascii_whitespace().skip(3);
    let (major, minor) = words.next()?.split_once(':')?;
    let inode = words.next()?.parse().ok().filter(|inode| *inode != 0)?;
    Some(file_id(hex(major)?, hex(minor)?, inode))
}

/// `1: FLOCK  ADVISORY  WRITE 708 00:1a:1234 0 EOF`, `proc_locks(5)`.
fn locked(line: &str) -> Option<FileId> {
    line.split_ascii_whitespace().find_map(|word| {
        let mut parts = word.split(':');
        let (major, minor) = (hex(parts.next()?)?, hex(parts.next()?)?);
        Some(file_id(major, minor, parts.next()?.parse().ok()?))
    })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

fn is_zombie(place: &str) -> bool {
    let text = fs::read_to_string(format!("{place}/stat")).unwrap_or_default();
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// The line `Uid:` of `proc_pid_status(5)`; `None` when the process is gone.
fn uids_of(place: &str) -> Option<[u32; 4]> {
    // What may not be read is anybody's.
    const ANYBODY: [u32; 4] = [u32::MAX; 4];
    let text = match fs::read_to_string(format!("{place}/status")) {
        Ok(text) => text,
        Err(e) if is_gone(&e) => return None,
        Err(_) => return Some(ANYBODY),
    };
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:"));
    let numbers = line.unwrap_or_default().split_ascii_whitespace().map(str::parse);
    let uids: Vec<u32> = numbers.collect::<Result<_, _>>().unwrap_or_default();
    Some(uids.try_into().unwrap_or(ANYBODY))
}

/// Whether processes of others are not in /proc at all (`proc(5)`, hidepid): with the capability to
/// trace them they are.
fn hides_processes() -> bool {
    const SYS_PTRACE: u32 = 19;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let may = capabilities.and_then(|text| hex(text.trim())).unwrap_or(0) >> SYS_PTRACE & 1 == 1;
    let table = fs::read_to_string("/proc/self/mountinfo");
    !may && table.map_or(true, |table| hides(&table))
}

/// Whether the last thing that was mounted on /proc hides processes.
fn hides(table: &str) -> bool {
    let on_proc = |line: &&str| line.split(' ').nth(4) == Some("/proc");
    let Some(line) = table.lines().rfind(on_proc) else { return true };
    let mut options = line.split([' ', ',']).filter_map(|word| word.strip_prefix("hidepid="));
    options.any(|value| !matches!(value, "0" | "off" | "1" | "noaccess"))
}

#[cfg(test)]
mod tests {
    use super::{file_id, hides, locked, mapped};

    #[test]
    fn files_are_found_in_the_words_of_proc() {
        let file = file_id(0, 0x1a, 1234);
        let line = "7f0c00000000-7f0c00001000 rw-s 00000000 00:1a 1234      /dev/shm/a b";
        assert_eq!(mapped(line), Some(file));
        assert_eq!(mapped("7ffe0000-7ffe1000 r-xp 00000000 00:00 0      [vdso]"), None);
        assert_eq!(locked("1: FLOCK  ADVISORY  WRITE 708 00:1a:1234 0 EOF"), Some(file));
        assert_eq!(locked("1: -> POSIX  ADVISORY  READ 708 00:1a:1234 0 9"), Some(file));
        assert_eq!(locked("1: LEASE"), None);
    }

    #[test]
    fn a_proc_that_hides_processes_is_known_by_its_options() {
        let proc = |options: &str| format!("22 1 0:21 / /proc rw - proc proc rw{options}\n");
        assert!(!hides(&proc("")));
        assert!(!hides(&proc(",hidepid=noaccess")));
        assert!(hides(&proc(",hidepid=invisible")));
        assert!(hides(&proc(",gid=5,hidepid=2")));
        assert!(hides(&proc(",hidepid=ptraceable")));
        assert!(hides("22 1 0:21 / /sys rw - sysfs sysfs rw\n"), "no /proc");
        assert!(!hides(&(proc(",hidepid=2") + &proc(""))), "the last one counts");
    }
}
