//! The files of the semaphores of a site: whose they are, and what is wrong with them.

use std::{
    collections::BTreeMap,
    fs::Metadata,
    io::ErrorKind,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Check, Report, Verdict};
use crate::{
    control::{SemaphoreStatus, SemaphoreWord, SiteStatus},
    daemon::{host_end::obstacles, semaphores::wrong},
    model::{Mode, Site},
    sys::{foreign_file, user},
};

/// What of a semaphore has files.
struct Place {
    path: PathBuf,
    info: Option<PathBuf>,
    owner: Option<((u32, u32), Mode)>,
    is_file: bool,
    /// As the supervisor has it, if it runs.
    status: Option<SemaphoreStatus>,
}

pub(super) fn checks(running: Option<&SiteStatus>, site: Option<&Site>, report: &mut Report<'_>) {
    for (name, place) in places(running, site) {
        let what = format!("semaphore:{name}");
        if !directory(&what, &place.path, report) {
            continue;
        }
        report.add(lock(&what, &place));
        if let Some(info) = &place.info {
            report.add(info_file(&what, info));
        }
        if let Some(status) = &place.status {
            let text = format!("{}, {}", status.state.as_str(), status.reason);
            let verdict = match status.state {
                SemaphoreWord::Clear
                | SemaphoreWord::Raised
                | SemaphoreWord::Pending
                | SemaphoreWord::Acting => Verdict::Pass,
                SemaphoreWord::Refused | SemaphoreWord::Unknown => Verdict::Fail,
            };
            report.add(Check::new(verdict, &what, text));
        }
    }
}

/// Whether those that end the host can, as far as that can be told without trying.
pub(super) fn methods(site: Option<&Site>, report: &mut Report<'_>) {
    for (name, semaphore) in site.iter().flat_map(|site| &site.semaphores) {
        for end in semaphore.ends_of_host() {
            let missing = obstacles(end);
            let what = format!("semaphore:{name}");
            let why: Vec<String> =
                missing.iter().map(|(method, why)| format!("{method} ({why})")).collect();
            let (goal, why) = (end.goal, why.join(", "));
            report.add(if missing.len() == end.methods.len() {
                let check = Check::fail(&what, format!("no method can {goal} this host: {why}"));
                check.hint("see methods in site.yaml(5); in a container it is exit 75 instead")
            } else if missing.is_empty() {
                Check::pass(&what, format!("{goal}: {}", end.in_words()))
            } else {
                Check::pass(&what, format!("{goal}: {}; cannot: {why}", end.in_words()))
            });
        }
    }
}

/// As the supervisor has them; where none runs, as they stand in the file.
fn places(running: Option<&SiteStatus>, site: Option<&Site>) -> BTreeMap<String, Place> {
    if let Some(running) = running {
        let one = |status: &SemaphoreStatus| {
            let place = Place {
                path: PathBuf::from(&status.path),
                info: status.info_file.as_ref().map(PathBuf::from),
                owner: status.owner.map(|owner| (owner, Mode(status.mode))),
                is_file: status.kind == "file",
                status: Some(status.clone()),
            };
            (status.name.clone(), place)
        };
        return running.semaphores.iter().map(one).collect();
    }
    let all = site.into_iter().flat_map(|site| &site.semaphores);
    all.map(|(name, semaphore)| {
        let watched = &semaphore.watched;
        let place = Place {
            path: watched.path.clone(),
            info: watched.info_file.clone(),
            owner: watched.owner.map(|owner| (owner, watched.mode)),
            is_file: watched.kind == crate::model::SemaphoreKind::File,
            status: None,
        };
        (name.to_string(), place)
    })
    .collect()
}

/// Whether it is there; told only if something is wrong with it.
fn directory(what: &str, path: &Path, report: &mut Report<'_>) -> bool {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = directory.display();
    match std::fs::metadata(directory) {
        Ok(meta) if !meta.is_dir() => {
            report.add(Check::fail(what, format!("{name} is no directory")));
            false
        }
        Ok(meta) => {
            let open = meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0;
            if open {
                let mode = Mode(meta.mode() & 0o7777);
                let text = format!("{name}: mode {mode}: others may remove and replace its files");
                report.add(Check::fail(what, text).hint(format!("chmod go-w {name}, or chmod +t")));
            }
            true
        }
        Err(e) => {
            let check = Check::fail(what, format!("its directory {name}: {e}"));
            report.add(if e.kind() == ErrorKind::NotFound {
                check.hint(format!("nobody can raise it: mkdir {name}"))
            } else {
                check
            });
            false
        }
    }
}

fn lock(what: &str, place: &Place) -> Check {
    let path = place.path.display();
    let meta = match foreign_file::look(&place.path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return match (place.owner, &place.status) {
                (Some(_), Some(_)) => {
                    let text = format!("{path} is not there, though the supervisor makes it");
                    Check::fail(what, text).hint("supervisor events says what went wrong")
                }
                (Some(_), None) => {
                    Check::pass(what, format!("{path} is not there: the supervisor makes it"))
                }
                (None, _) => Check::pass(what, format!("{path} is not there: nobody asks")),
            };
        }
        Err(e) => return Check::fail(what, format!("{path}: {e}")),
    };
    let owner = place.owner.filter(|_| !place.is_file);
    if let Some(why) = wrong(&meta, owner) {
        let check = Check::fail(what, format!("{path}: {why}; nothing is done for it"));
        return check.hint(format!("see who made it, then: rm {path}"));
    }
    Check::pass(what, format!("{path}: {}", owned(&meta)))
}

fn info_file(what: &str, path: &Path) -> Check {
    let name = path.display();
    let meta = match foreign_file::look(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Check::pass(what, format!("{name} is not there: nobody has said anything"));
        }
        Err(e) => return Check::fail(what, format!("{name}: {e}")),
    };
    let why = wrong(&meta, None).or_else(|| {
        (!foreign_file::info_file(&meta).is_private)
            .then(|| format!("its mode {}: others may write it", Mode(meta.mode() & 0o7777)))
    });
    match why {
        Some(why) => Check::fail(what, format!("{name}: {why}; what it says is not believed"))
            .hint(format!("see who made it, then: rm {name}")),
        None => Check::pass(what, format!("{name}: {}", owned(&meta))),
    }
}

/// `of dietpi (uid 1000), mode 0600`.
fn owned(meta: &Metadata) -> String {
    let uid = meta.uid();
    let mode = Mode(meta.mode() & 0o7777);
    match user::user_by_id(uid).ok().flatten() {
        Some(account) => format!("of {} (uid {uid}), mode {mode}", account.name),
        None => format!("of uid {uid}, mode {mode}"),
    }
}
