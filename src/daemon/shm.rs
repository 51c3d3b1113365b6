//! Removes what is stale in /dev/shm: by name, and only what is proved to be of no use to anybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Shell, input::Input};
use crate::{
    engine::{Engine, Event, Record, RunId, What},
    model::{Human, ShmMoment, ShmRule, WallTime},
    plan::ProgramId,
    sys::{
        clock,
        shm::{Directory, Looks, Users, users},
    },
};

/// Where POSIX shared memory and semaphores are (shm_overview(7)).
const PLACE: &str = "/dev/shm";
/// So many files are looked at in one go; the others wait for the next.
const MOST: usize = 10_000;
/// So many names stand in the line about what was removed, and in each line after it.
const NAMED: usize = 5;
const NAMED_MORE: usize = 50;
/// So many files that stay have a line of their own.
const KEPT_MAX: usize = 20;

/// What is to be removed, and where.
pub(super) struct Order {
    directory: PathBuf,
    rules: Vec<ShmRule>,
    /// Files of the site itself.
    spared: BTreeSet<OsString>,
    /// Whatever the rules say, remove nothing.
    dry_run: bool,
    now: WallTime,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    removed: Vec<String>,
    /// What would be removed, by a rule that only says so.
    would: Vec<String>,
    /// Name and reason.
    kept: Vec<(String, String)>,
    /// How many files there were no looks for.
    more: usize,
    failed: Option<String>,
}

/// Whether a thread may go on to remove; held while it does.
type Leave = Arc<Mutex<bool>>;

/// The threads that are at it.
#[derive(Default)]
pub(super) struct Sweeps(BTreeMap<RunId, Leave>);

impl Order {
    /// What the rules of `program`, or of the site, order for this moment.
    fn new(engine: &Engine, program: Option<ProgramId>, moment: ShmMoment) -> Self {
        let rules = match program {
            Some(id) => engine.program(id).and_then(|p| p.shm.clone()).map(|rule| *rule),
            None => None,
        };
        let all = rules.into_iter();
        let site = engine.shm().iter().filter(|_| program.is_none()).cloned();
        let rules = all.chain(site).filter(|rule| rule.applies(moment)).collect();
        let pid_file = engine.supervisor().pid_file.as_deref();
        let below = pid_file.and_then(|path| path.strip_prefix(PLACE).ok());
        Self {
            directory: PLACE.into(),
            rules,
            spared: below.map(|name| name.as_os_str().to_owned()).into_iter().collect(),
            dry_run: false,
            now: clock::wall(),
        }
    }

    /// Does it; `leave` is asked before each file.
    fn carry_out(&self, leave: &Mutex<bool>) -> Report {
        let mut report = Report::default();
        if let Err(why) = self.sweep(leave, &mut report) {
            report.failed = Some(why);
        }
        report
    }

    fn sweep(&self, leave: &Mutex<bool>, report: &mut Report) -> Result<(), String> {
        let directory = Directory::open(&self.directory).map_err(|e| e.to_string())?;
        let wanted = Wanted::new(&self.rules);
        let names = directory.names(|name| wanted.rules_for(name).next().is_some(), MOST);
        let names = names.map_err(|e| e.to_string())?;
        report.more = names.more;
        let mut candidates: Vec<(&OsStr, Looks, bool)> = Vec::new();
        for name in &names.found {
            match directory.look(name) {
                Ok(Some(looks)) => match self.judge(name, &looks, &wanted) {
                    Ok(dry) => candidates.push((name, looks, dry || self.dry_run)),
                    Err(why) => report.keep(name, why),
                },
                Ok(None) => {}
                Err(why) => report.keep(name, why.to_string()),
            }
        }
        let files = candidates.iter().map(|(_, looks, _)| looks.id).collect();
        let users = users(&directory, &files);
        for (name, looks, dry) in candidates {
            if let Some(why) = in_use(&looks, &users) {
                report.keep(name, why);
            } else if dry {
                report.would.push(shown(name));
            } else {
                let leave = leave.lock().unwrap_or_else(PoisonError::into_inner);
                if !*leave {
                    return Ok(());
                }
                match directory.remove(name, looks.id) {
                    Ok(true) => report.removed.push(shown(name)),
                    Ok(false) => report.keep(name, "something else has this name by now".into()),
                    Err(why) => report.keep(name, why.to_string()),
                }
            }
        }
        Ok(())
    }

