//! A command that is run to its end, with what it wrote: for a process that has no other children.

use std::{
    ffi::{OsStr, OsString},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{pipe2, read},
};

use super::{
    SysError,
    child::Children,
    clock,
    spawn::{Prepared, SpawnSpec, vfork},
};
use crate::model::{Exit, Instant, Signal};

/// More of its output is read and thrown away.
const MOST: usize = 64 << 10;
/// How long a killed command may take to be gone.
const DYING: Duration = Duration::from_secs(5);
/// How often its end is looked for where the kernel does not tell.
const LOOK: Duration = Duration::from_millis(100);

/// What became of a command.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    /// How it ended; `None`: not within its time, so it was killed with its group.
    pub exit: Option<Exit>,
    /// The beginning of its standard output.
    pub stdout: Vec<u8>,
    /// The beginning of its standard error.
    pub stderr: Vec<u8>,
}

/// Runs `argv` with the environment `env` in `/`, with nothing to read, for at most `limit`.
///
/// # Errors
/// It cannot be started.
pub fn run(
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    limit: Duration,
) -> Result<Finished, SysError> {
    let name = argv.first().map_or(OsStr::new(""), OsString::as_os_str).display().to_string();
    let doing = format!("run {name}");
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|e| SysError::new(doing.clone(), e));
    let ((out, their_out), (err, their_err)) = (pipe()?, pipe()?);
    let spec =
        SpawnSpec { env, stdout: Some(their_out), stderr: Some(their_err), ..SpawnSpec::new(argv) };
    let child = Prepared::new(spec)
        .and_then(|prepared| vfork(&prepared))
        .map_err(|e| SysError::refused(doing, e.to_string()))?;
    let end = child.ending();
    let mut children = Children::new();
    children.insert(RUN, child);
    let deadline = clock::monotonic() + limit;
    Ok(Running { children, end, out: Stream::new(out), err: Stream::new(err) }.finish(deadline))
}

/// There is one child, so one number.
const RUN: u64 = 1;

struct Running {
    children: Children,
    /// Readable when it has ended.
    end: Option<OwnedFd>,
    out: Stream,
    err: Stream,
}

impl Running {
    fn finish(mut self, deadline: Instant) -> Finished {
        let exit = self.exit(deadline);
        if exit.is_none() {
            self.children.signal_group(RUN, Signal::KILL).ok();
            self.exit(clock::monotonic() + DYING);
        }
        Finished { exit, stdout: self.out.kept, stderr: self.err.kept }
    }

    /// Reads what comes until it has ended; what others still hold open is not waited for.
    fn exit(&mut self, deadline: Instant) -> Option<Exit> {
        loop {
            let exit = self.reaped();
            let left = deadline.since(clock::monotonic());
            if exit.is_some() || left.is_zero() {
                while self.wait(Duration::ZERO) {}
                return exit;
            }
            self.wait(if self.end.is_some() { left } else { left.min(LOOK) });
        }
    }

    fn reaped(&mut self) -> Option<Exit> {
        while let Some(peeked) = self.children.peek_exited() {
            self.children.reap(peeked);
            if peeked.run == Some(RUN) {
                return Some(peeked.exit);
            }
        }
        None
    }

    /// Waits for output or the end, and reads once; whether something was read.
    fn wait(&mut self, longest: Duration) -> bool {
        let mut fds = Vec::with_capacity(3);
        let streams = [&self.out, &self.err];
        let open = streams.iter().filter_map(|stream| stream.source.as_ref());
        fds.extend(open.chain(&self.end).map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let timeout = PollTimeout::try_from(longest).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(n) if n > 0 => {}
            Ok(_) | Err(_) => return false,
        }
        let mut ready = fds.iter().map(|fd| fd.any() == Some(true));
        let out = self.out.source.is_some() && ready.next() == Some(true);
        let err = self.err.source.is_some() && ready.next() == Some(true);
        (out && self.out.read()) | (err && self.err.read())
    }
}

/// A pipe that is read.
struct Stream {
    source: Option<OwnedFd>,
    kept: Vec<u8>,
}

impl Stream {
    fn new(source: OwnedFd) -> Self {
        Self { source: Some(source), kept: Vec::new() }
    }

    /// Reads what is there; false at the end.
    fn read(&mut self) -> bool {
        let mut buffer = [0_u8; 4096];
        let Some(source) = &self.source else { return false };
        match read(source, &mut buffer) {
            Err(Errno::EINTR) => true,
            Ok(n) if n > 0 => {
                let room = MOST.saturating_sub(self.kept.len());
                self.kept.extend(buffer.iter().take(n.min(room)));
                true
            }
            Ok(_) | Err(_) => {
                self.source = None;
                false
            }
        }
    }
}
