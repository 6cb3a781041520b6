//! Chance and faults: whatever happens, the books hold, and in the end everybody agrees.

use super::super::Content;
use super::world::{MINUTE, World, chance};
use crate::cluster::bank::Funds;
use crate::cluster::jitter::Jitter;
use crate::cluster::version::Version;

const BUDGET: Funds = Funds { topics: 30, znode_bytes: 6_000, relay_bytes: 0 };
const TOPICS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

struct Play {
    world: World,
    chance: Jitter,
    faults: u64,
}

#[test]
fn whatever_happens_the_books_hold_and_in_the_end_everybody_agrees() {
    let mut lost = 0;
    for seed in 0..25 {
        let mut play = Play { world: World::new(3, BUDGET), chance: chance(seed), faults: 0 };
        let mut seen = 0;
        for step in 0..1_500 {
            play.step();
            // What does not change the tree does not change the books.
            if std::mem::replace(&mut seen, play.world.tree.zxid()) != play.world.tree.zxid() {
                let audit = play.world.audit();
                audit.unwrap_or_else(|fault| panic!("seed {seed} step {step}: {fault}"));
            }
        }
        assert!(play.faults > 10, "seed {seed}: little went wrong");
        play.settle();
        play.check(seed);
        lost += play.world.brokers[0].topics.readings().lost;
    }
    assert!(lost > 20, "few answers were lost");
}

impl Play {
    fn step(&mut self) {
        let broker = self.draw(self.world.brokers.len());
        let topic = TOPICS[self.draw(TOPICS.len())];
        match self.chance.below(40) {
            0 => self.fault(broker),
            1..=3 => {
                let payload = ["", "x", "a longer payload"][self.draw(3)];
                let ttl = [None, Some(MINUTE)][self.draw(2)];
                self.world.publish(broker, topic, payload, ttl);
            }
            4 | 5 => self.world.use_topic(broker, &format!("used/{topic}")),
            6..=20 => {
                self.world.serve(broker);
            }
            21..=35 => {
                self.world.hear(broker);
            }
            _ => {
                let millis = [1, 10, 100, 1_000][self.draw(4)];
                self.world.now = self.world.now.plus_millis(self.chance.below(millis));
                self.world.tick(broker);
            }
        }
    }

    fn fault(&mut self, broker: usize) {
        self.faults += 1;
        match self.chance.below(10) {
            0..=3 => self.world.lose(broker, true),
            4 | 5 => self.world.lose(broker, false),
            6 => self.world.renew(broker),
            7 if self.world.brokers.len() > 2 => {
                self.world.crash(broker);
                self.world.start_broker();
            }
            7 | 8 => self.collect_too_early(),
            _ => self.world.elect(broker),
        }
    }

    /// The collector takes znodes that were refreshed a moment ago.
    fn collect_too_early(&mut self) {
        let paths = TOPICS.map(|topic| super::super::path::TopicPath::of(topic).unwrap().path());
        let taken = paths.into_iter().filter(|_| self.chance.below(3) == 0).collect();
        self.world.tree.collect(taken);
        self.world.gather_changes();
    }

    fn settle(&mut self) {
        self.world.elect(0);
        self.world.run(20_000);
    }

    /// Everybody has what the tree has, no less, and everything is paid for once.
    fn check(&mut self, seed: u64) {
        let sum = self.world.audit().unwrap();
        assert_eq!(sum, BUDGET, "seed {seed}: at rest the books balance");
        let held = self.world.held();
        for broker in &self.world.brokers {
            let of_broker = held.get(&broker.boot_id).copied().unwrap_or_default();
            let readings = broker.bank.readings();
            assert_eq!(readings.used, of_broker, "seed {seed}: {} pays", broker.name());
        }
        for topic in TOPICS {
            let Some((record, _)) = self.world.record(topic) else { continue };
            if record.expires_at_millis <= self.world.millis() {
                continue;
            }
            for broker in 0..self.world.brokers.len() {
                self.check_value(seed, topic, &record.content, record.version, broker);
            }
        }
    }

    fn check_value(
        &self,
        seed: u64,
        topic: &str,
        content: &Content,
        version: Version,
        broker: usize,
    ) {
        let known = self.world.brokers[broker].version(topic);
        assert!(known >= Some(version), "seed {seed}: {topic} at {broker}: {known:?} {version:?}");
        let Content::Value(_, message) = content else { return };
        if known == Some(version) {
            let payload = std::str::from_utf8(&message.payload).unwrap();
            let value = self.world.value(broker, topic);
            assert_eq!(value.as_deref(), Some(payload), "seed {seed}: {topic} at {broker}");
        }
    }

    fn draw(&mut self, bound: usize) -> usize {
        usize::try_from(self.chance.below(bound as u64)).unwrap()
    }
}
