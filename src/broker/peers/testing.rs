//! Several brokers in one process, for tests: links without sockets, time that stands still, and an
//! order of events that a seed decides.
//!
//! Nobody has a turn who was not woken, so that a wake that is missing shows as a story that stops.
//! Batches of the two streams of a link overtake each other, as they may on two lanes.

mod chance;
mod database;
mod looks;
mod packets;
mod running;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use crate::broker::card::Origin;
use crate::broker::connection::Connection;
use crate::broker::durable::Durable;
use crate::broker::durable::keeper::Keeper;
use crate::broker::latest::LatestOptions;
use crate::broker::options::{BrokerOptions, ConnectionOptions};
use crate::broker::peers::Peers;
use crate::broker::peers::testing::chance::Flag;
use crate::broker::shard::Shard;
use crate::broker::{Broker, Guards, Seeds};
use crate::cluster::frame::{ControlFrame, RetainedValue};
use crate::cluster::identity::{BootId, Member, MemberState, WireVersions};
use crate::cluster::lane::{Lane, LaneOptions};
use crate::cluster::slots::{SLOTS, SlotMap};
use crate::mqtt::{Connect, Packet, ProtocolVersion, ReasonCode, TopicFilter, TopicName};
use crate::ports::clock::Tick;
use crate::ports::store::{OwnerId, Store};

pub(crate) use chance::Chance;
pub(crate) use database::{Closed, Way};
pub(crate) use packets::{at, connect, payloads, publish, retained, subscribe};

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
    /// As others know it.
    wire: WireVersions,
    task: Arc<Flag>,
    /// Where it has one: its store has answered, or there is something to do for the Sessions of the dead.
    store: [Arc<Flag>; 2],
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
    /// What has come is not confirmed.
    is_hushed: bool,
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

    /// A broker has a store from now on.
    pub(crate) fn give_store(&mut self, node: usize, store: Arc<dyn Store>) {
        let Node { broker, shard, .. } = &mut self.nodes[node];
        let durable = Arc::new(Durable::new(store, OwnerId(boot_id(node).0), 0));
        shard.keeper = Some(Keeper::new(Arc::clone(&durable)));
        broker.durable = Some(durable);
    }

    /// A broker hands over what its turns have had stored, and hears what the store has to say.
    pub(crate) fn hear_store(&mut self, node: usize) {
        self.at(node, |turn, _| {
            turn.hand_over_kept();
            let _owes = turn.poll_store(Waker::noop());
        });
    }

    /// The same, of brokers that keep so many bytes of wills.
    pub(crate) fn with_will_bytes(count: usize, wills_bytes_max: u64) -> Self {
        Self::with_options(count, &BrokerOptions { wills_bytes_max, ..BrokerOptions::default() })
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
            name: Arc::clone(peers(&self.nodes[to].broker).name()),
            boot_id: boot_id(to),
            link_address: String::new(),
            zone: String::new(),
            wire: self.nodes[to].wire,
            state: MemberState::Up,
        };
        let lane = self.at(from, |turn, peers| turn.add_peer(peers, &member));
        let batches = [VecDeque::new(), VecDeque::new()];
        let link = Link { lane, flag: Flag::new(), batches, is_cut: false, is_hushed: false };
        self.links.insert((from, to), link);
    }

    /// One broker more, which knows all and is known to all.
    pub(crate) fn join(&mut self) -> usize {
        self.join_speaking(WireVersions::OURS)
    }

    /// The same of one that speaks these versions.
    pub(crate) fn join_speaking(&mut self, wire: WireVersions) -> usize {
        let number = self.nodes.len();
        let node = Node::new(number, BrokerOptions::default(), LaneOptions::default());
        self.nodes.push(Node { wire, ..node });
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
        let (live, dead): (Vec<_>, Vec<_>) =
            (0..self.nodes.len()).partition(|one| self.nodes[*one].is_alive);
        let epoch = self.slots.epoch() + 1;
        let members = live.iter().map(|node| boot_id(*node)).collect();
        let dead = dead.into_iter().map(boot_id).collect();
        self.slots = Arc::new(SlotMap::in_turn(epoch, members).burying(&dead));
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
        self.connect_as(node, None, connect)
    }

    /// The same, with this name in the certificate of the client.
    pub(crate) fn connect_as(
        &mut self,
        node: usize,
        user: Option<&str>,
        connect: &Connect,
    ) -> LineId {
        let origin = Origin {
            address: Arc::from("here"),
            listener: Arc::from("stage"),
            tls_common_name: user.map(Arc::from),
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

    /// What comes from `from` to `to` does, and `from` does not hear that it has.
    pub(crate) fn hush(&mut self, from: usize, to: usize) {
        self.links.get_mut(&(from, to)).unwrap().is_hushed = true;
    }

    /// Lets it go.
    pub(crate) fn release(&mut self, from: usize, to: usize) {
        self.links.get_mut(&(from, to)).unwrap().is_cut = false;
    }

    /// A broker is gone, and nobody has declared it dead yet: who joins meanwhile never meets it.
    pub(crate) fn vanish(&mut self, node: usize) {
        self.nodes[node].is_alive = false;
        self.links.retain(|(from, to), _| *from != node && *to != node);
    }

    /// A broker dies, and all others hear that it was declared dead, each in its own time.
    pub(crate) fn kill(&mut self, node: usize) {
        self.declare_dead(node);
        self.assign_slots();
    }

    /// The same before its slots are given to others.
    pub(crate) fn declare_dead(&mut self, node: usize) {
        self.vanish(node);
        for other in self.nodes.iter_mut().filter(|other| other.is_alive) {
            other.news.push_back(News::Dead(boot_id(node)));
        }
    }

    /// A broker was declared dead, hears of it, and comes back in a new life, under another number.
    pub(crate) fn begin_life(&mut self, node: usize) -> usize {
        self.kill(node);
        let number = self.nodes.len();
        self.at(node, |turn, peers| {
            peers.set_admitting(false);
            let _let_go = turn.end_all_sessions(ReasonCode::ServerBusy);
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
        // Connections end before it has joined again.
        for line in 0..self.lines.len() {
            if self.lines[line].node == number {
                self.turn(LineId(line), |_, _, _| {});
            }
        }
        self.at(number, |_, peers| peers.set_admitting(true));
        self.meet_all(number);
        self.assign_slots();
        number
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
        let (wire, task) = (WireVersions::OURS, Flag::new());
        let store = [Flag::new(), Flag::new()];
        Self { broker, shard, wire, task, store, news: VecDeque::new(), is_alive: true }
    }
}

fn peers(broker: &Broker) -> &Peers {
    broker.peers().expect("it was made with peers")
}

fn boot_id(node: usize) -> BootId {
    BootId(node as u128 + 1)
}
