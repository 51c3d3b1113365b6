//! The control thread: serves the control socket and decides nothing but who may ask.
//!
//! One thread, one epoll, bounded buffers. A client that is slow, silent, hostile or gone delays
//! nobody else. Nothing wakes up when nothing is due.

mod client;
mod server;

use std::{
    fmt, io,
    os::fd::{BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    thread,
};

use crossbeam_channel::Sender;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::{
    control::{LogLine, Peer, ProgramStatus, Reply, Request, RequestId},
    model::Control,
};

/// The most clients that are connected at once; the oldest idle one gives way to a new one.
pub const MAX_CLIENTS: usize = 256;
/// The most requests of one client that wait for their reply; more are not read meanwhile.
pub const MAX_PENDING: usize = 8;
/// The most that is kept for a client that does not read, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 4 * 1024 * 1024;
/// How long a request may take to arrive, from its first byte to its line end.
pub const REQUEST_DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);
/// How long a client that is owed a reply may read nothing.
pub const WRITE_DEADLINE: std::time::Duration = std::time::Duration::from_secs(2);

/// Looks up something about a connected peer.
pub type GroupsOf = Arc<dyn Fn(BorrowedFd<'_>, Peer) -> Vec<u32> + Send + Sync>;
/// Looks up the login name of a user id.
pub type UserName = Arc<dyn Fn(u32) -> Option<String> + Send + Sync>;

/// Who may ask what.
#[derive(Clone)]
pub struct AccessConfig {
    /// `supervisor.control` of the site.
    pub control: Control,
    /// Effective user id of the supervisor, which may do everything.
    pub supervisor_uid: u32,
    /// The supplementary groups of the peer of a connection (`SO_PEERGROUPS`, unix(7)). Asked once
    /// a connection and only where there are rules; it must not block.
    pub groups: GroupsOf,
    /// For the text of refusals. It must not block for long.
    pub user_name: UserName,
}

impl fmt::Debug for AccessConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessConfig")
            .field("control", &self.control)
            .field("supervisor_uid", &self.supervisor_uid)
            .finish_non_exhaustive()
    }
}

/// What the control thread reports.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlEvent {
    /// Somebody who may asks; to be answered by [`ControlHandle::reply`].
    Request {
        /// For the reply.
        id: RequestId,
        /// Who asks.
        peer: Peer,
        /// What.
        request: Request,
    },
    /// The client of a request is gone: no reply is needed, the operation itself goes on.
    Gone(RequestId),
    /// Somebody did something to the socket that is watched.
    Disturbed,
    /// Somebody asked who may not; the reply was sent. For the log.
    Refused {
        /// Who asked.
        peer: Peer,
        /// Why not.
        why: String,
    },
}

pub(super) enum Command {
    Reply(RequestId, Reply),
    Progress(RequestId, Vec<ProgramStatus>),
    Lines(RequestId, Vec<LogLine>),
    Access(Box<AccessConfig>),
    Listen(OwnedFd),
    Watch(PathBuf),
    Stop,
}

/// Speaks to the control thread. Every call returns at once; calls for a client that is gone do
/// nothing.
#[derive(Clone)]
pub struct ControlHandle {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
}

impl fmt::Debug for ControlHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlHandle").finish_non_exhaustive()
    }
}

impl ControlHandle {
    /// Answers a request and ends it, a stream of lines included.
    pub fn reply(&self, id: RequestId, reply: Reply) {
        self.send(Command::Reply(id, reply));
    }

    /// Tells the client of a change what its programs do meanwhile.
    pub fn progress(&self, id: RequestId, programs: Vec<ProgramStatus>) {
        self.send(Command::Progress(id, programs));
    }

    /// Sends lines of a stream; it goes on until [`ControlHandle::reply`] or
    /// [`ControlEvent::Gone`]. A client that does not keep up loses the oldest, and is told how
    /// many.
    pub fn lines(&self, id: RequestId, lines: Vec<LogLine>) {
        self.send(Command::Lines(id, lines));
    }

    /// From now on these rules hold, for connected clients too.
    pub fn set_access(&self, access: AccessConfig) {
        self.send(Command::Access(Box::new(access)));
    }

    /// From now on clients come by `listener`, at `path`; who is connected stays so.
    pub fn listen(&self, listener: OwnedFd, path: PathBuf) {
        self.send(Command::Listen(listener));
        self.watch(path);
    }

    /// Reports once, by [`ControlEvent::Disturbed`], when the socket at `path` is removed, replaced
    /// or changed (inotify(7)).
    pub fn watch(&self, path: PathBuf) {
        self.send(Command::Watch(path));
    }

    /// Sends what is queued as far as the clients take it at once, closes everything, ends the
    /// thread.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    fn send(&self, command: Command) {
        // A thread that has ended has no clients either: there is nobody to tell.
        if self.commands.send(command).is_ok()
            && let Err(errno) = self.wake.write(1)
        {
            // EAGAIN: the counter is full, so the thread is about to wake anyway (eventfd(2)).
            log::debug!("control: cannot wake the control thread: {errno}");
        }
    }
}

/// Starts the control thread on `listener`, a listening non-blocking Unix stream socket. What
/// happens is handed to `deliver`, which must not block for long.
///
/// # Errors
/// epoll(7), eventfd(2) or the thread cannot be had.
pub fn serve(
    listener: OwnedFd,
    site: AccessConfig,
    deliver: impl Fn(ControlEvent) + Send + 'static,
) -> io::Result<ControlHandle> {
    let (commands, receiver) = crossbeam_channel::unbounded();
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let mut server = server::Server::new(listener, Arc::clone(&wake), receiver, site, deliver)?;
    thread::Builder::new().name("control".to_owned()).spawn(move || server.run())?;
    Ok(ControlHandle { commands, wake })
}
