//! The thread that looks at semaphores, with real signallers in several languages.
#![expect(clippy::disallowed_types, reason = "a test is outside of the product")]

mod blind;
mod chaos;
mod hostile;
mod namespaces;
mod places;
mod signallers;
mod unnoticed;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crossbeam_channel::{Receiver, unbounded};
use mini_supervisor::{
    daemon::semaphores::{SemaphoreHandle, Told, start},
    model::{Instant, Level, LockProbe, LogLevel, Mode, Name, Reading, SemaphoreKind, Watched},
    sys::clock,
};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);

/// A thread of its own, and what it has delivered and when.
struct Bench {
    handle: SemaphoreHandle,
    told: Receiver<(Told, Instant)>,
    dir: TempDir,
}

fn name() -> Name {
    Name::new("reboot").unwrap()
}

impl Bench {
    /// With nothing watched.
    fn idle() -> Self {
        let (tx, told) = unbounded();
        let deliver = move |t| tx.send((t, clock::monotonic())).unwrap_or(());
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        Self { handle: start(deliver).unwrap(), told, dir }
    }

    /// Which watches a lock in its directory.
    fn new() -> Self {
        let bench = Self::idle();
        bench.watch(bench.lock());
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn lock(&self) -> Watched {
        watched(&self.path("lock"))
    }

    fn watch(&self, what: Watched) {
        self.handle.watch(name(), what);
    }

    fn next(&self) -> (Reading, Instant) {
        loop {
            match self.told.recv_timeout(SOON).expect("a reading") {
                (Told::Seen((_, reading), _), at) => return (reading, at),
                // In a PID namespace it says that it may try the lock.
                (Told::Notice(LogLevel::Info, _), _) => {}
                (Told::Notice(_, text), _) => panic!("{text}"),
            }
        }
    }

    /// The first reading from now on whose level is such.
    fn until(&self, such: impl Fn(&Level) -> bool) -> (Reading, Instant) {
        loop {
            let (reading, at) = self.next();
            if such(&reading.level) {
                return (reading, at);
            }
        }
    }

    fn clear(&self) {
        self.until(|level| *level == Level::Clear);
    }

    fn raised(&self) -> (Reading, Instant) {
        self.until(|level| matches!(level, Level::Raised { .. }))
    }

    /// The alarm of something in its place that is no semaphore.
    fn foreign(&self) -> String {
        let (reading, _) = self.until(|level| matches!(level, Level::Foreign(_)));
        let Level::Foreign(why) = reading.level else { unreachable!() };
        why.to_string()
    }
}

fn watched(path: &Path) -> Watched {
    let keys = [("name", "Demandé par"), ("node_id", "Node ID"), ("timestamp", "Timestamp")];
    Watched {
        kind: SemaphoreKind::Flock,
        path: path.to_owned(),
        info_file: None,
        info_keys: keys.map(|(ours, theirs)| (ours.into(), theirs.into())).into(),
        poll_interval: Duration::from_secs(5),
        owner: None,
        mode: Mode(0o600),
        probe: LockProbe::Auto,
    }
}

/// The program that this C is, if there is a compiler.
fn compiled(source: &str, program: &Path) -> Option<String> {
    let file = program.with_extension("c");
    std::fs::write(&file, source).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test is outside of the product")]
    let mut cc = Command::new("cc");
    match cc.arg("-o").arg(program).arg(file).status() {
        Ok(status) => assert!(status.success()),
        Err(why) => {
            println!("skipped: there is no cc: {why}");
            return None;
        }
    }
    Some(program.to_str().unwrap().to_owned())
}

/// Who takes a lock and holds it until it is dropped.
struct Signaller(Child);

impl Signaller {
    /// Executes it, with the path behind its words; when it says that it holds the lock, also when
    /// it says so.
    fn new(words: &[&str], path: &Path) -> (Self, Instant) {
        #[expect(clippy::disallowed_methods, reason = "a test is outside of the product")]
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(words).arg(path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let at = line.trim().parse().map_or_else(|_| clock::monotonic(), Instant);
        assert!(!line.is_empty(), "{words:?} has not got the lock");
        (Self(child), at)
    }

    fn python(path: &Path) -> Self {
        Self::new(&["python3", "-c", PYTHON], path).0
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Signaller {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
        // Of one that forked, the child holds the other end until it is gone, too.
        let mut rest = Vec::new();
        self.0.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    }
}

/// As the bot does it; says when, on the clock of the watcher.
const PYTHON: &str = "
import os, fcntl, sys, time
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o644)
fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
print(time.monotonic_ns(), flush=True)
sys.stdin.read()
";
