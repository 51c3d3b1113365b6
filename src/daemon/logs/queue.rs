//! Output that waits for its sink: bytes, and to whom they belong, dropped by whole lines.

use std::collections::VecDeque;

use memchr::{memchr, memchr_iter};

/// A stretch of output. When `raw == out` it is the program's own bytes and may be divided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Whose it is; [`NOBODY`] for marks.
    pub(super) owner: u32,
    /// Bytes of the program in it.
    pub(super) raw: u32,
    /// Bytes of output.
    pub(super) out: u32,
    /// Never dropped: its program rather waits.
    pub(super) keep: bool,
}

/// The owner of what no program wrote.
pub(super) const NOBODY: u32 = u32::MAX;

/// What was lost of one owner.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loss {
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

impl Loss {
    /// The line that stands where the lines are missing.
    pub(super) fn mark(self, name: &str, reason: &str) -> String {
        let Self { lines, bytes } = self;
        format!("supervisor: {name}: {lines} lines ({bytes} bytes) lost: {reason}")
    }
}

/// A length as it is kept in a [`Segment`]; chunks are far smaller than 4 GiB.
pub(super) fn short(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// The inverse of [`short`].
pub(super) fn long(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// The number of lines that end or stop in `bytes`.
pub(super) fn lines_in(bytes: &[u8]) -> u64 {
    let ends = memchr_iter(b'\n', bytes).count();
    let open = bytes.last().is_some_and(|b| *b != b'\n');
    u64::try_from(ends).unwrap_or(u64::MAX).saturating_add(u64::from(open))
}

/// Output in the order in which it is to be written.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: VecDeque<u8>,
    segments: VecDeque<Segment>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Memory in use: many short lines cost more in segments than in bytes.
    pub(super) fn cost(&self) -> usize {
        self.bytes.len() + self.segments.len() * size_of::<Segment>()
    }

    pub(super) fn push(&mut self, bytes: &[u8], segments: impl Iterator<Item = Segment>) {
        self.bytes.extend(bytes);
        for s in segments {
            match self.segments.back_mut() {
                Some(last)
                    if last.owner == s.owner
                        && last.raw == last.out
                        && s.raw == s.out
                        && last.keep == s.keep =>
                {
                    last.raw = last.raw.saturating_add(s.raw);
                    last.out = last.out.saturating_add(s.out);
                }
                _ => self.segments.push_back(s),
            }
        }
    }

    /// Puts what came later behind this.
    pub(super) fn append(&mut self, later: &mut Self) {
        self.bytes.append(&mut later.bytes);
        self.segments.append(&mut later.segments);
    }

    /// Puts a mark before everything else.
    pub(super) fn push_front(&mut self, mark: &[u8]) {
        for b in mark.iter().rev() {
            self.bytes.push_front(*b);
        }
        let out = short(mark.len());
        self.segments.push_front(Segment { owner: NOBODY, raw: 0, out, keep: true });
    }

    /// All of it in one piece.
    pub(super) fn parts(&mut self) -> (&[u8], &[Segment]) {
        (self.bytes.make_contiguous(), self.segments.make_contiguous())
    }

    /// Takes off what was written, calling `written(owner, raw bytes)`.
    pub(super) fn consume(&mut self, mut n: usize, mut written: impl FnMut(u32, u32)) {
        self.bytes.drain(..n.min(self.bytes.len()));
        while n > 0 {
            let Some(first) = self.segments.front_mut() else { break };
            if long(first.out) <= n {
                n -= long(first.out);
                written(first.owner, first.raw);
                self.segments.pop_front();
            } else {
                let part = short(n);
                if first.raw == first.out {
                    written(first.owner, part);
                    first.raw -= part;
                }
                first.out -= part;
                n = 0;
            }
        }
        if self.bytes.is_empty() {
            self.segments.clear();
        }
    }

    /// Drops the oldest whole lines until about `target` bytes are left. With `started` the first
    /// line is partly written already and stays. Gives whether the unfinished line at the end went
    /// too.
    pub(super) fn drop_oldest(
        &mut self,
        target: usize,
        started: bool,
        datagrams: bool,
        mut lost: impl FnMut(u32, Loss),
    ) -> bool {
        let segments = std::mem::take(&mut self.segments);
        let bytes: Vec<u8> = std::mem::take(&mut self.bytes).into();
        let mut need = self.excess(&bytes, segments.len(), target);
        let mut protect = if started { memchr(b'\n', &bytes).map_or(0, |at| at + 1) } else { 0 };
        let (mut rest, mut within_line) = (bytes.as_slice(), false);
        for s in segments {
            let Some((mut text, after)) = rest.split_at_checked(long(s.out)) else { break };
            rest = after;
            let plain = s.raw == s.out;
            let whole = if s.keep || (protect > 0 && !plain) { text.len() } else { protect };
            let stay = whole.min(text.len());
            protect = protect.saturating_sub(text.len());
            if stay > 0 {
                let head = text.get(..stay).unwrap_or_default();
                self.push(head, std::iter::once(part(s, stay)));
                text = text.get(stay..).unwrap_or_default();
            }
            if text.is_empty() {
                continue;
            }
            let cut = if need == 0 && !within_line {
                0
            } else if plain && !datagrams {
                let from = need.min(text.len()).saturating_sub(1);
                let tail = text.get(from..).unwrap_or_default();
                memchr(b'\n', tail).map_or(text.len(), |at| from + at + 1)
            } else {
                text.len()
            };
            let (gone, kept) = text.split_at_checked(cut).unwrap_or((text, &[]));
            if !gone.is_empty() {
                let raw = if plain { gone.len() } else { long(s.raw) };
                let bytes = u64::try_from(raw).unwrap_or(u64::MAX);
                let lines = if datagrams { 1 } else { lines_in(gone) };
                lost(s.owner, Loss { lines, bytes });
                need = need.saturating_sub(gone.len() + size_of::<Segment>());
                within_line = !datagrams && gone.last() != Some(&b'\n');
            }
            if !kept.is_empty() {
                self.push(kept, std::iter::once(part(s, kept.len())));
            }
        }
        within_line
    }

    fn excess(&self, bytes: &[u8], segments: usize, target: usize) -> usize {
        (bytes.len() + segments * size_of::<Segment>()).saturating_sub(target + self.len())
    }
}

/// `len` bytes of a segment that may be divided, or the whole segment.
fn part(s: Segment, len: usize) -> Segment {
    if s.raw == s.out { Segment { raw: short(len), out: short(len), ..s } } else { s }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn dropped_and_kept_make_up_what_was_offered_and_lines_stay_whole(
            lines in prop::collection::vec("[a-z]{0,12}", 1..60), target in 0_usize..300,
        ) {
            let mut queue = Queue::default();
            let mut offered = Vec::new();
            for line in &lines {
                let text = format!("{line}\n");
                let n = short(text.len());
                let one = Segment { owner: 0, raw: n, out: n, keep: false };
                queue.push(text.as_bytes(), std::iter::once(one));
                offered.extend_from_slice(text.as_bytes());
            }
            let mut gone = Loss::default();
            queue.drop_oldest(target, false, false, |_, l| {
                gone.lines += l.lines;
                gone.bytes += l.bytes;
            });
            let (kept, _) = queue.parts();
            let gone_bytes = usize::try_from(gone.bytes).unwrap();
            prop_assert_eq!(gone_bytes + kept.len(), offered.len());
            prop_assert_eq!(kept, &offered[gone_bytes..]);
            prop_assert_eq!(gone.lines, lines_in(&offered[..gone_bytes]));
            prop_assert!(gone_bytes == 0 || offered[gone_bytes - 1] == b'\n');
        }
    }
}
