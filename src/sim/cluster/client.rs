//! A simulated client: its side of the protocol.

use std::collections::{BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use crate::cluster::identity::BootId;
use crate::mqtt::{
    Connect, ConnectProperties, Disconnect, Packet, PacketId, ProtocolVersion, Puback, Pubcomp,
    Publish, Pubrec, Pubrel, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions,
    Unsubscribe,
};
use crate::sim::chance::Chance;
use crate::sim::cluster::ledger::{
    Draft, FILTERS, FIRST_LATEST, FIRST_RETAINED, FIRST_SHARED, LATEST, Ledger, SHARED, TOPICS,
};
use crate::sim::cluster::persistent::Lasting;
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};

/// How far the connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Offline,
    Greeting { since: u64 },
    Online,
}

#[expect(clippy::struct_excessive_bools, reason = "each is drawn, or told, by itself")]
pub(super) struct SimClient {
    pub(super) number: usize,
    pub(super) phase: Phase,
    pub(super) connection: Option<usize>,
    /// Whether it publishes messages that are retained.
    pub(super) retains: bool,
    /// Whether it publishes messages of which brokers keep the latest.
    pub(super) keeps_latest: bool,
    /// Whether it does not ask for latest values for the moment.
    holds_back: bool,
    /// How long its Session does.
    pub(super) lasting: Lasting,
    /// Whether it stays where it is while it can.
    pub(super) is_stable: bool,
    /// Whether it was told that its Session is there, which then lasts.
    pub(super) is_promised: bool,
    /// The life of a broker where its Session is.
    pub(super) home: Option<(usize, BootId)>,
    pub(super) session: usize,
    /// Sessions that brokers have begun for it; the one it is told of, and the one it knows.
    pub(super) begun: u64,
    pub(super) told: u64,
    known: u64,
    /// The broker that had its Session last, if that moves.
    pub(super) whereabouts: Option<usize>,
    /// Whether it has been told of a Session that outlives its connections.
    has_session: bool,
    names: u32,
    version: ProtocolVersion,
    wishes: Vec<Wish>,
    outgoing: VecDeque<Outgoing>,
    unreleased: BTreeSet<PacketId>,
    next_id: PacketId,
    out: BytesMut,
}

#[derive(Clone, Copy, Debug)]
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

#[derive(Clone, Copy, Debug)]
struct Outgoing {
    id: PacketId,
    publication: usize,
    is_released: bool,
}

impl SimClient {
    pub(super) fn draw(number: usize, chance: &mut Chance) -> Self {
        let qos = |chance: &mut Chance| {
            chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
        };
        let [shared_from, _] = SHARED;
        let mut filters: BTreeSet<usize> =
            (0..chance.below(4)).map(|_| chance.place(shared_from)).collect();
        if chance.one_in(2) {
            filters.insert(shared_from + chance.place(2));
        }
        let wishes = filters
            .into_iter()
            .map(|filter| {
                let qos = if filter >= shared_from { QoS::ExactlyOnce } else { qos(chance) };
                Wish { filter, qos, state: WishState::Off }
            })
            .collect();
        Self {
            number,
            phase: Phase::Offline,
            connection: None,
            retains: false,
            keeps_latest: false,
            holds_back: false,
            lasting: if chance.one_in(3) { Lasting::Broker } else { Lasting::Connection },
            is_stable: chance.one_in(3),
            is_promised: false,
            home: None,
            session: 0,
            begun: 0,
            told: 0,
            known: 0,
            whereabouts: None,
            has_session: false,
            names: 0,
            version: chance.pick(&[
                ProtocolVersion::V5,
                ProtocolVersion::V5,
                ProtocolVersion::V311,
            ]),
            wishes,
            outgoing: VecDeque::new(),
            unreleased: BTreeSet::new(),
            next_id: PacketId::MIN,
            out: BytesMut::new(),
        }
    }

    pub(super) fn version(&self) -> ProtocolVersion {
        self.version
    }

    pub(super) fn is_online(&self) -> bool {
        self.phase == Phase::Online
    }

    /// Whether it counts on this Session to be there when it comes back.
    pub(super) fn counts_on(&self, session: usize) -> bool {
        self.has_session && self.session == session
    }

