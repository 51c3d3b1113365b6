//! Copies of a program that were started by hand: found by their arguments, and nobody else is.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test is outside of the product: it starts it"
)]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use mini_supervisor::{
    model::Signal,
    sys::{
        Pid,
        tree::{self, Copy},
    },
};

use crate::sys_world::{is_skipped_without_root, lives, until};

/// A word that no other process has among its arguments.
pub(crate) fn unique(name: &str) -> String {
    format!("{name}-{}.py", std::process::id())
}

/// Processes that nobody has below him but the init of this machine, gone with the value.
pub(crate) struct Strangers {
    pub(crate) pids: Vec<i32>,
    starter: Option<Child>,
}

impl Strangers {
    /// Started by a shell that has ended: `script` starts them in the background, and says their
    /// pids, one a line, with `echo $!`. `$1`, `$2` are `args`.
    pub(crate) fn new(script: &str, args: &[&str]) -> Self {
        Self::of(Command::new("sh").args(["-c", script, "sh"]).args(args))
    }

    fn of(command: &mut Command) -> Self {
        let mut shell = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(shell.stdout.take().unwrap());
        let lines = out.lines().map(Result::unwrap).take_while(|line| line != "all");
        let pids: Vec<i32> = lines.map(|line| line.parse().unwrap()).collect();
        shell.wait().unwrap();
        // Before its exec each has the arguments of the shell.
        for pid in pids.iter().filter_map(|pid| Pid::new(*pid)) {
            until("it executes", || tree::has_executed(pid));
        }
        Self { pids, starter: None }
    }

    /// A child of ours, which is no copy for us.
    fn child(words: &[&str]) -> Self {
        let [command, args @ ..] = words else { return Self { pids: Vec::new(), starter: None } };
        let child = Command::new(command).args(args).stdout(Stdio::null()).spawn().unwrap();
        let pids = vec![i32::try_from(child.id()).unwrap()];
        Self { pids, starter: Some(child) }
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        for pid in &self.pids {
            if let Some(one) = Pid::new(*pid).and_then(tree::process) {
                one.signal(Signal::KILL);
            }
        }
        if let Some(child) = &mut self.starter {
            child.wait().ok();
        }
    }
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn found(word: &str, uid: u32) -> Vec<Copy> {
    tree::copies(word, uid).unwrap()
}

fn pids(copies: &[Copy]) -> Vec<i32> {
    copies.iter().map(|one| one.process.pid.raw()).collect()
}

/// Sleeps, with these arguments behind it.
const SLEEPERS: &str = r#"
    for arg; do perl -e 'sleep 300' "$arg" </dev/null >/dev/null 2>&1 & echo $!; done; echo all"#;

#[test]
fn a_copy_is_found_by_a_whole_argument_or_the_end_of_a_path_and_by_no_part_of_one() {
    let word = unique("robot");
    let path = format!("/srv/bbia/{word}");
    let copies = Strangers::new(SLEEPERS, &[&word, &path]);
    let (inside, behind) = (format!("my-{word}"), format!("--file={word}"));
    let below = format!("/srv/{word}/config");
    let _decoys = Strangers::new(SLEEPERS, &[&inside, &behind, &below, &format!("{word}c")]);
    let both = found(&word, own_uid());
    let mut expected = copies.pids.clone();
    expected.sort_unstable();
    assert_eq!(pids(&both), expected);
    assert!(both.iter().any(|one| one.command.ends_with(&format!("sleep 300 {path}"))));
    assert_eq!(pids(&found(&path, own_uid())), copies.pids[1..]);
}

#[test]
fn neither_our_children_nor_those_below_them_nor_those_above_us_are_copies() {
    let word = unique("own");
    let script = "perl -e 'sleep 300' \"$1\" & wait";
    let child = Strangers::child(&["sh", "-c", script, "sh", &word]);
    until("the grandchild", || {
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.pids[0]));
        children.is_ok_and(|text| !text.trim().is_empty())
    });
    assert_eq!(pids(&found(&word, own_uid())), [0_i32; 0]);
    // Every process above us has the argument, as it were: nextest, cargo, a shell.
    let own = std::fs::read("/proc/self/cmdline").unwrap();
    let own = String::from_utf8_lossy(own.split(|byte| *byte == 0).next().unwrap()).into_owned();
    assert!(!pids(&found(&own, own_uid())).contains(&i32::try_from(std::process::id()).unwrap()));
    let parent = nix::unistd::getppid().as_raw();
    let line = std::fs::read(format!("/proc/{parent}/cmdline")).unwrap();
    let line = String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap()).into_owned();
    assert!(!pids(&found(&line, own_uid())).contains(&parent));
    // The grandchild is in no group of ours: it ends with its parent.
    let below = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.pids[0]));
    let below: Vec<i32> =
        below.unwrap().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    let _below = Strangers { pids: below, starter: None };
}

