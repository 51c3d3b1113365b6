//! Trees of processes: whoever left them is found, and nobody else is signalled.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{ffi::OsString, fs, time::Duration};

use mini_supervisor::{
    model::{Exit, Signal},
    sys::{
        child::{Children, has_children},
        spawn::SpawnSpec,
        subreaper::become_subreaper,
        tree::Trees,
    },
};

use crate::sys_world::{is_skipped_without_root, lives, next_exit, reap_all, shell, start, until};

/// 400 processes that ignore what can be ignored: ¼ plain, ¼ setsid, ¼ setpgid, ¼ double-forked.
const FOREST: &str = r#"
    use POSIX; $SIG{TERM} = $SIG{HUP} = "IGNORE";
    for $i (0 .. 399) {
        next if fork;
        if ($i % 4 == 1) { POSIX::setsid() }
        if ($i % 4 == 2) { setpgrp(0, 0) }
        if ($i % 4 == 3) { exit if fork; POSIX::setsid() }
        open F, ">>", $ARGV[0]; syswrite F, "$$\n"; close F;
        sleep 1000 while 1;
    }
    sleep 1000 while 1;
"#;

fn forest(children: &mut Children) -> (tempfile::TempDir, Vec<String>) {
    become_subreaper().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("pids");
    let mut argv: Vec<OsString> = ["/usr/bin/perl", "-e", FOREST].map(OsString::from).to_vec();
    argv.push(list.clone().into());
    let mut spec = SpawnSpec::new(argv);
    spec.env = vec![("SUPERVISOR_RUN".into(), "test:1".into())];
    start(children, 1, spec);
    let count = || fs::read_to_string(&list).unwrap_or_default().lines().count();
    until("all 400 are there", || count() == 400);
    let pids = fs::read_to_string(&list).unwrap().lines().map(str::to_owned).collect();
    (dir, pids)
}

#[test]
fn a_tree_of_400_that_scatter_is_killed_with_its_main_process() {
    let mut children = Children::new();
    let mut trees = Trees::new("test");
    let (_dir, pids) = forest(&mut children);
    // Those between a double-forked process and the main one may take a moment to end.
    until("all 401 are seen", || trees.processes_of(&children, 1).len() == 401);
    children.signal_group(1, Signal::KILL).unwrap();
    trees.signal_tree(&children, 1, Signal::KILL);
    until("all are gone", || {
        reap_all(&mut children);
        !has_children()
    });
    assert!(children.is_empty() && pids.iter().all(|pid| !lives(pid)));
}

#[test]
fn a_tree_of_400_whose_main_process_was_killed_from_outside_is_found_and_killed() {
    let mut children = Children::new();
    let mut trees = Trees::new("test");
    let (_dir, pids) = forest(&mut children);
    let main = children.pid_of(1).unwrap();
    children.signal_main(1, Signal::KILL).unwrap();
    until("the main process is dead", || {
        reap_all(&mut children);
        children.is_empty()
    });
    trees.watch(1, main);
    until("all 400 are seen", || trees.survivors(&children)[&1].len() == 400);
    assert_eq!(trees.signal_tree(&children, 1, Signal::KILL), 400);
    until("all are gone", || {
        reap_all(&mut children);
        !has_children()
    });
    assert!(trees.survivors(&children).is_empty() && pids.iter().all(|pid| !lives(pid)));
}

#[test]
fn five_hundred_orphans_that_die_at_once_are_all_reaped_and_counted() {
    become_subreaper().unwrap();
    let mut children = Children::new();
    let trees = Trees::new("test");
    let script = "i=0; while [ $i -lt 500 ]; do sleep 1000 & i=$((i+1)); done";
    start(&mut children, 1, shell(script));
    assert_eq!(next_exit(&mut children).exit, Exit::Code(0));
    until("all 500 are ours", || trees.all_strangers(&children).len() == 500);
    trees.signal_all_strangers(&children, Signal::KILL);
    until("all are gone", || {
        reap_all(&mut children);
        !has_children()
    });
    assert_eq!(children.strangers_reaped(), 500);
}

#[test]
fn two_thousand_programs_that_end_at_once_lose_no_exit_among_orphans() {
    become_subreaper().unwrap();
    let mut children = Children::new();
    for run in 0..2000_u64 {
        // Every tenth leaves an orphan behind that ends by itself.
        let script = if run % 10 == 0 { "/bin/true & exit 7" } else { "exit 7" };
        start(&mut children, run, shell(script));
        while !children.is_empty() {
            let peeked = next_exit(&mut children);
            if let Some(of) = peeked.run {
                assert_eq!((of, peeked.exit), (run, Exit::Code(7)));
            }
        }
    }
    until("the orphans are gone", || {
        reap_all(&mut children);
        !has_children()
    });
    assert_eq!(children.strangers_reaped(), 200);
}

