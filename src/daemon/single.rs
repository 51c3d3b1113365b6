//! Programs that run once at the most: takes their locks, finds copies of them, and ends those.
//!
//! A thread takes locks and looks at processes: a home directory may be far away, and there may be
//! many processes. What it has found lies on a desk between it and the loop, so that a lock that
//! is no longer wanted is given back by whoever is at the desk, at once.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender};

use super::{
    Shell,
    input::{self, Input},
};
use crate::{
    control::{HolderStatus, LockStatus, LockWord, paths},
    engine::{Adoptee, Claimed, Engine, Event, Record, RunId, What},
    model::{LogLevel, OnDuplicate, Program, Signal, SingleInstance},
    plan::ProgramId,
    sys::{
        clock, files,
        program_lock::{self, Holder, NotLocked, ProgramLock},
        tree::{self, Copy, Leftover},
    },
};

/// Where locks are whose program names no file: below the place of all sites of a user. No site
/// has such a name.
const LOCKS: &str = ".instances";
/// So many copies are named with all that is known of them in one line, and so many by their pids.
const NAMED: usize = 4;
const NUMBERED: usize = 64;
/// How long the end of copies is waited for, at the most, before they are looked for again. The
/// engine asks earlier.
const LONGEST: Duration = Duration::from_secs(600);

/// What is to be locked and looked for.
#[derive(Clone)]
struct Order {
    single: SingleInstance,
    /// Where the lock may be: the first place that can be made.
    locks: Vec<PathBuf>,
    /// Whose the files are, and the copies.
    owner: (u32, u32),
}

/// What was found.
struct Found {
    lock: Option<ProgramLock>,
    copies: Result<Vec<Copy>, Claimed>,
}

/// Between the thread and the loop.
enum Desk {
    Open,
    Found(Found),
    /// Nobody waits any more.
    Left,
}

/// One order for the thread.
struct Job {
    order: Order,
    /// The lock is to be taken; else it is held already.
    take: bool,
    desk: Arc<Mutex<Desk>>,
    program: ProgramId,
    run: RunId,
}

/// A program that is, or wants to be, the only one of its kind.
struct Claim {
    run: RunId,
    order: Order,
    desk: Arc<Mutex<Desk>>,
    lock: Option<ProgramLock>,
    copies: Vec<Copy>,
    /// Those that were told to end, and what they have started.
    ending: Vec<Arc<Vec<Leftover>>>,
}

/// All of them, and the thread.
#[derive(Default)]
pub(super) struct Claims {
    of: BTreeMap<ProgramId, Claim>,
    thread: Option<Sender<Job>>,
}

/// The thread: one order after the other, so that a lock that was given back is free for the next.
fn work(inbox: &Receiver<Job>, queue: &Sender<Input>) {
    while let Ok(Job { order, take, desk, program, run }) = inbox.recv() {
        let found = order.look(take);
        let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*desk, Desk::Left) {
            give_back(found.lock);
        } else {
            *desk = Desk::Found(found);
            input::send(queue, Input::Claimed { program, run });
        }
    }
}

fn give_back(lock: Option<ProgramLock>) {
    if let Some(lock) = lock {
        lock.release();
    }
}

impl Order {
    fn look(&self, take: bool) -> Found {
        let lock = match take.then(|| self.take()).transpose() {
            Ok(lock) => lock,
            Err(why) => return Found { lock: None, copies: Err(why) },
        };
        let Some(word) = &self.single.argv else { return Found { lock, copies: Ok(Vec::new()) } };
        let Some(copies) = tree::copies(word, self.owner.0) else {
            // Started in the blind it might be a second one.
            let why = "without a usable /proc nobody knows whether a copy of it runs";
            return Found { lock, copies: Err(Claimed::Failed(why.into())) };
        };
        Found { lock, copies: Ok(copies) }
    }

