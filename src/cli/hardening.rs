//! What `check` says of the `hardening` of a site on the host at hand.

use std::sync::Arc;

use crate::{
    model::{Program, Site},
    sys::{mountinfo, spawn::sandbox},
};

/// A note for each thing that is not as on another host.
pub(super) fn notes(site: &Site) -> Vec<String> {
    let mounts = |program: &&Arc<Program>| {
        program.execution.hardening.as_ref().is_some_and(|wanted| wanted.mounts())
    };
    let names: Vec<&str> =
        site.programs.values().filter(mounts).map(|program| program.name.as_str()).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let names = names.join(", ");
    if !sandbox::may_mount() {
        return vec![format!(
            "{names}: `hardening` without mounts, which take CAP_SYS_ADMIN: by Landlock; \
             `private_tmp`, `devices` and `protect_home: tmpfs` are errors at the start"
        )];
    }
    if mountinfo::root_is_shared() == Some(false) {
        return vec![format!(
            "{names}: does not see what is mounted after its start, as / is not shared here \
             (mount --make-rshared / changes that)"
        )];
    }
    Vec::new()
}
