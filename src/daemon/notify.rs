//! What whoever started us is told: the starter that waits for the daemon, and the service manager
//! by `sd_notify(3)`.
//!
//! What is to be said follows from where the engine is, and is compared with what was said: a
//! message that is lost is made up for by the next look. There is no deadline without
//! `$NOTIFY_SOCKET`, and no failure that matters.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    time::Duration,
};

use nix::errno::Errno;

use crate::{
    engine::Engine,
    model::{Instant, WallTime},
    sys::{
        clock,
        daemonize::{self, Handover},
        notify::Notifier,
    },
};

/// At most one status line in this time.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How often more time is asked for, and how much: one late message does no harm.
const EXTEND_EVERY: Duration = Duration::from_secs(5);
const EXTEND_BY: Duration = Duration::from_secs(10);
/// For how long the service manager may take to notice that the starter is gone.
const HOLD: Duration = Duration::from_secs(5);
/// The first look for that; each pause is twice the one before.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// How long the end waits until the last message was read.
const BARRIER: Duration = Duration::from_millis(500);

/// The starter and the service manager.
pub(super) struct Manager {
    /// Waits to hear that we are up.
    starter: Option<Handover>,
    notified: Option<Notified>,
    came_up: bool,
}

/// A service manager, and what it knows.
struct Notified {
    notifier: Notifier,
    held: Option<Held>,
    /// Our pid, when the service manager was given another one.
    main_pid: Option<u32>,
    ready: bool,
    stopping: bool,
    status: String,
    /// Something has happened since the status was last looked at.
    changed: bool,
    status_after: Instant,
    extend_at: Option<Instant>,
    watchdog: Option<(Duration, Instant)>,
    /// Reloads that are under way.
    reloads: u32,
    /// Nobody is there: it is not tried again before something else is to be said.
    retry_at: Option<Instant>,
}

/// Messages are held back: as long as the starter is known, they would come from a process that
/// the service manager does not know as the main one (with `NotifyAccess=main` they are refused,
/// and that is logged).
struct Held {
    starter: i32,
    look_at: Instant,
    pause: Duration,
    until: Option<Instant>,
}

impl Manager {
    /// For what the environment says; `starter` waits for the daemon.
    pub(super) fn new(
        environment: &BTreeMap<OsString, OsString>,
        starter: Option<Handover>,
        now: Instant,
    ) -> Self {
        let address = variable(environment, "NOTIFY_SOCKET");
        let notifier = address.and_then(|address| Notifier::new(address).ok());
        let pid = std::process::id();
        let from = starter.as_ref().map(Handover::starter);
        let manager = notifier.map(|notifier| Notified {
            notifier,
            held: from.map(|starter| Held {
                starter,
                look_at: now,
                pause: FIRST_LOOK,
                until: None,
            }),
            main_pid: from.map(|_| pid),
            ready: false,
            stopping: false,
            status: String::new(),
            changed: true,
            status_after: now,
            extend_at: None,
            watchdog: watchdog(environment, from, pid).map(|period| (period, now)),
            reloads: 0,
            retry_at: None,
        });
        Self { starter, notified: manager, came_up: false }
    }

