//! The loop of the control thread.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::Path,
    sync::Arc,
};

use crossbeam_channel::Receiver;
use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::EventFd,
        inotify::{AddWatchFlags, InitFlags, Inotify},
        socket::{getsockopt, sockopt},
    },
};

use crate::{
    control::{Peer, Refusal, RefusalCode, Reply, RequestId, access, wire},
    model::Instant,
    sys::clock,
};

use super::{
    AccessConfig, Command, ControlEvent, MAX_CLIENTS,
    client::{Client, Received},
};

const LISTENER: u64 = 0;
const WAKE: u64 = 1;
const WATCH: u64 = 2;
const FIRST_CLIENT: u64 = 3;
/// How long no client is accepted when even the reserve descriptor did not help.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
/// The most clients accepted before the others have their turn.
const ACCEPT_BATCH: usize = 32;

pub(super) struct Server<F> {
    epoll: Epoll,
    listener: UnixListener,
    /// Tells what happens to the path of the listener.
    watch: Option<Inotify>,
    wake: Arc<EventFd>,
    commands: Receiver<Command>,
    access: AccessConfig,
    limits: access::RateLimits,
    deliver: F,
    clients: BTreeMap<u64, Client>,
    owners: BTreeMap<RequestId, u64>,
    next_client: u64,
    next_request: u64,
    /// Given up for a moment when descriptors run out, so that a client can be told by a close.
    reserve: Option<File>,
    accept_again_at: Option<Instant>,
}

impl<F: Fn(ControlEvent)> Server<F> {
    pub(super) fn new(
        listener: OwnedFd,
        wake: Arc<EventFd>,
        commands: Receiver<Command>,
        access: AccessConfig,
        deliver: F,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        epoll.add(wake.as_ref(), EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        Ok(Self {
            epoll,
            listener,
            watch: None,
            wake,
            commands,
            access,
            limits: access::RateLimits::default(),
            deliver,
            clients: BTreeMap::new(),
            owners: BTreeMap::new(),
            next_client: FIRST_CLIENT,
            next_request: 1,
            reserve: File::open("/dev/null").ok(),
            accept_again_at: None,
        })
    }

    pub(super) fn run(&mut self) {
        let mut events = [EpollEvent::empty(); 64];
        let mut buffer = vec![0_u8; 16 * 1024];
        loop {
            let ready = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(n) => n,
                Err(Errno::EINTR) => 0,
                Err(errno) => {
                    log::error!("control: cannot wait for clients: {errno}; control is closed");
                    return;
                }
            };
            let mut stop = false;
            for event in events.iter().take(ready) {
                match event.data() {
                    LISTENER => self.accept(),
                    WAKE => stop |= self.obey(),
                    WATCH => {
                        // Once: the next one begins when the path was looked at.
                        self.watch = None;
                        (self.deliver)(ControlEvent::Disturbed);
                    }
                    token => self.serve(token, event.events(), &mut buffer),
                }
            }
            if stop {
                return;
            }
            self.enforce_deadlines();
        }
    }

