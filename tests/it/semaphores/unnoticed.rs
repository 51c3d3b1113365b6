//! Nobody notices that he is watched, and nothing is done while nobody signals.

use std::{fs, path::Path, time::Duration};

use mini_supervisor::model::{Exit, Name};

use super::{Bench, Signaller, watched};
use crate::{
    outside::possible,
    sys_world::{NAMESPACE, again_below, until},
};

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
    if crate::e2e::harness::is_root() && crate::sys_world::is_inside(NAMESPACE, test) {
        locks_are_had(2_000);
    }
}

/// What /proc has of the thread of the semaphores under this name.
fn of_the_thread(what: &str) -> String {
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &Path| fs::read_to_string(path.join("comm")).unwrap_or_default();
    let thread = threads.into_iter().find(|path| named(path) == "semaphores\n").unwrap();
    fs::read_to_string(thread.join(what)).unwrap()
}

/// The number behind this word.
fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap().trim().parse().unwrap()
}

/// How often the thread of the semaphores went to sleep.
fn sleeps() -> u64 {
    number(&of_the_thread("status"), "voluntary_ctxt_switches:")
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

/// For the test this is time that passes, not something that is waited for.
fn seconds_pass(seconds: u64) {
    crossbeam_channel::never::<()>().recv_timeout(Duration::from_secs(seconds)).unwrap_err();
}

#[test]
fn while_a_lock_is_held_it_is_looked_at_once_a_second() {
    let bench = Bench::new();
    let _signaller = Signaller::python(&bench.path("lock"));
    bench.raised();
    seconds_pass(3);
    let before = sleeps();
    seconds_pass(4);
    let times = sleeps() - before;
    assert!((2..=8).contains(&times), "{times}");
}

#[test]
fn its_descriptors_of_a_lock_are_for_reading_and_not_inherited_and_have_no_lock() {
    let bench = Bench::new();
    let path = bench.path("lock");
    for _ in 0..20 {
        drop(Signaller::python(&path));
    }
    bench.raised();
    bench.clear();
    let mut seen = 0;
    for entry in fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap()) {
        if fs::read_link(entry.path()).is_ok_and(|target| target == path) {
            let info = Path::new("/proc/self/fdinfo").join(entry.file_name());
            let info = fs::read_to_string(info).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
            assert_eq!(flags & libc::O_ACCMODE, libc::O_RDONLY, "{info}");
            assert_ne!(flags & libc::O_CLOEXEC, 0, "{info}");
            assert!(!info.contains("lock:"), "{info}");
            seen += 1;
        }
    }
    assert_eq!(seen, 1);
}

#[test]
fn it_reads_and_writes_no_disk() {
    let bench = Bench::new();
    bench.clear();
    for _ in 0..20 {
        let signaller = Signaller::python(&bench.path("lock"));
        bench.raised();
        drop(signaller);
        bench.clear();
    }
    let io = of_the_thread("io");
    assert_eq!((number(&io, "read_bytes:"), number(&io, "write_bytes:")), (0, 0), "{io}");
}

/// Runs the test below strace(1); inside `None`, outside the calls of the thread, a line each.
fn traced(wrapper: &str, test: &str) -> Option<Vec<String>> {
    if std::env::var_os("TRACED").is_none() && !possible(&["strace"]) {
        return Some(Vec::new());
    }
    // A file for each thread, so that no call is cut in two by those of another.
    let trace = tempfile::tempdir().unwrap();
    let calls = "trace=flock,openat,openat2,open,creat,unlink,unlinkat,prctl";
    let files = trace.path().join("trace");
    let strace = format!("env TRACED=1 strace -qq -ff -e {calls} -o {}", files.display());
    let exit = again_below(&format!("{strace} {wrapper}"), test)?;
    assert_eq!(exit, Exit::Code(0));
    let files = fs::read_dir(trace.path()).unwrap();
    let texts: Vec<_> = files.map(|f| fs::read_to_string(f.unwrap().path()).unwrap()).collect();
    let is_it = |text: &&String| text.contains("PR_SET_NAME, \"semaphores\"");
    let text = texts.iter().find(is_it).unwrap();
    let ours: Vec<_> = text.lines().map(str::to_owned).collect();
    assert!(ours.len() > 20, "{text}");
    Some(ours)
}

/// A lock is taken and let go while it is watched.
fn some_signals() {
    let bench = Bench::new();
    bench.clear();
    for _ in 0..3 {
        let signaller = Signaller::python(&bench.path("lock"));
        bench.raised();
        drop(signaller);
        bench.clear();
    }
}

#[test]
fn it_never_locks_where_proc_locks_shows_all_and_opens_nothing_but_what_it_looks_at() {
    let test = "semaphores::unnoticed::it_never_locks_where_proc_locks_shows_all_\
                and_opens_nothing_but_what_it_looks_at";
    let Some(calls) = traced("", test) else { return some_signals() };
    for call in calls {
        assert!(!call.contains("flock(") && !call.contains("unlink"), "{call}");
        let opens = call.contains("open(") || call.contains("openat");
        let its = ["\"/proc/", "\"/proc\"", "\"/dev/shm", "\"lock\""];
        assert!(!opens || its.iter().any(|word| call.contains(word)), "{call}");
    }
}

#[test]
fn in_a_pid_namespace_it_lets_go_of_the_lock_at_once() {
    let test = "semaphores::unnoticed::in_a_pid_namespace_it_lets_go_of_the_lock_at_once";
    let Some(calls) = traced(NAMESPACE, test) else { return some_signals() };
    let mut calls = calls.iter();
    let mut tries = 0;
    while let Some(call) = calls.find(|call| call.contains("flock(")) {
        assert!(call.contains("LOCK_SH|LOCK_NB"), "{call}");
        if call.ends_with("= 0") {
            let next = calls.next().unwrap();
            assert!(next.contains("LOCK_UN"), "{next}");
            tries += 1;
        }
    }
    assert!(tries > 0 || !crate::e2e::harness::full());
}
