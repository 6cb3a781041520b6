//! What the bank deals in.

use std::fmt;

/// Amounts of the three currencies: what exists in the tree of znodes, or may.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Funds {
    /// Znodes of topics.
    pub topics: u64,
    /// The bytes of their names and contents.
    pub znode_bytes: u64,
    /// The bytes of the windows in which frames are relayed.
    pub relay_bytes: u64,
}

impl Funds {
    /// Nothing.
    pub const ZERO: Self = Self { topics: 0, znode_bytes: 0, relay_bytes: 0 };

    /// Whether there is enough of each currency for `cost`.
    #[must_use]
    pub fn covers(self, cost: Self) -> bool {
        self.min(cost) == cost
    }

    /// The sum, in each currency.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// What is left when `other` is gone; zero in a currency of which `other` has more.
    #[must_use]
    pub fn saturating_minus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_sub)
    }

    /// The lower of two, in each currency.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        self.zip(other, Ord::min)
    }

    /// The higher of two, in each currency.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.zip(other, Ord::max)
    }

    /// Both, currency by currency, through `combine`.
    #[must_use]
    pub fn zip(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            topics: combine(self.topics, other.topics),
            znode_bytes: combine(self.znode_bytes, other.znode_bytes),
            relay_bytes: combine(self.relay_bytes, other.relay_bytes),
        }
    }

    /// Reads what [`fmt::Display`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut amount = |name: &str| -> Option<u64> {
            words.next()?.strip_prefix(name)?.strip_prefix('=')?.parse().ok()
        };
        let funds = Self {
            topics: amount("topics")?,
            znode_bytes: amount("znode_bytes")?,
            relay_bytes: amount("relay_bytes")?,
        };
        words.next().is_none().then_some(funds)
    }
}

impl fmt::Display for Funds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topics, znode_bytes, relay_bytes } = self;
        write!(formatter, "topics={topics} znode_bytes={znode_bytes} relay_bytes={relay_bytes}")
    }
}

#[cfg(test)]
mod tests {
    use super::Funds;

    #[test]
    fn the_written_form_is_read_back_and_nothing_else_is() {
        let funds = Funds { topics: 1, znode_bytes: 22, relay_bytes: u64::MAX };
        assert_eq!(Funds::parse(&funds.to_string()), Some(funds));
        for other in ["", "topics=1", "topics=1 znode_bytes=2 relay_bytes=-3"] {
            assert_eq!(Funds::parse(other), None, "{other:?}");
        }
        assert_eq!(Funds::parse(&format!("{funds} more=1")), None);
    }

    #[test]
    fn enough_is_enough_of_each() {
        let room = Funds { topics: 1, znode_bytes: 100, relay_bytes: 0 };
        assert!(room.covers(Funds { topics: 1, znode_bytes: 100, relay_bytes: 0 }));
        assert!(!room.covers(Funds { topics: 1, znode_bytes: 101, relay_bytes: 0 }));
        assert!(!room.covers(Funds { topics: 0, znode_bytes: 0, relay_bytes: 1 }));
    }
}
