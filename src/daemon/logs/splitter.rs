//! Where lines end, and where too long ones are cut: pure, and independent of how input is chunked.

use memchr::{memchr, memrchr};

/// What ends a piece that was cut from a line longer than `max_line`: the line goes on below.
pub const CUT: &[u8] = b" \\\n";

/// How a [`Piece`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the newline of the input, which is not part of the text.
    Newline,
    /// Nowhere in the input: the line was too long.
    Cut,
    /// The line is not complete yet.
    Open,
}

/// A line or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Its bytes, without a newline.
    pub text: &'a [u8],
    /// How it ends.
    pub end: End,
}

/// How far the current line of a stream has come.
#[derive(Clone, Debug, Default)]
pub struct Splitter {
    column: usize,
}

impl Splitter {
    /// Forgets the current line: what comes next starts one.
    pub fn restart(&mut self) {
        self.column = 0;
    }

    /// Whether no line of `chunk` needs to be cut. Only then the chunk counts as consumed. One
    /// backward search per `max_line` bytes, however short the lines are.
    pub fn passes(&mut self, chunk: &[u8], max_line: usize) -> bool {
        let mut rest = chunk;
        let mut column = self.column;
        loop {
            let room = max_line.saturating_sub(column);
            let Some(window) = rest.get(..=room) else { break };
            let Some(at) = memrchr(b'\n', window) else { return false };
            rest = rest.get(at + 1..).unwrap_or_default();
            column = 0;
        }
        self.column = match memrchr(b'\n', rest) {
            Some(at) => rest.len() - at - 1,
            None => column + rest.len(),
        };
        true
    }

    /// Takes the next piece off `chunk`; `None` when it is used up.
    pub fn piece<'a>(&mut self, chunk: &mut &'a [u8], max_line: usize) -> Option<Piece<'a>> {
        if chunk.is_empty() {
            return None;
        }
        let room = max_line.saturating_sub(self.column);
        let window = chunk.get(..=room);
        let (len, skip, end) = match memchr(b'\n', window.unwrap_or(chunk)) {
            Some(at) => (at, 1, End::Newline),
            None if window.is_some() => (room, 0, End::Cut),
            None => (chunk.len(), 0, End::Open),
        };
        let (text, rest) = chunk.split_at_checked(len)?;
        *chunk = rest.get(skip..).unwrap_or_default();
        self.column = if end == End::Open { self.column + len } else { 0 };
        Some(Piece { text, end })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(chunks: &[&[u8]], max_line: usize) -> Vec<u8> {
        let (mut out, mut splitter) = (Vec::new(), Splitter::default());
        for chunk in chunks {
            let mut rest = *chunk;
            while let Some(piece) = splitter.piece(&mut rest, max_line) {
                out.extend_from_slice(piece.text);
                out.extend_from_slice(match piece.end {
                    End::Newline => b"\n",
                    End::Cut => CUT,
                    End::Open => b"",
                });
            }
        }
        out
    }

    #[test]
    fn a_line_longer_than_the_limit_is_cut_with_a_mark() {
        assert_eq!(cut(&[b"abcdefgh\nij\n"], 3), b"abc \\\ndef \\\ngh\nij\n");
        assert_eq!(cut(&[b"abc\n"], 3), b"abc\n");
        assert_eq!(cut(&[b"abc", b"\n"], 3), b"abc\n");
    }

    proptest! {
        #[test]
        fn any_chunking_of_the_input_gives_the_same_output(
            input in "[ab\n]{0,200}", cuts in prop::collection::vec(0_usize..200, 0..8), max in 1_usize..20,
        ) {
            let bytes = input.as_bytes();
            let mut at: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(cut(&chunks, max), cut(&[bytes], max));
        }

        #[test]
        fn the_quick_check_agrees_with_the_slow_way(
            first in "[a\n]{0,40}", second in "[ab\n]{0,80}", max in 1_usize..20,
        ) {
            let (mut quick, mut slow) = (Splitter::default(), Splitter::default());
            for chunk in [first.as_bytes(), second.as_bytes()] {
                let before = quick.column;
                let passes = quick.passes(chunk, max);
                let (mut rest, mut whole) = (chunk, true);
                while let Some(piece) = slow.piece(&mut rest, max) {
                    whole &= piece.end != End::Cut;
                }
                prop_assert_eq!(passes, whole);
                if passes {
                    prop_assert_eq!(quick.column, slow.column);
                } else {
                    prop_assert_eq!(quick.column, before);
                    quick.column = slow.column;
                }
            }
        }
    }
}
