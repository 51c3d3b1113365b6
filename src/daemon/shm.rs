//! Removes what is stale in /dev/shm: by name, and only what is proved to be of no use to anybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use crossbeam_channel::{Receiver, Sender};

use super::{Shell, input::Input};
use crate::{
    engine::{Engine, Event, Record, RunId, What},
    model::{Human, Name, ShmMoment, ShmRule, WallTime},
    plan::ProgramId,
    sys::{
        clock,
        shm::{Directory, Looks, Removed, Users, users},
    },
};

/// Where POSIX shared memory and semaphores are (`shm_overview(7)`).
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

/// A file that may be removed, unless somebody uses it or it is only to be told.
type Candidate<'n> = (&'n OsStr, Looks, bool);

/// Whether files may be removed for an order; held while one is.
type Leave = Arc<Mutex<bool>>;

/// One order for the thread.
struct Job {
    order: Order,
    leave: Leave,
    program: Option<ProgramId>,
    name: Option<Name>,
    run: RunId,
}

/// The orders that are under way, and the thread that carries them out.
#[derive(Default)]
pub(super) struct Sweeps {
    leaves: BTreeMap<RunId, Leave>,
    thread: Option<Sender<Job>>,
}

/// Carries out some orders with one look at all processes.
fn sweep(place: &Path, orders: &[(&Order, &Mutex<bool>)]) -> Vec<Report> {
    let fail = |why: &str| Report { failed: Some(why.to_owned()), ..Report::default() };
    let directory = match Directory::open(place) {
        Ok(directory) => directory,
        Err(why) => return orders.iter().map(|_| fail(&why.to_string())).collect(),
    };
    let mut names = vec![Vec::new(); orders.len()];
    let mut reports = Vec::with_capacity(orders.len());
    let mut all = Vec::with_capacity(orders.len());
    for ((order, _), names) in orders.iter().zip(&mut names) {
        let mut report = Report::default();
        all.push(order.look(&directory, names, &mut report).unwrap_or_else(|why| {
            report.failed = Some(why);
            Vec::new()
        }));
        reports.push(report);
    }
    let files = all.iter().flatten().map(|(_, looks, _)| looks.id).collect();
    let users = users(&directory, &files);
    for ((candidates, (_, leave)), report) in all.iter().zip(orders).zip(&mut reports) {
        remove(&directory, candidates, &users, leave, report);
    }
    reports
}

/// Removes those that nobody uses, for as long as it may.
fn remove(
    directory: &Directory,
    candidates: &[Candidate<'_>],
    users: &Users,
    leave: &Mutex<bool>,
    report: &mut Report,
) {
    for (name, looks, dry) in candidates {
        if let Some(why) = in_use(looks, users) {
            report.keep(name, why);
            continue;
        }
        if *dry {
            report.would.push(shown(name));
            continue;
        }
        let leave = leave.lock().unwrap_or_else(PoisonError::into_inner);
        if !*leave {
            return;
        }
        match directory.remove(name, looks.id) {
            Ok(Removed::Gone) => {}
            Ok(Removed::Now) => report.removed.push(shown(name)),
            Ok(Removed::Other) => {
                report.keep(name, "something else has this name by now".to_owned());
            }
            Err(why) => report.keep(name, why.to_string()),
        }
    }
}

/// The thread: as many orders at once as there are.
fn work(inbox: &Receiver<Job>, queue: &Sender<Input>) {
    while let Ok(first) = inbox.recv() {
        let jobs: Vec<Job> = std::iter::once(first).chain(inbox.try_iter()).collect();
        let orders: Vec<_> = jobs.iter().map(|job| (&job.order, &*job.leave)).collect();
        let reports = sweep(Path::new(PLACE), &orders);
        for (Job { program, name, run, .. }, report) in jobs.into_iter().zip(reports) {
            let records = report.records().into_iter();
            let records = records.map(|what| Record { program: name.clone(), what }).collect();
            super::input::send(queue, Input::Tidied { program, run, records });
        }
    }
}

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
        let semaphores = engine.semaphores().map(|slot| &slot.settings.watched);
        let own = semaphores.flat_map(|one| [Some(&one.path), one.info_file.as_ref()]).flatten();
        let own = own.chain(engine.supervisor().pid_file.as_ref());
        let below = own.filter_map(|path| path.strip_prefix(PLACE).ok());
        Self {
            rules,
            spared: below.map(|name| name.as_os_str().to_owned()).collect(),
            dry_run: false,
            now: clock::wall(),
        }
    }

    /// What it is about: what stays by its looks alone is told, the others may go.
    fn look<'n>(
        &self,
        directory: &Directory,
        names: &'n mut Vec<OsString>,
        report: &mut Report,
    ) -> Result<Vec<Candidate<'n>>, String> {
        let wanted = Wanted::new(&self.rules);
        let found = directory.names(|name| wanted.rules_for(name).next().is_some(), MOST);
        let found = found.map_err(|e| e.to_string())?;
        report.more = found.more;
        *names = found.found;
        let mut candidates = Vec::new();
        for name in names.iter() {
            match directory.look(name) {
                Ok(Some(looks)) => match self.judge(name, &looks, &wanted) {
                    Ok(dry) => candidates.push((&**name, looks, dry || self.dry_run)),
                    Err(why) => report.keep(name, why),
                },
                Ok(None) => {}
                Err(why) => report.keep(name, why.to_string()),
            }
        }
        Ok(candidates)
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
        let name = program.and_then(|id| Some(self.engine.program(id)?.name.clone()));
        let leave = Leave::new(Mutex::new(true));
        let order = Order::new(&self.engine, program, moment);
        let job = Job { order, leave: Arc::clone(&leave), program, name: name.clone(), run };
        match self.sweeps.give(job, &self.queue) {
            Ok(()) => drop(self.sweeps.leaves.insert(run, leave)),
            Err(why) => {
                let why = format!("cannot start a thread: {why}").into();
                self.record(Record { program: name, what: What::ShmFailed { why } });
                self.results.push_back(Event::Tidied { program, run });
            }
        }
    }

    /// When this returns, nothing is removed for that order any more.
    pub(super) fn tidy_no_more(&mut self, run: RunId) {
        if let Some(leave) = self.sweeps.leaves.remove(&run) {
            *leave.lock().unwrap_or_else(PoisonError::into_inner) = false;
        }
    }

    /// What the thread has done.
    pub(super) fn tidied(&mut self, program: Option<ProgramId>, run: RunId, said: Vec<Record>) {
        self.sweeps.leaves.remove(&run);
        for record in said {
            self.record(record);
        }
        self.feed(Event::Tidied { program, run });
    }
}

