//! What a program is kept from, seen from inside: what it must not be able to do, and what it must.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use mini_supervisor::control::StateWord;

use super::harness::{Plan, is_root, skip};
use crate::sys_world::until;

/// A program that is kept from what `hardening` says and writes what it finds out into DIR/out/seen,
/// which it may. `try WORDS` says whether they succeed, `see WORDS` what they print.
pub(super) fn probe(hardening: &str, keys: &str, script: &str) -> Plan {
    let helpers = "exec > DIR/out/seen 2>&1
try() { if \"$@\" >/dev/null 2>&1; then echo \"$*: yes\"; else echo \"$*: no\"; fi; }
write() { echo x > \"$1\"; }
see() { echo \"$*: $(\"$@\" 2>/dev/null)\"; }";
    let plan = Plan::new(&format!(
        "  probe: {{command: [DIR/probe], restart: {{policy: never}}, {keys}
    hardening: {{read_write_paths: [DIR/out], {hardening}}}}}"
    ))
    .script("probe", &format!("{helpers}\n{script}\n:"));
    fs::create_dir(plan.path("out")).unwrap();
    fs::set_permissions(plan.path("out"), fs::Permissions::from_mode(0o777)).unwrap();
    plan
}

/// What the probe has found out.
fn seen(plan: Plan) -> Vec<String> {
    let mut site = plan.start();
    let ended = site.wait_state("probe", StateWord::Exited);
    let text = fs::read_to_string(site.path("out/seen")).unwrap_or_default();
    assert!(ended.reason.contains("exit 0"), "{}: {text}", ended.reason);
    assert_eq!(site.end(), 0);
    text.lines().map(str::to_owned).collect()
}

/// Asserts that each of these lines is there.
pub(super) fn has(seen: &[String], lines: &[&str]) {
    for line in lines {
        assert!(seen.iter().any(|one| one == line), "{line}: {seen:#?}");
    }
}

/// Names in /tmp and /var/tmp that a program's own directories have.
fn private_directories(name: &str) -> Vec<String> {
    let all = ["/tmp", "/var/tmp"].into_iter().flat_map(|base| fs::read_dir(base).unwrap());
    let names = all.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|found| found.starts_with(&format!("supervisor-{name}-"))).collect()
}

#[test]
fn a_private_tmp_is_shared_by_the_commands_of_a_program_and_by_nobody_else() {
    if !is_root() {
        return skip("not root");
    }
    let name = format!("tmp{}", std::process::id());
    let mark = format!("/tmp/ms-{name}");
    let plan = Plan::new(&format!(
        "  {name}: {{command: [DIR/main], start_pre: [[sh, -c, 'echo pre > {mark}']],
    hardening: {{private_tmp: true, read_write_paths: [DIR]}}}}"
    ))
    .script(
        "main",
        &format!("cat {mark} > DIR/seen; ls /tmp /var/tmp >> DIR/seen; echo x > /var/tmp/y; mv DIR/seen DIR/all; exec sleep 1000"),
    );
    let mut site = plan.start();
    site.all_running();
    let all = site.path("all");
    until("it has looked", || all.exists());
    let text = fs::read_to_string(&all).unwrap();
    assert!(text.starts_with("pre\n"), "{text}");
    assert!(!text.contains("supervisor-"), "{text}");
    assert!(!Path::new(&mark).exists(), "outside it is not there");
    assert_eq!(private_directories(&name).len(), 2);
    let outer = private_directories(&name)[0].clone();
    let meta = Path::new("/tmp").join(&outer).metadata().unwrap();
    assert_eq!((meta.mode() & 0o777, meta.uid()), (0o700, 0), "nobody else can look into it");
    site.restart(&[&name]);
    site.all_running();
    assert_ne!(private_directories(&name)[0], outer, "each run has a fresh one");
    assert_eq!(site.end(), 0);
    assert_eq!(private_directories(&name), [""; 0]);
}

#[test]
fn a_strictly_protected_system_can_be_written_only_where_it_is_said() {
    if !is_root() {
        return skip("not root");
    }
    let plan = probe(
        "protect_system: strict, read_only_paths: [DIR/out/closed]",
        "runtime_directory: ms-e2e-strict,",
        "try write /etc/ms-x; try write /usr/ms-x; try write /var/ms-x; try write DIR/beside
try write DIR/out/open; try write DIR/out/closed/x; try write /run/ms-e2e-strict/x
try write /dev/shm/ms-e2e-strict; rm -f /dev/shm/ms-e2e-strict; try write /dev/null
try cat /etc/group; try umount /etc",
    );
    fs::create_dir(plan.path("out/closed")).unwrap();
    let dir = plan.path("").to_string_lossy().trim_end_matches('/').to_owned();
    let seen = seen(plan);
    has(&seen, &["write /etc/ms-x: no", "write /usr/ms-x: no", "write /var/ms-x: no"]);
    has(&seen, &[&format!("write {dir}/beside: no"), &format!("write {dir}/out/open: yes")]);
    has(&seen, &[&format!("write {dir}/out/closed/x: no"), "write /run/ms-e2e-strict/x: yes"]);
    has(&seen, &["write /dev/shm/ms-e2e-strict: yes", "write /dev/null: yes"]);
    has(&seen, &["cat /etc/group: yes"]);
}

