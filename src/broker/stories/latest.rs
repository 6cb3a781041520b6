//! The latest value of a topic, as a subscriber sees it that comes late.

use super::*;
use crate::broker::latest::LatestOptions;
use crate::mqtt::{RetainHandling, TopicFilter, TopicName};
use crate::ports::message::Message;

fn keeping() -> BrokerOptions {
    let filters = vec![TopicFilter::parse("s/#").unwrap()];
    let latest = LatestOptions { filters, values_max: 2, ..LatestOptions::default() };
    BrokerOptions { latest, ..BrokerOptions::default() }
}

/// What somebody who comes now is sent, and whether RETAIN was set with it.
fn seen(stage: &mut Stage, filter: &str) -> Vec<(String, bool)> {
    let (mut late, _) = stage.connect("late", ProtocolVersion::V5, 0);
    let answers = stage.send(&mut late, &subscribe(filter, QoS::ExactlyOnce));
    stage.lose(late);
    shown(&answers)
}

fn shown(packets: &[Packet]) -> Vec<(String, bool)> {
    let shown = |packet: &Packet| {
        let Packet::Publish(publish) = packet else { return None };
        Some((String::from_utf8(publish.payload.to_vec()).unwrap(), publish.retain))
    };
    packets.iter().filter_map(shown).collect()
}

fn retained(topic: &str, payload: &str) -> Packet {
    let Packet::Publish(publish) = publish(topic, payload, QoS::AtMostOnce, 0) else { panic!() };
    Packet::Publish(Publish { retain: true, ..publish })
}

fn expire(stage: &mut Stage) {
    let mut outbox = Outbox::new();
    let Stage { broker, shard, now } = stage;
    Turn { broker, shard, now: *now, outbox: &mut outbox }.expire();
}

#[test]
fn who_comes_late_gets_the_latest_value_while_it_holds_and_not_after() {
    let mut stage = Stage::new(keeping());
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V311, 0);
    for payload in ["one", "two"] {
        stage.send(&mut writer, &publish("s/a", payload, QoS::AtLeastOnce, 1));
    }
    stage.send(&mut writer, &publish("other", "x", QoS::AtLeastOnce, 1));
    assert_eq!(seen(&mut stage, "#"), [("two".into(), true)]);
    stage.now = Tick::from_millis(59_999);
    assert_eq!(seen(&mut stage, "s/+"), [("two".into(), true)]);
    stage.now = Tick::from_millis(60_000);
    assert_eq!(seen(&mut stage, "#"), []);
    expire(&mut stage);
    assert_eq!(stage.broker.latest_counts(), (0, 0));
}

#[test]
fn a_subscription_that_stands_gets_a_message_once() {
    let mut stage = Stage::new(keeping());
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V311, 0);
    let (mut reader, _) = stage.connect("reader", ProtocolVersion::V5, 0);
    stage.send(&mut writer, &publish("s/a", "before", QoS::AtMostOnce, 0));
    let answers = stage.send(&mut reader, &subscribe("s/#", QoS::AtLeastOnce));
    assert_eq!(shown(&answers), [("before".into(), true)]);
    stage.send(&mut writer, &publish("s/a", "now", QoS::AtMostOnce, 0));
    assert_eq!(shown(&stage.poll(&mut reader)), [("now".into(), false)]);
    assert_eq!(shown(&stage.poll(&mut reader)), []);
}

/// A replay takes its time: what is handed out meanwhile stands in the store before the replay comes
/// to its topic.
#[test]
fn a_replay_passes_over_what_its_subscription_was_handed_out() {
    let mut stage = Stage::new(keeping());
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V311, 0);
    stage.send(&mut writer, &publish("s/a", "before", QoS::AtMostOnce, 0));
    let (mut reader, _) = stage.connect("reader", ProtocolVersion::V5, 0);
    let mut bytes = BytesMut::new();
    subscribe("s/#", QoS::AtMostOnce).encode(ProtocolVersion::V5, &mut bytes);
    let answers = stage.turn(&mut reader, |connection, turn| {
        connection.receive(turn, &mut bytes.freeze(), 1, Waker::noop());
        let _matched = turn.publish(message("s/b", "meanwhile"));
    });
    let mut answers = shown(&answers);
    answers.sort();
    assert_eq!(answers, [("before".into(), true), ("meanwhile".into(), false)]);
}

