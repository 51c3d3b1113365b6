//! What stands in the place of a semaphore, and what is said of it.

use std::{fs::Metadata, io, os::unix::fs::MetadataExt, path::Path};

use crate::{
    daemon::ground::Place,
    model::{Level, Mode},
    sys::foreign_file::{self, Astray},
};

pub(super) fn is_not_there(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound
}

pub(super) fn unknown(doing: &str, path: &Path, e: &io::Error) -> Level {
    Level::Unknown(format!("cannot {doing} {}: {e}", path.display()).into())
}

pub(super) fn astray(path: &Path, why: Astray) -> Level {
    match why {
        Astray::Failed(e) => unknown("look at", path, &e),
        Astray::Link => is_foreign(path, "others than root can change a link on the way to it"),
    }
}

fn is_foreign(path: &Path, why: &str) -> Level {
    Level::Foreign(format!("{} is not to be trusted: {why}", path.display()).into())
}

/// What stands there is no semaphore, and why; `owner` and mode only where they are declared.
pub(super) fn foreign(
    path: &Path,
    meta: &Metadata,
    owner: Option<((u32, u32), Mode)>,
) -> Option<Level> {
    let why = wrong(meta, owner)?;
    Some(is_foreign(path, &why))
}

/// Why this is no file by which somebody could ask; with an owner and a mode, those that are
/// declared for it.
#[must_use]
pub fn wrong(meta: &Metadata, owner: Option<((u32, u32), Mode)>) -> Option<String> {
    if let Some(what) = foreign_file::strange(meta) {
        return Some(format!("it is {what}"));
    }
    if meta.nlink() > 1 {
        return Some(format!("it has {} names", meta.nlink()));
    }
    // Whoever may open it may hold it.
    let ((uid, gid), mode) = owner?;
    let wider = meta.mode() & 0o077 & !mode.0;
    if meta.uid() != uid {
        Some(format!("it belongs to uid {}, not to uid {uid}", meta.uid()))
    } else if wider != 0 {
        Some(format!("its mode {} is wider than {mode}", Mode(meta.mode() & 0o7777)))
    } else if meta.mode() & 0o070 != 0 && meta.gid() != gid {
        Some(format!("it is open to gid {}, not to gid {gid}", meta.gid()))
    } else {
        None
    }
}

/// Where a file stands.
pub(super) fn place(path: &Path) -> Place {
    Place {
        directory: path.parent().unwrap_or(Path::new("/")).to_owned(),
        name: path.file_name().unwrap_or_default().to_owned(),
    }
}

/// Whether this is the directory of `path`.
pub(super) fn is_in(path: &Path, directory: &Path) -> bool {
    path.parent() == Some(directory)
}
