//! What PUBACK, PUBREC, PUBREL and PUBCOMP have in common: everything but their type.

use std::marker::PhantomData;

use bytes::{BufMut, BytesMut};

use super::answer::Answer;
use super::properties::{ReasonProperties, ReasonPropertiesRef};
use super::reader::Reader;
use super::writer::{Sink, WireForm, encode_packet, packet_len};
use super::{DecodeError, PacketId, ProtocolVersion, ReasonCode, ReasonString, UserProperty};

/// The answer of one kind; [`Puback`], [`Pubrec`], [`Pubrel`] and [`Pubcomp`] are names for them.
///
/// [`Puback`]: super::Puback
/// [`Pubrec`]: super::Pubrec
/// [`Pubrel`]: super::Pubrel
/// [`Pubcomp`]: super::Pubcomp
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Acknowledgement<K> {
    /// The Packet Identifier of the PUBLISH [MQTT-2.2.1-5].
    pub packet_id: PacketId,
    /// How it went; in MQTT 3.1.1 not on the wire.
    pub reason_code: ReasonCode,
    /// Why, for people.
    pub reason_string: Option<ReasonString>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
    pub(crate) kind: PhantomData<K>,
}

/// What is particular to one kind of acknowledgement.
pub trait Kind {
    /// Type and flags of the Fixed Header.
    const FIRST_BYTE: u8;
    /// The Reason Codes it may have.
    const REASON_CODES: &'static [ReasonCode];
}

impl<K: Kind> Acknowledgement<K> {
    /// One without properties.
    #[must_use]
    #[inline]
    pub const fn new(packet_id: PacketId, reason_code: ReasonCode) -> Self {
        Self {
            packet_id,
            reason_code,
            reason_string: None,
            user_properties: Vec::new(),
            kind: PhantomData,
        }
    }

    /// Reads the body. A Reason Code that is absent is Success, absent properties are none.
    #[inline]
    pub(crate) fn decode(
        version: ProtocolVersion,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        if reader.remaining() == PACKET_ID_ONLY {
            return Ok(Self::new(reader.packet_id()?, ReasonCode::Success));
        }
        let mut acknowledgement = Self::new(reader.packet_id()?, ReasonCode::Success);
        if version.has_properties() && !reader.is_empty() {
            acknowledgement.reason_code = reader.reason_code(K::REASON_CODES)?;
            if !reader.is_empty() {
                let properties = ReasonProperties::read(reader)?;
                acknowledgement.reason_string = properties.reason_string;
                acknowledgement.user_properties = properties.user_properties;
            }
        }
        Ok(acknowledgement)
    }

    /// Appends the whole packet to `out`; the common case is four bytes at once.
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, out: &mut BytesMut) {
        if self.is_packet_id_only(version) {
            let [high, low] = self.packet_id.get().to_be_bytes();
            out.put_slice(&[K::FIRST_BYTE, 2, high, low]);
        } else {
            encode_packet(K::FIRST_BYTE, self, version, out);
        }
    }

    /// The bytes of the whole packet.
    #[must_use]
    #[inline]
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        packet_len(self.wire_len(version))
    }
}

impl<K> Acknowledgement<K> {
    #[inline]
    fn is_packet_id_only(&self, version: ProtocolVersion) -> bool {
        let says_nothing = self.reason_code == ReasonCode::Success && self.properties().is_empty();
        says_nothing || !version.has_properties()
    }

    #[inline]
    fn properties(&self) -> ReasonPropertiesRef<'_> {
        ReasonPropertiesRef {
            reason_string: self.reason_string.as_deref(),
            user_properties: &self.user_properties,
        }
    }
}

/// In the shortest form that says it.
impl<K> WireForm for Acknowledgement<K> {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        sink.u16(self.packet_id.get());
        if self.is_packet_id_only(version) {
            return;
        }
        sink.u8(self.reason_code.as_u8());
        if !self.properties().is_empty() {
            sink.properties(version, &self.properties());
        }
    }
}

impl<K: Kind> Answer for Acknowledgement<K> {
    fn encoded_len(&self, version: ProtocolVersion) -> usize {
        Self::encoded_len(self, version)
    }

    fn clear_reason_string(&mut self) {
        self.reason_string = None;
    }

    fn encode(&self, version: ProtocolVersion, out: &mut BytesMut) {
        Self::encode(self, version, out);
    }
}

/// The length of a body that is a Packet Identifier, which means Success: the common one.
const PACKET_ID_ONLY: usize = 2;
