//! What `show-config` prints is itself a site, and an equal one.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeSet, sync::Arc};

use mini_supervisor::{
    config::{LoadOptions, Loaded, Source, load, show},
    model::Site,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Host, examples::EXAMPLES, options, site};

fn try_read(text: &str, options: &LoadOptions) -> Result<Loaded, String> {
    load(&Source::from_text("/etc/site.yaml", text), options, &Host)
        .map_err(|f| format!("{}\n{text}", f.lines()))
}

/// What must be equal: everything but the memory of having been an instance, and places.
fn essence(site: &Site) -> (Site, BTreeSet<String>) {
    let mut site = site.clone();
    for program in site.programs.values_mut() {
        Arc::make_mut(program).template = None;
    }
    let own = |key: &String| !key.starts_with("defaults");
    let unsupported = site.unsupported.drain(..).map(|u| u.key).filter(own).collect();
    (site, unsupported)
}

fn goes_round(text: &str, options: &LoadOptions) -> Result<(), String> {
    let first = try_read(text, options)?;
    for origin in [false, true] {
        let shown = show(&first, origin);
        let second = try_read(&shown, options)?;
        if essence(&first.site) != essence(&second.site) {
            return Err(format!("{:#?}\n{:#?}\n{shown}", first.site, second.site));
        }
        let again = show(&second, false);
        if !origin && again != shown {
            return Err(format!("{again}\n is not\n{shown}"));
        }
    }
    Ok(())
}

/// Every key that is not for later, with a value that is not its default.
pub(super) const FULL: &str = r##"
version: 1
variables: {DIR: /srv/$$x}
supervisor:
  name: full
  pid_file: run.pid
  runtime_dir: /run/full
  state_dir: ~/state
  log: {level: debug, file: s.log, format: json, stderr: true, owner: pi, group: tty, mode: "0600",
        rotate: {max_size: none, every: weekly, keep: 2, compress: gzip}, on_full: block}
  control: {socket: s.sock, owner: "0", group: dialout, mode: "0660",
            access: [{allow: {users: [pi], groups: [tty]}, actions: [status, "restart:*"],
                      rate_limit: {burst: 2, interval: 10m}}]}
  shutdown_timeout: 1m30s
  exit_when: all-exited
  stop_on_hangup: true
  lock_memory: true
  orphans: kill
  redact: [PIN, "no"]
