//! DISCONNECT: the last packet of a Network Connection.

use bytes::BytesMut;
use bytestring::ByteString;

use super::properties::{PropertyReader, PropertySink, id};
use super::reader::Reader;
use super::writer::{Sink, WireForm, encode_packet, packet_len};
use super::{DecodeError, ProtocolVersion, ReasonCode, ReasonString, Sender, UserProperty};

/// The last packet of a Network Connection; in MQTT 3.1.1 only a Client sends it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disconnect {
    /// Why the sender closes; in MQTT 3.1.1 not on the wire.
    pub reason_code: ReasonCode,
    /// The Session Expiry Interval from now on; only from a Client [MQTT-3.14.2-2].
    pub session_expiry_interval_secs: Option<u32>,
    /// Why, for people.
    pub reason_string: Option<ReasonString>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
    /// Where else to connect.
    pub server_reference: Option<ByteString>,
}

impl Disconnect {
    /// One without properties.
    #[must_use]
    pub const fn new(reason_code: ReasonCode) -> Self {
        Self {
            reason_code,
            session_expiry_interval_secs: None,
            reason_string: None,
            user_properties: Vec::new(),
            server_reference: None,
        }
    }

    /// Reads the body. Absent properties are none, an absent Reason Code is Normal disconnection.
    pub(crate) fn decode(
        version: ProtocolVersion,
        sender: Sender,
        reader: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let mut disconnect = Self::new(ReasonCode::NORMAL_DISCONNECTION);
        if !version.has_properties() {
            return Ok(disconnect);
        }
        let allowed = match sender {
            Sender::Client => CLIENT_REASON_CODES,
            Sender::Server => SERVER_REASON_CODES,
        };
        if reader.is_empty() {
            return Ok(disconnect);
        }
        disconnect.reason_code = reader.reason_code(allowed)?;
        if !reader.is_empty() {
            disconnect.read_properties(sender, reader)?;
        }
        Ok(disconnect)
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

    fn read_properties(
        &mut self,
        sender: Sender,
        reader: &mut Reader<'_>,
    ) -> Result<(), DecodeError> {
        let mut properties = PropertyReader::new(reader)?;
        while let Some(id) = properties.next_id()? {
            match id {
                id::SESSION_EXPIRY_INTERVAL if sender == Sender::Server => {
                    return Err(DecodeError::SessionExpiryFromServer);
                }
                id::SESSION_EXPIRY_INTERVAL => {
                    self.session_expiry_interval_secs = Some(properties.u32()?);
                }
                id::REASON_STRING => self.reason_string = Some(properties.reason_string()?),
                id::USER_PROPERTY => self.user_properties.push(properties.user_property()?),
                id::SERVER_REFERENCE => self.server_reference = Some(properties.string()?),
                other => return Err(DecodeError::PropertyNotAllowed(u32::from(other))),
            }
        }
        Ok(())
    }

    fn has_properties(&self) -> bool {
        self.session_expiry_interval_secs.is_some()
            || self.reason_string.is_some()
            || !self.user_properties.is_empty()
            || self.server_reference.is_some()
    }
}

impl WireForm for Disconnect {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        let is_normal = self.reason_code == ReasonCode::NORMAL_DISCONNECTION;
        if !version.has_properties() || (is_normal && !self.has_properties()) {
            return;
        }
        sink.u8(self.reason_code.as_u8());
        if self.has_properties() {
            sink.properties(version, &DisconnectProperties(self));
        }
    }
}

struct DisconnectProperties<'a>(&'a Disconnect);

impl WireForm for DisconnectProperties<'_> {
    fn write(&self, _version: ProtocolVersion, sink: &mut impl Sink) {
        let Disconnect {
            reason_code: _,
            session_expiry_interval_secs,
            reason_string,
            user_properties,
            server_reference,
        } = self.0;
        sink.u32_property(id::SESSION_EXPIRY_INTERVAL, *session_expiry_interval_secs);
        sink.string_property(id::REASON_STRING, reason_string.as_deref());
        sink.user_properties(user_properties);
        sink.string_property(id::SERVER_REFERENCE, server_reference.as_deref());
    }
}

const FIRST_BYTE: u8 = 0xE0;

/// The Reason Codes a Client may send [MQTT-3.14.2-1].
pub(super) const CLIENT_REASON_CODES: &[ReasonCode] = &[
    ReasonCode::NORMAL_DISCONNECTION,
    ReasonCode::DisconnectWithWillMessage,
    ReasonCode::UnspecifiedError,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::TopicNameInvalid,
    ReasonCode::ReceiveMaximumExceeded,
    ReasonCode::TopicAliasInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::MessageRateTooHigh,
    ReasonCode::QuotaExceeded,
    ReasonCode::AdministrativeAction,
    ReasonCode::PayloadFormatInvalid,
];

