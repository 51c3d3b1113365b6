//! What it costs while nothing happens.

use std::{fs, time::Duration};

use super::{
    differences::differs,
    inits::{ALL, Init, Names, Place, possible},
    signals::LISTEN,
};

fn switches(pid: i32) -> u64 {
    let count = |line: &str| line.rsplit('\t').next().unwrap().parse::<u64>().unwrap();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        status.lines().filter(|line| line.contains("ctxt_switches")).map(count).sum::<u64>()
    };
    tasks.map(|task| of(task.unwrap())).sum()
}

fn rollup(pid: i32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// C11: tini wakes up every second.
#[test]
fn it_sleeps_until_something_happens_and_is_small() {
    if !possible() {
        return;
    }
    let names = Names::new();
    let running = ALL.map(|init| names.start(init, Place::Pid1, &[], &LISTEN));
    // What the start needs has come to rest when the command has had a signal.
    for one in &running {
        one.signal(64);
        one.lines.wait_for("a signal", |line| line == "got 64");
    }
    std::thread::sleep(Duration::from_secs(2));
    let before = running.each_ref().map(|one| switches(one.init));
    std::thread::sleep(Duration::from_secs(6));
    let after = running.each_ref().map(|one| switches(one.init));
    for (n, init) in ALL.iter().enumerate() {
        let woken = after[n] - before[n];
        let pid = running[n].init;
        let pss = rollup(pid, "Pss");
        eprintln!("{init:?}: {woken} switches in 6 s, PSS {pss} KiB");
        if differs("Idle", *init) {
            assert_eq!(woken, 0, "{init:?}");
            // The one with all its debug information, too.
            assert!(pss <= 2048, "{init:?}: {pss} KiB");
        } else if *init == Init::Tini {
            assert!(woken >= 3, "tini polls");
        }
    }
}
