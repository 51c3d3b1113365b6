//! The manual pages say what the code can do, and nothing else.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeSet;

use mini_supervisor::{cli, config};
use serde_json::Value;

const SUPERVISOR: &str = include_str!("../../man/supervisor.8");
const SITE: &str = include_str!("../../man/site.yaml.5");

/// The words that follow `word` in the lines of `page`, up to the next macro or comma.
fn after(page: &str, word: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with('.')) {
        let words: Vec<_> = line.split_whitespace().collect();
        let pairs = words.windows(2).filter(|pair| pair[0].trim_start_matches('.') == word);
        found.extend(pairs.map(|pair| pair[1].to_owned()));
    }
    found
}

/// The word after `.It MACRO` at the start of a line.
fn items(page: &str, start: &str) -> BTreeSet<String> {
    let of_line = |line: &str| Some(line.strip_prefix(start)?.split(' ').next()?.to_owned());
    page.lines().filter_map(of_line).collect()
}

/// The part of a page under this heading.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page.find(&format!(".Sh {heading}\n")).unwrap() + 4;
    let end = page[start..].find(".Sh ").map_or(page.len(), |end| start + end);
    &page[start..end]
}

#[test]
fn every_option_stands_in_the_manual_page_and_nothing_else_does() {
    let mut command = cli::command();
    command.build();
    let mut options = BTreeSet::new();
    all_options(&command, &mut options);
    assert_eq!(after(SUPERVISOR, "Fl"), options);
}

fn all_options(command: &clap::Command, options: &mut BTreeSet<String>) {
    for argument in command.get_arguments() {
        options.extend(argument.get_short().map(|short| short.to_string()));
        options.extend(argument.get_long().map(|long| format!("-{long}")));
    }
    for verb in command.get_subcommands() {
        all_options(verb, options);
    }
}

#[test]
fn every_verb_stands_in_the_manual_page_and_nothing_else_does() {
    let command = cli::command();
    let verbs: BTreeSet<String> = command
        .get_subcommands()
        .flat_map(|verb| verb.get_name_and_visible_aliases())
        .map(str::to_owned)
        .collect();
    assert_eq!(items(SUPERVISOR, ".It Ic "), verbs);
}

#[test]
fn every_option_of_a_verb_stands_in_its_item() {
    for verb in cli::command().get_subcommands() {
        let item = format!(".It Ic {}", verb.get_name());
        stand_in_its_item(&item, verb);
        for below in verb.get_subcommands() {
            stand_in_its_item(&format!("{item} Cm {}", below.get_name()), below);
        }
    }
}

fn stand_in_its_item(item: &str, verb: &clap::Command) {
    let line =
        SUPERVISOR.lines().find(|line| *line == item || line.starts_with(&format!("{item} ")));
    let line = line.unwrap_or_else(|| panic!("no {item}"));
    for long in verb.get_arguments().filter(|a| !a.is_global_set()).filter_map(|a| a.get_long()) {
        assert!(line.contains(&format!("Fl -{long}")), "{line}: --{long}");
    }
}

#[test]
fn every_state_stands_in_the_manual_page() {
    let states = ["STOPPED", "WAITING", "STARTING", "RUNNING", "BACKOFF", "STOPPING", "EXITED"];
    let expected = states.iter().chain(&["FATAL"]).map(|state| (*state).to_owned()).collect();
    assert_eq!(items(section(SUPERVISOR, "STATES"), ".It Dv "), expected);
}

