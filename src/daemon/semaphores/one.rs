//! One semaphore: what is known of it, and how it is looked at.

use std::{
    fs::{File, Metadata},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use crate::{
    model::{FileId, Info, InfoFile, Instant, Level, Mode, Reading, SemaphoreKind, Watched},
    sys::{
        foreign_file,
        locks::{self, Written},
    },
};

/// When to look after an open, as gaps in microseconds: dense at first, since who opens mostly
/// locks at once.
const BURST: [u64; 17] = [
    0, 300, 400, 300, 1000, 1000, 2000, 3000, 2000, 10_000, 30_000, 50_000, 100_000, 200_000,
    500_000, 1_000_000, 2_000_000,
];
/// And while it is held: only a lock given back without a close is found by this.
const HELD: [u64; 4] = [100_000, 200_000, 500_000, 1_000_000];
/// Nobody who opens to lock takes longer than this from the one to the other, mostly.
const UNTRIED: Duration = Duration::from_millis(2);
/// From one try to share the lock to the next.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// A path that is replaced under our eyes this many times in a row is looked at again later.
const ROUNDS: usize = 8;

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct One {
    pub(super) watched: Watched,
    /// When to look next; `None`: when the kernel tells.
    pub(super) due: Option<Instant>,
    /// The kernel does not tell.
    pub(super) unwatched: bool,
    /// Deliver the next reading, also if it is that of before.
    pub(super) asked: bool,
    kept: Option<Kept>,
    /// Opens that were told, less closes.
    openers: i64,
    /// Opens and closes of our own that will be told yet.
    own: (i64, i64),
    /// The looks after an open are over: whether it is still open is to be found out.
    ended: bool,
    /// How far it is in `BURST`, or while held in `HELD`.
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
}

impl One {
    pub(super) fn new(watched: Watched, now: Instant) -> Self {
        Self {
            watched,
            due: Some(now),
            unwatched: false,
            asked: true,
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

    /// Somebody has opened the lock file, or we have.
    pub(super) fn was_opened(&mut self, now: Instant) {
        if self.own.0 > 0 {
            self.own.0 -= 1;
        } else {
            self.openers = self.openers.saturating_add(1);
        }
        self.opened = now;
        self.hurry(now);
    }

    /// Somebody has closed it, or we have.
    pub(super) fn was_closed(&mut self, now: Instant) {
        if self.own.1 > 0 {
            self.own.1 -= 1;
        } else {
            self.openers = self.openers.saturating_sub(1).max(0);
        }
        self.hurry(now);
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
        let micros = |gaps: &[u64], step: usize| gaps.get(step).copied().map(Duration::from_micros);
        let gap = match (&self.level, self.watched.kind) {
            // Of these the kernel does not tell when they pass.
            (Some(Level::Unknown(_) | Level::Foreign(_)), _) => Some(slow),
            (_, SemaphoreKind::File) => None,
            (Some(Level::Raised { .. }), _) => micros(&HELD, self.step.min(HELD.len() - 1)),
            _ if self.kept.is_none() => None,
            _ => {
                let gap = micros(&BURST, self.step.saturating_add(1));
                self.ended = gap.is_none();
                Some(gap.unwrap_or(slow))
            }
        };
        self.step = self.step.saturating_add(1);
        let gap = if self.unwatched { Some(gap.map_or(slow, |gap| gap.min(slow))) } else { gap };
        self.due = gap.map(|gap| now + gap);
    }

    fn look_at_file(&self) -> Level {
        let path = &self.watched.path;
        match foreign_file::look(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Level::Clear,
            Err(e) => unknown("look at", path, &e),
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
            let meta = match foreign_file::look(&path) {
                Ok(meta) => meta,
                Err(e) if is_not_there(&e) => match self.make(now) {
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
                let file = match foreign_file::open(&path) {
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
    fn make(&mut self, now: Instant) -> Option<Level> {
        self.drop_kept();
        let Some(owner) = self.watched.owner else { return Some(Level::Clear) };
        match foreign_file::make(&self.watched.path, owner, self.watched.mode.0) {
            Ok(file) => self.keep(file, now).err().map(|e| unknown("make", &self.watched.path, &e)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => None,
            // Its directory is not there yet: nobody can hold it.
            Err(e) if is_not_there(&e) => Some(Level::Clear),
            Err(e) => Some(unknown("make", &self.watched.path, &e)),
        }
    }

    fn keep(&mut self, file: File, now: Instant) -> io::Result<()> {
        let id = foreign_file::id(&file.metadata()?);
        let written = Written::of(file.as_fd(), id);
        self.kept = Some(Kept { file, id, written });
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
        let by_list = listed.as_ref().is_ok_and(|pids| !pids.is_empty());
        let held = if by_list {
            self.by_list = true;
            true
        } else if self.by_list && listed.is_ok() && locks::sees_all() {
            self.by_list = false;
            false
        } else if self.may_try(now) && quiet() {
            self.tried = Some(now);
            self.by_list = false;
            match locks::try_to_share(kept.file.as_fd()) {
                Ok(held) => held,
                Err(e) => return Some(unknown("look at the lock of", &self.watched.path, &e)),
            }
        } else {
            return self.inherited(owner, now);
        };
        if !held {
            return Some(Level::Clear);
        }
        let holders = locks::holders(&kept.written, &listed.unwrap_or_default());
        Some(Level::Raised { file: kept.id, owner, holders })
    }

    /// Between two tries: in a PID namespace /proc/locks says nothing of a lock whose taker is
    /// gone, as flock(1) is in `exec 9>f; flock 9`, but the descriptors of its heirs do.
    fn inherited(&self, owner: u32, now: Instant) -> Option<Level> {
        let since = now.since(self.opened);
        let kept = self.kept.as_ref()?;
        if since < UNTRIED || since > BETWEEN_TRIES || locks::sees_all() {
            return None;
        }
        let holders = locks::holders(&kept.written, &[]);
        (!holders.is_empty()).then_some(Level::Raised { file: kept.id, owner, holders })
    }

    /// Whether it is far enough from an open, and from the last try.
    fn may_try(&self, now: Instant) -> bool {
        now.since(self.opened) >= UNTRIED
            && self.tried.is_none_or(|tried| now.since(tried) >= BETWEEN_TRIES)
    }

    /// Reads the info file if it is another one, or was written.
    fn look_at_info(&mut self) {
        let Some(path) = &self.watched.info_file else { return };
        let Ok(meta) = foreign_file::look(path) else {
            self.info = None;
            return;
        };
        let state = (foreign_file::info_file(&meta), meta.size());
        if self.info.as_ref().is_some_and(|(file, size, _)| (*file, *size) == state) {
            return;
        }
        // What is no file, or cannot be read, is none, and holds up nothing.
        self.info = foreign_file::info(path).ok().map(|(file, bytes)| {
            let info = Arc::new(Info::parse(file, &bytes, &self.watched.info_keys));
            (file, meta.size(), info)
        });
    }
}

fn is_not_there(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound
}

fn unknown(doing: &str, path: &Path, e: &io::Error) -> Level {
    Level::Unknown(format!("cannot {doing} {}: {e}", path.display()).into())
}

/// What stands there is no semaphore, and why; `owner` and mode only where they are declared.
fn foreign(path: &Path, meta: &Metadata, owner: Option<((u32, u32), Mode)>) -> Option<Level> {
    let why = wrong(meta, owner)?;
    Some(Level::Foreign(format!("{} is not to be trusted: {why}", path.display()).into()))
}

/// Why this is no file by which somebody could ask; with an owner and a mode, those that are
/// declared for it.
#[must_use]
pub fn wrong(meta: &Metadata, owner: Option<((u32, u32), Mode)>) -> Option<String> {
    if let Some(what) = foreign_file::strange(meta) {
        return Some(format!("it is {what}"));
    }
    if meta.nlink() > 1 {
        return Some(format!("it has {} names", meta.nlink()));
    }
    // Whoever may open it may hold it.
    let ((uid, gid), mode) = owner?;
    let wider = meta.mode() & 0o077 & !mode.0;
    if meta.uid() != uid {
        Some(format!("it belongs to uid {}, not to uid {uid}", meta.uid()))
    } else if wider != 0 {
        Some(format!("its mode {} is wider than {mode}", Mode(meta.mode() & 0o7777)))
    } else if meta.mode() & 0o070 != 0 && meta.gid() != gid {
        Some(format!("it is open to gid {}, not to gid {gid}", meta.gid()))
    } else {
        None
    }
}
