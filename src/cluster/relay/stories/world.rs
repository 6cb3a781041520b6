//! A few brokers, the tree between them, and links that can be cut.

mod traffic;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use bytes::Bytes;

use crate::cluster::bank::Holdings;
use crate::cluster::frame::{Cursors, StreamKind};
use crate::cluster::identity::{BootId, Member, MemberState, WireVersions};
use crate::cluster::inbound::Inbound;
use crate::cluster::lane::{Carrier, Lane, LaneOptions};
use crate::cluster::paths::{LEADER, RELAY};
use crate::cluster::relay::{Relay, RelayOptions, RelayOutput};
use crate::cluster::wire::{Batch, BatchHeader, FRAME_BYTES_MAX};
use crate::cluster::znodes::Tree;
use crate::ports::clock::Tick;
use crate::ports::coordination::{
    Change, CoordinationError, CoordinationEvent, CreateMode, Reply, Request, Ticket,
};

/// T, in milliseconds.
pub(super) const T: u64 = 6_000;

/// How a pair of links is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LinkState {
    Up,
    Down,
    /// It stands as far as both ends know; nothing arrives.
    Silent,
}

pub(super) struct World {
    tree: Tree,
    now: Tick,
    nodes: Vec<Node>,
    links: BTreeMap<(usize, usize), LinkState>,
    /// What each was offered for each, by number.
    offered: BTreeMap<(usize, usize), Vec<u64>>,
    next: u64,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Node {
    boot_id: BootId,
    relay: Relay,
    session: i64,
    is_connected: bool,
    is_paused: bool,
    is_poor: bool,
    is_overdrawn: bool,
    answers: VecDeque<(Ticket, Result<Reply, CoordinationError>)>,
    lanes: BTreeMap<usize, Arc<Lane>>,
    inbound: BTreeMap<usize, Inbound>,
    got: BTreeMap<usize, Vec<u64>>,
    controls: BTreeMap<usize, u64>,
    losses: BTreeMap<usize, u64>,
}

/// Remembers that it was rung.
#[derive(Default)]
pub(super) struct Bell(AtomicBool);

impl Bell {
    pub(super) fn is_rung(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) fn bell() -> (Arc<Bell>, Waker) {
    let bell = Arc::new(Bell::default());
    (Arc::clone(&bell), Waker::from(bell))
}

pub(super) fn boot_id(node: usize) -> BootId {
    BootId(1 + node as u128)
}

fn name(node: usize) -> Arc<str> {
    Arc::from(format!("b{node}"))
}

impl World {
    /// Everything goes through the tree.
    pub(super) fn always(count: usize) -> Self {
        Self::new(count, true)
    }

    /// All links stand.
    pub(super) fn with_links(count: usize) -> Self {
        let mut world = Self::new(count, false);
        for (one, other) in world.pairs() {
            world.set_link(one, other, LinkState::Up);
        }
        world
    }

    fn new(count: usize, is_always: bool) -> Self {
        let mut world = Self {
            tree: Tree::new(),
            now: Tick::from_millis(1_000),
            nodes: Vec::new(),
            links: BTreeMap::new(),
            offered: BTreeMap::new(),
            next: 0,
        };
        let founder = world.tree.open_session();
        for path in [RELAY, LEADER] {
            let (path, mode) = (path.to_owned(), CreateMode::Persistent);
            let create = Change::Create { path, data: Bytes::new(), mode };
            world.tree.apply(founder, Request::Change(create), 0).unwrap();
        }
        for number in 0..count {
            let node = world.node(number, is_always);
            world.nodes.push(node);
        }
        for (one, other) in world.pairs() {
            world.links.insert((one, other), LinkState::Down);
            world.meet(one, other);
        }
        (0..count).for_each(|node| world.connect(node, true));
        world
    }

    fn node(&self, number: usize, is_always: bool) -> Node {
        let options = RelayOptions {
            name: name(number),
            boot_id: boot_id(number),
            session_timeout_millis: T,
            message_bytes_max: 1024 * 1024,
            is_always,
        };
        let mut relay = Relay::new(options, Waker::noop().clone());
        relay.begin_reading(self.now);
        Node {
            boot_id: boot_id(number),
            relay,
            session: 0,
            is_connected: false,
            is_paused: false,
            is_poor: false,
            is_overdrawn: false,
            answers: VecDeque::new(),
            lanes: BTreeMap::new(),
            inbound: BTreeMap::new(),
            got: BTreeMap::new(),
            controls: BTreeMap::new(),
            losses: BTreeMap::new(),
        }
    }

