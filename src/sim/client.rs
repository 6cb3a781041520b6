//! A simulated client: its side of the protocol, and what it notices.

mod reading;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use smallvec::SmallVec;

use super::failure::Plant;
use super::ledger::{Arrival, Ledger};
use super::profile::{FILTERS, FIRST_RETAINED, Profile, TOPICS};
use super::sessions::Sessions;
use crate::mqtt::{
    Connect, ConnectProperties, Disconnect, MessageProperties, Packet, PacketId, ProtocolVersion,
    Puback, Pubcomp, Publish, Pubrel, QoS, ReasonCode, Subscribe, SubscribeFilter,
    SubscriptionOptions, TopicName, Unsubscribe, Will,
};

/// What all clients write down.
pub(super) struct Books<'a> {
    pub(super) ledger: &'a mut Ledger,
    pub(super) sessions: &'a mut Sessions,
    pub(super) plant: Plant,
    pub(super) now: u64,
    /// When the packet at hand was encoded.
    pub(super) written_at: u64,
    /// Whether this is the probe: what it is sent is what is retained.
    pub(super) is_probe: bool,
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Offline,
    Greeting { since: u64 },
    Online,
}

#[expect(clippy::struct_excessive_bools, reason = "what a client neglects is independent")]
pub(super) struct SimClient {
    pub(super) number: usize,
    pub(super) profile: Profile,
    pub(super) connection: Option<usize>,
    pub(super) phase: Phase,
    pub(super) is_reading: bool,
    pub(super) is_acknowledging: bool,
    /// It neither says nor does anything any more.
    pub(super) is_silent: bool,
    /// What it wants to send.
    pub(super) out: BytesMut,
    /// What has come and is not a whole packet.
    unparsed: BytesMut,
    held: Vec<Packet>,
    waiting: VecDeque<usize>,
    outgoing: VecDeque<Outgoing>,
    /// QoS 2 messages that came and are not released.
    unreleased: BTreeSet<PacketId>,
    /// What came on this connection and is not acknowledged.
    open: BTreeSet<PacketId>,
    aliases: BTreeMap<NonZeroU16, ByteString>,
    next_id: PacketId,
    epoch: u32,
    subscriptions: Vec<Wish>,
    window_max: usize,
    /// It has not sent yet what its last connection left unacknowledged.
    is_holding_back: bool,
    pub(super) online_since: u64,
    swapped: Option<Arrival>,
}

#[derive(Clone, Debug)]
struct Outgoing {
    id: PacketId,
    publication: usize,
    is_released: bool,
}

#[derive(Clone, Debug)]
struct Wish {
    filter: usize,
    qos: QoS,
    state: WishState,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum WishState {
    Off,
    Asked(PacketId),
    On,
    Leaving(PacketId),
}

impl SimClient {
    pub(super) fn new(number: usize, profile: Profile) -> Self {
        let wish = |&(filter, qos): &(usize, QoS)| Wish { filter, qos, state: WishState::Off };
        Self {
            subscriptions: profile.wishes.iter().map(wish).collect(),
            number,
            profile,
            connection: None,
            phase: Phase::Offline,
            is_reading: true,
            is_acknowledging: true,
            is_silent: false,
            out: BytesMut::new(),
            unparsed: BytesMut::new(),
            held: Vec::new(),
            waiting: VecDeque::new(),
            outgoing: VecDeque::new(),
            unreleased: BTreeSet::new(),
            open: BTreeSet::new(),
            aliases: BTreeMap::new(),
            next_id: PacketId::MIN,
            epoch: 0,
            window_max: 1,
            is_holding_back: false,
            online_since: 0,
            swapped: None,
        }
    }

    /// Whether everything it wanted to publish has been answered.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.outgoing.is_empty()
    }

    pub(super) fn is_online(&self) -> bool {
        self.phase == Phase::Online
    }

    /// Whether the broker has said that it is subscribed to everything it wants.
    pub(super) fn is_subscribed(&self) -> bool {
        self.subscriptions.iter().all(|wish| wish.state == WishState::On)
    }

