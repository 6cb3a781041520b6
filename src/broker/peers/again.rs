//! A message of QoS 2 that some took and others did not, sent again by its publisher.
//!
//! Its acknowledgement would not be true. Where its publisher cannot be told that it was refused, or was not
//! there to be told, it sends the message again. Those who have it must not get it once more, so it is remembered with the
//! Packet Identifier who was left out: until it is sent again, until PUBREL frees the identifier, or
//! until the Session ends, with which it also moves. The message keeps its name, by which Sessions know
//! it that have it, because they have moved to whoever was left out, or because its answer was lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::broker::acknowledge::Level;
use crate::broker::counters::ShardCounters;
use crate::broker::disconnect::Client;
use crate::broker::peers::Peers;
use crate::broker::peers::forward::{PeerShares, share_to_retain, share_with_subscribers};
use crate::broker::peers::handover::{HandoverError, put_string, string};
use crate::broker::peers::peer::{Peer, Unanswered};
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::publish::PublishOutcome;
use crate::broker::turn::Turn;
use crate::cluster::identity::BootId;
use crate::cluster::version::Version;
use crate::mqtt::{PacketId, TopicFilter};
use crate::ports::message::{Message, MessageId};

/// Who did not get a part of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftOut {
    /// A broker; none where nobody in particular was to have it.
    pub peer: Option<BootId>,
    /// Whether it was for ordinary subscribers there.
    pub is_for_subscribers: bool,
    /// Shared Subscriptions of which no member took it.
    pub groups: SmallVec<[TopicFilter; 1]>,
    /// Under which it was to be kept there, where it was.
    pub version: Option<Version>,
}

/// A message that not all have taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unfinished {
    /// Its name; none where it came from a broker that did not tell.
    pub message: MessageId,
    /// Who was left out.
    pub left_out: Vec<LeftOut>,
}

/// What is unfinished, by the Packet Identifier of the publish.
#[derive(Debug, Default)]
pub(crate) struct LeftOuts(BTreeMap<PacketId, Unfinished>);

impl Default for Unfinished {
    fn default() -> Self {
        Self { message: MessageId::NONE, left_out: Vec::new() }
    }
}

impl LeftOut {
    /// A Shared Subscription whose members are full wherever they are.
    pub(super) fn of_group(filter: &TopicFilter) -> Self {
        let groups = SmallVec::from_iter([filter.clone()]);
        Self { peer: None, is_for_subscribers: false, groups, version: None }
    }

    /// Stored Sessions of a broker that is dead.
    pub(super) fn of_dead() -> Self {
        Self { peer: None, is_for_subscribers: true, groups: SmallVec::new(), version: None }
    }

    /// What `peer` has received and not taken, or not said that it has.
    pub(super) fn of_answer(peer: &Peer, unanswered: &Unanswered) -> Self {
        let shared = unanswered.shared.as_ref();
        Self {
            peer: Some(peer.boot_id()),
            is_for_subscribers: shared.is_none_or(|shared| !shared.is_all),
            groups: shared.map_or_else(SmallVec::new, |shared| shared.groups.clone()),
            // What is to be kept it keeps all the same.
            version: None,
        }
    }

    /// Appends what [`Self::decode`] reads.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        // No broker, and no change of a retained message, has the number 0.
        out.put_u128(self.peer.map_or(0, |peer| peer.0));
        out.put_u8(u8::from(self.is_for_subscribers));
        out.put_u64(self.version.map_or(0, |version| version.time));
        out.put_u128(self.version.map_or(0, |version| version.boot_id.0));
        out.put_u16(u16::try_from(self.groups.len()).unwrap_or(u16::MAX));
        for group in self.groups.iter().take(usize::from(u16::MAX)) {
            put_string(group.as_str(), out);
        }
    }

    pub(super) fn decode(part: &mut Bytes) -> Result<Self, HandoverError> {
        let peer = Some(BootId(part.try_get_u128()?)).filter(|peer| peer.0 != 0);
        let is_for_subscribers = part.try_get_u8()? != 0;
        let version = Version { time: part.try_get_u64()?, boot_id: BootId(part.try_get_u128()?) };
        let version = Some(version).filter(|version| version.time != 0);
        let mut groups = SmallVec::new();
        for _ in 0..part.try_get_u16()? {
            groups.push(TopicFilter::parse(&string(part)?)?);
        }
        Ok(Self { peer, is_for_subscribers, groups, version })
    }
}

