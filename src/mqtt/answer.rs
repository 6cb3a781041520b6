//! Answers that may say why in words, and what holds for all of them.

use bytes::BytesMut;

use super::{Connack, Disconnect, ProtocolVersion, Suback, Unsuback};

/// A packet with a Reason String, which gives way where the receiver takes no packet as large as
/// that [MQTT-3.4.2-2].
pub trait Answer: Sized {
    /// The bytes of the whole packet.
    fn encoded_len(&self, version: ProtocolVersion) -> usize;

    /// Takes the Reason String out.
    fn clear_reason_string(&mut self);

    /// Appends the whole packet to `out`.
    fn encode(&self, version: ProtocolVersion, out: &mut BytesMut);

    /// Takes the Reason String out if the packet is larger than `packet_bytes_max`; whether it is
    /// now no larger.
    fn shorten(&mut self, version: ProtocolVersion, packet_bytes_max: usize) -> bool {
        if packet_bytes_max == usize::MAX || self.encoded_len(version) <= packet_bytes_max {
            return true;
        }
        self.clear_reason_string();
        self.encoded_len(version) <= packet_bytes_max
    }

    /// Appends the whole packet to `out`, without its Reason String if it is too large with it.
    fn encode_within(
        mut self,
        version: ProtocolVersion,
        packet_bytes_max: usize,
        out: &mut BytesMut,
    ) {
        self.shorten(version, packet_bytes_max);
        self.encode(version, out);
    }
}

/// For packets whose Reason String lies at the end of this way.
macro_rules! answers {
    ($($packet:ident: $($reason_string:ident).+;)+) => {$(
        impl Answer for $packet {
            fn encoded_len(&self, version: ProtocolVersion) -> usize {
                Self::encoded_len(self, version)
            }

            fn clear_reason_string(&mut self) {
                self.$($reason_string).+ = None;
            }

            fn encode(&self, version: ProtocolVersion, out: &mut BytesMut) {
                Self::encode(self, version, out);
            }
        }
    )+};
}

answers! {
    Connack: properties.reason_string;
    Suback: reason_string;
    Unsuback: reason_string;
    Disconnect: reason_string;
}
