//! The error of this folder: what was attempted, on what, and the errno.

use std::{fmt, io};

use nix::errno::Errno;

/// A system call that did not do what was asked.
#[derive(Debug)]
pub struct SysError {
    /// Verb and object: `open /var/log/web.log`.
    pub doing: String,
    /// Why not.
    pub cause: io::Error,
}

impl SysError {
    /// An attempt, and why it came to nothing.
    pub fn new(doing: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self { doing: doing.into(), cause: cause.into() }
    }

    /// An attempt that we refuse to go on with, for a reason that no errno says.
    pub fn refused(doing: impl Into<String>, why: impl Into<String>) -> Self {
        Self { doing: doing.into(), cause: io::Error::other(why.into()) }
    }

    /// The errno, when the kernel gave one (errno(3)).
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.cause.raw_os_error()
    }

    /// True for a lack of resources that may pass by itself: memory, processes, descriptors.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.errno().is_some_and(is_shortage)
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.doing, self.cause)
    }
}

impl std::error::Error for SysError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Whether this errno means a shortage of memory, processes or descriptors.
pub(super) fn is_shortage(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE)
}

/// The result of a call that returns -1 and sets errno.
pub(super) fn check<T: PartialEq + From<i8>>(result: T) -> Result<T, Errno> {
    if result == T::from(-1) { Err(Errno::last()) } else { Ok(result) }
}
