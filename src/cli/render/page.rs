//! The long page about one program.

use std::fmt::Write as _;

use super::{
    View,
    processes::{command, mebibytes, percent},
    status::{clock, cpu, exit, moment, next, size, words},
    text::{beyond, escape, time_of_day},
};
use crate::control::{Kind, LockStatus, LockWord, LogLine, ProcessInfo, ProgramStatus, StateWord};

/// All about one program, in the manner of `systemctl status`.
pub(in crate::cli) fn page(
    program: &ProgramStatus,
    processes: &[ProcessInfo],
    lines: &[LogLine],
    view: View,
) -> String {
    let name = escape(&program.name);
    let dot = view.paint(program.state, "●");
    let about = program.description.as_deref().map(|d| format!(" - {}", escape(d)));
    let mut out = format!("{dot} {name}{}\n", about.unwrap_or_default());
    let mut row = |label: &str, value: String| {
        let value = view.cut(14, &escape(&value));
        let colon = if label.is_empty() { ' ' } else { ':' };
        writeln!(out, "{label:>12}{colon} {value}").ok(); // writing to a string cannot fail
    };
    let reason =
        if program.reason.is_empty() { words(program, view.now) } else { program.reason.clone() };
    let state = program.state.as_str();
    row(
        "State",
        match beyond(program.state, &reason) {
            "" => state.to_owned(),
            reason => format!("{state} ({reason})"),
        },
    );
    program.documentation.iter().for_each(|link| row("Docs", link.clone()));
    row("Goal", program.goal.clone());
    if let Some(secs) = program.uptime_s {
        row("Up for", clock(secs));
    }
    if let Some(next) = next(program) {
        row("Next", next.strip_prefix("next ").unwrap_or(&next).to_owned());
    }
    if !program.waiting_for.is_empty() {
        row("Waiting for", program.waiting_for.join(", "));
    }
    if let Some(pid) = program.pid {
        row("Main PID", pid.to_string());
    }
    let count = processes.len().max(program.pids.len());
    if count > 0 {
        row("Processes", count.to_string());
    }
    for line in processes_of(program, processes) {
        row("", line);
    }
    if let Some(ns) = program.cpu_usage_ns {
        let total = std::time::Duration::from_nanos(ns).as_secs_f64();
        let share = cpu(program).map(|share| format!(" ({share})")).unwrap_or_default();
        row("CPU", format!("{total:.3}s{share}"));
    }
    if let Some(bytes) = program.memory_current {
        row("Memory", size(bytes));
    }
    row("Ready", if program.ready { "yes" } else { "no" }.to_owned());
    if let Some(healthy) = program.healthy {
        row("Healthy", if healthy { "yes" } else { "no" }.to_owned());
    }
    row("Restarts", program.restarts.to_string());
    if let (Some(text), Some(status)) = (exit(program), program.exit) {
        row("Last exit", format!("{text}, {}", moment(status.at, view.now)));
    }
    if let Some(lock) = &program.lock {
        row("Lock", format!("{} ({})", lock.path, whose(lock)));
        if let Some(path) = &lock.pid_file {
            row("PID file", path.clone());
        }
    }
    for (label, value) in output(program) {
        row(label, value);
    }
    out += &last_lines(lines, view);
    if let Some(hint) = hint(program) {
        writeln!(out, "\nhint: {}", escape(&hint)).ok();
    }
    out
}

/// What there is to say of its output.
fn output(program: &ProgramStatus) -> Vec<(&'static str, String)> {
    let lost = program.log_lost_bytes;
    let lost = (lost > 0).then(|| ("Output lost", size(lost)));
    let waits = |secs| ("Output waits", format!("{}: a log file does not answer", clock(secs)));
    let away = ("Output", "where whoever started it has sent it, not here".to_owned());
    let away = program.adopted.then_some(away);
    away.into_iter().chain(lost).chain(program.log_stuck_s.map(waits)).collect()
}

/// Two lines each; their pids only, where that is all that is known.
fn processes_of(program: &ProgramStatus, processes: &[ProcessInfo]) -> Vec<String> {
    if processes.is_empty() {
        let others = program.pids.iter().filter(|pid| Some(**pid) != program.pid);
        return others.map(|other| format!("└─ {other}")).collect();
    }
    let lines = |one| [process(one, program), format!("   {}", command(one))];
    processes.iter().flat_map(lines).collect()
}

/// `MAIN 4711: 1.2% cpu, 38.0 MiB`; the processor over its whole life. LOCKED is the one whose lock
/// keeps others away.
fn process(one: &ProcessInfo, program: &ProgramStatus) -> String {
    let mark = match one.kind {
        Kind::Main if Some(one.pid) == program.pid => {
            let has_lock = |lock: &LockStatus| lock.state == LockWord::Held;
            if program.lock.as_ref().is_some_and(has_lock) { "LOCKED" } else { "MAIN" }
        }
        Kind::Main | Kind::Member => "ACTIVE",
        Kind::Orphan => "ORPHAN",
        Kind::Copy => "COPY",
    };
    let share = percent(one.cpu_usage_ns, one.age_s);
    format!("{mark} {}: {share:.1}% cpu, {}", one.pid, mebibytes(one.memory_bytes))
}

fn whose(lock: &LockStatus) -> String {
    match (lock.state, &lock.holder) {
        (LockWord::Held, _) => "held".to_owned(),
        (LockWord::Free, _) => "free".to_owned(),
        (LockWord::Taken, Some(holder)) => {
            format!("held by pid {}, {}", holder.pid, holder.command)
        }
        (LockWord::Taken, None) => "held by somebody else".to_owned(),
        (LockWord::Unknown, _) => "cannot be looked at".to_owned(),
    }
}

/// What it wrote last, below a blank line.
fn last_lines(lines: &[LogLine], view: View) -> String {
    let mut out = if lines.is_empty() { String::new() } else { "\n".to_owned() };
    for line in lines {
        let text = format!("{} {}", time_of_day(line.at), escape(&line.text));
        out += &view.cut(0, &text);
        out.push('\n');
    }
    out
}

/// The command to try next.
fn hint(program: &ProgramStatus) -> Option<String> {
    let name = &program.name;
    let refused = program.reason.starts_with("not started: ");
    match program.state {
        StateWord::Fatal if refused && program.lock.is_some() => {
            Some(format!("end the other one, then supervisor start {name}"))
        }
        StateWord::Fatal | StateWord::Backoff => {
            Some(format!("supervisor logs {name}; then supervisor restart {name}"))
        }
        // A oneshot that has done its work.
        StateWord::Exited if program.ready => None,
        StateWord::Stopped | StateWord::Exited => Some(format!("supervisor start {name}")),
        StateWord::Stopping => Some(format!("supervisor stop --force {name}")),
        StateWord::Waiting => program
            .waiting_for
            .iter()
            .find_map(|what| dependency(what))
            .map(|what| format!("supervisor status {what}")),
        StateWord::Starting | StateWord::Running => None,
    }
}

/// The program in `db@healthy (starting)`; none in `tcp 127.0.0.1:80`, where nobody can be asked.
fn dependency(what: &str) -> Option<&str> {
    let (name, _) = what.split_once(" (")?;
    let conditions = ["@started", "@ready", "@healthy", "@completed"];
    let name = conditions.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    (!name.contains(' ')).then_some(name)
}
