//! A few brokers with bank and registry on one tree, under virtual time.

mod broker;
mod looks;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

pub(super) use broker::Broker;

use super::super::{Topics, TopicsOptions, ValueKind};
use crate::cluster::bank::{Bank, BankOptions, Funds};
use crate::cluster::frame::{RetainedMessage, RetainedValue};
use crate::cluster::identity::BootId;
use crate::cluster::jitter::Jitter;
use crate::cluster::version::VersionClock;
use crate::cluster::znodes::Tree;
use crate::mqtt::{QoS, TopicName};
use crate::ports::Tick;
use crate::ports::coordination::{
    Change, CoordinationError, CoordinationEvent, CreateMode, Reply, Request,
};

/// Where the cluster clock stands when the world begins.
const EPOCH_MILLIS: u64 = 1_700_000_000_000;
const LOCK: &str = "/lock";
pub(super) const MINUTE: u64 = 60_000;

pub(super) struct World {
    pub(super) tree: Tree,
    observer: i64,
    pub(super) now: Tick,
    pub(super) brokers: Vec<Broker>,
    pub(super) leader: usize,
    budget: Funds,
    /// When topics were written, by milliseconds.
    pub(super) writes: Vec<u64>,
    last_boot: u128,
    /// Nothing gets through to this one.
    silent: Option<usize>,
}

impl World {
    pub(super) fn new(brokers: usize, budget: Funds) -> Self {
        Self::on(Tree::new(), brokers, budget)
    }

    pub(super) fn on(mut tree: Tree, brokers: usize, budget: Funds) -> Self {
        let observer = tree.open_session();
        let mode = CreateMode::Persistent;
        let lock = Change::Create { path: LOCK.into(), data: Bytes::new(), mode };
        tree.apply(observer, Request::Change(lock), 0).unwrap();
        let mut world = Self {
            tree,
            observer,
            now: Tick::ZERO,
            brokers: Vec::new(),
            leader: 0,
            budget,
            writes: Vec::new(),
            last_boot: 0,
            silent: None,
        };
        for _ in 0..brokers {
            world.start_broker();
        }
        world.elect(0);
        world.run(5_000);
        world
    }

    pub(super) fn start_broker(&mut self) -> usize {
        let broker = self.start_broker_without_clock();
        self.set_clock(broker);
        broker
    }

    /// One that has not had a reading of the clock yet.
    pub(super) fn start_broker_without_clock(&mut self) -> usize {
        let broker = self.started();
        self.brokers.push(broker);
        self.tell_members();
        self.brokers.len() - 1
    }

    pub(super) fn set_clock(&mut self, broker: usize) {
        let (now, millis) = (self.now, self.millis());
        self.brokers[broker].topics.set_clock(now, millis);
    }

    fn started(&mut self) -> Broker {
        self.last_boot += 1;
        let boot_id = BootId(self.last_boot);
        let name: Arc<str> = format!("b{}", self.last_boot).into();
        let seed = u64::try_from(self.last_boot).unwrap();
        let chunk = self.budget.zip(self.budget, |one, _| (one / 10).max(1));
        let bank = Bank::new(BankOptions {
            name: Arc::clone(&name),
            boot_id,
            budget: self.budget,
            chunk,
            jitter_seed: seed,
        });
        let topics = Topics::new(TopicsOptions::new(boot_id, seed, seed));
        let session = self.tree.open_session();
        Broker {
            boot_id,
            bank,
            topics,
            name,
            versions: VersionClock::default(),
            session,
            heard: session,
            requests: VecDeque::new(),
            events: VecDeque::from([CoordinationEvent::Connected { session, is_new: true }]),
            values: BTreeMap::new(),
            told: 0,
            fading: Vec::new(),
            unwritten: Vec::new(),
            asked: Vec::new(),
            answered: Vec::new(),
            lists: 0,
            has_no_ttl: false,
        }
    }

    pub(super) fn tell_members(&mut self) {
        let live: Vec<BootId> = self.brokers.iter().map(|broker| broker.boot_id).collect();
        for (place, broker) in self.brokers.iter_mut().enumerate() {
            broker.topics.set_members(live.clone(), place == self.leader);
        }
    }

