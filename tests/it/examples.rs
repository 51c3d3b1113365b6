//! The examples pass the check, on any machine; the blocks of the README exist.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use mini_supervisor::{
    config::{Accounts, LoadOptions, Loaded, Source, load},
    model::Account,
};

/// A machine with the accounts and groups that every Linux has, and no other.
struct Bare;

impl Accounts for Bare {
    fn user(&self, name: &str) -> Option<Account> {
        (name == "root").then(|| Account {
            name: name.into(),
            uid: 0,
            gid: 0,
            groups: Box::new([0]),
            home: "/root".into(),
            shell: "/bin/sh".into(),
        })
    }
    fn group(&self, name: &str) -> Option<u32> {
        ["root", "tty", "dialout", "video"]
            .iter()
            .zip([0, 5, 20, 44])
            .find(|g| *g.0 == name)
            .map(|g| g.1)
    }
    fn user_names(&self) -> Vec<String> {
        vec!["root".into()]
    }
    fn group_names(&self) -> Vec<String> {
        vec!["root".into()]
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn read(path: &PathBuf, for_check: bool, uid: u32) -> Loaded {
    let options = LoadOptions {
        uid,
        account: Bare.user("root"),
        current_directory: "/".into(),
        for_check,
        ..LoadOptions::default()
    };
    let text = fs::read_to_string(path).unwrap();
    load(&Source::from_text(path, &text), &options, &Bare)
        .unwrap_or_else(|f| panic!("{}", f.lines()))
}

#[test]
fn every_example_passes_the_check_on_any_machine() {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let Loaded { warnings, .. } = read(&path, true, 0);
        assert!(warnings.is_empty(), "{}", warnings.lines());
        names.insert(path.file_stem().unwrap().to_str().unwrap().to_owned());
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema="), "{}", path.display());
    }
    let expected = [
        "bbia",
        "discord-monitor",
        "hardened",
        "health",
        "meshbot",
        "notify",
        "prismatron",
        "quickstart",
        "reboot",
        "videocard",
    ];
    assert_eq!(names, expected.map(String::from).into());
}

#[test]
fn the_quickstart_runs_with_this_version_as_root_and_as_a_user() {
    for uid in [0, 1000] {
        let Loaded { site, .. } = read(&folder().join("quickstart.yaml"), false, uid);
        assert!(site.unsupported.is_empty());
        assert_eq!(site.programs.len(), 6);
    }
}

#[test]
fn the_example_of_health_runs_with_this_version() {
    let Loaded { site, .. } = read(&folder().join("health.yaml"), false, 1000);
    assert!(site.unsupported.is_empty());
}

#[test]
fn the_readme_begins_with_running_and_testing() {
    let readme = include_str!("../../README.md");
    let blocks: Vec<_> = readme.split("```").skip(1).step_by(2).take(2).collect();
    let commands = ["cargo run --release -- -c examples/quickstart.yaml", "tests/run"];
    assert_eq!(blocks, commands.map(|command| format!("sh\n{command}\n")));
}

#[test]
fn the_site_of_the_readme_and_of_the_manual_page_passes_the_check() {
    let readme = include_str!("../../README.md");
    let yaml = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let page = include_str!("../../man/site.yaml.5");
    let literal = page.split(".Bd -literal -offset indent\n").nth(1);
    let literal = literal.and_then(|rest| rest.split(".Ed").next());
    let options =
        LoadOptions { current_directory: "/".into(), for_check: true, ..LoadOptions::default() };
    for text in [yaml.unwrap(), literal.unwrap()] {
        let text = format!("{text}users: {{www-data: {{}}}}\n");
        let source = Source::from_text("/site.yaml", &text);
        let loaded = load(&source, &options, &Bare).unwrap_or_else(|f| panic!("{}", f.lines()));
        assert!(loaded.site.unsupported.is_empty());
    }
}

#[test]
fn of_the_robot_only_its_resources_are_for_a_later_version() {
    let Loaded { site, .. } = read(&folder().join("bbia.yaml"), true, 1000);
    let keys: Vec<&str> = site.unsupported.iter().map(|later| &*later.key).collect();
    assert_eq!(keys, ["programs.robot.resources"]);
    let robot = site.programs.values().next().unwrap();
    let single = robot.single_instance.as_deref().unwrap();
    assert_eq!(single.argv.as_deref(), Some("launch_complete_robot.py"));
    assert!(single.lock_file.as_ref().unwrap().ends_with(".bbia_sim.lock"));
}
