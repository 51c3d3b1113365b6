//! What status shows: a pure view of the machine.

use std::time::Duration;

use super::{Again, Cause, Claiming, Engine, Fork, Goal, Health, Slot, State, What};
use crate::{
    control::{ExitStatus, ProgramStatus},
    model::{Human, Instant, Limit, Signal, WallTime},
};

impl Engine {
    /// One program as status shows it; what only the kernel knows is left empty.
    #[must_use]
    pub fn status_of(&self, slot: &Slot, now: Instant, wall: WallTime) -> ProgramStatus {
        let life = slot.life();
        let next = slot.next_at().filter(|at| at.0 != u64::MAX);
        let ms = |at: Instant| i64::try_from((at - now).as_millis()).unwrap_or(i64::MAX);
        ProgramStatus {
            name: slot.program.name.as_str().to_owned(),
            state: slot.word(),
            goal: if slot.goal == Goal::Up { "up" } else { "down" }.to_owned(),
            pid: life.map(|life| life.pid),
            adopted: slot.is_adopted(),
            pids: life.map(|life| life.pid).into_iter().collect(),
            uptime_s: life.map(|life| (now - life.started).as_secs_f64()),
            ready: slot.is_ready(),
            healthy: slot.health.as_ref().and_then(Health::is_healthy),
            health: slot.health.as_ref().map(Health::in_words),
            restarts: slot.history.restarts,
            exit: slot.history.exit.map(|(exit, at)| ExitStatus::new(exit, at)),
            reason: self.reason(slot),
            waiting_for: self.blockers(slot.id, now),
            next_in_s: next.map(|at| (at - now).as_secs_f64()),
            next_total_s: escalation(slot)
                .and_then(|(total, _)| total)
                .map(|time| self.patience.of(time).as_secs_f64()),
            next_signal: escalation(slot).map(|(_, signal)| signal),
            next_at: next.map(|at| WallTime(wall.0.saturating_add(ms(at)))),
            cpu_usage_ns: None,
            memory_current: None,
            description: slot.program.description.as_deref().map(str::to_owned),
            documentation: slot.program.documentation.as_deref().map(str::to_owned),
            log_lost_bytes: 0,
            log_stuck_s: None,
            lock: None,
            says: life.and(slot.said.busy).map(|busy| busy.as_str().to_owned()),
            status_text: slot.said.status.as_deref().map(str::to_owned),
            status_errno: slot.said.errno,
        }
    }

