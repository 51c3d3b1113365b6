//! A supervisor under measurement: ours, the C loop, or dinit where it is installed.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        signal::{Signal, kill},
        time::TimeValLike as _,
    },
    unistd::Pid,
};

use crate::{
    Place, dinit,
    site::{self, Shape},
    stamps::{Stamps, ms, now, wait_until},
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Ours,
    Limit,
    Dinit,
}

/// A running one, with all its programs up.
pub(crate) struct Contender {
    child: Child,
    pub(crate) stamps: Stamps,
    /// From before it was started until the last program ran, in ms.
    pub(crate) launch: f64,
    count: usize,
    // Removed last.
    _dir: (tempfile::TempDir, tempfile::TempDir),
}

impl Contender {
    /// Starts `count` programs and waits until all of them run.
    pub(crate) fn start(place: &Place, who: Who, count: usize, shape: Shape) -> Self {
        let dir = tempfile::tempdir_in(place.dir.path()).unwrap();
        let shared = tempfile::tempdir_in(place.shared.path()).unwrap();
        let stamps = Stamps::new(shared.path(), count);
        let errors = fs::File::create(dir.path().join("errors")).unwrap();
        let mut command = match who {
            Who::Ours => {
                let path = site::write(dir.path(), &place.probe(), stamps.path(), count, shape);
                let mut command = Command::new(env!("CARGO_BIN_EXE_supervisor"));
                command.arg("-c").arg(path);
                command
            }
            Who::Limit => {
                let mut command = Command::new(place.limit());
                command.arg(place.probe()).arg(stamps.path()).arg(count.to_string());
                command.args((shape == Shape::Chain).then_some("chain"));
                command
            }
            Who::Dinit => {
                let path = dinit::write(dir.path(), &place.probe(), stamps.path(), count, shape);
                let mut command = Command::new("dinit");
                command.arg("--user").arg("--quiet").arg("--services-dir").arg(path);
                command.arg("--socket-path").arg(dir.path().join("socket"));
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let begin = now();
        let mut child = command.spawn().unwrap();
        let up = || {
            if let Some(status) = child.try_wait().unwrap() {
                let why = fs::read_to_string(dir.path().join("errors")).unwrap();
                panic!("the supervisor ended with {status}:\n{why}");
            }
            stamps.total() >= count
        };
        wait_until("the site to come up", up);
        let launch = ms(begin, stamps.latest());
        Self { child, stamps, launch, count, _dir: (dir, shared) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL to all programs at once, until each runs again: wall in ms.
    pub(crate) fn kill_all(&self) -> f64 {
        let (before, total) = (self.stamps.all(), self.stamps.total());
        let begin = now();
        for stamp in &before {
            kill(Pid::from_raw(stamp.pid), Signal::SIGKILL).unwrap();
        }
        self.stamps.wait_for_total(total + self.count);
        ms(begin, self.stamps.latest())
    }

    /// SIGTERM, until it is gone: wall and processor time, its own and its programs', in ms.
    pub(crate) fn stop(mut self) -> (f64, f64) {
        let (cpu, begin) = (cpu_of_children(), now());
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
        (ms(begin, now()), cpu_of_children() - cpu)
    }

    /// Processor time of all its threads in ms.
    pub(crate) fn cpu(&self) -> f64 {
        let ran = |text: String| text.split(' ').next().unwrap().parse::<u64>().unwrap();
        tasks(self.pid(), "schedstat").into_iter().map(ran).sum::<u64>() as f64 / 1e6
    }

    /// How often its threads were switched to another, of their own will or not.
    pub(crate) fn switches(&self) -> u64 {
        let counts = |text: String| -> u64 {
            let lines = text.lines().filter(|line| line.contains("ctxt_switches:"));
            lines.map(|line| line.rsplit('\t').next().unwrap().parse::<u64>().unwrap()).sum()
        };
        tasks(self.pid(), "status").into_iter().map(counts).sum()
    }

    /// Waits until it has nothing left to do.
    pub(crate) fn settle(&self) {
        let mut before = u64::MAX;
        wait_until("quiet", || {
            thread::sleep(Duration::from_millis(200));
            let now = self.switches();
            std::mem::replace(&mut before, now) == now
        });
    }

    /// Proportional set size in KiB.
    pub(crate) fn pss(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
            kill(pid, Signal::SIGTERM).ok();
            self.child.wait().ok();
        }
    }
}

fn tasks(pid: u32, file: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.map(|thread| fs::read_to_string(thread.unwrap().path().join(file)).unwrap()).collect()
}

fn cpu_of_children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e3
}
