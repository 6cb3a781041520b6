//! What came of messages at other brokers; and whoever is next in a Shared Subscription, for those that
//! no member at a broker could take.

use std::slice;
use std::sync::Arc;

use crate::broker::acknowledge::Level;
use crate::broker::peers::adoption::HeldFor;
use crate::broker::peers::again::LeftOut;
use crate::broker::peers::forward::Errand;
use crate::broker::peers::peer::{Peer, SharedPart, Unanswered};
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::publish::{delivery, manner};
use crate::broker::routes::{FanoutGroup, FanoutTarget, Member, PeerTarget};
use crate::broker::turn::Turn;
use crate::cluster::frame::{Fate, Outcome};
use crate::cluster::identity::BootId;
use crate::mqtt::{QoS, TopicFilter};
use crate::ports::message::{Delivery, Message};
use crate::session::mailbox::{Commit, Room};

/// What came of an offer to the other brokers.
pub(crate) enum Elsewhere {
    /// One of them was sent it.
    Sent,
    /// The ways to those that have members are full.
    Busy,
    /// None has members.
    Nobody,
}

impl Turn<'_> {
    /// A peer says what came of messages it was sent.
    pub(crate) fn handle_outcomes(&mut self, peer: &Arc<Peer>, outcomes: &[Outcome]) {
        for outcome in outcomes {
            for answered in peer.take_answered(outcome) {
                let ticket = &answered.ticket;
                let waker = match &outcome.fate {
                    Fate::Enqueued => ticket.answer(RemoteOutcome::Enqueued),
                    Fate::NoMatch => ticket.answer(RemoteOutcome::NoMatch),
                    Fate::Refused(reason_code) => {
                        let refused = RemoteOutcome::Refused(*reason_code);
                        ticket.leave_out(refused, LeftOut::of_answer(peer, &answered))
                    }
                    Fate::Again => {
                        self.offer_anew(&answered);
                        ticket.answer(RemoteOutcome::NoMatch)
                    }
                    Fate::GroupsMoved(groups) => {
                        ticket.answer(self.handle_moved(peer, &answered, groups))
                    }
                };
                self.shard.wake_later(waker);
            }
        }
    }

    /// What a Session on its way was to get has not come to it: it is offered to whoever has it now. What
    /// was for Shared Subscriptions has gone to other members there.
    fn offer_anew(&mut self, answered: &Unanswered) {
        if let Some(kept) = &answered.kept {
            self.offer_behind_held(kept, &answered.ticket);
        }
    }

    /// No member of these groups at `peer` could take a message: others are tried. What came of the
    /// rest there.
    fn handle_moved(
        &mut self,
        peer: &Peer,
        answered: &Unanswered,
        groups: &[TopicFilter],
    ) -> RemoteOutcome {
        let Some(shared) = &answered.shared else { return RemoteOutcome::Enqueued };
        if answered.ticket.is_loan() {
            return RemoteOutcome::NoMatch;
        }
        let tried = shared.tried_with(peer);
        self.offer_elsewhere(&shared.message, groups, &answered.ticket, &tried);
        if shared.is_all && groups.len() == shared.groups.len() {
            return RemoteOutcome::NoMatch;
        }
        RemoteOutcome::Enqueued
    }

    /// A peer is dead: what its clients had they have lost with it, unless they are stored; what
    /// members of Shared Subscriptions there were to have goes to others, or back to whose it is if it
    /// was lent.
    pub(crate) fn release_unanswered(&mut self, peer: &Peer) {
        // Its lane is closed: no more leaves.
        let departed = peer.lane().departed();
        for mut unanswered in peer.take_unanswered() {
            let is_loan = unanswered.ticket.is_loan();
            if let Some(shared) = unanswered.shared.as_ref().filter(|_| !is_loan) {
                let ticket = &unanswered.ticket;
                if let Some(peers) = self.broker.peers() {
                    peers.doubtful().note_given(peer, &shared.message);
                }
                self.offer_elsewhere(&shared.message, &shared.groups, ticket, &shared.tried);
            }
            if self.hold_unanswered(peer, &mut unanswered) {
                continue;
            }
            let may_be_there = is_loan && unanswered.seq <= departed;
            let outcome =
                if may_be_there { RemoteOutcome::Unknown } else { RemoteOutcome::NoMatch };
            let waker = unanswered.ticket.answer(outcome);
            self.shard.wake_later(waker);
        }
    }

    /// `peer` was declared dead between the look at the routes and now: it never had this.
    #[cold]
    pub(super) fn pass_on_shared(
        &mut self,
        peer: &Peer,
        shared: &SharedPart,
        ticket: &Arc<PublishTicket>,
    ) {
        if ticket.is_loan() {
            return;
        }
        let tried = shared.tried_with(peer);
        self.offer_elsewhere(&shared.message, &shared.groups, ticket, &tried);
    }

    /// Offers to another member of each of these groups; where all were at dead brokers, when others have
    /// their Sessions.
    pub(super) fn offer_elsewhere(
        &mut self,
        message: &Arc<Message>,
        groups: &[TopicFilter],
        ticket: &Arc<PublishTicket>,
        tried: &[BootId],
    ) {
        if !self.is_mourning() {
            return self.offer_to_groups(message, groups, ticket, tried);
        }
        let Some(fanout) = self.fanout(&message.topic) else { return };
        let held = self.groups_to_hold_for(&fanout, message.qos);
        let (held, now): (Vec<_>, Vec<_>) =
            groups.iter().cloned().partition(|group| held.contains(group));
        self.offer_to_groups(message, &now, ticket, tried);
        if !held.is_empty() {
            let held_for = HeldFor { groups: held, ..HeldFor::default() };
            self.hold_or_offer(message, ticket, held_for);
        }
    }

    /// The same to whoever is there now.
    pub(in crate::broker::peers) fn offer_to_groups(
        &mut self,
        message: &Arc<Message>,
        groups: &[TopicFilter],
        ticket: &Arc<PublishTicket>,
        tried: &[BootId],
    ) {
        let Some(fanout) = self.fanout(&message.topic) else { return };
        for filter in groups {
            let Some(group) = fanout.groups.iter().find(|group| group.filter() == filter) else {
                // Nobody is left who wants it.
                continue;
            };
            if self.offer_to_group(message, group, ticket, tried) {
                continue;
            }
            if group.has_qos() {
                self.shard.counters.shared_publishes_exhausted.increment();
                self.note_full(ticket, LeftOut::of_group(filter));
            } else {
                self.shard.counters.deliveries_dropped.increment();
            }
        }
    }

    /// Offers what a member of a Shared Subscription left to members at other brokers: to one that keeps
    /// up, where there is one.
    pub(crate) fn offer_to_other_brokers(
        &mut self,
        delivery: &Delivery,
        ticket: &Arc<PublishTicket>,
    ) -> Elsewhere {
        let Some(filter) = delivery.shared_filter() else { return Elsewhere::Nobody };
        if self.broker.peers().is_none() {
            // Nor is its route looked up, which would stay when all have gone.
            return Elsewhere::Nobody;
        }
        let message = &delivery.message;
        let Some(fanout) = self.fanout(&message.topic) else { return Elsewhere::Nobody };
        let group = fanout.groups.iter().find(|group| group.filter() == filter);
        let Some(group) = group else { return Elsewhere::Nobody };
        let mut elsewhere = Elsewhere::Nobody;
        for member in group.everyone() {
            let Member::Remote(target) = member else { continue };
            if target.peer.lane().is_flowing() {
                self.offer_to_broker(message, group, target, ticket, &[]);
                return Elsewhere::Sent;
            }
            if !target.peer.lane().is_closed() {
                elsewhere = Elsewhere::Busy;
            }
        }
        elsewhere
    }

    fn offer_to_broker(
        &mut self,
        message: &Arc<Message>,
        group: &FanoutGroup,
        target: &PeerTarget,
        ticket: &Arc<PublishTicket>,
        tried: &[BootId],
    ) {
        let qos = message.qos.min(target.qos);
        let errand = Errand::to_groups(qos, slice::from_ref(group.filter()));
        if qos == QoS::AtMostOnce {
            // Nobody answers for QoS 0: the publisher would wait for ever.
            self.forward_at_most_once(message, &target.peer, errand);
            self.note_taken(ticket);
        } else {
            self.forward_errand(message, &target.peer, errand, ticket, tried);
        }
    }

    /// Offers to a member that is at none of the brokers that were `tried`: two whose members are
    /// all full would pass it on to each other for ever.
    fn offer_to_group(
        &mut self,
        message: &Arc<Message>,
        group: &FanoutGroup,
        ticket: &Arc<PublishTicket>,
        tried: &[BootId],
    ) -> bool {
        let is_open = |peer: &Peer| {
            let is_new = tried.len() < TRIED_MAX && !tried.contains(&peer.boot_id());
            is_new && !peer.lane().is_closed()
        };
        let able = group.in_turn().filter(|member| member.has_credit());
        for member in group.ready(message.qos).chain(able).chain(group.everyone()) {
            match member {
                // Whoever is here is sent away, and what it has is for others.
                Member::Local(_) if self.broker.collects_left_behind() => {}
                Member::Local(target) => {
                    if self.offer_to_member(message, target, ticket) {
                        return true;
                    }
                }
                Member::Remote(target) if is_open(&target.peer) => {
                    self.offer_to_broker(message, group, target, ticket, tried);
                    return true;
                }
                Member::Remote(_) => {}
            }
        }
        false
    }

    /// Offers to a member of a group that is here. `false` when it has no room, or has gone.
    fn offer_to_member(
        &mut self,
        message: &Arc<Message>,
        target: &FanoutTarget,
        ticket: &Arc<PublishTicket>,
    ) -> bool {
        let qos = message.qos.min(target.qos);
        if qos == QoS::AtMostOnce {
            let offered = delivery(target, Arc::clone(message), qos);
            if !self.offer_at_most_once(target, offered, &mut None) {
                return false;
            }
            self.note_taken(ticket);
            return true;
        }
        if target.mailbox.reserve(message.charged_bytes(), self.now) != Room::Reserved {
            return false;
        }
        match target.mailbox.commit(delivery(target, Arc::clone(message), qos), self.now, &mut None)
        {
            Commit::Queued(wake) => {
                self.shard.wake_later(wake);
                self.note_gathered(&target.mailbox, message);
            }
            Commit::Stored(place) => {
                self.keep_at(place, &target.mailbox, message, manner(target, message, qos));
            }
            Commit::Closed(_) => return false,
        }
        self.await_store(&mut Some(Arc::clone(ticket)), (message.id, true), Level::Durable);
        self.note_taken(ticket);
        true
    }

    /// Somebody has it by a way that is not answered.
    fn note_taken(&mut self, ticket: &PublishTicket) {
        ticket.expect_another();
        let waker = ticket.answer(RemoteOutcome::Enqueued);
        self.shard.wake_later(waker);
    }
}

