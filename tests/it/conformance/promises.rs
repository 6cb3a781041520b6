//! What our broker does where the standards leave it a choice: it says why, every time, in a Reason
//! Code and a Reason String; it tells its limits; it delivers one copy.

use super::bytes::{self, block};
use super::client::Reason;
use super::suite::our_target;
use super::{Connect, Event, Publish, Stage, Version, Will, ack, kind, packet, prop};

fn stage(version: Version) -> Stage {
    Stage::new(our_target(), version)
}

/// Fails the test with what the script's step says.
fn must<T>(outcome: super::Outcome<T>) -> T {
    outcome.unwrap_or_else(|verdict| panic!("{verdict:?}"))
}

/// A Reason String has to be there, and to say something.
fn explained(reason: &Reason, case: &str) {
    let string = reason.properties.string(prop::REASON_STRING);
    assert!(string.is_some_and(|string| string.len() > 8), "{case} is not explained");
}

/// Sends bytes as a connected 5.0 client; DISCONNECT has to carry this code and a Reason String.
fn disconnects(s: &Stage, case: &str, sent: &[u8], code: u8) {
    let reason = must(s.rejects(sent, &[code]).or_else(|verdict| match verdict {
        super::Verdict::Differs(what) => super::differs(format!("{case}: {what}")),
        other @ super::Verdict::Skipped(_) => Err(other),
    }));
    explained(&reason.unwrap_or_else(|| panic!("{case}: no DISCONNECT before the close")), case);
}

#[test]
fn disconnect_says_why() {
    let s = &stage(Version::V5);
    let t = s.topic("t");
    let publish = |properties: &[u8]| s.message(&t, "x").with(properties).bytes();
    let subscribe = |properties: &[u8], pairs: &[(&[u8], u8)]| {
        bytes::subscribe(s.version, 1, properties, pairs)
    };
    let shared = format!("$share/group/{t}");
    let rows: Vec<(&str, Vec<u8>, u8)> = vec![
        ("flags of PINGREQ", vec![0xC1, 0], 0x81),
        ("flags of DISCONNECT", vec![0xE1, 0], 0x81),
        ("packet type 0", vec![0x00, 0], 0x81),
        ("five bytes of Remaining Length", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1], 0x81),
        ("QoS 3", s.message(&t, "x").qos(3, 1).bytes(), 0x81),
        ("DUP at QoS 0", s.message(&t, "x").dup().bytes(), 0x81),
        ("ill-formed Topic Name", s.message(b"\xFF", "x").bytes(), 0x81),
        ("U+0000 in a Topic Name", s.message(b"\0", "x").bytes(), 0x81),
        ("wildcard in a Topic Name", s.message("a/#", "x").bytes(), 0x90),
        ("empty Topic Name", s.message("", "x").bytes(), 0x82),
        ("Packet Identifier 0", s.message(&t, "x").qos(1, 0).bytes(), 0x82),
        ("Topic Alias 0", publish(&prop::two(prop::TOPIC_ALIAS, 0)), 0x94),
        ("Topic Alias too high", publish(&prop::two(prop::TOPIC_ALIAS, u16::MAX)), 0x94),
        ("Subscription Identifier", publish(&prop::subscription_id(1)), 0x82),
        ("property twice", publish(&[1, 0, 1, 0]), 0x82),
        ("second CONNECT", s.connect("bad").bytes(), 0x82),
        ("no filter", subscribe(&[], &[]), 0x82),
        ("reserved options", subscribe(&[], &[(b"a", 0x40)]), 0x81),
        ("No Local in a group", subscribe(&[], &[(shared.as_bytes(), 4)]), 0x82),
        ("AUTH without method", packet(0xF0, &[vec![0x19], block(&[])].concat()), 0x82),
        (
            "Session Expiry Interval from nowhere",
            bytes::disconnect_with(0, &prop::four(prop::SESSION_EXPIRY, 9)),
            0x82,
        ),
    ];
    for (case, sent, code) in rows {
        disconnects(s, case, &sent, code);
    }
}

#[test]
fn refusing_connack_says_why() {
    let s = &stage(Version::V5);
    let connect = || s.connect("a");
    let two = |id| [prop::two(id, 1), prop::two(id, 1)].concat();
    let cut = connect().bytes();
    let rows: Vec<(&str, Vec<u8>, u8)> = vec![
        ("reserved flag", connect().toggle(1).bytes(), 0x81),
        ("Will QoS 3", connect().will(Will::new("w", "x").qos(3)).bytes(), 0x81),
        ("ill-formed Client Identifier", Connect::new(s.version, b"\xFF").bytes(), 0x81),
        ("cut short", packet(0x10, &cut[2..cut.len() - 1]), 0x81),
        ("property twice", connect().with(&two(prop::RECEIVE_MAXIMUM)).bytes(), 0x82),
        ("Receive Maximum 0", connect().with(&prop::two(prop::RECEIVE_MAXIMUM, 0)).bytes(), 0x82),
        ("method", connect().with(&prop::text(prop::AUTH_METHOD, "m")).bytes(), 0x8C),
    ];
    for (case, sent, code) in rows {
        let mut client = must(s.open());
        client.send(&sent);
        let reason = must(must(client.expect(kind::CONNACK)).reason());
        assert_eq!(reason.code, code, "{case}");
        explained(&reason, case);
        must(client.closed());
    }
}

