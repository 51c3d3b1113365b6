//! A GET, of which the status alone is read.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
};

use super::{Failed, net};
use crate::{
    model::{HttpUrl, Instant},
    sys::clock,
};

/// More of an answer is not read for its status.
const HEAD_MAX: usize = 16 << 10;
/// More of its headers are not looked at.
const HEADERS_MAX: usize = 64;
/// So much is told of what a server says.
const TOLD: usize = 60;

/// Asks for `url`; a status from 200 to 399 is good.
pub(super) fn get(url: &HttpUrl, end: Instant) -> Result<(), Failed> {
    let mut stream = net::tcp(&url.address(), end)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: mini-supervisor/{}\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        url.target(),
        url.authority(),
        env!("CARGO_PKG_VERSION")
    );
    let late = || Failed::Bad("no answer in time".to_owned());
    let left = |stream: &TcpStream| {
        let left = Some(end.since(clock::monotonic())).filter(|left| !left.is_zero());
        left.ok_or_else(late)?;
        let set = stream.set_read_timeout(left).and_then(|()| stream.set_write_timeout(left));
        set.map_err(|error| Failed::of(&error))
    };
    let failed = |error: &io::Error| {
        let in_time = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
        if in_time.contains(&error.kind()) { late() } else { Failed::of(error) }
    };
    left(&stream)?;
    stream.write_all(request.as_bytes()).map_err(|error| failed(&error))?;
    let (mut head, mut buffer) = (Vec::new(), [0_u8; 4096]);
    loop {
        left(&stream)?;
        let read = match stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|error| failed(&error))?,
        };
        head.extend_from_slice(buffer.get(..read).unwrap_or_default());
        match status(&mut head)? {
            Some(answer) => return answer,
            None if read == 0 => return Err(Failed::Bad("closed without an answer".to_owned())),
            None if head.len() > HEAD_MAX => {
                return Err(Failed::Bad("no end of its headers".to_owned()));
            }
            None => {}
        }
    }
}

/// What the status says, once it is there; answers on the way to it (1xx) are taken away.
fn status(head: &mut Vec<u8>) -> Result<Option<Result<(), Failed>>, Failed> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut answer = httparse::Response::new(&mut headers);
        let parsed = answer.parse(head);
        match (answer.code, parsed) {
            (Some(100..=199), Ok(httparse::Status::Complete(end))) => {
                head.drain(..end);
            }
            (Some(100..=199) | None, Ok(_)) => return Ok(None),
            (Some(100..=199) | None, Err(why)) => {
                return Err(Failed::Bad(format!("no HTTP: {why}")));
            }
            (Some(200..=399), _) => return Ok(Some(Ok(()))),
            (Some(code), _) => {
                let reason = answer.reason.unwrap_or_default();
                let reason: String = reason.escape_debug().take(TOLD).collect();
                let words = format!("{code} {reason}").trim_end().to_owned();
                return Ok(Some(Err(Failed::Bad(words))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(answer: &str) -> String {
        match status(&mut answer.as_bytes().to_vec()) {
            Ok(None) => "more".to_owned(),
            Ok(Some(Ok(()))) => "good".to_owned(),
            Ok(Some(Err(why))) | Err(why) => format!("{why:?}"),
        }
    }

    #[test]
    fn the_status_alone_counts() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\n", "good"),
            ("HTTP/1.0 204 No Content\r\nX: y\r\n\r\n", "good"),
            ("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "good"),
            ("HTTP/1.1 503 Service Unavailable\r\n", "Bad(\"503 Service Unavailable\")"),
            ("HTTP/1.1 404\r\n", "Bad(\"404\")"),
            ("HTTP/1.1 2", "more"),
            ("", "more"),
            ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n", "more"),
            ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 500 No\r\n", "Bad(\"500 No\")"),
            ("SSH-2.0-OpenSSH\r\n", "Bad(\"no HTTP: invalid HTTP version\")"),
        ] {
            assert_eq!(said(answer), expected, "{answer:?}");
        }
    }
}
