//! What is known of one topic.

use bytes::Bytes;

use super::boots::{Boot, Boots};
use super::record::{Content, Record};
use crate::cluster::bank::Funds;
use crate::cluster::version::Version;
use crate::ports::Tick;

/// One topic. A million of these are held, so that it is small.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What its znode held when it was last read or written; `None`: there was none.
    pub(super) seen: Option<Seen>,
    /// When we last wrote it.
    pub(super) written_at: Tick,
    /// Bytes that we have taken from the bank for it, and one topic with them; 0: nothing.
    pub(super) charged: u32,
    pub(super) flags: Flags,
    /// The value that we want it to have, or gave it.
    pub(super) own: Option<Box<Own>>,
}

/// A znode, as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) version_time: u64,
    pub(super) expires_at_millis: u64,
    pub(super) writer: Boot,
    pub(super) payer: Boot,
    pub(super) znode_version: i32,
    /// Of its name and content.
    pub(super) bytes: u32,
    pub(super) kind: Kind,
}

/// What a znode says, without saying it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Registration,
    Value,
    Tombstone,
    /// Something that this version of the program cannot read. It is nobody's, and let alone.
    Unreadable,
}

/// A record of ours.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) version: Version,
    pub(super) expires_at_millis: u64,
    pub(super) kind: Kind,
    pub(super) data: Bytes,
}

/// What is going on with a topic.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Flags(u16);

impl Flags {
    /// It is to be registered.
    pub(super) const WANTED: Self = Self(1);
    /// It was used since it was last written.
    pub(super) const USED: Self = Self(1 << 1);
    /// It was used since room was last looked for.
    pub(super) const RECENT: Self = Self(1 << 2);
    /// It is to be read.
    pub(super) const UNREAD: Self = Self(1 << 3);
    /// It waits for its turn to be written.
    pub(super) const QUEUED: Self = Self(1 << 4);
    /// A write is under way.
    pub(super) const WRITING: Self = Self(1 << 5);
    /// The write under way is its end.
    pub(super) const ENDING: Self = Self(1 << 6);
    /// It was said that its registration is about to end.
    pub(super) const FADING: Self = Self(1 << 7);
    /// It stands among those that may be deleted to make room.
    pub(super) const EVICTABLE: Self = Self(1 << 8);

    pub(super) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(super) fn set(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    pub(super) fn clear(&mut self, flag: Self) {
        self.0 &= !flag.0;
    }

    /// What a write came to is not known, until a read that was sent later has been answered.
    pub(super) const UNCERTAIN: Self = Self(1 << 9);

    /// What keeps a topic in the table although it has no znode.
    fn is_busy(self) -> bool {
        let busy = [Self::WANTED, Self::UNREAD, Self::QUEUED, Self::WRITING, Self::UNCERTAIN];
        busy.iter().any(|&flag| self.has(flag))
    }
}

impl Known {
    /// Whether nothing is known and nothing is wanted.
    pub(super) fn is_idle(&self) -> bool {
        self.seen.is_none() && self.own.is_none() && self.charged == 0 && !self.flags.is_busy()
    }

    /// Whether a write may be planned and paid for by what was seen.
    pub(super) fn is_certain(&self) -> bool {
        ![Flags::WRITING, Flags::UNCERTAIN].iter().any(|&flag| self.flags.has(flag))
    }

    /// Whether its znode is there and ours.
    pub(super) fn is_ours(&self) -> bool {
        self.seen.is_some_and(|seen| seen.payer == Boot::OWN && seen.kind != Kind::Unreadable)
    }

    /// Bytes of the value that we want it to have.
    pub(super) fn own_bytes(&self) -> usize {
        self.own.as_ref().map_or(0, |own| own.data.len())
    }
}

impl Seen {
    pub(super) fn of(record: &Record, znode_version: i32, bytes: u32, boots: &mut Boots) -> Self {
        Self {
            version_time: record.version.time,
            expires_at_millis: record.expires_at_millis,
            writer: boots.place(record.version.boot_id),
            payer: boots.place(record.payer),
            znode_version,
            bytes,
            kind: Kind::of(&record.content),
        }
    }

    pub(super) fn version(&self, boots: &Boots) -> Version {
        Version { time: self.version_time, boot_id: boots.at(self.writer) }
    }

    /// What the znode costs whoever pays for it.
    pub(super) fn cost(&self) -> Funds {
        cost_of(self.bytes)
    }
}

impl Kind {
    pub(super) fn of(content: &Content) -> Self {
        match content {
            Content::Registration => Self::Registration,
            Content::Value(..) => Self::Value,
            Content::Tombstone => Self::Tombstone,
        }
    }
}

/// What a znode of so many bytes costs.
pub(super) fn cost_of(bytes: u32) -> Funds {
    Funds { topics: u64::from(bytes > 0), znode_bytes: u64::from(bytes), relay_bytes: 0 }
}
