//! Mistakes on the command line, in our words.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{
    fail::{Failure, USAGE},
    out::Out,
};

/// Prints help and version to standard output, mistakes to standard error.
pub(super) fn report(error: &clap::Error, out: &mut Out) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let text = if Out::is_terminal() && !out.no_color() {
            error.render().ansi().to_string()
        } else {
            error.render().to_string()
        };
        out.print(&text);
        return out.code(0);
    }
    failure(error).report(out)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "clap's kinds are clap's to extend")]
fn failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let suggestion =
        [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue]
            .into_iter()
            .find_map(|kind| error.get(kind).and_then(one));
    let wrong =
        [ContextKind::InvalidSubcommand, ContextKind::InvalidArg, ContextKind::InvalidValue]
            .into_iter()
            .find_map(|kind| error.get(kind).and_then(one));
    let suggestion = suggestion.filter(|word| wrong.is_none_or(|wrong| is_near(&wrong, word)));
    let cause = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let verb = error.get(ContextKind::InvalidSubcommand).and_then(one).unwrap_or_default();
            format!("no verb is called \"{verb}\"")
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = error.get(ContextKind::InvalidArg).map(ToString::to_string);
            format!("it needs {}", missing.unwrap_or_default().replace('\n', " "))
        }
        _ => first.to_owned(),
    };
    let failure = Failure::new(USAGE, "usage", format!("cannot read the command line: {cause}"));
    match suggestion {
        Some(word) => failure.hint(format!("did you mean {word}?")),
        None => failure.hint("supervisor --help lists verbs and options"),
    }
}

/// Whether somebody who typed `wrong` may have meant `word`.
fn is_near(wrong: &str, word: &str) -> bool {
    let wrong = wrong.trim_start_matches('-');
    let word = word.trim_start_matches('-');
    let most = (wrong.chars().count() / 3).max(1);
    strsim::damerau_levenshtein(wrong, word) <= most || word.starts_with(wrong)
}

fn one(value: &ContextValue) -> Option<String> {
    if let ContextValue::String(text) = value {
        return Some(text.clone());
    }
    let ContextValue::Strings(all) = value else { return None };
    all.first().cloned()
}
