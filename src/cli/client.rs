//! Finds the running supervisor and speaks to it.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike as _},
    },
};

use super::fail::{Failure, NO_SUPERVISOR};
use crate::control::{
    Reply, Request,
    paths::{self, Surroundings},
    wire::{self, Id, Message},
};
use crate::model::Name;

/// How long a supervisor may take to accept a connection, in seconds.
const CONNECT_SECONDS: i64 = 5;
/// How long it may take to answer what needs no waiting.
const ANSWER: Duration = Duration::from_secs(10);

/// What says which supervisor is meant.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// `-s` or `$SUPERVISOR_SOCKET`.
    pub(super) socket: Option<PathBuf>,
    /// The site file, when one was named.
    pub(super) config: Option<PathBuf>,
    /// What `supervisor.control.socket` and the site's name are, as far as the file could be read.
    pub(super) sockets: Vec<PathBuf>,
    /// Where we are.
    pub(super) surroundings: Surroundings,
}

/// A connection to a supervisor.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    interrupts: Option<UnixStream>,
    input: Vec<u8>,
    next_id: u64,
    path: PathBuf,
}

/// What [`Client::next`] saw.
#[derive(Debug)]
pub(super) enum Seen {
    Message(Message),
    Timeout,
    Interrupted,
    Closed,
}

impl Client {
    pub(super) fn find(wanted: &Wanted) -> Result<Self, Failure> {
        if let Some(path) = &wanted.socket {
            return Self::connect(path).map_err(|e| no_answer(path, &e, wanted));
        }
        if wanted.config.is_some() {
            for path in &wanted.sockets {
                match Self::connect(path) {
                    Ok(client) => return Ok(client),
                    Err(e) if is_absent(&e) => {}
                    Err(e) => return Err(no_answer(path, &e, wanted)),
                }
            }
            return Err(none(wanted));
        }
        let mut found = Vec::new();
        let mut denied = None;
        for path in running(&wanted.surroundings) {
            match Self::connect(&path) {
                Ok(client) => found.push(client),
                Err(e) if is_absent(&e) => {}
                Err(e) => denied = Some(no_answer(&path, &e, wanted)),
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some(client), true) => Ok(client),
            (Some(client), false) => {
                found.push(client);
                Err(several(&found))
            }
            (None, _) => Err(denied.unwrap_or_else(|| none(wanted))),
        }
    }

    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        // connect(2) waits no longer than this when the backlog is full.
        setsockopt(&fd, sockopt::SendTimeout, &TimeVal::seconds(CONNECT_SECONDS))?;
        let address = UnixAddr::new(path)?;
        connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &address)?;
        let path = path.to_owned();
        Ok(Self {
            stream: UnixStream::from(fd),
            interrupts: None,
            input: Vec::new(),
            next_id: 1,
            path,
        })
    }

    /// From now on Ctrl-C is seen by [`Client::next`] instead of ending the process.
    pub(super) fn catch_interrupts(&mut self) -> io::Result<()> {
        self.interrupts = Some(caught(&[signal_hook::consts::SIGINT])?);
        Ok(())
    }

    /// What becomes readable there is seen by [`Client::next`] as well.
    pub(super) fn interrupted_by(&mut self, interrupts: &UnixStream) -> io::Result<()> {
        self.interrupts = Some(interrupts.try_clone()?);
        Ok(())
    }

    /// Waits until a line can be read from `stdin`, which is a terminal; false for Ctrl-C.
    pub(super) fn can_read(&self, stdin: BorrowedFd<'_>) -> bool {
        let mut fds = vec![PollFd::new(stdin, PollFlags::POLLIN)];
        fds.extend(self.interrupts.iter().map(|i| PollFd::new(i.as_fd(), PollFlags::POLLIN)));
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::Error::EINTR) => {}
                Err(_) => return false,
                Ok(_) => return fds.get(1).and_then(PollFd::any) != Some(true),
            }
        }
    }

    /// Sends a request; its id.
    pub(super) fn send(&mut self, request: &Request) -> Result<u64, Failure> {
        let id = self.next_id;
        self.next_id = self.next_id.saturating_add(1);
        match self.stream.write_all(&wire::encode_request(id, request)) {
            Ok(()) => Ok(id),
            Err(e) => Err(self.lost(&e.to_string())),
        }
    }

    /// The next message, or why there is none; `timeout` `None` waits for ever.
    pub(super) fn next(&mut self, timeout: Option<Duration>) -> Result<Seen, Failure> {
        let mut buffer = vec![0_u8; 64 * 1024];
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.input) {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                let line = line.trim_ascii();
                if line.is_empty() {
                    continue;
                }
                let message = wire::decode_message(line)
                    .map_err(|e| Failure::new(1, "protocol", e.to_string()).hint(OTHER_VERSION))?;
                return Ok(Seen::Message(message));
            }
            match self.wait(timeout)? {
                Some(seen) => return Ok(seen),
                None => match self.stream.read(&mut buffer) {
                    Ok(0) => return Ok(Seen::Closed),
                    Ok(n) => self.input.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                        return Ok(Seen::Closed);
                    }
                    Err(e) => return Err(self.lost(&e.to_string())),
                },
            }
        }
    }

    fn wait(&self, timeout: Option<Duration>) -> Result<Option<Seen>, Failure> {
        let timeout = timeout.map_or(PollTimeout::NONE, |time| {
            PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.interrupts.iter().map(|i| PollFd::new(i.as_fd(), PollFlags::POLLIN)));
        // Ctrl-C interrupts the call; then its pipe is what is ready.
        let ready = loop {
            match poll(&mut fds, timeout) {
                Err(nix::Error::EINTR) => {}
                result => break result,
            }
        };
        match ready {
            Ok(0) => Ok(Some(Seen::Timeout)),
            Ok(_) if fds.get(1).and_then(PollFd::any) == Some(true) => Ok(Some(Seen::Interrupted)),
            Ok(_) => Ok(None),
            Err(errno) => Err(self.lost(errno.desc())),
        }
    }

    /// Asks what is answered at once.
    pub(super) fn ask(&mut self, what: &str, request: &Request) -> Result<Reply, Failure> {
        let id = self.send(request)?;
        loop {
            match self.next(Some(ANSWER))? {
                Seen::Message(Message::Reply(Id::Number(n), Reply::Error(refusal))) if n == id => {
                    return Err(Failure::refused(what, refusal));
                }
                Seen::Message(Message::Reply(Id::Null, Reply::Error(refusal))) => {
                    return Err(Failure::refused(what, refusal));
                }
                Seen::Message(Message::Reply(Id::Number(n), reply)) if n == id => return Ok(reply),
                Seen::Message(_) | Seen::Interrupted => {}
                Seen::Timeout => return Err(self.lost("it does not answer")),
                Seen::Closed => return Err(self.lost("it has closed the connection")),
            }
        }
    }

    /// The supervisor is there but the connection is not.
    pub(super) fn lost(&self, cause: &str) -> Failure {
        let path = self.path.display();
        Failure::new(1, "lost", format!("cannot speak to the supervisor at {path}: {cause}"))
    }
}

