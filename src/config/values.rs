//! What single words of the file mean: durations, sizes, modes, percentages.

use std::time::Duration;

use crate::model::{Bytes, Limit, Mode, ShmRule, Window, WindowMistake};

/// Why a text is not such a value, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
}

pub(crate) fn problem(text: impl Into<String>) -> Problem {
    Problem { text: text.into(), hint: None }
}

impl Problem {
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The longest duration: a hundred years, so that sums never overflow.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// `500ms`, `1h30m`, `0`.
pub(crate) fn duration(text: &str) -> Result<Duration, Problem> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let expected = || problem(format!("expected a duration like `10s`, found `{text}`"));
    if text.parse::<f64>().is_ok() {
        let hint = format!("`{text}s` or `{text}m`?");
        return Err(problem(format!("duration `{text}` has no unit")).hint(hint));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return Err(expected().hint("units are ms, s, m, h, d, w: `500ms`, `1h30m`")),
        };
        let number: f64 = number.parse().map_err(|_| expected())?;
        let part = Duration::try_from_secs_f64(number * scale).map_err(|_| expected())?;
        total = total.saturating_add(part);
        rest = tail;
    }
    if text.is_empty() || total > LONGEST {
        return Err(expected());
    }
    Ok(total)
}

/// A duration, or `none`.
pub(crate) fn limit(text: &str) -> Result<Limit, Problem> {
    if text == "none" { Ok(Limit::Never) } else { duration(text).map(Limit::After) }
}

/// `64KiB`, `10M`, `4096`.
pub(crate) fn size(text: &str) -> Result<Bytes, Problem> {
    let expected = || problem(format!("expected a size like `10MiB`, found `{text}`"));
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let shift = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        "KB" | "MB" | "GB" | "TB" | "kB" => {
            let letter = unit.chars().take(1).collect::<String>().to_uppercase();
            let text = format!("`{unit}` is ambiguous (1000 or 1024?)");
            return Err(problem(text).hint(format!("write `{number}{letter}iB`")));
        }
        _ => return Err(expected().hint("units are KiB, MiB, GiB, TiB, or K, M, G, T")),
    };
    number.checked_mul(1 << shift).map(Bytes).ok_or_else(expected)
}

/// `"0640"`; quoted, because YAML takes a bare one for a decimal number.
pub(crate) fn mode(text: &str, quoted: bool) -> Result<Mode, Problem> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    if !octal {
        let text = format!("expected a mode in octal digits, found `{text}`");
        return Err(problem(text).hint("write it like `\"0640\"`"));
    }
    if !quoted {
        return Err(problem(format!("mode `{text}` is not quoted"))
            .hint(format!("write `\"{text:0>4}\"`: YAML reads it as a decimal number")));
    }
    u32::from_str_radix(text, 8).map(Mode).map_err(|_| problem("no mode"))
}

/// `20%` as 0.2; nothing is nothing without a unit too.
pub(crate) fn percent(text: &str) -> Result<f64, Problem> {
    if text == "0" {
        return Ok(0.0);
    }
    let expected = || problem(format!("expected a percentage like `20%`, found `{text}`"));
    let number = text.strip_suffix('%').ok_or_else(expected)?;
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value = number.parse::<f64>().ok().filter(|_| plain).ok_or_else(expected)?;
    if value > 1_000_000.0 { Err(expected()) } else { Ok(value / 100.0) }
}

/// A user or group id as the file may give it; never the two that mean "leave as it is".
pub(crate) fn id(text: &str) -> Option<u32> {
    let decimal = text == "0" || text.starts_with(|c: char| ('1'..='9').contains(&c));
    let ok = decimal && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit());
    let id = text.parse::<u32>().ok().filter(|_| ok)?;
    (id != 65_535 && id != u32::MAX).then_some(id)
}

