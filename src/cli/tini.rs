//! Called as `tini` or `docker-init`: the command line, the words and the exit codes of tini 0.19.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
    process::ExitCode,
};

use crate::{
    command::{self, Options, Voice},
    model::Signal,
    sys::stdio,
};

/// What docker looks for: the words `tini version`.
const VERSION: &str = concat!("tini version 0.19.0 - mini-supervisor ", env!("CARGO_PKG_VERSION"));

const LICENSE: &str = "This is not tini, but mini-supervisor, which behaves as tini does when it \
is called so.\nIt may be used under the terms of the MIT License or of the Apache License, Version \
2.0, at\nyour option. tini itself is Copyright (c) Thomas Orozco, under the MIT License.\n";

/// Whether this name asks for tini's behaviour.
pub(super) fn is_meant(name: &OsStr) -> bool {
    let name = Path::new(name).file_name().unwrap_or_default();
    name == "tini" || name == "docker-init"
}

/// What the words after the name ask for.
enum Asked {
    /// To run a command.
    Run(Options),
    /// To print this to standard output and end well.
    Print(String),
    /// To be told what is wrong, with code 1.
    Mistake(String),
}

/// Does what tini would do.
pub(super) fn main(
    name: &OsStr,
    words: &[OsString],
    environment: BTreeMap<OsString, OsString>,
) -> ExitCode {
    match read(name, words, environment) {
        Asked::Run(options) => ExitCode::from(command::run(&options)),
        Asked::Print(text) => {
            let mut out = super::out::Out::new(false, true);
            out.print(&text);
            out.code(0)
        }
        Asked::Mistake(text) => {
            stdio::say(&text);
            ExitCode::FAILURE
        }
    }
}

fn read(name: &OsStr, words: &[OsString], environment: BTreeMap<OsString, OsString>) -> Asked {
    if words.len() == 1 && words.first().is_some_and(|word| word == "--version") {
        return Asked::Print(format!("{VERSION}\n"));
    }
    let name = name.to_string_lossy();
    let mut options = Options::default();
    let mut verbosity = of_environment(&mut options, &environment);
    let mut words = words.iter();
    let mut command = None;
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            break;
        }
        // Options end at the first word that is none: what follows is the command's.
        let Some(letters) = bytes.strip_prefix(b"-").filter(|rest| !rest.is_empty()) else {
            command = Some(word.clone());
            break;
        };
        match cluster(&name, letters, &mut words, &mut options, &mut verbosity) {
            None => {}
            Some(asked) => return asked,
        }
    }
    options.command = command.into_iter().chain(words.cloned()).collect();
    if options.command.is_empty() {
        return Asked::Mistake(usage(&name));
    }
    options.voice = Voice::Tini { verbosity };
    options.environment = environment;
    Asked::Run(options)
}

/// What the environment asks for; how much is to be said.
pub(super) fn of_environment(
    options: &mut Options,
    environment: &BTreeMap<OsString, OsString>,
) -> u8 {
    let is_set = |name: &str| environment.contains_key(OsStr::new(name));
    options.subreaper = is_set("TINI_SUBREAPER");
    options.group = is_set("TINI_KILL_PROCESS_GROUP");
    let verbosity = environment.get(OsStr::new("TINI_VERBOSITY")).and_then(|text| text.to_str());
    // As atoi(3) reads it.
    verbosity.map_or(1, |text| text.trim().parse().unwrap_or(0))
}

/// One word of options: `-s`, `-sg`, `-e143`.
fn cluster<'a>(
    name: &str,
    letters: &[u8],
    words: &mut impl Iterator<Item = &'a OsString>,
    options: &mut Options,
    verbosity: &mut u8,
) -> Option<Asked> {
    for (index, letter) in letters.iter().enumerate() {
        match letter {
            b's' => options.subreaper = true,
            b'v' => *verbosity = verbosity.saturating_add(1),
            b'w' => options.warn = true,
            b'g' => options.group = true,
            b'h' => return Some(Asked::Print(usage(name))),
            b'l' => return Some(Asked::Print(LICENSE.to_owned())),
            b'p' | b'e' => {
                let rest = letters.get(index.saturating_add(1)..).unwrap_or_default();
                let value = if rest.is_empty() {
                    words.next().cloned()
                } else {
                    Some(OsString::from_vec(rest.to_vec()))
                };
                let letter = char::from(*letter);
                let Some(value) = value else {
                    let text = format!("{name}: option requires an argument -- '{letter}'\n");
                    return Some(Asked::Mistake(text + &usage(name)));
                };
                return take(letter, &value.to_string_lossy(), options);
            }
            other => {
                let text = format!("{name}: invalid option -- '{}'\n", char::from(*other));
                return Some(Asked::Mistake(text + &usage(name)));
            }
        }
    }
    None
}

