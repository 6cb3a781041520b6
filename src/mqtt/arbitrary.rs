//! Arbitrary valid packets: what `decode` may return for a version and a sender, all of it.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use smallvec::SmallVec;

use super::*;

/// A packet that `sender` may send in `version`.
pub(crate) fn packet(version: ProtocolVersion, sender: Sender) -> BoxedStrategy<Packet> {
    let both = prop_oneof![
        4 => publish(version, sender),
        1 => acknowledgement(version),
    ];
    match sender {
        Sender::Client => prop_oneof![
            3 => both,
            1 => connect(version),
            1 => subscribe(version),
            1 => unsubscribe(version),
            1 => Just(Packet::Pingreq),
            1 => disconnect(version, sender),
            1 => auth(version, sender),
        ]
        .boxed(),
        Sender::Server => prop_oneof![
            3 => both,
            1 => connack(version),
            1 => suback(version),
            1 => unsuback(version),
            1 => Just(Packet::Pingresp),
            1 => disconnect(version, sender),
            1 => auth(version, sender),
        ]
        .boxed(),
    }
}

pub(crate) fn version() -> impl Strategy<Value = ProtocolVersion> {
    select(vec![ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5])
}

pub(crate) fn sender() -> impl Strategy<Value = Sender> {
    select(vec![Sender::Client, Sender::Server])
}

