//! The normative statements that bind a client, each held by a test of the session, or of the driver
//! on a loopback socket.
//!
//! A test that shows several statements of one kind names them all; the ledger reads the names.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    num::NonZeroU16,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use super::{
    driver::{Client, Event},
    endpoint::{Address, Endpoint},
    message::Message,
    session::{Input, Output, SessionOptions},
    testing::{
        Bench, ack, ack_with, check, connack, incoming, limits, message, session_options, size,
        trace,
    },
};
use crate::mqtt::{
    Connack, ConnackProperties, Disconnect, MessageProperties, Packet, PacketId, ProtocolVersion,
    Publish, QoS, ReasonCode, Sender, Suback, Unsuback, UserProperty,
};

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V311, ProtocolVersion::V5];

/// A connected session of this version.
fn online(version: ProtocolVersion) -> Bench {
    let mut bench = Bench::new(|it| it.connect.protocol_version = version);
    bench.connect(false, ConnackProperties::default());
    bench
}

/// Nothing leaves a client before its CONNECT, and nothing but it before the CONNACK
/// [v4:MQTT-3.1.0-1] [v5:MQTT-3.1.0-1].
#[test]
fn first_packet_is_connect() {
    for version in VERSIONS {
        let mut bench = Bench::new(|it| it.connect.protocol_version = version);
        check(&bench.publish(QoS::AtMostOnce, "early"), "");
        let outputs = bench.feed(Input::TransportOpened);
        check(&outputs, "CONNECT");
        let Output::Send(connect) = &outputs[0] else { panic!("{outputs:?}") };
        let mut bytes = BytesMut::new();
        connect.encode(version, &mut bytes);
        assert_eq!(bytes[0], 0x10);
        assert_eq!(bytes[2..9], [0, 4, b'M', b'Q', b'T', b'T', version.level()]);
        check(&bench.publish(QoS::AtLeastOnce, "early too"), "");
        check(&bench.wait(5), "");
    }
}

/// Packet Identifiers are not zero and not in use, also when the counter has come round
/// [v4:MQTT-2.3.1-2] [v5:MQTT-2.2.1-3].
#[test]
fn every_new_packet_has_an_unused_identifier() {
    for version in VERSIONS {
        let mut bench = online(version);
        check(&bench.publish(QoS::AtLeastOnce, "stays"), "PUBLISH 1 stays");
        check(&bench.subscribe("stays"), "SUBSCRIBE 2");
        check(&bench.unsubscribe("stays"), "UNSUBSCRIBE 3");
        for id in 4..=u16::MAX {
            let sent = bench.publish(QoS::AtLeastOnce, "x");
            check(&sent, &format!("PUBLISH {id} x"));
            bench.receive(ack("PUBACK", id));
        }
        check(&bench.publish(QoS::ExactlyOnce, "round"), "PUBLISH 4 round");
        check(&bench.subscribe("round"), "SUBSCRIBE 5");
        check(&bench.unsubscribe("round"), "UNSUBSCRIBE 6");
    }
}

/// An identifier comes back with the answer to its packet, not before [v4:MQTT-2.3.1-3].
#[test]
fn identifier_is_free_only_after_its_acknowledgement() {
    let mut bench = online(ProtocolVersion::V311);
    bench.publish(QoS::AtLeastOnce, "a");
    bench.publish(QoS::ExactlyOnce, "b");
    bench.subscribe("c");
    bench.unsubscribe("d");
    bench.receive(ack("PUBREC", 2));
    let next_round = |bench: &mut Bench| {
        let mut ids = Vec::new();
        loop {
            let id = match &bench.publish(QoS::AtLeastOnce, "x")[..] {
                [Output::Send(Packet::Publish(publish))] => publish.packet_id.unwrap().get(),
                other => panic!("{other:?}"),
            };
            bench.receive(ack("PUBACK", id));
            if id < 5 {
                ids.push(id);
            }
            if id == u16::MAX {
                return ids;
            }
        }
    };
    assert!(next_round(&mut bench).is_empty());
    bench.receive(ack("PUBCOMP", 2));
    bench.receive(suback(3));
    assert_eq!(next_round(&mut bench), [2, 3]);
    bench.receive(ack("PUBACK", 1));
    bench.receive(unsuback(4));
    assert_eq!(next_round(&mut bench), [1, 2, 3, 4]);
}

