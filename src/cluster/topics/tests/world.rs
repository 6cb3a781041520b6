//! A few brokers with bank and registry on one tree, under virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::super::{Record, Topics, TopicsOptions, TopicsOutput, ValueKind};
use crate::cluster::bank::{Bank, BankOptions, BankOutput, Funds, decode_free, decode_lease};
use crate::cluster::frame::{DigestQuestion, PartDigest, RetainedMessage, RetainedValue};
use crate::cluster::identity::BootId;
use crate::cluster::jitter::Jitter;
use crate::cluster::paths::{BANK, TOPICS};
use crate::cluster::tickets::Owner;
use crate::cluster::topics::path::TopicPath;
use crate::cluster::version::{Version, VersionClock};
use crate::cluster::znodes::Tree;
use crate::mqtt::{QoS, TopicName};
use crate::ports::Tick;
use crate::ports::coordination::{
    Change, CoordinationError, CoordinationEvent, CreateMode, Reply, Request, Stat, Ticket,
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

pub(super) struct Broker {
    pub(super) boot_id: BootId,
    pub(super) bank: Bank,
    pub(super) topics: Topics,
    name: Arc<str>,
    versions: VersionClock,
    pub(super) session: i64,
    /// The session it has heard of. What it submits is not carried over to a later one.
    heard: i64,
    pub(super) requests: VecDeque<(i64, Ticket, Request)>,
    pub(super) events: VecDeque<CoordinationEvent>,
    /// The broker's table of values: what it merged.
    pub(super) values: BTreeMap<String, RetainedValue>,
    pub(super) told: u64,
    pub(super) fading: Vec<String>,
    /// Told to have found no place in the tree.
    pub(super) unwritten: Vec<String>,
    asked: Vec<DigestQuestion>,
    answered: Vec<(BootId, u64, Vec<PartDigest>)>,
    /// Parts it has asked the tree for.
    pub(super) lists: usize,
    pub(super) has_no_ttl: bool,
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
        let broker = self.started();
        self.brokers.push(broker);
        self.tell_members();
        self.brokers.len() - 1
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
        let mut topics = Topics::new(TopicsOptions::new(boot_id, seed, seed));
        topics.set_clock(self.now, EPOCH_MILLIS + self.now.as_millis());
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
        broker.topics.set_value(now, &value, ValueKind::Retained);
        broker.drain();
        value
    }

    /// What a subscriber that comes now to `broker` gets for `topic`.
    pub(super) fn value(&self, broker: usize, topic: &str) -> Option<String> {
        let message = self.brokers[broker].values.get(topic)?.message.as_ref()?;
        let holds = message.expires_at_millis.is_none_or(|at| at > self.millis());
        holds.then(|| String::from_utf8(message.payload.to_vec()).unwrap())
    }

    /// What the znode of `topic` holds.
    pub(super) fn record(&mut self, topic: &str) -> Option<(Record, Stat)> {
        let path = TopicPath::of(topic).unwrap().path();
        match self.look(Request::Get(path)) {
            Ok(Reply::Data { data, stat }) => Some((Record::decode(&data).unwrap(), stat)),
            _ => None,
        }
    }

    pub(super) fn look(&mut self, request: Request) -> Result<Reply, CoordinationError> {
        self.tree.apply(self.observer, request, 0)
    }

    pub(super) fn children(&mut self, path: &str) -> Vec<String> {
        match self.look(Request::List(path.into())) {
            Ok(Reply::Children(names)) => names,
            _ => Vec::new(),
        }
    }

    /// The promises of the bank, from the tree alone: the sum, and what each has under its lease.
    pub(super) fn audit(&mut self) -> Result<Funds, String> {
        let Ok(Reply::Data { data, .. }) = self.look(Request::Get(BANK.into())) else {
            return Ok(Funds::ZERO);
        };
        let free = decode_free(&data).unwrap();
        let mut leases = BTreeMap::new();
        for name in self.children(BANK) {
            if let Ok(Reply::Data { data, .. }) = self.look(Request::Get(format!("{BANK}/{name}")))
            {
                leases.extend(decode_lease(&data));
            }
        }
        let mut sum = leases.values().fold(free, |sum, &lease| sum.plus(lease));
        for (payer, held) in self.held() {
            match leases.get(&payer) {
                Some(lease) if !lease.covers(held) => {
                    return Err(format!("{payer:?} has {held} under {lease}"));
                }
                Some(_) => {}
                None => sum = sum.plus(held),
            }
        }
        if self.budget.covers(sum) { Ok(sum) } else { Err(format!("{sum} of {}", self.budget)) }
    }

    pub(super) fn held(&mut self) -> BTreeMap<BootId, Funds> {
        let mut held = BTreeMap::new();
        for part in self.children(TOPICS) {
            for name in self.children(&format!("{TOPICS}/{part}")) {
                let path = format!("{TOPICS}/{part}/{name}");
                let Ok(Reply::Data { data, .. }) = self.look(Request::Get(path)) else { continue };
                let payer = Record::decode(&data).unwrap().payer;
                let bytes = u64::try_from(name.len() + data.len()).unwrap();
                let sum: &mut Funds = held.entry(payer).or_default();
                *sum = sum.plus(Funds { topics: 1, znode_bytes: bytes, relay_bytes: 0 });
            }
        }
        held
    }

    pub(super) fn budget(&self) -> Funds {
        self.budget
    }

    /// The most writes in any second.
    pub(super) fn busiest_second(&self) -> usize {
        let mut start = 0;
        let mut most = 0;
        for (end, at) in self.writes.iter().enumerate() {
            while self.writes[start] + 1_000 <= *at {
                start += 1;
            }
            most = most.max(end + 1 - start);
        }
        most
    }
}

