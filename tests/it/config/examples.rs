//! The five sites that the format was made for, and what a small one means.

#![expect(clippy::format_push_string, reason = "tests")]

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use mini_supervisor::{
    config::{Source, json_schema, load},
    model::{KillMode, Limit, LogTarget, Mode, RestartPolicy, Signal},
    plan::Plan,
};

use super::{Host, lines, options, read, site};

pub(super) const EXAMPLES: [(&str, &str); 5] = [
    ("bbia", include_str!("sites/bbia.yaml")),
    ("discord-monitor", include_str!("sites/discord-monitor.yaml")),
    ("meshbot", include_str!("sites/meshbot.yaml")),
    ("prismatron", include_str!("sites/prismatron.yaml")),
    ("videocard", include_str!("sites/videocard.yaml")),
];

#[test]
fn the_five_examples_load() {
    for (name, text) in EXAMPLES {
        let mut options = options();
        options.for_check = true;
        if name == "bbia" {
            options.uid = 1000;
            options.account = mini_supervisor::config::Accounts::user(&Host, "pi");
        }
        let loaded = load(&Source::from_text(format!("/etc/{name}.yaml"), text), &options, &Host);
        let loaded = loaded.unwrap_or_else(|f| panic!("{}", f.lines()));
        assert_eq!(loaded.site.supervisor.name.as_str(), name);
        assert!(!loaded.site.unsupported.is_empty(), "{name}: later keys are listed");
    }
}

#[test]
fn the_schema_names_every_section() {
    let schema = json_schema();
    for key in ["version", "programs", "mounts", "tasks", "semaphores", "shm", "users"] {
        assert!(schema["properties"].get(key).is_some(), "{key}");
    }
}

/// Each example cut off at each byte. A read is judged by the time it computes, twice if the first
/// was slow: nobody else's work on this machine is to count.
#[test]
fn no_prefix_of_an_example_panics_or_takes_long() {
    let limit = Duration::from_millis(100);
    let cost = |text: &str| {
        let start = super::hostile::spent();
        drop(read(text));
        super::hostile::spent().saturating_sub(start)
    };
    for (name, text) in EXAMPLES {
        // What cuts a character in two is no text and is refused before anybody parses it.
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let prefix = &text[..end];
            assert!(cost(prefix) < limit || cost(prefix) < limit, "{name} {end}");
        }
    }
}

#[test]
fn null_without_quotes_is_the_word_and_nothing_is_no_percentage_wherever_they_stand() {
    let text = site(
        "defaults: {logging: {stderr: null}, restart: {jitter: 0}}\nprograms:\n  a: {command: x}\n  \
         b:\n    command: x\n    logging:\n      stdout: null # never mind\n      stderr: err.log\n",
    )
    .replace("defaults: {user: root}\n", "")
    .replace("defaults: {", "defaults: {user: root, ");
    let loaded = read(&text).unwrap_or_else(|f| panic!("{}", f.lines()));
    let [a, b] = ["a", "b"].map(|name| &loaded.site.programs[name]);
    assert_eq!((&a.logging.stdout, &a.logging.stderr), (&LogTarget::Console, &LogTarget::Null));
    assert_eq!(b.logging.stdout, LogTarget::Null);
    assert_eq!(b.logging.stderr, LogTarget::File("/srv/err.log".into()));
    assert!(a.restart.jitter.abs() < f64::EPSILON);
    let shown = mini_supervisor::config::show(&loaded, true);
    assert!(shown.contains("stdout: \"null\"") && shown.contains("jitter: 0%"), "{shown}");
    assert_eq!(read(&shown).unwrap().site, loaded.site);
}

#[test]
fn defaults_of_a_program_are_those_of_the_documentation() {
    let loaded = read(&site("programs: {web: {command: [/bin/true]}}")).unwrap();
    let web = &loaded.site.programs["web"];
    let restart = &web.restart;
    assert_eq!(restart.policy, RestartPolicy::OnFailure);
    assert_eq!(restart.delay, Duration::from_millis(500));
    assert_eq!(restart.max_delay, Duration::from_secs(30));
    assert_eq!(restart.success_exit_codes.as_ref(), [0]);
    let limit = restart.start_limit.as_ref().unwrap();
    assert_eq!((limit.burst, limit.interval), (10, Duration::from_secs(300)));
    assert_eq!(web.stop.ladder[0].signal, Signal::TERM);
    assert_eq!(web.stop.patience(), Limit::After(Duration::from_secs(10)));
    assert_eq!(web.stop.kill_mode, KillMode::Mixed);
    assert_eq!(web.execution.umask, Mode(0o022));
    assert!(web.execution.no_new_privileges && web.enabled && web.autostart);
    assert_eq!(web.logging.stdout, LogTarget::Console);
    assert!(loaded.site.unsupported.is_empty());
}

#[test]
fn in_the_background_output_goes_to_files() {
    let text = site("supervisor: {name: s, daemon: true}\nprograms: {web: {command: /bin/true}}");
    let loaded = read(&text).unwrap();
    let log = &loaded.site.programs["web"].logging;
    let file = PathBuf::from("/var/log/mini-supervisor/s/web.log");
    assert_eq!(log.stdout, LogTarget::File(file));
    assert_eq!(log.stderr, LogTarget::Stdout);
}