/// Whoever speaks a version we do not know understands the oldest form.
#[test]
fn unknown_versions_are_answered_in_the_oldest_form() {
    let s = &stage(Version::V4);
    for level in [0, 2, 6, 0x7F] {
        let mut client = must(s.open());
        client.send(&Connect { level, ..s.connect("a") }.bytes());
        must(client.expect_bytes(&[0x20, 2, 0, 1]));
        must(client.closed());
    }
}

#[test]
fn negative_answers_say_why() {
    let s = &stage(Version::V5);
    let mut client = must(s.client("a"));
    let mut expect = |sent: &[u8], kind, id, code| {
        client.send(sent);
        let answer = must(client.expect_ack(kind, id));
        assert_eq!(answer.code, code, "packet type {kind}");
        assert!(answer.properties.has(prop::REASON_STRING), "packet type {kind}");
    };
    let forbidden = s.message("$SYS/x", "x");
    expect(&forbidden.clone().qos(1, 1).bytes(), kind::PUBACK, 1, 0x87);
    expect(&forbidden.qos(2, 2).bytes(), kind::PUBREC, 2, 0x87);
    expect(&ack(kind::PUBREL, 3), kind::PUBCOMP, 3, 0x92);
    expect(&ack(kind::PUBREC, 4), kind::PUBREL, 4, 0x92);
    let deep = ["x"; 129].join("/");
    expect(&s.message(&deep, "x").qos(1, 5).bytes(), kind::PUBACK, 5, 0x90);
    for filter in ["a#", "", "$share//t", &deep] {
        let suback = must(client.subscribe_all(&[], &[("fine", 1), (filter, 0)]));
        assert_eq!(suback.codes, [1, 0x8F], "`{filter}`");
        assert!(suback.properties.has(prop::REASON_STRING), "`{filter}`");
    }
    must(client.ping());
}

/// What does not fit is left out, and the answer comes all the same.
#[test]
fn reason_strings_give_way_to_the_maximum_packet_size() {
    let s = &stage(Version::V5);
    let small = prop::four(prop::MAXIMUM_PACKET_SIZE, 30);
    let mut client = must(s.enter(&s.connect("a").with(&small)));
    client.send(&s.message("$SYS/x", "x").qos(1, 1).bytes());
    let puback = must(client.expect_ack(kind::PUBACK, 1));
    assert_eq!(puback.code, 0x87);
    assert!(!puback.properties.has(prop::REASON_STRING));
    client.send(&ack(kind::PUBREL, 3));
    assert_eq!(must(client.expect_ack(kind::PUBCOMP, 3)).code, 0x92);
    assert_eq!(must(client.subscribe_all(&[], &[("a#", 0)])).codes, [0x8F]);
    client.send(&[0xC1, 0]);
    let told = must(client.refused(&[0x81])).expect("a bare DISCONNECT fits");
    assert!(!told.properties.has(prop::REASON_STRING));
}

#[test]
fn takeover_is_told_to_the_old_connection() {
    let s = &stage(Version::V5);
    let mut first = must(s.client("a"));
    let _second = must(s.client("a"));
    let told = must(first.refused(&[0x8E])).expect("DISCONNECT comes before the close");
    explained(&told, "takeover");
}

#[test]
fn connack_tells_the_limits() {
    let s = &stage(Version::V5);
    let client = must(s.enter(&s.connect("a").with(&prop::four(prop::SESSION_EXPIRY, u32::MAX))));
    let told = &client.connack.properties;
    assert_eq!(told.number(prop::SESSION_EXPIRY), Some(7 * 24 * 3600));
    assert_eq!(told.number(prop::MAXIMUM_PACKET_SIZE), Some(1 << 20));
    assert!(told.number(prop::RECEIVE_MAXIMUM).is_some_and(|maximum| maximum > 0));
    assert!(told.number(prop::TOPIC_ALIAS_MAXIMUM).is_some_and(|maximum| maximum > 0));
    for has in [prop::MAXIMUM_QOS, prop::RETAIN_AVAILABLE, 0x28, 0x29, prop::SHARED_AVAILABLE] {
        assert_ne!(told.number(has), Some(0), "property {has:#04x} denies what the broker has");
    }
    let client = must(s.enter(&s.connect("b").with(&prop::four(prop::SESSION_EXPIRY, 5))));
    assert!(!client.connack.properties.has(prop::SESSION_EXPIRY), "nothing was changed");
}