fn connect(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let who = (text(), option::of(text()), option::of(binary()));
    let how = (any::<bool>(), any::<u16>(), option::of(will(version)));
    let properties = or_default(version, connect_properties());
    (who, how, properties)
        .prop_map(move |((client_id, user_name, password), how, properties)| {
            let (clean_start, keep_alive_secs, will) = how;
            let has_properties = version.has_properties();
            let needs_id = version == ProtocolVersion::V31 || !(clean_start || has_properties);
            let client_id =
                if needs_id && client_id.is_empty() { ByteString::from("id") } else { client_id };
            let password = password.filter(|_| has_properties || user_name.is_some());
            let will = will.map(Box::new);
            Packet::Connect(Box::new(Connect {
                protocol_version: version,
                clean_start,
                keep_alive_secs,
                client_id,
                will,
                user_name,
                password,
                properties,
            }))
        })
        .boxed()
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties> {
    let limits = (option::of(any::<u32>()), non_zero_u16(), non_zero_u32(), any::<u16>());
    (limits, any::<(bool, bool)>(), authentication(), user_properties()).prop_map(
        |(limits, requests, authentication, user_properties)| ConnectProperties {
            session_expiry_interval_secs: limits.0,
            receive_maximum: limits.1,
            maximum_packet_size: limits.2,
            topic_alias_maximum: limits.3,
            request_response_information: requests.0,
            request_problem_information: requests.1,
            authentication_method: authentication.0,
            authentication_data: authentication.1,
            user_properties,
        },
    )
}

fn will(version: ProtocolVersion) -> impl Strategy<Value = Will> {
    let delay = or_default(version, any::<u32>());
    (topic(), binary(), qos(), any::<bool>(), delay, message_properties(version)).prop_map(
        |(topic, payload, qos, retain, delay_interval_secs, properties)| Will {
            topic,
            payload,
            qos,
            retain,
            delay_interval_secs,
            properties,
        },
    )
}

fn connack(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let codes = connack::REASON_CODES.iter().copied();
    let sayable = |code: &ReasonCode| ReasonCode::from_connack_v3(code.connack_v3()) == Some(*code);
    let codes = codes.filter(|code| version.has_properties() || sayable(code)).collect::<Vec<_>>();
    (any::<bool>(), select(codes), or_default(version, connack_properties()))
        .prop_map(|(session_present, reason_code, properties)| {
            let session_present = session_present && !reason_code.is_error();
            Packet::Connack(Box::new(Connack { session_present, reason_code, properties }))
        })
        .boxed()
}

fn connack_properties() -> impl Strategy<Value = ConnackProperties> {
    let maximum_qos = option::of(select(vec![QoS::AtMostOnce, QoS::AtLeastOnce]));
    let limits = (option::of(any::<u32>()), non_zero_u16(), maximum_qos, non_zero_u32());
    let numbers = any::<(Option<u16>, Option<u16>)>();
    let truths = any::<[Option<bool>; 4]>();
    let texts = [text(), text(), text(), text()].map(option::of);
    (limits, numbers, truths, texts, authentication(), user_properties()).prop_map(
        |(limits, numbers, truths, texts, authentication, user_properties)| {
            let [assigned, reason, response, server] = texts;
            ConnackProperties {
                session_expiry_interval_secs: limits.0,
                receive_maximum: limits.1,
                maximum_qos: limits.2,
                retain_available: truths[0],
                maximum_packet_size: limits.3,
                assigned_client_id: assigned,
                topic_alias_maximum: numbers.0,
                reason_string: reason.map(ReasonString::from_wire),
                user_properties,
                wildcard_subscription_available: truths[1],
                subscription_identifiers_available: truths[2],
                shared_subscription_available: truths[3],
                server_keep_alive_secs: numbers.1,
                response_information: response,
                server_reference: server,
                authentication_method: authentication.0,
                authentication_data: authentication.1,
            }
        },
    )
}

fn publish(version: ProtocolVersion, sender: Sender) -> BoxedStrategy<Packet> {
    let flags = (any::<bool>(), qos(), any::<bool>(), packet_id());
    let alias = or_default(version, non_zero_u16());
    let ids = vec(subscription_id(), 0..4).prop_map(SmallVec::from_vec).boxed();
    let ids = if sender == Sender::Server { ids } else { Just(SmallVec::new()).boxed() };
    let parts = (flags, topic(), alias, or_default(version, ids), message_properties(version));
    (parts, any::<bool>(), vec(any::<u8>(), 0..300))
        .prop_map(|((flags, topic, topic_alias, subscription_ids, properties), keep, payload)| {
            let (dup, qos, retain, packet_id) = flags;
            let at_most_once = qos == QoS::AtMostOnce;
            let topic = topic.as_byte_string().clone();
            Packet::Publish(Publish {
                dup: dup && !at_most_once,
                qos,
                retain,
                topic: if keep || topic_alias.is_none() { topic } else { ByteString::new() },
                packet_id: Some(packet_id).filter(|_| !at_most_once),
                topic_alias,
                subscription_ids,
                properties,
                payload: payload.into(),
            })
        })
        .boxed()
}

/// `None` when all are absent, as `decode` has it.
fn message_properties(version: ProtocolVersion) -> BoxedStrategy<Option<Arc<MessageProperties>>> {
    let numbers = any::<(Option<bool>, Option<u32>)>();
    let texts = (option::of(text()), option::of(topic()), option::of(binary()));
    let message = (numbers, texts, user_properties()).prop_map(|(numbers, texts, own)| {
        let message = MessageProperties {
            payload_format_is_utf8: numbers.0,
            message_expiry_interval_secs: numbers.1,
            content_type: texts.0,
            response_topic: texts.1,
            correlation_data: texts.2,
            user_properties: own,
        };
        Some(Arc::new(message)).filter(|message| **message != MessageProperties::default())
    });
    or_default(version, message)
}

fn acknowledgement(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let published = code(version, puback::REASON_CODES);
    let released = code(version, pubrel::REASON_CODES);
    (0..4, packet_id(), published, released, reason(version))
        .prop_map(|(which, packet_id, published, released, reason)| match which {
            0 => Packet::Puback(with_reason(packet_id, published, reason)),
            1 => Packet::Pubrec(with_reason(packet_id, published, reason)),
            2 => Packet::Pubrel(with_reason(packet_id, released, reason)),
            _ => Packet::Pubcomp(with_reason(packet_id, released, reason)),
        })
        .boxed()
}

fn with_reason<K: Kind>(
    packet_id: PacketId,
    reason_code: ReasonCode,
    (reason_string, user_properties): Reason,
) -> Acknowledgement<K> {
    let acknowledgement = Acknowledgement::new(packet_id, reason_code);
    Acknowledgement { reason_string, user_properties, ..acknowledgement }
}

fn subscribe(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let id = or_default(version, option::of(subscription_id()));
    let filter = (text(), subscription_options(version))
        .prop_map(|(filter, options)| SubscribeFilter { filter, options });
    (packet_id(), id, or_default(version, user_properties()), vec(filter, 1..5))
        .prop_map(|(packet_id, subscription_id, user_properties, filters)| {
            Packet::Subscribe(Subscribe { packet_id, subscription_id, user_properties, filters })
        })
        .boxed()
}

fn subscription_options(version: ProtocolVersion) -> impl Strategy<Value = SubscriptionOptions> {
    let handlings =
        vec![RetainHandling::SendAtSubscribe, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    let flags = or_default(version, any::<(bool, bool)>());
    (qos(), flags, or_default(version, select(handlings))).prop_map(
        |(qos, (no_local, retain_as_published), retain_handling)| SubscriptionOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        },
    )
}

fn suback(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let codes =
        if version.has_properties() { suback::REASON_CODES } else { suback::RETURN_CODES_V3 };
    (packet_id(), vec(select(codes), 1..5), reason(version))
        .prop_map(|(packet_id, reason_codes, (reason_string, user_properties))| {
            Packet::Suback(Suback { packet_id, reason_codes, reason_string, user_properties })
        })
        .boxed()
}

fn unsubscribe(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    (packet_id(), or_default(version, user_properties()), vec(text(), 1..5))
        .prop_map(|(packet_id, user_properties, filters)| {
            Packet::Unsubscribe(Unsubscribe { packet_id, user_properties, filters })
        })
        .boxed()
}

fn unsuback(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let codes = or_default(version, vec(select(unsuback::REASON_CODES), 1..5));
    (packet_id(), codes, reason(version))
        .prop_map(|(packet_id, reason_codes, (reason_string, user_properties))| {
            Packet::Unsuback(Unsuback { packet_id, reason_codes, reason_string, user_properties })
        })
        .boxed()
}

/// Before MQTT 5.0 a Server has none, and PINGRESP takes its place here.
fn disconnect(version: ProtocolVersion, sender: Sender) -> BoxedStrategy<Packet> {
    let (codes, may_set_expiry) = match sender {
        Sender::Client => (disconnect::CLIENT_REASON_CODES, true),
        Sender::Server => (disconnect::SERVER_REASON_CODES, false),
    };
    if sender == Sender::Server && !version.has_properties() {
        return Just(Packet::Pingresp).boxed();
    }
    let expiry = or_default(version, any::<Option<u32>>());
    let reference = or_default(version, option::of(text()));
    (code(version, codes), expiry, reason(version), reference)
        .prop_map(move |(reason_code, expiry, (reason_string, user_properties), reference)| {
            Packet::Disconnect(Box::new(Disconnect {
                reason_code,
                session_expiry_interval_secs: expiry.filter(|_| may_set_expiry),
                reason_string,
                user_properties,
                server_reference: reference,
            }))
        })
        .boxed()
}

/// Before MQTT 5.0 there is none, and a PUBACK takes its place here.
fn auth(version: ProtocolVersion, sender: Sender) -> BoxedStrategy<Packet> {
    if !version.has_properties() {
        return acknowledgement(version);
    }
    let codes = match sender {
        Sender::Client => auth::CLIENT_REASON_CODES,
        Sender::Server => auth::SERVER_REASON_CODES,
    };
    let spoken = (code(version, codes), text(), option::of(binary()), reason(version)).prop_map(
        |(reason_code, method, authentication_data, (reason_string, user_properties))| Auth {
            reason_code,
            authentication_method: Some(method),
            authentication_data,
            reason_string,
            user_properties,
        },
    );
    let silent = u32::from(sender == Sender::Server);
    prop_oneof![4 => spoken, silent => Just(Auth::success())]
        .prop_map(|auth| Packet::Auth(Box::new(auth)))
        .boxed()
}

fn code(version: ProtocolVersion, codes: &'static [ReasonCode]) -> BoxedStrategy<ReasonCode> {
    if version.has_properties() { select(codes).boxed() } else { Just(codes[0]).boxed() }
}

type Reason = (Option<ReasonString>, Vec<UserProperty>);

fn reason(version: ProtocolVersion) -> BoxedStrategy<Reason> {
    let reason_string = text().prop_map(ReasonString::from_wire);
    or_default(version, (option::of(reason_string), user_properties()))
}

/// The default in versions that have no place for properties.
fn or_default<T: Default + Clone + std::fmt::Debug + 'static>(
    version: ProtocolVersion,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    if version.has_properties() { strategy.boxed() } else { Just(T::default()).boxed() }
}

