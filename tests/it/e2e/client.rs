//! A client that talks to the socket as any program would.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use mini_supervisor::control::{
    LogLine, Reply, Request,
    wire::{Message, decode_message, encode_request},
};

/// One connection.
pub(crate) struct Client {
    stream: UnixStream,
    partial: Vec<u8>,
    id: u64,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        Ok(Self { stream, partial: Vec::new(), id: 0 })
    }

    /// Sends `request` and does not wait for the reply.
    pub(crate) fn send(&mut self, request: &Request) -> std::io::Result<()> {
        self.id += 1;
        self.stream.write_all(&encode_request(self.id, request))
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next line, without its end; `None` when there is none in time or the connection is
    /// closed.
    pub(crate) fn line(&mut self, patience: Duration) -> Option<Vec<u8>> {
        let end = Instant::now() + patience;
        loop {
            if let Some(at) = self.partial.iter().position(|byte| *byte == b'\n') {
                let rest = self.partial.split_off(at + 1);
                let mut line = std::mem::replace(&mut self.partial, rest);
                line.pop();
                return Some(line);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 8192];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.partial.extend_from_slice(&chunk[..n]),
                Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    pub(crate) fn message(&mut self, patience: Duration) -> Option<Message> {
        self.line(patience).map(|line| {
            decode_message(&line)
                .unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&line)))
        })
    }

    /// The reply to the request sent last; progress and streams before it are dropped.
    pub(crate) fn reply(&mut self, patience: Duration) -> Option<Reply> {
        let end = Instant::now() + patience;
        loop {
            match self.message(end.saturating_duration_since(Instant::now()))? {
                Message::Reply(_, reply) => return Some(reply),
                Message::Lines(..) | Message::Progress(..) | Message::Other => {}
            }
        }
    }

    /// The next lines of a stream.
    pub(crate) fn lines(&mut self, patience: Duration) -> Option<Vec<LogLine>> {
        match self.message(patience)? {
            Message::Lines(_, lines, _) => Some(lines),
            Message::Reply(..) | Message::Progress(..) | Message::Other => Some(Vec::new()),
        }
    }
}
