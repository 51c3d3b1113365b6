//! What the tests ask of the host: locks, processes, rights.

use std::{fs, path::Path};

/// Whether nobody holds the lock (or it is gone).
pub(crate) fn lock_is_free(path: &Path) -> bool {
    use nix::fcntl::{Flock, FlockArg};
    let lock = |file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok();
    fs::File::open(path).map_or(true, lock)
}

/// Live processes whose environment has this marker.
pub(crate) fn pids_with(mark: &str) -> Vec<i32> {
    let needle = format!("E2E_MARK={mark}");
    let meant = |pid: &i32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == needle.as_bytes()))
    };
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(meant).collect()
}

/// The same, in words.
pub(crate) fn processes(mark: &str) -> Vec<String> {
    let words = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " "))
    };
    pids_with(mark).iter().map(words).collect()
}

/// Whether the slow and thorough version was asked for.
pub(crate) fn full() -> bool {
    std::env::var_os("TESTS_FULL").is_some_and(|value| value == "1")
}

/// Says why a test does nothing.
pub(crate) fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
