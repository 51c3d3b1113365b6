//! A file system whose server is gone, between fork and exec of a program.

use std::{
    fs,
    os::fd::AsRawFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use mini_supervisor::control::{Change, Reply, Request, StateWord};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::signal::Signal,
};

use super::harness::{PATIENCE, Plan, Site, change, skip};

/// Mounts on `dir` a file system that never answers; only this thread and its children see it.
/// It ends with the file.
fn mount_dead(dir: &Path) -> std::io::Result<fs::File> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    fs::create_dir(dir)?;
    let server = fs::File::options().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
    mount(Some("dead"), dir, Some("fuse"), MsFlags::empty(), Some(options.as_str()))?;
    Ok(server)
}

/// The dead file system; gone when this is, whatever came of the test.
struct Dead {
    dir: std::path::PathBuf,
    /// Its end answers all who wait.
    server: Option<fs::File>,
}

impl Drop for Dead {
    fn drop(&mut self) {
        umount2(&self.dir, MntFlags::MNT_DETACH).ok();
        drop(self.server.take());
    }
}

/// Runs `test` on a site with the programs, where nobody answers below `DIR/dead`.
fn with_dead_mount(programs: &'static str, test: impl FnOnce(&mut Site) + Send + 'static) {
    let work = move || {
        let plan = Plan::new(programs);
        let dir = plan.path("dead");
        let server = match mount_dead(&dir) {
            Ok(server) => Some(server),
            Err(why) => return skip(&format!("cannot mount a dead file system: {why}")),
        };
        let mut site = plan.start();
        // Made after the site, so that it goes before: the site's directory is removed through it.
        let dead = Dead { dir, server };
        test(&mut site);
        drop(dead);
        assert_eq!(site.end_by_itself(), 0);
    };
    thread::Builder::new().spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_start_that_hangs_before_its_exec_fails_in_time_and_says_where() {
    let programs = "  inside: {command: ['true'], working_directory: DIR/dead, start_timeout: 1s, restart: {policy: never}}\n  \
        stored: {command: [DIR/dead/x], start_timeout: 1s, restart: {policy: never}}\n  \
        missing: {command: [DIR/nothing], restart: {policy: never}}\n  \
        other: {command: [sleep, '1000']}\n  \
        after: {command: [sleep, '1000'], after: [inside]}";
    with_dead_mount(programs, |site| {
        let began = Instant::now();
        site.wait_state("other", StateWord::Running);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        for (name, at) in [("inside", "entering directory "), ("stored", "executing ")] {
            let status = site.wait_state(name, StateWord::Fatal);
            let text = format!("no exec within 1s (killed while {at}");
            assert!(status.reason.contains(&text), "{status:?}");
            assert!(status.reason.contains("/dead"), "{status:?}");
        }
        let missing = site.wait_state("missing", StateWord::Fatal);
        assert!(missing.reason.contains("/nothing: No such file"), "{missing:?}");
        site.wait_state("after", StateWord::Running);
        site.signal(Signal::SIGTERM);
    });
}

#[test]
fn a_stop_ends_a_start_that_hangs_before_its_exec_at_once() {
    // Nothing is there yet that could act on SIGTERM, so its time is not waited for.
    let programs = "  inside: {command: ['true'], working_directory: DIR/dead, start_timeout: none, stop: {timeout: 1h}}";
    with_dead_mount(programs, |site| {
        site.wait_state("inside", StateWord::Starting);
        let outcome = site.bring_down(&["inside"]);
        assert!(outcome.programs[0].ok, "{outcome:?}");
        let start = Change { no_wait: true, ..change(&["inside"]) };
        site.ask(&Request::Start(start));
        site.wait_state("inside", StateWord::Starting);
        let force = Change { force: true, ..change(&["inside"]) };
        match site.ask(&Request::Stop(force)) {
            Reply::Outcome(outcome) => assert!(outcome.programs[0].ok, "{outcome:?}"),
            other => panic!("no outcome: {other:?}"),
        }
        site.signal(Signal::SIGTERM);
    });
}

#[test]
fn a_shutdown_ends_a_start_that_hangs_before_its_exec() {
    let programs =
        "  inside: {command: ['true'], working_directory: DIR/dead, stop: {timeout: 1h}}";
    with_dead_mount(programs, |site| {
        site.wait_state("inside", StateWord::Starting);
        let began = Instant::now();
        site.signal(Signal::SIGTERM);
        site.stderr.wait_for("the stop", |line| line.contains("stopping the site"));
        site.signal(Signal::SIGTERM);
        site.code();
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    });
}
