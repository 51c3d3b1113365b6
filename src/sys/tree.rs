//! Which living processes belong to a run, and signals to them, without a look at every process
//! of the host.
//!
//! We are the reaper of our descendants (PID 1, or `PR_SET_CHILD_SUBREAPER`): when a main process
//! has been reaped, whatever is left of its tree hangs below children of ours that we did not
//! make. So a tree is empty when none of these *strangers* belongs to it, and that is looked at
//! when something was reaped, never by the clock.
//!
//! A stranger belongs to a run by its session (the main process led it), or by the marker in its
//! environment.

mod copies;
mod family;
mod leftovers;
mod listing;
mod process;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::unix::fs::FileExt,
};

pub(in crate::sys) use copies::above;
pub use copies::{Copy, copies, heads, process, with_descendants};
pub use family::Family;
pub use leftovers::{Leftover, all_end, leftovers};
pub use listing::{Ours, Portrait, is_alive, lives, portrait, with_forebears};
pub(in crate::sys) use process::proc_is_ours;
use process::{
    Descent, Environment, all_pids, below, descent_of, environment_of, open, pids, signal_process,
    stat, zombies_below,
};
pub use process::{Process, has_executed, name_of};

use super::{Pid, child::Children};
use crate::model::Signal;

/// What is left of the trees.
#[derive(Debug, Default)]
pub struct Look {
    /// The living processes of each watched run, as far as they hang directly below us.
    pub alive: BTreeMap<u64, Vec<Process>>,
    /// Somebody could not be told from a survivor: look again soon, and take no tree for empty.
    pub unclear: bool,
}

/// Whose a stranger is.
enum Belongs {
    To(u64),
    ToNobody,
    /// It is between two programs (execve(2)): its environment cannot be read just now.
    Unclear,
}

/// The runs whose main process is dead, and how their processes are recognised.
#[derive(Debug)]
pub struct Trees {
    marker: String,
    watched: BTreeMap<u64, Pid>,
    /// Strangers whose run was found once; they may forget their environment.
    known: BTreeMap<(Pid, u64), u64>,
    /// How many are remembered before those that are gone are looked for.
    known_max: usize,
    /// `/proc/self/task/TID/children` of the main thread, who is given the orphans; none where the
    /// kernel has no such file.
    children_file: Option<File>,
    /// What /proc shows is this PID namespace.
    usable: bool,
    /// Children that are nobody's leftovers.
    spared: BTreeSet<(Pid, u64)>,
    /// Whoever executed us had children: what these leave comes to us as well.
    had_children: bool,
}

impl Trees {
    /// For the supervisor whose children carry `SUPERVISOR_RUN=instance:RUN`; it has none yet.
    ///
    /// A process has a list of children for each of its threads, and orphans come into the one of
    /// its main thread. Where another thread forks, that list holds strangers only, and is short
    /// however many programs there are.
    #[must_use]
    pub fn new(instance: &str) -> Self {
        let main = nix::unistd::getpid();
        let mut trees = Self {
            marker: format!("SUPERVISOR_RUN={instance}:"),
            watched: BTreeMap::new(),
            known: BTreeMap::new(),
            known_max: 1024,
            children_file: open(&format!("/proc/self/task/{main}/children")),
            usable: proc_is_ours(),
            spared: BTreeSet::new(),
            had_children: false,
        };
        trees.had_children = !trees.strangers(&Children::new()).is_empty();
        trees
    }

    /// The children that we have now were made by whoever executed us: they are no strangers.
    pub fn spare_the_present(&mut self) {
        let present = self.strangers(&Children::new());
        self.spared = present.iter().map(|one| (one.pid, one.start_time)).collect();
    }

    /// Whether processes can be looked at. Without /proc, or with that of another PID namespace, no
    /// tree is ever seen to have anybody left, and only groups can be signalled.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// The main process `main` of `run` has ended: its tree is looked at from now on.
    pub fn watch(&mut self, run: u64, main: Pid) {
        self.watched.insert(run, main);
    }

    /// The tree of `run` is empty, or of no interest any more.
    pub fn forget(&mut self, run: u64) {
        self.watched.remove(&run);
        self.known.retain(|_, of| *of != run);
    }

    /// Looks at all strangers.
    pub fn survivors(&mut self, children: &Children) -> Look {
        let mut look = Look::default();
        for process in self.strangers(children) {
            match self.owner(children, &process) {
                Belongs::To(run) if self.watched.contains_key(&run) => {
                    look.alive.entry(run).or_default().push(process);
                }
                Belongs::To(_) | Belongs::ToNobody => {}
                Belongs::Unclear => look.unclear = true,
            }
        }
        look
    }

    /// Signals every process of the run that its group does not reach: escapees, and everybody
    /// once the main process is reaped. Each is identified again before it is signalled. How many
    /// were.
    pub fn signal_tree(&mut self, children: &Children, run: u64, signal: Signal) -> usize {
        let rounds = if signal == Signal::KILL { 3 } else { 1 };
        let mut told: BTreeSet<(Pid, u64)> = BTreeSet::new();
        for _ in 0..rounds {
            let group = children.pid_of(run).map(Pid::raw);
            let reached = |p: &Process| Some(p.group) == group || Some(p.pid.raw()) == group;
            let members = self.members(children, run);
            let before = told.len();
            for process in members.iter().filter(|p| !reached(p)) {
                let new = told.insert((process.pid, process.start_time));
                if new {
                    signal_process(process, signal);
                }
            }
            if told.len() == before {
                break; // nobody was forked since the last round
            }
        }
        told.len()
    }

    /// The living processes of the run, the main process first.
    #[must_use]
    pub fn processes_of(&mut self, children: &Children, run: u64) -> Vec<Process> {
        self.members(children, run)
    }

