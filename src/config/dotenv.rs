//! Dotenv files: `export NAME='value' # comment`, one variable a line.

use std::{fmt, path::Path, path::PathBuf};

use super::{
    expand::is_variable,
    source::{self, SourceError},
};

/// Why a dotenv file gives no variables.
#[derive(Debug)]
pub struct DotenvError(Cause);

#[derive(Debug)]
enum Cause {
    Source(SourceError),
    Line { path: PathBuf, mistake: Mistake },
}

/// A line that is no variable. It never quotes the line: such files hold secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// From 1.
    pub(crate) line: u32,
    pub(crate) cause: &'static str,
}

impl DotenvError {
    /// Whether there is no such file: what `optional: true` forgives.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(&self.0, Cause::Source(e) if e.is_missing())
    }
}

impl fmt::Display for DotenvError {
    /// `cannot read FILE: cause`, or `FILE:LINE: cause`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Source(error) => error.fmt(f),
            Cause::Line { path, mistake } => {
                write!(f, "{}:{}: {}", path.display(), mistake.line, mistake.cause)
            }
        }
    }
}

impl std::error::Error for DotenvError {}

/// The variables of a dotenv file, in its order; of two with one name the later one counts.
///
/// Lines are `NAME=value`, with `export` before, quotes around the value and a comment behind, as
/// one likes. Between double quotes `\n`, `\"`, `\\`, `\$` and `` \` `` are escapes, between single
/// quotes nothing is. Nothing is expanded. It never waits for a FIFO.
///
/// # Errors
/// The file is missing ([`DotenvError::is_missing`]), no regular file, larger than 1 MiB, no UTF-8,
/// or has a line that is none of these; the first such line is named, never quoted.
pub fn read_dotenv(path: &Path) -> Result<Vec<(String, String)>, DotenvError> {
    let source = source::read_any(path).map_err(|e| DotenvError(Cause::Source(e)))?;
    let (variables, mistakes) = parse(&source.text);
    match mistakes.first() {
        None => Ok(variables),
        Some(&mistake) => Err(DotenvError(Cause::Line { path: path.into(), mistake })),
    }
}

/// The variables of `text`, and its wrong lines.
pub(crate) fn parse(text: &str) -> (Vec<(String, String)>, Vec<Mistake>) {
    let (mut variables, mut mistakes) = (Vec::new(), Vec::new());
    for (text, line) in text.lines().zip(1_u32..) {
        match variable(text) {
            Ok(found) => variables.extend(found),
            Err(cause) => mistakes.push(Mistake { line, cause }),
        }
    }
    (variables, mistakes)
}

fn variable(line: &str) -> Result<Option<(String, String)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line.contains('\0') {
        return Err("a variable cannot contain a NUL character");
    }
    let exported = line.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
    let (name, value) = exported.unwrap_or(line).split_once('=').ok_or("expected `NAME=value`")?;
    let name = name.trim();
    if !is_variable(name) {
        return Err("what stands before `=` is no name of a variable");
    }
    Ok(Some((name.to_owned(), value_of(value)?)))
}

fn value_of(text: &str) -> Result<String, &'static str> {
    let trimmed = text.trim();
    let (value, after) = if let Some(rest) = trimmed.strip_prefix('\'') {
        let (inner, after) = rest.split_once('\'').ok_or("a quote has no end")?;
        (inner.to_owned(), after)
    } else if let Some(rest) = trimmed.strip_prefix('"') {
        double_quoted(rest)?
    } else {
        // As in a shell, only a `#` behind a blank begins a comment: `#fff` is a value.
        let comment = text
            .match_indices('#')
            .find(|(at, _)| text.get(..*at).is_some_and(|before| before.ends_with([' ', '\t'])));
        let value = comment.and_then(|(at, _)| text.get(..at)).unwrap_or(text);
        return Ok(value.trim().to_owned());
    };
    let after = after.trim_start();
    if after.is_empty() || after.starts_with('#') {
        Ok(value)
    } else {
        Err("text follows the closing quote")
    }
}

/// The value up to the closing quote, and what follows.
fn double_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::with_capacity(text.len());
    let mut rest = text.chars();
    loop {
        match rest.next().ok_or("a quote has no end")? {
            '"' => return Ok((value, rest.as_str())),
            '\\' => match rest.next().ok_or("a quote has no end")? {
                'n' => value.push('\n'),
                c @ ('"' | '\\' | '$' | '`') => value.push(c),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotenv_line_is_read_as_a_shell_would() {
        for (line, value) in [
            ("A=b", "b"),
            ("  A = b  ", "b"),
            ("export A=b # c", "b"),
            ("export\tA=b\t# c", "b"),
            ("A=a b,c", "a b,c"),
            ("A='a # b' # c", "a # b"),
            (r#"A="a \"b\" \\ \$ \n \d" "#, "a \"b\" \\ $ \n \\d"),
            (r"A='a\nb'", r"a\nb"),
            ("A=", ""),
            ("A= # c", ""),
            ("A=#fff", "#fff"),
            ("A=b=c", "b=c"),
            ("A=it's", "it's"),
        ] {
            let expected = Ok(Some(("A".to_owned(), value.to_owned())));
            assert_eq!(variable(line), expected, "{line}");
        }
        assert_eq!(variable("exported=1").unwrap().unwrap().0, "exported");
        assert_eq!(parse("\n# c\n\r\n  #\nA=1\r\nA=2\r\n").0.len(), 2);
    }

    #[test]
    fn every_wrong_dotenv_line_is_found_and_none_is_quoted() {
        let text = "A\n1A=s3cret\nA='s3cret\nA=\"s3cret\\\"\nA='x'y\nA=\0\nB=1\n";
        let (variables, mistakes) = parse(text);
        assert_eq!(variables, [("B".to_owned(), "1".to_owned())]);
        assert_eq!(mistakes.iter().map(|m| m.line).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert!(mistakes.iter().all(|m| !m.cause.contains("s3cret")));
    }
}
