//! One semaphore: what is seen of it, whether that asks for something, and when that is done.
//!
//! ```text
//!             raised by somebody allowed            its time has come
//!   Clear ────────────────────────────► Pending ────────────────────────► Served
//!     ▲ ▲                                  │                                 │
//!     │ └──────────── cancelled ───────────┘                                 │
//!     └───────────────────── clear, or another request ─────────────────────┘
//!   Refused: raised by somebody who may not. Unknown, Foreign: it cannot be told; nothing is done.
//! ```
//!
//! A request is one raise: a lock file that somebody holds, or a fresh info file. Each is served
//! once. What was there before we looked for the first time is no request, unless the lock is held.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Bugs, Hold, SemaphoreNews, verdict::Verdict};
use crate::model::{
    Deed, FileId, Info, Instant, Level, RateLimit, Reading, Semaphore, SemaphoreKind, WallTime,
    Zone,
};

/// How long a written info file belongs to the raise that was just served: the lock comes first.
const TRAIL: Duration = Duration::from_secs(5);

/// How long the info file is waited for where it decides what is done: it comes after the lock.
const INFO_WAIT: Duration = Duration::from_secs(1);

/// A clock that was set is noticed after so long at the latest.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What was written, and when.
pub(super) type Written = (FileId, i128);

/// By what a request is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestKey {
    /// By the file that is locked, or is there.
    File(FileId),
    /// By the info file.
    Info(Written),
}

/// Where a semaphore is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SemaphoreState {
    /// It was not looked at yet.
    Unseen,
    /// Nobody asks.
    Clear,
    /// Somebody asks; it is done at that time unless he stops asking.
    Pending {
        /// Since when.
        since: Instant,
        /// When it is done.
        at: Instant,
        /// What for.
        why: Hold,
    },
    /// It was done, and is still asked for.
    Served {
        /// When it was done.
        at: Instant,
    },
    /// Somebody asks who may not.
    Refused(Arc<str>),
    /// It cannot be told whether somebody asks.
    Unknown(Arc<str>),
    /// In its place stands something else.
    Foreign(Arc<str>),
}

/// What a semaphore asks for was begun, for this file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Begun(pub(super) Option<FileId>);

/// What is known of a semaphore.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SemaphoreSlot {
    /// As the site has it.
    pub settings: Arc<Semaphore>,
    /// Where it is.
    pub state: SemaphoreState,
    /// What was seen last.
    pub reading: Option<Reading>,
    /// When it was raised last.
    pub last_raised: Option<WallTime>,
    /// Since when it is looked at.
    armed: Instant,
    /// It could be told once what is there, and what the info file says.
    met: bool,
    read: bool,
    /// The file whose lock was served, until it is seen free.
    pub(super) served_file: Option<FileId>,
    /// The info file that was there when it was armed, or was served.
    pub(super) served_info: Option<Written>,
    /// The info file that was looked at for what the signaller says.
    pub(super) heard: Option<Written>,
    /// When something was served or cancelled last.
    over: Option<Instant>,
    /// What counts for the rate limit: until when each time that it was done does.
    pub(super) counted: VecDeque<Instant>,
    /// What it asks for was begun, and is accepted or given up later; the file that asked.
    pub(super) acting: Option<Begun>,
    /// Local time, for its windows, and when it is looked at again while it waits for one: the
    /// clock may be set, and stands still in suspend.
    pub(super) zone: Arc<Zone>,
    pub(super) again: Instant,
    pub(super) bugs: Bugs,
}

/// What comes of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum SemaphoreEffect {
    /// Write it down.
    Record(SemaphoreNews),
    /// Do this.
    Do(Deed),
    /// The request is accepted: remove the lock file and the info file, if they are still these.
    Acknowledge {
        /// The lock file, or the file.
        file: Option<FileId>,
        /// The info file.
        info: Option<FileId>,
    },
}

