//! Standard output and standard error, written so that a closed pipe is no panic and no noise.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use super::{fail::Failure, render::View};
use crate::sys::clock;

/// Where the command prints to.
#[derive(Debug)]
pub(super) struct Out {
    /// Print JSON.
    pub(super) json: bool,
    /// `$NO_COLOR` is set.
    no_color: bool,
    /// Nothing more can be written.
    closed: bool,
    /// Why, unless its reader is merely gone.
    cause: Option<String>,
}

impl Out {
    pub(super) fn new(json: bool, no_color: bool) -> Self {
        Self { json, no_color, closed: false, cause: None }
    }

    /// Prints `text` as it is to standard output. The first failure is remembered, the rest
    /// skipped.
    pub(super) fn print(&mut self, text: &str) {
        if self.closed {
            return;
        }
        let mut stdout = io::stdout().lock();
        if let Err(e) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            self.closed = true;
            self.cause = (e.kind() != io::ErrorKind::BrokenPipe).then(|| e.to_string());
        }
    }

    /// Prints `value` as JSON, indented on a terminal, and a line end.
    pub(super) fn print_json<T: serde::Serialize>(&mut self, value: &T) {
        let text = if Self::is_terminal() {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        self.print(&(text.unwrap_or_default() + "\n"));
    }

    /// Whether the reader of standard output is gone, so that going on is of no use.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// `code`, unless the reader of standard output was gone: then what SIGPIPE would have given.
    /// What could not be written for another reason is said.
    pub(super) fn code(&self, code: u8) -> ExitCode {
        match &self.cause {
            Some(cause) => {
                let text = format!("cannot write to standard output: {cause}");
                Failure::new(1, "output", text).report(self)
            }
            None => ExitCode::from(if self.closed { 141 } else { code }),
        }
    }

    /// Whether `$NO_COLOR` is set.
    pub(super) fn no_color(&self) -> bool {
        self.no_color
    }

    pub(super) fn is_terminal() -> bool {
        io::stdout().is_terminal()
    }

    /// Columns of the terminal that standard error is.
    pub(super) fn stderr_width() -> Option<usize> {
        terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| usize::from(width.0))
    }

    /// How to render for standard output, now.
    pub(super) fn view(&self) -> View {
        let terminal = Self::is_terminal();
        View {
            now: clock::wall(),
            width: terminal_size::terminal_size()
                .filter(|_| terminal)
                .map(|(w, _)| usize::from(w.0)),
            colour: terminal && !self.no_color,
        }
    }
}

/// Prints `text` and a line end to standard error. When that is closed there is nobody to tell.
pub(super) fn tell(text: &str) {
    let mut stderr = io::stderr().lock();
    if writeln!(stderr, "{text}").is_err() {
        log::trace!("standard error is closed");
    }
}

/// Rewrites the last line of a terminal on standard error; an empty text clears it.
pub(super) fn tell_over(text: &str) {
    let mut stderr = io::stderr().lock();
    if write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush()).is_err() {
        log::trace!("standard error is closed");
    }
}
