//! Who holds a lock of flock(2), seen without taking it: /proc/locks, fdinfo, and a try that is
//! undone at once.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::Path,
    sync::OnceLock,
};

use nix::{errno::Errno, sys::statfs};

use crate::model::{FileId, Holder, escaped};

use super::error::check;

/// More of a command line than this is not shown, in characters.
const COMMAND_CHARS: usize = 200;

/// A file as /proc/locks writes it: the device of its file system, which on btrfs and overlay is
/// not that of stat(2), and its inode there. On tmpfs and ext4 they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    major: u64,
    minor: u64,
    inode: u64,
}

impl Written {
    /// Of an open file that stat(2) calls `id`.
    #[must_use]
    pub fn of(fd: BorrowedFd<'_>, id: FileId) -> Self {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
        let info = info.unwrap_or_default();
        let value = |key| info.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        // Since Linux 5.14.
        let inode = value("ino:").and_then(|ino| ino.parse().ok()).unwrap_or(id.inode);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let device = value("mnt_id:").and_then(|mount| {
            let mut fields = mounts.lines().map(str::split_ascii_whitespace);
            let mut fields = fields.find_map(|mut f| (f.next()? == mount).then_some(f))?;
            let (major, minor) = fields.nth(1)?.split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        let (major, minor) = device.unwrap_or_else(|| {
            let (major, minor) = (libc::major(id.device), libc::minor(id.device));
            (u64::from(major), u64::from(minor))
        });
        Self { major, minor, inode }
    }

    /// The process that took the lock, when this row of `proc_locks(5)` is an exclusive lock of
    /// flock(2) on this file that is held, not waited for.
    fn holder(&self, row: &str) -> Option<u32> {
        let mut words = row.split_ascii_whitespace().skip(1);
        let (kind, _, access) = (words.next()?, words.next()?, words.next()?);
        if kind != "FLOCK" || access != "WRITE" {
            return None;
        }
        let pid = words.next()?.parse().unwrap_or(0);
        let mut parts = words.next()?.split(':');
        let major = u64::from_str_radix(parts.next()?, 16).ok()?;
        let minor = u64::from_str_radix(parts.next()?, 16).ok()?;
        let inode = parts.next()?.parse().ok()?;
        (Self { major, minor, inode } == *self).then_some(pid)
    }
}

/// Those that took an exclusive lock on this file, as /proc/locks lists them: they may be dead.
/// None is certain only in the first PID namespace, which hides no process.
///
/// # Errors
/// There is no /proc/locks.
pub fn listed(file: &Written) -> io::Result<Vec<u32>> {
    let mut text = Vec::with_capacity(4096);
    File::open("/proc/locks")?.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter_map(|row| file.holder(row)).collect())
}

/// Whether /proc shows the processes and locks of all namespaces.
#[must_use]
pub fn sees_all() -> bool {
    static SEES_ALL: OnceLock<bool> = OnceLock::new();
    *SEES_ALL.get_or_init(|| {
        let first = fs::read_link("/proc/self/ns/pid");
        first.is_ok_and(|name| name.as_os_str() == "pid:[4026531836]")
    })
}

/// Whether the kernel itself keeps the locks of this file, so that /proc/locks has them: a network
/// file system or FUSE may keep them elsewhere.
#[must_use]
pub fn are_kept_here(fd: BorrowedFd<'_>) -> bool {
    let kinds = [
        statfs::TMPFS_MAGIC,
        statfs::EXT4_SUPER_MAGIC,
        statfs::XFS_SUPER_MAGIC,
        statfs::BTRFS_SUPER_MAGIC,
        statfs::OVERLAYFS_SUPER_MAGIC,
    ];
    statfs::fstatfs(fd).is_ok_and(|fs| kinds.contains(&fs.filesystem_type()))
}

/// Whether somebody holds the lock exclusively: tries to share it, and lets go at once.
///
/// For that moment, less than a microsecond, an exclusive lock cannot be had by others.
///
/// # Errors
/// flock(2).
pub fn try_to_share(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let raw = fd.as_raw_fd();
    // SAFETY: a plain system call on a descriptor that is open (flock(2)).
    match check(unsafe { libc::flock(raw, libc::LOCK_SH | libc::LOCK_NB) }) {
        Ok(_) => {}
        Err(Errno::EWOULDBLOCK) => return Ok(true),
        Err(errno) => return Err(errno.into()),
    }
    // SAFETY: as above.
    check(unsafe { libc::flock(raw, libc::LOCK_UN) })?;
    Ok(false)
}

/// Every process that holds the lock of the file of this name: those of `pids` if they do, else
/// whoever has its description, be it inherited. Empty when none can be seen.
#[must_use]
pub fn holders(file: &Written, name: &OsStr, pids: &[u32]) -> Vec<Holder> {
    let known: Vec<_> = pids.iter().filter_map(|pid| holder(*pid, file)).collect();
    if !known.is_empty() {
        return known;
    }
    // The names of what is open are read faster than what is known of it.
    let named = |pid: &u32| has_lock(*pid, file, Some(name));
    let found: Vec<_> = processes().filter(named).filter_map(|pid| holder(pid, file)).collect();
    if !found.is_empty() {
        return found;
    }
    // A file that is mounted elsewhere has another name there.
    let any = |pid: &u32| has_lock(*pid, file, None);
    processes().filter(any).filter_map(|pid| holder(pid, file)).collect()
}

/// This process, if it holds the lock.
fn holder(pid: u32, file: &Written) -> Option<Holder> {
    let start_time = start_time(pid)?;
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let numbers = |key| {
        let line = status.lines().find_map(|line: &str| line.strip_prefix(key))?;
        line.split_ascii_whitespace().map(|n| n.parse().ok()).collect::<Option<Vec<u32>>>()
    };
    let uids = numbers("Uid:")?.try_into().ok()?;
    let mut gids = numbers("Gid:")?;
    gids.extend(numbers("Groups:").unwrap_or_default());
    let mut line = Vec::new();
    let text = File::open(format!("/proc/{pid}/cmdline")).ok();
    text.and_then(|text| text.take(4096).read_to_end(&mut line).ok());
    if line.is_empty() {
        // It is about to end, or hides its arguments: its name is left (`proc_pid_comm(5)`).
        line = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    }
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    let command = escaped(line.trim_end(), COMMAND_CHARS).into();
    // After the reading: all of it is of the process that holds the lock now.
    let same = has_lock(pid, file, None) && self::start_time(pid) == Some(start_time);
    same.then_some(Holder { pid, start_time, uids, gids, command })
}

/// Whether one of its descriptors, of files of this name, has the lock; `lock:` is shown to all
/// that share it.
fn has_lock(pid: u32, file: &Written, name: Option<&OsStr>) -> bool {
    // The second one is open to more on older kernels.
    let list = if name.is_some() { "fd" } else { "fdinfo" };
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/{list}")) else { return false };
    entries.filter_map(Result::ok).any(|entry| {
        if name.is_some_and(|name| !names(&entry.path(), name)) {
            return false;
        }
        let info = Path::new(&format!("/proc/{pid}/fdinfo")).join(entry.file_name());
        let text = fs::read_to_string(info).unwrap_or_default();
        let mut rows = text.lines().filter_map(|line| line.strip_prefix("lock:"));
        rows.any(|row| file.holder(row).is_some())
    })
}

/// Whether this link in /proc is to a file of that name, which may be removed.
fn names(link: &Path, name: &OsStr) -> bool {
    let Ok(target) = fs::read_link(link) else { return false };
    let Some(last) = target.file_name().map(OsStrExt::as_bytes) else { return false };
    last.strip_suffix(b" (deleted)").unwrap_or(last) == name.as_bytes()
}

/// In ticks since boot; `None` when it is gone, or has ended and waits for its parent.
fn start_time(pid: u32) -> Option<u64> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The name may hold anything: the fields begin behind its last parenthesis.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    fields.nth(19)?.parse().ok()
}

