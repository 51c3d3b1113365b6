//! Faults that a test can switch on, to see that the simulator finds them.

use serde::{Deserialize, Serialize};

/// Faults that a test can switch on, to see that the simulator finds them. All off in production.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a mutant of its own")]
pub struct Bugs {
    /// A stop between spawn and its answer is lost.
    pub forget_stop_while_spawning: bool,
    /// Restarts what is to be down.
    pub restart_although_down: bool,
    /// Says stopped while the tree lives.
    pub leave_the_tree: bool,
    /// Starts without asking the gate.
    pub skip_the_gate: bool,
    /// Stops in any order.
    pub skip_the_drain: bool,
    /// Counts failures of the system as the program's.
    pub count_fork_failures: bool,
    /// Takes events of an earlier run for the present one.
    pub ignore_generation: bool,
    /// Starts programs during a shutdown.
    pub start_in_shutdown: bool,
    /// Sends SIGKILL before its time.
    pub kill_at_once: bool,
    /// Does not start again what backs off.
    pub lose_restarts: bool,
    /// Never forgets a failure.
    pub keep_failures: bool,
    /// Does not know a start limit.
    pub ignore_the_limit: bool,
    /// Restarts at a reload what has not changed.
    pub restart_unchanged: bool,
}
