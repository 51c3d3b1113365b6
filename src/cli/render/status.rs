//! The status table.

use std::time::Duration;

use clap::ValueEnum;

use super::{
    View,
    text::{beyond, escape},
};
use crate::{
    control::{ProgramStatus, StateWord},
    model::{Human, Signal, WallTime},
};

/// A column of `status --output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Field {
    Name,
    State,
    Goal,
    Pid,
    Uptime,
    Ready,
    Healthy,
    Restarts,
    Exit,
    Reason,
    Cpu,
    Memory,
}

/// Each program as the fields asked for, tab-separated; `-` for what there is not.
pub(in crate::cli) fn fields(programs: &[ProgramStatus], which: &[Field]) -> String {
    let mut out = String::new();
    for program in programs {
        let row: Vec<String> = which.iter().map(|field| one(program, *field)).collect();
        out.push_str(&row.join("\t"));
        out.push('\n');
    }
    out
}

fn one(program: &ProgramStatus, field: Field) -> String {
    let none = || "-".to_owned();
    match field {
        Field::Name => escape(&program.name),
        Field::State => program.state.as_str().to_owned(),
        Field::Goal => escape(&program.goal),
        Field::Pid => program.pid.map_or_else(none, |pid| pid.to_string()),
        Field::Uptime => program.uptime_s.map_or_else(none, |secs| format!("{secs:.0}")),
        Field::Ready => program.ready.to_string(),
        Field::Healthy => program.healthy.map_or_else(none, |healthy| healthy.to_string()),
        Field::Restarts => program.restarts.to_string(),
        Field::Exit => exit(program).unwrap_or_else(none),
        Field::Reason => escape(&program.reason).replace('\t', " "),
        Field::Cpu => program.cpu_usage_ns.map_or_else(none, |ns| ns.to_string()),
        Field::Memory => program.memory_current.map_or_else(none, |bytes| bytes.to_string()),
    }
}

