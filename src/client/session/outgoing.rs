//! The sending half: messages that wait, messages in flight, and their Packet Identifiers.
//!
//! Invariant: every Packet Identifier of `publishes`, `releases` and `requests` is used once.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU16,
};

use bytestring::ByteString;

use super::{super::message::Message, event::Ticket};
use crate::mqtt::{PacketId, Publish, QoS};

/// What this client has to send, and what it has sent but not seen acknowledged.
#[derive(Debug)]
pub(super) struct Outgoing {
    waiting: VecDeque<(Ticket, Message)>,
    publishes: VecDeque<InFlight>,
    releases: VecDeque<Release>,
    requests: VecDeque<(PacketId, Request)>,
    inflight_max: u16,
    quota: u16,
    resent: usize,
    next_id: PacketId,
    aliases: BTreeMap<NonZeroU16, ByteString>,
    alias_max: u16,
}

#[derive(Debug)]
struct InFlight {
    packet_id: PacketId,
    ticket: Ticket,
    message: Message,
}

/// A QoS 2 message that the server has, whose PUBCOMP is awaited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Release {
    pub(super) packet_id: PacketId,
    pub(super) ticket: Ticket,
}

/// A SUBSCRIBE or UNSUBSCRIBE that awaits its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Subscribe(Ticket, usize),
    Unsubscribe(Ticket, usize),
}

/// Who an acknowledgement was for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Acknowledged {
    Publish(Ticket),
    /// Nothing in flight has this identifier.
    Unknown,
    /// Something in flight has it, and expects another kind of packet.
    Misplaced,
}

impl Outgoing {
    pub(super) fn new(inflight_max: u16) -> Self {
        Self {
            waiting: VecDeque::new(),
            publishes: VecDeque::new(),
            releases: VecDeque::new(),
            requests: VecDeque::new(),
            inflight_max,
            quota: 0,
            resent: 0,
            next_id: PacketId::MIN,
            aliases: BTreeMap::new(),
            alias_max: 0,
        }
    }

    /// Begins a connection. The send quota is what the server receives at once, and what this
    /// client wants in flight at most [MQTT-4.9.0-1]; everything in flight has to be sent again.
    pub(super) fn start_connection(&mut self, receive_maximum: u16, alias_max: u16) {
        self.quota = receive_maximum.min(self.inflight_max);
        self.resent = 0;
        self.aliases.clear();
        self.alias_max = alias_max;
    }

    /// A request does not outlive its connection: the application asks again.
    pub(super) fn end_connection(&mut self) {
        self.requests.clear();
    }

    /// The server has no session: what was in flight becomes new messages, in their order
    /// [MQTT-3.2.2-5]. What the server had already taken over is returned as done.
    pub(super) fn discard(&mut self) -> Vec<Ticket> {
        for lost in self.publishes.drain(..).rev() {
            self.waiting.push_front((lost.ticket, lost.message));
        }
        self.releases.drain(..).map(|release| release.ticket).collect()
    }

    /// Queues a message behind those that wait.
    pub(super) fn offer(&mut self, ticket: Ticket, message: Message) {
        self.waiting.push_back((ticket, message));
    }

    /// Messages that have not been sent.
    pub(super) fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// Messages sent or waiting whose outcome is open.
    pub(super) fn open_len(&self) -> usize {
        self.waiting.len() + self.publishes.len() + self.releases.len()
    }

    /// QoS 2 messages whose PUBREL is unanswered, in the order of their PUBRECs [MQTT-4.6.0-4].
    pub(super) fn releases(&self) -> impl Iterator<Item = PacketId> {
        self.releases.iter().map(|release| release.packet_id)
    }

    /// The next PUBLISH that repeats one of an earlier connection, with its Packet Identifier and
    /// in the original order [MQTT-4.4.0-1] [MQTT-4.6.0-1].
    pub(super) fn next_repetition(&mut self) -> Option<Publish> {
        if !self.has_quota() {
            return None;
        }
        let lost = self.publishes.get(self.resent)?;
        let publish = lost.message.to_publish(Some(lost.packet_id), true);
        self.resent += 1;
        Some(publish)
    }

    /// The message to send next, if the quota allows it [MQTT-4.9.0-2].
    pub(super) fn next_message(&mut self) -> Option<(Ticket, Message)> {
        let (_, first) = self.waiting.front()?;
        if first.qos > QoS::AtMostOnce && (self.resent < self.publishes.len() || !self.has_quota())
        {
            return None;
        }
        self.waiting.pop_front()
    }

    /// Puts a message in flight under an unused Packet Identifier [MQTT-2.2.1-3].
    pub(super) fn launch(&mut self, ticket: Ticket, message: &Message) -> PacketId {
        let packet_id = self.unused_id();
        self.publishes.push_back(InFlight { packet_id, ticket, message: message.clone() });
        self.resent = self.publishes.len();
        packet_id
    }