impl LeftOuts {
    /// Remembers who was left out. `false` when there is no room for another publish.
    pub(super) fn note(&mut self, id: PacketId, unfinished: Unfinished) -> bool {
        let has_room = self.0.len() < LEFT_OUTS_MAX || self.0.contains_key(&id);
        if has_room {
            self.0.insert(id, unfinished);
        }
        has_room
    }

    /// The same, one by one.
    pub(super) fn add(&mut self, id: PacketId, left_out: LeftOut) {
        self.0.entry(id).or_default().left_out.push(left_out);
    }

    /// The publish of this identifier is of this message.
    pub(super) fn name(&mut self, id: PacketId, message: MessageId) {
        self.0.entry(id).or_default().message = message;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a broker that speaks this version of the wire can read of it, when the Session moves there.
    pub(super) fn told_in(&self, wire: u16) -> impl Iterator<Item = (PacketId, &LeftOut)> {
        let readable = self.0.iter().filter(move |_| wire >= WIRE_MIN);
        readable.flat_map(|(id, unfinished)| unfinished.left_out.iter().map(|one| (*id, one)))
    }

    /// The names of the messages, as far as a broker that speaks this version can read them.
    pub(super) fn named_in(&self, wire: u16) -> impl Iterator<Item = (PacketId, MessageId)> {
        let readable = self.0.iter().filter(move |_| wire >= NAMED_WIRE_MIN);
        readable.map(|(id, unfinished)| (*id, unfinished.message))
    }
}

impl Peers {
    /// Who has not taken what `ticket` waits for, as far as anybody knows yet: it is to be offered again
    /// to those who have not answered. `None` while it is held here for a dead broker, and where it is
    /// not known of everybody.
    pub(super) fn unanswered_of(&self, ticket: &Arc<PublishTicket>) -> Option<Unfinished> {
        if self.adoptions().holds(ticket) {
            return None;
        }
        let live = self.live();
        let mut left_out: Vec<_> =
            live.iter().flat_map(|peer| peer.unanswered_of(ticket)).collect();
        let is_all = left_out.len() >= ticket.left();
        // What members of Shared Subscriptions are to have is on its way to them all the same.
        for one in &mut left_out {
            one.groups.clear();
        }
        if !is_all {
            let (peer, groups) = (Some(self.boot_id()), SmallVec::new());
            left_out.push(LeftOut { peer, is_for_subscribers: true, groups, version: None });
        }
        let mut unfinished = ticket.take_left_out()?;
        unfinished.left_out.append(&mut left_out);
        Some(unfinished)
    }
}

impl Client {
    /// Who did not take this publish before, if somebody did not. It is not remembered any longer.
    #[inline]
    pub(crate) fn take_left_out(&mut self, id: PacketId) -> Option<Unfinished> {
        self.waiting.as_mut()?.left_out.0.remove(&id)
    }

    /// The Session has come from another broker, which remembered these.
    pub(super) fn remember_left_outs(&mut self, left_outs: LeftOuts, counters: &ShardCounters) {
        for (id, unfinished) in left_outs.0 {
            if !self.waiting.get_or_insert_default().left_out.note(id, unfinished) {
                counters.left_outs_forgotten.increment();
                self.forget_publish(id);
            }
        }
    }
}

impl Turn<'_> {
    /// Offers a message to those who did not take it before, and to nobody else.
    pub(crate) fn publish_again(
        &mut self,
        peers: &Peers,
        message: &Arc<Message>,
        left_out: &[LeftOut],
    ) -> Arc<PublishTicket> {
        self.shard.counters.peer_publishes_repeated.increment();
        // Somebody has it.
        let ticket = Arc::new(PublishTicket::of(message.id, true));
        for one in left_out {
            self.offer_again(peers, message, one, &ticket);
        }
        let _outcome = ticket.seal();
        ticket
    }

