//! How much memory the supervisor keeps for itself.

use nix::sys::mman::{MlockAllFlags, mlockall};

use super::SysError;

/// Gives freed memory back to the system (`malloc_trim(3)`): after the site file was read, most of
/// it is free.
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
/// `RLIMIT_MEMLOCK` or a missing capability.
pub fn lock_all() -> Result<(), SysError> {
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)
        .map_err(|e| SysError::new("lock the memory", e))
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

/// Gives back what the start has touched and the idle supervisor does not need: freed heap, and
/// pages of program text that can be read again from their file at any time.
pub fn settle() {
    trim();
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for (start, length) in clean_text(&maps) {
        let (Ok(start), Ok(length)) = (usize::try_from(start), usize::try_from(length)) else {
            continue;
        };
        let address = std::ptr::with_exposed_provenance_mut::<libc::c_void>(start);
        // SAFETY: the range is a mapping of a file that cannot be written and of which no page
        // was changed (`clean_text`): dropped pages come back from the file with the same bytes
        // (madvise(2)).
        unsafe { libc::madvise(address, length, libc::MADV_DONTNEED) };
    }
}

/// The mappings of files that are not writable and have no page of their own (`proc_pid_smaps(5)`):
/// start and length. A mapping that was written before it was protected (relocations) has such
/// pages and is left alone.
fn clean_text(smaps: &str) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut present = None;
    for line in smaps.lines() {
        if let Some(range) = mapping(line) {
            present = Some(range).filter(|_| is_text(line));
        } else if line.strip_prefix("Anonymous:").is_some_and(|rest| rest.trim() == "0 kB") {
            found.extend(present.take());
        }
    }
    found
}

/// The range of a mapping, if this is its head line.
fn mapping(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    Some((start, end.saturating_sub(start)))
}

/// Whether the mapping with this head line is a private, unwritable one of a file.
fn is_text(line: &str) -> bool {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let file = words.get(5).is_some_and(|path| path.starts_with('/'));
    file && words.get(1).is_some_and(|rights| matches!(*rights, "r-xp" | "r--p"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unchanged_text_of_files_is_given_back() {
        let smaps = "\
55d0-55e0 r-xp 00001000 08:01 12 /usr/bin/supervisor\nRss: 8 kB\nAnonymous: 0 kB\n\
55e0-55f0 r--p 00002000 08:01 12 /usr/bin/supervisor\nAnonymous: 16 kB\n\
55f0-5600 rw-p 00003000 08:01 12 /usr/bin/supervisor\nAnonymous: 0 kB\n\
7f00-7f10 r--p 00000000 00:00 0 \nAnonymous: 0 kB\n\
7f10-7f20 r-xp 00000000 00:00 0 [vdso]\nAnonymous: 0 kB\n";
        assert_eq!(clean_text(smaps), [(0x55d0, 0x10)]);
    }

    #[test]
    fn the_process_goes_on_after_it_gave_its_text_back() {
        settle();
        trim();
        assert_eq!(format!("{:?}", [1, 2]), "[1, 2]");
    }
}
