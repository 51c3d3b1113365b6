//! Trees of processes: whoever left them is found, and nobody else is signalled.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, PipeReader, Read, Write},
};

use mini_supervisor::{
    model::{Exit, Signal},
    sys::{
        child::{Children, has_children},
        spawn::SpawnSpec,
        subreaper::become_subreaper,
        tree::{self, Leftover, Trees},
    },
};

use nix::sys::wait::{Id, WaitPidFlag, waitid};

use crate::sys_world::{
    Guard, NAMESPACE, is_inside, is_skipped_without_root, lives, next_exit, reap_everybody, shell,
    start, until,
};

/// 400 processes that ignore what can be ignored: ¼ plain, ¼ setsid, ¼ setpgid, ¼ double-forked.
/// Each says its pid; the last line says that whoever was only in between is gone. Nobody stays for
/// more than five minutes, whatever becomes of the test.
const FOREST: &str = r#"
    use POSIX; $SIG{TERM} = $SIG{HUP} = "IGNORE"; $| = 1;
    for $i (0 .. 399) {
        if ($pid = fork) { waitpid $pid, 0 if $i % 4 == 3; next }
        if ($i % 4 == 1) { POSIX::setsid() }
        if ($i % 4 == 2) { setpgrp(0, 0) }
        if ($i % 4 == 3) { POSIX::_exit(0) if fork; POSIX::setsid() }
        syswrite STDOUT, "$$\n";
        sleep 300; exit;
    }
    syswrite STDOUT, "all\n";
    sleep 300;
"#;

/// Its main process is run 1.
struct Forest {
    /// Everybody but the main process.
    pids: Vec<String>,
    /// Ends when the last of them is dead.
    output: BufReader<PipeReader>,
    _guard: Guard,
}

impl Forest {
    fn grow(children: &mut Children) -> Self {
        become_subreaper().unwrap();
        let guard = Guard;
        let (reader, writer) = std::io::pipe().unwrap();
        let argv: Vec<OsString> = ["/usr/bin/perl", "-e", FOREST].map(OsString::from).to_vec();
        let mut spec = SpawnSpec::new(argv);
        spec.env = vec![("SUPERVISOR_RUN".into(), "test:1".into())];
        spec.stdout = Some(writer.into());
        start(children, 1, spec);
        let mut output = BufReader::new(reader);
        let mut lines = Vec::new();
        while lines.len() < 401 {
            let mut line = String::new();
            assert!(output.read_line(&mut line).unwrap() > 0, "it ends after {}", lines.len());
            lines.push(line.trim_end().to_owned());
        }
        lines.retain(|line| line != "all");
        assert_eq!(lines.len(), 400);
        Self { pids: lines, output, _guard: guard }
    }

    fn is_dead(&mut self) {
        assert_eq!(self.output.read_to_string(&mut String::new()).unwrap(), 0);
        assert!(self.pids.iter().all(|pid| !lives(pid)));
    }
}

#[test]
fn a_tree_of_400_that_scatter_is_killed_with_its_main_process() {
    let mut children = Children::new();
    let mut trees = Trees::new("test");
    let mut forest = Forest::grow(&mut children);
    assert_eq!(trees.processes_of(&children, 1).len(), 401);
    children.signal_group(1, Signal::KILL).unwrap();
    trees.signal_tree(&children, 1, Signal::KILL);
    reap_everybody(&mut children);
    assert!(children.is_empty());
    forest.is_dead();
}

#[test]
fn a_tree_of_400_whose_main_process_was_killed_from_outside_is_found_and_killed() {
    let mut children = Children::new();
    let mut trees = Trees::new("test");
    let mut forest = Forest::grow(&mut children);
    let main = children.pid_of(1).unwrap();
    children.signal_main(1, Signal::KILL).unwrap();
    assert_eq!(next_exit(&mut children).run, Some(1));
    trees.watch(1, main);
    assert_eq!(trees.survivors(&children).alive[&1].len(), 400);
    assert_eq!(trees.signal_tree(&children, 1, Signal::KILL), 400);
    reap_everybody(&mut children);
    assert!(trees.survivors(&children).alive.is_empty());
    forest.is_dead();
}

#[test]
fn a_test_that_fails_leaves_nobody_of_its_tree_behind() {
    let mut children = Children::new();
    let forest = Forest::grow(&mut children);
    let pids = forest.pids.clone();
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _forest = forest;
        std::panic::resume_unwind(Box::new(()));
    }));
    assert!(failed.is_err() && !has_children() && pids.iter().all(|pid| !lives(pid)));
}

#[test]
fn five_hundred_orphans_that_die_at_once_are_all_reaped_and_counted() {
    become_subreaper().unwrap();
    let _guard = Guard;
    let mut children = Children::new();
    let trees = Trees::new("test");
    let script = "i=0; while [ $i -lt 500 ]; do sleep 1000 & i=$((i+1)); done";
    start(&mut children, 1, shell(script));
    assert_eq!(next_exit(&mut children).exit, Exit::Code(0));
    assert_eq!(trees.all_strangers(&children).len(), 500);
    trees.signal_all_strangers(&children, Signal::KILL);
    reap_everybody(&mut children);
    assert_eq!(children.strangers_reaped(), 500);
}

