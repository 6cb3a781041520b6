//! A part of the registry: its entries by Client Identifier, most of them in 16 bytes.
//!
//! An entry whose Session is in the hands of a connection, and wanted by nobody else, is its mailbox
//! and its card: the mailbox knows the Client Identifier. Whoever changes an entry unfolds it.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::broker::card::ClientCard;
use crate::broker::registry::{Entry, Listed};
use crate::ports::auth::SessionUser;
use crate::session::mailbox::Mailbox;

pub(super) struct Part {
    slots: HashTable<Slot>,
    hashing: FixedState,
}

enum Slot {
    Settled { mailbox: Arc<Mailbox>, card: Arc<ClientCard> },
    Other(Box<(Arc<str>, Entry)>),
}

impl Part {
    pub(super) fn new(hashing: FixedState) -> Self {
        Self { slots: HashTable::new(), hashing }
    }

    fn slot_mut(&mut self, client_id: &str) -> Option<&mut Slot> {
        let hash = self.hashing.hash_one(client_id);
        self.slots.find_mut(hash, |slot| **slot.client_id() == *client_id)
    }

    /// The entry, to be changed.
    pub(super) fn get_mut(&mut self, client_id: &str) -> Option<&mut Entry> {
        Some(self.slot_mut(client_id)?.unfold())
    }

    /// The same of one that is more than a Session in the hands of a connection: what is not, stays as
    /// small as it is.
    pub(super) fn unsettled(&mut self, client_id: &str) -> Option<&mut Entry> {
        match self.slot_mut(client_id)? {
            Slot::Other(other) => Some(&mut other.1),
            Slot::Settled { .. } => None,
        }
    }

    /// Puts one down that is not there.
    pub(super) fn insert(&mut self, client_id: Arc<str>, entry: Entry) {
        let hash = self.hashing.hash_one(&*client_id);
        let Self { slots, hashing } = self;
        let slot = Slot::Other(Box::new((client_id, entry)));
        slots.insert_unique(hash, slot, |slot| hashing.hash_one(&**slot.client_id()));
    }

    pub(super) fn remove(&mut self, client_id: &str) -> Option<Entry> {
        let hash = self.hashing.hash_one(client_id);
        let is_it = |slot: &Slot| **slot.client_id() == *client_id;
        let (mut slot, _) = self.slots.find_entry(hash, is_it).ok()?.remove();
        Some(std::mem::replace(slot.unfold(), Entry::in_transition(SessionUser::Unknown)))
    }

    pub(super) fn contains(&self, client_id: &str) -> bool {
        self.find(client_id).is_some()
    }

    pub(super) fn find(&self, client_id: &str) -> Option<Listed> {
        let hash = self.hashing.hash_one(client_id);
        let slot = self.slots.find(hash, |slot| **slot.client_id() == *client_id)?;
        Some(slot.listed())
    }

    pub(super) fn listed(&self) -> Vec<Listed> {
        self.slots.iter().map(Slot::listed).collect()
    }

    /// Whether the entry is as small as it can be.
    #[cfg(test)]
    pub(super) fn is_settled(&mut self, client_id: &str) -> bool {
        matches!(self.slot_mut(client_id), Some(Slot::Settled { .. }))
    }

    /// Nobody is expected to change the entry soon.
    pub(super) fn fold(&mut self, client_id: &str) {
        if let Some(slot) = self.slot_mut(client_id) {
            slot.fold();
        }
    }
}

impl Slot {
    fn client_id(&self) -> &Arc<str> {
        match self {
            Self::Settled { mailbox, .. } => mailbox.client_id(),
            Self::Other(other) => &other.0,
        }
    }

    fn unfold(&mut self) -> &mut Entry {
        if let Self::Settled { mailbox, card } = self {
            let client_id = Arc::clone(mailbox.client_id());
            let (mailbox, card) = (Some(Arc::clone(mailbox)), Some(Arc::clone(card)));
            let user = SessionUser::Unknown;
            let entry = Entry::Owned { mailbox, card, user, successor: None };
            *self = Self::Other(Box::new((client_id, entry)));
        }
        match self {
            Self::Other(other) => &mut other.1,
            Self::Settled { .. } => unreachable!("it has just been unfolded"),
        }
    }

    fn fold(&mut self) {
        if let Self::Other(other) = self
            && let Entry::Owned {
                mailbox: Some(mailbox), card: Some(card), successor: None, ..
            } = &other.1
            && **mailbox.client_id() == *other.0
        {
            *self = Self::Settled { mailbox: Arc::clone(mailbox), card: Arc::clone(card) };
        }
    }

    fn listed(&self) -> Listed {
        match self {
            Self::Settled { mailbox, card } => Listed {
                client_id: Arc::clone(mailbox.client_id()),
                card: Some(Arc::clone(card)),
                is_connected: true,
                mailbox: Some(Arc::clone(mailbox)),
                expires_at: None,
            },
            Self::Other(other) => other.1.listed(&other.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There may be a million.
    #[test]
    fn a_settled_entry_is_small() {
        assert_eq!(size_of::<Slot>(), 16);
    }
}