/// The table, one line a program.
pub(in crate::cli) fn table(programs: &[ProgramStatus], view: View) -> String {
    let longest = programs.iter().map(|p| p.name.chars().count()).max().unwrap_or(0);
    let width = longest.max(20);
    let mut out = String::new();
    for program in programs {
        let state = view.paint(program.state, &format!("{:<9}", program.state.as_str()));
        let words = view.cut(width + 11, &words(program, view.now));
        let line = format!("{:<width$} {state} {words}", escape(&program.name));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The state in words, already escaped.
pub(super) fn words(program: &ProgramStatus, now: WallTime) -> String {
    let mut parts = Vec::new();
    match program.state {
        StateWord::Running => return escape(&running(program)),
        StateWord::Waiting if !program.waiting_for.is_empty() => {
            parts.push(format!("for {}", program.waiting_for.join(", ")));
        }
        StateWord::Exited => {
            parts.push(exit(program).unwrap_or_else(|| program.reason.clone()));
            parts.extend(program.exit.map(|exit| moment(exit.at, now)));
        }
        StateWord::Starting | StateWord::Stopping => {
            parts.extend(program.pid.map(|pid| format!("pid {pid}")));
            parts.push(beyond(program.state, &program.reason).to_owned());
            parts.extend(program.status_text.as_deref().map(said));
        }
        StateWord::Stopped | StateWord::Waiting | StateWord::Backoff | StateWord::Fatal => {
            parts.push(beyond(program.state, &program.reason).to_owned());
        }
    }
    parts.extend(next(program));
    parts.retain(|part| !part.is_empty());
    escape(&parts.join(", "))
}

fn running(program: &ProgramStatus) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(program.pid.map(|pid| format!("pid {pid}")));
    parts.extend(program.uptime_s.map(|secs| format!("uptime {}", clock(secs))));
    parts.push(if program.ready { "ready" } else { "not ready" }.to_owned());
    parts.extend(program.adopted.then(|| "adopted".to_owned()));
    parts.extend(program.says.clone());
    match (&program.health, program.healthy) {
        (Some(words), _) => parts.push(words.clone()),
        (None, Some(true)) => parts.push("healthy".to_owned()),
        (None, Some(false)) => parts.push("unhealthy".to_owned()),
        (None, None) => {}
    }
    match program.restarts {
        0 => {}
        1 => parts.push("1 restart".to_owned()),
        n => parts.push(format!("{n} restarts")),
    }
    parts.extend(cpu(program));
    parts.extend(program.memory_current.map(size));
    if program.log_lost_bytes > 0 {
        parts.push(format!("{} of output lost", size(program.log_lost_bytes)));
    }
    if let Some(secs) = program.log_stuck_s {
        parts.push(format!("output waits for {}", clock(secs)));
    }
    parts.extend(program.status_text.as_deref().map(said));
    parts.join(", ")
}

/// What it says of itself, in its own words.
fn said(text: &str) -> String {
    format!("\"{text}\"")
}

/// What happens next by itself: `next start in 3.2s`.
pub(in crate::cli) fn next(program: &ProgramStatus) -> Option<String> {
    let time = Duration::try_from_secs_f64(program.next_in_s?.max(0.0)).ok()?;
    match program.state {
        StateWord::Stopping => {
            let signal = program.next_signal.unwrap_or(Signal::KILL);
            Some(format!("{signal} in {}", Human(time)))
        }
        StateWord::Backoff | StateWord::Fatal => Some(format!("next start in {}", Human(time))),
        StateWord::Waiting => Some(format!("next try in {}", Human(time))),
        StateWord::Starting if !program.waiting_for.is_empty() => {
            Some(format!("next try in {}", Human(time)))
        }
        StateWord::Starting => Some(format!("given up in {}", Human(time))),
        StateWord::Running | StateWord::Stopped | StateWord::Exited => None,
    }
}

/// `exit 1`, `killed by SIGKILL`.
pub(super) fn exit(program: &ProgramStatus) -> Option<String> {
    let exit = program.exit?;
    if exit.out_of_memory {
        return Some(crate::model::Exit::OutOfMemory.to_string());
    }
    if exit.unknown {
        return Some("exit status not known".to_owned());
    }
    exit.code
        .map(|code| crate::model::Exit::Code(code).to_string())
        .or_else(|| exit.signal.map(|signal: Signal| format!("killed by {signal}")))
}

/// Processor time over the whole run, in percent of one processor.
pub(super) fn cpu(program: &ProgramStatus) -> Option<String> {
    let used = Duration::from_nanos(program.cpu_usage_ns?).as_secs_f64();
    let up = program.uptime_s.filter(|secs| *secs >= 0.1)?;
    Some(format!("{:.1}% cpu", used / up * 100.0))
}

/// `38 MiB`.
pub(in crate::cli) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut rest, mut unit) = (bytes, UNITS.iter().peekable());
    while rest >= 1024 && unit.len() > 1 {
        rest = rest.div_ceil(512) / 2;
        unit.next();
    }
    format!("{rest} {}", unit.next().unwrap_or(&"B"))
}

/// `2:05:11`, `3 days 2:05:11`.
pub(super) fn clock(secs: f64) -> String {
    let secs = Duration::try_from_secs_f64(secs.max(0.0)).unwrap_or_default().as_secs();
    let hms = format!("{}:{:02}:{:02}", secs / 3600 % 24, secs / 60 % 60, secs % 60);
    match secs / 86_400 {
        0 => hms,
        1 => format!("1 day {hms}"),
        days => format!("{days} days {hms}"),
    }
}

/// `today at 10:47 UTC`, `2026-01-01 at 10:47 UTC`.
pub(super) fn moment(at: WallTime, now: WallTime) -> String {
    let text = at.rfc3339();
    let time = text.get(11..16).unwrap_or_default();
    if at.civil_day() == now.civil_day() {
        format!("today at {time} UTC")
    } else {
        format!("{} at {time} UTC", text.get(..10).unwrap_or_default())
    }
}