    pub(super) fn elect(&mut self, leader: usize) {
        self.leader = leader;
        let change = Change::Set { path: LOCK.into(), data: Bytes::new(), version: None };
        let changed = self.tree.apply(self.observer, Request::Change(change), 0);
        let Ok(Reply::Changed(stat)) = changed else { panic!("the lock is there") };
        let check = Change::Check { path: LOCK.into(), version: stat.version };
        self.brokers[leader].bank.set_leading(self.now, Some(check));
        self.tell_members();
    }

    /// The process ends, and the ensemble notices at once.
    pub(super) fn crash(&mut self, broker: usize) {
        let ended = self.brokers.remove(broker);
        self.tree.expire(ended.session);
        self.gather_changes();
        self.elect(0);
    }

    pub(super) fn millis(&self) -> u64 {
        EPOCH_MILLIS + self.now.as_millis()
    }

    /// Lets time pass, and everything that is due happen.
    pub(super) fn run(&mut self, millis: u64) {
        let end = self.now.plus_millis(millis);
        loop {
            self.pump();
            let due = |broker: &Broker| {
                broker.bank.next_timeout().into_iter().chain(broker.topics.next_timeout()).min()
            };
            let heard = (0..self.brokers.len()).filter(|broker| Some(*broker) != self.silent);
            let next = heard.filter_map(|broker| due(&self.brokers[broker])).min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            self.now = self.now.plus_millis(1).max(next);
            for broker in 0..self.brokers.len() {
                if Some(broker) != self.silent {
                    self.tick(broker);
                }
            }
        }
        self.now = self.now.max(end);
    }

    /// The same, but nothing gets through to one broker, and what its watches had to tell is lost.
    pub(super) fn run_without(&mut self, silent: usize, millis: u64) {
        self.silent = Some(silent);
        self.run(millis);
        self.silent = None;
        let is_change =
            |event: &CoordinationEvent| matches!(event, CoordinationEvent::Changed { .. });
        self.brokers[silent].events.retain(|event| !is_change(event));
    }

    /// Hands over what brokers ask each other.
    fn exchange(&mut self) -> bool {
        let mut is_quiet = true;
        for asker in 0..self.brokers.len() {
            let from = self.brokers[asker].boot_id;
            for question in std::mem::take(&mut self.brokers[asker].asked) {
                is_quiet = false;
                for other in self.brokers.iter_mut().filter(|other| other.boot_id != from) {
                    other.topics.ask_digests(from, question);
                    other.drain();
                }
            }
            for (to, number, parts) in std::mem::take(&mut self.brokers[asker].answered) {
                is_quiet = false;
                for other in self.brokers.iter_mut().filter(|other| other.boot_id == to) {
                    other.topics.note_digests(number, &parts);
                    other.drain();
                }
            }
        }
        !is_quiet
    }

    /// Hands everything over until nothing moves.
    pub(super) fn pump(&mut self) {
        loop {
            let mut is_quiet = true;
            let silent = self.silent;
            for broker in (0..self.brokers.len()).filter(|one| Some(*one) != silent) {
                while self.serve(broker) {
                    is_quiet = false;
                }
                while self.hear(broker) {
                    is_quiet = false;
                }
            }
            is_quiet &= !self.exchange();
            if is_quiet {
                return;
            }
        }
    }

    /// The tree answers the next request of `broker`.
    pub(super) fn serve(&mut self, broker: usize) -> bool {
        let Some((session, ticket, request)) = self.brokers[broker].requests.pop_front() else {
            return false;
        };
        let outcome = self.apply(session, request);
        let answer = CoordinationEvent::Answered { ticket, outcome };
        self.brokers[broker].events.push_back(answer);
        true
    }

    /// The connection of `broker` ends around its next request, and another one is made.
    pub(super) fn lose(&mut self, broker: usize, is_made: bool) {
        let next = self.brokers[broker].requests.pop_front();
        if let Some((session, ticket, request)) = next {
            if is_made {
                let _ = self.apply_untold(session, request);
            }
            self.brokers[broker].lose(ticket);
        }
        let broker = &mut self.brokers[broker];
        broker.lose_all();
        // What its watches had to tell goes with the connection.
        self.tree.lose_changes(broker.session);
        let session = broker.session;
        broker.events.push_back(CoordinationEvent::Disconnected);
        broker.events.push_back(CoordinationEvent::Connected { session, is_new: false });
        self.gather_changes();
    }