/// `-p SIGNAL` and `-e EXIT_CODE`.
fn take(letter: char, value: &str, options: &mut Options) -> Option<Asked> {
    let read = if letter == 'e' {
        value.parse().map(|code| options.map_exit.push(code)).is_ok()
    } else {
        let signal = value.starts_with("SIG").then(|| Signal::parse(value)).flatten();
        options.parent_death_signal = signal;
        signal.is_some()
    };
    let own = std::process::id();
    let text = format!("[FATAL tini ({own})] Not a valid option for -{letter}: {value}\n");
    (!read).then_some(Asked::Mistake(text))
}

fn usage(name: &str) -> String {
    format!(
        "{name} ({VERSION})\n\
         Usage: {name} [OPTIONS] PROGRAM -- [ARGS] | --version\n\n\
         Execute a program under the supervision of a valid init process ({name})\n\n\
         Command line options:\n\n  \
         --version: Show version and exit.\n  \
         -h: Show this help message and exit.\n  \
         -s: Register as a process subreaper (requires Linux >= 3.4).\n  \
         -p SIGNAL: Trigger SIGNAL when parent dies, e.g. \"-p SIGKILL\".\n  \
         -v: Generate more verbose output. Repeat up to 3 times.\n  \
         -w: Print a warning when processes are getting reaped.\n  \
         -g: Send signals to the child's process group.\n  \
         -e EXIT_CODE: Remap EXIT_CODE (from 0 to 255) to 0.\n  \
         -l: Show license and exit.\n\n\
         Environment variables:\n\n  \
         TINI_SUBREAPER: Register as a process subreaper (requires Linux >= 3.4).\n  \
         TINI_VERBOSITY: Set the verbosity level (default: 1).\n  \
         TINI_KILL_PROCESS_GROUP: Send signals to the child's process group.\n\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str], environment: &[(&str, &str)]) -> Result<Options, String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let environment = environment.iter().map(|(k, v)| (k.into(), v.into())).collect();
        match read(OsStr::new("tini"), &words, environment) {
            Asked::Run(options) => Ok(options),
            Asked::Print(text) | Asked::Mistake(text) => Err(text),
        }
    }

    #[test]
    fn options_are_read_as_tini_reads_them() {
        let options = asked(&["-sgw", "-e", "143", "-e7", "-p", "SIGHUP", "-vv", "--", "-x"], &[]);
        let options = options.unwrap();
        assert!(options.subreaper && options.group && options.warn);
        assert_eq!(options.map_exit, [143, 7]);
        assert_eq!(options.parent_death_signal, Some(Signal::HUP));
        assert_eq!(options.voice, Voice::Tini { verbosity: 3 });
        assert_eq!(options.command, ["-x"]);
        assert!(options.grace.is_zero() && options.stop_timeout.is_none());
    }

    #[test]
    fn a_command_keeps_its_own_options() {
        assert_eq!(asked(&["ls", "-l", "--", "x"], &[]).unwrap().command, ["ls", "-l", "--", "x"]);
        assert_eq!(asked(&["-g", "ls", "-l"], &[]).unwrap().command, ["ls", "-l"]);
    }

    #[test]
    fn the_environment_counts_as_options_do() {
        let set =
            [("TINI_SUBREAPER", ""), ("TINI_KILL_PROCESS_GROUP", "1"), ("TINI_VERBOSITY", "3")];
        let options = asked(&["true"], &set).unwrap();
        assert!(options.subreaper && options.group);
        assert_eq!(options.voice, Voice::Tini { verbosity: 3 });
    }

    #[test]
    fn mistakes_are_told_in_its_words() {
        for (words, text) in [
            (&["-e", "300", "true"][..], "Not a valid option for -e: 300"),
            (&["-p", "15", "true"], "Not a valid option for -p: 15"),
            (&["-e"], "option requires an argument -- 'e'"),
            (&["-Z"], "invalid option -- 'Z'"),
            (&[], "Usage: tini [OPTIONS] PROGRAM"),
            (&["--version"], "tini version 0.19.0"),
        ] {
            let said = asked(words, &[]).unwrap_err();
            assert!(said.contains(text), "{words:?}: {said}");
        }
    }
}
