//! Who a broker is to the others.

use std::fmt;
use std::sync::Arc;

use crate::cluster::frame::STORED_WIRE_MIN;

/// One life of one broker: drawn anew by each process, and again by one that was declared dead.
///
/// It is what streams, interest, slots and leases belong to. A session with the tree of znodes that
/// is lost and made again does not change it.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BootId(pub u128);

impl BootId {
    /// The thirty-two digits of its written form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As much as tells two apart when one reads a log.
        write!(formatter, "boot-{:08x}", self.0 >> 96)
    }
}

/// A broker as its peers know it: what its znode holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Unique among live brokers.
    pub name: Arc<str>,
    /// This life of it.
    pub boot_id: BootId,
    /// Where its peers dial it, `host:port`.
    pub link_address: String,
    /// Where it stands: a rack, a zone of a cloud. Empty when nobody said.
    pub zone: String,
    /// The versions of the link protocol it speaks.
    pub wire: WireVersions,
    /// How far it is.
    pub state: MemberState,
}

/// The versions of the link protocol that a broker speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WireVersions {
    /// The oldest.
    pub oldest: u16,
    /// The newest.
    pub newest: u16,
}

impl WireVersions {
    /// Those of this program. From version 2 on brokers tell each other slot maps, and a Session that
    /// moves says who was left out of a message. From version 3 on it also says what it has taken
    /// lately. From version 4 on they say of which user a Session is, and who wants it. From version 5
    /// on they tell each other whose stored Sessions they have taken over.
    pub const OURS: Self = Self { oldest: 1, newest: 5 };

    /// The same of a broker whose Sessions are in memory: of what came with those that are stored it says
    /// nothing, and nobody is to wait for it.
    #[must_use]
    pub fn in_memory(self) -> Self {
        Self { newest: self.newest.min(STORED_WIRE_MIN - 1), ..self }
    }

    /// The newest version that both speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// How far a broker is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum MemberState {
    /// It waits for the interest of the others, and takes no clients yet.
    Joining,
    /// It serves.
    Up,
    /// It is on its way out.
    Draining,
}
