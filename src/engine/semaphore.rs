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

use super::{SemaphoreNews, permitted::Permitted, semaphore_view::in_words};
use crate::model::{
    Case, Deed, FileId, Info, Instant, Level, RateLimit, Reading, Semaphore, SemaphoreKind,
    WallTime,
};

/// How long a written info file belongs to the raise that was just served: the lock comes first.
const TRAIL: Duration = Duration::from_secs(5);

/// How long the info file is waited for where it decides what is done: it comes after the lock.
const INFO_WAIT: Duration = Duration::from_secs(1);

/// What was written, and when.
type Written = (FileId, i128);

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

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// Its `debounce`.
    Debounce,
    /// Its `delay`.
    Delay,
    /// The supervisor's `min_uptime`.
    Uptime,
    /// Its `rate_limit`.
    Rate,
    /// The info file, by which a case is chosen.
    Info,
}

/// What a semaphore asks for was begun, for this file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Begun(Option<FileId>);

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
    /// The file whose lock was served, until it is seen free.
    served_file: Option<FileId>,
    /// The info file that was there when it was armed, or was served.
    served_info: Option<Written>,
    /// When it was done last.
    done: Option<Instant>,
    /// What counts for the rate limit: until when each time that it was done does.
    counted: VecDeque<Instant>,
    /// What it asks for was begun, and is accepted or given up later; the file that asked.
    acting: Option<Begun>,
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

