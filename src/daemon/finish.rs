//! The end: what is left of any tree, the last lines of output, files, the exit code.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::{Shell, input::Input};
use crate::{
    model::{Instant, LogLevel, Signal},
    sys::{child, clock, stdio},
};

/// How long orphans may take to clean up after SIGTERM, within the budget of the whole stop.
const GRACE: Duration = Duration::from_secs(2);
/// How long at the least, even when the budget is spent.
const LEAST: Duration = Duration::from_millis(200);

impl Shell {
    /// After every program is down: asks whatever still hangs below us to end, waits, kills, reaps.
    ///
    /// As PID 1 of a namespace that is every process in it; else every descendant (we are their
    /// subreaper). No other init waits for them; a background process with something to clean up
    /// gets its time.
    pub(super) fn end_orphans(&mut self, inputs: &Receiver<Input>) {
        self.reap();
        let left = self.orphans();
        if left == 0 {
            return;
        }
        self.note(LogLevel::Info, format!("ending {left} processes that programs left behind"));
        self.signal_orphans(Signal::TERM);
        self.signal_orphans(Signal::CONT);
        let now = clock::monotonic();
        let budget_end = self.engine.ends_by().unwrap_or(now + GRACE);
        let grace = self.nursery.entry.as_ref().map_or(GRACE, |entry| entry.options.grace);
        let end = (now + grace).min(budget_end.max(now + LEAST));
        self.wait_for_orphans(inputs, end);
        // More than once: whoever is forked meanwhile must not get away.
        for _ in 0..10 {
            if self.orphans() == 0 {
                return;
            }
            self.signal_orphans(Signal::KILL);
            self.wait_for_orphans(inputs, clock::monotonic() + Duration::from_millis(100));
        }
    }

    /// With a command on the command line its exit is ours, also when we were asked to stop.
    pub(super) fn code_of_the_command(&self, code: u8) -> u8 {
        let Some(entry) = &self.nursery.entry else { return code };
        let mut programs = self.engine.programs();
        let slot = programs.find(|slot| super::command::is_it(&slot.program.name));
        let exit = slot.and_then(|slot| slot.history.exit).filter(|_| code == 0);
        entry.options.mapped(exit.map_or(code, |(exit, _)| exit.shell_code()))
    }

    fn wait_for_orphans(&mut self, inputs: &Receiver<Input>, end: Instant) {
        while child::has_children() {
            let left = end.since(clock::monotonic());
            if left.is_zero() {
                return;
            }
            // Whoever watches us is told that we are not stuck.
            self.manager.look(&self.engine, clock::monotonic(), clock::wall);
            let look = self.manager.deadline().map(|at| at.since(clock::monotonic()));
            match inputs.recv_timeout(look.map_or(left, |look| look.min(left))) {
                // A second TERM: no more patience.
                Ok(Input::Signals) => {
                    let again = self.watcher.arrived().iter().any(|one| one.signal != Signal::CHLD);
                    let impatient = again && !self.engine.is_echo(clock::monotonic());
                    self.reap();
                    if impatient {
                        return;
                    }
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// How many processes hang below us that we did not make.
    pub(super) fn orphans(&mut self) -> usize {
        if !self.trees.is_usable() {
            return usize::from(child::has_children());
        }
        self.trees.all_strangers(&self.children).len()
    }

    fn signal_orphans(&mut self, signal: Signal) {
        if crate::sys::subreaper::is_init() {
            child::signal_everybody(signal);
        } else {
            self.trees.signal_all_strangers(&self.children, signal);
        }
    }

    /// Lets the log thread write what is left, then the control thread send it.
    pub(super) fn close(&mut self) {
        if !self.logs.shutdown(Self::LOG_DRAIN).complete {
            stdio::say("supervisor: the last lines of output could not all be written\n");
        }
        if let Some(control) = self.control.take() {
            control.stop();
        }
    }

    /// After a panic of the loop: nothing of ours may outlive us unseen. The engine is not asked:
    /// it may be what panicked, and it would start again what ends.
    pub(super) fn emergency(&mut self, inputs: &Receiver<Input>) {
        self.signal_all(Signal::TERM);
        self.signal_all(Signal::CONT);
        self.reap_until(inputs, clock::monotonic() + Duration::from_secs(5));
        // More than once: whoever is forked meanwhile must not get away.
        for _ in 0..10 {
            self.signal_all(Signal::KILL);
            self.reap_until(inputs, clock::monotonic() + Duration::from_millis(100));
        }
    }

    fn signal_all(&mut self, signal: Signal) {
        for run in self.runs.keys() {
            self.children.signal_group(run.0, signal).ok();
            self.trees.signal_tree(&self.children, run.0, signal);
        }
        self.signal_orphans(signal);
    }

    /// Reaps whatever ends, until nobody is left or it is `end`.
    fn reap_until(&mut self, inputs: &Receiver<Input>, end: Instant) {
        loop {
            while let Some(peeked) = self.children.peek_exited() {
                self.children.reap(peeked);
            }
            let left = end.since(clock::monotonic());
            if left.is_zero() || !child::has_children() {
                return;
            }
            // Whatever it is: it has woken us, as a death would.
            if inputs.recv_timeout(left).is_ok() {
                drop(self.watcher.arrived());
            }
        }
    }
}
