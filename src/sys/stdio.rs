//! Our own standard descriptors.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::Mode,
};

use super::{SysError, width};

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
    say_to(std::io::stderr().as_fd(), text);
}

/// The same to another descriptor.
pub fn say_to(err: BorrowedFd<'_>, text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let mut fds = [PollFd::new(err, PollFlags::POLLOUT)];
        match poll(&mut fds, PollTimeout::from(100_u8)) {
            Ok(1..) => {}
            Err(Errno::EINTR) => continue,
            Ok(_) | Err(_) => return,
        }
        let piece = rest.get(..PIECE).unwrap_or(rest);
        match nix::unistd::write(err, piece) {
            Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Whether standard output and standard error are the stream to the journal that
/// `$JOURNAL_STREAM` names (systemd.exec(5): device and inode).
#[must_use]
pub fn are_journal(stream: &str) -> (bool, bool) {
    let Some((device, inode)) = stream.split_once(':') else { return (false, false) };
    let wanted = device.parse().ok().zip(inode.parse().ok());
    let is = |fd: BorrowedFd<'_>| {
        let stat = nix::sys::stat::fstat(fd).ok();
        stat.map(|stat| width::identity(&stat)).is_some_and(|id| Some(id) == wanted)
    };
    (is(std::io::stdout().as_fd()), is(std::io::stderr().as_fd()))
}

/// Lets /dev/null take the place of standard input, and of standard output and error unless they
/// are to be kept.
///
/// # Errors
/// There is no /dev/null.
pub fn to_null((keep_stdout, keep_stderr): (bool, bool)) -> Result<(), SysError> {
    let fail = |e: Errno| SysError::new("open /dev/null", e);
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let null = nix::fcntl::open("/dev/null", flags, Mode::empty()).map_err(fail)?;
    nix::unistd::dup2_stdin(&null).map_err(fail)?;
    if !keep_stdout {
        nix::unistd::dup2_stdout(&null).map_err(fail)?;
    }
    if !keep_stderr {
        nix::unistd::dup2_stderr(&null).map_err(fail)?;
    }
    Ok(())
}

/// The descriptors above 2 that are open now; none where there is no /proc.
#[must_use]
pub fn inherited() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let all = entries.filter_map(Result::ok);
    let numbers: Vec<i32> = all.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    // The one of the listing is among them, and closed by now.
    let is_open = |fd: &i32| {
        // SAFETY: used for one call only, which changes nothing and may find it closed.
        let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
        fcntl(fd, FcntlArg::F_GETFD).is_ok()
    };
    numbers.into_iter().filter(|fd| *fd > 2).filter(is_open).collect()
}

/// Closes these descriptors, which nothing of ours may use: a list from [`inherited`], taken before
/// we opened any.
pub fn close(descriptors: &[i32]) {
    for fd in descriptors {
        // SAFETY: no value of ours owns it, by the contract of this function.
        unsafe { libc::close(*fd) };
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
    // Before Linux 5.11, or hidden by a filter. Each child closes them once more (`spawn::child`).
    for fd in 3..super::rlimit::descriptor_limit() {
        // SAFETY: used for one call only, which does no harm when it is closed.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok();
    }
}
