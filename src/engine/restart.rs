//! Again or give up: policy × history → decision. The table is systemd.service(5)'s.

use std::time::Duration;

use super::{Cause, Ended, FailureClass, History, StopWhy};
use crate::model::{
    Exit, Instant, Limit, LimitAction, OnUnhealthy, Program, ProgramType, RestartPolicy, Signal,
};

/// What follows the end of a run that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// Start again after this delay.
    Again {
        /// How long.
        delay: Duration,
    },
    /// Stay down: it ended well, or its policy says so.
    Rest {
        /// Whether the end counts as success.
        success: bool,
    },
    /// Too many starts.
    GiveUp {
        /// What then.
        action: LimitAction,
        /// With [`LimitAction::Retry`]: when it is tried again.
        retry_every: Duration,
    },
}

/// The kinds of exit of systemd.service(5)'s table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Exit 0, a success code, or HUP, INT, TERM, PIPE.
    Clean,
    /// Another code; also a program that could not be started.
    UncleanCode,
    /// Another signal.
    UncleanSignal,
    /// A time limit.
    Timeout,
    /// It has not said that it is alive.
    Watchdog,
    /// It was no child of ours: neither success nor failure.
    Unknown,
}

/// How the end of a run counts.
#[must_use]
pub fn classify(program: &Program, ended: &Ended) -> Class {
    match &ended.cause {
        Cause::Exit(Exit::Code(0)) => Class::Clean,
        Cause::Exit(Exit::Code(code)) if program.restart.success_exit_codes.contains(code) => {
            Class::Clean
        }
        Cause::Exit(Exit::Signal { signal, .. }) => {
            let polite = [Signal::HUP, Signal::INT, Signal::TERM, Signal::PIPE].contains(signal);
            let oneshot = matches!(program.kind, ProgramType::Oneshot { .. });
            if polite && !oneshot { Class::Clean } else { Class::UncleanSignal }
        }
        // A duplicate is never asked: see `decide`.
        Cause::Stopped(StopWhy::Post(_, Exit::Code(_) | Exit::Unknown), _)
        | Cause::Duplicate(_) => Class::UncleanCode,
        Cause::Exit(Exit::OutOfMemory)
        | Cause::Stopped(StopWhy::Post(_, Exit::Signal { .. } | Exit::OutOfMemory), _)
        | Cause::Pre(_, Exit::Signal { .. } | Exit::OutOfMemory) => Class::UncleanSignal,
        Cause::Stopped(StopWhy::Watchdog | StopWhy::Unhealthy(_), _) => Class::Watchdog,
        Cause::Stopped(why, _) if why.is_failure() => Class::Timeout,
        Cause::Stopped(..) => Class::Clean,
        Cause::Exit(Exit::Unknown) => Class::Unknown,
        // As systemd has it for `protocol`: abnormal.
        Cause::WaitedInVain(_) | Cause::NoMain(_) | Cause::Unready(_) => Class::Timeout,
        Cause::NotSpawned(failure) if failure.class == FailureClass::Late => Class::Timeout,
        Cause::Exit(Exit::Code(_))
        | Cause::Pre(_, Exit::Code(_) | Exit::Unknown)
        | Cause::NotSpawned(_) => Class::UncleanCode,
    }
}

/// Whether the policy alone wants another run.
fn policy_wants(policy: RestartPolicy, class: Class) -> bool {
    match (policy, class) {
        (RestartPolicy::Never, _)
        | (RestartPolicy::OnFailure | RestartPolicy::OnAbnormal, Class::Clean)
        | (RestartPolicy::OnAbnormal, Class::UncleanCode) => false,
        (RestartPolicy::Always | RestartPolicy::OnFailure, _)
        | (
            RestartPolicy::OnAbnormal,
            Class::UncleanSignal | Class::Timeout | Class::Watchdog | Class::Unknown,
        ) => true,
    }
}

/// Decides after a run that nobody asked to end, and counts it.
///
/// `chance` is a random number in 0..=1 for the jitter.
pub fn decide(
    program: &Program,
    history: &mut History,
    ended: &Ended,
    now: Instant,
    chance: f64,
) -> Decision {
    let restart = &program.restart;
    let class = classify(program, ended);
    let code = match ended.cause {
        Cause::Exit(Exit::Code(code)) | Cause::Unready(Exit::Code(code)) => Some(code),
        Cause::Exit(Exit::Signal { .. } | Exit::OutOfMemory | Exit::Unknown)
        | Cause::Unready(Exit::Signal { .. } | Exit::OutOfMemory | Exit::Unknown)
        | Cause::Stopped(..)
        | Cause::NotSpawned(_)
        | Cause::Pre(..)
        | Cause::NoMain(_)
        | Cause::Duplicate(_)
        | Cause::WaitedInVain(_) => None,
    };
    if is_stable(restart.reset_after, ended.lived) {
        history.failures = 0;
    }
    let remains = matches!(program.kind, ProgramType::Oneshot { remain: true });
    let done = remains && class == Class::Clean;
    // It runs: another start would be refused as well, or make it start when nobody expects it.
    let done = done || matches!(ended.cause, Cause::Duplicate(_));
    let unhealthy = matches!(ended.cause, Cause::Stopped(StopWhy::Unhealthy(_), _));
    let follows = program.health.as_ref().filter(|_| unhealthy).map(|health| health.on_failure);
    let done = done || follows == Some(OnUnhealthy::Stop);
    let prevented = done || code.is_some_and(|c| restart.prevent_exit_codes.contains(&c));
    let forced = code.is_some_and(|c| restart.force_exit_codes.contains(&c));
    let forced = forced || follows == Some(OnUnhealthy::Restart);
    if prevented || !(forced || policy_wants(restart.policy, class)) {
        return Decision::Rest { success: class == Class::Clean };
    }
    history.failures = history.failures.saturating_add(1);
    let delay = jittered(
        delay(restart.delay, restart.max_delay, restart.factor, history.failures),
        restart.jitter,
        chance,
    );
    if let Some(limit) = &restart.start_limit {
        let begin = Instant((now + delay).0.saturating_sub(nanos(limit.interval)));
        let recent = history.starts.iter().filter(|at| **at > begin || begin.0 == 0).count();
        if recent >= usize::try_from(limit.burst).unwrap_or(usize::MAX) {
            return Decision::GiveUp { action: limit.action, retry_every: limit.retry_every };
        }
    }
    Decision::Again { delay }
}

/// Whether a run was long enough to forget earlier failures.
#[must_use]
pub fn is_stable(reset_after: Limit, lived: Option<Duration>) -> bool {
    match (reset_after, lived) {
        (Limit::After(enough), Some(lived)) => lived >= enough,
        (Limit::Never, _) | (_, None) => false,
    }
}

/// The delay before the start that follows the n-th consecutive failure, without jitter.
#[must_use]
pub fn delay(first: Duration, longest: Duration, factor: f64, failures: u32) -> Duration {
    let exponent = i32::try_from(failures.saturating_sub(1).min(1000)).unwrap_or(1000);
    let seconds = first.as_secs_f64() * factor.powi(exponent);
    if seconds.is_finite() && seconds < longest.as_secs_f64() {
        Duration::try_from_secs_f64(seconds).unwrap_or(longest)
    } else if first.is_zero() {
        first
    } else {
        longest
    }
}

fn jittered(delay: Duration, jitter: f64, chance: f64) -> Duration {
    let share = 1.0 + jitter * (2.0 * chance - 1.0);
    Duration::try_from_secs_f64(delay.as_secs_f64() * share.max(0.0)).unwrap_or(delay)
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
