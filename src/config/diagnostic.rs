//! Mistakes in a site file: what is wrong, where, and what to write instead.

use std::{fmt::Write as _, sync::Arc};

use serde_json::{Value, json};

/// Whether a finding stops the site from being loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken; a human should look at it.
    Warning,
}

/// A place in one of the files that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Index of the file, in the order of reading.
    pub file: u16,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Length in characters, at least 1 when shown.
    pub len: u32,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the site from being loaded.
    pub severity: Severity,
    /// A stable word for programs: `unknown-key`, `bad-value` …
    pub code: &'static str,
    /// What is wrong, and what was expected.
    pub message: String,
    /// `programs.web.restart.delay`, or empty.
    pub key: String,
    /// Where.
    pub place: Place,
    /// Other places that have to do with it.
    pub labels: Vec<(Place, String)>,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error at `place`.
    #[must_use]
    pub fn error(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            key: String::new(),
            place,
            labels: Vec::new(),
            hint: None,
        }
    }

    /// The same, as a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// The same, with the key it is about.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// The same, with what to write instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with another place that has to do with it.
    #[must_use]
    pub fn label(mut self, place: Place, text: impl Into<String>) -> Self {
        self.labels.push((place, text.into()));
        self
    }
}

/// A file as it was read, for showing its lines.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// As the user named it.
    pub name: Arc<str>,
    /// Its text.
    pub text: Arc<str>,
}

/// All mistakes of one load, with the files they are in.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    items: Vec<Diagnostic>,
    files: Vec<SourceFile>,
}

