//! Tries to connect to TCP ports and Unix sockets, now and again, while somebody waits for them.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::EventFd,
        socket::{
            AddressFamily, SockFlag, SockType, SockaddrStorage, UnixAddr, connect, getpeername,
            getsockname, getsockopt, socket, sockopt::SocketError,
        },
    },
};

use super::Key;
use crate::{model::Instant, sys::resolve};

/// The first time between two attempts, and the longest.
const DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// An attempt without an answer is given up after this.
const PATIENCE: Duration = Duration::from_secs(5);
/// More addresses of one name are not tried.
const ADDRESSES_MAX: usize = 8;

/// A peer that is to accept a connection.
pub(super) struct Peer {
    target: Target,
    delay: Duration,
    stage: Stage,
}

enum Target {
    Address(SocketAddr),
    /// `HOST:PORT`, looked up at each attempt, because the answer may change.
    Name(Box<str>),
    Unix(PathBuf),
}

enum Stage {
    Idle,
    Resolving,
    Connecting { sockets: Vec<OwnedFd>, give_up: Instant },
}

/// What came of looking at a peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It accepts connections.
    Yes,
    /// Look again then, or when one of its descriptors or the resolver has news.
    NotYet(Option<Instant>),
}

impl Peer {
    /// `HOST:PORT`.
    pub(super) fn tcp(address: &str) -> Self {
        let name = |_| Target::Name(address.into());
        Self::new(address.parse().map_or_else(name, Target::Address))
    }

    /// A Unix socket, of whichever type.
    pub(super) fn unix(path: PathBuf) -> Self {
        Self::new(Target::Unix(path))
    }

    fn new(target: Target) -> Self {
        Self { target, delay: DELAY.0, stage: Stage::Idle }
    }

    /// Goes on with the current attempt, or begins one.
    pub(super) fn look(&mut self, key: Key, now: Instant, resolver: &mut Resolver) -> Answer {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => match &self.target {
                Target::Unix(path) if unix_accepts(path) => Answer::Yes,
                Target::Unix(_) => self.again(now),
                Target::Address(address) => {
                    self.stage = connecting(&[*address], now);
                    self.look(key, now, resolver)
                }
                Target::Name(name) => {
                    resolver.ask(key, name.clone());
                    self.stage = Stage::Resolving;
                    Answer::NotYet(None)
                }
            },
            Stage::Resolving => {
                self.stage = Stage::Resolving;
                Answer::NotYet(None)
            }
            Stage::Connecting { sockets, give_up } => self.go_on(sockets, give_up, now),
        }
    }

    /// The resolver has answered: the next look goes on with it.
    pub(super) fn resolved(&mut self, addresses: &[SocketAddr], now: Instant) {
        if matches!(self.stage, Stage::Resolving) {
            self.stage = connecting(addresses, now);
        }
    }

    /// What to poll for writing.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let sockets = match &self.stage {
            Stage::Connecting { sockets, .. } => sockets.as_slice(),
            Stage::Idle | Stage::Resolving => &[],
        };
        sockets.iter().map(|socket| socket.as_fd())
    }

    /// Looks at sockets that are being connected.
    fn go_on(&mut self, mut sockets: Vec<OwnedFd>, give_up: Instant, now: Instant) -> Answer {
        let mut connected = false;
        sockets.retain(|socket| match progress(socket) {
            Progress::Pending => true,
            Progress::Connected => {
                connected = true;
                false
            }
            Progress::Refused => false,
        });
        if connected {
            return Answer::Yes;
        }
        if sockets.is_empty() || now >= give_up {
            return self.again(now);
        }
        self.stage = Stage::Connecting { sockets, give_up };
        Answer::NotYet(Some(give_up))
    }

    fn again(&mut self, now: Instant) -> Answer {
        let at = now + self.delay;
        self.delay = (self.delay * 2).min(DELAY.1);
        Answer::NotYet(Some(at))
    }
}

fn connecting(addresses: &[SocketAddr], now: Instant) -> Stage {
    let sockets = addresses.iter().take(ADDRESSES_MAX).filter_map(|a| attempt(*a)).collect();
    Stage::Connecting { sockets, give_up: now + PATIENCE }
}

/// Begins to connect; `None` when that is refused at once, or there is no descriptor for it.
fn attempt(address: SocketAddr) -> Option<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None).ok()?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Some(socket),
        Err(_) => None,
    }
}

enum Progress {
    Pending,
    Connected,
    Refused,
}

/// How far a connect(2) has come; `SO_ERROR` tells once the socket is writable.
fn progress(socket: &OwnedFd) -> Progress {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut fds, PollTimeout::ZERO) == Ok(0) {
        return Progress::Pending;
    }
    let fd = socket.as_raw_fd();
    let (us, them) = (getsockname::<SockaddrStorage>(fd), getpeername::<SockaddrStorage>(fd));
    // A port in the range of our own can be given to our end: then we have reached ourselves.
    let ourselves = us.is_ok() && us == them;
    if getsockopt(socket, SocketError) == Ok(0) && !ourselves {
        Progress::Connected
    } else {
        Progress::Refused
    }
}

/// Whether somebody listens at a Unix socket. A full backlog is no acceptance.
fn unix_accepts(path: &Path) -> bool {
    let Ok(address) = UnixAddr::new(path) else { return false };
    [SockType::Stream, SockType::SeqPacket, SockType::Datagram].into_iter().any(|kind| {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        socket(AddressFamily::Unix, kind, flags, None)
            .is_ok_and(|socket| connect(socket.as_raw_fd(), &address).is_ok())
    })
}

/// Looks up names, in a thread of its own because getaddrinfo(3) blocks; one name at a time.
pub(super) struct Resolver {
    wake: Arc<EventFd>,
    answers: (Sender<Vec<SocketAddr>>, Receiver<Vec<SocketAddr>>),
    /// The first is being looked up.
    asked: VecDeque<(Key, Box<str>)>,
    busy: bool,
}

impl Resolver {
    /// `wake` is written when there is an answer.
    pub(super) fn new(wake: Arc<EventFd>) -> Self {
        Self { wake, answers: unbounded(), asked: VecDeque::new(), busy: false }
    }

    fn ask(&mut self, key: Key, name: Box<str>) {
        self.asked.push_back((key, name));
        self.next();
    }

    /// An answer: the addresses of who asked, none when the name has none.
    pub(super) fn answer(&mut self) -> Option<(Key, Vec<SocketAddr>)> {
        let addresses = self.answers.1.try_recv().ok()?;
        self.busy = false;
        let answered = self.asked.pop_front().map(|(key, _)| (key, addresses));
        self.next();
        answered
    }

    fn next(&mut self) {
        let Some((_, name)) = self.asked.front().filter(|_| !self.busy) else { return };
        self.busy = true;
        if lookup(name.clone(), self.answers.0.clone(), Arc::clone(&self.wake)).is_err() {
            // No thread to be had: the attempt counts as one without an answer.
            self.answers.0.send(Vec::new()).unwrap_or_default();
            self.wake.write(1).unwrap_or_default();
        }
    }
}

fn lookup(name: Box<str>, answers: Sender<Vec<SocketAddr>>, wake: Arc<EventFd>) -> io::Result<()> {
    thread::Builder::new().name("resolver".into()).spawn(move || {
        let found = resolve::addresses(&name);
        // Nobody is there any more at the end of the process only.
        answers.send(found).unwrap_or_default();
        wake.write(1).unwrap_or_default();
    })?;
    Ok(())
}