    /// It has a new connection, on which the first packet is the CONNECT.
    pub(super) fn connect(&mut self, connection: usize, clean_start: bool, now: u64) {
        self.leave();
        self.connection = Some(connection);
        self.phase = Phase::Greeting { since: now };
        let connect = self.connect_packet(connection, clean_start);
        self.send(&Packet::Connect(Box::new(connect)));
    }

    /// It has no connection any more.
    pub(super) fn leave(&mut self) {
        self.connection = None;
        self.phase = Phase::Offline;
        self.is_reading = true;
        self.is_acknowledging = true;
        self.is_silent = false;
        self.out.clear();
        self.unparsed.clear();
        self.held.clear();
        self.open.clear();
        self.aliases.clear();
        for wish in &mut self.subscriptions {
            if wish.state != WishState::On {
                wish.state = WishState::Off;
            }
        }
    }

    pub(super) fn connect_packet(&self, connection: usize, clean_start: bool) -> Connect {
        let profile = &self.profile;
        let is_v5 = profile.version == ProtocolVersion::V5;
        let will = profile.will.map(|will| {
            Box::new(Will {
                topic: TopicName::try_from("w/will").expect("a topic"),
                payload: Bytes::from(connection.to_string()),
                qos: will.qos,
                retain: false,
                delay_interval_secs: will.delay_secs,
                properties: None,
            })
        });
        let mut properties = ConnectProperties::default();
        if is_v5 {
            properties.session_expiry_interval_secs =
                (profile.expiry_secs > 0).then_some(profile.expiry_secs);
            properties.receive_maximum = NonZeroU16::new(profile.receive_maximum);
            properties.maximum_packet_size = profile.packet_bytes_max.and_then(NonZeroU32::new);
            properties.topic_alias_maximum = profile.alias_maximum;
        }
        Connect {
            protocol_version: profile.version,
            clean_start,
            keep_alive_secs: profile.keep_alive_secs,
            client_id: format!("client-{}", self.number).into(),
            will,
            user_name: None,
            password: None,
            properties,
        }
    }

    fn send(&mut self, packet: &Packet) {
        packet.encode(self.profile.version, &mut self.out);
    }

    /// An acknowledgement, unless it acknowledges nothing for the time being.
    fn answer(&mut self, packet: Packet) {
        if !self.is_acknowledging {
            self.held.push(packet);
            return;
        }
        if let Packet::Puback(Puback { packet_id, .. })
        | Packet::Pubcomp(Pubcomp { packet_id, .. }) = &packet
        {
            self.open.remove(packet_id);
        }
        self.send(&packet);
    }

    /// It acknowledges again, first what it has held back.
    pub(super) fn acknowledge_again(&mut self) {
        self.is_acknowledging = true;
        for packet in std::mem::take(&mut self.held) {
            self.answer(packet);
        }
    }

    pub(super) fn ping(&mut self) {
        self.send(&Packet::Pingreq);
    }

    /// DISCONNECT.
    pub(super) fn say_good_bye(&mut self, reason_code: ReasonCode, expiry: Option<(u32, String)>) {
        let mut disconnect = Disconnect::new(reason_code);
        if let Some((secs, reason)) = expiry {
            disconnect.session_expiry_interval_secs = Some(secs);
            disconnect.reason_string = Some(reason.as_str().into());
        }
        self.send(&Packet::Disconnect(Box::new(disconnect)));
    }

    fn draw_id(&mut self) -> PacketId {
        loop {
            let id = self.next_id;
            self.next_id = id.next();
            if self.outgoing.iter().all(|outgoing| outgoing.id != id) {
                return id;
            }
        }
    }

    /// It wants to publish.
    pub(super) fn publish(&mut self, publication: usize, books: &mut Books<'_>) {
        if books.ledger.publication(publication).qos == QoS::AtMostOnce {
            if self.is_online() {
                self.send_publish(publication, None, false, books);
            }
            return;
        }
        self.waiting.push_back(publication);
        self.pump(books);
    }

    /// Sends what the broker's Receive Maximum allows.
    fn pump(&mut self, books: &mut Books<'_>) {
        while self.is_online() && !self.is_holding_back && self.outgoing.len() < self.window_max {
            let Some(publication) = self.waiting.pop_front() else { return };
            let id = self.draw_id();
            self.outgoing.push_back(Outgoing { id, publication, is_released: false });
            self.send_publish(publication, Some(id), false, books);
        }
    }

