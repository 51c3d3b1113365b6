//! Who gets the orphans: us, as init or as subreaper (prctl(2), `PR_SET_CHILD_SUBREAPER`).

use super::SysError;

/// True when we are process 1: the kernel discards signals that we do not handle, and our end ends
/// everybody.
#[must_use]
pub fn is_init() -> bool {
    std::process::id() == 1
}

/// Makes orphans of our programs our children, so that none gets lost. Init is that anyway.
///
/// Kept over execve(2), not inherited by children. Needs Linux 3.4.
pub fn become_subreaper() -> Result<(), SysError> {
    if is_init() {
        return Ok(());
    }
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|e| SysError::new("become the reaper of orphans", e))
}
