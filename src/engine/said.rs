//! What a program has said of itself in its present run.

use serde::{Deserialize, Serialize};

use super::RunId;

/// What a program has said of itself, or what was found out, in its latest run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// In which run.
    pub run: Option<RunId>,
    /// That it is ready; perhaps before we knew that it executes.
    pub ready: bool,
}

impl Said {
    /// Nothing, in a run that begins.
    pub(super) fn nothing_in(run: RunId) -> Self {
        Self { run: Some(run), ..Self::default() }
    }

    /// Whether it is known to be ready.
    pub(super) fn is_ready(&self, run: RunId) -> bool {
        self.ready && self.run == Some(run)
    }
}
