//! A Control Packet of any type.

use bytes::{Bytes, BytesMut};

use super::frame::{Frame, PACKET_SIZE_MAX};
use super::reader::Reader;
use super::{
    Auth, Connack, Connect, DecodeError, Disconnect, Pingreq, Pingresp, ProtocolVersion, Puback,
    Pubcomp, Publish, Pubrec, Pubrel, Suback, Subscribe, Unsuback, Unsubscribe,
};

/// Who sent a packet. Some packets, properties and Reason Codes travel in one direction only.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Sender {
    /// A Client, to a Server.
    Client,
    /// A Server, to a Client.
    Server,
}

/// A Control Packet. The large and rare ones are boxed, so that moving a PUBLISH stays cheap.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Packet {
    /// Asks for a connection.
    Connect(Box<Connect>),
    /// Answers CONNECT.
    Connack(Box<Connack>),
    /// Carries an Application Message.
    Publish(Publish),
    /// Answers a PUBLISH at QoS 1.
    Puback(Puback),
    /// Answers a PUBLISH at QoS 2.
    Pubrec(Pubrec),
    /// Answers PUBREC.
    Pubrel(Pubrel),
    /// Answers PUBREL.
    Pubcomp(Pubcomp),
    /// Asks for Application Messages.
    Subscribe(Subscribe),
    /// Answers SUBSCRIBE.
    Suback(Suback),
    /// Gives subscriptions up.
    Unsubscribe(Unsubscribe),
    /// Answers UNSUBSCRIBE.
    Unsuback(Unsuback),
    /// Asks whether the Server is alive.
    Pingreq,
    /// Answers PINGREQ.
    Pingresp,
    /// Ends the Network Connection.
    Disconnect(Box<Disconnect>),
    /// A step of enhanced authentication.
    Auth(Box<Auth>),
}

impl Packet {
    /// Decodes exactly one whole packet. Slices of `frame` are kept, nothing is copied. A CONNECT
    /// says its version itself, so that any `version` may be given for it.
    ///
    /// # Errors
    ///
    /// The rule of the standard that the packet breaks.
    pub fn decode(
        version: ProtocolVersion,
        sender: Sender,
        frame: &Bytes,
    ) -> Result<Self, DecodeError> {
        let whole = Frame::peek(frame, PACKET_SIZE_MAX)?;
        let header = whole.filter(|header| header.total_len == frame.len());
        let Frame { first_byte, header_len, .. } = header.ok_or(DecodeError::LengthMismatch)?;
        let mut reader = Reader::new(frame, header_len);
        // The result is not taken apart, which would move the packet once more.
        let packet = Self::decode_body(version, sender, first_byte, &mut reader);
        if packet.is_ok() {
            reader.finish()?;
        }
        packet
    }

    #[inline]
    fn decode_body(
        version: ProtocolVersion,
        sender: Sender,
        first_byte: u8,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let packet_type = first_byte >> 4;
        if packet_type == 3 {
            return Publish::decode(version, sender, first_byte, reader).map(Self::Publish);
        }
        check_fixed_header(version, sender, first_byte)?;
        match packet_type {
            1 => Connect::decode(reader).map(Box::new).map(Self::Connect),
            2 => Connack::decode(version, reader).map(Box::new).map(Self::Connack),
            4 => Puback::decode(version, reader).map(Self::Puback),
            5 => Pubrec::decode(version, reader).map(Self::Pubrec),
            6 => Pubrel::decode(version, reader).map(Self::Pubrel),
            7 => Pubcomp::decode(version, reader).map(Self::Pubcomp),
            8 => Subscribe::decode(version, reader).map(Self::Subscribe),
            9 => Suback::decode(version, reader).map(Self::Suback),
            10 => Unsubscribe::decode(version, reader).map(Self::Unsubscribe),
            11 => Unsuback::decode(version, reader).map(Self::Unsuback),
            12 => Ok(Self::Pingreq),
            13 => Ok(Self::Pingresp),
            14 => Disconnect::decode(version, sender, reader).map(Box::new).map(Self::Disconnect),
            15 => Auth::decode(sender, reader).map(Box::new).map(Self::Auth),
            reserved => Err(DecodeError::ReservedPacketType(reserved)),
        }
    }