/// What is unacknowledged when a connection breaks is sent again on the next one, PUBLISH with DUP and
/// all under their identifiers, and at no other time.
/// [v4:MQTT-4.4.0-1] [v4:MQTT-3.3.1-1] [v5:MQTT-4.4.0-1] [v5:MQTT-3.3.1-1]
#[test]
fn unacknowledged_is_sent_again() {
    for version in VERSIONS {
        let mut bench = online(version);
        for (qos, payload) in [(QoS::AtLeastOnce, "a"), (QoS::ExactlyOnce, "b")] {
            let sent = bench.publish(qos, payload);
            assert!(!trace(&sent)[0].ends_with("dup"), "{sent:?}");
        }
        // Time alone repeats nothing.
        check(&bench.wait(54), "PINGREQ");
        bench.receive(Packet::Pingresp);
        check(&bench.reconnect(), "PUBLISH 1 a dup, PUBLISH 2 b dup");
        check(&bench.receive(ack("PUBREC", 2)), "PUBREL 2");
        check(&bench.reconnect(), "PUBREL 2, PUBLISH 1 a dup");
        bench.receive(ack("PUBACK", 1));
        bench.receive(ack("PUBCOMP", 2));
        check(&bench.reconnect(), "");
    }
}

/// What is sent again keeps its order, also when the new connection takes less at a time
/// [v4:MQTT-4.6.0-1] [v5:MQTT-4.6.0-1].
#[test]
fn sent_again_in_the_original_order() {
    for version in VERSIONS {
        let mut bench = online(version);
        for (qos, payload) in [
            (QoS::AtLeastOnce, "a"),
            (QoS::ExactlyOnce, "b"),
            (QoS::AtLeastOnce, "c"),
            (QoS::ExactlyOnce, "d"),
        ] {
            bench.publish(qos, payload);
        }
        bench.receive(ack("PUBACK", 1));
        let again = "PUBLISH 2 b dup, PUBLISH 3 c dup, PUBLISH 4 d dup";
        check(&bench.reconnect(), again);
        check(&bench.reconnect(), again);
    }
    let mut bench = online(ProtocolVersion::V5);
    for payload in ["a", "b", "c"] {
        bench.publish(QoS::AtLeastOnce, payload);
    }
    bench.feed(Input::TransportClosed);
    let outputs = bench.connect(true, limits(|it| it.receive_maximum = NonZeroU16::new(1)));
    check(&outputs, "PUBLISH 1 a dup");
    check(&bench.receive(ack("PUBACK", 1)), "acknowledged 0, PUBLISH 2 b dup");
    check(&bench.receive(ack("PUBACK", 2)), "acknowledged 1, PUBLISH 3 c dup");
}

/// A PINGREQ leaves before the Keep Alive has passed without another packet
/// [v4:MQTT-3.1.2-23] [v5:MQTT-3.1.2-20].
#[test]
fn pingreq_is_sent_when_nothing_else_is() {
    for version in VERSIONS {
        let mut bench = online(version);
        for _ in 0..3 {
            let due = bench.session.next_timeout().unwrap();
            assert!(due > bench.now && due < bench.now + Duration::from_secs(60));
            bench.now = due;
            check(&bench.feed(Input::Timeout), "PINGREQ");
            bench.receive(Packet::Pingresp);
        }
        // Any other packet postpones it.
        bench.now += Duration::from_secs(50);
        bench.publish(QoS::AtMostOnce, "x");
        assert!(bench.session.next_timeout().unwrap() > bench.now + Duration::from_secs(50));
    }
}