    /// Whether a rule allows to remove what is there, and whether only to say so; else why not.
    fn judge(&self, name: &OsStr, looks: &Looks, wanted: &Wanted<'_>) -> Result<bool, String> {
        if self.spared.contains(name) {
            return Err("it is a file of this site".to_owned());
        }
        if let Some(kind) = looks.other {
            return Err(format!("it is {kind}"));
        }
        let mut first = None;
        for rule in wanted.rules_for(name) {
            match judge_by(rule, looks, self.now) {
                Ok(()) => return Ok(rule.dry_run),
                Err(why) => first = first.or(Some(why)),
            }
        }
        Err(first.unwrap_or_default())
    }
}

fn judge_by(rule: &ShmRule, looks: &Looks, now: WallTime) -> Result<(), String> {
    if looks.uid != rule.owner {
        return Err(format!("it belongs to uid {}, not to uid {}", looks.uid, rule.owner));
    }
    if looks.links != 1 {
        return Err(format!("it has {} names", looks.links));
    }
    if let Some(least) = rule.older_than {
        let age = u64::try_from(now.0.saturating_sub(looks.changed.0)).unwrap_or(0);
        if u128::from(age) < least.as_millis() {
            return Err(format!("it was changed less than {} ago", Human(least)));
        }
    }
    Ok(())
}

/// Why a file cannot be said to be of no use to anybody.
///
/// A process that we may not look at counts as a user of a file that it could have opened: by its
/// user, or by a mode that lets others in. Only root's processes do not: they could open
/// everything, there are always some, and nothing would ever be removed.
fn in_use(looks: &Looks, users: &Users) -> Option<String> {
    if let Some(how) = users.known.get(&looks.id) {
        return Some(how.clone());
    }
    if let Some(why) = &users.blind {
        return Some(format!("whether it is in use is not known: {why}"));
    }
    let may_use =
        |uids: &[u32; 4]| uids.contains(&looks.uid) || (looks.is_shared && !uids.contains(&0));
    let user = users.unseen.iter().find(|one| may_use(&one.uids))?;
    let [_, uid, ..] = user.uids;
    Some(format!(
        "whether it is in use is not known: pid {} of uid {uid} may not be looked at",
        user.pid
    ))
}

/// The patterns, ready to be compared.
struct Wanted<'a>(Vec<(&'a ShmRule, Vec<glob::Pattern>)>);

impl<'a> Wanted<'a> {
    fn new(rules: &'a [ShmRule]) -> Self {
        let patterns = |rule: &ShmRule| -> Vec<glob::Pattern> {
            rule.remove.iter().filter_map(|text| glob::Pattern::new(text).ok()).collect()
        };
        Self(rules.iter().map(|rule| (rule, patterns(rule))).collect())
    }

    /// A name that is no text is nobody's.
    fn rules_for<'s>(&'s self, name: &'s OsStr) -> impl Iterator<Item = &'a ShmRule> + 's {
        let name = name.to_str();
        let fits = move |pattern: &glob::Pattern| {
            let semaphore = name.is_some_and(|name| name.starts_with(ShmRule::SEMAPHORE));
            let meant = !semaphore || pattern.as_str().starts_with(ShmRule::SEMAPHORE);
            meant && name.is_some_and(|name| pattern.matches(name))
        };
        self.0.iter().filter(move |(_, all)| all.iter().any(fits)).map(|(rule, _)| *rule)
    }
}

