//! What becomes of which path, as a list: the meaning of `hardening` without a system call.

use std::path::{Path, PathBuf};

use super::Sandbox;
use crate::model::{ProtectHome, ProtectSystem};

/// What becomes of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// It can be reached by nobody but root, and is empty.
    Hide,
    /// A directory that is empty.
    Empty,
    /// /dev with these patterns.
    Devices(Vec<Box<str>>),
    /// What is elsewhere stands here.
    Bind(PathBuf),
    /// Nothing below can be written.
    Close,
    /// It stays as it is, whatever becomes of what is around it.
    Keep,
}

impl Deed {
    /// Of two for one path the lower one counts: the stricter.
    fn rank(&self) -> u8 {
        match self {
            Self::Hide => 0,
            Self::Empty | Self::Devices(_) | Self::Bind(_) => 1,
            Self::Close => 2,
            Self::Keep => 3,
        }
    }
}

/// A path, what becomes of it, and who wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) path: PathBuf,
    pub(super) deed: Deed,
    /// The key of `hardening`.
    pub(super) key: &'static str,
    /// The file names this path: it must be there, and counts before what a switch means.
    pub(super) named: bool,
    /// Missing is no error.
    pub(super) optional: bool,
}

/// All that is wanted, in no order: paths are as they were written.
pub(super) fn all(sandbox: &Sandbox) -> Vec<Wish> {
    let h = &sandbox.hardening;
    let mut all = Vec::new();
    let mut add = |key: &'static str, deed: &Deed, paths: &[&str]| {
        let wish = |path: &&str| Wish {
            path: PathBuf::from(path),
            deed: deed.clone(),
            key,
            named: false,
            optional: true,
        };
        all.extend(paths.iter().map(wish));
    };
    match h.protect_system {
        ProtectSystem::No => {}
        ProtectSystem::Yes => add("protect_system", &Deed::Close, &SYSTEM),
        ProtectSystem::Full => {
            add("protect_system", &Deed::Close, &SYSTEM);
            add("protect_system", &Deed::Close, &["/etc"]);
        }
        ProtectSystem::Strict => {
            add("protect_system", &Deed::Close, &["/"]);
            add("protect_system", &Deed::Keep, &["/dev", "/proc", "/sys"]);
            add("protect_system", &Deed::Keep, &ProtectHome::HOMES);
        }
    }
    match h.protect_home {
        ProtectHome::No => {}
        ProtectHome::Yes => add("protect_home", &Deed::Hide, &ProtectHome::HOMES),
        ProtectHome::ReadOnly => add("protect_home", &Deed::Close, &ProtectHome::HOMES),
        ProtectHome::Tmpfs => add("protect_home", &Deed::Empty, &ProtectHome::HOMES),
    }
    if h.protect_kernel_tunables {
        add("protect_kernel_tunables", &Deed::Close, &TUNABLES);
        add("protect_kernel_tunables", &Deed::Hide, &["/proc/kallsyms", "/proc/kcore"]);
        add("protect_kernel_tunables", &Deed::Keep, &["/sys/fs/cgroup"]);
    }
    if h.protect_kernel_modules {
        add("protect_kernel_modules", &Deed::Hide, &["/lib/modules", "/usr/lib/modules"]);
    }
    if h.protect_control_groups {
        add("protect_control_groups", &Deed::Close, &["/sys/fs/cgroup"]);
    }
    for (path, to) in sandbox.tmp.iter().flatten().zip(["/tmp", "/var/tmp"]) {
        add("private_tmp", &Deed::Bind(path.clone()), &[to]);
    }
    if let Some(patterns) = &h.devices {
        add("devices", &Deed::Devices(patterns.to_vec()), &["/dev"]);
    }
    named(sandbox, &mut all);
    all
}

fn named(sandbox: &Sandbox, all: &mut Vec<Wish>) {
    let h = &sandbox.hardening;
    let lists = [
        ("read_write_paths", Deed::Keep, &h.read_write_paths),
        ("read_only_paths", Deed::Close, &h.read_only_paths),
        ("inaccessible_paths", Deed::Hide, &h.inaccessible_paths),
    ];
    for (key, deed, paths) in lists {
        all.extend(paths.iter().map(|of| Wish {
            path: of.path.clone(),
            deed: deed.clone(),
            key,
            named: true,
            optional: of.optional,
        }));
    }
    all.extend(sandbox.writable.iter().map(|path| Wish {
        path: path.clone(),
        deed: Deed::Keep,
        key: "read_write_paths",
        named: true,
        optional: true,
    }));
}

/// `true` of `protect_system`.
const SYSTEM: [&str; 3] = ["/usr", "/boot", "/efi"];