    /// The run that a process belongs to, when it is a descendant of ours and alive.
    pub fn run_of_process(&mut self, children: &Children, pid: Pid) -> Option<u64> {
        // While a forebear dies or an exec is under way, /proc tells less than it will.
        for _ in 0..50 {
            let run = match descent_of(pid) {
                Descent::From(top) if self.usable => {
                    children.run_of(top.pid).or_else(|| self.run_of(children, &top))
                }
                Descent::From(_) | Descent::Foreign => return None,
                Descent::Unclear => None,
            };
            if run.is_some() {
                return run;
            }
            std::thread::yield_now();
        }
        None
    }

    /// Every living child of ours that we did not make, whoever left it behind, and everything
    /// below them.
    #[must_use]
    pub fn all_strangers(&self, children: &Children) -> Vec<Process> {
        let open = self.strangers(children).into_iter().map(|process| process.pid).collect();
        below(open)
    }

    /// Dead processes that are not ours to reap: parents of theirs live and do not wait for them.
    /// As init those of everybody here, else of our descendants. By parent, and how many.
    #[must_use]
    pub fn zombies_of_others(&self, children: &Children) -> BTreeMap<Pid, u64> {
        if !self.usable {
            return BTreeMap::new();
        }
        if super::subreaper::is_init() {
            return zombies_below(all_pids());
        }
        zombies_below(self.our_children().into_iter().chain(children.pids()).collect())
    }

    /// Signals all of them.
    pub fn signal_all_strangers(&self, children: &Children, signal: Signal) {
        for process in self.all_strangers(children) {
            signal_process(&process, signal);
        }
    }

    /// The main process and everything below it, and everything below the strangers that belong
    /// to it.
    fn members(&mut self, children: &Children, run: u64) -> Vec<Process> {
        let mut open: Vec<Pid> = Vec::new();
        for process in self.strangers(children) {
            if self.run_of(children, &process) == Some(run) {
                open.push(process.pid);
            }
        }
        open.extend(children.pid_of(run).filter(|_| self.usable));
        let members = below(open);
        // Should those between die first, these are still known when they come to us.
        for process in &members {
            self.remember(process, run);
        }
        members
    }

    fn remember(&mut self, process: &Process, run: u64) {
        if self.known.len() >= self.known_max {
            self.known.retain(|(pid, start), _| stat(*pid).is_some_and(|p| p.start_time == *start));
            self.known_max = self.known.len().saturating_mul(2).max(1024);
        }
        self.known.insert((process.pid, process.start_time), run);
    }

    /// Living children of ours that we did not make.
    ///
    /// Who dies after the list was read leaves children to us that are not in it: so it is read
    /// again until all the dead in it were dead before. They stay in it until we reap them.
    fn strangers(&self, children: &Children) -> Vec<Process> {
        const MOST: usize = 20;
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let mut dead = BTreeSet::new();
        let mut living = Vec::new();
        for _ in 0..MOST {
            let strangers = self.our_children().into_iter();
            let strangers = strangers.filter(|pid| children.run_of(*pid).is_none());
            let all = strangers.filter_map(stat).filter(|process| process.parent == own);
            let (zombies, rest): (Vec<_>, _) = all.partition(|process| process.zombie);
            living = rest;
            living.retain(|one| !self.spared.contains(&(one.pid, one.start_time)));
            let before = dead.len();
            dead.extend(zombies.iter().map(|process| process.pid));
            if dead.len() == before {
                break;
            }
        }
        living
    }

    fn our_children(&self) -> Vec<Pid> {
        if !self.usable {
            return Vec::new();
        }
        let Some(file) = &self.children_file else { return all_pids() };
        let mut text = Vec::new();
        let mut place = 0_u64;
        let mut chunk = [0_u8; 4096];
        while let Ok(read @ 1..) = file.read_at(&mut chunk, place) {
            text.extend(chunk.iter().take(read));
            place = place.saturating_add(u64::try_from(read).unwrap_or(0));
        }
        pids(&String::from_utf8_lossy(&text))
    }

    fn run_of(&mut self, children: &Children, process: &Process) -> Option<u64> {
        match self.owner(children, process) {
            Belongs::To(run) => Some(run),
            Belongs::ToNobody | Belongs::Unclear => None,
        }
    }

    fn owner(&mut self, children: &Children, process: &Process) -> Belongs {
        let key = (process.pid, process.start_time);
        if let Some(run) = self.known.get(&key) {
            return Belongs::To(*run);
        }
        let by_id = |id: i32| {
            let pid = Pid::new(id)?;
            // A living leader first: the number of a dead one may have been given again.
            children.run_of(pid).or_else(|| {
                self.watched.iter().rev().find(|(_, main)| **main == pid).map(|(run, _)| *run)
            })
        };
        // The marker first: numbers of sessions are used again.
        let environment = environment_of(process.pid);
        let marked = match &environment {
            Environment::Is(text) => self.marked(text),
            Environment::Hidden | Environment::NotYet | Environment::Gone => None,
        };
        let run = marked.or_else(|| by_id(process.session)).or_else(|| by_id(process.group));
        match run {
            Some(run) => {
                self.remember(process, run);
                Belongs::To(run)
            }
            // It was alive when it was listed. What it leaves has come to us, and is not in the
            // list.
            None if matches!(environment, Environment::NotYet | Environment::Gone) => {
                Belongs::Unclear
            }
            None => Belongs::ToNobody,
        }
    }

    /// The run that an environment names.
    fn marked(&self, environment: &[u8]) -> Option<u64> {
        let mut entries = environment.split(|b| *b == 0);
        let entry = entries.find_map(|e| e.strip_prefix(self.marker.as_bytes()))?;
        std::str::from_utf8(entry).ok()?.parse().ok()
    }
}
