//! The session by scripts: what goes in, and the trace of what comes out.

use std::{num::NonZeroU16, sync::Arc};

use super::{
    super::testing::{
        Bench, ack, ack_with, check, connack, incoming, limits, message, size, trace,
    },
    Input, Message, Output, Subscription, Ticket, Unsubscription,
};
use crate::mqtt::{
    Auth, ConnackProperties, DecodeError, Disconnect, FIELD_BYTES_MAX, MessageProperties, Packet,
    PacketId, ProtocolVersion, QoS, ReasonCode, Suback, SubscribeFilter, SubscriptionOptions,
    UserProperty,
};

#[test]
fn the_first_packet_is_a_connect_and_nothing_follows_it_before_the_connack() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(bench.publish(QoS::AtLeastOnce, "early"), []);
    check(&bench.feed(Input::TransportOpened), "CONNECT");
    let outputs = bench.receive(connack(false, ReasonCode::Success, ConnackProperties::default()));
    check(&outputs, "connected, PUBLISH 1 early");
}

#[test]
fn qos_1_ends_with_the_puback_and_qos_2_with_the_pubcomp() {
    let mut bench = Bench::online(ConnackProperties::default());
    check(&bench.publish(QoS::AtMostOnce, "a"), "PUBLISH 0 a, published 0");
    check(&bench.publish(QoS::AtLeastOnce, "b"), "PUBLISH 1 b");
    check(&bench.publish(QoS::ExactlyOnce, "c"), "PUBLISH 2 c");
    check(&bench.receive(ack("PUBREC", 2)), "PUBREL 2");
    check(&bench.receive(ack("PUBCOMP", 2)), "acknowledged 2");
    check(&bench.receive(ack("PUBACK", 1)), "acknowledged 1");
    assert_eq!(bench.session.open_len(), 0);
}

#[test]
fn a_refusal_of_the_server_ends_the_message() {
    let mut bench = Bench::online(ConnackProperties::default());
    bench.publish(QoS::AtLeastOnce, "a");
    bench.publish(QoS::ExactlyOnce, "b");
    let refusal = ack_with("PUBACK", 1, ReasonCode::NotAuthorized);
    check(&bench.receive(refusal), "unpublished 0 0x87");
    let refusal = ack_with("PUBREC", 2, ReasonCode::QuotaExceeded);
    check(&bench.receive(refusal), "unpublished 1 0x97");
    assert_eq!(bench.session.open_len(), 0);
}

#[test]
fn the_window_holds_back_publishes_only() {
    let mut bench = Bench::online(limits(|it| it.receive_maximum = NonZeroU16::new(2)));
    bench.publish(QoS::AtLeastOnce, "a");
    bench.publish(QoS::ExactlyOnce, "b");
    check(&bench.publish(QoS::AtLeastOnce, "c"), "");
    check(&bench.publish(QoS::AtMostOnce, "d"), "");
    check(&bench.subscribe("x"), "SUBSCRIBE 3");
    check(&bench.receive(ack("PUBREC", 2)), "PUBREL 2");
    let outputs = bench.receive(ack("PUBCOMP", 2));
    check(&outputs, "acknowledged 1, PUBLISH 4 c, PUBLISH 0 d, published 3");
}

#[test]
fn a_resumed_session_repeats_what_is_open_with_its_identifiers_and_in_order() {
    let mut bench = Bench::online(ConnackProperties::default());
    for payload in ["a", "b", "c"] {
        bench.publish(QoS::ExactlyOnce, payload);
    }
    bench.publish(QoS::AtLeastOnce, "d");
    bench.receive(ack("PUBREC", 2));
    bench.receive(ack("PUBREC", 1));
    let outputs = bench.reconnect();
    check(&outputs, "PUBREL 2, PUBREL 1, PUBLISH 3 c dup, PUBLISH 4 d dup");
    check(&bench.receive(ack("PUBCOMP", 2)), "acknowledged 1");
    check(&bench.publish(QoS::AtLeastOnce, "e"), "PUBLISH 5 e");
}

#[test]
fn repetitions_respect_the_receive_maximum_of_the_new_connection() {
    let mut bench = Bench::online(ConnackProperties::default());
    for payload in ["a", "b", "c"] {
        bench.publish(QoS::AtLeastOnce, payload);
    }
    bench.feed(Input::TransportClosed);
    let outputs = bench.connect(true, limits(|it| it.receive_maximum = NonZeroU16::new(2)));
    check(&outputs, "PUBLISH 1 a dup, PUBLISH 2 b dup");
    check(&bench.publish(QoS::AtLeastOnce, "d"), "");
    check(&bench.receive(ack("PUBACK", 1)), "acknowledged 0, PUBLISH 3 c dup");
    check(&bench.receive(ack("PUBACK", 3)), "acknowledged 2, PUBLISH 4 d");
}

