//! Lines and short reports.

use std::{fmt::Write as _, time::Duration};

use super::View;
use crate::{
    control::{Difference, LogLine, Outcome, ProgramStatus, StateWord},
    model::{Signal, WallTime},
};

/// `text` with everything that could steer a terminal made visible: C0, DEL, C1, bidi controls.
pub(in crate::cli) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let bidi = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{061c}' | '\u{2028}' | '\u{2029}');
        match c {
            '\t' => out.push(c),
            c if c.is_control() || bidi => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// What a reason says beyond the state that stands beside it: of "stopping (asked)", "asked".
pub(in crate::cli) fn beyond(state: StateWord, reason: &str) -> &str {
    let word = state.as_str();
    let same = reason.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    let rest = if same { reason.get(word.len()..).unwrap_or_default() } else { reason };
    match rest.trim_start() {
        "being started" if state == StateWord::Starting => "",
        _ if same && !rest.is_empty() && !rest.starts_with(' ') => reason,
        rest if same && rest.starts_with('(') && rest.find(')') == rest.len().checked_sub(1) => {
            rest.trim_matches(['(', ')'])
        }
        rest => rest,
    }
}

/// `10:00:01`, in UTC.
pub(in crate::cli) fn time_of_day(at: WallTime) -> String {
    at.rfc3339().get(11..19).unwrap_or_default().to_owned()
}

/// One line of a log or an event; `named` puts the program before it.
pub(in crate::cli) fn log_line(line: &LogLine, named: Option<usize>) -> String {
    match named {
        Some(width) => format!("{:<width$} | {}\n", escape(&line.name), escape(&line.text)),
        None => format!("{}\n", escape(&line.text)),
    }
}

/// What became of each program of a change.
pub(in crate::cli) fn outcome(outcome: &Outcome, view: View) -> String {
    let longest = outcome.programs.iter().map(|p| p.name.chars().count()).max().unwrap_or(0);
    let width = longest.max(20);
    let mut out = String::new();
    for program in &outcome.programs {
        let state = format!("{:<9}", program.state.as_str());
        let reason = beyond(program.state, &program.reason);
        let reason = view.cut(width + 11, &escape(reason));
        let name = escape(&program.name);
        let state = view.paint(program.state, &state);
        let line = format!("{name:<width$} {state} {reason}");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// What a reload changes, or would.
pub(in crate::cli) fn difference(difference: &Difference) -> String {
    let mut out = String::new();
    let mut put = |sign: char, name: &str, what: &str, keys: &[String]| {
        let keys = if keys.is_empty() { String::new() } else { format!(" ({})", keys.join(", ")) };
        // Writing to a string cannot fail.
        writeln!(out, "{sign} {}", escape(&format!("{name}{what}{keys}"))).ok();
    };
    for name in &difference.added {
        put('+', name, " added", &[]);
    }
    for name in &difference.removed {
        put('-', name, " removed", &[]);
    }
    for (name, keys) in &difference.restarted {
        put('~', name, " restarted", keys);
    }
    for (name, keys) in &difference.next_start {
        put('>', name, " changed from its next start on", keys);
    }
    for (name, keys) in &difference.live {
        put('·', name, " live", keys);
    }
    for key in &difference.supervisor {
        put('!', key, " needs a restart of the supervisor", &[]);
    }
    if out.is_empty() { "nothing has changed\n".to_owned() } else { out }
}

/// One event.
pub(in crate::cli) fn event(line: &LogLine) -> String {
    let (name, source) = (escape(&line.name), escape(&line.source));
    format!("{} {source:<20} {name}: {}\n", line.at.rfc3339(), escape(&line.text))
}

/// `waiting for web (pid 12, 7s of 30s, then SIGKILL)`, `ago` after it was so.
pub(in crate::cli) fn waiting(program: &ProgramStatus, ago: Duration) -> String {
    let left = program.next_in_s.map(|secs| secs - ago.as_secs_f64());
    let stopping = program.state == StateWord::Stopping;
    if let (true, Some(left), Some(total)) = (stopping, left, program.next_total_s) {
        let pid = program.pid.map(|pid| format!("pid {pid}, ")).unwrap_or_default();
        let spent = (total - left).clamp(0.0, total);
        let next = program.next_signal.unwrap_or(Signal::KILL);
        let name = escape(&program.name);
        return format!("waiting for {name} ({pid}{spent:.0}s of {total:.0}s, then {next})");
    }
    let mut parts = vec![program.state.as_str().to_ascii_lowercase()];
    parts.extend(program.pid.map(|pid| format!("pid {pid}")));
    let reason = beyond(program.state, &program.reason);
    if !reason.is_empty() {
        parts.push(reason.to_owned());
    }
    if !program.waiting_for.is_empty() {
        parts.push(format!("for {}", program.waiting_for.join(", ")));
    }
    parts.extend(super::next(&ProgramStatus { next_in_s: left, ..program.clone() }));
    escape(&format!("waiting for {} ({})", program.name, parts.join(", ")))
}
