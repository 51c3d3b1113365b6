//! One semaphore: what is known of it, and how it is looked at.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use nix::{errno::Errno, sys::inotify::AddWatchFlags};

use super::{
    WatchId,
    standing::{astray, foreign, is_in, is_not_there, place, unknown},
};
use crate::{
    daemon::ground::{self, Ground, Place},
    model::{FileId, Info, InfoFile, Instant, Level, LockProbe, Reading, SemaphoreKind, Watched},
    sys::{
        foreign_file::{self, Astray, Spot},
        locks::{self, Written},
    },
};

/// When to look after an open, as gaps in microseconds: dense at first, since who opens mostly
/// locks at once.
const BURST: [u64; 9] = [0, 300, 400, 300, 1000, 1000, 2000, 3000, 2000];
/// And then: so often, with this gap. 10 ms are not exceeded for 0.2 s, in which a shell starts
/// what locks, and all of it is over after 4 s.
const LATER: [(usize, u64); 3] = [(27, 7000), (40, 20_000), (30, 100_000)];
/// After so many looks nobody locks any more who has closed it.
const CLOSED: usize = BURST.len() + LATER[0].0;
/// And while it is held: only a lock given back without a close is found by this.
const HELD: [u64; 4] = [100_000, 200_000, 500_000, 1_000_000];
/// Nobody who opens to lock takes longer than this from the one to the other, mostly.
const UNTRIED: Duration = Duration::from_millis(2);
/// From one try to share the lock to the next.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// From one look to the next it is at least so many times the processor time that the one took.
const REST: u32 = 4;
/// A path that is replaced under our eyes this many times in a row is looked at again later.
const ROUNDS: usize = 8;

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct One {
    pub(super) id: WatchId,
    pub(super) watched: Watched,
    /// When to look next; `None`: when the kernel tells.
    pub(super) due: Option<Instant>,
    /// The kernel does not tell.
    pub(super) unwatched: bool,
    /// Deliver the next reading, also if it is that of before.
    pub(super) asked: bool,
    /// Every directory on the way to its files.
    places: Vec<Place>,
    kept: Option<Kept>,
    /// Opens that were told, less closes.
    openers: i64,
    /// Opens and closes of our own that will be told yet.
    own: (i64, i64),
    /// The looks after an open are over: whether it is still open is to be found out.
    ended: bool,
    /// How far it is in `BURST` and `LATER`, or while held in `HELD`.
    step: usize,
    opened: Instant,
    tried: Option<Instant>,
    level: Option<Level>,
    /// /proc/locks has shown that the lock is held: so it shows its end, too.
    by_list: bool,
    info: Option<(InfoFile, u64, Arc<Info>)>,
    delivered: Option<Reading>,
}

/// The lock file, open as long as its name leads to it.
struct Kept {
    file: File,
    id: FileId,
    written: Written,
    /// The kernel keeps its locks, so /proc/locks has them.
    is_local: bool,
}

impl One {
    pub(super) fn new(watched: Watched, id: WatchId, now: Instant) -> Self {
        Self {
            id,
            watched,
            due: Some(now),
            unwatched: false,
            asked: true,
            places: Vec::new(),
            kept: None,
            openers: 0,
            own: (0, 0),
            ended: false,
            step: 0,
            opened: now,
            tried: None,
            level: None,
            by_list: false,
            info: None,
            delivered: None,
        }
    }

    /// The last part of its path.
    pub(super) fn name(&self) -> &OsStr {
        self.watched.path.file_name().unwrap_or_default()
    }

    /// What is watched for it.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Sees to it that what happens to its files is told, and to the directories on the way to
    /// them; says whether one of those is a new one.
    pub(super) fn watch(&mut self, ground: &mut Ground) -> Result<bool, Errno> {
        let mut changed = false;
        let mut watched = Err(Errno::EAGAIN);
        for _ in 0..ROUNDS {
            watched = self.watch_once(ground);
            match watched {
                // What came meanwhile in the new one is seen by another round.
                Ok(true) => changed = true,
                Ok(false) | Err(_) => break,
            }
        }
        let again = watched == Ok(true);
        self.unwatched = again || watched.is_err();
        if again { Err(Errno::EAGAIN) } else { watched.map(|_| changed) }
    }

