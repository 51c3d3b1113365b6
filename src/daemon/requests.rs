//! What clients ask of the shell itself: status, logs, events, version; the rest goes to the
//! engine.

use std::{collections::BTreeMap, time::Duration};

use super::{Shell, control::ControlEvent, logs};
use crate::{
    control::{
        LogLine, LogsQuery, Peer, Reply, Request, RequestId, SemaphoreStatus, SiteStatus,
        SupervisorStatus, Targets, VersionInfo, Zombies,
    },
    engine::Event,
    model::{Instant, LogLevel, Name, WallTime},
    plan::ProgramId,
    sys::{
        clock,
        tree::{self, Process},
    },
};

/// Beyond so many programs, a status of all leaves out what costs a look at each process.
const DETAILS_MAX: usize = 128;

/// Before the name of a semaphore, where programs have names too.
const SEMAPHORE: &str = "semaphore:";

/// How long a refusal of the same user is not said again.
const SAID: Duration = Duration::from_secs(60);
/// How many users are remembered; beyond, the list begins anew.
const USERS_MAX: usize = 256;

/// Whose refusals were said when, and how many were not: a flood must not fill the log.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<u32, (Instant, u64)>);

impl Refusals {
    /// Whether a refusal of `uid` is to be said, and then how many were not.
    fn say(&mut self, uid: u32, now: Instant) -> Option<u64> {
        if self.0.len() >= USERS_MAX && !self.0.contains_key(&uid) {
            self.0.clear();
        }
        match self.0.get_mut(&uid) {
            Some((said, unsaid)) if now.since(*said) < SAID => {
                *unsaid = unsaid.saturating_add(1);
                None
            }
            Some(entry) => Some(std::mem::replace(entry, (now, 0)).1),
            None => {
                self.0.insert(uid, (now, 0));
                Some(0)
            }
        }
    }
}

impl Shell {
    pub(super) fn control_event(&mut self, event: ControlEvent) {
        match event {
            ControlEvent::Request { id, peer, request } => self.request(id, peer, request),
            ControlEvent::Gone(id) => {
                self.followers.remove(&id);
                self.feed(Event::RequestGone(id));
            }
            ControlEvent::Disturbed => self.look_at_door(),
            ControlEvent::Refused { peer, why } => {
                let now = clock::monotonic();
                let Some(unsaid) = self.refusals.say(peer.uid, now) else { return };
                let before = match unsaid {
                    0 => String::new(),
                    n => format!(", and {n} times more in the minute before"),
                };
                let text = format!("refused uid {} (pid {}): {why}{before}", peer.uid, peer.pid);
                self.note(LogLevel::Warn, text);
            }
        }
    }

    fn request(&mut self, id: RequestId, peer: Peer, request: Request) {
        match request {
            Request::Status(targets) => {
                let reply = self.status(&targets).unwrap_or_else(|refusal| refusal);
                self.reply(id, reply);
            }
            Request::Logs(query) => self.logs_request(id, &query),
            Request::Events(query) => {
                let lines = self.journal.events();
                if query.follow {
                    if let Some(control) = &self.control {
                        control.lines(id, lines);
                    }
                    self.followers.insert(id, None);
                } else {
                    self.reply(id, Reply::Lines(lines));
                }
            }
            Request::FollowSemaphore(which) => {
                if !self.engine.semaphores().any(|one| one.settings.name.as_str() == which.name) {
                    return self.reply(id, self.engine.no_such_semaphore(&which.name));
                }
                self.followers.insert(id, Some(format!("{SEMAPHORE}{}", which.name)));
            }
            Request::Version(_) => {
                let reply = Reply::Version(VersionInfo {
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    pid: std::process::id(),
                    name: self.engine.supervisor().name.as_str().to_owned(),
                    config: self.config.clone(),
                });
                self.reply(id, reply);
            }
            Request::Processes(query) => self.processes_request(id, &query),
            Request::KillAll(order) => self.kill_all(id, peer, order),
            Request::Start(_)
            | Request::Stop(_)
            | Request::Restart(_)
            | Request::Reload(_)
            | Request::ReloadProgram(_)
            | Request::Signal(_)
            | Request::Reset(_)
            | Request::ClearSemaphore(_)
            | Request::Shutdown(_) => self.feed(Event::Request { id, peer, request }),
        }
    }

    fn chosen(&self, names: &[String]) -> Result<Vec<ProgramId>, Reply> {
        if names.is_empty() {
            return Ok(self.engine.programs().map(|slot| slot.id).collect());
        }
        self.engine.select(names)
    }

    /// The semaphores among `names`, and the other names; all of them, when there are none.
    fn chosen_semaphores(
        &self,
        names: &[String],
        now: Instant,
    ) -> Result<(Vec<SemaphoreStatus>, Option<Vec<String>>), Reply> {
        let all = || self.engine.semaphore_statuses(now);
        if names.is_empty() {
            return Ok((all().collect(), Some(Vec::new())));
        }
        let is_one = |name: &&String| name.starts_with(SEMAPHORE);
        let mut found = Vec::new();
        for name in names.iter().filter(is_one) {
            let name = name.trim_start_matches(SEMAPHORE);
            let Some(status) = all().find(|status| status.name == name) else {
                return Err(self.engine.no_such_semaphore(name));
            };
            found.push(status);
        }
        let others: Vec<String> = names.iter().filter(|name| !is_one(name)).cloned().collect();
        Ok((found, (!others.is_empty()).then_some(others)))
    }

