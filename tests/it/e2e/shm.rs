//! Stale files in the real /dev/shm, under names that no other test has.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use mini_supervisor::control::StateWord;
use nix::{fcntl::Flock, fcntl::FlockArg, sys::signal::Signal, sys::stat::Mode};

use super::harness::{Plan, Site, is_root, skip};

/// Names of one test; nothing of it is left.
struct Names(String);

impl Names {
    fn of(test: &str) -> Self {
        Self(format!("ms{}-{test}_", std::process::id()))
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new("/dev/shm").join(format!("{}{name}", self.0))
    }

    fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// What is left of them, without the prefix, in order.
    fn left(&self) -> Vec<String> {
        let all = fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().file_name());
        let own =
            |name: OsString| name.to_str()?.split_once(&self.0).map(|(a, b)| format!("{a}{b}"));
        let mut own: Vec<String> = all.filter_map(own).collect();
        own.sort();
        own
    }

    /// A program that sleeps, with these keys of `shm`.
    fn site(&self, keys: &str) -> Plan {
        let prefix = &self.0;
        let keys = keys.replace("PREFIX", prefix);
        Plan::new(&format!("  one: {{command: [sleep, '1000'], shm: {{{keys}}}}}"))
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for entry in fs::read_dir("/dev/shm").unwrap().map(Result::unwrap) {
            if entry.file_name().to_str().is_some_and(|name| name.contains(&self.0)) {
                let path = entry.path();
                fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)).unwrap();
            }
        }
    }
}

/// A process that is killed with its test.
struct Other(Child);

