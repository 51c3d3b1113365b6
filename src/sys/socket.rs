//! The listening Unix socket of the control thread (unix(7)).

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use nix::sys::{
    socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket},
    stat::{Mode, fchmod},
};

use super::{SysError, files};

/// The longest path of a socket, in bytes (`sun_path` less its end).
pub const PATH_MAX: usize = 107;

/// Listens on `path`, non-blocking. Its mode is right before anybody can find it.
///
/// # Errors
/// The path is too long, somebody listens there, or the directory cannot be written.
pub fn listen_on(
    path: &Path,
    mode: u32,
    owner: (Option<u32>, Option<u32>),
) -> Result<OwnedFd, SysError> {
    let doing = format!("listening on {}", path.display());
    if path.as_os_str().len() > PATH_MAX {
        let why = format!("the path is longer than {PATH_MAX} bytes");
        return Err(SysError::refused(doing, why));
    }
    files::remove_stale_socket(path)?;
    let fail = |e: nix::errno::Errno| SysError::new(doing.clone(), e);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(fail)?;
    // The mode of the bound file is that of the unbound socket, less the umask: no moment of another mode.
    fchmod(fd.as_fd(), Mode::from_bits_truncate(mode)).map_err(fail)?;
    let address = UnixAddr::new(path).map_err(fail)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &address).map_err(fail)?;
    // The umask may have taken bits away; what is given is never more than declared.
    let exact = fs::Permissions::from(std::os::unix::fs::PermissionsExt::from_mode(mode));
    let set = fs::set_permissions(path, exact).map_err(|e| SysError::new(doing.clone(), e));
    if owner != (None, None) {
        files::give(path, owner.0, owner.1)?;
    }
    set?;
    listen(&fd, Backlog::new(128).map_err(fail)?).map_err(fail)?;
    Ok(fd)
}
