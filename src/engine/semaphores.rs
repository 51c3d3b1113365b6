//! The semaphores of the site: who asks what, carried over to the programs.

use std::sync::Arc;

use super::{
    Action, Actions, At, Engine, Record, SemaphoreEffect, SemaphoreNews, SemaphoreSlot, What,
    site::{HOST_GOES_DOWN, Phase},
};
use crate::{
    control::{
        Peer, Refusal, RefusalCode, Reply, RequestId, SemaphoreName, SemaphoreStatus, SemaphoreWord,
    },
    model::{Deed, Instant, Name, Reading, Site, WallTime, Zone},
};

/// What comes of new settings, by semaphore.
pub(super) type Effects = Vec<(Name, Vec<SemaphoreEffect>)>;

impl Engine {
    /// The semaphores, by name.
    pub fn semaphores(&self) -> impl Iterator<Item = &SemaphoreSlot> {
        self.semaphores.values()
    }

    /// The same as a status shows them.
    pub fn semaphore_statuses(&self, now: Instant) -> impl Iterator<Item = SemaphoreStatus> {
        self.semaphores.iter().map(move |(name, slot)| {
            let mut status = slot.status(now);
            if let Some((reason, left)) = self.host_end_of(name, now) {
                status.state = SemaphoreWord::Acting;
                status.reason = reason;
                status.next_in_s = Some(left.as_secs_f64());
            }
            status
        })
    }

    pub(super) fn add_semaphores(&mut self, site: &Site, now: Instant) {
        for (name, settings) in &site.semaphores {
            let slot = SemaphoreSlot::new(Arc::clone(settings), now).with(&self.zone, self.bugs);
            self.semaphores.insert(name.clone(), slot);
        }
    }

    /// Whether local time matters and is not known at that moment: [`super::Event::Zone`] is due.
    #[must_use]
    pub fn lacks_zone(&self, wall: WallTime) -> bool {
        let has_window = |slot: &SemaphoreSlot| !slot.settings.windows.is_empty();
        !self.zone.knows(wall) && self.semaphores.values().any(has_window)
    }

    pub(super) fn zone_is(&mut self, zone: &Arc<Zone>) {
        self.zone = Arc::clone(zone);
        for slot in self.semaphores.values_mut() {
            slot.zone = Arc::clone(zone);
        }
    }

    /// Has all of them looked at.
    pub(super) fn watch_semaphores(&self, out: &mut Actions) {
        for (name, slot) in &self.semaphores {
            out.push(Action::Watch(name.clone(), Arc::clone(&slot.settings.watched)));
        }
    }

    /// Takes those of a new site; what is the same file stays as it is. What comes of it is for
    /// [`Self::semaphores_renewed`].
    pub(super) fn renew_semaphores(&mut self, site: &Site, at: At, out: &mut Actions) -> Effects {
        let gone: Vec<Name> =
            self.semaphores.keys().filter(|n| !site.semaphores.contains_key(*n)).cloned().collect();
        for name in gone {
            self.semaphores.remove(&name);
            out.push(Action::Unwatch(name));
        }
        let mut all = Vec::new();
        for (name, settings) in &site.semaphores {
            let watched = &settings.watched;
            let mut effects = Vec::new();
            let same = if let Some(slot) = self.semaphores.get_mut(name) {
                let same = slot.settings.watched == *watched;
                slot.renew(settings, (at.now, at.wall), &mut effects);
                same
            } else {
                let slot =
                    SemaphoreSlot::new(Arc::clone(settings), at.now).with(&self.zone, self.bugs);
                self.semaphores.insert(name.clone(), slot);
                false
            };
            if !same {
                out.push(Action::Watch(name.clone(), Arc::clone(watched)));
            }
            all.push((name.clone(), effects));
        }
        all
    }

    /// Does what the new settings ask for, and lets start and stop what they do.
    pub(super) fn semaphores_renewed(&mut self, effects: Effects, at: At, out: &mut Actions) {
        for (name, effects) in effects {
            self.carry_over(&name, effects, at, out);
            self.look_at_lock(&name, at, out);
        }
    }

    /// Nothing is done for a semaphore while the site stops.
    fn serves(&self) -> bool {
        self.phase == Phase::Up || self.bugs.act_in_shutdown
    }

    pub(super) fn semaphore_deadline(&self) -> Option<Instant> {
        let up = self.serves();
        up.then(|| self.semaphores.values().filter_map(SemaphoreSlot::deadline).min())?
    }

    pub(super) fn semaphore_seen(
        &mut self,
        name: &Name,
        reading: Reading,
        at: At,
        out: &mut Actions,
    ) {
        if !self.serves() {
            return;
        }
        let mut effects = Vec::new();
        let before = self.freedom(name);
        // Of one that is no longer in the site: it was on its way.
        let Some(slot) = self.semaphores.get_mut(name) else { return };
        slot.seen(reading, (at.now, at.wall), &mut effects);
        self.carry_over(name, effects, at, out);
        if self.freedom(name) != before {
            self.look_at_lock(name, at, out);
        }
    }

