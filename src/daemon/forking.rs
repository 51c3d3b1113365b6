//! Finds the daemon that the command of a program of `type: forking` has left behind.
//!
//! We are the reaper of our descendants, so it becomes our child when those between have ended, and
//! its real exit is seen. Its PID file says which of them it is, and is believed only when it names
//! a process of that very run.

use std::{os::fd::AsFd, path::PathBuf, sync::Arc};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Shell;
use crate::{
    engine::{ChildEvent, Event, RunId, Slot},
    model::{LogLevel, ProgramType, RunAs},
    plan::ProgramId,
    sys::{Pid, child::Adopted, pidfile},
};

/// A run whose daemon is looked for, or was found.
pub(super) struct Sought {
    program: ProgramId,
    path: PathBuf,
    /// Whose the file may be.
    uid: u32,
    /// Tells of changes in its directory; none when there is no such thing to be had.
    changes: Option<Inotify>,
    /// That directory was there when it was looked at.
    at_directory: bool,
    /// What was said last.
    said: Option<Arc<str>>,
    found: Option<Pid>,
}

impl Shell {
    /// The command has ended well: its daemon is looked for, now and whenever something changes.
    pub(super) fn find_main(&mut self, id: ProgramId, run: RunId) {
        let Some(program) = self.engine.program(id) else { return };
        let ProgramType::Forking { pid_file } = &program.kind else { return };
        let uid = match &program.execution.user {
            RunAs::Account(account) => account.uid,
            RunAs::Supervisor { .. } => nix::unistd::geteuid().as_raw(),
        };
        let changes = watch(pid_file).inspect_err(|why| {
            let text = format!(
                "{}: cannot watch the directory of {}: {why}; it is looked at when a process ends",
                program.name,
                pid_file.display()
            );
            self.note(LogLevel::Warn, text);
        });
        let changes = changes.ok();
        if let Some(changes) = &changes {
            self.watcher.pid_file(run, changes.as_fd());
        }
        let (path, said, found) = (pid_file.clone(), None, None);
        let at_directory = path.parent().is_some_and(std::path::Path::is_dir);
        let sought = Sought { program: id, path, uid, changes, at_directory, said, found };
        self.sought.insert(run, sought);
        self.look_for_main(run);
    }

    /// Something happened beside its PID file.
    pub(super) fn pid_file_changed(&mut self, run: RunId) {
        let Some(sought) = self.sought.get(&run).filter(|sought| sought.found.is_none()) else {
            return;
        };
        let Some(changes) = &sought.changes else { return };
        // All of it, so that it does not wake us again; what it says is looked up.
        while changes.read_events().is_ok_and(|events| !events.is_empty()) {}
        self.watcher.pid_file(run, changes.as_fd());
        // Its directory may have been made just now.
        if let Some(sought) = self.sought.get_mut(&run)
            && !sought.at_directory
            && let Ok(changes) = watch(&sought.path)
        {
            self.watcher.pid_file(run, changes.as_fd());
            sought.at_directory = sought.path.parent().is_some_and(std::path::Path::is_dir);
            sought.changes = Some(changes);
        }
        self.look_for_main(run);
        self.drain_results();
    }

    /// Processes have ended: who was between us and a daemon may be gone.
    pub(super) fn look_for_mains(&mut self) {
        let open = self.sought.iter().filter(|(_, sought)| sought.found.is_none());
        for run in open.map(|(run, _)| *run).collect::<Vec<_>>() {
            self.look_for_main(run);
        }
        self.drain_results();
    }

    fn look_for_main(&mut self, run: RunId) {
        let Some(sought) = self.sought.get(&run) else { return };
        let slot = self.engine.slot(sought.program);
        if !slot.is_some_and(|slot| Slot::is_looked_for(slot, run)) {
            // It is being stopped, or its time is over.
            self.sought.remove(&run);
            return;
        }
        let (program, found) = (sought.program, self.main_of(run));
        let Some(sought) = self.sought.get_mut(&run) else { return };
        let what = match found {
            Ok(pid) => {
                sought.found = Some(pid);
                sought.changes = None;
                // Its end is that of the run: until then the tree is not looked at.
                self.dying.remove(&run);
                ChildEvent::Main { pid: pid.number() }
            }
            Err(why) => {
                let why: Arc<str> = why.into();
                if sought.said.as_ref() == Some(&why) {
                    return;
                }
                sought.said = Some(Arc::clone(&why));
                ChildEvent::NoMain(why)
            }
        };
        self.results.push_back(Event::Child { program, run, what });
    }

    /// The daemon of `run`, which is our child from now on.
    fn main_of(&mut self, run: RunId) -> Result<Pid, String> {
        let Some(sought) = self.sought.get(&run) else { return Err("it is not sought".into()) };
        let pid = pidfile::read(&sought.path, sought.uid)?;
        let path = sought.path.display();
        let key = super::children::key(run);
        let named = || format!("{path} names pid {pid}");
        if self.trees.run_of_process(&self.children, pid) != Some(key) {
            return Err(format!("{}, which is no process of this start", named()));
        }
        match self.children.adopt(key, pid) {
            Adopted::Yes => Ok(pid),
            Adopted::NotOurs => {
                Err(format!("{}, whose parent still runs, so its end would not be seen", named()))
            }
        }
    }

    /// Nothing of `run` is left: nor is its PID file, if it still names its daemon.
    pub(super) fn forget_main(&mut self, run: RunId) {
        let Some(sought) = self.sought.remove(&run) else { return };
        if let Some(pid) = sought.found {
            pidfile::remove(&sought.path, sought.uid, pid);
        }
    }
}

fn watch(path: &std::path::Path) -> nix::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let events = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_ATTRIB;
    // One that is yet to be made is told of by what it will be in.
    let mut result = Err(nix::errno::Errno::ENOENT);
    for directory in path.ancestors().skip(1) {
        result = inotify.add_watch(directory, events);
        if result != Err(nix::errno::Errno::ENOENT) {
            break;
        }
    }
    result.map(|_| inotify)
}
