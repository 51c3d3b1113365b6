//! The latest output of each program, in memory, for `supervisor logs`.

use std::collections::VecDeque;

use super::Which;
use crate::model::WallTime;

/// What one program may use.
const CAPACITY: usize = 64 << 10;
/// What is kept of a chunk so large that it would fill the ring: its end says enough.
const TAIL: usize = 32 << 10;

#[derive(Clone, Copy, Debug)]
struct Entry {
    time: WallTime,
    len: usize,
    which: Which,
}

/// The tail of a program's output.
#[derive(Debug, Default)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    entries: VecDeque<Entry>,
}

/// A line out of a ring.
#[derive(Clone, Debug)]
pub(super) struct RingLine {
    pub(super) time: WallTime,
    pub(super) which: Which,
    pub(super) text: Vec<u8>,
}

impl Ring {
    /// Memory in use, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    pub(super) fn push(&mut self, time: WallTime, which: Which, chunk: &[u8]) {
        let chunk = if chunk.len() >= CAPACITY {
            // What is left must have no hole, so all that came before goes.
            self.bytes.clear();
            self.entries.clear();
            let tail = chunk.get(chunk.len() - TAIL..).unwrap_or(chunk);
            let start = memchr::memchr(b'\n', tail).map_or(0, |at| at + 1);
            tail.get(start..).unwrap_or_default()
        } else {
            chunk
        };
        if self.bytes.len() + chunk.len() > CAPACITY {
            self.trim(CAPACITY - chunk.len().min(CAPACITY));
        }
        self.bytes.extend(chunk);
        match self.entries.back_mut() {
            Some(last) if last.time == time && last.which == which => last.len += chunk.len(),
            _ => self.entries.push_back(Entry { time, len: chunk.len(), which }),
        }
        while self.entries.len() > CAPACITY / 32 {
            let oldest = self.entries.front().map_or(0, |e| e.len);
            self.trim(self.bytes.len() - oldest.min(self.bytes.len()));
            if oldest == 0 {
                self.entries.pop_front();
            }
        }
    }

    /// Forgets the oldest bytes until `target` are left.
    fn trim(&mut self, target: usize) {
        let mut excess = self.bytes.len().saturating_sub(target);
        self.bytes.drain(..excess);
        while excess > 0 {
            let Some(first) = self.entries.front_mut() else { break };
            if first.len > excess {
                first.len -= excess;
                break;
            }
            excess -= first.len;
            self.entries.pop_front();
        }
    }

    /// Gives half of the memory back.
    pub(super) fn halve(&mut self) {
        self.trim(self.bytes.len() / 2);
        self.bytes.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    /// The lines that are still whole, oldest first; an unfinished one counts.
    pub(super) fn lines(&self) -> Vec<RingLine> {
        let mut lines: Vec<RingLine> = Vec::new();
        let mut open: [Option<usize>; 2] = [None, None];
        let mut bytes = self.bytes.iter().copied();
        for entry in &self.entries {
            let data: Vec<u8> = bytes.by_ref().take(entry.len).collect();
            let slot = usize::from(entry.which == Which::Stderr);
            for piece in data.split_inclusive(|b| *b == b'\n') {
                let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |t| (t, true));
                let earlier = open.get(slot).copied().flatten().and_then(|i| lines.get_mut(i));
                match earlier {
                    Some(line) => line.text.extend_from_slice(text),
                    None => lines.push(RingLine {
                        time: entry.time,
                        which: entry.which,
                        text: text.to_vec(),
                    }),
                }
                if let Some(o) = open.get_mut(slot) {
                    *o = if ended { None } else { o.or(lines.len().checked_sub(1)) };
                }
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_again_and_the_oldest_are_forgotten() {
        let mut ring = Ring::default();
        ring.push(WallTime(1), Which::Stdout, b"on");
        ring.push(WallTime(2), Which::Stderr, b"err\n");
        ring.push(WallTime(3), Which::Stdout, b"e\ntwo");
        let texts: Vec<_> = ring.lines().into_iter().map(|l| l.text).collect();
        assert_eq!(texts, [b"one".to_vec(), b"err".to_vec(), b"two".to_vec()]);
        for i in 0..100_000 {
            ring.push(WallTime(i), Which::Stdout, b"x\n");
        }
        assert!(ring.cost() <= 3 * CAPACITY, "{}", ring.cost());
        ring.push(WallTime(9), Which::Stdout, &vec![b'y'; CAPACITY * 2]);
        assert!(ring.bytes.len() <= CAPACITY);
    }
}
