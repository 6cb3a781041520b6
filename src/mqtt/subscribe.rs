//! SUBSCRIBE: asks for Application Messages.

use bytes::BytesMut;
use bytestring::ByteString;

use super::properties::{PropertyReader, PropertySink, id};
use super::reader::Reader;
use super::writer::{Sink, WireForm, encode_packet, packet_len};
use super::{DecodeError, PacketId, ProtocolVersion, QoS, UserProperty};

/// Asks for Application Messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subscribe {
    /// The Packet Identifier the SUBACK repeats.
    pub packet_id: PacketId,
    /// The Subscription Identifier that comes with the messages; 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
    /// What is asked for; at least one [MQTT-3.8.3-2].
    pub filters: Vec<SubscribeFilter>,
}

/// A Topic Filter and what is asked of the subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubscribeFilter {
    /// A UTF-8 Encoded String [MQTT-3.8.3-1]. Whether it is a valid Topic Filter is not decided
    /// here, so that one that is not can be answered in the SUBACK.
    pub filter: ByteString,
    /// The Subscription Options.
    pub options: SubscriptionOptions,
}

/// The Subscription Options; in MQTT 3.1.1 only the QoS is on the wire.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct SubscriptionOptions {
    /// The Maximum QoS at which messages are sent.
    pub qos: QoS,
    /// Whether the Client's own messages are left out.
    pub no_local: bool,
    /// Whether forwarded messages keep their RETAIN flag.
    pub retain_as_published: bool,
    /// Which retained messages are sent at once.
    pub retain_handling: RetainHandling,
}

/// Which retained messages a subscription is sent when it is made.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum RetainHandling {
    /// All that match.
    #[default]
    SendAtSubscribe = 0,
    /// All that match, if the subscription did not exist.
    SendIfNew = 1,
    /// None.
    DoNotSend = 2,
}

impl Subscribe {
    pub(crate) fn decode(
        version: ProtocolVersion,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let mut subscription_id = None;
        let mut user_properties = Vec::new();
        if version.has_properties() {
            let mut properties = PropertyReader::new(reader)?;
            while let Some(id) = properties.next_id()? {
                match id {
                    id::SUBSCRIPTION_IDENTIFIER if subscription_id.is_some() => {
                        return Err(DecodeError::DuplicateProperty(id));
                    }
                    id::SUBSCRIPTION_IDENTIFIER => {
                        subscription_id = Some(properties.subscription_id()?);
                    }
                    id::USER_PROPERTY => user_properties.push(properties.user_property()?),
                    other => return Err(DecodeError::PropertyNotAllowed(u32::from(other))),
                }
            }
        }
        let filters = read_filters(version, reader)?;
        Ok(Self { packet_id, subscription_id, user_properties, filters })
    }

    /// Appends the whole packet to `out`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut BytesMut) {
        encode_packet(FIRST_BYTE, self, version, out);
    }

    /// The bytes of the whole packet.
    #[must_use]
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        packet_len(self.wire_len(version))
    }
}

impl WireForm for Subscribe {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        sink.u16(self.packet_id.get());
        if version.has_properties() {
            sink.properties(version, &SubscribeProperties(self));
        }
        for subscription in &self.filters {
            sink.string(&subscription.filter);
            sink.u8(subscription.options.bits(version));
        }
    }
}

struct SubscribeProperties<'a>(&'a Subscribe);

impl WireForm for SubscribeProperties<'_> {
    fn write(&self, _version: ProtocolVersion, sink: &mut impl Sink) {
        if let Some(subscription_id) = self.0.subscription_id {
            sink.subscription_id_property(subscription_id);
        }
        sink.user_properties(&self.0.user_properties);
    }
}

impl SubscriptionOptions {
    /// Reads the byte after a Topic Filter. Before MQTT 5.0 all of it but the QoS is reserved
    /// (section 3.8.3 of 3.1.1).
    fn from_bits(version: ProtocolVersion, bits: u8) -> Result<Self, DecodeError> {
        let reserved = if version.has_properties() { 0b1100_0000 } else { 0b1111_1100 };
        if bits & reserved != 0 {
            return Err(DecodeError::SubscriptionOptionsReserved);
        }
        Ok(Self {
            qos: QoS::from_bits(bits & 0b11).ok_or(DecodeError::SubscriptionQoS)?,
            no_local: bits & NO_LOCAL != 0,
            retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
            retain_handling: RetainHandling::from_bits(bits >> 4)?,
        })
    }

    fn bits(self, version: ProtocolVersion) -> u8 {
        if !version.has_properties() {
            return self.qos.bits();
        }
        let no_local = if self.no_local { NO_LOCAL } else { 0 };
        let retain_as_published = if self.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
        self.qos.bits() | no_local | retain_as_published | (self.retain_handling as u8) << 4
    }
}

impl RetainHandling {
    const fn from_bits(bits: u8) -> Result<Self, DecodeError> {
        match bits {
            0 => Ok(Self::SendAtSubscribe),
            1 => Ok(Self::SendIfNew),
            2 => Ok(Self::DoNotSend),
            _ => Err(DecodeError::RetainHandling),
        }
    }
}

fn read_filters(
    version: ProtocolVersion,
    reader: &mut Reader<'_>,
) -> Result<Vec<SubscribeFilter>, DecodeError> {
    if reader.is_empty() {
        return Err(DecodeError::NoTopicFilter);
    }
    let mut filters = Vec::new();
    while !reader.is_empty() {
        let filter = reader.string()?;
        let options = SubscriptionOptions::from_bits(version, reader.u8()?)?;
        if options.no_local && filter.starts_with("$share/") {
            return Err(DecodeError::NoLocalOnSharedSubscription);
        }
        filters.push(SubscribeFilter { filter, options });
    }
    Ok(filters)
}

