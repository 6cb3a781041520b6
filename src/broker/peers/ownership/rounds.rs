//! Who waits for the answers to which question: whether everything has come that was routed here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::session::mailbox::Mailbox;

/// Those that wait, by question.
#[derive(Default)]
pub(super) struct Rounds {
    /// Exports for which no question has been put yet.
    wanting: BTreeSet<u64>,
    /// Mailboxes of Sessions that have come, for which none has.
    arrived: Vec<Arc<Mailbox>>,
    asked: BTreeMap<u64, Waiting>,
}

/// Those that wait for the answers to one question.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) exports: BTreeSet<u64>,
    pub(super) arrived: Vec<Arc<Mailbox>>,
}

impl Rounds {
    /// An export wants a question to be put.
    pub(super) fn want(&mut self, export: u64) {
        self.wanting.insert(export);
    }

    /// A Session has come, and what came with it may still come by other ways.
    pub(super) fn arrive(&mut self, mailbox: Arc<Mailbox>) {
        self.arrived.push(mailbox);
    }

    /// Whether a question is to be put. While many are open the next one waits, and is put for all
    /// who have come by then.
    pub(super) fn is_due(&self) -> bool {
        let is_wanted = !self.wanting.is_empty() || !self.arrived.is_empty();
        is_wanted && self.asked.len() < OPEN_MAX
    }

    /// A question was put. The exports that wait for its answers.
    pub(super) fn put(&mut self, round: u64) -> BTreeSet<u64> {
        let exports = std::mem::take(&mut self.wanting);
        let arrived = std::mem::take(&mut self.arrived);
        self.asked.insert(round, Waiting { exports: exports.clone(), arrived });
        exports
    }

    /// An export waits no more. A question that nobody waits for is forgotten.
    pub(super) fn leave(&mut self, round: Option<u64>, export: u64) {
        self.wanting.remove(&export);
        let Some(round) = round else { return };
        let Some(waiting) = self.asked.get_mut(&round) else { return };
        waiting.exports.remove(&export);
        if waiting.exports.is_empty() && waiting.arrived.is_empty() {
            self.asked.remove(&round);
        }
    }

    /// The answers have come, and all that they speak of.
    pub(super) fn pass(&mut self, round: u64) -> Waiting {
        self.asked.remove(&round).unwrap_or_default()
    }

    pub(super) fn is_asked(&self, round: u64) -> bool {
        self.asked.contains_key(&round)
    }

    pub(super) fn asked(&self) -> Vec<u64> {
        self.asked.keys().copied().collect()
    }

    /// All mailboxes of Sessions that have come.
    pub(super) fn into_arrived(self) -> impl Iterator<Item = Arc<Mailbox>> {
        let asked = self.asked.into_values().flat_map(|waiting| waiting.arrived);
        self.arrived.into_iter().chain(asked)
    }
}

/// Questions that are open at a time.
const OPEN_MAX: usize = 16;
