//! The shell: threads, the queue, and carrying out what the engine decides.
//!
//! One thread, the loop, forks, reaps and signals; the others only wait and report into its queue.

mod accounts;
mod adopted;
mod arms;
mod background;
mod cgroups;
mod children;
mod command;
pub mod conditions;
pub mod control;
mod directories;
mod door;
mod dry_run;
mod execute;
mod fault;
mod finish;
mod forking;
mod ground;
pub(crate) mod host_end;
mod input;
mod journal;
mod kill_all;
mod last_words;
mod leftovers;
mod loader;
pub mod logs;
mod memory;
mod notes;
mod notify;
mod place;
mod private_tmp;
mod probes;
mod processes;
mod requests;
pub mod semaphores;
mod shm;
mod single;
mod start;
mod way;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

pub use accounts::Host;
pub use processes::process_info;
pub use start::{RunOptions, run};

use self::{children::Nursery, execute::Unreported, input::Input};
use crate::{
    control::RequestId,
    engine::{Actions, Engine, Event, RunId, Told},
    model::{LogLevel, Name, Signal},
    plan::ProgramId,
    sys::{
        Pid,
        child::Children,
        clock, local_time,
        lockfile::InstanceLock,
        mountinfo::HangingMounts,
        signals::{self, Arrived},
        stdio,
        tree::{self, Trees},
    },
};

/// The loop and everything it owns.
struct Shell {
    engine: Engine,
    /// Results of actions: handled before anything else.
    results: VecDeque<Event>,
    actions: Actions,
    queue: Sender<Input>,
    children: Children,
    trees: Trees,
    /// Which program a run is of, until its tree is empty.
    runs: BTreeMap<RunId, ProgramId>,
    /// The names of those programs: a run may outlive its program, and the id of that be given
    /// again.
    names_of_runs: BTreeMap<RunId, Name>,
    /// Runs whose main process has ended and whose tree may not be empty.
    dying: BTreeSet<RunId>,
    /// Runs whose whole tree is to die.
    doomed: BTreeSet<RunId>,
    /// Runs that died in this round of reaping, and the signals that their trees get after it.
    after_reap: BTreeMap<RunId, Vec<Signal>>,
    /// Children whose exec is not yet reported.
    unreported: BTreeMap<RunId, Unreported>,
    /// Children that never became a program and are not yet reaped.
    stillborn: BTreeSet<RunId>,
    /// Runs whose daemon is looked for, or was found.
    sought: BTreeMap<RunId, forking::Sought>,
    /// Commands that are to end the host.
    asked: BTreeMap<RunId, host_end::Asked>,
    memory: memory::Memory,
    nursery: Nursery,
    cgroups: cgroups::Cgroups,
    mounts: HangingMounts,
    logs: logs::LogHandle,
    journal: journal::Journal,
    control: Option<control::ControlHandle>,
    door: Option<door::Door>,
    /// Held for as long as we live; goes after the socket.
    lock: Option<InstanceLock>,
    conditions: Option<conditions::ConditionHandle>,
    /// The thread that looks at semaphores, once there is one.
    semaphores: Option<arms::Eyes>,
    watcher: input::Watcher,
    /// What programs say of themselves.
    notes: notes::Notes,
    /// Who started us, and the service manager.
    manager: notify::Manager,
    loader: loader::Loader,
    /// Threads that look for what is stale in /dev/shm.
    sweeps: shm::Sweeps,
    /// What is being ended because somebody wants everything ended.
    killings: kill_all::Killings,
    /// Locks of programs that run once at the most.
    claims: single::Claims,
    /// Looks at whether programs serve.
    probes: probes::Probes,
    /// Runs that are no children of ours.
    adopted: BTreeMap<RunId, adopted::Adopted>,
    /// Clients that follow the events; of one subject, or of all.
    followers: BTreeMap<RequestId, Option<String>>,
    /// Who was refused lately: said once a minute.
    refusals: requests::Refusals,
    /// The level that the command line asks for, whatever the site says.
    log_level: Option<LogLevel>,
    started: crate::model::Instant,
    config: Option<String>,
    /// Since when the trees could not be looked at rightly, and when they are again.
    unclear: Option<(crate::model::Instant, crate::model::Instant)>,
    /// A deadline was due, and an input was taken first.
    passed_over: bool,
    exit: Option<u8>,
}

