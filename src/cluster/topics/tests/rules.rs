//! Each rule on its own.

use super::super::{Content, Record};
use super::world::{MINUTE, ROOMY, World};
use crate::cluster::bank::Funds;
use crate::cluster::identity::BootId;
use crate::cluster::topics::ValueKind;
use crate::cluster::topics::writing::path_of;
use crate::cluster::version::Version;
use crate::cluster::znodes::Tree;
use crate::ports::coordination::{Change, CoordinationEvent, Request};

const HOUR: u64 = 60 * MINUTE;

fn used(world: &World, broker: usize) -> Funds {
    world.brokers[broker].bank.readings().used
}

/// Everything that was taken from the bank is there, and the other way round.
fn assert_exact(world: &mut World) {
    let sum = world.audit().unwrap();
    assert_eq!(sum, world.budget(), "the books balance");
    let held = world.held();
    for broker in 0..world.brokers.len() {
        let of_broker = held.get(&world.brokers[broker].boot_id).copied().unwrap_or_default();
        assert_eq!(used(world, broker), of_broker, "broker {broker}");
    }
}

#[test]
fn the_first_use_registers_a_topic_once_for_all() {
    let mut world = World::new(2, ROOMY);
    world.use_topic(0, "a/b");
    world.run(1_000);
    let (record, stat) = world.record("a/b").unwrap();
    assert_eq!((record.payer, record.content), (BootId(1), Content::Registration));
    let lives_until = world.millis() + 10 * MINUTE;
    assert!((lives_until - 1_000..=lives_until).contains(&record.expires_at_millis));
    assert_eq!(stat.version, 0);
    world.use_topic(1, "a/b");
    world.use_topic(0, "a/b");
    world.run(1_000);
    assert_eq!(world.writes.len(), 1, "it is known everywhere");
    assert_exact(&mut world);
}

#[test]
fn system_topics_and_long_names_route_unregistered_and_are_counted() {
    let mut world = World::new(1, ROOMY);
    world.use_topic(0, "$SYS/broker");
    world.use_topic(0, &"/".repeat(200));
    world.publish(0, "$own", "x", None);
    world.run(1_000);
    let readings = world.brokers[0].topics.readings();
    assert_eq!((readings.skipped_system, readings.skipped_long), (2, 1));
    assert_eq!((readings.known, world.writes.len()), (0, 0));
}

#[test]
fn a_value_reaches_every_broker_by_watch_and_is_told_once() {
    let mut world = World::new(3, ROOMY);
    world.publish(0, "a", "one", None);
    world.run(1_000);
    assert_eq!(world.value(1, "a").as_deref(), Some("one"));
    world.publish(2, "a", "two", None);
    world.run(1_000);
    for broker in 0..3 {
        assert_eq!(world.value(broker, "a").as_deref(), Some("two"), "broker {broker}");
    }
    let told: Vec<u64> = world.brokers.iter().map(|broker| broker.told).collect();
    assert_eq!(told, [1, 2, 1], "nobody is told of its own");
    assert_eq!(world.record("a").unwrap().0.payer, BootId(3), "the last writer pays");
    assert_exact(&mut world);
    assert_eq!(used(&world, 0), Funds::ZERO, "the one before has its room back");
}

#[test]
fn a_late_subscriber_gets_the_value_while_it_holds_and_not_after() {
    let mut world = World::new(1, ROOMY);
    world.publish(0, "a", "short", Some(MINUTE));
    world.run(MINUTE / 2);
    let late = world.start_broker();
    world.run(5_000);
    assert_eq!(world.value(late, "a").as_deref(), Some("short"));
    world.run(MINUTE / 2);
    assert_eq!(world.value(late, "a"), None);
    world.run(2 * MINUTE);
    assert_eq!(world.record("a"), None, "its payer has swept it");
    let later = world.start_broker();
    world.run(5_000);
    assert_eq!(world.brokers[later].told, 0);
    assert_exact(&mut world);
}

#[test]
fn an_expired_value_that_nobody_swept_is_not_told() {
    let mut world = World::new(2, ROOMY);
    world.publish(1, "a", "short", Some(MINUTE));
    world.run(1_000);
    world.crash(1);
    world.run(MINUTE);
    assert!(world.record("a").is_some(), "the leader gives the payer a moment");
    let late = world.start_broker();
    world.run(5_000);
    assert_eq!(world.brokers[late].told, 0);
}

