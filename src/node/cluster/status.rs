//! What an operator is shown of the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::broker::peers::Peers;
use crate::cluster::bank::{BankReadings, Funds};
use crate::cluster::clock::{ClockAlarm, ClusterClock};
use crate::cluster::identity::{BootId, Member};
use crate::cluster::membership::Membership;
use crate::cluster::membership::output::PeerLease;
use crate::cluster::relay::{LaneInUse, Relay, RelayReadings};
use crate::cluster::slots::SlotMap;
use crate::cluster::topics::TopicsReadings;
use crate::coordination::{ZooKeeper, ZooKeeperCounters};
use crate::peer::{LinkCounts, LinkStatus, Links};
use crate::ports::clock::Tick;

/// As of the last time the task looked.
#[derive(Debug, Default)]
pub(in crate::node) struct Status {
    state: Mutex<State>,
    ways: Mutex<Option<Ways>>,
}

/// What is asked itself when somebody wants to know.
#[derive(Clone, Debug)]
struct Ways {
    zookeeper: Arc<ZooKeeperCounters>,
    links: Links,
}

/// Who there is, as of one revision of the membership of one life.
#[derive(Debug)]
struct Brokers {
    revision: u64,
    own: Member,
    present: Vec<Member>,
    suspect: Vec<Member>,
}

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is shown by itself")]
struct State {
    brokers: Option<Arc<Brokers>>,
    leader: Option<BootId>,
    slots: Option<Arc<SlotMap>>,
    is_leading: bool,
    is_frozen: bool,
    is_unreached: bool,
    reaches_zookeeper: bool,
    lease_until: Tick,
    clock_error_millis: u64,
    own_clock_ahead_millis: i64,
    clock_alarm: Option<ClockAlarm>,
    topics: TopicsReadings,
    bank: BankReadings,
    relay: RelayReadings,
    lanes: BTreeMap<BootId, LaneInUse>,
}

impl Status {
    pub(super) fn note(&self, membership: &Membership, clock: &ClusterClock, now: Tick) {
        let mut state = self.state.lock();
        // It is noted many times a second, and hardly ever changes.
        if !state.brokers.as_ref().is_some_and(|brokers| brokers.is_of(membership)) {
            state.brokers = Some(Arc::new(Brokers::of(membership)));
        }
        state.leader = membership.leader();
        state.is_leading = membership.is_leading();
        state.is_frozen = membership.is_frozen(now);
        state.reaches_zookeeper = membership.own_lease(now) == PeerLease::Committed;
        state.lease_until = membership.lease_until();
        state.clock_error_millis = clock.error_millis(now).unwrap_or(0);
        state.own_clock_ahead_millis = clock.own_ahead_millis();
        state.clock_alarm = clock.alarm();
    }

    /// Whether no other broker reaches this one, as far as it can tell.
    pub(super) fn note_unreached(&self, is_unreached: bool) {
        self.state.lock().is_unreached = is_unreached;
    }

