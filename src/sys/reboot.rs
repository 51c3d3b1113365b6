//! The end of the host: reboot(2), the magic `SysRq` key, and whether they are ours to use.

use std::{fs, io::Write as _, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use nix::{
    poll::{PollTimeout, poll},
    sys::reboot::{RebootMode, reboot},
    unistd::{AccessFlags, eaccess},
};

use super::{SysError, clock, subreaper};
use crate::model::HostGoal;

const TRIGGER: &str = "/proc/sysrq-trigger";
/// `CAP_SYS_BOOT` (capabilities(7)).
const CAP_SYS_BOOT: u32 = 22;
/// The inode of the first PID namespace (`PROC_PID_INIT_INO` of `proc_ns.h`).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether we are process 1, but not of the host. Where that cannot be told, we are not: the end of
/// the host's process 1 is a panic of its kernel.
#[must_use]
pub fn is_contained() -> bool {
    let namespace = || fs::metadata("/proc/self/ns/pid").ok().map(|meta| meta.ino());
    subreaper::is_init() && namespace().is_some_and(|inode| inode != FIRST_PID_NAMESPACE)
}

/// Writes what the kernel still keeps to all disks (sync(2)). On a disk that has failed it may
/// never return.
pub fn write_all() {
    nix::unistd::sync();
}

/// Ends the host at once (reboot(2)); in a PID namespace, its process 1 and with it everybody.
/// Returns only when that is refused.
#[must_use]
pub fn end_host(goal: HostGoal) -> SysError {
    let mode = match goal {
        HostGoal::Reboot => RebootMode::RB_AUTOBOOT,
        HostGoal::PowerOff => RebootMode::RB_POWER_OFF,
    };
    match reboot(mode) {
        Err(errno) => SysError::new(format!("{goal} by reboot(2)"), errno),
        Ok(never) => match never {},
    }
}

/// Presses these keys one after the other, with a wait between two. `kernel.sysrq` counts for the
/// keyboard only (Documentation/admin-guide/sysrq.rst), so it is left as it is.
///
/// # Errors
/// The kernel has none, or we may not.
pub fn press(keys: &[u8], wait: Duration) -> Result<(), SysError> {
    let failed = |cause| SysError::new(format!("write to {TRIGGER}"), cause);
    let mut trigger = fs::OpenOptions::new().write(true).open(TRIGGER).map_err(failed)?;
    for (index, key) in keys.iter().enumerate() {
        if index > 0 {
            pause(wait);
        }
        trigger.write_all(&[*key]).map_err(failed)?;
    }
    Ok(())
}

/// Nothing can cut it short: what it is for is the end.
fn pause(wait: Duration) {
    let end = clock::monotonic() + wait;
    loop {
        let left = end.since(clock::monotonic());
        if left.is_zero() {
            return;
        }
        // Rounded up, so that it is no loop; a signal may end it early.
        let left = left.saturating_add(Duration::from_millis(1));
        poll(&mut [], PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)).ok();
    }
}

/// Why reboot(2) would be refused, if it would.
#[must_use]
pub fn why_not_reboot() -> Option<&'static str> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(line.trim(), 16).ok()?;
    let may = effective >> CAP_SYS_BOOT & 1 == 1;
    (!may).then_some("no CAP_SYS_BOOT")
}

/// Why no key could be pressed, if so.
#[must_use]
pub fn why_not_press() -> Option<String> {
    let refused = eaccess(TRIGGER, AccessFlags::W_OK).err()?;
    Some(format!("{TRIGGER}: {}", refused.desc()))
}

/// Whether systemd is process 1 (`sd_booted(3)`).
#[must_use]
pub fn is_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether a command of this name is there, in `path` as in `PATH`.
#[must_use]
pub fn is_command(name: &str, path: &str) -> bool {
    let mut places = path.split(':').map(|directory| Path::new(directory).join(name));
    places.any(|file| file.is_file() && eaccess(&file, AccessFlags::X_OK).is_ok())
}