    fn watch_once(&mut self, ground: &mut Ground) -> Result<bool, Errno> {
        self.places.clear();
        let opens = AddWatchFlags::IN_OPEN | AddWatchFlags::IN_CLOSE;
        let lock = match self.watched.kind {
            SemaphoreKind::Flock => opens,
            SemaphoreKind::File => AddWatchFlags::empty(),
        };
        let info = self.watched.info_file.iter().map(|p| (p, AddWatchFlags::IN_CLOSE_WRITE));
        let mut watched = Ok(false);
        for (path, interest) in std::iter::once((&self.watched.path, lock)).chain(info) {
            let place = place(path);
            let way = ground::places_of(&place.directory);
            let above = ground.watch(&way, ground::changes());
            let itself = ground.watch(std::slice::from_ref(&place), ground::changes() | interest);
            self.places.extend(way);
            self.places.push(place);
            watched = match (watched, above, itself) {
                (Err(e), _, _) | (_, Err(e), _) | (_, _, Err(e)) => Err(e),
                (Ok(a), Ok(b), Ok(c)) => Ok(a || b || c),
            };
        }
        watched
    }

    /// The kernel tells of this.
    pub(super) fn happened(&mut self, at: &Place, what: AddWatchFlags, now: Instant) {
        let is = |path: &Path| path.file_name() == Some(&at.name) && is_in(path, &at.directory);
        let is_change = what.intersects(ground::changes());
        if is(&self.watched.path) {
            match self.watched.kind {
                SemaphoreKind::Flock if what.contains(AddWatchFlags::IN_OPEN) => {
                    self.was_opened(now);
                }
                SemaphoreKind::Flock if what.intersects(AddWatchFlags::IN_CLOSE) => {
                    self.was_closed(now);
                }
                SemaphoreKind::File | SemaphoreKind::Flock if is_change => self.hurry(now),
                SemaphoreKind::File | SemaphoreKind::Flock => {}
            }
        } else if self.watched.info_file.as_deref().is_some_and(is) {
            // We read it ourselves, and are told of that, too.
            if is_change || what.contains(AddWatchFlags::IN_CLOSE_WRITE) {
                self.hurry(now);
            }
        } else if is_change && self.places.contains(at) {
            self.hurry(now);
        }
    }

    /// Somebody has opened the lock file, or we have.
    fn was_opened(&mut self, now: Instant) {
        if self.own.0 > 0 {
            self.own.0 -= 1;
        } else {
            self.openers = self.openers.saturating_add(1);
        }
        self.opened = now;
        self.hurry(now);
    }

    /// Somebody has closed it, or we have.
    fn was_closed(&mut self, now: Instant) {
        if self.own.1 > 0 {
            self.own.1 -= 1;
        } else {
            self.openers = self.openers.saturating_sub(1).max(0);
        }
        // The looks after the last open go on: who has it open still may lock it.
        self.due = Some(now);
    }