impl Broker {
    pub(super) fn hear(&mut self, now: Tick, event: CoordinationEvent) {
        if let CoordinationEvent::Connected { session, .. } = event {
            self.heard = session;
        }
        if let CoordinationEvent::Answered { ticket, .. } = &event {
            match Owner::of(*ticket).unwrap() {
                Owner::Bank => self.bank.handle(now, &event, self.topics.holdings_mut()),
                Owner::Topics => self.topics.handle(now, event, &mut self.bank),
                owner @ (Owner::Membership | Owner::Clock | Owner::Relay) => {
                    panic!("{owner:?} is not here")
                }
            }
        } else {
            self.bank.handle(now, &event, self.topics.holdings_mut());
            self.topics.handle(now, event, &mut self.bank);
        }
        if self.bank.awaits_holdings() {
            self.bank.handle_timeout(now, self.topics.holdings_mut());
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(BankOutput::Submit(ticket, request)) = self.bank.poll_output() {
            self.requests.push_back((self.heard, ticket, request));
        }
        while let Some(output) = self.topics.poll_output() {
            match output {
                TopicsOutput::Submit(ticket, request) => {
                    let path = if let Request::List(path) = &request { path } else { "" };
                    self.lists += usize::from(path.matches('/').count() == 2);
                    self.requests.push_back((self.heard, ticket, request));
                }
                TopicsOutput::Value(value, _) => {
                    self.told += 1;
                    self.merge(value);
                }
                TopicsOutput::Fading(topic) => self.fading.push(topic.as_str().to_owned()),
                TopicsOutput::NoTtl => self.has_no_ttl = true,
                TopicsOutput::Compare(question) => self.asked.push(question),
                TopicsOutput::Digests(to, number, parts) => {
                    self.answered.push((to, number, parts));
                }
                TopicsOutput::Unwritten(topic) => self.unwritten.push(topic.to_string()),
            }
        }
    }

    /// The rule of the broker: the higher version wins.
    pub(super) fn merge(&mut self, value: RetainedValue) {
        assert!(self.versions.note(value.version, None));
        let before = self.values.get(value.topic.as_str());
        if before.is_none_or(|before| before.version < value.version) {
            self.values.insert(value.topic.as_str().to_owned(), value);
        }
    }

    pub(super) fn version(&self, topic: &str) -> Option<Version> {
        Some(self.values.get(topic)?.version)
    }

    fn lose(&mut self, ticket: Ticket) {
        let outcome = Err(CoordinationError::ConnectionLost);
        self.events.push_back(CoordinationEvent::Answered { ticket, outcome });
    }

    fn lose_all(&mut self) {
        for (_, ticket, _) in std::mem::take(&mut self.requests) {
            self.lose(ticket);
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
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
