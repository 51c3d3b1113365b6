//! The built supervisor where the world is hostile: how it is started, told to end, and breaks.

use std::{fs, os::fd::OwnedFd};

use mini_supervisor::model::{Exit, Signal};

use crate::sys_world::{World, again_below, file, is_skipped_without_root, lives, until};

/// A program that shows what it was started with, and stays.
const SHOW: &str = r#"programs:
  show:
    command:
      - /bin/sh
      - -c
      - |
        { grep -E '^(SigBlk|SigIgn|CapInh|CapAmb|Umask):' /proc/self/status
        echo "nofile $(ulimit -Sn)"
        set -- $(cat /proc/$$/stat); echo "session $(($6 == $$)) tty $7"
        env | grep -vE '^(PWD|SHLVL|_|OLDPWD)=' | sed 's/=.*//' | sort | xargs echo env
        readlink /proc/$$/cwd; } > DIR/shown
        ls /proc/$$/fd | xargs echo > DIR/fds
        echo $$ >> DIR/pids; mv DIR/shown DIR/out; exec sleep 1000
    working_directory: /
    logging: {stdout: 'null', stderr: 'null'}
"#;

const SLEEP: &str = r"programs:
  sleep:
    command: [/bin/sh, -c, 'echo $$ >> DIR/pids; exec sleep 1000']
    logging: {stdout: 'null', stderr: 'null'}
";

fn stopped_well(mut world: World) {
    world.signal(1, Signal::TERM);
    assert_eq!(world.exit(), (Some(1), Exit::Code(0)), "{}", world.text("log1"));
    world.nobody_of("pids");
    for left in ["pid", "run/control.sock"] {
        assert!(!world.path(left).exists(), "{left} is left behind");
    }
}