#[test]
fn two_thousand_programs_that_end_at_once_lose_no_exit_among_orphans() {
    become_subreaper().unwrap();
    let _guard = Guard;
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
    reap_everybody(&mut children);
    assert_eq!(children.strangers_reaped(), 200);
}

#[test]
fn a_stopped_process_ends_by_term_and_cont() {
    let mut children = Children::new();
    let _guard = Guard;
    start(&mut children, 1, shell("kill -STOP $$; sleep 1000"));
    waitid(Id::All, WaitPidFlag::WSTOPPED).unwrap();
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
    let _guard = Guard;
    let (input, mut to) = std::io::pipe().unwrap();
    let (from, output) = std::io::pipe().unwrap();
    let made = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut children = Children::new();
            let mut spec = shell("while read line; do echo $line; done");
            (spec.stdin, spec.stdout) = (Some(input.into()), Some(output.into()));
            start(&mut children, 1, spec);
            (children.pid_of(1).unwrap().to_string(), nix::unistd::gettid())
        });
        thread.join().unwrap()
    });
    // Then the signal that a parent's death sends (prctl(2)) would be sent, too.
    let thread = format!("/proc/self/task/{}", made.1);
    until("the thread is gone", || !fs::exists(&thread).unwrap());
    let mut from = BufReader::new(from);
    for round in 0..3 {
        writeln!(to, "{round}").unwrap();
        let mut line = String::new();
        assert!(from.read_line(&mut line).unwrap() > 0, "it was killed");
        assert_eq!(line, format!("{round}\n"));
    }
    assert!(lives(&made.0));
}

#[test]
fn a_pid_that_was_given_again_is_not_signalled() {
    let this = "sys_tree::a_pid_that_was_given_again_is_not_signalled";
    if is_skipped_without_root() || !is_inside(NAMESPACE, this) {
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
    let left = trees.survivors(&children).alive[&1][0].pid;
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
        assert!(trees.survivors(&children).alive.is_empty());
        assert!(children.peek_exited().is_none() && lives(&old.to_string()));
    }
}

#[test]
fn whoever_executes_all_the_time_is_never_lost_sight_of() {
    become_subreaper().unwrap();
    let _guard = Guard;
    let dir = tempfile::tempdir().unwrap();
    // Another program each time, in a session of its own: between two there is no environment.
    let again = dir.path().join("again");
    fs::write(&again, "#!/bin/sh\nexec \"$0\"\n").unwrap();
    fs::set_permissions(&again, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut children = Children::new();
    let mut spec = shell(&format!("setsid {} & exit 0", again.display()));
    let path = ("PATH".into(), "/usr/bin:/bin".into());
    spec.env = vec![("SUPERVISOR_RUN".into(), "test:1".into()), path];
    start(&mut children, 1, spec);
    let main = children.pid_of(1).unwrap();
    assert_eq!(next_exit(&mut children).run, Some(1));
    let mut alive = 0;
    for round in 0..3000 {
        // Each time as if for the first time: who is known needs no environment.
        let mut trees = Trees::new("test");
        trees.watch(1, main);
        let look = trees.survivors(&children);
        assert!(look.unclear || look.alive.contains_key(&1), "round {round}");
        alive += u32::from(look.alive.contains_key(&1));
    }
    assert!(alive > 0, "it was never seen");
    let mut trees = Trees::new("test");
    trees.watch(1, main);
    until("it is killed", || trees.signal_tree(&children, 1, Signal::KILL) > 0);
    let _child = next_exit(&mut children);
}

/// Leaves its session and ends its main thread; another one lives.
const HEADLESS: &str = "
import ctypes, os, platform, threading, time
os.setsid()
threading.Thread(target=lambda: (print('begun', flush=True), time.sleep(1000))).start()
ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[platform.machine()], 0)
";

#[test]
fn whose_main_thread_has_ended_is_known_by_what_his_other_threads_have() {
    become_subreaper().unwrap();
    let _guard = Guard;
    let mut children = Children::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut spec = shell("python3 -c \"$SCRIPT\" & exit 0");
    spec.stdout = Some(writer.into());
    spec.env = [("SUPERVISOR_RUN", "test:1"), ("PATH", "/usr/bin:/bin"), ("SCRIPT", HEADLESS)]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
    start(&mut children, 1, spec);
    let main = children.pid_of(1).unwrap();
    assert_eq!(next_exit(&mut children).run, Some(1));
    BufReader::new(reader).read_line(&mut String::new()).unwrap();
    let own = std::process::id();
    let pid = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    until("its main thread has ended", || fs::read_to_string(&stat).unwrap().contains(") Z "));
    let mut trees = Trees::new("test");
    trees.watch(1, main);
    let look = trees.survivors(&children);
    assert_eq!(look.alive.get(&1).map(Vec::len), Some(1), "{look:?}");
    until("it is killed", || trees.signal_tree(&children, 1, Signal::KILL) > 0);
    let _child = next_exit(&mut children);
}