    pub(super) fn is_unreached(&self) -> bool {
        self.state.lock().is_unreached
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
    pub(in crate::node) fn registry(&self) -> (TopicsReadings, BankReadings) {
        let state = self.state.lock();
        (state.topics, state.bank)
    }

    /// The way to the ensemble, and those to other brokers, are kept from now on.
    pub(super) fn watch(&self, zookeeper: &ZooKeeper, links: &Links) {
        *self.ways.lock() = Some(Ways { zookeeper: zookeeper.counters(), links: links.clone() });
    }

    /// What was counted on the way to the ensemble.
    pub(super) fn zookeeper(&self) -> Option<Arc<ZooKeeperCounters>> {
        self.ways.lock().as_ref().map(|ways| Arc::clone(&ways.zookeeper))
    }

    /// Every peer that is dialled, and counts over all links.
    pub(super) fn links(&self) -> (Vec<LinkStatus>, LinkCounts) {
        let links = self.ways.lock().as_ref().map(|ways| ways.links.clone());
        links.map_or_else(Default::default, |links| (links.status(), links.counts()))
    }

    /// Brokers there are, this one included, and those of them that are in doubt.
    pub(super) fn member_counts(&self) -> (usize, usize) {
        let brokers = self.state.lock().brokers.clone();
        brokers.map_or((1, 0), |brokers| (brokers.present.len() + 1, brokers.suspect.len()))
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
        (state.clock_error_millis, off, state.clock_alarm.is_some())
    }

    /// Milliseconds for which this broker may still acknowledge.
    pub(super) fn lease_millis(&self, now: Tick) -> u64 {
        self.state.lock().lease_until.saturating_since(now)
    }

    /// All of it, for `GET /cluster`.
    pub(in crate::node) fn to_json(&self, broker: &Broker, now: Tick) -> Value {
        let Some(peers) = broker.peers() else { return Value::Null };
        let (links, counts) = self.links();
        let timeout = self.zookeeper().map(|counters| counters.session_timeout().as_millis());
        let state = self.state.lock();
        let brokers = state.brokers.as_ref();
        let slots = state.slots.as_ref();
        let member = |member: &Member, is_suspect: bool| {
            let peer = peers.find(member.boot_id);
            let lane = peer.as_ref().map(|peer| peer.lane().counts());
            let link = links.iter().find(|link| link.boot_id == member.boot_id);
            json!({
                "name": &*member.name,
                "boot_id": member.boot_id.to_string(),
                "link_address": member.link_address,
                "zone": member.zone,
                "state": format!("{:?}", member.state).to_lowercase(),
                "suspect": is_suspect,
                "leading": state.leader == Some(member.boot_id),
                "lane": state.lanes.get(&member.boot_id).map(|lane| lane.as_str()),
                "slots": slots.map(|map| map.slots_of(member.boot_id)),
                "interest_filters": peer.as_ref().map(|peer| peer.interest_len()),
                "unanswered_messages": peer.as_ref().map(|peer| peer.unanswered_count()),
                "unreceived_bytes": lane.as_ref().map(|lane| lane.data_bytes),
                "frames_sent": lane.as_ref().map(|lane| lane.offered.data),
                "link": link.map(|link| link_json(link, now)),
            })
        };
        let present = brokers.into_iter().flat_map(|brokers| &brokers.present);
        let suspect = brokers.into_iter().flat_map(|brokers| &brokers.suspect);
        let members =
            present.map(|one| member(one, false)).chain(suspect.map(|one| member(one, true)));
        let leader_name = brokers.zip(state.leader).and_then(|(brokers, id)| brokers.name_of(id));
        let (version, _, filters) = peers.interest().summary();
        json!({
            "name": &**peers.name(),
            "boot_id": peers.boot_id().to_string(),
            "state": brokers.map(|brokers| format!("{:?}", brokers.own.state).to_lowercase()),
            "leading": state.is_leading,
            "leader": state.leader.map(|boot_id| json!({
                "name": leader_name,
                "boot_id": boot_id.to_string(),
            })),
            "zookeeper": if state.reaches_zookeeper { "connected" } else { "lost" },
            "session_timeout_millis": timeout,
            "membership_frozen": state.is_frozen,
            "lease_millis": state.lease_until.saturating_since(now),
            "clock": {
                "cluster_millis": peers.cluster_millis(now),
                "error_millis": state.clock_error_millis,
                "own_ahead_millis": state.own_clock_ahead_millis,
                "alarm": state.clock_alarm.is_some(),
                "wrong": state.clock_alarm.map(|alarm| format!("{alarm:?}").to_lowercase()),
            },
            "topics": {
                "known": state.topics.known,
                "registered_here": state.topics.registered,
                "waiting": state.topics.backlog,
                "values_written": state.topics.values_written,
            },
            "bank": {
                "free": state.bank.free.map(funds),
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
            "links": {
                "accepted": counts.accepted,
                "refused": counts.refused,
                "put_off": counts.put_off,
                "unreached": state.is_unreached,
                "received_bytes": counts.received_bytes,
            },
            "slot_epoch": slots.map(|map| map.epoch()),
            "slots": slots.map(|map| map.slots_of(peers.boot_id())),
            "declared_dead": slots.map(|map| declared_dead(map, peers.cluster_millis(now))),
            "interest": { "version": version, "filters": filters, "subacks_waiting": waiting(peers) },
            "members": members.collect::<Vec<_>>(),
        })
    }
}

impl Brokers {
    fn of(membership: &Membership) -> Self {
        Self {
            revision: membership.revision(),
            own: membership.own().clone(),
            present: membership.present().cloned().collect(),
            suspect: membership.suspect().cloned().collect(),
        }
    }

    fn is_of(&self, membership: &Membership) -> bool {
        self.revision == membership.revision() && self.own.boot_id == membership.own().boot_id
    }

    fn name_of(&self, boot_id: BootId) -> Option<&str> {
        let all = self.present.iter().chain(&self.suspect).chain([&self.own]);
        all.filter(|member| member.boot_id == boot_id).map(|member| &*member.name).next()
    }
}

/// Our link to a peer, and its link to us.
fn link_json(link: &LinkStatus, now: Tick) -> Value {
    json!({
        "address": link.address,
        "up_millis": link.connected_since.map(|since| now.saturating_since(since)),
        "accepted_from": link.accepted.map(|(address, _)| address.to_string()),
        "round_trip_micros": link.round_trip.map(|round_trip| round_trip.as_micros()),
        "connects": link.connects,
        "failures": link.failures,
        "troubled": link.is_troubled,
        "last_error": link.last_error,
    })
}

fn funds(funds: Funds) -> Value {
    json!({
        "topics": funds.topics,
        "znode_bytes": funds.znode_bytes,
        "relay_bytes": funds.relay_bytes,
    })
}

/// Those that may come back and not know of it: of a day, however long no map was written.
fn declared_dead(map: &SlotMap, cluster_millis: u64) -> Vec<String> {
    let now_secs = u32::try_from(cluster_millis / 1_000).unwrap_or(u32::MAX);
    map.dead_within_a_day(now_secs).map(|boot_id| boot_id.to_string()).collect()
}

fn waiting(peers: &Peers) -> usize {
    peers.interest().waiting_count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::identity::{MemberState, WireVersions};
    use crate::cluster::membership::output::MembershipOptions;
    use crate::cluster::tickets::{Owner, TicketSource};

    /// The task woke a thousand times a second under load, and made the same list each time.
    #[test]
    fn the_list_of_brokers_is_made_anew_only_when_it_has_changed() {
        let options = MembershipOptions {
            name: "b".into(),
            link_address: "b:1884".to_owned(),
            zone: String::new(),
            wire: WireVersions::OURS,
            session_timeout_millis: 6_000,
        };
        let tickets = TicketSource::new(Owner::Membership);
        let mut membership = Membership::new(options, BootId(1), tickets, Tick::ZERO);
        let clock = ClusterClock::new(6_000, TicketSource::new(Owner::Clock));
        let status = Status::default();
        let note = |membership: &Membership| {
            status.note(membership, &clock, Tick::ZERO);
            status.state.lock().brokers.clone().unwrap()
        };
        let first = note(&membership);
        assert!(Arc::ptr_eq(&first, &note(&membership)));
        membership.set_state(Tick::ZERO, MemberState::Up);
        let second = note(&membership);
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(second.own.state, MemberState::Up);
    }
}
