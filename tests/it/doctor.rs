//! `doctor`, where all is well and where it is not.
#![expect(
    clippy::disallowed_methods,
    reason = "the binary is driven from outside, as a user drives it"
)]

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::PathBuf,
    process::Command,
};

use crate::{
    cli::site::{Ran, Site, bare, json},
    sys_world::{is_skipped_without_root, until},
};

const SEMAPHORES: &str = "
semaphores:
  ask: {path: DIR/lock, info_file: DIR/info, owner: self, action: 'restart:web'}
  old: {path: DIR/old, type: file, action: 'restart:web'}
";

fn written(semaphores: &str) -> Site {
    let site = Site::written("");
    let text = format!("  web: {{command: [sleep, '1000']}}{semaphores}");
    site.write(&text.replace("DIR", site.dir.path().to_str().unwrap()));
    site
}

fn path(site: &Site, name: &str) -> PathBuf {
    site.dir.path().join(name)
}

/// The text of the line about `what` with `text` in it.
fn line<'a>(out: &'a str, what: &str, text: &str) -> &'a str {
    let mut found = out.lines().filter(|line| line.contains(what) && line.contains(text));
    found.next().unwrap_or_else(|| panic!("no line of {what} with {text:?}: {out}"))
}

/// The six steps of the test of its own.
fn steps(out: &str) -> Vec<&str> {
    let of_it = out.lines().filter(|line| line.contains("  self-test, "));
    of_it.map(|line| &line[..4]).collect()
}

/// No file of a trial is there, ours or that of another test that is about to end.
fn nothing_is_left() {
    let is_one = |entry: std::io::Result<fs::DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().contains("mini-supervisor-doctor")
    };
    until("nothing is left", || !fs::read_dir("/dev/shm").unwrap().any(is_one));
}

#[test]
fn where_all_is_well_each_line_is_a_pass() {
    let site = written(SEMAPHORES).started();
    site.wait_log("semaphore:ask: armed");
    site.wait_log("semaphore:old: armed");
    let out = site.expect(0, &["doctor"]).out;
    let pid = site.pid();
    line(&out, "PASS  supervisor: site t, ", &format!("pid {pid}, up for "));
    line(&out, "PASS  /dev/shm: ", "a mounted tmpfs");
    line(&out, "PASS  /dev/shm: ", "it can be written");
    line(&out, "PASS  /dev/shm: ", "are free");
    line(&out, "PASS  semaphore:ask: ", "/lock: of ");
    line(&out, "PASS  semaphore:ask: ", "/info is not there");
    line(&out, "PASS  semaphore:ask: ", "CLEAR, armed");
    line(&out, "PASS  semaphore:old: ", "/old is not there: nobody asks");
    assert_eq!(steps(&out), ["PASS"; 6], "{out}");
    assert!(out.ends_with(" passed, 0 failed\n"), "{out}");
    let document = json(&site.expect(0, &["doctor", "--json"]).out);
    assert_eq!(document["ok"], true);
    let checks = document["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["verdict"] == "PASS"), "{document}");
    nothing_is_left();
}

#[test]
fn without_a_supervisor_it_says_how_to_start_it() {
    let site = written(SEMAPHORES);
    let out = site.expect(1, &["doctor"]).out;
    line(&out, "FAIL  supervisor: ", "no supervisor is running for this site");
    let hint = format!("      hint: start it with: supervisor -c {}", site.file().display());
    assert!(out.lines().any(|line| line == hint), "{out}");
    line(&out, "PASS  semaphore:ask: ", "/lock is not there: the supervisor makes it");
    assert_eq!(steps(&out), ["PASS"; 6], "{out}");
    site.write("  web: {comand: x}");
    let out = site.expect(1, &["doctor"]).out;
    line(&out, "FAIL  ", "site.yaml: 2 mistakes");
    // Without any site the host is looked at all the same.
    let ran: Ran = bare(&["doctor", "-s", "/nonexistent"]).output().unwrap().into();
    assert_eq!((ran.code, steps(&ran.out).len()), (Some(1), 6), "{ran:?}");
}

#[test]
fn what_is_wrong_with_the_files_of_a_semaphore_is_said() {
    let site = written(SEMAPHORES);
    let (lock, info, old) = (path(&site, "lock"), path(&site, "info"), path(&site, "old"));
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, Permissions::from_mode(0o666)).unwrap();
    fs::write(&info, "").unwrap();
    fs::set_permissions(&info, Permissions::from_mode(0o666)).unwrap();
    symlink("/etc/passwd", &old).unwrap();
    let out = site.expect(1, &["doctor"]).out;
    line(&out, "FAIL  semaphore:ask: ", "/lock: its mode 0666 is wider than 0600");
    line(&out, "FAIL  semaphore:ask: ", "/info: its mode 0666: others may write it");
    line(&out, "FAIL  semaphore:old: ", "/old: it is a symbolic link");
    assert!(
        out.contains(&format!("hint: see who made it, then: rm {}\n", lock.display())),
        "{out}"
    );
    site.write(&format!(
        "  web: {{command: [x]}}\nsemaphores:\n  ask: {{path: {}, action: reload}}",
        path(&site, "open/lock").display()
    ));
    fs::create_dir(path(&site, "open")).unwrap();
    fs::set_permissions(path(&site, "open"), Permissions::from_mode(0o777)).unwrap();
    let out = site.expect(1, &["doctor"]).out;
    line(&out, "FAIL  semaphore:ask: ", "mode 0777: others may remove and replace its files");
    site.write(
        "  web: {command: [x]}\nsemaphores:\n  ask: {path: /nonexistent/lock, action: reload}",
    );
    let out = site.expect(1, &["doctor"]).out;
    line(&out, "FAIL  semaphore:ask: ", "its directory /nonexistent: No such file or directory");
}

