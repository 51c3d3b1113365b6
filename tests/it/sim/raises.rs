//! I-16: what a semaphore asks for is done at most once for each raise, by nobody who may not, in
//! its time. The judge knows each raise by the number that the world gave it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use mini_supervisor::engine::State;
use mini_supervisor::model::{
    Deed, Dependency, Instant, Name, RateLimit, Semaphore, SemaphoreKind, Target, Watched,
};
use mini_supervisor::plan::ProgramId;

use super::{
    semaphores::{Sample, Somebody},
    world::World,
};

/// What is written so long after a raise was served is another one, by the manual.
const TRAIL: Duration = Duration::from_secs(5);

/// What is known of a semaphore that is looked at.
#[derive(Debug, Default)]
pub(super) struct Book {
    path: PathBuf,
    is_file: bool,
    /// What was delivered last.
    last: Option<Sample>,
    /// It could be told once what is there.
    met: bool,
    /// Since when somebody asks who was not served yet.
    since: Option<Instant>,
    /// Raises that were served or cancelled by hand, and when.
    over: BTreeMap<u64, Instant>,
    /// Files that were there before it was looked at, and writes that belong to what is over.
    old: BTreeSet<u64>,
    /// When it was done, under the present limit.
    acts: Vec<Instant>,
    limit: Option<RateLimit>,
}

/// What asks.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Raise(u64),
    Info { raise: u64, write: u64 },
}

/// Whether this one may hold the lock.
fn may_hold(of: &Semaphore, who: Somebody) -> bool {
    match who {
        Somebody::Root => true,
        Somebody::Bot => of.allow.users.contains(&1000),
        Somebody::Member => of.allow.groups.contains(&20),
        Somebody::Stranger | Somebody::Elevated | Somebody::Shared | Somebody::Nobody => false,
    }
}

/// Whether a file of this one counts; the group of a file says nothing.
fn may_own(of: &Semaphore, who: Somebody) -> bool {
    match who {
        Somebody::Root => true,
        Somebody::Bot | Somebody::Shared => of.allow.users.contains(&1000),
        Somebody::Member | Somebody::Stranger | Somebody::Elevated | Somebody::Nobody => false,
    }
}

/// What asks for something by this sample.
fn asks(of: &Semaphore, sample: &Sample) -> Option<Ask> {
    if !sample.certain {
        return None;
    }
    if let Some((raise, who)) = sample.raised {
        let may = match of.watched.kind {
            SemaphoreKind::Flock => may_hold(of, who),
            SemaphoreKind::File => may_own(of, who),
        };
        return may.then_some(Ask::Raise(raise));
    }
    let info = sample.info.filter(|info| of.latch && info.private && may_own(of, info.by))?;
    Some(Ask::Info { raise: info.raise, write: info.write })
}

impl Book {
    /// Whether that was not served yet.
    fn is_open(&self, ask: Ask, now: Instant) -> bool {
        match ask {
            Ask::Raise(raise) => !self.over.contains_key(&raise) && !self.old.contains(&raise),
            Ask::Info { raise, write } => {
                let trails = self.over.get(&raise).is_some_and(|at| now - *at < TRAIL);
                !trails && !self.old.contains(&write)
            }
        }
    }

    fn take(&mut self, of: Option<&Semaphore>, sample: Sample, now: Instant) {
        if let Some(info) = sample.info {
            let trails = self.over.get(&info.raise).is_some_and(|at| now - *at < TRAIL);
            if !self.met || trails {
                self.old.insert(info.write);
            }
        }
        if let (Some((raise, _)), true, false) = (sample.raised, self.is_file, self.met) {
            self.old.insert(raise);
        }
        self.met |= sample.certain;
        self.last = Some(sample);
        self.ask(of, now);
    }

    fn ask(&mut self, of: Option<&Semaphore>, now: Instant) {
        let ask = of.zip(self.last.as_ref()).and_then(|(of, sample)| asks(of, sample));
        self.since = ask.filter(|ask| self.is_open(*ask, now)).map(|_| self.since.unwrap_or(now));
    }

    /// What was seen last is over.
    fn settle(&mut self, now: Instant) {
        let Some(sample) = &self.last else { return };
        let by_info = || sample.info.filter(|_| sample.certain).map(|info| info.raise);
        if let Some(raise) = sample.raised.map(|(raise, _)| raise).or_else(by_info) {
            self.over.insert(raise, now);
        }
        self.old.extend(sample.info.map(|info| info.write));
        self.since = None;
    }
}

impl World {
    /// It is looked at from now on. Of another file nothing is known; how often something was
    /// done stays known.
    pub(super) fn arms(&mut self, key: &Name, watched: &Watched) {
        let book = self.semaphores.books.entry(key.clone()).or_default();
        let is_file = watched.kind == SemaphoreKind::File;
        if book.path != watched.path || book.is_file != is_file {
            let acts = std::mem::take(&mut book.acts);
            let (path, limit) = (watched.path.clone(), book.limit);
            *book = Book { path, is_file, acts, limit, ..Book::default() };
        }
    }

    /// A reading of it is delivered.
    pub(super) fn before_seen(&mut self, key: &Name) {
        let Some(sample) = self.delivered(key) else { return };
        let of = self.site.semaphores.get(key).cloned();
        if let Some(book) = self.semaphores.books.get_mut(key) {
            book.take(of.as_deref(), sample, self.now);
        }
        self.bound_by(key);
    }

