//! Children as the kernel sees them: what they start with, how they fail, how they end.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::{
    ffi::OsString,
    io::Read,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::Path,
    time::Duration,
};

use mini_supervisor::{
    model::{Exit, Signal},
    sys::{
        child::Children,
        clock, command,
        spawn::{
            Cgroup, Identity, Prepared, Report, SpawnError, SpawnSpec, Stage, aside, fork,
            read_report, vfork,
        },
    },
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys_world::{is_skipped_without_root, median, next_exit, shell};

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
            Report::Executed | Report::Without(_) => panic!("no report"),
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
fn a_child_that_leaves_our_table_of_descriptors_takes_no_more_than_its_own() {
    // Its output far above, and one of ours on either side of it.
    let below = aside(std::fs::File::open("/dev/null").unwrap().into());
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut spec = shell("ls /proc/self/fd");
    spec.stdout = Some(aside(writer.into()));
    let above = aside(std::fs::File::open("/dev/null").unwrap().into());
    assert!(below.as_raw_fd() >= 64 && above.as_raw_fd() > below.as_raw_fd());
    let prepared = Prepared::new(spec).unwrap();
    let mut children = Children::new();
    children.insert(1, vfork(&prepared).unwrap());
    drop(prepared);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(next_exit(&mut children).exit, Exit::Code(0));
    // The fourth is the listing itself.
    assert_eq!(text, "0\n1\n2\n3\n");
    for ours in [below, above] {
        assert!(nix::sys::stat::fstat(&ours).is_ok(), "a descriptor of ours is closed");
    }
}

#[test]
fn a_cgroup_that_cannot_be_entered_is_told_of_and_done_without() {
    let directory = std::fs::File::open("/").unwrap().into();
    let mut spec = SpawnSpec::new(vec!["/bin/true".into()]);
    spec.cgroup = Some(Cgroup { directory, moved: false });
    let prepared = Prepared::new(spec).unwrap();
    assert!(prepared.has_a_cgroup());
    let (child, report) = fork(&prepared).unwrap();
    let mut children = Children::new();
    children.insert(1, child);
    assert_eq!(next_exit(&mut children).exit, Exit::Code(0));
    let Report::Without(why) = read_report(&report, &prepared) else { panic!("it entered /") };
    assert_eq!(why.to_string(), "entering its cgroup: No such file or directory (os error 2)");
    assert_eq!(read_report(&report, &prepared), Report::Reached(Stage::Exec));
    assert_eq!(read_report(&report, &prepared), Report::Executed);
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
        ("/etc/passwd/x", libc::ENOTDIR),
    ] {
        for error in failures(|| SpawnSpec::new(vec![command.into()])) {
            assert_eq!((error.stage, error.errno, &*error.object), (Stage::Exec, errno, command));
        }
    }
    for error in failures(|| SpawnSpec { argv: vec!["/no/such/x".into(), "y".into()], ..plain() }) {
        assert_eq!(
            error.to_string(),
            "executing /no/such/x: No such file or directory (os error 2)"
        );
    }
    for error in failures(|| SpawnSpec { cpu_affinity: vec![1000], ..plain() }) {
        assert_eq!((error.stage, error.errno), (Stage::Affinity, libc::EINVAL));
    }
}

/// A file that may be executed, with this text.
fn executable(dir: &Path, name: &str, text: &[u8]) -> OsString {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.into()
}