/// The Server Keep Alive replaces the client's own [v5:MQTT-3.1.2-21] [v5:MQTT-3.2.2-21].
#[test]
fn server_keep_alive_is_used() {
    for (secs, last_moment) in [(10, 10), (600, 600)] {
        let bench = Bench::online(limits(|it| it.server_keep_alive_secs = Some(secs)));
        let due = bench.session.next_timeout().unwrap().as_secs();
        assert!(due < last_moment && due > last_moment / 2, "{secs}: {due}");
    }
    let bench = Bench::online(limits(|it| it.server_keep_alive_secs = Some(0)));
    assert_eq!(bench.session.next_timeout(), None);
}

/// An empty Client Identifier goes with Clean Session 1 [v4:MQTT-3.1.3-7].
#[test]
fn empty_client_identifier_is_clean() {
    let mut bench = Bench::new(|it| {
        it.connect.protocol_version = ProtocolVersion::V311;
        it.connect.client_id = "".into();
        it.connect.clean_start = false;
    });
    let bytes = sent_bytes(&bench.feed(Input::TransportOpened), ProtocolVersion::V311);
    assert_eq!((bytes[9] & 2, &bytes[12..]), (2, &[0, 0][..]));
}

/// A user name is in the CONNECT if its flag says so, and only then
/// [v4:MQTT-3.1.2-18] [v4:MQTT-3.1.2-19] [v5:MQTT-3.1.2-16] [v5:MQTT-3.1.2-17].
#[test]
fn user_name_goes_with_its_flag() {
    for version in VERSIONS {
        assert_eq!(login(version, None, None), (0x00, b"".to_vec()));
        assert_eq!(login(version, Some("u"), None), (0x80, b"\0\x01u".to_vec()));
    }
}

/// A password is in the CONNECT if its flag says so, and only then
/// [v4:MQTT-3.1.2-20] [v4:MQTT-3.1.2-21] [v5:MQTT-3.1.2-18] [v5:MQTT-3.1.2-19]; before MQTT 5 never
/// without a user name [v4:MQTT-3.1.2-22]: a fall-back that would come to that is not taken.
#[test]
fn password_goes_with_its_flag() {
    for version in VERSIONS {
        assert_eq!(login(version, Some("u"), None), (0x80, b"\0\x01u".to_vec()));
        let both = login(version, Some("u"), Some("pw"));
        assert_eq!(both, (0xc0, b"\0\x01u\0\x02pw".to_vec()));
    }
    let alone = login(ProtocolVersion::V5, None, Some("pw"));
    assert_eq!(alone, (0x40, b"\0\x02pw".to_vec()));

    let mut bench = Bench::new(|it| {
        it.falls_back = true;
        it.connect.password = Some(Bytes::from_static(b"pw"));
    });
    bench.feed(Input::TransportOpened);
    let code = ReasonCode::UnsupportedProtocolVersion;
    let refusal = connack(false, code, ConnackProperties::default());
    check(&bench.receive(refusal), "refused 0x84, close Refused");
}

/// Every message of QoS 1 and 2 is acknowledged, wanted or not: twice the same one, one for a topic
/// nobody subscribed to, one while nothing may be published
/// [v4:MQTT-4.5.0-2] [v5:MQTT-4.5.0-2].
#[test]
fn every_message_is_acknowledged() {
    for version in VERSIONS {
        let mut bench = online(version);
        check(&receive(&mut bench, QoS::AtLeastOnce, 7), "message t x, PUBACK 7");
        check(&receive(&mut bench, QoS::ExactlyOnce, 8), "message t x, PUBREC 8");
        check(&receive(&mut bench, QoS::ExactlyOnce, 8), "PUBREC 8");
        check(&bench.receive(ack("PUBREL", 8)), "PUBCOMP 8");
        for _ in 0..30 {
            bench.publish(QoS::AtLeastOnce, "fills the window");
        }
        check(&receive(&mut bench, QoS::AtLeastOnce, 9), "message t x, PUBACK 9");
        check(&receive(&mut bench, QoS::AtMostOnce, 0), "message t x");
    }
}

