//! The bounding set, and capabilities of one who is not root (capabilities(7)).

use nix::errno::Errno;

use super::{Trouble, child::call};
use crate::model::{Capability, CapabilitySet, Hardening};

/// What it can ever have.
fn bound(hardening: &Hardening) -> (CapabilitySet, &'static str) {
    let (mut set, mut key) = (hardening.capabilities.unwrap_or(CapabilitySet::ALL), "capabilities");
    let also = [
        (hardening.protect_kernel_modules, "protect_kernel_modules", Capability::SYS_MODULE),
        (hardening.devices.is_some(), "devices", Capability::MKNOD),
        (hardening.devices.is_some(), "devices", Capability::SYS_RAWIO),
    ];
    for (_, reason, one) in also.into_iter().filter(|(wanted, ..)| *wanted) {
        set = set.without(one);
        key = if hardening.capabilities.is_some() { key } else { reason };
    }
    (set, key)
}

/// Takes the rest out of the bounding set: neither an exec nor root gives it back.
pub(super) fn limit(hardening: &Hardening) -> Result<(), Trouble> {
    let (set, key) = bound(hardening);
    if set == CapabilitySet::ALL {
        return Ok(());
    }
    for number in 0_u8..64 {
        let wanted = libc::PR_CAPBSET_READ;
        // The kernel knows no more than those before.
        let Ok(has) = call!(SYS_prctl, wanted, usize::from(number), 0_usize, 0_usize, 0_usize)
        else {
            break;
        };
        if has == 0 || set.contains_number(number) {
            continue;
        }
        let drop = libc::PR_CAPBSET_DROP;
        call!(SYS_prctl, drop, usize::from(number), 0_usize, 0_usize, 0_usize).map_err(|e| {
            let doing = "take capabilities out of the bounding set";
            Trouble::new(key, doing, Errno::from_raw(e))
        })?;
    }
    Ok(())
}

/// The change of the user is to leave the permitted ones.
pub(super) fn keep(hardening: &Hardening) -> Result<(), Trouble> {
    if hardening.ambient_capabilities.is_empty() {
        return Ok(());
    }
    call!(SYS_prctl, libc::PR_SET_KEEPCAPS, 1_usize, 0_usize, 0_usize, 0_usize)
        .map(drop)
        .map_err(|e| refused("keep capabilities", e))
}

/// Ambient ones, which go through the exec of a program that is not root's. One that is no longer
/// root has no others.
pub(super) fn raise(hardening: &Hardening) -> Result<(), Trouble> {
    let ambient = hardening.ambient_capabilities;
    if ambient.is_empty() {
        return Ok(());
    }
    // As in `child::drop_inheritable`.
    let header = [0x2008_0522_u32, 0];
    let mut sets = [[0_u32; 3]; 2];
    let root = nix::unistd::geteuid().is_root();
    call!(SYS_capget, header.as_ptr(), sets.as_mut_ptr())
        .map_err(|e| refused("read its capabilities", e))?;
    for ([effective, permitted, inheritable], half) in sets.iter_mut().zip(ambient.halves()) {
        *inheritable = half;
        if !root {
            (*effective, *permitted) = (half, *permitted & half);
        }
    }
    call!(SYS_capset, header.as_ptr(), sets.as_ptr())
        .map_err(|e| refused("make capabilities inheritable", e))?;
    for one in ambient.iter() {
        /// `PR_CAP_AMBIENT_RAISE`.
        const RAISE: usize = 2;
        let (ambient, number) = (libc::PR_CAP_AMBIENT, usize::from(one.number()));
        call!(SYS_prctl, ambient, RAISE, number, 0_usize, 0_usize)
            .map_err(|e| refused(&format!("raise {one}"), e))?;
    }
    Ok(())
}

fn refused(doing: &str, errno: i32) -> Trouble {
    let text = std::io::Error::from_raw_os_error(errno);
    let hint = match errno {
        libc::EPERM => "; the supervisor does not have it itself",
        _ => "",
    };
    Trouble::Text {
        text: format!("hardening.ambient_capabilities: cannot {doing}: {text}{hint}"),
        errno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_load_no_modules_has_not_the_capability_either() {
        let hardening = Hardening { protect_kernel_modules: true, ..Hardening::default() };
        let (set, key) = bound(&hardening);
        assert!(!set.contains(Capability::SYS_MODULE) && set.contains(Capability::MKNOD));
        assert_eq!(key, "protect_kernel_modules");
        assert_eq!(bound(&Hardening::default()).0, CapabilitySet::ALL);
    }
}