    fn send_publish(
        &mut self,
        number: usize,
        packet_id: Option<PacketId>,
        dup: bool,
        books: &mut Books<'_>,
    ) {
        books.ledger.note_sent(number, books.now);
        let publication = books.ledger.publication(number);
        let is_v5 = self.profile.version == ProtocolVersion::V5;
        let properties = publication.expiry_secs.filter(|_| is_v5).map(|secs| {
            Arc::new(MessageProperties {
                message_expiry_interval_secs: Some(secs),
                ..MessageProperties::default()
            })
        });
        let mut payload = Vec::new();
        if !publication.is_deletion {
            payload.extend_from_slice(&(number as u64).to_be_bytes());
            payload.resize(publication.payload_len.max(payload.len()), b'.');
        }
        let publish = Publish {
            dup,
            qos: publication.qos,
            retain: publication.topic >= FIRST_RETAINED,
            topic: topic_name(publication.topic).into(),
            packet_id,
            topic_alias: None,
            subscription_ids: SmallVec::new(),
            properties,
            payload: payload.into(),
        };
        self.send(&Packet::Publish(publish));
    }

    /// Asks for everything it wants and does not have.
    pub(super) fn subscribe_all(&mut self) {
        let id = self.draw_id();
        let mut filters = Vec::new();
        for wish in self.subscriptions.iter_mut().filter(|wish| wish.state == WishState::Off) {
            wish.state = WishState::Asked(id);
            let options = SubscriptionOptions { qos: wish.qos, ..SubscriptionOptions::default() };
            filters.push(SubscribeFilter { filter: filter_name(wish.filter).into(), options });
        }
        if filters.is_empty() {
            return;
        }
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: id,
            subscription_id: None,
            user_properties: Vec::new(),
            filters,
        }));
    }

    /// Gives one Subscription up, if it has it.
    pub(super) fn unsubscribe(&mut self, place: usize, books: &mut Books<'_>) {
        let id = self.draw_id();
        let place = place % self.subscriptions.len();
        let Some(wish) = self.subscriptions.get_mut(place) else { return };
        if wish.state != WishState::On {
            return;
        }
        wish.state = WishState::Leaving(id);
        let filter = wish.filter;
        books.ledger.note_unsubscribing(self.number, filter, books.now);
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id: id,
            user_properties: Vec::new(),
            filters: vec![filter_name(filter).into()],
        }));
    }

    /// Sends what the last connection left unacknowledged, and then what waits.
    ///
    /// A client of 3.1.1 does so a while after CONNACK. A refused publish ends its connection: who
    /// always published first would never acknowledge, and clients whose queues are full of each
    /// other's messages would keep each other out.
    pub(super) fn resume_publishing(&mut self, books: &mut Books<'_>) {
        if std::mem::take(&mut self.is_holding_back) {
            self.send_again(books);
            self.pump(books);
        }
    }

    fn send_again(&mut self, books: &mut Books<'_>) {
        for Outgoing { id, publication, is_released } in self.outgoing.clone() {
            if is_released {
                self.send(&Packet::Pubrel(Pubrel::new(id, ReasonCode::Success)));
            } else {
                self.send_publish(publication, Some(id), true, books);
            }
        }
    }
}

fn note_answer(publication: usize, reason_code: ReasonCode, books: &mut Books<'_>) {
    let is_false = books.plant == Plant::FalseRefusal && publication.is_multiple_of(3);
    if reason_code.is_error() || is_false {
        books.ledger.note_refused(publication);
    } else {
        books.ledger.note_acknowledged(publication, books.written_at);
    }
}

fn topic_name(number: usize) -> &'static str {
    TOPICS.get(number).expect("topics are numbered")
}

fn filter_name(number: usize) -> &'static str {
    FILTERS.get(number).expect("filters are numbered")
}

/// Messages of QoS 1 and 2 that a client has in flight at most, whatever the broker would take.
const PUBLISHES_MAX: usize = 8;
