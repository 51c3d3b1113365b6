//! Random numbers of the kernel (getrandom(2)).

/// A random number; from the clock and the pid where the kernel gives none (before 3.17, or hidden
/// by a filter).
#[must_use]
pub fn number() -> u64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: the buffer is 8 bytes long, as is said.
    let got =
        unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    if got == 8 {
        return u64::from_ne_bytes(bytes);
    }
    super::clock::monotonic().0.rotate_left(32) ^ u64::from(std::process::id())
}
