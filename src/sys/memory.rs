//! How much memory the supervisor keeps for itself.

use nix::sys::mman::{MlockAllFlags, mlockall};

use super::SysError;

/// Gives freed memory back to the system (malloc_trim(3)); after the site file was read, most of it is free.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim takes the allocator's own locks and touches no memory in use.
        unsafe { libc::malloc_trim(0) };
    }
}

/// Keeps everything resident (mlockall(2)), so that a dead disk cannot stop us.
///
/// # Errors
/// RLIMIT_MEMLOCK or a missing capability.
pub fn lock_all() -> Result<(), SysError> {
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)
        .map_err(|e| SysError::new("locking the memory", e))
}

/// One arena for all threads: their buffers are few, and an arena each would cost pages that stay.
pub fn one_arena() {
    #[cfg(target_env = "gnu")]
    {
        const M_ARENA_MAX: libc::c_int = -8;
        // SAFETY: called before there is another thread; see mallopt(3).
        unsafe { libc::mallopt(M_ARENA_MAX, 1) };
    }
}
