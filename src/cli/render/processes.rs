//! Processes, as `ps` and `kill-all` print them.

use std::collections::BTreeMap;

use super::{
    View,
    text::{escape, time_of_day},
};
use crate::{
    control::{KillReport, Kind, ProcessInfo, ProcessList},
    model::WallTime,
};

/// How much of one processor each process has used between two lists, in percent; by its whole life
/// for who is only in the second.
pub(in crate::cli) fn shares(before: &ProcessList, now: &ProcessList) -> BTreeMap<u32, f64> {
    let passed = now.clock_s - before.clock_s;
    let share = |one: &ProcessInfo| {
        let is_same = |old: &&ProcessInfo| (old.pid, old.start_ticks) == (one.pid, one.start_ticks);
        let old = before.processes.iter().find(is_same).filter(|_| passed > 0.0);
        let (used, passed) = match old {
            Some(old) => (one.cpu_usage_ns.saturating_sub(old.cpu_usage_ns), passed),
            None => (one.cpu_usage_ns, one.age_s),
        };
        (one.pid, percent(used, passed))
    };
    now.processes.iter().map(share).collect()
}

/// So much processor time in so many seconds, in percent.
pub(super) fn percent(used_ns: u64, secs: f64) -> f64 {
    let used = std::time::Duration::from_nanos(used_ns).as_secs_f64();
    if secs > 0.0 { used / secs * 100.0 } else { 0.0 }
}

/// The table of processes, a line each, children below their parents.
pub(in crate::cli) fn processes(
    list: &ProcessList,
    shares: &BTreeMap<u32, f64>,
    view: View,
) -> String {
    let heads = ["PROGRAM", "PID", "PPID", "CPU", "RSS", "STARTED"];
    let mut rows = vec![(heads.map(str::to_owned), "COMMAND".to_owned())];
    for (depth, one) in as_a_tree(&list.processes) {
        let share = shares.get(&one.pid).copied().unwrap_or_default();
        let cells = [
            whose(one),
            one.pid.to_string(),
            one.ppid.to_string(),
            format!("{share:.1}%"),
            mebibytes(one.memory_bytes),
            started(one.started_at, view.now),
        ];
        rows.push((cells, format!("{}{}", "  ".repeat(depth), command(one))));
    }
    let mut out = table(&rows, view);
    if list.unlisted > 0 {
        out.extend(["and ", &list.unlisted.to_string(), " more\n"]);
    }
    out
}

fn table(rows: &[([String; 6], String)], view: View) -> String {
    let mut widths = [0; 6];
    for (cells, _) in rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for (cells, command) in rows {
        let mut line = String::new();
        for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
            // Words stand left, numbers right.
            let padded =
                if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            line.push_str(&padded);
            line.push_str("  ");
        }
        let used = line.chars().count();
        out.push_str(&line);
        out.push_str(&view.cut(used, command));
        out.push('\n');
    }
    out
}

/// What became of everybody, in a line or two.
pub(in crate::cli) fn killed(report: &KillReport) -> String {
    let ended = u64::try_from(report.ended.len()).unwrap_or(u64::MAX);
    match ended.saturating_add(report.unlisted) {
        0 => "nothing was ended\n".to_owned(),
        1 => "ended 1 process\n".to_owned(),
        n => format!("ended {n} processes\n"),
    }
}

/// Who is left, for a message: `sleep (pid 12, web), sh (pid 13)`.
pub(in crate::cli) fn left(report: &KillReport) -> String {
    let one = |one: &ProcessInfo| {
        let of = one.program.as_ref().map(|program| format!(", {}", escape(program)));
        format!("{} (pid {}{})", escape(&one.name), one.pid, of.unwrap_or_default())
    };
    let mut all: Vec<String> = report.left.iter().take(8).map(one).collect();
    if report.left.len() > all.len() {
        all.push(format!("and {} more", report.left.len().saturating_sub(all.len())));
    }
    if all.is_empty() {
        all.extend(report.programs.iter().map(|name| escape(name)));
    }
    all.join(", ")
}

/// `web`, `web (orphan)`, `- (orphan)`.
fn whose(one: &ProcessInfo) -> String {
    let program = one.program.as_deref().map_or_else(|| "-".to_owned(), escape);
    match one.kind {
        Kind::Main | Kind::Member => program,
        Kind::Orphan => format!("{program} (orphan)"),
        Kind::Copy => format!("{program} (copy)"),
    }
}

/// Its command line in one line, or `[name]` when it has none.
pub(super) fn command(one: &ProcessInfo) -> String {
    if one.command.is_empty() {
        return format!("[{}]", escape(&one.name));
    }
    escape(&shell_words::join(&one.command)).replace('\t', "\\t")
}

/// `45.2 MiB`.
pub(super) fn mebibytes(bytes: u64) -> String {
    // Tenths, rounded to the nearest.
    let tenths = bytes.saturating_mul(10).saturating_add(1 << 19) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn started(at: WallTime, now: WallTime) -> String {
    if at.civil_day() == now.civil_day() {
        return time_of_day(at);
    }
    at.rfc3339().get(..10).unwrap_or_default().to_owned()
}

/// The processes of each program with their depth, children behind their parents.
fn as_a_tree(all: &[ProcessInfo]) -> Vec<(usize, &ProcessInfo)> {
    let by_pid: BTreeMap<u32, &ProcessInfo> = all.iter().map(|one| (one.pid, one)).collect();
    let parent = |one: &ProcessInfo| {
        let parent = by_pid.get(&one.ppid)?;
        (whose(parent) == whose(one)).then_some(parent.pid)
    };
    let mut below: BTreeMap<Option<u32>, Vec<&ProcessInfo>> = BTreeMap::new();
    for one in all.iter().rev() {
        below.entry(parent(one)).or_default().push(one);
    }
    let of = |at: usize, pid, below: &mut BTreeMap<_, Vec<_>>| {
        below.remove(&pid).unwrap_or_default().into_iter().map(move |one| (at, one))
    };
    let mut out = Vec::with_capacity(all.len());
    let mut open: Vec<(usize, &ProcessInfo)> = of(0, None, &mut below).collect();
    while let Some((depth, one)) = open.pop() {
        out.push((depth, one));
        open.extend(of(depth.saturating_add(1), Some(one.pid), &mut below));
    }
    out
}
