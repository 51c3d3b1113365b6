//! The imaginary world: processes with pids that are used again, trees, deaths on time.

use std::collections::{BTreeMap, BTreeSet};

use mini_supervisor::{
    engine::{Role, RunId},
    model::{Exit, Signal},
    plan::ProgramId,
};

use super::site::Random;

/// How a process answers SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Ends soon.
    Obeys,
    /// Does not care.
    Ignores,
    /// Dies of nothing for a while, not even of SIGKILL (state D).
    Hangs,
}

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) run: RunId,
    pub(super) main: bool,
    pub(super) zombie: bool,
    manner: Manner,
}

/// What the world knows of a run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) program: ProgramId,
    pub(super) role: Role,
    pub(super) main: u32,
    /// The engine was told that it executes.
    pub(super) reported: bool,
    /// Its main process was reaped.
    pub(super) reaped: bool,
    pub(super) living: u32,
}

/// Something that will happen by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    Dies { pid: u32, run: RunId, how: (u8, bool) },
    Reported { run: RunId },
    Condition { program: ProgramId, attempt: u64, index: usize },
}

/// The share of each fault, drawn by each seed.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    pub(super) fork: u64,
    pub(super) exec: u64,
    pub(super) late_report: u64,
    pub(super) crash: u64,
    pub(super) ignore: u64,
    pub(super) hang: u64,
    pub(super) fork_more: u64,
    pub(super) never: u64,
    pub(super) stale: u64,
    pub(super) pause: u64,
    pub(super) commands: u64,
}

impl Faults {
    pub(super) fn drawn(random: &mut Random) -> Self {
        let mut share = |most: u64| if random.chance(40) { 0 } else { random.below(most) };
        Self {
            fork: share(20),
            exec: share(20),
            late_report: share(60),
            crash: share(100),
            ignore: share(50),
            hang: share(20),
            fork_more: share(50),
            never: share(60),
            stale: share(20),
            pause: share(4),
            commands: 2 + share(40),
        }
    }

    pub(super) fn none() -> Self {
        Self {
            fork: 0,
            exec: 0,
            late_report: 0,
            crash: 0,
            ignore: 0,
            hang: 0,
            fork_more: 0,
            never: 0,
            stale: 0,
            pause: 0,
            commands: 0,
        }
    }
}

/// The smallest pid: small numbers, so that each is used again and again.
const FIRST_PID: u32 = 2;

/// All processes, and what is going to happen.
pub(super) struct World {
    pub(super) processes: BTreeMap<u32, Process>,
    pub(super) runs: BTreeMap<RunId, Run>,
    happenings: BTreeSet<(u64, u64, Happening)>,
    sequence: u64,
    pub(super) faults: Faults,
}

impl World {
    pub(super) fn new(faults: Faults) -> Self {
        Self {
            processes: BTreeMap::new(),
            runs: BTreeMap::new(),
            happenings: BTreeSet::new(),
            sequence: 0,
            faults,
        }
    }

    pub(super) fn plan(&mut self, at: u64, what: Happening) {
        self.sequence += 1;
        self.happenings.insert((at, self.sequence, what));
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.happenings.first().map(|(at, _, _)| *at)
    }

    pub(super) fn take_next(&mut self) -> Option<Happening> {
        self.happenings.pop_first().map(|(_, _, what)| what)
    }

    fn new_pid(&self) -> u32 {
        (FIRST_PID..).find(|pid| !self.processes.contains_key(pid)).unwrap()
    }

    /// A child is made; how long it lives by itself is drawn.
    pub(super) fn spawn(
        &mut self,
        (program, run, role): (ProgramId, RunId, Role),
        lives_on: bool,
        now: u64,
        random: &mut Random,
    ) -> u32 {
        let pid = self.new_pid();
        let manner = if random.chance(self.faults.hang) {
            Manner::Hangs
        } else if random.chance(self.faults.ignore) {
            Manner::Ignores
        } else {
            Manner::Obeys
        };
        let process = Process { run, main: true, zombie: false, manner };
        self.processes.insert(pid, process);
        self.runs.insert(
            run,
            Run { program, role, main: pid, reported: false, reaped: false, living: 1 },
        );
        let is_main = role == Role::Main;
        let ends = !is_main && !random.chance(self.faults.never) || !lives_on;
        if ends || is_main && random.chance(self.faults.crash) {
            let soon = random.pick(&[0, 1_000, 1_000_000, 300_000_000, 40_000_000_000]);
            let codes: &[u8] =
                if !lives_on || !is_main { &[0, 0, 0, 1] } else { &[0, 1, 7, 11, 12] };
            let how = if random.chance(20) {
                (random.pick(&[1_u8, 6, 9, 11, 15]), true)
            } else {
                (random.pick(codes), false)
            };
            let how = if self.faults.crash == 0 { (0, false) } else { how };
            self.plan(now + soon, Happening::Dies { pid, run, how });
        }
        if random.chance(self.faults.fork_more) {
            for _ in 0..=random.below(2) {
                self.fork(run, now, random);
            }
        }
        pid
    }