    /// Those that cannot run beside it are stopped, and start again for a good reason.
    fn bound_by(&mut self, key: &Name) {
        if self.is_held(key) {
            let bound: Vec<ProgramId> =
                self.ids.values().filter(|id| self.requires_lock(**id, key)).copied().collect();
            self.excuse(bound);
        }
    }

    fn requires_lock(&self, id: ProgramId, key: &Name) -> bool {
        let target = Target::Semaphore(key.clone());
        self.settings(id).is_some_and(|of| of.requires.iter().any(|d| d.target == target))
    }

    fn is_held(&self, key: &Name) -> bool {
        let Some(of) = self.site.semaphores.get(key) else { return false };
        let last = self.semaphores.books.get(key).and_then(|book| book.last.as_ref());
        last.is_some_and(|last| matches!(asks(of, last), Some(Ask::Raise(_))))
    }

    /// Somebody cancels it by hand.
    pub(super) fn cancelled(&mut self, key: &Name) {
        if let Some(book) = self.semaphores.books.get_mut(key) {
            book.settle(self.now);
        }
    }

    /// The semaphore that has to be free for it, and is not: the first.
    pub(super) fn locked(&self, id: ProgramId) -> Option<Name> {
        let of = self.settings(id)?;
        of.requires.iter().find_map(|d| match &d.target {
            Target::Semaphore(key) => (!self.is_free(key)).then(|| key.clone()),
            _ => None,
        })
    }

    /// Whether it has to do with a semaphore at all.
    pub(super) fn has_lock(&self, id: ProgramId) -> bool {
        let lock = |d: &Dependency| matches!(d.target, Target::Semaphore(_));
        self.settings(id).is_some_and(|of| of.requires.iter().chain(&of.wants).any(lock))
    }

    /// Whether nobody who may holds it, as far as that was told; one that is gone is free.
    fn is_free(&self, key: &Name) -> bool {
        let Some(of) = self.site.semaphores.get(key) else { return true };
        let Some(last) = self.semaphores.books.get(key).and_then(|book| book.last.as_ref()) else {
            return false;
        };
        last.certain && !matches!(asks(of, last), Some(Ask::Raise(_)))
    }

    /// I-22: who requires a semaphore that is raised is told to stop.
    pub(super) fn judge_beside(&mut self, key: &Name) {
        let goes_on = |id: &&ProgramId| {
            let slot = self.engine.slot(**id);
            let runs = slot.is_some_and(|slot| matches!(slot.state, State::Running { .. }));
            runs && self.requires_lock(**id, key)
        };
        let held = self.is_held(key);
        let found = self.ids.values().find(goes_on).copied().filter(|_| held);
        if self.stopping.is_none() {
            self.hold(22, found.is_none(), || format!("{found:?} runs beside {key}"));
        }
    }

    /// The site has other settings for them.
    pub(super) fn other_semaphores(&mut self) {
        let (now, site) = (self.now, &self.site);
        for (key, book) in &mut self.semaphores.books {
            let of = site.semaphores.get(key).map(|of| &**of);
            let limit = of.and_then(|of| of.rate_limit);
            if book.limit != limit {
                book.acts.clear();
                book.limit = limit;
            }
            book.ask(of, now);
        }
        let keys: Vec<Name> = self.site.semaphores.keys().cloned().collect();
        for key in keys {
            self.bound_by(&key);
        }
    }

    /// I-16: it does what it was asked for.
    pub(super) fn semaphore_acts(&mut self, key: &Name, deed: &str) {
        let now = self.now;
        let of = self.site.semaphores.get(key).cloned();
        let (Some(of), Some(book)) = (of, self.semaphores.books.get_mut(key)) else {
            return self.hold(16, false, || format!("{key} is not in the site"));
        };
        let ask = book.last.as_ref().and_then(|sample| asks(&of, sample));
        let open = ask.is_some_and(|ask| book.is_open(ask, now));
        let since = book.since;
        let raised = since.is_some_and(|at| now - at >= of.debounce + of.delay);
        let (last, over) = (book.last.clone(), book.over.clone());
        let limit = of.rate_limit;
        book.limit = limit;
        book.acts.push(now);
        let acts = limit
            .map_or(0, |limit| book.acts.iter().filter(|at| now - **at < limit.interval).count());
        book.settle(now);
        let often = limit.is_none_or(|limit| acts <= usize::try_from(limit.burst).unwrap());
        let (up, stopping) = (now - Instant(0), self.stopping);
        self.hold(16, ask.is_some(), || format!("{key} does what nobody asks for: {last:?}"));
        self.hold(16, open, || format!("{key} does {ask:?} again: {over:?}"));
        self.hold(16, raised, || format!("{key} acts at {now:?}, asked since {since:?}: {of:?}"));
        self.hold(16, up >= of.min_uptime, || format!("{key} acts {up:?} after the start"));
        self.hold(16, often, || format!("{key} acts {acts} times of {limit:?}"));
        self.hold(16, stopping.is_none(), || format!("{key} acts in a shutdown"));
        let same = of.deed.to_string() == deed;
        self.hold(16, same, || format!("{key} does {deed}, not {}", of.deed));
        let (Deed::Restart(program) | Deed::Stop(program)) = &of.deed else { return };
        let there = self.ids.get(program).copied().filter(|id| {
            let known = &self.known[id.index()];
            known.member && known.settings.as_ref().is_some_and(|of| of.enabled)
        });
        match (there, &of.deed) {
            (Some(id), Deed::Stop(_)) => self.bring_down(&[id]),
            (Some(id), _) => self.bring_again(&[id], false),
            (None, _) => {}
        }
    }
}
