//! What waits for a member of a Shared Subscription that can be sent nothing now goes to one that can
//! be, at once.
//!
//! A message is queued for a member whose window is full only when no member could be sent it. From
//! then on, whoever of the group finds that it could be sent more takes the oldest of what waits for
//! the others: [`Turn::relieve_others`]. Who falls behind while another has nothing to do wakes it:
//! [`Turn::call_for_relief`].

use std::sync::Arc;

use crate::broker::disconnect::{Client, Keeping};
use crate::broker::routes::{Destination, FanoutTarget};
use crate::broker::turn::Turn;
use crate::mqtt::{QoS, TopicFilter};
use crate::ports::message::Delivery;
use crate::routing::{GroupId, SharedGroup, Subscriber, SubscriberKey};
use crate::session::mailbox::{Mailbox, Relief, Room};

impl Turn<'_> {
    /// Takes as much as `client` can be sent at once from members of its groups that are behind.
    /// Whether there was any.
    #[inline]
    pub(crate) fn relieve_others(&mut self, client: &Client) -> bool {
        // A store that did not take what was handed on is given nothing more of that kind.
        if self.broker.queue_budget.behind() == 0 || !self.shard.homeless.is_empty() {
            return false;
        }
        let mut filters = client.session.shared_filters().take(GROUPS_LOOKED_AT_MAX);
        filters.any(|filter| self.relieve_members(client.session.mailbox(), filter))
    }

    #[cold]
    fn relieve_members(&mut self, own: &Arc<Mailbox>, filter: &TopicFilter) -> bool {
        let Some(group) = self.group(filter) else { return false };
        let target = member_target(&group, own).filter(|target| target.qos > QoS::AtMostOnce);
        let Some(target) = target else { return false };
        let mut has_any = false;
        for other in members_in_turn(&group).filter(|other| !Arc::ptr_eq(other, own)) {
            let max = own.sendable().min(TAKEN_MAX);
            if max == 0 {
                break;
            }
            let Relief { deliveries, wake, has_more } = other.relieve(filter, max);
            self.shard.wake_later(wake);
            let taken = self.take_from(other, &target, deliveries);
            self.shard.counters.shared_deliveries_moved.add(taken);
            has_any |= taken > 0;
            if has_more {
                self.call_members(&group);
            }
        }
        has_any
    }

    /// Puts what `other` gave into the mailbox of `target`; what that does not take goes back. How many
    /// it has taken.
    fn take_from(
        &mut self,
        other: &Mailbox,
        target: &FanoutTarget,
        deliveries: Vec<Delivery>,
    ) -> u64 {
        let (mut taken, mut left) = (0, Vec::new());
        for delivery in deliveries {
            let bytes = delivery.message.charged_bytes();
            let has_room = target.mailbox.reserve(bytes, self.now) == Room::Reserved;
            if has_room && self.hand_to_member(target, &delivery, Keeping::Broker) {
                self.forget_delivery(other.stored_as(), &delivery);
                taken += 1;
            } else {
                left.push(delivery);
            }
        }
        if !left.is_empty() {
            self.give_back(other, left);
        }
        taken
    }

    /// Gives a member back what nobody took; if its Session has ended meanwhile, it is passed on.
    pub(crate) fn give_back(&mut self, owner: &Mailbox, deliveries: Vec<Delivery>) {
        for delivery in owner.keep(deliveries) {
            self.pass_on(&delivery, owner.key());
        }
    }

    /// Wakes a member of each group of which something waits in `mailbox`, which is behind: one that
    /// could be sent it and has nothing to do.
    #[cold]
    pub(crate) fn call_for_relief(&mut self, mailbox: &Mailbox) {
        for tag in mailbox.groups_behind() {
            if let Some(group) = tag.shared_filter.as_ref().and_then(|filter| self.group(filter)) {
                self.call_members(&group);
            }
        }
    }

    /// Wakes a member of the group that has nothing to do, if one of the others is behind.
    pub(crate) fn call_members(&mut self, group: &SharedGroup<Destination>) {
        if self.broker.queue_budget.behind() > 0 {
            self.shard.wake_later(members_in_turn(group).find_map(|one| one.wake_if_hungry()));
        }
    }

    pub(crate) fn group(&self, filter: &TopicFilter) -> Option<Arc<SharedGroup<Destination>>> {
        self.broker.index.read().group(&GroupId::of(filter)?)
    }
}

/// The member of the group that owns a mailbox.
pub(crate) fn member_target(
    group: &SharedGroup<Destination>,
    mailbox: &Arc<Mailbox>,
) -> Option<FanoutTarget> {
    // Members stand in the order of their keys.
    let key = SubscriberKey(mailbox.key().0);
    let at = group.members().binary_search_by_key(&key, |member| member.subscriber.key()).ok()?;
    let member = group.members().get(at)?;
    Some(FanoutTarget::new(mailbox, member, Some(group.id().filter())))
}

/// Members that are here and get what they acknowledge, as many as are looked at for one purpose;
/// others have their turn next. A member with QoS 0 takes nothing from one that would have it surely.
fn members_in_turn(group: &SharedGroup<Destination>) -> impl Iterator<Item = &Arc<Mailbox>> {
    let members = group.in_turn().filter_map(|place| group.members().get(place));
    members.take(MEMBERS_LOOKED_AT_MAX).filter_map(|member| match &member.subscriber {
        Destination::Mailbox(mailbox) if member.qos > QoS::AtMostOnce => Some(mailbox),
        Destination::Mailbox(_) | Destination::Peer(_) => None,
    })
}

/// Deliveries that change hands under one lock.
const TAKEN_MAX: usize = 64;
/// Members of a group that are looked at at a time.
pub(crate) const MEMBERS_LOOKED_AT_MAX: usize = 64;
/// Shared Subscriptions of one client that are looked at at a time.
const GROUPS_LOOKED_AT_MAX: usize = 64;
