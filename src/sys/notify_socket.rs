//! The receiving end of `sd_notify(3)`: a socket of datagrams that tells who has sent them.

use std::{
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::Path,
    ptr,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket,
            sockopt::PassCred,
        },
        stat::{Mode, fchmod},
    },
};

use super::{
    SysError, files,
    socket::{BoundPath, PATH_MAX},
};

/// Room for what comes beside a datagram: who sends it, and 253 descriptors (`SCM_MAX_FD`), which
/// is all that the kernel lets one carry.
const CONTROL: usize = 1536;

/// A socket that one program sends its messages to.
#[derive(Debug)]
pub struct NotifySocket {
    fd: OwnedFd,
    /// Removed when this is dropped.
    _path: Option<BoundPath>,
}

/// Who has sent a datagram, by the kernel (`SCM_CREDENTIALS`, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its process; 0 where it is none of our PID namespace.
    pub pid: i32,
    /// Its real user.
    pub uid: u32,
}

/// What has arrived.
#[derive(Debug)]
pub struct Received {
    /// So many bytes.
    pub length: usize,
    /// There were more, which are lost.
    pub cut: bool,
    /// Who has sent it.
    pub sender: Option<Sender>,
    /// Descriptors that came with it: closed when this is dropped.
    pub descriptors: Vec<OwnedFd>,
}

impl NotifySocket {
    /// At a path, which only `owner` (user, group) may write to; whatever socket was there goes.
    ///
    /// # Errors
    /// The path is too long, something else is there, the directory cannot be written.
    pub fn at(path: &Path, owner: Option<(u32, u32)>) -> Result<Self, SysError> {
        let doing = format!("make socket {}", path.display());
        if path.as_os_str().len() > PATH_MAX {
            let why = format!("the path is longer than {PATH_MAX} bytes");
            return Err(SysError::refused(doing, why));
        }
        let fail = |e: Errno| SysError::new(doing.clone(), e);
        let io = |e: std::io::Error| SysError::new(doing.clone(), e);
        files::remove_own_socket(path)?;
        let fd = datagrams().map_err(fail)?;
        let mode = 0o600;
        // Its mode is right before anybody can find it.
        fchmod(fd.as_fd(), Mode::from_bits_truncate(mode)).map_err(fail)?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path).map_err(fail)?).map_err(fail)?;
        let bound = BoundPath::of(path).map_err(io)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(io)?;
        if let Some((uid, gid)) = owner {
            files::give(path, Some(uid), Some(gid))?;
        }
        Ok(Self { fd, _path: Some(bound) })
    }

    /// With a name in the abstract namespace (unix(7)): everybody can send there.
    ///
    /// # Errors
    /// The name is taken or too long.
    pub fn named(name: &str) -> Result<Self, SysError> {
        let fail = |e: Errno| SysError::new(format!("make socket @{name}"), e);
        let fd = datagrams().map_err(fail)?;
        let address = UnixAddr::new_abstract(name.as_bytes()).map_err(fail)?;
        bind(fd.as_raw_fd(), &address).map_err(fail)?;
        Ok(Self { fd, _path: None })
    }

    /// The next datagram, without waiting for one; as much of it as there is room for.
    ///
    /// # Errors
    /// `EAGAIN` when there is none. See recvmsg(2).
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Received, Errno> {
        let mut control = MaybeUninit::<Control>::zeroed();
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: msghdr is plain data, for which all zeros are valid.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        // In C this is a size_t here and a socklen_t there.
        message.msg_controllen = in_c(CONTROL);
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: `message` points to the buffer and to `control`, with their lengths; both outlive
        // the call (recvmsg(2)).
        let length = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, flags) };
        let length = usize::try_from(length).map_err(|_| Errno::last())?;
        let (sender, descriptors) = beside(&message);
        let cut = message.msg_flags & libc::MSG_TRUNC != 0;
        Ok(Received { length, cut, sender, descriptors })
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Aligned as its headers have to be.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

fn datagrams() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    // Before it has a name: nobody's message comes without a sender.
    setsockopt(&fd, PassCred, &true)?;
    Ok(super::spawn::aside(fd))
}

/// Who has sent a message, and the descriptors that came with it. All of these are taken, be the
/// rest as it may: whatever is not would stay open.
fn beside(message: &libc::msghdr) -> (Option<Sender>, Vec<OwnedFd>) {
    let (mut sender, mut descriptors) = (None, Vec::new());
    // SAFETY: recvmsg(2) has filled in the message, whose control buffer is still there (cmsg(3)).
    let mut next = unsafe { libc::CMSG_FIRSTHDR(ptr::from_ref(message)) };
    while !next.is_null() {
        // SAFETY: not null, so it is a whole header in that buffer, which is aligned for it.
        let header = unsafe { &*next };
        // SAFETY: as above; only computes an address.
        let data = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: only computes a number.
        let empty = unsafe { libc::CMSG_LEN(0) };
        let (whole, empty): (usize, usize) = (in_c(header.cmsg_len), in_c(empty));
        let length = whole.saturating_sub(empty);
        match (header.cmsg_level, header.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                // SAFETY: so many bytes are there, of the kernel's `struct ucred`.
                let from = unsafe { ptr::read_unaligned(data.cast::<libc::ucred>()) };
                sender = Some(Sender { pid: from.pid, uid: from.uid });
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for index in 0..length / size_of::<libc::c_int>() {
                    let place = data.wrapping_add(index * size_of::<libc::c_int>());
                    // SAFETY: within the length that the kernel has given.
                    let fd = unsafe { ptr::read_unaligned(place.cast::<libc::c_int>()) };
                    // SAFETY: the kernel has just made it for us, and nobody else knows of it.
                    descriptors.push(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
            _ => {}
        }
        // SAFETY: as for the first one.
        next = unsafe { libc::CMSG_NXTHDR(ptr::from_ref(message), next) };
    }
    (sender, descriptors)
}

/// A length, in whatever type C has for it here.
fn in_c<A, B: TryFrom<A> + Default>(length: A) -> B {
    B::try_from(length).unwrap_or_default()
}
