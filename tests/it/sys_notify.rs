//! The messages of `sd_notify(3)` as datagrams: who gets them, and that nobody is waited for.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    ffi::OsStr,
    os::{linux::net::SocketAddrExt, unix::net::UnixDatagram},
    time::Duration,
};

use mini_supervisor::sys::notify::Notifier;
use nix::errno::Errno;

fn text(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 256];
    let n = socket.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..n].to_vec()).unwrap()
}

#[test]
fn a_message_arrives_as_one_datagram_by_path_and_by_abstract_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let notifier = Notifier::new(path.as_os_str()).unwrap();
    notifier.send("READY=1\nSTATUS=up").unwrap();
    notifier.send("STOPPING=1").unwrap();
    assert_eq!((text(&socket), text(&socket)), ("READY=1\nSTATUS=up".into(), "STOPPING=1".into()));
    let name = format!("sv-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    Notifier::new(OsStr::new(&format!("@{name}"))).unwrap().send("READY=1").unwrap();
    assert_eq!(text(&socket), "READY=1");
}

#[test]
fn what_is_no_address_is_refused_and_said() {
    for address in ["", "relative", "vsock:2:1234", &format!("/{}", "x".repeat(200))] {
        let why = Notifier::new(OsStr::new(address)).unwrap_err().to_string();
        assert!(why.starts_with("cannot notify "), "{why}");
    }
}

#[test]
fn nobody_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let notifier = Notifier::new(path.as_os_str()).unwrap();
    assert_eq!(notifier.send("READY=1"), Err(Errno::ENOENT));
    assert!(!notifier.barrier(Duration::from_secs(60)), "and not here either");
    let socket = UnixDatagram::bind(&path).unwrap();
    let full = (0..100_000).find_map(|_| notifier.send("WATCHDOG=1").err());
    assert_eq!(full, Some(Errno::EAGAIN));
    assert!(!notifier.barrier(Duration::from_secs(60)));
    drop(socket);
    assert_eq!(notifier.send("READY=1"), Err(Errno::ECONNREFUSED));
}

#[test]
fn the_barrier_ends_when_its_message_was_read_or_the_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let notifier = Notifier::new(path.as_os_str()).unwrap();
    notifier.send("STATUS=last").unwrap();
    assert!(!notifier.barrier(Duration::from_millis(1)), "nobody has read it");
    let reader = std::thread::Builder::new().spawn(move || {
        let read: Vec<String> = (0..3).map(|_| text(&socket)).collect();
        (read, socket)
    });
    assert!(notifier.barrier(Duration::from_secs(60)));
    let (read, _socket) = reader.unwrap().join().unwrap();
    assert_eq!(read, ["STATUS=last", "BARRIER=1", "BARRIER=1"]);
}
