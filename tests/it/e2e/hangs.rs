//! A file system whose server is gone, between fork and exec of a program.

use std::{
    fs,
    io::{Read as _, Write as _},
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

use super::harness::{PATIENCE, Plan, Site, change, processes, skip};

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
        site.insist(site.pid);
        site.code();
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    });
}

/// Answers INIT, so that requests are sent, and takes one more, which nobody will answer: who waits
/// for it cannot even be killed (fuse(4)).
fn take_one_request(mut server: &fs::File) {
    let mut request = vec![0_u8; 1 << 17];
    let read = server.read(&mut request).unwrap();
    assert!(read >= 40, "{read}");
    // Length, no error, the unique number of the request; then struct fuse_init_out.
    let mut answer = Vec::new();
    answer.extend(80_u32.to_ne_bytes());
    answer.extend(0_i32.to_ne_bytes());
    answer.extend(&request[8..16]);
    answer.extend([7_u32, 31, 65536, 0].iter().flat_map(|word| word.to_ne_bytes()));
    answer.extend([16_u16, 12].iter().flat_map(|word| word.to_ne_bytes()));
    answer.extend([65536_u32, 1].iter().flat_map(|word| word.to_ne_bytes()));
    answer.resize(80, 0);
    server.write_all(&answer).unwrap();
    // A read takes a whole request.
    assert!(server.read(&mut request).unwrap() >= 40);
}

#[test]
fn a_process_that_nothing_can_end_does_not_hold_up_the_end_of_the_site() {
    let work = || {
        let plan = Plan::new("  stuck: {command: [cat, DIR/dead/x], stop: {timeout: 200ms}}\n  good: {command: [sleep, '1000']}")
            .supervisor("shutdown_timeout: 2s");
        let (dir, mark) = (plan.path("dead"), plan.mark());
        let server = match mount_dead(&dir) {
            Ok(server) => server,
            Err(why) => return skip(&format!("cannot mount a dead file system: {why}")),
        };
        let hand = server.try_clone().unwrap();
        let taken = thread::Builder::new().spawn(move || take_one_request(&hand)).unwrap();
        let mut site = plan.start();
        let dead = Dead { dir, server: Some(server) };
        taken.join().unwrap();
        site.signal(Signal::SIGTERM);
        let named = |line: &str| line.contains("given up, as SIGKILL does not end: stuck (pid ");
        site.stderr.wait_for("the survivor", named);
        assert_eq!(site.code(), 1);
        assert!(site.stderr.text().contains("good: stopped"));
        drop(dead);
        crate::sys_world::until("it can die", || processes(&mark).is_empty());
    };
    thread::Builder::new().spawn(work).unwrap().join().unwrap();
}

#[test]
fn what_nothing_can_end_after_its_supervisor_was_killed_is_not_started_a_second_time() {
    let work = || {
        let plan = Plan::new("  stuck: {command: [cat, DIR/dead/x], stop: {timeout: 200ms}}");
        let dir = plan.path("dead");
        let server = match mount_dead(&dir) {
            Ok(server) => server,
            Err(why) => return skip(&format!("cannot mount a dead file system: {why}")),
        };
        let hand = server.try_clone().unwrap();
        let taken = thread::Builder::new().spawn(move || take_one_request(&hand)).unwrap();
        let mut site = plan.start();
        let dead = Dead { dir, server: Some(server) };
        taken.join().unwrap();
        site.signal(Signal::SIGKILL);
        assert_eq!(site.code(), 137);
        let mut site = site.again_at_once();
        site.stderr.wait_for("the refusal", |line| {
            line.contains("cannot supervise: of the supervisor before this one, which was killed, ")
                && line.contains("1 process: cat (pid ")
                && line.contains("a second copy beside them is not started")
        });
        assert_eq!(site.code(), 1);
        assert!(!site.stderr.text().contains("stuck: started"), "{}", site.stderr.text());
        drop(dead);
        let mark = site.plan.mark();
        crate::sys_world::until("it can die", || processes(&mark).is_empty());
    };
    thread::Builder::new().spawn(work).unwrap().join().unwrap();
}