/// What a reading asks for.
enum Verdict {
    Nothing,
    Asked(RequestKey),
    Refused(Arc<str>),
    Unknown(Arc<str>),
    Foreign(Arc<str>),
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
            served_file: None,
            served_info: None,
            done: None,
            counted: VecDeque::new(),
            acting: None,
        }
    }

    /// The same file with other settings: what stands goes on.
    pub fn renew(&mut self, settings: &Arc<Semaphore>) {
        self.settings = Arc::clone(settings);
    }

    /// When it wants [`Self::due`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
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
        let first = matches!(self.state, SemaphoreState::Unseen);
        self.forget_what_is_over(&reading, first, now);
        let verdict = self.judge(&reading);
        self.reading = Some(reading);
        match verdict {
            Verdict::Nothing => self.is_clear(first, out),
            Verdict::Asked(key) => self.is_asked(key, (now, wall), out),
            Verdict::Refused(why) => {
                let record = SemaphoreNews::Refused { why: Arc::clone(&why) };
                self.turn(SemaphoreState::Refused(why), record, out);
            }
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
    pub fn due(&mut self, now: Instant, out: &mut Vec<SemaphoreEffect>) {
        let SemaphoreState::Pending { since, at, .. } = self.state else { return };
        if at > now {
            return;
        }
        // What held it back may do so again: two requests, one of them served meanwhile.
        let (at, why) = self.time_of(since, now);
        if at > now {
            self.state = SemaphoreState::Pending { since, at, why };
            return;
        }
        self.act(now, out);
    }

    /// Somebody cancels what is asked for.
    pub fn cancel(&mut self, by: &str, out: &mut Vec<SemaphoreEffect>) {
        self.serve();
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
        (now, wall): (Instant, WallTime),
        out: &mut Vec<SemaphoreEffect>,
    ) {
        let served = match key {
            RequestKey::File(file) => self.served_file == Some(file),
            RequestKey::Info(info) => self.served_info == Some(info),
        };
        if served {
            if matches!(self.state, SemaphoreState::Unseen) {
                out.push(SemaphoreEffect::Record(SemaphoreNews::Stale));
            }
            // Seen again after a moment in which it could not be told.
            if !matches!(self.state, SemaphoreState::Served { .. }) {
                self.state = SemaphoreState::Served { at: now };
            }
            return;
        }
        if let SemaphoreState::Pending { since, why: Hold::Info, .. } = self.state {
            let (at, why) = self.time_of(since, now);
            self.state = SemaphoreState::Pending { since, at, why };
            return self.due(now, out);
        }
        if matches!(self.state, SemaphoreState::Pending { .. }) {
            return;
        }
        self.last_raised = Some(wall);
        let by = self.who();
        if self.settings.deed == Deed::Nothing {
            self.serve();
            self.state = SemaphoreState::Served { at: now };
            out.push(SemaphoreEffect::Record(SemaphoreNews::Held { by: by.into() }));
            return;
        }
        let info = self.info().map(in_words).unwrap_or_default();
        let (at, why) = self.time_of(now, now);
        let hold = (at > now).then(|| (why, at.since(now)));
        out.push(SemaphoreEffect::Record(SemaphoreNews::Raised {
            by: by.into(),
            info: info.into(),
            hold,
        }));
        self.state = SemaphoreState::Pending { since: now, at, why };
        if at <= now {
            self.act(now, out);
        }
    }

    /// When a request that stands since then is done, and what it waits for last.
    fn time_of(&self, since: Instant, now: Instant) -> (Instant, Hold) {
        let settings = &self.settings;
        let mut found = (since + settings.debounce, Hold::Debounce);
        let mut later = |at: Instant, why: Hold| {
            if at > found.0 {
                found = (at, why);
            }
        };
        later(since + settings.debounce + settings.delay, Hold::Delay);
        later(self.armed + settings.min_uptime, Hold::Uptime);
        if !settings.cases.is_empty() && self.case().is_none() {
            later(since + INFO_WAIT, Hold::Info);
        }
        if let Some(limit) = settings.rate_limit {
            let recent = self.counted.iter().rev().filter(|until| **until > now);
            if let Some(oldest) = recent.take(burst(limit)).nth(burst(limit).saturating_sub(1)) {
                later(*oldest, Hold::Rate);
            }
        }
        found
    }

    fn act(&mut self, now: Instant, out: &mut Vec<SemaphoreEffect>) {
        let deed = self.case().map_or(&self.settings.deed, |case| &case.deed).clone();
        self.acting = Some(Begun(self.files().0));
        self.serve();
        self.state = SemaphoreState::Served { at: now };
        self.done = Some(now);
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

    fn count(&mut self, until: Instant, most: usize) {
        self.counted.push_back(until);
        while self.counted.len() > most {
            self.counted.pop_front();
        }
    }

    /// It was done at these times, oldest first, before we were started. A clock that was set
    /// since then makes none of them older than it is.
    pub fn recall(&mut self, times: &[WallTime], (now, wall): (Instant, WallTime)) {
        let Some(limit) = self.settings.rate_limit else { return };
        for time in times {
            let age = Duration::from_millis(wall.0.saturating_sub(time.0).try_into().unwrap_or(0));
            let left = limit.interval.saturating_sub(age);
            if !left.is_zero() {
                self.count(now + left, burst(limit));
            }
        }
    }

    /// What it asked for is under way for sure: its files are no longer needed.
    pub fn accepted(&mut self, out: &mut Vec<SemaphoreEffect>) {
        let Some(Begun(file)) = self.acting.take().filter(|_| self.settings.removes) else {
            return;
        };
        let info = self.info().filter(|info| !self.is_fresh(info)).map(|info| info.file);
        out.push(SemaphoreEffect::Acknowledge { file, info });
    }

    /// Whether what was served last is still asked for: the lock is held, or what was written is
    /// there.
    #[must_use]
    pub fn still_asks(&self) -> bool {
        self.served_file.is_some() || self.info().is_some_and(|info| !self.is_fresh(info))
    }

    /// The case that the info file makes of it: only what somebody has written who may, and whom
    /// nobody could help with it.
    fn case(&self) -> Option<&Case> {
        let info = self.info().filter(|info| self.is_fresh(info) && info.is_private)?;
        if Permitted(&self.settings.allow).refusal_of_owner(info.uid).is_some() {
            return None;
        }
        let says = |(key, value): &(Box<str>, Box<str>)| {
            info.fields.iter().find(|(field, _)| field == key).is_some_and(|(_, v)| v == value)
        };
        self.settings.cases.iter().find(|case| case.when.iter().all(says))
    }

    /// What is there now is served: it is no request again.
    fn serve(&mut self) {
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

    /// Notes what of the past no longer counts, and which info file belongs to it.
    fn forget_what_is_over(&mut self, reading: &Reading, first: bool, now: Instant) {
        let info = reading.info.as_deref().map(written);
        let served = |at: Instant| now.since(at) < TRAIL;
        let trails = match (&self.state, &reading.level) {
            // Written before we looked: it is no request.
            (SemaphoreState::Unseen, _) => first,
            // Still held, or just let go: the signaller has now written what he had to say.
            (SemaphoreState::Served { .. }, Level::Raised { file, .. }) => {
                self.served_file == Some(*file)
            }
            (SemaphoreState::Served { .. }, Level::Clear) => self.served_file.is_some(),
            (SemaphoreState::Clear, Level::Clear) => self.done.is_some_and(served),
            _ => false,
        };
        if trails && info.is_some() {
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
    }

    fn judge(&self, reading: &Reading) -> Verdict {
        let permitted = Permitted(&self.settings.allow);
        match &reading.level {
            Level::Unknown(why) => Verdict::Unknown(Arc::clone(why)),
            Level::Foreign(why) => Verdict::Foreign(Arc::clone(why)),
            Level::Raised { file, owner, holders } => {
                let refusal = match self.settings.watched.kind {
                    // Who was served is about to end: his descriptors go before his lock does.
                    SemaphoreKind::Flock
                        if holders.is_empty() && self.served_file == Some(*file) =>
                    {
                        None
                    }
                    SemaphoreKind::Flock => permitted.refusal(holders),
                    SemaphoreKind::File => permitted.refusal_of_owner(*owner),
                };
                match refusal {
                    Some(why) => Verdict::Refused(why),
                    None => Verdict::Asked(RequestKey::File(*file)),
                }
            }
            Level::Clear => self.judge_info(reading.info.as_deref(), &permitted),
        }
    }

    /// A fresh info file whose writer is gone.
    fn judge_info(&self, info: Option<&Info>, permitted: &Permitted<'_>) -> Verdict {
        let Some(info) = info.filter(|info| self.settings.latch && self.is_fresh(info)) else {
            return Verdict::Nothing;
        };
        if !info.is_private {
            return Verdict::Refused("others may have written its info file".into());
        }
        match permitted.refusal_of_owner(info.uid) {
            Some(why) => Verdict::Refused(why),
            None => Verdict::Asked(RequestKey::Info(written(info))),
        }
    }

    fn is_fresh(&self, info: &Info) -> bool {
        self.served_info != Some(written(info))
    }
}

fn burst(limit: RateLimit) -> usize {
    usize::try_from(limit.burst.max(1)).unwrap_or(usize::MAX)
}

fn written(info: &Info) -> Written {
    (info.file, info.modified_ns)
}
