//! A session in the hands of a test: packets in, packets and events out, no socket and no clock.

use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use bytestring::ByteString;

use super::{
    message::Message,
    session::{
        CloseReason, Input, Output, PublishOutcome, Session, SessionOptions, Subscription, Tick,
        Ticket, Unsubscription,
    },
};
use crate::mqtt::{
    Connack, ConnackProperties, Connect, ConnectProperties, Packet, PacketId, ProtocolVersion,
    Puback, Pubcomp, Publish, Pubrec, Pubrel, QoS, ReasonCode, RetainHandling, SubscribeFilter,
    SubscriptionOptions, TopicName,
};

/// A session and its time.
pub(super) struct Bench {
    pub(super) session: Session,
    pub(super) now: Tick,
    next_ticket: u64,
}

impl Bench {
    /// A session without a connection.
    pub(super) fn new(adjust: impl FnOnce(&mut SessionOptions)) -> Self {
        let mut options = session_options();
        adjust(&mut options);
        Self { session: Session::new(options), now: Tick::ZERO, next_ticket: 0 }
    }

    /// A session that is connected; `properties` are the server's.
    pub(super) fn online(properties: ConnackProperties) -> Self {
        let mut bench = Self::new(|_| {});
        bench.connect(false, properties);
        bench
    }

    /// Opens a transport and answers the CONNECT; what comes after the CONNECT is returned.
    pub(super) fn connect(
        &mut self,
        session_present: bool,
        properties: ConnackProperties,
    ) -> Vec<Output> {
        let outputs = self.feed(Input::TransportOpened);
        assert!(matches!(outputs[..], [Output::Send(Packet::Connect(_))]), "{outputs:?}");
        let outputs = self.receive(connack(session_present, ReasonCode::Success, properties));
        assert!(matches!(outputs[0], Output::Connected(_)), "{outputs:?}");
        outputs.into_iter().skip(1).collect()
    }

    /// One input, all its outputs.
    pub(super) fn feed(&mut self, input: Input) -> Vec<Output> {
        self.session.handle(self.now, input);
        std::iter::from_fn(|| self.session.poll_output()).collect()
    }

    /// A packet from the server.
    pub(super) fn receive(&mut self, packet: Packet) -> Vec<Output> {
        self.feed(Input::Packet(packet))
    }

    /// Publishes `payload` to `t`.
    pub(super) fn publish(&mut self, qos: QoS, payload: &str) -> Vec<Output> {
        self.publish_message(message(qos, payload))
    }

    /// Publishes a message.
    pub(super) fn publish_message(&mut self, message: Message) -> Vec<Output> {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.feed(Input::Publish(ticket, message))
    }

    /// Loses the transport and gets another one to a server that kept the session.
    pub(super) fn reconnect(&mut self) -> Vec<Output> {
        assert_eq!(self.feed(Input::TransportClosed), []);
        self.connect(true, ConnackProperties::default())
    }

    /// Lets time pass and the timer fire if it is due.
    pub(super) fn wait(&mut self, secs: u64) -> Vec<Output> {
        self.now += Duration::from_secs(secs);
        match self.session.next_timeout() {
            Some(due) if due <= self.now => self.feed(Input::Timeout),
            Some(_) | None => Vec::new(),
        }
    }

    /// Asks for one subscription.
    pub(super) fn subscribe(&mut self, filter: &'static str) -> Vec<Output> {
        let filter = SubscribeFilter {
            filter: ByteString::from_static(filter),
            options: SubscriptionOptions {
                qos: QoS::ExactlyOnce,
                no_local: false,
                retain_as_published: false,
                retain_handling: RetainHandling::SendAtSubscribe,
            },
        };
        let wanted = Subscription { filters: vec![filter], ..Subscription::default() };
        self.feed(Input::Subscribe(Ticket(99), wanted))
    }

    /// Takes one subscription back.
    pub(super) fn unsubscribe(&mut self, filter: &'static str) -> Vec<Output> {
        let filters = vec![ByteString::from_static(filter)];
        let unwanted = Unsubscription { filters, ..Unsubscription::default() };
        self.feed(Input::Unsubscribe(Ticket(98), unwanted))
    }
}

/// MQTT 5, client `c`, a session that lasts an hour.
pub(super) fn session_options() -> SessionOptions {
    SessionOptions {
        connect: Connect {
            protocol_version: ProtocolVersion::V5,
            clean_start: false,
            keep_alive_secs: 60,
            client_id: ByteString::from_static("c"),
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties {
                session_expiry_interval_secs: Some(3600),
                ..ConnectProperties::default()
            },
        },
        inflight_max: NonZeroU16::new(20).unwrap(),
        connack_within: Duration::from_secs(20),
        falls_back: false,
    }
}

/// A message for `t`.
pub(super) fn message(qos: QoS, payload: &str) -> Message {
    Message {
        topic: TopicName::parse(ByteString::from_static("t")).unwrap(),
        payload: payload.to_owned().into(),
        qos,
        retain: false,
        topic_alias: None,
        properties: None,
    }
}