/// A command written as one string, split like shell words.
pub(crate) fn words(text: &str) -> Result<Vec<String>, Problem> {
    let words =
        shell_words::split(text).map_err(|_| problem("a quote in this command has no end"))?;
    let operators = ["|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "2>&1", "&>"];
    // A quoted operator is an ordinary argument: only what stands outside quotes is looked at.
    let bare = outside_quotes(text);
    let found = bare.split_whitespace().find(|w| {
        operators.contains(w) || (w.len() > 1 && w.ends_with(';') && !w.ends_with("\\;"))
    });
    if let Some(operator) = found {
        return Err(problem(format!("`{operator}` means nothing here: no shell reads a command"))
            .hint("to use a shell, write `[sh, -c, \"…\"]`"));
    }
    if words.first().is_none_or(String::is_empty) {
        return Err(problem("a command is not empty"));
    }
    Ok(words)
}

/// The text with everything in quotes, or behind a backslash, made harmless.
fn outside_quotes(text: &str) -> String {
    let mut quote = None;
    let mut escaped = false;
    let mut bare = String::with_capacity(text.len());
    for c in text.chars() {
        let harmless = escaped || quote.is_some() || c == '\\';
        match (escaped, quote, c) {
            (true, _, _) => escaped = false,
            (false, None | Some('"'), '\\') => escaped = true,
            (false, None, '\'' | '"') => quote = Some(c),
            (false, Some(open), _) if open == c => quote = None,
            (false, _, _) => {}
        }
        bare.push(if harmless { '_' } else { c });
    }
    bare
}

/// Whether `text` is five fields of crontab(5), or `@daily` and its like.
pub(crate) fn window(text: &str) -> Result<(), Problem> {
    match Window::parse(text) {
        Ok(_) => Ok(()),
        Err(WindowMistake::Shape) => Err(problem(format!("`{text}` is no time of the day"))
            .hint("from and until in local time: `03:00-04:00`, `23:00-01:00`")),
        Err(WindowMistake::Empty) => Err(problem(format!("nothing is in the window `{text}`"))
            .hint("the whole day is `00:00-24:00`")),
    }
}

pub(crate) fn cron(text: &str) -> Result<(), Problem> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    if matches!(text, "@hourly" | "@daily" | "@midnight" | "@weekly" | "@monthly" | "@yearly") {
        return Ok(());
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        let text = format!("a cron line has 5 fields, this one has {}", fields.len());
        return Err(problem(text).hint("minute hour day month weekday: `30 3 * * *`"));
    }
    let none: &[&str] = &[];
    let ranges = [
        ("minute", 0, 59, none),
        ("hour", 0, 23, none),
        ("day", 1, 31, none),
        ("month", 1, 12, &MONTHS),
        ("weekday", 0, 7, &DAYS),
    ];
    for (field, (what, min, max, names)) in fields.iter().zip(ranges) {
        let number = |t: &str| {
            let named = || names.iter().any(|n| n.eq_ignore_ascii_case(t)).then_some(min);
            t.parse::<u32>().ok().filter(|n| (min..=max).contains(n)).or_else(named)
        };
        let ok = field.split(',').all(|part| {
            let (range, step) = part.split_once('/').unwrap_or((part, "1"));
            let in_range = match range.split_once('-') {
                Some((a, b)) => {
                    number(a).is_some() && number(b).is_some_and(|b| Some(b) >= number(a))
                }
                None => range == "*" || number(range).is_some(),
            };
            in_range && step.parse::<u32>().is_ok_and(|n| n > 0)
        });
        if !ok {
            return Err(problem(format!("`{field}` is no {what} of a cron line"))
                .hint(format!("{min} to {max}, `*`, `1-5`, `*/10`, `1,15`")));
        }
    }
    Ok(())
}

/// A pattern of names.
pub(crate) fn name_pattern(text: &str) -> Result<(), Problem> {
    if text.contains('/') && !text.contains("**") {
        return Err(problem(format!("a name pattern has no `/`, found `{text}`")));
    }
    let pattern = glob::Pattern::new(text);
    pattern.map(drop).map_err(|e| problem(format!("pattern `{text}`: {}", e.msg)))
}

/// A pattern of names in /dev/shm that cannot mean everything.
pub(crate) fn shm_pattern(text: &str) -> Result<(), Problem> {
    if text.contains('/') {
        let found = problem(format!("a name in /dev/shm has no `/`, found `{text}`"));
        return Err(found.hint("write the name alone, like `prismatron_*`"));
    }
    name_pattern(text)?;
    if ShmRule::literals(text) < ShmRule::LITERALS {
        let least = ShmRule::LITERALS;
        let found = format!("pattern `{text}` has fewer than {least} characters of its own");
        return Err(problem(found).hint("write what the names begin with, like `prismatron_*`"));
    }
    Ok(())
}
