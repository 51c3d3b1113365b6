//! `Type=forking` with a PID file, as the shipped unit has it.

use super::{
    machine::Machine,
    units::{KINDS, pid_file, shipped, unit},
};

/// Y1: up when systemctl returns, known by its PID file, and all gone after the stop.
#[test]
fn the_pid_file_names_the_main_process_and_a_stop_leaves_nothing() {
    let Some(machine) = Machine::boot() else { return };
    machine.script("/srv/escapes", "setsid sleep 1041 &\nexec sleep 1040");
    machine.site("one", "  a: {command: [/srv/escapes]}");
    let unit = shipped(&machine, "one");
    for _ in 0..3 {
        machine.systemctl(&["start", &unit]);
        assert_eq!(machine.show(&unit, "ActiveState"), "active");
        let pid = machine.read(&pid_file("one"));
        assert_eq!(pid, format!("{}\n", machine.main_pid(&unit)));
        // What systemctl waited for can be asked at once.
        machine.sh("supervisor status -c /etc/mini-supervisor/one.yaml; test $? -le 3");
        machine.wait_process("sleep 1040");
        machine.wait_process("sleep 1041");
        machine.systemctl(&["stop", &unit]);
        assert_eq!(machine.show(&unit, "Result"), "success");
        for left in ["/usr/bin/supervisor", "sleep 1040", "sleep 1041"] {
            assert_eq!(machine.processes(left), Vec::<u32>::new(), "{left}\n{}", machine.log());
        }
        assert!(!machine.exists(&pid_file("one")));
    }
    let log = machine.log();
    for trouble in ["Can't open PID file", "Killing process", "not our child", "status=1"] {
        assert!(!log.contains(trouble), "{trouble}: {log}");
    }
}

/// `systemctl reload` re-reads the site; what did not change is not touched.
#[test]
fn a_reload_starts_what_is_new_and_leaves_the_rest_alone() {
    let Some(machine) = Machine::boot() else { return };
    for kind in KINDS {
        machine.site("one", "  a: {command: [sleep, '1040']}");
        let unit = unit(&machine, *kind, "one", "");
        machine.systemctl(&["start", &unit]);
        let (main, old) = (machine.main_pid(&unit), machine.wait_process("sleep 1040"));
        machine.site("one", "  a: {command: [sleep, '1040']}\n  b: {command: [sleep, '1041']}");
        machine.systemctl(&["reload", &unit]);
        machine.wait_process("sleep 1041");
        assert_eq!(machine.processes("sleep 1040"), [old], "{kind:?}");
        assert_eq!(machine.main_pid(&unit), main, "{kind:?}");
        // What a broken file asks for is not done, and it is said.
        machine.site("one", "  a: {comand: x}");
        machine.systemctl(&["kill", "--signal=HUP", "--kill-who=main", &unit]);
        machine.until("the mistake is said", |m| m.log().contains("unknown key `comand`"));
        assert_eq!(machine.processes("sleep 1040"), [old], "{kind:?}");
        machine.systemctl(&["stop", &unit]);
        machine.run(&["journalctl", "--rotate", "--vacuum-time=1s"]);
    }
}

/// Y2: whatever stands in the PID file before the start, systemd supervises us and nobody else.
#[test]
fn a_stale_pid_file_hands_no_foreign_process_to_systemd() {
    let Some(machine) = Machine::boot() else { return };
    machine.site("one", "  a: {command: [sleep, '1050']}");
    let unit = shipped(&machine, "one");
    let file = pid_file("one");
    let foreign = "sleep 1051";
    machine.sh(&format!("systemd-run --quiet --unit=foreign {foreign}"));
    let stranger = machine.wait_process(foreign);
    let other = "/srv/other.pid";
    for (what, make) in [
        ("a foreign process that lives", format!("echo {stranger} > {file}")),
        ("a process that is dead", format!("sh -c 'echo $$' > {file}")),
        ("no number", format!("echo x7y > {file}")),
        ("nothing", format!(": > {file}")),
        ("a symlink to another's", format!("echo {stranger} > {other}; ln -s {other} {file}")),
    ] {
        machine.sh(&format!("mkdir -p $(dirname {file}); rm -f {file}; {make}"));
        machine.systemctl(&["start", &unit]);
        let main = machine.main_pid(&unit);
        assert_eq!(machine.read(&file), format!("{main}\n"), "{what}\n{}", machine.log());
        let command = machine.read(&format!("/proc/{main}/cmdline"));
        assert!(command.starts_with("/usr/bin/supervisor"), "{what}: {command:?}");
        machine.systemctl(&["stop", &unit]);
        assert_eq!(machine.processes(foreign), [stranger], "{what}: the stranger was killed");
        assert!(!machine.exists(&file), "{what}");
    }
    assert_eq!(machine.read(other), format!("{stranger}\n"), "the link's target is another's");
    let log = machine.log();
    assert!(!log.contains("not our child"), "{log}");
}
