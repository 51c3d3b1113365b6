//! The journal and syslog: one datagram a line.

use std::os::{
    fd::{AsFd as _, BorrowedFd},
    unix::net::UnixDatagram,
};

use nix::errno::Errno;

use super::Which;
use crate::model::WallTime;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Service {
    Journal,
    Syslog,
}

/// A connection to one of them.
#[derive(Debug)]
pub(super) struct Datagrams {
    service: Service,
    path: std::path::PathBuf,
    socket: Option<UnixDatagram>,
}

fn errno(e: &std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))
}

impl Datagrams {
    pub(super) fn new(service: Service, path: std::path::PathBuf) -> Self {
        Self { service, path, socket: None }
    }

    pub(super) fn service(&self) -> Service {
        self.service
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(UnixDatagram::as_fd)
    }

    pub(super) fn close(&mut self) {
        self.socket = None;
    }

    pub(super) fn prepare(&mut self) -> Result<(), Errno> {
        if self.socket.is_none() {
            let socket = UnixDatagram::unbound().map_err(|e| errno(&e))?;
            socket.set_nonblocking(true).map_err(|e| errno(&e))?;
            socket.connect(&self.path).map_err(|e| errno(&e))?;
            self.socket = Some(socket);
        }
        Ok(())
    }

    pub(super) fn send(&self, message: &[u8]) -> Result<(), Errno> {
        let socket = self.socket.as_ref().ok_or(Errno::ENOTCONN)?;
        match socket.send(message) {
            Ok(_) => Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Err(Errno::EAGAIN),
            Err(e) => Err(errno(&e)),
        }
    }
}

/// Appends what stands before the text of a message.
pub(super) fn head(out: &mut Vec<u8>, service: Service, name: &str, which: Which, at: WallTime) {
    let severity = if which == Which::Stderr { 3 } else { 6 };
    let text = match service {
        Service::Journal => format!(
            "PRIORITY={severity}\nSYSLOG_IDENTIFIER={name}\nSUPERVISOR_PROGRAM={name}\nMESSAGE="
        ),
        // Facility daemon (3), RFC 3164; local senders leave the host out.
        Service::Syslog => format!("<{}>{} {name}: ", 3 * 8 + severity, stamp(at)),
    };
    out.extend_from_slice(text.as_bytes());
}

/// `Jan  2 03:04:05`, in UTC.
fn stamp(at: WallTime) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let ((_, month, day), full) = (at.civil_day(), at.rfc3339());
    let from = usize::try_from(month - 1).unwrap_or(0) * 3;
    let name = MONTHS.get(from..from + 3).unwrap_or("Jan");
    format!("{name} {day:>2} {}", full.get(11..19).unwrap_or("00:00:00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syslog_message_has_the_stamp_of_rfc_3164() {
        let mut out = Vec::new();
        head(&mut out, Service::Syslog, "web", Which::Stderr, WallTime(1_767_348_245_000));
        assert_eq!(String::from_utf8(out).unwrap(), "<27>Jan  2 10:04:05 web: ");
    }
}
