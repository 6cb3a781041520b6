//! How many members of the Shared Subscriptions here can take messages, as other brokers are told it.
//!
//! A member counts as long as a connection has its Session and its queue is less than half full; once
//! it does not, it counts again when its queue is down to a quarter. Looked at now and then, and told
//! when a number has changed: traffic costs no frames.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::broker::peers::Peers;
use crate::broker::routes::Destination;
use crate::broker::turn::Turn;
use crate::mqtt::TopicFilter;
use crate::ports::message::SessionKey;
use crate::routing::GroupId;
use crate::session::mailbox::Credit;

/// The members that could take nothing when they were last looked at: no more than there are.
#[derive(Debug, Default)]
pub(super) struct GroupCredit(Mutex<BTreeSet<SessionKey>>);

impl Turn<'_> {
    /// Looks at the members of all groups, and tells other brokers of what has changed. To be called
    /// now and then, and not by two at a time.
    pub fn announce_credit(&mut self, peers: &Peers) {
        let before = std::mem::take(&mut *peers.credit().0.lock());
        let mut short = BTreeSet::new();
        let mut counts = Vec::new();
        for filter in peers.interest().shared_filters() {
            let members = self.short_members(&filter, &before);
            counts.push((filter, u32::try_from(members.len()).unwrap_or(u32::MAX)));
            short.extend(members);
        }
        *peers.credit().0.lock() = short;
        let mut wakes = Vec::new();
        peers.interest().set_short(&counts, &mut wakes);
        self.shard.wake_each(wakes);
    }

    /// The members of one group that can take nothing; some of them could not `before`.
    fn short_members(
        &self,
        filter: &TopicFilter,
        before: &BTreeSet<SessionKey>,
    ) -> Vec<SessionKey> {
        let group = GroupId::of(filter).and_then(|id| self.broker.index.read().group(&id));
        let Some(group) = group else { return Vec::new() };
        let mailboxes = group.members().iter().filter_map(|member| match &member.subscriber {
            Destination::Mailbox(mailbox) => Some(mailbox),
            Destination::Peer(_) => None,
        });
        let short = mailboxes.filter(|mailbox| match mailbox.credit() {
            Credit::Free => false,
            Credit::Low => before.contains(&mailbox.key()),
            Credit::Short => true,
        });
        short.map(|mailbox| mailbox.key()).collect()
    }
}