    /// When something is to be said although nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let notified = self.notified.as_ref()?;
        if let Some(held) = &notified.held {
            return held.until.map(|_| held.look_at);
        }
        let status = notified.changed.then_some(notified.status_after);
        let watchdog = notified.watchdog.map(|(_, at)| at);
        [status, watchdog, notified.extend_at, notified.retry_at].into_iter().flatten().min()
    }

    /// Something has happened.
    pub(super) fn touch(&mut self) {
        if let Some(notified) = &mut self.notified {
            notified.changed = true;
        }
    }

    /// Says what there is to say.
    pub(super) fn look(&mut self, engine: &Engine, now: Instant, wall: impl Fn() -> WallTime) {
        if !self.came_up && engine.phase_word() == "up" {
            self.came_up = engine.has_come_up(engine.supervisor().ready_when);
        }
        if self.came_up
            && let Some(starter) = self.starter.take()
        {
            starter.up();
            if let Some(held) = self.notified.as_mut().and_then(|n| n.held.as_mut()) {
                (held.look_at, held.until) = (now + held.pause, Some(now + HOLD));
            }
        }
        let Some(notified) = &mut self.notified else { return };
        if !notified.is_free(now) {
            return;
        }
        notified.say_state(engine, self.came_up, now);
        notified.say_status(engine, now, wall);
        notified.ask_for_time(engine, self.came_up, now);
        notified.feed_watchdog(now);
    }

    /// A reload begins.
    pub(super) fn reloading(&mut self, now: Instant) {
        let Some(notified) = &mut self.notified else { return };
        notified.reloads = notified.reloads.saturating_add(1);
        if notified.ready && notified.reloads == 1 {
            notified.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.0 / 1000), now);
        }
    }

    /// A reload is over, whatever came of it.
    pub(super) fn reloaded(&mut self, now: Instant) {
        let Some(notified) = &mut self.notified else { return };
        let one = notified.reloads == 1;
        notified.reloads = notified.reloads.saturating_sub(1);
        if one && notified.ready && !notified.stopping {
            // What has no room now is said again: without it we would be reloading for ever.
            notified.ready = notified.send("READY=1", now);
        }
    }

    /// The last words: we end with `code`. `log` is where more stands.
    pub(super) fn ended(&mut self, code: u8, log: Option<&str>) {
        if let Some(starter) = self.starter.take() {
            starter.over(code, log);
        }
        let Some(notified) = &mut self.notified else { return };
        notified.wait_until_known();
        if notified.held.is_none() {
            let now = clock::monotonic();
            let stopping = if notified.stopping { "" } else { "STOPPING=1\n" };
            notified.send(&format!("{stopping}STATUS=ended, exit {code}\nEXIT_STATUS={code}"), now);
            let _read = notified.notifier.barrier(BARRIER);
        }
    }
}

/// The supervisor does not come up, for the reason in `text`: one line of it is the status.
pub(super) fn refused(environment: &BTreeMap<OsString, OsString>, text: &str, code: u8) {
    let address = variable(environment, "NOTIFY_SOCKET");
    let Some(notifier) = address.and_then(|address| Notifier::new(address).ok()) else { return };
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("supervisor: ").unwrap_or(line);
    if notifier.send(&format!("STATUS={line}\nEXIT_STATUS={code}")).is_ok() {
        let _read = notifier.barrier(BARRIER);
    }
}

impl Notified {
    /// Whether messages are no longer held back.
    fn is_free(&mut self, now: Instant) -> bool {
        let Some(held) = &mut self.held else { return true };
        // Not before it was told that we are up.
        let Some(until) = held.until else { return false };
        if now < held.look_at {
            return false;
        }
        // Its parent reaps it when it knows the main process, which it reads from the PID file
        // then; nothing tells us, so it is looked at, not for long.
        if daemonize::exists(held.starter) && now < until {
            held.pause = held.pause.saturating_mul(2);
            held.look_at = (now + held.pause).min(until);
            return false;
        }
        self.held = None;
        true
    }

    /// systemd reads the PID file just before it reaps the starter. Were the file gone by then it
    /// would wait for another one, for as long as a start may take.
    fn wait_until_known(&mut self) {
        let (_never, timer) = crossbeam_channel::bounded::<()>(0);
        loop {
            let now = clock::monotonic();
            if self.is_free(now) {
                return;
            }
            // Of a daemon that has not come up the starter says so itself.
            let Some(held) = self.held.as_ref().filter(|held| held.until.is_some()) else { return };
            timer.recv_timeout(held.look_at.since(now)).ok();
        }
    }

    fn say_state(&mut self, engine: &Engine, came_up: bool, now: Instant) {
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        let stops = engine.phase_word() != "up";
        let mut text = self.main_pid.map(|pid| format!("MAINPID={pid}\n")).unwrap_or_default();
        if came_up && !self.ready && !stops {
            text.push_str("READY=1\n");
        }
        if stops && !self.stopping {
            text.push_str("STOPPING=1\n");
        }
        if text.is_empty() || !self.send(text.trim_end(), now) {
            return;
        }
        self.main_pid = None;
        self.ready |= came_up && !stops;
        self.stopping |= stops;
    }

