//! Several brokers in one process, for tests: links without sockets, time that stands still, and an
//! order of events that a seed decides.
//!
//! Nobody has a turn who was not woken, so that a wake that is missing shows as a story that stops.
//! Batches of the two streams of a link overtake each other, as they may on two lanes.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use bytes::{Bytes, BytesMut};

use crate::broker::card::Origin;
use crate::broker::connection::{Connection, Progress};
use crate::broker::event::Event;
use crate::broker::latest::LatestOptions;
use crate::broker::options::{BrokerOptions, ConnectionOptions};
use crate::broker::peers::Peers;
use crate::broker::peers::ownership::OwnershipCounts;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::wills::WillCounts;
use crate::broker::shard::Shard;
use crate::broker::turn::Turn;
use crate::broker::{Broker, Guards, Seeds};
use crate::cluster::frame::{ControlFrame, RetainedValue, StreamKind};
use crate::cluster::identity::{BootId, Member, MemberState, WireVersions};
use crate::cluster::lane::{Lane, LaneCounts, LaneOptions, Taken};
use crate::cluster::slots::{SLOTS, SlotMap};
use crate::cluster::wire::{Batch, BatchHeader, FRAME_BYTES_MAX};
use crate::mqtt::{
    Connect, ConnectProperties, Frame, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode,
    Sender, Subscribe, SubscribeFilter, SubscriptionOptions, TopicFilter, TopicName,
};
use crate::ports::clock::Tick;
use crate::session::outbox::Outbox;

/// Brokers, their links and their clients' connections.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    links: BTreeMap<(usize, usize), Link>,
    lines: Vec<Line>,
    slots: Arc<SlotMap>,
    /// `None`: in a fixed order.
    chance: Option<Chance>,
    now: Tick,
}

struct Node {
    broker: Broker,
    shard: Shard,
    task: Arc<Flag>,
    /// What it has still to hear of the cluster.
    news: VecDeque<News>,
    is_alive: bool,
}

enum News {
    Dead(BootId),
    Slots(Arc<SlotMap>),
}

/// One direction between two brokers.
struct Link {
    lane: Arc<Lane>,
    flag: Arc<Flag>,
    /// Under way, by stream.
    batches: [VecDeque<Bytes>; 2],
    is_cut: bool,
}

/// A client's connection.
struct Line {
    node: usize,
    connection: Connection,
    version: ProtocolVersion,
    flag: Arc<Flag>,
    inbox: Vec<Packet>,
}

/// Names a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LineId(usize);

/// Somebody who is woken.
pub(crate) struct Flag(AtomicBool);

/// Numbers that follow from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

