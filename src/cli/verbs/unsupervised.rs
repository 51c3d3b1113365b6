//! `kill-all` where no supervisor runs: ends what one that was killed has left, as the next one
//! would, without starting anything.

use std::{path::PathBuf, time::Duration};

use super::{
    super::{Context, client::Client, fail::Failure, out::Out},
    processes::{agreed_to, finish, nothing, refused, show},
};
use crate::{
    control::{KillReport, Kind, ProcessInfo, ProcessList},
    daemon,
    model::Signal,
    sys::{
        clock,
        lockfile::{InstanceLock, LockError},
        tree::{self, Leftover, Process},
    },
};

/// In the lock file for a moment, since whoever takes it has a mark; no process bears it.
const MARK: &str = "0000000000000000";
/// How long they may take to clean up: they are not known by name.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long SIGKILL may take.
const LAST_WAIT: Duration = Duration::from_millis(500);
/// Killed more than once: whoever is forked meanwhile must not get away.
const ROUNDS: u32 = 10;

/// `none` is what is said when there is no trace of a supervisor.
pub(super) fn kill_all(
    none: Failure,
    yes: bool,
    context: &Context,
    out: &mut Out,
) -> Result<u8, Failure> {
    let Some(mut lock) = lock(context)? else { return Err(none) };
    let marks = lock.before().to_vec();
    let Some(left) = tree::leftovers(&marks) else {
        let text = "cannot kill all: without a usable /proc nobody knows who is left";
        return Err(Failure::new(1, "no_proc", text));
    };
    if let Some(one) = left.iter().find(|one| one.is_our_forebear()) {
        let text = format!("cannot kill all: {} has started this command", one.in_words());
        return Err(Failure::new(1, "failed", text).hint("ask from elsewhere"));
    }
    let before = infos(&left);
    let processes = before.iter().map(|(_, info)| info.clone()).collect();
    let list = ProcessList { schema_version: 1, processes, ..ProcessList::default() };
    if list.processes.is_empty() {
        lock.settle();
        return Ok(nothing(out));
    }
    let shares = super::render::shares(&ProcessList::default(), &list);
    if show(&list, &shares, context, out) {
        return Ok(0);
    }
    if !yes && !agreed_to(&list, None::<&Client>, out) {
        return Err(refused());
    }
    let left = end(left, &marks);
    let ended = before.into_iter().filter(|(process, _)| !tree::is_alive(process));
    let report = KillReport {
        schema_version: 1,
        ended: ended.map(|(_, info)| info).collect(),
        left: infos(&left).into_iter().map(|(_, info)| info).collect(),
        ..KillReport::default()
    };
    if left.is_empty() {
        lock.settle();
    }
    finish(&report, out)
}

fn infos(all: &[Leftover]) -> Vec<(Process, ProcessInfo)> {
    let info = |process| Some((process, daemon::process_info(&process, None, Kind::Orphan)?));
    all.iter().map(Leftover::process).filter_map(info).collect()
}

/// The lock of the site, when there are marks in it of somebody who was killed.
fn lock(context: &Context) -> Result<Option<InstanceLock>, Failure> {
    let Some(file) = context.config() else { return Ok(None) };
    for path in
        context.runtime_dirs_of(&file).into_iter().map(|dir: PathBuf| dir.join("supervisor.lock"))
    {
        if !path.is_file() {
            continue;
        }
        match InstanceLock::take(&path, Some(MARK)) {
            Ok(mut lock) => {
                // The marks of those before us stay.
                lock.clear();
                if !lock.before().is_empty() {
                    return Ok(Some(lock));
                }
            }
            Err(LockError::Held(pid)) => {
                let who = pid.map_or_else(|| "somebody".to_owned(), |pid| format!("pid {pid}"));
                let text = format!(
                    "cannot kill all: {who} has the lock {} and does not listen",
                    path.display()
                );
                return Err(Failure::new(1, "lost", text));
            }
            Err(LockError::Unusable(why)) => {
                return Err(Failure::new(1, "failed", format!("cannot kill all: {why}")));
            }
        }
    }
    Ok(None)
}

/// Asks them to end, then kills them; who is left.
fn end(mut left: Vec<Leftover>, marks: &[String]) -> Vec<Leftover> {
    for round in 0..ROUNDS {
        let (signal, wait) =
            if round == 0 { (Signal::TERM, PATIENCE) } else { (Signal::KILL, LAST_WAIT) };
        for one in &left {
            one.signal(signal);
            one.signal(Signal::CONT);
        }
        tree::all_end(&left, clock::monotonic() + wait);
        left = tree::leftovers(marks).unwrap_or_default();
        if left.is_empty() {
            break;
        }
    }
    left
}