/// The run of each process of ours that sleeps.
fn sleepers(trees: &mut Trees, children: &Children) -> Vec<Option<u64>> {
    let all = trees.everybody(children).into_iter();
    let sleeps = all.filter(|one| tree::name_of(one.process.pid).as_deref() == Some("sleep"));
    sleeps.map(|one| one.run).collect()
}

/// One of run 1 that keeps neither its session nor its environment; it sleeps when this is over.
fn forgetful(children: &mut Children) {
    let mut spec = shell("setsid env -i /bin/sleep 1000 & exit 0");
    spec.env = vec![("SUPERVISOR_RUN".into(), "test:1".into()), ("PATH".into(), "/bin".into())];
    start(children, 1, spec);
    let _child = next_exit(children);
    until("it has forgotten", || {
        let own = std::process::id();
        let below = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
        below.split_whitespace().any(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|l| l.starts_with("/bin/sl"))
        })
    });
}

#[test]
fn who_has_forgotten_all_is_ours_where_nobody_else_leaves_anybody_to_us() {
    become_subreaper().unwrap();
    let _guard = Guard;
    let mut children = Children::new();
    let mut trees = Trees::new("test");
    forgetful(&mut children);
    assert_eq!(sleepers(&mut trees, &children), [None]);
    // Here there was somebody before: it may be one of those that he has left.
    let mut trees = Trees::new("test");
    assert_eq!(sleepers(&mut trees, &children), []);
}

#[test]
fn who_was_seen_once_is_known_whatever_it_forgets() {
    become_subreaper().unwrap();
    let _guard = Guard;
    let mut children = Children::new();
    let mut trees = Trees::new("test");
    let (reader, writer) = std::io::pipe().unwrap();
    let (wait, mut go) = std::io::pipe().unwrap();
    let mut spec = shell("(read x; exec setsid env -i sleep 1000) <&3 & echo; wait");
    spec = SpawnSpec { stdout: Some(writer.into()), stdin: Some(wait.into()), ..spec };
    spec.argv = ["/bin/sh", "-c", "(read x; exec env -i /bin/sleep 1000) <&0 & echo; wait"]
        .map(OsString::from)
        .to_vec();
    start(&mut children, 1, spec);
    BufReader::new(reader).read_line(&mut String::new()).unwrap();
    assert_eq!(trees.processes_of(&children, 1).len(), 2);
    go.write_all(b"now\n").unwrap();
    children.signal_main(1, Signal::KILL).unwrap();
    let _child = next_exit(&mut children);
    until("it sleeps", || sleepers(&mut trees, &children) == [Some(1)]);
}

#[test]
fn a_handle_is_of_one_process_and_not_of_who_has_its_number_later() {
    let this = "sys_tree::a_handle_is_of_one_process_and_not_of_who_has_its_number_later";
    if is_skipped_without_root() || !is_inside(NAMESPACE, this) {
        return;
    }
    let _guard = Guard;
    let mut children = Children::new();
    let mut trees = Trees::new("test");
    let sleep = || SpawnSpec::new(vec!["/bin/sleep".into(), "1000".into()]);
    start(&mut children, 1, sleep());
    let process = trees.everybody(&children)[0].process;
    until("its exec is over", || {
        tree::portrait(&process).is_some_and(|one| one.command == ["/bin/sleep", "1000"])
    });
    assert!(tree::is_alive(&process));
    let handle = Leftover::open(process).unwrap();
    handle.signal(Signal::KILL);
    let _child = next_exit(&mut children);
    // Tells the start times apart, which have hundredths of a second.
    until("time has passed", || {
        start(&mut children, 2, shell("exit 0"));
        let began = children.pid_of(2).unwrap();
        let stat = fs::read_to_string(format!("/proc/{began}/stat")).unwrap();
        let _child = next_exit(&mut children);
        let ticks: u64 =
            stat.rsplit_once(')').unwrap().1.split(' ').nth(20).unwrap().parse().unwrap();
        ticks > process.start_time
    });
    fs::write("/proc/sys/kernel/ns_last_pid", (process.pid.raw() - 1).to_string()).unwrap();
    start(&mut children, 3, sleep());
    assert_eq!(children.pid_of(3), Some(process.pid), "the pid is given again");
    handle.signal(Signal::KILL);
    assert!(Leftover::open(process).is_none());
    assert!(tree::portrait(&process).is_none() && !tree::is_alive(&process));
    assert!(children.peek_exited().is_none() && lives(&process.pid.to_string()));
}
