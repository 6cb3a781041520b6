//! The protocol state machine of a client: no socket, no clock, no task.
//!
//! Time and events go in ([`Session::handle`]), things to do come out ([`Session::poll_output`]);
//! the caller drains the outputs before the next input. The session outlives its connections: what
//! is in flight when a transport breaks is sent again, under the same Packet Identifiers and in the
//! same order, once the server says that it still has its half [MQTT-4.4.0-1].

mod event;
mod incoming;
mod keep_alive;
mod limits;
mod outgoing;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, num::NonZeroU16, time::Duration};

pub use event::{
    Answer, CloseReason, Input, Output, PublishOutcome, Subscription, Tick, Ticket, Unsubscription,
};
use incoming::{Incoming, Novelty};
use keep_alive::{Due, KeepAlive};
use limits::ServerLimits;
use outgoing::{Acknowledged, Outgoing, Request};

use super::message::Message;
use crate::mqtt::{
    Connack, Connect, DecodeError, Disconnect, Packet, PacketId, ProtocolVersion, Puback, Pubcomp,
    Publish, Pubrec, Pubrel, QoS, ReasonCode, ReasonString, Suback, Subscribe, Unsuback,
    Unsubscribe,
};

/// What a session is opened with.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// The CONNECT of the first connection. Later ones go without Clean Start where the server was
    /// asked to keep the session, and with the Client Identifier that the server assigned.
    pub connect: Connect,
    /// Messages of QoS 1 and 2 in flight at most, if the server takes as many.
    pub inflight_max: NonZeroU16,
    /// How long the server may take to answer the CONNECT.
    pub connack_within: Duration,
    /// Whether to offer 3.1.1 to a server that does not speak MQTT 5.
    pub falls_back: bool,
}

/// One session of a client, over any number of connections.
#[derive(Debug)]
pub struct Session {
    connect: Connect,
    connack_within: Duration,
    falls_back: bool,
    phase: Phase,
    limits: Option<ServerLimits>,
    outgoing: Outgoing,
    incoming: Incoming,
    keep_alive: KeepAlive,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No transport.
    Offline,
    /// CONNECT sent, CONNACK awaited until then.
    Handshake(Tick),
    /// Between CONNACK and DISCONNECT.
    Online,
    /// The transport is being closed: nothing more is sent [MQTT-3.14.4-1] or believed.
    Closing,
}

