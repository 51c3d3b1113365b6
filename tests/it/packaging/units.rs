//! The units of systemd: no key that is too new, none that hides mounts, and what they start can be started.

use std::collections::BTreeSet;

use mini_supervisor::cli;

use super::{run, shipped, top};

const UNITS: [&str; 3] = [
    "systemd/mini-supervisor.service",
    "systemd/mini-supervisor@.service",
    "systemd/type-notify.conf",
];

/// The keys that the units have, and the version of systemd that brought them.
const KEYS: [(&str, u32); 25] = [
    ("After", 1),
    ("ConditionPathExists", 1),
    ("Delegate", 205),
    ("Description", 1),
    ("Documentation", 201),
    ("ExecReload", 1),
    ("ExecStart", 1),
    ("KillMode", 1),
    ("LimitNOFILE", 1),
    ("LogsDirectory", 235),
    ("NotifyAccess", 1),
    ("OOMPolicy", 243),
    ("PIDFile", 1),
    ("Restart", 1),
    ("RestartPreventExitStatus", 189),
    ("RestartSec", 1),
    ("RuntimeDirectory", 211),
    ("StartLimitBurst", 229),
    ("StartLimitIntervalSec", 230),
    ("StateDirectory", 235),
    ("TimeoutStartSec", 188),
    ("TimeoutStopSec", 188),
    ("Type", 1),
    ("WantedBy", 1),
    ("WatchdogSec", 183),
];

/// What gives a service a mount namespace of its own, by systemd.exec(5): what its programs mount would be seen by
/// nobody else.
const NAMESPACE: [&str; 22] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "DynamicUser",
    "ExecPaths",
    "ExtensionImages",
    "InaccessiblePaths",
    "MountAPIVFS",
    "MountImages",
    "NoExecPaths",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateTmp",
    "ProcSubset",
    "ProtectHome",
    "ProtectHostname",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RootDirectory",
    "TemporaryFileSystem",
];

fn pairs(unit: &str) -> Vec<(String, String)> {
    let pair = |line: &str| line.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    let text = shipped(unit);
    let meant = |line: &&str| !line.starts_with(['#', '[']) && !line.is_empty();
    text.lines().filter(meant).map(|line| pair(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

fn value(unit: &str, key: &str) -> String {
    let mut values = pairs(unit).into_iter().filter(|(k, _)| k == key).map(|(_, v)| v);
    values.next_back().unwrap_or_else(|| panic!("{unit} has no {key}"))
}

#[test]
fn the_units_have_no_key_that_is_newer_than_systemd_252() {
    let known: BTreeSet<&str> =
        KEYS.iter().filter(|(_, since)| *since <= 252).map(|(k, _)| *k).collect();
    for unit in UNITS {
        for (key, _) in pairs(unit) {
            assert!(known.contains(key.as_str()), "{unit}: since when is there {key}=?");
        }
        assert!(["forking", "notify"].contains(&value(unit, "Type").as_str()), "{unit}");
    }
}

#[test]
fn the_units_have_no_key_that_hides_what_programs_mount() {
    for unit in UNITS {
        for (key, _) in pairs(unit) {
            let hides = NAMESPACE.contains(&key.as_str()) || key.starts_with("ProtectKernel");
            assert!(!hides && key != "ProtectControlGroups" && key != "RootImage", "{unit}: {key}");
        }
    }
}

#[test]
fn what_the_units_start_is_a_command_line_that_there_is() {
    for unit in UNITS {
        let start = value(unit, "ExecStart").replace("%i", "shop");
        let words: Vec<&str> = start.split(' ').collect();
        assert_eq!(words[0], "/usr/bin/supervisor");
        let parsed = cli::command().try_get_matches_from(&words);
        assert!(parsed.is_ok(), "{unit}: {}", parsed.unwrap_err());
    }
}

#[test]
fn the_pid_file_that_is_written_is_the_one_that_is_read() {
    for unit in &UNITS[..2] {
        let (start, file) = (value(unit, "ExecStart"), value(unit, "PIDFile"));
        assert!(start.contains(&format!(" --pid-file {file} ")), "{unit}: {start}");
        let folder = format!("/run/{}", value(unit, "RuntimeDirectory"));
        assert_eq!(file, format!("{folder}/supervisor.pid"));
        let condition = value(unit, "ConditionPathExists");
        assert!(start.ends_with(&format!(" -c {condition}")), "{unit}: {start}");
    }
}

#[test]
fn the_template_is_the_unit_with_another_name() {
    let body = |unit: &str| {
        let text = shipped(unit);
        text.split_once('\n').unwrap().1.to_owned()
    };
    let one = body(UNITS[0])
        .replace("/site.yaml", "/%i.yaml")
        .replace("supervisor/site", "supervisor/%i");
    assert_eq!(one, body(UNITS[1]));
}

#[test]
fn the_package_has_the_version_of_the_crate_and_a_first_site_that_is_right() {
    let changelog = shipped("debian/changelog");
    let expected = format!("mini-supervisor ({}) ", env!("CARGO_PKG_VERSION"));
    assert!(changelog.starts_with(&expected), "{changelog}");
    let example = top().join("packaging/site.yaml.example");
    run(&[env!("CARGO_BIN_EXE_supervisor"), "-c", example.to_str().unwrap(), "check"]);
}