/// PUBACKs leave in the order of their PUBLISH packets [v4:MQTT-4.6.0-2] [v5:MQTT-4.6.0-2].
#[test]
fn pubacks_keep_their_order() {
    for version in VERSIONS {
        let mut bench = online(version);
        assert_eq!(
            answers(&mut bench, QoS::AtLeastOnce, &[9, 3, 7, 1]),
            ["PUBACK 9", "PUBACK 3", "PUBACK 7", "PUBACK 1"]
        );
    }
}

/// PUBRECs leave in the order of their PUBLISH packets [v4:MQTT-4.6.0-3] [v5:MQTT-4.6.0-3].
#[test]
fn pubrecs_keep_their_order() {
    for version in VERSIONS {
        let mut bench = online(version);
        assert_eq!(
            answers(&mut bench, QoS::ExactlyOnce, &[9, 3, 7, 1]),
            ["PUBREC 9", "PUBREC 3", "PUBREC 7", "PUBREC 1"]
        );
    }
}

/// PUBRELs leave in the order of their PUBRECs, also when they are sent again
/// [v4:MQTT-4.6.0-4] [v5:MQTT-4.6.0-4].
#[test]
fn pubrels_keep_their_order() {
    for version in VERSIONS {
        let mut bench = online(version);
        for payload in ["a", "b", "c"] {
            bench.publish(QoS::ExactlyOnce, payload);
        }
        check(&bench.receive(ack("PUBREC", 3)), "PUBREL 3");
        check(&bench.receive(ack("PUBREC", 1)), "PUBREL 1");
        check(&bench.receive(ack("PUBREC", 2)), "PUBREL 2");
        check(&bench.reconnect(), "PUBREL 3, PUBREL 1, PUBREL 2");
    }
}

/// After DISCONNECT nothing is sent, and the connection is closed
/// [v4:MQTT-3.14.4-1] [v4:MQTT-3.14.4-2] [v5:MQTT-3.14.4-1] [v5:MQTT-3.14.4-2].
#[test]
fn nothing_follows_disconnect() {
    for version in VERSIONS {
        let mut bench = online(version);
        bench.publish(QoS::ExactlyOnce, "open");
        let disconnect = Disconnect::new(ReasonCode::NORMAL_DISCONNECTION);
        let outputs = bench.feed(Input::Disconnect(Box::new(disconnect)));
        check(&outputs, "DISCONNECT 0x00, close Finished");
        check(&bench.publish(QoS::AtMostOnce, "late"), "");
        check(&receive(&mut bench, QoS::AtLeastOnce, 5), "");
        check(&bench.receive(ack("PUBREC", 1)), "");
        check(&bench.wait(3600), "");
    }
}

/// A server that resumes a session which this client does not have is left [v5:MQTT-3.2.2-4].
#[test]
fn session_present_without_a_session_closes() {
    let mut bench = Bench::new(|it| it.connect.clean_start = true);
    bench.feed(Input::TransportOpened);
    let outputs = bench.receive(connack(true, ReasonCode::Success, ConnackProperties::default()));
    check(&outputs, "close 0x82");
    assert!(!bench.session.is_online());
}

