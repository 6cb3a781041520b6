//! UNSUBSCRIBE: gives subscriptions up.

use bytes::BytesMut;
use bytestring::ByteString;

use super::properties::{PropertyReader, PropertySink, id};
use super::reader::Reader;
use super::writer::{Sink, WireForm, encode_packet, packet_len};
use super::{DecodeError, PacketId, ProtocolVersion, UserProperty};

/// Gives subscriptions up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unsubscribe {
    /// The Packet Identifier the UNSUBACK repeats.
    pub packet_id: PacketId,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
    /// The Topic Filters, compared byte by byte; at least one [MQTT-3.10.3-2].
    pub filters: Vec<ByteString>,
}

impl Unsubscribe {
    pub(crate) fn decode(
        version: ProtocolVersion,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let mut user_properties = Vec::new();
        if version.has_properties() {
            let mut properties = PropertyReader::new(reader)?;
            while let Some(id) = properties.next_id()? {
                match id {
                    id::USER_PROPERTY => user_properties.push(properties.user_property()?),
                    other => return Err(DecodeError::PropertyNotAllowed(u32::from(other))),
                }
            }
        }
        if reader.is_empty() {
            return Err(DecodeError::NoTopicFilter);
        }
        let mut filters = Vec::new();
        while !reader.is_empty() {
            filters.push(reader.string()?);
        }
        Ok(Self { packet_id, user_properties, filters })
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

impl WireForm for Unsubscribe {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        sink.u16(self.packet_id.get());
        if version.has_properties() {
            sink.properties(version, &UserProperties(&self.user_properties));
        }
        self.filters.iter().for_each(|filter| sink.string(filter));
    }
}

struct UserProperties<'a>(&'a [UserProperty]);

impl WireForm for UserProperties<'_> {
    fn write(&self, _version: ProtocolVersion, sink: &mut impl Sink) {
        sink.user_properties(self.0);
    }
}

const FIRST_BYTE: u8 = 0xA2;

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
        check_both_ways(
            Sender::Client,
            &[
                (V31, "A2 07 000A 0003 'a/b'", unsubscribe(&["a/b"])),
                (V311, "A2 0A 000A 0003 'a/b' 0001 '#'", unsubscribe(&["a/b", "#"])),
                (V5, "A2 08 000A 00 0003 'a/b'", unsubscribe(&["a/b"])),
                (
                    V5,
                    "A2 [ 000A [ 26 s'k' s'v' ] s'a' ]",
                    Packet::Unsubscribe(Unsubscribe {
                        packet_id: PacketId::new(10).unwrap(),
                        user_properties: vec![user_property("k", "v")],
                        filters: vec![text("a")],
                    }),
                ),
            ],
        );
    }

    #[test]
    fn an_invalid_topic_filter_is_left_to_the_answer() {
        let row = (V5, "A2 [ 000A 00 s'#/a' s'' ]", unsubscribe(&["#/a", ""]));
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
                (V311, "A0 07 000A 0003 'a/b'", E::FixedHeaderFlags),
                (V5, "A0 08 000A 00 0003 'a/b'", E::FixedHeaderFlags),
                (V311, "A2 [ 000A s'a' 00 ]", E::Truncated),
                (V5, "A2 [ 000A 00 0002 'a' ]", E::Truncated),
                (V311, "A2 [ 000A 0001 00 ]", E::NulInString),
                (V311, "A2 [ 000A 0001 FE ]", E::IllFormedUtf8),
                (V5, "A2 [ 000A [ 0B 01 ] s'a' ]", E::PropertyNotAllowed(0x0B)),
            ],
        );
        check_refused(
            Sender::Client,
            R::ProtocolError,
            &[
                (V311, "A2 07 0000 0003 'a/b'", E::ZeroPacketId),
                (V5, "A2 08 0000 00 0003 'a/b'", E::ZeroPacketId),
                (V311, "A2 02 000A", E::NoTopicFilter),
                (V5, "A2 03 000A 00", E::NoTopicFilter),
            ],
        );

        check_refused(
            Sender::Server,
            R::ProtocolError,
            &[(V311, "A2 07 000A 0003 'a/b'", E::WrongDirection("UNSUBSCRIBE"))],
        );
    }

    fn unsubscribe(filters: &[&str]) -> Packet {
        Packet::Unsubscribe(Unsubscribe {
            packet_id: PacketId::new(10).unwrap(),
            user_properties: Vec::new(),
            filters: filters.iter().map(|filter| text(filter)).collect(),
        })
    }
}
