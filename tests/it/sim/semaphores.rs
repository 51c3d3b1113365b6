//! Locks and files in the world, those who raise and lower them, and the watcher that tells.
//!
//! A raise is one taking of a lock, one making of a file, or one info file of somebody whose lock
//! nobody saw. The watcher tells in order, late, twice, and misses what is short.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use mini_supervisor::{
    control::{Request, SemaphoreName},
    engine::Event,
    model::*,
};

use super::{draw::Chance, world::World};
use crate::site_builder::name;

/// Signallers write what they have to say that soon after they let go, if at all.
const SOON: Duration = Duration::from_secs(2);

/// Somebody who raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Somebody {
    Root,
    Bot,
    /// A member of the group that may.
    Member,
    Stranger,
    /// A member that has become root with the lock open.
    Elevated,
    /// The bot, and a stranger to whom it gave the lock.
    Shared,
    /// Nobody can be named.
    Nobody,
}

impl Somebody {
    fn uid(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Bot | Self::Shared => 1000,
            Self::Member => 1001,
            Self::Stranger | Self::Elevated | Self::Nobody => 4711,
        }
    }

    fn holders(self) -> Vec<Holder> {
        let one = |uids: [u32; 4], gid: u32| Holder {
            pid: 77,
            start_time: 5,
            uids,
            gids: vec![gid],
            command: "x".into(),
        };
        match self {
            Self::Root | Self::Bot | Self::Stranger => vec![one([self.uid(); 4], 100)],
            Self::Member => vec![one([1001; 4], 20)],
            Self::Elevated => vec![one([1001, 0, 0, 0], 20)],
            Self::Shared => vec![one([1000; 4], 100), one([4711; 4], 100)],
            Self::Nobody => Vec::new(),
        }
    }
}

/// The lock or the file.
#[derive(Clone, Copy, Debug)]
struct There {
    inode: u64,
    owner: Somebody,
    /// The raise that it is by being there.
    raise: u64,
    /// The raise of who holds it.
    held: Option<(u64, Somebody)>,
}

/// The info file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    inode: u64,
    /// Unique, and in the order of the writes.
    pub(super) write: u64,
    pub(super) raise: u64,
    pub(super) by: Somebody,
    pub(super) private: bool,
}

/// What is at one path, and beside it.
#[derive(Clone, Debug, Default)]
struct Place {
    there: Option<There>,
    /// A link is in its place.
    strange: bool,
    /// It cannot be told what is there; nor what the info file says.
    blind: bool,
    blind_info: bool,
    info: Option<Written>,
    /// Who holds it, or held it last, and until when.
    last: Option<(u64, Somebody, Instant)>,
}

/// What the watcher saw, and what it is in truth.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// It can be told.
    pub(super) certain: bool,
    /// Raised by the lock or the file, as this raise, by this one.
    pub(super) raised: Option<(u64, Somebody)>,
    pub(super) info: Option<Written>,
    reading: Reading,
}

/// All locks, and what is known of those that the site has.
#[derive(Debug, Default)]
pub(super) struct Locks {
    places: BTreeMap<PathBuf, Place>,
    /// What was seen and is not delivered yet, and when the last of it will be.
    under_way: BTreeMap<Name, VecDeque<Sample>>,
    last_at: BTreeMap<Name, Instant>,
    /// Raises, writes and inodes get their numbers from here.
    counter: u64,
    pub(super) books: BTreeMap<Name, super::raises::Book>,
}

impl Locks {
    fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}

fn draw_semaphore(n: u64, programs: &[Name], chance: &mut Chance) -> Semaphore {
    let path = format!("/l/{}", n + 2 * chance.below(2));
    let times = |chance: &mut Chance, all: [u64; 4]| Duration::from_millis(chance.of(&all));
    let info = chance.is(60);
    let watched = Watched {
        probe: LockProbe::Auto,
        kind: chance.of(&[SemaphoreKind::Flock, SemaphoreKind::Flock, SemaphoreKind::File]),
        info_file: info.then(|| format!("{path}.info").into()),
        path: path.into(),
        info_keys: BTreeMap::new(),
        poll_interval: Duration::from_secs(5),
        owner: None,
        mode: Mode(0o600),
    };
    let index = usize::try_from(chance.below(programs.len() as u64)).unwrap();
    let program = programs[index].clone();
    let deed = match chance.below(8) {
        0 => Deed::Reload,
        1 | 2 => Deed::Stop(program),
        _ => Deed::Restart(program),
    };
    let many = chance.is(80);
    Semaphore {
        name: name(&format!("l{n}")),
        description: None,
        watched: Arc::new(watched),
        allow: Who {
            users: if many { Box::new([0, 1000]) } else { Box::new([0]) },
            groups: if many { Box::new([20]) } else { Box::default() },
        },
        latch: info && chance.is(70),
        debounce: times(chance, [0, 0, 200, 2000]),
        delay: times(chance, [0, 0, 3000, 30_000]),
        min_uptime: times(chance, [0, 0, 10_000, 100_000]),
        rate_limit: chance.is(40).then(|| RateLimit {
            burst: u32::try_from(1 + chance.below(3)).unwrap(),
            interval: Duration::from_secs(1 + chance.below(200)),
        }),
        removes: chance.is(60),
        windows: Box::default(),
        cases: Box::default(),
        deed,
    }
}