    fn take(&self) -> Result<ProgramLock, Claimed> {
        let failed = |why: crate::sys::SysError| Claimed::Failed(why.to_string().into());
        if let Some(path) = &self.single.pid_file {
            ProgramLock::check_pid_file(path, self.owner).map_err(failed)?;
        }
        let mut why = None;
        for path in &self.locks {
            if self.single.lock_file.is_none()
                && let Some(directory) = path.parent()
                && let Err(error) = files::make_own_dir(directory, 0o700, own_uid())
            {
                why = Some(error);
                continue;
            }
            // Only a place that cannot be made has another one in its stead.
            return ProgramLock::take(path, self.owner, clock::wall()).map_err(|why| match why {
                NotLocked::Held(holder) => Claimed::Taken(taken(&holder, path).into()),
                NotLocked::Unusable(why) => failed(why),
            });
        }
        Err(why.map_or_else(|| Claimed::Failed("there is no place for its lock".into()), failed))
    }
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// `pid 12, since 2026-11-28T15:00:00Z, python3 robot.py`.
fn in_words(one: &Copy) -> String {
    let since = one.process.started(clock::wall());
    format!("pid {}, since {since}, {}", one.process.pid, one.command)
}

fn taken(holder: &Holder, path: &std::path::Path) -> String {
    let path = path.display();
    match holder {
        Holder::Is(one) => format!("already running ({}): it has the lock {path}", in_words(one)),
        Holder::We => format!("another program of this supervisor has the lock {path}"),
        Holder::Hidden => {
            format!("already running: somebody who cannot be seen has the lock {path}")
        }
    }
}

fn running(copies: &[Copy]) -> String {
    let named: Vec<String> = copies.iter().take(NAMED).map(in_words).collect();
    let pids = copies.iter().skip(NAMED).take(NUMBERED).map(|one| one.process.pid.to_string());
    let mut more = pids.collect::<Vec<_>>().join(", ");
    if !more.is_empty() {
        let rest = if copies.len() > NAMED + NUMBERED { ", …" } else { "" };
        more = format!("; pids {more}{rest}");
    }
    let count = match copies.len() {
        1 => String::new(),
        more => format!(", {more} copies"),
    };
    format!("already running{count} ({}{more}): not started by this supervisor", named.join("; "))
}

/// What these copies are to a start; `adopts`: one is taken on. Of several none is: nobody knows
/// which of them is meant.
fn judged(copies: &[Copy], adopts: bool) -> Claimed {
    let text = running(copies);
    if !adopts {
        return Claimed::Copies(text.into());
    }
    match tree::heads(copies)[..] {
        [one] if one.is_contained() => {
            let why = "it is in a PID namespace of its own, so it is not adopted";
            Claimed::Copies(format!("{text}; {why}").into())
        }
        [_] => Claimed::Copy(text.into()),
        _ => Claimed::Copies(format!("{text}; one could be adopted, but none is chosen").into()),
    }
}

/// How it came to be the program.
fn adoptee(copy: &Copy) -> Adoptee {
    let age = clock::since_boot().saturating_sub(copy.process.started_after_boot());
    let who = format!("{}, started by {}", in_words(copy), copy.starter());
    Adoptee { pid: copy.process.pid.number(), age, who: who.into() }
}

impl Claims {
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
        std::thread::Builder::new().name("single".into()).spawn(move || work(&inbox, &queue))?;
        drop(thread.send(job));
        self.thread = Some(thread);
        Ok(())
    }

    /// The lock of this program, for its main process; `None` when it has none.
    pub(super) fn inherited(&self, program: ProgramId) -> io::Result<Option<OwnedFd>> {
        let lock = self.of.get(&program).and_then(|claim| claim.lock.as_ref());
        lock.map(ProgramLock::for_child).transpose()
    }
}

impl Shell {
    /// Has the lock taken, and copies looked for.
    pub(super) fn claim(&mut self, id: ProgramId, run: RunId) {
        let Some(order) = self.order_of(id) else { return };
        let desk = Arc::new(Mutex::new(Desk::Open));
        let claim = Claim { run, order, desk, lock: None, copies: Vec::new(), ending: Vec::new() };
        self.claims.of.insert(id, claim);
        self.have_looked(id, run);
    }

    fn order_of(&self, id: ProgramId) -> Option<Order> {
        let program = self.engine.program(id)?;
        let single = program.single_instance.as_deref()?.clone();
        let owner = super::children::ids(&program.execution.user);
        let locks = self.locks_of(&program, &single);
        Some(Order { single, locks, owner })
    }