    /// Whether everything has been answered.
    pub(super) fn is_done(&self) -> bool {
        let is_settled = |wish: &Wish| match wish.state {
            WishState::On => true,
            WishState::Off => self.holds_back && wish.filter == LATEST,
            WishState::Asked(_) | WishState::Leaving(_) => false,
        };
        self.outgoing.is_empty() && self.wishes.iter().all(is_settled)
    }

    pub(super) fn take_output(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    fn send(&mut self, packet: &Packet) {
        packet.encode(self.version, &mut self.out);
    }

    /// It has a new connection to a broker.
    pub(super) fn connect(
        &mut self,
        connection: usize,
        home: (usize, BootId),
        now: u64,
        ledger: &mut Ledger,
    ) {
        self.connection = Some(connection);
        self.phase = Phase::Greeting { since: now };
        let is_known = self.names > 0 && self.may_go_anywhere();
        let resumes = is_known || (self.lasting == Lasting::Broker && self.home == Some(home));
        if resumes {
            ledger.note_suitor(self.session, home.1);
        } else {
            self.names += 1;
            self.has_session = false;
            self.forget();
            self.session = ledger.open_session(self.number, home.1, self.lasting);
        }
        self.home = Some(home);
        let greeting = self.greeting();
        self.out.extend_from_slice(&greeting);
    }

    /// Its CONNECT.
    pub(super) fn greeting(&self) -> Bytes {
        let mut properties = ConnectProperties::default();
        if self.version == ProtocolVersion::V5 && self.is_persistent() {
            properties.session_expiry_interval_secs = Some(10_000);
        }
        let packet = Packet::Connect(Box::new(Connect {
            protocol_version: self.version,
            clean_start: !self.is_persistent(),
            keep_alive_secs: 0,
            client_id: self.client_id().into(),
            will: None,
            user_name: None,
            password: None,
            properties,
        }));
        let mut bytes = BytesMut::new();
        packet.encode(self.version, &mut bytes);
        bytes.freeze()
    }

    /// What it calls itself at present.
    pub(super) fn client_id(&self) -> String {
        format!("c{}-{}", self.number, self.names)
    }

    /// It wants nothing any more.
    pub(super) fn unsubscribe_all(&mut self) {
        let id = self.draw_id();
        let filters: Vec<_> = self
            .wishes
            .drain(..)
            .filter_map(|wish| FILTERS.get(wish.filter).map(|filter| (*filter).into()))
            .collect();
        if !filters.is_empty() {
            let user_properties = Vec::new();
            self.send(&Packet::Unsubscribe(Unsubscribe {
                packet_id: id,
                user_properties,
                filters,
            }));
        }
    }

    /// It wants something more, which it has not asked for yet.
    pub(super) fn wish_for(&mut self, filter: usize, qos: QoS) {
        self.wishes.push(Wish { filter, qos, state: WishState::Off });
    }

    /// Its Session is no more.
    pub(super) fn forget(&mut self) {
        self.outgoing.clear();
        self.unreleased.clear();
        for wish in &mut self.wishes {
            wish.state = WishState::Off;
        }
    }

    /// It has no connection any more.
    pub(super) fn leave(&mut self) {
        self.connection = None;
        self.phase = Phase::Offline;
        self.out.clear();
        for wish in &mut self.wishes {
            if wish.state != WishState::On {
                wish.state = WishState::Off;
            }
        }
    }

    pub(super) fn say_good_bye(&mut self) {
        self.send(&Packet::Disconnect(Box::new(Disconnect::new(ReasonCode::Success))));
    }

    fn draw_id(&mut self) -> PacketId {
        loop {
            let id = self.next_id;
            self.next_id = id.next();
            if self.outgoing.iter().all(|one| one.id != id) {
                return id;
            }
        }
    }

    pub(super) fn may_publish(&self) -> bool {
        self.is_online() && self.outgoing.len() < PUBLISHES_MAX
    }

    /// Publishes something; returns its number.
    pub(super) fn publish(&mut self, draft: Draft, now: u64, ledger: &mut Ledger) -> usize {
        let connection = self.connection.unwrap_or(0);
        let publication = ledger.enter(connection, draft, now);
        if draft.qos == QoS::AtMostOnce {
            self.send_publish(publication, None, false, ledger);
            return publication;
        }
        let id = self.draw_id();
        self.outgoing.push_back(Outgoing { id, publication, is_released: false });
        self.send_publish(publication, Some(id), false, ledger);
        publication
    }

    fn send_publish(
        &mut self,
        number: usize,
        packet_id: Option<PacketId>,
        dup: bool,
        ledger: &mut Ledger,
    ) {
        let publication = ledger.note_sent(number);
        let mut payload = (number as u64).to_be_bytes().to_vec();
        payload.resize(8 + number * 37 % 90, b'.');
        if publication.is_deletion {
            payload.clear();
        }
        let publish = Publish {
            dup,
            qos: publication.qos,
            retain: (FIRST_RETAINED..FIRST_LATEST).contains(&publication.topic),
            topic: (*TOPICS.get(publication.topic).expect("topics are numbered")).into(),
            packet_id,
            topic_alias: None,
            subscription_ids: SmallVec::new(),
            properties: None,
            payload: payload.into(),
        };
        self.send(&Packet::Publish(publish));
    }

    /// Asks for everything it wants and does not have.
    pub(super) fn subscribe_all(&mut self, ledger: &mut Ledger) {
        let id = self.draw_id();
        let mut filters = Vec::new();
        let holds_back = self.holds_back;
        let may_ask = |wish: &&mut Wish| {
            wish.state == WishState::Off && !(holds_back && wish.filter == LATEST)
        };
        for wish in self.wishes.iter_mut().filter(may_ask) {
            wish.state = WishState::Asked(id);
            ledger.note_asked(self.session, wish.filter, wish.qos);
            let options = SubscriptionOptions { qos: wish.qos, ..SubscriptionOptions::default() };
            let filter = *FILTERS.get(wish.filter).expect("filters are numbered");
            filters.push(SubscribeFilter { filter: filter.into(), options });
        }
        if !filters.is_empty() {
            self.send(&Packet::Subscribe(Subscribe {
                packet_id: id,
                subscription_id: None,
                user_properties: Vec::new(),
                filters,
            }));
        }
    }

    pub(super) fn unsubscribe(&mut self, chance: &mut Chance, now: u64, ledger: &mut Ledger) {
        if self.wishes.is_empty() {
            return;
        }
        let place = chance.place(self.wishes.len());
        self.unsubscribe_from(place, now, ledger);
    }

    /// Whether it wants latest values.
    pub(super) fn wants_latest(&self) -> bool {
        self.wishes.iter().any(|wish| wish.filter == LATEST)
    }

    /// Does without latest values until it may ask for them again.
    pub(super) fn hold_back(&mut self, now: u64, ledger: &mut Ledger) {
        self.holds_back = true;
        if let Some(place) = self.wishes.iter().position(|wish| wish.filter == LATEST) {
            self.unsubscribe_from(place, now, ledger);
        }
    }

    /// It may ask for latest values again.
    pub(super) fn go_ahead(&mut self) {
        self.holds_back = false;
    }

    fn unsubscribe_from(&mut self, place: usize, now: u64, ledger: &mut Ledger) {
        let id = self.draw_id();
        let Some(wish) = self.wishes.get_mut(place) else { return };
        if wish.state != WishState::On {
            return;
        }
        wish.state = WishState::Leaving(id);
        let filter = wish.filter;
        ledger.end_subscription(self.session, filter, now);
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id: id,
            user_properties: Vec::new(),
            filters: vec![(*FILTERS.get(filter).expect("filters are numbered")).into()],
        }));
    }

    /// A packet has come.
    pub(super) fn handle(
        &mut self,
        packet: Packet,
        now: u64,
        ledger: &mut Ledger,
    ) -> Result<(), Complaint> {
        match packet {
            Packet::Connack(connack) if connack.reason_code.is_error() => {}
            Packet::Connack(connack) => {
                self.phase = Phase::Online;
                self.note_present(connack.session_present)?;
                let known = std::mem::replace(&mut self.known, self.told);
                let is_kept = connack.session_present && self.is_same_session(known);
                let is_persistent = self.is_persistent();
                let had_session = std::mem::replace(&mut self.has_session, is_persistent);
                if had_session && !connack.session_present && ledger.is_standing(self.session) {
                    let words = format!("client {}: its Session is gone", self.number);
                    return complaint(Checker::Loss, words);
                }
                if is_kept {
                    let kept = self.wishes.iter().filter(|wish| wish.state == WishState::On);
                    let kept = kept.map(|wish| (wish.filter, wish.qos));
                    ledger.revive(self.session, kept, now);
                } else {
                    ledger.end_session(self.session, now);
                    self.forget();
                    let home = self.home.map_or(BootId(0), |home| home.1);
                    let next = ledger.open_session(self.number, home, self.lasting);
                    ledger.pass_suitors_on(self.session, next);
                    self.session = next;
                    ledger.attach(self.connection.unwrap_or(0), self.session);
                }
                ledger.note_back(self.session, now);
                self.subscribe_all(ledger);
                for Outgoing { id, publication, is_released } in self.outgoing.clone() {
                    if is_released {
                        self.send(&Packet::Pubrel(Pubrel::new(id, ReasonCode::Success)));
                    } else {
                        self.send_publish(publication, Some(id), true, ledger);
                    }
                }
            }
            Packet::Publish(publish) => {
                self.note_received(&publish, &self.unreleased, ledger)?;
                self.acknowledge(&publish);
            }
            Packet::Puback(puback) => self.settle(puback.packet_id, false)?,
            Packet::Pubrec(pubrec) => {
                if pubrec.reason_code.is_error() {
                    return self.settle(pubrec.packet_id, false);
                }
                let found = self.outgoing.iter_mut().find(|one| one.id == pubrec.packet_id);
                let Some(one) = found else {
                    return complaint(Checker::Protocol, "PUBREC for nothing");
                };
                one.is_released = true;
                self.send(&Packet::Pubrel(Pubrel::new(pubrec.packet_id, ReasonCode::Success)));
            }
            Packet::Pubrel(pubrel) => {
                self.unreleased.remove(&pubrel.packet_id);
                let answer = Pubcomp::new(pubrel.packet_id, ReasonCode::Success);
                self.send(&Packet::Pubcomp(answer));
            }
            Packet::Pubcomp(pubcomp) => self.settle(pubcomp.packet_id, true)?,
            Packet::Suback(suback) => {
                for wish in &mut self.wishes {
                    if wish.state == WishState::Asked(suback.packet_id) {
                        wish.state = WishState::On;
                    }
                }
            }
            Packet::Unsuback(unsuback) => {
                for wish in &mut self.wishes {
                    if wish.state == WishState::Leaving(unsuback.packet_id) {
                        wish.state = WishState::Off;
                    }
                }
            }
            Packet::Pingresp | Packet::Disconnect(_) => {}
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq
            | Packet::Auth(_) => return complaint(Checker::Protocol, packet.name()),
        }
        Ok(())
    }

    fn acknowledge(&mut self, publish: &Publish) {
        let Some(id) = publish.packet_id else { return };
        if publish.qos == QoS::AtLeastOnce {
            self.send(&Packet::Puback(Puback::new(id, ReasonCode::Success)));
        } else {
            self.unreleased.insert(id);
            self.send(&Packet::Pubrec(Pubrec::new(id, ReasonCode::Success)));
        }
    }

    fn settle(&mut self, id: PacketId, is_released: bool) -> Result<(), Complaint> {
        let is_it = |one: &Outgoing| one.id == id && one.is_released == is_released;
        match self.outgoing.iter().position(is_it) {
            Some(place) => {
                self.outgoing.remove(place);
                Ok(())
            }
            None => complaint(Checker::Protocol, "an acknowledgement for nothing"),
        }
    }

    /// What its unanswered messages are: for whoever looks for what was answered.
    pub(super) fn publication_of(&self, id: PacketId) -> Option<usize> {
        self.outgoing.iter().find(|one| one.id == id).map(|one| one.publication)
    }

    /// The filters a SUBACK is about.
    pub(super) fn asked(&self, id: PacketId) -> Vec<usize> {
        let asked = self.wishes.iter().filter(|wish| wish.state == WishState::Asked(id));
        asked.map(|wish| wish.filter).collect()
    }
}

/// A topic, and a QoS.
pub(super) fn draw_message(chance: &mut Chance) -> (usize, QoS) {
    let topic = if chance.one_in(3) {
        FIRST_SHARED + chance.place(FIRST_RETAINED - FIRST_SHARED)
    } else {
        chance.place(FIRST_SHARED)
    };
    (topic, chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]))
}

/// Messages of QoS 1 and 2 in flight.
const PUBLISHES_MAX: usize = 8;
