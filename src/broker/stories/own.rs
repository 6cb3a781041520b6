//! Messages of the broker itself: nobody can be told that they are refused.

use super::*;
use crate::broker::event::Event;
use crate::mqtt::{TopicName, Will};

const WILL: &str = "st/dev";

/// Somebody who is away, whose queue is full.
fn full_queue(stage: &mut Stage) {
    let (mut away, _) = stage.connect("away", ProtocolVersion::V5, 600);
    stage.send(&mut away, &subscribe("st/#", QoS::AtLeastOnce));
    stage.lose(away);
    let (mut writer, _) = stage.connect("writer", ProtocolVersion::V5, 0);
    stage.send(&mut writer, &publish("st/other", "one", QoS::AtLeastOnce, 1));
    stage.lose(writer);
}

/// Somebody whose will is published as soon as its connection breaks.
fn mortal(stage: &mut Stage, id: &str) -> Actor {
    let (mut actor, connect) = actor(id, ProtocolVersion::V5, 0, stage.now);
    let Packet::Connect(mut connect) = connect else { unreachable!("it was made as one") };
    connect.will = Some(Box::new(Will {
        topic: TopicName::parse(WILL.into()).unwrap(),
        payload: Bytes::from_static(b"offline"),
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_interval_secs: 0,
        properties: None,
    }));
    stage.send(&mut actor, &Packet::Connect(connect));
    actor
}

fn lines(stage: &mut Stage) -> Vec<(String, u32, u32)> {
    let missed = |event| {
        let Event::OwnMessageMissed { topic, queues, suppressed } = event else { return None };
        Some((topic, queues, suppressed))
    };
    stage.shard.take_events().filter_map(missed).collect()
}

/// A will was refused as a publish of a client is, because the queue of somebody who was away was full:
/// who watched was not told, who came later was told what was retained before, and nobody heard of it.
#[test]
fn a_will_reaches_everybody_but_those_whose_queue_is_full() {
    let mut stage = Stage::new(narrow());
    full_queue(&mut stage);
    let (mut watcher, _) = stage.connect("watcher", ProtocolVersion::V5, 0);
    stage.send(&mut watcher, &subscribe("st/#", QoS::AtLeastOnce));
    let mortals = ["a", "b"].map(|id| mortal(&mut stage, id));
    for mortal in mortals {
        stage.lose(mortal);
        assert_eq!(payloads(&stage.poll(&mut watcher)), ["offline"]);
    }
    let (mut late, _) = stage.connect("late", ProtocolVersion::V5, 0);
    let mut answers = stage.send(&mut late, &subscribe(WILL, QoS::AtMostOnce));
    answers.extend(stage.poll(&mut late));
    assert_eq!(payloads(&answers), ["offline"]);
    let totals = stage.broker.counters().totals();
    assert_eq!((totals.wills_published, totals.deliveries_dropped), (2, 2));
    assert_eq!(lines(&mut stage), [(WILL.to_owned(), 1, 0)], "one line a second");
    stage.now = stage.now.plus_millis(1_000);
    let mortal = mortal(&mut stage, "c");
    stage.lose(mortal);
    assert_eq!(lines(&mut stage), [(WILL.to_owned(), 1, 1)]);
}

/// The same where the full queue is the only one that matches.
#[test]
fn a_will_is_retained_though_nobody_has_room_for_it() {
    let mut stage = Stage::new(narrow());
    full_queue(&mut stage);
    let mortal = mortal(&mut stage, "a");
    stage.lose(mortal);
    let (mut late, _) = stage.connect("late", ProtocolVersion::V5, 0);
    let mut answers = stage.send(&mut late, &subscribe(WILL, QoS::AtMostOnce));
    answers.extend(stage.poll(&mut late));
    assert_eq!(payloads(&answers), ["offline"]);
    assert_eq!(lines(&mut stage), [(WILL.to_owned(), 1, 0)]);
}
