//! From a signal to its being known, and how often a signaller fails because he is watched: ours
//! beside a watcher that looks every 5 s, and one that does nothing but `flock -n`.
//!
//! `cargo bench --bench semaphores [-- SIGNALS ATTEMPTS]`; as root also in a PID namespace.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "a measurement, not a part of the product"
)]

mod watchers;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use mini_supervisor::model::Instant;

use self::watchers::{Watcher, Who};

const PYTHON: &str = "
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o644)
fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
print('held', flush=True)
sys.stdin.read()
";
const SHELL: &str = "exec 9>\"$0\"; flock -n 9 || exit 1; echo held; read x";
const BELOW: &str = "exec flock -n \"$0\" sh -c 'echo held; read x'";
/// Upper ends of the columns, in microseconds.
const COLUMNS: [u64; 9] = [250, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000];

/// The compiled helpers, the lock, and when it was taken.
struct Place {
    tools: tempfile::TempDir,
    /// In memory, as in life.
    locks: tempfile::TempDir,
    stamps: tempfile::NamedTempFile,
}

impl Place {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        Self {
            tools: tempfile::tempdir().unwrap(),
            locks: tempfile::tempdir_in(memory).unwrap(),
            stamps: tempfile::NamedTempFile::new_in(memory).unwrap(),
        }
    }

    fn lock(&self) -> PathBuf {
        self.locks.path().join("lock")
    }

    fn tool(&self, name: &str) -> PathBuf {
        self.tools.path().join(name)
    }

    /// Compiles the helpers; false without a C compiler.
    fn compile(&self) -> bool {
        let tools: [(&str, &str, &[&str]); 2] = [
            ("signaller", include_str!("signaller.c"), &[]),
            ("stamp", include_str!("stamp.c"), &["-shared", "-fPIC"]),
        ];
        tools.iter().all(|(name, text, options)| {
            let source = self.tool(&format!("{name}.c"));
            fs::write(&source, text).unwrap();
            let mut cc = Command::new("cc");
            cc.args(["-O2"]).args(*options).arg("-o").arg(self.tool(name)).arg(&source);
            cc.arg("-ldl").status().is_ok_and(|status| status.success())
        })
    }

    /// Every kind of signaller; the path of the lock is its last argument.
    fn signallers(&self) -> [(&'static str, Vec<String>); 5] {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let tool = self.tool("signaller").to_str().unwrap().to_owned();
        [
            ("C", words(&[&tool, "hold"])),
            ("flock f cmd", words(&["sh", "-c", BELOW])),
            ("exec 9>f; flock 9", words(&["sh", "-c", SHELL])),
            ("python", words(&["python3", "-c", PYTHON])),
            ("forked, exited", words(&[&tool, "fork"])),
        ]
    }

    /// From the lock's being had to the watcher's knowing it; `None`: it was not had.
    fn signal(&self, words: &[String], watcher: &Watcher) -> Option<Duration> {
        fs::write(self.stamps.path(), "").unwrap();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(self.lock());
        command.env("LD_PRELOAD", self.tool("stamp")).env("STAMPS", self.stamps.path());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let known = (line == "held\n").then(|| watcher.wait_for(true));
        drop(child.stdin.take());
        child.wait().unwrap();
        // Whoever was forked is gone, too.
        out.read_to_string(&mut line).unwrap();
        let known = known?;
        watcher.wait_for(false);
        let stamps = fs::read(self.stamps.path()).unwrap();
        let taken = Instant(u64::from_ne_bytes(stamps[..8].try_into().unwrap()));
        Some(known.since(taken))
    }

    /// How many of so many attempts to lock were in vain.
    fn failures(&self, who: Who, attempts: usize) -> usize {
        let _watcher = Watcher::start(who, &self.lock());
        let mut command = Command::new(self.tool("signaller"));
        command.args(["loop", &attempts.to_string()]).arg(self.lock());
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        said.trim().parse().unwrap()
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = words.iter().filter_map(|word| word.parse().ok());
    let signals: usize = numbers.next().unwrap_or(300);
    let attempts: usize = numbers.next().unwrap_or(20_000);
    let is_inside = words.iter().any(|word| word == "--inside");
    let place = Place::new();
    if !place.compile() {
        println!("skipped: no C compiler `cc`");
        return;
    }
    println!("{}", if is_inside { "in a PID namespace:" } else { "in the first PID namespace:" });
    latencies(&place, signals);
    collisions(&place, attempts);
    if !is_inside && nix::unistd::geteuid().is_root() {
        let mut command = Command::new("unshare");
        command.args(["-pf", "--mount-proc", "--"]).arg(std::env::current_exe().unwrap());
        command.args([signals.to_string(), attempts.to_string(), "--inside".to_owned()]);
        command.status().unwrap();
    }
}

fn latencies(place: &Place, signals: usize) {
    print!("{:<20} {:<18} {:>9} {:>9} {:>9}  ", "watcher", "signaller", "p50", "p99", "most");
    let ends = COLUMNS.map(|end| format!("{:>6}", format!("<{}", end as f64 / 1000.0)));
    println!("{}   more  (ms)", ends.join(""));
    for who in [Who::Ours, Who::Poll, Who::Loop] {
        let watcher = Watcher::start(who, &place.lock());
        let signallers = place.signallers();
        let mut waits = vec![Vec::new(); signallers.len()];
        // In turns, so that noise meets all of them; the others are known by a few.
        let times = if who == Who::Ours { signals } else { 2 };
        for _ in 0..times {
            for ((_, words), waits) in signallers.iter().zip(&mut waits) {
                // One that meets the watcher tries again.
                waits.extend((0..1000).find_map(|_| place.signal(words, &watcher)));
            }
        }
        for ((name, _), waits) in signallers.iter().zip(waits) {
            row(who.name(), name, waits);
        }
    }
}

fn row(who: &str, signaller: &str, mut waits: Vec<Duration>) {
    waits.sort();
    let ms = |wait: Duration| format!("{:.2} ms", wait.as_secs_f64() * 1000.0);
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share).round() as usize];
    print!("{who:<20} {signaller:<18} {:>9} {:>9} {:>9}  ", ms(at(0.5)), ms(at(0.99)), ms(at(1.0)));
    let mut columns = [0; COLUMNS.len() + 1];
    for wait in &waits {
        let column = COLUMNS.iter().position(|end| wait.as_micros() < u128::from(*end));
        columns[column.unwrap_or(COLUMNS.len())] += 1;
    }
    println!("{}", columns.map(|count| format!("{count:>6}")).join(""));
}

fn collisions(place: &Place, attempts: usize) {
    println!(
        "{:<20} {:>9} {:>9}  locks not had because of the watcher",
        "watcher", "attempts", "in vain"
    );
    for who in [Who::Ours, Who::Poll, Who::Loop] {
        println!("{:<20} {attempts:>9} {:>9}", who.name(), place.failures(who, attempts));
    }
}
