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
    let wrong =
        [ContextKind::InvalidSubcommand, ContextKind::InvalidArg, ContextKind::InvalidValue]
            .into_iter()
            .find_map(|kind| error.get(kind).and_then(one));
    let suggested =
        [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let all = suggested.into_iter().filter_map(|kind| error.get(kind)).flat_map(words);
    let suggestion = wrong.and_then(|wrong| nearest(&wrong, all));
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
        None => failure.hint(
            values(error)
                .or_else(|| usage(error))
                .unwrap_or_else(|| "supervisor --help lists verbs and options".to_owned()),
        ),
    }
}

/// The values that there are, for one that is none of them.
fn values(error: &clap::Error) -> Option<String> {
    let all = words(error.get(ContextKind::ValidValue)?);
    (!all.is_empty()).then(|| format!("write one of: {}", all.join(", ")))
}

/// How the verb is used whose arguments are wrong.
fn usage(error: &clap::Error) -> Option<String> {
    if error.kind() == ErrorKind::InvalidSubcommand {
        return None;
    }
    let text = error.get(ContextKind::Usage)?.to_string();
    let usage = text.trim().strip_prefix("Usage:")?.trim().to_owned();
    (!usage.contains('\n')).then(|| format!("usage: {usage}"))
}

/// Which of `words` somebody may have meant who typed `wrong`.
fn nearest(wrong: &str, words: impl Iterator<Item = String>) -> Option<String> {
    let wrong = wrong.trim_start_matches('-');
    let most = (wrong.chars().count() / 3).max(1);
    let distance = |word: &str| strsim::damerau_levenshtein(wrong, word.trim_start_matches('-'));
    words
        .map(|word| (distance(&word), word))
        .filter(|(distance, word)| {
            *distance <= most
                || (!wrong.is_empty() && word.trim_start_matches('-').starts_with(wrong))
        })
        .min()
        .map(|(_, word)| word)
}

fn one(value: &ContextValue) -> Option<String> {
    words(value).into_iter().next()
}

fn words(value: &ContextValue) -> Vec<String> {
    if let ContextValue::String(text) = value {
        return vec![text.clone()];
    }
    let ContextValue::Strings(all) = value else { return Vec::new() };
    all.clone()
}
