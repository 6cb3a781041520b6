//! How many members of the Shared Subscriptions here can take messages, as other brokers are told it.
//!
//! A member counts as long as a connection has its Session, its queue is less than half full, and it
//! could be sent something at one of two looks in a row; once it does not, it counts again when its
//! queue is down to a quarter. Looked at now and then, and told when a number has changed: traffic costs
//! no frames. What waits for members that were held up at both looks is lent to other brokers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::broker::peers::Peers;
use crate::broker::peers::lending::HeldUp;
use crate::broker::routes::Destination;
use crate::broker::turn::Turn;
use crate::mqtt::TopicFilter;
use crate::ports::message::SessionKey;
use crate::session::mailbox::{Credit, Mailbox, Standing};

/// The members that could take nothing when they were last looked at: no more than there are.
#[derive(Debug, Default)]
pub(super) struct GroupCredit(Mutex<BTreeSet<SessionKey>>);

/// What one look at all members has shown.
#[derive(Default)]
struct Look {
    standings: BTreeMap<SessionKey, Standing>,
    short: BTreeSet<SessionKey>,
    held_up: Vec<HeldUp>,
}

impl Turn<'_> {
    /// Looks at the members of all groups, tells other brokers of what has changed, and lends them
    /// what waits for members that are held up. To be called now and then, and not by two at a time.
    pub fn announce_credit(&mut self, peers: &Peers) {
        let before = std::mem::take(&mut *peers.credit().0.lock());
        let mut look = Look::default();
        let mut counts = Vec::new();
        for filter in peers.interest().shared_filters() {
            let short = self.short_members(&filter, &before, &mut look);
            counts.push((filter, u32::try_from(short).unwrap_or(u32::MAX)));
        }
        *peers.credit().0.lock() = look.short;
        let mut wakes = Vec::new();
        peers.interest().set_short(&counts, &mut wakes);
        self.shard.wake_each(wakes);
        self.lend(peers, &look.held_up);
        self.settle_doubts(peers);
    }

    /// How many members of one group can take nothing; some of them could not `before`.
    fn short_members(
        &self,
        filter: &TopicFilter,
        before: &BTreeSet<SessionKey>,
        look: &mut Look,
    ) -> usize {
        let Some(group) = self.group(filter) else { return 0 };
        let mailboxes = group.members().iter().filter_map(|member| match &member.subscriber {
            Destination::Mailbox(mailbox) => Some(mailbox),
            Destination::Peer(_) => None,
        });
        mailboxes.filter(|mailbox| look.finds_short(mailbox, filter, before)).count()
    }
}

impl Look {
    fn finds_short(
        &mut self,
        mailbox: &Arc<Mailbox>,
        filter: &TopicFilter,
        before: &BTreeSet<SessionKey>,
    ) -> bool {
        let key = mailbox.key();
        // A member of several groups is looked at once.
        let standing = *self.standings.entry(key).or_insert_with(|| mailbox.look());
        if standing.is_held_up && standing.surplus > 0 {
            let (filter, mailbox) = (filter.clone(), Arc::clone(mailbox));
            self.held_up.push(HeldUp { filter, mailbox, surplus: standing.surplus });
        }
        let is_short = match standing.credit {
            Credit::Free => standing.is_held_up,
            Credit::Low => standing.is_held_up || before.contains(&key),
            Credit::Short => true,
        };
        if is_short {
            self.short.insert(key);
        }
        is_short
    }
}
