//! The output of the supervisor, read while it comes.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::harness::PATIENCE;

/// Lines that are read while they come.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Shared>);

/// The lines so far, whether that is all, and the bell for new ones.
type Shared = (Mutex<(Vec<String>, bool)>, Condvar);

impl Lines {
    pub(crate) fn read(from: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let shared = Arc::clone(&lines.0);
        let read = move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                line.clear();
                shared.0.lock().unwrap().0.push(text);
                shared.1.notify_all();
            }
            shared.0.lock().unwrap().1 = true;
            shared.1.notify_all();
        };
        thread::Builder::new().spawn(read).unwrap();
        lines
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().0.clone()
    }

    /// Everything until now.
    pub(super) fn text_so_far(&self) -> String {
        self.all().join("\n")
    }

    /// Everything up to the end.
    pub(crate) fn text(&self) -> String {
        let state = self.0.0.lock().unwrap();
        let (state, late) = self.0.1.wait_timeout_while(state, PATIENCE, |state| !state.1).unwrap();
        let lines = state.0.clone();
        drop(state);
        assert!(!late.timed_out(), "somebody still has the pipe: {lines:?}");
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The first line that is meant, when it is there.
    pub(crate) fn wait_for(&self, what: &str, meant: impl Fn(&str) -> bool) -> String {
        let found = self.wait_for_or_end(what, meant);
        found.unwrap_or_else(|| panic!("no line for {what}: {:#?}", self.all()))
    }

    /// The same; `None` when the output ends without it.
    pub(super) fn wait_for_or_end(
        &self,
        what: &str,
        meant: impl Fn(&str) -> bool,
    ) -> Option<String> {
        self.watch(PATIENCE, what, |lines, is_all| {
            let found = lines.iter().find(|line| meant(line)).cloned();
            (found.is_some() || is_all).then_some(found)
        })
    }

    /// What is looked for in the lines so far, and whether they are all, as soon as it is there.
    pub(crate) fn watch<T>(
        &self,
        patience: Duration,
        what: &str,
        look: impl Fn(&[String], bool) -> Option<T>,
    ) -> T {
        let end = Instant::now() + patience;
        let mut state = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = look(&state.0, state.1) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || state.1 {
                let lines = state.0.clone();
                drop(state);
                panic!("no line for {what}: {lines:#?}");
            }
            state = self.0.1.wait_timeout(state, left).unwrap().0;
        }
    }
}