users: {pi: {system: true, home: "/srv/$$x", shell: /bin/sh, groups: [tty, "44"]}, new: {}}
directories: {"${DIR}": {}, ~/a b/.: {owner: pi, group: tty, mode: "0750", files: "0640", optional: true, at_start: true}}
defaults: {user: root, environment: {SHARED: "yes"}, start_timeout: none}
shm: {old: {remove: ["old-[0-9]*", sem.old], when: [stop], owner: pi}, own: {remove: [abc]}}
programs:
  db:
    single_instance: true
    shm: {remove: ["db_*"]}
    command: [db, "a b", "", "${DIR}", "$$$$", "$${HOME}", "$HOME", "# x", "a: b", "-", "é", '"\',
              "line\nline", "~", ".5", ".inf", "null"]
    type: oneshot
    remain: true
    group: dialout
    supplementary_groups: [tty, "44"]
  web:
    command: run --port 80 'two words'
    description: "yes"
    documentation: https://example.org/#web
    tags: [a, "1"]
    enabled: true
    autostart: false
    instances: {ready: {PORT: "1"}, blue: {PORT: "0x2"}}
    user: pi
    umask: "0002"
    working_directory: ~/web
    environment: {A: "${instance}", B: "1.10", "null": "null", D: "12:30", E: ""}
    environment_files: [.env, {path: /etc/env, optional: true}]
    inherit_environment: [HOME, "NO"]
    after: [network]
    requires: [db@completed]
    wants: [db]
    wait_for: [network, {file: x, timeout: none}, {tcp: "h:1"}, {socket: /s, timeout: 1s500ms}]
    start_pre: [mkdir x, {command: [a], ignore_failure: true, timeout: 5s, user: root}]
    start_post: [[b, c]]
    stop_post: [{command: d, user: self}]
    restart: {policy: always, delay: 1ms, max_delay: 1h, factor: 1.5, jitter: 33.3%,
              reset_after: none, success_exit_codes: [0, 3], force_exit_codes: [4],
              prevent_exit_codes: [5], start_limit: {burst: 3, interval: 1d, action: exit,
              retry_every: 10us}}
    stop: {command: [quit], kill_mode: group, signals: [INT, {signal: RTMIN+3, wait: none}],
           confirm: true}
    reload: {signal: HUP}
    essential: true
    max_runtime: 2w
    limits: {nofile: 1024, nproc: unlimited, core: 0, stack: 8MiB, memlock: 1K, fsize: 1000}
    nice: -5
    ionice: best-effort:7
    oom_score_adj: -500
    cpu_affinity: 0-2,5
    hardening: {no_new_privileges: false}
    runtime_directory: "web/${instance}"
    state_directory: {name: web, mode: "0700"}
    cleanup: [{socket: w.sock}, {file: /tmp/w}]
    shm: {remove: ["web_${instance}*"], when: [post-stop, pre-start], owner: pi, older_than: 1h,
          dry_run: true}
    single_instance: {lock_file: "${instance}.lock", pid_file: "~/${instance}.pid",
                      match: {argv: run}, on_duplicate: replace}
    logging: {stdout: "log/${instance}.log", stderr: "null", timestamps: true, max_line: 4KiB,
              on_full: block, owner: pi, group: video, mode: "0644",
              rotate: {max_size: 1536, every: 36h, keep: 0, compress: none}}
    variants: {v: {args: ["1", x], environment: {V: "off"}, default: true, extra_args: allow}}
  last:
    command: x
    restart: {start_limit: none}
    inherit_environment: true
    reload: {command: [r]}
    requires: [web, web@ready@started]
    runtime_directory: last
    hardening: {private_tmp: true, protect_system: strict, protect_home: read-only,
                protect_kernel_tunables: true, protect_kernel_modules: true,
                protect_control_groups: true, read_write_paths: [/dev/shm, "-/srv"],
                read_only_paths: [x], inaccessible_paths: [~/y], devices: ["/dev/i2c-*:rw"],
                capabilities: ["~CAP_SYS_ADMIN"], ambient_capabilities: [CAP_NET_RAW],
                restrict_address_families: [AF_UNIX, AF_INET6],
                system_call_filter: ["@system-service", "~@mount:EPERM"]}
"##;

pub(super) fn full_as_shown() -> String {
    show(&try_read(FULL, &options()).unwrap(), true)
}

#[test]
fn a_site_with_every_key_goes_round() {
    goes_round(FULL, &options()).unwrap();
}

