//! A reboot when the disk below it all has died: it gives errors, or does not answer any more.

use super::{
    console::End,
    machine::{Guest, Plan},
};

/// The disk is asked for nothing but what the test is about.
const QUIET: &str = "mount -o remount,noatime /";

/// The bot is there already, and asks when it is told to, without any command: when a disk is gone,
/// the kernel forgets what it knew of it.
const BOT: &str = "
touch /dev/shm/bot
read line </run/go
: >/dev/shm/down
";

/// A guest in which all runs, with a disk that is in order yet.
fn guest(methods: &str) -> Option<Guest> {
    let site = format!(
        "version: 1\nsupervisor: {{name: site, lock_memory: true}}\ndefaults: {{user: root}}\n\
         programs:\n  web: {{command: [sleep, '1000']}}\n\
         semaphores:\n  down:\n    path: /dev/shm/down\n    type: file\n    allow: {{users: [bot]}}\n    \
         action: {{reboot: {{methods: {methods}, timeout: 1s, grace: 2s, sysrq: {{wait: 200ms}}}}}}\n"
    );
    let plan = Plan::new()?.file("/etc/site.yaml", &site).at_boot(QUIET);
    let plan = plan.script("/sbin/systemctl", "exit 0").script("/bin/bot", BOT);
    let mut guest = plan.boot();
    guest.start("supervisor -c /etc/site.yaml");
    guest.wait_for_count("semaphore:down: armed", 1);
    guest.wait_for_count("web: started", 1);
    guest.sh("mkfifo -m 666 /run/go; su bot -c 'exec bot' </dev/null >/dev/null 2>&1 &");
    guest.sh("until [ -e /dev/shm/bot ]; do usleep 50000; done");
    Some(guest)
}

fn ask(guest: &mut Guest) {
    guest.send("echo >/run/go");
}

/// S0-65: no command can be read from it.
#[test]
fn a_host_whose_disk_is_gone_reboots() {
    let Some(mut guest) = guest("[systemctl, syscall]") else { return };
    guest.sh("cd /sys/block/vda/device; cd $(readlink -f ..); echo 1 >remove");
    assert_ne!(guest.run("cat /sbin/systemctl").code, 0, "the disk is still there");
    ask(&mut guest);
    assert_eq!(guest.wait_end(), End::Rebooted);
    guest.said_in_order(&["systemctl has failed", "tries syscall", "reboot: Restarting system"]);
}

/// S0-65: the command does not even come to its exec, and sync(2) does not end.
#[test]
fn a_host_whose_disk_does_not_answer_reboots() {
    let Some(mut guest) = guest("[systemctl, syscall]") else { return };
    guest.stall_disk();
    ask(&mut guest);
    assert_eq!(guest.wait_end(), End::Rebooted);
    guest.said_in_order(&["systemctl has failed", "tries syscall", "reboot: Restarting system"]);
}

/// What the first keys begin never ends, and the last one is pressed.
#[test]
fn an_emergency_on_a_disk_that_does_not_answer_gets_to_the_last_key() {
    let Some(mut guest) = guest("[sysrq]") else { return };
    guest.stall_disk();
    ask(&mut guest);
    assert_eq!(guest.wait_end(), End::Reset);
    guest.said_in_order(&["Emergency Sync", "Emergency Remount R/O", "sysrq: Resetting"]);
    assert_eq!(guest.said("Emergency Remount complete"), [""; 0], "the disk answers");
}