#[test]
fn a_protected_system_differs_by_its_degree() {
    if !is_root() {
        return skip("not root");
    }
    let script = "try write /usr/ms-x; try write /etc/ms-e2e-degree; rm -f /etc/ms-e2e-degree
try write DIR/beside";
    for (degree, usr, etc) in [("'true'", "no", "yes"), ("full", "no", "no")] {
        let plan = probe(&format!("protect_system: {degree}"), "", script);
        let dir = plan.path("").to_string_lossy().trim_end_matches('/').to_owned();
        let seen = seen(plan);
        has(&seen, &[&format!("write /usr/ms-x: {usr}")]);
        has(&seen, &[&format!("write /etc/ms-e2e-degree: {etc}")]);
        has(&seen, &[&format!("write {dir}/beside: yes")]);
    }
}

#[test]
fn homes_are_hidden_closed_or_empty() {
    if !is_root() {
        return skip("not root");
    }
    let name = format!("/root/.ms-e2e-{}", std::process::id());
    fs::write(&name, "x").unwrap();
    let script = format!(
        "try ls /root; try cat {name}; try write /root/.ms-new; rm -f /root/.ms-new
see stat -c %a /root"
    );
    for (word, of_root, cat) in [
        ("'true'", "stat -c %a /root: 0", "no"),
        ("read-only", "", "yes"),
        ("tmpfs", "stat -c %a /root: 755", "no"),
    ] {
        let seen = seen(probe(&format!("protect_home: {word}"), "", &script));
        has(&seen, &[&format!("cat {name}: {cat}"), "write /root/.ms-new: no"]);
        if !of_root.is_empty() {
            has(&seen, &[of_root]);
        }
    }
    let text = "try ls /home; try ls /root";
    let found = seen(probe("protect_home: true", "user: nobody,", text));
    has(&found, &["ls /home: no", "ls /root: no"]);
    // Whatever its own mask, it comes to what is named in one that is empty.
    let inner = format!("{name}.d/inner");
    fs::create_dir_all(&inner).unwrap();
    fs::write(format!("{inner}/x"), "x").unwrap();
    let hardening = format!("protect_home: tmpfs, read_only_paths: [{inner}]");
    let text = format!("try cat {inner}/x; try cat {name}");
    let found = seen(probe(&hardening, "user: nobody, umask: '0077',", &text));
    has(&found, &[&format!("cat {inner}/x: yes"), &format!("cat {name}: no")]);
    fs::remove_dir_all(format!("{name}.d")).unwrap();
    fs::remove_file(&name).unwrap();
}

#[test]
fn settings_of_the_kernel_cannot_be_written() {
    if !is_root() {
        return skip("not root");
    }
    // The value that it has, so that nothing changes where the test fails.
    let write = "same() { v=$(cat $1); echo \"$v\" > $1; }
try same /proc/sys/vm/swappiness; try mkdir /sys/fs/cgroup/ms-e2e; rmdir /sys/fs/cgroup/ms-e2e
try cat /proc/sys/vm/swappiness; try cat /proc/self/status; see wc -c /proc/kallsyms
see sh -c 'findmnt -no OPTIONS /sys | grep -o ^ro'";
    let seen =
        seen(probe("protect_kernel_tunables: true, protect_control_groups: true", "", write));
    has(&seen, &["same /proc/sys/vm/swappiness: no", "mkdir /sys/fs/cgroup/ms-e2e: no"]);
    has(&seen, &["cat /proc/sys/vm/swappiness: yes", "cat /proc/self/status: yes"]);
}

#[test]
fn modules_of_the_kernel_cannot_be_loaded() {
    if !is_root() {
        return skip("not root");
    }
    let seen = seen(probe(
        "protect_kernel_modules: true",
        "",
        "grep CapBnd /proc/self/status; test ! -d /lib/modules || see stat -c %a /lib/modules/",
    ));
    let bounding = seen[0].split_whitespace().last().unwrap();
    assert_eq!(u64::from_str_radix(bounding, 16).unwrap() & 1 << 16, 0, "CAP_SYS_MODULE: {seen:?}");
    assert!(seen.get(1).is_none_or(|line| line.ends_with(": 0")), "{seen:?}");
}

