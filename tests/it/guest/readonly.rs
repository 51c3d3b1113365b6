//! A root that is ext4, and becomes read-only with everything on it.

use super::machine::{Guest, Plan};

const SITE: &str = r#"
version: 1
supervisor: {name: site, log: {file: /var/log/supervisor.log}}
defaults: {user: root}
programs:
  web: {command: [sleep, '1000']}
  talks: {command: [sh, -c, 'while :; do echo tick; sleep 0.2; done'], user: bot, logging: {stdout: /var/log/talks.log}}
semaphores:
  ask: {path: /dev/shm/ask.lock, allow: {users: [bot]}, action: restart:web}
"#;

fn plan() -> Option<Plan> {
    Some(Plan::new()?.file("/etc/site.yaml", SITE).command("/usr/bin/flock"))
}

/// The bot asks, and is heard, for the first time.
fn ask(guest: &mut Guest) {
    guest.sh("su bot -c 'exec flock -n /dev/shm/ask.lock sleep 1000' </dev/null >/dev/null 2>&1 &");
    guest.wait_for_count("semaphore:ask: does restart:web", 1);
    guest.wait_for_count("web: stopping (restart)", 1);
}

fn supervisor(guest: &mut Guest, words: &str) {
    guest.sh(&format!("supervisor -c /etc/site.yaml {words}"));
}

/// S0-14: nothing on a disk can be written, from before the start to after the end.
#[test]
fn on_a_disk_that_cannot_be_written_a_site_starts_watches_and_acts() {
    let Some(plan) = plan() else { return };
    let mut guest = plan.boot();
    guest.sh("mount -o remount,ro /");
    for place in ["/", "/tmp/", "/var/log/", "/etc/"] {
        assert_ne!(guest.run(&format!("touch {place}x")).code, 0, "{place}");
    }
    guest.start("supervisor -c /etc/site.yaml");
    guest.wait_for_count("supervisor.log: Read-only file system", 1);
    guest.wait_for_count("semaphore:ask: armed", 1);
    ask(&mut guest);
    supervisor(&mut guest, "restart talks");
    supervisor(&mut guest, "reload");
    supervisor(&mut guest, "shutdown");
    guest.wait_for_count("stopped, exit 0", 1);
}

/// The same in the background, where standard error is nobody's.
#[test]
fn on_a_disk_that_cannot_be_written_a_site_goes_into_the_background() {
    let Some(plan) = plan() else { return };
    let mut guest = plan.boot();
    guest.sh("mount -o remount,ro /");
    supervisor(&mut guest, "-d --pid-file /run/pid");
    guest.sh("kill -0 $(cat /run/pid)");
    guest.sh("test -n \"$(supervisor -c /etc/site.yaml pid web)\"");
    guest.sh("kill $(cat /run/pid); while [ -e /run/pid ]; do usleep 50000; done");
}

/// S0-17: it becomes read-only while files on it are open, as after an error of the disk.
#[test]
fn a_log_on_a_disk_that_becomes_read_only_goes_to_standard_error_and_comes_back() {
    let Some(plan) = plan() else { return };
    let mut guest = plan.boot();
    guest.start("supervisor -c /etc/site.yaml");
    guest.sh("until grep -q 'semaphore:ask: armed' /var/log/supervisor.log; do usleep 50000; done");
    guest.sh("until grep -q tick /var/log/talks.log; do usleep 50000; done");
    // A remount would be refused: files are open.
    assert_ne!(guest.run("mount -o remount,ro /").code, 0);
    guest.sh("echo u >/proc/sysrq-trigger; while touch /x; do usleep 50000; done 2>/dev/null");
    assert_eq!(guest.said("info  "), [""; 0], "the file is enough");
    // Files that are open take lines that are never written: that is found out within a second.
    while guest.said("web: started").is_empty() {
        supervisor(&mut guest, "restart web");
    }
    ask(&mut guest);
    guest.wait_for_count("cannot write /var/log/talks.log: Read-only file system", 1);
    guest.sh("mount -o remount,rw /");
    // Nobody tells the supervisor: it tries again after a while.
    guest.sh("until tail -n 1 /var/log/supervisor.log | grep -q 'web: started'; do
           supervisor -c /etc/site.yaml restart web; sleep 1
         done");
    // What was said meanwhile is not there, and that it is missing is.
    guest.sh("until grep -q 'lines.*lost' /var/log/talks.log; do usleep 50000; done");
    assert_eq!(guest.run("grep 'does restart:web' /var/log/supervisor.log").code, 1);
}
