//! What outlives a reboot: how often semaphores have asked for one. In the state directory, which
//! may be read-only, full, or on a disk that no longer answers: it is written and read by threads
//! that nobody waits for longer than a moment.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, bounded};

use super::{
    Shell,
    input::{self, Input},
    semaphores::Told,
};
use crate::{
    model::{LogLevel, Name, WallTime},
    sys::{clock, files},
};

/// Its name in the state directory.
const FILE: &str = "semaphores.json";
/// More is not read: it is not ours.
const MOST: u64 = 256 << 10;
/// How long a start waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// The times at which semaphores were served.
#[derive(Debug, Default)]
pub(super) struct Memory {
    times: BTreeMap<Name, Vec<WallTime>>,
    /// The write that is under way, if there is one.
    writing: Option<Receiver<()>>,
}

impl Memory {
    /// Something that is told once what was to be kept is on the disk, or cannot be.
    pub(super) fn written(&self) -> Option<Receiver<()>> {
        self.writing.clone()
    }
}

impl Shell {
    /// Reads what was kept, if the site has a use for it.
    pub(super) fn recall(&mut self) {
        if !self.engine.semaphores().any(|slot| slot.settings.outlives().is_some()) {
            return;
        }
        let path = self.memory_file();
        let (answer, answered) = bounded(1);
        let reading = path.clone();
        let started = thread::Builder::new().name("recall".into()).spawn(move || {
            answer.send(read(&reading)).ok();
        });
        let late = || Err(format!("no answer within {}s", PATIENCE.as_secs()));
        let read = match started {
            Ok(_) => answered.recv_timeout(PATIENCE).unwrap_or_else(|_| late()),
            Err(why) => Err(why.to_string()),
        };
        match read {
            Ok(times) => self.memory.times = times,
            Err(why) => {
                let text = format!(
                    "{}: {why}; how often a reboot was asked for before the start is not known",
                    path.display()
                );
                self.note(LogLevel::Warn, text);
            }
        }
        let now = (clock::monotonic(), clock::wall());
        for (name, times) in &self.memory.times {
            self.engine.recall(name, times, now);
        }
    }

    /// Keeps that a semaphore was served.
    pub(super) fn remember(&mut self, semaphore: &Name, at: WallTime, keep: usize) {
        let times = self.memory.times.entry(semaphore.clone()).or_default();
        times.push(at);
        let over = times.len().saturating_sub(keep);
        times.drain(..over);
        let (path, times) = (self.memory_file(), self.memory.times.clone());
        let before = self.memory.writing.take();
        let (done, is_done) = bounded(1);
        let queue = self.queue.clone();
        let started = thread::Builder::new().name("remember".into()).spawn(move || {
            // One after the other, so that the newer one stays.
            if let Some(before) = before {
                before.recv().ok();
            }
            if let Err(why) = write(&path, &times) {
                let text = format!("how often a reboot was asked for cannot be kept: {why}");
                input::send(&queue, Input::Semaphore(Told::Notice(LogLevel::Warn, text.into())));
            }
            done.send(()).ok();
        });
        match started {
            Ok(_) => self.memory.writing = Some(is_done),
            Err(why) => self.note(
                LogLevel::Warn,
                format!("semaphore:{semaphore}: what it did is not kept: {why}"),
            ),
        }
    }

    fn memory_file(&self) -> PathBuf {
        let supervisor = self.engine.supervisor();
        let given = supervisor.state_dir.clone();
        let default = || self.loader.options.state_directory(&supervisor.name);
        given.unwrap_or_else(default).join(FILE)
    }
}

/// Nothing is kept yet where there is no file.
fn read(path: &Path) -> Result<BTreeMap<Name, Vec<WallTime>>, String> {
    match files::read_own(path, MOST) {
        Ok(None) => Ok(BTreeMap::new()),
        Ok(Some(text)) => serde_json::from_slice(&text).map_err(|e| format!("not ours: {e}")),
        Err(error) => Err(error.to_string()),
    }
}

fn write(path: &Path, times: &BTreeMap<Name, Vec<WallTime>>) -> Result<(), String> {
    let text = serde_json::to_vec(times).map_err(|e| e.to_string())?;
    if let Some(directory) = path.parent() {
        let uid = nix::unistd::geteuid().as_raw();
        files::make_own_dir(directory, 0o755, uid).map_err(|e| e.to_string())?;
    }
    files::replace_file(path, &text, 0o600).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_what_is_not_ours_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/semaphores.json");
        assert_eq!(read(&path), Ok(BTreeMap::new()));
        let times =
            BTreeMap::from([(Name::new("reboot").unwrap(), vec![WallTime(5), WallTime(9)])]);
        write(&path, &times).unwrap();
        assert_eq!(read(&path), Ok(times));
        std::fs::write(&path, "{").unwrap();
        assert!(read(&path).unwrap_err().contains("not ours"));
    }
}
