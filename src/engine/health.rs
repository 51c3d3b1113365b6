//! How a program is: looks at it, one after the other, for as long as it is up.
//!
//! ```text
//!   unknown ──── good ───► healthy ◄──── good ──── unhealthy
//!      │                      │                        ▲
//!      └────────┬─────────────┘                        │
//!               └──── `retries` bad ones in a row ─────┴──► restart, stop, or nothing
//! ```
//!
//! A look that could not be made says nothing: it neither counts nor ends a row. What is left of an
//! earlier run, or of earlier settings, is not heard.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ProbeOf, Record, RunId, Slot, State, StopWhy, What, machine::Cx};
use crate::model::{HealthCheck, Instant, OnUnhealthy, Sample};

/// What is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// No look has found it good yet, nor too many bad.
    Unknown,
    /// It serves.
    Healthy,
    /// It does not.
    Unhealthy,
}

/// How a program is that is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The settings by which it is looked at.
    of: Arc<HealthCheck>,
    /// Of which life.
    run: RunId,
    /// When it was ready.
    since: Instant,
    /// No look has come to anything yet.
    first: bool,
    /// What is known.
    pub verdict: Verdict,
    /// Bad looks in a row that count.
    pub failures: u32,
    /// What the last bad one of the row has found.
    why: Option<Arc<str>>,
    /// Why the last look could not be made.
    blind: Option<Arc<str>>,
    /// When the next look is due, while none is under way.
    pub(super) next: Instant,
}

impl Health {
    /// Whether it serves; `None`: not known yet.
    #[must_use]
    pub fn is_healthy(&self) -> Option<bool> {
        match self.verdict {
            Verdict::Unknown => None,
            Verdict::Healthy => Some(true),
            Verdict::Unhealthy => Some(false),
        }
    }

    /// `healthy`, `failing (2 of 3): GET http://localhost/: 503 Service Unavailable`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let why = self.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let (failures, most) = (self.failures.min(self.of.retries), self.of.retries);
        let word = match self.verdict {
            Verdict::Unhealthy => format!("unhealthy ({failures} of {most}){why}"),
            Verdict::Healthy | Verdict::Unknown if failures > 0 => {
                format!("failing ({failures} of {most}){why}")
            }
            Verdict::Healthy => "healthy".to_owned(),
            Verdict::Unknown => format!("not known to be healthy yet{why}"),
        };
        match &self.blind {
            Some(why) => format!("{word}; not told by the last check: {why}"),
            None => word,
        }
    }

    /// Whether a bad look that began then counts. The one that is made as soon as it is ready only
    /// brings good news: many listen a moment later than they start.
    fn counts(&self, began: Instant) -> bool {
        match self.verdict {
            Verdict::Healthy | Verdict::Unhealthy => true,
            Verdict::Unknown => !self.first && began > self.since + self.of.start_period,
        }
    }
}

impl Slot {
    /// Whether it serves by its health check; `None`: it has none.
    #[must_use]
    pub fn is_healthy(&self) -> Option<bool> {
        self.program.health.as_ref()?;
        Some(self.health.as_ref().and_then(Health::is_healthy) == Some(true))
    }

    /// Looks begin when it is up, anew with other settings, and end with its run.
    pub(super) fn look_after_health(&mut self, cx: &mut Cx<'_>) {
        let up = if let State::Running { life } = &self.state { Some(life.run) } else { None };
        let Some((run, of)) = up.filter(|_| !self.is_oneshot()).zip(self.program.health.clone())
        else {
            if self.health.take().is_some() {
                self.end_probe(ProbeOf::Health, cx);
            }
            return;
        };
        let same = |health: &Health| health.run == run && health.of == of;
        if !self.health.as_ref().is_some_and(same) {
            self.end_probe(ProbeOf::Health, cx);
            let (since, next) = (self.since.0, cx.now);
            let (verdict, failures, first) = (Verdict::Unknown, 0, true);
            self.health = Some(Health {
                of,
                run,
                since,
                first,
                verdict,
                failures,
                why: None,
                blind: None,
                next,
            });
        }
        let due = self.health.as_ref().filter(|health| health.next <= cx.now);
        if let (Some(limit), None) = (due.map(|health| health.of.timeout), &self.probe) {
            self.begin_probe(ProbeOf::Health, limit, cx);
        }
    }

    /// What a look at its health has found.
    pub(super) fn health_sampled(&mut self, began: Instant, sample: Sample, cx: &mut Cx<'_>) {
        let Some(health) = &mut self.health else { return };
        health.next = cx.now + health.of.interval;
        let counts = health.counts(began) || cx.bugs.count_the_start_period;
        health.first = false;
        let what = match sample {
            Sample::Unknown(why) if !cx.bugs.count_unknown_health => {
                let known = health.blind.replace(Arc::clone(&why)).is_some();
                (!known).then_some(What::HealthUnknown { why })
            }
            Sample::Good => {
                let again = health.verdict == Verdict::Unhealthy || health.failures > 0;
                let news = again || health.verdict == Verdict::Unknown;
                (health.blind, health.why, health.failures) = (None, None, 0);
                health.verdict = Verdict::Healthy;
                news.then_some(What::Healthy { again })
            }
            Sample::Bad(why) | Sample::Unknown(why) => {
                (health.blind, health.why) = (None, Some(Arc::clone(&why)));
                health.failures = health.failures.saturating_add(u32::from(counts));
                return self.health_is_bad(counts, why, cx);
            }
        };
        if let Some(what) = what {
            cx.out.record(Record::of(self, what));
        }
    }

    /// A bad look: one of a row, or the one that is too many.
    fn health_is_bad(&mut self, counts: bool, why: Arc<str>, cx: &mut Cx<'_>) {
        let Some(health) = self.health.as_mut().filter(|_| counts) else { return };
        let (failures, most) = (health.failures, health.of.retries);
        let most = if cx.bugs.lose_patience { most.div_ceil(2) } else { most };
        if failures < most {
            if failures == 1 {
                cx.out.record(Record::of(self, What::Failing { why, of: most }));
            }
            return;
        }
        if health.verdict == Verdict::Unhealthy {
            return;
        }
        health.verdict = Verdict::Unhealthy;
        let follows = health.of.on_failure;
        cx.out.record(Record::of(self, What::Unhealthy { why: Arc::clone(&why), failures }));
        let State::Running { life } = self.state else { return };
        if follows != OnUnhealthy::None {
            self.history.unhealthy = Some(why);
            self.state = self.begin_stop(life, StopWhy::Unhealthy(failures), cx);
            self.since = (cx.now, cx.wall);
        }
    }
}
