//! A million distinct topics must not hurt the tree.

use super::world::{MINUTE, World};
use crate::cluster::bank::Funds;

const BUDGET: Funds = Funds { topics: 5_000, znode_bytes: 2_000_000, relay_bytes: 0 };
const TOPICS: u64 = 1_000_000;
const A_SECOND: u64 = 5_000;

#[test]
fn a_million_topics_keep_within_bank_and_pace_and_the_counters_say_so() {
    let mut world = World::new(2, BUDGET);
    for topic in 0..TOPICS {
        let broker = usize::try_from(topic % 2).unwrap();
        world.use_topic(broker, &format!("device/{topic}/state"));
        if topic % (A_SECOND / 10) == 0 {
            world.run(100);
        }
        if topic % (A_SECOND * 20) == 0 {
            world.audit().unwrap();
        }
    }
    world.run(4 * MINUTE);
    // Two brokers, a tenth of a second's worth each at once.
    assert!(world.busiest_second() <= 100 + 10 + 2, "{}", world.busiest_second());
    assert!(world.writes.len() <= 440 * 100 + 20, "{}", world.writes.len());
    let sum = world.audit().unwrap();
    assert_eq!(sum, BUDGET, "the books balance");
    let held: u64 = world.held().values().map(|held| held.topics).sum();
    assert!(held > BUDGET.topics / 2 && held <= BUDGET.topics, "{held}");
    let (mut told, mut refused, mut registered, mut evicted) = (0, 0, 0, 0);
    for broker in &world.brokers {
        let readings = broker.topics.readings();
        assert_eq!(readings.backlog, 0, "everybody had a turn");
        assert_eq!(readings.untracked + readings.failed + readings.unreadable, 0);
        assert!(readings.refused_rate > 0 && readings.refused_bank > 0, "{readings:?}");
        refused += readings.refused_rate + readings.refused_bank + readings.refused_full;
        registered += readings.registered;
        evicted += readings.evicted;
        told += readings.known;
        assert!(broker.bank.readings().refusals > 0);
    }
    assert_eq!(registered + refused, TOPICS, "each is registered, or counted as refused");
    assert!(registered >= held && registered - evicted == held, "{registered} {evicted} {held}");
    assert_eq!(told, 2 * held, "both know what there is, and nothing else");
}
