//! How a process ended, end to end: never a raw wait status, never `-137`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Signal;

/// The end of a process (waitid(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Exit {
    /// It called exit(3) with this code.
    Code(u8),
    /// A signal ended it; `core` says that it left a core dump.
    Signal {
        /// Which signal.
        signal: Signal,
        /// Whether a core was dumped.
        core: bool,
    },
    /// The kernel killed it (SIGKILL), as there was no memory left.
    OutOfMemory,
    /// It is gone, and how is not to be known, as it was no child of ours: neither success nor
    /// failure.
    Unknown,
}

impl Exit {
    /// The code a shell or a container would show: the code, or 128 + the signal's number; 1 where
    /// it is not known.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal { signal, .. } => 128_u8.saturating_add(signal.number()),
            Self::OutOfMemory => 128_u8.saturating_add(Signal::KILL.number()),
            Self::Unknown => 1,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(126) => f.write_str("exit 126 (cannot execute)"),
            Self::Code(127) => f.write_str("exit 127 (command not found)"),
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal { signal, core: false } => write!(f, "killed by {signal}"),
            Self::OutOfMemory => f.write_str("killed by the kernel: out of memory"),
            Self::Unknown => f.write_str("ended, exit status not known"),
            Self::Signal { signal, core: true } => write!(f, "killed by {signal}, core dumped"),
        }
    }
}
