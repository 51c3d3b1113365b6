//! Action → system calls → events: the one place where the engine and `sys` meet.

use std::{sync::Arc, time::Duration};

use super::{Shell, children, input::Input, journal};
use crate::{
    control::{LogLine, Reply, RequestId},
    engine::{Action, ChildEvent, Event, Record, Role, RunId, Scope, Slot, Spawn, What},
    model::{LogLevel, Signal},
    plan::ProgramId,
    sys::{
        child::Peeked,
        spawn::{self, Prepared, Report, Stage},
        tree::{self, Look},
    },
};

/// So many deaths are looked at before anything else that has arrived.
const AT_ONCE: usize = 64;

/// A child made by fork(2) whose exec is not yet reported.
pub(super) struct Unreported {
    pub(super) program: ProgramId,
    pub(super) pid: u32,
    pub(super) pipe: Arc<std::os::fd::OwnedFd>,
    pub(super) prepared: Prepared,
    /// What may take long and is not over.
    pub(super) stage: Stage,
    /// It was killed, for it is no longer wanted.
    pub(super) aborted: bool,
}

impl Shell {
    /// Carries out one action; what came of it is put into the queue of results.
    pub(super) fn execute(&mut self, action: Action) {
        match action {
            Action::Spawn(order) => self.spawn(&order),
            Action::Signal { run, signal, scope, and_continue, .. } => {
                self.signal(run, signal, scope);
                if and_continue {
                    self.signal(run, Signal::CONT, scope);
                }
            }
            Action::Await { program, attempt, index } => {
                self.await_condition(program, attempt, index);
            }
            Action::FindMain { program, run } => self.find_main(program, run),
            Action::Probe { program, run, of } => self.probe(program, run, of),
            // Whoever looks cannot be called back; the answer comes too late.
            Action::ProbeNoMore(_) => {}
            Action::AwaitNothing(program) => {
                if let Some(conditions) = &self.conditions {
                    conditions.forget(program);
                }
            }
            Action::RemoveRuntime(program) => self.remove_runtime(program),
            Action::Tidy { program, run, moment } => self.tidy(program, run, moment),
            Action::TidyNoMore(run) => self.tidy_no_more(run),
            Action::Claim { program, run } => self.claim(program, run),
            Action::EndCopies { program, run, signal } => self.end_copies(program, run, signal),
            Action::Adopt { program, run } => self.adopt(program, run),
            Action::Sign { program, pid } => self.sign(program, pid),
            Action::Unclaim(program) => self.unclaim(program),
            Action::Record(record) => {
                let reloaded = matches!(record.what, What::Reloaded { .. });
                self.record(record);
                if reloaded {
                    self.reconfigure();
                }
            }
            Action::Reply(id, reply) => self.reply(id, *reply),
            Action::Progress(id, programs) => self.progress(id, &programs),
            Action::Load { request, dry_run, allow_removal } => {
                self.load(request, dry_run, allow_removal);
            }
            Action::Reconfigure(program) => {
                if let Some(program) = self.engine.program(program) {
                    self.logs.reconfigure(program.name.clone(), Arc::clone(&program.logging));
                }
            }
            Action::Forget(name) => {
                self.cgroups.forget(&name);
                self.logs.retire(name);
            }
            Action::Watch(name, watched) => self.watch_semaphore(name, &watched),
            Action::Unwatch(name) => self.unwatch_semaphore(name),
            Action::Acknowledge { watched, file, info } => {
                self.acknowledge(&watched, (file, info));
            }
            Action::KillAllBegins(id) => self.kill_all_begins(id),
            Action::EndTheRest(id) => self.end_the_rest(id),
            Action::Remember { semaphore, at, keep } => self.remember(&semaphore, at, keep),
            Action::EndHost { run, method, end } => self.end_host(run, method, &end),
            Action::EndHostNoMore(run) => self.leave_host(run),
            Action::ReopenLogs => self.logs.reopen(),
            Action::Exit(code) => self.exit = Some(code),
        }
    }

