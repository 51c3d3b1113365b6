//! Who gets the orphans: us, as init or as subreaper (prctl(2), `PR_SET_CHILD_SUBREAPER`).

use super::SysError;
use crate::model::Signal;

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

/// Asks for `signal` when our parent dies: the thread that started us (`PR_SET_PDEATHSIG`). Kept
/// over execve(2), not inherited by children.
pub fn die_with_parent(signal: Signal) -> Result<(), SysError> {
    let doing = || format!("ask for {signal} at the death of the parent");
    // SAFETY: prctl(2) with numbers only.
    let asked =
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::from(signal.number())) };
    super::error::check(asked).map(drop).map_err(|e| SysError::new(doing(), e))
}
