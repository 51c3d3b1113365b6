//! Children as the kernel sees them: what they start with, how they fail, how they end.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::{io::Read, os::fd::OwnedFd};

use mini_supervisor::{
    model::{Exit, Signal},
    sys::{
        child::Children,
        spawn::{
            Identity, Prepared, Report, SpawnError, SpawnSpec, Stage, fork, read_report, vfork,
        },
    },
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys_world::{next_exit, shell};

/// Output and exit of a child made by vfork.
fn run(mut spec: SpawnSpec) -> (String, Exit) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    spec.stdout = Some(OwnedFd::from(writer));
    let prepared = Prepared::new(spec).unwrap();
    let mut children = Children::new();
    children.insert(1, vfork(&prepared).unwrap());
    drop(prepared);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    (text, next_exit(&mut children).exit)
}

/// The failure of one spec by each of the two ways.
fn failures(spec: impl Fn() -> SpawnSpec) -> [SpawnError; 2] {
    let prepared = Prepared::new(spec()).unwrap();
    let at_once = vfork(&prepared).unwrap_err();
    let (child, report) = fork(&prepared).unwrap();
    poll(
        &mut [PollFd::new(std::os::fd::AsFd::as_fd(&report), PollFlags::POLLIN)],
        PollTimeout::from(10_000_u16),
    )
    .unwrap();
    let later = loop {
        match read_report(&report, &prepared) {
            Report::NotExecuted(later) => break later,
            Report::Reached(stage) => assert_eq!(stage, Stage::Exec),
            // It has come to its exec, and the report is on its way.
            Report::Pending => std::thread::yield_now(),
            Report::Executed => panic!("no report"),
        }
    };
    let mut children = Children::new();
    children.insert(1, child);
    assert_eq!(next_exit(&mut children).exit, Exit::Code(127));
    assert!(children.peek_exited().is_none());
    [at_once, later]
}

#[test]
fn a_child_starts_clean_whatever_the_supervisor_has() {
    use nix::sys::signal::{SigSet, Signal as S};
    let mut blocked = SigSet::empty();
    blocked.add(S::SIGUSR1);
    blocked.thread_block().unwrap();
    let _open = std::fs::File::open("/dev/null").unwrap();
    // Neither a pattern nor a substitution around `ls`: for those the shell opens descriptors
    // itself.
    let (text, exit) = run(shell(
        "grep -E '^Sig(Blk|Ign):' /proc/self/status; umask; cut -d' ' -f1,5,6 /proc/$$/stat; \
         echo $$; ls -l /proc/$$/fd; :",
    ));
    assert_eq!(exit, Exit::Code(0));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "SigBlk:\t0000000000000000");
    assert_eq!(lines[1], "SigIgn:\t0000000000000000", "Rust ignores SIGPIPE in us");
    assert_eq!(lines[2], "0022");
    let pid = lines[4];
    assert_eq!(lines[3], format!("{pid} {pid} {pid}"));
    let open: Vec<&str> = lines.iter().filter(|line| line.contains(" -> ")).copied().collect();
    assert_eq!(open.len(), 3, "{open:#?}");
    for (number, line) in open.iter().enumerate() {
        assert!(line.contains(&format!(" {number} -> ")), "{line}");
    }
    assert_eq!(SigSet::thread_get_mask().unwrap(), blocked);
}

#[test]
fn each_failure_names_its_stage_and_errno_by_both_ways() {
    let plain = || SpawnSpec::new(vec!["/bin/true".into()]);
    for error in failures(|| SpawnSpec { working_directory: "/no/such".into(), ..plain() }) {
        assert_eq!(
            error.to_string(),
            "entering directory /no/such: No such file or directory (os error 2)"
        );
    }
    for (command, errno) in [
        ("/no/such", libc::ENOENT),
        ("no-such-command", libc::ENOENT),
        ("/etc/passwd", libc::EACCES),
        ("/etc/passwd/x", libc::ENOENT),
    ] {
        for error in failures(|| SpawnSpec::new(vec![command.into()])) {
            assert_eq!((error.stage, error.errno, &*error.object), (Stage::Exec, errno, command));
        }
    }
    for error in failures(|| SpawnSpec { cpu_affinity: vec![1000], ..plain() }) {
        assert_eq!((error.stage, error.errno), (Stage::Affinity, libc::EINVAL));
    }
}

