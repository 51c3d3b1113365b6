//! The turns of the log thread: what is to be done is noted, done step by step, and after each step
//! the files that got output are written.

use std::sync::{Arc, atomic::Ordering};

use nix::sys::epoll::EpollEvent;

use super::{
    Command, clock,
    pump::{Pump, SINK, TURN, WAKE},
    relay::Relay,
    sink::Moment,
};

/// Something to do.
pub(super) enum Step {
    Obey(Command),
    /// Read this stream, so much at the most; at the end of all, until it is empty.
    Pull {
        slot: u32,
        left: usize,
        drain: bool,
    },
    Finish(u32),
    Flush(u32),
}

/// Works until [`Command::Shutdown`] is done, or until another thread has taken over because this
/// one did not come back from an errand.
pub(super) fn work(mut pump: Box<Pump>, relay: &Arc<Relay>) {
    let mut events = [EpollEvent::empty(); 64];
    loop {
        while pump.step() {
            let Some(back) = relay.errands(pump) else { return };
            pump = back;
        }
        pump.do_what_is_due();
        let Some(back) = relay.errands(pump) else { return };
        pump = back;
        pump.tell();
        if pump.close_if_done() {
            relay.end();
            return;
        }
        pump.wait(&mut events);
    }
}

impl Pump {
    /// Waits until there is something to do, and notes what.
    pub(super) fn wait(&mut self, events: &mut [EpollEvent]) {
        let timeout = self.timeout();
        let n = self.epoll.wait(events, timeout).unwrap_or(0);
        self.at = Moment { now: clock::now(), wall: clock::wall() };
        // Orders first: what is written after a reopening goes to what was opened.
        if events.iter().take(n).any(|e| e.data() == WAKE) {
            self.handle.wake.read().unwrap_or_default();
            // Before the orders are taken: who gives one from now on wakes us again.
            self.handle.awake.swap(false, Ordering::AcqRel);
            self.steps.extend(self.commands.try_iter().map(Step::Obey));
        }
        for event in events.iter().take(n).filter(|e| e.data() != WAKE) {
            let number = u32::try_from(event.data() & (SINK - 1)).unwrap_or(0);
            self.steps.push_back(if event.data() & SINK == 0 {
                Step::Pull { slot: number, left: TURN, drain: false }
            } else {
                Step::Flush(number)
            });
        }
    }

    /// Does the next of what was noted; false when there is nothing left.
    pub(super) fn step(&mut self) -> bool {
        let Some(step) = self.steps.pop_front() else { return false };
        match step {
            Step::Obey(command) => self.obey(command),
            Step::Pull { slot, left, drain } => {
                let left = self.pull(slot, left, drain);
                if left > 0 {
                    self.steps.push_front(Step::Pull { slot, left, drain });
                }
            }
            Step::Finish(slot) => self.finish_line(slot),
            Step::Flush(id) => self.flush(id),
        }
        true
    }

    /// Tells what a human should know.
    pub(super) fn tell(&mut self) {
        for report in self.reports.drain(..) {
            (self.report)(report);
        }
    }
}