/// Where the server has no session, the client drops its half: no DUP, no old PUBREL, no memory of
/// received identifiers [v5:MQTT-3.2.2-5] [v5:MQTT-3.1.2-4].
#[test]
fn lost_session_is_forgotten() {
    let mut bench = online(ProtocolVersion::V5);
    bench.publish(QoS::ExactlyOnce, "released");
    bench.receive(ack("PUBREC", 1));
    bench.publish(QoS::ExactlyOnce, "open");
    receive(&mut bench, QoS::ExactlyOnce, 9);
    bench.feed(Input::TransportClosed);
    let outputs = bench.connect(false, ConnackProperties::default());
    // The message is the application's, and goes out as a new one.
    check(&outputs, "acknowledged 0, PUBLISH 3 open");
    check(&receive(&mut bench, QoS::ExactlyOnce, 9), "message t x, PUBREC 9");
}

/// No PUBLISH leaves above the Maximum QoS of the server [v5:MQTT-3.2.2-11].
#[test]
fn maximum_qos_is_kept() {
    let mut bench = Bench::online(limits(|it| it.maximum_qos = Some(QoS::AtMostOnce)));
    check(&bench.publish(QoS::AtLeastOnce, "a"), "unpublished 0 0x9B");
    check(&bench.publish(QoS::ExactlyOnce, "b"), "unpublished 1 0x9B");
    check(&bench.publish(QoS::AtMostOnce, "c"), "PUBLISH 0 c, published 2");
}

/// No PUBLISH is retained where the server retains none [v5:MQTT-3.2.2-14].
#[test]
fn retain_available_is_kept() {
    let mut bench = Bench::online(limits(|it| it.retain_available = Some(false)));
    let retained = Message { retain: true, ..message(QoS::AtMostOnce, "a") };
    check(&bench.publish_message(retained), "unpublished 0 0x9A");
    check(&bench.publish(QoS::AtMostOnce, "b"), "PUBLISH 0 b, published 1");
}

/// No packet leaves that is larger than the server takes [v5:MQTT-3.2.2-15].
#[test]
fn maximum_packet_size_is_kept() {
    // Two bytes of fixed header, topic `t`, no properties: six bytes beside the payload.
    let mut bench = Bench::online(limits(|it| it.maximum_packet_size = size(26)));
    let fits = "x".repeat(20);
    check(&bench.publish(QoS::AtMostOnce, &fits), &format!("PUBLISH 0 {fits}, published 0"));
    check(&bench.publish(QoS::AtMostOnce, &"x".repeat(21)), "unpublished 1 0x95");
    check(&bench.subscribe("a/filter/that/is/too/long"), "subscribed [PacketTooLarge]");
    check(&bench.unsubscribe("a/filter/that/is/too/long"), "unsubscribed [PacketTooLarge]");
}

/// No Topic Alias is sent above the server's maximum, none without one, and never 0
/// [v5:MQTT-3.2.2-17] [v5:MQTT-3.2.2-18] [v5:MQTT-3.3.2-9] [v5:MQTT-3.3.2-8].
#[test]
fn topic_alias_maximum_is_kept() {
    let aliases = |maximum: Option<u16>| {
        let mut bench = Bench::online(limits(|it| it.topic_alias_maximum = maximum));
        [1, 2, 3].map(|wanted| {
            let wanted = NonZeroU16::new(wanted);
            let message = Message { topic_alias: wanted, ..message(QoS::AtMostOnce, "x") };
            let outputs = bench.publish_message(message);
            let Output::Send(Packet::Publish(publish)) = &outputs[0] else { panic!("{outputs:?}") };
            // On the wire, too: a property 0x23 with a value that is not 0, or none.
            let bytes = sent_bytes(&outputs, ProtocolVersion::V5);
            let properties = &bytes[5..bytes.len() - 1];
            let on_wire = properties[1..].strip_prefix(b"\x23").map(|it| [it[0], it[1]]);
            assert_eq!(on_wire, publish.topic_alias.map(|alias| alias.get().to_be_bytes()));
            publish.topic_alias.map(NonZeroU16::get)
        })
    };
    assert_eq!(aliases(Some(2)), [Some(1), Some(2), None]);
    assert_eq!(aliases(Some(0)), [None; 3]);
    assert_eq!(aliases(None), [None; 3]);
}

