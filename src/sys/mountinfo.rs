//! Which file systems are mounted, read so that nothing can hang (`proc_pid_mountinfo(5)`).

use std::{
    ffi::OsString,
    fs::File,
    io::{Read, Seek},
    os::{fd::AsFd, unix::ffi::OsStringExt},
    path::{Path, PathBuf},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// File systems whose answers depend on a server or a process that may be gone.
const HANGING: [&str; 12] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "9p",
    "ceph",
    "afs",
    "autofs",
    "glusterfs",
    "lustre",
    "ocfs2",
    "gfs2",
];

/// Watches the mount table for file systems that can hang.
#[derive(Debug)]
pub struct HangingMounts {
    table: Option<File>,
    any: bool,
}

impl HangingMounts {
    /// Reads the table for the first time.
    #[must_use]
    pub fn new() -> Self {
        let table = File::open("/proc/self/mountinfo").ok();
        let mut mounts = Self { table, any: true };
        mounts.read();
        mounts
    }

    /// Whether some mounted file system can hang. Without /proc nobody knows, so: yes.
    ///
    /// Costs one poll(2) unless the table has changed since the last time.
    pub fn any_can_hang(&mut self) -> bool {
        let Some(table) = &self.table else { return true };
        let mut fds = [PollFd::new(table.as_fd(), PollFlags::POLLPRI)];
        let changed = poll(&mut fds, PollTimeout::ZERO).map_or(true, |ready| ready > 0);
        if changed {
            self.read();
        }
        self.any
    }

    fn read(&mut self) {
        let Some(table) = &mut self.table else { return };
        let mut text = Vec::new();
        let read = table.rewind().and_then(|()| table.read_to_end(&mut text));
        self.any = read.is_err() || has_hanging(&String::from_utf8_lossy(&text));
    }
}

impl Default for HangingMounts {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether what is mounted later is seen in copies of the mount namespace (`mount_namespaces(7)`,
/// shared subtrees); `None` without /proc.
#[must_use]
pub fn root_is_shared() -> Option<bool> {
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    is_shared(&String::from_utf8_lossy(&table))
}

/// The last mount on / is the one that is seen; its optional fields stand behind the sixth, up to
/// `-`.
fn is_shared(table: &str) -> Option<bool> {
    let root = |line: &&str| line.split(' ').nth(4) == Some("/");
    let line = table.lines().rfind(root)?;
    let optional = line.split(' ').skip(6).take_while(|word| *word != "-");
    Some(optional.into_iter().any(|word| word.starts_with("shared:")))
}

/// Looks at the type of each mount: the word behind ` - `.
fn has_hanging(table: &str) -> bool {
    let kinds = table.lines().filter_map(|line| line.split(" - ").nth(1)?.split(' ').next());
    kinds.into_iter().any(|kind| {
        HANGING.contains(&kind) || matches!(kind, "fuse" | "fuseblk") || kind.starts_with("fuse.")
    })
}

/// The mount point that `path` is below, by its name alone: the path itself is not touched. Without
/// /proc, and where links lead elsewhere, its directory.
#[must_use]
pub fn mount_of(path: &Path) -> PathBuf {
    let table = std::fs::read("/proc/thread-self/mountinfo").unwrap_or_default();
    let points = table.split(|b| *b == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(4));
    deepest(points.map(unescaped), path)
        .unwrap_or_else(|| path.parent().unwrap_or(Path::new("/")).to_owned())
}

/// The type of what is mounted at this very path, the last if there are several.
#[must_use]
pub fn type_at(path: &Path) -> Option<String> {
    let table = std::fs::read("/proc/thread-self/mountinfo").unwrap_or_default();
    type_in(&table, path)
}

fn type_in(table: &[u8], path: &Path) -> Option<String> {
    let here = |line: &&[u8]| {
        line.split(|b| *b == b' ').nth(4).is_some_and(|point| unescaped(point) == path)
    };
    let line = table.split(|b| *b == b'\n').rfind(here)?;
    let kind = line.split(|b| *b == b' ').skip_while(|word| *word != b"-").nth(1)?;
    Some(String::from_utf8_lossy(kind).into_owned())
}

fn deepest(points: impl Iterator<Item = PathBuf>, path: &Path) -> Option<PathBuf> {
    points.filter(|point| path.starts_with(point)).max_by_key(|point| point.as_os_str().len())
}

/// Root and mount point of every mount of this type, in the order of the table.
pub(super) fn of_type(table: &[u8], kind: &str) -> Vec<(PathBuf, PathBuf)> {
    let mounts = table.split(|b| *b == b'\n').filter_map(|line| {
        let mut words = line.split(|b| *b == b' ');
        let (root, point) = (words.nth(3)?, words.next()?);
        let its = words.skip_while(|word| *word != b"-").nth(1)?;
        (its == kind.as_bytes()).then(|| (unescaped(root), unescaped(point)))
    });
    mounts.collect()
}

/// Blanks and the like stand as `\040` in the table.
fn unescaped(text: &[u8]) -> PathBuf {
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let byte = code.and_then(|d| u8::from_str_radix(d, 8).ok()).filter(|_| *first == b'\\');
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_root_is_one_with_a_peer_group() {
        let line =
            |optional: &str| format!("25 1 254:0 / / rw,relatime {optional}- ext4 /dev/vda rw");
        assert_eq!(is_shared(&line("shared:1 ")), Some(true));
        assert_eq!(is_shared(&line("master:3 ")), Some(false));
        assert_eq!(is_shared(&line("")), Some(false));
        assert_eq!(is_shared(""), None);
    }

    #[test]
    fn a_path_is_on_the_deepest_mount_above_it() {
        let points = || ["/", "/mnt", "/mnt/a\\040b", "/mn"].map(|p| unescaped(p.as_bytes()));
        for (path, mount) in
            [("/mnt/a b/x", "/mnt/a b"), ("/mnt/a/x", "/mnt"), ("/mnt", "/mnt"), ("/mntx", "/")]
        {
            let found = deepest(points().into_iter(), Path::new(path));
            assert_eq!(found, Some(PathBuf::from(mount)), "{path}");
        }
    }

    #[test]
    fn what_is_mounted_at_a_path_is_the_last_that_was() {
        let table = b"25 1 0:23 / /dev/shm rw,nosuid shared:3 - tmpfs tmpfs rw,size=65536k\n\
            26 1 8:1 / /dev/shm/a\\040b rw - ext4 /dev/sda1 rw\n\
            27 25 8:2 / /dev/shm rw - ext4 /dev/sda2 rw\n";
        let at = |path| type_in(table, Path::new(path));
        assert_eq!(at("/dev/shm").as_deref(), Some("ext4"));
        assert_eq!(at("/dev/shm/a b").as_deref(), Some("ext4"));
        assert_eq!(at("/dev"), None);
    }

    #[test]
    fn a_network_or_fuse_file_system_is_recognised() {
        let line =
            |kind: &str| format!("36 35 98:0 / /mnt rw,noatime master:1 - {kind} //nas/a rw\n");
        for kind in ["nfs4", "cifs", "fuse.sshfs", "fuse", "autofs"] {
            assert!(has_hanging(&line(kind)), "{kind}");
        }
        for kind in ["ext4", "tmpfs", "fusectl", "overlay", "proc"] {
            assert!(!has_hanging(&line(kind)), "{kind}");
        }
    }
}
