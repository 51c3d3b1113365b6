//! What a program is kept from: `hardening:`, with the meanings of systemd.exec(5).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{AddressFamilies, CapabilitySet, SystemCallFilter};

/// `hardening:` but for `no_new_privileges`, which every start can have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own in the file")]
pub struct Hardening {
    /// /tmp and /var/tmp of its own.
    pub private_tmp: bool,
    /// The system cannot be written.
    pub protect_system: ProtectSystem,
    /// Homes are out of reach.
    pub protect_home: ProtectHome,
    /// Settings of the kernel in /proc and /sys cannot be written.
    pub protect_kernel_tunables: bool,
    /// No modules can be loaded, nor seen.
    pub protect_kernel_modules: bool,
    /// /sys/fs/cgroup cannot be written.
    pub protect_control_groups: bool,
    /// May be written whatever stands above.
    pub read_write_paths: Box<[HardenedPath]>,
    /// Cannot be written.
    pub read_only_paths: Box<[HardenedPath]>,
    /// Cannot be reached.
    pub inaccessible_paths: Box<[HardenedPath]>,
    /// A /dev of its own: the harmless devices, and those that match one of these patterns.
    pub devices: Option<Box<[Box<str>]>>,
    /// All that it, or what it executes, can ever have (capabilities(7), the bounding set).
    pub capabilities: Option<CapabilitySet>,
    /// What it has although it is not root.
    pub ambient_capabilities: CapabilitySet,
    /// Of which kinds it may make sockets.
    pub address_families: Option<AddressFamilies>,
    /// Which system calls it may make.
    pub system_calls: Option<SystemCallFilter>,
}

impl Hardening {
    /// Whether it takes a filter, which only who has no new privileges may put on.
    #[must_use]
    pub fn filters(&self) -> bool {
        self.address_families.is_some() || self.system_calls.is_some()
    }

    /// Whether it takes mounts of its own.
    #[must_use]
    pub fn mounts(&self) -> bool {
        let of_paths = [&self.read_write_paths, &self.read_only_paths, &self.inaccessible_paths];
        self.private_tmp
            || self.protect_system != ProtectSystem::No
            || self.protect_home != ProtectHome::No
            || self.protect_kernel_tunables
            || self.protect_kernel_modules
            || self.protect_control_groups
            || of_paths.iter().any(|paths| !paths.is_empty())
            || self.devices.is_some()
    }
}

/// A path of `hardening`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardenedPath {
    /// Absolute.
    pub path: PathBuf,
    /// It may be missing: written with a `-` in front.
    pub optional: bool,
}

/// `protect_system`: what of the system cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProtectSystem {
    /// Whatever its user may write can be written.
    #[default]
    No,
    /// Not /usr, /boot, /efi.
    Yes,
    /// Nor /etc.
    Full,
    /// Nothing but /dev, /proc, /sys and homes.
    Strict,
}

impl ProtectSystem {
    /// In the words of the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::No => "false",
            Self::Yes => "true",
            Self::Full => "full",
            Self::Strict => "strict",
        }
    }
}

/// `protect_home`: what can be done with /home, /root and /run/user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProtectHome {
    /// What its user may do.
    #[default]
    No,
    /// Nothing.
    Yes,
    /// Read.
    ReadOnly,
    /// They are empty.
    Tmpfs,
}

impl ProtectHome {
    /// In the words of the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::No => "false",
            Self::Yes => "true",
            Self::ReadOnly => "read-only",
            Self::Tmpfs => "tmpfs",
        }
    }

    /// The directories that it means.
    pub const HOMES: [&'static str; 3] = ["/home", "/root", "/run/user"];
}
