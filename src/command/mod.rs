//! Command mode: one command, run as the entrypoint of a container would be (tini(1)'s work).
//!
//! One thread, no socket, no log: signals go to the command, orphans are reaped, and after its end
//! what it left behind gets its time to clean up. [`machine`] decides, [`run`] carries out.

pub mod machine;
mod shell;
mod voice;

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

pub use shell::run;
pub use voice::Voice;

use crate::model::Signal;

/// How to run a command.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Options {
    /// What to execute, verbatim; never empty.
    pub command: Vec<OsString>,
    /// Its environment: ours.
    pub environment: BTreeMap<OsString, OsString>,
    /// `-g`: signals go to its whole process group.
    pub group: bool,
    /// `-w`: say which orphans are reaped.
    pub warn: bool,
    /// `-s`: take in orphans although we are not process 1.
    pub subreaper: bool,
    /// `-e N`: exit codes that become 0.
    pub map_exit: Vec<u8>,
    /// How long what the command leaves behind may take to clean up; zero: it is not asked.
    pub grace: Duration,
    /// How long it may take after SIGTERM or SIGINT; `None`: for ever.
    pub stop_timeout: Option<Duration>,
    /// `--rewrite A:B`; `None` drops the signal.
    pub rewrite: BTreeMap<u8, Option<Signal>>,
    /// `-p SIG`: the signal that we get when our parent dies.
    pub parent_death_signal: Option<Signal>,
    /// Stop with the command when the terminal stops it, so that the shell has the terminal again.
    pub job_control: bool,
    /// In whose words we speak.
    pub voice: Voice,
}

impl Options {
    /// How long what is left behind gets unless somebody says otherwise.
    pub const GRACE: Duration = Duration::from_secs(2);
    /// The same for the command itself as process 1: within the ten seconds of docker stop, with
    /// what is left behind.
    pub const STOP_TIMEOUT: Duration = Duration::from_secs(8);

    /// What becomes of `signal` on its way to the command; `None`: it is dropped.
    #[must_use]
    pub fn rewritten(&self, signal: Signal) -> Option<Signal> {
        self.rewrite.get(&signal.number()).copied().unwrap_or(Some(signal))
    }

    /// The exit code that stands for `code`.
    #[must_use]
    pub fn mapped(&self, code: u8) -> u8 {
        if self.map_exit.contains(&code) { 0 } else { code }
    }
}
