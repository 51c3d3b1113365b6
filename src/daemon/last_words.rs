//! Why the container has ended, where Kubernetes looks for it: `/dev/termination-log`.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use nix::fcntl::OFlag;

use super::Shell;
use crate::{control::LogLine, model::LogLevel};

/// Bind-mounted by the kubelet, when it is wanted.
const FILE: &str = "/dev/termination-log";
/// The kubelet reads no more.
const MOST: usize = 4096;

impl Shell {
    /// Writes the exit code and the latest troubles, unless a program has written its own reason.
    pub(super) fn leave_last_words(&self, code: u8) {
        let troubles = self.journal.events_from(LogLevel::Warn);
        write(Path::new(FILE), &text(code, &troubles));
    }
}

/// The same for a supervisor that did not come up: the exit code and what it says about it.
pub(super) fn of_refusal(code: u8, why: &str) {
    let text = format!("supervisor: exit {code}\n{}\n", why.trim_end());
    let end = text.char_indices().map(|(at, one)| at.saturating_add(one.len_utf8()));
    let end = end.take_while(|end| *end <= MOST).last().unwrap_or(0);
    write(Path::new(FILE), text.get(..end).unwrap_or_default());
}

/// The exit code, then the latest lines that there is room for, oldest first.
fn text(code: u8, troubles: &[LogLine]) -> String {
    let head = format!("supervisor: exit {code}\n");
    let mut lines = Vec::new();
    let mut room = MOST.saturating_sub(head.len());
    for line in troubles.iter().rev() {
        let line = format!("{} {}: {}\n", line.at.rfc3339(), line.name, line.text);
        let Some(left) = room.checked_sub(line.len()) else { break };
        room = left;
        lines.push(line);
    }
    lines.reverse();
    head + &lines.concat()
}

/// Only into an empty regular file that is there already: what else may stand there is not ours.
fn write(path: &Path, text: &str) {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = OpenOptions::new().write(true).custom_flags(flags.bits()).open(path);
    let Ok(mut file) = opened else { return };
    if file.metadata().is_ok_and(|meta| meta.is_file() && meta.size() == 0) {
        // A full disk there is nobody's concern here.
        file.write_all(text.as_bytes()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::WallTime;

    fn line(n: usize) -> LogLine {
        LogLine {
            at: WallTime(0),
            name: "web".into(),
            source: "program.fatal".into(),
            text: format!("{n} {}", "x".repeat(100)),
        }
    }

    #[test]
    fn the_latest_troubles_that_fit_are_told() {
        assert_eq!(text(3, &[]), "supervisor: exit 3\n");
        let all: Vec<LogLine> = (0..100).map(line).collect();
        let told = text(70, &all);
        assert!(told.len() <= MOST && told.len() > MOST - 200, "{}", told.len());
        assert!(told.starts_with("supervisor: exit 70\n") && told.contains(": 99 x"));
    }

    #[test]
    fn what_a_program_has_written_stays_and_nothing_is_followed_or_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        write(&path, "a");
        assert!(!path.exists());
        std::fs::write(&path, "").unwrap();
        write(&path, "a");
        write(&path, "b");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a");
        let link = dir.path().join("link");
        std::fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write(&link, "c");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }
}
