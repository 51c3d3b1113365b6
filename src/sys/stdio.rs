//! Our own standard descriptors.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::Mode,
};

/// Opens /dev/null on each of 0, 1, 2 that is closed, so that nothing else lands there.
pub fn fill() {
    loop {
        let Ok(fd) = nix::fcntl::open("/dev/null", OFlag::O_RDWR, Mode::empty()) else { return };
        if fd.as_raw_fd() > 2 {
            return;
        }
        // One of the three: it stays open for as long as we live.
        let _kept = fd.into_raw_fd();
    }
}

/// A duplicate of our standard output and error, closed at exec; `None` when it is closed.
#[must_use]
pub fn own() -> (Option<OwnedFd>, Option<OwnedFd>) {
    (duplicate(std::io::stdout().as_fd()), duplicate(std::io::stderr().as_fd()))
}

fn duplicate(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    fd.try_clone_to_owned().ok()
}

/// Whether standard error is a terminal.
#[must_use]
pub fn stderr_is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

/// So much always fits into a pipe that poll(2) calls writable (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;

/// Writes to standard error, whatever comes of it: never panics, and gives up on a reader who does
/// not take a piece within 100 ms.
pub fn say(text: &str) {
    let err = std::io::stderr();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let mut fds = [PollFd::new(err.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut fds, PollTimeout::from(100_u8)) {
            Ok(1..) => {}
            Err(Errno::EINTR) => continue,
            Ok(_) | Err(_) => return,
        }
        let piece = rest.get(..PIECE).unwrap_or(rest);
        match nix::unistd::write(err.as_fd(), piece) {
            Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// The descriptors above 2 that would be open in a program executed now. Before
/// [`close_on_exec`] those are what we were started with.
#[must_use]
pub fn inherited() -> Vec<RawFd> {
    let open = |fd: &RawFd| {
        // SAFETY: used for one call only, which does no harm when it is closed.
        let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
        fcntl(fd, FcntlArg::F_GETFD).is_ok_and(|flags| flags & libc::FD_CLOEXEC == 0)
    };
    let entries = std::fs::read_dir("/proc/self/fd").ok();
    let named = entries.map(|all| {
        all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
    });
    let all: Vec<RawFd> = named.unwrap_or_else(|| (3..1024).collect());
    all.into_iter().filter(|fd| *fd > 2).filter(open).collect()
}

/// Marks every descriptor above 2 as closed at exec: what we inherited is not our programs'.
pub fn close_on_exec() {
    let first: libc::c_uint = 3;
    // SAFETY: only sets flags of descriptors (close_range(2)).
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if done == 0 {
        return;
    }
    // Before Linux 5.11, or hidden by a filter. Each child closes them once more (`spawn::child`).
    for fd in 3..super::rlimit::descriptor_limit() {
        // SAFETY: used for one call only, which does no harm when it is closed.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok();
    }
}
