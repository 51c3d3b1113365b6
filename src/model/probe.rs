//! What is looked at to tell whether a program serves: `health`, and `readiness` by a probe.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// What a probe looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// A GET of this address is answered by a status from 200 to 399.
    Http(HttpUrl),
    /// `HOST:PORT` accepts a connection.
    Tcp(Box<str>),
    /// This Unix socket accepts a connection.
    Socket(PathBuf),
    /// This command ends with 0.
    Command(Box<[Box<str>]>),
    /// This is there, and is no directory.
    File(PathBuf),
    /// The program writes a line with this text in it.
    Log(Box<str>),
}

/// `health:` with all values resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is looked at.
    pub probe: Probe,
    /// How often.
    pub interval: Duration,
    /// How long one look may take.
    pub timeout: Duration,
    /// So many failures in a row are too many, ≥ 1.
    pub retries: u32,
    /// For so long after it is ready, failures do not count.
    pub start_period: Duration,
    /// What follows then.
    pub on_failure: OnUnhealthy,
}

/// `health.on_failure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnhealthy {
    /// It is started again, as after a failure, whatever its restart policy.
    Restart,
    /// It is stopped and given up.
    Stop,
    /// It is said and shown.
    None,
}

/// An `http://` address that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpUrl {
    text: Box<str>,
    /// Where the host ends, and where the port: places in `text`.
    host_end: usize,
    authority_end: usize,
}

const SCHEME: &str = "http://";

impl HttpUrl {
    /// `http://HOST[:PORT][/PATH][?QUERY]`.
    ///
    /// # Errors
    /// Why nothing can be asked for there.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = text.strip_prefix(SCHEME).ok_or("it does not begin with http://")?;
        if text.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
            return Err("it has a character that stands for itself only as %XX");
        }
        if text.contains('#') {
            return Err("a #fragment is never sent");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let authority = rest.get(..end).unwrap_or_default();
        if authority.contains('@') {
            return Err("a user in it is not sent");
        }
        let host = match authority.strip_prefix('[') {
            Some(v6) => {
                let inner = v6.split_once(']').map(|(inner, _)| inner);
                let inner = inner.filter(|a| a.parse::<std::net::Ipv6Addr>().is_ok());
                inner.ok_or("its host is no IPv6 address in [ ]")?.len() + 2
            }
            None => authority.find(':').unwrap_or(authority.len()),
        };
        let port = authority.get(host..).unwrap_or_default();
        let port_is_good = port.is_empty()
            || port.strip_prefix(':').and_then(|p| p.parse::<u16>().ok()).is_some_and(|p| p > 0);
        if host == 0 {
            return Err("it has no host");
        }
        if !port_is_good {
            return Err("its port is no number from 1 to 65535");
        }
        let (host_end, authority_end) = (SCHEME.len() + host, SCHEME.len() + end);
        Ok(Self { text: text.into(), host_end, authority_end })
    }

    /// The whole address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `HOST:PORT` to connect to.
    #[must_use]
    pub fn address(&self) -> String {
        let authority = self.authority();
        if self.host_end == self.authority_end {
            format!("{authority}:80")
        } else {
            authority.into()
        }
    }

    /// `HOST` or `HOST:PORT` as it stands there, for the `Host` line.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.text.get(SCHEME.len()..self.authority_end).unwrap_or_default()
    }

    /// The path and what follows, as it is asked for; at least `/`.
    #[must_use]
    pub fn target(&self) -> String {
        let rest = self.text.get(self.authority_end..).unwrap_or_default();
        if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") }
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<HttpUrl> for String {
    fn from(url: HttpUrl) -> Self {
        url.text.into_string()
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => write!(f, "GET {}", url.as_str()),
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Socket(path) => write!(f, "socket {}", path.display()),
            Self::Command(words) => write!(f, "command {}", words.first().map_or("", |w| w)),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Log(text) => write!(f, "log {text:?}"),
        }
    }
}

/// What came of one look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sample {
    /// It serves.
    Good,
    /// It does not; why, in words.
    Bad(std::sync::Arc<str>),
    /// It could not be looked at; why, in words. This says nothing about the program.
    Unknown(std::sync::Arc<str>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_as_it_is_asked_for() {
        for (text, address, authority, target) in [
            ("http://localhost", "localhost:80", "localhost", "/"),
            ("http://127.0.0.1:8080/api/status", "127.0.0.1:8080", "127.0.0.1:8080", "/api/status"),
            ("http://[::1]:5000?full=1", "[::1]:5000", "[::1]:5000", "/?full=1"),
            ("http://[::1]/a?b=c", "[::1]:80", "[::1]", "/a?b=c"),
        ] {
            let url = HttpUrl::parse(text).unwrap();
            let parts = (url.address(), url.authority().to_owned(), url.target());
            assert_eq!(parts, (address.to_owned(), authority.to_owned(), target.to_owned()));
        }
    }

    #[test]
    fn what_cannot_be_asked_for_says_why() {
        for (text, why) in [
            ("https://h/", "it does not begin with http://"),
            ("http://", "it has no host"),
            ("http:///x", "it has no host"),
            ("http://:80/", "it has no host"),
            ("http://h:0/", "its port is no number from 1 to 65535"),
            ("http://h:http/", "its port is no number from 1 to 65535"),
            ("http://[::1/", "its host is no IPv6 address in [ ]"),
            ("http://[::1]x/", "its port is no number from 1 to 65535"),
            ("http://me:secret@h/", "a user in it is not sent"),
            ("http://h/#top", "a #fragment is never sent"),
            ("http://h/a b", "it has a character that stands for itself only as %XX"),
            ("http://h/\r\nX: y", "it has a character that stands for itself only as %XX"),
            ("http://h/é", "it has a character that stands for itself only as %XX"),
        ] {
            assert_eq!(HttpUrl::parse(text), Err(why), "{text}");
        }
    }
}
