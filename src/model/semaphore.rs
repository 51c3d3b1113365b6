//! Semaphores: locks and files that ask for something, and what is seen of them.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{HostEnd, Mode, Name, RateLimit, Window};

/// What to look at, and what of it matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Lock or file.
    pub kind: SemaphoreKind,
    /// Where it is, absolute.
    pub path: PathBuf,
    /// Who asks and why, written by the signaller.
    pub info_file: Option<PathBuf>,
    /// Names of ours for keys of the info file: `name` for `Demandé par`.
    pub info_keys: BTreeMap<Box<str>, Box<str>>,
    /// Looked at so often where the kernel tells of no change.
    pub poll_interval: Duration,
    /// The lock file is made with this owner and group, unless it is there; `None`: not made.
    pub owner: Option<(u32, u32)>,
    /// And with this mode.
    pub mode: Mode,
    /// How it is found out whether somebody holds the lock.
    pub probe: LockProbe,
}

/// How it is found out whether somebody holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockProbe {
    /// /proc/locks says it, and only where that may hide something the lock is tried: to share it
    /// for less than a microsecond. That it is so is said once.
    Auto,
    /// What /proc shows, and nothing else: the lock is never touched.
    ProcLocks,
    /// As `Auto`; that the lock may be tried is meant, and not said.
    TryLock,
}

/// What means "raised".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SemaphoreKind {
    /// An exclusive flock(2) that somebody holds.
    Flock,
    /// A file that is there.
    File,
}

impl SemaphoreKind {
    /// As in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flock => "flock",
            Self::File => "file",
        }
    }
}

/// What is seen of a semaphore at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Of its lock, or of the file.
    pub level: Level,
    /// Of the info file, when it is there and can be trusted to be one.
    pub info: Option<Arc<Info>>,
}

/// Whether it is raised. What cannot be told never counts as raised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// Nobody holds the lock; the file is not there.
    Clear,
    /// Somebody holds the lock exclusively; the file is there.
    Raised {
        /// Which file: device and inode. Another file is another request.
        file: FileId,
        /// Who owns the file: with [`SemaphoreKind::File`] the one who asks.
        owner: u32,
        /// Those that hold it. Empty when nobody can be named: gone, or in another PID namespace.
        holders: Vec<Holder>,
    },
    /// It cannot be told, and why.
    Unknown(Arc<str>),
    /// In its place stands something that is none: a link, a directory, another user's file. An
    /// alarm, and never a request.
    Foreign(Arc<str>),
}

/// A file, whatever its name (stat(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId {
    /// The device.
    pub device: u64,
    /// The inode.
    pub inode: u64,
}

/// A process that holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its pid.
    pub pid: u32,
    /// Its start, in ticks since boot: with the pid, its identity.
    pub start_time: u64,
    /// Real, effective, saved and file system user (`Uid:` in `proc_pid_status(5)`). A request
    /// needs all of them to be allowed: one that runs sudo with the lock open has some of root.
    pub uids: [u32; 4],
    /// Its groups, real, effective, saved, file system first, then the others.
    pub gids: Vec<u32>,
    /// Its command line, escaped and cut.
    pub command: Arc<str>,
}

/// What an info file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Which file, and when it was written (nanoseconds of its mtime): a newer one is news.
    pub file: FileId,
    /// When it was written.
    pub modified_ns: i128,
    /// Who owns it.
    pub uid: u32,
    /// Nobody else may write it: regular, one name, neither group- nor world-writable.
    pub is_private: bool,
    /// Its `Key: value` lines, under our names where there are such, in their order; escaped.
    pub fields: Vec<(Box<str>, Box<str>)>,
    /// What was wrong with it: cut, not UTF-8, lines without a colon.
    pub damage: Option<Arc<str>>,
}

/// The name of a semaphore and a reading of it.
pub type Seen = (Name, Reading);

/// An item of `semaphores`, with all values resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Semaphore {
    /// What it is called.
    pub name: Name,
    /// For people.
    pub description: Option<Box<str>>,
    /// What is looked at.
    pub watched: Arc<Watched>,
    /// Who may raise it; root and the supervisor's own user are among them.
    pub allow: Who,
    /// A fresh info file of somebody allowed counts although its writer is gone.
    pub latch: bool,
    /// It must have been raised for so long.
    pub debounce: Duration,
    /// And then so long again, in which it can be cancelled.
    pub delay: Duration,
    /// Nothing is done before the supervisor has been up for so long.
    pub min_uptime: Duration,
    /// Only then, in local time; empty: at any time.
    pub windows: Box<[Window]>,
    /// How often at the most.
    pub rate_limit: Option<RateLimit>,
    /// The lock and the info file are removed once the request is accepted.
    pub removes: bool,
    /// What is done instead, by what the info file says: the first that fits.
    pub cases: Box<[Case]>,
    /// What is done.
    pub deed: Deed,
}

impl Semaphore {
    /// The ways in which it may end the host.
    pub fn ends_of_host(&self) -> impl Iterator<Item = &HostEnd> {
        let deeds = self.cases.iter().map(|case| &case.deed).chain([&self.deed]);
        deeds.filter_map(|deed| match deed {
            Deed::EndHost(end) => Some(&**end),
            Deed::Restart(_) | Deed::Stop(_) | Deed::Reload | Deed::Nothing => None,
        })
    }

    /// Its rate limit, where that has to outlive the host's end.
    #[must_use]
    pub fn outlives(&self) -> Option<RateLimit> {
        self.rate_limit.filter(|_| self.ends_of_host().next().is_some())
    }
}

/// An item of `cases`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Fields of the info file, by our names, and what they must say; all of them. Never empty.
    pub when: Box<[(Box<str>, Box<str>)]>,
    /// What is done.
    pub deed: Deed,
}

/// Users and groups, as ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Users.
    pub users: Box<[u32]>,
    /// Groups.
    pub groups: Box<[u32]>,
}

/// What a raised semaphore has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// This program is started again.
    Restart(Name),
    /// This program is stopped.
    Stop(Name),
    /// The site file is read again.
    Reload,
    /// The host goes down.
    EndHost(Arc<HostEnd>),
    /// Nothing: it is a lock, by which scripts exclude each other.
    Nothing,
}

impl std::fmt::Display for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Restart(name) => write!(f, "restart:{name}"),
            Self::Stop(name) => write!(f, "stop:{name}"),
            Self::Reload => f.write_str("reload"),
            Self::EndHost(end) => write!(f, "{}", end.goal),
            Self::Nothing => f.write_str("none"),
        }
    }
}