impl Shell {
    /// Runs until the engine says that it is over; gives the exit code.
    fn run(&mut self, inputs: &Receiver<Input>) -> u8 {
        // A stop that came while we were starting: nothing is started for it to end.
        self.signals();
        let mut waiting = Vec::new();
        if self.exit.is_none() {
            waiting = self.end_leftovers(inputs);
        }
        if self.exit.is_none() {
            self.recall();
            self.feed(Event::Boot);
        }
        for input in waiting {
            self.take(input);
        }
        // A site starts at once and then goes on one by one: such buffers are not needed again.
        self.results.shrink_to_fit();
        self.actions = Actions::new();
        crate::sys::memory::settle();
        loop {
            self.manager.look(&self.engine, clock::monotonic(), clock::wall);
            if let Some(code) = self.exit {
                return code;
            }
            match self.next(inputs) {
                Some(input) => {
                    self.manager.touch();
                    self.take(input);
                }
                None => self.deadline(),
            }
        }
    }

    /// The next input, or `None` when a deadline comes first.
    fn next(&mut self, inputs: &Receiver<Input>) -> Option<Input> {
        let lost = Input::ThreadLost("queue");
        let again = self.unclear.map(|(_, at)| at);
        let others = again.into_iter().chain(self.manager.deadline()).chain(self.notes.deadline());
        let Some(at) = self.engine.next_deadline().into_iter().chain(others).min() else {
            return Some(inputs.recv().unwrap_or(lost));
        };
        let wait = at.since(clock::monotonic()).min(Duration::from_secs(86_400));
        if wait.is_zero() {
            // In turn: neither is a stop to wait behind a row of deadlines, nor are these to wait
            // for ever while something arrives all the time.
            self.passed_over = !self.passed_over;
            return if self.passed_over { inputs.try_recv().ok() } else { None };
        }
        match inputs.recv_timeout(wait) {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(lost),
        }
    }

    fn deadline(&mut self) {
        if self.engine.next_deadline().is_some_and(|at| at <= clock::monotonic()) {
            self.manager.touch();
            // What was said in time counts, should we be the one who is late.
            self.read_notes();
        }
        self.feed(Event::Deadline);
        self.notes.unmute(clock::monotonic());
        if self.unclear.is_some_and(|(_, at)| at <= clock::monotonic()) {
            self.look_at_trees();
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Signals => self.signals(),
            Input::Deaths => self.reap_some(),
            Input::Report(run) => self.read_report(run),
            Input::Notes => self.notes_arrived(),
            Input::PidFile(run) => self.pid_file_changed(run),
            Input::Control(event) => self.control_event(event),
            Input::Log(report) => {
                let lost = report.lost_bytes;
                let whose = report.program.map(|name| format!("{name}: ")).unwrap_or_default();
                let lost = match lost {
                    0 => String::new(),
                    lost => format!(" ({lost} bytes of output lost so far)"),
                };
                let text = format!("{whose}{}{lost}", report.what);
                self.note(LogLevel::Warn, text);
            }
            Input::Condition(met) => self.feed(Event::Condition {
                program: met.program,
                attempt: met.attempt,
                index: met.index,
            }),
            Input::Tidied { program, run, records } => self.tidied(program, run, records),
            Input::Probed { program, run, sample } => self.probed(program, run, sample),
            Input::Words(run) => self.read_words(run),
            Input::Claimed { program, run } => self.looked(program, run),
            Input::CopiesEnded { program, run } => self.copies_ended(program, run),
            Input::AdoptedEnded(run) => self.adopted_ended(run),
            Input::FamilyEnded(run) => self.family_ended(run),
            Input::Semaphore(told) => self.told_of_semaphores(told),
            Input::Event(event) => self.feed(*event),
            Input::KillAll(id, step) => self.kill_all_step(id, step),
            // Of a wait that a stop has cut short.
            Input::LeftoversEnded => {}
            Input::ThreadLost(name) => {
                let text = format!("bug: the {name} thread is lost; stopping");
                // Where the log thread is the one that is lost, there is no log.
                stdio::say(&format!("supervisor: {text}\n"));
                self.note(LogLevel::Error, text);
                self.feed(Event::Told(Told::Fault));
            }
        }
    }