/// Becomes readable, and stays so, when one of these signals has come: they end the process no
/// longer.
pub(super) fn caught(signals: &[i32]) -> io::Result<UnixStream> {
    let (ours, handlers) = UnixStream::pair()?;
    for signal in signals {
        signal_hook::low_level::pipe::register(*signal, handlers.try_clone()?)?;
    }
    Ok(ours)
}

/// What may be wrong when a message cannot be read.
pub(super) const OTHER_VERSION: &str =
    "the supervisor that runs may be of another version; see supervisor version";

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn no_answer(path: &Path, error: &io::Error, wanted: &Wanted) -> Failure {
    if is_absent(error) {
        return none(wanted);
    }
    let text = format!("cannot speak to the supervisor at {}: {error}", path.display());
    if error.kind() != io::ErrorKind::PermissionDenied {
        return Failure::new(1, "lost", text);
    }
    Failure::new(4, "not_permitted", text).hint(
        "run it as root or as the supervisor's user, or see supervisor.control in site.yaml(5)",
    )
}

fn none(wanted: &Wanted) -> Failure {
    let text = "no supervisor is running for this site";
    let text = match &wanted.socket {
        Some(socket) => format!("{text}: nobody listens on {}", socket.display()),
        None => text.to_owned(),
    };
    let default = Path::new(paths::DEFAULT_CONFIG);
    let hint = match wanted.config.as_deref() {
        Some(file) if file == Path::new("-") || file.exists() => {
            format!("start it with: supervisor -c {}", file.display())
        }
        Some(file) => format!("there is no file {}", file.display()),
        None if default.exists() => format!("start it with: supervisor -c {}", default.display()),
        None => "start it with: supervisor -c FILE".to_owned(),
    };
    Failure::new(NO_SUPERVISOR, "no_supervisor", text).hint(hint)
}

fn several(found: &[Client]) -> Failure {
    let list: Vec<String> = found.iter().map(|c| format!("  -s {}", c.path.display())).collect();
    Failure::new(
        super::fail::USAGE,
        "several_supervisors",
        "cannot choose a supervisor: several run",
    )
    .hint(format!("say which with -c FILE or one of:\n{}", list.join("\n")))
}

/// The sockets of all sites in the places where they can be, in order.
fn running(surroundings: &Surroundings) -> Vec<PathBuf> {
    let mut all = Vec::new();
    if let Some(dir) = &surroundings.runtime_directory {
        all.push(dir.join(paths::SOCKET));
    }
    for base in paths::searched(surroundings) {
        let Ok(entries) = fs::read_dir(&base) else { continue };
        // What has no name of a site is something else: the locks of programs.
        let is_site = |entry: &fs::DirEntry| {
            entry.file_name().to_str().is_some_and(|name| Name::new(name).is_ok())
        };
        let sites = entries.flatten().filter(is_site);
        all.extend(sites.map(|entry| entry.path().join(paths::SOCKET)));
    }
    all.sort();
    all.dedup();
    all
}
