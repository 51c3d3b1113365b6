//! Watches paths until they exist: by inotify(7), never by looking again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};

/// More symbolic links than `path_resolution(7)` follows are not followed by us either.
const LINKS_MAX: usize = 40;
/// A path that changes under our eyes this many times in a row is looked at again later.
const ROUNDS: usize = 16;

/// A name in a directory whose coming may make a path exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    directory: PathBuf,
    name: OsString,
}

/// What a look at a path showed.
#[derive(Debug)]
pub(super) enum Seen {
    /// It exists.
    There,
    /// It does not, and we are told when that changes.
    Watched,
    /// It does not, and somebody has to look again.
    Unwatched(io::Error),
}

/// The inotify instance, open while anybody waits for a path.
#[derive(Default)]
pub(super) struct Files {
    inotify: Option<Inotify>,
    /// Becomes readable when a file system is mounted over a directory, `proc_pid_mountinfo(5)`.
    mounts: Option<File>,
    watches: BTreeMap<PathBuf, WatchDescriptor>,
    names: BTreeSet<OsString>,
}

impl Files {
    /// Looks whether `path` exists, and sees to it that its coming is told; `places` is where.
    pub(super) fn look(&mut self, path: &Path, places: &mut Vec<Place>) -> Seen {
        if exists(path) {
            return Seen::There;
        }
        for _ in 0..ROUNDS {
            let found = places_of(path);
            self.names.extend(found.iter().map(|place| place.name.clone()));
            let fresh = match self.watch(&found) {
                Ok(fresh) => fresh,
                Err(error) => return Seen::Unwatched(error.into()),
            };
            // After the watching, so that nothing comes between.
            if exists(path) {
                return Seen::There;
            }
            *places = found;
            if !fresh {
                return Seen::Watched;
            }
        }
        Seen::Unwatched(io::Error::other("its directories change all the time"))
    }

    /// Watches the directories of `places`; says whether one of them was not watched before.
    fn watch(&mut self, places: &[Place]) -> Result<bool, Errno> {
        if self.mounts.is_none() {
            // Without /proc only mounts go unnoticed.
            self.mounts = File::open("/proc/thread-self/mountinfo").ok();
        }
        let inotify = match &mut self.inotify {
            Some(inotify) => inotify,
            none => none.insert(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?),
        };
        let mut fresh = false;
        for Place { directory, .. } in places {
            if self.watches.contains_key(directory) {
                continue;
            }
            match inotify.add_watch(directory, interest()) {
                Ok(watch) => {
                    self.watches.insert(directory.clone(), watch);
                    fresh = true;
                }
                // It has just gone, which is told by its parent, watched before it.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(fresh)
    }

    /// What to poll: the descriptor of inotify, and that of the mounts.
    pub(super) fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [self.inotify.as_ref().map(AsFd::as_fd), self.mounts.as_ref().map(AsFd::as_fd)]
    }

    /// Reads what has happened; says whether a path that is waited for may exist now.
    pub(super) fn read(&mut self) -> bool {
        let mut relevant = false;
        while let Some(events) = self.inotify.as_ref().and_then(|i| i.read_events().ok()) {
            for event in events {
                // Only what concerns the directory itself, and an overflow, has no name.
                let itself = event.name.is_none();
                relevant |= event.name.is_none_or(|name| self.names.contains(&name));
                if itself {
                    self.watches.retain(|_, watch| *watch != event.wd);
                    self.unwatch(event.wd);
                }
            }
        }
        relevant
    }

    /// A file system was mounted or unmounted: a watch may be on what now lies below it.
    pub(super) fn remounted(&mut self) {
        for watch in std::mem::take(&mut self.watches).into_values() {
            self.unwatch(watch);
        }
    }

    /// Watches nothing but these any more.
    pub(super) fn keep<'a>(&mut self, places: impl Iterator<Item = &'a Place>) {
        let mut directories = BTreeSet::new();
        self.names.clear();
        for place in places {
            directories.insert(&place.directory);
            self.names.insert(place.name.clone());
        }
        if directories.is_empty() {
            *self = Self::default();
            return;
        }
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.watches)
            .into_iter()
            .partition(|(directory, _)| directories.contains(directory));
        self.watches = kept;
        for watch in gone.into_values() {
            // Two paths of one directory share their watch.
            if !self.watches.values().any(|kept| *kept == watch) {
                self.unwatch(watch);
            }
        }
    }

    fn unwatch(&self, watch: WatchDescriptor) {
        if let Some(inotify) = &self.inotify {
            // Gone already when its directory is.
            inotify.rm_watch(watch).unwrap_or_default();
        }
    }
}

fn interest() -> AddWatchFlags {
    AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
}

/// A link that leads nowhere does not exist.
fn exists(path: &Path) -> bool {
    path.metadata().is_ok()
}

/// Every existing directory on the way to `path`, links followed, with the next name in it.
///
/// All of them and not the last one alone, because a directory above may be renamed, or a link
/// switched to another release, without a word to those who watch what is below.
fn places_of(path: &Path) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let mut ways = vec![path.to_owned()];
    let mut links = 0;
    while let Some(way) = ways.pop() {
        let mut at = PathBuf::new();
        for part in way.components() {
            let Component::Normal(name) = part else {
                at.push(part);
                continue;
            };
            let place = Place { directory: at.clone(), name: name.to_owned() };
            if !places.contains(&place) {
                places.push(place);
            }
            let directory = at.clone();
            at.push(name);
            if at.is_symlink() && links < LINKS_MAX {
                links += 1;
                ways.extend(at.read_link().ok().map(|target| directory.join(target)));
            }
            if !exists(&at) {
                break;
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_on_the_way_is_a_place_and_so_is_the_target_of_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("release-1")).unwrap();
        std::os::unix::fs::symlink("release-1", root.join("current")).unwrap();
        let all = places_of(&root.join("current/bin/web"));
        let below: Vec<_> = all
            .iter()
            .filter_map(|p| Some((p.directory.strip_prefix(root).ok()?, p.name.to_str()?)))
            .collect();
        let expected = [("", "current"), ("current", "bin"), ("", "release-1")]
            .map(|(d, n)| (Path::new(d), n));
        assert_eq!(below, expected);
        assert_eq!(all.first().map(|p| p.directory.as_path()), Some(Path::new("/")));
    }
}
