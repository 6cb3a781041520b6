//! What PUBACK, PUBREC, PUBREL and PUBCOMP have in common: everything but their type.

use bytes::{BufMut, BytesMut};
use bytestring::ByteString;

use super::properties::{ReasonProperties, ReasonPropertiesRef};
use super::reader::Reader;
use super::writer::{Sink, WireForm, encode_packet, packet_len};
use super::{DecodeError, PacketId, ProtocolVersion, ReasonCode, UserProperty};

/// The fields, as received.
pub(crate) struct Fields {
    pub(crate) packet_id: PacketId,
    pub(crate) reason_code: ReasonCode,
    pub(crate) reason_string: Option<ByteString>,
    pub(crate) user_properties: Vec<UserProperty>,
}

impl Fields {
    /// Reads the body. A Reason Code that is absent is Success, absent properties are none.
    pub(crate) fn read(
        version: ProtocolVersion,
        reader: &mut Reader<'_>,
        allowed: &[ReasonCode],
    ) -> Result<Self, DecodeError> {
        let packet_id = reader.packet_id()?;
        let mut reason_code = ReasonCode::Success;
        let mut properties = ReasonProperties::default();
        if version.has_properties() && !reader.is_empty() {
            reason_code = reader.reason_code(allowed)?;
            if !reader.is_empty() {
                properties = ReasonProperties::read(reader)?;
            }
        }
        let ReasonProperties { reason_string, user_properties } = properties;
        Ok(Self { packet_id, reason_code, reason_string, user_properties })
    }
}

/// The body, to be written in the shortest form that says it.
#[derive(Clone, Copy)]
pub(crate) struct Body<'a> {
    pub(crate) packet_id: PacketId,
    pub(crate) reason_code: ReasonCode,
    pub(crate) properties: ReasonPropertiesRef<'a>,
}

impl Body<'_> {
    /// Appends the whole packet to `out`; the common case is four bytes at once.
    #[inline]
    pub(crate) fn encode(&self, first_byte: u8, version: ProtocolVersion, out: &mut BytesMut) {
        if self.is_packet_id_only(version) {
            let [high, low] = self.packet_id.get().to_be_bytes();
            out.put_slice(&[first_byte, 2, high, low]);
        } else {
            encode_packet(first_byte, self, version, out);
        }
    }

    #[inline]
    pub(crate) fn encoded_len(&self, version: ProtocolVersion) -> usize {
        packet_len(self.wire_len(version))
    }

    #[inline]
    fn is_packet_id_only(&self, version: ProtocolVersion) -> bool {
        let says_nothing = self.reason_code == ReasonCode::Success && self.properties.is_empty();
        says_nothing || !version.has_properties()
    }
}

impl WireForm for Body<'_> {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        sink.u16(self.packet_id.get());
        if self.is_packet_id_only(version) {
            return;
        }
        sink.u8(self.reason_code.as_u8());
        if !self.properties.is_empty() {
            sink.properties(version, &self.properties);
        }
    }
}

/// The length of a body that is a Packet Identifier, which means Success: the common one.
pub(crate) const PACKET_ID_ONLY: usize = 2;
