//! What the engine wants done about semaphores: looked at, and their files removed once a request
//! is accepted.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Shell,
    input::{self, Input},
    semaphores::{self, SemaphoreHandle, Told, WatchId},
};
use crate::{
    engine::Event,
    model::{FileId, LogLevel, Name, Watched},
    sys::foreign_file,
};

/// The thread that looks, and by which watch at what: a reading of an earlier one, perhaps of
/// another file, may be on its way.
pub(super) struct Eyes {
    thread: SemaphoreHandle,
    present: BTreeMap<Name, WatchId>,
}

impl Shell {
    /// Has a semaphore looked at; the thread that does is started with the first.
    pub(super) fn watch_semaphore(&mut self, name: Name, watched: &Arc<Watched>) {
        if self.semaphores.is_none() {
            let queue = self.queue.clone();
            let started = semaphores::start(move |told| {
                input::send(&queue, Input::Semaphore(told));
            });
            match started {
                Ok(thread) => {
                    self.semaphores = Some(Eyes { thread, present: BTreeMap::new() });
                }
                Err(why) => {
                    let text = format!("semaphore:{name}: nobody looks at it: {why}");
                    self.note(LogLevel::Error, text);
                }
            }
        }
        let settings = self.engine.semaphores().find(|slot| slot.settings.name == name);
        if let Some(settings) = settings.map(|slot| Arc::clone(&slot.settings)) {
            self.look_at_methods(&settings);
        }
        if let Some(eyes) = &mut self.semaphores {
            let id = eyes.thread.watch(name.clone(), (**watched).clone());
            eyes.present.insert(name, id);
        }
    }

    /// It is no longer in the site.
    pub(super) fn unwatch_semaphore(&mut self, name: Name) {
        if let Some(eyes) = &mut self.semaphores {
            eyes.present.remove(&name);
            eyes.thread.forget(name);
        }
    }

    /// From the thread that looks.
    pub(super) fn told_of_semaphores(&mut self, told: Told) {
        match told {
            Told::Seen(seen, id) => {
                let present = self.semaphores.as_ref().and_then(|eyes| eyes.present.get(&seen.0));
                if present == Some(&id) {
                    self.feed(Event::Seen(seen));
                }
            }
            Told::Notice(level, text) => self.note(level, text),
        }
    }

    /// Removes the files of a request, if they are still the same. What cannot be removed is no
    /// request again: the engine knows it.
    pub(super) fn acknowledge(
        &mut self,
        watched: &Watched,
        (file, info): (Option<FileId>, Option<FileId>),
    ) {
        let info_file = watched.info_file.as_deref().zip(info);
        for (path, id) in file.map(|id| (&*watched.path, id)).into_iter().chain(info_file) {
            if let Err(why) = foreign_file::remove(path, id) {
                let text =
                    format!("cannot remove {}: {why}; it is not served twice", path.display());
                self.note(LogLevel::Warn, text);
            }
        }
    }
}