    /// The run gets one more process, which may end before or after its main process.
    fn fork(&mut self, run: RunId, now: u64, random: &mut Random) {
        let pid = self.new_pid();
        let manner = if random.chance(30) { Manner::Ignores } else { Manner::Obeys };
        self.processes.insert(pid, Process { run, main: false, zombie: false, manner });
        if let Some(run) = self.runs.get_mut(&run) {
            run.living += 1;
        }
        if random.chance(50) {
            let at = now + random.below(5_000_000_000);
            self.plan(at, Happening::Dies { pid, run, how: (0, false) });
        }
    }

    /// A signal reaches one process.
    fn hit(&mut self, pid: u32, signal: Signal, now: u64, random: &mut Random) {
        let Some(process) = self.processes.get(&pid).filter(|p| !p.zombie) else { return };
        let (run, manner) = (process.run, process.manner);
        let delay = match (signal, manner) {
            (Signal::KILL, Manner::Hangs) => random.below(5_000_000_000),
            (Signal::KILL, Manner::Obeys | Manner::Ignores) => 0,
            (Signal::CONT | Signal::HUP, _) | (_, Manner::Ignores | Manner::Hangs) => return,
            (_, Manner::Obeys) => random.below(200_000_000),
        };
        let how = (signal.number(), true);
        self.plan(now + delay, Happening::Dies { pid, run, how });
    }

    /// A signal to the main process, or to every process of the run.
    pub(super) fn signal(
        &mut self,
        run: RunId,
        signal: Signal,
        whole: bool,
        now: u64,
        random: &mut Random,
    ) {
        let Some(known) = self.runs.get(&run) else { return };
        if !whole {
            return self.hit(known.main, signal, now, random);
        }
        let members: Vec<u32> =
            self.processes.iter().filter(|(_, p)| p.run == run).map(|(pid, _)| *pid).collect();
        for pid in members {
            self.hit(pid, signal, now, random);
        }
    }

    /// Whether this death can happen still: the process lives and is the one that was meant.
    pub(super) fn can_die(&self, pid: u32, run: RunId) -> bool {
        self.processes.get(&pid).is_some_and(|p| p.run == run && !p.zombie)
    }

    /// The process ends. A main process stays as a zombie until it is reaped; whether it was one.
    pub(super) fn die(&mut self, pid: u32) -> bool {
        let Some(process) = self.processes.get_mut(&pid) else { return false };
        if let Some(run) = self.runs.get_mut(&process.run) {
            run.living -= 1;
        }
        if process.main {
            process.zombie = true;
            return true;
        }
        self.processes.remove(&pid);
        false
    }

    pub(super) fn reap(&mut self, run: RunId) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.reaped = true;
            self.processes.remove(&run.main);
        }
    }

    /// Runs whose tree is empty; each is given once.
    pub(super) fn take_if_empty(&mut self, run: RunId) -> Option<Run> {
        let known = self.runs.get(&run)?;
        if known.reaped && known.living == 0 { self.runs.remove(&run) } else { None }
    }

    /// How many processes of the program's main runs live, zombies included.
    pub(super) fn instances(&self, program: ProgramId) -> usize {
        let mine = |run: &&Run| run.program == program && run.role == Role::Main;
        self.runs.values().filter(mine).filter(|run| !run.reaped).count()
    }

    /// Whether something of a main run of the program lives.
    pub(super) fn has_tree(&self, program: ProgramId) -> bool {
        let mine = |run: &Run| run.program == program && run.role == Role::Main;
        self.runs.values().any(|run| mine(run) && (!run.reaped || run.living > 0))
    }
}

/// How a process ended, from its compact form.
pub(super) fn exit((number, by_signal): (u8, bool)) -> Exit {
    match Signal::from_number(i64::from(number)).filter(|_| by_signal) {
        Some(signal) => Exit::Signal { signal, core: false },
        None => Exit::Code(number),
    }
}
