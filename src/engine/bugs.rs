//! Faults that a test can switch on, to see that the simulator finds them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::WallTime;

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
    /// Restarts at a reload what can be changed while it runs.
    pub restart_live_changes: bool,
    /// Says that a program changed which did not.
    pub reconfigure_unchanged: bool,
    /// Goes on with old settings after a reload.
    pub keep_settings: bool,
    /// Takes a new site although it says that it does not.
    pub apply_what_is_refused: bool,
    /// Starts each program twice.
    pub spawn_twice: bool,
    /// Lets an unknown run count.
    pub count_what_is_unknown: bool,
    /// Signals what was reaped.
    pub signal_the_gone: bool,
    /// Sends a signal for several programs in the name of the first.
    pub signal_as_the_first: bool,
    /// Wants up what was stopped.
    pub stop_keeps_the_goal: bool,
    /// Starts what is disabled.
    pub start_the_disabled: bool,
    /// Does not wait for `start_post`.
    pub ready_too_early: bool,
    /// Takes started for ready.
    pub started_is_ready: bool,
    /// Waits for ever for what does not become ready.
    pub wait_for_ever: bool,
    /// Does not mind whether a program says that it is alive.
    pub no_watchdog: bool,
    /// Hears no program say that it is alive.
    pub deaf: bool,
    /// Starts again what rests by its policy, without a word.
    pub restart_what_rests: bool,
    /// Takes an earlier child's start for the present one's.
    pub believe_late_spawns: bool,
    /// Forgets a command beside the program.
    pub lose_the_side: bool,
    /// Lets programs run whose requirement was given up.
    pub keep_dependants: bool,
    /// Takes more time for a stop than it has.
    pub slow_ladder: bool,
    /// Gives itself more time at a second wish for the end.
    pub second_stop_lengthens: bool,
    /// Answers no restart.
    pub lose_the_answer: bool,
    /// Does not see the late death of what was unkillable.
    pub forget_the_unkillable: bool,
    /// Starts a program only when no other is being started.
    pub one_at_a_time: bool,
    /// Does not go on with a stop when what it waited for is down.
    pub lose_the_wakeup: bool,
    /// Does not look at who waits for a program.
    pub forget_who_waits: bool,
    /// Says more the more programs there are.
    pub tell_everyone: bool,
    /// Remembers each start.
    pub keep_starts: bool,
    /// Remembers requests of clients that went away.
    pub keep_operations: bool,
    /// Reads the wall clock for a delay.
    pub delay_by_the_wall: bool,
    /// Starts again before the time that it said.
    pub half_the_delay: bool,
    /// Says too short a delay.
    pub short_delays: bool,
    /// Is slow to try again when there was no room.
    pub slow_retries: bool,
    /// Starts again what it gave up for good.
    pub retry_in_secret: bool,
    /// Does not show how a program that it stopped ended.
    pub forget_the_exit: bool,
    /// Starts a program while its stale files are being removed.
    pub start_before_tidied: bool,
    /// The same with those of the site.
    pub start_before_the_site_is_tidied: bool,
    /// Removes stale files while processes live that may use them.
    pub tidy_the_living: bool,
    /// Lets files be removed after it has gone on.
    pub tidy_on: bool,
    /// Goes on with a request while it cannot be told whether it stands.
    pub act_on_unknown: bool,
    /// Does not note what it has served.
    pub serve_again: bool,
    /// Goes on with a request that is no longer made.
    pub act_although_cleared: bool,
    /// Does what was asked for before it looked.
    pub serve_what_is_old: bool,
    /// Asks nobody who he is.
    pub serve_strangers: bool,
    /// Does not know a `debounce`.
    pub act_at_once: bool,
    /// Does not know a `min_uptime`.
    pub ignore_uptime: bool,
    /// Does not know a `rate_limit`.
    pub ignore_rate: bool,
    /// Cancels only for the moment.
    pub forget_the_cancel: bool,
    /// Takes what trails behind a served raise for another.
    pub serve_what_trails: bool,
    /// Serves semaphores while the site stops.
    pub act_in_shutdown: bool,
    /// Starts a program before it is known to be the only one.
    pub start_before_claimed: bool,
    /// Does not take the lock of a program.
    pub start_without_the_lock: bool,
    /// Starts a program whose lock somebody else has.
    pub start_without_asking: bool,
    /// Keeps the lock of a program that is down.
    pub keep_the_lock: bool,
    /// Gives a lock back while processes of its program live.
    pub let_go_of_the_living: bool,
    /// Takes a health check that could not be made for a failed one.
    pub count_unknown_health: bool,
    /// Counts what fails before the start period is over.
    pub count_the_start_period: bool,
    /// Takes half of the failures for too many.
    pub lose_patience: bool,
    /// Hears what an earlier run was found to be.
    pub believe_old_probes: bool,
    /// Takes any answer for that of the check under way.
    pub believe_any_probe: bool,
    /// Lets programs start that wait for the health of another.
    pub start_beside_the_unhealthy: bool,
    /// Starts a program beside the copy that it is to adopt.
    pub start_beside_the_copy: bool,
    /// Adopts a copy that it is to refuse or to replace.
    pub adopt_unasked: bool,
    /// Says that what it adopted is down as soon as it is to stop.
    pub forget_the_adopted: bool,
}

impl Bugs {
    /// The delay that is kept, when another was said.
    pub(super) fn other_delay(self, delay: Duration, wall: WallTime) -> Duration {
        if self.delay_by_the_wall {
            return delay + Duration::from_millis(wall.0.unsigned_abs() % 100);
        }
        if self.half_the_delay { delay / 2 } else { delay }
    }
}
