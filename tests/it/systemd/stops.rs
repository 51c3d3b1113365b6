//! How systemd stops the supervisor, by each way it has.

use super::{
    machine::Machine,
    units::{KINDS, Kind, pid_file, unit},
};

/// The main process of the unit has ended by itself, with this code.
fn assert_ended(machine: &Machine, unit: &str, result: &str, code: &str) {
    assert_eq!(machine.show(unit, "Result"), result, "{unit}\n{}", machine.log());
    assert_eq!(machine.show(unit, "ExecMainStatus"), code, "{unit}\n{}", machine.log());
}

/// Y6: systemd kills what is left as soon as the main process has ended.
#[test]
fn with_killmode_mixed_the_supervisor_is_the_last_to_exit() {
    let Some(machine) = Machine::boot() else { return };
    let programs: String =
        (0..6).map(|n| format!("  k{n}: {{command: [/srv/clean, k{n}]}}\n")).collect();
    machine.script(
        "/srv/clean",
        "trap 'sleep 0.8; echo CLEANED > /srv/$1.done; exit 0' TERM
touch /srv/$1.up
while :; do sleep 0.1; done",
    );
    machine.site("one", &programs);
    for kind in KINDS {
        machine.sh("rm -f /srv/*.done /srv/*.up");
        let unit = unit(&machine, *kind, "one", "");
        machine.systemctl(&["start", &unit]);
        machine.sh("until test $(ls /srv/*.up | wc -l) = 6; do sleep 0.05; done");
        machine.systemctl(&["stop", &unit]);
        let cleaned = machine.sh("cat /srv/*.done | grep -c CLEANED");
        assert_eq!(cleaned, "6", "{kind:?}\n{}", machine.log());
        assert_ended(&machine, &unit, "success", "0");
        assert_eq!(machine.processes("/srv/clean"), Vec::<u32>::new(), "{kind:?}");
    }
    assert!(!machine.log().contains("with signal SIGKILL"), "{}", machine.log());
}

/// Y7: systemd signals the programs as well, behind our back.
#[test]
fn with_killmode_control_group_no_program_is_started_again_nor_called_crashed() {
    let Some(machine) = Machine::boot() else { return };
    let many =
        "  p: {command: [sleep, '1010'], instances: 50, restart: {policy: always, delay: 1ms}}";
    machine.site("one", many);
    for kind in KINDS {
        let unit = unit(&machine, *kind, "one", "KillMode=control-group");
        for round in 0..10 {
            machine.systemctl(&["start", &unit]);
            machine.wait_processes("sleep 1010", 50);
            let log = machine.unit_log("one");
            machine.systemctl(&["stop", &unit]);
            assert_ended(&machine, &unit, "success", "0");
            assert_eq!(machine.processes("sleep 1010"), Vec::<u32>::new());
            let all = machine.unit_log("one");
            let stop = all.strip_prefix(&log).unwrap_or_else(|| panic!("{log}\n---\n{all}"));
            let bad = ["started (pid", "attempt", "crash", "warn", "error", "in 0."];
            for line in stop.lines() {
                let wrong = bad.iter().any(|word| line.contains(word));
                assert!(!wrong, "{kind:?} {round}: {line}\n{stop}");
            }
            assert!(stop.contains("stopped, exit 0"), "{kind:?} {round}: {stop}");
        }
    }
}

/// Y9: each way to end is the result of the unit that it should be.
#[test]
fn exit_codes_are_what_systemd_acts_on() {
    let Some(machine) = Machine::boot() else { return };
    for kind in KINDS {
        machine.site("one", "  a: {command: [sleep, '1020']}");
        let unit = unit(&machine, *kind, "one", "");
        machine.systemctl(&["start", &unit]);
        machine.wait_process("sleep 1020");
        // Its own clean end is no failure, and no reason to start it again.
        machine.systemctl(&["kill", "--signal=TERM", "--kill-who=main", &unit]);
        machine.wait_state(&unit, "inactive");
        assert_ended(&machine, &unit, "success", "0");
        assert!(!machine.exists(&pid_file("one")), "{kind:?}");
        // Killed, it is started again, and nothing is left of the first life.
        machine.systemctl(&["start", &unit]);
        let (old, sleep) = (machine.main_pid(&unit), machine.wait_process("sleep 1020"));
        machine.systemctl(&["kill", "--signal=KILL", "--kill-who=main", &unit]);
        machine.wait_new_main(&unit, old);
        assert_ne!(machine.main_pid(&unit), old);
        machine.until("a new program", |m| {
            let all = m.processes("sleep 1020");
            all.len() == 1 && all[0] != sleep
        });
        assert_eq!(machine.show(&unit, "NRestarts"), "1");
        machine.systemctl(&["stop", &unit]);
        assert_ended(&machine, &unit, "success", "0");
        // What an essential program says is what the unit says.
        machine.site(
            "one",
            "  a: {command: [sh, -c, 'exit 7'], essential: true, restart: {policy: never}}",
        );
        // However soon that is: the PID file stays until systemd has read it.
        for _ in 0..5 {
            machine.run(&["systemctl", "start", &unit]);
            machine.until("its code", |m| m.show(&unit, "ExecMainStatus") == "7");
            machine.until("it is tried again", |m| m.show(&unit, "NRestarts") != "0");
            machine.systemctl(&["stop", &unit]);
        }
        assert!(!machine.log().contains("start operation timed out"), "{}", machine.log());
    }
}

/// Y9: a site that is not valid is told to who starts it, and is not tried for ever.
#[test]
fn a_broken_site_is_a_failed_start_that_says_what_is_wrong() {
    let Some(machine) = Machine::boot() else { return };
    machine.site("one", "  a: {comand: [sleep, '1030']}");
    for kind in KINDS {
        let more = "RestartSec=1ms\n[Unit]\nStartLimitIntervalSec=5min\nStartLimitBurst=3";
        let unit = unit(&machine, *kind, "one", more);
        let ran = machine.run(&["systemctl", "start", &unit]);
        assert_eq!(ran.code, i32::from(*kind != Kind::Exec), "{ran:?}\n{}", machine.log());
        machine.wait_state(&unit, "failed");
        let log = machine.log();
        assert!(log.contains("unknown key `comand`"), "{kind:?}: {log}");
        if *kind == Kind::Forking {
            // RestartPreventExitStatus= is about the main process; there was none yet, so it is
            // the limit that ends it.
            machine.until("the limit", |m| m.log().contains("Start request repeated too quickly"));
            assert!(
                machine.log().contains("Control process exited, code=exited, status=78/CONFIG")
            );
        } else {
            assert_ended(&machine, &unit, "exit-code", "78");
            assert_eq!(machine.show(&unit, "NRestarts"), "0", "{kind:?}");
        }
        assert_eq!(machine.processes("/usr/bin/supervisor"), Vec::<u32>::new());
        machine.systemctl(&["reset-failed", &unit]);
    }
}
