//! Control groups, version 2 (cgroups(7)): the one that we were given to divide, and a leaf in it
//! for each program.
//!
//! Processes live in leaves alone where a cgroup hands controllers on, so we move into one of our
//! own, `supervisor`, and each program gets one beside it. Nothing outside is ever touched, and
//! nothing where the cgroup was not given to us.

use std::{
    ffi::CString,
    fs,
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirBuilderExt, fs::OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{SysError, mountinfo};
use crate::model::Name;

/// Our own leaf.
const OWN: &str = "supervisor";
/// Those that programs can be limited with.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// A cgroup that is ours to divide, and that we have left for a leaf of it.
#[derive(Clone, Debug)]
pub struct Root {
    folder: PathBuf,
}

impl Root {
    /// Moves this process into `supervisor/` below the cgroup that it was started in, and hands
    /// the controllers that there are on to the leaves.
    ///
    /// # Errors
    /// Why there is none that is ours, in words. Then all is as it was.
    pub fn take() -> Result<Self, String> {
        let (folder, facts) = look().ok_or("there is no cgroup2")?;
        judge(&facts)?;
        let own = folder.join(OWN);
        let failed = |why: std::io::Error| format!("{}: {why}", own.display());
        // A new one: one that was killed once could not be left for a leaf (`spawn::Cgroup`).
        fs::remove_dir(&own).ok();
        make(&own).map_err(failed)?;
        if !members(&own).is_empty() {
            return Err(format!("{} is somebody else's", own.display()));
        }
        // 0 is the process that writes, with all its threads.
        if let Err(why) = write(&own, "cgroup.procs", "0") {
            fs::remove_dir(&own).ok();
            return Err(failed(why));
        }
        for controller in CONTROLLERS {
            // One that is not there, or not handed on to us, is not handed on by us.
            write(&folder, "cgroup.subtree_control", &format!("+{controller}")).ok();
        }
        Ok(Self { folder })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The leaf of this program, which may not be there.
    #[must_use]
    pub fn leaf(&self, program: &Name) -> Leaf {
        Leaf { folder: self.folder.join(format!("p-{program}")) }
    }
}

/// The cgroup of one program.
#[derive(Debug)]
pub struct Leaf {
    folder: PathBuf,
}

impl Leaf {
    /// Makes it unless it is there, and gives the directory. A new one has no limits, whatever an
    /// earlier one had.
    ///
    /// # Errors
    /// As mkdir(2) and open(2).
    pub fn open(&self) -> Result<OwnedFd, SysError> {
        let fail = |why| SysError::new(format!("make the cgroup {}", self.folder.display()), why);
        make(&self.folder).map_err(fail)?;
        let directory = fs::File::options()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(&self.folder)
            .map_err(fail)?;
        Ok(directory.into())
    }

    /// Whether any process lives in it or below.
    #[must_use]
    pub fn is_populated(&self) -> bool {
        read(&self.folder, "cgroup.events").is_some_and(|t| number(&t, "populated") == Some(1))
    }

    /// How many of its processes the kernel has killed for want of memory; `None` without the
    /// memory controller.
    #[must_use]
    pub fn oom_kills(&self) -> Option<u64> {
        number(&read(&self.folder, "memory.events")?, "oom_kill")
    }

    /// Kills everybody in it and below at once, whoever is being forked meanwhile included. Since
    /// Linux 5.14; before, nothing happens.
    pub fn kill(&self) {
        write(&self.folder, "cgroup.kill", "1").ok();
    }

    /// Waits until nobody lives in it, but not for longer than this.
    pub fn wait_until_empty(&self, within: Duration) {
        let Ok(mut events) = fs::File::open(self.folder.join("cgroup.events")) else { return };
        let mut text = String::new();
        // What changes after it was read wakes us.
        let read = events.read_to_string(&mut text).is_ok();
        if read && number(&text, "populated") == Some(1) {
            let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::ZERO);
            poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout).ok();
        }
    }

    /// Removes it, and what the program has made below it; whether it is gone. One with a living
    /// process stays.
    #[expect(clippy::must_use_candidate, reason = "mostly nothing follows from it")]
    pub fn remove(&self) -> bool {
        remove(&self.folder, 16)
    }
}

/// What decides whether a cgroup is ours to divide.
#[derive(Clone, Copy, Debug)]
struct Facts<'a> {
    /// `cgroup.type`; the root of the host has none.
    kind: Option<&'a str>,
    /// Who manages the host says so: `user.delegate` or `trusted.delegate`
    /// (systemd.resource-control(5)).
    marked: bool,
    /// It is all that our cgroup namespace shows: that of a container.
    whole: bool,
    /// Somebody besides us lives in it.
    shared: bool,
}

