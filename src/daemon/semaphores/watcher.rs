//! The loop of the thread: which semaphores there are, and when to look at them.

use std::{collections::BTreeMap, os::fd::AsFd as _};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll, ppoll},
    sys::time::TimeSpec,
};

use super::{Command, Told, one::One};
use crate::{
    daemon::{
        ground::{Ground, Happened},
        way::Orders,
    },
    model::{Human, Instant, LogLevel, Name},
    sys::{clock, locks},
};

pub(super) struct Watcher {
    orders: Orders<Command>,
    deliver: Box<dyn Fn(Told) + Send>,
    all: BTreeMap<Name, One>,
    ground: Ground,
    /// Directories may be watched that nobody needs.
    untidy: bool,
    /// Why we had to say that the kernel does not tell; not said again until that has passed.
    blind: Option<Errno>,
    /// It was said that a lock may be tried.
    tries: bool,
}

impl Watcher {
    pub(super) fn new(orders: Orders<Command>, deliver: Box<dyn Fn(Told) + Send>) -> Self {
        Self {
            orders,
            deliver,
            all: BTreeMap::new(),
            ground: Ground::default(),
            untidy: false,
            blind: None,
            tries: false,
        }
    }

    /// Until the last handle is gone.
    pub(super) fn run(&mut self) {
        while let Some(commands) = self.orders.take() {
            for command in commands {
                self.obey(command);
            }
            self.look();
            if std::mem::take(&mut self.untidy) {
                self.ground.keep(self.all.values().flat_map(One::places));
            }
            self.settle();
            self.sleep();
        }
    }

    fn obey(&mut self, command: Command) {
        let now = clock::monotonic();
        match command {
            Command::Watch(name, what, id) => {
                self.all.insert(name, One::new(*what, id, now));
                self.untidy = true;
            }
            Command::Forget(name) => {
                self.all.remove(&name);
                self.untidy = true;
            }
            Command::Look(name) => {
                if let Some(one) = self.all.get_mut(&name) {
                    one.asked = true;
                    one.hurry(now);
                }
            }
        }
    }

    /// Looks at all that is due, and delivers what has changed.
    fn look(&mut self) {
        let Self { all, ground, deliver, untidy, blind, tries, .. } = self;
        for (name, one) in all.iter_mut() {
            let now = clock::monotonic();
            if one.due.is_none_or(|due| due > now) {
                continue;
            }
            let begun = clock::of_this_thread();
            match one.watch(ground) {
                Ok(fresh) => *untidy |= fresh,
                Err(errno) if blind.is_none() => {
                    *blind = Some(errno);
                    deliver(Told::Notice(LogLevel::Warn, is_blind(one, errno).into()));
                }
                Err(_) => {}
            }
            // After the watching, so that nothing comes between.
            let quiet = || {
                let [inotify, _] = ground.fds();
                inotify.is_none_or(|fd| {
                    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
                    poll(&mut fds, PollTimeout::ZERO) == Ok(0)
                })
            };
            if let Some(reading) = one.look(now, &quiet) {
                deliver(Told::Seen((name.clone(), reading), one.id));
            }
            if !*tries && one.may_be_tried() {
                *tries = true;
                deliver(Told::Notice(LogLevel::Info, is_tried(one).into()));
            }
            one.rest(now, clock::of_this_thread().saturating_sub(begun));
        }
        if blind.is_some() && !all.values().any(|one| one.unwatched) {
            *blind = None;
            let text = "the directories of all semaphores are watched again".into();
            deliver(Told::Notice(LogLevel::Info, text));
        }
    }

    /// Where only time tells more: stops looking when nobody has the file open.
    fn settle(&mut self) {
        let wonders: Vec<_> =
            self.all.values_mut().filter_map(|one| Some((one.wonders()?, one))).collect();
        if wonders.is_empty() {
            return;
        }
        let names = wonders.iter().map(|(_, one)| one.name().to_owned()).collect();
        // One walk for all of them.
        let opened = locks::opened(&names);
        for (file, one) in wonders {
            one.is_open(opened.as_ref().map(|opened| opened.contains(&file)));
        }
    }

    /// Sleeps until an order, news of the kernel, or the next look.
    fn sleep(&mut self) {
        let now = clock::monotonic();
        let next = self.all.values().filter_map(|one| one.due).min();
        let timeout = next.map(|at| TimeSpec::from(at.since(now)));
        let mut fds = vec![PollFd::new(self.orders.wake().as_fd(), PollFlags::POLLIN)];
        let [inotify, mounts] = self.ground.fds();
        let has_inotify = inotify.is_some();
        fds.extend(inotify.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(mounts.map(|fd| PollFd::new(fd, PollFlags::POLLPRI)));
        // EINTR, ENOMEM: whatever is ready still is at the next turn.
        ppoll(&mut fds, timeout, None).unwrap_or_default();
        let ready: Vec<bool> = fds.iter().skip(1).map(|fd| fd.any().unwrap_or(true)).collect();
        drop(fds);
        let mut ready = ready.into_iter();
        let told = has_inotify && ready.next().unwrap_or(false);
        let remounted = ready.next().unwrap_or(false);
        let now = clock::monotonic();
        if told {
            for happened in self.ground.read() {
                self.take(&happened, now);
            }
        }
        if remounted {
            self.take(&Happened::Anything, now);
        }
    }

    fn take(&mut self, happened: &Happened, now: Instant) {
        for one in self.all.values_mut() {
            match happened {
                Happened::At(place, what) => one.happened(place, *what, now),
                Happened::Anything => one.hurry(now),
            }
        }
    }
}

/// What is said when the kernel does not tell.
fn is_blind(one: &One, errno: Errno) -> String {
    let path = one.watched.path.display();
    let hint = if errno == Errno::ENOSPC {
        " (hint: fs.inotify.max_user_watches is reached)"
    } else if errno == Errno::EMFILE {
        " (hint: fs.inotify.max_user_instances or the limit of files is reached)"
    } else {
        ""
    };
    let why = errno.desc();
    let every = Human(one.watched.poll_interval);
    format!("cannot watch the directories of {path}: {why}{hint}; looking at it every {every}")
}

/// What is said when a lock is tried without having been told to.
fn is_tried(one: &One) -> String {
    let path = one.watched.path.display();
    format!(
        "/proc/locks may hide here who holds {path}: where it shows nobody, the lock is tried \
         (hint: `probe: try-lock` if that is meant, else `probe: proc-locks`)"
    )
}
