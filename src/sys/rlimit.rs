//! Resource limits: our own number of descriptors, and what programs get instead (setrlimit(2)).

use nix::sys::resource::{RLIM_INFINITY, Resource as Kernel, getrlimit, rlim_t, setrlimit};

use super::{SysError, width};
use crate::model::{Resource, RlimitValue};

/// A soft and a hard limit, as the kernel has them; `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What is enforced.
    pub soft: u64,
    /// What the soft limit may be raised to.
    pub hard: u64,
}

/// The supervisor's own limit of open files at this moment (getrlimit(2)).
pub fn open_files() -> Result<Pair, SysError> {
    let (soft, hard) = kernel_open_files()?;
    Ok(Pair { soft: wide(soft), hard: wide(hard) })
}

/// Raises our own soft limit of open files to the hard one and returns what it was before.
///
/// Programs are given that original back ([`super::spawn::SpawnSpec::open_files`]): those that use
/// select(2) break above 1024.
pub fn raise_open_files() -> Result<Pair, SysError> {
    let (soft, hard) = kernel_open_files()?;
    if soft < hard {
        setrlimit(Kernel::RLIMIT_NOFILE, hard, hard)
            .map_err(|e| SysError::new("raise the limit of open files", e))?;
    }
    Ok(Pair { soft: wide(soft), hard: wide(hard) })
}

fn kernel_open_files() -> Result<(rlim_t, rlim_t), SysError> {
    getrlimit(Kernel::RLIMIT_NOFILE).map_err(|e| SysError::new("read the limit of open files", e))
}

/// On a machine of 32 bits no limit is the largest number of those.
fn wide(limit: rlim_t) -> u64 {
    if limit == RLIM_INFINITY { u64::MAX } else { width::unsigned(limit) }
}

/// Above every descriptor that can be open: the soft limit, within reason.
pub(super) fn descriptor_limit() -> i32 {
    let soft = open_files().map_or(1024, |pair| pair.soft);
    i32::try_from(soft.min(65_536)).unwrap_or(65_536)
}

/// The number that setrlimit(2) knows this resource by.
pub(super) fn kernel_number(resource: Resource) -> u32 {
    let number = match resource {
        Resource::Nofile => libc::RLIMIT_NOFILE,
        Resource::Nproc => libc::RLIMIT_NPROC,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Stack => libc::RLIMIT_STACK,
        Resource::Memlock => libc::RLIMIT_MEMLOCK,
        Resource::Fsize => libc::RLIMIT_FSIZE,
    };
    // glibc has these as u32, musl as i32; all are small.
    #[cfg_attr(
        target_env = "gnu",
        expect(clippy::useless_conversion, reason = "the type depends on the C library")
    )]
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The number that prlimit64(2) knows this value by.
pub(super) fn kernel_value(value: RlimitValue) -> u64 {
    match value {
        RlimitValue::Max(max) => max,
        RlimitValue::Unlimited => u64::MAX,
    }
}