    /// The session of `broker` ends and it gets another one.
    pub(super) fn renew(&mut self, broker: usize) {
        self.tree.expire(self.brokers[broker].session);
        self.gather_changes();
        let session = self.tree.open_session();
        let is_leader = broker == self.leader;
        let broker = &mut self.brokers[broker];
        broker.lose_all();
        broker.session = session;
        broker.events.push_back(CoordinationEvent::Expired);
        broker.events.push_back(CoordinationEvent::Connected { session, is_new: true });
        if is_leader {
            self.elect(self.leader);
        }
    }

    fn apply(&mut self, session: i64, request: Request) -> Result<Reply, CoordinationError> {
        let outcome = self.apply_untold(session, request);
        self.gather_changes();
        outcome
    }

    fn apply_untold(&mut self, session: i64, request: Request) -> Result<Reply, CoordinationError> {
        if is_write_of_topic(&request) {
            self.writes.push(self.now.as_millis());
        }
        let millis = i64::try_from(self.millis()).unwrap();
        self.tree.apply(session, request, millis)
    }

    pub(super) fn gather_changes(&mut self) {
        for broker in &mut self.brokers {
            while let Some(event) = self.tree.next_change(broker.session) {
                broker.events.push_back(event);
            }
        }
    }

    pub(super) fn hear(&mut self, broker: usize) -> bool {
        let now = self.now;
        let broker = &mut self.brokers[broker];
        let Some(event) = broker.events.pop_front() else { return false };
        broker.hear(now, event);
        true
    }

    pub(super) fn tick(&mut self, broker: usize) {
        self.exchange();
        let now = self.now;
        let broker = &mut self.brokers[broker];
        broker.topics.handle_timeout(now, &mut broker.bank);
        broker.bank.handle_timeout(now, broker.topics.holdings_mut());
        broker.drain();
    }

    /// The ensemble collects what has outlived its time.
    pub(super) fn collect(&mut self) -> usize {
        let outlived = self.tree.outlived(i64::try_from(self.millis()).unwrap());
        let collected = self.tree.collect(outlived);
        self.gather_changes();
        collected
    }

    pub(super) fn use_topic(&mut self, broker: usize, topic: &str) {
        let now = self.now;
        let _ = self.brokers[broker].topics.use_topic(now, topic);
    }

    /// A publish with RETAIN on `broker`; an empty payload deletes.
    pub(super) fn publish(
        &mut self,
        broker: usize,
        topic: &str,
        payload: &str,
        ttl_millis: Option<u64>,
    ) -> RetainedValue {
        self.publish_as(ValueKind::Retained, broker, topic, payload, ttl_millis)
    }

    pub(super) fn publish_as(
        &mut self,
        kind: ValueKind,
        broker: usize,
        topic: &str,
        payload: &str,
        ttl_millis: Option<u64>,
    ) -> RetainedValue {
        let (now, millis) = (self.now, self.millis());
        let broker = &mut self.brokers[broker];
        let version = broker.versions.next(millis, broker.boot_id);
        let message = (!payload.is_empty()).then(|| RetainedMessage {
            payload: Bytes::from(payload.to_owned()),
            properties: None,
            qos: QoS::AtLeastOnce,
            expires_at_millis: ttl_millis.map(|ttl| millis + ttl),
        });
        let topic_name = TopicName::try_from(topic).unwrap();
        let value = RetainedValue { topic: topic_name, version, message };
        broker.merge(value.clone());
        broker.topics.set_value(now, &value, kind);
        broker.drain();
        value
    }
}

fn is_write_of_topic(request: &Request) -> bool {
    let Request::Change(change) = request else { return false };
    let (Change::Create { path, .. } | Change::Set { path, .. } | Change::Delete { path, .. }) =
        change
    else {
        return false;
    };
    path.matches('/').count() == 3
}

pub(super) const ROOMY: Funds =
    Funds { topics: 10_000, znode_bytes: 10_000_000, relay_bytes: 1_000_000 };

/// Chance for the tests that want some.
pub(super) fn chance(seed: u64) -> Jitter {
    Jitter::new(seed)
}
