//! The loop of the thread: what is waited for, and when to look at it again.

use std::{collections::BTreeMap, io, os::fd::AsFd as _, path::PathBuf, sync::Arc, time::Duration};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    Command, Key, Met,
    connect::{Answer, Peer, Resolver},
    files::{Files, Seen},
    network::{self, Network},
};
use crate::{
    daemon::{ground::Place, way::Orders},
    model::{Awaited, Human, Instant},
    sys::clock,
};

/// How often we look when the kernel cannot tell us.
const POLL: Duration = Duration::from_secs(2);

/// Something that is waited for.
struct Waiting {
    what: What,
    /// When to look at it next; `None`: when the kernel tells.
    due: Option<Instant>,
    /// It was said that we have to look again and again.
    warned: bool,
}

enum What {
    Network,
    File { path: PathBuf, places: Vec<Place> },
    Peer(Peer),
}

pub(super) struct Watcher {
    orders: Orders<Command>,
    deliver: Box<dyn Fn(Met) + Send>,
    waiting: BTreeMap<Key, Waiting>,
    files: Files,
    network: Network,
    resolver: Resolver,
}

impl Watcher {
    pub(super) fn new(orders: Orders<Command>, deliver: Box<dyn Fn(Met) + Send>) -> Self {
        Self {
            deliver,
            waiting: BTreeMap::new(),
            files: Files::default(),
            network: Network::default(),
            resolver: Resolver::new(Arc::clone(orders.wake())),
            orders,
        }
    }

    /// Until the last handle is gone.
    pub(super) fn run(&mut self) {
        while let Some(commands) = self.orders.take() {
            for command in commands {
                match command {
                    Command::Await(key, what) => self.begin(key, what),
                    Command::Forget(program) => self.waiting.retain(|k, _| k.program != program),
                }
            }
            let now = clock::monotonic();
            while let Some((key, addresses)) = self.resolver.answer() {
                if let Some(Waiting { what: What::Peer(peer), due, .. }) =
                    self.waiting.get_mut(&key)
                {
                    peer.resolved(&addresses, now);
                    *due = Some(now);
                }
            }
            self.look(now);
            self.tidy();
            self.sleep();
        }
    }

    fn begin(&mut self, key: Key, what: Awaited) {
        self.waiting.retain(|k, _| k.program != key.program || k.attempt >= key.attempt);
        let what = match what {
            Awaited::Network => What::Network,
            Awaited::File(path) => What::File { path, places: Vec::new() },
            Awaited::Tcp(address) => What::Peer(Peer::tcp(&address)),
            Awaited::Socket(path) => What::Peer(Peer::unix(path)),
        };
        let waiting = Waiting { what, due: Some(clock::monotonic()), warned: false };
        self.waiting.insert(key, waiting);
    }

    /// Looks at all that is due, and delivers what is true.
    fn look(&mut self, now: Instant) {
        let Self { waiting, files, network, resolver, deliver, .. } = self;
        waiting.retain(|key, entry| {
            if entry.due.is_none_or(|due| due > now) {
                return true;
            }
            let answer = match &mut entry.what {
                What::Network => see_network(network),
                What::File { path, places } => files.look(path, places),
                What::Peer(peer) => match peer.look(*key, now, resolver) {
                    Answer::Yes => Seen::There,
                    Answer::NotYet(at) => {
                        entry.due = at;
                        return true;
                    }
                },
            };
            entry.due = match answer {
                Seen::There => {
                    let Key { program, attempt, index } = *key;
                    deliver(Met { program, attempt, index });
                    return false;
                }
                Seen::Watched => None,
                Seen::Unwatched(cause) => {
                    entry.warn(&cause);
                    Some(now + POLL)
                }
            };
            true
        });
    }

    /// Closes what nobody needs any more.
    fn tidy(&mut self) {
        if !self.waiting.values().any(|w| matches!(w.what, What::Network)) {
            self.network.close();
        }
        let places = self.waiting.values().filter_map(|w| match &w.what {
            What::File { places, .. } => Some(places),
            What::Network | What::Peer(_) => None,
        });
        self.files.keep(places.flatten());
    }

    /// Sleeps until an order, news of the kernel, or the next look; news make a look due.
    fn sleep(&mut self) {
        let now = clock::monotonic();
        let next = self.waiting.values().filter_map(|w| w.due).min();
        // Rounded up, so that the moment has come when we wake up.
        let timeout = next.map_or(PollTimeout::NONE, |at| {
            let wait = at.since(now) + Duration::from_micros(999);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![PollFd::new(self.orders.wake().as_fd(), PollFlags::POLLIN)];
        let [inotify, mounts] = self.files.fds();
        let inotify = inotify.map(|fd| (PollFd::new(fd, PollFlags::POLLIN), Source::Files));
        let mounts = mounts.map(|fd| (PollFd::new(fd, PollFlags::POLLPRI), Source::Mounts));
        let network = self.network.fd();
        let network = network.map(|fd| (PollFd::new(fd, PollFlags::POLLIN), Source::Network));
        let mut sources = vec![Source::Wake];
        for (fd, source) in [inotify, mounts, network].into_iter().flatten() {
            fds.push(fd);
            sources.push(source);
        }
        for (key, waiting) in &self.waiting {
            if let What::Peer(peer) = &waiting.what {
                for fd in peer.fds() {
                    fds.push(PollFd::new(fd, PollFlags::POLLOUT));
                    sources.push(Source::Peer(*key));
                }
            }
        }
        // EINTR, ENOMEM: whatever is ready still is at the next turn.
        poll(&mut fds, timeout).unwrap_or_default();
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        drop(fds);
        for (source, _) in sources.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            self.news(source);
        }
    }

    fn news(&mut self, source: Source) {
        match source {
            Source::Wake => {}
            Source::Files => {
                if self.files.read() {
                    self.due(|_, what| matches!(what, What::File { .. }));
                }
            }
            Source::Mounts => {
                self.due(|_, what| matches!(what, What::File { .. }));
            }
            Source::Network => {
                self.network.read();
                self.due(|_, what| matches!(what, What::Network));
            }
            Source::Peer(key) => self.due(|k, _| *k == key),
        }
    }

    /// These are to be looked at now.
    fn due(&mut self, which: impl Fn(&Key, &What) -> bool) {
        let now = clock::monotonic();
        for (_, waiting) in self.waiting.iter_mut().filter(|(key, w)| which(key, &w.what)) {
            waiting.due = Some(now);
        }
    }
}

/// Who has news.
#[derive(Clone, Copy)]
enum Source {
    Wake,
    Files,
    Mounts,
    Network,
    Peer(Key),
}

impl Waiting {
    fn warn(&mut self, cause: &io::Error) {
        if !std::mem::replace(&mut self.warned, true) {
            let what = match &self.what {
                What::File { path, .. } => path.display().to_string(),
                What::Network | What::Peer(_) => "the network".to_owned(),
            };
            log::warn!("cannot watch {what}: {cause}; looking at it every {}", Human(POLL));
        }
    }
}

fn see_network(network: &mut Network) -> Seen {
    let watched = network.watch();
    // After the watching, so that nothing comes between.
    match watched {
        _ if network::is_up() => Seen::There,
        Ok(()) => Seen::Watched,
        Err(error) => Seen::Unwatched(error),
    }
}
