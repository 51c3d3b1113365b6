//! The control thread with real sockets: whoever is slow, hostile or gone delays nobody.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, unbounded};
use mini_supervisor::{
    control::{
        Empty, LogLine, Peer, Reply, Request, RequestId, VersionInfo,
        wire::{self, Id, Message},
    },
    daemon::control::{AccessConfig, ControlEvent, ControlHandle, serve},
    model::{Access, Control, Mode, WallTime},
    sys::clock,
};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Longer than any test needs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn access(rules: Vec<Access>) -> AccessConfig {
    AccessConfig {
        control: Control {
            socket: None,
            owner: None,
            group: None,
            mode: Mode(0o666),
            access: rules.into(),
        },
        supervisor_uid: 0,
        groups: Arc::new(|_, peer: Peer| vec![peer.gid]),
        user_name: Arc::new(|_| None),
    }
}

/// A control thread whose socket vanishes with it.
pub(crate) struct Served {
    pub(crate) handle: ControlHandle,
    pub(crate) events: Receiver<ControlEvent>,
    pub(crate) path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

/// Everything that happens is kept for the test.
pub(crate) fn silent(config: AccessConfig) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, events) = unbounded();
    let deliver = move |event| drop(sender.send(event));
    let handle = serve(OwnedFd::from(listener), config, deliver).unwrap();
    Served { handle, events, path, _dir: dir }
}

/// Each request is answered with a version, like a supervisor that has nothing else to do.
pub(crate) fn answering() -> Served {
    let mut served = silent(access(Vec::new()));
    let (sender, kept) = unbounded();
    let events = std::mem::replace(&mut served.events, kept);
    let handle = served.handle.clone();
    let work = move || {
        for event in events {
            if let ControlEvent::Request { id, .. } = &event {
                handle.reply(*id, version());
            }
            drop(sender.send(event));
        }
    };
    thread::Builder::new().spawn(work).unwrap();
    served
}

fn version() -> Reply {
    let (version, name) = ("1".to_owned(), "site".to_owned());
    Reply::Version(VersionInfo { version, pid: 1, name, config: None })
}

pub(crate) fn ask() -> Vec<u8> {
    wire::encode_request(1, &Request::Version(Empty {}))
}

impl Served {
    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// How long a fresh client waits for its answer.
    pub(crate) fn round(&self) -> Duration {
        let start = clock::monotonic();
        let mut stream = self.connect();
        stream.write_all(&ask()).unwrap();
        assert!(matches!(message(&mut BufReader::new(stream)), Message::Reply(..)));
        clock::monotonic().since(start)
    }

    fn request(&self) -> RequestId {
        loop {
            if let ControlEvent::Request { id, .. } = self.events.recv_timeout(PATIENCE).unwrap() {
                return id;
            }
        }
    }
}

pub(crate) fn message(reader: &mut BufReader<UnixStream>) -> Message {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).unwrap();
    wire::decode_message(line.trim_ascii_end()).unwrap()
}

/// What the server says until it closes.
pub(crate) fn until_closed(mut stream: UnixStream) -> String {
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        Ok(_) => {}
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}"),
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn garbage_is_answered_once_and_the_client_closed() {
    let served = answering();
    for garbage in [&b"\0\0\0\n"[..], b"GET / HTTP/1.1\r\n\r\n", b"{\n", b"\xff\xfe\n"] {
        let mut stream = served.connect();
        stream.write_all(garbage).unwrap();
        assert!(until_closed(stream).contains("-32700"), "{garbage:?}");
    }
    served.round();
}

#[test]
fn a_request_that_is_too_long_is_refused_before_it_ends() {
    let served = answering();
    let mut stream = served.connect();
    stream.write_all(&vec![b'a'; wire::MAX_REQUEST_BYTES + 1]).unwrap();
    assert!(until_closed(stream).contains("longer than 65536 bytes"));
    let mut stream = served.connect();
    let mut deep = b"[".repeat(60_000);
    deep.push(b'\n');
    stream.write_all(&deep).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(until_closed(stream).contains("nested deeper"));
    served.round();
}

/// Sends `bytes` with a flood of descriptors, or out of band.
fn send_oddly(stream: &UnixStream, bytes: &[u8], fds: &[std::os::fd::RawFd], flags: MsgFlags) {
    let parts = [std::io::IoSlice::new(bytes)];
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    sendmsg::<()>(stream.as_raw_fd(), &parts, control, flags, None).unwrap();
}

#[test]
fn what_no_client_sends_costs_neither_descriptors_nor_memory() {
    let served = answering();
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    served.round();
    let (fds, memory) = (count(), super::logs::resident());
    // Nothing at all, and half a request.
    drop(served.connect());
    for text in [&b""[..], b"{\"jsonrpc\":\"2.0\",\"id\":1", b"\0"] {
        let mut stream = served.connect();
        stream.write_all(text).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        until_closed(stream);
    }
    // A key that stands twice is an error or one of the two, and the client is told either way.
    let mut stream = served.connect();
    let twice = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"version\",\"params\":{}}\n";
    stream.write_all(twice).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(until_closed(stream).starts_with('{'));
    // Descriptors that nobody asked for are closed, not kept: 200 a message, many messages.
    let null = std::fs::File::open("/dev/null").unwrap();
    let many = vec![null.as_raw_fd(); 200];
    let stream = served.connect();
    for _ in 0..50 {
        send_oddly(&stream, b" ", &many, MsgFlags::empty());
    }
    send_oddly(&stream, &ask(), &many, MsgFlags::empty());
    let mut reader = BufReader::new(stream);
    assert!(matches!(message(&mut reader), Message::Reply(..)));
    assert!(count() <= fds + 4, "{} of {fds}", count());
    drop(reader);
    // One byte out of band.
    let mut stream = served.connect();
    send_oddly(&stream, b"x", &[], MsgFlags::MSG_OOB);
    if stream.write_all(&ask()).is_ok() {
        stream.shutdown(Shutdown::Write).unwrap();
        until_closed(stream);
    }
    // A gigabyte is not read: the client is closed at 64 KiB.
    let mut stream = served.connect();
    let block = vec![0; 1 << 20];
    let taken = (0..1024).take_while(|_| stream.write_all(&block).is_ok()).count();
    assert!(taken < 8, "{taken} MiB were taken");
    drop(stream);
    let grown = super::logs::resident().saturating_sub(memory);
    assert!(grown < 8 << 20, "{grown} bytes");
    served.round();
}