#[test]
fn a_lost_session_turns_what_is_open_into_new_messages() {
    let mut bench = Bench::online(ConnackProperties::default());
    bench.publish(QoS::ExactlyOnce, "a");
    bench.publish(QoS::ExactlyOnce, "b");
    bench.receive(ack("PUBREC", 1));
    bench.feed(Input::TransportClosed);
    let outputs = bench.connect(false, ConnackProperties::default());
    check(&outputs, "acknowledged 0, PUBLISH 3 b");
}

#[test]
fn messages_are_handed_out_once_and_acknowledged_in_order() {
    let mut bench = Bench::online(ConnackProperties::default());
    let receive = |bench: &mut Bench, qos, id, payload| {
        bench.receive(Packet::Publish(incoming(qos, id, payload)))
    };
    check(&receive(&mut bench, QoS::AtLeastOnce, 9, "a"), "message t a, PUBACK 9");
    check(&receive(&mut bench, QoS::ExactlyOnce, 5, "b"), "message t b, PUBREC 5");
    check(&receive(&mut bench, QoS::ExactlyOnce, 5, "b"), "PUBREC 5");
    check(&bench.reconnect(), "");
    check(&receive(&mut bench, QoS::ExactlyOnce, 5, "b"), "PUBREC 5");
    check(&bench.receive(ack("PUBREL", 5)), "PUBCOMP 5");
    check(&bench.receive(ack("PUBREL", 5)), "PUBCOMP 5 0x92");
    check(&receive(&mut bench, QoS::ExactlyOnce, 5, "c"), "message t c, PUBREC 5");
}

#[test]
fn topic_aliases_of_the_server_are_resolved_and_end_with_the_connection() {
    let mut bench = Bench::new(|it| it.connect.properties.topic_alias_maximum = 2);
    bench.connect(false, ConnackProperties::default());
    let alias = |number, topic: &'static str| {
        let mut publish = incoming(QoS::AtMostOnce, 1, "x");
        publish.packet_id = None;
        publish.topic_alias = NonZeroU16::new(number);
        publish.topic = topic.into();
        Packet::Publish(publish)
    };
    check(&bench.receive(alias(2, "long/name")), "message long/name x");
    check(&bench.receive(alias(2, "")), "message long/name x");
    bench.reconnect();
    check(&bench.receive(alias(2, "")), "DISCONNECT 0x82, close 0x82");
    bench.reconnect();
    check(&bench.receive(alias(3, "other")), "DISCONNECT 0x94, close 0x94");
}

#[test]
fn topic_aliases_are_sent_only_as_far_as_the_server_allows() {
    let mut bench = Bench::online(limits(|it| it.topic_alias_maximum = Some(1)));
    let mut wanted = message(QoS::AtMostOnce, "x");
    wanted.topic_alias = NonZeroU16::new(1);
    let sent = |outputs: Vec<Output>| match outputs.into_iter().next() {
        Some(Output::Send(Packet::Publish(publish))) => (publish.topic, publish.topic_alias),
        other => panic!("{other:?}"),
    };
    let alias = NonZeroU16::new(1);
    assert_eq!(sent(bench.publish_message(wanted.clone())), ("t".into(), alias));
    assert_eq!(sent(bench.publish_message(wanted.clone())), ("".into(), alias));
    bench.reconnect();
    assert_eq!(sent(bench.publish_message(wanted)), ("t".into(), None));
}

#[test]
fn what_the_server_cannot_take_is_refused_here() {
    let mut bench = Bench::online(limits(|it| {
        it.maximum_qos = Some(QoS::AtLeastOnce);
        it.retain_available = Some(false);
        it.maximum_packet_size = size(30);
    }));
    check(&bench.publish(QoS::ExactlyOnce, "a"), "unpublished 0 0x9B");
    let retained = crate::client::Message { retain: true, ..message(QoS::AtMostOnce, "a") };
    check(&bench.publish_message(retained), "unpublished 1 0x9A");
    check(&bench.publish(QoS::AtLeastOnce, &"a".repeat(30)), "unpublished 2 0x95");
    check(&bench.publish(QoS::AtLeastOnce, "b"), "PUBLISH 3 b");
    check(&bench.subscribe("a/topic/filter/that/is/much/too/long"), "subscribed [PacketTooLarge]");
}

