//! Directories that a site wants there whenever it starts (`at_start`).

use super::Host;
use crate::{
    config::Accounts as _,
    model::Site,
    sys::{SysError, directory},
};

/// Makes those that are not there, and gives the others to whom they are to belong.
///
/// # Errors
/// The first that cannot be made: programs are not started without what they were promised.
pub(super) fn make(site: &Site) -> Result<(), SysError> {
    let declared = site.users.keys().filter_map(|name| Host.user(name));
    let from: Vec<u32> = declared.map(|account| account.uid).collect();
    for (path, directory) in site.directories.iter().filter(|(_, directory)| directory.at_start) {
        let fail = |why| SysError::refused(format!("make directory {}", path.display()), why);
        let (owner, group) = (directory.owner.as_deref(), directory.group.as_deref());
        let wanted = Host.ownership(owner, group, directory.mode).map_err(fail)?;
        let there = directory::look(path)?.is_some();
        if there || (!directory.optional && !directory::make(path, wanted)?) {
            directory::set(path, wanted, &from)?;
        }
        if let Some(mode) = directory.files.filter(|_| there) {
            directory::set_files(path, mode.0)?;
        }
    }
    Ok(())
}
