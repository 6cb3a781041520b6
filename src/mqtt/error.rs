//! Why bytes are not a Control Packet.

use super::{ReasonCode, TopicError};

/// The rule a received packet breaks. `Display` is the sentence that becomes the Reason String.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The Remaining Length has at most four bytes (section 2.1.4, Variable Byte Integer).
    #[error("the Remaining Length takes more than four bytes")]
    RemainingLengthTooLong,
    /// The packet exceeds the Maximum Packet Size the receiver told [MQTT-3.2.2-15].
    #[error("a packet of {size} bytes exceeds the Maximum Packet Size of {maximum}")]
    PacketTooLarge {
        /// The size the Fixed Header announces.
        size: usize,
        /// The most the receiver takes.
        maximum: usize,
    },
    /// The bytes are not exactly one packet.
    #[error("the length of the packet differs from its Remaining Length")]
    LengthMismatch,
    /// A field reaches beyond the end of the packet.
    #[error("the packet ends in the middle of a field")]
    Truncated,
    /// Bytes follow the last field.
    #[error("bytes follow the last field of the packet")]
    TrailingBytes,
    /// The Control Packet type does not exist in this version of the protocol.
    #[error("Control Packet type {0} is reserved")]
    ReservedPacketType(u8),
    /// The flags of the Fixed Header are reserved [MQTT-2.1.3-1].
    #[error("the reserved flags of the Fixed Header have a wrong value")]
    FixedHeaderFlags,
    /// The sender has the role that never sends this packet.
    #[error("{0} does not travel in this direction")]
    WrongDirection(&'static str),
    /// A Variable Byte Integer has at most four bytes (section 1.5.5).
    #[error("a Variable Byte Integer takes more than four bytes")]
    VariableByteInteger,
    /// A string is ill-formed UTF-8 [MQTT-1.5.4-1].
    #[error("a string is not well-formed UTF-8")]
    IllFormedUtf8,
    /// A string contains U+0000 [MQTT-1.5.4-2].
    #[error("a string contains the null character U+0000")]
    NulInString,
    /// A Packet Identifier is zero [MQTT-2.2.1-3].
    #[error("the Packet Identifier is zero")]
    ZeroPacketId,
    /// The property is unknown, or does not belong into this packet (section 2.2.2.2).
    #[error("property 0x{0:02X} is not allowed in this packet")]
    PropertyNotAllowed(u32),
    /// A property that may occur once occurs twice.
    #[error("property 0x{0:02X} occurs more than once")]
    DuplicateProperty(u8),
    /// A property that is a truth value is neither 0 nor 1.
    #[error("property 0x{0:02X} is neither 0 nor 1")]
    PropertyNotBoolean(u8),
    /// A property that must not be zero is zero.
    #[error("property 0x{0:02X} is zero")]
    PropertyZero(u8),
    /// The Response Topic is no Topic Name [MQTT-3.3.2-14].
    #[error("the Response Topic is not a Topic Name")]
    ResponseTopic,
    /// Authentication Data comes without an Authentication Method.
    #[error("there is no Authentication Method")]
    NoAuthenticationMethod,
    /// The Reason Code is unknown, or does not belong into this packet or to this sender.
    #[error("Reason Code 0x{0:02X} is not allowed in this packet")]
    ReasonCodeNotAllowed(u8),

    /// The Protocol Name is not that of MQTT [MQTT-3.1.2-1].
    #[error("the Protocol Name is not MQTT")]
    ProtocolName,
    /// The Protocol Version is not one we speak [MQTT-3.1.2-2].
    #[error("protocol level {0} is not supported")]
    ProtocolLevel(u8),
    /// The reserved Connect Flag is set [MQTT-3.1.2-3].
    #[error("the reserved Connect Flag is set")]
    ConnectFlagReserved,
    /// There is a Will QoS or Will Retain without a Will [MQTT-3.1.2-11] [MQTT-3.1.2-13].
    #[error("Will QoS or Will Retain is set without a Will")]
    WillFlags,
    /// The Will QoS is 3 [MQTT-3.1.2-12].
    #[error("the Will QoS is 3")]
    WillQoS,
    /// The Will Topic is no Topic Name [MQTT-4.7.0-1].
    #[error("the Will Topic is invalid: {0}")]
    WillTopic(TopicError),
    /// There is a Password without a User Name [MQTT-3.1.2-22 of 3.1.1].
    #[error("there is a Password without a User Name")]
    PasswordWithoutUserName,
    /// The Client Identifier is empty where it must not be [MQTT-3.1.3-8 of 3.1.1].
    #[error("a Client Identifier is needed to keep a Session")]
    ClientIdRequired,

    /// The reserved bits of the Connect Acknowledge Flags are set [MQTT-3.2.2-1].
    #[error("the reserved Connect Acknowledge Flags are set")]
    ConnackFlags,
    /// A refused CONNECT has a Session Present [MQTT-3.2.2-6].
    #[error("Session Present is set in a refusal")]
    SessionPresentInRefusal,
    /// The Maximum QoS is neither 0 nor 1.
    #[error("the Maximum QoS is neither 0 nor 1")]
    MaximumQoS,

    /// Both QoS bits of a PUBLISH are set [MQTT-3.3.1-4].
    #[error("the QoS is 3")]
    QoS,
    /// DUP is set at QoS 0 [MQTT-3.3.1-2].
    #[error("DUP is set at QoS 0")]
    DupAtQoS0,
    /// The Topic Name contains a wildcard character [MQTT-3.3.2-2].
    #[error("the Topic Name contains a wildcard character")]
    WildcardInTopicName,
    /// The Topic Name is empty and there is no Topic Alias [MQTT-4.7.3-1].
    #[error("the Topic Name is empty and there is no Topic Alias")]
    EmptyTopicName,
    /// The Topic Alias is zero [MQTT-3.3.2-8].
    #[error("the Topic Alias is zero")]
    ZeroTopicAlias,
    /// A Client sends a Subscription Identifier in a PUBLISH [MQTT-3.3.4-6].
    #[error("a Client does not send Subscription Identifiers in a PUBLISH")]
    SubscriptionIdFromClient,

    /// There is no Topic Filter in a SUBSCRIBE or UNSUBSCRIBE [MQTT-3.8.3-2] [MQTT-3.10.3-2].
    #[error("there is no Topic Filter")]
    NoTopicFilter,
    /// Reserved bits of the Subscription Options are set [MQTT-3.8.3-5].
    #[error("reserved Subscription Options are set")]
    SubscriptionOptionsReserved,
    /// The QoS in the Subscription Options is 3.
    #[error("the QoS of a subscription is 3")]
    SubscriptionQoS,
    /// Retain Handling is 3.
    #[error("the Retain Handling of a subscription is 3")]
    RetainHandling,
    /// No Local is set on a Shared Subscription [MQTT-3.8.3-4].
    #[error("No Local is set on a Shared Subscription")]
    NoLocalOnSharedSubscription,
    /// There is no Reason Code in a SUBACK or UNSUBACK [MQTT-3.8.4-6].
    #[error("there is no Reason Code")]
    NoReasonCode,
    /// A Server sends a Session Expiry Interval in a DISCONNECT [MQTT-3.14.2-2].
    #[error("a Server does not send a Session Expiry Interval in a DISCONNECT")]
    SessionExpiryFromServer,
}