    fn listen(&mut self, listener: OwnedFd) {
        let listener = UnixListener::from(listener);
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER);
        let added = listener
            .set_nonblocking(true)
            .and_then(|()| Ok(self.epoll.add(&listener, readable)?));
        match added {
            // The old one leaves the epoll set by its close.
            Ok(()) => {
                self.listener = listener;
                self.accept_again_at = None;
            }
            Err(e) => log::warn!("control: cannot take a new socket: {e}"),
        }
    }

    /// Without inotify nothing is told, and SIGHUP is the way.
    fn watch(&mut self, path: &Path) {
        let interest = AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_DONT_FOLLOW;
        let watched = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .and_then(|inotify| inotify.add_watch(path, interest).map(|_| inotify))
            .and_then(|inotify| {
                let readable = EpollEvent::new(EpollFlags::EPOLLIN, WATCH);
                self.epoll.add(&inotify, readable).map(|()| inotify)
            });
        match watched {
            Ok(inotify) => self.watch = Some(inotify),
            // It was removed before we looked.
            Err(Errno::ENOENT) => (self.deliver)(ControlEvent::Disturbed),
            Err(errno) => log::debug!("control: cannot watch {}: {errno}", path.display()),
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let clients = self.clients.values().filter_map(Client::deadline);
        let Some(at) = clients.chain(self.accept_again_at).min() else {
            return EpollTimeout::NONE;
        };
        // Rounded up, so that it is due when we wake.
        let millis = at.since(clock::monotonic()).as_millis().saturating_add(1);
        EpollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPT_BATCH {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(OwnedFd::from(stream)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) => {
                    let errno = e.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
                    if matches!(errno, Errno::ECONNABORTED | Errno::EINTR) {
                        continue;
                    }
                    if !self.turn_away() {
                        self.pause_accepting(&e);
                        return;
                    }
                }
            }
        }
    }

    /// Descriptors ran out: takes one client with the reserve and closes it, so that it learns at
    /// once and the listener does not stay readable for ever. False when that was no help.
    fn turn_away(&mut self) -> bool {
        let Some(reserve) = self.reserve.take() else {
            self.reserve = File::open("/dev/null").ok();
            return false;
        };
        drop(reserve);
        let turned_away = self.listener.accept().is_ok();
        self.reserve = File::open("/dev/null").ok();
        turned_away
    }

    fn pause_accepting(&mut self, why: &io::Error) {
        log::warn!("control: cannot accept a client: {why}; next try in 1s");
        let none = &mut EpollEvent::new(EpollFlags::empty(), LISTENER);
        if self.epoll.modify(&self.listener, none).is_ok() {
            self.accept_again_at = Some(clock::monotonic() + ACCEPT_PAUSE);
        }
    }

    fn resume_accepting(&mut self, now: Instant) {
        if self.accept_again_at.is_some_and(|at| at <= now) {
            let readable = &mut EpollEvent::new(EpollFlags::EPOLLIN, LISTENER);
            match self.epoll.modify(&self.listener, readable) {
                Ok(()) => self.accept_again_at = None,
                Err(_) => self.accept_again_at = Some(now + ACCEPT_PAUSE),
            }
        }
    }

    fn welcome(&mut self, fd: OwnedFd) {
        // Who is asked once, right after the accept; without an answer nobody is served.
        let Ok(credentials) = getsockopt(&fd, sockopt::PeerCredentials) else { return };
        let peer = Peer {
            pid: u32::try_from(credentials.pid()).unwrap_or(0),
            uid: credentials.uid(),
            gid: credentials.gid(),
        };
        let groups = if self.access.control.access.is_empty() {
            Vec::new()
        } else {
            (self.access.groups)(fd.as_fd(), peer)
        };
        let mut client = Client::new(fd, peer, groups, clock::monotonic());
        if client.stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.clients.len() >= MAX_CLIENTS && !self.make_room() {
            client.push(wire::encode_reply(&wire::Id::Null, &Reply::Error(too_many())));
            // One small frame always fits into a new socket's buffer.
            if client.send(clock::monotonic()) == Received::Broken {
                log::debug!("control: a client that was turned away is gone");
            }
            return;
        }
        let token = self.next_client;
        self.next_client = self.next_client.wrapping_add(1).max(FIRST_CLIENT);
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, token);
        if self.epoll.add(&client.stream, readable).is_ok() {
            self.clients.insert(token, client);
        }
    }

    /// Closes the oldest idle client, or else the oldest that has begun a request and not ended it.
    fn make_room(&mut self) -> bool {
        let oldest = |which: fn(&Client) -> bool| {
            let all = self.clients.iter().filter(|(_, client)| which(client));
            all.min_by_key(|(token, client)| (client.active_at, **token)).map(|(token, _)| *token)
        };
        let Some(token) = oldest(Client::is_idle).or_else(|| oldest(Client::is_dribbling)) else {
            return false;
        };
        self.close(token);
        true
    }

    fn serve(&mut self, token: u64, events: EpollFlags, buffer: &mut [u8]) {
        let now = clock::monotonic();
        let Some(client) = self.clients.get_mut(&token) else { return };
        let mut fate = Received::Wait;
        if events.contains(EpollFlags::EPOLLIN) {
            fate = client.receive(buffer, now);
        }
        // Closed on both sides: nobody is there to be answered.
        if fate == Received::Broken
            || events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
        {
            self.close(token);
            return;
        }
        self.work(token, now);
    }

    /// Takes the requests of a client that have arrived, and sends it what is queued.
    fn work(&mut self, token: u64, now: Instant) {
        loop {
            let Some(client) = self.clients.get_mut(&token) else { return };
            let Some(line) = client.next_line(now) else { break };
            self.take(token, &line, now);
        }
        let Some(client) = self.clients.get_mut(&token) else { return };
        if client.overflows() || client.send(now) == Received::Broken || client.is_done() {
            self.close(token);
            return;
        }
        let wants = client.wants();
        if wants != client.interest {
            let mut flags = EpollFlags::empty();
            flags.set(EpollFlags::EPOLLIN, wants.0);
            flags.set(EpollFlags::EPOLLOUT, wants.1);
            client.interest = wants;
            if self.epoll.modify(&client.stream, &mut EpollEvent::new(flags, token)).is_err() {
                self.close(token);
            }
        }
    }

    fn take(&mut self, token: u64, line: &[u8], now: Instant) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let Some(client) = self.clients.get_mut(&token) else { return };
        let call = match wire::decode_request(line) {
            Ok(call) => call,
            Err(fault) => {
                client.push(wire::encode_fault(&fault));
                if fault.code == wire::PARSE_ERROR {
                    client.close_when_written();
                }
                return;
            }
        };
        let peer = client.peer;
        let trusted = peer.uid == 0 || peer.uid == self.access.supervisor_uid;
        let user = if trusted { None } else { (self.access.user_name)(peer.uid) };
        let asker = access::Asker { peer, groups: &client.groups, user: user.as_deref() };
        let AccessConfig { control, supervisor_uid, .. } = &self.access;
        let limits = &mut self.limits;
        let verdict = access::check(control, *supervisor_uid, &asker, &call.request, limits, now);
        if let Err(refusal) = verdict {
            let why = refusal.message.clone();
            client.push(wire::encode_reply(&call.id, &Reply::Error(refusal)));
            (self.deliver)(ControlEvent::Refused { peer, why });
            return;
        }
        let id = RequestId(self.next_request);
        self.next_request = self.next_request.wrapping_add(1);
        client.await_reply(id, call.id);
        self.owners.insert(id, token);
        (self.deliver)(ControlEvent::Request { id, peer, request: call.request });
    }

    /// Does what the handle says; true to end.
    fn obey(&mut self) -> bool {
        if let Err(errno) = self.wake.read()
            && errno != Errno::EAGAIN
        {
            log::debug!("control: cannot read the eventfd: {errno}");
        }
        // As many as there are now: what comes meanwhile has woken us again.
        for _ in 0..self.commands.len() {
            let Ok(command) = self.commands.try_recv() else { break };
            match command {
                Command::Reply(id, reply) => self.reply(id, &reply),
                Command::Progress(id, programs) => self.with(id, |client, _| {
                    let Some(wire_id) = client.wire_id(id) else { return };
                    let frame = wire::encode_progress(wire_id, &programs);
                    client.push(frame);
                }),
                Command::Lines(id, lines) => {
                    self.with(id, |client, _| client.push_lines(id, lines));
                }
                Command::Access(access) => self.access = *access,
                Command::Listen(listener) => self.listen(listener),
                Command::Watch(path) => self.watch(&path),
                Command::Stop => {
                    let now = clock::monotonic();
                    for client in self.clients.values_mut() {
                        if client.send(now) == Received::Broken {
                            log::trace!("control: a client was gone before the end");
                        }
                    }
                    return true;
                }
            }
        }
        false
    }

    fn reply(&mut self, id: RequestId, reply: &Reply) {
        self.with(id, |client, owners| {
            let Some(wire_id) = client.wire_id(id).cloned() else { return };
            client.finish(id);
            client.push(wire::encode_reply(&wire_id, reply));
            owners.remove(&id);
        });
    }

    fn with(
        &mut self,
        id: RequestId,
        act: impl FnOnce(&mut Client, &mut BTreeMap<RequestId, u64>),
    ) {
        let Some(token) = self.owners.get(&id).copied() else { return };
        let Some(client) = self.clients.get_mut(&token) else { return };
        act(client, &mut self.owners);
        self.work(token, clock::monotonic());
    }

    fn close(&mut self, token: u64) {
        let Some(client) = self.clients.remove(&token) else { return };
        for id in client.requests() {
            self.owners.remove(&id);
            (self.deliver)(ControlEvent::Gone(id));
        }
        if let Err(errno) = self.epoll.delete(&client.stream) {
            log::debug!("control: cannot forget a client: {errno}"); // its close does it, too
        }
    }

    fn enforce_deadlines(&mut self) {
        let due =
            self.clients.values().filter_map(Client::deadline).chain(self.accept_again_at).min();
        let Some(first) = due else { return };
        let now = clock::monotonic();
        if first > now {
            return;
        }
        self.resume_accepting(now);
        let late = |(token, client): (&u64, &Client)| {
            client.deadline().is_some_and(|at| at <= now).then_some(*token)
        };
        let late: Vec<u64> = self.clients.iter().filter_map(late).collect();
        for token in late {
            self.close(token);
        }
    }
}

fn too_many() -> Refusal {
    Refusal {
        code: RefusalCode::Failed,
        message: format!("{MAX_CLIENTS} clients are connected and all have requests under way"),
        hint: Some("try again in a moment".to_owned()),
    }
}