/// The same as the server sends it.
pub(super) fn incoming(qos: QoS, id: u16, payload: &str) -> Publish {
    message(qos, payload).to_publish(PacketId::new(id), false)
}

/// An answer to the CONNECT.
pub(super) fn connack(
    session_present: bool,
    reason_code: ReasonCode,
    properties: ConnackProperties,
) -> Packet {
    Packet::Connack(Box::new(Connack { session_present, reason_code, properties }))
}

/// What a test reads of outputs: one word each, with the numbers that matter.
pub(super) fn trace(outputs: &[Output]) -> Vec<String> {
    outputs.iter().map(word).collect()
}

fn word(output: &Output) -> String {
    match output {
        Output::Send(packet) => packet_word(packet),
        Output::Close(CloseReason::Violation(reason_code, _)) => {
            format!("close 0x{:02X}", reason_code.as_u8())
        }
        Output::Close(reason) => format!("close {reason:?}"),
        Output::Connected(_) => "connected".to_owned(),
        Output::Refused(connack) => format!("refused 0x{:02X}", connack.reason_code.as_u8()),
        Output::Message(publish) => {
            let text = String::from_utf8_lossy(&publish.payload);
            format!("message {} {text}", publish.topic)
        }
        Output::Published(ticket, outcome) => match outcome {
            PublishOutcome::Sent => format!("published {}", ticket.0),
            PublishOutcome::Acknowledged(_) => format!("acknowledged {}", ticket.0),
            PublishOutcome::Refused(reason_code, _) => {
                format!("unpublished {} 0x{:02X}", ticket.0, reason_code.as_u8())
            }
        },
        Output::Subscribed(_, answer) => format!("subscribed {:?}", answer.reason_codes),
        Output::Unsubscribed(_, answer) => format!("unsubscribed {:?}", answer.reason_codes),
        Output::Disconnected(disconnect) => {
            format!("disconnected 0x{:02X}", disconnect.reason_code.as_u8())
        }
    }
}

fn packet_word(packet: &Packet) -> String {
    let name = packet.name();
    match packet {
        Packet::Publish(publish) => {
            let id = publish.packet_id.map_or(0, PacketId::get);
            let dup = if publish.dup { " dup" } else { "" };
            let text = String::from_utf8_lossy(&publish.payload);
            format!("{name} {id} {text}{dup}")
        }
        Packet::Puback(Puback { packet_id, reason_code, .. })
        | Packet::Pubrec(Pubrec { packet_id, reason_code, .. })
        | Packet::Pubrel(Pubrel { packet_id, reason_code, .. })
        | Packet::Pubcomp(Pubcomp { packet_id, reason_code, .. }) => {
            if *reason_code == ReasonCode::Success {
                return format!("{name} {}", packet_id.get());
            }
            format!("{name} {} 0x{:02X}", packet_id.get(), reason_code.as_u8())
        }
        Packet::Disconnect(disconnect) => {
            format!("{name} 0x{:02X}", disconnect.reason_code.as_u8())
        }
        Packet::Subscribe(subscribe) => format!("{name} {}", subscribe.packet_id.get()),
        Packet::Unsubscribe(unsubscribe) => format!("{name} {}", unsubscribe.packet_id.get()),
        Packet::Connect(_)
        | Packet::Connack(_)
        | Packet::Suback(_)
        | Packet::Unsuback(_)
        | Packet::Pingreq
        | Packet::Pingresp
        | Packet::Auth(_) => name.to_owned(),
    }
}

/// Compares a trace with lines separated by `, `.
#[track_caller]
pub(super) fn check(outputs: &[Output], expected: &str) {
    assert_eq!(trace(outputs).join(", "), expected);
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP of the server by the first letters.
pub(super) fn ack(name: &str, id: u16) -> Packet {
    ack_with(name, id, ReasonCode::Success)
}

/// The same with a Reason Code.
pub(super) fn ack_with(name: &str, id: u16, reason_code: ReasonCode) -> Packet {
    let id = PacketId::new(id).unwrap();
    match name {
        "PUBACK" => Packet::Puback(Puback::new(id, reason_code)),
        "PUBREC" => Packet::Pubrec(Pubrec::new(id, reason_code)),
        "PUBREL" => Packet::Pubrel(Pubrel::new(id, reason_code)),
        "PUBCOMP" => Packet::Pubcomp(Pubcomp::new(id, reason_code)),
        _ => panic!("{name} is no acknowledgement"),
    }
}

/// Server limits that a test sets one of.
pub(super) fn limits(adjust: impl FnOnce(&mut ConnackProperties)) -> ConnackProperties {
    let mut properties = ConnackProperties::default();
    adjust(&mut properties);
    properties
}

/// A size for a limit.
pub(super) fn size(bytes: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(bytes)
}
