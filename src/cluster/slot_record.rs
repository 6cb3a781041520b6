//! A slot map as it is told from broker to broker: with where it stands.

use bytes::Bytes;

use crate::cluster::slots::{SlotMap, SlotMapError};
use crate::ports::coordination::Stat;

/// Which `/slots` it is: that of one tree of znodes, from when it was made until it is gone.
///
/// The transaction alone does not tell: two trees may have made it by the same one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Home {
    /// The transaction that made the znode.
    pub czxid: i64,
    /// When that was, by the clock of the ensemble.
    pub ctime_millis: i64,
}

/// A slot map, as somebody has read it from the tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlotRecord {
    /// Where it stands.
    pub home: Home,
    /// The transaction that wrote it.
    pub mzxid: i64,
    /// What the znode holds.
    pub content: Bytes,
}

impl Home {
    /// The one whose znode this is.
    #[must_use]
    pub fn of(stat: Stat) -> Self {
        Self { czxid: stat.czxid, ctime_millis: stat.ctime_millis }
    }
}

impl SlotRecord {
    /// The record of `map`.
    #[must_use]
    pub fn new(home: Home, map: &SlotMap) -> Self {
        Self { home, mzxid: map.mzxid(), content: map.encode() }
    }

    /// The map.
    ///
    /// # Errors
    ///
    /// The content is not that of a map.
    pub fn map(&self) -> Result<SlotMap, SlotMapError> {
        SlotMap::decode(self.mzxid, self.content.clone())
    }
}
