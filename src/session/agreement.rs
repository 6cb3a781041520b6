//! What was agreed for one Network Connection, and what goes out by it.

use crate::mqtt::{PacketId, ProtocolVersion, PublishHead, QoS, TopicName};
use crate::ports::clock::Tick;
use crate::ports::message::Delivery;
use crate::session::outbox::Outbox;
use crate::session::topic_alias::{InboundAliases, OutboundAliases, TopicForm};

/// What was agreed with the client for one Network Connection.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// The version the client speaks.
    pub version: ProtocolVersion,
    /// QoS 1 and 2 messages the client takes at a time, our own bound included.
    pub window_max: usize,
    /// The largest packet the client takes.
    pub packet_bytes_max: usize,
    /// QoS 1 and 2 messages we take at a time; for clients of 3.1.1, which are not told, no bound
    /// but that of Packet Identifiers.
    pub receive_maximum: usize,
    /// The highest Topic Alias we take.
    pub topic_alias_maximum: u16,
    /// The highest Topic Alias the client takes.
    pub client_topic_alias_maximum: u16,
    /// Whether the client wants Reason Strings on every packet [MQTT-3.1.2-29].
    pub wants_problem_information: bool,
}

/// The Network Connection of the present, or none: what holds as long as it does.
#[derive(Debug)]
pub(super) struct NetworkConnection {
    pub(super) agreement: Agreement,
    pub(super) inbound_aliases: InboundAliases,
    outbound_aliases: Option<Box<OutboundAliases>>,
}

impl Agreement {
    pub(super) fn unconnected() -> Self {
        Self {
            version: ProtocolVersion::V311,
            window_max: 0,
            packet_bytes_max: 0,
            receive_maximum: 0,
            topic_alias_maximum: 0,
            client_topic_alias_maximum: 0,
            wants_problem_information: false,
        }
    }
}

/// An [`Agreement`] in 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedAgreement {
    /// `u32::MAX` for no bound: no packet is larger.
    packet_bytes_max: u32,
    window_max: u16,
    /// Zero for no bound.
    receive_maximum: u16,
    topic_alias_maximum: u16,
    client_topic_alias_maximum: u16,
    version: ProtocolVersion,
    wants_problem_information: bool,
}

impl PackedAgreement {
    /// `None` when it does not fit.
    fn pack(agreement: &Agreement) -> Option<Self> {
        Some(Self {
            packet_bytes_max: u32::try_from(agreement.packet_bytes_max).unwrap_or(u32::MAX),
            window_max: u16::try_from(agreement.window_max).ok()?,
            receive_maximum: match agreement.receive_maximum {
                usize::MAX => 0,
                0 => return None,
                bound => u16::try_from(bound).ok()?,
            },
            topic_alias_maximum: agreement.topic_alias_maximum,
            client_topic_alias_maximum: agreement.client_topic_alias_maximum,
            version: agreement.version,
            wants_problem_information: agreement.wants_problem_information,
        })
    }

    pub(super) fn unpack(self) -> Agreement {
        let unless = |is_bound: bool, bound: usize| if is_bound { bound } else { usize::MAX };
        Agreement {
            version: self.version,
            window_max: self.window_max.into(),
            packet_bytes_max: unless(
                self.packet_bytes_max < u32::MAX,
                usize::try_from(self.packet_bytes_max).unwrap_or(usize::MAX),
            ),
            receive_maximum: unless(self.receive_maximum > 0, self.receive_maximum.into()),
            topic_alias_maximum: self.topic_alias_maximum,
            client_topic_alias_maximum: self.client_topic_alias_maximum,
            wants_problem_information: self.wants_problem_information,
        }
    }
}

impl NetworkConnection {
    /// All there is to know of it, when that is little.
    pub(super) fn packed(&self) -> Option<PackedAgreement> {
        let has_aliases = !self.inbound_aliases.is_empty() || self.outbound_aliases.is_some();
        if has_aliases { None } else { PackedAgreement::pack(&self.agreement) }
    }

    pub(super) fn new(agreement: Agreement) -> Self {
        Self { agreement, inbound_aliases: InboundAliases::default(), outbound_aliases: None }
    }

    /// Whether the client would not take this delivery [MQTT-3.1.2-24].
    #[inline]
    pub(super) fn is_too_large(&self, delivery: &Delivery) -> bool {
        if self.agreement.packet_bytes_max == usize::MAX {
            return false;
        }
        let message = &delivery.message;
        let head = head(delivery, None, false, message.expires_at.map(|_| 0));
        head.encoded_len(self.agreement.version, message.payload.len())
            > self.agreement.packet_bytes_max
    }

    #[inline]
    pub(super) fn send(
        &mut self,
        now: Tick,
        delivery: &Delivery,
        packet_id: Option<PacketId>,
        dup: bool,
        out: &mut Outbox,
    ) {
        let message = &*delivery.message;
        let expiry = message.expiry_left_secs(now);
        let mut head = head(delivery, packet_id, dup, expiry);
        if self.agreement.client_topic_alias_maximum > 0 {
            match self.topic_form(&head, &message.topic, message.payload.len()) {
                TopicForm::Whole => {}
                TopicForm::Introduce(alias) => head.topic_alias = Some(alias),
                TopicForm::Alias(alias) => {
                    head.topic_alias = Some(alias);
                    head.topic = "";
                }
            }
        }
        head.encode(self.agreement.version, message.payload.len(), out.buffer());
        out.push_payload(&message.payload);
    }

    fn topic_form(
        &mut self,
        head: &PublishHead<'_>,
        topic: &TopicName,
        payload_len: usize,
    ) -> TopicForm {
        let whole = head.encoded_len(self.agreement.version, payload_len);
        if whole.saturating_add(ALIAS_BYTES) > self.agreement.packet_bytes_max {
            return TopicForm::Whole;
        }
        if self.outbound_aliases.is_none() {
            self.outbound_aliases = OutboundAliases::new(self.agreement.client_topic_alias_maximum);
        }
        self.outbound_aliases.as_mut().map_or(TopicForm::Whole, |aliases| aliases.form(topic))
    }
}

#[inline]
fn head(
    delivery: &Delivery,
    packet_id: Option<PacketId>,
    dup: bool,
    message_expiry_interval_secs: Option<u32>,
) -> PublishHead<'_> {
    let packet_id = match delivery.qos {
        QoS::AtMostOnce => None,
        // A size is asked for before there is an identifier; all are two bytes.
        QoS::AtLeastOnce | QoS::ExactlyOnce => Some(packet_id.unwrap_or(PacketId::MIN)),
    };
    PublishHead {
        dup,
        qos: delivery.qos,
        retain: delivery.retain,
        topic: delivery.message.topic.as_str(),
        packet_id,
        topic_alias: None,
        subscription_ids: delivery.subscription_ids(),
        properties: delivery.message.properties.as_deref(),
        message_expiry_interval_secs,
    }
}

/// What an alias adds to a packet, a longer Property Length included.
const ALIAS_BYTES: usize = 5;