/// Semaphores for a site, or for its next version.
pub(super) fn draw_semaphores(site: &mut Site, chance: &mut Chance) {
    let programs: Vec<Name> = site.programs.keys().cloned().collect();
    for n in 0..=chance.below(2) {
        let one = draw_semaphore(n, &programs, chance);
        site.semaphores.insert(one.name.clone(), Arc::new(one));
    }
    for program in site.programs.values_mut() {
        if !chance.is(20) {
            continue;
        }
        let target = Target::Semaphore(name(&format!("l{}", chance.below(2))));
        let lock = Dependency { target, condition: Condition::Ready };
        let of = Arc::make_mut(program);
        let list = if chance.is(70) { &mut of.requires } else { &mut of.wants };
        *list = list.iter().cloned().chain([lock]).collect();
    }
}

/// What a new version of the file may say of them; none names a program that is not there.
pub(super) fn change_semaphores(site: &mut Site, chance: &mut Chance) {
    let programs: Vec<Name> = site.programs.keys().cloned().collect();
    for n in 0..2 {
        let key = name(&format!("l{n}"));
        let Some(one) = site.semaphores.get_mut(&key) else { continue };
        let drawn = draw_semaphore(n, &programs, chance);
        let of = Arc::make_mut(one);
        match chance.below(20) {
            0 | 1 => *of = drawn,
            2 => Arc::make_mut(&mut of.watched).poll_interval += Duration::from_secs(1),
            3 => of.allow = drawn.allow,
            4 => (of.debounce, of.delay) = (drawn.debounce, drawn.delay),
            5 => (of.min_uptime, of.rate_limit) = (drawn.min_uptime, drawn.rate_limit),
            6 => (of.latch, of.removes) = (of.latch && drawn.latch, drawn.removes),
            7 => drop(site.semaphores.remove(&key)),
            _ => {}
        }
    }
    for one in site.semaphores.values_mut() {
        if let Deed::Restart(program) | Deed::Stop(program) = &one.deed
            && !site.programs.contains_key(program)
        {
            Arc::make_mut(one).deed = Deed::Reload;
        }
    }
    if chance.is(3) {
        draw_semaphores(site, chance);
    }
}

impl World {
    /// It is looked at from now on; what was seen of another file before is not delivered.
    pub(super) fn watched(&mut self, key: &Name, watched: &Watched) {
        self.later.retain(|_, event| !matches!(event, Event::Seen((of, _)) if of == key));
        self.semaphores.under_way.remove(key);
        self.arms(key, watched);
        self.semaphores.last_at.remove(key);
        for _ in 0..self.chance.below(4) {
            self.happens(&watched.path);
        }
        self.look(key, watched);
    }

    /// One sample, told later.
    fn look(&mut self, key: &Name, watched: &Watched) {
        let sample = self.sample(watched);
        let times = if self.chance.is(10) { 2 } else { 1 };
        for _ in 0..times {
            let most = if self.chance.is(5) { 20_000 } else { 300 };
            let drawn = self.now + Duration::from_millis(self.chance.below(most));
            let last = self.semaphores.last_at.entry(key.clone()).or_insert(drawn);
            let at = drawn.max(*last);
            *last = at;
            self.semaphores.under_way.entry(key.clone()).or_default().push_back(sample.clone());
            self.at(at - self.now, Event::Seen((key.clone(), sample.reading.clone())));
        }
    }

    fn sample(&self, watched: &Watched) -> Sample {
        let nothing = Place::default();
        let place = self.semaphores.places.get(&watched.path).unwrap_or(&nothing);
        let file = |inode| FileId { device: 1, inode };
        let info = place.info.filter(|_| watched.info_file.is_some() && !place.blind_info);
        let mut raised = None;
        let level = if place.blind {
            Level::Unknown("EACCES".into())
        } else if place.strange {
            Level::Foreign("a link".into())
        } else {
            let there = place.there.as_ref();
            raised = match watched.kind {
                SemaphoreKind::Flock => there.and_then(|t| t.held),
                SemaphoreKind::File => there.map(|t| (t.raise, t.owner)),
            };
            there.filter(|_| raised.is_some()).map_or(Level::Clear, |t| Level::Raised {
                file: file(t.inode),
                owner: t.owner.uid(),
                holders: match (watched.kind, t.held) {
                    (SemaphoreKind::Flock, Some((_, by))) => by.holders(),
                    _ => Vec::new(),
                },
            })
        };
        let told = info.map(|info| {
            Arc::new(Info {
                file: file(info.inode),
                modified_ns: info.write.into(),
                uid: info.by.uid(),
                is_private: info.private,
                fields: Vec::new(),
                damage: None,
            })
        });
        let certain = !place.blind && !place.strange;
        Sample { certain, raised, info, reading: Reading { level, info: told } }
    }

