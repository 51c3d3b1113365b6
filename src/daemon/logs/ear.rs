//! Listens for a text in the output of a run.

use std::sync::Arc;

use memchr::memmem::Finder;

/// What is listened for, and what is done about it, in the thread that reads; it must not block.
#[derive(Clone)]
pub struct Ear {
    text: Arc<[u8]>,
    /// Of several in one read it is told at least of one.
    heard: Arc<dyn Fn() + Send + Sync>,
    /// The end of what came before, which may be the begin of it.
    before: Vec<u8>,
}

impl Ear {
    /// Calls `heard` whenever `text` was written, which has no line end in it.
    pub fn new(text: &str, heard: impl Fn() + Send + Sync + 'static) -> Self {
        Self { text: text.as_bytes().into(), heard: Arc::new(heard), before: Vec::new() }
    }

    /// Takes what follows in the stream. The text has no line end in it, so it is never of two
    /// lines.
    pub(super) fn listen(&mut self, data: &[u8]) {
        let keep = self.text.len().saturating_sub(1);
        let across = data.get(..keep.min(data.len())).unwrap_or_default();
        self.before.extend_from_slice(across);
        let finder = Finder::new(&self.text);
        if finder.find(&self.before).is_some() || finder.find(data).is_some() {
            (self.heard)();
        }
        if data.len() >= keep {
            self.before.clear();
            self.before.extend_from_slice(data.get(data.len() - keep..).unwrap_or_default());
        } else {
            let surplus = self.before.len().saturating_sub(keep);
            self.before.drain(..surplus);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn heard(text: &str, pieces: &[&str]) -> u64 {
        let count: Arc<AtomicU64> = Arc::default();
        let counts = Arc::clone(&count);
        let mut ear = Ear::new(text, move || {
            counts.fetch_add(1, Ordering::Relaxed);
        });
        for piece in pieces {
            ear.listen(piece.as_bytes());
        }
        count.load(Ordering::Relaxed)
    }

    #[test]
    fn a_text_is_heard_wherever_the_reads_divide_it() {
        let text = "is ready";
        let line = "server is ready at 8080\n";
        for at in 0..line.len() {
            let (one, two) = line.split_at(at);
            assert_eq!(heard(text, &[one, two]), 1, "divided at {at}");
        }
        let letters: Vec<&str> = line.split("").collect();
        assert_eq!(heard(text, &letters), 1);
    }

    #[test]
    fn what_is_of_two_lines_or_of_less_is_not_heard() {
        assert_eq!(heard("is ready", &["server is\n", "ready\n"]), 0);
        assert_eq!(heard("is ready", &["is read", "is read", "is ready"]), 1);
        assert_eq!(heard("x", &["aaa", "", "b"]), 0);
        assert_eq!(heard("x", &["x", "x"]), 2);
        assert_eq!(heard("abc", &["ab", "c", "c", "bc"]), 1);
    }
}