    fn locks_of(&self, program: &Program, single: &SingleInstance) -> Vec<PathBuf> {
        if let Some(path) = &single.lock_file {
            return vec![path.clone()];
        }
        let variable =
            |name: &str| self.nursery.environment.get(&OsString::from(name)).map(PathBuf::from);
        let around = paths::Surroundings {
            uid: own_uid(),
            // That of one unit: another site would have another.
            runtime_directory: None,
            xdg_runtime_dir: variable("XDG_RUNTIME_DIR"),
            home: variable("HOME"),
        };
        let name = format!("{}.lock", program.name);
        paths::bases(&around).into_iter().map(|base| base.join(LOCKS).join(&name)).collect()
    }

    /// Has a look taken for the claim of this run, unless it is an old one.
    fn have_looked(&mut self, id: ProgramId, run: RunId) {
        let Some(claim) = self.claims.of.get_mut(&id).filter(|claim| claim.run == run) else {
            return;
        };
        claim.desk = Arc::new(Mutex::new(Desk::Open));
        let (order, desk) = (claim.order.clone(), Arc::clone(&claim.desk));
        let job = Job { order, take: claim.lock.is_none(), desk, program: id, run };
        if let Err(why) = self.claims.give(job, &self.queue) {
            let what = Claimed::Failed(format!("cannot start a thread: {why}").into());
            self.results.push_back(Event::Claimed { program: id, run, what });
        }
    }