impl SemaphoreSlot {
    /// Armed at `now`.
    #[must_use]
    pub fn new(settings: Arc<Semaphore>, now: Instant) -> Self {
        Self {
            settings,
            state: SemaphoreState::Unseen,
            reading: None,
            last_raised: None,
            armed: now,
            met: false,
            read: false,
            served_file: None,
            served_info: None,
            heard: None,
            over: None,
            counted: VecDeque::new(),
            acting: None,
            zone: Arc::default(),
            again: now,
            bugs: Bugs::default(),
        }
    }

    /// With local time, and test faults.
    pub(super) fn with(self, zone: &Arc<Zone>, bugs: Bugs) -> Self {
        Self { zone: Arc::clone(zone), bugs, ..self }
    }

    /// Other settings from now on. Of another file nothing is known; of the same one what was
    /// seen is judged by the new settings.
    pub fn renew(
        &mut self,
        settings: &Arc<Semaphore>,
        at: (Instant, WallTime),
        out: &mut Vec<SemaphoreEffect>,
    ) {
        if self.settings == *settings {
            return;
        }
        let old = std::mem::replace(&mut self.settings, Arc::clone(settings));
        let (old, new) = (&old.watched, &settings.watched);
        if (&old.path, old.kind) == (&new.path, new.kind) {
            let other_info = old.info_file != new.info_file;
            if let Some(Reading { level, info }) = self.reading.clone() {
                let info = info.filter(|_| !other_info);
                self.seen(Reading { level, info }, at, out);
            }
            self.read &= !other_info;
            return;
        }
        if self.deadline().is_some() {
            let why = "the site has another file for it".into();
            out.push(SemaphoreEffect::Record(SemaphoreNews::Cancelled { why }));
        }
        let fresh = Self::new(Arc::clone(settings), self.armed).with(&self.zone, self.bugs);
        *self = Self { counted: std::mem::take(&mut self.counted), ..fresh };
    }

