//! AUTH: a step of enhanced authentication, in MQTT 5.0.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::properties::{PropertyReader, PropertySink, id};
use super::reader::Reader;
use super::writer::{Sink, WireForm, encode_packet, packet_len};
use super::{DecodeError, ProtocolVersion, ReasonCode, ReasonString, Sender, UserProperty};

/// A step of enhanced authentication. The packet does not exist before MQTT 5.0.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Auth {
    /// Where the exchange stands.
    pub reason_code: ReasonCode,
    /// The mechanism.
    pub authentication_method: Option<ByteString>,
    /// What the mechanism says.
    pub authentication_data: Option<Bytes>,
    /// Why, for people.
    pub reason_string: Option<ReasonString>,
    /// User Properties, in order.
    pub user_properties: Vec<UserProperty>,
}

impl Auth {
    /// Success, without a word.
    #[must_use]
    pub const fn success() -> Self {
        Self {
            reason_code: ReasonCode::Success,
            authentication_method: None,
            authentication_data: None,
            reason_string: None,
            user_properties: Vec::new(),
        }
    }

    /// Reads the body. Only Success may leave everything out, the Authentication Method included.
    pub(crate) fn decode(sender: Sender, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut auth = Self::success();
        let allowed = match sender {
            Sender::Client => CLIENT_REASON_CODES,
            Sender::Server => SERVER_REASON_CODES,
        };
        if reader.is_empty() {
            let success = ReasonCode::Success.as_u8();
            let not_allowed = DecodeError::ReasonCodeNotAllowed(success);
            return if sender == Sender::Server { Ok(auth) } else { Err(not_allowed) };
        }
        auth.reason_code = reader.reason_code(allowed)?;
        auth.read_properties(reader)?;
        if auth.authentication_method.is_none() {
            return Err(DecodeError::NoAuthenticationMethod);
        }
        Ok(auth)
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

    fn read_properties(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let mut properties = PropertyReader::new(reader)?;
        while let Some(id) = properties.next_id()? {
            match id {
                id::AUTHENTICATION_METHOD => {
                    self.authentication_method = Some(properties.string()?);
                }
                id::AUTHENTICATION_DATA => self.authentication_data = Some(properties.binary()?),
                id::REASON_STRING => self.reason_string = Some(properties.reason_string()?),
                id::USER_PROPERTY => self.user_properties.push(properties.user_property()?),
                other => return Err(DecodeError::PropertyNotAllowed(u32::from(other))),
            }
        }
        Ok(())
    }
}

impl WireForm for Auth {
    fn write(&self, version: ProtocolVersion, sink: &mut impl Sink) {
        if *self == Self::success() {
            return;
        }
        sink.u8(self.reason_code.as_u8());
        sink.properties(version, &AuthProperties(self));
    }
}

struct AuthProperties<'a>(&'a Auth);

impl WireForm for AuthProperties<'_> {
    fn write(&self, _version: ProtocolVersion, sink: &mut impl Sink) {
        let Auth {
            reason_code: _,
            authentication_method,
            authentication_data,
            reason_string,
            user_properties,
        } = self.0;
        sink.string_property(id::AUTHENTICATION_METHOD, authentication_method.as_deref());
        sink.binary_property(id::AUTHENTICATION_DATA, authentication_data.as_deref());
        sink.string_property(id::REASON_STRING, reason_string.as_deref());
        sink.user_properties(user_properties);
    }
}

const FIRST_BYTE: u8 = 0xF0;

/// The Reason Codes a Client may send [MQTT-3.15.2-1].
pub(super) const CLIENT_REASON_CODES: &[ReasonCode] =
    &[ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate];

/// The Reason Codes a Server may send [MQTT-3.15.2-1].
pub(super) const SERVER_REASON_CODES: &[ReasonCode] =
    &[ReasonCode::Success, ReasonCode::ContinueAuthentication];

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
        let full = Auth {
            reason_code: ReasonCode::ContinueAuthentication,
            authentication_method: Some(text("M")),
            authentication_data: Some(Bytes::from_static(&[0x00, 0xFF])),
            reason_string: Some("why".into()),
            user_properties: vec![user_property("k", "v")],
        };
        let again = Auth {
            reason_code: ReasonCode::ReAuthenticate,
            authentication_method: Some(text("M")),
            ..Auth::success()
        };
        let bytes = "F0 [ 18 [ 15 s'M' 16 0002 00FF 1F s'why' 26 s'k' s'v' ] ]";
        check_both_ways(
            Sender::Client,
            &[(V5, bytes, packet(full)), (V5, "F0 06 19 04 15 0001 'M'", packet(again))],
        );
        check_both_ways(Sender::Server, &[(V5, "F0 00", packet(Auth::success()))]);
    }

    #[test]
    fn success_may_name_its_method() {
        let method = Some(text("M"));
        let auth = Auth { authentication_method: method, ..Auth::success() };
        check_one_way(Sender::Server, &[(V5, "F0 [ 00 [ 15 s'M' ] ]", packet(auth))]);
    }

    #[test]
    fn malformed_twins() {
        use DecodeError as E;
        use ReasonCode as R;
        check_refused(
            Sender::Client,
            R::MalformedPacket,
            &[
                (V31, "F0 00", E::ReservedPacketType(15)),
                (V311, "F0 00", E::ReservedPacketType(15)),
                (V5, "F1 06 19 04 15 0001 'M'", E::FixedHeaderFlags),
                (V5, "F0 01 18", E::Truncated),
                (V5, "F0 [ 18 [ 15 s'M' ] 00 ]", E::TrailingBytes),
                (V5, "F0 [ 18 [ 15 s'M' 1C s'' ] ]", E::PropertyNotAllowed(0x1C)),
            ],
        );
        check_refused(
            Sender::Client,
            R::ProtocolError,
            &[
                (V5, "F0 00", E::ReasonCodeNotAllowed(0)),
                (V5, "F0 [ 00 [ 15 s'M' ] ]", E::ReasonCodeNotAllowed(0)),
                (V5, "F0 02 18 00", E::NoAuthenticationMethod),
                (V5, "F0 [ 18 [ 16 0001 00 ] ]", E::NoAuthenticationMethod),
                (V5, "F0 [ 18 [ 15 s'M' 15 s'M' ] ]", E::DuplicateProperty(0x15)),
            ],
        );

        check_refused(
            Sender::Server,
            R::ProtocolError,
            &[(V5, "F0 [ 19 [ 15 s'M' ] ]", E::ReasonCodeNotAllowed(0x19))],
        );
    }

    fn packet(auth: Auth) -> Packet {
        Packet::Auth(Box::new(auth))
    }
}
