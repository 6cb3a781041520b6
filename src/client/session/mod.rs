//! The protocol state machine of a client: no socket, no clock, no task.
//!
//! Time and events go in ([`Session::handle`]), things to do come out ([`Session::poll_output`]);
//! the caller drains the outputs before the next input. The session outlives its connections: what
//! is in flight when a transport breaks is sent again, under the same Packet Identifiers and in the
//! same order, once the server says that it still has its half [MQTT-4.4.0-1].

mod event;
mod handshake;
mod incoming;
mod keep_alive;
mod limits;
mod outgoing;
#[cfg(test)]
mod properties;
mod requests;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, num::NonZeroU16, time::Duration};

pub use event::{
    Answer, CloseReason, Input, Output, PublishOutcome, Subscription, Tick, Ticket, Unsubscription,
};
use incoming::{Incoming, Novelty};
use keep_alive::{Due, KeepAlive};
use limits::ServerLimits;
use outgoing::{Acknowledged, Outgoing};

use super::message::Message;
use crate::mqtt::{
    Connect, DecodeError, Disconnect, Packet, PacketId, ProtocolVersion, Puback, Pubcomp, Publish,
    Pubrec, Pubrel, QoS, ReasonCode, ReasonString,
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
