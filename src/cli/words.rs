//! Where the options of ours end and somebody else's command begins.

use std::ffi::{OsStr, OsString};

use clap::Command;

/// The words of a command line, by whom they are for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// All of them are ours.
    Ours,
    /// The first so many are our options; a command follows.
    Command {
        /// How many, the `--` not counted.
        options: usize,
        /// Where the command begins.
        begins: usize,
        /// It is marked by `--`, so it is no verb that was misspelt.
        marked: bool,
    },
}

/// Looks for the first word that is neither an option of ours, nor the value of one, nor a verb.
/// `words` are those after the name.
pub(super) fn sort(words: &[OsString], ours: &Command) -> Words {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let text = word.to_string_lossy();
        if text == "--" {
            return Words::Command { options: at, begins: at + 1, marked: true };
        }
        if !text.starts_with('-') || text == "-" {
            return if is_verb(ours, word) {
                Words::Ours
            } else {
                Words::Command { options: at, begins: at, marked: false }
            };
        }
        at += if takes_the_next(&text, ours) { 2 } else { 1 };
    }
    Words::Ours
}

fn is_verb(ours: &Command, word: &OsStr) -> bool {
    let word = word.to_string_lossy();
    ours.get_subcommands()
        .any(|verb| verb.get_name() == word || verb.get_all_aliases().any(|alias| alias == word))
}

/// Whether the word behind this option is its value: `-c FILE`, not `-cFILE` nor `--config=FILE`.
fn takes_the_next(option: &str, ours: &Command) -> bool {
    if let Some(long) = option.strip_prefix("--") {
        let takes = |arg: &clap::Arg| arg.get_action().takes_values();
        return ours.get_arguments().any(|arg| arg.get_long() == Some(long) && takes(arg));
    }
    let mut letters = option.chars().skip(1);
    while let Some(letter) = letters.next() {
        let arg = ours.get_arguments().find(|arg| arg.get_short() == Some(letter));
        if arg.is_some_and(|arg| arg.get_action().takes_values()) {
            return letters.next().is_none();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(line: &str) -> Words {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        sort(&words, &crate::cli::command())
    }

    #[test]
    fn the_first_word_that_is_none_of_ours_begins_the_command() {
        let command = |options, begins, marked| Words::Command { options, begins, marked };
        for (line, expected) in [
            ("", Words::Ours),
            ("-c site.yaml", Words::Ours),
            ("status web", Words::Ours),
            ("-c site.yaml tail -f", Words::Ours),
            ("--json bogus", command(1, 1, false)),
            ("ls -l /", command(0, 0, false)),
            ("-- status", command(0, 1, true)),
            ("-qc site.yaml -- ls", command(2, 3, true)),
            ("-csite.yaml ls", command(1, 1, false)),
            ("--config=site.yaml ls -c x", command(1, 1, false)),
            ("--config site.yaml -n ls", command(3, 3, false)),
            ("-e 143 -g -- -x", command(3, 4, true)),
            ("--", command(0, 1, true)),
            ("- x", command(0, 0, false)),
        ] {
            assert_eq!(sorted(line), expected, "{line}");
        }
    }
}
