//! What programs say of themselves: `$NOTIFY_SOCKET` (`sd_notify(3)`), and the descriptor to which
//! a program writes a line when it is ready.
//!
//! Each run has a socket of its own, so what an earlier run has sent goes nowhere. The loop reads
//! them, for it alone knows whose a process is at that moment; and it does so before it reaps
//! anybody, so that whoever has died since is still known.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

use super::{Shell, children};
use crate::{
    engine::{ChildEvent, Event, FailureClass, RunId, Spawn, SpawnFailure},
    model::{
        Instant, Limit, LogLevel, NOTICE_MAX, Notice, Program, ProgramType, ReadyBy, RunAs, escaped,
    },
    plan::ProgramId,
    sys::{
        Pid, SysError,
        child::Adopted,
        clock,
        notify_socket::{NotifySocket, Received, Sender},
        spawn::SpawnSpec,
        tree,
    },
};

/// So many datagrams of one program are read before anybody else has his turn.
const AT_ONCE: usize = 16;
/// So many a second are read; then it is not listened to until the second is over, and its own
/// calls wait, or fail.
const A_SECOND: u32 = 200;
const SECOND: Duration = Duration::from_secs(1);
/// Beside the number of a run, which is never so large: its descriptor, not its socket.
const PIPE: u64 = 1 << 63;

/// Where programs are heard.
#[derive(Default)]
pub(super) struct Notes {
    epoll: Option<Arc<Epoll>>,
    inboxes: BTreeMap<RunId, Inbox>,
    pipes: BTreeMap<RunId, Pipe>,
    /// Who is to be the main process of a run as soon as its present one is gone.
    heirs: BTreeMap<RunId, Pid>,
    /// Who has said too much, and when he is heard again.
    muted: BTreeSet<(Instant, RunId)>,
}

/// The socket of a run.
struct Inbox {
    program: ProgramId,
    socket: NotifySocket,
    /// As whom the program runs.
    uid: u32,
    count: Count,
    /// What was complained of: once a run.
    complaints: BTreeSet<Complaint>,
}

/// The descriptor of a run that becomes ready by a line.
struct Pipe {
    program: ProgramId,
    number: u32,
    reader: OwnedFd,
    count: Count,
}

/// How much was read since.
#[derive(Clone, Copy, Default)]
struct Count {
    since: Instant,
    number: u32,
}

impl Count {
    /// One more; whether that is too much.
    fn one(&mut self, now: Instant) -> bool {
        if now.since(self.since) >= SECOND {
            *self = Self { since: now, number: 0 };
        }
        self.number = self.number.saturating_add(1);
        self.number >= A_SECOND
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Complaint {
    Stranger,
    NoMessage,
    TooLong,
    TooMuch,
    Value,
    MainPid,
    Descriptors,
    Failed,
}

/// Whose a message is.
enum From {
    ThisRun,
    /// Of a process that is gone, and of the program's user: nobody else may write to its socket.
    Gone,
    Stranger,
}

impl Notes {
    /// When somebody is heard again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.muted.first().map(|(at, _)| *at)
    }

    /// Whether anybody may have said something.
    pub(super) fn are_awaited(&self) -> bool {
        !self.inboxes.is_empty() || !self.pipes.is_empty()
    }

    /// Nothing of this run is left, or it never was.
    pub(super) fn forget(&mut self, run: RunId) {
        self.inboxes.remove(&run);
        self.pipes.remove(&run);
        self.heirs.remove(&run);
        self.muted.retain(|(_, of)| *of != run);
    }

    /// Those that have said something.
    fn talkers(&self) -> Vec<u64> {
        let Some(epoll) = &self.epoll else { return Vec::new() };
        let mut events = [EpollEvent::empty(); 64];
        let ready = epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        events.iter().take(ready).map(EpollEvent::data).collect()
    }

    fn listen(&self, mark: u64, fd: impl AsFd) {
        if let Some(epoll) = &self.epoll {
            // Known already is as good.
            epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, mark)).ok();
        }
    }

    /// Not before a second is over.
    fn mute(&mut self, run: RunId, now: Instant) {
        let Some(epoll) = &self.epoll else { return };
        if let Some(inbox) = self.inboxes.get(&run) {
            epoll.delete(&inbox.socket).ok();
        }
        if let Some(pipe) = self.pipes.get(&run) {
            epoll.delete(&pipe.reader).ok();
        }
        self.muted.insert((now + SECOND, run));
    }

    /// Whoever was quiet for long enough is heard again.
    pub(super) fn unmute(&mut self, now: Instant) {
        while let Some((at, run)) = self.muted.first().copied().filter(|(at, _)| *at <= now) {
            self.muted.remove(&(at, run));
            if let Some(inbox) = self.inboxes.get(&run) {
                self.listen(run.0, &inbox.socket);
            }
            if let Some(pipe) = self.pipes.get(&run) {
                self.listen(run.0 | PIPE, &pipe.reader);
            }
        }
    }
}

