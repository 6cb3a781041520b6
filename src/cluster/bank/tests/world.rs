//! Many banks on one tree: chance, faults, and the checker of the books.

mod books;
mod broker;
mod faults;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use books::{decode_node, encode_node};
use broker::Broker;

use super::super::{Bank, BankOptions, Funds, Holdings, Spending};
use crate::cluster::identity::BootId;
use crate::cluster::jitter::Jitter;
use crate::cluster::paths::BANK;
use crate::cluster::znodes::Tree;
use crate::ports::Tick;
use crate::ports::coordination::{
    Change, CoordinationError, CoordinationEvent, CreateMode, Reply, Request,
};

/// A fault of the simulated world that shows that the checker can fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Plant {
    None,
    /// Every broker gives the lease of one that ended back to the bank.
    RefundByEach,
    /// An answer that was lost is told as if the change had been made.
    LostMeansDone,
    /// The leader takes what exists for what existed before the leases were read.
    TallyWithoutReading,
}

const BUDGET: Funds = Funds { topics: 60, znode_bytes: 6_000, relay_bytes: 400 };
const CHUNK: Funds = Funds { topics: 4, znode_bytes: 400, relay_bytes: 50 };
const LOCK: &str = "/lock";
const NODES: &str = "/t";

pub(super) struct World {
    tree: Tree,
    observer: i64,
    now: Tick,
    chance: Jitter,
    brokers: Vec<Broker>,
    /// The broker that leads, as its own view has it: one that was replaced may not know yet.
    leader: usize,
    last_boot: u128,
    /// How many znodes were made.
    pub(super) last_node: u64,
    plant: Plant,
    /// Sessions that nobody uses any more, and that the ensemble has not ended yet.
    left: Vec<i64>,
    pub(super) faults: u64,
    pub(super) restored: u64,
}

impl World {
    pub(super) fn new(seed: u64, brokers: usize, plant: Plant) -> Self {
        let mut tree = Tree::new();
        let mut world = Self {
            observer: tree.open_session(),
            tree,
            now: Tick::ZERO,
            chance: Jitter::new(seed),
            brokers: Vec::new(),
            leader: 0,
            last_boot: 0,
            last_node: 0,
            plant,
            left: Vec::new(),
            faults: 0,
            restored: 0,
        };
        for name in 0..brokers {
            let broker = world.started(format!("b{name}").into());
            world.brokers.push(broker);
        }
        let session = world.brokers[0].session;
        // Somebody may have made the bank's znode, empty, before the first leader opens it.
        let paths = if seed.is_multiple_of(2) { &[LOCK, NODES, BANK][..] } else { &[LOCK, NODES] };
        for &path in paths {
            let mode = CreateMode::Persistent;
            let change = Change::Create { path: path.into(), data: Bytes::new(), mode };
            world.tree.apply(session, Request::Change(change), 0).unwrap();
        }
        world.elect(0);
        world
    }

    /// Something happens, and the books are looked at.
    pub(super) fn step(&mut self, with_faults: bool) -> Result<(), String> {
        self.now = self.now.plus_millis(self.chance.below(5));
        let broker = self.draw(self.brokers.len());
        if with_faults && self.chance.below(100) == 0 {
            self.faults += 1;
            self.fault(broker);
        } else {
            match self.chance.below(8) {
                0..=2 => self.serve(broker, false),
                3 | 4 => self.hear(broker),
                5 => self.read(broker),
                _ if with_faults => self.spend(broker),
                _ => {}
            }
        }
        self.tick(broker);
        self.audit()
    }

