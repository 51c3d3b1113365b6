//! What a program says of itself: the messages of `sd_notify(3)`.

use std::time::Duration;

use super::escaped;

/// The longest datagram that is read; what is longer is dropped whole (`PIPE_BUF`, as systemd has
/// it).
pub const NOTICE_MAX: usize = 4096;
/// So much of a status is kept.
const STATUS_CHARS: usize = 256;
/// The largest errno(3) of the kernel.
const ERRNO_MAX: u32 = 4095;

/// One message, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// Where it is in its life.
    pub phase: Option<SaidPhase>,
    /// A line for people; empty: none any more.
    pub status: Option<Box<str>>,
    /// An errno(3) that explains its failure.
    pub errno: Option<u32>,
    /// What it says to its watchdog.
    pub watchdog: Option<Watchdog>,
    /// How often it will say so from now on; zero: no more.
    pub watchdog_time: Option<Duration>,
    /// It needs so much time from now on for what it does.
    pub extend: Option<Duration>,
    /// Its main process.
    pub main_pid: Option<u32>,
    /// It wants to know when all that it said before was dealt with.
    pub barrier: bool,
    /// It wants descriptors kept, or forgotten.
    pub keeps_descriptors: bool,
    /// The first variable whose value means nothing.
    pub wrong: Option<&'static str>,
}

/// Where a program is in its life, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaidPhase {
    /// READY=1.
    Ready,
    /// RELOADING=1.
    Reloading,
    /// STOPPING=1.
    Stopping,
}

/// What a program says to its watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watchdog {
    /// WATCHDOG=1.
    Alive,
    /// WATCHDOG=trigger: as if it had missed its time.
    Trigger,
}

/// Why a datagram is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoNotice {
    /// There is nothing in it.
    Empty,
    /// There is a NUL byte in its middle.
    Nul,
    /// `BARRIER=1` and something else.
    NotAlone,
}

impl NoNotice {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "an empty message",
            Self::Nul => "a message with a NUL byte in it",
            Self::NotAlone => "BARRIER=1 together with something else",
        }
    }
}

impl Notice {
    /// Reads a datagram: assignments, one a line; of two of a kind the first counts, and what is
    /// not known is left alone.
    ///
    /// # Errors
    /// It is no message.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoNotice> {
        let bytes = match bytes {
            // One at the end is forgiven.
            [most @ .., 0] if !most.is_empty() => most,
            all => all,
        };
        if bytes.contains(&0) {
            return Err(NoNotice::Nul);
        }
        let text = String::from_utf8_lossy(bytes);
        let lines: Vec<&str> = text.split(['\n', '\r']).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return Err(NoNotice::Empty);
        }
        if lines.contains(&"BARRIER=1") {
            let alone = lines.len() == 1;
            let barrier = Self { barrier: true, ..Self::default() };
            return if alone { Ok(barrier) } else { Err(NoNotice::NotAlone) };
        }
        let mut notice = Self { phase: phase(&lines), ..Self::default() };
        for line in lines {
            if let Some((name, value)) = line.split_once('=') {
                notice.take(name, value);
            }
        }
        Ok(notice)
    }

    /// Whether it says nothing that concerns the engine.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { phase, status, errno, watchdog, watchdog_time, extend, .. } = self;
        phase.is_none()
            && status.is_none()
            && errno.is_none()
            && watchdog.is_none()
            && watchdog_time.is_none()
            && extend.is_none()
    }

    fn take(&mut self, name: &str, value: &str) {
        let time = |value: &str| decimal(value).map(Duration::from_micros);
        match name {
            "STATUS" => set(&mut self.status, Some(escaped(value, STATUS_CHARS).into())),
            "ERRNO" => {
                let errno = decimal(value).filter(|n| *n <= u64::from(ERRNO_MAX));
                self.value("ERRNO", errno.and_then(|n| u32::try_from(n).ok()), |s| &mut s.errno);
            }
            "WATCHDOG" => {
                let word = match value {
                    "1" => Some(Watchdog::Alive),
                    "trigger" => Some(Watchdog::Trigger),
                    _ => None,
                };
                self.value("WATCHDOG", word, |s| &mut s.watchdog);
            }
            "WATCHDOG_USEC" => self.value("WATCHDOG_USEC", time(value), |s| &mut s.watchdog_time),
            "EXTEND_TIMEOUT_USEC" => {
                self.value("EXTEND_TIMEOUT_USEC", time(value), |s| &mut s.extend);
            }
            "MAINPID" => {
                let pid = decimal(value).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 1);
                self.value("MAINPID", pid, |s| &mut s.main_pid);
            }
            "FDSTORE" | "FDSTOREREMOVE" => self.keeps_descriptors = true,
            // FDNAME and FDPOLL belong to FDSTORE; MONOTONIC_USEC tells a RELOADING=1 that was sent
            // before a reload was asked for from one after it, and nobody waits for one.
            _ => {}
        }
    }

    fn value<T>(
        &mut self,
        name: &'static str,
        value: Option<T>,
        place: impl Fn(&mut Self) -> &mut Option<T>,
    ) {
        if value.is_none() && self.wrong.is_none() {
            self.wrong = Some(name);
        }
        set(place(self), value);
    }
}

/// Of two values the first counts.
fn set<T>(place: &mut Option<T>, value: Option<T>) {
    if place.is_none() {
        *place = value;
    }
}