#[test]
fn a_quiet_connection_is_probed_and_given_up_without_an_answer() {
    let mut bench = Bench::online(ConnackProperties::default());
    check(&bench.wait(53), "");
    check(&bench.publish(QoS::AtMostOnce, "a"), "PUBLISH 0 a, published 0");
    check(&bench.wait(53), "");
    check(&bench.wait(1), "PINGREQ");
    bench.receive(Packet::Pingresp);
    check(&bench.wait(53), "");
    check(&bench.wait(1), "PINGREQ");
    check(&bench.wait(19), "");
    check(&bench.wait(1), "close PingTimeout");
}

#[test]
fn the_keep_alive_of_the_server_counts_and_zero_means_never() {
    let mut bench = Bench::online(limits(|it| it.server_keep_alive_secs = Some(5)));
    check(&bench.wait(5), "PINGREQ");
    let bench = Bench::online(limits(|it| it.server_keep_alive_secs = Some(0)));
    assert_eq!(bench.session.next_timeout(), None);
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let mut bench = Bench::new(|_| {});
    bench.feed(Input::TransportOpened);
    check(&bench.wait(19), "");
    check(&bench.wait(1), "close ConnackTimeout");
}

#[test]
fn a_refused_connect_is_told_and_closed() {
    let mut bench = Bench::new(|_| {});
    bench.feed(Input::TransportOpened);
    let refusal = connack(false, ReasonCode::Banned, ConnackProperties::default());
    check(&bench.receive(refusal), "refused 0x8A, close Refused");
}

#[test]
fn an_old_server_is_offered_the_older_version_once() {
    for refuses_in_words in [true, false] {
        let mut bench = Bench::new(|it| it.falls_back = true);
        bench.feed(Input::TransportOpened);
        let code = ReasonCode::UnsupportedProtocolVersion;
        let refusal = || connack(false, code, ConnackProperties::default());
        if refuses_in_words {
            check(&bench.receive(refusal()), "close FallBack");
            check(&bench.feed(Input::TransportClosed), "");
        } else {
            check(&bench.feed(Input::TransportClosed), "close FallBack");
        }
        assert_eq!(bench.session.protocol_version(), ProtocolVersion::V311);
        bench.feed(Input::TransportOpened);
        check(&bench.receive(refusal()), "refused 0x84, close Refused");
    }
}