    /// Its reading is delivered now: what it was.
    pub(super) fn delivered(&mut self, key: &Name) -> Option<Sample> {
        self.semaphores.under_way.get_mut(key)?.pop_front()
    }

    /// Somebody does something with one of the files, and mostly it is noticed.
    pub(super) fn signals(&mut self) {
        let count = self.site.semaphores.len() as u64;
        let index = usize::try_from(self.chance.below(count)).unwrap();
        let Some((key, of)) = self.site.semaphores.iter().nth(index) else { return };
        let (key, watched) = (key.clone(), Arc::clone(&of.watched));
        if self.chance.is(6) {
            self.cancelled(&key);
            let request = Request::ClearSemaphore(SemaphoreName { name: key.to_string() });
            return self.ask(request, Some(Duration::ZERO), false);
        }
        for _ in 0..=self.chance.below(2) {
            self.happens(&watched.path);
        }
        if !self.chance.is(15) && self.semaphores.books.contains_key(&key) {
            self.look(&key, &watched);
        }
    }

    fn happens(&mut self, path: &Path) {
        let who = self.chance.of(&[
            Somebody::Bot,
            Somebody::Bot,
            Somebody::Bot,
            Somebody::Root,
            Somebody::Member,
            Somebody::Stranger,
            Somebody::Elevated,
            Somebody::Shared,
            Somebody::Nobody,
        ]);
        let (kind, now) = (self.chance.below(100), self.now);
        let private = !self.chance.is(10);
        let reused = self.chance.is(30);
        let (raise, write) = (self.semaphores.number(), self.semaphores.number());
        let place = self.semaphores.places.entry(path.to_owned()).or_default();
        let inode = if reused { 7 } else { raise };
        match kind {
            // Takes it, if nobody has it.
            0..=34 => {
                let new = There { inode, owner: who, raise, held: None };
                let there = place.there.get_or_insert(new);
                if there.held.is_none() {
                    there.held = Some((raise, who));
                    place.last = Some((raise, who, now));
                }
            }
            // Lets go, or dies; sometimes with an heir that nobody knows.
            35..=59 => {
                let Some(there) = place.there.as_mut() else { return };
                let Some((raise, by)) = there.held.take() else { return };
                place.last = Some((raise, by, now));
                if kind < 38 {
                    there.held = Some((raise, Somebody::Nobody));
                }
            }
            60..=76 => {
                let holds = place.there.is_some_and(|t| t.held.is_some());
                let known = place.last.filter(|(_, _, at)| holds || now - *at <= SOON);
                let (raise, by) = known.map_or((raise, who), |(raise, by, _)| (raise, by));
                place.info = Some(Written { inode: write, write, raise, by, private });
            }
            77..=80 => place.info = None,
            // Removed, or replaced by a file with that name.
            81..=84 => place.there = None,
            85..=88 => place.there = Some(There { inode, owner: who, raise, held: None }),
            89..=91 => place.strange = !place.strange,
            92..=95 => (place.blind, place.blind_info) = (true, reused),
            _ => (place.blind, place.blind_info) = (false, false),
        }
    }

    /// The files of a request are removed, if they are still these.
    pub(super) fn acknowledged(
        &mut self,
        watched: &Watched,
        file: Option<FileId>,
        info: Option<FileId>,
    ) {
        if self.chance.is(20) {
            // They cannot be removed.
            return;
        }
        let Some(place) = self.semaphores.places.get_mut(&watched.path) else { return };
        place.there = place.there.filter(|t| Some(t.inode) != file.map(|f| f.inode));
        place.info = place.info.filter(|i| Some(i.inode) != info.map(|f| f.inode));
        let found = self.site.semaphores.iter().find(|(_, s)| s.watched.path == watched.path);
        if let Some((key, of)) = found.map(|(key, of)| (key.clone(), Arc::clone(of))) {
            self.look(&key, &of.watched);
        }
    }

    /// Nobody wants anything any more.
    pub(super) fn let_go(&mut self) {
        self.later.retain(|_, event| !matches!(event, Event::Seen(_)));
        self.semaphores.under_way.clear();
        self.semaphores.places.clear();
        for (key, of) in self.site.semaphores.clone() {
            if self.semaphores.books.contains_key(&key) {
                let sample = self.sample(&of.watched);
                let seen = (key.clone(), sample.reading.clone());
                self.semaphores.under_way.entry(key).or_default().push_back(sample);
                self.give(Event::Seen(seen));
            }
        }
    }
}