    /// Writes down what happened, and shows it to whoever follows the events.
    pub(super) fn record(&mut self, record: Record) {
        let at = crate::sys::clock::wall();
        if let (Some(control), false) = (&self.control, self.followers.is_empty()) {
            let line: LogLine = journal::event_line(at, &record);
            for (id, subject) in &self.followers {
                if subject.as_ref().is_none_or(|subject| *subject == line.name) {
                    control.lines(*id, vec![line.clone()]);
                }
            }
        }
        self.journal.write(at, record);
    }

    /// After a reload: what of the supervisor's own settings counts at once.
    fn reconfigure(&mut self) {
        let supervisor = Arc::clone(self.engine.supervisor());
        if let Some(control) = &self.control {
            control.set_access(super::start::access(&supervisor));
        }
        self.logs.own_log(supervisor.log.clone());
        self.journal.set(self.log_level.unwrap_or(supervisor.log.level), &supervisor.log);
    }

    /// Something of the shell's own for the log.
    pub(super) fn note(&mut self, level: LogLevel, text: impl Into<Arc<str>>) {
        self.record(Record::site(What::Note { level, text: text.into() }));
    }

    pub(super) fn reply(&mut self, id: RequestId, reply: Reply) {
        if let Some(control) = &self.control {
            control.reply(id, reply);
        }
    }

    fn progress(&mut self, id: RequestId, programs: &[ProgramId]) {
        let Some(control) = &self.control else { return };
        let (now, wall) = (crate::sys::clock::monotonic(), crate::sys::clock::wall());
        let slots = programs.iter().filter_map(|one| self.engine.slot(*one));
        control.progress(id, slots.map(|slot| self.engine.status_of(slot, now, wall)).collect());
    }

    fn child_event(&mut self, program: ProgramId, run: RunId, what: ChildEvent) {
        self.results.push_back(Event::Child { program, run, what });
    }

    fn spawn(&mut self, order: &Spawn) {
        let Some(program) = self.engine.program(order.program) else { return };
        let (id, run) = (order.program, order.run);
        let mut ready = match self.nursery.prepare(&program, order) {
            Ok(ready) => ready,
            Err(failure) => return self.child_event(id, run, ChildEvent::SpawnFailed(failure)),
        };
        if order.role == Role::Main {
            // Should we be killed, it goes on, and nobody else may start it.
            match self.claims.inherited(id) {
                Ok(lock) => ready.spec.extra.extend(lock),
                Err(why) => {
                    let failure = children::no_room(why);
                    return self.child_event(id, run, ChildEvent::SpawnFailed(failure));
                }
            }
            if let Err(failure) = self.give_voice(order, &program, &mut ready.spec) {
                self.notes.forget(run);
                return self.child_event(id, run, ChildEvent::SpawnFailed(failure));
            }
        }
        ready.spec.cgroup = self.cgroup_for(id, &program.name);
        let prepared = match Prepared::new(ready.spec) {
            Ok(prepared) => prepared,
            Err(error) => return self.not_spawned(id, run, &error),
        };
        // A vfork child that touches a dead mount, or is stopped by the user that it becomes, would
        // take the loop with it; and it could not be made in a cgroup.
        let alone =
            prepared.becomes_another_user() || prepared.has_a_cgroup() || prepared.has_a_sandbox();
        let child = if alone || self.mounts.any_can_hang() {
            spawn::fork(&prepared).map(|(child, pipe)| (child, Some(pipe)))
        } else {
            spawn::vfork(&prepared).map(|child| (child, None))
        };
        let (child, pipe) = match child {
            Ok(made) => made,
            Err(error) => return self.not_spawned(id, run, &error),
        };
        let pid = child.pid().number();
        self.children.insert(children::key(run), child);
        self.runs.insert(run, id);
        self.names_of_runs.insert(run, program.name.clone());
        if order.role == Role::Main {
            self.listen(id, run);
        }
        self.capture(&program, order, ready.pipes);
        if let Some(words) = ready.words {
            self.keep_words(run, words);
        }
        match pipe {
            None => self.child_event(id, run, ChildEvent::Spawned { pid }),
            Some(pipe) => {
                let pipe = Arc::new(pipe);
                self.watcher.report(run, &pipe);
                let (stage, aborted) = (Stage::WorkingDirectory, false);
                let unreported = Unreported { program: id, pid, pipe, prepared, stage, aborted };
                self.unreported.insert(run, unreported);
            }
        }
    }