#[derive(Clone, Copy)]
enum Step {
    Hear(usize),
    Poll(usize),
    Take(usize, usize),
    Deliver(usize, usize, usize),
    Advance(usize),
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn lower(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Less than `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// Once in so many times.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

impl Cluster {
    /// So many brokers that know each other, with a slot map.
    pub(crate) fn new(count: usize) -> Self {
        Self::with(count, None, &BrokerOptions::default(), LaneOptions::default())
    }

    /// The same, with an order of events of its own.
    pub(crate) fn seeded(count: usize, seed: u64) -> Self {
        let chance = Some(Chance::new(seed));
        Self::with(count, chance, &BrokerOptions::default(), LaneOptions::default())
    }

    /// So many brokers with other bounds.
    pub(crate) fn with_options(count: usize, options: &BrokerOptions) -> Self {
        Self::with(count, None, options, LaneOptions::default())
    }

    /// So many brokers whose ways to each other have other bounds.
    pub(crate) fn with_lanes(count: usize, lanes: LaneOptions) -> Self {
        Self::with(count, None, &BrokerOptions::default(), lanes)
    }

    /// The same, of brokers that keep the latest values of these topics.
    pub(crate) fn keeping_latest(count: usize, filter: &str) -> Self {
        let filters = vec![TopicFilter::parse(filter).unwrap()];
        let latest = LatestOptions { filters, ..LatestOptions::default() };
        Self::with_options(count, &BrokerOptions { latest, ..BrokerOptions::default() })
    }

    /// The latest value of a topic found no place in the tree of znodes.
    pub(crate) fn share_latest(&mut self, node: usize, topic: &str) {
        let topic = TopicName::try_from(topic).unwrap();
        self.at(node, |turn, peers| turn.share_latest(peers, &topic));
    }

    /// A broker hears of a retained message, by whatever way.
    pub(crate) fn merge_value(&mut self, node: usize, value: RetainedValue) {
        self.at(node, |turn, peers| turn.merge_value(peers, value));
    }

    /// The same, of brokers that keep so many bytes of wills.
    pub(crate) fn with_will_bytes(count: usize, wills_bytes_max: u64) -> Self {
        Self::with_options(count, &BrokerOptions { wills_bytes_max, ..BrokerOptions::default() })
    }

    /// What a broker knows of wills.
    pub(crate) fn will_counts(&self, node: usize) -> WillCounts {
        peers(&self.nodes[node].broker).wills().counts()
    }

    fn with(
        count: usize,
        chance: Option<Chance>,
        options: &BrokerOptions,
        lanes: LaneOptions,
    ) -> Self {
        let mut cluster = Self {
            nodes: (0..count).map(|number| Node::new(number, options.clone(), lanes)).collect(),
            links: BTreeMap::new(),
            lines: Vec::new(),
            slots: Arc::default(),
            chance,
            now: Tick::from_millis(1_000),
        };
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                cluster.introduce(from, to);
            }
        }
        cluster.pump();
        cluster.assign_slots();
        cluster.pump();
        cluster
    }

    fn introduce(&mut self, from: usize, to: usize) {
        let member = Member {
            name: Arc::from(format!("broker-{to}")),
            boot_id: boot_id(to),
            link_address: String::new(),
            zone: String::new(),
            wire: WireVersions::OURS,
            state: MemberState::Up,
        };
        let lane = self.at(from, |turn, peers| turn.add_peer(peers, &member));
        let batches = [VecDeque::new(), VecDeque::new()];
        let link = Link { lane, flag: Flag::new(), batches, is_cut: false };
        self.links.insert((from, to), link);
    }

    /// One broker more, which knows all and is known to all.
    pub(crate) fn join(&mut self) -> usize {
        let number = self.nodes.len();
        self.nodes.push(Node::new(number, BrokerOptions::default(), LaneOptions::default()));
        self.meet_all(number);
        number
    }

    fn meet_all(&mut self, newcomer: usize) {
        let is_met = |other: &usize| *other != newcomer && self.nodes[*other].is_alive;
        for other in (0..self.nodes.len()).filter(is_met).collect::<Vec<_>>() {
            self.introduce(newcomer, other);
            self.introduce(other, newcomer);
        }
    }

    /// Gives the slots to all brokers that live, in turn. Each hears of it in its own time.
    pub(crate) fn assign_slots(&mut self) {
        let live: Vec<_> = (0..self.nodes.len()).filter(|one| self.nodes[*one].is_alive).collect();
        let epoch = self.slots.epoch() + 1;
        let members = live.iter().map(|node| boot_id(*node)).collect();
        self.slots = Arc::new(SlotMap::in_turn(epoch, members));
        for node in live {
            self.nodes[node].news.push_back(News::Slots(Arc::clone(&self.slots)));
        }
    }

    /// A Client Identifier whose slot `node` coordinates.
    pub(crate) fn client_id_at(&self, node: usize) -> String {
        self.client_ids_at(node, 1).remove(0)
    }

    /// So many of them.
    pub(crate) fn client_ids_at(&self, node: usize, count: usize) -> Vec<String> {
        let ids = (0..SLOTS).map(|number| format!("client-{number}"));
        let ours = ids.filter(|id| self.slots.coordinator_of(id) == Some(boot_id(node)));
        let ours: Vec<_> = ours.take(count).collect();
        assert_eq!(ours.len(), count, "more than {SLOTS} clients are asked for");
        ours
    }

    /// A client dials a broker and says CONNECT.
    pub(crate) fn connect(&mut self, node: usize, connect: &Connect) -> LineId {
        let origin = Origin {
            address: Arc::from("here"),
            listener: Arc::from("stage"),
            tls_common_name: None,
        };
        let options = Arc::new(ConnectionOptions::default());
        let connection = Connection::new(origin, options, self.now);
        let version = connect.protocol_version;
        self.lines.push(Line { node, connection, version, flag: Flag::new(), inbox: Vec::new() });
        let line = LineId(self.lines.len() - 1);
        self.send(line, &Packet::Connect(Box::new(connect.clone())));
        line
    }

    /// A client sends a packet; its broker handles it at once.
    pub(crate) fn send(&mut self, line: LineId, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.encode(self.lines[line.0].version, &mut bytes);
        let mut bytes = bytes.freeze();
        self.turn(line, |connection, turn, waker| {
            connection.receive(turn, &mut bytes, 1, waker);
        });
        self.lines[line.0].flag.wake_by_ref();
    }

    /// The connection of a client breaks.
    pub(crate) fn lose(&mut self, line: LineId) {
        self.turn(line, |connection, turn, _| connection.handle_lost(turn, "cut"));
    }

    /// What has come to a client since it was last asked.
    pub(crate) fn received(&mut self, line: LineId) -> Vec<Packet> {
        std::mem::take(&mut self.lines[line.0].inbox)
    }

    /// The first of what has come to a client.
    pub(crate) fn next_received(&mut self, line: LineId) -> Option<Packet> {
        let inbox = &mut self.lines[line.0].inbox;
        (!inbox.is_empty()).then(|| inbox.remove(0))
    }

    /// Whether a CONNECT was accepted and the connection lasts.
    pub(crate) fn is_open(&self, line: LineId) -> bool {
        self.lines[line.0].connection.is_open()
    }

    /// Whether the broker has ended the connection.
    pub(crate) fn is_closed(&self, line: LineId) -> bool {
        self.lines[line.0].connection.is_closed()
    }

    /// Nothing gets from one of these brokers to the other; what is under way is lost.
    pub(crate) fn cut(&mut self, one: usize, other: usize) {
        for ends in [(one, other), (other, one)] {
            let link = self.links.get_mut(&ends).unwrap();
            link.is_cut = true;
            link.batches.iter_mut().for_each(VecDeque::clear);
        }
    }

    /// They dial again: each sends what the other has not received.
    pub(crate) fn heal(&mut self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            self.redial(from, to);
            self.links.get_mut(&(from, to)).unwrap().is_cut = false;
        }
    }

    /// A new connection, in one direction.
    fn redial(&mut self, from: usize, to: usize) {
        let lane = Arc::clone(&self.links[&(from, to)].lane);
        let gone = lane.gone();
        let received = self.at(to, |turn, peers| {
            let peer = peers.find(boot_id(from)).unwrap();
            turn.greet(peers, &peer, gone)
        });
        lane.rewind(received).unwrap();
        let link = self.links.get_mut(&(from, to)).unwrap();
        link.batches.iter_mut().for_each(VecDeque::clear);
        link.flag.wake_by_ref();
    }

    /// What there was and is on the way from one broker to another.
    pub(crate) fn lane(&self, from: usize, to: usize) -> LaneCounts {
        self.links[&(from, to)].lane.counts()
    }

    /// A broker does what it does now and then: it tells others what it withheld, and that it is
    /// there.
    pub(crate) fn ping(&mut self, node: usize) {
        let now = self.now;
        self.at(node, |turn, peers| {
            turn.announce_credit(peers);
            turn.catch_up(peers);
            let (version, checksum, _) = peers.interest().summary();
            let cluster_millis = peers.cluster_millis(now);
            let ping = ControlFrame::Ping { version, checksum, has_lease: true, cluster_millis };
            for peer in peers.live().iter() {
                turn.ping(peer, &ping);
            }
        });
    }

    /// Holds back what `from` has to say to `to`; nothing is lost.
    pub(crate) fn hold(&mut self, from: usize, to: usize) {
        self.links.get_mut(&(from, to)).unwrap().is_cut = true;
    }

    /// Lets it go.
    pub(crate) fn release(&mut self, from: usize, to: usize) {
        self.links.get_mut(&(from, to)).unwrap().is_cut = false;
    }

    /// A broker dies, and all others hear that it was declared dead, each in its own time.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].is_alive = false;
        self.links.retain(|(from, to), _| *from != node && *to != node);
        for other in self.nodes.iter_mut().filter(|other| other.is_alive) {
            other.news.push_back(News::Dead(boot_id(node)));
        }
        self.assign_slots();
    }

    /// A broker was declared dead, hears of it, and comes back in a new life, under another number.
    pub(crate) fn begin_life(&mut self, node: usize) -> usize {
        self.kill(node);
        let number = self.nodes.len();
        self.at(node, |turn, peers| {
            turn.let_clients_go(ReasonCode::ServerBusy);
            for peer in peers.live().iter() {
                turn.remove_peer(peers, peer.boot_id());
            }
            turn.begin_life(peers, boot_id(number));
            peers.set_lease(Tick::from_millis(u64::MAX));
        });
        let mut dead = Node::new(node, BrokerOptions::default(), LaneOptions::default());
        dead.is_alive = false;
        let former = std::mem::replace(&mut self.nodes[node], dead);
        self.nodes.push(Node { news: VecDeque::new(), is_alive: true, ..former });
        for line in self.lines.iter_mut().filter(|line| line.node == node) {
            line.node = number;
        }
        self.meet_all(number);
        self.assign_slots();
        number
    }

    /// Time passes, and whoever waits for it has a turn.
    pub(crate) fn elapse(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
        for line in 0..self.lines.len() {
            if self.nodes[self.lines[line].node].is_alive {
                self.turn(LineId(line), |connection, turn, _| connection.handle_timeout(turn));
            }
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_alive {
                while self.at(node, |turn, _| turn.expire()) {}
            }
        }
    }

    /// Lets everybody do what is to be done, until nothing is.
    pub(crate) fn pump(&mut self) {
        for _ in 0..STEPS_MAX {
            if !self.step() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Lets somebody do something. `false` when there is nothing to do.
    pub(crate) fn step(&mut self) -> bool {
        let steps = self.steps();
        if steps.is_empty() {
            return false;
        }
        let choice = self.chance.as_mut().map_or(0, |chance| chance.below(steps.len()));
        match steps[choice] {
            Step::Hear(node) => self.hear(node),
            Step::Poll(node) => {
                let waker = Waker::from(Arc::clone(&self.nodes[node].task));
                self.nodes[node].task.lower();
                self.at(node, |turn, peers| {
                    turn.poll_exports(peers, &waker);
                    turn.poll_wills(peers, &waker);
                });
            }
            Step::Take(from, to) => self.take(from, to),
            Step::Deliver(from, to, stream) => self.deliver(from, to, stream),
            Step::Advance(line) => self.turn(LineId(line), |_, _, _| {}),
        }
        true
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (number, line) in self.lines.iter().enumerate() {
            if self.nodes[line.node].is_alive && line.flag.is_raised() {
                steps.push(Step::Advance(number));
            }
        }
        for (number, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_alive) {
            if !node.news.is_empty() {
                steps.push(Step::Hear(number));
            }
            if node.task.is_raised() {
                steps.push(Step::Poll(number));
            }
        }
        for ((from, to), link) in self.links.iter().filter(|(_, link)| !link.is_cut) {
            if link.flag.is_raised() {
                steps.push(Step::Take(*from, *to));
            }
            for stream in 0..2 {
                if !link.batches[stream].is_empty() {
                    steps.push(Step::Deliver(*from, *to, stream));
                }
            }
        }
        steps
    }

    fn hear(&mut self, node: usize) {
        let Some(news) = self.nodes[node].news.pop_front() else { return };
        self.at(node, |turn, peers| match news {
            News::Dead(boot_id) => turn.remove_peer(peers, boot_id),
            News::Slots(map) => turn.set_slots(peers, map),
        });
    }

    fn take(&mut self, from: usize, to: usize) {
        let link = self.links.get_mut(&(from, to)).unwrap();
        link.flag.lower();
        let waker = Waker::from(Arc::clone(&link.flag));
        let mut taken = VecDeque::new();
        let mut last = Taken::Batches;
        while last == Taken::Batches {
            last = link.lane.take(1, &waker, &mut taken);
        }
        if last == Taken::Restart {
            return self.redial(from, to);
        }
        for bytes in taken {
            let kind = BatchHeader::peek(&bytes, FRAME_BYTES_MAX).unwrap().unwrap().kind;
            link.batches[usize::from(kind == StreamKind::Data)].push_back(bytes);
        }
    }

    fn deliver(&mut self, from: usize, to: usize, stream: usize) {
        let link = self.links.get_mut(&(from, to)).unwrap();
        let Some(bytes) = link.batches[stream].pop_front() else { return };
        let lane = Arc::clone(&link.lane);
        let header = BatchHeader::peek(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
        let batch = Batch::new(header, bytes).unwrap();
        let received = self.at(to, |turn, peers| {
            // Whoever has heard that it is dead takes nothing of it any more.
            let peer = peers.find(boot_id(from))?;
            turn.receive_batch(peers, &peer, &batch).unwrap();
            Some(peer.inbound().lock().received())
        });
        if let Some(received) = received {
            lane.received(received).unwrap();
        }
    }

    /// A broker has a turn.
    pub(crate) fn at<R>(
        &mut self,
        node: usize,
        work: impl FnOnce(&mut Turn<'_>, &Peers) -> R,
    ) -> R {
        let mut outbox = Outbox::new();
        let Node { broker, shard, .. } = &mut self.nodes[node];
        let turn = &mut Turn { broker, shard, now: self.now, outbox: &mut outbox };
        let result = work(turn, peers(broker));
        shard.wake_all();
        result
    }

    fn turn(&mut self, line: LineId, work: impl FnOnce(&mut Connection, &mut Turn<'_>, &Waker)) {
        let Line { node, connection, version, flag, inbox } = &mut self.lines[line.0];
        let Node { broker, shard, is_alive, .. } = &mut self.nodes[*node];
        assert!(*is_alive, "its broker is dead");
        let mut outbox = Outbox::new();
        let turn = &mut Turn { broker, shard, now: self.now, outbox: &mut outbox };
        let waker = Waker::from(Arc::clone(flag));
        flag.lower();
        work(connection, turn, &waker);
        if connection.advance(turn, 1_000, usize::MAX, &waker) == Progress::More {
            flag.wake_by_ref();
        }
        shard.wake_all();
        inbox.extend(decode(*version, &outbox));
    }

    /// One broker as another knows it; also for later, when it knows it no more.
    pub(crate) fn known(&self, node: usize, other: usize) -> Arc<Peer> {
        peers(&self.nodes[node].broker).find(boot_id(other)).unwrap()
    }

    /// A broker.
    pub(crate) fn broker(&self, node: usize) -> &Broker {
        &self.nodes[node].broker
    }

    /// What a broker has for the log since it was last asked.
    pub(crate) fn take_events(&mut self, node: usize) -> Vec<Event> {
        self.nodes[node].shard.take_events().collect()
    }

    /// Whether a connection's socket is read now.
    pub(crate) fn is_read(&mut self, line: LineId) -> bool {
        let mut is_read = false;
        self.turn(line, |connection, turn, _| is_read = connection.may_read(turn).is_ok());
        is_read
    }

    /// Whether a connection is to have a turn within so many milliseconds, whatever happens.
    pub(crate) fn is_due(&self, line: LineId, millis: u64) -> bool {
        let deadline = self.lines[line.0].connection.deadline();
        deadline.is_some_and(|deadline| deadline <= self.now.plus_millis(millis))
    }

    /// Connections of a broker that wait until others know what they want.
    pub(crate) fn waiting_for_interest(&self, node: usize) -> usize {
        peers(&self.nodes[node].broker).interest().waiting_count()
    }

    /// Messages of a broker that others have not answered for.
    pub(crate) fn unanswered(&self, node: usize) -> usize {
        peers(&self.nodes[node].broker).unanswered_count()
    }

    /// Who holds what, as a broker knows it.
    pub(crate) fn ownership(&self, node: usize) -> OwnershipCounts {
        peers(&self.nodes[node].broker).ownership().counts()
    }
}

impl Node {
    fn new(number: usize, options: BrokerOptions, lanes: LaneOptions) -> Self {
        let seed = number as u64 + 1;
        let name = Arc::from(format!("broker-{number}"));
        let peers = Peers::new(boot_id(number), name, seed, lanes);
        peers.set_clock_offset(0);
        peers.set_admitting(true);
        let seeds = Seeds { hash: seed, instance: seed };
        let broker = Broker::new(options, Guards::default(), seeds).with_peers(peers);
        let shard = Shard::new(&broker);
        Self { broker, shard, task: Flag::new(), news: VecDeque::new(), is_alive: true }
    }
}

impl Flag {
    fn wake_by_ref(self: &Arc<Self>) {
        Arc::clone(self).wake();
    }
}

fn peers(broker: &Broker) -> &Peers {
    broker.peers().expect("it was made with peers")
}

fn boot_id(node: usize) -> BootId {
    BootId(node as u128 + 1)
}

fn decode(version: ProtocolVersion, outbox: &Outbox) -> Vec<Packet> {
    let mut slices = vec![std::io::IoSlice::new(&[]); 4_096];
    let count = outbox.slices(&mut slices);
    let mut bytes =
        Bytes::from(slices[..count].iter().flat_map(|one| one.to_vec()).collect::<Vec<u8>>());
    let mut packets = Vec::new();
    while let Some(frame) = Frame::peek(&bytes, usize::MAX).unwrap() {
        let whole = bytes.split_to(frame.total_len);
        packets.push(Packet::decode(version, Sender::Server, &whole).unwrap());
    }
    packets
}

/// CONNECT of a client of 5.0; an expiry of 0 starts a Session anew that ends with the connection.
pub(crate) fn connect(id: &str, expiry_secs: u32) -> Connect {
    Connect {
        protocol_version: ProtocolVersion::V5,
        clean_start: expiry_secs == 0,
        keep_alive_secs: 0,
        client_id: id.into(),
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties {
            session_expiry_interval_secs: NonZeroU32::new(expiry_secs).map(NonZeroU32::get),
            ..ConnectProperties::default()
        },
    }
}

/// PUBLISH; `id` is 0 with QoS 0.
pub(crate) fn publish(topic: &str, payload: &str, qos: QoS, id: u16) -> Packet {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.into(),
        packet_id: PacketId::new(id),
        topic_alias: None,
        subscription_ids: smallvec::SmallVec::new(),
        properties: None,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    })
}

/// The same with RETAIN.
#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is made")]
pub(crate) fn retained(topic: &str, payload: &str, qos: QoS, id: u16) -> Packet {
    match publish(topic, payload, qos, id) {
        Packet::Publish(publish) => Packet::Publish(Publish { retain: true, ..publish }),
        other => unreachable!("a PUBLISH was made, not {other:?}"),
    }
}

/// SUBSCRIBE to one filter.
pub(crate) fn subscribe(filter: &str, options: SubscriptionOptions) -> Packet {
    Packet::Subscribe(Subscribe {
        packet_id: PacketId::MIN,
        subscription_id: None,
        user_properties: Vec::new(),
        filters: vec![SubscribeFilter { filter: filter.into(), options }],
    })
}

/// The options of a Subscription of this QoS.
pub(crate) fn at(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { qos, ..SubscriptionOptions::default() }
}

/// The payloads of the messages among `packets`.
pub(crate) fn payloads(packets: &[Packet]) -> Vec<String> {
    let text = |packet: &Packet| {
        let Packet::Publish(publish) = packet else { return None };
        Some(String::from_utf8(publish.payload.to_vec()).unwrap())
    };
    packets.iter().filter_map(text).collect()
}

/// More than any story takes.
const STEPS_MAX: usize = 1_000_000;
