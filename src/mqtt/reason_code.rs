//! Reason Codes: one byte that says how an operation went.

use std::fmt;

/// One table makes the type, its parser, its name and the list of all codes, so that they agree.
macro_rules! reason_codes {
    ($($variant:ident = $code:literal, $name:literal;)*) => {
        /// How an operation went; 0x80 and above are failures.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum ReasonCode {
            $(#[doc = $name] $variant = $code,)*
        }

        impl ReasonCode {
            /// Every Reason Code of the standard, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Reads the byte of the wire form.
            #[must_use]
            pub const fn from_u8(byte: u8) -> Option<Self> {
                match byte {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The name the standard gives this code.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

reason_codes! {
    Success = 0x00, "Success";
    GrantedQoS1 = 0x01, "Granted QoS 1";
    GrantedQoS2 = 0x02, "Granted QoS 2";
    DisconnectWithWillMessage = 0x04, "Disconnect with Will Message";
    NoMatchingSubscribers = 0x10, "No matching subscribers";
    NoSubscriptionExisted = 0x11, "No subscription existed";
    ContinueAuthentication = 0x18, "Continue authentication";
    ReAuthenticate = 0x19, "Re-authenticate";
    UnspecifiedError = 0x80, "Unspecified error";
    MalformedPacket = 0x81, "Malformed Packet";
    ProtocolError = 0x82, "Protocol Error";
    ImplementationSpecificError = 0x83, "Implementation specific error";
    UnsupportedProtocolVersion = 0x84, "Unsupported Protocol Version";
    ClientIdentifierNotValid = 0x85, "Client Identifier not valid";
    BadUserNameOrPassword = 0x86, "Bad User Name or Password";
    NotAuthorized = 0x87, "Not authorized";
    ServerUnavailable = 0x88, "Server unavailable";
    ServerBusy = 0x89, "Server busy";
    Banned = 0x8A, "Banned";
    ServerShuttingDown = 0x8B, "Server shutting down";
    BadAuthenticationMethod = 0x8C, "Bad authentication method";
    KeepAliveTimeout = 0x8D, "Keep Alive timeout";
    SessionTakenOver = 0x8E, "Session taken over";
    TopicFilterInvalid = 0x8F, "Topic Filter invalid";
    TopicNameInvalid = 0x90, "Topic Name invalid";
    PacketIdentifierInUse = 0x91, "Packet Identifier in use";
    PacketIdentifierNotFound = 0x92, "Packet Identifier not found";
    ReceiveMaximumExceeded = 0x93, "Receive Maximum exceeded";
    TopicAliasInvalid = 0x94, "Topic Alias invalid";
    PacketTooLarge = 0x95, "Packet too large";
    MessageRateTooHigh = 0x96, "Message rate too high";
    QuotaExceeded = 0x97, "Quota exceeded";
    AdministrativeAction = 0x98, "Administrative action";
    PayloadFormatInvalid = 0x99, "Payload format invalid";
    RetainNotSupported = 0x9A, "Retain not supported";
    QoSNotSupported = 0x9B, "QoS not supported";
    UseAnotherServer = 0x9C, "Use another server";
    ServerMoved = 0x9D, "Server moved";
    SharedSubscriptionsNotSupported = 0x9E, "Shared Subscriptions not supported";
    ConnectionRateExceeded = 0x9F, "Connection rate exceeded";
    MaximumConnectTime = 0xA0, "Maximum connect time";
    SubscriptionIdentifiersNotSupported = 0xA1, "Subscription Identifiers not supported";
    WildcardSubscriptionsNotSupported = 0xA2, "Wildcard Subscriptions not supported";
}

impl ReasonCode {
    /// What 0x00 is called in a DISCONNECT.
    pub const NORMAL_DISCONNECTION: Self = Self::Success;
    /// What 0x00 is called in a SUBACK.
    pub const GRANTED_QOS_0: Self = Self::Success;

    /// The byte of the wire form.
    #[must_use]
    #[inline]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether the operation failed.
    #[must_use]
    #[inline]
    pub const fn is_error(self) -> bool {
        self.as_u8() >= 0x80
    }

    /// The Connect Return code of MQTT 3.1.1 nearest to this code; 0 when it is no failure.
    ///
    /// Where none is applicable the standard asks to close without a CONNACK [MQTT-3.2.2-6 of
    /// 3.1.1]; a refusal that is said helps more, so every failure has one here.
    #[must_use]
    pub fn connack_v3(self) -> u8 {
        let row = CONNACK_V3.iter().find(|&&(code, _)| code == self);
        let otherwise = if self.is_error() { SERVER_UNAVAILABLE_V3 } else { 0 };
        row.map_or(otherwise, |&(_, return_code)| return_code)
    }

    /// Reads a Connect Return code of MQTT 3.1.1.
    pub(crate) fn from_connack_v3(return_code: u8) -> Option<Self> {
        let row = CONNACK_V3.iter().find(|&&(_, candidate)| candidate == return_code);
        row.map(|&(code, _)| code)
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const SERVER_UNAVAILABLE_V3: u8 = 3;

/// Connect Return codes of MQTT 3.1.1. Where several codes share one, the first is what it means.
const CONNACK_V3: &[(ReasonCode, u8)] = &[
    (ReasonCode::Success, 0),
    (ReasonCode::UnsupportedProtocolVersion, 1),
    (ReasonCode::ClientIdentifierNotValid, 2),
    (ReasonCode::ServerUnavailable, SERVER_UNAVAILABLE_V3),
    (ReasonCode::BadUserNameOrPassword, 4),
    (ReasonCode::NotAuthorized, 5),
    (ReasonCode::Banned, 5),
    (ReasonCode::BadAuthenticationMethod, 5),
    (ReasonCode::TopicNameInvalid, 5),
    (ReasonCode::AdministrativeAction, 5),
    (ReasonCode::PacketTooLarge, 5),
    (ReasonCode::PayloadFormatInvalid, 5),
    (ReasonCode::RetainNotSupported, 5),
    (ReasonCode::QoSNotSupported, 5),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_and_the_code_agree() {
        for byte in 0..=u8::MAX {
            if let Some(code) = ReasonCode::from_u8(byte) {
                assert_eq!(code.as_u8(), byte);
                assert_eq!(code.is_error(), byte >= 0x80);
            }
        }
        let known = (0..=u8::MAX).filter_map(ReasonCode::from_u8);
        assert_eq!(known.collect::<Vec<_>>(), ReasonCode::ALL);
        assert_eq!(ReasonCode::ALL.len(), 43);
    }

    #[test]
    fn every_failure_has_a_return_code_of_3_1_1() {
        for &code in ReasonCode::ALL {
            let return_code = code.connack_v3();
            assert_eq!(code.is_error(), (1..=5).contains(&return_code), "{code}");
        }
        for return_code in 0..=5 {
            let code = ReasonCode::from_connack_v3(return_code).unwrap();
            assert_eq!(code.connack_v3(), return_code);
        }
        assert_eq!(ReasonCode::from_connack_v3(6), None);
    }
}
