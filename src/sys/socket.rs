//! The listening Unix socket of the control thread (unix(7)).

use std::{
    fs,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket},
        stat::{Mode, fchmod},
    },
};

use super::{SysError, files};

/// The longest path of a socket, in bytes (`sun_path` less its end).
pub const PATH_MAX: usize = 107;

/// `SO_PEERGROUPS` of socket(7), Linux 4.13, which libc lacks: asm-generic/socket.h, but for two.
const SO_PEERGROUPS: libc::c_int =
    if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) { 0x003d } else { 59 };
/// The most supplementary groups of a process, `NGROUPS_MAX` of limits.h(0p) on Linux.
const GROUPS_MAX: usize = 65_536;

/// The supplementary groups that the peer of a Unix socket had when it connected (`SO_PEERGROUPS`);
/// its primary group need not be among them.
///
/// # Errors
/// `ENOPROTOOPT` where the kernel does not know.
pub fn peer_groups(socket: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    // Most processes have a few; who has more is asked again with the room that the kernel names.
    let mut groups = vec![0_u32; 32];
    loop {
        let bytes = groups.len().saturating_mul(size_of::<u32>());
        let mut length = libc::socklen_t::try_from(bytes).map_err(|_| Errno::ERANGE)?;
        // SAFETY: `groups` has `length` writable bytes, by the line above, and any bytes are ids.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = usize::try_from(length).unwrap_or(0) / size_of::<u32>();
        match Errno::result(result) {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            Err(Errno::ERANGE) if count > groups.len() && count <= GROUPS_MAX => {
                groups.resize(count, 0);
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// The path of a socket that we made: removed when this is dropped, unless it is another's by then.
#[derive(Debug)]
pub struct BoundPath {
    path: PathBuf,
    identity: (u64, u64),
}

/// What is at the path of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The socket that we made, with these permissions now.
    Ours {
        /// Its permission bits.
        mode: u32,
    },
    /// Something else.
    Others,
    /// Nothing.
    Nobodys,
}

impl BoundPath {
    /// What was just made there.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        let meta = fs::symlink_metadata(path)?;
        Ok(Self { path: path.into(), identity: (meta.dev(), meta.ino()) })
    }

    /// Where the socket was made.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is there now.
    #[must_use]
    pub fn whose(&self) -> Whose {
        match fs::symlink_metadata(&self.path) {
            Ok(meta) if (meta.dev(), meta.ino()) == self.identity => {
                Whose::Ours { mode: meta.mode() & 0o7777 }
            }
            Ok(_) => Whose::Others,
            Err(_) => Whose::Nobodys,
        }
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        let there = fs::symlink_metadata(&self.path);
        if there.is_ok_and(|meta| (meta.dev(), meta.ino()) == self.identity) {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Listens on `path`, non-blocking. Its mode is right before anybody can find it.
///
/// # Errors
/// The path is too long, somebody listens there, or the directory cannot be written.
pub fn listen_on(
    path: &Path,
    mode: u32,
    owner: (Option<u32>, Option<u32>),
) -> Result<(OwnedFd, BoundPath), SysError> {
    let doing = format!("listen on {}", path.display());
    if path.as_os_str().len() > PATH_MAX {
        let why = format!("the path is longer than {PATH_MAX} bytes");
        return Err(SysError::refused(doing, why));
    }
    files::remove_stale_socket(path)?;
    let fail = |e: Errno| SysError::new(doing.clone(), e);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(fail)?;
    // The bound file gets the mode of the unbound socket, less the umask: there is no moment at
    // which it has a wider one. Nobody can connect before listen(2) anyway.
    fchmod(fd.as_fd(), Mode::from_bits_truncate(mode)).map_err(fail)?;
    let address = UnixAddr::new(path).map_err(fail)?;
    bind(fd.as_raw_fd(), &address).map_err(fail)?;
    let io = |e: std::io::Error| SysError::new(doing.clone(), e);
    let bound = BoundPath::of(path).map_err(io)?;
    // The umask may have taken bits away.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io)?;
    if owner != (None, None) {
        files::give(path, owner.0, owner.1)?;
    }
    listen(&fd, Backlog::new(128).map_err(fail)?).map_err(fail)?;
    Ok((fd, bound))
}
