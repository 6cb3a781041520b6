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
