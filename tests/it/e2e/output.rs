//! What programs say: the console, files, rotation, and sinks that do not take it.

use std::{os::unix::fs::PermissionsExt, process::Stdio};

use mini_supervisor::control::{Reply, Request, StateWord, Targets};
use nix::sys::signal::{Signal, kill};

use super::harness::{Plan, program};
use crate::logs::wait_for;

#[test]
fn the_console_shows_name_and_line_without_colour_in_a_pipe() {
    let (code, out, _) = Plan::new(
        "  a: {command: [printf, 'one\\ntwo\\n\\n']}
  longer: {command: [sh, -c, 'echo out; echo err >&2; printf unfinished']}",
    )
    .supervisor("exit_when: all-exited")
    .run();
    assert_eq!(code, 0);
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    let trimmed: Vec<String> =
        lines.iter().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let wanted =
        ["a |", "a | one", "a | two", "longer | err", "longer | out", "longer | unfinished"];
    assert_eq!(trimmed, wanted, "{out:?}");
    assert!(!out.contains('\u{1b}'));
}

#[test]
fn a_long_line_is_split_and_bytes_that_are_no_text_are_kept_out_of_trouble() {
    let mut site = Plan::new(
        "  long: {command: [DIR/long], logging: {stdout: DIR/long.log, max_line: 1KiB}, restart: {policy: never}}",
    )
    .script("long", "head -c 3000 /dev/zero | tr '\\0' x; echo; printf 'a\\0b\\377c\\n'; head -c 5000000 /dev/zero")
    .start();
    site.wait_state("long", StateWord::Exited);
    let pid = site.pid;
    assert_eq!(
        site.plan.dir.path().join("long.log").metadata().unwrap().permissions().mode() & 0o777,
        0o640
    );
    let log = std::fs::read(site.path("long.log")).unwrap();
    let longest = log.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap();
    assert!(longest <= 1024 + 16, "{longest}");
    assert!(log.contains(&b'a') && log.contains(&b'b') && log.contains(&b'c'));
    let memory = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = memory.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 100_000, "{line}");
    assert_eq!(site.end(), 0);
}

#[test]
fn usr1_opens_a_renamed_log_again() {
    let mut site = Plan::new("  talk: {command: [DIR/talk], logging: {stdout: DIR/talk.log}}")
        .script("talk", "trap 'echo later' USR2; echo first; while :; do sleep 0.02; done")
        .start();
    site.wait_state("talk", StateWord::Running);
    let (log, old) = (site.path("talk.log"), site.path("talk.old"));
    let said = |path: &std::path::Path, word: &str| {
        std::fs::read_to_string(path).is_ok_and(|text| text.contains(word)).then_some(())
    };
    wait_for("the first line is written", || said(&log, "first"));
    std::fs::rename(&log, &old).unwrap();
    site.signal(Signal::SIGUSR1);
    site.stderr.wait_for("the reopening", |line| line.contains("log files reopened"));
    let pid = site.main_pid("talk");
    kill(nix::unistd::Pid::from_raw(pid.cast_signed()), Signal::SIGUSR2).unwrap();
    wait_for("the new file has the line", || said(&log, "later"));
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "first\n");
    assert_eq!(site.main_pid("talk"), pid);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_log_file_is_rotated_and_the_oldest_are_dropped() {
    let mut site = Plan::new(
        "  talk: {command: [DIR/talk], restart: {policy: never}, start_pre: [{command: [mkdir, -p, DIR/logs]}], logging: {stdout: DIR/logs/talk.log,
    rotate: {max_size: 4KiB, keep: 2, compress: none}}}",
    )
    .script("talk", "i=0; while test $i -lt 1000; do echo line $i; i=$((i+1)); done")
    .start();
    site.wait_state("talk", StateWord::Exited);
    site.signal(Signal::SIGTERM);
    assert_eq!(site.end_by_itself(), 0);
    let files = || std::fs::read_dir(site.path("logs")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = files().collect();
    all.sort();
    assert_eq!(all.len(), 3, "{all:?}");
    for file in &all {
        assert!(file.metadata().unwrap().len() <= 4096, "{file:?}");
    }
    let last = std::fs::read_to_string(site.path("logs/talk.log")).unwrap();
    assert!(last.ends_with("line 999\n"), "{last}");
}

