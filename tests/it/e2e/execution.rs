//! As whom, where and with what programs run, and the commands around them.

use std::os::unix::{fs::MetadataExt, net::UnixListener};

use mini_supervisor::control::{Reply, Request, StateWord};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::harness::{Plan, Site, change, fifo, is_root, program, skip};

/// The file `name`, when the oneshot `probe` that writes it has ended.
fn written(site: &mut Site, name: &str) -> String {
    site.wait_state("probe", StateWord::Exited);
    std::fs::read_to_string(site.path(name)).unwrap()
}

fn probe(keys: &str) -> Plan {
    Plan::new(&format!("  probe: {{command: [DIR/probe], restart: {{policy: never}}, {keys}}}"))
        .script("probe", "exec > DIR/out/seen; id -u; id -g; id -G; echo $HOME; echo $USER; grep -E '^(NoNewPrivs|CapEff|SigBlk|SigIgn)' /proc/self/status; umask; ulimit -Sn; nice; pwd; ls /proc/self/fd | wc -l; env | sort; :")
}

#[test]
fn a_program_of_another_user_has_only_what_that_user_has() {
    if !is_root() {
        return skip("not root");
    }
    let plan =
        probe("user: nobody, umask: '0027', nice: 5, limits: {nofile: 123}, working_directory: /");
    std::fs::create_dir(plan.path("out")).unwrap();
    nix::unistd::chown(&plan.path("out"), Some(65534.into()), None).unwrap();
    let mut site = plan.start();
    let seen = written(&mut site, "out/seen");
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..3], ["65534", "65534", "65534"], "{seen}");
    assert_eq!(lines[4], "nobody");
    assert!(
        seen.contains("NoNewPrivs:\t1") && seen.contains("CapEff:\t0000000000000000"),
        "{seen}"
    );
    assert!(
        seen.contains("SigBlk:\t0000000000000000") && seen.contains("SigIgn:\t0000000000000000")
    );
    assert_eq!(lines[9..13], ["0027", "123", "5", "/"], "{seen}");
    assert!(seen.contains("LOGNAME=nobody") && seen.contains("SHELL="), "{seen}");
    let meta = site.path("out/seen").metadata().unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o777), (65534, 0o640));
    assert_eq!(site.end(), 0);
}

#[test]
fn a_program_starts_clean_with_the_limit_that_the_supervisor_was_given() {
    let plan = probe("").env("SECRET", "1").wrapped(&[
        "sh",
        "-c",
        "ulimit -Sn 200; trap '' HUP PIPE; exec \"$@\" 7</dev/null",
        "sh",
    ]);
    std::fs::create_dir(plan.path("out")).unwrap();
    let mut site = plan.start();
    let seen = written(&mut site, "out/seen");
    assert!(
        seen.contains("SigBlk:\t0000000000000000") && seen.contains("SigIgn:\t0000000000000000"),
        "{seen}"
    );
    assert!(seen.lines().any(|line| line == "200"), "{seen}");
    assert!(!seen.contains("SECRET") && seen.contains("PATH="), "{seen}");
    assert_eq!(site.end(), 0);
}

#[test]
fn an_unprivileged_supervisor_does_everything_in_its_own_name() {
    if !is_root() {
        return skip("not root: cannot become nobody");
    }
    // One that names its user is no different.
    let mut site = Plan::new(
        "  one: {command: [sleep, '1000'], restart: {delay: 1ms}}
  named: {command: [sleep, '1000'], user: nobody, group: '65534', working_directory: /,
    start_pre: [{command: ['true'], user: nobody}]}",
    )
    .run_as(65534, 65534)
    .start();
    site.all_running();
    let pid = site.main_pid("one");
    assert_eq!(std::fs::metadata(format!("/proc/{pid}")).unwrap().uid(), 65534);
    assert_eq!(site.socket().metadata().unwrap().uid(), 65534);
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    site.wait_for("again", |s| {
        program(s, "one").restarts == 1 && program(s, "one").pid.is_some_and(|new| new != pid)
    });
    assert_eq!(site.end(), 0);
}

#[test]
fn an_unprivileged_supervisor_refuses_programs_of_others() {
    if !is_root() {
        return skip("not root: cannot become nobody");
    }
    let (code, _, text) =
        Plan::new("  one: {command: ['true'], user: daemon}").run_as(65534, 65534).run();
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("user"), "{text}");
}

#[test]
fn commands_around_a_program_run_in_order_and_are_told_how_it_ended() {
    let plan = Plan::new(
        "  one: {command: [DIR/one], restart: {policy: never}, start_pre: [{command: [DIR/say, pre1]},
    {command: ['false'], ignore_failure: true}, {command: [DIR/say, pre2]}],
    start_post: [{command: [DIR/say, post]}], stop_post: [{command: [DIR/say, after]}]}",
    )
    .script("say", "test $1 = post && read word < DIR/main
echo $1 $EXIT_CODE $EXIT_STATUS $SERVICE_RESULT >> DIR/said; test $1 != post || echo go > DIR/go")
    .script("one", "echo main >> DIR/said; echo main > DIR/main; read word < DIR/go; exit 3");
    fifo(&plan, "main");
    fifo(&plan, "go");
    let mut site = plan.start();
    site.wait_state("one", StateWord::Exited);
    let said = std::fs::read_to_string(site.path("said")).unwrap();
    assert_eq!(said, "pre1\npre2\nmain\npost\nafter exited 3 exit-code\n");
    assert_eq!(site.end(), 0);
}