#[test]
fn every_exit_code_stands_in_the_manual_page_and_nothing_else_does() {
    let sources = [
        include_str!("../../src/cli/fail.rs"),
        include_str!("../../src/daemon/start.rs"),
        include_str!("../../src/cli/verbs/status.rs"),
    ];
    // The code of a constant, of a refusal, and of a status that knows no such name.
    let number = |text: &str| text.trim_end_matches([';', ',']).parse::<u8>().ok();
    let of_line = |line: &str| {
        let line = line.trim();
        let value = line
            .split_once(": u8 = ")
            .or_else(|| line.split_once("RefusalCode::").and_then(|(_, l)| l.split_once("=> ")))
            .or_else(|| line.split_once("Failure { exit: "));
        number(value?.1.split(' ').next()?)
    };
    let mut codes: BTreeSet<u8> =
        sources.iter().flat_map(|source| source.lines()).filter_map(of_line).collect();
    codes.insert(0);
    let documented = items(section(SUPERVISOR, "EXIT STATUS"), ".It ");
    let documented: BTreeSet<u8> = documented.iter().filter_map(|code| number(code)).collect();
    assert_eq!(documented, codes);
}

/// The paths of all keys, a program's without `programs`.
fn keys(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, value) in schema["properties"].as_object().into_iter().flatten() {
        let full = match path {
            "" | "programs" => name.clone(),
            path => format!("{path}.{name}"),
        };
        found.insert(full.clone());
        // What stands in `defaults` stands in a program; a case has the action of a semaphore.
        if !["defaults", "semaphores.cases.action"].contains(&full.as_str()) {
            keys(value, &full, found);
        }
    }
    for inner in ["additionalProperties", "items"].into_iter().filter_map(|i| schema.get(i)) {
        keys(inner, path, found);
    }
    for inner in schema["patternProperties"].as_object().into_iter().flatten() {
        keys(inner.1, path, found);
    }
    for several in ["anyOf", "oneOf", "allOf"] {
        for inner in schema[several].as_array().into_iter().flatten() {
            keys(inner, path, found);
        }
    }
}

fn below(keys: &BTreeSet<String>, root: &str) -> BTreeSet<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap().to_owned();
    keys.iter()
        .filter(|key| key.strip_prefix(root).is_some_and(|rest| rest.starts_with('.')))
        .map(|key| last(key))
        .collect()
}

#[test]
fn every_key_stands_in_the_manual_page_and_nothing_else_does() {
    let mut all = BTreeSet::new();
    keys(&config::json_schema(), "", &mut all);
    let later = section(SITE, "VALIDATED, NOT YET RUN");
    let roots = items(later, ".It Cm ");
    let documented = items(SITE, ".It Cm ");
    let inside_later = |key: &String| {
        roots.iter().any(|r| key.strip_prefix(r.as_str()).is_some_and(|k| k.starts_with('.')))
    };
    let expected: BTreeSet<_> = all.iter().filter(|key| !inside_later(key)).cloned().collect();
    assert_eq!(documented, expected);
    for part in later.split("\n.It Cm ").skip(1) {
        let root = part.split_whitespace().next().unwrap();
        let lines = part.lines().filter_map(|line| line.strip_prefix(".Cm "));
        let named: BTreeSet<String> = lines
            .flat_map(|l| l.split([' ', ',']))
            .filter(|w| !w.is_empty())
            .map(String::from)
            .collect();
        assert_eq!(named, below(&all, root), "{root}");
    }
}

#[test]
fn every_key_of_a_program_that_is_run_has_its_default() {
    let bare = |line: &&str| line.starts_with(".It Cm ") && !line.contains(" No ( ");
    let later = section(SITE, "VALIDATED, NOT YET RUN");
    let before = SITE.split(later).next().unwrap();
    assert_eq!(before.lines().filter(bare).collect::<Vec<_>>(), [""; 0]);
}

/// S0-58.
#[test]
fn the_manual_page_says_how_a_lock_is_seen_and_where_that_is_written() {
    let (_, part) = SITE.split_once(".Ss How a lock is seen").unwrap();
    let (part, _) = part.split_once("\n.Sh ").unwrap();
    for page in ["flock 2", "open 2", "proc_locks 5", "tmpfs 5", "inotify 7", "proc_sys_fs 5"] {
        assert!(part.contains(&format!("Xr {page}")), "{page}");
    }
}
