//! Starting and stopping in order, and coming back.

use mini_supervisor::control::StateWord;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::harness::{Plan, program};

const SLEEP: &str = "[sleep, '1000']";

#[test]
fn a_site_starts_in_order_and_stops_in_reverse_and_leaves_nothing() {
    let mut site = Plan::new(&format!(
        "  web: {{command: {SLEEP}, requires: [app]}}
  app: {{command: {SLEEP}, requires: [migrate, db]}}
  migrate: {{command: [touch, DIR/migrated], type: oneshot, requires: [db]}}
  db: {{command: {SLEEP}}}
  extra: {{command: {SLEEP}, wants: [db]}}"
    ))
    .start();
    let status = site.wait_for("everything up", |s| s.programs.iter().all(|one| one.ready));
    assert!(site.path("migrated").exists());
    assert_eq!(program(&status, "migrate").state, StateWord::Exited);
    let started = site.happened(&["program.started"]);
    let at = |name: &str| started.iter().position(|line| line.starts_with(name)).unwrap();
    assert!(at("db") < at("migrate") && at("migrate") < at("app") && at("app") < at("web"));
    assert!(at("db") < at("extra"));
    let stderr = site.stderr.clone();
    assert_eq!(site.end(), 0);
    let log = stderr.text();
    let at = |name: &str| log.find(&format!("{name}: stopped")).unwrap_or_else(|| panic!("{log}"));
    assert!(at("web") < at("app") && at("app") < at("db") && at("extra") < at("db"), "{log}");
    assert!(log.trim_end().ends_with("stopped, exit 0"), "{log}");
}

#[test]
fn a_killed_program_is_started_again_and_the_others_are_not_touched() {
    let names = ["one", "two", "three"];
    let programs: String = names
        .iter()
        .map(|name| format!("  {name}: {{command: {SLEEP}, restart: {{delay: 10ms}}}}\n"))
        .collect();
    let mut site = Plan::new(&programs).start();
    let mut before = site.all_running();
    for name in names {
        let old = program(&before, name).pid.unwrap();
        kill(Pid::from_raw(old.cast_signed()), Signal::SIGKILL).unwrap();
        let after = site.wait_for("the new one", |s| {
            let one = program(s, name);
            one.state == StateWord::Running && one.pid != Some(old)
        });
        assert_eq!(program(&after, name).restarts, 1);
        let exit = program(&after, name).exit.unwrap();
        assert_eq!(exit.signal.map(mini_supervisor::model::Signal::name), Some("KILL".to_owned()));
        for other in names.iter().filter(|other| **other != name) {
            assert_eq!(program(&after, other).pid, program(&before, other).pid);
        }
        before = after;
    }
    assert_eq!(site.end(), 0);
}

#[test]
fn what_requires_a_failed_program_stops_and_comes_back_with_it() {
    let mut site = Plan::new(&format!(
        "  db: {{command: [DIR/db], restart: {{delay: 10ms, start_limit: {{burst: 2, interval: 1m, action: give-up}}}}}}
  web: {{command: {SLEEP}, requires: [db]}}"
    ))
    .script("db", "test -e DIR/broken && exit 1; exec sleep 1000")
    .start();
    site.all_running();
    std::fs::write(site.path("broken"), "").unwrap();
    let pid = site.main_pid("db");
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    site.wait_state("db", StateWord::Fatal);
    site.wait_state("web", StateWord::Waiting);
    std::fs::remove_file(site.path("broken")).unwrap();
    site.bring_up(&["db"]);
    site.all_running();
    assert_eq!(site.end(), 0);
}

#[test]
fn a_wanted_program_that_fails_does_not_hold_back_who_wants_it() {
    let mut site = Plan::new(&format!(
        "  cache: {{command: ['false'], restart: {{policy: never}}}}
  web: {{command: {SLEEP}, wants: [cache]}}"
    ))
    .start();
    site.wait_state("web", StateWord::Running);
    site.wait_state("cache", StateWord::Exited);
    assert_eq!(site.end(), 0);
}