    /// At most once a second; what stays the same is not said again.
    fn say_status(&mut self, engine: &Engine, now: Instant, wall: impl Fn() -> WallTime) {
        if !self.changed || now < self.status_after {
            return;
        }
        self.changed = false;
        self.status_after = now + STATUS_EVERY;
        let status = engine.summary(now, wall());
        if status == self.status {
            return;
        }
        if self.send(&format!("STATUS={status}"), now) {
            self.status = status;
        } else {
            self.changed = true;
        }
    }

    /// While programs come up, or go down, and that is sure to have an end.
    fn ask_for_time(&mut self, engine: &Engine, came_up: bool, now: Instant) {
        let wanted = match engine.ends_by() {
            Some(end) => now < end,
            None => !came_up && engine.is_coming_up(),
        };
        if !wanted {
            self.extend_at = None;
        } else if self.extend_at.is_none_or(|at| at <= now) {
            self.send(&format!("EXTEND_TIMEOUT_USEC={}", EXTEND_BY.as_micros()), now);
            self.extend_at = Some(now + EXTEND_EVERY);
        }
    }

    fn feed_watchdog(&mut self, now: Instant) {
        if let Some((period, _)) = self.watchdog.filter(|(_, at)| *at <= now) {
            self.send("WATCHDOG=1", now);
            self.watchdog = Some((period, now + period));
        }
    }

    /// Whether it need not be said again: it was taken, or nobody is there to take it.
    fn send(&mut self, text: &str, now: Instant) -> bool {
        let full = matches!(self.notifier.send(text), Err(Errno::EAGAIN | Errno::ENOBUFS));
        if full {
            self.retry_at = Some(now + STATUS_EVERY);
        }
        !full
    }
}

/// Half of the time after which the service manager takes us for dead, if that is meant for us.
/// After a fork it was meant for the starter.
fn watchdog(
    environment: &BTreeMap<OsString, OsString>,
    starter: Option<i32>,
    pid: u32,
) -> Option<Duration> {
    let number = |name: &str| -> Option<Option<u64>> {
        variable(environment, name).map(|value| value.to_str()?.parse().ok())
    };
    let meant = match number("WATCHDOG_PID") {
        None => true,
        Some(given) => {
            let starter = starter.and_then(|starter| u64::try_from(starter).ok());
            given.is_some() && (given == Some(u64::from(pid)) || given == starter)
        }
    };
    let period = number("WATCHDOG_USEC").flatten().filter(|usec| *usec > 0 && meant)?;
    Some(Duration::from_micros(period / 2).max(Duration::from_millis(1)))
}

fn variable<'a>(environment: &'a BTreeMap<OsString, OsString>, name: &str) -> Option<&'a OsStr> {
    let value = environment.get(OsStr::new(name)).map(OsString::as_os_str);
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
        pairs.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect()
    }

    #[test]
    fn the_watchdog_is_for_us_for_the_starter_or_for_nobody_else() {
        let cases = [
            (&[("WATCHDOG_USEC", "2000000")][..], Some(1000)),
            (&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "7")], Some(1000)),
            (&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "5")], Some(1000)),
            (&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "6")], None),
            (&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "x")], None),
            (&[("WATCHDOG_USEC", "0")], None),
            (&[("WATCHDOG_USEC", "-1")], None),
            (&[("WATCHDOG_USEC", "soon")], None),
            (&[("WATCHDOG_USEC", "1")], Some(1)),
            (&[], None),
        ];
        for (pairs, ms) in cases {
            let period = watchdog(&environment(pairs), Some(5), 7);
            assert_eq!(period, ms.map(Duration::from_millis), "{pairs:?}");
        }
        let meant_for_another = environment(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "5")]);
        assert_eq!(watchdog(&meant_for_another, None, 7), None);
    }

    #[test]
    fn without_a_socket_there_is_nothing_to_wait_for() {
        for pairs in [&[][..], &[("NOTIFY_SOCKET", "")], &[("NOTIFY_SOCKET", "relative")]] {
            let mut all = environment(pairs);
            all.insert("WATCHDOG_USEC".into(), "2000000".into());
            let mut manager = Manager::new(&all, None, Instant(1));
            manager.touch();
            assert_eq!(manager.deadline(), None);
        }
    }
}