/// The story: a broker came whose name was still taken by its former life. It listed the topics as soon
/// as it had a session, which was before its first reading of the clock of the cluster, and took the time
/// at which a value ends for one of its own ticks. It had that value for fifty years.
#[test]
fn who_does_not_know_the_time_is_told_no_value_and_all_of_them_then() {
    let mut world = World::new(1, ROOMY);
    world.publish(0, "short", "x", Some(MINUTE));
    world.publish(0, "long", "y", Some(HOUR));
    world.run(1_000);
    let late = world.start_broker_without_clock();
    world.run(MINUTE);
    assert_eq!(world.brokers[late].told, 0);
    world.set_clock(late);
    world.run(5_000);
    assert_eq!(world.value(late, "long").as_deref(), Some("y"));
    assert_eq!(world.brokers[late].told, 1, "the other one is over");
    assert_exact(&mut world);
}

/// Whoever is to have it must hear of it by link.
#[test]
fn a_value_that_finds_no_place_in_the_tree_is_said_to() {
    let mut world = World::new(1, Funds { topics: 1, znode_bytes: 100_000, relay_bytes: 0 });
    world.publish(0, "a", "there", None);
    world.run(1_000);
    assert!(world.brokers[0].unwritten.is_empty());
    world.publish(0, "b", "no room", None);
    world.run(5_000);
    assert_eq!(world.brokers[0].unwritten, ["b"]);
    let now = world.now;
    world.brokers[0].hear(now, CoordinationEvent::Disconnected);
    world.publish(0, "a", "later", None);
    world.run(1_000);
    assert_eq!(world.brokers[0].unwritten, ["b", "a"]);
}

/// The write budget of three brokers is a hundred a second: whoever asks for a value meanwhile would
/// be told an old one, or none.
#[test]
fn values_that_would_wait_for_their_turn_go_by_link_as_well() {
    let mut world = World::new(3, ROOMY);
    world.publish_as(ValueKind::LastValue, 0, "alone", "at once", None);
    world.run(1_000);
    assert!(world.brokers[0].unwritten.is_empty(), "its turn comes at once");
    for topic in 0..300 {
        world.publish_as(ValueKind::LastValue, 0, &format!("t{topic}"), "many", None);
    }
    let early = world.brokers[0].topics.readings().values_early;
    assert!((280..=300).contains(&early), "{early}");
    world.run(1_000);
    let told = world.brokers[0].unwritten.len();
    assert_eq!(u64::try_from(told).unwrap(), early);
    world.run(20_000);
    assert_eq!(world.value(1, "t299").as_deref(), Some("many"), "each has its znode in the end");
    assert_exact(&mut world);
}

/// The leader evicts orphans, and nobody else does: registrations that nobody living pays for, not
/// values. The room is there for others again.
#[test]
fn the_leader_evicts_registrations_of_the_dead_when_room_is_short() {
    let mut world = World::new(3, Funds { topics: 40, znode_bytes: 100_000, relay_bytes: 0 });
    world.publish(2, "value", "x", None);
    for number in 0..25 {
        world.use_topic(2, &format!("dead/{number}"));
    }
    world.run(5_000);
    let dead = world.brokers[2].boot_id;
    assert_eq!(world.held()[&dead].topics, 26);
    world.crash(2);
    world.run(MINUTE);
    let left = world.held()[&dead].topics;
    assert!((15..=20).contains(&left), "{left}: half of what there may be is no crowd");
    assert!(world.record("value").is_some());
    for number in 0..25 {
        world.use_topic(1, &format!("living/{number}"));
    }
    world.run(MINUTE);
    let living = world.brokers[1].boot_id;
    assert!(world.held()[&living].topics > 18, "{:?}", world.held());
    assert!(world.record("value").is_some());
    let evicted = [0, 1].map(|broker| world.brokers[broker].topics.readings().orphans_evicted);
    assert!(evicted[0] > 6 && evicted[1] == 0, "{evicted:?}");
    assert_exact(&mut world);
}

#[test]
fn a_deletion_is_a_tombstone_for_ten_minutes() {
    let mut world = World::new(2, ROOMY);
    world.publish(0, "a", "x", None);
    world.run(1_000);
    world.publish(1, "a", "", None);
    world.run(1_000);
    assert_eq!(world.value(0, "a"), None);
    let (record, _) = world.record("a").unwrap();
    assert_eq!(record.content, Content::Tombstone);
    world.run(9 * MINUTE);
    assert!(world.record("a").is_some());
    world.run(2 * MINUTE);
    assert_eq!(world.record("a"), None);
    assert_exact(&mut world);
}