const FIRST_BYTE: u8 = 0x82;
const NO_LOCAL: u8 = 0b0100;
const RETAIN_AS_PUBLISHED: u8 = 0b1000;

#[cfg(test)]
mod tests {
    use super::super::vectors::{
        check_both_ways, check_one_way, check_refused, text, user_property,
    };
    use super::super::{Packet, ReasonCode, Sender};
    use super::ProtocolVersion::{V5, V31, V311};
    use super::*;

    #[test]
    fn vectors() {
        let [any, all, none] = [with_qos(QoS::AtMostOnce), every_option(), sparing()];
        check_both_ways(
            Sender::Client,
            &[
                (V31, "82 08 000A 0003 'a/b' 00", subscribe(&[("a/b", any)])),
                (V311, "82 08 000A 0003 'a/b' 00", subscribe(&[("a/b", any)])),
                (
                    V311,
                    "82 [ 000A s'a' 01 s'+/#' 02 ]",
                    subscribe(&[
                        ("a", with_qos(QoS::AtLeastOnce)),
                        ("+/#", with_qos(QoS::ExactlyOnce)),
                    ]),
                ),
                (V5, "82 09 000A 00 0003 'a/b' 00", subscribe(&[("a/b", any)])),
                (V5, "82 [ 000A 00 s'a' 1E s'b' 21 ]", subscribe(&[("a", all), ("b", none)])),
                (
                    V5,
                    "82 [ 000A [ 0B 8001 26 s'k' s'v' ] s'a' 00 ]",
                    Packet::Subscribe(Subscribe {
                        packet_id: PacketId::new(10).unwrap(),
                        subscription_id: Some(128),
                        user_properties: vec![user_property("k", "v")],
                        filters: vec![SubscribeFilter { filter: text("a"), options: any }],
                    }),
                ),
            ],
        );
    }

    #[test]
    fn an_invalid_topic_filter_is_left_to_the_answer() {
        let filters = [("a/#/b", with_qos(QoS::AtMostOnce)), ("", with_qos(QoS::AtMostOnce))];
        let row = (V5, "82 [ 000A 00 s'a/#/b' 00 s'' 00 ]", subscribe(&filters));
        check_one_way(Sender::Client, &[row]);
    }

    #[test]
    fn malformed_twins() {
        use DecodeError as E;
        use ReasonCode as R;
        check_refused(
            Sender::Client,
            R::MalformedPacket,
            &[
                (V311, "80 08 000A 0003 'a/b' 00", E::FixedHeaderFlags),
                (V5, "83 09 000A 00 0003 'a/b' 00", E::FixedHeaderFlags),
                (V311, "82 [ 000A s'a' ]", E::Truncated),
                (V5, "82 [ 000A 00 s'a' ]", E::Truncated),
                (V5, "82 [ 000A 00 s'a' 00 00 ]", E::Truncated),
                (V5, "82 [ 000A ]", E::Truncated),
                (V311, "82 [ 000A s'a' 04 ]", E::SubscriptionOptionsReserved),
                (V5, "82 [ 000A 00 s'a' 40 ]", E::SubscriptionOptionsReserved),
                (V5, "82 [ 000A 00 s'a' 80 ]", E::SubscriptionOptionsReserved),
                (V5, "82 [ 000A [ 0B FFFFFFFF01 ] s'a' 00 ]", E::VariableByteInteger),
                (V5, "82 [ 000A [ 1F s'' ] s'a' 00 ]", E::PropertyNotAllowed(0x1F)),
                (V311, "82 [ 000A 0001 00 00 ]", E::NulInString),
                (V5, "82 [ 000A 00 0001 80 00 ]", E::IllFormedUtf8),
            ],
        );
        check_refused(
            Sender::Client,
            R::ProtocolError,
            &[
                (V311, "82 08 0000 0003 'a/b' 00", E::ZeroPacketId),
                (V5, "82 09 0000 00 0003 'a/b' 00", E::ZeroPacketId),
                (V311, "82 02 000A", E::NoTopicFilter),
                (V5, "82 03 000A 00", E::NoTopicFilter),
                (V311, "82 [ 000A s'a' 03 ]", E::SubscriptionQoS),
                (V5, "82 [ 000A 00 s'a' 03 ]", E::SubscriptionQoS),
                (V5, "82 [ 000A 00 s'a' 30 ]", E::RetainHandling),
                (V5, "82 [ 000A 00 s'$share/g/a' 04 ]", E::NoLocalOnSharedSubscription),
                (V5, "82 [ 000A [ 0B 00 ] s'a' 00 ]", E::PropertyZero(0x0B)),
                (V5, "82 [ 000A [ 0B 01 0B 02 ] s'a' 00 ]", E::DuplicateProperty(0x0B)),
            ],
        );

        check_refused(
            Sender::Server,
            R::ProtocolError,
            &[(V5, "82 09 000A 00 0003 'a/b' 00", E::WrongDirection("SUBSCRIBE"))],
        );
    }

    fn with_qos(qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions { qos, ..SubscriptionOptions::default() }
    }

    fn every_option() -> SubscriptionOptions {
        SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::SendIfNew,
        }
    }

    fn sparing() -> SubscriptionOptions {
        let retain_handling = RetainHandling::DoNotSend;
        SubscriptionOptions { retain_handling, ..with_qos(QoS::AtLeastOnce) }
    }

    fn subscribe(filters: &[(&str, SubscriptionOptions)]) -> Packet {
        let filters = filters.iter();
        Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(10).unwrap(),
            subscription_id: None,
            user_properties: Vec::new(),
            filters: filters
                .map(|&(filter, options)| SubscribeFilter { filter: text(filter), options })
                .collect(),
        })
    }
}
