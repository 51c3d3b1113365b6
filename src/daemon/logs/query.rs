//! Answers to `supervisor logs`: the past out of rings and files, then what comes.

use std::{
    fs::OpenOptions,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    LogBatch, LogLine, LogQuery, Reader, Taken, Which,
    errand::Errand,
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

/// The past that somebody asks for: files are read elsewhere, for that may take for ever.
pub(super) struct Past {
    query: LogQuery,
    reader: Reader,
    /// Of each program: the ends of its files, then what its ring has.
    parts: Vec<(Vec<Tail>, Vec<LogLine>)>,
    lines: Vec<LogLine>,
}

/// The end of a file, but for so many lines that the ring has too.
struct Tail {
    program: Name,
    path: PathBuf,
    which: Which,
    known: usize,
}

impl Past {
    /// Collects all lines.
    pub(super) fn run(&mut self) {
        for (tails, mut recent) in std::mem::take(&mut self.parts) {
            self.lines.extend(tails.iter().flat_map(Tail::lines));
            self.lines.append(&mut recent);
        }
    }
}

impl Pump {
    pub(super) fn answer(&mut self, query: LogQuery, reader: Reader) {
        let mut past = Past { query, reader, parts: Vec::new(), lines: Vec::new() };
        let query = &past.query;
        for source in self.sources.values() {
            if query.programs.is_empty() || query.programs.contains(&source.name) {
                past.parts.push(parts(source, query));
            }
        }
        if past.parts.iter().any(|(tails, _)| !tails.is_empty()) {
            self.errands.others.push_back(Errand::Past(Box::new(past)));
        } else {
            past.run();
            self.answered(past);
        }
    }

    /// Gives away what was collected.
    pub(super) fn answered(&mut self, past: Past) {
        let Past { query, mut reader, mut lines, .. } = past;
        lines.sort_by_key(|l: &LogLine| l.time);
        let excess = lines.len().saturating_sub(query.lines);
        lines.drain(..excess);
        let taken = reader(LogBatch { lines, lost: 0 });
        if query.follow && taken != Taken::Gone {
            let LogQuery { programs, stderr_only, .. } = query;
            self.followers.push(Follower { programs, stderr_only, reader, lost: 0 });
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

/// The lines of one program, and what else is to be read.
fn parts(source: &Source, query: &LogQuery) -> (Vec<Tail>, Vec<LogLine>) {
    let wanted = |which: Which| !query.stderr_only || which == Which::Stderr;
    let ring = source.ring.as_ref().map(|r| r.lines()).unwrap_or_default();
    let lines: Vec<LogLine> = ring
        .into_iter()
        .filter(|l| wanted(l.which) && query.since.is_none_or(|since| l.time >= since))
        .map(|l| LogLine {
            program: source.name.clone(),
            which: l.which,
            time: Some(l.time),
            text: l.text,
        })
        .collect();
    let mut tails = Vec::new();
    if lines.len() >= query.lines || query.since.is_some() {
        return (tails, lines);
    }
    let logging = &source.logging;
    let own_file = logging.stderr != LogTarget::Stdout && logging.stderr != logging.stdout;
    let mut add = |target: &LogTarget, which: Which| {
        let (Key::File(path), _) = Key::of(target) else { return };
        let known = lines.iter().filter(|l| !own_file || l.which == which).count();
        tails.push(Tail { program: source.name.clone(), path, which, known });
    };
    if !query.stderr_only {
        add(&logging.stdout, Which::Stdout);
    }
    if own_file {
        add(&logging.stderr, Which::Stderr);
    }
    (tails, lines)
}

impl Tail {
    /// The end of the file, without the lines that the ring has too.
    fn lines(&self) -> Vec<LogLine> {
        let Some(data) = read_tail(&self.path) else { return Vec::new() };
        let mut texts: Vec<&[u8]> =
            if data.is_empty() { Vec::new() } else { split(&data).collect() };
        texts.truncate(texts.len().saturating_sub(self.known));
        let line = |text: &[u8]| LogLine {
            program: self.program.clone(),
            which: self.which,
            time: None,
            text: text.to_vec(),
        };
        texts.into_iter().map(line).collect()
    }
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
