//! What command mode says, in its own words or in tini's.

use std::io::Write as _;

use crate::sys::stdio;

/// In whose words, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// `supervisor: …`; warnings always, more with `-v`.
    Ours {
        /// 0: errors; 1: warnings; 2: what is done.
        verbosity: u8,
    },
    /// `[WARN  tini (1)] …`, as tini(1) 0.19 says it.
    Tini {
        /// `$TINI_VERBOSITY`, 1 unless given; `-v` adds one.
        verbosity: u8,
    },
}

impl Default for Voice {
    fn default() -> Self {
        Self::Ours { verbosity: 1 }
    }
}

impl Voice {
    /// Something that cannot be.
    pub fn fatal(self, text: &str) {
        self.say("FATAL", text);
    }

    /// We coped.
    pub fn warn(self, text: &str) {
        self.at_least(1, "WARN ", text);
    }

    /// What is done.
    pub fn info(self, text: &str) {
        self.at_least(2, "INFO ", text);
    }

    /// Each step.
    pub fn debug(self, text: &str) {
        self.at_least(3, "DEBUG", text);
    }

    /// Whether it speaks as tini.
    #[must_use]
    pub fn is_tini(self) -> bool {
        matches!(self, Self::Tini { .. })
    }

    fn at_least(self, level: u8, word: &str, text: &str) {
        let (Self::Ours { verbosity } | Self::Tini { verbosity }) = self;
        if verbosity < level {
            return;
        }
        // Such lines of tini's are on standard output.
        if self.is_tini() && level > 1 {
            let line = format!("[{word} tini ({})] {text}\n", std::process::id());
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).ok();
        } else {
            self.say(word, text);
        }
    }

    fn say(self, word: &str, text: &str) {
        match self {
            Self::Ours { .. } => stdio::say(&format!("supervisor: {text}\n")),
            Self::Tini { .. } => {
                stdio::say(&format!("[{word} tini ({})] {text}\n", std::process::id()));
            }
        }
    }
}