#[test]
fn paths_that_cannot_be_reached_are_files_as_well_as_directories() {
    if !is_root() {
        return skip("not root");
    }
    let plan = probe(
        "inaccessible_paths: [DIR/secrets, DIR/key, '-/no/such/path'], read_only_paths: [DIR/page]",
        "user: nobody,",
        "try ls DIR/secrets; try cat DIR/secrets/one; try cat DIR/key; try cat DIR/page
try write DIR/page; try write DIR/out/x",
    );
    fs::create_dir(plan.path("secrets")).unwrap();
    for name in ["secrets/one", "key", "page"] {
        fs::write(plan.path(name), "x").unwrap();
        fs::set_permissions(plan.path(name), fs::Permissions::from_mode(0o666)).unwrap();
    }
    let dir = plan.path("").to_string_lossy().trim_end_matches('/').to_owned();
    let seen = seen(plan);
    let line = |words: &str| words.replace("DIR", &dir);
    let lines = ["ls DIR/secrets: no", "cat DIR/secrets/one: no", "cat DIR/key: no"].map(line);
    has(&seen, &lines.each_ref().map(String::as_str));
    let lines = ["cat DIR/page: yes", "write DIR/page: no", "write DIR/out/x: yes"].map(line);
    has(&seen, &lines.each_ref().map(String::as_str));
}