    /// Without faults and without spending, until nothing moves.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        while !self.left.is_empty() {
            self.end_one_left();
        }
        for broker in 0..self.brokers.len() {
            if !self.tree.is_open(self.brokers[broker].session) {
                self.renew(broker);
            }
        }
        for round in 0..400 {
            if round == 1 {
                self.elect(0);
            }
            for broker in 0..self.brokers.len() {
                self.catch_up(broker);
                self.tick(broker);
                self.audit()?;
            }
            self.now = self.now.plus_millis(200);
        }
        let (sum, books) = self.books();
        if sum == BUDGET { Ok(()) } else { Err(format!("at rest {sum} of {BUDGET}\n{books}")) }
    }

    /// A znode whose payer is gone.
    pub(super) fn leave_an_orphan(&mut self) {
        self.change_node(Change::Create {
            path: format!("{NODES}/orphan"),
            data: encode_node(BootId(u128::MAX), CHUNK),
            mode: CreateMode::Persistent,
        });
    }

    pub(super) fn end_all_nodes(&mut self) {
        for path in self.nodes() {
            self.change_node(Change::Delete { path, version: None });
        }
    }

    /// Time passes, everything that is under way arrives, and everybody is polled.
    pub(super) fn poll_all_after(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
        for broker in 0..self.brokers.len() {
            let now = self.now;
            let polled = &mut self.brokers[broker];
            polled.bank.handle_timeout(now, &mut polled.holdings);
            polled.gather_requests();
            self.catch_up(broker);
        }
    }

    pub(super) fn is_at_rest(&mut self) -> bool {
        self.books().0 == BUDGET
    }

    pub(super) fn leases_and_brokers(&mut self) -> (usize, usize) {
        (self.leases().len(), self.brokers.len())
    }

    /// Whether the first broker has so much room.
    pub(super) fn take_bytes(&mut self, znode_bytes: u64) -> bool {
        self.take(0, Funds { znode_bytes, ..Funds::ZERO })
    }

    pub(super) fn give_back_bytes(&mut self, znode_bytes: u64) {
        self.brokers[0].bank.give_back(self.now, Funds { znode_bytes, ..Funds::ZERO });
    }

    pub(super) fn room(&self) -> u64 {
        let readings = self.brokers[0].bank.readings();
        readings.lease.saturating_minus(readings.used).znode_bytes
    }

    /// Everything that is under way to or from `broker` arrives.
    fn catch_up(&mut self, broker: usize) {
        while !self.brokers[broker].requests.is_empty() {
            self.serve(broker, false);
        }
        while !self.brokers[broker].events.is_empty() {
            self.hear(broker);
        }
        while !self.brokers[broker].unread.is_empty() {
            self.read(broker);
        }
    }

    fn draw(&mut self, bound: usize) -> usize {
        usize::try_from(self.chance.below(bound as u64)).unwrap()
    }

    fn started(&mut self, name: Arc<str>) -> Broker {
        self.last_boot += 1;
        let boot_id = BootId(self.last_boot);
        let options = BankOptions {
            name: Arc::clone(&name),
            boot_id,
            budget: BUDGET,
            chunk: CHUNK,
            jitter_seed: self.chance.below(u64::MAX),
        };
        let session = self.tree.open_session();
        let mut broker = Broker {
            name,
            boot_id,
            bank: Bank::new(options),
            holdings: Holdings::default(),
            session,
            is_connected: true,
            requests: VecDeque::new(),
            events: VecDeque::from([CoordinationEvent::Connected { session, is_new: true }]),
            view: BTreeMap::new(),
            unread: VecDeque::new(),
            lagging: None,
        };
        let nodes = self.nodes();
        broker.list(&nodes);
        broker
    }

    /// The tree answers the next request of `broker`, or the connection ends around it.
    fn serve(&mut self, broker: usize, is_lost: bool) {
        let is_made = !is_lost || self.chance.below(2) == 0;
        let lags = self.chance.below(2) == 0;
        let plant = self.plant;
        let Some((ticket, request)) = self.brokers[broker].requests.pop_front() else { return };
        let session = self.brokers[broker].session;
        if !self.tree.is_open(session) {
            self.brokers[broker].requests.push_front((ticket, request));
            return self.renew(broker);
        }
        let before = (is_lost && is_made && lags).then(|| Box::new(self.tree.clone()));
        let is_read = matches!(request, Request::Get(_) | Request::List(_));
        let lagging = self.brokers[broker].lagging.take().filter(|_| is_read);
        let mut outcome = Err(CoordinationError::ConnectionLost);
        let was_multi = matches!(request, Request::All(_));
        let makes_lease = matches!(&request, Request::All(changes) if changes.iter().any(is_new));
        if is_made {
            let answer = match lagging {
                Some(mut copy) => copy.apply(session, request, 0),
                None => self.tree.apply(session, request, 0),
            };
            self.restored += u64::from(makes_lease && answer.is_ok());
            outcome = if is_lost { outcome } else { answer };
        }
        if is_lost && was_multi && plant == Plant::LostMeansDone {
            outcome = Ok(Reply::Done);
        }
        self.gather_changes();
        let broker = &mut self.brokers[broker];
        broker.lagging = before;
        broker.events.push_back(CoordinationEvent::Answered { ticket, outcome });
        if is_lost {
            broker.lose_requests();
            broker.events.push_back(CoordinationEvent::Disconnected);
            broker.events.push_back(CoordinationEvent::Connected { session, is_new: false });
        }
    }

    fn gather_changes(&mut self) {
        for broker in &mut self.brokers {
            while let Some(event) = self.tree.next_change(broker.session) {
                broker.events.push_back(event);
            }
        }
    }

    fn hear(&mut self, broker: usize) {
        let now = self.now;
        let broker = &mut self.brokers[broker];
        let Some(event) = broker.events.pop_front() else { return };
        if let CoordinationEvent::Expired = event {
            broker.bank.set_leading(now, None);
        }
        broker.bank.handle(now, &event, &mut broker.holdings);
        broker.gather_requests();
    }

    /// Reads one of the znodes that have changed.
    fn read(&mut self, broker: usize) {
        let Some((path, mark)) = self.brokers[broker].unread.pop_front() else { return };
        let found = self.look(Request::Get(path.clone())).ok();
        let found = found.map(|reply| {
            let Reply::Data { data, .. } = reply else { panic!("{reply:?}") };
            decode_node(&data)
        });
        self.brokers[broker].note(path, found, mark);
    }

    fn tick(&mut self, broker: usize) {
        let now = self.now;
        let is_careless = self.plant == Plant::TallyWithoutReading;
        let broker = &mut self.brokers[broker];
        if is_careless {
            for (_, mark) in broker.unread.drain(..) {
                broker.holdings.note_read(mark);
            }
        }
        let is_due = broker.bank.next_timeout().is_some_and(|due| due <= now);
        if is_due || broker.bank.awaits_holdings() {
            broker.bank.handle_timeout(now, &mut broker.holdings);
            broker.gather_requests();
        }
    }

    /// Makes a znode, ends one, takes one over from a payer who is gone, or sweeps one as leader.
    fn spend(&mut self, broker: usize) {
        let now = self.now;
        let session = self.brokers[broker].session;
        if !self.tree.is_open(session) || self.brokers[broker].events.iter().any(is_renewal) {
            return;
        }
        let leases = self.leases();
        let boot_id = self.brokers[broker].boot_id;
        let nodes = self.nodes();
        let path = (!nodes.is_empty()).then(|| nodes[self.draw(nodes.len())].clone());
        let found = path.map(|path| (decode_node(&self.data(&path)), path));
        let cost = Funds {
            topics: 1,
            znode_bytes: 50 + self.chance.below(200),
            relay_bytes: self.chance.below(2) * 20,
        };
        let change = match found {
            Some(((payer, held), path)) if payer == boot_id && self.chance.below(2) == 0 => {
                self.brokers[broker].bank.give_back(now, held);
                Change::Delete { path, version: None }
            }
            Some(((payer, _), path)) if !leases.contains_key(&payer) && payer != boot_id => {
                if self.chance.below(2) == 0 {
                    Change::Delete { path, version: None }
                } else if self.take(broker, cost) {
                    Change::Set { path, data: encode_node(boot_id, cost), version: None }
                } else {
                    return;
                }
            }
            _ if self.take(broker, cost) => {
                self.last_node += 1;
                let path = format!("{NODES}/{}", self.last_node);
                let data = encode_node(boot_id, cost);
                Change::Create { path, data, mode: CreateMode::Persistent }
            }
            _ => return,
        };
        self.change_node(change);
    }

    /// A znode changes, and everybody hears that it must be read.
    fn change_node(&mut self, change: Change) {
        let path = match &change {
            Change::Create { path, .. }
            | Change::Set { path, .. }
            | Change::Delete { path, .. } => path.clone(),
            Change::Check { .. } => return,
        };
        self.tree.apply(self.observer, Request::Change(change), 0).unwrap();
        for broker in &mut self.brokers {
            let mark = broker.holdings.note_change();
            broker.unread.push_back((path.clone(), mark));
        }
    }

    fn take(&mut self, broker: usize, cost: Funds) -> bool {
        let now = self.now;
        self.brokers[broker].bank.take(now, cost) == Spending::Taken
    }
}

fn is_new(change: &Change) -> bool {
    matches!(change, Change::Create { mode: CreateMode::Ephemeral, .. })
}

/// Whether a new session is about to be told of: until then the lease in mind is an old one.
fn is_renewal(event: &CoordinationEvent) -> bool {
    matches!(event, CoordinationEvent::Connected { is_new: true, .. })
}
