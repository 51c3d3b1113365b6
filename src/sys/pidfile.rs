//! The PID file that a program writes: read, and believed only as far as it cannot do harm.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use nix::fcntl::OFlag;

use super::Pid;

/// Reads the pid in the file `path`. The file must be one that nobody else could have written: a
/// regular file, no link, of root, of us or of the user `uid`, and not writable for others. Never
/// blocks on what is none.
///
/// # Errors
/// Why it is not believed, in words for the log.
pub fn read(path: &Path, uid: u32) -> Result<Pid, String> {
    let shown = path.display();
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = file.map_err(|why| match (why.kind(), why.raw_os_error()) {
        (io::ErrorKind::NotFound, _) => format!("there is no {shown} yet"),
        (_, Some(libc::ELOOP)) => format!("{shown} is a symbolic link, which is not followed"),
        _ => format!("cannot read {shown}: {why}"),
    })?;
    let meta = file.metadata().map_err(|why| format!("cannot read {shown}: {why}"))?;
    if !meta.is_file() {
        return Err(format!("{shown} is no regular file"));
    }
    let own = nix::unistd::geteuid().as_raw();
    if ![0, own, uid].contains(&meta.uid()) {
        return Err(format!("{shown} belongs to uid {}, who is not its user", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        let mode = meta.mode() & 0o7777;
        return Err(format!(
            "others may write {shown} (mode {mode:04o}), so anybody could have named a pid in it; \
             it has to be made with umask 022"
        ));
    }
    let mut text = Vec::new();
    file.take(64).read_to_end(&mut text).map_err(|why| format!("cannot read {shown}: {why}"))?;
    parse(&text).ok_or_else(|| {
        let text = String::from_utf8_lossy(&text);
        let text: String = text.chars().take(24).flat_map(char::escape_debug).collect();
        format!("{shown} holds no pid, but \"{text}\"")
    })
}

/// A number above 1 and an end of line, perhaps, and nothing else.
fn parse(text: &[u8]) -> Option<Pid> {
    let text = std::str::from_utf8(text).ok()?;
    Pid::parse(text.strip_suffix('\n').unwrap_or(text))
}

/// Removes the PID file `path` if it still names `pid`.
pub fn remove(path: &Path, uid: u32, pid: Pid) {
    if read(path, uid) == Ok(pid) {
        fs::remove_file(path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_that_may_be_signalled_is_a_pid() {
        for text in
            ["", "\n", "0", "1\n", "-1", "-1\n", "12 34", "12\n34", " 12", "0x10", "99999999999\n"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(b"4711\n").map(Pid::raw), Some(4711));
        assert_eq!(parse(b"4711").map(Pid::raw), Some(4711));
    }
}