#[test]
fn capabilities_are_bounded_and_ambient_ones_reach_a_user() {
    if !is_root() {
        return skip("not root");
    }
    let status = "grep -E '^(Cap|NoNew|Groups|Uid|Gid)' /proc/self/status";
    let user = "user: nobody,";
    let seen_ = seen(probe(
        "capabilities: [CAP_NET_BIND_SERVICE, CAP_CHOWN], ambient_capabilities: [CAP_NET_BIND_SERVICE]",
        user,
        status,
    ));
    let of = |seen: &[String], key: &str| {
        let line = seen.iter().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    for (key, value) in [
        ("CapInh", "0000000000000400"),
        ("CapPrm", "0000000000000400"),
        ("CapEff", "0000000000000400"),
        ("CapBnd", "0000000000000401"),
        ("CapAmb", "0000000000000400"),
        ("NoNewPrivs", "1"),
        ("Uid", "65534"),
        ("Gid", "65534"),
        ("Groups", "65534"),
    ] {
        assert_eq!(of(&seen_, key), value, "{key}: {seen_:?}");
    }
    let root = seen(probe("capabilities: ['~CAP_SYS_ADMIN']", "", status));
    let bounding = u64::from_str_radix(&of(&root, "CapBnd"), 16).unwrap();
    assert_eq!(bounding & 1 << 21, 0);
    assert_eq!(u64::from_str_radix(&of(&root, "CapEff"), 16).unwrap() & 1 << 21, 0);
    assert_ne!(bounding & 1 << 0, 0);
}

#[test]
fn a_program_sees_only_the_devices_that_are_named() {
    if !is_root() {
        return skip("not root");
    }
    let seen = seen(probe(
        "devices: ['/dev/kms*', '/dev/no-such-*:rw']",
        "",
        "see ls /dev; try write /dev/null; try head -c 1 /dev/urandom; try test -c /dev/kmsg
try mknod DIR/out/node b 1 0; try write /dev/x; try write /dev/shm/ms-e2e-dev
rm -f /dev/shm/ms-e2e-dev; try test -d /dev/pts; see readlink /dev/fd",
    ));
    has(&seen, &["write /dev/null: yes", "head -c 1 /dev/urandom: yes", "write /dev/x: no"]);
    has(&seen, &["write /dev/shm/ms-e2e-dev: yes", "readlink /dev/fd: /proc/self/fd"]);
    assert!(
        seen.iter().any(|line| line.starts_with("mknod ") && line.ends_with(": no")),
        "{seen:?}"
    );
    let kmsg = if Path::new("/dev/kmsg").exists() { "yes" } else { "no" };
    has(&seen, &[&format!("test -c /dev/kmsg: {kmsg}")]);
    for disk in ["sda", "vda", "mem", "loop0", "fuse", "kvm"] {
        assert!(!seen.iter().any(|line| line == disk), "{seen:?}");
    }
}

const PYTHON: &str = "/usr/bin/python3";

#[test]
fn sockets_are_only_of_the_families_that_are_named() {
    if !is_root() || !Path::new(PYTHON).exists() {
        return skip("not root, or no python3");
    }
    let script = "for f in AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET; do
python3 -c \"
import socket
try:
    socket.socket(socket.$f, socket.SOCK_RAW if '$f' == 'AF_NETLINK' else socket.SOCK_DGRAM)
    print('$f yes')
except OSError as e: print('$f', e.errno)\"; done";
    let only = seen(probe("restrict_address_families: [AF_UNIX, AF_INET]", "", script));
    has(&only, &["AF_UNIX yes", "AF_INET yes", "AF_INET6 97", "AF_NETLINK 97", "AF_PACKET 97"]);
    let but = seen(probe("restrict_address_families: ['~AF_PACKET']", "user: nobody,", script));
    has(&but, &["AF_UNIX yes", "AF_INET yes", "AF_NETLINK yes", "AF_PACKET 97"]);
    let none = seen(probe("restrict_address_families: [none]", "", script));
    has(&none, &["AF_UNIX 97", "AF_INET 97", "AF_NETLINK 97"]);
}

#[test]
fn a_system_call_that_is_filtered_kills_or_returns_the_error_that_is_said() {
    if !is_root() || !Path::new(PYTHON).exists() {
        return skip("not root, or no python3");
    }
    let script = "see uname -s; try ls /; python3 -c \"
import os
for name, call in (('chown', lambda: os.chown('DIR/out', 0, 0)), ('nice', lambda: os.setpriority(0, 0, 1))):
    try: call(); print(name, 'yes')
    except OSError as e: print(name, e.errno)\"
grep -E '^Seccomp:' /proc/self/status";
    let text = "system_call_filter: ['@system-service', '~@chown:EACCES', '~@mount']";
    let found = seen(probe(text, "user: nobody,", script));
    has(&found, &["ls /: yes", "chown 13", "nice yes", "Seccomp:\t2"]);
    let found = seen(probe("system_call_filter: ['~@resources:ENOSYS']", "", script));
    has(&found, &["chown yes", "nice 38"]);
    // One that is killed for it says so by its exit.
    let mut site = Plan::new(
        "  probe: {command: [uname], restart: {policy: never}, hardening: {system_call_filter: [~uname]}}",
    )
    .start();
    let ended = site.wait_state("probe", StateWord::Exited);
    assert!(ended.reason.contains("SYS"), "{}", ended.reason);
    assert_eq!(site.end(), 0);
}

#[test]
fn the_program_is_the_same_with_hardening_and_without() {
    if !is_root() {
        return skip("not root");
    }
    let script = "env | grep -v -e ^SUPERVISOR_RUN -e ^_= | sort; ls /proc/self/fd; id; umask; ulimit -n; nice
pwd; grep -E '^(Sig|Shd|NoNew|Cap|Groups|Threads)' /proc/self/status; cat /proc/$$/cmdline | tr '\\0' ' '
cut -d' ' -f5-8 /proc/$$/stat | wc -w; cat /proc/self/oom_score_adj";
    let keys = "user: nobody, umask: '0027', limits: {nofile: 123}, nice: 3, oom_score_adj: 7,
    environment: {A: b c},";
    let with = probe("protect_home: true", keys, script);
    let dir = with.path("").to_string_lossy().trim_end_matches('/').to_owned();
    let with = seen(with);
    // Without any key but the one that is no mount of its own.
    let without = probe("no_new_privileges: true", keys, script);
    let other = without.path("").to_string_lossy().trim_end_matches('/').to_owned();
    let text = without.text("").len();
    assert!(text > 0);
    let without = seen(without);
    let same = |lines: &[String], dir: &str| lines.join("\n").replace(dir, "DIR");
    assert_eq!(same(&with, &dir), same(&without, &other));
    assert!(with.iter().any(|line| line == "123"), "{with:?}");
}

#[test]
fn who_is_kept_from_something_is_heard_as_any_other() {
    if !is_root() {
        return skip("not root");
    }
    // Descriptors below, at and above those of the helper, and a pid that is that of the program.
    for fd in [3, 4, 5, 6, 9] {
        let script = format!("echo >&{fd}; echo $WATCHDOG_PID $$ > DIR/out/seen; exec sleep 1000");
        let keys = format!("readiness: {{fd: {fd}}}, watchdog: 1h,");
        let mut site = probe("protect_system: strict, protect_home: true", &keys, &script).start();
        site.all_running();
        let pid = site.main_pid("probe");
        until("it has said so", || {
            fs::read_to_string(site.path("out/seen")).is_ok_and(|t| t == format!("{pid} {pid}\n"))
        });
        assert_eq!(site.end(), 0);
    }
    let says = "systemd-notify --ready --status=kept || python3 -c \
                'import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
                 s.sendto(b\"READY=1\", os.environ[\"NOTIFY_SOCKET\"])'; exec sleep 1000";
    let mut site =
        probe("protect_system: strict, protect_home: true", "type: notify,", says).start();
    site.all_running();
    assert_eq!(site.end(), 0);
}
