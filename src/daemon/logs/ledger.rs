//! What became of every byte that a program wrote.

use super::{Account, Counts, Which, queue::NOBODY};
use crate::model::Name;

struct Row {
    name: Name,
    counts: [Counts; 2],
}

/// The accounts of all programs; an owner is a row and a stream.
#[derive(Default)]
pub(super) struct Ledger {
    rows: Vec<Row>,
}

impl Ledger {
    /// Opens an account; gives its number.
    pub(super) fn add(&mut self, name: Name) -> u32 {
        self.rows.push(Row { name, counts: [Counts::default(); 2] });
        super::queue::short(self.rows.len() - 1)
    }

    pub(super) fn owner(program: u32, which: Which) -> u32 {
        program * 2 + u32::from(which == Which::Stderr)
    }

    fn counts(&mut self, owner: u32) -> Option<&mut Counts> {
        let row = self.rows.get_mut(super::queue::long(owner / 2))?;
        row.counts.get_mut(super::queue::long(owner % 2))
    }

    pub(super) fn name(&self, owner: u32) -> Option<&Name> {
        if owner == NOBODY {
            return None;
        }
        self.rows.get(super::queue::long(owner / 2)).map(|r| &r.name)
    }

    pub(super) fn offered(&mut self, owner: u32, bytes: usize) {
        if let Some(c) = self.counts(owner) {
            c.offered += u64::try_from(bytes).unwrap_or(u64::MAX);
        }
    }

    pub(super) fn written(&mut self, owner: u32, bytes: u32) {
        if let Some(c) = self.counts(owner) {
            c.written += u64::from(bytes);
        }
    }

    pub(super) fn dropped(&mut self, owner: u32, bytes: u64) {
        if let Some(c) = self.counts(owner) {
            c.dropped += bytes;
        }
    }

    /// What was counted as written was lost after all.
    pub(super) fn refused(&mut self, owner: u32, bytes: u32) {
        if let Some(c) = self.counts(owner) {
            c.written = c.written.saturating_sub(u64::from(bytes));
            c.dropped += u64::from(bytes);
        }
    }

    pub(super) fn account(&self, program: u32) -> Account {
        let row = self.rows.get(super::queue::long(program));
        let [stdout, stderr] = row.map_or([Counts::default(); 2], |r| r.counts);
        Account { stdout, stderr, stuck: None }
    }
}