    /// There is no child.
    fn not_spawned(&mut self, id: ProgramId, run: RunId, error: &spawn::SpawnError) {
        self.notes.forget(run);
        self.child_event(id, run, ChildEvent::SpawnFailed(children::classify(error)));
    }

    fn capture(
        &self,
        program: &crate::model::Program,
        order: &Spawn,
        pipes: Vec<(super::logs::Which, std::os::fd::OwnedFd)>,
    ) {
        for (which, fd) in pipes {
            self.logs.attach(super::logs::Stream {
                program: program.name.clone(),
                which,
                run: order.run.0,
                fd,
                logging: Arc::clone(&program.logging),
                colour: children::colour(&program.name),
            });
        }
    }

    /// What the report pipe of a forked child says by now.
    pub(super) fn read_report(&mut self, run: RunId) {
        let Some(mut waiting) = self.unreported.remove(&run) else { return };
        let pid = self.children.pid_of(children::key(run));
        let what = loop {
            match spawn::read_report(&waiting.pipe, &waiting.prepared) {
                Report::Reached(stage) => waiting.stage = stage,
                Report::Without(why) => self.without_cgroup(waiting.program, &why),
                Report::Pending => {
                    self.watcher.report(run, &waiting.pipe);
                    self.unreported.insert(run, waiting);
                    return;
                }
                Report::NotExecuted(error) => {
                    break ChildEvent::SpawnFailed(children::classify(&error));
                }
                Report::Executed if pid.is_some_and(|pid| !tree::has_executed(pid)) => {
                    let at = waiting.prepared.killed_at(waiting.stage);
                    break ChildEvent::SpawnFailed(children::killed(&at));
                }
                Report::Executed => break ChildEvent::Spawned { pid: waiting.pid },
            }
        };
        if matches!(what, ChildEvent::SpawnFailed(_)) {
            // Its zombie is reaped as nobody's: the engine never knew it as alive.
            self.stillborn.insert(run);
        }
        self.child_event(waiting.program, run, what);
        self.drain_results();
    }

    fn signal(&mut self, run: RunId, signal: Signal, scope: Scope) {
        if self.signal_adopted(run, signal, scope) {
            return;
        }
        let key = children::key(run);
        if signal == Signal::KILL && self.runs.contains_key(&run) {
            self.cgroups.killed.insert(run);
        }
        let sent = match scope {
            Scope::Main => self.children.signal_main(key, signal),
            Scope::Tree => {
                if signal == Signal::KILL && self.runs.contains_key(&run) {
                    self.doomed.insert(run);
                    self.kill_cgroup(run);
                }
                let group = self.children.signal_group(key, signal);
                // Those that left the group. In the middle of a reap they are told after it: one
                // look at who is left serves all that died.
                match self.after_reap.get_mut(&run) {
                    Some(signals) => signals.push(signal),
                    None => drop(self.trees.signal_tree(&self.children, key, signal)),
                }
                group
            }
        };
        // Gone already is what a signal wanted; anything else a human should know.
        if let Err(errno) = sent
            && errno != nix::errno::Errno::ESRCH
        {
            let text = format!("cannot send {signal} to a process of run {}: {errno}", run.0);
            self.note(LogLevel::Warn, text);
        }
    }

