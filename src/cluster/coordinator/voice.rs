//! What a broker says to whoever coordinates, and by which slot map it says so.

use crate::cluster::frame::{Claim, Held, Token};

/// What a broker says of Client Identifiers to whoever coordinates their slots.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Word {
    /// It has a client with this identifier at its door.
    Claim(Claim),
    /// Where identifiers are, as of this epoch.
    Report(i64, Vec<Held>),
    /// That was its report, as of this epoch.
    ReportComplete(i64),
    /// It has this one, and waits for nothing any more.
    Settled(String, Token),
    /// It has this one no more.
    Released(String, Token),
}

/// A broker as it is heard.
#[derive(Debug, Default)]
pub(super) struct Voice {
    /// Of the slot map it went by when it last reported.
    pub(super) epoch: i64,
    /// What it has said by a slot map that is still to come here.
    pub(super) ahead: Vec<Word>,
}

impl Word {
    /// The slot map that the broker goes by from this word on.
    pub(super) fn epoch(&self) -> Option<i64> {
        match self {
            Self::Report(epoch, _) | Self::ReportComplete(epoch) => Some(*epoch),
            Self::Claim(_) | Self::Settled(..) | Self::Released(..) => None,
        }
    }
}

impl Voice {
    /// It says something. What it said by a former map counts no more: it says all that counts again.
    pub(super) fn note(&mut self, word: &Word) {
        let later = word.epoch().filter(|epoch| *epoch > self.epoch);
        if let Some(epoch) = later {
            self.epoch = epoch;
            self.ahead.clear();
        }
    }
}
