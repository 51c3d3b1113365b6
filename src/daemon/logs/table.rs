//! Sinks by what they write to, shared by all streams that go there.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use super::{
    Options,
    console::Console,
    datagram::{Datagrams, Service},
    file::LogFile,
    format::Form,
    path::Ownership,
    queue::{long, short},
    sink::{Backend, Sink},
};
use crate::model::{LogTarget, Logging, Rotate};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Stdout,
    Stderr,
    File(PathBuf),
    Service(Service),
    Null,
}

/// All sinks. Those of descriptors and services stay, those of files go with their last stream.
pub(super) struct Sinks {
    list: Vec<Option<Box<Sink>>>,
    keys: BTreeMap<Key, u32>,
    free: Vec<u32>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    make_below: Option<PathBuf>,
    journal: PathBuf,
    syslog: PathBuf,
}

impl Key {
    /// Where a stream with this target goes, and in which form.
    pub(super) fn of(target: &LogTarget) -> (Self, Form) {
        match target {
            LogTarget::Console => (Self::Stdout, Form::Named),
            LogTarget::Journal => {
                (Self::Service(Service::Journal), Form::Message(Service::Journal))
            }
            LogTarget::Syslog => (Self::Service(Service::Syslog), Form::Message(Service::Syslog)),
            LogTarget::Inherit | LogTarget::Null | LogTarget::Stdout => (Self::Null, Form::Plain),
            // Opening these anew fails for sockets and for other users; we have them open.
            LogTarget::File(path) => match path.to_str() {
                Some("/dev/stdout" | "/proc/self/fd/1" | "/dev/fd/1") => {
                    (Self::Stdout, Form::Plain)
                }
                Some("/dev/stderr" | "/proc/self/fd/2" | "/dev/fd/2") => {
                    (Self::Stderr, Form::Plain)
                }
                Some("/dev/null") => (Self::Null, Form::Plain),
                _ => (Self::File(path.clone()), Form::Plain),
            },
        }
    }
}

/// Owner and mode of the files of `logging`.
pub(super) fn ownership(logging: &Logging) -> Ownership {
    Ownership { owner: logging.owner, group: logging.group, mode: logging.mode.0 }
}

impl Sinks {
    pub(super) fn new(options: &mut Options) -> Self {
        Self {
            list: Vec::new(),
            keys: BTreeMap::new(),
            free: Vec::new(),
            stdout: options.stdout.take(),
            stderr: options.stderr.take(),
            make_below: options.make_below.clone(),
            journal: options.journal.clone(),
            syslog: options.syslog.clone(),
        }
    }

    pub(super) fn at(&mut self, id: u32) -> Option<&mut Sink> {
        self.list.get_mut(long(id)).and_then(Option::as_deref_mut)
    }

    pub(super) fn ids(&self) -> Vec<u32> {
        self.keys.values().copied().collect()
    }

    /// The sink for `key`, with one user more.
    pub(super) fn join(&mut self, key: &Key, rotate: &Rotate, ownership: Ownership) -> u32 {
        if let Some(id) = self.keys.get(key).copied() {
            if let Some(sink) = self.at(id) {
                sink.users += 1;
                sink.reconfigure(rotate.clone(), ownership);
            }
            return id;
        }
        let (label, backend) = self.make(key, rotate, ownership);
        let mut sink = Box::new(Sink::new(&label, backend));
        sink.users = 1;
        let id = self.free.pop().unwrap_or_else(|| {
            self.list.push(None);
            short(self.list.len() - 1)
        });
        if let Some(place) = self.list.get_mut(long(id)) {
            *place = Some(sink);
        }
        self.keys.insert(key.clone(), id);
        id
    }

    fn make(&mut self, key: &Key, rotate: &Rotate, own: Ownership) -> (String, Backend) {
        let console =
            |fd: Option<OwnedFd>| fd.map_or(Backend::Null, |fd| Backend::Console(Console::new(fd)));
        match key {
            Key::Stdout => ("standard output".into(), console(self.stdout.take())),
            Key::Stderr => ("standard error".into(), console(self.stderr.take())),
            Key::File(path) => {
                let file = LogFile::new(path, self.make_below.clone(), rotate.clone(), own);
                (path.display().to_string(), Backend::File(file))
            }
            Key::Service(service) => {
                let path: &Path = match service {
                    Service::Journal => &self.journal,
                    Service::Syslog => &self.syslog,
                };
                let datagrams = Datagrams::new(*service, path.to_owned());
                (path.display().to_string(), Backend::Datagrams(datagrams))
            }
            Key::Null => ("nowhere".into(), Backend::Null),
        }
    }

    /// One user less; a file that nobody uses and that owes nothing is closed.
    pub(super) fn leave(&mut self, id: u32) {
        let Some(sink) = self.at(id) else { return };
        sink.users = sink.users.saturating_sub(1);
        self.forget_unused(id);
    }

    /// Forgets a file that nobody uses and that owes nothing.
    pub(super) fn forget_unused(&mut self, id: u32) {
        let Some(sink) = self.at(id) else { return };
        if sink.users > 0 || !sink.owes_nothing() {
            return;
        }
        if let Backend::File(file) = &sink.backend {
            let key = Key::File(file.path().to_owned());
            self.keys.remove(&key);
            if let Some(place) = self.list.get_mut(long(id)) {
                *place = None;
            }
            self.free.push(id);
        }
    }
}