    fn meet(&mut self, one: usize, other: usize) {
        let lane = Arc::new(Lane::new(LaneOptions::default()));
        let member = Member {
            name: name(other),
            boot_id: self.nodes[other].boot_id,
            link_address: String::new(),
            zone: String::new(),
            wire: WireVersions::OURS,
            state: MemberState::Up,
        };
        let node = &mut self.nodes[one];
        node.relay.meet(self.now, &member, Arc::clone(&lane));
        node.lanes.insert(other, lane);
        node.inbound.insert(other, Inbound::default());
    }

    /// Everybody with everybody else.
    pub(super) fn pairs(&self) -> Vec<(usize, usize)> {
        let count = self.nodes.len();
        let each =
            |one| (0..count).filter(move |other| *other != one).map(move |other| (one, other));
        (0..count).flat_map(each).collect()
    }

    pub(super) fn relay(&self, node: usize) -> &Relay {
        &self.nodes[node].relay
    }

    /// One broker was declared dead and comes back as another.
    pub(super) fn reincarnate(&mut self, node: usize) {
        let (before, after) = (self.nodes[node].boot_id, BootId(1_000 + node as u128));
        self.nodes[node].boot_id = after;
        self.nodes[node].relay.begin_life(after);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.nodes[other].relay.bury(before);
            self.meet(other, node);
            self.meet(node, other);
        }
    }

    /// Both links of a pair.
    pub(super) fn set_links(&mut self, one: usize, other: usize, state: LinkState) {
        self.set_link(one, other, state);
        self.set_link(other, one, state);
    }

    fn set_link(&mut self, from: usize, to: usize, state: LinkState) {
        let before = self.links.insert((from, to), state);
        let to_boot_id = self.nodes[to].boot_id;
        match (before, state) {
            (Some(LinkState::Down), LinkState::Silent) => {
                // What cannot be dialled does not stand.
                self.links.insert((from, to), LinkState::Down);
            }
            (_, LinkState::Down) => self.nodes[from].relay.note_link(self.now, to_boot_id, false),
            (Some(LinkState::Up), LinkState::Up) | (_, LinkState::Silent) => {}
            (_, LinkState::Up) => {
                let received = self.nodes[to].inbound[&from].received();
                self.nodes[from].lanes[&to].rewind(received).unwrap();
                self.nodes[from].relay.note_link(self.now, to_boot_id, true);
            }
        }
    }

    pub(super) fn pause(&mut self, node: usize, is_paused: bool) {
        self.nodes[node].is_paused = is_paused;
    }

    pub(super) fn set_poor(&mut self, node: usize, is_poor: bool) {
        self.nodes[node].is_poor = is_poor;
    }

    /// The lease of this broker is gone, or is less than it took.
    pub(super) fn set_overdrawn(&mut self, node: usize, is_overdrawn: bool) {
        self.nodes[node].is_overdrawn = is_overdrawn;
    }

    pub(super) fn lead(&mut self, node: usize) {
        let lock = Change::Check { path: LEADER.to_owned(), version: 0 };
        self.nodes[node].relay.set_leading(self.now, Some(lock));
    }

    /// What was asked and not answered never is.
    pub(super) fn disconnect(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        if !std::mem::take(&mut node.is_connected) {
            return;
        }
        node.relay.handle(self.now, &CoordinationEvent::Disconnected);
        for (ticket, _) in std::mem::take(&mut node.answers) {
            let outcome = Err(CoordinationError::ConnectionLost);
            node.relay.handle(self.now, &CoordinationEvent::Answered { ticket, outcome });
        }
    }

    pub(super) fn connect(&mut self, number: usize, is_new: bool) {
        let node = &mut self.nodes[number];
        if node.is_connected {
            return;
        }
        let is_new = is_new || node.session == 0;
        if is_new {
            node.session = self.tree.open_session();
        } else {
            // Another server knows nothing of what the last one had to say.
            self.tree.lose_changes(node.session);
        }
        node.is_connected = true;
        let event = CoordinationEvent::Connected { session: node.session, is_new };
        node.relay.handle(self.now, &event);
    }

    /// Nothing is wrong any more.
    pub(super) fn calm(&mut self) {
        for (one, other) in self.pairs() {
            self.set_link(one, other, LinkState::Up);
        }
        for node in 0..self.nodes.len() {
            self.connect(node, false);
            self.pause(node, false);
        }
    }

    pub(super) fn apply(
        &mut self,
        node: usize,
        request: Request,
    ) -> Result<Reply, CoordinationError> {
        let millis = i64::try_from(self.now.as_millis()).unwrap();
        self.tree.apply(self.nodes[node].session, request, millis)
    }

    pub(super) fn keep_holdings(&mut self, node: usize, holdings: &mut Holdings, is_awaited: bool) {
        self.nodes[node].relay.keep_holdings(self.now, holdings, is_awaited);
    }

