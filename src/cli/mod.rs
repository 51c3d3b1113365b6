//! The command line: argv to commands, and what they print.

use std::process::ExitCode;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let mut o = crate::daemon::RunOptions::default();
    o.environment = std::env::vars_os().collect();
    o.config = std::env::args_os().nth(2).map(Into::into);
    o.dry_run = std::env::args_os().nth(3).is_some();
    crate::daemon::run(&o)
}
