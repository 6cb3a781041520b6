//! Everything at once, in an order that a seed decides: publishers and subscribers that go on, clients
//! that wander from broker to broker, links that break, brokers that stand still and die. What was
//! acknowledged is there, once and in order, for everybody whose broker lives.
//!
//! `MQTTZOO_STORM_SEED` plays one of them again.

use mqttzoo::mqtt::QoS;

use super::load::{Publisher, PublisherPlan, Subscriber, SubscriberPlan, all_go_on, finish_all};
use super::proxy::Cut;
use super::{ClusterUnderTest, Plan};
use crate::conformance::{Client, Connect, Version};

/// Numbers that follow from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    /// One of the brokers.
    fn broker(&mut self) -> usize {
        1 + self.below(BROKERS)
    }
}

/// A client whose Session is kept and goes with it from broker to broker.
struct Wanderer {
    name: String,
    client: Option<Client>,
}

impl Wanderer {
    /// Its newest connection takes the Session over, wherever the former one is.
    fn wander(&mut self, cluster: &ClusterUnderTest, broker: usize) {
        let s = cluster.stage(broker, Version::V5);
        let connect = Connect::new(Version::V5, &self.name).kept();
        // It may not be let in while its Session is on the way, or its coordinator is in doubt.
        let Ok(mut client) = s.enter(&connect) else { return };
        let _answer = client.subscribe(&format!("wanderers/{}", self.name), 1);
        self.client = Some(client);
    }
}

struct Storm {
    chance: Chance,
    cluster: ClusterUnderTest,
    publishers: Vec<Publisher>,
    /// At brokers that are never killed.
    steady: Vec<Subscriber>,
    /// With brokers that they turn to when theirs is killed.
    movers: Vec<Subscriber>,
    wanderers: Vec<Wanderer>,
    deaths: u64,
}

impl Storm {
    fn start(seed: u64) -> Option<Self> {
        // Who cannot come in because of a cut is told so soon.
        let arguments = ["--auth-timeout-secs", "1"].map(str::to_owned).to_vec();
        let plan = Plan { timeout_secs: 2, has_network: true, arguments, ..Plan::default() };
        let cluster = ClusterUnderTest::start_as(plan)?;
        let steady = [("one", 1, QoS::AtLeastOnce), ("two", 2, QoS::ExactlyOnce)].map(
            |(name, broker, qos)| cluster.subscribe(SubscriberPlan::to_all(name, broker, qos)),
        );
        let mover = SubscriberPlan::to_all("three", MORTAL, QoS::AtLeastOnce);
        let mover = cluster.subscribe(SubscriberPlan { brokers: vec![MORTAL, 1], ..mover });
        let publishers = [
            (1, vec![1], QoS::AtLeastOnce),
            (2, vec![2], QoS::ExactlyOnce),
            (3, vec![3, 2], QoS::AtLeastOnce),
        ]
        .map(|(id, brokers, qos)| {
            cluster.publish(PublisherPlan { qos, ..PublisherPlan::endless(id, &brokers) })
        });
        let wanderers =
            (0..3).map(|number| Wanderer { name: format!("wanderer{number}"), client: None });
        Some(Self {
            chance: Chance(seed),
            cluster,
            publishers: publishers.into(),
            steady: steady.into(),
            movers: vec![mover],
            wanderers: wanderers.collect(),
            deaths: 0,
        })
    }

    fn play(&mut self) {
        all_go_on(&self.publishers, 20);
        for step in 0..STEPS {
            // Once in each storm a broker dies, at a moment of its own.
            if step == STEPS / 2 {
                self.kill();
            }
            match self.chance.below(8) {
                0 | 1 => self.tear(Cut::Closed),
                2 => self.tear(Cut::Silent),
                3 => self.stand_still(),
                _ => self.wander(),
            }
            all_go_on(&self.publishers, 10);
        }
    }

    fn wander(&mut self) {
        let (who, broker) = (self.chance.below(self.wanderers.len()), self.chance.broker());
        let wanderer = self.wanderers.get_mut(who).unwrap();
        wanderer.wander(&self.cluster, broker);
    }

    fn tear(&mut self, cut: Cut) {
        let one = self.chance.broker();
        let other = one % BROKERS + 1;
        self.cluster.cut(one, other, cut);
        self.wander();
        // As long as it takes the third one to answer so often, to a client that it lets in.
        let mut witness = self.cluster.client(6 - one - other, "witness");
        for _ in 0..self.chance.below(100) {
            witness.ping().unwrap();
        }
        self.cluster.heal(one, other);
    }

    fn stand_still(&mut self) {
        let broker = self.chance.broker();
        self.cluster.pause(broker);
        // As long as it takes another one to answer: no time for anybody to be declared dead.
        self.cluster.readiness(broker % BROKERS + 1).expect("another broker answers");
        self.cluster.resume(broker);
    }

    fn kill(&mut self) {
        self.cluster.kill(MORTAL);
        self.deaths += 1;
        for mover in &self.movers {
            mover.wait_for_return(self.deaths);
        }
        self.cluster.restart(MORTAL);
    }

    fn check(self) {
        let acknowledged: u64 = finish_all(self.publishers).iter().sum();
        self.cluster.settle();
        for subscriber in &self.steady {
            assert_eq!(subscriber.lost(), 0, "its broker was never killed");
            assert!(subscriber.received() >= acknowledged);
        }
    }
}

#[track_caller]
fn check_storm(seed: u64) {
    let seed = match std::env::var("MQTTZOO_STORM_SEED") {
        Ok(text) => text.parse().expect("a seed is a number"),
        Err(_) => seed,
    };
    eprintln!("MQTTZOO_STORM_SEED={seed}");
    let Some(mut storm) = Storm::start(seed) else { return };
    storm.play();
    storm.check();
}

#[test]
fn a_storm_loses_and_doubles_nothing_that_was_acknowledged() {
    check_storm(1);
}

#[test]
fn another_storm_loses_and_doubles_nothing_that_was_acknowledged() {
    check_storm(2);
}

const BROKERS: usize = 3;
/// The one that is killed.
const MORTAL: usize = 3;
const STEPS: usize = 20;
