//! How a command fails: one text, one hint, one stable code, one exit code.

use std::process::ExitCode;

use serde_json::json;

use super::{
    out::{Out, tell},
    render::escape,
};
use crate::control::{Refusal, RefusalCode};

/// Exit code: usage.
pub(super) const USAGE: u8 = 2;
/// Exit code of status: not running.
pub(super) const NOT_RUNNING: u8 = 3;
/// Exit code: no supervisor is running.
pub(super) const NO_SUPERVISOR: u8 = 7;
/// Exit code: the configuration is invalid.
pub(super) const INVALID: u8 = 78;

/// Why a command did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The exit code.
    pub(super) exit: u8,
    /// Stable, for programs.
    pub(super) code: String,
    /// `cannot stop web: …`
    pub(super) message: String,
    /// What to do.
    pub(super) hint: Option<String>,
}

impl Failure {
    pub(super) fn new(exit: u8, code: &str, message: impl Into<String>) -> Self {
        Self { exit, code: code.to_owned(), message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// From what the supervisor says to `what` ("stop web").
    pub(super) fn refused(what: &str, refusal: Refusal) -> Self {
        let exit = match refusal.code {
            RefusalCode::NoSuchName => 5,
            RefusalCode::NotPermitted => 4,
            RefusalCode::InvalidSite => INVALID,
            RefusalCode::BadRequest => USAGE,
            RefusalCode::Failed | RefusalCode::NeedsConfirmation | RefusalCode::ShuttingDown => 1,
        };
        let code = serde_json::to_value(refusal.code).ok();
        let code = code.as_ref().and_then(|code| code.as_str()).unwrap_or("failed").to_owned();
        Self {
            exit,
            code,
            message: format!("cannot {what}: {}", refusal.message),
            hint: refusal.hint,
        }
    }

    /// Prints it; the exit code.
    pub(super) fn report(&self, out: &Out) -> ExitCode {
        if out.json {
            let object = json!({"code": self.code, "message": self.message, "hint": self.hint,
                                "exit": self.exit});
            tell(&object.to_string());
        } else {
            // What came from the other side may have several lines, but no control characters.
            for line in self.message.lines() {
                let before = if self.message.starts_with(line) { "supervisor: " } else { "" };
                tell(&format!("{before}{}", escape(line)));
            }
            for line in self.hint.iter().flat_map(|hint| hint.lines()) {
                tell(&format!("hint: {}", escape(line)));
            }
        }
        ExitCode::from(self.exit)
    }
}