#[test]
fn the_examples_go_round() {
    for (name, text) in EXAMPLES {
        let mut options = options();
        options.for_check = true;
        if name == "bbia" {
            options.uid = 1000;
            options.account = mini_supervisor::config::Accounts::user(&Host, "pi");
        }
        if name == "discord-monitor" {
            // What is hidden does not go round; nothing of this one is.
            assert!(!show(&try_read(text, &options).unwrap(), false).contains("(hidden)"));
        }
        goes_round(text, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn a_shown_value_has_its_own_words_and_its_origin() {
    let shown = show(&try_read(FULL, &options()).unwrap(), true);
    let line = |start: &str| shown.lines().find(|l| l.trim_start().starts_with(start)).unwrap();
    let at = |given: &str| FULL.lines().position(|l| l.contains(given)).unwrap() + 1;
    let here = |given: &str| format!("/etc/site.yaml:{}", at(given));
    for (start, shown, origin) in [
        ("shutdown_timeout:", "shutdown_timeout: 1m30s", here("shutdown_timeout")),
        ("start_timeout:", "start_timeout: none", format!("defaults, {}", here("defaults:"))),
        ("umask:", "umask: \"0022\"", "default".to_owned()),
        ("delay: 1ms", "delay: 1ms", here("delay: 1ms")),
        ("signals:", "signals:", here("signals:")),
        ("PORT:", "PORT: \"0x2\"", "instances".to_owned()),
        ("stack:", "stack: 8MiB", here("stack:")),
        ("requires: [db", "requires: [db@completed]", here("requires: [db")),
    ] {
        assert_eq!(line(start).trim_start(), format!("{shown}  # {origin}"));
    }
    assert!(shown.contains("{signal: RTMIN+3, wait: none}"), "{shown}");
}

#[test]
fn secrets_are_hidden_wherever_they_stand() {
    let text = site(
        "supervisor: {redact: [PIN]}\nprograms: {web: {command: x, environment: {A_TOKEN: hush, \
         PIN: hush}, variants: {v: {environment: {SECRET: hush}}}, safe_mode: {environment: \
         {my_password: hush}}}}",
    );
    let shown = show(&super::read(&text).unwrap(), true);
    assert!(!shown.contains("hush"), "{shown}");
    assert_eq!(shown.matches("(hidden)").count(), 4, "{shown}");
    assert!(super::lines(&shown).is_empty());
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}",
        "[ -~]{1,12}",
        "[a-z$ {}:#\\n'\"\\\\é~-]{1,10}",
        Just("null".into()),
        Just("0x10".into()),
        Just("1e3".into()),
        Just("~".into()),
        Just("${".into()),
    ]
}

/// Text as it stands in a file: `$` is `$$`.
fn text() -> impl Strategy<Value = String> {
    word().prop_map(|t| t.replace('$', "$$"))
}

fn duration() -> impl Strategy<Value = String> {
    prop_oneof![
        (0_u64..100_000, prop::sample::select(vec!["us", "ms", "s", "m", "h"]))
            .prop_map(|(n, unit)| format!("{n}{unit}")),
        (0.0_f64..1000.0).prop_map(|n| format!("{n:.4}s")),
    ]
}

fn program() -> impl Strategy<Value = Value> {
    let texts = prop::collection::vec(text(), 0..3);
    let more = prop::collection::btree_map("[A-Z_]{1,6}", text(), 0..4);
    let restart =
        (duration(), 0.0_f64..100.0, 1.0_f64..5.0, prop::collection::vec(0_u8..=255, 0..3))
            .prop_map(|(delay, jitter, factor, codes)| {
                json!({"delay": delay, "max_delay": "200000h", "jitter": format!("{jitter}%"),
                   "factor": factor, "force_exit_codes": codes})
            });
    let stop = (prop::collection::vec((1_u8..=31, duration()), 1..4)).prop_map(|steps| {
        let step = |(signal, wait): &(u8, String)| json!({"signal": signal, "wait": wait});
        json!({"signals": steps.iter().map(step).collect::<Vec<_>>()})
    });
    let numbers = (-20_i8..20, -1000_i16..1000, 0_u32..0o7777, 0_u64..1 << 50, any::<bool>());
    ("[a-z]{1,6}", texts, text(), more, restart, stop, numbers).prop_map(
        |(head, args, description, environment, restart, stop, (nice, oom, mode, size, flag))| {
            let command: Vec<String> = std::iter::once(head).chain(args).collect();
            json!({
                "command": command, "description": description, "environment": environment,
                "restart": restart, "stop": stop, "nice": nice, "oom_score_adj": oom,
                "umask": format!("{mode:04o}"), "user": "pi", "autostart": flag,
                "logging": {"max_line": size, "mode": "0600", "timestamps": flag},
                "limits": {"core": format!("{}K", size >> 10), "nofile": 4096},
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None,
                                        ..ProptestConfig::default() })]
    #[test]
    fn any_program_goes_from_another_writer_to_us_and_round(
        programs in prop::collection::btree_map("[a-z]{1,5}(@[a-z]{1,3})?", program(), 1..4)
    ) {
        for (name, program) in &programs {
            let text = serde_yaml::to_string(&json!({"version": 1, "programs": {name: program}}))
                .unwrap();
            let loaded = try_read(&text, &options()).map_err(TestCaseError::fail)?;
            let read = &loaded.site.programs[name.as_str()];
            let plain = |t: &Value| t.as_str().unwrap().replace("$$", "$");
            let command: Vec<String> =
                program["command"].as_array().unwrap().iter().map(plain).collect();
            prop_assert_eq!(command.join("|"), read.command.join("|"));
            for (name, value) in program["environment"].as_object().unwrap() {
                prop_assert_eq!(plain(value), &*read.execution.environment[name.as_str()]);
            }
            prop_assert_eq!(i64::from(read.execution.nice.unwrap()), program["nice"].as_i64().unwrap());
            prop_assert_eq!(read.logging.max_line.0, program["logging"]["max_line"].as_u64().unwrap());
            goes_round(&text, &options()).map_err(TestCaseError::fail)?;
        }
    }
}