#[test]
fn a_copy_of_another_user_is_none_of_ours() {
    if is_skipped_without_root() {
        return;
    }
    let word = unique("foreign");
    let script = "setpriv --reuid 65534 --clear-groups perl -e 'sleep 300' \"$1\" \
                  </dev/null >/dev/null 2>&1 & echo $!; echo all";
    let foreign = Strangers::new(script, &[&word]);
    until("it is executed", || !found(&word, 65534).is_empty());
    assert_eq!(pids(&found(&word, 65534)), foreign.pids);
    assert_eq!(pids(&found(&word, 0)), [0_i32; 0]);
}

#[test]
fn what_a_copy_has_started_ends_with_it_and_a_process_with_its_old_number_does_not() {
    let word = unique("parent");
    let script = "sh -c 'sleep 300 & echo $!; wait' \"$1\" </dev/null 2>/dev/null & echo $!; \
                  sleep 0.2; echo all";
    let tree_of = Strangers::new(script, &[&word]);
    let copies = found(&word, own_uid());
    assert_eq!(copies.len(), 1, "{copies:?}");
    let all = tree::with_descendants(&copies, own_uid());
    assert_eq!(all.len(), 2, "{all:?}");
    for one in &all {
        one.signal(Signal::KILL);
    }
    for pid in &tree_of.pids {
        until("it is gone", || !lives(&pid.to_string()));
    }
    // Of those that were found nobody is left, whoever has their numbers by now.
    assert!(tree::with_descendants(&copies, own_uid()).is_empty());
}

/// A shell and what it has started, both with the argument `$1`; each says its pid.
const NESTED: &str = r#"
    sh -c 'echo $$; sh -c "$0" sh "$1" & wait' 'echo $$; exec perl -e "sleep 300" "$1"' "$1" \
        </dev/null 2>/dev/null &
    sleep 0.2; echo all"#;

#[test]
fn a_copy_and_the_copies_that_it_has_started_have_one_head() {
    let word = unique("nested");
    let nested = Strangers::new(NESTED, &[&word]);
    until("both are there", || found(&word, own_uid()).len() == 2);
    let copies = found(&word, own_uid());
    let heads: Vec<i32> = tree::heads(&copies).iter().map(|one| one.process.pid.raw()).collect();
    assert_eq!(heads, nested.pids[..1]);
    let other = Strangers::new(SLEEPERS, &[&word]);
    let copies = found(&word, own_uid());
    assert_eq!(copies.len(), 3, "{copies:?}");
    let mut heads: Vec<i32> =
        tree::heads(&copies).iter().map(|one| one.process.pid.raw()).collect();
    let mut expected = vec![nested.pids[0], other.pids[0]];
    heads.sort_unstable();
    expected.sort_unstable();
    assert_eq!(heads, expected);
    assert!(copies.iter().all(|one| !one.is_contained()));
}

#[test]
fn who_has_the_number_of_a_copy_but_another_start_is_nobody_to_us() {
    let word = unique("again");
    let copy = Strangers::new(SLEEPERS, &[&word]);
    let mut process = found(&word, own_uid())[0].process;
    // As if the copy had ended since it was found, and its number were given again.
    process.start_time -= 1;
    assert!(tree::Family::of(process, own_uid()).is_none());
    assert!(lives(&copy.pids[0].to_string()));
}

#[test]
fn what_a_copy_leaves_behind_is_known_by_its_session_or_because_it_was_seen() {
    let word = unique("family");
    // One of its session, one that has left it and was seen, and one that comes later.
    let script = "setsid sh -c 'echo $$; sleep 300 & echo $!; setsid sleep 300 & echo $!; \
                  read go < $1; (sleep 300 & echo $! >> $1.late)' sh \"$1\" </dev/null \
                  2>/dev/null & sleep 0.2; echo all";
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join(&word);
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut tree_of = Strangers::new(script, &[fifo.to_str().unwrap()]);
    let copies = found(&word, own_uid());
    let mut family = tree::Family::of(tree::heads(&copies)[0].process, own_uid()).unwrap();
    let pids = |all: Vec<tree::Process>| {
        let mut all: Vec<i32> = all.iter().map(|one| one.pid.raw()).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(pids(family.members()), {
        let mut all = tree_of.pids.clone();
        all.sort_unstable();
        all
    });
    assert!(family.head().ending().is_some() && !family.head().is_gone());
    std::fs::write(&fifo, "go\n").unwrap();
    until("it has ended", || family.head().is_gone());
    let late = std::fs::read_to_string(folder.path().join(format!("{word}.late"))).unwrap();
    tree_of.pids.push(late.trim().parse().unwrap());
    let mut expected = tree_of.pids[1..].to_vec();
    expected.sort_unstable();
    let left: Vec<tree::Process> = family.others().iter().map(tree::Leftover::process).collect();
    assert_eq!(pids(left), expected);
    family.signal_others(Signal::KILL);
    for pid in &expected {
        until("it is gone", || !lives(&pid.to_string()));
    }
    assert!(family.others().is_empty() && family.members().is_empty());
}