impl DecodeError {
    /// The Reason Code to close the Network Connection with (section 4.13). A packet that cannot
    /// be parsed is malformed; one that can, but says what it must not, is a Protocol Error.
    #[must_use]
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            Self::RemainingLengthTooLong
            | Self::LengthMismatch
            | Self::Truncated
            | Self::TrailingBytes
            | Self::ReservedPacketType(_)
            | Self::FixedHeaderFlags
            | Self::VariableByteInteger
            | Self::IllFormedUtf8
            | Self::NulInString
            | Self::PropertyNotAllowed(_)
            | Self::ConnectFlagReserved
            | Self::WillFlags
            | Self::WillQoS
            | Self::PasswordWithoutUserName
            | Self::ConnackFlags
            | Self::QoS
            | Self::DupAtQoS0
            | Self::SubscriptionOptionsReserved
            | Self::NoReasonCode => ReasonCode::MalformedPacket,

            Self::WrongDirection(_)
            | Self::ZeroPacketId
            | Self::DuplicateProperty(_)
            | Self::PropertyNotBoolean(_)
            | Self::PropertyZero(_)
            | Self::ResponseTopic
            | Self::NoAuthenticationMethod
            | Self::ReasonCodeNotAllowed(_)
            | Self::SessionPresentInRefusal
            | Self::MaximumQoS
            | Self::EmptyTopicName
            | Self::SubscriptionIdFromClient
            | Self::NoTopicFilter
            | Self::SubscriptionQoS
            | Self::RetainHandling
            | Self::NoLocalOnSharedSubscription
            | Self::SessionExpiryFromServer => ReasonCode::ProtocolError,

            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::ProtocolName | Self::ProtocolLevel(_) => ReasonCode::UnsupportedProtocolVersion,
            Self::ClientIdRequired => ReasonCode::ClientIdentifierNotValid,
            Self::WillTopic(_) | Self::WildcardInTopicName => ReasonCode::TopicNameInvalid,
            Self::ZeroTopicAlias => ReasonCode::TopicAliasInvalid,
        }
    }
}