impl Findings {
    /// More are not kept: whoever has a thousand mistakes has one.
    const MAX: usize = 1000;

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if self.items.len() < Self::MAX {
            self.items.push(diagnostic);
        }
    }

    pub(crate) fn add_file(&mut self, name: Arc<str>, text: Arc<str>) -> u16 {
        self.files.push(SourceFile { name, text });
        u16::try_from(self.files.len() - 1).unwrap_or(u16::MAX)
    }

    /// Whether any of the files read so far has this text.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.files.iter().any(|file| file.text.contains(text))
    }

    pub(crate) fn file(&self, index: u16) -> Option<&SourceFile> {
        self.files.get(usize::from(index))
    }

    /// How many were found so far, for [`Self::name_since`].
    pub(crate) fn count(&self) -> usize {
        self.items.len()
    }

    /// Gives what was found after the first `count` the key `key`, unless it has one.
    pub(crate) fn name_since(&mut self, count: usize, key: &str) {
        for d in self.items.iter_mut().skip(count).filter(|d| d.key.is_empty()) {
            key.clone_into(&mut d.key);
        }
    }

    /// Sorts by place and drops what was found twice.
    pub(crate) fn tidy(&mut self) {
        self.items.sort_by(|a, b| (a.place, &a.message).cmp(&(b.place, &b.message)));
        self.items.dedup_by(|b, a| a.place == b.place && a.message == b.message);
    }

    /// Keeps only the warnings.
    pub(crate) fn warnings_only(mut self) -> Self {
        self.items.retain(|d| d.severity == Severity::Warning);
        self
    }

    /// Every finding, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.items.iter()
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many errors there are.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.items.iter().filter(|d| d.severity == Severity::Error).count()
    }

    /// `FILE:LINE:COLUMN` of a place.
    #[must_use]
    pub fn locate(&self, place: Place) -> String {
        let name = self.file(place.file).map_or("site", |f| &f.name);
        if place.line == 0 {
            printable(name)
        } else {
            format!("{}:{}:{}", printable(name), place.line, place.column)
        }
    }

    /// One line each: `FILE:LINE:COL: error: text (hint: …)`.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut out = String::new();
        for d in &self.items {
            let hint = d.hint.as_ref().map(|h| format!(" (hint: {h})")).unwrap_or_default();
            let text = printable(&format!("{}{hint}", headline(d)));
            // Writing to a string cannot fail.
            writeln!(out, "{}: {}: {text}", self.locate(d.place), word(d.severity)).ok();
        }
        out
    }

    /// With source lines and carets; `colour` uses terminal escapes.
    #[must_use]
    pub fn snippets(&self, colour: Colour) -> String {
        let mut out = String::new();
        for d in &self.items {
            self.snippet(d, colour, &mut out);
        }
        out
    }

    fn snippet(&self, d: &Diagnostic, colour: Colour, out: &mut String) {
        let (red, bold, off) = match (colour, d.severity) {
            (Colour::Never, _) => ("", "", ""),
            (Colour::Always, Severity::Error) => ("\x1b[1;31m", "\x1b[1m", "\x1b[0m"),
            (Colour::Always, Severity::Warning) => ("\x1b[1;33m", "\x1b[1m", "\x1b[0m"),
        };
        let width = d.labels.iter().map(|(p, _)| p.line).chain([d.place.line]).max().unwrap_or(0);
        let pad = " ".repeat(width.to_string().len());
        let head = printable(&headline(d));
        writeln!(out, "{red}{}{off}: {bold}{head}{off}", word(d.severity)).ok();
        writeln!(out, "{pad}--> {}", self.locate(d.place)).ok();
        if let Some(line) = self.source_line(d.place) {
            writeln!(out, "{pad} |").ok();
            let marks = underline(&line, d.place, '^');
            let number = format!("{:>1$}", d.place.line, pad.len());
            writeln!(out, "{number} | {}", printable(&line)).ok();
            writeln!(out, "{pad} | {red}{marks}{off}").ok();
        }
        for (place, text) in &d.labels {
            let number = format!("{:>1$}", place.line, pad.len());
            if place.file != d.place.file {
                writeln!(out, "{pad}::: {}", self.locate(*place)).ok();
            }
            if let Some(line) = self.source_line(*place) {
                writeln!(out, "{number} | {}", printable(&line)).ok();
                let marks = underline(&line, *place, '-');
                writeln!(out, "{pad} | {marks} {}", printable(text)).ok();
            }
        }
        if let Some(hint) = &d.hint {
            writeln!(out, "{pad} = hint: {}", printable(hint)).ok();
        }
        out.push('\n');
    }

    /// The line of `place`, cut to 200 characters around it so that no line floods a terminal.
    fn source_line(&self, place: Place) -> Option<String> {
        let index = usize::try_from(place.line.checked_sub(1)?).ok()?;
        let line = self.file(place.file)?.text.lines().nth(index)?;
        Some(line.trim_start_matches('\u{feff}').chars().take(200).collect())
    }

    /// For programs: an array of `{severity, code, message, file, line, column, hint, key}`.
    #[must_use]
    pub fn json(&self) -> Value {
        let one = |d: &Diagnostic| {
            json!({
                "severity": word(d.severity),
                "code": d.code,
                "message": d.message,
                "file": self.file(d.place.file).map(|f| &*f.name),
                "line": d.place.line,
                "column": d.place.column,
                "hint": d.hint,
                "key": d.key,
            })
        };
        self.items.iter().map(one).collect()
    }
}

impl<'a> IntoIterator for &'a Findings {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Whether terminal escapes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Never,
    /// Escapes.
    Always,
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn headline(d: &Diagnostic) -> String {
    if d.key.is_empty() { d.message.clone() } else { format!("{}: {}", d.key, d.message) }
}

fn underline(line: &str, place: Place, mark: char) -> String {
    let column = usize::try_from(place.column).unwrap_or(1).max(1);
    let left = line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' });
    let room = line.chars().count().saturating_sub(column - 1).max(1);
    let len = usize::try_from(place.len).unwrap_or(1).clamp(1, room);
    left.chain(std::iter::repeat_n(mark, len)).collect()
}

/// `text` with control characters, and characters that reorder a line, replaced by `\u{…}`.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_forbidden(c) && c != '\t' {
            write!(out, "\\u{{{:x}}}", u32::from(c)).ok();
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters, and the marks that make a terminal show text in another order.
pub(crate) fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
}

/// The nearest of `names` to `text`, when one is near enough to be meant.
pub(crate) fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if text.len() > 64 {
        return None;
    }
    let lower = text.to_lowercase();
    names
        .into_iter()
        .map(|n| (strsim::damerau_levenshtein(&lower, &n.to_lowercase()), n))
        .filter(|(distance, n)| *distance <= 1 + n.len().min(lower.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, n)| n)
}
