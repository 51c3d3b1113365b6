//! Cgroups of programs, where the cgroup of the supervisor was given to it and where it was not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use mini_supervisor::{
    control::{Reply, StateWord},
    sys::{
        child::Children,
        spawn::{Cgroup, Prepared, Report, fork, read_report},
    },
};
use nix::sys::signal::Signal;

use super::{
    harness::{Plan, Site, is_root, program, skip},
    init::possible,
};
use crate::{
    outside::remove_tree,
    sys_world::{next_exit, shell, until},
};

/// A cgroup of version 2 for one test, removed with it.
struct Group(PathBuf);

impl Group {
    /// `None` where none can be made.
    fn new() -> Option<Self> {
        if !is_root() {
            skip("not root: no cgroup");
            return None;
        }
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(|m| Path::new(m).join(own));
        let Some(below) = mounts.iter().find(|m| m.join("cgroup.procs").exists()) else {
            skip("no cgroup2");
            return None;
        };
        let folder = below.join(format!("ms-test-{}", nix::unistd::gettid()));
        if let Err(why) = fs::create_dir(&folder) {
            skip(&format!("{}: {why}", folder.display()));
            return None;
        }
        Some(Self(folder))
    }

    /// The mark of systemd's Delegate=yes; false where it cannot be set.
    fn mark(&self) -> bool {
        let script = "exit(syscall($ARGV[0] + 0, @ARGV[1..3], 1, 0) != 0)";
        let mut perl = Command::new("perl");
        perl.args(["-e", script, &libc::SYS_setxattr.to_string()]).arg(&self.0);
        let status = perl.args(["user.delegate", "1"]).status();
        let done = status.is_ok_and(|status| status.success());
        if !done {
            skip("no perl, or no extended attributes of cgroups");
        }
        done
    }

    /// One that is delegated to whoever starts in it.
    fn delegated() -> Option<Self> {
        Self::new().filter(Self::mark)
    }