#[test]
fn every_reason_of_the_kernel_not_to_execute_is_told_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| OsString::from(dir.path().join(name));
    let symlink = |to: &str, name| std::os::unix::fs::symlink(to, dir.path().join(name)).unwrap();
    symlink("loop", "loop");
    symlink("nowhere", "dangling");
    std::fs::write(dir.path().join("plain"), "#!/bin/sh\n").unwrap();
    let write = |name, text: &[u8]| executable(dir.path(), name, text);
    let cases: Vec<(&str, OsString, i32)> = vec![
        ("missing", at("missing"), libc::ENOENT),
        ("dangling link", at("dangling"), libc::ENOENT),
        ("missing interpreter", write("bad-interpreter", b"#!/no/such\n"), libc::ENOENT),
        ("below a file", at("plain/x"), libc::ENOTDIR),
        ("a directory", dir.path().into(), libc::EACCES),
        ("mode 644", at("plain"), libc::EACCES),
        ("interpreter of mode 644", write("bad-mode", b"#!/etc/passwd\n"), libc::EACCES),
        ("garbage", write("garbage", b"\x7fG\0\x01\x02"), libc::ENOEXEC),
        ("an empty file", write("empty", b""), libc::ENOEXEC),
        ("half an ELF", write("half", b"\x7fELF\x02\x01\x01"), libc::ENOEXEC),
        ("links in a circle", at("loop"), libc::ELOOP),
        (
            "scripts of scripts",
            write("circle", format!("#!{}\n", at("circle").display()).as_bytes()),
            libc::ELOOP,
        ),
        ("a long name", at(&"x".repeat(256)), libc::ENAMETOOLONG),
        ("a long path", format!("/{}", "x/".repeat(2100)).into(), libc::ENAMETOOLONG),
    ];
    for (what, command, errno) in cases {
        for error in failures(|| SpawnSpec::new(vec![command.clone()])) {
            assert_eq!((error.stage, error.errno), (Stage::Exec, errno), "{what}");
            assert_eq!(*error.object, *command.to_string_lossy(), "{what}");
            assert!(!error.is_transient() && !error.is_text_busy(), "{what}");
        }
    }
    let long: OsString = "x".repeat(256 << 10).into();
    for error in failures(|| SpawnSpec::new(vec!["/bin/true".into(), long.clone()])) {
        assert_eq!((error.stage, error.errno), (Stage::Exec, libc::E2BIG), "a long argument");
    }
    let env = || vec![("X".into(), long.clone())];
    for error in failures(|| SpawnSpec { env: env(), ..SpawnSpec::new(vec!["/bin/true".into()]) }) {
        assert_eq!((error.stage, error.errno), (Stage::Exec, libc::E2BIG), "a long variable");
    }
    // All that is together as long as the kernel takes is no mistake.
    let (_, exit) = run(SpawnSpec::new(vec!["/bin/true".into(), "x".repeat(120 << 10).into()]));
    assert_eq!(exit, Exit::Code(0));
}

#[test]
fn what_may_not_be_searched_or_executed_for_the_user_is_not_executed() {
    if is_skipped_without_root() {
        return;
    }
    let dir = tempfile::Builder::new().prefix("sv").tempdir_in("/tmp").unwrap();
    let program = executable(dir.path(), "x", b"#!/bin/sh\nexit 0\n");
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(dir.path(), private).unwrap();
    let identity = || Some(Identity { uid: 65534, gid: 65534, groups: vec![] });
    // The directory is 0700 of root: root could.
    for error in
        failures(|| SpawnSpec { identity: identity(), ..SpawnSpec::new(vec![program.clone()]) })
    {
        assert_eq!((error.stage, error.errno), (Stage::Exec, libc::EACCES));
    }
    for error in failures(|| SpawnSpec {
        identity: identity(),
        working_directory: dir.path().into(),
        ..SpawnSpec::new(vec!["/bin/true".into()])
    }) {
        assert_eq!((error.stage, error.errno), (Stage::WorkingDirectory, libc::EACCES));
    }
    // In the search through PATH such a directory hides nothing behind it.
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let env = vec![("PATH".into(), path.into())];
    let spec = SpawnSpec { identity: identity(), env, ..SpawnSpec::new(vec!["true".into()]) };
    assert_eq!(run(spec).1, Exit::Code(0));
}

/// Everything of ours that a child could change by sharing it with us.
fn ourselves() -> String {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/{name}")).unwrap();
    let status = read("status");
    let ours = |line: &&str| {
        !line.starts_with("Vm")
            && !line.starts_with("Rss")
            && !line.contains("ctxt")
            && !line.starts_with("State")
            // Of all processes of the user.
            && !line.starts_with("SigQ")
    };
    let status: Vec<&str> = status.lines().filter(ours).collect();
    let stat = read("stat");
    let stat: Vec<&str> = stat.rsplit(')').next().unwrap().split(' ').collect();
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
    format!(
        "{status:#?} {} {} {fds} {} pgrp, session, tty, priority, nice {:?} {:?}",
        read("limits"),
        read("oom_score_adj"),
        std::fs::read_link("/proc/self/cwd").unwrap().display(),
        &stat[3..6],
        &stat[16..18],
    )
}

