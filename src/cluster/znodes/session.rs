//! A session: what belongs to it, what it watches, and what it has not been told yet.

use std::collections::{BTreeSet, VecDeque};

use super::nodes::Effect;
use crate::ports::coordination::{ChangeKind, CoordinationError, CoordinationEvent};

/// One session.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    /// The znodes that end with it.
    pub(super) ephemerals: BTreeSet<String>,
    watches: BTreeSet<String>,
    untold: VecDeque<(String, ChangeKind)>,
    lost: u64,
}

impl Session {
    /// From now on it is told of `path` and all below it.
    pub(super) fn watch(&mut self, path: String) -> Result<(), CoordinationError> {
        if self.watches.len() >= WATCHES_MAX && !self.watches.contains(&path) {
            return Err(CoordinationError::Busy);
        }
        self.watches.insert(path);
        Ok(())
    }

    /// One of its own znodes has come or gone.
    pub(super) fn note_own(&mut self, effect: &Effect) {
        match effect.kind {
            ChangeKind::Created => {
                self.ephemerals.insert(effect.path.clone());
            }
            ChangeKind::DataChanged => {}
            ChangeKind::Deleted => {
                self.ephemerals.remove(&effect.path);
            }
        }
    }

    /// Something has changed: once, however many of its watches cover it.
    pub(super) fn tell(&mut self, effect: &Effect) {
        if !self.watches.iter().any(|watched| covers(watched, &effect.path)) {
            return;
        }
        if self.untold.len() >= UNTOLD_MAX {
            self.untold.pop_front();
            self.lost += 1;
        }
        self.untold.push_back((effect.path.clone(), effect.kind));
    }

    /// The oldest change it has not been told.
    pub(super) fn next_change(&mut self) -> Option<CoordinationEvent> {
        let (path, kind) = self.untold.pop_front()?;
        Some(CoordinationEvent::Changed { path, kind })
    }

    /// Forgets what it has not been told.
    pub(super) fn lose_changes(&mut self) -> usize {
        let count = self.untold.len();
        self.untold.clear();
        count
    }

    pub(super) fn changes_lost(&self) -> u64 {
        self.lost
    }
}

/// Whether a watch on `watched` tells of `path`.
fn covers(watched: &str, path: &str) -> bool {
    watched == "/"
        || path.strip_prefix(watched).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A broker has about four.
const WATCHES_MAX: usize = 1_024;

/// What a session that nobody asks is not told is lost beyond this: as by a move to another server.
const UNTOLD_MAX: usize = 65_536;
