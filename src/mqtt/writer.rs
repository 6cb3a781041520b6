//! Writes fields. A wire form is described once and run over two sinks: one that counts, one that
//! writes; so that the length told is the length written.

use bytes::{BufMut, BytesMut};

use super::ProtocolVersion;

/// Something that is written into a packet.
pub(crate) trait WireForm {
    /// Writes the fields of `self`, in order.
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink);

    /// How many bytes [`Self::write`] writes.
    fn wire_len(&self, version: ProtocolVersion) -> usize {
        let mut length = Length(0);
        self.write(version, &mut length);
        length.0
    }
}

/// Where fields go.
pub(crate) trait Sink {
    fn bytes(&mut self, bytes: &[u8]);

    fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// A Variable Byte Integer in its shortest form [MQTT-1.5.5-1].
    fn varint(&mut self, value: usize) {
        debug_assert!(value <= VARINT_MAX, "a Variable Byte Integer holds 28 bits");
        let mut rest = value;
        while rest > 0x7F {
            self.u8(low_seven_bits(rest) | 0x80);
            rest >>= 7;
        }
        self.u8(low_seven_bits(rest));
    }

    /// Whoever makes a packet of what is not from a packet asks [`WireForm::wire_len`] first.
    fn binary(&mut self, bytes: &[u8]) {
        let len = u16::try_from(bytes.len()).expect("a field has at most 65,535 bytes");
        self.u16(len);
        self.bytes(bytes);
    }

    fn string(&mut self, string: &str) {
        self.binary(string.as_bytes());
    }

    /// A Property Length and the properties [MQTT-2.2.2-1].
    fn properties(&mut self, version: ProtocolVersion, properties: &impl WireForm)
    where
        Self: Sized,
    {
        self.varint(properties.wire_len(version));
        properties.write(version, self);
    }
}

impl Sink for BytesMut {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
}

/// A sink that only counts. What has a field that no packet can hold is as long as no packet.
struct Length(usize);

impl Sink for Length {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }

    #[inline]
    fn binary(&mut self, bytes: &[u8]) {
        let is_field = bytes.len() <= FIELD_BYTES_MAX;
        self.0 = self.0.saturating_add(if is_field { 2 + bytes.len() } else { UNENCODABLE });
    }

    /// A Property Length may be that of what cannot be encoded.
    #[inline]
    fn varint(&mut self, value: usize) {
        self.0 = self.0.saturating_add(varint_len(value));
    }
}

/// Writes a whole packet: Fixed Header, then `body`.
pub(crate) fn encode_packet(
    first_byte: u8,
    body: &impl WireForm,
    version: ProtocolVersion,
    out: &mut BytesMut,
) {
    let body_len = body.wire_len(version);
    out.reserve(packet_len(body_len));
    out.u8(first_byte);
    out.varint(body_len);
    body.write(version, out);
}

/// The bytes of a packet whose Remaining Length is `body_len`.
#[inline]
pub(crate) const fn packet_len(body_len: usize) -> usize {
    body_len.saturating_add(1 + varint_len(body_len))
}

/// The bytes of the shortest Variable Byte Integer of this value.
#[inline]
pub(crate) const fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Bytes of one field, a string or a binary value.
pub const FIELD_BYTES_MAX: usize = 65_535;
/// The length of what cannot be encoded: more than any packet has, and with room to add to.
const UNENCODABLE: usize = usize::MAX / 2;

/// The lowest seven bits, as the byte they fit into.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "seven bits are left")]
pub(crate) const fn low_seven_bits(value: usize) -> u8 {
    (value & 0x7F) as u8
}

const VARINT_MAX: usize = 268_435_455;
