//! Our own standard descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::stat::Mode,
};

/// Opens /dev/null on each of 0, 1, 2 that is closed, so that nothing else lands there.
pub fn fill() {
    loop {
        let Ok(fd) = nix::fcntl::open("/dev/null", OFlag::O_RDWR, Mode::empty()) else { return };
        if std::os::fd::AsRawFd::as_raw_fd(&fd) > 2 {
            return;
        }
        // One of the three: it stays open for as long as we live.
        let _kept = std::os::fd::IntoRawFd::into_raw_fd(fd);
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

/// Writes to standard error, once, whatever comes of it: never panics, never waits for a slow pipe.
pub fn say(text: &str) {
    let err = std::io::stderr();
    let ready = {
        let mut fds = [nix::poll::PollFd::new(err.as_fd(), nix::poll::PollFlags::POLLOUT)];
        nix::poll::poll(&mut fds, nix::poll::PollTimeout::from(100_u8)).is_ok_and(|n| n > 0)
    };
    if ready {
        nix::unistd::write(err.as_fd(), text.as_bytes()).ok();
    }
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
    for fd in 3..1024 {
        // SAFETY: used for one call only, which fails harmlessly when it is closed.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).ok();
    }
}
