//! What the host has to have. Each function here is one thing that is looked at.

use std::{io, os::unix::fs::MetadataExt as _, path::Path};

use nix::sys::statvfs::statvfs;

use super::{Check, Report};
use crate::{
    model::Bytes,
    sys::{foreign_file::Draft, mountinfo},
};

/// Where lock files are that a read-only disk does not concern.
pub(super) const SHM: &str = "/dev/shm";
/// Less than this is full, in bytes.
const LEAST: u64 = 64 << 10;

pub(super) fn checks(report: &mut Report<'_>) {
    report.add(mounted());
    if Path::new(SHM).is_dir() {
        report.add(writable());
        report.add(room());
    }
}

fn mounted() -> Check {
    let mount = "mount -t tmpfs -o size=10M,mode=1777 tmpfs /dev/shm";
    let Ok(meta) = std::fs::metadata(SHM) else {
        return Check::fail(SHM, "it does not exist").hint(format!("mkdir {SHM} && {mount}"));
    };
    // What is mounted over a directory above it hides it; the table goes on naming it.
    let above = std::fs::metadata("/dev").map(|above| above.dev());
    if above.is_ok_and(|above| above == meta.dev()) {
        return Check::fail(SHM, "nothing is mounted there").hint(mount);
    }
    match mountinfo::type_at(Path::new(SHM)).as_deref() {
        Some("tmpfs") => {}
        Some(other) => return Check::fail(SHM, format!("it is {other}, not tmpfs")).hint(mount),
        None => return Check::fail(SHM, "nothing is mounted there").hint(mount),
    }
    if meta.mode() & 0o1002 == 0o0002 {
        let text =
            format!("mode {:04o}: anybody may remove the files of others", meta.mode() & 0o7777);
        return Check::fail(SHM, text).hint(format!("chmod 1777 {SHM}"));
    }
    Check::pass(SHM, "a mounted tmpfs")
}

/// By writing, as rights and a read-only mount are not all that may be in the way.
fn writable() -> Check {
    let tried = |name: &str| -> io::Result<()> {
        // It never gets its name.
        Draft::write(&Path::new(SHM).join(name), &[0; 4096]).map(drop)
    };
    match tried("mini-supervisor-doctor") {
        Ok(()) => Check::pass(SHM, "it can be written"),
        Err(e) => Check::fail(SHM, format!("it cannot be written: {e}")),
    }
}

fn room() -> Check {
    let stat = match statvfs(SHM) {
        Ok(stat) => stat,
        Err(errno) => return Check::fail(SHM, format!("nobody knows how full it is: {errno}")),
    };
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    let (free, all) = (bytes(stat.blocks_available()), bytes(stat.blocks()));
    // A tmpfs without a limit says nothing.
    if all > 0 && free < LEAST {
        let text = format!("it is full: {} of {} are free", Bytes(free), Bytes(all));
        return Check::fail(SHM, text).hint("du -a /dev/shm shows what fills it");
    }
    if stat.files() > 0 && stat.files_available() == 0 {
        return Check::fail(SHM, "it is full: no further file can be made")
            .hint("ls -A /dev/shm shows what fills it");
    }
    Check::pass(SHM, format!("{} of {} are free", Bytes(free), Bytes(all)))
}