#[test]
fn however_it_is_started_a_program_starts_the_same() {
    let soft = |n: u64| format!("nofile {n}");
    let (_, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let pair = nix::pty::openpty(None, None).unwrap();
    let terminal = nix::unistd::ttyname(&pair.slave).unwrap();
    for (how, limit) in [
        ("ulimit -Sn 1000; exec RUN", 1000),
        ("ulimit -Sn 1000; exec RUN <&- >&- 2>&-", 1000),
        ("ulimit -Sn 16; exec RUN", 16),
        ("umask 0; ulimit -Sn 1000; exec RUN", 1000),
        ("umask 077; ulimit -Sn 1000; exec RUN", 1000),
        ("mkdir gone; cd gone; rmdir ../gone; ulimit -Sn 1000; exec RUN", 1000),
        ("exec 7</dev/null 8>other; ulimit -Sn 1000; exec RUN", 1000),
        ("ulimit -Sn 1000; exec env -i RUN", 1000),
        (
            "ulimit -Sn 1000; exec env --ignore-signal=HUP,PIPE,TERM,CHLD,USR2 \
             --block-signal=TERM,CHLD,USR1,HUP RUN",
            1000,
        ),
        (
            "export BASH_ENV=/x ENV=/x FOO=1 NOTIFY_SOCKET=/x LISTEN_FDS=1 LD_LIBRARY_PATH=/x; \
             ulimit -Sn 1000; exec RUN",
            1000,
        ),
        ("ulimit -Sn 1000; exec bash -c 'exec -a \"\" RUN'", 1000),
        ("ulimit -Sn 1000; unset HOME PATH; exec RUN", 1000),
        (
            "X=$(head -c 100000 /dev/zero | tr '\\0' x); export A=$X B=$X C=$X D=$X E=$X F=$X G=$X H=$X; \
             ulimit -Sn 1000; exec RUN",
            1000,
        ),
        // As many as there may be at all: nothing is done for each of them.
        ("ulimit -Sn $(ulimit -Hn); exec RUN", hard),
        ("ulimit -Sn 1000; exec RUN < TTY", 1000),
        ("ulimit -Sn 1000; exec RUN < TTY > TTY 2>&1", 1000),
    ] {
        let mut world = World::new(SHOW);
        world.start(1, &how.replace("TTY", terminal.to_str().unwrap()));
        until(how, || world.path("out").exists());
        let shown = world.text("out");
        let lines: Vec<&str> = shown.lines().collect();
        let wanted = [
            "Umask:\t0022",
            "SigBlk:\t0000000000000000",
            "SigIgn:\t0000000000000000",
            "CapInh:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            &soft(limit),
            "session 1 tty 0",
        ];
        assert_eq!(lines[..7], wanted, "{how}");
        let env = lines[7].split_whitespace().filter(|name| *name != "LANG");
        let env: Vec<&str> = env.collect();
        let own = ["HOME", "LOGNAME", "PATH", "SHELL", "SUPERVISOR_PROGRAM", "SUPERVISOR_RUN"];
        assert_eq!(env[1..7], own, "{how}");
        assert_eq!(env[7..], ["USER"], "{how}");
        assert_eq!(lines[8], "/", "{how}");
        // The shell itself opens what it redirects to while it runs `ls`.
        assert_eq!(
            world.text("fds").split_whitespace().take(3).collect::<Vec<_>>(),
            ["0", "1", "2"]
        );
        let others =
            world.text("fds").split_whitespace().filter(|fd| *fd == "7" || *fd == "8").count();
        assert_eq!(others, 0, "{how}");
        stopped_well(world);
    }
}

#[test]
fn of_many_started_at_once_one_runs_and_the_others_name_it() {
    let mut world = World::new(SLEEP);
    for run in 1..=50 {
        world.start(run, "exec RUN");
    }
    let mut losers = 0;
    let mut seen = Vec::new();
    while losers < 49 {
        let (run, exit) = world.exit();
        let text = world.text(&format!("log{}", run.unwrap()));
        assert_eq!(exit, Exit::Code(73), "{text}");
        seen.push(text);
        losers += 1;
    }
    let pid = world.text("pid");
    // Who lost before the winner had written its pid knows only that there is one.
    let named = seen.iter().filter(|text| text.contains(pid.trim())).count();
    assert!(named > 25, "{named} of 49: {}", seen[0]);
    until("the program runs", || world.text("pids").lines().count() == 1);
    let winner = (1..=50).find(|run| world.children.pid_of(*run).is_some()).unwrap();
    assert_eq!(world.children.pid_of(winner).unwrap().to_string(), pid.trim());
    world.signal(winner, Signal::TERM);
    assert_eq!(world.exit().1, Exit::Code(0));
    world.nobody_of("pids");
    assert!(!world.path("pid").exists());
}

#[test]
fn what_a_dead_supervisor_left_behind_does_not_stop_the_next() {
    for left in ["", "garbage", "1", "-1", "4194304", "99999999999"] {
        let mut world = World::new(SLEEP);
        fs::create_dir(world.path("run")).unwrap();
        fs::write(world.path("run/supervisor.lock"), left).unwrap();
        fs::write(world.path("pid"), left).unwrap();
        drop(std::os::unix::net::UnixListener::bind(world.path("run/control.sock")).unwrap());
        world.start(1, "exec RUN");
        until("the program runs", || !world.text("pids").is_empty());
        assert_eq!(
            world.text("pid").trim(),
            world.children.pid_of(1).unwrap().to_string(),
            "{left}"
        );
        stopped_well(world);
    }
}

#[test]
fn a_stop_at_any_moment_of_the_start_leaves_nothing() {
    // What is there, one after the other; `e2e::moments` looks closer where it can.
    for seen in ["site.yaml", "run", "run/supervisor.lock", "pid", "run/control.sock", "pids"] {
        for _ in 0..5 {
            let mut world = World::new(SLEEP);
            world.start(1, "exec RUN");
            until(seen, || world.path(seen).exists());
            world.signal(1, Signal::TERM);
            let (_, exit) = world.exit();
            let early = Exit::Signal { signal: Signal::TERM, core: false };
            let well = exit == Exit::Code(0) || (exit == early && seen == "site.yaml");
            assert!(well, "{seen}: {exit}: {}", world.text("log1"));
            world.nobody_of("pids");
            assert!(!world.path("pid").exists() && !world.path("run/control.sock").exists());
        }
    }
}

#[test]
fn a_panic_of_any_thread_ends_all_in_order_with_70() {
    for thread in ["loop", "logs", "control"] {
        let mut world = World::new(SLEEP);
        world.start(1, &format!("export SUPERVISOR_TEST_PANIC={thread}; exec RUN"));
        until("the program runs", || !world.text("pids").is_empty());
        if thread == "control" {
            world.start(2, "exec BIN -s DIR/run/control.sock status");
        } else {
            world.signal(1, Signal::USR1);
        }
        let mut exits = vec![world.exit()];
        if thread == "control" {
            exits.push(world.exit());
        }
        let log = world.text("log1");
        assert!(exits.contains(&(Some(1), Exit::Code(70))), "{thread}: {exits:?}\n{log}");
        assert!(log.contains("bug: the "), "{thread}: {log}");
        world.nobody_of("pids");
    }
}

#[test]
fn an_output_that_nobody_reads_holds_up_nothing() {
    let mut world = World::new(
        "programs:\n  loud:\n    \
         command: [/bin/sh, -c, 'echo x >> DIR/runs; yes | head -c 300000']\n    \
         restart: {policy: always, delay: 0s, start_limit: none}\n",
    );
    let (_unread, full) = std::io::pipe().unwrap();
    world.start_with(1, "exec RUN", Some(OwnedFd::from(full)), Some(file(&world.path("log1"))));
    until("it was restarted", || world.text("runs").lines().count() > 10);
    world.signal(1, Signal::TERM);
    assert_eq!(world.exit(), (Some(1), Exit::Code(0)), "{}", world.text("log1"));
}

#[test]
fn what_left_the_tree_is_killed_although_nobody_else_dies() {
    let mut world = World::new(
        "programs:\n  parent:\n    command: [/bin/sh, -c, \"trap '' TERM; setsid sleep 1000 & \
         echo $! > DIR/pids; exit 0\"]\n    restart: {policy: never}\n    \
         stop: {timeout: 200ms, kill_mode: group}\n",
    );
    world.start(1, "exec RUN");
    until("it has forked", || !world.text("pids").is_empty());
    let escaped = world.text("pids");
    until("the escaped process is killed", || !lives(escaped.trim()));
    stopped_well(world);
}

#[test]
fn without_proc_it_runs_and_says_what_it_cannot_do() {
    if is_skipped_without_root() {
        return;
    }
    let mut world = World::new(SLEEP);
    world.start(1, "exec unshare -m sh -c 'mount -t tmpfs none /proc && exec RUN'");
    until("the program runs", || !world.text("pids").is_empty());
    until("it is said", || world.text("log1").contains("no usable /proc"));
    assert_eq!(world.text("log1").matches("no usable /proc").count(), 1);
    stopped_well(world);
}

#[test]
fn so_few_open_files_that_programs_cannot_start_are_told_and_the_site_still_ends_in_order() {
    let one = |n: u32| format!("  p{n}: {{command: [/bin/sleep, '1000']}}\n");
    let programs = format!("programs:\n{}", (0..4).map(one).collect::<String>());
    for (limit, starts) in [(17, 0), (45, 4)] {
        let mut world = World::new(&programs);
        world.start(1, &format!("ulimit -n {limit}; exec RUN"));
        let started = || world.text("log1").matches("started (pid").count();
        if starts == 0 {
            until("that it cannot", || world.text("log1").contains("p3: cannot start now"));
            let log = world.text("log1");
            let told = "only 17 files may be open, and 4 programs need about 40: raise";
            assert!(log.contains(told), "{log}");
            assert!(!log.contains("gave up") && !log.contains("bug:"), "{log}");
        } else {
            until("all run", || started() == starts);
            assert!(!world.text("log1").contains("may be open"), "{}", world.text("log1"));
        }
        assert_eq!(started(), starts);
        stopped_well(world);
    }
    // Where not even we can start, that is said, and nothing is left.
    let mut world = World::new(&programs);
    world.start(1, "ulimit -n 8; exec RUN");
    assert_eq!(world.exit(), (Some(1), Exit::Code(1)));
    let log = world.text("log1");
    assert!(log.contains("supervisor: cannot") && log.contains("Too many open files"), "{log}");
    assert!(!world.path("pid").exists());
}

#[test]
fn an_argv_without_even_a_name_is_a_usage_error() {
    let this = "sys_binary::an_argv_without_even_a_name_is_a_usage_error";
    let Some(exit) = again_below("env", this) else {
        // Nothing at all; Linux makes one empty word of it since 5.18.
        let binary = std::ffi::CString::new(env!("CARGO_BIN_EXE_supervisor")).unwrap();
        let none: [&std::ffi::CStr; 0] = [];
        nix::unistd::execve(&binary, &none, &none).unwrap();
        return;
    };
    assert_eq!(exit, Exit::Code(2));
    let mut world = World::new(SLEEP);
    world.start(1, "exec bash -c 'exec -a \"\" BIN'");
    assert_eq!(world.exit(), (Some(1), Exit::Code(2)));
    let log = world.text("log1");
    assert_eq!(log, "supervisor: cannot read the command line: it is empty\n");
}