    /// When it wants [`Self::due`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            SemaphoreState::Pending { at, why: Hold::Window(_), .. } => Some(at.min(self.again)),
            SemaphoreState::Pending { at, .. } => Some(at),
            SemaphoreState::Unseen
            | SemaphoreState::Clear
            | SemaphoreState::Served { .. }
            | SemaphoreState::Refused(_)
            | SemaphoreState::Unknown(_)
            | SemaphoreState::Foreign(_) => None,
        }
    }

    /// It was looked at.
    pub fn seen(
        &mut self,
        reading: Reading,
        (now, wall): (Instant, WallTime),
        out: &mut Vec<SemaphoreEffect>,
    ) {
        let first = !self.met && !self.bugs.serve_what_is_old;
        let is_certain = matches!(reading.level, Level::Clear | Level::Raised { .. });
        self.met |= is_certain;
        let old = first || !self.read;
        let trails = self.forget_what_is_over(&reading, first, now);
        self.read |= is_certain;
        let verdict = self.judge(&reading);
        self.reading = Some(reading);
        self.hear(old, out);
        if trails && !old {
            self.clear_away(out);
        }
        match verdict {
            Verdict::Nothing => self.is_clear(first, out),
            Verdict::Asked(key) => self.is_asked(key, first, (now, wall), out),
            Verdict::Refused(why) => {
                let record = SemaphoreNews::Refused { why: Arc::clone(&why) };
                self.turn(SemaphoreState::Refused(why), record, out);
            }
            Verdict::Unknown(_) if self.bugs.act_on_unknown && self.deadline().is_some() => {}
            Verdict::Unknown(why) => {
                let record = SemaphoreNews::Unknown { why: Arc::clone(&why) };
                self.turn(SemaphoreState::Unknown(why), record, out);
            }
            Verdict::Foreign(why) => {
                let record = SemaphoreNews::Foreign { why: Arc::clone(&why) };
                self.turn(SemaphoreState::Foreign(why), record, out);
            }
        }
    }

    /// A deadline is due.
    pub fn due(&mut self, at: (Instant, WallTime), out: &mut Vec<SemaphoreEffect>) {
        let SemaphoreState::Pending { since, .. } = self.state else { return };
        let now = at.0;
        if self.deadline().is_none_or(|due| due > now) {
            return;
        }
        // What held it back may do so again: two requests, one of them served meanwhile.
        let (at, why) = self.time_of(since, at);
        if at > now {
            self.state = SemaphoreState::Pending { since, at, why };
            return;
        }
        self.act(now, out);
    }

    /// Somebody cancels what is asked for.
    pub fn cancel(&mut self, by: &str, now: Instant, out: &mut Vec<SemaphoreEffect>) {
        if !self.bugs.forget_the_cancel {
            self.serve(now);
        }
        self.acting = None;
        let (file, info) = self.files();
        let was = matches!(self.state, SemaphoreState::Pending { .. });
        if was {
            self.state = SemaphoreState::Clear;
            out.push(SemaphoreEffect::Record(SemaphoreNews::Cancelled { why: by.into() }));
        }
        out.push(SemaphoreEffect::Acknowledge { file, info });
    }

    fn turn(
        &mut self,
        state: SemaphoreState,
        record: SemaphoreNews,
        out: &mut Vec<SemaphoreEffect>,
    ) {
        if self.state != state {
            self.state = state;
            out.push(SemaphoreEffect::Record(record));
        }
    }

    fn is_clear(&mut self, first: bool, out: &mut Vec<SemaphoreEffect>) {
        if self.bugs.act_although_cleared && self.deadline().is_some() {
            return;
        }
        match std::mem::replace(&mut self.state, SemaphoreState::Clear) {
            SemaphoreState::Pending { .. } => {
                let why = "it is no longer raised".into();
                out.push(SemaphoreEffect::Record(SemaphoreNews::Cancelled { why }));
            }
            SemaphoreState::Served { .. }
            | SemaphoreState::Refused(_)
            | SemaphoreState::Unknown(_)
            | SemaphoreState::Foreign(_) => {
                out.push(SemaphoreEffect::Record(SemaphoreNews::Cleared));
            }
            SemaphoreState::Unseen => out.push(SemaphoreEffect::Record(SemaphoreNews::Armed)),
            SemaphoreState::Clear => {}
        }
        if first && self.info().is_some() {
            out.push(SemaphoreEffect::Record(SemaphoreNews::Stale));
        }
    }

    fn is_asked(
        &mut self,
        key: RequestKey,
        first: bool,
        (now, wall): (Instant, WallTime),
        out: &mut Vec<SemaphoreEffect>,
    ) {
        let served = match key {
            RequestKey::File(file) => self.served_file == Some(file),
            RequestKey::Info(info) => self.served_info == Some(info),
        };
        if served {
            if first {
                out.push(SemaphoreEffect::Record(SemaphoreNews::Stale));
            }
            // Seen again after a moment in which it could not be told.
            if !matches!(self.state, SemaphoreState::Served { .. }) {
                self.state = SemaphoreState::Served { at: now };
            }
            return;
        }
        if let SemaphoreState::Pending { since, why: Hold::Info, .. } = self.state {
            let (at, why) = self.time_of(since, (now, wall));
            self.state = SemaphoreState::Pending { since, at, why };
            return self.due((now, wall), out);
        }
        if matches!(self.state, SemaphoreState::Pending { .. }) {
            return;
        }
        self.last_raised = Some(wall);
        let by = self.who();
        if self.settings.deed == Deed::Nothing {
            self.serve(now);
            self.state = SemaphoreState::Served { at: now };
            out.push(SemaphoreEffect::Record(SemaphoreNews::Held { by: by.into() }));
            return;
        }
        let info = self.reading.as_ref().and_then(|reading| reading.info.clone());
        self.heard = info.as_deref().map(written);
        let (at, why) = self.time_of(now, (now, wall));
        let hold = (at > now).then(|| (why, at.since(now)));
        out.push(SemaphoreEffect::Record(SemaphoreNews::Raised { by: by.into(), info, hold }));
        self.state = SemaphoreState::Pending { since: now, at, why };
        if at <= now {
            self.act(now, out);
        }
    }

    /// When a request that stands since then is done, and what it waits for last.
    fn time_of(&mut self, since: Instant, (now, wall): (Instant, WallTime)) -> (Instant, Hold) {
        let settings = Arc::clone(&self.settings);
        let held = if self.bugs.act_at_once { Duration::ZERO } else { settings.debounce };
        let mut found = (since + held, Hold::Debounce);
        let mut later = |at: Instant, why: Hold| {
            if at > found.0 {
                found = (at, why);
            }
        };
        later(since + held + settings.delay, Hold::Delay);
        if !self.bugs.ignore_uptime {
            later(self.armed + settings.min_uptime, Hold::Uptime);
        }
        if !settings.cases.is_empty() && self.case().is_none() {
            later(since + INFO_WAIT, Hold::Info);
        }
        if let Some(limit) = settings.rate_limit.filter(|_| !self.bugs.ignore_rate) {
            let recent = self.counted.iter().rev().filter(|until| **until > now);
            if let Some(oldest) = recent.take(burst(limit)).nth(burst(limit).saturating_sub(1)) {
                later(*oldest, Hold::Rate);
            }
        }
        self.again = now + LOOK_AGAIN;
        self.window_of(found, (now, wall))
    }

    fn act(&mut self, now: Instant, out: &mut Vec<SemaphoreEffect>) {
        let deed = self.case().map_or(&self.settings.deed, |case| &case.deed).clone();
        self.acting = Some(Begun(self.files().0));
        if !self.bugs.serve_again {
            self.serve(now);
        }
        self.state = SemaphoreState::Served { at: now };
        if let Some(limit) = self.settings.rate_limit {
            self.count(now + limit.interval, burst(limit));
        }
        let text = deed.to_string().into();
        out.push(SemaphoreEffect::Record(SemaphoreNews::Acted { deed: text }));
        let later = matches!(deed, Deed::EndHost(_));
        out.push(SemaphoreEffect::Do(deed));
        if !later {
            self.accepted(out);
        }
    }

    /// What is there now is served: it is no request again.
    fn serve(&mut self, now: Instant) {
        self.over = Some(now);
        let (file, _) = self.files();
        self.served_file = file.or(self.served_file);
        self.served_info = self.info().map(written).or(self.served_info);
    }

    fn files(&self) -> (Option<FileId>, Option<FileId>) {
        let file = match self.reading.as_ref().map(|reading| &reading.level) {
            Some(Level::Raised { file, .. }) => Some(*file),
            _ => None,
        };
        (file, self.info().map(|info| info.file))
    }

    /// Notes what of the past no longer counts, and whether this info file is new and its own.
    fn forget_what_is_over(&mut self, reading: &Reading, first: bool, now: Instant) -> bool {
        let info = reading.info.as_deref().map(written);
        let lately = self.over.is_some_and(|at| now.since(at) < TRAIL);
        let trails = match (&self.state, &reading.level) {
            // Written before we looked: it is no request.
            _ if first || !self.read => true,
            // Still held, or just let go: the signaller has now written what he had to say.
            (_, Level::Raised { file, .. }) if self.served_file == Some(*file) => true,
            (SemaphoreState::Pending { .. }, _) => false,
            // Beside a stranger's lock it is his no more than it was before.
            (_, Level::Raised { .. }) => {
                lately && matches!(self.judge(reading), Verdict::Refused(_))
            }
            (SemaphoreState::Served { .. }, Level::Clear) => lately || self.served_file.is_some(),
            _ => lately,
        };
        let forgets = self.bugs.serve_what_trails && !first;
        let belongs = trails && info.is_some() && !forgets;
        let is_new = belongs && self.served_info != info;
        if belongs {
            self.served_info = info;
        }
        match (&reading.level, self.settings.watched.kind) {
            (Level::Clear, _) => self.served_file = None,
            // One that cannot be removed would ask again at each start.
            (Level::Raised { file, .. }, SemaphoreKind::File) if first => {
                self.served_file = Some(*file);
            }
            _ => {}
        }
        is_new
    }
}

pub(super) fn burst(limit: RateLimit) -> usize {
    usize::try_from(limit.burst.max(1)).unwrap_or(usize::MAX)
}

pub(super) fn written(info: &Info) -> Written {
    (info.file, info.modified_ns)
}