    /// Takes back what [`Self::launch`] just put in flight: it is not sent after all.
    pub(super) fn withdraw(&mut self) {
        self.publishes.pop_back();
        self.resent = self.publishes.len();
    }

    /// Uses a Topic Alias for `publish` if the application wants one and the server takes it: the
    /// first time beside the Topic Name, then instead of it [MQTT-3.2.2-17].
    pub(super) fn shorten(&mut self, publish: &mut Publish, wanted: Option<NonZeroU16>) {
        let Some(alias) = wanted.filter(|alias| alias.get() <= self.alias_max) else { return };
        publish.topic_alias = Some(alias);
        if self.aliases.get(&alias) == Some(&publish.topic) {
            publish.topic = ByteString::new();
        } else {
            self.aliases.insert(alias, publish.topic.clone());
        }
    }

    /// A PUBACK arrived.
    pub(super) fn acknowledge(&mut self, packet_id: PacketId) -> Acknowledged {
        self.finish(packet_id, QoS::AtLeastOnce)
    }

    /// A PUBREC that refuses the message arrived: that ends it.
    pub(super) fn refuse(&mut self, packet_id: PacketId) -> Acknowledged {
        self.finish(packet_id, QoS::ExactlyOnce)
    }

    /// A PUBREC arrived: the message is the server's, its PUBREL is due.
    pub(super) fn receive(&mut self, packet_id: PacketId) -> Acknowledged {
        if let Some(release) = self.releases.iter().find(|it| it.packet_id == packet_id) {
            return Acknowledged::Publish(release.ticket);
        }
        let acknowledged = self.finish(packet_id, QoS::ExactlyOnce);
        if let Acknowledged::Publish(ticket) = acknowledged {
            self.releases.push_back(Release { packet_id, ticket });
        }
        acknowledged
    }

    /// A PUBCOMP arrived.
    pub(super) fn complete(&mut self, packet_id: PacketId) -> Acknowledged {
        let found = self.releases.iter().position(|it| it.packet_id == packet_id);
        match found.and_then(|index| self.releases.remove(index)) {
            Some(release) => Acknowledged::Publish(release.ticket),
            None if self.publishes.iter().any(|it| it.packet_id == packet_id) => {
                Acknowledged::Misplaced
            }
            None => Acknowledged::Unknown,
        }
    }

    /// Notes a request under an unused Packet Identifier.
    pub(super) fn request(&mut self, request: Request) -> PacketId {
        let packet_id = self.unused_id();
        self.requests.push_back((packet_id, request));
        packet_id
    }

    /// The request that `packet_id` answers.
    pub(super) fn answer(&mut self, packet_id: PacketId) -> Option<Request> {
        let index = self.requests.iter().position(|(id, _)| *id == packet_id)?;
        self.requests.remove(index).map(|(_, request)| request)
    }

    /// Whether a request more stays within its bound.
    pub(super) fn has_room_for_request(&self) -> bool {
        self.requests.len() < REQUESTS_MAX
    }

    fn finish(&mut self, packet_id: PacketId, qos: QoS) -> Acknowledged {
        let Some(index) = self.publishes.iter().position(|it| it.packet_id == packet_id) else {
            let is_released = self.releases.iter().any(|it| it.packet_id == packet_id);
            return if is_released { Acknowledged::Misplaced } else { Acknowledged::Unknown };
        };
        if self.publishes.get(index).is_none_or(|it| it.message.qos != qos) {
            return Acknowledged::Misplaced;
        }
        let Some(done) = self.publishes.remove(index) else { return Acknowledged::Unknown };
        if index < self.resent {
            self.resent -= 1;
        }
        Acknowledged::Publish(done.ticket)
    }

    fn has_quota(&self) -> bool {
        self.resent + self.releases.len() < usize::from(self.quota)
    }

    fn unused_id(&mut self) -> PacketId {
        let open = self.publishes.len() + self.releases.len() + self.requests.len();
        assert!(open < usize::from(u16::MAX), "the bounds leave identifiers unused");
        while self.is_used(self.next_id) {
            self.next_id = self.next_id.next();
        }
        let packet_id = self.next_id;
        self.next_id = packet_id.next();
        packet_id
    }

    fn is_used(&self, id: PacketId) -> bool {
        self.publishes.iter().any(|it| it.packet_id == id)
            || self.releases.iter().any(|it| it.packet_id == id)
            || self.requests.iter().any(|(used, _)| *used == id)
    }
}

/// SUBSCRIBE and UNSUBSCRIBE packets that may be unanswered at a time.
const REQUESTS_MAX: usize = 1024;
/// Messages that may be in flight at a time: leaves Packet Identifiers for requests.
pub(super) const INFLIGHT_MAX: u16 = u16::MAX - 2 * 1024;
