//! Watches paths until they exist: by inotify(7), never by looking again and again.

use std::{collections::BTreeSet, ffi::OsString, io, os::fd::BorrowedFd, path::Path};

use crate::daemon::ground::{self, Ground, Happened, Place};

/// A path that changes under our eyes this many times in a row is looked at again later.
const ROUNDS: usize = 16;

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

/// What is watched, while anybody waits for a path.
#[derive(Default)]
pub(super) struct Files {
    ground: Ground,
    names: BTreeSet<OsString>,
}

impl Files {
    /// Looks whether `path` exists, and sees to it that its coming is told; `places` is where.
    pub(super) fn look(&mut self, path: &Path, places: &mut Vec<Place>) -> Seen {
        if ground::exists(path) {
            return Seen::There;
        }
        for _ in 0..ROUNDS {
            let found = ground::places_of(path);
            self.names.extend(found.iter().map(|place| place.name.clone()));
            let fresh = match self.ground.watch(&found, ground::changes()) {
                Ok(fresh) => fresh,
                Err(error) => return Seen::Unwatched(error.into()),
            };
            // After the watching, so that nothing comes between.
            if ground::exists(path) {
                return Seen::There;
            }
            *places = found;
            if !fresh {
                return Seen::Watched;
            }
        }
        Seen::Unwatched(io::Error::other("its directories change all the time"))
    }

    /// What to poll: the descriptor of inotify, and that of the mounts.
    pub(super) fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.ground.fds()
    }

    /// Reads what has happened; says whether a path that is waited for may exist now.
    pub(super) fn read(&mut self) -> bool {
        let all = self.ground.read();
        all.iter().any(|what| match what {
            Happened::At(place, _) => self.names.contains(&place.name),
            Happened::Anything => true,
        })
    }

    /// Watches nothing but these any more.
    pub(super) fn keep<'a>(&mut self, places: impl Iterator<Item = &'a Place>) {
        let places: Vec<_> = places.collect();
        self.names = places.iter().map(|place| place.name.clone()).collect();
        self.ground.keep(places.into_iter());
    }
}
