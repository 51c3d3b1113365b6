//! A cgroup for each program, where we were given one to divide ([`crate::sys::cgroup`]).
//!
//! They make sure of what is found without them: a tree that forks faster than it is looked at dies
//! at once, and the kernel says whom it killed for want of memory. Nothing is decided by them: a
//! tree is empty when no process of it is left, wherever that has moved. So without them, or when a
//! program does not get into its own, all goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, mem,
    time::Duration,
};

use super::Shell;
use crate::{
    engine::RunId,
    model::{Exit, KillMode, LogLevel, Name, Signal},
    plan::ProgramId,
    sys::{
        cgroup::{Leaf, Root},
        clock,
        spawn::Cgroup,
    },
};

/// The cgroups of the programs.
#[derive(Clone, Debug, Default)]
pub(super) struct Cgroups {
    root: Option<Root>,
    /// Why there are none.
    why_not: Option<String>,
    known: BTreeMap<Name, Known>,
    /// Runs that we have sent SIGKILL.
    pub(super) killed: BTreeSet<RunId>,
    /// That a program is not in its own is said once.
    warned: bool,
}

/// What is known of the cgroup of one program.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Somebody lived in it when no run of the program was left: he is not to die with it.
    mixed: bool,
    /// It was killed, and could not be made anew since.
    was_killed: bool,
    /// It was killed, and nobody has come since: who is seen in it is dying.
    dying: bool,
    /// The kernel had killed so many in it for want of memory when it was last asked.
    oom_kills: u64,
}

impl Cgroups {
    /// Moves us into a leaf of our own, if our cgroup is ours to divide. Before any fork: so
    /// whoever waits until we are up comes along.
    pub(super) fn enter(dry_run: bool) -> Self {
        if dry_run {
            return Self::default();
        }
        match Root::take() {
            Ok(root) => Self { root: Some(root), ..Self::default() },
            Err(why) => Self { why_not: Some(why), ..Self::default() },
        }
    }

    fn leaf(&self, name: &Name) -> Option<Leaf> {
        self.root.as_ref().filter(|_| self.known.contains_key(name)).map(|root| root.leaf(name))
    }

    /// The program is no longer part of the site.
    pub(super) fn forget(&mut self, name: &Name) {
        if let Some(leaf) = self.leaf(name) {
            leaf.remove();
        }
        self.known.remove(name);
    }

    /// At the end: kills whoever lives in those of all programs.
    pub(super) fn kill_all(&self) {
        let ours = self.known.iter().filter(|(_, known)| !known.mixed);
        for leaf in ours.filter_map(|(name, _)| self.leaf(name)) {
            leaf.kill();
        }
    }

    /// At the very end. Our own stays while we are in it.
    pub(super) fn remove_all(&mut self) {
        /// For children that were killed before their exec: nobody has waited for their end.
        const PATIENCE: Duration = Duration::from_millis(200);
        let Some(root) = &self.root else { return };
        let end = clock::monotonic() + PATIENCE;
        for (name, known) in mem::take(&mut self.known) {
            let leaf = root.leaf(&name);
            if !leaf.remove() && !known.mixed {
                leaf.wait_until_empty(end.since(clock::monotonic()));
                leaf.remove();
            }
        }
    }
}

impl Shell {
    /// Takes them into use.
    pub(super) fn divide(&mut self, cgroups: Cgroups) {
        let text = match (&cgroups.root, &cgroups.why_not) {
            (Some(root), _) => {
                format!("each program has a cgroup below {}", root.folder().display())
            }
            (None, Some(why)) => format!("no cgroups for programs: {why}"),
            (None, None) => return,
        };
        self.note(LogLevel::Debug, text);
        self.cgroups = cgroups;
    }

    /// The cgroup that a child of this program is to be in.
    pub(super) fn cgroup_for(&mut self, id: ProgramId, name: &Name) -> Option<Cgroup> {
        let leaf = self.cgroups.root.as_ref()?.leaf(name);
        let is_first = !self.runs.values().any(|of| *of == id);
        // What a supervisor before us has done to it nobody knows.
        let unknown = Known { was_killed: true, ..Known::default() };
        let before = self.cgroups.known.get(name).copied().unwrap_or(unknown);
        // One that was killed is as good as new when it is new.
        let was_killed = before.was_killed && !(is_first && leaf.remove());
        let directory = match leaf.open() {
            Ok(directory) => directory,
            Err(why) => {
                self.without_cgroup(id, &why);
                return None;
            }
        };
        let mut known = Known { was_killed, dying: false, ..before };
        if is_first {
            known.mixed = leaf.is_populated() && !before.dying;
            known.oom_kills = leaf.oom_kills().unwrap_or(0);
        }
        self.cgroups.known.insert(name.clone(), known);
        Some(Cgroup { directory, moved: was_killed })
    }

    /// A program runs in our own cgroup: that is no reason not to run.
    pub(super) fn without_cgroup(&mut self, id: ProgramId, why: &dyn fmt::Display) {
        if mem::replace(&mut self.cgroups.warned, true) {
            return;
        }
        let whose = self.engine.program(id).map(|program| format!("{}: ", program.name));
        let whose = whose.unwrap_or_default();
        self.note(LogLevel::Warn, format!("{whose}{why}; it runs without a cgroup of its own"));
    }

    /// Everybody of this run is to die: at once, where nobody else lives in the cgroup. A command
    /// beside the program is somebody else until it is to die as well.
    pub(super) fn kill_cgroup(&mut self, run: RunId) {
        if self.cgroups.root.is_none() {
            return;
        }
        let Some(id) = self.runs.get(&run) else { return };
        let Some(program) = self.engine.program(*id) else { return };
        let Some(leaf) = self.cgroups.leaf(&program.name) else { return };
        let Some(known) = self.cgroups.known.get_mut(&program.name) else { return };
        let mut runs = self.runs.iter().filter(|(_, of)| *of == id);
        let all = runs.all(|(run, _)| self.doomed.contains(run));
        // What one of the mode `process` has left behind goes on.
        if all && !known.mixed && program.stop.kill_mode != KillMode::Process {
            (known.was_killed, known.dying) = (true, true);
            leaf.kill();
        }
    }

    /// How a run has ended. Where somebody but us sent SIGKILL and the kernel has killed for want
    /// of memory since it was last asked, it was that.
    pub(super) fn exit_of(&mut self, run: RunId, id: ProgramId, exit: Exit) -> Exit {
        let ours = self.cgroups.killed.contains(&run);
        let Some(program) = self.engine.program(id) else { return exit };
        let Some(now) = self.cgroups.leaf(&program.name).and_then(|leaf| leaf.oom_kills()) else {
            return exit;
        };
        let Some(known) = self.cgroups.known.get_mut(&program.name) else { return exit };
        let rose = mem::replace(&mut known.oom_kills, now) < now;
        let killed = exit == Exit::Signal { signal: Signal::KILL, core: false };
        if rose && killed && !ours { Exit::OutOfMemory } else { exit }
    }
}
