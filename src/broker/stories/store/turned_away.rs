//! Clients that come back while the store is silent, and are turned away: what is due of their Sessions
//! is due when it was.

use super::*;
use crate::broker::event::Event;
use crate::mqtt::{TopicName, Will};

/// A client has left whose Session is kept, and lasts for ten minutes.
fn away() -> (Stage, Slow) {
    let (mut stage, store) = stage();
    let (client, _connack) = stage.keep("client");
    stage.lose(client);
    stage.hear_store();
    (stage, store)
}

/// It tries to come back, and does not get in.
fn try_in_vain(stage: &mut Stage, store: &Slow) {
    store.answer(Answers::None);
    let (mut client, answers) = stage.connect("client", ProtocolVersion::V5, 600);
    assert_eq!(answers, []);
    assert_eq!(reason_of(&stage.lose_patience(&mut client)), ReasonCode::ServerUnavailable);
    store.answer(Answers::Good);
    stage.hear_store();
}

/// Time passes for those who are away.
fn expire(stage: &mut Stage) {
    let Stage { broker, shard, now } = stage;
    let mut outbox = Outbox::new();
    let turn = &mut Turn { broker, shard, now: *now, outbox: &mut outbox };
    assert!(!turn.expire(), "that is all");
    shard.end_turn(*now);
}

/// A client tried again and again while the store was silent, and was refused each time. Each time its
/// Session was to last, and its will to wait, for as long as at first.
#[test]
fn who_is_turned_away_does_not_prolong_what_is_due() {
    let (mut stage, store) = away();
    let lost_at = stage.now;
    stage.now = lost_at.plus_secs(500);
    try_in_vain(&mut stage, &store);
    stage.now = lost_at.plus_secs(601);
    let (_client, answers) = stage.keep("client");
    assert!(!is_present(&answers), "it has ended");
}

/// The Session of a client ended while it was turned away: it was put down with a time that had passed,
/// and is looked at all the same.
#[test]
fn a_session_that_ends_while_its_client_is_turned_away_is_ended() {
    let (mut stage, store) = away();
    stage.now = stage.now.plus_secs(599);
    try_in_vain(&mut stage, &store);
    assert_eq!(stage.broker.registry().len(), 1);
    expire(&mut stage);
    assert_eq!((stage.broker.registry().len(), stage.broker.timers().len()), (0, 0));
}

/// A client came back to a Session while the store was silent, and was refused. The log of who came and
/// went had it that its last connection ended twice.
#[test]
fn who_is_turned_away_has_not_left_once_more() {
    let (mut stage, store) = away();
    let ends = |stage: &mut Stage| {
        let is_end = |event: &Event| matches!(event, Event::Disconnected { .. });
        stage.shard.take_events().filter(is_end).count()
    };
    assert_eq!(ends(&mut stage), 1);
    try_in_vain(&mut stage, &store);
    assert_eq!(ends(&mut stage), 0);
}

#[test]
fn who_is_let_in_has_all_of_the_time_again() {
    let (mut stage, _store) = away();
    stage.now = stage.now.plus_secs(500);
    let (client, answers) = stage.keep("client");
    assert!(is_present(&answers));
    stage.lose(client);
    stage.hear_store();
    stage.now = stage.now.plus_secs(599);
    let (_client, answers) = stage.keep("client");
    assert!(is_present(&answers));
}

/// A client gave up waiting and tried again before the broker had given up on it: its second connection
/// had the Session from the first one, and nobody knew any more when that was to end.
#[test]
fn tries_that_overlap_do_not_prolong_what_is_due() {
    let (mut stage, store) = away();
    let lost_at = stage.now;
    store.answer(Answers::None);
    stage.now = lost_at.plus_secs(500);
    let [mut first, mut second] =
        [(); 2].map(|()| stage.connect("client", ProtocolVersion::V5, 600).0);
    assert_eq!(reason_of(&stage.lose_patience(&mut first)), ReasonCode::ServerUnavailable);
    assert_eq!(stage.poll(&mut second), [], "it has the Session, and waits for the store");
    assert_eq!(reason_of(&stage.lose_patience(&mut second)), ReasonCode::ServerUnavailable);
    store.answer(Answers::Good);
    stage.hear_store();
    stage.now = lost_at.plus_secs(601);
    let (_client, answers) = stage.keep("client");
    assert!(!is_present(&answers), "it has ended");
}

#[test]
fn the_will_of_who_is_turned_away_comes_when_it_was_due() {
    let (mut stage, store) = stage();
    let (mut watcher, _connack) = stage.connect("watcher", ProtocolVersion::V5, 0);
    stage.send(&mut watcher, &subscribe("will", QoS::AtMostOnce));
    let (mut client, connect) = actor("client", ProtocolVersion::V5, 600, stage.now);
    let Packet::Connect(mut connect) = connect else { panic!("it connects") };
    connect.will = Some(Box::new(Will {
        topic: TopicName::parse("will".into()).unwrap(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtMostOnce,
        retain: false,
        delay_interval_secs: 300,
        properties: None,
    }));
    stage.send(&mut client, &Packet::Connect(connect));
    stage.hear_store();
    assert!(!is_present(&stage.poll(&mut client)));
    let lost_at = stage.now;
    stage.lose(client);
    stage.hear_store();
    stage.now = lost_at.plus_secs(200);
    try_in_vain(&mut stage, &store);
    stage.now = lost_at.plus_secs(299);
    expire(&mut stage);
    assert_eq!(stage.poll(&mut watcher), []);
    stage.now = lost_at.plus_secs(300);
    expire(&mut stage);
    assert_eq!(payloads(&stage.poll(&mut watcher)), ["gone"]);
}