/// Topic Aliases from 1 to the maximum of the CONNECT are accepted [v5:MQTT-3.3.2-10]; they end with
/// the connection [v5:MQTT-3.3.2-7].
#[test]
fn topic_aliases_of_the_server_are_accepted() {
    let mut bench = Bench::new(|it| it.connect.properties.topic_alias_maximum = 10);
    bench.connect(false, ConnackProperties::default());
    let receive = |bench: &mut Bench, alias: u16, topic: String| {
        let mut publish = incoming(QoS::AtMostOnce, 0, "x");
        publish.topic_alias = NonZeroU16::new(alias);
        publish.topic = topic.into();
        bench.receive(Packet::Publish(publish))
    };
    for alias in 1..=10 {
        let words = format!("message topic/{alias} x");
        check(&receive(&mut bench, alias, format!("topic/{alias}")), &words);
    }
    for alias in (1..=10).rev() {
        let words = format!("message topic/{alias} x");
        check(&receive(&mut bench, alias, String::new()), &words);
    }
    bench.reconnect();
    check(&receive(&mut bench, 1, String::new()), "DISCONNECT 0x82, close 0x82");
}

/// A PUBLISH of this client has no Subscription Identifier, also when it passes on what it received
/// [v5:MQTT-3.3.4-6].
#[test]
fn publish_has_no_subscription_identifier() {
    let mut bench = online(ProtocolVersion::V5);
    let mut publish = incoming(QoS::AtMostOnce, 0, "x");
    publish.subscription_ids.push(5);
    publish.properties = Some(Arc::new(MessageProperties {
        user_properties: vec![UserProperty { name: "k".into(), value: "v".into() }],
        ..MessageProperties::default()
    }));
    let outputs = bench.receive(Packet::Publish(publish));
    let Output::Message(received) = &outputs[0] else { panic!("{outputs:?}") };
    assert_eq!(received.subscription_ids[..], [5]);
    let passed_on = Message {
        properties: received.properties.clone(),
        ..message(QoS::AtLeastOnce, "passed on")
    };
    let outputs = bench.publish_message(passed_on);
    let Output::Send(Packet::Publish(sent)) = &outputs[0] else { panic!("{outputs:?}") };
    assert!(sent.subscription_ids.is_empty() && sent.properties == received.properties);
    // A server, which refuses one in a PUBLISH of a client, accepts the bytes.
    let bytes = Bytes::from(sent_bytes(&outputs, ProtocolVersion::V5));
    Packet::decode(ProtocolVersion::V5, Sender::Client, &bytes).unwrap();
}

/// No more messages are in flight than the server's Receive Maximum, and PUBACK, PUBCOMP and a
/// refusing PUBREC make room for one [v5:MQTT-3.3.4-7] [v5:MQTT-4.9.0-1] [v5:MQTT-4.9.0-2].
#[test]
fn receive_maximum_is_kept() {
    let mut bench = Bench::online(limits(|it| it.receive_maximum = NonZeroU16::new(3)));
    check(&bench.publish(QoS::AtLeastOnce, "a"), "PUBLISH 1 a");
    check(&bench.publish(QoS::ExactlyOnce, "b"), "PUBLISH 2 b");
    check(&bench.publish(QoS::ExactlyOnce, "c"), "PUBLISH 3 c");
    for payload in ["d", "e", "f", "g"] {
        check(&bench.publish(QoS::AtLeastOnce, payload), "");
    }
    // The server has the message, but the exchange goes on: no room yet.
    check(&bench.receive(ack("PUBREC", 2)), "PUBREL 2");
    check(&bench.receive(ack("PUBCOMP", 2)), "acknowledged 1, PUBLISH 4 d");
    check(&bench.receive(ack("PUBACK", 1)), "acknowledged 0, PUBLISH 5 e");
    let refusal = ack_with("PUBREC", 3, ReasonCode::QuotaExceeded);
    check(&bench.receive(refusal), "unpublished 2 0x97, PUBLISH 6 f");
    // An answer to nothing makes no room.
    check(&bench.receive(ack("PUBACK", 77)), "");
    check(&bench.receive(ack("PUBCOMP", 78)), "");
}

