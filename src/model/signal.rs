//! Signals by number, real-time signals included (signal(7)); nix's enum ends at 31.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A signal, 1..=64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(u8);

const NAMES: [&str; 32] = [
    "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The first real-time signal that glibc leaves to programs.
const RTMIN: u8 = 34;
/// The last signal.
const MAX: u8 = 64;

impl Signal {
    /// Hangup.
    pub const HUP: Self = Self(1);
    /// Interrupt from the keyboard.
    pub const INT: Self = Self(2);
    /// Quit from the keyboard.
    pub const QUIT: Self = Self(3);
    /// SIGABRT
    pub const ABRT: Self = Self(6);
    /// Cannot be caught.
    pub const KILL: Self = Self(9);
    /// User-defined.
    pub const USR1: Self = Self(10);
    /// User-defined.
    pub const USR2: Self = Self(12);
    /// Broken pipe.
    pub const PIPE: Self = Self(13);
    /// Please end.
    pub const TERM: Self = Self(15);
    /// A child has ended.
    pub const CHLD: Self = Self(17);
    /// Continue if stopped.
    pub const CONT: Self = Self(18);

    /// The signal with this number, when there is one.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| (1..=MAX).contains(n)).map(Self)
    }

    /// Reads `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3`, `RTMAX-1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<u8>() {
            return Self::from_number(i64::from(number));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(rest) = name.strip_prefix("RTMIN") {
            return Self::real_time(rest, '+')
                .and_then(|n| RTMIN.checked_add(n))
                .and_then(Self::rt);
        }
        if let Some(rest) = name.strip_prefix("RTMAX") {
            return Self::real_time(rest, '-').and_then(|n| MAX.checked_sub(n)).and_then(Self::rt);
        }
        let name = match name {
            "POLL" => "IO",
            "IOT" => "ABRT",
            "CLD" => "CHLD",
            other => other,
        };
        (1_u8..).zip(NAMES.iter().skip(1)).find(|(_, n)| **n == name).map(|(i, _)| Self(i))
    }

    fn real_time(rest: &str, sign: char) -> Option<u8> {
        if rest.is_empty() { Some(0) } else { rest.strip_prefix(sign)?.parse().ok() }
    }

    fn rt(number: u8) -> Option<Self> {
        (RTMIN..=MAX).contains(&number).then_some(Self(number))
    }

    /// Its number, as kill(2) takes it.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// Its name without `SIG`: `TERM`, `RTMIN+3`; `32` for the two that glibc keeps.
    #[must_use]
    pub fn name(self) -> String {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => (*name).to_owned(),
            None if self.0 < RTMIN => self.0.to_string(),
            None if self.0 == RTMIN => "RTMIN".to_owned(),
            None => format!("RTMIN+{}", self.0 - RTMIN),
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIG{}", self.name())
    }
}

impl TryFrom<String> for Signal {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("no signal is called {text}"))
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_can_be_read_back_from_its_name() {
        for n in 1..=64 {
            let signal = Signal::from_number(n).unwrap();
            assert_eq!(Signal::parse(&signal.name()), Some(signal));
            assert_eq!(
                Signal::parse(&signal.to_string()),
                (!(32..34).contains(&n)).then_some(signal)
            );
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in ["", "SIG", "0", "65", "-1", "TERMS", "RTMIN+31", "RTMAX-31", "RTMIN3", "256"] {
            assert_eq!(Signal::parse(text), None, "{text}");
        }
    }
}