    /// Something has happened: looks begin anew, dense at first.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.step = 0;
        self.due = Some(now);
    }

    /// The file, once, when the looks after an open are over and it is to be found out whether
    /// others still have it open.
    pub(super) fn wonders(&mut self) -> Option<FileId> {
        let ended = std::mem::take(&mut self.ended) && !self.unwatched;
        self.kept.as_ref().filter(|_| ended).map(|kept| kept.id)
    }

    /// Whether others have it open, as far as that can be seen: else what we were told counts.
    pub(super) fn is_open(&mut self, seen: Option<bool>) {
        // What we did ourselves was told long ago.
        self.own = (0, 0);
        self.openers = match seen {
            Some(true) => self.openers.max(1),
            Some(false) => 0,
            None => self.openers,
        };
        if self.openers == 0 && self.level.is_some() {
            self.due = None;
        }
    }

    /// Looks at it; the reading, when there is one to deliver. `quiet`: nobody has opened anything
    /// since the news were read.
    pub(super) fn look(&mut self, now: Instant, quiet: &dyn Fn() -> bool) -> Option<Reading> {
        let level = match self.watched.kind {
            SemaphoreKind::File => Some(self.look_at_file()),
            SemaphoreKind::Flock => self.look_at_lock(now, quiet),
        };
        if let Some(level) = level {
            if std::mem::discriminant(&level) != self.discriminant() {
                self.step = 0;
            }
            self.level = Some(level);
        }
        self.look_at_info();
        self.plan(now);
        let reading = Reading {
            level: self.level.clone()?,
            info: self.info.as_ref().map(|(_, _, info)| Arc::clone(info)),
        };
        let news = std::mem::take(&mut self.asked) || self.delivered.as_ref() != Some(&reading);
        self.delivered = Some(reading.clone());
        news.then_some(reading)
    }

    fn discriminant(&self) -> std::mem::Discriminant<Level> {
        std::mem::discriminant(self.level.as_ref().unwrap_or(&Level::Clear))
    }

    /// When to look next.
    fn plan(&mut self, now: Instant) {
        let slow = self.watched.poll_interval.max(Duration::from_millis(100));
        let gap = match (&self.level, self.watched.kind) {
            // Of these the kernel does not tell when they pass.
            (Some(Level::Unknown(_) | Level::Foreign(_)), _) => Some(slow),
            (_, SemaphoreKind::File) => None,
            (Some(Level::Raised { .. }), _) => {
                HELD.get(self.step.min(HELD.len() - 1)).copied().map(Duration::from_micros)
            }
            _ if self.kept.is_none() => None,
            _ => {
                let is_closed = self.openers == 0 && self.step >= CLOSED && self.level.is_some();
                let gap = burst(self.step.saturating_add(1)).filter(|_| !is_closed);
                self.ended = gap.is_none();
                Some(gap.unwrap_or(slow))
            }
        };
        self.step = self.step.saturating_add(1);
        let gap = if self.unwatched { Some(gap.map_or(slow, |gap| gap.min(slow))) } else { gap };
        self.due = gap.map(|gap| now + gap);
    }

    /// Does not look again before it has rested from the processor time that the look took.
    pub(super) fn rest(&mut self, now: Instant, took: Duration) {
        let rested = now + took.saturating_mul(REST);
        self.due = self.due.map(|due| due.max(rested));
    }

    fn look_at_file(&self) -> Level {
        let path = &self.watched.path;
        let seen = Spot::reach(path).and_then(|spot| Ok(spot.look()?));
        match seen {
            Err(Astray::Failed(e)) if is_not_there(&e) => Level::Clear,
            Err(why) => astray(path, why),
            Ok(meta) => foreign(path, &meta, None).unwrap_or(Level::Raised {
                file: foreign_file::id(&meta),
                owner: meta.uid(),
                holders: Vec::new(),
            }),
        }
    }

    /// `None`: it cannot be told yet.
    fn look_at_lock(&mut self, now: Instant, quiet: &dyn Fn() -> bool) -> Option<Level> {
        let path = self.watched.path.clone();
        for _ in 0..ROUNDS {
            let spot = match Spot::reach(&path) {
                Ok(spot) => spot,
                Err(why) => {
                    self.drop_kept();
                    return Some(match &why {
                        // Its directory is not there: nobody can hold it.
                        Astray::Failed(e) if is_not_there(e) => Level::Clear,
                        Astray::Link | Astray::Failed(_) => astray(&path, why),
                    });
                }
            };
            let meta = match spot.look() {
                Ok(meta) => meta,
                Err(e) if is_not_there(&e) => match self.make(&spot, now) {
                    None => continue,
                    Some(level) => return Some(level),
                },
                Err(e) => return Some(unknown("look at", &path, &e)),
            };
            let owner = self.watched.owner.map(|owner| (owner, self.watched.mode));
            if let Some(level) = foreign(&path, &meta, owner) {
                self.drop_kept();
                return Some(level);
            }
            let id = foreign_file::id(&meta);
            if self.kept.as_ref().is_none_or(|kept| kept.id != id) {
                self.drop_kept();
                let file = match spot.open() {
                    Ok(file) => file,
                    Err(e) if is_not_there(&e) => continue,
                    Err(e) => return Some(unknown("open", &path, &e)),
                };
                if let Err(e) = self.keep(file, now) {
                    return Some(unknown("look at", &path, &e));
                }
                // It is looked at once more: what was opened may be another one by now.
                continue;
            }
            return self.look_at_kept(meta.uid(), now, quiet);
        }
        let e = io::Error::other("it is replaced all the time");
        Some(unknown("look at", &path, &e))
    }

    /// Makes the lock file, which is not there, if that is ours to do. `None`: it is made, or
    /// somebody else was faster.
    fn make(&mut self, spot: &Spot, now: Instant) -> Option<Level> {
        self.drop_kept();
        let Some(owner) = self.watched.owner else { return Some(Level::Clear) };
        match spot.make(owner, self.watched.mode.0) {
            Ok(file) => self.keep(file, now).err().map(|e| unknown("make", &self.watched.path, &e)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => None,
            // Its directory has just gone: nobody can hold it.
            Err(e) if is_not_there(&e) => Some(Level::Clear),
            Err(e) => Some(unknown("make", &self.watched.path, &e)),
        }
    }

    fn keep(&mut self, file: File, now: Instant) -> io::Result<()> {
        let id = foreign_file::id(&file.metadata()?);
        let written = Written::of(file.as_fd(), id);
        let is_local = locks::are_kept_here(file.as_fd());
        self.kept = Some(Kept { file, id, written, is_local });
        self.own.0 = self.own.0.saturating_add(1);
        // It was opened at that moment by us, and for all we know by others.
        self.opened = now;
        self.step = 0;
        self.tried = None;
        self.by_list = false;
        self.level = None;
        Ok(())
    }

    fn drop_kept(&mut self) {
        if self.kept.take().is_some() {
            self.own.1 = self.own.1.saturating_add(1);
            self.openers = 0;
        }
    }

    fn look_at_kept(
        &mut self,
        owner: u32,
        now: Instant,
        quiet: &dyn Fn() -> bool,
    ) -> Option<Level> {
        let kept = self.kept.as_ref()?;
        let listed = locks::listed(&kept.written);
        let is_listed = listed.as_ref().is_ok_and(|pids| !pids.is_empty());
        // Of a lock that it has shown it shows the end, too, whatever the file system.
        let shows_all = listed.is_ok() && locks::sees_all() && (kept.is_local || self.by_list);
        self.by_list = is_listed;
        if is_listed {
            let holders = locks::holders(&kept.written, self.name(), &self.known(listed.ok()));
            return Some(Level::Raised { file: kept.id, owner, holders });
        }
        if shows_all {
            return Some(Level::Clear);
        }
        if self.may_try(now) && quiet() {
            self.tried = Some(now);
            return Some(match locks::try_to_share(kept.file.as_fd()) {
                Ok(false) => Level::Clear,
                Ok(true) => {
                    let holders = locks::holders(&kept.written, self.name(), &self.known(None));
                    Level::Raised { file: kept.id, owner, holders }
                }
                Err(e) => unknown("look at the lock of", &self.watched.path, &e),
            });
        }
        // Between two tries, or without any: of a lock whose taker is gone, as flock(1) is in
        // `exec 9>f; flock 9`, /proc/locks says nothing in a PID namespace, but the descriptors
        // of its heirs do.
        let never = self.watched.probe == LockProbe::ProcLocks;
        if now.since(self.opened) < UNTRIED && !never {
            return None;
        }
        let holders = locks::holders(&kept.written, self.name(), &self.known(None));
        match listed {
            _ if !holders.is_empty() => Some(Level::Raised { file: kept.id, owner, holders }),
            Err(e) if never => Some(unknown("see who holds", &self.watched.path, &e)),
            _ => never.then_some(Level::Clear),
        }
    }

    /// Those who may hold it: whoever is listed, and those who have held it so far.
    fn known(&self, listed: Option<Vec<u32>>) -> Vec<u32> {
        let mut pids = listed.unwrap_or_default();
        if let Some(Level::Raised { holders, .. }) = &self.level {
            pids.extend(holders.iter().map(|holder| holder.pid));
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Whether nobody has said that its lock may be tried, and it is.
    pub(super) fn may_be_tried(&self) -> bool {
        let is_told = |kept: &Kept| kept.is_local && locks::sees_all();
        self.watched.probe == LockProbe::Auto
            && self.kept.as_ref().is_some_and(|kept| !is_told(kept))
    }

    /// Whether it is far enough from an open, and from the last try.
    fn may_try(&self, now: Instant) -> bool {
        self.watched.probe != LockProbe::ProcLocks
            && now.since(self.opened) >= UNTRIED
            && self.tried.is_none_or(|tried| now.since(tried) >= BETWEEN_TRIES)
    }

    /// Reads the info file if it is another one, or was written.
    fn look_at_info(&mut self) {
        let Some(path) = &self.watched.info_file else { return };
        let seen = Spot::reach(path).map_err(io::Error::from);
        let Ok((spot, meta)) = seen.and_then(|spot| spot.look().map(|meta| (spot, meta))) else {
            self.info = None;
            return;
        };
        let state = (foreign_file::info_file(&meta), meta.size());
        if self.info.as_ref().is_some_and(|(file, size, _)| (*file, *size) == state) {
            return;
        }
        // What is no file, or cannot be read, is none, and holds up nothing.
        self.info = spot.info().ok().map(|(file, bytes)| {
            let info = Arc::new(Info::parse(file, &bytes, &self.watched.info_keys));
            (file, meta.size(), info)
        });
    }
}

/// The gap before this look after an open.
fn burst(step: usize) -> Option<Duration> {
    let mut later = step.saturating_sub(BURST.len());
    let gap = BURST.get(step).copied().or_else(|| {
        LATER.iter().find_map(|(times, gap)| {
            let is_in = later < *times;
            later = later.saturating_sub(*times);
            is_in.then_some(*gap)
        })
    });
    gap.map(Duration::from_micros)
}
