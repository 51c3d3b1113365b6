//! What programs have and have not, when systemd has started their supervisor.

use super::{
    machine::Machine,
    units::{KINDS, unit},
};

/// Y13: variables that tell how to speak to systemd are the supervisor's alone.
#[test]
fn programs_see_nothing_of_the_protocol_with_systemd() {
    let Some(machine) = Machine::boot() else { return };
    for kind in KINDS {
        machine.site(
            "one",
            "  few: {command: [sleep, '1001']}
  all: {command: [sleep, '1002'], inherit_environment: true}",
        );
        let more = "WatchdogSec=30\nFileDescriptorStoreMax=4\nEnvironment=MINE=kept";
        let unit = unit(&machine, *kind, "one", more);
        machine.systemctl(&["start", &unit]);
        for (command, inherits) in [("sleep 1001", false), ("sleep 1002", true)] {
            let pid = machine.wait_process(command);
            let environment = machine.environment(pid);
            let has = |start: &str| environment.iter().any(|pair| pair.starts_with(start));
            for name in ["NOTIFY_", "WATCHDOG_", "LISTEN_", "FDSTORE"] {
                assert!(!has(name), "{kind:?} {name}: {environment:?}");
            }
            assert!(has("PATH="), "{environment:?}");
            assert_eq!(has("MINE=kept"), inherits, "{kind:?}: {environment:?}");
        }
        machine.systemctl(&["stop", &unit]);
    }
}

/// Y15: systemd ignores SIGPIPE for its services; a pipeline ends by it all the same.
#[test]
fn a_writer_whose_reader_has_gone_ends_by_sigpipe() {
    let Some(machine) = Machine::boot() else { return };
    machine.script("/srv/pipe", "(yes; echo $? > /srv/code) | head -1\nexec sleep 1003");
    machine.site("one", "  pipe: {command: [/srv/pipe]}");
    for kind in KINDS {
        machine.sh("rm -f /srv/code");
        let unit = unit(&machine, *kind, "one", "");
        assert_eq!(machine.show(&unit, "IgnoreSIGPIPE"), "yes");
        machine.systemctl(&["start", &unit]);
        machine.wait_process("sleep 1003");
        machine.sh("until test -s /srv/code; do sleep 0.05; done");
        assert_eq!(machine.read("/srv/code"), "141\n", "{kind:?}");
        machine.systemctl(&["stop", &unit]);
    }
}

/// Y11: what is mounted by the supervisor or a program is mounted for all of the machine.
#[test]
fn a_mount_made_inside_the_unit_is_seen_outside() {
    let Some(machine) = Machine::boot() else { return };
    machine.script("/srv/mounts", "mkdir -p /srv/m && mount -t tmpfs seen /srv/m\nexec sleep 1004");
    machine.site("one", "  mounts: {command: [/srv/mounts]}");
    for kind in KINDS {
        let unit = unit(&machine, *kind, "one", "");
        machine.systemctl(&["start", &unit]);
        machine.wait_process("sleep 1004");
        let mounts = machine.read("/proc/1/mountinfo");
        assert!(mounts.contains(" /srv/m "), "{kind:?}: {mounts}");
        machine.systemctl(&["stop", &unit]);
        machine.sh("umount /srv/m");
    }
}
