//! The bank is exact, whatever happens to brokers: what is free, what is leased and what nobody living
//! pays for add up to the budget.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mqttzoo::cluster::bank::{Funds, decode_free, decode_lease};
use mqttzoo::cluster::identity::BootId;
use mqttzoo::cluster::topics::Record;
use mqttzoo::ports::coordination::{Reply, Request};

use super::{ClusterUnderTest, Plan};
use crate::coordination::client::Client as Tree;

const BROKERS: usize = 4;
const TOPICS: u64 = 60;
const BYTES: u64 = 64 * 1_024;

/// The books as they stand in the tree.
#[derive(Debug)]
struct Books {
    free: Funds,
    leases: BTreeMap<BootId, Funds>,
    held: BTreeMap<BootId, Funds>,
    topics: Vec<String>,
}

impl Books {
    /// Reads them; nothing when something went while it was read.
    fn read(tree: &mut Tree) -> Option<Self> {
        let free = decode_free(&data(tree, "/bank")?)?;
        let mut leases = BTreeMap::new();
        for name in children(tree, "/bank")? {
            let (boot_id, funds) = decode_lease(&data(tree, &format!("/bank/{name}"))?)?;
            leases.insert(boot_id, funds);
        }
        let (mut held, mut topics) = (BTreeMap::<_, Funds>::new(), Vec::new());
        for part in children(tree, "/topics")? {
            for name in children(tree, &format!("/topics/{part}"))? {
                let content = data(tree, &format!("/topics/{part}/{name}"))?;
                let record = Record::decode(&content).expect("nobody else writes here");
                let znode_bytes = u64::try_from(name.len() + content.len()).unwrap();
                let cost = Funds { topics: 1, znode_bytes, relay_bytes: 0 };
                let of_payer = held.entry(record.payer).or_default();
                *of_payer = of_payer.plus(cost);
                topics.push(name);
            }
        }
        Some(Self { free, leases, held, topics })
    }

    /// Whether they add up, and nobody has more than it may.
    fn balance(&self) -> bool {
        let leased = self.leases.values().fold(Funds::ZERO, |sum, funds| sum.plus(*funds));
        let orphans = self.held.iter().filter(|(payer, _)| !self.leases.contains_key(*payer));
        let orphaned = orphans.fold(Funds::ZERO, |sum, (_, funds)| sum.plus(*funds));
        let sum = self.free.plus(leased).plus(orphaned);
        let is_covered = |(payer, lease): (&BootId, &Funds)| {
            self.held.get(payer).is_none_or(|held| lease.covers(*held))
        };
        (sum.topics, sum.znode_bytes) == (TOPICS, BYTES) && self.leases.iter().all(is_covered)
    }
}

fn data(tree: &mut Tree, path: &str) -> Option<bytes::Bytes> {
    let ticket = tree.submit(Request::Get(path.to_owned()));
    let Ok(Reply::Data { data, .. }) = tree.answer(ticket) else { return None };
    Some(data)
}

fn children(tree: &mut Tree, path: &str) -> Option<Vec<String>> {
    let ticket = tree.submit(Request::List(path.to_owned()));
    let Ok(Reply::Children(names)) = tree.answer(ticket) else { return None };
    Some(names)
}

/// Waits until the books at rest balance, with a lease for each of so many brokers.
#[track_caller]
fn wait_for_balance(tree: &mut Tree, leases: usize) -> Books {
    wait_for(tree, |books| books.balance() && books.leases.len() == leases)
}

#[track_caller]
fn wait_for(tree: &mut Tree, is_so: impl Fn(&Books) -> bool) -> Books {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let books = Books::read(tree);
        match books {
            Some(books) if is_so(&books) => return books,
            other => assert!(Instant::now() < deadline, "{other:#?}"),
        }
    }
}

