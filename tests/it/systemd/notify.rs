//! What the supervisor tells systemd, and what systemd does about it.

use super::{
    machine::Machine,
    units::{Kind, unit},
};

/// The two that the documents recommend.
const KINDS: [Kind; 2] = [Kind::Forking, Kind::Notify];

/// Y3: up when READY=1 was sent, a line for `systemctl status`, reloads, and a stop that is seen.
#[test]
fn systemctl_shows_what_the_supervisor_says() {
    let Some(machine) = Machine::boot() else { return };
    machine.script("/srv/slow", "trap 'sleep 1.5; exit 0' TERM\nwhile :; do sleep 0.1; done");
    let programs = "  a: {command: [sleep, '1060']}\n  b: {command: [/srv/slow]}";
    for kind in KINDS {
        machine.site("one", programs);
        let unit = unit(&machine, kind, "one", "");
        machine.systemctl(&["start", &unit]);
        assert_eq!(machine.show(&unit, "ActiveState"), "active", "{kind:?}");
        let text = |wanted: &str| {
            machine.until(wanted, |m| m.show(&unit, "StatusText").starts_with(wanted));
        };
        text("2/2 running");
        let status = machine.systemctl(&["status", "--no-pager", &unit]);
        assert!(status.contains("Status: \"2/2 running"), "{kind:?}: {status}");
        // A program more is a line more, and the unit is active again after the reload.
        machine.site("one", &format!("{programs}\n  c: {{command: [sleep, '1061']}}"));
        machine.systemctl(&["reload", &unit]);
        text("3/3 running");
        machine.wait_state(&unit, "active");
        assert_eq!(machine.show(&unit, "SubState"), "running", "{kind:?}");
        // It stops by itself: systemd is told, and waits as if it had asked for it.
        machine.systemctl(&["kill", "--signal=TERM", "--kill-who=main", &unit]);
        machine.wait_state(&unit, "deactivating");
        machine.wait_state(&unit, "inactive");
        assert_eq!(machine.show(&unit, "Result"), "success", "{kind:?}");
    }
}

/// Y3: with `ready_when: programs` systemctl returns when the programs are up, however long that
/// takes, while something is under way.
#[test]
fn a_start_that_waits_for_programs_may_take_longer_than_the_limit() {
    let Some(machine) = Machine::boot() else { return };
    let text = "version: 1\nsupervisor: {ready_when: programs}\ndefaults: {user: root}\nprograms:
  a: {command: [sleep, '1065'], start_pre: [{command: [sleep, '5']}]}
  b: {command: [sleep, '1066'], requires: [a]}\n";
    machine.write("/etc/mini-supervisor/one.yaml", text);
    for kind in KINDS {
        let unit = unit(&machine, kind, "one", "TimeoutStartSec=3");
        machine.systemctl(&["start", &unit]);
        machine.wait_process("sleep 1065");
        assert_eq!(machine.processes("sleep 1066").len(), 1, "{kind:?}: both at once");
        machine.systemctl(&["stop", &unit]);
    }
}

/// Y4: with `NotifyAccess=main` systemd refuses, and logs, what comes before it knows who we are.
#[test]
fn in_the_background_nothing_is_said_before_systemd_knows_the_main_process() {
    let Some(machine) = Machine::boot() else { return };
    machine.site("one", "  a: {command: [sleep, '1070']}");
    for access in ["main", "all", "exec"] {
        let more = format!("NotifyAccess={access}");
        let unit = unit(&machine, Kind::Forking, "one", &more);
        for _ in 0..5 {
            machine.systemctl(&["start", &unit]);
            machine.until("a status", |m| m.show(&unit, "StatusText") == "1/1 running");
            machine.systemctl(&["reload", &unit]);
            machine.systemctl(&["stop", &unit]);
            assert_eq!(machine.show(&unit, "Result"), "success");
        }
    }
    let log = machine.log();
    assert!(!log.contains("reception only permitted"), "{log}");
    assert!(!log.contains("Got notification message from PID"), "{log}");
}

/// Y5: who does not get on is killed and started again; who has nothing to do is not.
#[test]
fn the_watchdog_ends_what_hangs_and_nothing_else() {
    let Some(machine) = Machine::boot() else { return };
    let units = KINDS.map(|kind| {
        let name = format!("{kind:?}").to_lowercase();
        machine.site(&name, "  a: {command: [sleep, '1080']}");
        let more = "WatchdogSec=2\nLimitCORE=0";
        unit(&machine, kind, &name, more)
    });
    for unit in &units {
        machine.systemctl(&["start", unit]);
    }
    // Idle for ten of its periods.
    machine.sh("sleep 20");
    for unit in &units {
        assert_eq!(machine.show(unit, "NRestarts"), "0", "{unit}\n{}", machine.log());
        let old = machine.main_pid(unit);
        machine.sh(&format!("kill -STOP {old}"));
        machine.wait_for("the watchdog", |line| {
            line.contains(unit.as_str()) && line.contains("Watchdog timeout")
        });
        machine.wait_new_main(unit, old);
        machine.wait_state(unit, "active");
    }
    machine.wait_processes("sleep 1080", 2);
    for unit in &units {
        machine.systemctl(&["stop", unit]);
    }
    assert_eq!(machine.processes("sleep 1080"), Vec::<u32>::new());
}

/// Y8: while programs take the time that the site gives them, systemd does too.
#[test]
fn a_stop_may_take_longer_than_the_limit_of_systemd() {
    let Some(machine) = Machine::boot() else { return };
    machine.script(
        "/srv/slow",
        "trap 'sleep 6; echo CLEANED > /srv/done; exit 0' TERM\ntouch /srv/up\nwhile :; do sleep 0.1; done",
    );
    machine.site("one", "  a: {command: [/srv/slow], stop: {timeout: 30s}}");
    for kind in KINDS {
        machine.sh("rm -f /srv/done /srv/up");
        let unit = unit(&machine, kind, "one", "TimeoutStopSec=3");
        machine.systemctl(&["start", &unit]);
        machine.until("it is up", |m| m.exists("/srv/up"));
        machine.systemctl(&["stop", &unit]);
        assert_eq!(machine.show(&unit, "Result"), "success", "{kind:?}\n{}", machine.log());
        assert_eq!(machine.read("/srv/done"), "CLEANED\n", "{kind:?}");
    }
}
