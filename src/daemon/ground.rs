//! Directories that inotify(7) watches, so that what happens to a path is told, whatever becomes of
//! the directories on the way to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};

/// More symbolic links than `path_resolution(7)` follows are not followed by us either.
const LINKS_MAX: usize = 40;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The directory.
    pub(super) directory: PathBuf,
    /// The name in it.
    pub(super) name: OsString,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// This, at this place.
    At(Place, AddWatchFlags),
    /// A directory has gone, or so much has happened that the kernel could not keep it: anything.
    Anything,
}

/// The inotify instance, open while anything is watched.
#[derive(Default)]
pub(super) struct Ground {
    inotify: Option<Inotify>,
    /// Becomes readable when a file system is mounted over a directory, `proc_pid_mountinfo(5)`.
    mounts: Option<File>,
    watches: BTreeMap<PathBuf, WatchDescriptor>,
}

impl Ground {
    /// Watches the directories of `places`; says whether one of them was not watched before.
    ///
    /// Each is asked for again each time: the kernel gives another number for another directory.
    /// One that is removed while somebody has it open, or a file of it, is told to nobody
    /// (`fsnotify` waits for the last close), and another one may bear its name since.
    ///
    /// # Errors
    /// The first of inotify(7); whatever else can be watched is watched.
    pub(super) fn watch(
        &mut self,
        places: &[Place],
        interest: AddWatchFlags,
    ) -> Result<bool, Errno> {
        if self.mounts.is_none() {
            // Without /proc only mounts go unnoticed.
            self.mounts = File::open("/proc/thread-self/mountinfo").ok();
        }
        let inotify = match &mut self.inotify {
            Some(inotify) => inotify,
            none => none.insert(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?),
        };
        // What is wanted of one path is not taken from another one.
        let more = AddWatchFlags::from_bits_retain(libc::IN_MASK_ADD);
        let (mut fresh, mut failed) = (false, None);
        let mut replaced = Vec::new();
        for Place { directory, .. } in places {
            match inotify.add_watch(directory, interest | AddWatchFlags::IN_ONLYDIR | more) {
                Ok(watch) => match self.watches.insert(directory.clone(), watch) {
                    Some(old) if old == watch => {}
                    old => {
                        fresh = true;
                        replaced.extend(old);
                    }
                },
                // It has just gone, which is told by its parent, watched before it.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => failed = failed.or(Some(errno)),
            }
        }
        for watch in replaced {
            self.unwatch(watch);
        }
        failed.map_or(Ok(fresh), Err)
    }

    /// What to poll: the descriptor of inotify, and that of the mounts.
    pub(super) fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [self.inotify.as_ref().map(AsFd::as_fd), self.mounts.as_ref().map(AsFd::as_fd)]
    }

    /// Reads what has happened.
    pub(super) fn read(&mut self) -> Vec<Happened> {
        let mut all = Vec::new();
        while let Some(events) = self.inotify.as_ref().and_then(|i| i.read_events().ok()) {
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    all.push(Happened::Anything);
                } else if let Some(name) = event.name {
                    let directories = self.watches.iter().filter(|(_, wd)| **wd == event.wd);
                    let places = directories.map(|(directory, _)| Place {
                        directory: directory.clone(),
                        name: name.clone(),
                    });
                    all.extend(places.map(|place| Happened::At(place, event.mask)));
                } else if event.mask.intersects(over()) && self.lose(event.wd) {
                    all.push(Happened::Anything);
                }
            }
        }
        all
    }

    /// Watches nothing but the directories of these any more.
    pub(super) fn keep<'a>(&mut self, places: impl Iterator<Item = &'a Place>) {
        let needed: BTreeSet<&Path> = places.map(|place| &*place.directory).collect();
        if needed.is_empty() {
            *self = Self::default();
            return;
        }
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.watches)
            .into_iter()
            .partition(|(directory, _)| needed.contains(&**directory));
        self.watches = kept;
        for watch in gone.into_values() {
            self.unwatch(watch);
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
        // Two paths of one directory share their watch.
        let needed = self.watches.values().any(|other| *other == watch);
        if let Some(inotify) = self.inotify.as_ref().filter(|_| !needed) {
            // Gone already when its directory is.
            inotify.rm_watch(watch).unwrap_or_default();
        }
    }
}

/// What may make a path another one.
pub(super) fn changes() -> AddWatchFlags {
    AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
}

/// After these the watch is of no use.
fn over() -> AddWatchFlags {
    AddWatchFlags::IN_IGNORED
        | AddWatchFlags::IN_UNMOUNT
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
}

/// A link that leads nowhere does not exist.
pub(super) fn exists(path: &Path) -> bool {
    path.metadata().is_ok()
}

/// Every existing directory on the way to `path`, links followed, with the next name in it.
///
/// All of them and not the last one alone, because a directory above may be renamed, or a link
/// switched to another release, without a word to those who watch what is below.
pub(super) fn places_of(path: &Path) -> Vec<Place> {
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

    #[test]
    fn a_directory_that_bears_the_name_of_one_that_somebody_has_open_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::create_dir(&path).unwrap();
        let mut ground = Ground::default();
        let places = [Place { directory: path.clone(), name: "file".into() }];
        assert_eq!(ground.watch(&places, changes()), Ok(true));
        assert_eq!(ground.watch(&places, changes()), Ok(false));
        let open = File::open(&path).unwrap();
        std::fs::remove_dir(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(ground.watch(&places, changes()), Ok(true));
        File::create(path.join("file")).unwrap();
        let told = ground.read();
        let [place] = &places;
        assert!(told.contains(&Happened::At(place.clone(), AddWatchFlags::IN_CREATE)), "{told:?}");
        drop(open);
    }
}