#[test]
fn of_two_writers_the_higher_version_stays_whatever_comes_first() {
    for order in 0..16 {
        let mut world = World::new(3, ROOMY);
        let (one, other) = [(0, 1), (1, 0)][order >> 3];
        let first = world.publish(one, "a", "first", None);
        if order & 1 == 0 {
            world.run(1_000);
        }
        let second = world.publish(other, "a", "second", None);
        let by_link = [[&first, &second], [&second, &first]][order >> 1 & 1];
        if order & 4 == 0 {
            for value in by_link {
                world.brokers[2].merge(value.clone());
            }
        }
        world.run(1_000);
        for value in by_link {
            world.brokers[2].merge(value.clone());
        }
        world.run(1_000);
        let higher = if first.version > second.version { &first } else { &second };
        for broker in 0..3 {
            let version = world.brokers[broker].version("a");
            assert_eq!(version, Some(higher.version), "order {order} broker {broker}");
        }
        assert_eq!(world.record("a").unwrap().0.version, higher.version, "order {order}");
        assert_exact(&mut world);
    }
}

/// ZooKeeper's collector looks for candidates, and deletes them without looking again. A value that
/// was written in between is lost to the tree; its payer still has it, and so has every broker.
#[test]
fn what_the_collector_took_too_early_is_made_again() {
    let mut world = World::new(2, ROOMY);
    world.publish(0, "kept", "x", None);
    world.use_topic(0, "used");
    world.run(1_000);
    let paths: Vec<String> = ["kept", "used"]
        .map(|topic| super::super::path::TopicPath::of(topic).unwrap().path())
        .into();
    assert_eq!(world.tree.collect(paths), 2);
    world.gather_changes();
    world.run(1_000);
    assert_eq!(world.value(1, "kept").as_deref(), Some("x"), "a deletion removes nothing");
    assert!(world.record("kept").is_some() && world.record("used").is_some());
    assert_eq!(world.brokers[0].topics.readings().recreated, 2);
    assert_exact(&mut world);
}

#[test]
fn a_value_without_end_outlives_the_time_to_live_of_its_znode() {
    let mut world = World::new(2, ROOMY);
    world.publish(0, "a", "x", None);
    world.publish(0, "ends", "x", Some(90 * MINUTE));
    for _ in 0..6 * 60 {
        world.run(MINUTE);
        world.collect();
    }
    assert!(world.record("a").is_some());
    assert_eq!(world.record("ends"), None);
    let readings = world.brokers[0].topics.readings();
    assert_eq!((readings.refreshed, readings.recreated), (5, 0));
    assert_eq!(world.brokers[1].told, 2, "a refreshed value is no news");
    assert_exact(&mut world);
}

#[test]
fn a_registration_lives_while_it_is_used() {
    let mut world = World::new(1, ROOMY);
    for topic in ["published", "subscribed", "forgotten"] {
        world.use_topic(0, topic);
    }
    for minute in 0..60 {
        world.run(MINUTE);
        world.use_topic(0, "published");
        if world.brokers[0].fading.contains(&"subscribed".to_owned()) {
            world.use_topic(0, "subscribed");
        }
        if minute == 8 {
            assert!(world.record("forgotten").is_some());
        }
    }
    assert!(world.record("published").is_some() && world.record("subscribed").is_some());
    assert_eq!(world.record("forgotten"), None);
    assert!(world.brokers[0].fading.contains(&"forgotten".to_owned()), "it was told");
    assert_exact(&mut world);
}

#[test]
fn writes_do_not_grow_with_publishes() {
    let mut world = World::new(2, ROOMY);
    for publish in 0..10_000 {
        for topic in ["a", "b"] {
            world.publish(0, topic, &format!("{publish}"), None);
        }
        world.run(1);
    }
    world.run(1_000);
    // Two brokers share a hundred a second, through ten seconds, and a tenth of a second's worth.
    assert!(world.writes.len() <= 10 * 50 + 5 + 2, "{}", world.writes.len());
    assert_eq!(world.value(1, "a").as_deref(), Some("9999"), "the newest arrives");
    assert_eq!(world.value(1, "b").as_deref(), Some("9999"));
    assert!(world.brokers[0].topics.readings().values_coalesced > 15_000);
    assert_exact(&mut world);
}

