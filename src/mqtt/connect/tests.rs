//! CONNECT, byte by byte.

use super::super::vectors::{check_both_ways, check_one_way, check_refused, text, user_property};
use super::super::{Packet, ReasonCode, Sender, TopicError};
use super::ProtocolVersion::{V5, V31, V311};
use super::*;

#[test]
fn vectors() {
    check_both_ways(
        Sender::Client,
        &[
            (V31, "10 12 0006 'MQIsdp' 03 02 003C 0004 'zoo1'", connect(V31)),
            (V311, "10 10 0004 'MQTT' 04 02 003C 0004 'zoo1'", connect(V311)),
            (V5, "10 11 0004 'MQTT' 05 02 003C 00 0004 'zoo1'", connect(V5)),
            (
                V311,
                "10 [ s'MQTT' 04 EE 003C s'zoo1' s'last/word' s'gone' s'ann' 0002 00FF ]",
                with_will(V311, Will { delay_interval_secs: 0, properties: None, ..will() }),
            ),
            (
                V5,
                "10 [ s'MQTT' 05 EE 003C [] s'zoo1'
                    [ 18 0000001E 02 00000E10 01 01 03 s'text/plain' 08 s'answer/here'
                      09 0003 000102 26 s'k' s'v' 26 s'k' s'' ]
                    s'last/word' s'gone' s'ann' 0002 00FF ]",
                with_will(V5, will()),
            ),
            (
                V5,
                "10 [ s'MQTT' 05 00 0000
                    [ 11 FFFFFFFF 21 0014 27 00010000 22 000A 19 01 17 00 15 s'SCRAM-SHA-1'
                      16 0002 FF00 26 s'k' s'v' ] s'' ]",
                all_properties(),
            ),
        ],
    );
}

#[test]
fn defaults_may_be_said_and_the_password_may_come_alone() {
    let with_password = Packet::Connect(Box::new(Connect {
        password: Some(Bytes::from_static(b"pw")),
        ..plain(V5)
    }));
    check_one_way(
        Sender::Client,
        &[
            (V311, "10 [ s'MQTT' 05 02 003C [ 17 01 19 00 22 0000 ] s'zoo1' ]", connect(V5)),
            (V311, "10 [ s'MQTT' 05 42 003C [] s'zoo1' s'pw' ]", with_password),
            (V5, "10 [ s'MQTT' 04 02 003C s'zoo1' ]", connect(V311)),
        ],
    );
}

#[test]
fn malformed_twins() {
    use DecodeError as E;
    use ReasonCode as R;
    let no_topic = E::WillTopic(TopicError::Empty);
    let wildcard = E::WillTopic(TopicError::WildcardInName);
    check_refused(
        Sender::Client,
        R::MalformedPacket,
        &[
            (V5, "11 [ s'MQTT' 05 02 003C [] s'z' ]", E::FixedHeaderFlags),
            (V5, "10 [ s'MQTT' 05 03 003C [] s'z' ]", E::ConnectFlagReserved),
            (V311, "10 [ s'MQTT' 04 03 003C s'z' ]", E::ConnectFlagReserved),
            (V5, "10 [ s'MQTT' 05 0A 003C [] s'z' ]", E::WillFlags),
            (V5, "10 [ s'MQTT' 05 22 003C [] s'z' ]", E::WillFlags),
            (V5, "10 [ s'MQTT' 05 1E 003C [] s'z' [] s't' s'' ]", E::WillQoS),
            (V311, "10 [ s'MQTT' 04 42 003C s'z' s'pw' ]", E::PasswordWithoutUserName),
            (V311, "10 [ s'MQTT' 04 02 003C 0001 00 ]", E::NulInString),
            (V311, "10 [ s'MQTT' 04 02 003C 0001 FF ]", E::IllFormedUtf8),
            (V5, "10 [ s'MQTT' 05 02 003C [] 0003 EDA080 ]", E::IllFormedUtf8),
            (V5, "10 [ s'MQTT' 05 06 003C [] s'z' ]", E::Truncated),
            (V5, "10 [ s'MQTT' 05 82 003C [] s'z' ]", E::Truncated),
            (V5, "10 [ s'MQTT' 05 C2 003C [] s'z' s'ann' ]", E::Truncated),
            (V5, "10 [ s'MQTT' 05 02 003C ]", E::Truncated),
            (V311, "10 [ s'MQTT' 04 02 003C s'z' s'ann' ]", E::TrailingBytes),
        ],
    );
    check_refused(
        Sender::Client,
        R::UnsupportedProtocolVersion,
        &[
            (V5, "10 [ s'MQTTT' 05 02 003C [] s'z' ]", E::ProtocolName),
            (V5, "10 [ s'mqtt' 05 02 003C [] s'z' ]", E::ProtocolName),
            (V5, "10 [ s'MQTT' 06 02 003C [] s'z' ]", E::ProtocolLevel(6)),
            (V5, "10 [ s'MQTT' 03 02 003C s'z' ]", E::ProtocolLevel(3)),
            (V5, "10 [ s'MQIsdp' 04 02 003C s'z' ]", E::ProtocolLevel(4)),
        ],
    );
    check_refused(
        Sender::Client,
        R::ClientIdentifierNotValid,
        &[
            (V31, "10 [ s'MQIsdp' 03 02 003C s'' ]", E::ClientIdRequired),
            (V311, "10 [ s'MQTT' 04 00 003C s'' ]", E::ClientIdRequired),
        ],
    );
    check_refused(
        Sender::Client,
        R::TopicNameInvalid,
        &[
            (V5, "10 [ s'MQTT' 05 06 003C [] s'z' [] s'' s'' ]", no_topic),
            (V5, "10 [ s'MQTT' 05 06 003C [] s'z' [] s'a/#' s'' ]", wildcard),
        ],
    );
    check_refused(
        Sender::Server,
        R::ProtocolError,
        &[(V311, "10 [ s'MQTT' 04 02 003C s'z' ]", E::WrongDirection("CONNECT"))],
    );
}

