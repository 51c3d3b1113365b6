//! A semaphore that reboots the host, or switches it off, for real.

use super::{
    console::End,
    machine::{Guest, Plan},
};

/// Says on the console when it is told to end.
const WEB: &str = "
trap 'echo \"web: is told to end\" >/dev/console; exit 0' TERM
while :; do sleep 0.1; done
";

/// A guest with this semaphore, and a supervisor that does not run yet.
fn plan(semaphore: &str) -> Option<Plan> {
    let site = format!(
        "version: 1\nsupervisor: {{name: site}}\ndefaults: {{user: root}}\n\
         programs:\n  web: {{command: [/bin/web]}}\n\
         semaphores:\n  down: {{path: /dev/shm/down.lock, allow: {{users: [bot]}}, mode: '0644', {semaphore}}}\n"
    );
    let plan = Plan::new()?.file("/etc/site.yaml", &site).script("/bin/web", WEB);
    Some(plan.command("/usr/bin/flock"))
}

/// Starts the supervisor, not as process 1, and waits until it looks.
fn start(guest: &mut Guest, before: &str) {
    guest.start(&format!("{before} supervisor -c /etc/site.yaml"));
    ready(guest);
}

fn ready(guest: &Guest) {
    guest.wait_for_count("semaphore:down: armed", 1);
    guest.wait_for_count("web: started", 1);
}

/// The bot asks, as long as it lives.
fn ask(guest: &mut Guest) {
    guest.send(
        "su bot -c 'exec flock -n /dev/shm/down.lock sleep 1000' </dev/null >/dev/null 2>&1 &",
    );
}

/// S0-66: not as process 1, without any help by a command.
#[test]
fn a_raised_semaphore_stops_the_programs_and_reboots() {
    let Some(plan) = plan("action: {reboot: {methods: [syscall]}}") else { return };
    let mut guest = plan.boot();
    start(&mut guest, "");
    ask(&mut guest);
    assert_eq!(guest.wait_end(), End::Rebooted);
    guest.said_in_order(&[
        "raised by",
        "web: is told to end",
        "tries syscall",
        "reboot: Restarting",
    ]);
}

/// The `reboot` that is there, busybox's, sends SIGTERM to process 1, which is us: the kernel would
/// panic if we ended.
#[test]
fn as_process_1_it_reboots_and_the_kernel_does_not_panic() {
    let Some(plan) = plan("action: reboot") else { return };
    let mut guest = plan.init("/etc/site.yaml").boot();
    ready(&guest);
    ask(&mut guest);
    assert_eq!(guest.wait_end(), End::Rebooted);
    guest.said_in_order(&["web: is told to end", "tries syscall", "reboot: Restarting"]);
    assert_eq!(guest.said("SIGTERM from reboot"), [""; 0]);
}

/// S0-49, S0-52: one is refused, one does not do what it says, one does not end, one may not.
#[test]
fn methods_are_tried_in_turn_until_the_host_goes_down() {
    let keys = "timeout: 1s, grace: 2s, sysrq: {wait: 200ms}";
    let Some(plan) = plan(&format!("action: {{reboot: {{{keys}}}}}")) else { return };
    let plan = plan
        .script("/sbin/systemctl", "echo 'no bus' >&2; exit 1")
        .script("/sbin/shutdown", "exit 0")
        .script("/sbin/reboot", "exec sleep 1000")
        .command("/usr/bin/setpriv");
    let mut guest = plan.boot();
    start(&mut guest, "/bin/setpriv --bounding-set -sys_boot");
    ask(&mut guest);
    assert_eq!(guest.wait_end(), End::Reset);
    guest.said_in_order(&[
        "web: is told to end",
        "systemctl has failed: exit 1: no bus",
        "shutdown has accepted",
        "still up",
        "reboot has failed",
        "syscall has failed",
        "tries sysrq",
        "Emergency Sync",
        "Emergency Remount R/O",
        "sysrq: Resetting",
    ]);
}

/// S0-50, F0-12: the keys that end all processes are not pressed, so the last one is. Nothing can
/// be written, kernel.sysrq allows nothing, and nobody waits for programs.
#[test]
fn an_emergency_on_a_read_only_disk_gets_to_the_last_key() {
    let keys = "methods: [sysrq], sysrq: {sequence: reisub, wait: 200ms}";
    let Some(plan) = plan(&format!("action: {{reboot: {{{keys}}}}}")) else { return };
    let mut guest = plan.boot();
    guest.sh("sysctl -w kernel.sysrq=0; mount -o remount,ro /");
    start(&mut guest, "");
    ask(&mut guest);
    assert_eq!(guest.wait_end(), End::Reset);
    guest.said_in_order(&["Emergency Sync", "Emergency Remount R/O", "sysrq: Resetting"]);
    for never in ["web: is told to end", "Terminate All Tasks", "Kill All Tasks"] {
        assert_eq!(guest.said(never), [""; 0]);
    }
}