/// The Reason Codes a Server may send [MQTT-3.14.2-1].
pub(super) const SERVER_REASON_CODES: &[ReasonCode] = &[
    ReasonCode::NORMAL_DISCONNECTION,
    ReasonCode::UnspecifiedError,
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::ImplementationSpecificError,
    ReasonCode::NotAuthorized,
    ReasonCode::ServerBusy,
    ReasonCode::ServerShuttingDown,
    ReasonCode::BadAuthenticationMethod,
    ReasonCode::KeepAliveTimeout,
    ReasonCode::SessionTakenOver,
    ReasonCode::TopicFilterInvalid,
    ReasonCode::TopicNameInvalid,
    ReasonCode::ReceiveMaximumExceeded,
    ReasonCode::TopicAliasInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::MessageRateTooHigh,
    ReasonCode::QuotaExceeded,
    ReasonCode::AdministrativeAction,
    ReasonCode::PayloadFormatInvalid,
    ReasonCode::RetainNotSupported,
    ReasonCode::QoSNotSupported,
    ReasonCode::UseAnotherServer,
    ReasonCode::ServerMoved,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::ConnectionRateExceeded,
    ReasonCode::MaximumConnectTime,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

#[cfg(test)]
mod tests {
    use super::super::Packet;
    use super::super::vectors::{
        check_both_ways, check_one_way, check_refused, text, user_property,
    };
    use super::ProtocolVersion::{V5, V31, V311};
    use super::*;

    #[test]
    fn vectors() {
        let leave = Disconnect::new(ReasonCode::NORMAL_DISCONNECTION);
        let with_will = Disconnect::new(ReasonCode::DisconnectWithWillMessage);
        check_both_ways(
            Sender::Client,
            &[
                (V31, "E0 00", packet(leave.clone())),
                (V311, "E0 00", packet(leave.clone())),
                (V5, "E0 00", packet(leave.clone())),
                (V5, "E0 01 04", packet(with_will)),
                (
                    V5,
                    "E0 [ 00 [ 11 FFFFFFFF 26 s'k' s'v' ] ]",
                    packet(Disconnect {
                        session_expiry_interval_secs: Some(u32::MAX),
                        user_properties: vec![user_property("k", "v")],
                        ..leave
                    }),
                ),
            ],
        );
        check_both_ways(
            Sender::Server,
            &[
                (V5, "E0 01 8E", packet(Disconnect::new(ReasonCode::SessionTakenOver))),
                (
                    V5,
                    "E0 [ 9D [ 1F s'why' 1C s'other' ] ]",
                    packet(Disconnect {
                        reason_string: Some("why".into()),
                        server_reference: Some(text("other")),
                        ..Disconnect::new(ReasonCode::ServerMoved)
                    }),
                ),
            ],
        );
    }

    #[test]
    fn a_normal_disconnection_may_be_said_at_length() {
        let leave = || packet(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION));
        check_one_way(Sender::Client, &[(V5, "E0 01 00", leave()), (V5, "E0 02 00 00", leave())]);
    }

    #[test]
    fn malformed_twins() {
        use DecodeError as E;
        use ReasonCode as R;
        check_refused(
            Sender::Client,
            R::MalformedPacket,
            &[
                (V311, "E1 00", E::FixedHeaderFlags),
                (V5, "E1 00", E::FixedHeaderFlags),
                (V311, "E0 01 00", E::TrailingBytes),
                (V5, "E0 03 00 00 00", E::TrailingBytes),
                (V5, "E0 02 00 01", E::Truncated),
                (V5, "E0 [ 00 [ 21 0001 ] ]", E::PropertyNotAllowed(0x21)),
                (V5, "E0 [ 00 [ 1F 0001 00 ] ]", E::NulInString),
            ],
        );
        check_refused(
            Sender::Client,
            R::ProtocolError,
            &[
                (V5, "E0 01 01", E::ReasonCodeNotAllowed(1)),
                (V5, "E0 01 8E", E::ReasonCodeNotAllowed(0x8E)),
                (V5, "E0 [ 00 [ 11 00000001 11 00000001 ] ]", E::DuplicateProperty(0x11)),
            ],
        );

        check_refused(
            Sender::Server,
            R::ProtocolError,
            &[
                (V311, "E0 00", E::WrongDirection("DISCONNECT")),
                (V5, "E0 01 04", E::ReasonCodeNotAllowed(4)),
                (V5, "E0 [ 00 [ 11 00000001 ] ]", E::SessionExpiryFromServer),
            ],
        );
    }

    fn packet(disconnect: Disconnect) -> Packet {
        Packet::Disconnect(Box::new(disconnect))
    }
}
