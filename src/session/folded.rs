//! A Session whose connection has nothing to do, as small as it can be.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use crate::mqtt::{PacketId, TopicFilter};
use crate::session::agreement::{NetworkConnection, PackedAgreement};
use crate::session::in_flight::InFlight;
use crate::session::mailbox::Mailbox;
use crate::session::session::{Session, Stored, Subscription};

/// A [`Session`] that has nothing in flight.
#[derive(Debug)]
pub struct FoldedSession {
    mailbox: Arc<Mailbox>,
    /// Nothing for a client that subscribes to nothing.
    subscriptions: Option<Box<Subscriptions>>,
    stored: Option<Box<Stored>>,
    agreement: PackedAgreement,
    next_id: PacketId,
}

#[derive(Debug)]
struct Subscriptions {
    table: HashMap<TopicFilter, Subscription, FixedState>,
    bytes: usize,
    #[expect(clippy::box_collection, reason = "eight bytes for a Session that has none, not 24")]
    shared_filters: Option<Box<BTreeSet<TopicFilter>>>,
}

impl Session {
    /// Folds it, if nothing is in flight in either direction and no Topic Alias was set.
    ///
    /// # Errors
    ///
    /// There is more to keep: it is as before.
    #[expect(clippy::result_large_err, reason = "it is what was given")]
    pub fn fold(self) -> Result<FoldedSession, Self> {
        let is_settled = self.unreleased.is_empty() && self.acknowledged_messages == 0;
        let (Some(agreement), Some(next_id), true) =
            (self.connection.packed(), self.in_flight.blank_id(), is_settled)
        else {
            return Err(self);
        };
        let subscriptions = (!self.subscriptions.is_empty()).then(|| {
            Box::new(Subscriptions {
                table: self.subscriptions,
                bytes: self.subscription_bytes,
                shared_filters: self.shared_filters,
            })
        });
        let Self { mailbox, stored, .. } = self;
        Ok(FoldedSession { mailbox, subscriptions, stored, agreement, next_id })
    }
}

impl FoldedSession {
    /// The Session as it was. `hash_seed` is the one it was made with.
    #[must_use]
    pub fn unfold(self, hash_seed: u64) -> Session {
        let hashing = || FixedState::with_seed(hash_seed);
        let (subscriptions, subscription_bytes, shared_filters) = match self.subscriptions {
            Some(kept) => (kept.table, kept.bytes, kept.shared_filters),
            None => (HashMap::with_hasher(hashing()), 0, None),
        };
        Session {
            mailbox: self.mailbox,
            subscriptions,
            subscription_bytes,
            shared_filters,
            in_flight: InFlight::starting_at(self.next_id),
            unreleased: HashSet::with_hasher(hashing()),
            connection: NetworkConnection::new(self.agreement.unpack()),
            acknowledged_messages: 0,
            acknowledged_bytes: 0,
            stored: self.stored,
        }
    }
}