#[test]
fn a_program_that_closes_its_output_goes_on() {
    let mut site = Plan::new("  mute: {command: [DIR/mute]}")
        .script("mute", "echo hello; exec >&- 2>&- <&-; exec sleep 1000")
        .start();
    site.stdout.wait_for("hello", |line| line == "mute | hello");
    let before = site.all_running();
    let cpu = |pid: nix::unistd::Pid| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let used = cpu(site.pid);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(cpu(site.pid) - used <= 2, "it spins");
    assert_eq!(program(&site.status(), "mute").pid, program(&before, "mute").pid);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_reader_that_stalls_stops_no_program() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut site = Plan::new(
        "  flood: {command: [DIR/flood], restart: {delay: 1ms}}\n  calm: {command: [sleep, '1000'], restart: {delay: 1ms}}",
    )
    .script("flood", "echo x >> DIR/rounds; i=0; while test $i -lt 3000; do echo a line that fills the pipe of whoever does not read it $i; i=$((i+1)); done; test $(wc -l < DIR/rounds) -ge 5 && exec sleep 1000; exit 1")
    .stdout(Stdio::from(writer))
    .start();
    site.wait_for("five rounds", |s| program(s, "flood").restarts >= 4);
    let old = site.main_pid("calm");
    kill(nix::unistd::Pid::from_raw(old.cast_signed()), Signal::SIGKILL).unwrap();
    site.wait_for("calm again", |s| program(s, "calm").pid.is_some_and(|pid| pid != old));
    assert_eq!(site.end(), 0);
    drop(reader);
}

#[test]
fn a_closed_or_full_standard_output_harms_nobody() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    for stdout in [Stdio::from(full), Stdio::from(closed)] {
        let mut site = Plan::new("  talk: {command: [DIR/talk]}")
            .script("talk", "echo one; echo two; touch DIR/said; exec sleep 1000")
            .stdout(stdout)
            .start();
        site.wait_for("it said so", |s| {
            s.programs[0].state == StateWord::Running && s.programs[0].restarts == 0
        });
        assert_eq!(site.end(), 0);
    }
}

#[test]
fn a_limit_of_file_sizes_ends_no_supervisor_and_costs_only_what_does_not_fit() {
    let mut site = Plan::new(
        "  talk: {command: [DIR/talk], logging: {stdout: DIR/talk.log}}\n  turn: {command: [DIR/talk], \
         logging: {stdout: DIR/turn.log, rotate: {max_size: 2KiB, keep: 100, compress: none}}}",
    )
    .script("talk", "i=0; while test $i -lt 1000; do echo line $i; i=$((i+1)); done; sleep 1000")
    .wrapped(&["bash", "-c", "ulimit -f 4; exec \"$@\"", "bash"])
    .start();
    let log = site.stderr.wait_for("the loss", |line| line.contains("talk.log"));
    assert!(log.contains("cannot write") && log.contains("File too large"), "{log}");
    let targets = |name: &str| Request::Status(Targets { names: vec![name.into()] });
    let mut lost = |name: &str, whole: u64| {
        wait_for("all is written or lost", || {
            let Reply::Status(status) = site.ask(&targets(name)) else { panic!() };
            let lost = program(&status, name).log_lost_bytes;
            let prefix = format!("{name}.log");
            let files = std::fs::read_dir(site.plan.dir.path()).unwrap().filter_map(Result::ok);
            let ours = files.filter(|f| f.file_name().to_string_lossy().starts_with(&prefix));
            let written: u64 = ours.map(|f| f.metadata().unwrap().len()).sum();
            (written + lost == whole).then_some(lost)
        })
    };
    // 1000 lines are 8890 bytes; a file takes 4096 of them.
    assert_eq!(lost("talk", 8890), 8890 - 4096);
    assert_eq!(lost("turn", 8890), 0);
    assert_eq!(site.program("talk").restarts, 0);
    assert_eq!(site.end(), 0);
}

