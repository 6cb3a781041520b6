//! What an operator is shown of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::broker::peers::Peers;
use crate::cluster::bank::{BankReadings, Funds};
use crate::cluster::clock::ClusterClock;
use crate::cluster::identity::{BootId, Member};
use crate::cluster::membership::Membership;
use crate::cluster::membership::output::PeerLease;
use crate::cluster::relay::{LaneInUse, Relay, RelayReadings};
use crate::cluster::slots::SlotMap;
use crate::cluster::topics::TopicsReadings;
use crate::coordination::{ZooKeeper, ZooKeeperCounters};
use crate::ports::clock::Tick;

/// As of the last time the task looked.
#[derive(Debug, Default)]
pub(in crate::node) struct Status {
    state: Mutex<State>,
    zookeeper: Mutex<Option<Arc<ZooKeeperCounters>>>,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a reading of its own, shown as it is")]
struct State {
    own: Option<Member>,
    present: Vec<Member>,
    suspect: Vec<Member>,
    slots: Option<Arc<SlotMap>>,
    is_leading: bool,
    is_frozen: bool,
    reaches_zookeeper: bool,
    lease_until: Tick,
    clock_error_millis: u64,
    own_clock_ahead_millis: i64,
    has_clock_alarm: bool,
    topics: TopicsReadings,
    bank: BankReadings,
    relay: RelayReadings,
    lanes: BTreeMap<BootId, LaneInUse>,
}

impl Status {
    pub(super) fn note(&self, membership: &Membership, clock: &ClusterClock, now: Tick) {
        let mut state = self.state.lock();
        state.own = Some(membership.own().clone());
        state.present = membership.present().cloned().collect();
        state.suspect = membership.suspect().cloned().collect();
        state.is_leading = membership.leader_check().is_some();
        state.is_frozen = membership.is_frozen(now);
        state.reaches_zookeeper = membership.own_lease(now) == PeerLease::Committed;
        state.lease_until = membership.lease_until();
        state.clock_error_millis = clock.error_millis(now).unwrap_or(0);
        state.own_clock_ahead_millis = clock.own_ahead_millis();
        state.has_clock_alarm = clock.alarm().is_some();
    }

    pub(super) fn note_slots(&self, map: Arc<SlotMap>) {
        self.state.lock().slots = Some(map);
    }

    pub(super) fn note_registry(&self, topics: TopicsReadings, bank: BankReadings) {
        let mut state = self.state.lock();
        (state.topics, state.bank) = (topics, bank);
    }

    pub(super) fn note_relay(&self, relay: &Relay, peers: &Peers) {
        let live = peers.live();
        let lanes = live.iter().map(|peer| (peer.boot_id(), relay.lane_in_use(peer.boot_id())));
        let (readings, lanes) = (relay.readings(), lanes.collect());
        let mut state = self.state.lock();
        (state.relay, state.lanes) = (readings, lanes);
    }

    /// What the relay counts, and by which lane frames go to each broker.
    pub(super) fn relay(&self) -> (RelayReadings, BTreeMap<BootId, LaneInUse>) {
        let state = self.state.lock();
        (state.relay, state.lanes.clone())
    }

    /// What the registry of topics and the bank count.
    pub(super) fn registry(&self) -> (TopicsReadings, BankReadings) {
        let state = self.state.lock();
        (state.topics, state.bank)
    }

    /// The way to the ensemble stands, or is being sought.
    pub(super) fn watch(&self, zookeeper: &ZooKeeper) {
        *self.zookeeper.lock() = Some(zookeeper.counters());
    }

    /// What was counted on the way to the ensemble.
    pub(super) fn zookeeper(&self) -> Option<Arc<ZooKeeperCounters>> {
        self.zookeeper.lock().clone()
    }