/// Which broker is next, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Many brokers use topics, give them values and delete them, one after the other is killed at any
/// moment and comes back; the budget is too small for all of it. The sum always adds up.
#[test]
fn the_books_balance_whoever_crashes() {
    let arguments = ["--bank-topics-max", "60", "--bank-bytes-max", "64 KiB"].map(str::to_owned);
    let plan = Plan { arguments: arguments.into(), ..Plan::mortal(BROKERS) };
    let Some(mut cluster) = ClusterUnderTest::start_as(plan) else { return };
    let mut tree = Tree::connect(cluster.zookeeper());
    let mut chance = Chance(7);
    let mut number = 0;
    for _round in 0..5 {
        for broker in 1..=BROKERS {
            let mut client = cluster.client(broker, "publisher");
            for _ in 0..8 {
                number += 1;
                let topic = format!("t/{number}");
                client.publish(&topic, "used", 1).unwrap();
                if chance.below(3) == 0 {
                    client.retain(&topic, &"v".repeat(100)).unwrap();
                }
                if chance.below(6) == 0 {
                    client.retain(&topic, "").unwrap();
                }
            }
        }
        // In the middle of whatever it does with the bank.
        let victim = usize::try_from(chance.below(BROKERS as u64)).unwrap() + 1;
        cluster.kill(victim);
        let witness = victim % BROKERS + 1;
        cluster.wait_until_declared_dead(victim, witness);
        wait_for_balance(&mut tree, BROKERS - 1);
        cluster.restart(victim);
        wait_for_balance(&mut tree, BROKERS);
    }
    let refused = |broker: usize| {
        let metrics = cluster.broker(broker).metrics();
        metrics.value("bank_refusals_total") + metrics.value("topics_refused_bank_total")
    };
    assert!((1..=BROKERS).map(refused).sum::<u64>() > 0, "160 topics do not fit into 60");
    // What the dead had paid for has made room: who comes now is registered.
    let mut client = cluster.client(1, "publisher");
    wait_for(&mut tree, |books| {
        client_publish(&cluster, books.topics.len());
        books.topics.iter().any(|name| name.starts_with("late"))
    });
    client.publish("end", "x", 1).unwrap();
    wait_for_balance(&mut tree, BROKERS);
}

/// Uses a topic that nobody has used before.
fn client_publish(cluster: &ClusterUnderTest, salt: usize) {
    let mut client = cluster.client(1, "latecomer");
    client.publish(&format!("late/{salt}"), "x", 1).unwrap();
}

/// Values whose time is over are swept by who paid for them, and what they cost is given back: the tree,
/// the readings and `/cluster` say so, and there is room for as many again.
#[test]
fn what_expires_is_swept_and_refunded() {
    let arguments = ["--bank-topics-max", "60", "--bank-bytes-max", "64 KiB"];
    let kept = ["--last-value", "s/#", "--last-value-ttl-secs", "6"];
    let arguments = arguments.iter().chain(&kept).map(|&text| text.to_owned()).collect();
    let plan = Plan { brokers: 2, arguments, ..Plan::default() };
    let Some(cluster) = ClusterUnderTest::start_as(plan) else { return };
    let mut tree = Tree::connect(cluster.zookeeper());
    fill(&cluster, &mut tree, "once");
    wait_for(&mut tree, |books| books.topics.is_empty() && books.balance());
    for broker in [1, 2] {
        let broker = cluster.broker(broker);
        for name in ["bank_used_topics", "bank_used_bytes"] {
            broker.wait_for_metric(name, |used| used == 0);
        }
        broker.wait_for_metric("topics_swept_total", |swept| swept == EACH);
        let report = broker.admin("GET", "/cluster");
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["bank"]["used"]["topics"], 0, "{}", report["bank"]);
    }
    fill(&cluster, &mut tree, "again");
}

/// Gives two thirds of all topics there may be a value, half of them at each of two brokers.
#[track_caller]
fn fill(cluster: &ClusterUnderTest, tree: &mut Tree, round: &str) {
    for broker in [1, 2] {
        let mut publisher = cluster.client(broker, "publisher");
        for number in 0..EACH {
            let topic = format!("s/{round}/{broker}/{number}");
            publisher.publish(&topic, &"v".repeat(100), 1).unwrap();
        }
    }
    wait_for(tree, |books| books.topics.len() as u64 == 2 * EACH);
    for broker in [1, 2] {
        // One that is about to be written over is paid for twice for a moment.
        cluster.broker(broker).wait_for_metric("bank_used_topics", |used| used == EACH);
    }
}

/// Values at each broker.
const EACH: u64 = 20;