    /// Lets time pass until something is so.
    #[track_caller]
    pub(super) fn run(&mut self, millis: u64, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..millis {
            if is_so(self) {
                return;
            }
            self.step();
        }
        let lanes = self.pairs().into_iter().map(|(from, to)| {
            let node = &self.nodes[from];
            (from, to, self.unreceived(from, to), node.lanes[&to].carrier())
        });
        let readings: Vec<_> = self.nodes.iter().map(|node| node.relay.readings()).collect();
        panic!("not within {millis} ms: {:?}\n{readings:#?}", lanes.collect::<Vec<_>>());
    }

    pub(super) fn run_for(&mut self, millis: u64) {
        (0..millis).for_each(|_| self.step());
    }

    fn step(&mut self) {
        self.now = self.now.plus_millis(1);
        for node in 0..self.nodes.len() {
            if !self.nodes[node].is_paused {
                self.turn(node);
            }
        }
    }

    fn turn(&mut self, node: usize) {
        for (from, to) in self.pairs().into_iter().filter(|(from, _)| *from == node) {
            self.use_link(from, to);
        }
        if self.nodes[node].is_connected {
            let answers = std::mem::take(&mut self.nodes[node].answers);
            self.hear(node);
            for (ticket, outcome) in answers {
                let event = CoordinationEvent::Answered { ticket, outcome };
                self.nodes[node].relay.handle(self.now, &event);
            }
        }
        let (now, this) = (self.now, &mut self.nodes[node]);
        if this.relay.wants_funds(now) {
            this.relay.fund(now, !this.is_poor);
        }
        this.relay.set_covered(!this.is_overdrawn);
        if this.relay.next_timeout().is_some_and(|due| due <= now) {
            this.relay.handle_timeout(now);
        }
        while let Some(output) = self.nodes[node].relay.poll_output(self.now) {
            self.carry_out(node, output);
        }
    }

    fn hear(&mut self, node: usize) {
        let Node { session, relay, .. } = &mut self.nodes[node];
        while let Some(change) = self.tree.next_change(*session) {
            relay.handle(self.now, &change);
        }
    }

    fn use_link(&mut self, from: usize, to: usize) {
        if self.links[&(from, to)] != LinkState::Up || self.nodes[to].is_paused {
            return;
        }
        let lane = Arc::clone(&self.nodes[from].lanes[&to]);
        if lane.carrier() == Carrier::Link {
            let (boot_id, now) = (self.nodes[from].boot_id, self.now);
            self.nodes[to].relay.note_heard(boot_id, now);
        }
        let mut batches = VecDeque::new();
        let _taken = lane.take(64 * 1_024, Waker::noop(), &mut batches);
        for bytes in batches {
            let header = BatchHeader::peek(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
            let received = self.receive(to, from, &Batch::new(header, bytes).unwrap());
            lane.received(received).unwrap();
        }
    }

    fn receive(&mut self, to: usize, from: usize, batch: &Batch) -> Cursors {
        let node = &mut self.nodes[to];
        let inbound = node.inbound.get_mut(&from).unwrap();
        let known = inbound.known(batch).unwrap() as usize;
        for frame in batch.frames().skip(known) {
            let frame = frame.unwrap();
            let seq = frame.seq;
            if batch.kind == StreamKind::Control {
                *node.controls.entry(from).or_default() += 1;
            } else if let Some(number) = frame.publish().unwrap().payload.first_chunk() {
                node.got.entry(from).or_default().push(u64::from_be_bytes(*number));
            }
            inbound.advance(batch.kind, seq);
        }
        inbound.received()
    }

    fn carry_out(&mut self, node: usize, output: RelayOutput) {
        match output {
            RelayOutput::Submit(ticket, request) => {
                let outcome = self.apply(node, request);
                self.nodes[node].answers.push_back((ticket, outcome));
            }
            RelayOutput::Resume { from, gone } => {
                let Some(sender) = self.find(from) else { return };
                let this = &mut self.nodes[node];
                let inbound = this.inbound.get_mut(&sender).unwrap();
                *this.losses.entry(sender).or_default() += u64::from(inbound.resume(gone));
                let received = inbound.received();
                this.relay.note_received(from, received);
            }
            RelayOutput::Batch { from, batch } => {
                let Some(sender) = self.find(from) else { return };
                let received = self.receive(node, sender, &batch);
                self.nodes[node].relay.note_received(from, received);
            }
            RelayOutput::CutLink(to) => {
                let Some(to) = self.find(to) else { return };
                self.set_link(node, to, LinkState::Down);
            }
            RelayOutput::Changed { .. } => {}
        }
    }

    fn find(&self, boot_id: BootId) -> Option<usize> {
        self.nodes.iter().position(|node| node.boot_id == boot_id)
    }
}