    fn status(&mut self, targets: &Targets) -> Result<Reply, Reply> {
        let (now, wall) = (clock::monotonic(), clock::wall());
        let (semaphores, names) = self.chosen_semaphores(&targets.names, now)?;
        let ids = match names {
            Some(names) => self.chosen(&names)?,
            None => Vec::new(),
        };
        let detailed = ids.len() <= DETAILS_MAX;
        let mut programs = Vec::with_capacity(ids.len());
        for slot in ids.iter().filter_map(|id| self.engine.slot(*id)) {
            let mut status = self.engine.status_of(slot, now, wall);
            if let (true, Some(life)) = (detailed, slot.life()) {
                let adopted = super::adopted::processes_of(&mut self.adopted, life.run);
                let processes =
                    adopted.unwrap_or_else(|| self.trees.processes_of(&self.children, life.run.0));
                details(&processes, &mut status);
                let account = (ids.len() == 1)
                    .then(|| self.logs.account(slot.program.name.clone()))
                    .flatten()
                    .unwrap_or_default();
                let (out, err) = (account.stdout, account.stderr);
                status.log_lost_bytes = out.dropped.saturating_add(err.dropped);
                status.log_stuck_s = account.stuck.map(|stuck| stuck.as_secs_f64());
            }
            if ids.len() == 1 {
                status.lock = self.lock_status(slot.id);
            }
            programs.push(status);
        }
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Reply::Status(Box::new(SiteStatus {
            schema_version: 1,
            supervisor: SupervisorStatus {
                name: self.engine.supervisor().name.as_str().to_owned(),
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                state: self.engine.phase_word().to_owned(),
                uptime_s: now.since(self.started).as_secs_f64(),
                orphans_reaped: self.children.strangers_reaped(),
                // Of the whole site only.
                zombies: if targets.names.is_empty() { self.zombies() } else { Vec::new() },
            },
            programs,
            mounts: Vec::new(),
            semaphores,
            tasks: Vec::new(),
        })))
    }

    fn zombies(&self) -> Vec<Zombies> {
        let all = self.trees.zombies_of_others(&self.children).into_iter();
        let one = |(parent, count): (crate::sys::Pid, u64)| Zombies {
            parent: parent.number(),
            name: tree::name_of(parent).unwrap_or_default(),
            count,
        };
        all.map(one).collect()
    }

    fn logs_request(&mut self, id: RequestId, query: &LogsQuery) {
        let ids = match self.chosen(&query.names) {
            Ok(ids) => ids,
            Err(refusal) => return self.reply(id, refusal),
        };
        let Some(control) = self.control.clone() else { return };
        let slots = ids.iter().filter_map(|one| self.engine.slot(*one));
        let programs: Vec<Name> = slots.map(|slot| slot.program.name.clone()).collect();
        let age = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let since = query.since.map(|d| WallTime(clock::wall().0.saturating_sub(age(d))));
        let lines = query.lines.unwrap_or(if since.is_some() { 100_000 } else { 50 });
        let follow = query.follow;
        let order = logs::LogQuery {
            programs,
            lines: usize::try_from(lines).unwrap_or(usize::MAX),
            since,
            stderr_only: query.stderr,
            follow,
        };
        let reader = move |batch: logs::LogBatch| {
            let lines = batch.lines.iter().map(log_line).collect();
            if follow {
                control.lines(id, lines);
                logs::Taken::Yes
            } else {
                control.reply(id, Reply::Lines(lines));
                logs::Taken::Gone
            }
        };
        self.logs.query(order, Box::new(reader));
    }
}

fn log_line(line: &logs::LogLine) -> LogLine {
    let source = match line.which {
        logs::Which::Stdout => "stdout",
        logs::Which::Stderr => "stderr",
    };
    LogLine {
        at: line.time.unwrap_or_default(),
        name: line.program.as_str().to_owned(),
        source: source.to_owned(),
        text: String::from_utf8_lossy(&line.text).into_owned(),
    }
}

/// What only the kernel knows.
fn details(processes: &[Process], status: &mut crate::control::ProgramStatus) {
    if processes.is_empty() {
        return;
    }
    status.pids = processes.iter().map(|process| process.pid.number()).collect();
    status.pids.sort_unstable();
    status.cpu_usage_ns = Some(processes.iter().map(|process| process.cpu_ns).sum());
    status.memory_current = Some(processes.iter().map(|process| process.memory_bytes).sum());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_said_once_a_minute_and_user() {
        let mut refusals = Refusals::default();
        let at = |secs: u64| Instant::default() + Duration::from_secs(secs);
        let said: Vec<Option<u64>> =
            [0, 1, 59, 60, 61].map(|secs| refusals.say(1000, at(secs))).into();
        assert_eq!(said, [Some(0), None, None, Some(2), None]);
        assert_eq!(refusals.say(1001, at(61)), Some(0));
        for uid in 0..100_000 {
            refusals.say(uid, at(62));
        }
        assert!(refusals.0.len() <= USERS_MAX);
    }
}