    fn offer_again(
        &mut self,
        peers: &Peers,
        message: &Arc<Message>,
        left_out: &LeftOut,
        ticket: &Arc<PublishTicket>,
    ) {
        self.offer_elsewhere(message, &left_out.groups, ticket, &[]);
        if left_out.is_for_subscribers && self.broker.durable.is_some() {
            // One that is stored, and was there then, may be elsewhere by now. It knows what it has.
            self.offer_behind_held(&Arc::new(message.detached()), ticket);
        }
        if left_out.peer == Some(peers.boot_id()) {
            return self.offer_here(peers, message, left_out, ticket);
        }
        let Some(peer) = left_out.peer.and_then(|boot_id| peers.find(boot_id)) else {
            // Whoever is dead has no subscribers any more, but for those who are stored.
            return;
        };
        let Some(fanout) = self.fanout(&message.topic) else { return };
        let mut shares = PeerShares::new();
        let target = fanout.peers.iter().find(|target| Arc::ptr_eq(&target.peer, &peer));
        if let Some(target) = target.filter(|_| left_out.is_for_subscribers) {
            share_with_subscribers(&mut shares, target, message.qos);
        }
        if left_out.version.is_some() {
            share_to_retain(&mut shares, &peer, message.qos);
        }
        self.forward(message, shares, left_out.version, true, &mut Some(Arc::clone(ticket)));
    }

    /// The publisher's Session has moved to the broker that was left out.
    fn offer_here(
        &mut self,
        peers: &Peers,
        message: &Arc<Message>,
        left_out: &LeftOut,
        ticket: &Arc<PublishTicket>,
    ) {
        let is_for_subscribers = left_out.is_for_subscribers;
        if let Some(version) = left_out.version {
            self.merge_versioned(peers, message, version, is_for_subscribers);
        }
        let receivers = (is_for_subscribers, &[][..]);
        let (mut last, mut moved) = (None, Vec::new());
        let outcome = self.publish_from_peer(Arc::clone(message), receivers, &mut last, &mut moved);
        self.await_store(&mut Some(Arc::clone(ticket)), (message.id, true), Level::Durable);
        if let PublishOutcome::Refused(refusal) = outcome {
            ticket.expect_another();
            let refused = RemoteOutcome::Refused(refusal.reason_code());
            let (peer, groups, version) = (left_out.peer, SmallVec::new(), None);
            let left_out = LeftOut { peer, is_for_subscribers, groups, version };
            let waker = ticket.leave_out(refused, left_out);
            self.shard.wake_later(waker);
        }
    }
}

/// The version of the wire that knows of those who were left out.
const WIRE_MIN: u16 = 2;
/// The version of the wire that knows the names of the messages.
const NAMED_WIRE_MIN: u16 = 3;
/// Publishes of one Session of which it is remembered who was left out. Others come again as new.
const LEFT_OUTS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    /// It took the record for a fault, and the Session that moved there ended with its queue.
    #[test]
    fn a_broker_of_an_earlier_wire_is_not_told_who_was_left_out() {
        let mut left_outs = LeftOuts::default();
        let (groups, peer, version) = (SmallVec::new(), Some(BootId(7)), None);
        let left_out = LeftOut { peer, is_for_subscribers: true, groups, version };
        left_outs.add(PacketId::new(5).unwrap(), left_out);
        let told = [0, 1, WIRE_MIN, WIRE_MIN + 1].map(|wire| left_outs.told_in(wire).count());
        assert_eq!(told, [0, 0, 1, 1]);
        let named = [1, WIRE_MIN, NAMED_WIRE_MIN].map(|wire| left_outs.named_in(wire).count());
        assert_eq!(named, [0, 0, 1]);
    }
}