#[test]
fn a_stopped_process_ends_by_term_and_cont() {
    let mut children = Children::new();
    start(&mut children, 1, shell("kill -STOP $$; sleep 1000"));
    let stat = format!("/proc/{}/stat", children.pid_of(1).unwrap());
    until("it is stopped", || fs::read_to_string(&stat).unwrap().contains(") T "));
    children.signal_group(1, Signal::TERM).unwrap();
    assert!(children.peek_exited().is_none());
    children.signal_group(1, Signal::CONT).unwrap();
    let exit = next_exit(&mut children).exit;
    assert_eq!(exit, Exit::Signal { signal: Signal::TERM, core: false });
    assert!(children.signal_main(1, Signal::KILL).is_err(), "it is reaped");
}

#[test]
fn a_core_dump_is_told_from_a_mere_signal() {
    use mini_supervisor::model::{Resource, RlimitValue};
    for (limit, core) in [(RlimitValue::Max(0), false), (RlimitValue::Max(1 << 24), true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut children = Children::new();
        let mut spec = shell("kill -ABRT $$");
        spec.rlimits = vec![(Resource::Core, limit)];
        spec.working_directory = dir.path().into();
        start(&mut children, 1, spec);
        let exit = next_exit(&mut children).exit;
        let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        if core && pattern.starts_with(['/', '|']) {
            println!("skipped: core files do not go to the working directory here");
            return;
        }
        assert_eq!(exit, Exit::Signal { signal: Signal::from_number(6).unwrap(), core });
    }
}

#[test]
fn a_child_outlives_the_thread_that_made_it() {
    let made = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut children = Children::new();
            start(&mut children, 1, shell("exec sleep 1000"));
            children.pid_of(1).unwrap().to_string()
        });
        thread.join().unwrap()
    });
    let (_never, timer) = std::sync::mpsc::channel::<()>();
    timer.recv_timeout(Duration::from_millis(500)).unwrap_err();
    assert!(lives(&made));
    Trees::new("test").signal_all_strangers(&Children::new(), Signal::KILL);
    let mut children = Children::new();
    let exit = next_exit(&mut children).exit;
    assert_eq!(exit, Exit::Signal { signal: Signal::KILL, core: false });
}

#[test]
fn a_pid_that_was_given_again_is_not_signalled() {
    const INSIDE: &str = "SUPERVISOR_TEST_INSIDE";
    if is_skipped_without_root() {
        return;
    }
    if !std::env::vars_os().any(|(name, _)| name == INSIDE) {
        // Once more, in a PID namespace whose next pid may be chosen.
        let this = std::env::current_exe().unwrap();
        let name = "sys_tree::a_pid_that_was_given_again_is_not_signalled";
        let script = format!("exec unshare -pf --mount-proc {} --exact {name}", this.display());
        let mut spec = shell(&script);
        spec.env = vec![(INSIDE.into(), "1".into()), ("PATH".into(), "/usr/bin:/bin".into())];
        let mut children = Children::new();
        start(&mut children, 1, spec);
        assert_eq!(next_exit(&mut children).exit, Exit::Code(0));
        return;
    }
    become_subreaper().unwrap();
    let mut children = Children::new();
    let mut trees = Trees::new("test");
    // Of run 1: a main process and one that left it, both seen and then dead.
    let mut spec = shell("sleep 1000 & exit 0");
    spec.env = vec![("SUPERVISOR_RUN".into(), "test:1".into()), ("PATH".into(), "/bin".into())];
    start(&mut children, 1, spec);
    let main = children.pid_of(1).unwrap();
    assert_eq!(next_exit(&mut children).run, Some(1));
    trees.watch(1, main);
    let left = trees.survivors(&children)[&1][0].pid;
    trees.signal_tree(&children, 1, Signal::KILL);
    let _child = next_exit(&mut children);
    for old in [left, main] {
        fs::write("/proc/sys/kernel/ns_last_pid", (old.raw() - 1).to_string()).unwrap();
        let run = u64::from(old.number()) + 100;
        start(&mut children, run, SpawnSpec::new(vec!["/bin/sleep".into(), "1000".into()]));
        assert_eq!(children.pid_of(run), Some(old), "the pid is given again");
        children.signal_main(1, Signal::KILL).unwrap_err();
        children.signal_group(1, Signal::KILL).unwrap_err();
        assert_eq!(trees.signal_tree(&children, 1, Signal::KILL), 0);
        assert!(trees.survivors(&children).is_empty());
        assert!(children.peek_exited().is_none() && lives(&old.to_string()));
    }
}
