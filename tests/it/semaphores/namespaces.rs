//! A holder that we cannot see, in another PID namespace.

use std::path::PathBuf;

use mini_supervisor::model::{Level, LockProbe, Watched};

use super::{Bench, SOON, Signaller, watched};
use crate::{
    e2e::harness::is_root,
    sys_world::{NAMESPACE, again_below},
};

/// Runs the test again in a namespace, while somebody outside holds the lock; inside, its path.
fn while_it_is_held_outside(test: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("LOCK") {
        return Some(path.into());
    }
    if is_root() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("lock");
        let _outside = Signaller::python(&path);
        let wrapper = format!("env LOCK={} {NAMESPACE}", path.display());
        let exit = again_below(&wrapper, test);
        assert_eq!(exit, Some(mini_supervisor::model::Exit::Code(0)));
    }
    None
}

#[test]
fn a_holder_outside_is_seen_and_not_named() {
    let test = "semaphores::namespaces::a_holder_outside_is_seen_and_not_named";
    let Some(path) = while_it_is_held_outside(test) else { return };
    let bench = Bench::idle();
    bench.watch(watched(&path));
    let (reading, _) = bench.raised();
    let Level::Raised { holders, .. } = reading.level else { unreachable!() };
    assert_eq!(holders, []);
}

#[test]
fn who_never_tries_the_lock_does_not_see_a_holder_outside() {
    let test = "semaphores::namespaces::who_never_tries_the_lock_does_not_see_a_holder_outside";
    let Some(path) = while_it_is_held_outside(test) else { return };
    let bench = Bench::idle();
    bench.watch(Watched { probe: LockProbe::ProcLocks, ..watched(&path) });
    bench.clear();
    bench.handle.look(super::name());
    bench.clear();
    assert!(bench.told.recv_timeout(SOON / 20).is_err());
    // One that is inside is seen.
    bench.watch(Watched { probe: LockProbe::ProcLocks, ..bench.lock() });
    bench.clear();
    let _inside = Signaller::python(&bench.path("lock"));
    bench.raised();
}
