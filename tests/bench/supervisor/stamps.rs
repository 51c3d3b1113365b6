//! What the probes write down, in a file that all of them map.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

/// The last start of one probe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) at: u64,
    pub(crate) pid: i32,
    pub(crate) starts: u64,
}

pub(crate) struct Stamps {
    path: PathBuf,
    file: File,
    count: usize,
}

/// `CLOCK_MONOTONIC` in nanoseconds, as the probes read it.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(now.tv_sec() * 1_000_000_000 + now.tv_nsec()).unwrap()
}

pub(crate) fn ms(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

/// Long enough for any measurement, so its end means that something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

impl Stamps {
    /// An empty file for `count` probes.
    pub(crate) fn new(dir: &Path, count: usize) -> Self {
        let path = dir.join("stamps");
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true);
        let file = file.open(&path).unwrap();
        file.set_len(u64::try_from(64 + 32 * count).unwrap()).unwrap();
        Self { path, file, count }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn word(&self, index: usize) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, u64::try_from(index * 8).unwrap()).unwrap();
        u64::from_ne_bytes(bytes)
    }

    pub(crate) fn get(&self, index: usize) -> Stamp {
        let slot = 8 + 4 * index;
        let starts = self.word(slot + 2);
        let pid = i32::try_from(self.word(slot + 1)).unwrap();
        Stamp { at: self.word(slot), pid, starts }
    }

    pub(crate) fn all(&self) -> Vec<Stamp> {
        (0..self.count).map(|index| self.get(index)).collect()
    }

    /// When the last of them began to run.
    pub(crate) fn latest(&self) -> u64 {
        self.all().iter().map(|stamp| stamp.at).max().unwrap()
    }

    /// Waits until so many starts have been written down.
    pub(crate) fn wait_for_total(&self, total: usize) {
        wait_until("programs to start", || self.total() >= total);
    }

    /// How many starts have been written down.
    pub(crate) fn total(&self) -> usize {
        usize::try_from(self.word(0)).unwrap()
    }

    /// Waits for another start of this one.
    pub(crate) fn wait_for_next(&self, index: usize, before: Stamp) -> Stamp {
        wait_until("a program to start again", || self.get(index).starts > before.starts);
        self.get(index)
    }
}

/// Looks often, but leaves the processor to those that are measured.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "waited too long for {what}");
        thread::sleep(Duration::from_micros(200));
    }
}