/// What the files of a log hold, oldest first.
fn rotated(site: &super::harness::Site, name: &str) -> String {
    let old = (1..1000).rev().map(|n| site.path(&format!("{name}.{n}")));
    old.chain([site.path(name)])
        .map(|path| std::fs::read_to_string(path).unwrap_or_default())
        .collect()
}

#[test]
fn over_rotations_restarts_and_a_new_supervisor_no_line_is_lost_torn_or_mixed() {
    let one = |name: &str| {
        format!(
            "  {name}: {{command: [DIR/talk, {name}], restart: {{delay: 1ms, jitter: 0, start_limit: none}}, \
             logging: {{stdout: DIR/{name}.log, rotate: {{max_size: 4KiB, keep: 900, compress: none}}}}}}\n"
        )
    };
    // Both streams share a pipe, in the order of the program. Each run pauses within lines and ends
    // within one.
    let script = "run=$(cat DIR/$1.runs 2>/dev/null | wc -l); echo >> DIR/$1.runs
        i=0; while test $i -lt 50; do
            echo \"$1 err run $run line $i\" >&2; printf \"$1 out run $run \"; echo line $i; i=$((i+1))
        done
        echo \"$1 err run $run end\" >&2; printf \"$1 out run $run end\"
        case $run in 9|19) exec sleep 1000;; esac; exit 1";
    let mut site = Plan::new(&(one("one") + &one("two"))).script("talk", script).start();
    let wanted = |start: &str, runs: usize| -> Vec<String> {
        let run =
            |r| (0..50).map(move |i| format!("run {r} line {i}")).chain([format!("run {r} end")]);
        (0..runs).flat_map(run).map(|line| format!("{start} {line}")).collect()
    };
    for runs in [10, 20] {
        site.wait_for("the last run", |s| {
            s.programs.iter().all(|p| p.restarts == 9 && p.state == StateWord::Running)
        });
        for name in ["one", "two"] {
            let ends = ["out", "err"].map(|s| format!("{name} {s} run {} end", runs - 1));
            let found = wait_for("all is written", || {
                let all = rotated(&site, &format!("{name}.log"));
                ends.iter().all(|end| all.contains(end)).then_some(all)
            });
            for stream in ["out", "err"] {
                let start = format!("{name} {stream}");
                let lines: Vec<_> = found.lines().filter(|l| l.starts_with(&start)).collect();
                assert_eq!(lines, wanted(&start, runs));
            }
            assert_eq!(found.lines().count(), 2 * 51 * runs);
        }
        site.signal(Signal::SIGTERM);
        assert_eq!(site.end_by_itself(), 0);
        if runs == 10 {
            site = site.again();
        }
    }
}

#[test]
fn a_grandchild_that_keeps_the_output_delays_no_exit_and_no_last_line() {
    let mut site = Plan::new(
        "  main: {command: [DIR/main], restart: {policy: never}, stop: {kill_mode: process}, logging: {stdout: DIR/main.log}}",
    )
    .script("main", "(trap '' TERM HUP; echo ready > DIR/there; exec sleep 1000) & while ! test -s DIR/there; do :; done; printf 'last words'; exit 0")
    .start();
    let main = site.wait_state("main", StateWord::Exited);
    assert_eq!(main.exit.and_then(|exit| exit.code), Some(0));
    // It is not ended, for who keeps the pipe may go on with it.
    wait_for("the last line is written", || {
        std::fs::read_to_string(site.path("main.log"))
            .is_ok_and(|t| t == "last words")
            .then_some(())
    });
    assert_eq!(site.end(), 0);
}
