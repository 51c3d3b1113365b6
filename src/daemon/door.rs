//! The path of the control socket: made, watched, and made again when somebody removes it.

use crate::{
    daemon::Shell,
    model::{Control, LogLevel},
    sys::socket::{self, BoundPath, Whose},
};

/// Where clients come in.
pub(super) struct Door {
    /// Removes the socket at the end.
    pub(super) bound: BoundPath,
    /// The mode, owner and group it was made with.
    pub(super) settings: (u32, (Option<u32>, Option<u32>)),
}

/// What a socket is made with.
pub(super) fn settings(control: &Control) -> (u32, (Option<u32>, Option<u32>)) {
    (control.mode.0, (control.owner, control.group))
}

impl Shell {
    /// Somebody did something to the socket: without it nobody could ask or stop us, but by a
    /// signal. What another has put in its place is left alone.
    pub(super) fn look_at_door(&mut self) {
        let Some((door, control)) = self.door.as_ref().zip(self.control.clone()) else { return };
        let path = door.bound.path().to_owned();
        let shown = path.display();
        let (mode, owner) = door.settings;
        match door.bound.whose() {
            Whose::Ours { mode: now } if now == mode => control.watch(path),
            Whose::Ours { mode: now } => {
                let text = format!("somebody has changed the mode of {shown} to {now:04o}");
                control.watch(path.clone());
                self.note(LogLevel::Warn, text);
            }
            Whose::Others => {
                let text = format!(
                    "somebody has replaced {shown}, so there is no control socket; \
                     remove it and send SIGHUP to have it again"
                );
                self.note(LogLevel::Warn, text);
            }
            Whose::Nobodys => match socket::listen_on(&path, mode, owner) {
                Ok((listener, bound)) => {
                    let text = format!("somebody has removed {shown}; it was made again");
                    control.listen(listener, path.clone());
                    self.door = Some(Door { bound, settings: (mode, owner) });
                    self.note(LogLevel::Warn, text);
                }
                Err(why) => {
                    let text =
                        format!("somebody has removed {shown}: {why}; the next try is at SIGHUP");
                    self.note(LogLevel::Warn, text);
                }
            },
        }
    }
}
