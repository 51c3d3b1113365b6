//! Signals to ourselves, whatever threads there are and whatever they block.

use std::sync::{
    atomic::{AtomicBool, AtomicU32, Ordering},
    mpsc,
};

use mini_supervisor::{
    model::{Exit, Signal},
    sys::{
        Pid,
        child::Children,
        signals,
        spawn::{Prepared, SpawnSpec, vfork},
    },
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SigSet, kill},
    unistd::{getpid, gettid},
};

use crate::sys_world::{NAMESPACE, is_inside, is_skipped_without_root, next_exit};

/// All that we listen to but deaths: by number, for SIGRTMIN+3 has no name in nix.
const HEARD: [i32; 8] = [1, 2, 3, 10, 12, 15, 30, 37];

#[test]
fn as_pid_1_every_signal_is_heard_whatever_threads_there_were_before_us() {
    let this = "sys_signals::as_pid_1_every_signal_is_heard_whatever_threads_there_were_before_us";
    if is_skipped_without_root() || !is_inside(NAMESPACE, this) {
        return;
    }
    assert_eq!(std::process::id(), 1);
    std::thread::scope(|scope| {
        // Some block everything, and the others nothing.
        let mut ends = Vec::new();
        for number in 0..7 {
            let (end, ended) = mpsc::channel::<()>();
            ends.push(end);
            scope.spawn(move || {
                if number % 2 == 0 {
                    SigSet::all().thread_block().unwrap();
                }
                ended.recv().unwrap_err();
            });
        }
        signals::reset_inherited();
        let pipe = signals::install().unwrap();
        SigSet::all().thread_block().unwrap();
        for round in 0..200 {
            let number = HEARD[round % HEARD.len()];
            let mut children = Children::new();
            let words = ["/bin/kill", &format!("-{number}"), "1"].map(std::ffi::OsString::from);
            let prepared = Prepared::new(SpawnSpec::new(words.to_vec())).unwrap();
            let child = vfork(&prepared).unwrap();
            let pid = child.pid().raw();
            children.insert(1, child);
            let mut heard = Vec::new();
            while heard.iter().all(|one: &signals::Arrived| one.signal == Signal::CHLD) {
                let mut fds = [PollFd::new(pipe, PollFlags::POLLIN)];
                assert_eq!(
                    poll(&mut fds, PollTimeout::from(20_000_u16)),
                    Ok(1),
                    "{number} is lost"
                );
                heard.extend(signals::drain());
            }
            heard.retain(|one| one.signal != Signal::CHLD);
            let signal = Signal::from_number(i64::from(number)).unwrap();
            let told: Vec<_> = heard.iter().map(|one| (one.signal, one.pid, one.uid)).collect();
            assert_eq!(told, [(signal, pid, 0)]);
            assert_eq!(next_exit(&mut children).exit, Exit::Code(0));
        }
        drop(ends);
    });
}

#[test]
fn a_child_that_shares_our_memory_runs_no_handler_of_ours() {
    let this = "sys_signals::a_child_that_shares_our_memory_runs_no_handler_of_ours";
    // A namespace, so that a pid that is signalled too late is nobody else's.
    if is_skipped_without_root() || !is_inside(NAMESPACE, this) {
        return;
    }
    let _pipe = signals::install().unwrap();
    let (done, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    let list = format!("/proc/self/task/{}/children", gettid());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let pids = std::fs::read_to_string(&list).unwrap_or_default();
                for pid in pids.split_whitespace().filter_map(Pid::parse) {
                    let pid = nix::unistd::Pid::from_raw(pid.raw());
                    if kill(pid, nix::sys::signal::SIGUSR1).is_ok() {
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        let prepared = Prepared::new(SpawnSpec::new(vec!["/bin/true".into()])).unwrap();
        let mut children = Children::new();
        let mut met = 0;
        for run in 0..3000 {
            children.insert(run, vfork(&prepared).unwrap());
            let exit = next_exit(&mut children).exit;
            let killed = Exit::Signal { signal: Signal::USR1, core: false };
            assert!(exit == Exit::Code(0) || exit == killed, "{exit}");
            met += u32::from(exit == killed);
        }
        done.store(true, Ordering::Relaxed);
        println!("{met} of 3000 were met, by {} signals", sent.load(Ordering::Relaxed));
        assert!(met > 0, "nobody was met");
    });
    // A handler in a child would have counted in our memory.
    let heard = signals::drain();
    assert!(heard.iter().all(|one| one.signal == Signal::CHLD), "{heard:?}");
    assert_eq!(getpid().as_raw(), 1);
}
