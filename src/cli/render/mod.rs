//! What is printed, as text: data in, a string out. No clock, no terminal, no file.

mod page;
mod processes;
mod semaphore;
mod status;
#[cfg(test)]
mod tests;
mod text;

pub(super) use page::page;
pub(super) use processes::{killed, left, processes, shares};
pub(super) use semaphore::{semaphore, semaphores};
pub(super) use status::{Field, fields, next, size, table};
pub(super) use text::{difference, escape, event, log_line, outcome, waiting};

use crate::{
    control::{SemaphoreWord, StateWord},
    model::WallTime,
};

/// How to render.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct View {
    /// For "today" and for how long ago.
    pub(super) now: WallTime,
    /// Columns of the terminal; `None` is no limit.
    pub(super) width: Option<usize>,
    /// Whether to colour.
    pub(super) colour: bool,
}

impl View {
    fn paint(self, state: StateWord, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let colour = match state {
            StateWord::Running => "32",
            StateWord::Starting | StateWord::Stopping | StateWord::Waiting => "33",
            StateWord::Backoff | StateWord::Fatal => "31",
            StateWord::Stopped | StateWord::Exited => "2",
        };
        format!("\x1b[{colour}m{text}\x1b[0m")
    }

    fn paint_semaphore(self, state: SemaphoreWord, text: &str) -> String {
        let colour = match state {
            SemaphoreWord::Clear => StateWord::Stopped,
            SemaphoreWord::Raised | SemaphoreWord::Pending | SemaphoreWord::Acting => {
                StateWord::Waiting
            }
            SemaphoreWord::Refused | SemaphoreWord::Unknown => StateWord::Fatal,
        };
        self.paint(colour, text)
    }

    /// `PASS` in green, `FAIL` in red.
    pub(super) fn paint_verdict(self, failed: bool, text: &str) -> String {
        self.paint(if failed { StateWord::Fatal } else { StateWord::Running }, text)
    }

    /// `text`, already escaped, cut to the width that is left after `used` columns.
    pub(super) fn cut(self, used: usize, text: &str) -> String {
        let Some(width) = self.width else { return text.to_owned() };
        let left = width.saturating_sub(used);
        if text.chars().count() <= left {
            return text.to_owned();
        }
        text.chars().take(left.saturating_sub(1)).chain(['…']).collect()
    }
}
