//! What is sent to the init, and what the command has of it.

use std::collections::BTreeMap;

use super::{
    differences::{self, Differences, differs},
    inits::{ALL, Init, Names, PLACES, Place, Running, possible},
};
use crate::sys_world::until;

/// Says which signals it was sent, in their order.
pub(super) const LISTENER: &str = "
import os, signal
meant = signal.valid_signals()
signal.pthread_sigmask(signal.SIG_BLOCK, meant)
os.write(1, b'ready\\n')
while True:
    os.write(1, b'got %d\\n' % signal.sigwait(meant))
";

pub(super) const LISTEN: [&str; 3] = ["python3", "-SEc", LISTENER];

/// What comes of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Forwarded,
    Lost,
    /// It ends the init.
    Deadly,
}

/// All that can be sent without stopping or killing whoever gets it; the last is sent after each.
fn sent() -> impl Iterator<Item = i32> {
    (1..=64).filter(|number| ![9, 19, 32, 33].contains(number))
}

fn fate(running: &mut Running, number: i32) -> Fate {
    const LAST: i32 = 64;
    let (got, last) = (format!("got {number}"), format!("got {LAST}"));
    let before = (running.count(&got), running.count(&last));
    running.signal(number);
    if number != LAST {
        running.signal(LAST);
    }
    // Both wait in the kernel, which gives the lower number first; so the last is the last.
    let mut dead = false;
    until("the last signal", || {
        dead = !running.lives();
        dead || running.count(&last) > before.1
    });
    match running.count(&got) > before.0 {
        true => Fate::Forwarded,
        false if dead => Fate::Deadly,
        false => Fate::Lost,
    }
}

fn fates(
    names: &Names,
    init: Init,
    place: Place,
    sent: impl IntoIterator<Item = i32>,
) -> BTreeMap<i32, Fate> {
    let mut running = names.start(init, place, &[], &LISTEN);
    let mut all = BTreeMap::new();
    for number in sent {
        let fate = fate(&mut running, number);
        all.insert(number, fate);
        if fate == Fate::Deadly {
            running = names.start(init, place, &[], &LISTEN);
        }
    }
    all
}

/// C3: as tini, but that nothing is lost that somebody has sent.
#[test]
fn every_signal_has_the_fate_that_it_has_below_tini() {
    if !possible() {
        return;
    }
    let names = Names::new();
    for place in PLACES {
        let tini = fates(&names, Init::Tini, place, sent());
        for init in [Init::AsTini, Init::Ours] {
            let ours = fates(&names, init, place, sent());
            let differ: Differences = tini
                .iter()
                .filter(|(number, fate)| ours[*number] != **fate)
                .map(|(number, fate)| (*number, *fate, ours[number]))
                .collect();
            assert_eq!(differ, differences::signals(init, place), "{init:?} {place:?}");
        }
        // What the other two do is not ours to judge; that the usual ones arrive is.
        for init in [Init::Dumb, Init::Catatonit] {
            let some = [1, 2, 3, 10, 12, 15, 28, 37, 64];
            let theirs = fates(&names, init, place, some);
            let forwarded = some.map(|number| (number, Fate::Forwarded));
            assert_eq!(theirs, BTreeMap::from(forwarded), "{init:?} {place:?}");
        }
    }
}

/// C4: the command starts with nothing blocked and nothing ignored that was not before.
#[test]
fn the_command_has_the_signals_that_the_init_was_given() {
    if !possible() {
        return;
    }
    let names = Names::new();
    // The C library keeps 32 and 33 for itself, and a Rust program cannot know what SIGPIPE was.
    let not_compared = !(1_u64 << 12 | 1 << 31 | 1 << 32);
    let masks = |status: &str| -> [u64; 2] {
        ["SigBlk:", "SigIgn:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap() & not_compared
        })
    };
    for place in PLACES {
        for init in [Init::Tini, Init::Ours, Init::AsTini] {
            let ran = names.run(init, place, &[], &["cat", "/proc/self/status"]);
            assert_eq!(masks(&ran.out), [0, 0], "{init:?} {place:?}");
            // As nohup(1) leaves it.
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).args(names.words(init, &[]));
            let output = shell.args(["cat", "/proc/self/status"]).output().unwrap();
            assert_eq!(masks(&String::from_utf8_lossy(&output.stdout)), [0, 1], "{init:?}");
        }
    }
}

/// C10: tini knows no second request; below ours it ends whoever ignores the first.
#[test]
fn a_second_sigterm_ends_what_ignores_the_first() {
    if !possible() {
        return;
    }
    let names = Names::new();
    for init in ALL {
        let mut running = names.start(init, Place::Pid1, &[], &LISTEN);
        running.signal(15);
        running.lines.wait_for("the first", |line| line == "got 15");
        if differs("A second SIGTERM", init) {
            // Not at once: that would be the first one, said twice.
            assert_eq!(running.insist(), 137);
        } else {
            running.signal(15);
            until("the second", || running.count("got 15") == 2);
            assert!(running.lives(), "{init:?} {}", running.name());
        }
    }
}

/// C10: of itself as process 1, where a container engine kills after ten seconds.
#[test]
fn what_ignores_sigterm_is_killed_when_its_time_is_over() {
    if !possible() {
        return;
    }
    let names = Names::new();
    for (init, options) in
        [(Init::Ours, &["--stop-timeout", "300ms"][..]), (Init::Tini, &[]), (Init::AsTini, &[])]
    {
        let mut running = names.start(init, Place::Pid1, options, &LISTEN);
        running.signal(15);
        running.lines.wait_for("the signal", |line| line == "got 15");
        if differs("A command that ignores SIGTERM", init) {
            assert_eq!(running.code(), 137);
        } else {
            std::thread::sleep(std::time::Duration::from_millis(600));
            assert!(running.lives(), "{init:?}");
        }
    }
    let began = std::time::Instant::now();
    let mut running = names.start(Init::Ours, Place::Pid1, &[], &LISTEN);
    running.signal(15);
    assert_eq!(running.code(), 137);
    let took = began.elapsed().as_millis();
    assert!((7_500..9_900).contains(&took), "{took} ms");
}