/// Of several in one message STOPPING wins, and READY over RELOADING, as systemd has it.
fn phase(lines: &[&str]) -> Option<SaidPhase> {
    [
        ("STOPPING=1", SaidPhase::Stopping),
        ("READY=1", SaidPhase::Ready),
        ("RELOADING=1", SaidPhase::Reloading),
    ]
    .into_iter()
    .find(|(line, _)| lines.contains(line))
    .map(|(_, phase)| phase)
}

/// Digits and nothing else.
fn decimal(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Notice {
        Notice::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn each_assignment_is_read() {
        let none = Notice::default;
        let ms = |n| Some(Duration::from_millis(n));
        let cases = [
            ("READY=1", Notice { phase: Some(SaidPhase::Ready), ..none() }),
            ("READY=1\n", Notice { phase: Some(SaidPhase::Ready), ..none() }),
            ("READY=1\0", Notice { phase: Some(SaidPhase::Ready), ..none() }),
            ("READY=0", none()),
            (
                "RELOADING=1\nMONOTONIC_USEC=17",
                Notice { phase: Some(SaidPhase::Reloading), ..none() },
            ),
            ("RELOADING=1\nREADY=1", Notice { phase: Some(SaidPhase::Ready), ..none() }),
            ("READY=1\nSTOPPING=1", Notice { phase: Some(SaidPhase::Stopping), ..none() }),
            ("STATUS=3 of 4", Notice { status: Some("3 of 4".into()), ..none() }),
            ("STATUS=", Notice { status: Some("".into()), ..none() }),
            ("STATUS=a\nSTATUS=b", Notice { status: Some("a".into()), ..none() }),
            ("STATUS=a\tb\u{1b}[31m", Notice { status: Some(r"a\tb\u{1b}[31m".into()), ..none() }),
            ("ERRNO=2", Notice { errno: Some(2), ..none() }),
            ("ERRNO=-2", Notice { wrong: Some("ERRNO"), ..none() }),
            ("ERRNO=4096", Notice { wrong: Some("ERRNO"), ..none() }),
            ("ERRNO=ENOENT", Notice { wrong: Some("ERRNO"), ..none() }),
            ("WATCHDOG=1", Notice { watchdog: Some(Watchdog::Alive), ..none() }),
            ("WATCHDOG=trigger", Notice { watchdog: Some(Watchdog::Trigger), ..none() }),
            ("WATCHDOG=yes", Notice { wrong: Some("WATCHDOG"), ..none() }),
            ("WATCHDOG_USEC=20000", Notice { watchdog_time: ms(20), ..none() }),
            ("EXTEND_TIMEOUT_USEC=1500000", Notice { extend: ms(1500), ..none() }),
            (
                "EXTEND_TIMEOUT_USEC=18446744073709551616",
                Notice { wrong: Some("EXTEND_TIMEOUT_USEC"), ..none() },
            ),
            ("MAINPID=4711", Notice { main_pid: Some(4711), ..none() }),
            ("MAINPID=1", Notice { wrong: Some("MAINPID"), ..none() }),
            ("MAINPID=-7", Notice { wrong: Some("MAINPID"), ..none() }),
            ("MAINPID=+7", Notice { wrong: Some("MAINPID"), ..none() }),
            ("BARRIER=1", Notice { barrier: true, ..none() }),
            ("FDSTORE=1\nFDNAME=x", Notice { keeps_descriptors: true, ..none() }),
            ("FDSTOREREMOVE=1\nFDNAME=x", Notice { keeps_descriptors: true, ..none() }),
            ("X_OURS=1\nno assignment\n==\n", none()),
            (" READY=1", none()),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_message_is_told_apart() {
        for (bytes, expected) in [
            (&b""[..], NoNotice::Empty),
            (b"\n\r\n", NoNotice::Empty),
            (b"\0", NoNotice::Nul),
            (b"READY=1\0\0", NoNotice::Nul),
            (b"READY=1\0STATUS=x", NoNotice::Nul),
            (b"BARRIER=1\nREADY=1", NoNotice::NotAlone),
        ] {
            assert_eq!(Notice::parse(bytes), Err(expected), "{bytes:?}");
        }
    }

    #[test]
    fn a_status_is_cut_and_keeps_its_letters() {
        let notice = read(&format!("STATUS={}", "é".repeat(4000)));
        assert_eq!(notice.status.unwrap().chars().count(), STATUS_CHARS);
        let notice = Notice::parse(b"STATUS=a\xffb").unwrap();
        assert_eq!(notice.status.as_deref(), Some("a\u{fffd}b"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_it_panic_or_say_too_much(
            bytes in prop::collection::vec(any::<u8>(), 0..NOTICE_MAX),
        ) {
            bounded(&bytes)?;
        }

        #[test]
        fn nor_do_assignments_of_anything(
            lines in prop::collection::vec(
                ("(READY|STOPPING|RELOADING|STATUS|ERRNO|WATCHDOG|WATCHDOG_USEC|MAINPID|BARRIER\
                   |EXTEND_TIMEOUT_USEC|FDSTORE|FDNAME)", "(1|0|trigger|[0-9]{0,25}|\\PC{0,40})"),
                0..12,
            ),
        ) {
            let text: Vec<String> = lines.iter().map(|(a, b)| format!("{a}={b}")).collect();
            bounded(text.join("\n").as_bytes())?;
        }
    }

    fn bounded(bytes: &[u8]) -> Result<(), TestCaseError> {
        if let Ok(notice) = Notice::parse(bytes) {
            let status = notice.status.unwrap_or_default();
            prop_assert!(status.chars().count() <= STATUS_CHARS);
            prop_assert!(!status.chars().any(char::is_control));
            prop_assert!(notice.main_pid.is_none_or(|pid| pid > 1));
        }
        Ok(())
    }
}