    /// Appends the whole packet to `out`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut BytesMut) {
        match self {
            Self::Connect(packet) => packet.encode(version, out),
            Self::Connack(packet) => packet.encode(version, out),
            Self::Publish(packet) => packet.encode(version, out),
            Self::Puback(packet) => packet.encode(version, out),
            Self::Pubrec(packet) => packet.encode(version, out),
            Self::Pubrel(packet) => packet.encode(version, out),
            Self::Pubcomp(packet) => packet.encode(version, out),
            Self::Subscribe(packet) => packet.encode(version, out),
            Self::Suback(packet) => packet.encode(version, out),
            Self::Unsubscribe(packet) => packet.encode(version, out),
            Self::Unsuback(packet) => packet.encode(version, out),
            Self::Pingreq => Pingreq.encode(version, out),
            Self::Pingresp => Pingresp.encode(version, out),
            Self::Disconnect(packet) => packet.encode(version, out),
            Self::Auth(packet) => packet.encode(version, out),
        }
    }

    /// The bytes of the whole packet.
    #[must_use]
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        match self {
            Self::Connect(packet) => packet.encoded_len(version),
            Self::Connack(packet) => packet.encoded_len(version),
            Self::Publish(packet) => packet.encoded_len(version),
            Self::Puback(packet) => packet.encoded_len(version),
            Self::Pubrec(packet) => packet.encoded_len(version),
            Self::Pubrel(packet) => packet.encoded_len(version),
            Self::Pubcomp(packet) => packet.encoded_len(version),
            Self::Subscribe(packet) => packet.encoded_len(version),
            Self::Suback(packet) => packet.encoded_len(version),
            Self::Unsubscribe(packet) => packet.encoded_len(version),
            Self::Unsuback(packet) => packet.encoded_len(version),
            Self::Pingreq => Pingreq.encoded_len(version),
            Self::Pingresp => Pingresp.encoded_len(version),
            Self::Disconnect(packet) => packet.encoded_len(version),
            Self::Auth(packet) => packet.encoded_len(version),
        }
    }

    /// The name of the packet, as the standard writes it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "CONNECT",
            Self::Connack(_) => "CONNACK",
            Self::Publish(_) => "PUBLISH",
            Self::Puback(_) => "PUBACK",
            Self::Pubrec(_) => "PUBREC",
            Self::Pubrel(_) => "PUBREL",
            Self::Pubcomp(_) => "PUBCOMP",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::Suback(_) => "SUBACK",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::Unsuback(_) => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect(_) => "DISCONNECT",
            Self::Auth(_) => "AUTH",
        }
    }
}

/// Checks everything the first byte says, for packets other than PUBLISH.
fn check_fixed_header(
    version: ProtocolVersion,
    sender: Sender,
    first_byte: u8,
) -> Result<(), DecodeError> {
    let (packet_type, flags) = (first_byte >> 4, first_byte & 0x0F);
    if packet_type == 0 || (packet_type == 15 && !version.has_properties()) {
        return Err(DecodeError::ReservedPacketType(packet_type));
    }
    // PUBREL, SUBSCRIBE and UNSUBSCRIBE have a flag set [MQTT-3.6.1-1] [MQTT-3.8.1-1]
    // [MQTT-3.10.1-1], the others none [MQTT-2.1.3-1].
    let expected_flags = if matches!(packet_type, 6 | 8 | 10) { 0b0010 } else { 0 };
    if flags != expected_flags {
        return Err(DecodeError::FixedHeaderFlags);
    }
    let wrong = match (packet_type, sender) {
        (1, Sender::Server) => Some("CONNECT"),
        (2, Sender::Client) => Some("CONNACK"),
        (8, Sender::Server) => Some("SUBSCRIBE"),
        (9, Sender::Client) => Some("SUBACK"),
        (10, Sender::Server) => Some("UNSUBSCRIBE"),
        (11, Sender::Client) => Some("UNSUBACK"),
        (12, Sender::Server) => Some("PINGREQ"),
        (13, Sender::Client) => Some("PINGRESP"),
        (14, Sender::Server) if !version.has_properties() => Some("DISCONNECT"),
        _ => None,
    };
    wrong.map_or(Ok(()), |name| Err(DecodeError::WrongDirection(name)))
}

#[cfg(test)]
mod tests {
    use super::super::ReasonCode;
    use super::super::vectors::check_refused;
    use super::ProtocolVersion::{V5, V311};
    use super::*;

    #[test]
    fn type_0_is_no_packet() {
        let error = DecodeError::ReservedPacketType(0);
        let rows = [V311, V5].map(|version| (version, "00 00", error));
        check_refused(Sender::Client, ReasonCode::MalformedPacket, &rows);
        check_refused(Sender::Server, ReasonCode::MalformedPacket, &rows);
    }

    #[test]
    fn nothing_is_no_packet() {
        let seen = Packet::decode(V5, Sender::Client, &Bytes::new());
        assert_eq!(seen, Err(DecodeError::LengthMismatch));
    }

    #[test]
    fn a_publish_is_moved_cheaply() {
        assert!(size_of::<Packet>() <= 128, "{} bytes", size_of::<Packet>());
    }
}