#[test]
fn a_value_too_large_leaves_a_registration_of_its_version() {
    let mut world = World::new(2, ROOMY);
    world.publish(0, "a", "small", None);
    world.run(1_000);
    let value = world.publish(0, "a", &"x".repeat(5_000), None);
    world.run(1_000);
    let (record, _) = world.record("a").unwrap();
    assert_eq!((record.version, record.content), (value.version, Content::Registration));
    assert_eq!(world.brokers[1].told, 1, "by link only");
    world.publish(1, "a", "small again", None);
    world.run(1_000);
    assert_eq!(world.value(0, "a").as_deref(), Some("small again"));
    assert_exact(&mut world);
}

#[test]
fn without_room_old_registrations_go_before_values() {
    let budget = Funds { topics: 10, znode_bytes: 100_000, relay_bytes: 0 };
    let mut world = World::new(1, budget);
    for topic in 0..10 {
        world.use_topic(0, &format!("t{topic}"));
        world.run(1_000);
    }
    world.use_topic(0, "eleventh");
    world.run(3_000);
    let readings = world.brokers[0].topics.readings();
    assert_eq!((readings.refused_bank, readings.evicted), (1, 0), "all are too young to go");
    // None of the ten is used again but the first.
    world.run(2 * MINUTE);
    world.publish(0, "value", "x", None);
    world.use_topic(0, "t0");
    world.run(3_000);
    world.publish(0, "another", "x", None);
    world.use_topic(0, "t0");
    world.run(3_000);
    assert!(world.record("value").is_some() && world.record("another").is_some());
    assert!(world.record("t0").is_some(), "used of late");
    assert_eq!((world.record("t1"), world.record("t2")), (None, None), "the oldest went");
    assert_eq!(world.brokers[0].bank.readings().evictions, 2);
    assert_eq!(world.brokers[0].name(), "b1");
    assert_exact(&mut world);
}

#[test]
fn a_value_that_finds_no_room_goes_by_link_only_and_is_counted() {
    let budget = Funds { topics: 2, znode_bytes: 100_000, relay_bytes: 0 };
    let mut world = World::new(1, budget);
    for topic in ["a", "b", "c"] {
        world.publish(0, topic, "x", None);
    }
    world.run(10_000);
    assert_eq!(world.brokers[0].topics.readings().values_refused, 1);
    assert_eq!(world.held()[&BootId(1)].topics, 2);
    assert_exact(&mut world);
}

#[test]
fn what_a_dead_broker_left_is_swept_by_the_leader_when_it_has_expired() {
    let mut world = World::new(3, ROOMY);
    world.publish(2, "short", "x", Some(5 * MINUTE));
    world.publish(2, "long", "x", None);
    world.use_topic(2, "used");
    world.run(1_000);
    world.crash(2);
    world.run(4 * MINUTE);
    assert!(world.record("short").is_some() && world.record("used").is_some());
    assert_exact(&mut world);
    world.run(10 * MINUTE);
    assert_eq!((world.record("short"), world.record("used")), (None, None));
    assert!(world.record("long").is_some(), "a value without end stays until it is collected");
    assert_exact(&mut world);
    world.run(2 * HOUR);
    world.collect();
    world.run(5_000);
    assert_eq!(world.record("long"), None);
    assert_eq!(world.value(0, "long").as_deref(), Some("x"), "every broker still has it");
    assert_exact(&mut world);
}

#[test]
fn a_lost_answer_is_asked_for_again_and_nothing_is_paid_twice() {
    for is_made in [false, true] {
        let mut world = World::new(2, ROOMY);
        world.use_topic(0, "first");
        world.run(1_000);
        for (topic, payload) in [("new", "x"), ("first", "y"), ("new", "")] {
            world.publish(0, topic, payload, None);
            world.run(100);
            world.publish(0, topic, &format!("{payload}{payload}"), None);
            world.tick(0);
            world.lose(0, is_made);
            world.run(2_000);
        }
        let readings = world.brokers[0].topics.readings();
        assert_eq!(readings.lost, 3, "made: {is_made}");
        assert_eq!(world.value(1, "first").as_deref(), Some("yy"));
        assert_eq!(world.value(1, "new"), None);
        assert_exact(&mut world);
    }
}