impl Shell {
    /// Gives a program that is about to be started the means to say that it is ready and alive.
    pub(super) fn give_voice(
        &mut self,
        order: &Spawn,
        program: &Program,
        spec: &mut SpawnSpec,
    ) -> Result<(), SpawnFailure> {
        if program.notifies() {
            self.give_socket(order, program, spec).map_err(|why| no_voice(&why))?;
        }
        if let Some(ReadyBy::Fd(number)) = program.readiness.as_deref().map(|r| &r.by) {
            let (number, (reader, writer)) = (*number, children::pipe()?);
            spec.placed = Some((u16::try_from(number).unwrap_or(u16::MAX), writer));
            self.hear().map_err(|why| no_voice(&why))?;
            self.notes.listen(order.run.0 | PIPE, &reader);
            let pipe = Pipe { program: order.program, number, reader, count: Count::default() };
            self.notes.pipes.insert(order.run, pipe);
        }
        Ok(())
    }

    fn give_socket(
        &mut self,
        order: &Spawn,
        program: &Program,
        spec: &mut SpawnSpec,
    ) -> Result<(), SysError> {
        let (owner, uid) = match &program.execution.user {
            RunAs::Account(account) => (Some((account.uid, account.gid)), account.uid),
            RunAs::Supervisor { .. } => (None, nix::unistd::geteuid().as_raw()),
        };
        let (socket, address) = self.open_socket(order.run, program, owner)?;
        self.hear()?;
        self.notes.listen(order.run.0, &socket);
        let (count, complaints) = (Count::default(), BTreeSet::new());
        let inbox = Inbox { program: order.program, socket, uid, count, complaints };
        self.notes.inboxes.insert(order.run, inbox);
        let ours = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
        spec.env.retain(|(name, _)| !ours.iter().any(|ours| name == ours));
        spec.env.push(("NOTIFY_SOCKET".into(), address));
        if let Limit::After(time) = program.watchdog {
            spec.env.push(("WATCHDOG_USEC".into(), time.as_micros().to_string().into()));
            // Of a program that forks it would be the command's, which is not the one to say so.
            let forks = matches!(program.kind, ProgramType::Forking { .. });
            spec.own_pid = (!forks).then_some("WATCHDOG_PID");
        }
        Ok(())
    }

    /// In the runtime directory, where only the program's user may write to it; in the abstract
    /// namespace where there is no such directory or that user cannot get there.
    fn open_socket(
        &mut self,
        run: RunId,
        program: &Program,
        owner: Option<(u32, u32)>,
    ) -> Result<(NotifySocket, OsString), SysError> {
        if let Some(door) = &self.door
            && (owner.is_none() || is_open_to_all(&door.directory))
        {
            let path = door.directory.join(format!("{}.notify", program.name));
            match NotifySocket::at(&path, owner) {
                Ok(socket) => return Ok((socket, path.into())),
                Err(why) if why.is_transient() => return Err(why),
                Err(_) => {}
            }
        }
        let name = format!("supervisor/{}/{}", self.nursery.instance, run.0);
        let socket = NotifySocket::named(&name)?;
        Ok((socket, format!("@{name}").into()))
    }

    /// There is somebody to be heard.
    fn hear(&mut self) -> Result<(), SysError> {
        if self.notes.epoll.is_none() {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
            let epoll = Arc::new(epoll.map_err(|why| SysError::new("listen to programs", why))?);
            self.watcher.notes(&epoll);
            self.notes.epoll = Some(epoll);
        }
        Ok(())
    }

