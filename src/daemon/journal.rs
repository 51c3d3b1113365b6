//! Records of the engine → lines of the supervisor's own log, and the ring of events.

use std::collections::VecDeque;

use serde_json::json;

use crate::{
    control::LogLine,
    daemon::logs::LogHandle,
    engine::Record,
    model::{LogFormat, LogLevel, SupervisorLog, WallTime},
    sys::local_time,
};

/// How many events are remembered.
const EVENTS_MAX: usize = 1024;

/// Writes down what happens, and remembers the latest of it.
pub(super) struct Journal {
    logs: LogHandle,
    level: LogLevel,
    format: LogFormat,
    /// Lines go to the systemd journal alone: it wants priorities, and stamps lines itself.
    to_journald: bool,
    /// Standard error is the journal's.
    has_journald: bool,
    /// Standard error is a terminal: a stamp of the time of day is enough for a person.
    to_person: bool,
    events: VecDeque<(WallTime, Record)>,
}

impl Journal {
    pub(super) fn new(
        logs: LogHandle,
        level: LogLevel,
        log: &SupervisorLog,
        (has_journald, to_person): (bool, bool),
    ) -> Self {
        let to_journald = has_journald && log.file.is_none();
        let (format, events) = (log.format, VecDeque::new());
        Self { logs, level, format, to_journald, has_journald, to_person, events }
    }

    /// From now on, with these settings.
    pub(super) fn set(&mut self, level: LogLevel, log: &SupervisorLog) {
        self.level = level;
        self.format = log.format;
        self.to_journald = self.has_journald && log.file.is_none();
    }

    /// Writes `record` down.
    pub(super) fn write(&mut self, at: WallTime, record: Record) {
        if record.level() <= self.level {
            if self.format == LogFormat::Text {
                self.write_text(at, &record);
            } else {
                self.logs.own_line(self.line(at, &record).as_bytes());
            }
        }
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back((at, record));
    }

    /// First the fact, then what the signaller says about it, line by line.
    fn write_text(&self, at: WallTime, record: &Record) {
        let stamp = if self.to_journald {
            format!("<{}>", priority(record.level()))
        } else {
            format!("[{}] ", at.local(local_time::utc_offset(at)))
        };
        let (fact, said) = record.in_parts();
        for text in std::iter::once(fact).chain(said.iter().map(|line| format!("  {line}"))) {
            self.logs.own_line(format!("{stamp}{}\n", one_line(&text)).as_bytes());
        }
    }

    fn line(&self, at: WallTime, record: &Record) -> String {
        let level = record.level();
        if self.format == LogFormat::Json {
            let line = json!({
                "at": at.rfc3339(),
                "level": level,
                "event": record.event(),
                "program": record.program.as_ref().map(crate::model::Name::as_str),
                "message": record.text(),
            });
            return format!("{line}\n");
        }
        let text = one_line(&record.to_string());
        if self.to_journald {
            return format!("<{}>{text}\n", priority(level));
        }
        let stamp = at.rfc3339();
        let stamp = if self.to_person { stamp.get(11..19).unwrap_or(&stamp) } else { &stamp };
        format!("{stamp} {} {text}\n", word(level))
    }

    /// The remembered events that are at least so important, oldest first.
    pub(super) fn events_from(&self, level: LogLevel) -> Vec<LogLine> {
        let important = self.events.iter().filter(|(_, record)| record.level() <= level);
        important.map(|(at, record)| event_line(*at, record)).collect()
    }

    /// The remembered events, oldest first.
    pub(super) fn events(&self) -> Vec<LogLine> {
        self.events.iter().map(|(at, record)| event_line(*at, record)).collect()
    }
}

/// A record as a client sees it.
pub(super) fn event_line(at: WallTime, record: &Record) -> LogLine {
    let (name, text) = record.in_list();
    LogLine { at, name, source: record.event().to_owned(), text }
}

/// One record is one line, whatever a text from outside holds.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn ",
        LogLevel::Info => "info ",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

/// syslog(3) priorities, as sd-daemon(3) reads them.
fn priority(level: LogLevel) -> u8 {
    match level {
        LogLevel::Error => 3,
        LogLevel::Warn => 4,
        LogLevel::Info => 6,
        LogLevel::Debug | LogLevel::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_stamp_has_the_day_of_its_place() {
        let at = WallTime::parse("2026-01-01T23:30:05.900Z").unwrap_or(WallTime(0));
        assert_eq!(at.local(3600), "2026-01-02 00:30:05");
        assert_eq!(at.local(-5 * 3600 - 1800), "2026-01-01 18:00:05");
    }
}