#[test]
fn a_lock_file_of_a_stranger_is_named_as_such() {
    if is_skipped_without_root() {
        return; // only root can give a file away
    }
    let site = written(SEMAPHORES);
    fs::write(path(&site, "lock"), "").unwrap();
    fs::set_permissions(path(&site, "lock"), Permissions::from_mode(0o600)).unwrap();
    chown(path(&site, "lock"), Some(65_534), None).unwrap();
    let site = site.started();
    site.wait_log("semaphore:ask: nothing is done, as it is no longer ours: ");
    let out = site.expect(1, &["doctor"]).out;
    line(&out, "FAIL  semaphore:ask: ", "/lock: it belongs to uid 65534, not to uid 0");
    line(&out, "FAIL  semaphore:ask: ", "UNKNOWN, ");
}

/// In a mount namespace of its own in which this was done to /dev/shm.
fn with_shm(doing: &str) -> Ran {
    let script = format!("{doing}; exec \"$0\" doctor -s /nonexistent");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_supervisor")]);
    command.output().unwrap().into()
}

#[test]
fn a_dev_shm_that_is_missing_no_tmpfs_read_only_or_full_is_said() {
    if is_skipped_without_root() {
        return; // only root can mount
    }
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().display();
    let out = with_shm(&format!("mount --bind {empty} /dev/shm")).out;
    let kind = line(&out, "FAIL  /dev/shm: it is ", ", not tmpfs").to_owned();
    assert!(
        out.contains("      hint: mount -t tmpfs -o size=10M,mode=1777 tmpfs /dev/shm\n"),
        "{kind}"
    );
    let out = with_shm("mount -t tmpfs tmpfs /dev").out;
    line(&out, "FAIL  /dev/shm: ", "it does not exist");
    assert_eq!(steps(&out)[..2], ["PASS", "FAIL"], "{out}");
    assert_eq!(steps(&out)[2..], ["SKIP"; 4], "{out}");
    let out = with_shm("mount -t tmpfs tmpfs /dev; mkdir /dev/shm").out;
    line(&out, "FAIL  /dev/shm: ", "nothing is mounted there");
    let out = with_shm("mount -t tmpfs -o ro,mode=1777 tmpfs /dev/shm").out;
    line(&out, "FAIL  /dev/shm: ", "it cannot be written: Read-only file system");
    let fill = "head -c 1M /dev/zero >/dev/shm/x 2>/dev/null";
    let out =
        with_shm(&format!("mount -t tmpfs -o size=256k,mode=1777 tmpfs /dev/shm; {fill}")).out;
    line(&out, "FAIL  /dev/shm: ", "it is full: 0 B of 256 KiB are free");
    let out = with_shm("mount -t tmpfs -o mode=0777 tmpfs /dev/shm").out;
    line(&out, "FAIL  /dev/shm: ", "mode 0777: anybody may remove the files of others");
    assert_eq!(steps(&out), ["PASS"; 6], "{out}");
}