/// All processes but ourselves.
fn processes() -> impl Iterator<Item = u32> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(move |pid| *pid != own)
}

/// Which of the files with these names some other process has open; `None` when not all processes
/// can be seen.
#[must_use]
pub fn opened(wanted: &BTreeSet<OsString>) -> Option<BTreeSet<FileId>> {
    let mut found = BTreeSet::new();
    // hidepid (proc(5)) hides the processes of others, that of the first included.
    if !sees_all() || fs::read_dir("/proc/1/fd").is_err() {
        return None;
    }
    for pid in processes() {
        let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return None,
            Err(_) => continue,
        };
        for entry in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            // Only those are touched: another one may be on a file system that hangs.
            if wanted.iter().any(|name| names(&entry, name)) {
                let file = fs::metadata(&entry).ok();
                found.extend(file.map(|m| FileId { device: m.dev(), inode: m.ino() }));
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_exclusive_flock_that_is_held_on_this_very_file_counts() {
        let file = Written { major: 0, minor: 0x1b, inode: 138 };
        let holder = |row| file.holder(row);
        assert_eq!(holder("6: FLOCK  ADVISORY  WRITE 21210 00:1b:138 0 EOF"), Some(21210));
        assert_eq!(holder("6: FLOCK  ADVISORY  WRITE -1 00:1b:138 0 EOF"), Some(0));
        for other in [
            "6: -> FLOCK  ADVISORY  WRITE 21210 00:1b:138 0 EOF",
            "6: FLOCK  ADVISORY  READ  21210 00:1b:138 0 EOF",
            "6: POSIX  ADVISORY  WRITE 21210 00:1b:138 0 EOF",
            "6: FLOCK  ADVISORY  WRITE 21210 00:1c:138 0 EOF",
            "6: FLOCK  ADVISORY  WRITE 21210 00:1b:1380 0 EOF",
            "6: FLOCK  ADVISORY  WRITE",
            "",
        ] {
            assert_eq!(holder(other), None, "{other}");
        }
    }
}
