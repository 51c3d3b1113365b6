//! Who may ask what, with processes of other users.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Command,
};

use super::site::{Ran, Site, bare};
use crate::sys_world::is_skipped_without_root;

const WEB: &str = "  web: {command: [sleep, \"1000\"]}\n  db: {command: [sleep, \"1000\"]}";

/// Access for everybody who is allowed by `rule`, by a socket that all can connect to.
fn access(rule: &str) -> String {
    format!(", control: {{mode: \"0666\", access: [{rule}]}}")
}

fn site(rule: &str) -> Site {
    let site = Site::written(WEB);
    fs::set_permissions(site.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    site.write_with(&access(rule), WEB);
    site.started()
}

/// What `args` come to for this user and these groups.
fn stranger(site: &Site, ids: &[&str], args: &[&str]) -> Ran {
    let mut command = Command::new("setpriv");
    command.args(ids).arg(env!("CARGO_BIN_EXE_supervisor")).args(args).env_clear();
    command.env("SUPERVISOR_SOCKET", site.socket()).env("PATH", "/usr/bin:/bin");
    command.output().unwrap().into()
}

const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];

#[test]
fn a_stranger_may_what_the_site_permits_and_a_reload_changes_that_at_once() {
    if is_skipped_without_root() {
        return; // only root can be somebody else
    }
    let rule = |actions: &str| format!("{{allow: {{users: [nobody]}}, actions: [{actions}]}}");
    let site = site(&rule("\"restart:web\""));
    let socket = site.socket();
    let stranger = |args: &[&str]| -> Ran {
        let mut command = bare(args);
        command.env("SUPERVISOR_SOCKET", &socket).uid(65_534).gid(65_534);
        command.output().unwrap().into()
    };
    let refused = stranger(&["status"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains("user nobody (uid 65534) may not status"), "{refused:?}");
    assert_eq!(stranger(&["version"]).code, Some(0));
    site.write_with(&access(&rule("status, \"stop:web\"")), WEB);
    let live = site.expect(0, &["reload"]).out;
    assert_eq!(live, "· supervisor live (control.access)\n");
    assert_eq!(stranger(&["status"]).code, Some(0));
    assert_eq!(stranger(&["start", "web"]).code, Some(4));
    assert_eq!(stranger(&["stop", "web"]).code, Some(0));
    site.write_with(&access(&rule("status")), WEB);
    site.expect(0, &["reload"]);
    assert_eq!(stranger(&["stop", "web"]).code, Some(4));
    assert_eq!(site.log().matches("refused uid 65534").count(), 1, "once a minute");
}

#[test]
fn a_rule_for_a_group_is_for_whoever_has_it_now() {
    if is_skipped_without_root() {
        return;
    }
    let site = site("{allow: {groups: [daemon]}, actions: [status]}");
    let status = |ids: &[&str]| stranger(&site, ids, &["status"]).code;
    // No file of the host says that 4321 is of the group daemon; the kernel does.
    assert_eq!(status(&["--reuid=4321", "--regid=4321", "--groups=1"]), Some(0));
    assert_eq!(status(&["--reuid=4321", "--regid=1", "--clear-groups"]), Some(0));
    let many: Vec<String> = (1..=300).map(|gid| gid.to_string()).collect();
    let many = format!("--groups={}", many.join(","));
    assert_eq!(status(&["--reuid=4321", "--regid=4321", &many]), Some(0));
    assert_eq!(status(&["--reuid=4321", "--regid=4321", "--groups=2"]), Some(4));
    // What the files say of the user daemon does not help a process that gave it up.
    assert_eq!(status(&["--reuid=1", "--regid=4321", "--clear-groups"]), Some(4));
}

#[test]
fn who_changes_too_much_is_told_when_the_next_change_is_possible() {
    if is_skipped_without_root() {
        return;
    }
    let site = site(
        "{allow: {users: [nobody]}, actions: [status, restart], \
         rate_limit: {burst: 2, interval: 1h}}",
    );
    let ask = |args: &[&str]| stranger(&site, &NOBODY, args);
    assert_eq!(ask(&["restart", "web"]).code, Some(0));
    assert_eq!(ask(&["restart", "db"]).code, Some(0));
    let pid = site.expect(0, &["pid", "web"]).out;
    let refused = ask(&["restart", "web"]);
    assert_eq!(refused.code, Some(4));
    assert!(
        refused.err.starts_with(
            "supervisor: cannot restart web: user nobody (uid 65534) has made 2 changes in 1h, \
             which is all that the site permits\nhint: try again in 29m"
        ),
        "{refused:?}"
    );
    assert_eq!(ask(&["status"]).code, Some(0), "looking is no change");
    assert_eq!(site.expect(0, &["pid", "web"]).out, pid);
    site.expect(0, &["restart", "web"]);
    site.wait_log("refused uid 65534");
}
