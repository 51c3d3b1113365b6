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

/// Y12: with Delegate=yes each program has a cgroup of its own, and systemd minds nothing of it.
#[test]
fn in_a_delegated_unit_each_program_has_a_cgroup() {
    let Some(machine) = Machine::boot() else { return };
    let cgroup = |pid: u32| {
        let text = machine.read(&format!("/proc/{pid}/cgroup"));
        text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned()
    };
    machine.site(
        "one",
        "  web: {command: [sleep, '1005']}\n  other: {command: [sleep, '1006'], user: nobody}",
    );
    for kind in KINDS {
        let unit = unit(&machine, *kind, "one", "Delegate=yes");
        machine.systemctl(&["start", &unit]);
        let in_place = |main: u32| {
            let own = cgroup(main);
            let service = own.strip_suffix("/supervisor").unwrap_or_else(|| panic!("{own}"));
            assert!(service.ends_with("/one.service"), "{kind:?}: {own}");
            for (name, command) in [("web", "sleep 1005"), ("other", "sleep 1006")] {
                let pid = machine.wait_process(command);
                machine.until("its leaf", |_| cgroup(pid) == format!("{service}/p-{name}"));
            }
        };
        let main = machine.main_pid(&unit);
        in_place(main);
        machine.systemctl(&["reload", &unit]);
        machine.sh(&format!("kill -9 {main}"));
        let main = machine.wait_new_main(&unit, main);
        machine.wait_state(&unit, "active");
        in_place(main);
        assert_eq!(machine.show(&unit, "NRestarts"), "1", "{kind:?}");
        machine.systemctl(&["stop", &unit]);
        assert_eq!(machine.show(&unit, "Result"), "success", "{kind:?}");
        for command in ["sleep 1005", "sleep 1006", "/usr/bin/supervisor"] {
            assert_eq!(machine.processes(command), Vec::<u32>::new(), "{kind:?}");
        }
    }
    let unit = unit(&machine, KINDS[0], "one", "");
    machine.systemctl(&["start", &unit]);
    let pids = ["sleep 1005", "sleep 1006"].map(|command| machine.wait_process(command));
    let own = cgroup(machine.main_pid(&unit));
    assert!(own.ends_with("/one.service"), "not delegated: {own}");
    assert_eq!(pids.map(cgroup), [own.clone(), own]);
    machine.systemctl(&["stop", &unit]);
}