    /// Programs have said something.
    pub(super) fn notes_arrived(&mut self) {
        self.read_notes();
        if let Some(epoll) = &self.notes.epoll {
            self.watcher.notes(epoll);
        }
    }

    /// Reads what there is, of each program not too much.
    pub(super) fn read_notes(&mut self) {
        for mark in self.notes.talkers() {
            let run = RunId(mark & !PIPE);
            if self.unreported.contains_key(&run) {
                // It executes: that comes first.
                self.read_report(run);
            }
            if mark & PIPE == 0 {
                self.read_socket(run);
            } else {
                self.read_pipe(run);
            }
        }
    }

    fn read_socket(&mut self, run: RunId) {
        let mut buffer = [0_u8; NOTICE_MAX];
        for _ in 0..AT_ONCE {
            let Some(inbox) = self.notes.inboxes.get_mut(&run) else { return };
            let received = match inbox.socket.receive(&mut buffer) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => continue,
                Err(why) => {
                    self.complain(run, Complaint::Failed, || format!("cannot be heard: {why}"));
                    self.notes.mute(run, clock::monotonic());
                    return;
                }
            };
            let now = clock::monotonic();
            let too_much = inbox.count.one(now);
            let bytes = buffer.get(..received.length).unwrap_or_default();
            self.message(run, &received, bytes);
            if too_much {
                self.notes.mute(run, now);
                self.complain(run, Complaint::TooMuch, || {
                    format!("sends more than {A_SECOND} messages a second; the rest has to wait")
                });
                return;
            }
        }
    }

    /// One datagram. Its descriptors are closed right after this: for one that asks for that is the
    /// answer that all before it was dealt with.
    fn message(&mut self, run: RunId, received: &Received, bytes: &[u8]) {
        let from = self.whose(run, received.sender);
        if matches!(from, From::Stranger) {
            let sender = received.sender;
            self.complain(run, Complaint::Stranger, || stranger(sender));
            return;
        }
        if received.cut {
            self.complain(run, Complaint::TooLong, || {
                format!("a message of more than {NOTICE_MAX} bytes is dropped")
            });
            return;
        }
        let notice = match Notice::parse(bytes) {
            Ok(notice) => notice,
            Err(why) => {
                self.complain(run, Complaint::NoMessage, || format!("{} is dropped", why.as_str()));
                return;
            }
        };
        if notice.barrier {
            return;
        }
        if notice.keeps_descriptors || !received.descriptors.is_empty() {
            self.complain(run, Complaint::Descriptors, || {
                "sends descriptors (FDSTORE=1): they are not kept".to_owned()
            });
        }
        if let Some(name) = notice.wrong {
            self.complain(run, Complaint::Value, || {
                let text = escaped(&String::from_utf8_lossy(bytes), 100);
                format!("{name}= with a value that means nothing is left alone: {text}")
            });
        }
        if let Some(pid) = notice.main_pid {
            self.other_main(run, pid);
        }
        if !notice.is_empty() {
            self.tell(run, ChildEvent::Said(Arc::new(notice)));
        }
    }

    /// Whether a process of this run has sent it.
    fn whose(&mut self, run: RunId, sender: Option<Sender>) -> From {
        let key = children::key(run);
        let Some((pid, uid)) = sender.and_then(|s| Some((Pid::new(s.pid)?, s.uid))) else {
            return From::Stranger;
        };
        if self.children.pid_of(key) == Some(pid) {
            return From::ThisRun;
        }
        if let Some(of) = self.trees.run_of_process(&self.children, pid) {
            return if of == key { From::ThisRun } else { From::Stranger };
        }
        // There may be nobody any more whose forebears could be looked at (a zombie has lost what
        // it was marked with), or no /proc to look at.
        let gone = !self.trees.is_usable() || !tree::lives(pid);
        let own = self.notes.inboxes.get(&run).is_some_and(|inbox| inbox.uid == uid);
        if gone && own { From::Gone } else { From::Stranger }
    }

    fn tell(&mut self, run: RunId, what: ChildEvent) {
        let program = self.notes.inboxes.get(&run).map(|inbox| inbox.program);
        let program = program.or_else(|| self.notes.pipes.get(&run).map(|pipe| pipe.program));
        if let Some(program) = program {
            self.feed(Event::Child { program, run, what });
        }
    }

    /// Something about what a program sends, said once a run.
    fn complain(&mut self, run: RunId, of: Complaint, text: impl FnOnce() -> String) {
        let Some(inbox) = self.notes.inboxes.get_mut(&run) else { return };
        if !inbox.complaints.insert(of) {
            return;
        }
        let level = match of {
            Complaint::Descriptors => LogLevel::Debug,
            Complaint::Stranger
            | Complaint::NoMessage
            | Complaint::TooLong
            | Complaint::TooMuch
            | Complaint::Value
            | Complaint::MainPid
            | Complaint::Failed => LogLevel::Warn,
        };
        let name = self.names_of_runs.get(&run).map(ToString::to_string).unwrap_or_default();
        let text = format!("{name}: {} (said once)", text());
        self.note(level, text);
    }

    /// The program says which of its processes is the main one.
    fn other_main(&mut self, run: RunId, number: u32) {
        let key = children::key(run);
        let pid = i32::try_from(number).ok().and_then(Pid::new);
        if pid.is_some() && self.children.pid_of(key) == pid {
            self.notes.heirs.remove(&run);
            return;
        }
        if self.children.pid_of(key).is_none() {
            return; // its run is over
        }
        let mine = pid.filter(|pid| self.trees.run_of_process(&self.children, *pid) == Some(key));
        let Some(pid) = mine else {
            self.complain(run, Complaint::MainPid, || {
                format!("MAINPID={number} is refused: it is no process of this program")
            });
            return;
        };
        match self.children.adopt(key, pid) {
            Adopted::Yes => {
                self.notes.heirs.remove(&run);
                self.tell(run, ChildEvent::Main { pid: pid.number() });
            }
            // Its parent lives, so we would not see its end: when that is the present main process,
            // it is ours as soon as that has ended.
            Adopted::NotOurs => drop(self.notes.heirs.insert(run, pid)),
        }
    }

    /// The main process of this run has ended; whether the one that it has named before goes on as
    /// such.
    pub(super) fn has_heir(&mut self, run: RunId) -> bool {
        let Some(pid) = self.notes.heirs.remove(&run) else { return false };
        let key = children::key(run);
        let mine = self.trees.run_of_process(&self.children, pid) == Some(key);
        let adopted = mine && self.children.adopt(key, pid) == Adopted::Yes;
        if adopted {
            self.tell(run, ChildEvent::Main { pid: pid.number() });
        }
        adopted
    }

    /// Something was written to the descriptor by which it becomes ready, or it was closed.
    fn read_pipe(&mut self, run: RunId) {
        let mut buffer = [0_u8; 512];
        let Some(pipe) = self.notes.pipes.get_mut(&run) else { return };
        let now = clock::monotonic();
        match nix::unistd::read(&pipe.reader, &mut buffer) {
            Ok(0) => {
                let why = format!("descriptor {} was closed without a line", pipe.number);
                self.tell(run, ChildEvent::Unready(why.into()));
                self.notes.pipes.remove(&run);
            }
            Ok(read) if buffer.iter().take(read).any(|byte| *byte == b'\n') => {
                self.tell(run, ChildEvent::Ready);
                self.notes.pipes.remove(&run);
            }
            // The beginning of a line; and not for ever.
            Ok(_) if pipe.count.one(now) => self.notes.mute(run, now),
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(why) => {
                self.tell(run, ChildEvent::Unready(why.to_string().into()));
                self.notes.pipes.remove(&run);
            }
        }
    }
}

fn stranger(sender: Option<Sender>) -> String {
    let who = match sender {
        Some(Sender { pid, uid }) => {
            let name = Pid::new(pid).and_then(tree::name_of);
            let name = name.map(|name| format!("{name}, ")).unwrap_or_default();
            format!("{name}pid {pid}, uid {uid}")
        }
        None => "nobody knows whom".to_owned(),
    };
    format!("a message from a process that is not of this program is refused ({who})")
}

/// Whether everybody can get to what is in this directory.
fn is_open_to_all(directory: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    directory.ancestors().filter(|part| !part.as_os_str().is_empty()).all(|part| {
        std::fs::metadata(part).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0)
    })
}

fn no_voice(why: &SysError) -> SpawnFailure {
    let class = if why.is_transient() { FailureClass::Resources } else { FailureClass::Own };
    SpawnFailure { text: why.to_string().into(), class, code: 126 }
}
