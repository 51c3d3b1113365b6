//! The loop of the thread: which semaphores there are, and when to look at them.

use std::{collections::BTreeMap, os::fd::AsFd as _, path::Path, sync::Arc};

use crossbeam_channel::Receiver;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll, ppoll},
    sys::{eventfd::EventFd, time::TimeSpec},
};

use super::{
    Command, Told,
    directories::{self, Directories, News, What},
    one::One,
};
use crate::{
    model::{Human, Instant, Name, SemaphoreKind},
    sys::{clock, locks},
};

pub(super) struct Watcher {
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
    deliver: Box<dyn Fn(Told) + Send>,
    all: BTreeMap<Name, One>,
    directories: Directories,
    /// Why we had to say that the kernel does not tell; not said again until that has passed.
    blind: Option<Errno>,
}

impl Watcher {
    pub(super) fn new(
        commands: Receiver<Command>,
        wake: Arc<EventFd>,
        deliver: Box<dyn Fn(Told) + Send>,
    ) -> Self {
        Self {
            commands,
            wake,
            deliver,
            all: BTreeMap::new(),
            directories: Directories::default(),
            blind: None,
        }
    }

    /// Until the last handle is gone.
    pub(super) fn run(&mut self) {
        loop {
            // Read before the orders, so that one that comes now wakes us again.
            self.wake.read().unwrap_or_default();
            while let Ok(command) = self.commands.try_recv() {
                let now = clock::monotonic();
                match command {
                    Command::Watch(name, what, id) => {
                        self.all.insert(name, One::new(*what, id, now));
                        self.tidy();
                    }
                    Command::Forget(name) => {
                        self.all.remove(&name);
                        self.tidy();
                    }
                    Command::Look(name) => {
                        if let Some(one) = self.all.get_mut(&name) {
                            one.asked = true;
                            one.hurry(now);
                        }
                    }
                    Command::End => return,
                }
            }
            self.look();
            if self.directories.has_grown() {
                self.tidy();
            }
            self.settle();
            self.sleep();
        }
    }

    /// Looks at all that is due, and delivers what has changed.
    fn look(&mut self) {
        let Self { all, directories, deliver, blind, .. } = self;
        let mut failed = None;
        for (name, one) in all.iter_mut() {
            let now = clock::monotonic();
            if one.due.is_none_or(|due| due > now) {
                continue;
            }
            let mut paths = std::iter::once(&one.watched.path).chain(&one.watched.info_file);
            let errno = paths.find_map(|path| directories.watch(path).err());
            one.unwatched = errno.is_some();
            if let Some(errno) = errno.filter(|_| blind.is_none()) {
                *blind = Some(errno);
                let every = Human(one.watched.poll_interval);
                let text = format!(
                    "cannot watch the directory of {}: {errno}; looking at it every {every}",
                    one.watched.path.display()
                );
                deliver(Told::Notice(text.into()));
            }
            failed = failed.or(errno);
            // After the watching, so that nothing comes between.
            let quiet = || {
                let [inotify, _] = directories.fds();
                inotify.is_none_or(|fd| {
                    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
                    poll(&mut fds, PollTimeout::ZERO) == Ok(0)
                })
            };
            if let Some(reading) = one.look(now, &quiet) {
                deliver(Told::Seen((name.clone(), reading), one.id));
            }
        }
        if failed.is_none() && !all.values().any(|one| one.unwatched) {
            *blind = None;
        }
    }

    /// Where only time tells more: stops looking when nobody has the file open.
    fn settle(&mut self) {
        let wonders: Vec<_> =
            self.all.values_mut().filter_map(|one| Some((one.wonders()?, one))).collect();
        if wonders.is_empty() {
            return;
        }
        let names = wonders.iter().map(|(_, one)| directories::name(&one.watched.path)).collect();
        // One walk for all of them.
        let opened = locks::opened(&names);
        for (file, one) in wonders {
            one.is_open(opened.as_ref().map(|opened| opened.contains(&file)));
        }
    }

    /// Closes what nobody needs any more.
    fn tidy(&mut self) {
        let all = self.all.values();
        let paths = all.flat_map(|o| std::iter::once(&o.watched.path).chain(&o.watched.info_file));
        self.directories.keep(paths.map(std::path::PathBuf::as_path));
    }

    /// Sleeps until an order, news of the kernel, or the next look.
    fn sleep(&mut self) {
        let now = clock::monotonic();
        let next = self.all.values().filter_map(|one| one.due).min();
        let timeout = next.map(|at| TimeSpec::from(at.since(now)));
        let mut fds = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        let [inotify, mounts] = self.directories.fds();
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
            for news in self.directories.read() {
                self.take(&news, now);
            }
        }
        if remounted {
            self.directories.remounted();
            self.take(&News::Everything, now);
        }
    }

    fn take(&mut self, news: &News, now: Instant) {
        for one in self.all.values_mut() {
            let News::Of(path, what) = news else {
                one.hurry(now);
                continue;
            };
            let watched = &one.watched;
            if watched.path == *path {
                match what {
                    What::Opened if watched.kind == SemaphoreKind::Flock => one.was_opened(now),
                    What::Closed(_) if watched.kind == SemaphoreKind::Flock => one.was_closed(now),
                    What::Opened | What::Closed(_) => {}
                    What::Changed => one.hurry(now),
                }
            } else if watched.info_file.as_ref() == Some(path) {
                // We read it ourselves, and are told of that, too.
                if matches!(what, What::Closed(true) | What::Changed) {
                    one.hurry(now);
                }
            } else if *what == What::Changed && is_above(path, one) {
                one.hurry(now);
            }
        }
    }
}

/// Whether this is a directory on the way to the semaphore or its info file.
fn is_above(path: &Path, one: &One) -> bool {
    let info = one.watched.info_file.as_ref();
    one.watched.path.starts_with(path) || info.is_some_and(|info| info.starts_with(path))
}