/// Process 1 is spared by those keys, so it presses them.
#[test]
fn an_emergency_as_process_1_presses_all_keys() {
    let keys = "methods: [sysrq], sysrq: {sequence: reisub, wait: 200ms}";
    let Some(plan) = plan(&format!("action: {{reboot: {{{keys}}}}}")) else { return };
    let mut guest = plan.init("/etc/site.yaml").boot();
    ready(&guest);
    ask(&mut guest);
    assert_eq!(guest.wait_end(), End::Reset);
    let keys = ["Terminate All Tasks", "Kill All Tasks", "Emergency Sync", "sysrq: Resetting"];
    guest.said_in_order(&keys);
}

/// SEC-27, S0-53: no key does anything, as on a kernel without them.
#[test]
fn when_nothing_works_it_is_said_and_the_host_is_as_before() {
    let keys = "methods: [sysrq], stop_programs: true, grace: 1s, sysrq: {wait: 10ms}, \
                retry: {delay: 1s}";
    let Some(plan) = plan(&format!("action: {{reboot: {{{keys}}}}}")) else { return };
    let mut guest = plan.boot();
    guest.sh("sysctl -w kernel.sysrq=0; mount --bind /dev/null /proc/sysrq-trigger");
    start(&mut guest, "");
    ask(&mut guest);
    guest.wait_for_count("none of its methods has worked", 1);
    guest.wait_for_count("web: started", 2);
    guest.wait_for_count("none of its methods has worked", 2);
    assert_eq!(guest.sh("cat /proc/sys/kernel/sysrq"), "0");
    guest.sh("supervisor -c /etc/site.yaml semaphore clear down");
    guest.wait_for_count("reboot: cancelled", 1);
    assert_eq!(guest.boots(), 1);
}

#[test]
fn a_raised_semaphore_stops_the_programs_and_switches_the_host_off() {
    let Some(plan) = plan("action: {poweroff: {methods: [syscall]}}") else { return };
    let mut guest = plan.boot();
    start(&mut guest, "");
    ask(&mut guest);
    assert_eq!(guest.wait_end(), End::PoweredOff);
    guest.said_in_order(&["web: is told to end", "tries syscall", "reboot: Power down"]);
}

#[test]
fn an_emergency_can_switch_the_host_off() {
    let keys = "methods: [sysrq], sysrq: {wait: 200ms}";
    let Some(plan) = plan(&format!("action: {{poweroff: {{{keys}}}}}")) else { return };
    let mut guest = plan.boot();
    start(&mut guest, "");
    ask(&mut guest);
    assert_eq!(guest.wait_end(), End::PoweredOff);
    guest.said_in_order(&["Emergency Remount R/O", "reboot: Power down"]);
}

/// Asks at each boot, before anything else.
const AT_BOOT: &str = "
su bot -c 'exec flock -n /dev/shm/down.lock sleep 1000' </dev/null >/dev/null 2>&1 &
until [ -e /dev/shm/down.lock ]; do usleep 50000; done
supervisor -c /etc/site.yaml &
";

/// SEC-06, S0-56: it is rebooted after each `min_uptime`, and not at once, as often as it asks.
#[test]
fn a_bot_that_asks_at_each_boot_reboots_no_sooner_than_min_uptime() {
    let Some(plan) = plan("min_uptime: 6s, action: {reboot: {methods: [syscall]}}") else { return };
    let mut guest = plan.at_boot(AT_BOOT).reboots().boot();
    guest.wait_for_count("(min_uptime)", 1);
    guest.wait_boot(2);
    // And so it goes on.
    guest.wait_for_count("(min_uptime)", 2);
    let at = |text: &str| seconds(&guest.said(text)[0]);
    let (begun, over) = (at("supervising "), at("semaphore:down: does reboot"));
    assert!((over - begun).rem_euclid(86_400.0) >= 5.0, "{begun} {over}");
}

/// The time of day that a line of the supervisor begins with, in seconds.
fn seconds(line: &str) -> f64 {
    let stamp = line.split(' ').next().unwrap();
    let parts = stamp.split(':').map(|part| part.parse::<f64>().unwrap());
    parts.fold(0.0, |sum, part| sum * 60.0 + part)
}

/// The same with a `min_uptime` in which somebody can log in and end it.
#[test]
fn a_bot_that_asks_at_each_boot_is_held_back_and_can_be_refused_by_hand() {
    let Some(plan) = plan("min_uptime: 1h, action: {reboot: {methods: [syscall]}}") else { return };
    let mut guest = plan.at_boot(AT_BOOT).reboots().boot();
    guest.wait_for_count("(min_uptime)", 1);
    assert_eq!(guest.run("supervisor -c /etc/site.yaml semaphore status down").code, 0);
    guest.sh("supervisor -c /etc/site.yaml semaphore clear down");
    guest.wait_for_count("semaphore:down: cancelled", 1);
    assert_eq!(guest.said("does reboot"), [""; 0]);
    assert_eq!(guest.boots(), 1);
}