fn judge(facts: &Facts<'_>) -> Result<(), &'static str> {
    match facts {
        Facts { kind: None, .. } => Err("it is the cgroup of the whole host"),
        Facts { marked: false, whole: false, .. } => Err("our cgroup is not delegated to us"),
        Facts { shared: true, .. } => Err("others live in our cgroup"),
        // A threaded one can hold no program of its own.
        Facts { kind: Some(kind), .. } if *kind != "domain" => Err("our cgroup is threaded"),
        Facts { .. } => Ok(()),
    }
}

/// Our cgroup and what is known of it.
fn look() -> Option<(PathBuf, Facts<'static>)> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own_path(&text)?;
    let table = fs::read("/proc/thread-self/mountinfo").ok()?;
    let us = std::process::id();
    // Whichever of the places shows us is the right one: another file system may lie over it.
    let folder = places(&table, own).into_iter().find(|place| members(place).contains(&us))?;
    let facts = Facts {
        kind: read(&folder, "cgroup.type").map(|kind| match kind.trim_end() {
            "domain" => "domain",
            _ => "another",
        }),
        marked: [c"user.delegate", c"trusted.delegate"].into_iter().any(|n| is_one(&folder, n)),
        whole: own == "/",
        shared: members(&folder).iter().any(|pid| *pid != us),
    };
    Some((folder, facts))
}

/// The path in the hierarchy of version 2, in `/proc/self/cgroup`; `None` for one that was removed.
fn own_path(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    (path.starts_with('/') && !path.ends_with(" (deleted)")).then_some(path)
}

/// Where that path may be found, by the table of mounts.
fn places(table: &[u8], own: &str) -> Vec<PathBuf> {
    let mounts = mountinfo::of_type(table, "cgroup2").into_iter();
    let below = mounts.filter_map(|(root, point)| {
        let rest = Path::new(own).strip_prefix(root).ok()?;
        Some(if rest.as_os_str().is_empty() { point } else { point.join(rest) })
    });
    below.collect()
}

/// The processes of a cgroup; 0 for one that our PID namespace does not show.
fn members(folder: &Path) -> Vec<u32> {
    let text = read(folder, "cgroup.procs").unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap_or(0)).collect()
}

/// The number behind `key` in a file of keys and numbers.
fn number(text: &str, key: &str) -> Option<u64> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(name, _)| *name == key)?.1.parse().ok()
}

fn read(folder: &Path, file: &str) -> Option<String> {
    fs::read_to_string(folder.join(file)).ok()
}

/// Into a file that is there: what is none of a cgroup is not made.
fn write(folder: &Path, file: &str, text: &str) -> std::io::Result<()> {
    let mut file = fs::File::options().write(true).open(folder.join(file))?;
    file.write_all(text.as_bytes())
}

fn make(folder: &Path) -> std::io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(folder) {
        Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn remove(folder: &Path, depth: usize) -> bool {
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in below.filter(|_| depth > 0) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path(), depth.saturating_sub(1));
        }
    }
    fs::remove_dir(folder).is_ok() || !folder.exists()
}

/// Whether this extended attribute is `1`.
fn is_one(folder: &Path, name: &std::ffi::CStr) -> bool {
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return false };
    let mut value = [0_u8; 2];
    let room = value.as_mut_ptr().cast();
    // SAFETY: two strings that end, and room of the size that is named (getxattr(2)).
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), room, value.len()) };
    length == 1 && value.starts_with(b"1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_path_is_that_of_version_2() {
        let hybrid = "9:name=systemd:/a\n4:memory:/b/c\n0::/system.slice/x.service\n";
        for (text, path) in [
            ("0::/\n", Some("/")),
            ("0::/user.slice/a b\n", Some("/user.slice/a b")),
            (hybrid, Some("/system.slice/x.service")),
            ("4:memory:/b\n1:cpu,cpuacct:/\n", None),
            ("0::/gone (deleted)\n", None),
            ("0::relative\n", None),
            ("", None),
        ] {
            assert_eq!(own_path(text), path, "{text}");
        }
    }

    #[test]
    fn the_place_is_below_the_mount_of_cgroup2() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      34 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let pure = "31 23 0:28 / /sys/fs/cgroup ro,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let bound = "31 23 0:28 /docker/1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let outside = "31 23 0:28 /../.. /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let blank = "31 23 0:28 / /mnt/a\\040b rw - cgroup2 cgroup rw\n";
        let version_1 = "34 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        for (table, own, place) in [
            (hybrid, "/s/x", Some("/sys/fs/cgroup/unified/s/x")),
            (hybrid, "/", Some("/sys/fs/cgroup/unified")),
            (pure, "/s/x", Some("/sys/fs/cgroup/s/x")),
            (bound, "/docker/1/s", Some("/sys/fs/cgroup/s")),
            (bound, "/docker/10", None),
            (outside, "/", None),
            (blank, "/x", Some("/mnt/a b/x")),
            (version_1, "/", None),
            ("", "/", None),
        ] {
            let expected: Vec<PathBuf> = place.into_iter().map(PathBuf::from).collect();
            assert_eq!(places(table.as_bytes(), own), expected, "{own} in {table}");
        }
    }

    #[test]
    fn a_cgroup_is_ours_when_it_was_given_to_us_and_nobody_else_lives_in_it() {
        let ours = Facts { kind: Some("domain"), marked: true, whole: false, shared: false };
        let container = Facts { marked: false, whole: true, ..ours };
        for (facts, verdict) in [
            (ours, Ok(())),
            (container, Ok(())),
            (Facts { whole: true, ..ours }, Ok(())),
            (Facts { marked: false, ..ours }, Err("our cgroup is not delegated to us")),
            (Facts { shared: true, ..ours }, Err("others live in our cgroup")),
            (Facts { shared: true, ..container }, Err("others live in our cgroup")),
            (Facts { kind: Some("another"), ..ours }, Err("our cgroup is threaded")),
            (Facts { kind: None, ..container }, Err("it is the cgroup of the whole host")),
            (Facts { kind: None, ..ours }, Err("it is the cgroup of the whole host")),
        ] {
            assert_eq!(judge(&facts), verdict, "{facts:?}");
        }
    }

    #[test]
    fn a_number_is_found_by_its_whole_key() {
        let events = "low 0\nhigh 1\noom 5\noom_kill 2\noom_group_kill 3\n";
        assert_eq!(number(events, "oom_kill"), Some(2));
        assert_eq!(number(events, "oom"), Some(5));
        assert_eq!(number(events, "oom_k"), None);
        assert_eq!(number("populated 1\nfrozen 0\n", "populated"), Some(1));
        assert_eq!(number("populated max\n", "populated"), None);
    }
}