/// While no message may leave, everything else does [v5:MQTT-3.3.4-8] [v5:MQTT-4.9.0-3].
#[test]
fn other_packets_go_on_when_the_quota_is_used_up() {
    let mut bench = Bench::online(limits(|it| it.receive_maximum = NonZeroU16::new(1)));
    check(&bench.publish(QoS::ExactlyOnce, "a"), "PUBLISH 1 a");
    check(&bench.publish(QoS::ExactlyOnce, "b"), "");
    check(&bench.subscribe("x"), "SUBSCRIBE 2");
    check(&bench.unsubscribe("x"), "UNSUBSCRIBE 3");
    check(&receive(&mut bench, QoS::AtLeastOnce, 7), "message t x, PUBACK 7");
    check(&receive(&mut bench, QoS::ExactlyOnce, 8), "message t x, PUBREC 8");
    check(&bench.receive(ack("PUBREL", 8)), "PUBCOMP 8");
    check(&bench.receive(ack("PUBREC", 1)), "PUBREL 1");
    check(&bench.wait(54), "PINGREQ");
}

/// Without an Authentication Method the client sends no AUTH, whatever the server does
/// [v5:MQTT-4.12.0-7].
#[test]
fn auth_is_never_sent_without_a_method() {
    let auth = || Packet::Auth(Box::new(crate::mqtt::Auth::success()));
    let mut bench = Bench::new(|_| {});
    bench.feed(Input::TransportOpened);
    check(&bench.receive(auth()), "close 0x82");
    let mut bench = online(ProtocolVersion::V5);
    check(&bench.receive(auth()), "DISCONNECT 0x82, close 0x82");
}

/// The WebSocket handshake offers the sub-protocol `mqtt` [v4:MQTT-6.0.0-3] [v5:MQTT-6.0.0-3].
#[test]
fn websocket_offers_mqtt() {
    for version in VERSIONS {
        let (port, server) = serve(|mut stream| {
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            request
        });
        let mut endpoint = endpoint(port);
        endpoint.websocket_path = Some("/mqtt".to_owned());
        block_on(async {
            let mut client = Client::new(endpoint, options(version));
            assert!(matches!(client.next().await, Event::OpenFailed(_)));
        });
        let request = String::from_utf8(server.join().unwrap()).unwrap().to_ascii_lowercase();
        let offer = request.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol:"));
        let mut offered = offer.unwrap().split(',').map(str::trim);
        assert!(offered.any(|name| name == "mqtt"), "{request}");
    }
}

/// The client over TCP: ordered, lossless bytes both ways [v4:MQTT-7.1.2-1]
/// [v5:MQTT-4.2-1].
#[test]
fn tcp_carries_the_client() {
    for version in VERSIONS {
        let (port, server) = serve(move |mut stream| {
            let answer = Connack {
                session_present: false,
                reason_code: ReasonCode::Success,
                properties: ConnackProperties::default(),
            };
            assert!(matches!(read_packet(&mut stream, version), Packet::Connect(_)));
            write_packet(&mut stream, version, &Packet::Connack(Box::new(answer)));
            let Packet::Publish(sent) = read_packet(&mut stream, version) else { panic!() };
            let id = sent.packet_id.unwrap().get();
            write_packet(&mut stream, version, &ack("PUBACK", id));
            let back = Publish { qos: QoS::AtMostOnce, packet_id: None, ..sent };
            write_packet(&mut stream, version, &Packet::Publish(back));
            assert!(matches!(read_packet(&mut stream, version), Packet::Disconnect(_)));
        });
        block_on(async {
            let mut client = Client::new(endpoint(port), options(version));
            assert!(matches!(client.next().await, Event::Connected(_)));
            let payload = "x".repeat(100_000);
            client.publish(message(QoS::AtLeastOnce, &payload));
            assert!(matches!(client.next().await, Event::Published(..)));
            let Event::Message(back) = client.next().await else { panic!("no message") };
            assert_eq!(back.payload, payload);
            assert!(client.disconnect(Disconnect::new(ReasonCode::Success)).await);
        });
        server.join().unwrap();
    }
}