#[test]
fn malformed_properties() {
    use DecodeError as E;
    use ReasonCode as R;
    check_refused(
        Sender::Client,
        R::MalformedPacket,
        &[
            (V5, "10 [ s'MQTT' 05 02 003C [ 18 00000001 ] s'z' ]", E::PropertyNotAllowed(0x18)),
            (V5, "10 [ s'MQTT' 05 02 003C [ 7F ] s'z' ]", E::PropertyNotAllowed(0x7F)),
            (V5, "10 [ s'MQTT' 05 02 003C [ 9101 ] s'z' ]", E::PropertyNotAllowed(0x91)),
            (V5, "10 [ s'MQTT' 05 02 003C [ FFFFFFFF ] s'z' ]", E::VariableByteInteger),
            (V5, "10 [ s'MQTT' 05 02 003C [ 11 000000 ] s'z' ]", E::Truncated),
            (V5, "10 [ s'MQTT' 05 02 003C 7F s'z' ]", E::Truncated),
            (
                V5,
                "10 [ s'MQTT' 05 06 003C [] s'z' [ 23 0001 ] s't' s'' ]",
                E::PropertyNotAllowed(0x23),
            ),
        ],
    );
    check_refused(
        Sender::Client,
        R::ProtocolError,
        &[
            (V5, "10 [ s'MQTT' 05 02 003C [ 21 0000 ] s'z' ]", E::PropertyZero(0x21)),
            (V5, "10 [ s'MQTT' 05 02 003C [ 27 00000000 ] s'z' ]", E::PropertyZero(0x27)),
            (V5, "10 [ s'MQTT' 05 02 003C [ 17 02 ] s'z' ]", E::PropertyNotBoolean(0x17)),
            (V5, "10 [ s'MQTT' 05 02 003C [ 19 FF ] s'z' ]", E::PropertyNotBoolean(0x19)),
            (V5, "10 [ s'MQTT' 05 02 003C [ 22 0000 22 0000 ] s'z' ]", E::DuplicateProperty(0x22)),
            (V5, "10 [ s'MQTT' 05 02 003C [ 16 0001 00 ] s'z' ]", E::NoAuthenticationMethod),
            (
                V5,
                "10 [ s'MQTT' 05 06 003C [] s'z' [ 18 00000001 18 00000001 ] s't' s'' ]",
                E::DuplicateProperty(0x18),
            ),
            (
                V5,
                "10 [ s'MQTT' 05 06 003C [] s'z' [ 01 02 ] s't' s'' ]",
                E::PropertyNotBoolean(0x01),
            ),
            (V5, "10 [ s'MQTT' 05 06 003C [] s'z' [ 08 s'a/+' ] s't' s'' ]", E::ResponseTopic),
        ],
    );
}

#[test]
fn the_version_is_told_even_if_the_rest_is_malformed() {
    let rows: &[(&str, Option<ProtocolVersion>)] = &[
        ("10 [ s'MQTT' 05 FF ]", Some(V5)),
        ("10 [ s'MQTT' 04 FF ]", Some(V311)),
        ("10 [ s'MQIsdp' 03 ]", Some(V31)),
        ("10 [ s'MQTT' 09 ]", Some(V5)),
        ("10 [ s'MQTT' 02 ]", Some(V31)),
        ("10 [ s'MQTT' ]", None),
        ("10 [ s'HTTP' 05 ]", None),
        ("10", None),
    ];
    for &(notation, version) in rows {
        assert_eq!(connect_version(&super::super::vectors::parse(notation)), version);
    }
}

fn plain(protocol_version: ProtocolVersion) -> Connect {
    Connect {
        protocol_version,
        clean_start: true,
        keep_alive_secs: 60,
        client_id: text("zoo1"),
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

fn connect(protocol_version: ProtocolVersion) -> Packet {
    Packet::Connect(Box::new(plain(protocol_version)))
}

fn with_will(protocol_version: ProtocolVersion, will: Will) -> Packet {
    Packet::Connect(Box::new(Connect {
        will: Some(Box::new(will)),
        user_name: Some(text("ann")),
        password: Some(Bytes::from_static(&[0x00, 0xFF])),
        ..plain(protocol_version)
    }))
}

fn will() -> Will {
    Will {
        topic: TopicName::try_from("last/word").unwrap(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_interval_secs: 30,
        properties: Some(Arc::new(MessageProperties {
            payload_format_is_utf8: Some(true),
            message_expiry_interval_secs: Some(3600),
            content_type: Some(text("text/plain")),
            response_topic: Some(TopicName::try_from("answer/here").unwrap()),
            correlation_data: Some(Bytes::from_static(&[0, 1, 2])),
            user_properties: vec![user_property("k", "v"), user_property("k", "")],
        })),
    }
}

fn all_properties() -> Packet {
    Packet::Connect(Box::new(Connect {
        clean_start: false,
        keep_alive_secs: 0,
        client_id: ByteString::new(),
        properties: ConnectProperties {
            session_expiry_interval_secs: Some(u32::MAX),
            receive_maximum: NonZeroU16::new(20),
            maximum_packet_size: NonZeroU32::new(65_536),
            topic_alias_maximum: 10,
            request_response_information: true,
            request_problem_information: false,
            authentication_method: Some(text("SCRAM-SHA-1")),
            authentication_data: Some(Bytes::from_static(&[0xFF, 0x00])),
            user_properties: vec![user_property("k", "v")],
        },
        ..plain(V5)
    }))
}
