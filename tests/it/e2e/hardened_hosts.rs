//! `hardening` on hosts of all kinds: without privileges, without mounts, with mounts that come later.

use std::fs;

use mini_supervisor::control::StateWord;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{
    hardening::{has, probe},
    harness::{Plan, Site, is_root, program, skip},
};
use crate::sys_world::until;

#[test]
fn what_cannot_be_had_is_an_error_that_names_it() {
    if !is_root() {
        return skip("not root: cannot become nobody");
    }
    let fails = |plan: Plan, words: &[&str]| {
        let mut site = plan.start();
        site.wait_for("it has failed", |s| {
            matches!(
                program(s, "one").state,
                StateWord::Fatal | StateWord::Exited | StateWord::Backoff
            )
        });
        let history: Vec<String> = site.history().iter().map(|line| line.text.clone()).collect();
        let found = history.iter().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?}: {history:#?}");
        assert_eq!(site.end(), 0);
    };
    let one = |hardening: &str| {
        let text = "command: [sleep, '1000'], restart: {policy: never}";
        Plan::new(&format!("  one: {{{text}, hardening: {{{hardening}}}}}"))
    };
    let words = ["hardening.private_tmp", "CAP_SYS_ADMIN"];
    fails(one("private_tmp: true").run_as(65534, 65534), &words);
    let words = ["hardening.devices", "CAP_SYS_ADMIN"];
    fails(one("devices: []").run_as(65534, 65534), &words);
    let words = ["hardening.capabilities", "bounding set"];
    fails(one("capabilities: []").run_as(65534, 65534), &words);
    let words = ["hardening.read_write_paths", "/no/such is not there", "-/no/such"];
    fails(one("protect_system: strict, read_write_paths: [/no/such]"), &words);
    // What is wrong with the program itself is said as without.
    let text = "command: [/no/such/program], restart: {policy: never}";
    let plan =
        Plan::new(&format!("  one: {{{text}, hardening: {{system_call_filter: ['@known']}}}}"));
    fails(plan, &["executing /no/such/program", "No such file"]);
}

#[test]
fn an_unprivileged_supervisor_filters_system_calls_all_the_same() {
    if !is_root() {
        return skip("not root: cannot become nobody");
    }
    let plan = Plan::new(
        "  probe: {command: [sh, -c, 'grep ^Seccomp: /proc/self/status > DIR/seen'], restart: {policy: never},
    hardening: {system_call_filter: ['@system-service'], restrict_address_families: [AF_UNIX]}}",
    )
    .run_as(65534, 65534);
    let mut site = plan.start();
    site.wait_state("probe", StateWord::Exited);
    assert_eq!(fs::read_to_string(site.path("seen")).unwrap(), "Seccomp:\t2\n");
    assert_eq!(site.end(), 0);
}

#[test]
fn where_mounts_are_not_allowed_paths_are_closed_and_hidden_all_the_same() {
    if !is_root() {
        return skip("not root: cannot become nobody");
    }
    let plan = probe(
        "protect_system: strict, protect_home: true, inaccessible_paths: [DIR/key, DIR/secrets]",
        "",
        "try write DIR/beside; try write DIR/out/x; try cat DIR/key; try ls DIR/secrets
try cat DIR/page; try write DIR/page; try truncate -s 0 DIR/page; try write /dev/null
try cat /etc/group; try ls /home; try mkdir DIR/new; try sh -c :",
    )
    .run_as(65534, 65534)
    .file("key", "x")
    .file("page", "x");
    fs::create_dir(plan.path("secrets")).unwrap();
    for name in ["secrets", "key", "page", "out"] {
        nix::unistd::chown(&plan.path(name), Some(65534.into()), None).unwrap();
    }
    let dir = plan.path("").to_string_lossy().trim_end_matches('/').to_owned();
    let mut site = plan.start();
    site.wait_for("it has ended", |s| {
        matches!(program(s, "probe").state, StateWord::Fatal | StateWord::Exited)
    });
    if site.history().iter().any(|line| line.text.contains("Landlock as of")) {
        assert_eq!(site.end(), 0);
        return skip("no Landlock as of Linux 6.2");
    }
    let text = fs::read_to_string(site.path("out/seen")).unwrap_or_default();
    let seen: Vec<String> = text.lines().map(|line| line.replace(&dir, "DIR")).collect();
    has(&seen, &["write DIR/beside: no", "write DIR/out/x: yes", "cat DIR/key: no"]);
    has(&seen, &["ls DIR/secrets: no", "cat DIR/page: yes", "write DIR/page: no"]);
    has(&seen, &["truncate -s 0 DIR/page: no", "write /dev/null: yes", "cat /etc/group: yes"]);
    has(&seen, &["ls /home: no", "mkdir DIR/new: no", "sh -c :: yes"]);
    assert_eq!(site.end(), 0);
}

