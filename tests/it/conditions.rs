//! The thread that waits for conditions, with real files, sockets and networks.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests")]

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::{
        fs::symlink,
        net::{UnixDatagram, UnixListener},
    },
    path::Path,
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, unbounded};
use mini_supervisor::{
    daemon::conditions::{ConditionHandle, Met, start},
    model::Awaited,
    plan::ProgramId,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tempfile::{TempDir, tempdir};

const WEB: ProgramId = ProgramId(7);
const SOON: Duration = Duration::from_secs(20);

/// A thread of its own, and what it has delivered.
struct Bench {
    handle: ConditionHandle,
    met: Receiver<Met>,
}

impl Bench {
    fn new() -> Self {
        let (tx, met) = unbounded();
        Self { handle: start(move |m| tx.send(m).unwrap_or(())).unwrap(), met }
    }

    /// Waits for `what` as the condition `index` of the first attempt.
    fn awaits(&self, index: usize, what: Awaited) {
        self.handle.await_condition(WEB, 1, index, what);
    }

    fn delivers(&self, index: usize) {
        let met = self.met.recv_timeout(SOON).unwrap();
        assert_eq!(met, Met { program: WEB, attempt: 1, index });
    }

    /// Nothing of what was awaited so far has been delivered; seen when a later wait, for something
    /// that is true already, is answered first.
    fn delivers_nothing_yet(&self) {
        self.handle.await_condition(ProgramId(99), 1, 0, Awaited::File("/".into()));
        assert_eq!(self.met.recv_timeout(SOON).unwrap().program, ProgramId(99));
    }
}

fn file(dir: &TempDir, path: &str) -> Awaited {
    Awaited::File(dir.path().join(path))
}

/// Does what follows in a directory of its own, with a wait for `path` begun before.
fn a_file_comes(path: &str, how: impl FnOnce(&Path)) {
    let (bench, dir) = (Bench::new(), tempdir().unwrap());
    bench.awaits(0, file(&dir, path));
    bench.delivers_nothing_yet();
    how(dir.path());
    bench.delivers(0);
}

#[test]
fn what_is_true_already_is_delivered_at_once() {
    let (bench, dir) = (Bench::new(), tempdir().unwrap());
    File::create(dir.path().join("there")).unwrap();
    bench.awaits(0, file(&dir, "there"));
    bench.delivers(0);
    bench.awaits(1, file(&dir, ""));
    bench.delivers(1);
}

#[test]
fn a_file_that_is_created_later_is_delivered_once() {
    let (bench, dir) = (Bench::new(), tempdir().unwrap());
    bench.awaits(3, file(&dir, "flag"));
    bench.delivers_nothing_yet();
    File::create(dir.path().join("flag")).unwrap();
    bench.delivers(3);
    fs::remove_file(dir.path().join("flag")).unwrap();
    File::create(dir.path().join("flag")).unwrap();
    bench.delivers_nothing_yet();
}

#[test]
fn a_file_whose_directories_are_created_later_is_delivered() {
    a_file_comes("a/b/c/flag", |root| {
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        File::create(root.join("a/b/c/flag")).unwrap();
    });
}

#[test]
fn a_file_that_is_renamed_into_its_place_is_delivered() {
    a_file_comes("flag", |root| {
        File::create(root.join("flag.new")).unwrap();
        fs::rename(root.join("flag.new"), root.join("flag")).unwrap();
    });
}

#[test]
fn a_tree_that_is_renamed_into_its_place_is_delivered() {
    a_file_comes("a/b/flag", |root| {
        fs::create_dir_all(root.join("new/b")).unwrap();
        File::create(root.join("new/b/flag")).unwrap();
        fs::rename(root.join("new"), root.join("a")).unwrap();
    });
}

#[test]
fn a_directory_that_is_exchanged_above_the_file_is_noticed() {
    let (bench, dir) = (Bench::new(), tempdir().unwrap());
    let root = dir.path();
    fs::create_dir_all(root.join("app/data")).unwrap();
    fs::create_dir_all(root.join("next/data")).unwrap();
    File::create(root.join("next/data/flag")).unwrap();
    bench.awaits(0, file(&dir, "app/data/flag"));
    bench.delivers_nothing_yet();
    fs::rename(root.join("app"), root.join("old")).unwrap();
    fs::rename(root.join("next"), root.join("app")).unwrap();
    bench.delivers(0);
}

#[test]
fn a_link_that_is_switched_to_another_release_is_followed() {
    let (bench, dir) = (Bench::new(), tempdir().unwrap());
    let root = dir.path();
    fs::create_dir(root.join("release-1")).unwrap();
    fs::create_dir(root.join("release-2")).unwrap();
    File::create(root.join("release-2/flag")).unwrap();
    symlink("release-1", root.join("current")).unwrap();
    bench.awaits(0, file(&dir, "current/flag"));
    bench.delivers_nothing_yet();
    symlink("release-2", root.join("next")).unwrap();
    fs::rename(root.join("next"), root.join("current")).unwrap();
    bench.delivers(0);
}

#[test]
fn a_link_exists_when_what_it_leads_to_does() {
    let (bench, dir) = (Bench::new(), tempdir().unwrap());
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    symlink("elsewhere/target", dir.path().join("flag")).unwrap();
    bench.awaits(0, file(&dir, "flag"));
    bench.delivers_nothing_yet();
    File::create(dir.path().join("elsewhere/target")).unwrap();
    bench.delivers(0);
}

#[test]
fn a_directory_that_was_removed_and_made_again_is_watched_again() {
    let (bench, dir) = (Bench::new(), tempdir().unwrap());
    fs::create_dir(dir.path().join("a")).unwrap();
    bench.awaits(0, file(&dir, "a/flag"));
    bench.delivers_nothing_yet();
    fs::remove_dir(dir.path().join("a")).unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    bench.delivers_nothing_yet();
    File::create(dir.path().join("a/flag")).unwrap();
    bench.delivers(0);
}

#[test]
fn what_is_forgotten_is_not_delivered() {
    let (bench, dir) = (Bench::new(), tempdir().unwrap());
    bench.awaits(0, file(&dir, "flag"));
    bench.handle.forget(WEB);
    bench.delivers_nothing_yet();
    File::create(dir.path().join("flag")).unwrap();
    bench.delivers_nothing_yet();
}

#[test]
fn a_later_attempt_takes_the_place_of_an_earlier_one() {
    let (bench, dir) = (Bench::new(), tempdir().unwrap());
    bench.awaits(0, file(&dir, "flag"));
    bench.handle.await_condition(WEB, 2, 0, file(&dir, "flag"));
    bench.delivers_nothing_yet();
    File::create(dir.path().join("flag")).unwrap();
    let met = bench.met.recv_timeout(SOON).unwrap();
    assert_eq!(met, Met { program: WEB, attempt: 2, index: 0 });
    bench.delivers_nothing_yet();
}

#[test]
fn several_programs_wait_for_one_file() {
    let (bench, dir) = (Bench::new(), tempdir().unwrap());
    for program in (0..50).map(ProgramId) {
        bench.handle.await_condition(program, 1, 0, file(&dir, "flag"));
    }
    bench.delivers_nothing_yet();
    File::create(dir.path().join("flag")).unwrap();
    let mut all: Vec<u32> =
        (0..50).map(|_| bench.met.recv_timeout(SOON).unwrap().program.0).collect();
    all.sort_unstable();
    assert_eq!(all, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_unix_socket_is_true_when_somebody_listens() {
    let (bench, dir) = (Bench::new(), tempdir().unwrap());
    let path = dir.path().join("sock");
    // A socket that was left behind is there, but nobody listens.
    drop(UnixListener::bind(&path).unwrap());
    bench.awaits(0, Awaited::Socket(path.clone()));
    bench.delivers_nothing_yet();
    fs::remove_file(&path).unwrap();
    let _listener = UnixListener::bind(&path).unwrap();
    bench.delivers(0);
}

#[test]
fn a_datagram_socket_counts_too() {
    let (bench, dir) = (Bench::new(), tempdir().unwrap());
    let _log = UnixDatagram::bind(dir.path().join("log")).unwrap();
    bench.awaits(0, Awaited::Socket(dir.path().join("log")));
    bench.delivers(0);
}

#[test]
fn a_port_is_true_when_somebody_listens() {
    let bench = Bench::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bench.awaits(0, Awaited::Tcp(address.to_string().into()));
    bench.awaits(1, Awaited::Tcp(format!("localhost:{}", address.port()).into()));
    bench.delivers_nothing_yet();
    let _listener = TcpListener::bind(address).unwrap();
    let mut indexes = [(); 2].map(|()| bench.met.recv_timeout(SOON).unwrap().index);
    indexes.sort_unstable();
    assert_eq!(indexes, [0, 1]);
}

#[test]
fn a_name_that_nobody_knows_holds_up_nothing_else() {
    let (bench, dir) = (Bench::new(), tempdir().unwrap());
    bench.awaits(0, Awaited::Tcp("no-such-host.invalid:80".into()));
    bench.awaits(1, file(&dir, "flag"));
    File::create(dir.path().join("flag")).unwrap();
    bench.delivers(1);
}

/// Runs `body` in a thread with namespaces of its own; says why when that is not possible.
fn apart(flags: CloneFlags, body: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().spawn(move || match unshare(flags) {
        Ok(()) => body(),
        Err(errno) => eprintln!("skipped: no namespaces: {errno}"),
    });
    thread.unwrap().join().unwrap();
}

/// Runs a command in the namespaces of this thread; `false` when there is no such command.
#[expect(clippy::disallowed_methods, reason = "the test is no supervisor")]
fn run(words: &[&str]) -> bool {
    let (command, args) = words.split_first().unwrap();
    match std::process::Command::new(command).args(args).status() {
        Ok(status) => {
            assert!(status.success(), "{words:?}: {status}");
            true
        }
        Err(_) => false,
    }
}

#[test]
fn the_network_is_up_with_the_first_address_that_others_can_reach() {
    apart(CloneFlags::CLONE_NEWNET, || {
        let bench = Bench::new();
        bench.awaits(0, Awaited::Network);
        bench.delivers_nothing_yet();
        if !run(&["ip", "link", "set", "lo", "up"]) {
            eprintln!("skipped: no ip(8)");
            return;
        }
        bench.delivers_nothing_yet();
        run(&["ip", "link", "add", "name", "eth9", "type", "veth", "peer", "name", "eth8"]);
        run(&["ip", "link", "set", "eth9", "up"]);
        run(&["ip", "addr", "add", "192.0.2.7/24", "dev", "eth9"]);
        // An address, but no carrier.
        bench.delivers_nothing_yet();
        run(&["ip", "link", "set", "eth8", "up"]);
        bench.delivers(0);
        // And now it is true already.
        bench.awaits(1, Awaited::Network);
        bench.delivers(1);
        run(&["ip", "addr", "flush", "dev", "eth9"]);
        bench.awaits(2, Awaited::Network);
        bench.delivers_nothing_yet();
        run(&["ip", "addr", "add", "169.254.3.3/16", "dev", "eth9"]);
        bench.delivers_nothing_yet();
        // The kernel asks the neighbours for a second or two whether they have it already.
        run(&["ip", "addr", "add", "2001:db8::7/64", "dev", "eth9"]);
        bench.delivers_nothing_yet();
        bench.delivers(2);
    });
}

#[test]
fn a_file_on_a_file_system_that_is_mounted_later_is_delivered() {
    apart(CloneFlags::CLONE_NEWNS, || {
        let none = None::<&str>;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(none, "/", none, private, none).unwrap();
        let (bench, dir) = (Bench::new(), tempdir().unwrap());
        let (disk, point) = (dir.path().join("disk"), dir.path().join("mnt"));
        fs::create_dir(&disk).unwrap();
        fs::create_dir(&point).unwrap();
        File::create(disk.join("flag")).unwrap();
        bench.awaits(0, file(&dir, "mnt/flag"));
        bench.delivers_nothing_yet();
        mount(Some(&disk), &point, none, MsFlags::MS_BIND, none).unwrap();
        bench.delivers(0);
        nix::mount::umount(&point).unwrap();
    });
}

/// Set for the copy of this test that has no inotify.
const WITHOUT: &str = "CONDITIONS_TEST_WITHOUT_INOTIFY";

#[test]
fn without_inotify_files_are_looked_at_now_and_again() {
    if std::env::var_os(WITHOUT).is_some() {
        a_file_comes("flag", |root| drop(File::create(root.join("flag")).unwrap()));
        return;
    }
    let this = std::env::current_exe().unwrap();
    let name = "conditions::without_inotify_files_are_looked_at_now_and_again";
    let script = format!(
        "echo 0 > /proc/sys/user/max_inotify_instances || {{ echo skipped: no limit; exit 0; }}
         {WITHOUT}=1 exec '{}' --exact {name}",
        this.display()
    );
    if !run(&["unshare", "-Ur", "true"]) || !run(&["unshare", "-Ur", "sh", "-c", &script]) {
        eprintln!("skipped: no unshare(1)");
    }
}
