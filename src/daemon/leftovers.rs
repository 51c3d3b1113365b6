//! Before anything is started: what a supervisor of this site that was killed has left running is
//! ended. No program ever runs twice.

use std::{thread, time::Duration};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::{
    Shell,
    input::{self, Input},
};
use crate::{
    model::{Human, Instant, Limit, LogLevel, Orphans, Signal},
    sys::{
        clock,
        tree::{self, Leftover},
    },
};

/// How long they may take to clean up at the most, whatever the programs are allowed: they are not
/// known by name, and until they are gone nothing runs.
const MOST: Duration = Duration::from_secs(30);
/// How long SIGKILL may take.
const LAST_WAIT: Duration = Duration::from_millis(500);
/// So many are named in one line.
const NAMED: usize = 8;

impl Shell {
    /// Ends what is left of those before us, and gives what arrived meanwhile and can wait.
    ///
    /// When it cannot be ended nothing is started: the exit code is set.
    pub(super) fn end_leftovers(&mut self, inputs: &Receiver<Input>) -> Vec<Input> {
        let mut waiting = Vec::new();
        let marks = self.lock.as_ref().map(|lock| lock.before().to_vec()).unwrap_or_default();
        if marks.is_empty() {
            return waiting;
        }
        let Some(mut left) = tree::leftovers(&marks) else {
            let text = "the supervisor before this one was killed, and without a usable /proc \
                        nobody knows what it has left running";
            self.note(LogLevel::Warn, text);
            return waiting;
        };
        if let Some(forebear) = left.iter().find(|one| one.is_our_forebear()) {
            let text = format!(
                "cannot supervise: the supervisor before this one was killed, and {}, which it has \
                 left, has started this one: it would run twice; start the supervisor from \
                 elsewhere",
                forebear.in_words()
            );
            self.refuse_to_start(text);
            return waiting;
        }
        if !left.is_empty() {
            let adopts = self.engine.supervisor().orphans == Orphans::Adopt;
            let text = format!(
                "the supervisor before this one was killed and has left {}: ending them before \
                 anything is started{}",
                in_words(&left),
                if adopts { " (supervisor.orphans: this version cannot adopt them)" } else { "" }
            );
            self.note(LogLevel::Warn, text);
        }
        let began = clock::monotonic();
        let mut signal = Signal::TERM;
        // More than once: whoever is forked meanwhile must not get away.
        for _ in 0..10 {
            if left.is_empty() {
                break;
            }
            for one in &left {
                one.signal(signal);
                one.signal(Signal::CONT);
            }
            let patience = if signal == Signal::TERM { self.longest_patience() } else { LAST_WAIT };
            let end = clock::monotonic() + patience;
            self.wait_for_leftovers(left, inputs, end, &mut waiting);
            signal = Signal::KILL;
            left = tree::leftovers(&marks).unwrap_or_default();
        }
        self.settle_leftovers(&left, began);
        waiting
    }

    fn settle_leftovers(&mut self, left: &[Leftover], began: Instant) {
        if left.is_empty() {
            if let Some(lock) = &mut self.lock {
                lock.settle();
            }
            let took = clock::monotonic().since(began);
            if took > LAST_WAIT {
                let text = format!("what was left is gone, after {}", Human(took));
                self.note(LogLevel::Info, text);
            }
            return;
        }
        let text = format!(
            "cannot supervise: of the supervisor before this one, which was killed, {} still run, \
             and SIGKILL does not end them: a second copy beside them is not started; ps -o \
             pid,stat,wchan shows what they wait for",
            in_words(left)
        );
        self.refuse_to_start(text);
    }

    fn refuse_to_start(&mut self, text: String) {
        self.note(LogLevel::Error, text);
        self.exit = Some(super::start::EX_CANNOT);
    }

    /// As long as the most patient of our programs may take.
    fn longest_patience(&self) -> Duration {
        let of = |slot: &crate::engine::Slot| match slot.program.stop.patience() {
            Limit::After(time) => time,
            Limit::Never => MOST,
        };
        self.engine.programs().map(of).max().unwrap_or(MOST).min(MOST)
    }

    /// Until all have ended, or it is `end`, or we are told to stop.
    fn wait_for_leftovers(
        &mut self,
        left: Vec<Leftover>,
        inputs: &Receiver<Input>,
        end: Instant,
        waiting: &mut Vec<Input>,
    ) {
        let queue = self.queue.clone();
        let wait = thread::Builder::new().name("leftovers".into()).spawn(move || {
            tree::all_end(&left, end);
            input::send(&queue, Input::LeftoversEnded);
        });
        if let Err(why) = wait {
            // They have been told, and are looked at again.
            self.note(LogLevel::Warn, format!("cannot start a thread to wait: {why}"));
            thread::park_timeout(Duration::from_millis(100));
            return;
        }
        loop {
            // Whoever watches us is told that we are not stuck.
            self.manager.look(&self.engine, clock::monotonic(), clock::wall);
            let look = self.manager.deadline().map(|at| at.since(clock::monotonic()));
            match inputs.recv_timeout(look.unwrap_or(MOST)) {
                Ok(Input::LeftoversEnded) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Input::Signals) => {
                    self.signals();
                    // Stop means them, too: no more patience.
                    if self.exit.is_some() {
                        return;
                    }
                }
                Ok(other) => waiting.push(other),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// `3 processes: web (pid 12), sh (pid 13), …`.
fn in_words(left: &[Leftover]) -> String {
    let names: Vec<String> = left.iter().take(NAMED).map(Leftover::in_words).collect();
    let (count, more) = (left.len(), if left.len() > NAMED { ", …" } else { "" });
    let noun = if count == 1 { "process" } else { "processes" };
    format!("{count} {noun}: {}{more}", names.join(", "))
}
