//! Steps as data: what is to be done to the host, and what came of it.

use std::{path::PathBuf, time::Duration};

use crate::model::Mode;

/// A step of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// One word.
    pub(super) name: &'static str,
    /// In this order.
    pub(super) items: Vec<Item>,
}

/// A part of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// `make user shop (system)`; empty where the state says it all.
    pub(super) what: String,
    pub(super) state: State,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing, and in which words: `already there`.
    Already(&'static str),
    /// Nothing, for this reason.
    Skipped(String),
    /// This.
    Do(Action),
    /// It would be wrong to go on: nothing at all is changed.
    Cannot { cause: String, hint: String },
}

impl Item {
    pub(super) fn new(what: impl Into<String>, state: State) -> Self {
        Self { what: what.into(), state }
    }

    pub(super) fn skipped(reason: impl Into<String>) -> Self {
        Self::new("", State::Skipped(reason.into()))
    }

    pub(super) fn cannot(
        what: impl Into<String>,
        cause: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(what, State::Cannot { cause: cause.into(), hint: hint.into() })
    }
}

/// Something that is done to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Makes an account by these commands. One that is there meanwhile is as good.
    MakeUser { name: Box<str>, commands: Vec<Vec<String>> },
    /// Runs a command, for at most so long.
    Command { words: Vec<String>, limit: Duration },
    /// Makes a directory.
    MakeDirectory { path: PathBuf, whose: Whose },
    /// Gives a directory, which root has or one of `from`, to whom it is to belong.
    SetDirectory { path: PathBuf, whose: Whose, from: Vec<Box<str>> },
    /// Gives the files of a directory a mode.
    SetFiles { path: PathBuf, mode: Mode },
    /// Writes a file of ours.
    Write { path: PathBuf, text: String },
    /// Removes a file of ours.
    Remove { path: PathBuf },
    /// Asks the supervisor to stop, and waits until it is gone.
    Shutdown,
}

/// Whose a directory is, by names or decimal ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whose {
    pub(super) owner: Box<str>,
    /// `None`: the owner's.
    pub(super) group: Option<Box<str>>,
    pub(super) mode: Mode,
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.owner)?;
        self.group.iter().try_for_each(|group| write!(f, ":{group}"))?;
        write!(f, " {}", self.mode)
    }
}

/// What came of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Already(&'static str),
    Skipped(String),
    /// Would be done.
    ToDo,
    Done,
    /// Why not.
    Failed(String),
}

impl Came {
    /// For programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Already(_) => "already",
            Self::Skipped(_) => "skipped",
            Self::ToDo => "to_do",
            Self::Done => "done",
            Self::Failed(_) => "failed",
        }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::Already(word) => (*word).to_owned(),
            Self::Skipped(reason) => format!("skipped: {reason}"),
            Self::ToDo => "to be done".to_owned(),
            Self::Done => "done".to_owned(),
            Self::Failed(cause) => format!("failed: {cause}"),
        }
    }
}