#[test]
fn a_client_that_dribbles_is_closed_after_five_seconds_and_delays_nobody() {
    let served = answering();
    let start = clock::monotonic();
    let mut slow = served.connect();
    let (stop, stopped) = unbounded::<()>();
    let mut half = slow.try_clone().unwrap();
    let dribble = move || {
        while half.write_all(b" ").is_ok() {
            if stopped.recv_timeout(Duration::from_millis(200)).is_ok() {
                return;
            }
        }
    };
    let thread = thread::Builder::new().spawn(dribble).unwrap();
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        slowest = slowest.max(served.round());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let mut rest = [0_u8; 16];
    let end = slow.read(&mut rest);
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    let lived = clock::monotonic().since(start);
    assert!((Duration::from_secs(4)..Duration::from_secs(9)).contains(&lived), "{lived:?}");
    stop.send(()).ok();
    thread.join().unwrap();
}

#[test]
fn who_has_closed_its_side_still_gets_its_answers() {
    let served = answering();
    let mut stream = served.connect();
    let two = [ask(), ask()].concat();
    stream.write_all(&two).unwrap();
    stream.write_all(b"{\"half\":").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let text = until_closed(stream);
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn pipelined_requests_are_all_answered_in_order() {
    let served = answering();
    let mut stream = served.connect();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let request = Request::Version(Empty {});
    let all: Vec<u8> = (0..1000).flat_map(|id| wire::encode_request(id, &request)).collect();
    let writer = thread::Builder::new().spawn(move || stream.write_all(&all).unwrap()).unwrap();
    for expected in 0..1000 {
        match message(&mut reader) {
            Message::Reply(Id::Number(id), Reply::Version(_)) => assert_eq!(id, expected),
            other @ (Message::Reply(..)
            | Message::Progress(..)
            | Message::Lines(..)
            | Message::Other) => panic!("{other:?}"),
        }
    }
    writer.join().unwrap();
}

#[test]
fn more_than_256_idle_clients_close_the_oldest() {
    mini_supervisor::sys::rlimit::raise_open_files().unwrap();
    let served = answering();
    let mut first = served.connect();
    let many: Vec<UnixStream> = (0..1000).map(|_| served.connect()).collect();
    assert_eq!(first.read(&mut [0; 8]).unwrap(), 0, "the oldest idle one gave way");
    let slowest = (0..50).map(|_| served.round()).max().unwrap();
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let mut last = many.last().unwrap();
    last.write_all(&ask()).unwrap();
    let mut reader = BufReader::new(last.try_clone().unwrap());
    assert!(matches!(message(&mut reader), Message::Reply(..)), "the newest is still there");
}

#[test]
fn a_client_that_never_reads_is_closed_and_its_request_given_up() {
    let served = silent(access(Vec::new()));
    let mut stream = served.connect();
    stream.write_all(&ask()).unwrap();
    let id = served.request();
    let text = "x".repeat(1_000_000);
    let reply =
        Reply::Version(VersionInfo { version: text, pid: 1, name: String::new(), config: None });
    served.handle.reply(id, reply);
    stream.write_all(&ask()).unwrap();
    let second = served.request();
    let start = clock::monotonic();
    assert_eq!(served.events.recv_timeout(PATIENCE).unwrap(), ControlEvent::Gone(second));
    assert!(clock::monotonic().since(start) < Duration::from_secs(10));
}

#[test]
fn a_slow_follower_loses_the_oldest_lines_and_is_told_how_many() {
    let served = silent(access(Vec::new()));
    let mut stream = served.connect();
    let request = Request::Events(mini_supervisor::control::EventsQuery { follow: true });
    stream.write_all(&wire::encode_request(3, &request)).unwrap();
    let id = served.request();
    let text = "y".repeat(1000);
    let line = |n: u32| LogLine {
        at: WallTime::default(),
        name: "web".to_owned(),
        source: n.to_string(),
        text: text.clone(),
    };
    for n in 0..200 {
        served.handle.lines(id, (0..100).map(|i| line(n * 100 + i)).collect());
    }
    served.handle.reply(id, Reply::Done);
    let mut reader = BufReader::new(stream);
    let (mut got, mut lost, mut newest) = (0, 0, String::new());
    loop {
        match message(&mut reader) {
            Message::Lines(Id::Number(3), lines, dropped) => {
                got += lines.len();
                lost += usize::try_from(dropped).unwrap();
                newest = lines.last().unwrap().source.clone();
            }
            Message::Reply(Id::Number(3), Reply::Done) => break,
            other @ (Message::Reply(..)
            | Message::Progress(..)
            | Message::Lines(..)
            | Message::Other) => panic!("{other:?}"),
        }
    }
    assert_eq!(got + lost, 20_000);
    assert!(lost > 0, "more than the bound was offered");
    assert_eq!(newest, "19999", "it is the oldest that are lost");
}
