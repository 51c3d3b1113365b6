//! Connects to ports and Unix sockets.

use std::{
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    path::Path,
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
};

use super::Failed;
use crate::{
    model::Instant,
    sys::{clock, resolve},
};

/// More addresses of one name are not tried.
const ADDRESSES_MAX: usize = 4;

/// Connects to `HOST:PORT`, at the first address of it that accepts.
pub(super) fn tcp(address: &str, end: Instant) -> Result<TcpStream, Failed> {
    let addresses = match address.parse::<SocketAddr>() {
        Ok(one) => vec![one],
        Err(_) => resolve::addresses(address),
    };
    let count = addresses.len().min(ADDRESSES_MAX);
    let mut failed = Failed::Unknown("its host name has no address".to_owned());
    for (left, one) in (1..=u32::try_from(count).unwrap_or(1)).rev().zip(addresses) {
        // The others have their share.
        let time = end.since(clock::monotonic()) / left;
        if time.is_zero() {
            return Err(Failed::Bad("no connection in time".to_owned()));
        }
        match TcpStream::connect_timeout(&one, time) {
            // A port in the range of our own can be given to our end: then we have reached
            // ourselves.
            Ok(stream) if stream.local_addr().ok() == stream.peer_addr().ok() => {
                failed = Failed::Bad(Errno::ECONNREFUSED.desc().to_owned());
            }
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                failed = Failed::Bad("no connection in time".to_owned());
            }
            Err(error) => failed = Failed::of(&error),
        }
    }
    Err(failed)
}

/// Whether somebody listens at a Unix socket, of whichever type. A full queue is no acceptance.
pub(super) fn unix(path: &Path) -> Result<(), Failed> {
    let wrong = |errno: Errno| Failed::of(&errno.into());
    let address = UnixAddr::new(path).map_err(|errno| Failed::Unknown(errno.to_string()))?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let mut failed = Errno::ECONNREFUSED;
    for kind in [SockType::Stream, SockType::SeqPacket, SockType::Datagram] {
        let ours = socket(AddressFamily::Unix, kind, flags, None).map_err(wrong)?;
        match connect(ours.as_raw_fd(), &address) {
            Ok(()) => return Ok(()),
            Err(Errno::EPROTOTYPE) => {}
            Err(Errno::EAGAIN) => {
                return Err(Failed::Bad("nobody accepts what is queued".to_owned()));
            }
            Err(errno @ (Errno::EACCES | Errno::EPERM)) => {
                return Err(Failed::Unknown(errno.desc().to_owned()));
            }
            Err(errno) => {
                failed = errno;
                break;
            }
        }
    }
    Err(wrong(failed))
}