/// The story: a creation was made and its answer lost, so it was repeated, and failed because the
/// znode was there. Until that was read, the registry believed that nothing had come of it, gave the
/// room back, and spent it again: more existed than the lease allowed. Since then what a write came
/// to is uncertain until a read that was sent after it has been answered.
#[test]
fn what_may_exist_is_paid_for_at_every_moment() {
    let mut world = World::new(2, ROOMY);
    world.use_topic(0, "first");
    world.run(1_000);
    for topic in ["a", "b", "c"] {
        world.publish(0, topic, "x", None);
        world.tick(0);
        world.lose(0, true);
        let repeat_at = world.now.plus_millis(200);
        while world.now < repeat_at {
            world.now = world.now.plus_millis(10);
            world.tick(0);
            while world.serve(0) || world.hear(0) {
                let held = world.held()[&BootId(1)];
                assert!(used(&world, 0).covers(held), "{topic}: {held}");
            }
        }
    }
    let conflicts = world.brokers[0].topics.readings().conflicts;
    assert_eq!(conflicts, 3, "nothing is tried again before it is known");
    world.run(1_000);
    assert_exact(&mut world);
}

/// The story: a broker lost its session, and with it the lease that paid for its topics. One of them was
/// collected meanwhile and made again by another broker, with the version that every znode begins with. The
/// first broker wrote what it had, as if its znode was still there, and so took over what it had no lease
/// for.
#[test]
fn nothing_is_written_without_a_lease() {
    let mut world = World::new(2, ROOMY);
    world.elect(1);
    world.publish(0, "a", "x", None);
    world.run(1_000);
    world.renew(0);
    let (session, path) = (world.brokers[1].session, path_of("a"));
    let delete = Change::Delete { path, version: None };
    world.tree.apply(session, Request::Change(delete), 0).unwrap();
    world.gather_changes();
    world.run_without(0, 100);
    world.publish(1, "a", "y", None);
    world.run_without(0, 1_000);
    while world.hear(0) {}
    world.publish(0, "a", "z", None);
    world.tick(0);
    while world.serve(0) {
        world.audit().unwrap();
    }
    world.run(5_000);
    assert_eq!(world.value(1, "a").as_deref(), Some("z"));
    assert_exact(&mut world);
}

#[test]
fn a_record_that_nobody_can_read_is_let_alone() {
    use crate::ports::coordination::{Change, CreateMode, Request};
    let mut world = World::new(1, ROOMY);
    let path = super::super::path::TopicPath::of("a").unwrap().path();
    let data = bytes::Bytes::from_static(b"\x02of the future");
    let create =
        Change::Create { path: path.clone(), data: data.clone(), mode: CreateMode::Persistent };
    world.look(Request::Change(create)).unwrap();
    world.gather_changes();
    world.run(1_000);
    world.publish(0, "a", "x", None);
    world.use_topic(0, "a");
    world.run(MINUTE);
    assert_eq!(world.brokers[0].topics.readings().unreadable, 1);
    assert!(world.writes.is_empty());
}

#[test]
fn an_ensemble_without_ttl_nodes_is_told_of() {
    let mut world = World::on(Tree::without_ttl(), 1, ROOMY);
    world.use_topic(0, "a");
    world.use_topic(0, "b");
    world.run(MINUTE);
    assert!(world.brokers[0].has_no_ttl);
    assert_eq!(world.writes.len(), 2, "those that were under way, and no more");
}

#[test]
fn a_higher_version_is_never_overwritten() {
    let mut world = World::new(1, ROOMY);
    world.publish(0, "a", "mine", None);
    world.run(1_000);
    // A broker whose clock is far ahead, and that is gone.
    let (mut record, _): (Record, _) = world.record("a").unwrap();
    record.version = Version { time: u64::MAX - 1_000, boot_id: BootId(99) };
    record.payer = BootId(99);
    let path = super::super::path::TopicPath::of("a").unwrap().path();
    let change =
        crate::ports::coordination::Change::Set { path, data: record.encode(), version: None };
    world.look(crate::ports::coordination::Request::Change(change)).unwrap();
    world.gather_changes();
    world.run(1_000);
    assert_eq!(world.record("a").unwrap().0.version, record.version);
    let value = world.publish(0, "a", "above", None);
    assert!(value.version > record.version, "versions are above all that were seen");
    world.run(1_000);
    assert_eq!(world.record("a").unwrap().0.version, value.version);
}