    /// Why a program is as it is, in words.
    #[must_use]
    pub fn reason(&self, slot: &Slot) -> String {
        match &slot.state {
            State::Stopped => match slot.history.attempts {
                0 if !slot.program.enabled => "disabled".to_owned(),
                0 => "not started".to_owned(),
                _ => "stopped".to_owned(),
            },
            State::Waiting { .. } => "waiting".to_owned(),
            State::Retrying { .. } => "cannot be started just now, and is tried again".to_owned(),
            State::Spawning { stop: None, .. } => "being started".to_owned(),
            State::Spawning { stop: Some(halt), .. } => {
                format!("stopping ({}) before its exec", self.why(halt.why))
            }
            State::Preparing { index, .. } | State::Sweeping { index, .. } => {
                format!("start_pre[{index}] runs")
            }
            State::Claiming { step: Claiming::Looking { .. }, .. } => {
                "its lock is being taken".to_owned()
            }
            State::Claiming { step: Claiming::Ending { who, .. }, .. } => {
                format!("{who}; ending it first")
            }
            State::Tidying { .. } => "what is stale in /dev/shm is looked for".to_owned(),
            State::Forking { fork: Fork::Starting, .. } => "its command starts it".to_owned(),
            State::Forking { fork: Fork::Looking { why }, .. } => match why {
                Some(why) => format!("its daemon is looked for: {why}"),
                None => "its daemon is looked for".to_owned(),
            },
            State::Proving { why: Some(why), .. } => format!("not ready yet: {why}"),
            State::Proving { why: None, .. } => "not ready yet".to_owned(),
            State::Settling { index, .. } => format!("start_post[{index}] runs"),
            State::Running { .. } if slot.is_adopted() => {
                format!("adopted {}, not started by the supervisor", slot.since.1)
            }
            State::Running { .. } => format!("running since {}", slot.since.1),
            State::Draining { why, .. } => {
                format!("to be stopped ({}); waiting for {}", self.why(*why), self.users(slot))
            }
            State::Stopping { why, .. } => format!("stopping ({})", self.why(*why)),
            State::Emptying { again, .. } => emptying(*again).to_owned(),
            State::Cleaning { index, .. } => format!("stop_post[{index}] runs"),
            State::Backoff { ended, .. } => {
                let found = found(slot, &ended.cause);
                match ended.lived {
                    Some(lived) => format!("{} after {}{found}", ended.cause, Human(lived)),
                    None => format!("{}{found}", ended.cause),
                }
            }
            State::Exited { ended, .. } => match ended.cause {
                Cause::Stopped(why, _) => self.why(why) + &found(slot, &ended.cause),
                Cause::Exit(_)
                | Cause::NotSpawned(_)
                | Cause::Pre(..)
                | Cause::NoMain(_)
                | Cause::Unready(_)
                | Cause::Duplicate(_)
                | Cause::WaitedInVain(_) => ended.cause.to_string(),
            },
            State::Fatal { ended, limit, .. } => {
                let what = What::Fatal { cause: ended.cause.clone(), limit: *limit, retry: None };
                what.to_string() + &found(slot, &ended.cause)
            }
        }
    }

    fn why(&self, why: super::StopWhy) -> String {
        match why {
            super::StopWhy::Requirement(id) => match self.name_of(id) {
                Some(name) => format!("{name}, which it requires, is down"),
                None => why.to_string(),
            },
            super::StopWhy::Asked
            | super::StopWhy::Restart
            | super::StopWhy::Lock
            | super::StopWhy::Shutdown
            | super::StopWhy::HostEnd
            | super::StopWhy::Removed
            | super::StopWhy::Changed
            | super::StopWhy::MaxRuntime
            | super::StopWhy::Unhealthy(_)
            | super::StopWhy::StartTimeout
            | super::StopWhy::NotReady
            | super::StopWhy::Watchdog
            | super::StopWhy::Post(..) => why.to_string(),
        }
    }

    /// Who still needs it.
    fn users(&self, slot: &Slot) -> String {
        let live = slot.edges.needed_by.iter().filter_map(|back| self.slot(back.from));
        let names: Vec<&str> =
            live.filter(|s| s.is_live()).map(|s| s.program.name.as_str()).collect();
        names.join(", ")
    }
}

/// What its health check has found, where that was the end of it.
fn found(slot: &Slot, cause: &Cause) -> String {
    match (cause, &slot.history.unhealthy) {
        (Cause::Stopped(super::StopWhy::Unhealthy(_) | super::StopWhy::NotReady, _), Some(why)) => {
            format!("; {why}")
        }
        _ => String::new(),
    }
}

/// How long a stop has been given, in seconds, and the signal that follows.
fn escalation(slot: &Slot) -> Option<(Option<Duration>, Signal)> {
    if let State::Spawning { stop: Some(_), .. } = &slot.state {
        return Some((None, Signal::KILL));
    }
    let State::Stopping { rung, .. } = &slot.state else { return None };
    let ladder = &slot.program.stop.ladder;
    let total = ladder.get(rung.saturating_sub(1)).and_then(|step| match step.wait {
        Limit::After(time) => Some(time),
        Limit::Never => None,
    });
    Some((total, ladder.get(*rung).map_or(Signal::KILL, |step| step.signal)))
}

fn emptying(again: Again) -> &'static str {
    if again.pause.as_secs() >= 16 {
        "processes of it outlive SIGKILL"
    } else {
        "ending the rest of its processes"
    }
}