    /// Brokers there are, this one included, and those of them that are in doubt.
    pub(super) fn member_counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.present.len() + 1, state.suspect.len())
    }

    /// Whether writes to the tree of znodes are committed, whether this broker leads, whether
    /// membership is frozen.
    pub(super) fn flags(&self) -> [bool; 3] {
        let state = self.state.lock();
        [state.reaches_zookeeper, state.is_leading, state.is_frozen]
    }

    /// By how much the time of the cluster may be wrong here, in milliseconds; by how much the clock
    /// of this node is off, whatever the direction; whether a clock is known to be wrong.
    pub(super) fn clock(&self) -> (u64, u64, bool) {
        let state = self.state.lock();
        let off = state.own_clock_ahead_millis.unsigned_abs();
        (state.clock_error_millis, off, state.has_clock_alarm)
    }

    /// Milliseconds for which this broker may still acknowledge.
    pub(super) fn lease_millis(&self, now: Tick) -> u64 {
        self.state.lock().lease_until.saturating_since(now)
    }

    /// All of it, for `GET /cluster`.
    pub(in crate::node) fn to_json(&self, broker: &Broker, now: Tick) -> Value {
        let state = self.state.lock();
        let Some(peers) = broker.peers() else { return Value::Null };
        let member = |member: &Member, is_suspect: bool| {
            let peer = peers.find(member.boot_id);
            let lane = peer.as_ref().map(|peer| peer.lane().counts());
            json!({
                "name": &*member.name,
                "boot_id": member.boot_id.to_string(),
                "link_address": member.link_address,
                "zone": member.zone,
                "state": format!("{:?}", member.state).to_lowercase(),
                "suspect": is_suspect,
                "slots": state.slots.as_ref().map(|map| map.slots_of(member.boot_id)),
                "lane": state.lanes.get(&member.boot_id).map(|lane| lane.as_str()),
                "interest_filters": peer.as_ref().map(|peer| peer.interest_len()),
                "unanswered_messages": peer.as_ref().map(|peer| peer.unanswered_count()),
                "unreceived_bytes": lane.as_ref().map(|lane| lane.data_bytes),
                "frames_sent": lane.as_ref().map(|lane| lane.offered.data),
            })
        };
        let present = state.present.iter().map(|one| member(one, false));
        let suspect = state.suspect.iter().map(|one| member(one, true));
        let (version, _, filters) = peers.interest().summary();
        json!({
            "name": &**peers.name(),
            "boot_id": peers.boot_id().to_string(),
            "state": state.own.as_ref().map(|own| format!("{:?}", own.state).to_lowercase()),
            "leading": state.is_leading,
            "zookeeper": if state.reaches_zookeeper { "connected" } else { "lost" },
            "membership_frozen": state.is_frozen,
            "lease_millis": state.lease_until.saturating_since(now),
            "clock": {
                "cluster_millis": peers.cluster_millis(now),
                "error_millis": state.clock_error_millis,
                "own_ahead_millis": state.own_clock_ahead_millis,
                "alarm": state.has_clock_alarm,
            },
            "topics": {
                "known": state.topics.known,
                "registered_here": state.topics.registered,
                "waiting": state.topics.backlog,
                "values_written": state.topics.values_written,
            },
            "bank": {
                "free": funds(state.bank.free),
                "lease": funds(state.bank.lease),
                "used": funds(state.bank.used),
                "refusals": state.bank.refusals,
            },
            "relay": {
                "relayed_peers": state.relay.relayed,
                "unread_bytes": state.relay.ring_bytes,
                "writes": state.relay.writes,
                "sent_bytes": state.relay.sent_bytes,
                "sent_frames": state.relay.sent_frames,
                "received_frames": state.relay.received_frames,
                "rewinds": state.relay.rewinds,
                "dropped_messages": state.relay.dropped,
            },
            "slot_epoch": state.slots.as_ref().map(|map| map.epoch()),
            "slots": state.slots.as_ref().map(|map| map.slots_of(peers.boot_id())),
            "interest": { "version": version, "filters": filters, "subacks_waiting": waiting(peers) },
            "members": present.chain(suspect).collect::<Vec<_>>(),
        })
    }
}

fn funds(funds: Funds) -> Value {
    json!({
        "topics": funds.topics,
        "znode_bytes": funds.znode_bytes,
        "relay_bytes": funds.relay_bytes,
    })
}

fn waiting(peers: &Peers) -> usize {
    peers.interest().waiting_count()
}
