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
fn many_reloads_leave_no_descriptor_behind() {
    let text = programs("  x: {command: [sleep, '1000']}");
    let mut site = Plan::new(&text).start();
    let count = |site: &Site| std::fs::read_dir(format!("/proc/{}/fd", site.pid)).unwrap().count();
    site.all_running();
    site.reload(&text);
    site.all_running();
    let before = count(&site);
    let rounds = if super::harness::full() { 1_000 } else { 20 };
    for round in 0..rounds {
        // The number of the round in a comment: the file is another one, the site is not.
        site.reload(&format!("{text}# {round}"));
    }
    assert_eq!(count(&site), before);
    assert_eq!(site.program("x").restarts, 0);
    assert_eq!(site.end(), 0);
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