#[test]
fn what_a_child_changes_of_itself_changes_nothing_in_us() {
    use mini_supervisor::model::{IoNice, Resource, RlimitValue};
    let spec = || SpawnSpec {
        umask: 0o077,
        working_directory: "/usr".into(),
        rlimits: vec![
            (Resource::Nofile, RlimitValue::Max(20)),
            (Resource::Core, RlimitValue::Max(0)),
            (Resource::Stack, RlimitValue::Max(1 << 20)),
        ],
        nice: Some(19),
        ionice: Some(IoNice::Idle),
        oom_score_adj: Some(900),
        cpu_affinity: vec![0],
        no_new_privileges: true,
        identity: nix::unistd::geteuid().is_root().then(|| Identity {
            uid: 65534,
            gid: 65534,
            groups: vec![65534, 7],
        }),
        ..shell("nice; cat /proc/self/oom_score_adj; ulimit -n; umask; pwd; id -u")
    };
    let before = ourselves();
    let (text, exit) = run(spec());
    assert_eq!(exit, Exit::Code(0));
    let uid = if nix::unistd::geteuid().is_root() {
        "65534".into()
    } else {
        nix::unistd::geteuid().to_string()
    };
    assert_eq!(text, format!("19\n900\n20\n0077\n/usr\n{uid}\n"));
    assert_eq!(ourselves(), before);
    // Neither does one that fails half-way.
    for error in failures(|| SpawnSpec { argv: vec!["/no/such".into()], ..spec() }) {
        assert_eq!(error.stage, Stage::Exec);
    }
    assert_eq!(ourselves(), before);
}

#[test]
fn a_signal_meets_a_child_that_has_no_group_yet_and_never_ourselves() {
    let prepared = Prepared::new(SpawnSpec::new(vec!["/bin/sleep".into(), "1000".into()])).unwrap();
    let mut children = Children::new();
    for run in 0..300 {
        // It is still on its way to setsid(2), most of the time.
        let (child, _report) = fork(&prepared).unwrap();
        children.insert(run, child);
        children.signal_group(run, Signal::TERM).unwrap();
        let peeked = next_exit(&mut children);
        assert_eq!(peeked.exit, Exit::Signal { signal: Signal::TERM, core: false });
        assert_eq!(children.signal_group(run, Signal::TERM), Err(nix::errno::Errno::ESRCH));
    }
}

#[test]
fn to_start_a_program_takes_no_longer_when_we_are_large() {
    let prepared = Prepared::new(SpawnSpec::new(vec!["/bin/true".into()])).unwrap();
    let mut children = Children::new();
    let mut some = || -> Vec<Duration> {
        let once = |run| {
            let began = clock::monotonic();
            children.insert(run, vfork(&prepared).unwrap());
            let took = clock::monotonic().since(began);
            let _child = next_exit(&mut children);
            took
        };
        (0..40).map(once).collect()
    };
    let (mut small, mut large) = (Vec::new(), Vec::new());
    // In turn, so that a slow moment of the host is one of both.
    for _ in 0..6 {
        small.extend(some());
        let memory = std::hint::black_box(vec![1_u8; 256 << 20]);
        large.extend(some());
        drop(memory);
    }
    let (small, large) = (median(small), median(large));
    println!("from the order to the running program: {small:?}, with 256 MiB more {large:?}");
    // A copy of the tables of that memory alone would take several milliseconds.
    assert!(large < small * 4 + Duration::from_millis(1), "{small:?} {large:?}");
}

#[test]
fn a_text_without_an_interpreter_is_not_given_to_a_shell() {
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
    if is_skipped_without_root() {
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
                    std::thread::park_timeout(Duration::from_micros(200));
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

#[test]
fn a_command_is_run_to_its_end_with_what_it_says() {
    let long = Duration::from_secs(60);
    let run = |script: &str, limit| command::run(shell(script).argv, Vec::new(), limit).unwrap();
    let ran = run("echo out; echo err >&2; exit 3", long);
    assert_eq!(ran.exit, Some(Exit::Code(3)));
    assert_eq!((&*ran.stdout, &*ran.stderr), (&b"out\n"[..], &b"err\n"[..]));
    // Who goes on with its output is not waited for; what is too much is read all the same.
    let start = clock::monotonic();
    let ran = run("sleep 50 & echo $!; exec head -c 300000 /dev/zero", long);
    assert_eq!((ran.exit, ran.stdout.len()), (Some(Exit::Code(0)), 64 << 10));
    assert!(clock::monotonic().since(start) < Duration::from_secs(40));
    let pid =
        String::from_utf8_lossy(ran.stdout.split(|b| *b == b'\n').next().unwrap()).into_owned();
    let sleeper = nix::unistd::Pid::from_raw(pid.parse().unwrap());
    nix::sys::signal::kill(sleeper, nix::sys::signal::Signal::SIGKILL).unwrap();
    let ran = run("echo before; sleep 1000; echo after", Duration::from_millis(300));
    assert_eq!((ran.exit, &*ran.stdout), (None, &b"before\n"[..]));
    let missing = command::run(vec!["/no/such".into()], Vec::new(), long).unwrap_err();
    assert!(missing.to_string().starts_with("cannot run /no/such: executing"), "{missing}");
}