    /// Kills children that have not executed yet and are to be stopped already. Nothing of theirs
    /// could act on SIGTERM; and what holds them up (a file system, their user) might do so for
    /// ever.
    pub(super) fn abort_unwanted(&mut self) {
        let unwanted = |waiting: &Unreported| {
            let slot = self.engine.slot(waiting.program);
            !waiting.aborted && slot.is_some_and(Slot::is_stopped_while_spawning)
        };
        let unwanted = self.unreported.iter().filter(|(_, waiting)| unwanted(waiting));
        for run in unwanted.map(|(run, _)| *run).collect::<Vec<_>>() {
            // One that has just executed is asked as any program is.
            self.read_report(run);
            if let Some(waiting) = self.unreported.get_mut(&run) {
                waiting.aborted = true;
                self.children.signal_main(children::key(run), Signal::KILL).ok();
            }
        }
    }

    /// Reaps everything that has ended, then looks which trees are empty.
    pub(super) fn reap(&mut self) {
        while self.reap_up_to(usize::MAX) {}
    }

    /// The same for some of them. The others wait until what has arrived meanwhile was looked at:
    /// where programs end as soon as they are started, there are always others.
    pub(super) fn reap_some(&mut self) {
        if self.reap_up_to(AT_ONCE) {
            super::input::send(&self.queue, Input::Deaths);
        }
    }

    /// Whether there may be more.
    fn reap_up_to(&mut self, most: usize) -> bool {
        let mut reaped = 0;
        while reaped < most {
            let Some(mut peeked) = self.children.peek_exited() else { break };
            reaped += 1;
            if self.notes.are_awaited() {
                // While whoever has died is still known.
                self.read_notes();
            }
            if peeked.run.is_some_and(|run| self.has_heir(RunId(run))) {
                peeked.run = None; // from now on like any other of its tree
            }
            if let Some(run) = peeked.run.map(RunId) {
                self.ended(run, peeked);
            }
            self.children.reap(peeked);
            let run = peeked.run.map(RunId);
            if let Some((run, program)) = run.and_then(|run| Some((run, *self.runs.get(&run)?))) {
                self.feed(Event::Child { program, run, what: ChildEvent::Reaped });
            }
        }
        self.look_at_trees();
        reaped == most
    }

    /// A child of ours has ended and is not reaped yet: its group can still be signalled.
    fn ended(&mut self, run: RunId, peeked: Peeked) {
        if self.host_command_ended(run, peeked) {
            return;
        }
        if self.unreported.contains_key(&run) {
            // It has said why it could not be executed, or was killed before.
            self.read_report(run);
        }
        if self.stillborn.remove(&run) {
            self.notes.forget(run);
            self.runs.remove(&run);
            self.names_of_runs.remove(&run);
            self.doomed.remove(&run);
            self.probes.forget(run);
            self.cgroups.killed.remove(&run);
        } else if let Some(program) = self.runs.get(&run).copied() {
            self.dying.insert(run);
            self.after_reap.insert(run, Vec::new());
            self.trees.watch(children::key(run), peeked.pid);
            let exit = self.exit_of(run, program, peeked.exit);
            self.last_words_of(run);
            self.feed(Event::Child { program, run, what: ChildEvent::Exited(exit) });
        }
        self.logs.ended(run.0);
    }

