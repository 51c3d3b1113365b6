//! Who looks at the lock: ours, one that looks every 5 s, and one that does nothing else.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use mini_supervisor::{
    daemon::semaphores::{SemaphoreHandle, Told, start},
    model::{Instant, Level, Mode, Name, Probe, SemaphoreKind, Watched},
    sys::clock,
};

/// As the watcher of the first document does it: takes the lock, and lets go.
const POLL: &str = "
import fcntl, os, sys, time
was = None
while True:
    fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = False
    except BlockingIOError:
        held = True
    os.close(fd)
    if held != was:
        print('held' if held else 'clear', flush=True)
    was = held
    time.sleep(5)
";

const LOOP: &str = "
was=
while :; do
    if flock -n \"$0\" true; then now=clear; else now=held; fi
    [ $now = \"$was\" ] || echo $now
    was=$now
done
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Ours,
    Poll,
    Loop,
}

impl Who {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "supervisor",
            Self::Poll => "poll every 5 s",
            Self::Loop => "flock -n in a loop",
        }
    }
}

/// One that looks at a lock, until it is dropped.
pub(crate) struct Watcher {
    /// Raised or not, and when that was known.
    told: Receiver<(bool, Instant)>,
    _ours: Option<SemaphoreHandle>,
    other: Option<Child>,
}

impl Watcher {
    /// Which has seen that nobody holds it.
    pub(crate) fn start(who: Who, path: &Path) -> Self {
        let watcher = match who {
            Who::Ours => Self::ours(path),
            Who::Poll => Self::script(Command::new("python3").args(["-c", POLL]).arg(path)),
            Who::Loop => Self::script(Command::new("sh").args(["-c", LOOP]).arg(path)),
        };
        watcher.wait_for(false);
        watcher
    }

    fn ours(path: &Path) -> Self {
        let (tx, told) = channel();
        let handle = start(move |told| {
            if let Told::Seen((_, reading), _) = told {
                let raised = matches!(reading.level, Level::Raised { .. });
                tx.send((raised, clock::monotonic())).unwrap_or(());
            }
        });
        let handle = handle.unwrap();
        let watched = Watched {
            kind: SemaphoreKind::Flock,
            path: path.to_owned(),
            info_file: None,
            info_keys: std::collections::BTreeMap::new(),
            poll_interval: Duration::from_secs(5),
            owner: None,
            mode: Mode(0o600),
            probe: Probe::Auto,
        };
        handle.watch(Name::new("bench").unwrap(), watched);
        Self { told, _ours: Some(handle), other: None }
    }

    fn script(command: &mut Command) -> Self {
        let mut child = command.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tx, told) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                tx.send((line == "held", clock::monotonic())).unwrap_or(());
            }
        });
        Self { told, _ours: None, other: Some(child) }
    }

    /// When it knows that it is held, or that it is not.
    pub(crate) fn wait_for(&self, held: bool) -> Instant {
        loop {
            let (is, at) = self.told.recv_timeout(Duration::from_secs(30)).expect("a reading");
            if is == held {
                return at;
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(child) = &mut self.other {
            // With whoever it has started just now: a flock(1) that outlives it has the lock.
            killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
            child.wait().unwrap();
        }
    }
}
