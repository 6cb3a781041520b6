//! Everything at once, in an order that a seed decides: publishers and subscribers that go on, clients
//! that wander from broker to broker, links that break, brokers that stand still and die. What was
//! acknowledged is there, once and in order, for everybody whose broker lives.
//!
//! `MQTTZOO_STORM_SEED` plays one of them again.

use std::time::{Duration, Instant};

use mqttzoo::mqtt::QoS;

use super::load::{Publisher, PublisherPlan, Subscriber, SubscriberPlan, all_go_on, finish_all};
use super::proxy::Cut;
use super::wanderers::{WANDERERS, Wanderer};
use super::{ClusterUnderTest, Plan};

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

struct Storm {
    chance: Chance,
    cluster: ClusterUnderTest,
    publishers: Vec<Publisher>,
    /// Of messages to the wanderers.
    callers: [Publisher; 2],
    /// At brokers that are never killed.
    steady: Vec<Subscriber>,
    /// With brokers that they turn to when theirs is killed.
    movers: Vec<Subscriber>,
    wanderers: [Wanderer; 3],
    deaths: u64,
}

impl Storm {
    fn start(seed: u64) -> Option<Self> {
        // Who cannot come in because of a cut is told so soon.
        let arguments = ["--auth-timeout-secs", "1"].map(str::to_owned).to_vec();
        let plan = Plan { has_network: true, arguments, ..Plan::mortal(3) };
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
        let mut wanderers = WANDERERS.map(Wanderer::new);
        for (wanderer, broker) in wanderers.iter_mut().zip(1..) {
            assert!(wanderer.wander(&cluster, broker), "there is no storm yet");
        }
        let callers =
            [(4, 1, QoS::AtLeastOnce), (5, 2, QoS::ExactlyOnce)].map(|(id, broker, qos)| {
                let topics = WANDERERS.map(Wanderer::topic).into();
                let pace = Duration::from_millis(10);
                let plan = PublisherPlan::endless(id, &[broker]);
                cluster.publish(PublisherPlan { topics, qos, pace, ..plan })
            });
        Some(Self {
            chance: Chance(seed),
            cluster,
            publishers: publishers.into(),
            steady: steady.into(),
            movers: vec![mover],
            callers,
            wanderers,
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
            all_go_on(&self.callers, 5);
            self.take();
        }
    }

    /// The wanderers take what has come, and who was thrown out knocks at some broker.
    fn take(&mut self) {
        for wanderer in &mut self.wanderers {
            wanderer.take(&self.cluster);
            if !wanderer.is_inside() {
                wanderer.wander(&self.cluster, self.chance.broker());
            }
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

    fn check(mut self) {
        let acknowledged: u64 = finish_all(self.publishers).iter().sum();
        let called: u64 = finish_all(self.callers).iter().sum();
        bring_home(&self.cluster, &mut self.wanderers);
        self.cluster.settle();
        for subscriber in &self.steady {
            assert_eq!(subscriber.lost(), 0, "its broker was never killed");
            assert!(subscriber.received() >= acknowledged);
        }
        let of_all = |count: fn(&Wanderer) -> u64| self.wanderers.iter().map(count).sum::<u64>();
        let (moves, refusals) = (of_all(|it| it.moves), of_all(|it| it.refusals));
        let losses = of_all(|it| it.losses);
        eprintln!("{called} called, {moves} moves, {refusals} refusals, {losses} Sessions lost");
        assert!(moves > 0, "no Session went from broker to broker");
        for wanderer in &self.wanderers {
            let died = "it is lost with the broker that had it, and not otherwise";
            assert!(wanderer.losses <= self.deaths, "{died}");
            let received = self.cluster.checker().with(|it| it.received(wanderer.receiver()));
            assert!(received > 0, "nothing came to {:?}", wanderer.receiver());
        }
    }
}

/// All are let in in the end, and take what they are owed.
#[track_caller]
fn bring_home(cluster: &ClusterUnderTest, wanderers: &mut [Wanderer]) {
    let deadline = Instant::now() + PATIENCE;
    for (wanderer, broker) in wanderers.iter_mut().zip(1..) {
        while !wanderer.wander(cluster, broker) {
            assert!(Instant::now() < deadline, "{:?} is not let in", wanderer.receiver());
        }
    }
    while !cluster.checker().with(|books| books.missing().is_empty()) {
        take_all(cluster, wanderers);
        if Instant::now() > deadline {
            // The books say what is missing.
            return cluster.settle();
        }
    }
    // What comes twice comes behind the rest.
    take_all(cluster, wanderers);
}

#[track_caller]
fn take_all(cluster: &ClusterUnderTest, wanderers: &mut [Wanderer]) {
    for wanderer in wanderers {
        wanderer.take(cluster);
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
/// How long a cluster may take to find its balance when the storm is over.
const PATIENCE: Duration = Duration::from_secs(40);
