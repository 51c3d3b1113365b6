//! Signallers of several languages, in this PID namespace and in one of their own.

use std::fs::File;

use mini_supervisor::model::{Holder, Level, Reading};

use super::{Bench, PYTHON, Signaller};
use crate::{
    e2e::harness::is_root,
    sys_world::{NAMESPACE, is_inside},
};

const SHELL: &str = "exec 9>\"$0\"; flock -n 9 || exit 1; echo held; read x";
const BELOW: &str = "flock -n \"$0\" sh -c 'echo held; read x'";
const PERL: &str = "
use Fcntl ':flock';
open(my $file, '>>', $ARGV[0]) or die; flock($file, LOCK_EX | LOCK_NB) or die;
$| = 1; print \"held\\n\"; <STDIN>;
";
const C: &str = "
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char byte;
    int fd = open(argv[1], O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) return 1;
    puts(\"held\");
    fflush(stdout);
    return read(0, &byte, 1) < 0;
}
";
const FORKED: &str = "
import os, fcntl, sys, time
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o644)
fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
at = time.monotonic_ns()
if os.fork():
    os._exit(0)
while os.getppid() == int(sys.argv[2] if len(sys.argv) > 2 else -1):
    pass
print(at, flush=True)
sys.stdin.read()
";

fn holders(reading: &Reading) -> &[Holder] {
    match &reading.level {
        Level::Raised { holders, .. } => holders,
        other => panic!("{other:?}"),
    }
}

/// Each of the signallers raises it, and it is clear when that is gone; prints how long it took.
fn all_signallers_are_seen(rounds: u32) {
    let place = tempfile::tempdir().unwrap();
    let compiled = super::compiled(C, &place.path().join("signaller"));
    let c: &[&str] = &compiled.as_deref().into_iter().collect::<Vec<_>>();
    let kinds: [(&str, &[&str]); 6] = [
        ("C", c),
        ("python", &["python3", "-c", PYTHON]),
        ("exec 9>f; flock 9", &["sh", "-c", SHELL]),
        ("flock f cmd", &["sh", "-c", BELOW]),
        ("perl", &["perl", "-e", PERL]),
        ("forked and exited", &["python3", "-c", FORKED]),
    ];
    for (kind, words) in kinds.into_iter().filter(|(_, words)| !words.is_empty()) {
        let bench = Bench::new();
        bench.clear();
        let mut waits = Vec::new();
        for _ in 0..rounds {
            let (signaller, at) = Signaller::new(words, &bench.path("lock"));
            let (reading, seen) = bench.raised();
            waits.push(seen.since(at));
            for holder in holders(&reading) {
                assert_eq!(holder.uids, [0; 4]);
                assert!(!holder.command.is_empty() && holder.start_time > 0, "{holder:?}");
            }
            drop(signaller);
            bench.clear();
        }
        waits.sort();
        println!("{kind}: median {:?}, slowest {:?}", waits[waits.len() / 2], waits.last());
    }
}

#[test]
fn signallers_of_every_kind_are_seen() {
    if is_root() {
        all_signallers_are_seen(10);
    }
}

#[test]
fn in_a_pid_namespace_signallers_of_every_kind_are_seen() {
    let test = "semaphores::signallers::in_a_pid_namespace_signallers_of_every_kind_are_seen";
    if is_root() && is_inside(NAMESPACE, test) {
        all_signallers_are_seen(5);
    }
}

#[test]
fn the_holder_is_named_with_all_its_users_and_groups() {
    let bench = Bench::new();
    let signaller = Signaller::python(&bench.path("lock"));
    let (reading, _) = bench.raised();
    let [holder] = holders(&reading) else { panic!("{reading:?}") };
    assert_eq!(holder.pid, signaller.pid());
    assert_eq!(holder.uids, [nix::unistd::getuid().as_raw(); 4]);
    assert!(holder.gids.starts_with(&[nix::unistd::getgid().as_raw(); 4]), "{holder:?}");
    assert!(holder.command.contains("python3 -c \\nimport os"), "{holder:?}");
    assert_eq!(holder.command.chars().count(), 200);
}

#[test]
fn when_who_took_the_lock_is_gone_those_are_named_that_inherited_it() {
    let bench = Bench::new();
    let (signaller, _) = Signaller::new(&["python3", "-c", FORKED], &bench.path("lock"));
    let (mut reading, _) = bench.raised();
    // The parent may have been looked at in its last moment.
    while holders(&reading).iter().any(|holder| holder.pid == signaller.pid()) {
        reading = bench.raised().0;
    }
    let [holder] = holders(&reading) else { panic!("{reading:?}") };
    assert!(holder.command.contains("python3"), "{holder:?}");
}

#[test]
fn a_lock_that_is_given_back_without_a_close_is_clear() {
    let bench = Bench::new();
    bench.clear();
    let script = PYTHON.replace(
        "sys.stdin.read()",
        "sys.stdin.readline(); fcntl.flock(fd, fcntl.LOCK_UN); sys.stdin.read()",
    );
    let words = ["python3", "-c", &script];
    let (mut signaller, _) = Signaller::new(&words, &bench.path("lock"));
    bench.raised();
    std::io::Write::write_all(signaller.0.stdin.as_mut().unwrap(), b"\n").unwrap();
    bench.clear();
}

#[test]
fn who_shares_the_lock_asks_for_nothing() {
    let bench = Bench::new();
    bench.clear();
    let script = PYTHON.replace("LOCK_EX", "LOCK_SH");
    let (_signaller, _) = Signaller::new(&["python3", "-c", &script], &bench.path("lock"));
    bench.handle.look(super::name());
    let (reading, _) = bench.until(|level| matches!(level, Level::Clear));
    assert_eq!(reading.level, Level::Clear);
    assert!(bench.told.recv_timeout(std::time::Duration::from_millis(300)).is_err());
}

#[test]
fn a_lock_that_is_held_at_the_start_is_raised() {
    let bench = Bench::idle();
    let _signaller = Signaller::python(&bench.path("lock"));
    bench.watch(bench.lock());
    assert!(matches!(bench.next().0.level, Level::Raised { .. }));
}

#[test]
fn who_opens_long_before_he_locks_is_seen() {
    let bench = Bench::new();
    bench.clear();
    File::create(bench.path("lock")).unwrap();
    let script = PYTHON.replace("fcntl.flock(", "time.sleep(7)\nfcntl.flock(");
    let (_signaller, _) = Signaller::new(&["python3", "-c", &script], &bench.path("lock"));
    bench.raised();
}