/// Brokers to which one message is offered for a Shared Subscription. Then its members count as full.
const TRIED_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::broker::options::BrokerOptions;
    use crate::broker::stories::{Stage, subscribe};
    use crate::mqtt::{ProtocolVersion, TopicName};
    use crate::session::outbox::Outbox;

    /// The Session of the last member had ended on another shard, and its Subscription was there yet. A
    /// message that another broker had sent for the group counted as taken.
    #[test]
    fn what_nobody_of_a_group_takes_in_qos_0_is_counted() {
        let mut stage = Stage::new(BrokerOptions::default());
        let (mut member, _connack) = stage.connect("member", ProtocolVersion::V5, 0);
        stage.send(&mut member, &subscribe("$share/g/t", QoS::AtMostOnce));
        let listed = stage.broker.registry().find("member").unwrap();
        assert!(listed.mailbox.unwrap().close().is_empty());
        let topic = TopicName::parse("t".into()).unwrap();
        let message = Message::of_broker(topic, Bytes::from_static(b"x"));
        let message = Arc::new(Message { qos: QoS::AtLeastOnce, ..message });
        let groups = [TopicFilter::parse("$share/g/t").unwrap()];
        let ticket = Arc::new(PublishTicket::new(false));
        let mut outbox = Outbox::new();
        let Stage { broker, shard, now } = &mut stage;
        let turn = &mut Turn { broker, shard, now: *now, outbox: &mut outbox };
        turn.offer_elsewhere(&message, &groups, &ticket, &[]);
        assert_eq!(ticket.seal(), Some(RemoteOutcome::NoMatch));
        assert_eq!(turn.shard.counters.deliveries_dropped.total(), 1);
    }
}