/// Where the settings of a kernel are (systemd.exec(5), `ProtectKernelTunables`).
const TUNABLES: [&str; 13] = [
    "/proc/acpi",
    "/proc/apm",
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/latency_stats",
    "/proc/mtrr",
    "/proc/scsi",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/timer_stats",
    "/sys",
];

/// In the order in which they are carried out, parents first, without those that change nothing.
/// Paths are real ones by now: no links.
///
/// # Errors
/// One that should be written below one that is hidden.
pub(super) fn in_order(mut wishes: Vec<Wish>) -> Result<Vec<Wish>, (Wish, PathBuf)> {
    wishes.sort_by(|a, b| {
        let key = |w: &Wish| (!w.named, w.deed.rank());
        a.path.cmp(&b.path).then_with(|| key(a).cmp(&key(b)))
    });
    wishes.dedup_by(|later, first| later.path == first.path);
    let mut kept: Vec<Wish> = Vec::new();
    for wish in wishes {
        let above = |other: &&Wish| is_below(&wish.path, &other.path);
        if let Some(hidden) = kept.iter().filter(above).find(|other| other.deed == Deed::Hide) {
            if wish.named && !wish.optional && wish.deed == Deed::Keep {
                return Err((wish.clone(), hidden.path.clone()));
            }
            continue;
        }
        // Around it everything is as it was: nothing need be kept.
        let changed = |other: &&Wish| other.deed != Deed::Keep;
        if wish.deed == Deed::Keep && !kept.iter().filter(above).any(|other| changed(&other)) {
            continue;
        }
        // What a switch keeps below a directory that is replaced was kept from closing only.
        let replaced = |other: &&Wish| other.deed.rank() == 1;
        if !wish.named && kept.iter().filter(above).any(|other| replaced(&other)) {
            continue;
        }
        kept.push(wish);
    }
    Ok(kept)
}

fn is_below(path: &Path, other: &Path) -> bool {
    path != other && path.starts_with(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HardenedPath, Hardening};

    fn list(paths: &[&str]) -> Box<[HardenedPath]> {
        paths.iter().map(|p| HardenedPath { path: p.into(), optional: false }).collect()
    }

    fn order(hardening: Hardening) -> Vec<(String, Deed)> {
        let sandbox = Sandbox { hardening, ..Sandbox::default() };
        let wishes = in_order(all(&sandbox)).unwrap();
        wishes.into_iter().map(|w| (w.path.to_string_lossy().into_owned(), w.deed)).collect()
    }

    fn has(wishes: &[(String, Deed)], path: &str, deed: &Deed) -> bool {
        wishes.iter().any(|(p, d)| p == path && d == deed)
    }

    #[test]
    fn strict_closes_all_but_what_it_leaves_and_what_is_named() {
        let found = order(Hardening {
            protect_system: ProtectSystem::Strict,
            protect_home: ProtectHome::Yes,
            read_write_paths: list(&["/srv/data", "/srv"]),
            read_only_paths: list(&["/srv/data/static"]),
            ..Hardening::default()
        });
        assert_eq!(found[0], ("/".to_owned(), Deed::Close));
        for path in ["/dev", "/proc", "/sys", "/srv", "/srv/data"] {
            assert!(has(&found, path, &Deed::Keep), "{path}: {found:?}");
        }
        assert!(has(&found, "/srv/data/static", &Deed::Close), "{found:?}");
        assert!(has(&found, "/home", &Deed::Hide), "{found:?}");
    }

    #[test]
    fn where_nothing_is_closed_nothing_need_be_kept() {
        let found = order(Hardening { read_write_paths: list(&["/srv"]), ..Hardening::default() });
        assert_eq!(found, []);
    }

    #[test]
    fn cgroups_stay_writable_beside_settings_unless_they_are_protected_too() {
        let mut wanted = Hardening { protect_kernel_tunables: true, ..Hardening::default() };
        assert!(has(&order(wanted.clone()), "/sys/fs/cgroup", &Deed::Keep));
        wanted.protect_control_groups = true;
        assert!(has(&order(wanted), "/sys/fs/cgroup", &Deed::Close));
    }

    #[test]
    fn what_is_hidden_cannot_have_something_to_write_in_it() {
        let hardening = Hardening {
            protect_home: ProtectHome::Yes,
            read_write_paths: list(&["/home/x"]),
            ..Hardening::default()
        };
        let wishes = all(&Sandbox { hardening, ..Sandbox::default() });
        let (wish, hidden) = in_order(wishes).unwrap_err();
        assert_eq!((wish.path, hidden), ("/home/x".into(), "/home".into()));
    }

    #[test]
    fn homes_that_are_empty_may_have_something_named_in_them() {
        let found = order(Hardening {
            protect_home: ProtectHome::Tmpfs,
            read_only_paths: list(&["/home/x"]),
            ..Hardening::default()
        });
        assert!(has(&found, "/home", &Deed::Empty) && has(&found, "/home/x", &Deed::Close));
    }
}
