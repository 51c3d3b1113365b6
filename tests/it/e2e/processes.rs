//! `ps`: who is alive of what was started, and what nobody has any more.

use std::process::{Command, Stdio};

use mini_supervisor::sys::clock;
use serde_json::Value;

use super::harness::{Plan, Site, pids_with};
use crate::{
    cli::site::{Ran, json},
    sys_world::{NAMESPACE, is_inside, is_skipped_without_root, until},
};

/// A verb of the binary for this site.
pub(super) fn command(site: &Site, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
    command.args(args).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command.env("SUPERVISOR_CONFIG", site.path("site.yaml"));
    command
}

/// What a verb came to.
pub(super) fn verb(site: &Site, args: &[&str]) -> Ran {
    command(site, args).output().unwrap().into()
}

/// The processes that `ps` lists with these arguments.
pub(super) fn listed(site: &Site, args: &[&str]) -> Vec<Value> {
    let ran = verb(site, &[&["ps", "--json", "--interval", "0"], args].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    json(&ran.out)["processes"].as_array().unwrap().clone()
}

/// `PROGRAM KIND COMMAND` of each, sorted.
fn in_words(all: &[Value]) -> Vec<String> {
    let one = |value: &Value| {
        let words: Vec<&str> =
            value["command"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
        let program = value["program"].as_str().unwrap_or("-");
        format!("{program} {} {}", value["kind"].as_str().unwrap(), words.join(" "))
    };
    let mut all: Vec<String> = all.iter().map(one).collect();
    all.sort();
    all
}

/// A program that has scattered processes in every way, and waits.
const SCATTERS: &str = "  web: {command: [sh, -c, 'sleep 1001 & setsid sleep 1002 & \
    (setsid sh -c \"sleep 1003 & exec sleep 1004\" &); \
    (env -u SUPERVISOR_RUN sleep 1005 &); exec sleep 1000']}
  other: {command: [sleep, '2000']}";

#[test]
fn every_process_of_a_program_is_listed_however_it_has_left_its_parents() {
    let mut site = Plan::new(SCATTERS).start();
    site.all_running();
    until("all are there", || pids_with(&site.plan.mark()).len() == 8);
    until("all have executed", || {
        let all = in_words(&listed(&site, &["web"]));
        all == [
            "web main sleep 1000",
            "web member sleep 1001",
            "web member sleep 1002",
            "web member sleep 1003",
            "web member sleep 1004",
            "web member sleep 1005",
        ]
    });
    assert_eq!(listed(&site, &["--orphans"]), Vec::<Value>::new());
    assert_eq!(listed(&site, &[]).len(), 7);
    let main = site.main_pid("web");
    for one in listed(&site, &["web"]) {
        assert!(one["memory_bytes"].as_u64().unwrap() > 0, "{one}");
        assert!(one["started_at"].as_str().unwrap().starts_with("20"), "{one}");
        assert_eq!(one["name"], "sleep", "{one}");
        let parent = one["ppid"].as_u64().unwrap();
        let above = [u64::from(main), site.pid.as_raw().unsigned_abs().into()];
        assert!(above.contains(&parent) || one["command"][1] == "1003", "{one}");
    }
    let table = verb(&site, &["ps", "web"]).out;
    assert!(table.starts_with("PROGRAM "), "{table}");
    assert!(table.contains("  sleep 1000\n") && table.contains("    sleep 1001\n"), "{table}");
    let unknown = verb(&site, &["ps", "wep"]);
    assert_eq!(unknown.code, Some(5));
    assert!(unknown.err.contains("did you mean web?"), "{unknown:?}");
    assert_eq!(site.end(), 0);
}

/// What a stop leaves behind with `kill_mode: process`: sixteen helpers, in four ways.
pub(super) const LEAVES: &str = "  tests: {command: [sh, -c, 'for i in 1 2 3 4; do sleep 30$i & \
    setsid sleep 31$i & (sleep 32$i &); (setsid sh -c \"exec sleep 33$i\" &); done; \
    exec sleep 300'], stop: {kill_mode: process}}
  web: {command: [sleep, '400']}";

/// Stops `tests` when all of it is there; its helpers are left.
pub(super) fn leave(site: &mut Site) {
    site.all_running();
    until("all are there", || {
        let all = in_words(&listed(site, &["tests"]));
        all.len() == 17 && all.iter().all(|one| one.contains(" sleep 3"))
    });
    site.bring_down(&["tests"]);
}

#[test]
fn sixteen_helpers_that_a_stop_has_left_are_listed_as_the_orphans_of_their_program() {
    let mut site = Plan::new(LEAVES).start();
    leave(&mut site);
    let orphans = in_words(&listed(&site, &["--orphans"]));
    let mut expected: Vec<String> = Vec::new();
    for row in 0..4 {
        expected.extend((1..=4).map(|i| format!("tests orphan sleep 3{row}{i}")));
    }
    assert_eq!(orphans, expected);
    // A new instance does not own what the one before has left.
    site.bring_up(&["tests"]);
    until("the others are there", || listed(&site, &["tests"]).len() == 16 + 17);
    let orphans = in_words(&listed(&site, &["--orphans", "tests"]));
    assert_eq!(orphans, expected);
    assert_eq!(in_words(&listed(&site, &["web"])), ["web main sleep 400"]);
    let table = verb(&site, &["ps", "--orphans"]).out;
    assert_eq!(table.matches("tests (orphan)  ").count(), 16, "{table}");
    // Also when the program is no longer in the site, and another has its place.
    site.plan.write("  next: {command: [sleep, '500']}");
    assert_eq!(verb(&site, &["reload", "--allow-removal"]).code, Some(0));
    site.wait_for("the end of tests", |status| status.programs.len() == 1);
    site.all_running();
    let orphans = in_words(&listed(&site, &["--orphans"]));
    assert_eq!(orphans.len(), 32, "{orphans:?}");
    assert!(orphans.iter().all(|one| one.starts_with("tests orphan ")), "{orphans:?}");
    assert_eq!(site.end(), 0);
}

#[test]
fn whose_parents_may_be_somebody_else_is_not_taken_for_ours() {
    // Whoever executes the supervisor has children already, and what they leave comes to us.
    let script = "(sleep 0.3; sleep 8001 & sleep 8002) & exec \"$@\"";
    let scatters = "  web: {command: [sh, -c, '(setsid sleep 7002 &); exec sleep 7000']}";
    let mut site = Plan::new(scatters).wrapped(&["sh", "-c", script, "sh"]).start();
    site.all_running();
    until("they are there", || {
        let all: Vec<i32> = pids_with(&site.plan.mark());
        let text = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
        ["7002", "8001", "8002"].iter().all(|wanted| {
            all.iter().filter_map(|pid| text(pid).ok()).any(|line| line.contains(*wanted))
        })
    });
    until("those of the program are listed, and nobody else", || {
        in_words(&listed(&site, &[])) == ["web main sleep 7000", "web member sleep 7002"]
    });
    assert_eq!(site.end(), 0);
}

#[test]
fn as_process_1_only_what_bears_the_mark_is_listed() {
    if is_skipped_without_root()
        || !is_inside(NAMESPACE, "e2e::processes::as_process_1_only_what_bears_the_mark_is_listed")
    {
        return;
    }
    // The test is process 1 here; below it the supervisor is that of another namespace.
    let scatters = "  web: {command: [sh, -c, '(setsid sleep 7002 &); exec sleep 7000']}";
    let site = Plan::new(scatters).wrapped(&["unshare", "-pf", "--kill-child", "--mount-proc"]);
    let mut site = site.start();
    site.all_running();
    let entered = |words: &str| {
        let inside = crate::outside::children_of(site.pid.as_raw().unsigned_abs())[0];
        let mut command = Command::new("nsenter");
        command.args(["-t", &inside.to_string(), "-p", "-m", "sh", "-c", words]);
        command.stdin(Stdio::null()).output().unwrap()
    };
    // As docker exec does it; what it leaves comes to process 1.
    entered("setsid sleep 9001 >/dev/null 2>&1 &");
    until("its orphan is there", || {
        String::from_utf8_lossy(&entered("cat /proc/[0-9]*/cmdline").stdout).contains("9001")
    });
    until("ours are listed, and nobody else", || {
        in_words(&listed(&site, &[])) == ["web main sleep 7000", "web member sleep 7002"]
    });
    let ended = verb(&site, &["kill-all", "--yes"]);
    assert_eq!((ended.code, ended.out.ends_with("ended 2 processes\n")), (Some(0), true));
    let left = String::from_utf8_lossy(&entered("cat /proc/[0-9]*/cmdline").stdout).into_owned();
    assert!(left.contains("9001") && !left.contains("7002"), "{left:?}");
    let inside = crate::outside::children_of(site.pid.as_raw().unsigned_abs())[0];
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(inside), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    assert_eq!(site.code(), 0);
}

/// Uses half of a processor, whatever else the machine does.
const BURNER: &str = "import time\\nbegin = time.monotonic()\\nwhile True:\\n    \
    if time.process_time() < 0.5 * (time.monotonic() - begin): continue\\n    time.sleep(0.005)";

fn seconds_of_processor(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

#[test]
fn the_share_of_the_processor_is_measured() {
    let burner = format!(
        "  burner: {{command: [python3, -c, \"{BURNER}\"]}}\n  sleeper: {{command: [sleep, '1']}}"
    );
    let mut site = Plan::new(&burner.replace("'1'", "'1000'")).start();
    site.all_running();
    let pid = site.main_pid("burner");
    // It catches up with what the start has cost; a busy machine may have no time for it.
    for _ in 0..5 {
        let (used, begin) = (seconds_of_processor(pid), clock::monotonic());
        let ran = verb(&site, &["ps", "--json", "--interval", "2s"]);
        let passed = clock::monotonic().since(begin).as_secs_f64();
        let real = (seconds_of_processor(pid) - used) / passed * 100.0;
        let document = json(&ran.out);
        let share = |name: &str| {
            let all = document["processes"].as_array().unwrap();
            let one = all.iter().find(|one| one["program"] == name).unwrap();
            one["cpu_percent"].as_f64().unwrap()
        };
        let shown = share("burner");
        assert!(share("sleeper") < 1.0, "{document}");
        assert!((shown - real).abs() < 5.0 + 0.1 * real, "{real} {document}");
        if (45.0..=55.0).contains(&shown) {
            break;
        }
    }
    // The status counts from the start.
    let status = verb(&site, &["status", "burner"]).out;
    let cpu = status.lines().find(|line| line.contains("CPU: ")).unwrap();
    let shown: f64 = cpu.split(['(', '%']).nth(1).unwrap().parse().unwrap();
    let uptime = site.program("burner").uptime_s.unwrap();
    let real = seconds_of_processor(pid) / uptime * 100.0;
    assert!(real > 5.0 && (shown - real).abs() < 5.0, "{real} {status}");
    assert_eq!(site.end(), 0);
}

/// Resident memory as /proc says it, in MiB.
fn resident(pid: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let row = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    row.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

#[test]
fn the_page_of_a_program_and_the_list_show_what_proc_shows_of_each_process() {
    let python = "  robot: {command: [python3, -c, \"import subprocess\\nx = bytearray(30 << 20)\\n\
                  subprocess.run(['sleep', '1000'])\", --headless]}";
    let mut site = Plan::new(python).start();
    site.all_running();
    until("both are there", || listed(&site, &[]).iter().any(|one| one["name"] == "sleep"));
    let main = site.main_pid("robot").to_string();
    let page = verb(&site, &["status", "robot"]).out;
    assert!(page.contains("   Processes: 2\n"), "{page}");
    let lines: Vec<&str> = page.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| line.starts_with(&format!("MAIN {main}: "))).unwrap();
    assert!(lines[at].contains("% cpu, "), "{page}");
    assert!(lines[at + 1].contains("python3 -c ") && lines[at + 1].ends_with(" --headless"));
    assert!(lines[at + 2].starts_with("ACTIVE ") && lines[at + 3] == "sleep 1000", "{page}");
    let shown = |line: &str| -> f64 {
        line.split("cpu, ").nth(1).unwrap().trim_end_matches(" MiB").parse().unwrap()
    };
    assert!((shown(lines[at]) - resident(&main)).abs() < 1.0, "{page}");
    assert!(shown(lines[at]) > 30.0, "{page}");
    for one in listed(&site, &[]) {
        let pid = one["pid"].to_string();
        let bytes = u32::try_from(one["memory_bytes"].as_u64().unwrap()).unwrap();
        assert!((f64::from(bytes) / 1_048_576.0 - resident(&pid)).abs() < 1.0, "{one}");
    }
    assert_eq!(site.end(), 0);
}

#[test]
fn they_can_be_watched() {
    let mut site = Plan::new(SCATTERS).start();
    site.all_running();
    let mut watch = command(&site, &["ps", "--watch", "--interval", "100ms", "--json", "other"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let lines = super::lines::Lines::read(watch.stdout.take().unwrap());
    until("three times", || lines.all().len() >= 3);
    for line in lines.all() {
        assert_eq!(json(&line)["processes"][0]["program"], "other", "{line}");
    }
    assert_eq!(site.end(), 0);
    assert_eq!(watch.wait().unwrap().code(), Some(1), "its supervisor is gone");
}
