//! Our standard output and standard error, written to without ever waiting.

use std::{
    io::IsTerminal as _,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{MsgFlags, send},
        stat::{Mode, fstat},
    },
    unistd::write,
};

/// How a descriptor is kept from blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is our own open file description, nonblocking, or a file that never blocks.
    Direct,
    /// A socket: each send says that it must not wait.
    Socket,
    /// Shared with others: asked before each small write.
    Ask,
}

/// A descriptor that is written to without waiting.
#[derive(Debug)]
pub(super) struct Console {
    fd: OwnedFd,
    way: Way,
    terminal: bool,
}

impl Console {
    /// Takes over `fd`. The descriptions of pipes and terminals are shared with other processes, so
    /// they are not made nonblocking; a description of our own is opened instead where we may.
    pub(super) fn new(fd: OwnedFd) -> Self {
        let terminal = fd.is_terminal();
        let kind = fstat(&fd).map_or(0, |s| s.st_mode & libc::S_IFMT);
        if kind == libc::S_IFSOCK {
            return Self { fd, way: Way::Socket, terminal };
        }
        if kind != libc::S_IFIFO && kind != libc::S_IFCHR {
            return Self { fd, way: Way::Direct, terminal };
        }
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        match open(path.as_str(), flags, Mode::empty()) {
            Ok(own) => Self { fd: own, way: Way::Direct, terminal },
            Err(_) => Self { fd, way: Way::Ask, terminal },
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Writes what fits now.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self.way {
            Way::Direct => write(&self.fd, bytes),
            Way::Socket => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                send(self.fd.as_raw_fd(), bytes, flags)
            }
            Way::Ask => {
                let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLOUT)];
                if poll(&mut fds, PollTimeout::ZERO)? == 0 {
                    return Err(Errno::EAGAIN);
                }
                // A pipe that can be written to takes PIPE_BUF bytes without waiting, pipe(7).
                write(&self.fd, bytes.get(..4096).unwrap_or(bytes))
            }
        }
    }
}
