//! The messages of `sd_notify(3)`: datagrams to the service manager, lost rather than waited for.

use std::{
    ffi::OsStr,
    io::IoSlice,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
    },
    unistd::pipe2,
};

use super::SysError;

/// The way to the service manager.
#[derive(Debug)]
pub struct Notifier {
    socket: OwnedFd,
    address: UnixAddr,
}

impl Notifier {
    /// To what `$NOTIFY_SOCKET` says: a path, or `@` and a name in the abstract namespace. Nothing
    /// is sent, and nobody need listen there.
    ///
    /// # Errors
    /// It is neither, or too long; no descriptor can be had.
    pub fn new(address: &OsStr) -> Result<Self, SysError> {
        let doing = || format!("notify {}", address.to_string_lossy());
        let fail = |e: Errno| SysError::new(doing(), e);
        let parsed = match address.as_bytes() {
            [b'@', name @ ..] => UnixAddr::new_abstract(name).map_err(fail)?,
            [b'/', ..] => UnixAddr::new(address).map_err(fail)?,
            _ => return Err(SysError::refused(doing(), "it is no path and no abstract name")),
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None).map_err(fail)?;
        Ok(Self { socket, address: parsed })
    }

    /// Sends assignments, one a line.
    ///
    /// # Errors
    /// `EAGAIN` when it has no room now; else nobody is there.
    pub fn send(&self, text: &str) -> Result<(), Errno> {
        self.send_with(text, &[])
    }

    /// Waits until all that was sent before has been dealt with, but not longer than `within`; for
    /// a process that ends is nobody's when its message is read. Whether it has.
    #[must_use]
    pub fn barrier(&self, within: Duration) -> bool {
        let Ok((reader, writer)) = pipe2(OFlag::O_CLOEXEC) else { return false };
        let descriptors = [writer.as_raw_fd()];
        let sent = self.send_with("BARRIER=1", &[ControlMessage::ScmRights(&descriptors)]);
        drop(writer);
        if sent.is_err() {
            return false;
        }
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::empty())];
        let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
        poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
    }

    fn send_with(&self, text: &str, rights: &[ControlMessage<'_>]) -> Result<(), Errno> {
        let bytes = [IoSlice::new(text.as_bytes())];
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let sent = sendmsg(self.socket.as_raw_fd(), &bytes, rights, flags, Some(&self.address));
        sent.map(drop)
    }
}