    /// Signals before deaths: what dies because we were told to stop is no crash.
    fn signals(&mut self) {
        let mut deaths = false;
        for arrived in self.watcher.arrived() {
            let told = match arrived.signal {
                signal if signal == Signal::CHLD => {
                    deaths = true;
                    continue;
                }
                Signal::HUP => {
                    self.look_at_door();
                    Told::Reload
                }
                Signal::USR1 => {
                    self.look_at_door();
                    Told::Reopen
                }
                Signal::QUIT => Told::Quit,
                Signal::USR2 => {
                    let text = "SIGUSR2: re-executing is not yet supported; ignored";
                    self.note(LogLevel::Warn, text);
                    continue;
                }
                signal if !signals::asks_to_stop(signal) => {
                    self.pass_on(signal);
                    continue;
                }
                _ => Told::Stop,
            };
            let stops = match told {
                Told::Reload => self.engine.supervisor().stop_on_hangup,
                Told::Stop | Told::Quit => true,
                Told::Reopen | Told::Fault => false,
            };
            if let Some(name) = stops.then(|| self.program_of(arrived)).flatten() {
                let who = self.sender(arrived);
                let text = format!(
                    "{who}, a process of {name}: ignored; \
                     programs stop the site by: supervisor shutdown"
                );
                self.note(LogLevel::Warn, text);
                continue;
            }
            let who = self.sender(arrived);
            self.note(LogLevel::Info, who);
            #[cfg(debug_assertions)]
            if told == Told::Reopen {
                self.panic_if_asked();
            }
            self.feed(Event::Told(told));
        }
        if deaths {
            self.reap_some();
        }
    }

    /// Who sent a signal, with the name if it still lives: `SIGTERM from sh (pid 12, uid 0)`.
    fn sender(&self, arrived: Arrived) -> String {
        let name = Pid::new(arrived.pid).filter(|_| self.trees.is_usable()).and_then(tree::name_of);
        arrived.in_words(name.as_deref())
    }

    /// A signal that means nothing to us is the command's, if there is one that runs.
    fn pass_on(&mut self, signal: Signal) {
        let Some(signal) = self.nursery.entry.as_ref().and_then(|entry| entry.forwarded(signal))
        else {
            return;
        };
        let id = self.engine.names().iter().find(|(name, _)| command::is_it(name));
        let slot = id.and_then(|(_, id)| self.engine.slot(*id));
        if let Some(run) = slot.and_then(crate::engine::Slot::present_run) {
            self.children.signal_main(children::key(run), signal).ok();
        }
    }

    /// The program that a signal comes from, when it is one of ours: by the session, as a sender
    /// may be gone by now, else by its forebears.
    fn program_of(&mut self, arrived: Arrived) -> Option<Name> {
        let session = Pid::new(arrived.session).and_then(|leader| self.children.run_of(leader));
        let run = session
            .or_else(|| self.trees.run_of_process(&self.children, Pid::new(arrived.pid)?))?;
        let program = self.runs.get(&RunId(run))?;
        Some(self.engine.program(*program)?.name.clone())
    }

    /// Gives an event to the engine, carries out its actions, and then what they came to.
    fn feed(&mut self, event: Event) {
        self.results.push_back(event);
        self.drain_results();
    }

    fn drain_results(&mut self) {
        while let Some(event) = self.results.pop_front() {
            let reload = matches!(event, Event::Loaded { dry_run: false, .. });
            let reload = reload || matches!(event, Event::NotLoaded { .. });
            let mut actions = std::mem::take(&mut self.actions);
            if self.engine.lacks_zone(clock::wall()) {
                let zone = Event::Zone(std::sync::Arc::new(local_time::zone(clock::wall())));
                self.engine.handle(zone, clock::monotonic(), clock::wall(), &mut actions);
            }
            self.engine.handle(event, clock::monotonic(), clock::wall(), &mut actions);
            for action in actions.drain() {
                self.execute(action);
            }
            self.actions = actions;
            if reload {
                self.manager.reloaded(clock::monotonic());
            }
        }
        self.abort_unwanted();
    }
}

/// Starts a thread that we cannot be without: its end, also by a panic, is told to the loop.
fn essential(
    name: &'static str,
    queue: &Sender<Input>,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let queue = queue.clone();
    std::thread::Builder::new().name(name.into()).spawn(move || {
        drop(catch_unwind(AssertUnwindSafe(work)));
        input::send(&queue, Input::ThreadLost(name));
    })?;
    Ok(())
}