    /// The thread has looked.
    pub(super) fn looked(&mut self, id: ProgramId, run: RunId) {
        let Some(claim) = self.claims.of.get_mut(&id).filter(|claim| claim.run == run) else {
            return;
        };
        let desk = {
            let mut desk = claim.desk.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *desk, Desk::Open)
        };
        let Desk::Found(found) = desk else { return };
        let mut stale = None;
        if let Some(lock) = found.lock {
            let path = lock.path().display();
            stale = lock.stale().map(|pid| {
                format!("the lock {path} was left behind by pid {pid}, and nobody has it: taken")
            });
            claim.lock = Some(lock);
        }
        let what = match found.copies {
            Err(what) => what,
            Ok(mut copies) => {
                // What was adopted is ours, as what we have started is.
                copies.retain(|copy| !self.adopted.values().any(|one| one.has(&copy.process)));
                claim.copies = copies;
                match &claim.copies[..] {
                    [] => Claimed::Free,
                    all => judged(all, claim.order.single.on_duplicate == OnDuplicate::Adopt),
                }
            }
        };
        if let Some(text) = stale {
            self.note_of(id, LogLevel::Info, text);
        }
        self.feed(Event::Claimed { program: id, run, what });
    }

    fn note_of(&mut self, id: ProgramId, level: LogLevel, text: String) {
        let program = self.engine.program(id).map(|program| program.name.clone());
        self.record(Record { program, what: What::Note { level, text: text.into() } });
    }

    /// Takes the one copy that was found for the program.
    pub(super) fn adopt(&mut self, id: ProgramId, run: RunId) {
        let Some(claim) = self.claims.of.get(&id).filter(|claim| claim.run == run) else { return };
        let [copy] = tree::heads(&claim.copies)[..] else { return self.have_looked(id, run) };
        let (process, uid) = (copy.process, claim.order.owner.0);
        let (adoptee, text) = (adoptee(copy), running(&claim.copies));
        let what = match self.supervise(id, run, process, uid) {
            Ok(true) => Claimed::Adopted(adoptee),
            // It has just ended.
            Ok(false) => return self.have_looked(id, run),
            Err(why) => Claimed::Copies(format!("{text}; it cannot be adopted: {why}").into()),
        };
        self.results.push_back(Event::Claimed { program: id, run, what });
    }

    /// Tells copies to end, and everything that they have started; looks again when they are gone.
    pub(super) fn end_copies(&mut self, id: ProgramId, run: RunId, signal: Signal) {
        let Some(claim) = self.claims.of.get_mut(&id).filter(|claim| claim.run == run) else {
            return;
        };
        let all = Arc::new(tree::with_descendants(&claim.copies, claim.order.owner.0));
        claim.ending.push(Arc::clone(&all));
        // What a copy had started before it ended is known from the time before.
        for one in claim.ending.iter().flat_map(|all| all.iter()) {
            one.signal(signal);
            one.signal(Signal::CONT);
        }
        let queue = self.queue.clone();
        let waiting = claim.ending.clone();
        let wait = std::thread::Builder::new().name("copies".into()).spawn(move || {
            let end = clock::monotonic() + LONGEST;
            for all in waiting {
                tree::all_end(&all, end);
            }
            input::send(&queue, Input::CopiesEnded { program: id, run });
        });
        if let Err(why) = wait {
            let text = format!("cannot start a thread to wait for copies: {why}");
            self.note_of(id, LogLevel::Warn, text);
        }
    }

    /// They are gone: whether there are others now.
    pub(super) fn copies_ended(&mut self, id: ProgramId, run: RunId) {
        self.have_looked(id, run);
        self.drain_results();
    }

    /// Who it is, for the lock and the PID file.
    pub(super) fn sign(&mut self, id: ProgramId, pid: u32) {
        let Some(claim) = self.claims.of.get_mut(&id) else { return };
        let Some(lock) = &mut claim.lock else { return };
        lock.say(pid, clock::wall());
        let Some(path) = &claim.order.single.pid_file else { return };
        if let Err(why) = lock.write_pid(path, claim.order.owner, pid) {
            self.note_of(id, LogLevel::Warn, why.to_string());
        }
    }

    /// Nothing of it is alive: its files go, and its lock is free.
    pub(super) fn unclaim(&mut self, id: ProgramId) {
        self.supervise_no_more(id);
        let Some(claim) = self.claims.of.remove(&id) else { return };
        let mut desk = claim.desk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Desk::Found(found) = std::mem::replace(&mut *desk, Desk::Left) {
            give_back(found.lock);
        }
        give_back(claim.lock);
    }

    /// What a status shows of the lock of a program.
    pub(super) fn lock_status(&self, id: ProgramId) -> Option<LockStatus> {
        let program = self.engine.program(id)?;
        let single = program.single_instance.as_deref()?;
        let held = self.claims.of.get(&id).and_then(|claim| claim.lock.as_ref());
        let own = held.map(|lock| lock.path().to_owned());
        let path = own.or_else(|| self.locks_of(&program, single).into_iter().next())?;
        let (state, holder) = match held {
            Some(_) => (LockWord::Held, None),
            None => match program_lock::look(&path) {
                Ok(None) => (LockWord::Free, None),
                Ok(Some(Holder::Is(one))) => {
                    let (pid, command) = (one.process.pid.number(), one.command.into());
                    (LockWord::Taken, Some(HolderStatus { pid, uid: one.uid, command }))
                }
                Ok(Some(Holder::We | Holder::Hidden)) => (LockWord::Taken, None),
                Err(_) => (LockWord::Unknown, None),
            },
        };
        let pid_file = single.pid_file.as_ref().map(|path| path.display().to_string());
        Some(LockStatus { path: path.display().to_string(), state, holder, pid_file })
    }
}

/// What a start would find, in a line for people, and who would be adopted; nothing is locked.
pub(super) fn describe(engine: &Engine, id: ProgramId) -> Option<(String, Option<Adoptee>)> {
    let program = engine.program(id)?;
    let single = program.single_instance.as_deref()?;
    let owner = super::children::ids(&program.execution.user);
    let copies = tree::copies(single.argv.as_deref()?, owner.0)?;
    if copies.is_empty() {
        return None;
    }
    let line = |text: &str| format!("{}: {text}", program.name);
    match judged(&copies, single.on_duplicate == OnDuplicate::Adopt) {
        Claimed::Copy(_) => {
            let one = tree::heads(&copies).first().map(|one| adoptee(one))?;
            Some((line(&format!("adopts {}", one.who)), Some(one)))
        }
        Claimed::Copies(text) | Claimed::Taken(text) | Claimed::Failed(text) => {
            Some((line(&text), None))
        }
        Claimed::Free | Claimed::Adopted(_) => None,
    }
}