#[test]
fn retain_handling_governs_latest_values_as_well() {
    let mut stage = Stage::new(keeping());
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V311, 0);
    stage.send(&mut writer, &publish("s/a", "x", QoS::AtMostOnce, 0));
    let (mut reader, _) = stage.connect("reader", ProtocolVersion::V5, 0);
    for (retain_handling, expected) in [
        (RetainHandling::DoNotSend, 0),
        (RetainHandling::SendIfNew, 0),
        (RetainHandling::SendAtSubscribe, 1),
        (RetainHandling::SendAtSubscribe, 1),
    ] {
        let options = SubscriptionOptions { retain_handling, ..SubscriptionOptions::default() };
        let Packet::Subscribe(mut packet) = subscribe("s/#", QoS::AtMostOnce) else { panic!() };
        packet.filters[0].options = options;
        let answers = stage.send(&mut reader, &Packet::Subscribe(packet));
        assert_eq!(shown(&answers).len(), expected, "{retain_handling:?}");
    }
}

/// [MQTT-3.3.1-8] of 3.1.1: a message without RETAIN neither removes nor replaces what is retained.
#[test]
fn a_latest_value_stands_in_front_of_a_retained_message_for_its_time() {
    let mut stage = Stage::new(keeping());
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V311, 0);
    stage.send(&mut writer, &retained("s/a", "lasting"));
    stage.send(&mut writer, &publish("s/a", "passing", QoS::AtMostOnce, 0));
    assert_eq!(seen(&mut stage, "#"), [("passing".into(), true)]);
    stage.now = Tick::from_millis(60_000);
    assert_eq!(seen(&mut stage, "#"), [("lasting".into(), true)], "before anything is cleared up");
    expire(&mut stage);
    assert_eq!(seen(&mut stage, "#"), [("lasting".into(), true)]);
    stage.send(&mut writer, &publish("s/a", "passing", QoS::AtMostOnce, 0));
    stage.send(&mut writer, &retained("s/a", "newer"));
    assert_eq!(seen(&mut stage, "#"), [("newer".into(), true)], "the later one counts");
    stage.send(&mut writer, &publish("s/a", "passing", QoS::AtMostOnce, 0));
    stage.send(&mut writer, &retained("s/a", ""));
    assert_eq!(seen(&mut stage, "#"), [], "deleting what is retained deletes both");
}

#[test]
fn an_empty_message_clears_the_value() {
    let mut stage = Stage::new(keeping());
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V311, 0);
    stage.send(&mut writer, &publish("s/a", "x", QoS::AtMostOnce, 0));
    stage.send(&mut writer, &publish("s/a", "", QoS::AtMostOnce, 0));
    assert_eq!(seen(&mut stage, "#"), []);
}

#[test]
fn what_finds_no_room_is_delivered_and_counted() {
    let mut stage = Stage::new(keeping());
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V311, 0);
    let (mut reader, _) = stage.connect("reader", ProtocolVersion::V311, 0);
    stage.send(&mut reader, &subscribe("#", QoS::AtMostOnce));
    for topic in ["s/a", "s/b", "s/c"] {
        stage.send(&mut writer, &publish(topic, topic, QoS::AtMostOnce, 0));
    }
    assert_eq!(payloads(&stage.poll(&mut reader)), ["s/a", "s/b", "s/c"]);
    assert_eq!(seen(&mut stage, "#").len(), 2);
    assert_eq!(stage.broker.counters().totals().latest_values_exceeded, 1);
}

fn message(topic: &str, payload: &'static str) -> Message {
    let topic = TopicName::parse(topic.into()).unwrap();
    Message::of_broker(topic, Bytes::from_static(payload.as_bytes()))
}
