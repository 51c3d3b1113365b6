//! Faults seeded into the engine, each found by the invariant that it breaks.
//!
//! None for I-24 (the engine has no source of chance that a fault could add), I-27 (a cycle never
//! reaches the engine: see `cycles`) and I-56 (what is written follows from the types).

use mini_supervisor::engine::Bugs;

use super::{Run, jumps_change_nothing, run};

/// A fault of the engine: its name, how it is switched on, and the invariants one of which has to
/// find it.
type Mutant = (&'static str, fn(&mut Bugs), &'static [usize]);

const MUTANTS: [Mutant; 77] = [
    ("forget_stop_while_spawning", |b| b.forget_stop_while_spawning = true, &[6, 36, 38]),
    ("restart_although_down", |b| b.restart_although_down = true, &[6]),
    ("leave_the_tree", |b| b.leave_the_tree = true, &[2]),
    ("skip_the_gate", |b| b.skip_the_gate = true, &[22]),
    ("skip_the_drain", |b| b.skip_the_drain = true, &[23]),
    ("count_fork_failures", |b| b.count_fork_failures = true, &[33]),
    ("ignore_generation", |b| b.ignore_generation = true, &[10]),
    ("start_in_shutdown", |b| b.start_in_shutdown = true, &[38]),
    ("kill_at_once", |b| b.kill_at_once = true, &[37]),
    ("lose_restarts", |b| b.lose_restarts = true, &[45]),
    ("keep_failures", |b| b.keep_failures = true, &[30]),
    ("ignore_the_limit", |b| b.ignore_the_limit = true, &[31]),
    ("restart_unchanged", |b| b.restart_unchanged = true, &[14]),
    ("spawn_twice", |b| b.spawn_twice = true, &[1]),
    ("count_what_is_unknown", |b| b.count_what_is_unknown = true, &[3]),
    ("signal_the_gone", |b| b.signal_the_gone = true, &[4]),
    ("signal_as_the_first", |b| b.signal_as_the_first = true, &[5]),
    ("stop_keeps_the_goal", |b| b.stop_keeps_the_goal = true, &[6]),
    ("start_the_disabled", |b| b.start_the_disabled = true, &[7]),
    ("ready_too_early", |b| b.ready_too_early = true, &[8]),
    ("started_is_ready", |b| b.started_is_ready = true, &[8]),
    ("wait_for_ever", |b| b.wait_for_ever = true, &[36]),
    ("no_watchdog", |b| b.no_watchdog = true, &[36]),
    ("deaf", |b| b.deaf = true, &[37]),
    ("restart_what_rests", |b| b.restart_what_rests = true, &[9]),
    ("believe_late_spawns", |b| b.believe_late_spawns = true, &[10]),
    ("lose_the_side", |b| b.lose_the_side = true, &[11]),
    ("apply_what_is_refused", |b| b.apply_what_is_refused = true, &[12]),
    ("reconfigure_unchanged", |b| b.reconfigure_unchanged = true, &[13]),
    ("restart_live_changes", |b| b.restart_live_changes = true, &[14]),
    ("keep_settings", |b| b.keep_settings = true, &[15]),
    ("keep_dependants", |b| b.keep_dependants = true, &[25]),
    ("short_delays", |b| b.short_delays = true, &[29]),
    ("retry_in_secret", |b| b.retry_in_secret = true, &[32]),
    ("slow_retries", |b| b.slow_retries = true, &[33]),
    ("delay_by_the_wall", |b| b.delay_by_the_wall = true, &[34]),
    ("half_the_delay", |b| b.half_the_delay = true, &[35]),
    ("slow_ladder", |b| b.slow_ladder = true, &[36]),
    ("second_stop_lengthens", |b| b.second_stop_lengthens = true, &[39]),
    ("forget_who_waits", |b| b.forget_who_waits = true, &[40, 44]),
    ("lose_the_answer", |b| b.lose_the_answer = true, &[41]),
    ("forget_the_unkillable", |b| b.forget_the_unkillable = true, &[42]),
    ("one_at_a_time", |b| b.one_at_a_time = true, &[43]),
    ("lose_the_wakeup", |b| b.lose_the_wakeup = true, &[44]),
    ("tell_everyone", |b| b.tell_everyone = true, &[46]),
    ("keep_starts", |b| b.keep_starts = true, &[47]),
    ("keep_operations", |b| b.keep_operations = true, &[48]),
    ("start_before_tidied", |b| b.start_before_tidied = true, &[19]),
    ("start_before_the_site_is_tidied", |b| b.start_before_the_site_is_tidied = true, &[19]),
    ("tidy_the_living", |b| b.tidy_the_living = true, &[19]),
    ("tidy_on", |b| b.tidy_on = true, &[19]),
    ("act_on_unknown", |b| b.act_on_unknown = true, &[16]),
    ("serve_again", |b| b.serve_again = true, &[16]),
    ("act_although_cleared", |b| b.act_although_cleared = true, &[16]),
    ("serve_what_is_old", |b| b.serve_what_is_old = true, &[16]),
    ("serve_strangers", |b| b.serve_strangers = true, &[16]),
    ("act_at_once", |b| b.act_at_once = true, &[16]),
    ("ignore_uptime", |b| b.ignore_uptime = true, &[16]),
    ("ignore_rate", |b| b.ignore_rate = true, &[16]),
    ("forget_the_cancel", |b| b.forget_the_cancel = true, &[16]),
    ("serve_what_trails", |b| b.serve_what_trails = true, &[16]),
    ("act_in_shutdown", |b| b.act_in_shutdown = true, &[16]),
    ("start_before_claimed", |b| b.start_before_claimed = true, &[1]),
    ("start_without_the_lock", |b| b.start_without_the_lock = true, &[1]),
    ("start_without_asking", |b| b.start_without_asking = true, &[1]),
    ("keep_the_lock", |b| b.keep_the_lock = true, &[1]),
    ("let_go_of_the_living", |b| b.let_go_of_the_living = true, &[1]),
    ("count_unknown_health", |b| b.count_unknown_health = true, &[62]),
    ("count_the_start_period", |b| b.count_the_start_period = true, &[62]),
    ("lose_patience", |b| b.lose_patience = true, &[62]),
    ("believe_old_probes", |b| b.believe_old_probes = true, &[44, 62]),
    ("believe_any_probe", |b| b.believe_any_probe = true, &[62]),
    ("start_beside_the_unhealthy", |b| b.start_beside_the_unhealthy = true, &[22]),
    ("start_beside_the_copy", |b| b.start_beside_the_copy = true, &[1]),
    ("adopt_unasked", |b| b.adopt_unasked = true, &[57]),
    ("forget_the_adopted", |b| b.forget_the_adopted = true, &[1, 2]),
    ("forget_the_exit", |b| b.forget_the_exit = true, &[51]),
];

#[test]
fn each_seeded_bug_is_found() {
    let mut missed = Vec::new();
    for (name, set, by) in MUTANTS {
        let mut bugs = Bugs::default();
        set(&mut bugs);
        let mut others = Vec::new();
        let found = (0..1000).find_map(|seed| {
            let wrong = if bugs.delay_by_the_wall {
                jumps_change_nothing(seed, bugs)
            } else {
                run(Run { bugs, ..Run::of(seed) }).wrong
            };
            let (number, wrong) = wrong?;
            if by.contains(&number) {
                return Some((seed, number, wrong));
            }
            others.push(number);
            None
        });
        match found {
            Some((seed, number, wrong)) => {
                println!("{name}: seed {seed}: I-{number}: {wrong:.70}; before it {others:?}");
            }
            None => missed.push(format!("{name}: {by:?}: found only by {others:?}")),
        }
    }
    assert!(missed.is_empty(), "not found by what it breaks:\n{}", missed.join("\n"));
}