#[test]
fn the_next_connect_resumes_what_the_server_keeps() {
    let mut bench = Bench::new(|it| {
        it.connect.clean_start = true;
        it.connect.client_id = "".into();
    });
    bench.connect(false, limits(|it| it.assigned_client_id = Some("from-server".into())));
    bench.feed(Input::TransportClosed);
    match &bench.feed(Input::TransportOpened)[..] {
        [Output::Send(Packet::Connect(connect))] => {
            assert_eq!((&*connect.client_id, connect.clean_start), ("from-server", false));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_that_cannot_exist_is_not_resumed() {
    let mut bench = Bench::new(|it| it.connect.clean_start = true);
    bench.feed(Input::TransportOpened);
    let outputs = bench.receive(connack(true, ReasonCode::Success, ConnackProperties::default()));
    check(&outputs, "close 0x82");
}

#[test]
fn packets_out_of_place_end_the_connection() {
    for (packet, trace) in [
        (ack("PUBACK", 2), "DISCONNECT 0x82, close 0x82"),
        (ack("PUBREC", 1), "DISCONNECT 0x82, close 0x82"),
        (ack("PUBCOMP", 2), "DISCONNECT 0x82, close 0x82"),
        (
            connack(false, ReasonCode::Success, ConnackProperties::default()),
            "DISCONNECT 0x82, close 0x82",
        ),
        (Packet::Pingreq, "DISCONNECT 0x82, close 0x82"),
        (suback(7, 1), "DISCONNECT 0x82, close 0x82"),
        (suback(3, 2), "DISCONNECT 0x82, close 0x82"),
        (ack("PUBACK", 77), ""),
        (ack("PUBREC", 77), "PUBREL 77 0x92"),
        (ack("PUBCOMP", 77), ""),
    ] {
        let mut bench = Bench::online(ConnackProperties::default());
        bench.publish(QoS::AtLeastOnce, "a");
        bench.publish(QoS::ExactlyOnce, "b");
        bench.subscribe("x");
        let words = format!("{packet:?}");
        let outputs = bench.receive(packet);
        assert_eq!(super::super::testing::trace(&outputs).join(", "), trace, "{words}");
    }
}

fn suback(id: u16, count: usize) -> Packet {
    Packet::Suback(Suback {
        packet_id: PacketId::new(id).unwrap(),
        reason_codes: vec![ReasonCode::GRANTED_QOS_0; count],
        reason_string: None,
        user_properties: Vec::new(),
    })
}

#[test]
fn subscriptions_get_their_answers() {
    let mut bench = Bench::online(ConnackProperties::default());
    check(&bench.subscribe("x"), "SUBSCRIBE 1");
    check(&bench.receive(suback(1, 1)), "subscribed [Success]");
}

#[test]
fn malformed_bytes_are_answered_with_their_reason() {
    let mut bench = Bench::online(ConnackProperties::default());
    let error = DecodeError::ZeroPacketId;
    let code = format!("0x{:02X}", error.reason_code().as_u8());
    let outputs = bench.feed(Input::Undecodable(error));
    check(&outputs, &format!("DISCONNECT {code}, close {code}"));

    let mut bench = Bench::new(|it| it.connect.protocol_version = ProtocolVersion::V311);
    bench.connect(false, ConnackProperties::default());
    check(&bench.feed(Input::Undecodable(error)), &format!("close {code}"));
}

#[test]
fn extended_authentication_is_declined() {
    let auth = || {
        Packet::Auth(Box::new(Auth {
            reason_code: ReasonCode::ContinueAuthentication,
            ..Auth::success()
        }))
    };
    let mut bench = Bench::new(|it| it.connect.properties.authentication_method = Some("m".into()));
    bench.feed(Input::TransportOpened);
    check(&bench.receive(auth()), "DISCONNECT 0x8C, close 0x8C");
    let mut bench = Bench::new(|_| {});
    bench.feed(Input::TransportOpened);
    check(&bench.receive(auth()), "close 0x82");
}

#[test]
fn nothing_is_sent_after_disconnect_and_nothing_believed() {
    let mut bench = Bench::online(ConnackProperties::default());
    let disconnect = Disconnect::new(ReasonCode::NORMAL_DISCONNECTION);
    let outputs = bench.feed(Input::Disconnect(Box::new(disconnect)));
    check(&outputs, "DISCONNECT 0x00, close Finished");
    check(&bench.publish(QoS::AtMostOnce, "late"), "");
    check(&bench.receive(Packet::Publish(incoming(QoS::AtLeastOnce, 1, "late"))), "");
    check(&bench.wait(600), "");
}

#[test]
fn a_disconnect_of_the_server_is_told() {
    let mut bench = Bench::online(ConnackProperties::default());
    let disconnect = Disconnect::new(ReasonCode::ServerShuttingDown);
    let outputs = bench.receive(Packet::Disconnect(Box::new(disconnect)));
    check(&outputs, "disconnected 0x8B, close ByServer");
    assert_eq!(trace(&bench.feed(Input::TransportClosed)).len(), 0);
}

/// The encoder panicked.
#[test]
fn what_is_longer_than_a_string_of_mqtt_is_refused_here() {
    let long = "x".repeat(FIELD_BYTES_MAX + 1);
    let with_type = |content_type: &str| Message {
        properties: Some(Arc::new(MessageProperties {
            content_type: Some(content_type.into()),
            ..MessageProperties::default()
        })),
        ..message(QoS::AtLeastOnce, "a")
    };
    let mut bench = Bench::online(ConnackProperties::default());
    check(&bench.publish_message(with_type(&long)), "unpublished 0 0x95");
    check(&bench.publish_message(with_type(&long[1..])), "PUBLISH 2 a");
    let filter =
        SubscribeFilter { filter: long.as_str().into(), options: SubscriptionOptions::default() };
    let wanted = Subscription { filters: vec![filter], ..Subscription::default() };
    let outputs = bench.feed(Input::Subscribe(Ticket(99), wanted));
    check(&outputs, "subscribed [PacketTooLarge]");
    let unwanted =
        Unsubscription { filters: vec![long.as_str().into()], ..Unsubscription::default() };
    let outputs = bench.feed(Input::Unsubscribe(Ticket(98), unwanted));
    check(&outputs, "unsubscribed [PacketTooLarge]");
    let name = UserProperty { name: long.as_str().into(), value: "x".into() };
    let mut disconnect = Disconnect::new(ReasonCode::Success);
    disconnect.user_properties.push(name);
    let outputs = bench.feed(Input::Disconnect(Box::new(disconnect)));
    check(&outputs, "close Unsendable(\"DISCONNECT\")");

    let mut bench = Bench::new(|it| it.connect.user_name = Some(long.as_str().into()));
    check(&bench.feed(Input::TransportOpened), "close Unsendable(\"CONNECT\")");
}

#[test]
fn more_than_the_receive_maximum_ends_the_connection() {
    let mut bench = Bench::new(|it| it.connect.properties.receive_maximum = NonZeroU16::new(1));
    bench.connect(false, ConnackProperties::default());
    bench.receive(Packet::Publish(incoming(QoS::ExactlyOnce, 1, "a")));
    let outputs = bench.receive(Packet::Publish(incoming(QoS::ExactlyOnce, 2, "b")));
    check(&outputs, "DISCONNECT 0x93, close 0x93");
}
