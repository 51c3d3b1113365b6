//! Nobody notices that he is watched, and nothing is done while nobody signals.

use std::{fs, path::Path, time::Duration};

use mini_supervisor::model::Name;

use super::{Bench, Signaller, watched};
use crate::sys_world::until;

/// Opens, waits a moment, locks and closes, as often as told; says how often the lock was not had.
const LOOP: &str = "
import os, fcntl, sys, time, random
failures = 0
for _ in range(int(sys.argv[1])):
    fd = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY, 0o644)
    until = time.perf_counter() + random.uniform(0, 0.0002)
    while time.perf_counter() < until:
        pass
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        failures += 1
    os.close(fd)
print('failures', failures, flush=True)
";

/// Locks so often while it is watched.
fn locks_are_had(attempts: u32) {
    let bench = Bench::new();
    bench.clear();
    #[expect(clippy::disallowed_methods, reason = "a test is outside of the product")]
    let mut command = std::process::Command::new("python3");
    let count = attempts.to_string();
    let ran = command.args(["-c", LOOP, &count]).arg(bench.path("lock")).output().unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    let readings = bench.told.try_iter().count();
    println!("{attempts} attempts: {}; {readings} readings", said.trim());
    assert_eq!(said, "failures 0\n");
    // It was watched all the while; of locks this short it sees some or none.
    let _signaller = Signaller::python(&bench.path("lock"));
    bench.raised();
}

#[test]
fn nobody_fails_to_lock_because_he_is_watched() {
    let full = std::env::var_os("TESTS_FULL").is_some_and(|value| value == "1");
    locks_are_had(if full { 20_000 } else { 2_000 });
}

#[test]
fn in_a_pid_namespace_nobody_fails_to_lock_because_he_is_watched() {
    let test = "semaphores::unnoticed::\
                in_a_pid_namespace_nobody_fails_to_lock_because_he_is_watched";
    if crate::e2e::harness::is_root()
        && crate::sys_world::is_inside(crate::sys_world::NAMESPACE, test)
    {
        locks_are_had(2_000);
    }
}

/// How often the thread of the semaphores went to sleep.
fn sleeps() -> u64 {
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &Path| fs::read_to_string(path.join("comm")).unwrap_or_default();
    let thread = threads.into_iter().find(|path| named(path) == "semaphores\n").unwrap();
    let status = fs::read_to_string(thread.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// Nothing has woken it for three seconds.
fn it_comes_to_rest() {
    let mut before = sleeps();
    until("it sleeps for three seconds", || {
        crossbeam_channel::never::<()>().recv_timeout(Duration::from_secs(3)).unwrap_err();
        let now = sleeps();
        std::mem::replace(&mut before, now) == now
    });
}

#[test]
fn while_nobody_has_a_lock_open_nothing_wakes_it() {
    let bench = Bench::idle();
    for number in 0..20 {
        let path = bench.path(&format!("lock-{number}"));
        fs::File::create(&path).unwrap();
        bench.handle.watch(Name::new(&format!("s{number}")).unwrap(), watched(&path));
    }
    for _ in 0..20 {
        bench.next();
    }
    it_comes_to_rest();
    drop(Signaller::python(&bench.path("lock-7")));
    it_comes_to_rest();
}