#[test]
fn stop_post_names_the_signal_that_killed_it() {
    let mut site = Plan::new(
        "  one: {command: [sleep, '1000'], restart: {policy: never}, stop_post: [{command: [DIR/say]}]}",
    )
    .script("say", "echo $EXIT_CODE $EXIT_STATUS $SERVICE_RESULT > DIR/said")
    .start();
    let pid = site.main_pid("one");
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    site.wait_state("one", StateWord::Exited);
    assert_eq!(std::fs::read_to_string(site.path("said")).unwrap(), "killed KILL signal\n");
    assert_eq!(site.end(), 0);
}

#[test]
fn a_start_pre_that_fails_prevents_the_start() {
    let mut site = Plan::new(
        "  one: {command: [touch, DIR/ran], restart: {policy: never}, start_pre: [{command: ['false']}]}",
    )
    .start();
    let status = site.wait_state("one", StateWord::Fatal);
    assert!(status.reason.contains("start_pre[0]"), "{}", status.reason);
    assert!(!site.path("ran").exists());
    assert_eq!(site.end(), 0);
}

#[test]
fn environment_files_are_read_at_each_start() {
    let plan = probe("environment_files: [{path: DIR/env}, {path: DIR/none, optional: true}], environment: {LAST: wins}")
        .file("env", "\u{feff}A=1\r\nLAST=loses\r\nB=\"two words\"\r\n");
    std::fs::create_dir(plan.path("out")).unwrap();
    let mut site = plan.start();
    let seen = written(&mut site, "out/seen");
    assert!(
        seen.contains("\nA=1\n")
            && seen.contains("\nB=two words\n")
            && seen.contains("\nLAST=wins\n"),
        "{seen}"
    );
    std::fs::remove_file(site.path("env")).unwrap();
    site.bring_up(&["probe"]);
    let status = site.wait_for("the failure", |s| s.programs[0].reason.contains("env"));
    assert!(status.programs[0].reason.contains("No such file"), "{:?}", status.programs[0].reason);
    std::fs::write(site.path("env"), "A=2\n").unwrap();
    site.bring_up(&["probe"]);
    site.wait_state("probe", StateWord::Exited);
    assert!(std::fs::read_to_string(site.path("out/seen")).unwrap().contains("\nA=2\n"));
    assert_eq!(site.end(), 0);
}

#[test]
fn a_runtime_directory_goes_and_a_state_directory_stays() {
    if !is_root() {
        return skip("not root: /run and /var/lib are not ours");
    }
    let name = format!("ms-e2e-{}", std::process::id());
    let mut site = Plan::new(&format!(
        "  one: {{command: [sleep, '1000'], user: nobody, runtime_directory: {{name: {name}, mode: '0750'}}, state_directory: {{name: {name}}}}}"
    ))
    .start();
    site.all_running();
    let (run, state) = (format!("/run/{name}"), format!("/var/lib/{name}"));
    let meta = std::fs::metadata(&run).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (65534, 0o750));
    std::fs::write(format!("{run}/file"), "x").unwrap();
    site.bring_down(&["one"]);
    let gone = !std::path::Path::new(&run).exists();
    let kept = std::fs::remove_dir(&state).is_ok();
    assert!(gone && kept, "gone {gone}, kept {kept}");
    assert_eq!(site.end(), 0);
}

#[test]
fn stale_sockets_and_files_are_removed_but_not_one_that_is_listened_on() {
    let plan = Plan::new(
        "  one: {command: [sleep, '1000'], cleanup: [{socket: DIR/stale}, {file: DIR/old}]}
  two: {command: [sleep, '1000'], cleanup: [{socket: DIR/live}], restart: {policy: never}}",
    )
    .file("old", "x");
    drop(UnixListener::bind(plan.path("stale")).unwrap());
    let listener = UnixListener::bind(plan.path("live")).unwrap();
    let mut site = plan.start();
    site.wait_state("one", StateWord::Running);
    assert!(!site.path("stale").exists() && !site.path("old").exists());
    site.wait_for("two", |s| program(s, "two").state != StateWord::Starting);
    assert!(site.path("live").exists());
    drop(listener);
    assert_eq!(site.end(), 0);
}

#[test]
fn instances_and_variants_run_with_what_is_theirs() {
    let mut site = Plan::new(
        "  web: {command: [DIR/web, 'of-${instance}'], instances: 2}
  robot: {command: [DIR/web, always], autostart: false, variants: {plain: {default: true, args: [plain]}, head: {args: [headless], environment: {HEAD: '0'}}}}",
    )
    .script("web", "echo args $* head $HEAD; exec sleep 1000")
    .start();
    site.stdout
        .wait_for("the first", |line| line.contains("web@1") && line.contains("args of-1 head"));
    site.stdout
        .wait_for("the second", |line| line.contains("web@2") && line.contains("args of-2 head"));
    site.bring_up(&["robot"]);
    site.stdout.wait_for("the default", |line| line.contains("args always plain head"));
    site.bring_down(&["robot"]);
    let mut head = change(&["robot"]);
    head.variant = Some("head".into());
    assert!(matches!(site.ask(&Request::Start(head)), Reply::Outcome(_)));
    site.stdout.wait_for("the other", |line| line.contains("args always headless head 0"));
    assert_eq!(site.bring_down(&["web"]).programs.len(), 2);
    assert_eq!(site.end(), 0);
}

#[test]
fn max_runtime_ends_a_run_as_a_failure() {
    let mut site = Plan::new(
        "  one: {command: [sleep, '1000'], max_runtime: 100ms, restart: {delay: 1h, max_delay: 1h}}",
    )
    .start();
    let status = site.wait_state("one", StateWord::Backoff);
    assert!(status.reason.contains("max_runtime"), "{}", status.reason);
    assert_eq!(site.end(), 0);
}