    pub(super) fn semaphores_due(&mut self, at: At, out: &mut Actions) {
        if !self.serves() {
            return;
        }
        let due = |slot: &SemaphoreSlot| slot.deadline().is_some_and(|due| due <= at.now);
        let names: Vec<Name> =
            self.semaphores.iter().filter(|(_, s)| due(s)).map(|(n, _)| n.clone()).collect();
        for name in names {
            let mut effects = Vec::new();
            if let Some(slot) = self.semaphores.get_mut(&name) {
                slot.due((at.now, at.wall), &mut effects);
            }
            self.carry_over(&name, effects, at, out);
        }
    }

    /// A client cancels what is asked for.
    pub(super) fn clear_semaphore(
        &mut self,
        id: RequestId,
        peer: Peer,
        which: &SemaphoreName,
        at: At,
        out: &mut Actions,
    ) {
        let name = Name::new(&which.name).ok();
        let known = name.and_then(|name| Some((name.clone(), self.semaphores.get_mut(&name)?)));
        let Some((name, slot)) = known else {
            let refusal = self.no_such_semaphore(&which.name);
            return out.reply(id, refusal);
        };
        let mut effects = Vec::new();
        let by = format!("asked by uid {}, pid {}", peer.uid, peer.pid);
        slot.cancel(&by, at.now, &mut effects);
        out.record(Record::site(What::Asked {
            peer,
            verb: "semaphore clear".into(),
            names: which.name.as_str().into(),
        }));
        self.carry_over(&name, effects, at, out);
        self.look_at_lock(&name, at, out);
        self.cancel_host_end(&name, at, out);
        out.reply(id, Reply::Done);
    }

    /// What to answer who names a semaphore that is not there.
    #[must_use]
    pub fn no_such_semaphore(&self, name: &str) -> Reply {
        let names: Vec<&str> = self.semaphores.keys().map(Name::as_str).collect();
        let hint = match names.as_slice() {
            [] => "this site has no semaphores: see semaphores in site.yaml(5)".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        };
        let message = format!("no semaphore is called {name}");
        Reply::Error(Refusal { code: RefusalCode::NoSuchName, message, hint: Some(hint) })
    }

    fn carry_over(
        &mut self,
        name: &Name,
        effects: Vec<SemaphoreEffect>,
        at: At,
        out: &mut Actions,
    ) {
        for effect in effects {
            match effect {
                SemaphoreEffect::Record(news) => Self::tell(name, news, out),
                SemaphoreEffect::Do(deed) => {
                    self.remember(name, at, out);
                    self.carry_out(name, &deed, at, out);
                }
                SemaphoreEffect::Acknowledge { .. } => {
                    self.acknowledge(name, vec![effect], out);
                }
            }
        }
    }

    /// What ends the host ends us and what we know: its rate limit is to outlive that.
    fn remember(&self, name: &Name, at: At, out: &mut Actions) {
        let Some(slot) = self.semaphores.get(name) else { return };
        if let Some(limit) = slot.settings.outlives() {
            let keep = usize::try_from(limit.burst).unwrap_or(usize::MAX);
            out.push(Action::Remember { semaphore: name.clone(), at: at.wall, keep });
        }
    }

    /// A semaphore was served at these times before we were started.
    pub fn recall(&mut self, name: &Name, times: &[WallTime], now: (Instant, WallTime)) {
        if let Some(slot) = self.semaphores.get_mut(name) {
            slot.recall(times, now);
        }
    }

    /// Has the files of a request removed.
    pub(super) fn acknowledge(
        &self,
        name: &Name,
        effects: Vec<SemaphoreEffect>,
        out: &mut Actions,
    ) {
        let Some(slot) = self.semaphores.get(name) else { return };
        for effect in effects {
            if let SemaphoreEffect::Acknowledge { file, info } = effect {
                let watched = Arc::clone(&slot.settings.watched);
                out.push(Action::Acknowledge { watched, file, info });
            }
        }
    }

    fn tell(name: &Name, news: SemaphoreNews, out: &mut Actions) {
        out.record(Record::site(What::Semaphore { name: name.clone(), news }));
    }

    fn carry_out(&mut self, name: &Name, deed: &Deed, at: At, out: &mut Actions) {
        if let Deed::EndHost(end) = deed {
            return self.end_host(name, end, at, out);
        }
        if self.host_goes_down() {
            let (deed, why) = (deed.to_string().into(), HOST_GOES_DOWN.into());
            return Self::tell(name, SemaphoreNews::NotDone { deed, why }, out);
        }
        let program = match deed {
            Deed::Restart(program) | Deed::Stop(program) => program,
            Deed::EndHost(_) | Deed::Nothing => return,
            Deed::Reload => {
                out.push(Action::Load { request: None, dry_run: false, allow_removal: false });
                return;
            }
        };
        // It was in the site when the file was read, and goes just now; or it is disabled.
        let slot = self.names.get(program).and_then(|id| self.slot(*id));
        let Some(id) = slot.filter(|slot| slot.program.enabled).map(|slot| slot.id) else {
            let why = format!("{program} is disabled or no longer in the site").into();
            let deed = deed.to_string().into();
            return Self::tell(name, SemaphoreNews::NotDone { deed, why }, out);
        };
        match deed {
            Deed::Restart(_) => self.restart_by_hand(vec![id], false, at, out),
            Deed::Stop(_) => self.stop_by_hand(&[id], false, at, out),
            Deed::Reload | Deed::EndHost(_) | Deed::Nothing => {}
        }
    }
}