/// Overlapping subscriptions: one copy, the highest QoS, all identifiers.
#[test]
fn overlapping_subscriptions_get_one_copy() {
    for version in [Version::V4, Version::V5] {
        let s = &stage(version);
        let topic = s.topic("a/b");
        let mut client = must(s.client("a"));
        for (number, (filter, qos)) in
            [(s.topic("#"), 0), (s.topic("a/+"), 2), (topic.clone(), 1)].iter().enumerate()
        {
            let id = prop::subscription_id(10 + u32::try_from(number).unwrap());
            let properties = if s.is_v5() { &id[..] } else { &[] };
            must(client.subscribe_with(properties, filter, *qos));
        }
        must(client.publish(&topic, "x", 2));
        let message = must(client.receive(&topic, "x", 2));
        let mut named = message.properties.all(prop::SUBSCRIPTION_ID);
        named.sort_unstable();
        let wanted = [[prop::SUBSCRIPTION_ID, 10], [0x0B, 11], [0x0B, 12]];
        assert_eq!(named, if s.is_v5() { &wanted[..] } else { &[] });
        must(client.quiet());
    }
}

/// MQTT 3.1: protocol name `MQIsdp`, level 3, otherwise as 3.1.1.
#[test]
fn mqtt_3_1_is_spoken() {
    let s = &stage(Version::V4);
    let topic = s.topic("t");
    let mut client = must(s.open());
    client.send(&Connect { name: b"MQIsdp".to_vec(), level: 3, ..s.connect("a") }.bytes());
    must(client.expect_bytes(&[0x20, 2, 0, 0]));
    must(client.subscribe(&topic, 2));
    must(client.publish(&topic, "x", 2));
    must(client.receive(&topic, "x", 2));
    must(client.leave());
}

/// Publishers of each version reach subscribers of each.
#[test]
fn versions_meet() {
    let (old, new) = (stage(Version::V4), stage(Version::V5));
    let topic = old.topic("t");
    for (from, to) in [(&old, &new), (&new, &old)] {
        let mut subscriber = must(to.client("to"));
        must(subscriber.subscribe(&topic, 2));
        let mut publisher = must(from.client("from"));
        for qos in 0..3 {
            must(publisher.publish(&topic, "x", qos));
            must(subscriber.receive(&topic, "x", qos));
        }
    }
}

/// 3.1.1 has no way to say why, so nothing is said: the connection ends.
#[test]
fn old_clients_are_closed_without_a_word() {
    let s = &stage(Version::V4);
    for sent in [&[0xC1, 0][..], &[0x30, 1, 0], &s.message("a/#", "x").bytes()] {
        let mut client = must(s.client("a"));
        client.send(sent);
        must(client.closed());
    }
    let mut first = must(s.client("b"));
    let _second = must(s.client("b"));
    must(first.closed());
}

/// An empty Client Identifier is accepted by both versions; in 5.0 the assigned one is told.
#[test]
fn empty_client_identifiers_are_taken() {
    for version in [Version::V4, Version::V5] {
        let client = must(stage(version).enter(&Connect::new(version, "")));
        let told = client.connack.properties.has(prop::ASSIGNED_CLIENT_ID);
        assert_eq!(told, version == Version::V5);
    }
}

/// Nobody subscribes: 0x10, which is no failure and needs no explanation.
#[test]
fn no_matching_subscribers_is_told() {
    let s = &stage(Version::V5);
    let mut client = must(s.client("a"));
    for (qos, answer) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        client.send(&s.message(s.topic("nobody"), "x").qos(qos, 1).bytes());
        let answer = must(client.expect_ack(answer, 1));
        assert_eq!((answer.code, answer.properties.0.len()), (0x10, 0));
    }
}

/// A client that announces aliases gets them where they save bytes.
#[test]
fn aliases_are_used_where_they_pay() {
    let s = &stage(Version::V5);
    let topic = s.topic("a/topic/that/is/longer/than/what/an/alias/costs");
    let connect = s.connect("a").with(&prop::two(prop::TOPIC_ALIAS_MAXIMUM, 4));
    let mut client = must(s.enter(&connect));
    must(client.subscribe(&topic, 0));
    let mut lengths = Vec::new();
    for _ in 0..3 {
        must(client.publish(&topic, "x", 0));
        let Event::Packet(packet) = must(client.event()) else { panic!("closed") };
        lengths.push(packet.bytes().len());
    }
    assert!(lengths[2] < lengths[0], "{lengths:?}: the topic was repeated");
    let plain = Publish::new(s.version, &topic, "x").bytes().len();
    assert!(lengths[2] + topic.len() <= plain + 3, "{lengths:?} against {plain}");
}