impl Other {
    /// Runs these words until it says something.
    fn run(words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdout(Stdio::piped()).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn kept(site: &Site, name: &str, why: &str) {
    let wanted =
        |line: &String| line.contains("shm: kept ") && line.contains(name) && line.contains(why);
    crate::sys_world::until("it says why it is kept", || site.stderr.all().iter().any(wanted));
}

#[test]
fn only_own_regular_files_with_one_name_are_removed() {
    let names = Names::of("kinds");
    let outside = tempfile::tempdir().unwrap();
    let precious = outside.path().join("precious");
    fs::write(&precious, "x").unwrap();
    names.file("stale");
    symlink(&precious, names.path("link")).unwrap();
    fs::create_dir(names.path("dir")).unwrap();
    fs::write(names.path("dir").join("inside"), "x").unwrap();
    nix::unistd::mkfifo(&names.path("fifo"), Mode::S_IRWXU).unwrap();
    fs::hard_link(names.file("twice"), names.path("again")).unwrap();
    names.file("not-meant").metadata().unwrap();
    let mut site = names.site("remove: ['PREFIX[!n]*']").start();
    site.wait_state("one", StateWord::Running);
    assert_eq!(names.left(), ["again", "dir", "fifo", "link", "not-meant", "twice"]);
    assert!(precious.exists() && names.path("dir").join("inside").exists());
    for (name, why) in [
        ("link", "it is a link"),
        ("dir", "it is a directory"),
        ("fifo", "it is a FIFO"),
        ("twice", "it has 2 names"),
        ("again", "it has 2 names"),
    ] {
        kept(&site, name, why);
    }
    let log = site.stderr.all().join("\n");
    assert!(log.contains("one: shm: removed 1 stale file: ") && log.contains("kept 5"), "{log}");
    assert!(!log.contains("not-meant"), "{log}");
    let told = site.happened(&["shm.removed"]);
    assert_eq!(told, ["one shm.removed"]);
    assert_eq!(site.end(), 0);
}

#[test]
fn what_a_process_has_open_mapped_or_locked_is_kept() {
    let names = Names::of("used");
    let (open, mapped, locked) = (names.file("open"), names.file("mapped"), names.file("locked"));
    names.file("stale");
    let file = open.to_str().unwrap();
    let opens = Other::run(&["sh", "-c", "exec 5<\"$0\"; echo ready; read x", file]);
    // An object of mmap would keep a descriptor.
    let script = "import ctypes, os, sys\n\
                  fd = os.open(sys.argv[1], os.O_RDWR)\n\
                  map = ctypes.CDLL(None).mmap\n\
                  map.restype = ctypes.c_void_p\n\
                  map(None, ctypes.c_size_t(1), 1, 1, fd, ctypes.c_long(0))\n\
                  os.close(fd)\n\
                  print('ready', flush=True)\n\
                  sys.stdin.read()";
    let maps = Other::run(&["python3", "-SEc", script, mapped.to_str().unwrap()]);
    let flock = Flock::lock(fs::File::open(&locked).unwrap(), FlockArg::LockExclusive).unwrap();
    let mut site = names.site("remove: ['PREFIX*'], when: [pre-start, post-stop]").start();
    site.wait_state("one", StateWord::Running);
    assert_eq!(names.left(), ["locked", "mapped", "open"]);
    kept(&site, "mapped", "it is mapped by python");
    kept(&site, "open", &format!("sh (pid {}) has it open", opens.0.id()));
    kept(&site, "locked", "it is locked");
    drop((opens, maps, flock));
    site.bring_down(&["one"]);
    assert_eq!(names.left(), [""; 0]);
    assert_eq!(site.end(), 0);
}

#[test]
fn segments_of_a_second_instance_are_kept_over_a_restart() {
    let names = Names::of("twins");
    let prefix = &names.0;
    let shm = format!("shm: {{remove: ['{prefix}*']}}");
    let run = "exec 5>\"/dev/shm/$0\"; exec sleep 1000";
    let mut site = Plan::new(&format!(
        "  one: {{command: [sh, -c, '{run}', {prefix}a], {shm}, autostart: false}}\n  \
           two: {{command: [sh, -c, '{run}', {prefix}b], {shm}}}"
    ))
    .start();
    site.wait_state("two", StateWord::Running);
    crate::sys_world::until("it has its segment", || names.path("b").exists());
    names.file("stale");
    site.bring_up(&["one"]);
    assert!(!names.path("stale").exists() && names.path("b").exists());
    site.restart(&["two"]);
    crate::sys_world::until("they have theirs", || names.left() == ["a", "b"]);
    assert_eq!(site.end(), 0);
}

#[test]
fn files_of_another_user_are_kept() {
    if !is_root() {
        return skip("root is needed");
    }
    let names = Names::of("owner");
    chown(names.file("other"), Some(54321), None).unwrap();
    names.file("own");
    let mut site = names.site("remove: ['PREFIX*'], owner: '54321'").start();
    site.wait_state("one", StateWord::Running);
    assert_eq!(names.left(), ["own"]);
    kept(&site, "own", "it belongs to uid 0, not to uid 54321");
    assert_eq!(site.end(), 0);
    chown(names.file("other"), Some(54321), None).unwrap();
    let mut site = names.site("remove: ['PREFIX*']").start();
    site.wait_state("one", StateWord::Running);
    assert_eq!(names.left(), ["other"]);
    assert_eq!(site.end(), 0);
}

/// Who may not look at the processes of others takes what they may use for used.
#[test]
fn an_unprivileged_supervisor_keeps_what_others_may_use() {
    if !is_root() {
        return skip("root is needed");
    }
    let names = Names::of("poor");
    for (name, mode) in [("private", 0o600), ("shared", 0o644)] {
        let path = names.file(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        chown(&path, Some(54321), Some(54321)).unwrap();
    }
    names.file("roots");
    // A process of somebody else that may not be looked at.
    let words = ["setpriv", "--reuid", "54322", "--regid", "54322", "--clear-groups"];
    let stranger = Other::run(&[&words[..], &["sh", "-c", "echo ready; read x"]].concat());
    let mut site = names.site("remove: ['PREFIX*']").run_as(54321, 54321).start();
    site.wait_state("one", StateWord::Running);
    assert_eq!(names.left(), ["roots", "shared"]);
    kept(&site, "roots", "it belongs to uid 0, not to uid 54321");
    kept(&site, "shared", "whether it is in use is not known");
    drop(stranger);
    assert_eq!(site.end(), 0);
}

#[test]
fn semaphores_are_meant_only_by_a_pattern_for_semaphores() {
    let names = Names::of("sem");
    let semaphore = Path::new("/dev/shm").join(format!("sem.{}one", names.0));
    fs::write(&semaphore, "x").unwrap();
    fs::write(names.path("seg"), "x").unwrap();
    let mut site = names.site("remove: ['*PREFIX*']").start();
    site.wait_state("one", StateWord::Running);
    assert_eq!(names.left(), ["sem.one"]);
    assert_eq!(site.end(), 0);
    let mut site = names.site("remove: ['sem.PREFIX*']").start();
    site.wait_state("one", StateWord::Running);
    assert_eq!(names.left(), [""; 0]);
    assert_eq!(site.end(), 0);
}

#[test]
fn what_changed_lately_is_kept_and_a_dry_run_removes_nothing() {
    let names = Names::of("age");
    let path = names.file("new");
    // Its age is that of the last change of any kind, which cannot be set back.
    let old = SystemTime::now() - Duration::from_secs(7200);
    fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    let mut site = names.site("remove: ['PREFIX*'], older_than: 1h").start();
    site.wait_state("one", StateWord::Running);
    kept(&site, "new", "it was changed less than 1h ago");
    assert_eq!(site.end(), 0);
    let mut site = names.site("remove: ['PREFIX*'], dry_run: true").start();
    site.wait_state("one", StateWord::Running);
    let log = site.stderr.all().join("\n");
    assert!(log.contains("one: shm: would remove 1 stale file: "), "{log}");
    assert_eq!(names.left(), ["new"]);
    assert_eq!(site.end(), 0);
    let mut site = names.site("remove: ['PREFIX*'], older_than: 1ms").start();
    site.wait_state("one", StateWord::Running);
    assert_eq!(names.left(), [""; 0]);
    assert_eq!(site.end(), 0);
}

#[test]
fn a_dry_run_of_the_site_lists_files_at_their_place() {
    let names = Names::of("list");
    names.file("stale");
    fs::create_dir(names.path("dir")).unwrap();
    let (code, out, err) = names.site("remove: ['PREFIX*']").arg("--dry-run").run();
    assert_eq!((code, &*out), (0, ""), "{err}");
    let lines: Vec<&str> = err.lines().collect();
    let (stale, dir) = (format!("{}stale", names.0), format!("{}dir", names.0));
    let expected = [
        "would start, in this order:".to_owned(),
        format!("  one: shm: would remove 1 stale file: {stale}; kept 1"),
        format!("  one: shm: kept {dir}: it is a directory"),
        "  one: sleep 1000".to_owned(),
    ];
    assert_eq!(lines, expected);
    assert_eq!(names.left(), ["dir", "stale"]);
}

#[test]
fn files_of_the_site_are_removed_before_the_first_start_and_after_the_last_stop() {
    let names = Names::of("site");
    names.file("before");
    let text = format!(
        "version: 1\nsupervisor: {{runtime_dir: DIR/run}}\n\
         shm: {{old: {{remove: ['{}*'], when: [start, stop]}}}}\n\
         programs:\n  one: {{command: [sh, -c, 'ls /dev/shm; echo listed; exec sleep 1000'], \
         user: self, inherit_environment: [E2E_MARK]}}\n",
        names.0
    );
    let mut site = Plan::whole(&text).start();
    site.stdout.wait_for("a look", |line| line == "one | listed");
    assert!(!site.stdout.all().join("\n").contains(&names.0), "{}", site.stdout.all().join("\n"));
    names.file("after");
    site.signal(Signal::SIGTERM);
    assert_eq!(site.code(), 0);
    assert_eq!(names.left(), [""; 0]);
    let log = site.stderr.all().join("\n");
    assert!(log.find("one: stopped") < log.rfind("removed 1 stale file: "), "{log}");
    site.assert_nothing_left();
}

#[test]
fn without_a_proc_that_shows_everybody_nothing_is_removed() {
    if !is_root() {
        return skip("root is needed");
    }
    let names = Names::of("blind");
    names.file("stale");
    let plan = names.site("remove: ['PREFIX*']");
    let plan = plan.wrapped(&[
        "unshare",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none /proc; exec \"$@\"",
        "sh",
    ]);
    let mut site = plan.start_quiet();
    site.wait_state("one", StateWord::Running);
    assert_eq!(names.left(), ["stale"]);
    kept(&site, "stale", "whether it is in use is not known: /proc does not show");
    assert_eq!(site.end(), 0);
}

#[test]
fn without_dev_shm_the_program_is_started() {
    if !is_root() {
        return skip("root is needed");
    }
    let plan = Names::of("gone").site("remove: ['PREFIX*']");
    let script = "mount -t tmpfs none /dev/shm/..; mkdir /dev/pts; : > /dev/null; exec \"$@\"";
    let mut site = plan.wrapped(&["unshare", "--mount", "sh", "-c", script, "sh"]).start();
    site.wait_state("one", StateWord::Running);
    let log = site.stderr.all().join("\n");
    assert!(log.contains("one: shm: cannot open /dev/shm: No such file"), "{log}");
    assert_eq!(site.end(), 0);
}

#[test]
fn files_of_a_semaphore_stay_whatever_a_rule_says() {
    let names = Names::of("semaphore");
    for name in ["stale", "ask.lock", "ask.info"] {
        names.file(name);
    }
    let prefix = &names.0;
    let text = format!(
        "  web: {{command: [sleep, '1000']}}\nshm: {{rule: {{remove: ['{prefix}*'], when: [start]}}}}\n\
         semaphores:\n  ask: {{path: /dev/shm/{prefix}ask.lock, info_file: \
         /dev/shm/{prefix}ask.info, action: 'restart:web'}}"
    );
    let mut site = Plan::new(&text).start();
    site.all_running();
    assert_eq!(names.left(), ["ask.info", "ask.lock"]);
    assert_eq!(site.end(), 0);
}
