//! Reading the file again: the smallest change, or none.

use mini_supervisor::control::{Difference, Refusal, RefusalCode, ReloadSite, Reply, Request};
use nix::sys::signal::Signal;

use super::harness::{Plan, Site, program};

fn programs(changed: &str) -> String {
    let one = |n| format!("  p{n}: {{command: [sleep, '100{n}']}}\n");
    format!("{}{changed}\n", (1..=4).map(one).collect::<String>())
}

fn difference(reply: Reply) -> Difference {
    match reply {
        Reply::Reloaded(difference) => *difference,
        other => panic!("not reloaded: {other:?}"),
    }
}

fn refusal(reply: Reply) -> Refusal {
    match reply {
        Reply::Error(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn pids(site: &mut Site) -> Vec<(String, Option<u32>)> {
    site.all_running().programs.iter().map(|one| (one.name.clone(), one.pid)).collect()
}

#[test]
fn only_what_changed_is_restarted() {
    let mut site = Plan::new(&programs("  five: {command: [sleep, '1005']}")).start();
    let before = pids(&mut site);
    let same = difference(site.reload(&programs("  five: {command: [sleep, '1005']}")));
    assert_eq!(same, Difference::default());
    assert_eq!(pids(&mut site), before);
    let one = difference(site.reload(&programs("  five: {command: [sleep, '1006']}")));
    assert_eq!(one.restarted, [("five".to_owned(), vec!["command".to_owned()])]);
    site.wait_for("the new one", |s| {
        let five = program(s, "five").pid;
        five.is_some() && five != before[0].1
    });
    let after = pids(&mut site);
    assert_eq!(after[1..], before[1..]);
    assert_ne!(after[0], before[0]);
    assert_eq!(site.end(), 0);
}

#[test]
fn programs_come_and_go_with_the_file() {
    let mut site = Plan::new(&programs("  old: {command: [sleep, '1005']}")).start();
    let before = pids(&mut site);
    let change = difference(site.reload(&programs("  new: {command: [sleep, '1006']}")));
    assert_eq!((change.added, change.removed), (vec!["new".into()], vec!["old".into()]));
    site.wait_for("old is gone", |s| s.programs.iter().all(|one| one.name != "old"));
    let after = pids(&mut site);
    assert_eq!(after.iter().find(|(name, _)| name == "p1"), before.iter().find(|(n, _)| n == "p1"));
    assert!(after.iter().any(|(name, pid)| name == "new" && pid.is_some()));
    assert_eq!(site.end(), 0);
}

#[test]
fn a_broken_file_changes_nothing_and_says_where() {
    let mut site = Plan::new(&programs("")).start();
    let before = pids(&mut site);
    let file = site.path("site.yaml").display().to_string();
    for (broken, line, word) in [
        ("  bad: {comand: [sleep, '1']}", 9, "comand"),
        ("  bad: {command: [sleep, '1'], requires: [nobody]}", 9, "nobody"),
        ("  bad: {command: [sleep, '1'], stop: {timeout: 10}}", 9, "10s"),
        ("  bad: [", 9, ""),
    ] {
        let refused = refusal(site.reload(&programs(broken)));
        assert_eq!(refused.code, RefusalCode::InvalidSite);
        let place = format!("{file}:{line}:");
        assert!(
            refused.message.contains(&place) || broken.ends_with('['),
            "no {place} in {}",
            refused.message
        );
        assert!(refused.message.contains(word), "{}", refused.message);
        assert_eq!(pids(&mut site), before);
    }
    std::fs::remove_file(site.path("site.yaml")).unwrap();
    let refused = refusal(site.ask(&Request::Reload(ReloadSite::default())));
    assert!(refused.message.contains("site.yaml"), "{}", refused.message);
    assert_eq!(pids(&mut site), before);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_half_written_file_never_takes_programs_away() {
    let text = programs("  last: {command: [sleep, '1005'], restart: {delay: 10ms}}");
    let mut site = Plan::new(&text).start();
    let before = pids(&mut site);
    let whole = site.plan.text(&text);
    let step = if super::harness::full() { 1 } else { 37 };
    for end in (0..whole.len()).step_by(step) {
        std::fs::write(site.path("site.yaml"), &whole[..end]).unwrap();
        match site.ask(&Request::Reload(ReloadSite { dry_run: true, ..ReloadSite::default() })) {
            Reply::Error(_) => {}
            // A prefix can be a good file with fewer programs; then it is not more than that.
            Reply::Reloaded(change) => assert!(change.added.is_empty(), "{end}: {change:?}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(pids(&mut site), before);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_reload_that_removes_most_programs_is_refused_unless_it_is_meant() {
    let mut site = Plan::new(&programs("")).start();
    let before = pids(&mut site);
    let refused = refusal(site.reload("  p1: {command: [sleep, '1001']}"));
    assert_eq!(refused.code, RefusalCode::Failed, "{refused:?}");
    assert_eq!(pids(&mut site), before);
    let meant = ReloadSite { allow_removal: true, ..ReloadSite::default() };
    let change = difference(site.ask(&Request::Reload(meant)));
    assert_eq!(change.removed.len(), 3);
    site.wait_for("one is left", |s| s.programs.len() == 1);
    assert_eq!(pids(&mut site)[0], before[0]);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let mut site = Plan::new(&programs("")).start();
    let before = pids(&mut site);
    site.plan.write(&programs("  new: {command: [sleep, '1006']}"));
    let ask = ReloadSite { dry_run: true, ..ReloadSite::default() };
    let change = difference(site.ask(&Request::Reload(ask)));
    assert!(change.dry_run);
    assert_eq!(change.added, ["new"]);
    assert_eq!(pids(&mut site), before);
    assert_eq!(site.end(), 0);
}

#[test]
fn reloads_in_any_state_of_a_program_end_well() {
    let flap =
        "  flap: {command: ['false'], restart: {delay: 20ms, jitter: 0%, start_limit: none}}\n";
    let deaf = "  deaf: {command: [DIR/deaf], stop: {timeout: 200ms}}\n";
    let with = |extra: &str| programs(extra);
    let mut site = Plan::new(&with(&format!("{flap}{deaf}")))
        .script("deaf", "trap '' TERM; while :; do sleep 0.05; done")
        .start();
    let before = site.main_pid("p1");
    for round in 0..12 {
        let extra = match round % 4 {
            0 => flap.to_owned(),
            1 => format!("{flap}{deaf}"),
            2 => format!("{}{deaf}", flap.replace("20ms", "10ms")),
            _ => deaf.replace("200ms", "100ms"),
        };
        site.plan.write(&with(&extra));
        site.signal(Signal::SIGHUP);
        difference(site.ask(&Request::Reload(ReloadSite::default())));
    }
    difference(site.reload(&with("")));
    site.wait_for("only the first four", |s| s.programs.len() == 4);
    assert_eq!(site.main_pid("p1"), before);
    site.reload(&with(flap));
    site.signal(Signal::SIGTERM);
    assert_eq!(site.end_by_itself(), 0);
}

#[test]
fn many_reloads_leave_nothing_behind_and_restart_only_what_changed() {
    let text = |n: u32| programs(&format!("  x: {{command: [sleep, '100{n}']}}"));
    let mut site = Plan::new(&text(0)).start();
    let fds = |site: &Site| std::fs::read_dir(format!("/proc/{}/fd", site.pid)).unwrap().count();
    let resident = |site: &Site| -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", site.pid)).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
    };
    let others = |site: &mut Site| -> Vec<_> {
        pids(site).into_iter().filter(|(name, _)| name != "x").collect()
    };
    site.all_running();
    site.reload(&text(1));
    let before = (fds(&site), others(&mut site));
    let kib = resident(&site);
    let rounds = if super::harness::full() { 1_000 } else { 20 };
    for round in 0..rounds {
        // Each other time it is another file, by the number of the round, but the same site.
        let n = round / 2 % 2;
        let change = difference(site.reload(&format!("{}# {round}", text(n))));
        let changed: Vec<_> = change.restarted.into_iter().map(|(name, _)| name).collect();
        let expected: &[&str] = if round % 2 == 0 { &["x"] } else { &[] };
        assert_eq!(changed, expected, "{round}");
        assert!(change.added.is_empty() && change.removed.is_empty());
    }
    assert_eq!((fds(&site), others(&mut site)), before);
    let grown = resident(&site).saturating_sub(kib);
    assert!(grown <= 2048, "{grown} KiB more after {rounds} reloads");
    assert_eq!(site.end(), 0);
}

#[test]
fn a_directory_that_is_deleted_below_the_supervisor_does_not_matter() {
    let script = "mkdir gone; cd gone; rmdir ../gone; exec \"$@\"";
    let text = programs("  five: {command: [sleep, '1005'], logging: {stdout: DIR/five.log}}");
    let mut site = Plan::new(&text).wrapped(&["bash", "-c", script, "bash"]).start();
    let before = pids(&mut site);
    assert!(
        std::fs::read_link(format!("/proc/{}/cwd", site.pid)).unwrap().ends_with("gone (deleted)")
    );
    // The file is gone too: nothing happens until somebody asks, and then nothing but an answer.
    let (file, aside) = (site.path("site.yaml"), site.path("aside"));
    std::fs::rename(&file, &aside).unwrap();
    refusal(site.ask(&Request::Reload(ReloadSite::default())));
    assert_eq!(pids(&mut site), before);
    std::fs::rename(&aside, &file).unwrap();
    let change = difference(site.reload(&format!("{text}  six: {{command: [sleep, '1006']}}\n")));
    assert_eq!(change.added, ["six"]);
    let after = pids(&mut site);
    assert_eq!(after.len(), before.len() + 1);
    site.restart(&["five"]);
    site.wait_for("five again", |s| {
        let (now, was) = (program(s, "five").pid, before.iter().find(|(name, _)| name == "five"));
        now.is_some() && was.is_some_and(|(_, old)| now != *old)
    });
    assert_eq!(site.end(), 0);
}

#[test]
fn a_term_during_a_reload_ends_everything_and_starts_nothing_new() {
    use super::client::Client;
    for round in 0..4 {
        let mut site = Plan::new(&programs("")).start();
        site.all_running();
        site.plan.write(&programs("  new: {command: [sleep, '1006']}"));
        // Reading takes a quarter of a second, in which the stop arrives.
        let mut other = Client::connect(&site.socket()).unwrap();
        other.send(&Request::Reload(ReloadSite::default())).unwrap();
        if round % 2 == 0 {
            site.signal(Signal::SIGHUP);
        }
        site.version();
        site.signal(Signal::SIGTERM);
        assert_eq!(site.end_by_itself(), 0);
        let log = site.stderr.text();
        let (_, after) = log.split_once("stopping the site").unwrap_or_else(|| panic!("{log}"));
        assert!(!after.contains("started (pid"), "{after}");
        assert!(!log.contains("new: "), "{log}");
    }
}

#[test]
fn a_site_file_that_is_no_file_is_refused_at_once() {
    use nix::{sys::stat::Mode, unistd::mkfifo};
    let mut site = Plan::new(&programs("")).start();
    let before = pids(&mut site);
    let path = site.path("site.yaml");
    std::fs::remove_file(&path).unwrap();
    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    refusal(site.ask(&Request::Reload(ReloadSite::default())));
    for target in ["/dev/zero", "/dev/null", "/", "site.yaml"] {
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(target, &path).unwrap();
        refusal(site.ask(&Request::Reload(ReloadSite::default())));
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    refusal(site.ask(&Request::Reload(ReloadSite::default())));
    assert_eq!(pids(&mut site), before);
    assert_eq!(site.end(), 0);
}
