//! What people do to the site, at any moment; then the calm in which everything must come up, and the end.

use std::{sync::Arc, time::Duration};

use mini_supervisor::{
    control::{Change, Peer, ReloadSite, Request, RequestId, SendSignal, Shutdown, Targets},
    engine::{Action, Engine, Event, Goal, State, Told},
    model::{Instant, Limit, Signal},
};

use super::{
    run::{Sim, Step},
    site,
    world::Faults,
};

impl Sim {
    fn names(&mut self) -> Vec<String> {
        let all: Vec<String> =
            self.engine.names().keys().map(|name| name.as_str().to_owned()).collect();
        match self.random.below(10) {
            0 => vec!["all".into()],
            1 => vec!["tag:even".into()],
            2 => vec!["p0*".into()],
            3 => vec!["nobody".into()],
            _ if all.is_empty() => vec!["all".into()],
            _ => vec![self.random.pick(&all)],
        }
    }

    /// A client, or a signal, asks for something.
    pub(super) fn command(&mut self) -> Step {
        let names = self.names();
        let change = Change {
            names: names.clone(),
            no_wait: self.random.chance(20),
            force: self.random.chance(10),
            dry_run: self.random.chance(5),
            timeout: self.random.chance(30).then(|| Duration::from_millis(self.random.below(5000))),
            ..Change::default()
        };
        let request = match self.random.below(200) {
            0..50 => Request::Start(change),
            50..100 => Request::Stop(change),
            100..140 => Request::Restart(change),
            140..155 => Request::Reload(ReloadSite {
                dry_run: self.random.chance(20),
                allow_removal: self.random.chance(50),
            }),
            155..165 => Request::ReloadProgram(Targets { names }),
            165..175 => Request::Signal(SendSignal {
                signal: self.random.pick(&[Signal::HUP, Signal::KILL]),
                names,
            }),
            175..195 => Request::Reset(Targets { names }),
            195..197 if self.random.chance(10) => {
                Request::Shutdown(Shutdown { force: self.random.chance(30) })
            }
            197 => return self.told(),
            _ => return Ok(()),
        };
        self.requests += 1;
        let id = RequestId(self.requests);
        self.owed.insert(id);
        self.excuse_for(&request);
        self.feed(Event::Request { id, peer: Peer::default(), request })?;
        if self.random.chance(5) {
            // The client goes away: no answer is owed any more, the operation goes on.
            if self.owed.remove(&id) {
                self.feed(Event::RequestGone(id))?;
            }
        }
        Ok(())
    }

    fn told(&mut self) -> Step {
        let told = self.random.pick(&[Told::Reload, Told::Reopen, Told::Stop, Told::Quit]);
        if matches!(told, Told::Stop | Told::Quit) && !self.random.chance(10) {
            return Ok(());
        }
        let before = self.engine.ends_by();
        self.check.impatient |= told == Told::Quit || before.is_some();
        self.feed(Event::Told(told))?;
        match before {
            Some(_) => {
                let same = self.engine.ends_by() == before;
                self.hold(39, same, || "a second stop moves the end".into())
            }
            None => Ok(()),
        }
    }

    /// Whatever a person asks for may start, kill or forget what else would be wrong.
    fn excuse_for(&mut self, request: &Request) {
        let changes =
            !matches!(request, Request::Stop(Change { force: false, .. }) | Request::Signal(_));
        self.check.impatient |= matches!(request, Request::Shutdown(Shutdown { force: true }));
        if changes {
            let ids: Vec<_> = self.engine.names().values().copied().collect();
            for id in ids {
                self.check.excuse(id);
            }
        }
    }

    /// The loader gives the file as it is now: the same, another, or a broken one.
    pub(super) fn reload(
        &mut self,
        request: Option<RequestId>,
        dry_run: bool,
        allow_removal: bool,
    ) {
        let event = match self.random.below(10) {
            0 => Event::NotLoaded { request, why: "site.yaml:1:1: error".into() },
            1..4 => {
                let site = Arc::clone(&self.site);
                Event::Loaded { request, site, dry_run, allow_removal, warnings: Vec::new() }
            }
            _ => {
                let site = Arc::new(site::mutated(&self.site, &mut self.random));
                Event::Loaded { request, site, dry_run, allow_removal, warnings: Vec::new() }
            }
        };
        self.feed_later(event);
    }