/// A name as one word of a line.
fn shown(name: &OsStr) -> String {
    name.to_string_lossy().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl Report {
    fn keep(&mut self, name: &OsStr, why: String) {
        self.kept.push((shown(name), why));
    }

    /// All of it for the log. What found nothing says nothing.
    fn records(&self) -> Vec<What> {
        let mut all = Vec::new();
        for (names, dry_run) in [(&self.removed, false), (&self.would, true)] {
            if names.is_empty() {
                continue;
            }
            let (first, rest) = names.split_at(names.len().min(NAMED));
            let more = if rest.is_empty() { "" } else { ", …" };
            let kept = self.kept.len();
            let words = format!("{}{more}", first.join(", ")).into();
            all.push(What::ShmRemoved { count: names.len(), names: words, kept, dry_run });
            let also = rest.chunks(NAMED_MORE).map(|names| names.join(", ").into());
            all.extend(also.map(|names| What::ShmAlso { names }));
        }
        let kept = |(file, why): &(String, String)| What::ShmKept {
            file: file.as_str().into(),
            why: why.as_str().into(),
        };
        all.extend(self.kept.iter().take(KEPT_MAX).map(kept));
        let left = self.kept.len().saturating_sub(KEPT_MAX);
        if left > 0 {
            let file = format!("{left} more files").into();
            all.push(What::ShmKept { file, why: "for such reasons".into() });
        }
        if self.more > 0 {
            let file = format!("{} more files", self.more).into();
            let why = format!("no more than {MOST} are looked at in one go").into();
            all.push(What::ShmKept { file, why });
        }
        let failed = self.failed.as_ref();
        all.extend(failed.map(|why| What::ShmFailed { why: why.as_str().into() }));
        all
    }
}

impl Shell {
    /// A thread looks, as there may be many processes; it reports back.
    pub(super) fn tidy(&mut self, program: Option<ProgramId>, run: RunId, moment: ShmMoment) {
        let order = Order::new(&self.engine, program, moment);
        let leave = Leave::new(Mutex::new(true));
        let (asked, queue) = (Arc::clone(&leave), self.queue.clone());
        let name = program.and_then(|id| Some(self.engine.program(id)?.name.clone()));
        let thread = std::thread::Builder::new().name("shm".into()).spawn(move || {
            let records = order.carry_out(&asked).records();
            let records = records.into_iter().map(|what| Record { program: name.clone(), what });
            let records = records.collect();
            super::input::send(&queue, Input::Tidied { program, run, records });
        });
        match thread {
            Ok(_) => drop(self.sweeps.0.insert(run, leave)),
            Err(why) => {
                let why = format!("cannot start a thread: {why}").into();
                let name = program.and_then(|id| Some(self.engine.program(id)?.name.clone()));
                self.record(Record { program: name, what: What::ShmFailed { why } });
                self.results.push_back(Event::Tidied { program, run });
            }
        }
    }

    /// When this returns, its thread removes nothing any more.
    pub(super) fn tidy_no_more(&mut self, run: RunId) {
        if let Some(leave) = self.sweeps.0.remove(&run) {
            *leave.lock().unwrap_or_else(PoisonError::into_inner) = false;
        }
    }

    /// What a thread has done.
    pub(super) fn tidied(&mut self, program: Option<ProgramId>, run: RunId, said: Vec<Record>) {
        self.sweeps.0.remove(&run);
        said.into_iter().for_each(|record| self.record(record));
        self.feed(Event::Tidied { program, run });
    }
}

/// What a start would remove, in lines for people.
pub(super) fn describe(engine: &Engine, program: Option<ProgramId>, moment: ShmMoment) -> String {
    let order = Order { dry_run: true, ..Order::new(engine, program, moment) };
    let records = order.carry_out(&Mutex::new(false)).records();
    records.iter().map(|what| format!("{what}\n")).collect()
}