impl Sweeps {
    /// The thread is there from the first order on; one that is lost is made anew.
    fn give(&mut self, job: Job, queue: &Sender<Input>) -> io::Result<()> {
        let job = match &self.thread {
            Some(thread) => match thread.send(job) {
                Ok(()) => return Ok(()),
                Err(back) => back.into_inner(),
            },
            None => job,
        };
        let (thread, inbox) = crossbeam_channel::unbounded();
        let queue = queue.clone();
        std::thread::Builder::new().name("shm".into()).spawn(move || work(&inbox, &queue))?;
        drop(thread.send(job));
        self.thread = Some(thread);
        Ok(())
    }
}

/// What a start would remove, in lines for people.
pub(super) fn describe(engine: &Engine, program: Option<ProgramId>, moment: ShmMoment) -> String {
    let order = Order { dry_run: true, ..Order::new(engine, program, moment) };
    let reports = sweep(Path::new(PLACE), &[(&order, &Mutex::new(false))]);
    let lines = reports.iter().flat_map(Report::records).map(|what| what.to_string());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, os::unix::fs::symlink, path::Path, sync::Mutex};

    use super::{MOST, Order, Report, sweep};
    use crate::model::{ShmMoment, ShmRule, WallTime};

    fn order(patterns: &[&str]) -> Order {
        let rule = ShmRule {
            remove: patterns.iter().map(|text| (*text).into()).collect(),
            when: Box::new([ShmMoment::Before]),
            owner: nix::unistd::geteuid().as_raw(),
            older_than: None,
            dry_run: false,
        };
        let spared = BTreeSet::new();
        Order { rules: vec![rule], spared, dry_run: false, now: WallTime(i64::MAX) }
    }

    fn one(place: &Path, order: &Order, leave: bool) -> Report {
        sweep(place, &[(order, &Mutex::new(leave))]).remove(0)
    }

    fn count(place: &Path) -> usize {
        fs::read_dir(place).unwrap().count()
    }

    #[test]
    fn so_many_files_are_removed_in_one_go_and_no_more() {
        let place = tempfile::tempdir().unwrap();
        for n in 0..MOST + 7 {
            fs::File::create(place.path().join(format!("seg{n}"))).unwrap();
        }
        let report = one(place.path(), &order(&["seg*"]), true);
        assert_eq!((report.removed.len(), report.more, count(place.path())), (MOST, 7, 7));
        let said = report.records().iter().map(ToString::to_string).collect::<Vec<_>>();
        let first = said.first().map(String::as_str).unwrap_or_default();
        assert!(first.starts_with("shm: removed 10000 stale files: seg0, "), "{first}");
        let last = said.last().map(String::as_str);
        let all = "shm: kept 7 more files: no more than 10000 are looked at in one go";
        assert_eq!(last, Some(all));
    }

    #[test]
    fn after_its_order_was_taken_back_nothing_is_removed() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("segment"), "x").unwrap();
        let report = one(place.path(), &order(&["seg*"]), false);
        assert_eq!((report, count(place.path())), (Report::default(), 1));
    }

    #[test]
    fn two_orders_for_the_same_files_do_not_disturb_each_other() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("segment"), "x").unwrap();
        let (order, leave) = (order(&["seg*"]), Mutex::new(true));
        let reports = sweep(place.path(), &[(&order, &leave), (&order, &leave)]);
        let removed: Vec<usize> = reports.iter().map(|report| report.removed.len()).collect();
        let kept: Vec<usize> = reports.iter().map(|report| report.kept.len()).collect();
        assert_eq!((removed, kept), (vec![1, 0], vec![0, 0]));
    }

    #[test]
    fn files_of_the_site_itself_are_kept() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("site.pid"), "1").unwrap();
        let spared = BTreeSet::from(["site.pid".into()]);
        let report = one(place.path(), &Order { spared, ..order(&["site*"]) }, true);
        let kept = ("site.pid".to_owned(), "it is a file of this site".to_owned());
        assert_eq!(report.kept, [kept]);
        assert_eq!(count(place.path()), 1);
    }

    #[test]
    fn a_link_in_the_place_of_the_directory_is_not_followed() {
        let real = tempfile::tempdir().unwrap();
        fs::write(real.path().join("segment"), "x").unwrap();
        let link = real.path().join("link");
        symlink(real.path(), &link).unwrap();
        let report = one(&link, &order(&["seg*"]), true);
        assert!(report.failed.is_some(), "{report:?}");
        assert!(real.path().join("segment").exists());
    }
}