fn receive(bench: &mut Bench, qos: QoS, id: u16) -> Vec<Output> {
    bench.receive(Packet::Publish(incoming(qos, id, "x")))
}

/// What the session sends for messages that arrive with these identifiers.
fn answers(bench: &mut Bench, qos: QoS, ids: &[u16]) -> Vec<String> {
    let outputs = ids.iter().flat_map(|id| receive(bench, qos, *id));
    let sent: Vec<_> = outputs.filter(|it| matches!(it, Output::Send(_))).collect();
    trace(&sent)
}

fn suback(id: u16) -> Packet {
    Packet::Suback(Suback {
        packet_id: PacketId::new(id).unwrap(),
        reason_codes: vec![ReasonCode::Success],
        reason_string: None,
        user_properties: Vec::new(),
    })
}

fn unsuback(id: u16) -> Packet {
    Packet::Unsuback(Unsuback {
        packet_id: PacketId::new(id).unwrap(),
        reason_codes: Vec::new(),
        reason_string: None,
        user_properties: Vec::new(),
    })
}

/// The bytes of the first packet that is sent.
fn sent_bytes(outputs: &[Output], version: ProtocolVersion) -> Vec<u8> {
    let Some(Output::Send(packet)) = outputs.first() else { panic!("{outputs:?}") };
    let mut bytes = BytesMut::new();
    packet.encode(version, &mut bytes);
    bytes.to_vec()
}

/// The login flags of a CONNECT, and what follows the Client Identifier `c` in its payload.
fn login(
    version: ProtocolVersion,
    user: Option<&'static str>,
    password: Option<&'static str>,
) -> (u8, Vec<u8>) {
    let mut bench = Bench::new(|it| {
        it.connect.protocol_version = version;
        it.connect.user_name = user.map(Into::into);
        it.connect.password = password.map(|it| Bytes::from_static(it.as_bytes()));
    });
    let bytes = sent_bytes(&bench.feed(Input::TransportOpened), version);
    let properties_len = if version.has_properties() { 1 + usize::from(bytes[12]) } else { 0 };
    let client_id = &bytes[12 + properties_len..];
    assert_eq!(client_id[..3], *b"\0\x01c");
    (bytes[9] & 0xc0, client_id[3..].to_vec())
}

fn options(version: ProtocolVersion) -> SessionOptions {
    let mut options = session_options();
    options.connect.protocol_version = version;
    options
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        address: Address::Tcp { host: "127.0.0.1".to_owned(), port },
        tls: None,
        websocket_path: None,
        bind: None,
        proxy: None,
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(future);
}

/// A server for one connection.
fn serve<T: Send + 'static>(
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, thread::spawn(move || script(listener.accept().unwrap().0)))
}

fn read_packet(stream: &mut TcpStream, version: ProtocolVersion) -> Packet {
    let mut bytes = BytesMut::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.extend_from_slice(&byte);
        if let Some(frame) = crate::mqtt::Frame::peek(&bytes, usize::MAX).unwrap()
            && frame.total_len == bytes.len()
        {
            return Packet::decode(version, Sender::Client, &bytes.freeze()).unwrap();
        }
    }
}

fn write_packet(stream: &mut TcpStream, version: ProtocolVersion, packet: &Packet) {
    let mut bytes = BytesMut::new();
    packet.encode(version, &mut bytes);
    stream.write_all(&bytes).unwrap();
}