#[test]
fn a_text_without_an_interpreter_is_not_given_to_a_shell() {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&file, "exit 0\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    for error in failures(|| SpawnSpec::new(vec![file.as_os_str().to_owned()])) {
        assert_eq!((error.stage, error.errno), (Stage::Exec, libc::ENOEXEC));
    }
    let _writer = std::fs::File::options().write(true).open(&file).unwrap();
    for error in failures(|| SpawnSpec::new(vec![file.as_os_str().to_owned()])) {
        assert!(error.is_text_busy(), "{error}");
    }
}

#[test]
fn a_child_of_another_user_has_nothing_of_root_left() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let identity = Some(Identity { uid: 65534, gid: 65534, groups: vec![7, 65534, 5] });
    let script = "grep -E '^(Uid|Gid|Groups|CapEff|NoNewPrivs):' /proc/self/status";
    let (text, exit) = run(SpawnSpec { identity, no_new_privileges: true, ..shell(script) });
    assert_eq!(exit, Exit::Code(0));
    let words: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    let four = ["65534"; 4];
    assert_eq!(words[0][1..], four);
    assert_eq!(words[1][1..], four);
    assert_eq!(words[2][1..], ["5", "7", "65534"]);
    assert_eq!(words[3][1..], ["0000000000000000"]);
    assert_eq!(words[4][1..], ["1"]);
}

#[test]
fn every_code_and_every_signal_is_told_exactly() {
    for code in 0..=255_u8 {
        assert_eq!(run(shell(&format!("exit {code}"))).1, Exit::Code(code));
    }
    // Default action of these is not to end: CHLD CONT STOP TSTP TTIN TTOU URG WINCH.
    let harmless = [17, 18, 19, 20, 21, 22, 23, 28];
    for number in (1..=64).filter(|n| !harmless.contains(n)) {
        let signal = Signal::from_number(number).unwrap();
        let spec = SpawnSpec {
            rlimits: vec![(
                mini_supervisor::model::Resource::Core,
                mini_supervisor::model::RlimitValue::Max(0),
            )],
            ..SpawnSpec::new(vec!["/bin/sleep".into(), "60".into()])
        };
        let mut children = Children::new();
        children.insert(9, vfork(&Prepared::new(spec).unwrap()).unwrap());
        children.signal_group(9, signal).unwrap();
        let peeked = next_exit(&mut children);
        assert!(
            matches!(peeked.exit, Exit::Signal { signal: s, .. } if s == signal),
            "{number}: {peeked:?}"
        );
        assert_eq!(peeked.run, Some(9));
        assert!(children.is_empty());
    }
}

/// With `TESTS_FULL` in the environment ten times as many.
fn is_full() -> bool {
    std::env::vars_os().any(|(name, _)| name == "TESTS_FULL")
}

#[test]
fn children_start_while_other_threads_allocate_and_write() {
    use std::{
        io::Write,
        sync::atomic::{AtomicBool, Ordering},
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut null = std::fs::File::create("/dev/null").unwrap();
                while !done.load(Ordering::Relaxed) {
                    for size in 1..20 {
                        let line = std::hint::black_box(vec![b'x'; size * 200]);
                        null.write_all(&line).unwrap();
                    }
                    // Else these eight have both processors, and each spawn waits for its turn
                    // of some milliseconds several times.
                    std::thread::park_timeout(std::time::Duration::from_micros(200));
                }
            });
        }
        let prepared = Prepared::new(SpawnSpec::new(vec!["/bin/true".into()])).unwrap();
        let mut children = Children::new();
        for run in 0..if is_full() { 20_000 } else { 2000 } {
            if run % 2 == 0 {
                children.insert(run, vfork(&prepared).unwrap());
            } else {
                children.insert(run, fork(&prepared).unwrap().0);
            }
            let peeked = next_exit(&mut children);
            assert_eq!((peeked.run, peeked.exit), (Some(run), Exit::Code(0)));
        }
        done.store(true, Ordering::Relaxed);
    });
}