#[test]
fn instances_multiply_a_program_and_references_mean_all_of_them() {
    let loaded = read(&site(
        "programs:\n  web: {command: [run, \"${instance}\"], instances: {blue: {PORT: \"1\"}, \
         green: {PORT: \"2\"}}}\n  lb: {command: lb, requires: [web]}",
    ))
    .unwrap();
    let blue = &loaded.site.programs["web@blue"];
    assert_eq!(&*blue.command[1], "blue");
    assert_eq!(&*blue.execution.environment["PORT"], "1");
    assert_eq!(loaded.site.programs["lb"].requires.len(), 2);
}

#[test]
fn maps_of_defaults_merge_and_lists_replace() {
    let loaded = read(
        "version: 1\ndefaults: {user: root, environment: {A: \"1\"}, restart: {delay: 3s}, \
         tags: [a]}\nprograms: {web: {command: x, environment: {B: \"2\"}, restart: always, \
         tags: [b]}}\n",
    )
    .unwrap();
    let web = &loaded.site.programs["web"];
    assert_eq!(web.execution.environment.len(), 2);
    assert_eq!(web.restart.policy, RestartPolicy::Always);
    assert_eq!(web.restart.delay, Duration::from_secs(3));
    assert_eq!(web.tags.as_ref(), ["b".into()]);
}

#[test]
fn a_value_can_add_no_structure() {
    let loaded = read(&site(
        "variables: {X: \"a, b}\\n  evil: {command: y\"}\nprograms: {web: {command: [x, \
         \"${X}\", \"$$1\", \"${FROM_ENV}\", \"${NO:-d}\"]}}",
    ))
    .unwrap();
    let web = &loaded.site.programs["web"];
    assert_eq!(loaded.site.programs.len(), 1);
    assert_eq!(&*web.command[1], "a, b}\n  evil: {command: y");
    assert_eq!(web.command[2..].join(" "), "$1 env d");
}

/// A site of so many programs with something of everything, in chains of a thousand.
fn large(programs: usize) -> String {
    let mut text = site("variables: {PORT: \"80\"}\nprograms:");
    for i in 0..programs {
        let after = if i % 1000 == 0 { String::new() } else { format!("p{}", i - 1) };
        text.push_str(&format!(
            "  p{i}: {{command: [run, \"${{PORT}}\"], after: [{after}], restart: always, \
             stop: {{timeout: {}s}}}}\n",
            i % 10
        ));
    }
    text
}

#[test]
fn thousands_of_programs_are_read_in_a_time_that_grows_as_they_do() {
    let (few, many) = (large(1000), large(5000));
    assert!(many.len() < 1 << 20, "{}", many.len());
    let cost = |text: &str| {
        let start = super::hostile::spent();
        let loaded = read(text).unwrap_or_else(|f| panic!("{}", f.lines()));
        drop(Plan::new(&loaded.site, &BTreeMap::new()));
        super::hostile::spent().saturating_sub(start)
    };
    let best = |text: &str| (0..3).map(|_| cost(text)).min().unwrap_or_default();
    let (one, five) = (best(&few), best(&many));
    // Five times as much is five times as long; a square would be twenty-five times.
    assert!(five < one * 10, "1000 programs {one:?}, 5000 {five:?}");
}

#[test]
fn programs_that_say_the_same_share_it_and_a_chain_needs_no_recursion() {
    let mut text = site("programs:");
    text.push_str("  p0: {command: x}\n");
    for i in 1..5000 {
        text.push_str(&format!("  p{i}: {{command: x, after: [p{}]}}\n", i - 1));
    }
    // A stack that a frame for each program would not fit in.
    let small = std::thread::Builder::new().stack_size(512 << 10).spawn(move || {
        let loaded = read(&text).unwrap_or_else(|f| panic!("{}", f.lines()));
        let [first, last] = ["p0", "p4999"].map(|name| &loaded.site.programs[name]);
        assert!(std::sync::Arc::ptr_eq(&first.execution, &last.execution));
    });
    small.unwrap().join().unwrap();
}

#[test]
fn the_norway_problem_is_no_problem() {
    let text = site("programs: {web: {command: x, environment: {C: no, V: 1.10, T: 12:30}}}");
    let loaded = read(&text).unwrap();
    let environment = &loaded.site.programs["web"].execution.environment;
    assert_eq!(&*environment["C"], "no");
    assert_eq!(&*environment["V"], "1.10");
    assert_eq!(lines(&text), "");
}

#[test]
fn what_we_read_is_what_another_reader_reads() {
    for (_, text) in EXAMPLES {
        let theirs: serde_json::Value = serde_yaml::from_str(text).unwrap();
        let again = serde_yaml::to_string(&theirs).unwrap();
        let load = |text: &str| {
            let mut options = options();
            options.for_check = true;
            options.account = None;
            load(&Source::from_text("/etc/site.yaml", text), &options, &Host)
        };
        match (load(text), load(&again)) {
            (Ok(a), Ok(b)) => assert_eq!(a.site.programs, b.site.programs),
            (Err(a), Err(b)) => assert_eq!(a.errors(), b.errors()),
            (a, b) => panic!("{:?} {:?}", a.err(), b.err()),
        }
    }
}