    /// Executes the supervisor in it.
    fn wrap(&self, plan: Plan) -> Plan {
        self.wrap_with(plan, r#"exec "$@""#)
    }

    /// The same by these words of a shell.
    fn wrap_with(&self, plan: Plan, then: &str) -> Plan {
        let script = format!("echo $$ > {}/cgroup.procs && {then}", self.0.display());
        plan.wrapped(&["sh", "-c", &script, "sh"])
    }

    /// The pids in this leaf.
    fn pids(&self, leaf: &str) -> Vec<u32> {
        let text = fs::read_to_string(self.0.join(leaf).join("cgroup.procs")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Those of them that execute sleep(1) by now.
    fn sleepers(&self, leaf: &str) -> Vec<u32> {
        let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm"));
        let mut pids = self.pids(leaf);
        pids.retain(|pid| name(pid).is_ok_and(|name| name.trim_end() == "sleep"));
        pids
    }

    fn leaves(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap().map(Result::unwrap);
        let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        let mut names: Vec<String> =
            folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        fs::write(self.0.join("cgroup.kill"), "1").ok();
        until("the cgroups are empty", || remove_tree(&self.0));
    }
}

fn cgroup_of(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

fn pid(site: &Site) -> u32 {
    site.pid.as_raw().cast_unsigned()
}

/// Y12: self in `supervisor`, programs in `p-NAME`, whatever their user; nothing left in the end.
#[test]
fn in_a_delegated_cgroup_each_program_has_a_leaf() {
    let Some(group) = Group::delegated() else { return };
    let plan = Plan::new(
        "  web:
    command: [sleep, '1000']
    start_pre: [[DIR/where, start_pre]]
    start_post: [[DIR/where, start_post]]
  other@1: {command: [sleep, '1000'], user: nobody}",
    )
    .script("where", "echo $1 $(grep ^0:: /proc/self/cgroup | sed 's,.*/,,')");
    let mut site = group.wrap(plan).start();
    let status = site.all_running();
    assert_eq!(group.leaves(), ["p-other@1", "p-web", "supervisor"]);
    assert_eq!(group.pids("supervisor"), [pid(&site)]);
    assert_eq!(group.pids(""), Vec::<u32>::new());
    for name in ["web", "other@1"] {
        let pid = program(&status, name).pid.unwrap();
        assert_eq!(group.pids(&format!("p-{name}")), [pid], "{name}");
    }
    for what in ["start_pre", "start_post"] {
        site.stdout.wait_for(what, |line| line.ends_with(&format!("| {what} p-web")));
    }
    assert_eq!(site.end(), 0);
    assert_eq!(group.leaves(), ["supervisor"]);
}

/// Y12: who cleans his environment and his session is found by nobody but the kernel.
#[test]
fn a_stop_leaves_nobody_in_the_leaf() {
    let Some(group) = Group::delegated() else { return };
    let bomb = "while :; do (setsid env -i sleep 1000 &); n=$((n + 1)); \
                [ $n = 20 ] && echo lit; sleep 0.01; done";
    let plan = Plan::new("  bomb: {command: [DIR/bomb]}").script("bomb", bomb);
    let mut site = group.wrap(plan).start();
    site.stdout.wait_for("it forks", |line| line.ends_with("lit"));
    assert!(group.pids("p-bomb").len() >= 20);
    assert!(site.bring_down(&["bomb"]).complete);
    until("nobody is left", || group.pids("p-bomb").is_empty());
    assert_eq!(site.program("bomb").state, StateWord::Stopped);
    assert_eq!(site.end(), 0);
}

/// What is killed beside a program is not killed with it.
#[test]
fn a_command_beside_a_program_dies_alone() {
    let Some(group) = Group::delegated() else { return };
    let plan = Plan::new(
        "  web:
    command: [sleep, '1000']
    start_post: [{command: [sh, -c, 'sleep 1001 & sleep 1002'], timeout: 300ms,
                  ignore_failure: true}]",
    );
    let mut site = group.wrap(plan).start();
    let status = site.all_running();
    let web = program(&status, "web").pid.unwrap();
    until("the command is gone", || group.pids("p-web") == [web]);
    assert_eq!(site.program("web").restarts, 0);
    assert_eq!(site.end(), 0);
}

/// `kill_mode: process` has the rest go on, also when the next run is over.
#[test]
fn what_a_program_may_leave_behind_goes_on_in_its_leaf() {
    let Some(group) = Group::delegated() else { return };
    let keeper = "(setsid env -i sleep 1000 &); echo up; exec sleep 1001";
    let mode = "stop: {kill_mode: process}, stop_post: [['true']]";
    let plan = Plan::new(&format!("  web: {{command: [DIR/web], {mode}}}"));
    let plan = plan.script("web", keeper);
    let mut site = group.wrap(plan).start();
    for round in 1..=2 {
        site.all_running();
        until("all are there", || group.sleepers("p-web").len() == round + 1);
        site.bring_down(&["web"]);
        assert_eq!(site.program("web").state, StateWord::Stopped);
        until("the main process is gone", || group.sleepers("p-web").len() == round);
        site.bring_up(&["web"]);
    }
    // And when the mode is another one: they were there before this run.
    until("all are there", || group.sleepers("p-web").len() == 4);
    site.bring_down(&["web"]);
    site.reload("  web: {command: [DIR/web], stop: {timeout: 2s}}");
    site.bring_up(&["web"]);
    until("all are there", || group.sleepers("p-web").len() == 5);
    let before = group.sleepers("p-web");
    site.bring_down(&["web"]);
    let left = group.sleepers("p-web");
    assert!(left.len() >= 3 && left.iter().all(|pid| before.contains(pid)), "{left:?}");
    // At the very end nobody may stay.
    site.signal(Signal::SIGTERM);
    assert_eq!(site.code(), 0);
    until("nobody is left", || group.pids("p-web").is_empty());
}

#[test]
fn the_leaf_of_a_removed_program_is_removed() {
    let Some(group) = Group::delegated() else { return };
    let both = "  a: {command: [sleep, '1000']}\n  b: {command: [sleep, '1000']}";
    let mut site = group.wrap(Plan::new(both)).start();
    site.all_running();
    assert_eq!(group.leaves(), ["p-a", "p-b", "supervisor"]);
    let Reply::Reloaded(_) = site.reload("  a: {command: [sleep, '1000']}") else { panic!() };
    until("it is removed", || group.leaves() == ["p-a", "supervisor"]);
    assert_eq!(site.end(), 0);
}

/// The starter is in no inner node either: controllers could not be handed on.
#[test]
fn in_the_background_the_starter_comes_along() {
    let Some(group) = Group::delegated() else { return };
    let plan =
        Plan::new("  web: {command: [sleep, '1000']}").supervisor("pid_file: DIR/pid").arg("-d");
    let mut starter = group.wrap(plan).spawn();
    assert_eq!(starter.code(), 0);
    let daemon: u32 = fs::read_to_string(starter.path("pid")).unwrap().trim().parse().unwrap();
    assert_eq!(group.pids(""), Vec::<u32>::new());
    assert_eq!(group.pids("supervisor"), [daemon]);
    assert_eq!(group.pids("p-web").len(), 1);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.cast_signed()), Signal::SIGTERM)
        .unwrap();
    until("it ends", || group.pids("supervisor").is_empty());
    assert_eq!(group.leaves(), ["supervisor"]);
}

/// Y12: silent where it was not delegated, or others live in it.
#[test]
fn a_cgroup_that_is_not_ours_alone_is_left_as_it_is() {
    for (marked, then) in [(false, r#"exec "$@""#), (true, r#""$@"; exit $?"#)] {
        let Some(group) = Group::new() else { return };
        if marked && !group.mark() {
            return;
        }
        let plan = Plan::new("  web: {command: [sleep, '1000']}");
        let mut site = group.wrap_with(plan, then).start();
        let status = site.all_running();
        assert_eq!(group.leaves(), Vec::<String>::new(), "{marked}");
        let web = program(&status, "web").pid.unwrap();
        assert!(group.pids("").contains(&web));
        assert!(!site.stderr.all().concat().contains("cgroup"), "{:?}", site.stderr.all());
        let Reply::Version(version) = site.version() else { panic!() };
        let pid = nix::unistd::Pid::from_raw(version.pid.cast_signed());
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        assert_eq!(site.end_by_itself(), 0);
    }
}

/// Y12: the other hierarchy: with those of version 1 alone, or none at all, all goes on.
#[test]
fn without_cgroup2_programs_run_as_ever() {
    let Some(group) = Group::delegated() else { return };
    let hidden = r#"exec unshare --mount --propagation private sh -c '
        mount -t tmpfs none /sys/fs/cgroup && [ ! -e /sys/fs/cgroup/unified ] && exec "$@"' sh "$@""#;
    let unmounted = r#"exec unshare --mount --propagation private sh -c '
        for m in $(grep " - cgroup2 " /proc/self/mountinfo | cut -d" " -f5); do umount $m; done
        grep -q " - cgroup2 " /proc/self/mountinfo || exec "$@"' sh "$@""#;
    let read_only = r#"exec unshare --mount --propagation private sh -c '
        for m in $(grep " - cgroup2 " /proc/self/mountinfo | cut -d" " -f5); do
        mount -o remount,bind,ro $m; done; exec "$@"' sh "$@""#;
    for then in [hidden, unmounted, read_only] {
        let plan = Plan::new("  web: {command: [sleep, '1000']}");
        let mut site = group.wrap_with(plan, then).start();
        let status = site.all_running();
        assert_eq!(group.leaves(), Vec::<String>::new(), "{then}");
        let web = program(&status, "web").pid.unwrap();
        assert_eq!(cgroup_of(web), cgroup_of(pid(&site)));
        assert!(!site.stderr.all().concat().contains("cgroup"), "{:?}", site.stderr.all());
        assert_eq!(site.end(), 0);
    }
}

/// The cgroup of a container is ours, as all of it is.
#[test]
fn the_cgroup_of_a_container_is_divided_without_a_mark() {
    if !possible() {
        return;
    }
    let Some(group) = Group::new() else { return };
    let container = r#"exec unshare --cgroup --mount --propagation private sh -c '
        mkdir -p "$E2E_MARK/sys" && mount -t cgroup2 none "$E2E_MARK/sys" && exec "$@"' sh "$@""#;
    let plan = Plan::new("  web: {command: [sleep, '1000']}");
    let mut site = group.wrap_with(plan, container).start();
    site.all_running();
    assert_eq!(group.leaves(), ["p-web", "supervisor"]);
    assert_eq!(group.pids("supervisor"), [pid(&site)]);
    assert_eq!(site.end(), 0);
}

/// That is no reason not to run.
#[test]
fn a_program_that_cannot_have_a_leaf_runs_without_and_we_say_so() {
    let Some(group) = Group::delegated() else { return };
    fs::write(group.0.join("cgroup.max.descendants"), "1").unwrap();
    let both = "  a: {command: [sleep, '1000']}\n  b: {command: [sleep, '1000']}";
    let mut site = group.wrap(Plan::new(both)).start();
    site.all_running();
    assert_eq!(group.pids("supervisor").len(), 3);
    let said = |line: &str| line.contains("it runs without a cgroup of its own");
    site.stderr.wait_for("a warning", said);
    assert_eq!(site.stderr.all().iter().filter(|line| said(line)).count(), 1);
    assert_eq!(site.end(), 0);
}

/// What a killed supervisor has left in its cgroups holds up nobody, nor that it had killed them.
#[test]
fn a_supervisor_takes_over_the_leaves_of_one_that_was_killed() {
    let Some(group) = Group::delegated() else { return };
    let both = "  a: {command: [sleep, '1000']}\n  b: {command: [sleep, '1000']}";
    let mut site = group.wrap(Plan::new(both)).start();
    site.all_running();
    assert!(site.bring_down(&["b"]).complete);
    let old = site.main_pid("a");
    site.signal(Signal::SIGKILL);
    assert_eq!(site.code(), 137);
    let mut site = site.again();
    let status = site.all_running();
    for (name, leaf) in [("a", "p-a"), ("b", "p-b")] {
        assert_eq!(group.pids(leaf), [program(&status, name).pid.unwrap()]);
    }
    assert_ne!(group.pids("p-a"), [old]);
    assert_eq!(group.pids("supervisor"), [pid(&site)]);
    assert_eq!(site.end(), 0);
    assert_eq!(group.leaves(), ["supervisor"]);
}

/// Who lives in a leaf that the supervisor does not know stays there.
#[test]
fn a_leaf_that_is_lived_in_is_shared() {
    let Some(group) = Group::delegated() else { return };
    let leaf = group.0.join("p-web");
    fs::create_dir(&leaf).unwrap();
    fs::write(leaf.join("cgroup.kill"), "1").unwrap();
    let script = format!("echo $$ > {}/cgroup.procs && exec sleep 1000", leaf.display());
    let mut lodger = Command::new("sh").args(["-c", &script]).spawn().unwrap();
    until("he is in", || group.pids("p-web") == [lodger.id()]);
    let mut site = group.wrap(Plan::new("  web: {command: [sleep, '1000']}")).start();
    let status = site.all_running();
    let web = program(&status, "web").pid.unwrap();
    assert!(group.pids("p-web").contains(&web));
    assert_eq!(site.end(), 0);
    assert_eq!(group.pids("p-web"), [lodger.id()]);
    lodger.kill().unwrap();
    lodger.wait().unwrap();
}

/// A cgroup that was killed has no other die: the kernel may think so.
#[test]
fn after_a_stop_a_program_can_be_started_again() {
    let Some(group) = Group::delegated() else { return };
    let mut site = group.wrap(Plan::new("  web: {command: [sleep, '1000']}")).start();
    for _ in 0..3 {
        site.all_running();
        let web = site.main_pid("web");
        assert_eq!(group.pids("p-web"), [web]);
        assert!(site.bring_down(&["web"]).complete);
        assert!(site.bring_up(&["web"]).complete);
    }
    assert_eq!(site.program("web").restarts, 0);
    assert_eq!(site.end(), 0);
}

/// F06: the kernel counts whom it killed for want of memory. What it would say stands in a tmpfs
/// here: not everywhere has the hierarchy of version 2 the memory controller.
#[test]
fn who_was_killed_for_want_of_memory_is_said_to_be() {
    let Some(group) = Group::new() else { return };
    let kernel = r#"exec unshare --cgroup --mount --propagation private sh -c '
        m="$E2E_MARK/sys"; mkdir "$m" && mount -t cgroup2 none "$m" && mount -t tmpfs none "$m" &&
        echo domain >"$m/cgroup.type" && echo $$ >"$m/cgroup.procs" || exit
        for leaf in supervisor p-eater p-victim p-deaf; do
          mkdir "$m/$leaf" && : >"$m/$leaf/cgroup.procs" || exit
          printf "oom 9\noom_kill 3\n" >"$m/$leaf/memory.events"
        done; exec "$@"' sh "$@""#;
    let plan = Plan::new(
        "  eater: {command: [DIR/eater], restart: {policy: never}, stop_post: [[DIR/say]]}
  victim: {command: [DIR/victim], restart: {policy: never}}
  deaf: {command: [DIR/deaf], stop: {timeout: 50ms}}",
    )
    .script("eater", "printf 'oom 9\\noom_kill 4\\n' >DIR/sys/p-eater/memory.events; kill -9 $$")
    .script("victim", "kill -9 $$")
    .script(
        "deaf",
        "trap 'echo oom_kill 4 >DIR/sys/p-deaf/memory.events' TERM; echo ready
while :; do sleep 0.02; done",
    )
    .script("say", "echo $EXIT_CODE $EXIT_STATUS $SERVICE_RESULT > DIR/said");
    let mut site = group.wrap_with(plan, kernel).start();
    let eater = site.wait_state("eater", StateWord::Exited);
    assert_eq!(eater.reason, "killed by the kernel: out of memory");
    assert!(eater.exit.unwrap().out_of_memory);
    assert_eq!(fs::read_to_string(site.path("said")).unwrap(), "killed KILL oom-kill\n");
    site.stderr.wait_for("the log", |line| {
        line.contains("eater: killed by the kernel: out of memory after")
    });
    let victim = site.wait_state("victim", StateWord::Exited);
    assert_eq!(victim.reason, "killed by SIGKILL", "it was killed by somebody else");
    assert!(!victim.exit.unwrap().out_of_memory);
    site.stdout.wait_for("a trap", |line| line.ends_with("ready"));
    site.bring_down(&["deaf"]);
    let deaf = site.program("deaf").exit.unwrap();
    assert_eq!(deaf.signal, Some(mini_supervisor::model::Signal::KILL));
    assert!(!deaf.out_of_memory, "we have killed it");
    assert_eq!(site.end(), 0);
}

/// Also into one that was killed, where the kernel would have it die.
#[test]
fn a_child_begins_its_life_in_a_cgroup_or_is_moved_there() {
    let Some(group) = Group::new() else { return };
    for moved in [false, true] {
        if moved {
            fs::write(group.0.join("cgroup.kill"), "1").unwrap();
        }
        let mut spec = shell("exec sleep 1000");
        let directory = fs::File::open(&group.0).unwrap().into();
        spec.cgroup = Some(Cgroup { directory, moved });
        let prepared = Prepared::new(spec).unwrap();
        let (child, pipe) = fork(&prepared).unwrap();
        let pid = child.pid().number();
        let mut children = Children::new();
        children.insert(1, child);
        let mut reports = Vec::new();
        until("it executes", || {
            reports.push(read_report(&pipe, &prepared));
            reports.ends_with(&[Report::Executed])
        });
        assert!(!reports.iter().any(|report| matches!(report, Report::Without(_))), "{reports:?}");
        assert_eq!(group.pids(""), [pid], "moved: {moved}");
        children.signal_main(1, mini_supervisor::model::Signal::KILL).unwrap();
        assert_eq!(next_exit(&mut children).pid.number(), pid);
    }
}