#[test]
fn check_says_what_a_host_has_for_it() {
    if !is_root() {
        return skip("not root: cannot become nobody");
    }
    let one = |hardening: &str| {
        let text = "  one: {command: [sleep, '1000'], hardening: {HARDENING}}";
        Plan::new(&text.replace("HARDENING", hardening)).arg("check")
    };
    let (code, out, text) = one("protect_home: true").run_as(65534, 65534).run();
    assert!(code == 0 && out.contains("ok (1 program)"), "{text}");
    assert!(text.contains("note: one: ") && text.contains("Landlock"), "{text}");
    let (_, _, text) = one("capabilities: []").run_as(65534, 65534).run();
    assert!(!text.contains("note: "), "{text}");
    let private = ["unshare", "-m", "--propagation", "private"];
    let (code, _, text) = one("protect_home: true").wrapped(&private).run();
    assert!(code == 0 && text.contains("one: does not see what is mounted after"), "{text}");
    let shared = ["unshare", "-m", "--propagation", "shared"];
    let (_, _, text) = one("protect_home: true").wrapped(&shared).run();
    assert!(!text.contains("note: "), "{text}");
}

/// A mount that ends with its test.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
    }
}

#[test]
fn what_is_mounted_later_is_seen_where_the_mount_above_is_shared() {
    if !is_root() {
        return skip("not root");
    }
    let plan = Plan::new(
        "  one: {command: [DIR/one], hardening: {protect_home: true, protect_system: strict, read_write_paths: [DIR]}}",
    )
    .script("one", "echo > DIR/ready; read go < DIR/go; cat DIR/shared/later/x > DIR/seen; echo >> DIR/seen; exec sleep 1000");
    let shared = plan.path("shared");
    fs::create_dir_all(shared.join("later")).unwrap();
    mount(Some(&shared), &shared, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    let _shared = Mounted(shared.clone());
    mount(None::<&str>, &shared, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    super::harness::fifo(&plan, "go");
    let mut site: Site = plan.start();
    site.all_running();
    let (ready, seen) = (site.path("ready"), site.path("seen"));
    until("it is there", || ready.exists());
    let later = shared.join("later");
    mount(Some("tmpfs"), &later, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    let _later = Mounted(later.clone());
    fs::write(later.join("x"), "from outside").unwrap();
    fs::write(site.path("go"), "go\n").unwrap();
    until("it has looked", || fs::read_to_string(&seen).is_ok_and(|text| text.ends_with('\n')));
    assert_eq!(fs::read_to_string(&seen).unwrap(), "from outside\n");
    assert_eq!(site.end(), 0);
}

#[test]
fn a_binary_that_was_replaced_on_the_disk_still_starts_its_programs() {
    if !is_root() {
        return skip("not root");
    }
    let mut site = Plan::new(
        "  one: {command: [sleep, '1000'], autostart: false, hardening: {protect_home: true}}",
    )
    .wrapped(&["sh", "-c", "cp \"$1\" ./copy; shift; exec ./copy \"$@\"", "sh"])
    .start();
    let copy = site.path("copy");
    fs::remove_file(&copy).unwrap();
    fs::write(&copy, "#!/bin/false\n").unwrap();
    site.bring_up(&["one"]);
    site.all_running();
    assert_eq!(site.end(), 0);
}
