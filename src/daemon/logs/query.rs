//! Answers to `supervisor logs`: the past out of rings and files, then what comes.

use std::{
    fs::OpenOptions,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::{
    LogBatch, LogLine, LogQuery, Reader, Taken, Which,
    pump::{Pump, Source},
    queue::lines_in,
    table::Key,
};
use crate::model::{LogTarget, Name};

/// What is read back of a file.
const FILE_TAIL: u64 = 256 << 10;
/// What a follower gets of one chunk.
const FOLLOW_MAX: usize = 64 << 10;

/// A reader that goes on reading.
pub(super) struct Follower {
    programs: Vec<Name>,
    stderr_only: bool,
    reader: Reader,
    lost: u64,
}

impl Pump {
    pub(super) fn answer(&mut self, query: &LogQuery, mut reader: Reader) {
        let mut lines = Vec::new();
        for source in self.sources.values() {
            if query.programs.is_empty() || query.programs.contains(&source.name) {
                lines.extend(past(source, query));
            }
        }
        lines.sort_by_key(|l: &LogLine| l.time);
        let excess = lines.len().saturating_sub(query.lines);
        lines.drain(..excess);
        let taken = reader(LogBatch { lines, lost: 0 });
        if query.follow && taken != Taken::Gone {
            self.followers.push(Follower {
                programs: query.programs.clone(),
                stderr_only: query.stderr_only,
                reader,
                lost: 0,
            });
        }
    }

    pub(super) fn tell_followers(&mut self, program: u32, which: Which, data: &[u8]) {
        if self.followers.is_empty() {
            return;
        }
        let Some(name) = self.sources.get(&program).map(|s| s.name.clone()) else { return };
        let from = data.len().saturating_sub(FOLLOW_MAX);
        let (skipped, data) = data.split_at_checked(from).unwrap_or((&[], data));
        let skipped = if skipped.is_empty() { 0 } else { lines_in(skipped) };
        let time = Some(self.at.wall);
        self.followers.retain_mut(|f| {
            let wanted = f.programs.is_empty() || f.programs.contains(&name);
            if !wanted || (f.stderr_only && which == Which::Stdout) {
                return true;
            }
            let lines: Vec<LogLine> = split(data)
                .map(|text| LogLine { program: name.clone(), which, time, text: text.to_vec() })
                .collect();
            let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
            match (f.reader)(LogBatch { lines, lost: f.lost + skipped }) {
                Taken::Yes => f.lost = 0,
                Taken::Full => f.lost += skipped + count,
                Taken::Gone => return false,
            }
            true
        });
    }
}

fn split(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.strip_suffix(b"\n").unwrap_or(data).split(|b| *b == b'\n')
}

/// The lines of one program, oldest first.
fn past(source: &Source, query: &LogQuery) -> Vec<LogLine> {
    let wanted = |which: Which| !query.stderr_only || which == Which::Stderr;
    let ring = source.ring.as_ref().map(|r| r.lines()).unwrap_or_default();
    let mut lines: Vec<LogLine> = ring
        .into_iter()
        .filter(|l| wanted(l.which) && query.since.is_none_or(|since| l.time >= since))
        .map(|l| LogLine {
            program: source.name.clone(),
            which: l.which,
            time: Some(l.time),
            text: l.text,
        })
        .collect();
    if lines.len() >= query.lines || query.since.is_some() {
        return lines;
    }
    let logging = &source.logging;
    let own_file = logging.stderr != LogTarget::Stdout && logging.stderr != logging.stdout;
    let mut older = Vec::new();
    if !query.stderr_only {
        older.extend(from_file(source, &logging.stdout, Which::Stdout, own_file, &lines));
    }
    if own_file {
        older.extend(from_file(source, &logging.stderr, Which::Stderr, own_file, &lines));
    }
    older.append(&mut lines);
    older
}

/// The end of a program's file, without the lines that the ring has too.
fn from_file(
    source: &Source,
    target: &LogTarget,
    which: Which,
    own_file: bool,
    ring: &[LogLine],
) -> Vec<LogLine> {
    let (Key::File(path), _) = Key::of(target) else { return Vec::new() };
    let Some(data) = read_tail(&path) else { return Vec::new() };
    let mut texts: Vec<&[u8]> = if data.is_empty() { Vec::new() } else { split(&data).collect() };
    let known = ring.iter().filter(|l| !own_file || l.which == which).count();
    texts.truncate(texts.len().saturating_sub(known));
    let line = |text: &[u8]| LogLine {
        program: source.name.clone(),
        which,
        time: None,
        text: text.to_vec(),
    };
    texts.into_iter().map(line).collect()
}

fn read_tail(path: &Path) -> Option<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let from = meta.len().saturating_sub(FILE_TAIL);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut data = Vec::new();
    file.take(FILE_TAIL).read_to_end(&mut data).ok()?;
    if from > 0 {
        let start = memchr::memchr(b'\n', &data).map_or(data.len(), |at| at + 1);
        data.drain(..start);
    }
    Some(data)
}