impl Session {
    /// A session without a connection.
    #[must_use]
    pub fn new(mut options: SessionOptions) -> Self {
        // Without a Client Identifier there is no session to continue, and 3.1.1 forbids to ask
        // for one.
        options.connect.clean_start |= options.connect.client_id.is_empty();
        let properties = &options.connect.properties;
        let receive_maximum = properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        Self {
            incoming: Incoming::new(properties.topic_alias_maximum, receive_maximum),
            outgoing: Outgoing::new(options.inflight_max.get().min(outgoing::INFLIGHT_MAX)),
            connect: options.connect,
            connack_within: options.connack_within,
            falls_back: options.falls_back,
            phase: Phase::Offline,
            limits: None,
            keep_alive: KeepAlive::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Applies one input. Call [`Self::poll_output`] until `None` before the next one.
    pub fn handle(&mut self, now: Tick, input: Input) {
        debug_assert!(self.outputs.is_empty(), "outputs of the previous input were not drained");
        match input {
            Input::TransportOpened => self.handle_transport_opened(now),
            Input::Packet(packet) => self.handle_packet(now, packet),
            Input::Undecodable(error) => self.handle_undecodable(&error),
            Input::TransportClosed => self.handle_transport_closed(),
            Input::Publish(ticket, message) => self.outgoing.offer(ticket, message),
            Input::Subscribe(ticket, wanted) => self.handle_subscribe(now, ticket, wanted),
            Input::Unsubscribe(ticket, unwanted) => self.handle_unsubscribe(now, ticket, unwanted),
            Input::Disconnect(disconnect) => self.handle_disconnect(disconnect),
            Input::Timeout => self.handle_timeout(now),
        }
        self.pump(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to hand in [`Input::Timeout`].
    #[must_use]
    pub fn next_timeout(&self) -> Option<Tick> {
        match self.phase {
            Phase::Offline | Phase::Closing => None,
            Phase::Handshake(deadline) => Some(deadline),
            Phase::Online => self.keep_alive.next_timeout(),
        }
    }

    /// Whether another message may be offered; they wait here while the window is full.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.outgoing.waiting_len() < WAITING_MAX
    }

    /// Whether another SUBSCRIBE or UNSUBSCRIBE may be handed in.
    #[must_use]
    pub fn has_room_for_request(&self) -> bool {
        self.is_online() && self.outgoing.has_room_for_request()
    }

    /// Messages offered whose outcome is open.
    #[must_use]
    pub fn open_len(&self) -> usize {
        self.outgoing.open_len()
    }

    /// Whether the server has accepted the connection that stands.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.phase == Phase::Online
    }

    /// Whether the answer to a CONNECT is awaited.
    #[must_use]
    pub fn is_in_handshake(&self) -> bool {
        matches!(self.phase, Phase::Handshake(_))
    }

    /// The version this session speaks, after a fall-back the older one.
    #[must_use]
    pub fn protocol_version(&self) -> ProtocolVersion {
        self.connect.protocol_version
    }

    /// The Client Identifier: the one chosen, or the one that the server assigned.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.connect.client_id
    }

    /// The longest packet that this client accepts, as its CONNECT says.
    #[must_use]
    pub fn packet_size_max(&self) -> usize {
        let announced = self.connect.properties.maximum_packet_size;
        announced.and_then(|size| usize::try_from(size.get()).ok()).unwrap_or(usize::MAX)
    }

    fn handle_transport_opened(&mut self, now: Tick) {
        assert_eq!(self.phase, Phase::Offline, "one transport at a time");
        self.phase = Phase::Handshake(now + self.connack_within);
        self.incoming.start_connection();
        if self.connect.encoded_len(self.protocol_version()) > limits::PACKET_LEN_MAX {
            self.close(CloseReason::Unsendable("CONNECT"));
            return;
        }
        self.outputs.push_back(Output::Send(Packet::Connect(Box::new(self.connect.clone()))));
    }

    fn handle_transport_closed(&mut self) {
        if self.is_in_handshake() && self.may_fall_back() {
            self.fall_back();
        }
        self.phase = Phase::Offline;
        self.limits = None;
        self.outgoing.end_connection();
    }

    fn handle_packet(&mut self, now: Tick, packet: Packet) {
        match self.phase {
            Phase::Offline | Phase::Closing => {}
            Phase::Handshake(_) => self.handle_first_packet(now, packet),
            Phase::Online => self.handle_next_packet(now, packet),
        }
    }

    fn handle_first_packet(&mut self, now: Tick, packet: Packet) {
        match packet {
            Packet::Connack(connack) => self.handle_connack(now, connack),
            Packet::Auth(_) => self.refuse_authentication(),
            Packet::Connect(_)
            | Packet::Publish(_)
            | Packet::Puback(_)
            | Packet::Pubrec(_)
            | Packet::Pubrel(_)
            | Packet::Pubcomp(_)
            | Packet::Subscribe(_)
            | Packet::Suback(_)
            | Packet::Unsubscribe(_)
            | Packet::Unsuback(_)
            | Packet::Pingreq
            | Packet::Pingresp
            | Packet::Disconnect(_) => self.violated(
                ReasonCode::ProtocolError,
                format!("the server answered the CONNECT with {}", packet.name()),
            ),
        }
    }

    fn handle_next_packet(&mut self, now: Tick, packet: Packet) {
        match packet {
            Packet::Publish(publish) => self.handle_publish(now, publish),
            Packet::Puback(puback) => self.handle_puback(puback),
            Packet::Pubrec(pubrec) => self.handle_pubrec(now, pubrec),
            Packet::Pubrel(pubrel) => self.handle_pubrel(now, pubrel.packet_id),
            Packet::Pubcomp(pubcomp) => self.handle_pubcomp(pubcomp.packet_id),
            Packet::Suback(suback) => self.handle_suback(suback),
            Packet::Unsuback(unsuback) => self.handle_unsuback(unsuback),
            Packet::Pingresp => self.keep_alive.answered(),
            Packet::Disconnect(disconnect) => self.handle_server_disconnect(disconnect),
            Packet::Auth(_) => self.refuse_authentication(),
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq => self
                .violated(ReasonCode::ProtocolError, format!("the server sent {}", packet.name())),
        }
    }

    fn handle_connack(&mut self, now: Tick, connack: Box<Connack>) {
        if connack.reason_code.is_error() {
            self.handle_refusal(connack);
            return;
        }
        if connack.session_present && self.connect.clean_start {
            let words = "the server resumed a session that this client does not have";
            self.violated(ReasonCode::ProtocolError, words.to_owned());
            return;
        }
        let limits = ServerLimits::new(self.protocol_version(), &connack);
        self.limits = Some(limits);
        self.phase = Phase::Online;
        let keep_alive_secs = connack.properties.server_keep_alive_secs;
        self.keep_alive.start(now, keep_alive_secs.unwrap_or(self.connect.keep_alive_secs));
        self.outgoing.start_connection(limits.receive_maximum, limits.topic_alias_maximum);
        self.prepare_next_connect(&connack);

        let is_resumed = connack.session_present;
        self.outputs.push_back(Output::Connected(connack));
        if is_resumed {
            let releases: Vec<_> = self.outgoing.releases().collect();
            for packet_id in releases {
                self.send(now, Packet::Pubrel(Pubrel::new(packet_id, ReasonCode::Success)));
            }
            return;
        }
        self.incoming.discard();
        for ticket in self.outgoing.discard() {
            self.published(ticket, PublishOutcome::Acknowledged(ReasonCode::Success));
        }
    }

    /// The next connection resumes the session if the server keeps it.
    fn prepare_next_connect(&mut self, connack: &Connack) {
        if let Some(client_id) = &connack.properties.assigned_client_id {
            self.connect.client_id = client_id.clone();
        }
        let asked = self.connect.properties.session_expiry_interval_secs;
        let granted = connack.properties.session_expiry_interval_secs.or(asked).unwrap_or(0);
        if self.protocol_version().has_properties() && granted > 0 {
            self.connect.clean_start = false;
        }
    }

    fn handle_refusal(&mut self, connack: Box<Connack>) {
        let is_version = connack.reason_code == ReasonCode::UnsupportedProtocolVersion;
        if is_version && self.may_fall_back() {
            self.fall_back();
            return;
        }
        self.outputs.push_back(Output::Refused(connack));
        self.close(CloseReason::Refused);
    }

    /// The one fall-back: the same CONNECT as 3.1.1.
    fn fall_back(&mut self) {
        self.falls_back = false;
        self.connect.protocol_version = ProtocolVersion::V311;
        self.close(CloseReason::FallBack);
    }

    /// Not with a password alone: before MQTT 5 it needs a user name.
    fn may_fall_back(&self) -> bool {
        let is_nameless = self.connect.password.is_some() && self.connect.user_name.is_none();
        self.falls_back && !is_nameless && self.protocol_version() == ProtocolVersion::V5
    }

    fn handle_undecodable(&mut self, error: &DecodeError) {
        if matches!(self.phase, Phase::Handshake(_) | Phase::Online) {
            self.violated(error.reason_code(), error.to_string());
        }
    }

    fn handle_publish(&mut self, now: Tick, mut publish: Publish) {
        if let Err(reason_code) = self.incoming.resolve_alias(&mut publish) {
            self.violated(reason_code, "the server used a topic alias it may not use".to_owned());
            return;
        }
        let novelty = match self.incoming.note(&publish) {
            Ok(novelty) => novelty,
            Err(reason_code) => {
                let words = "the server sent more than the receive maximum".to_owned();
                self.violated(reason_code, words);
                return;
            }
        };
        let (qos, packet_id) = (publish.qos, publish.packet_id);
        if novelty == Novelty::New {
            self.outputs.push_back(Output::Message(publish));
        }
        match (qos, packet_id) {
            (QoS::AtMostOnce, _) | (_, None) => {}
            (QoS::AtLeastOnce, Some(id)) => {
                self.send(now, Packet::Puback(Puback::new(id, ReasonCode::Success)));
            }
            (QoS::ExactlyOnce, Some(id)) => {
                self.send(now, Packet::Pubrec(Pubrec::new(id, ReasonCode::Success)));
            }
        }
    }

    fn handle_pubrel(&mut self, now: Tick, packet_id: PacketId) {
        let reason_code = if self.incoming.release(packet_id) {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        self.send(now, Packet::Pubcomp(Pubcomp::new(packet_id, reason_code)));
    }

    fn handle_puback(&mut self, puback: Puback) {
        match self.outgoing.acknowledge(puback.packet_id) {
            Acknowledged::Publish(ticket) => {
                self.published(ticket, outcome(puback.reason_code, puback.reason_string));
            }
            Acknowledged::Unknown => {}
            Acknowledged::Misplaced => self.misplaced("PUBACK", puback.packet_id),
        }
    }

    fn handle_pubrec(&mut self, now: Tick, pubrec: Pubrec) {
        let packet_id = pubrec.packet_id;
        if pubrec.reason_code.is_error() {
            match self.outgoing.refuse(packet_id) {
                Acknowledged::Publish(ticket) => {
                    self.published(ticket, outcome(pubrec.reason_code, pubrec.reason_string));
                }
                Acknowledged::Unknown => {}
                Acknowledged::Misplaced => self.misplaced("PUBREC", packet_id),
            }
            return;
        }
        let reason_code = match self.outgoing.receive(packet_id) {
            Acknowledged::Publish(_) => ReasonCode::Success,
            Acknowledged::Unknown => ReasonCode::PacketIdentifierNotFound,
            Acknowledged::Misplaced => return self.misplaced("PUBREC", packet_id),
        };
        self.send(now, Packet::Pubrel(Pubrel::new(packet_id, reason_code)));
    }

    fn handle_pubcomp(&mut self, packet_id: PacketId) {
        match self.outgoing.complete(packet_id) {
            Acknowledged::Publish(ticket) => {
                self.published(ticket, PublishOutcome::Acknowledged(ReasonCode::Success));
            }
            Acknowledged::Unknown => {}
            Acknowledged::Misplaced => self.misplaced("PUBCOMP", packet_id),
        }
    }

    fn handle_subscribe(&mut self, now: Tick, ticket: Ticket, wanted: Subscription) {
        assert!(self.is_online(), "subscribe only while online");
        let count = wanted.filters.len();
        let packet_id = self.outgoing.request(Request::Subscribe(ticket, count));
        let subscribe = Subscribe {
            packet_id,
            subscription_id: wanted
                .subscription_id
                .filter(|_| self.limits.is_some_and(|limits| limits.has_subscription_ids)),
            user_properties: wanted.user_properties,
            filters: wanted.filters,
        };
        self.send_request(now, packet_id, Packet::Subscribe(subscribe));
    }

    fn handle_unsubscribe(&mut self, now: Tick, ticket: Ticket, unwanted: Unsubscription) {
        assert!(self.is_online(), "unsubscribe only while online");
        let count = unwanted.filters.len();
        let packet_id = self.outgoing.request(Request::Unsubscribe(ticket, count));
        let unsubscribe = Unsubscribe {
            packet_id,
            user_properties: unwanted.user_properties,
            filters: unwanted.filters,
        };
        self.send_request(now, packet_id, Packet::Unsubscribe(unsubscribe));
    }

    /// Sends a request, or answers it here if the server cannot take a packet of that size.
    fn send_request(&mut self, now: Tick, packet_id: PacketId, packet: Packet) {
        let len = packet.encoded_len(self.protocol_version());
        if self.limits.is_none_or(|limits| limits.admits_len(len)) {
            self.send(now, packet);
            return;
        }
        let refusal = |count| Answer {
            reason_codes: vec![ReasonCode::PacketTooLarge; count],
            reason_string: None,
        };
        let output = match self.outgoing.answer(packet_id) {
            Some(Request::Subscribe(ticket, count)) => Output::Subscribed(ticket, refusal(count)),
            Some(Request::Unsubscribe(ticket, count)) => {
                Output::Unsubscribed(ticket, refusal(count))
            }
            None => return,
        };
        self.outputs.push_back(output);
    }

    fn handle_suback(&mut self, suback: Suback) {
        match self.outgoing.answer(suback.packet_id) {
            Some(Request::Subscribe(ticket, count)) if count == suback.reason_codes.len() => {
                let Suback { reason_codes, reason_string, .. } = suback;
                let answer = Answer { reason_codes, reason_string };
                self.outputs.push_back(Output::Subscribed(ticket, answer));
            }
            Some(_) | None => self.misplaced("SUBACK", suback.packet_id),
        }
    }

    /// An UNSUBACK of 3.1.1 has no Reason Codes: each filter is then taken as unsubscribed.
    fn handle_unsuback(&mut self, unsuback: Unsuback) {
        let Unsuback { packet_id, mut reason_codes, reason_string, .. } = unsuback;
        let Some(Request::Unsubscribe(ticket, count)) = self.outgoing.answer(packet_id) else {
            self.misplaced("UNSUBACK", packet_id);
            return;
        };
        if !self.protocol_version().has_properties() {
            reason_codes = vec![ReasonCode::Success; count];
        }
        if reason_codes.len() != count {
            self.misplaced("UNSUBACK", packet_id);
            return;
        }
        let answer = Answer { reason_codes, reason_string };
        self.outputs.push_back(Output::Unsubscribed(ticket, answer));
    }

    fn handle_server_disconnect(&mut self, disconnect: Box<Disconnect>) {
        self.outputs.push_back(Output::Disconnected(disconnect));
        self.close(CloseReason::ByServer);
    }

    fn handle_disconnect(&mut self, disconnect: Box<Disconnect>) {
        match self.phase {
            Phase::Offline | Phase::Closing => return,
            Phase::Handshake(_) => {}
            Phase::Online
                if disconnect.encoded_len(self.protocol_version()) > limits::PACKET_LEN_MAX =>
            {
                return self.close(CloseReason::Unsendable("DISCONNECT"));
            }
            Phase::Online => self.outputs.push_back(Output::Send(Packet::Disconnect(disconnect))),
        }
        self.close(CloseReason::Finished);
    }

    fn handle_timeout(&mut self, now: Tick) {
        match self.phase {
            Phase::Handshake(deadline) if deadline <= now => {
                self.close(CloseReason::ConnackTimeout);
            }
            Phase::Offline | Phase::Closing | Phase::Handshake(_) => {}
            Phase::Online => match self.keep_alive.expire(now) {
                Due::Nothing => {}
                Due::Ping => self.send(now, Packet::Pingreq),
                Due::GiveUp => self.close(CloseReason::PingTimeout),
            },
        }
    }

    /// Sends what may be sent: repetitions first, then what waits.
    fn pump(&mut self, now: Tick) {
        let Some(limits) = self.limits.filter(|_| self.is_online()) else { return };
        while let Some(publish) = self.outgoing.next_repetition() {
            self.send(now, Packet::Publish(publish));
        }
        while let Some((ticket, message)) = self.outgoing.next_message() {
            self.launch(now, limits, ticket, &message);
        }
    }

    fn launch(&mut self, now: Tick, limits: ServerLimits, ticket: Ticket, message: &Message) {
        let is_acknowledged = message.qos > QoS::AtMostOnce;
        let packet_id = is_acknowledged.then(|| self.outgoing.launch(ticket, message));
        let mut publish = message.to_publish(packet_id, false);
        if let Err(reason_code) = limits.admit(&publish) {
            if is_acknowledged {
                self.outgoing.withdraw();
            }
            self.published(ticket, PublishOutcome::Refused(reason_code, None));
            return;
        }
        self.outgoing.shorten(&mut publish, message.topic_alias);
        self.send(now, Packet::Publish(publish));
        if !is_acknowledged {
            self.published(ticket, PublishOutcome::Sent);
        }
    }

    /// This client does no extended authentication: with a method it says so, without one an AUTH
    /// packet is a protocol error.
    fn refuse_authentication(&mut self) {
        if self.connect.properties.authentication_method.is_none() {
            let words = "the server sent AUTH without an authentication method".to_owned();
            self.violated(ReasonCode::ProtocolError, words);
            return;
        }
        let reason_code = ReasonCode::BadAuthenticationMethod;
        self.end(reason_code, "extended authentication is not supported here".to_owned(), true);
    }

    fn misplaced(&mut self, packet: &str, packet_id: PacketId) {
        let words = format!("the server sent a {packet} for {} out of place", packet_id.get());
        self.violated(ReasonCode::ProtocolError, words);
    }

    fn violated(&mut self, reason_code: ReasonCode, words: String) {
        // Before the CONNACK only a client that authenticates may send DISCONNECT.
        let is_said = self.is_online();
        self.end(reason_code, words, is_said);
    }

    fn end(&mut self, reason_code: ReasonCode, words: String, is_said: bool) {
        if is_said && self.protocol_version().has_properties() {
            let disconnect = Disconnect::new(reason_code);
            self.outputs.push_back(Output::Send(Packet::Disconnect(Box::new(disconnect))));
        }
        self.close(CloseReason::Violation(reason_code, words));
    }

    fn close(&mut self, reason: CloseReason) {
        self.phase = Phase::Closing;
        self.outputs.push_back(Output::Close(reason));
    }

    fn send(&mut self, now: Tick, packet: Packet) {
        self.keep_alive.sent(now);
        self.outputs.push_back(Output::Send(packet));
    }

    fn published(&mut self, ticket: Ticket, outcome: PublishOutcome) {
        self.outputs.push_back(Output::Published(ticket, outcome));
    }
}

fn outcome(reason_code: ReasonCode, words: Option<ReasonString>) -> PublishOutcome {
    if reason_code.is_error() {
        return PublishOutcome::Refused(reason_code, words);
    }
    PublishOutcome::Acknowledged(reason_code)
}

/// Messages that may wait for the window.
const WAITING_MAX: usize = 256;
