//! The last words of a command that looks: a pipe that is emptied, whatever comes out of it.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use nix::{errno::Errno, unistd::read};

/// What is kept.
const KEPT: usize = 1 << 10;
/// What is told of it.
const TOLD: usize = 300;
/// Who says more than this is heard no more, and is told so by EPIPE.
const MOST: usize = 1 << 20;
/// What is read at once.
const READ: usize = 16 << 10;

/// What was said last.
pub(in crate::daemon) struct Words {
    pipe: Arc<OwnedFd>,
    tail: Vec<u8>,
    sum: usize,
}

impl Words {
    /// `pipe` is nonblocking.
    pub(in crate::daemon) fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Arc::new(pipe), tail: Vec::new(), sum: 0 }
    }

    pub(super) fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Reads what there is, up to some; whether there may be more one day.
    pub(super) fn read(&mut self) -> bool {
        let mut buffer = [0_u8; READ];
        for _ in 0..4 {
            match read(&self.pipe, &mut buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    self.sum = self.sum.saturating_add(n);
                    self.tail.extend_from_slice(buffer.get(..n).unwrap_or_default());
                    let surplus = self.tail.len().saturating_sub(KEPT);
                    self.tail.drain(..surplus);
                    if self.sum > MOST {
                        return false;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// The last line that is not empty, made safe.
    pub(super) fn last(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.tail);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.escape_debug().take(TOLD).collect())
    }
}
