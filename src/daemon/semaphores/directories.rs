//! What happens in the directories of the semaphores, as inotify(7) tells it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};

/// A path that changes under our eyes this many times in a row is looked at again later.
const ROUNDS: usize = 16;

/// News of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Somebody has opened it.
    Opened,
    /// Somebody has closed it, and nobody has that descriptor any more. True: it was written.
    Closed(bool),
    /// It came, went, or changed its owner, mode or number of names.
    Changed,
}

/// News.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Of this path.
    Of(PathBuf, What),
    /// Anything may have happened.
    Everything,
}

/// The inotify instance, open while there is a semaphore.
#[derive(Default)]
pub(super) struct Directories {
    inotify: Option<Inotify>,
    /// Becomes readable when a file system is mounted over a directory, `proc_pid_mountinfo(5)`.
    mounts: Option<File>,
    watches: BTreeMap<PathBuf, WatchDescriptor>,
    grown: bool,
}

impl Directories {
    /// Sees to it that what happens to `path` is told: by its directory, or by the nearest one
    /// above it that is there.
    pub(super) fn watch(&mut self, path: &Path) -> Result<(), Errno> {
        if self.mounts.is_none() {
            // Without /proc only mounts go unnoticed.
            self.mounts = File::open("/proc/thread-self/mountinfo").ok();
        }
        for _ in 0..ROUNDS {
            let directory = nearest(path);
            if self.watches.contains_key(directory) {
                return Ok(());
            }
            let inotify = match &mut self.inotify {
                Some(inotify) => inotify,
                none => none.insert(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?),
            };
            match inotify.add_watch(directory, interest()) {
                // The next round sees whether the one below has come meanwhile.
                Ok(watch) => {
                    self.watches.insert(directory.to_owned(), watch);
                    self.grown = true;
                }
                // It has just gone.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Whether a directory is watched that was not when last asked: one above it may be needless.
    pub(super) fn has_grown(&mut self) -> bool {
        std::mem::take(&mut self.grown)
    }

    /// What to poll: the descriptor of inotify, and that of the mounts.
    pub(super) fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [self.inotify.as_ref().map(AsFd::as_fd), self.mounts.as_ref().map(AsFd::as_fd)]
    }

    /// Reads what has happened.
    pub(super) fn read(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        while let Some(events) = self.inotify.as_ref().and_then(|i| i.read_events().ok()) {
            for event in events {
                let mask = event.mask;
                if mask.intersects(lost()) {
                    if self.lose(event.wd) {
                        news.push(News::Everything);
                    }
                } else if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    news.push(News::Everything);
                } else if let Some(name) = event.name {
                    let what = what(mask);
                    let directories = self.watches.iter().filter(|(_, wd)| **wd == event.wd);
                    let paths = directories.map(|(directory, _)| directory.join(&name));
                    news.extend(paths.map(|path| News::Of(path, what)));
                }
            }
        }
        news
    }

    /// A file system was mounted or unmounted: a watch may be on what now lies below it.
    pub(super) fn remounted(&mut self) {
        for watch in std::mem::take(&mut self.watches).into_values() {
            self.unwatch(watch);
        }
    }

    /// Watches nothing but what these paths need any more.
    pub(super) fn keep<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        let needed: BTreeSet<PathBuf> = paths.map(|path| nearest(path).to_owned()).collect();
        if needed.is_empty() {
            *self = Self::default();
            return;
        }
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.watches)
            .into_iter()
            .partition(|(directory, _)| needed.contains(directory));
        self.watches = kept;
        for watch in gone.into_values() {
            // Two paths of one directory share their watch.
            if !self.watches.values().any(|kept| *kept == watch) {
                self.unwatch(watch);
            }
        }
    }

    /// The directory is gone, or has another name; whether it was watched.
    fn lose(&mut self, watch: WatchDescriptor) -> bool {
        let before = self.watches.len();
        self.watches.retain(|_, other| *other != watch);
        let known = self.watches.len() != before;
        if known {
            self.unwatch(watch);
        }
        known
    }

    fn unwatch(&self, watch: WatchDescriptor) {
        if let Some(inotify) = &self.inotify {
            // Gone already when its directory is.
            inotify.rm_watch(watch).unwrap_or_default();
        }
    }
}

/// The directory of `path`, or the nearest one above it that is there.
fn nearest(path: &Path) -> &Path {
    let above = path.ancestors().skip(1);
    above.into_iter().find(|path| path.is_dir()).unwrap_or(Path::new("/"))
}

fn interest() -> AddWatchFlags {
    AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_OPEN
        | AddWatchFlags::IN_CLOSE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
}

/// After these the watch is of no use.
fn lost() -> AddWatchFlags {
    AddWatchFlags::IN_IGNORED
        | AddWatchFlags::IN_UNMOUNT
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
}

fn what(mask: AddWatchFlags) -> What {
    if mask.contains(AddWatchFlags::IN_OPEN) {
        What::Opened
    } else if mask.intersects(AddWatchFlags::IN_CLOSE) {
        What::Closed(mask.contains(AddWatchFlags::IN_CLOSE_WRITE))
    } else {
        What::Changed
    }
}

/// The name of a path in its directory.
pub(super) fn name(path: &Path) -> OsString {
    path.file_name().unwrap_or_default().to_owned()
}