    /// Tells the engine which trees are empty, and signals what is left of the others.
    pub(super) fn look_at_trees(&mut self) {
        self.look_for_mains();
        let orders = std::mem::take(&mut self.after_reap);
        if self.dying.is_empty() {
            self.unclear = None;
            return;
        }
        let Look { alive: survivors, unclear } = self.trees.survivors(&self.children);
        for (run, signals) in &orders {
            for signal in signals.iter().filter(|_| survivors.contains_key(&run.0)) {
                self.trees.signal_tree(&self.children, run.0, *signal);
            }
        }
        // Whoever was forked while its tree was being killed.
        let doomed = self.doomed.iter().filter(|run| !orders.contains_key(run)).copied();
        for run in doomed.collect::<Vec<_>>() {
            if survivors.contains_key(&run.0) {
                self.kill_cgroup(run);
                self.trees.signal_tree(&self.children, run.0, Signal::KILL);
            }
        }
        if self.must_look_again(unclear) {
            return;
        }
        let empty = |run: &RunId| !survivors.contains_key(&run.0);
        for run in self.dying.iter().copied().filter(empty).collect::<Vec<_>>() {
            self.dying.remove(&run);
            self.doomed.remove(&run);
            self.cgroups.killed.remove(&run);
            self.trees.forget(run.0);
            self.forget_main(run);
            self.probes.forget(run);
            self.notes.forget(run);
            self.names_of_runs.remove(&run);
            if let Some(program) = self.runs.remove(&run) {
                self.feed(Event::Child { program, run, what: ChildEvent::TreeEmpty });
            }
        }
    }

    /// Whether nothing can be said yet, as somebody is in the middle of an exec. Nothing will tell
    /// of its end: it is looked for soon, and not for ever.
    fn must_look_again(&mut self, unclear: bool) -> bool {
        const SOON: Duration = Duration::from_millis(5);
        const PATIENCE: Duration = Duration::from_secs(5);
        let now = crate::sys::clock::monotonic();
        let since = self.unclear.map_or(now, |(since, _)| since);
        let again = unclear && now.since(since) < PATIENCE;
        self.unclear = again.then(|| (since, now + SOON));
        again
    }

    fn remove_runtime(&mut self, id: ProgramId) {
        let Some(program) = self.engine.program(id) else { return };
        let directory = program.runtime_directory.as_ref();
        let runtime = directory.map(|directory| children::remove_runtime(&directory.path));
        let tmp = self.nursery.tmp.remove(&program.name);
        for why in runtime.into_iter().chain([tmp]).filter_map(Result::err) {
            self.note(LogLevel::Warn, format!("{}: {why}", program.name));
        }
    }

    fn await_condition(&mut self, program: ProgramId, attempt: u64, index: usize) {
        let Some(what) = self
            .engine
            .slot(program)
            .and_then(|slot| slot.edges.waits.get(index))
            .map(|wait| wait.what.clone())
        else {
            return;
        };
        if self.conditions.is_none() {
            let queue = self.queue.clone();
            let started = super::conditions::start(move |met| {
                super::input::send(&queue, Input::Condition(met));
            });
            match started {
                Ok(handle) => self.conditions = Some(handle),
                Err(why) => {
                    self.note(LogLevel::Error, format!("cannot wait for conditions: {why}"));
                }
            }
        }
        if let Some(conditions) = &self.conditions {
            conditions.await_condition(program, attempt, index, what);
        }
    }

    fn load(&mut self, request: Option<RequestId>, dry_run: bool, allow_removal: bool) {
        if !dry_run {
            self.manager.reloading(crate::sys::clock::monotonic());
        }
        let (queue, loader) = (self.queue.clone(), self.loader.clone());
        let thread = std::thread::Builder::new().name("loader".into()).spawn(move || {
            let event = match loader.reload() {
                Ok((site, warnings)) => {
                    let site = Arc::new(site);
                    Event::Loaded { request, site, dry_run, allow_removal, warnings }
                }
                Err(why) => Event::NotLoaded { request, why },
            };
            super::input::send(&queue, Input::Event(Box::new(event)));
        });
        if let Err(why) = thread {
            let why = format!("cannot start a thread to read the site file: {why}");
            self.results.push_back(Event::NotLoaded { request, why });
        }
    }

    /// How long the log thread gets to write what is left.
    pub(super) const LOG_DRAIN: Duration = Duration::from_millis(500);
}