fn authentication() -> impl Strategy<Value = (Option<ByteString>, Option<Bytes>)> {
    (option::of(text()), option::of(binary()))
        .prop_map(|(method, bytes)| (method.clone(), bytes.filter(|_| method.is_some())))
}

fn user_properties() -> impl Strategy<Value = Vec<UserProperty>> {
    let property = (text(), text()).prop_map(|(name, value)| UserProperty { name, value });
    vec(property, 0..4)
}

fn text() -> impl Strategy<Value = ByteString> {
    "[a-z\u{FEFF}\u{E4}\u{10FFFF}+#/$]{0,9}".prop_map(ByteString::from)
}

fn topic() -> impl Strategy<Value = TopicName> {
    "[a-z\u{FEFF}\u{E4}\u{10FFFF}/$]{1,9}".prop_map(|name| {
        TopicName::try_from(name.as_str()).expect("neither empty nor with a wildcard")
    })
}

fn binary() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..9).prop_map(Bytes::from)
}

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|number| PacketId::new(number).expect("not zero"))
}

fn subscription_id() -> impl Strategy<Value = u32> {
    prop_oneof![1_u32..200, 1_u32..=268_435_455]
}

fn non_zero_u16() -> impl Strategy<Value = Option<NonZeroU16>> {
    any::<u16>().prop_map(NonZeroU16::new)
}

fn non_zero_u32() -> impl Strategy<Value = Option<NonZeroU32>> {
    any::<u32>().prop_map(NonZeroU32::new)
}