    /// Reloads that change nothing do nothing.
    pub(super) fn judge_reload(
        &mut self,
        event: &Event,
        before: &[State],
        actions: &[Action],
    ) -> Step {
        let quiet = |action: &Action| {
            matches!(action, Action::Record(_) | Action::Reply(..) | Action::Progress(..))
        };
        let after: Vec<State> = self.engine.programs().map(|slot| slot.state.clone()).collect();
        let still = actions.iter().all(quiet) && after == before;
        match event {
            Event::NotLoaded { .. } => {
                self.hold(12, still, || "a bad file changed something".into())
            }
            Event::Loaded { site, .. } if Arc::ptr_eq(site, &self.site) => {
                self.hold(13, still, || "the same file changed something".into())
            }
            _ => Ok(()),
        }
    }

    /// Stores and loads the engine: it must go on as if nothing had been.
    pub(super) fn store(&mut self) -> Step {
        let text = serde_json::to_string(&self.engine)
            .map_err(|why| super::check::Violation(56, why.to_string()))?;
        let again: Engine = serde_json::from_str(&text)
            .map_err(|why| super::check::Violation(56, why.to_string()))?;
        let same = serde_json::to_string(&again).is_ok_and(|t| t == text);
        self.hold(56, same, || "a stored engine differs from what it was".into())?;
        self.engine = again;
        Ok(())
    }

    /// Faults cease and nobody asks for anything: within its bound all that can be up is up.
    pub(super) fn calm(&mut self) -> Step {
        self.world.faults = Faults::none();
        let bound = self.engine.programs().map(longest).max().unwrap_or_default();
        let end = self.now + u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX / 4);
        let mut quiet = 0;
        while quiet < 3 && self.exited.is_none() {
            let before = self.events;
            self.advance(Some(end))?;
            quiet = if self.events == before { quiet + 1 } else { 0 };
        }
        if self.exited.is_some() || self.engine.phase_word() != "up" {
            return Ok(());
        }
        let slots: Vec<_> = self.engine.programs().cloned().collect();
        for slot in slots {
            if slot.goal != Goal::Up {
                continue;
            }
            let resting = matches!(
                slot.state,
                State::Running { .. }
                    | State::Exited { .. }
                    | State::Waiting { .. }
                    | State::Fatal { .. }
                    | State::Settling { .. }
                    | State::Stopped
                    | State::Backoff { .. }
            );
            let name = &slot.program.name;
            self.hold(40, resting, || format!("{name} hangs in {:?}", slot.state))?;
            let waits = matches!(slot.state, State::Waiting { wait_until: None, .. });
            if waits {
                let held = !self
                    .engine
                    .status_of(&slot, Instant(self.now), self.wall())
                    .waiting_for
                    .is_empty();
                self.hold(44, held, || format!("{name} waits for nothing"))?;
            } else {
                self.hold(44, true, String::new)?;
            }
        }
        Ok(())
    }

    /// SIGTERM: everything is down within the budget.
    pub(super) fn end(&mut self) -> Step {
        let began = self.now;
        let budget = self.engine.supervisor().shutdown_timeout.unwrap_or_default();
        if self.engine.phase_word() == "up" {
            self.feed(Event::Told(Told::Stop))?;
        }
        let most = budget + Duration::from_secs(12);
        let end = began + u64::try_from(most.as_nanos()).unwrap();
        let mut quiet = 0;
        self.check.impatient = true;
        while quiet < 3 && self.exited.is_none() {
            let before = self.events;
            self.advance(Some(end))?;
            quiet = if self.events == before { quiet + 1 } else { 0 };
        }
        let over = self.exited.is_some();
        self.hold(38, over, || format!("the site is not down after {most:?}"))
    }
}

/// How long a program may take to settle when nothing goes wrong any more.
fn longest(slot: &mini_supervisor::engine::Slot) -> Duration {
    let program = &slot.program;
    let limit = |limit: Limit| match limit {
        Limit::After(time) => time,
        Limit::Never => Duration::ZERO,
    };
    let retry = program.restart.start_limit.as_ref().map_or(Duration::ZERO, |l| l.retry_every);
    let hooks = program.start_pre.len() + program.start_post.len() + program.stop_post.len();
    let hooks = Duration::from_secs(12) * u32::try_from(hooks).unwrap();
    let stop = limit(program.stop.patience());
    (program.restart.max_delay * 2 + retry + hooks + stop + limit(program.start_timeout)) * 4
        + Duration::from_secs(600)
}
