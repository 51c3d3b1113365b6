//! Semaphores, in the status table and on a page of their own.

use super::{View, status::moment, text::escape};
use crate::{
    control::{SemaphoreStatus, SemaphoreWord},
    model::WallTime,
};

/// One line each, as those of programs.
pub(in crate::cli) fn semaphores(all: &[SemaphoreStatus], view: View) -> String {
    let name = |one: &SemaphoreStatus| format!("semaphore:{}", escape(&one.name));
    let longest = all.iter().map(|one| name(one).chars().count()).max().unwrap_or(0);
    let width = longest.max(20);
    let mut out = String::new();
    for one in all {
        let state = view.paint_semaphore(one.state, &format!("{:<9}", one.state.as_str()));
        let words = view.cut(width + 11, &escape(&words(one, view.now)));
        out.push_str(format!("{:<width$} {state} {words}", name(one)).trim_end());
        out.push('\n');
    }
    out
}

fn words(one: &SemaphoreStatus, now: WallTime) -> String {
    match (one.state, one.last_raised) {
        (SemaphoreWord::Clear, None) => format!("{}, last raised never", one.reason),
        (SemaphoreWord::Clear, Some(at)) => {
            format!("{}, last raised {}", one.reason, moment(at, now))
        }
        (SemaphoreWord::Raised | SemaphoreWord::Pending, _) => format!("by {}", one.reason),
        (SemaphoreWord::Acting | SemaphoreWord::Refused | SemaphoreWord::Unknown, _) => {
            one.reason.clone()
        }
    }
}

/// All about one.
pub(in crate::cli) fn semaphore(one: &SemaphoreStatus, view: View) -> String {
    let mut out = format!("● semaphore:{}", escape(&one.name));
    if let Some(description) = &one.description {
        out.push_str(" - ");
        out.push_str(&escape(description));
    }
    let mut line = |what: &str, value: &str| {
        out.extend(["\n", &format!("{what:>12}"), ": ", value]);
    };
    let state = view.paint_semaphore(one.state, one.state.as_str());
    line("State", &format!("{state} ({})", escape(&words(one, view.now))));
    match one.action.as_str() {
        "none" => line("Does", "nothing: it is a lock"),
        action => line("Does", &escape(action)),
    }
    line("File", &escape(&one.path));
    if let Some(path) = &one.info_file {
        line("Info file", &escape(path));
    }
    for holder in &one.holders {
        let text = format!("pid {}, uid {}: {}", holder.pid, holder.uid, escape(&holder.command));
        line("Held by", &text);
    }
    for (key, value) in &one.info {
        line(&escape(key), &escape(value));
    }
    out.push('\n');
    out
}
