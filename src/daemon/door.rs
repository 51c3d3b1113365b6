//! The control socket's path and the lock beside it: watched, and made again when somebody removes
//! them.

use std::path::{Path, PathBuf};

use crate::{
    daemon::Shell,
    model::{Control, LogLevel},
    sys::{
        SysError, files,
        lockfile::{InstanceLock, LockError},
        socket::{self, BoundPath, Whose},
    },
};

/// The name of the lock in the runtime directory.
pub(super) const LOCK: &str = "supervisor.lock";
/// The mode of the runtime directory.
const DIRECTORY_MODE: u32 = 0o755;

/// Where clients come in.
pub(super) struct Door {
    /// Removes the socket at the end.
    pub(super) bound: BoundPath,
    /// What the socket is made with.
    pub(super) settings: Settings,
    /// The runtime directory.
    pub(super) directory: PathBuf,
}

/// The mode of a socket, its owner and its group.
pub(super) type Settings = (u32, (Option<u32>, Option<u32>));

/// What a socket is made with.
pub(super) fn settings(control: &Control) -> Settings {
    (control.mode.0, (control.owner, control.group))
}

/// The runtime directory, if it can be ours.
///
/// # Errors
/// It is another's or cannot be made.
pub(super) fn make_directory(directory: &Path) -> Result<(), SysError> {
    files::make_own_dir(directory, DIRECTORY_MODE, nix::unistd::geteuid().as_raw())
}

impl Shell {
    /// Somebody did something to the socket: without it nobody could ask or stop us, but by a
    /// signal. What another has put in its place is left alone.
    pub(super) fn look_at_door(&mut self) {
        let Some((door, control)) = self.door.as_ref().zip(self.control.as_ref()) else { return };
        let path = door.bound.path().to_owned();
        let shown = path.display();
        let text = match door.bound.whose() {
            Whose::Ours { mode } => {
                control.watch(path.clone());
                if mode == door.settings.0 {
                    return;
                }
                format!("somebody has changed the mode of {shown} to {mode:04o}")
            }
            Whose::Others => format!(
                "somebody has replaced {shown}, so there is no control socket; remove it and send \
                 SIGHUP to have it again"
            ),
            Whose::Nobodys => match self.make_door_again(&path) {
                Ok(()) => format!("somebody has removed {shown}; it was made again"),
                Err(why) => {
                    format!("somebody has removed {shown}: {why}; the next try is at SIGHUP")
                }
            },
        };
        self.note(LogLevel::Warn, text);
    }

    fn make_door_again(&mut self, path: &Path) -> Result<(), String> {
        let Some((door, control)) = self.door.as_mut().zip(self.control.as_ref()) else {
            return Ok(());
        };
        let lock = door.directory.join(LOCK);
        if std::fs::symlink_metadata(&lock).is_err() {
            // The whole directory is gone; what we hold is a lock on nothing.
            make_directory(&door.directory).map_err(|why| why.to_string())?;
            let mark = Some(self.nursery.instance.as_str());
            self.lock = Some(InstanceLock::take(&lock, mark).map_err(|why| match why {
                LockError::Held(_) => "another supervisor of the site has its lock".to_owned(),
                LockError::Unusable(why) => why.to_string(),
            })?);
        }
        let (mode, owner) = door.settings;
        let (listener, bound) =
            socket::listen_on(path, mode, owner).map_err(|why| why.to_string())?;
        control.listen(listener, path.to_owned());
        door.bound = bound;
        Ok(())
    }
}
