//! What other brokers say of their leases, for one that has lost the ensemble.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::broker::peers::Peers;
use crate::cluster::identity::BootId;
use crate::cluster::membership::output::PeerLease;
use crate::ports::clock::Tick;

/// Brokers that dialled us and that we do not know from the tree of znodes, and when they did.
///
/// One that has our address has it from the tree, and may declare us dead.
#[derive(Debug, Default)]
pub(super) struct UnknownCallers(Mutex<BTreeMap<BootId, Tick>>);

impl Peers {
    /// What each broker has said of its lease within `fresh_millis`, by when it came here and by the
    /// time of the cluster at which it was sent: what waited on a link that was cut is old.
    #[must_use]
    pub fn lease_answers(&self, now: Tick, fresh_millis: u64) -> Vec<(BootId, PeerLease)> {
        let cluster_millis = self.cluster_millis(now);
        let live = self.live();
        let answers = live.iter().filter_map(|peer| {
            let heard = peer.heard();
            let is_fresh = now.saturating_since(heard.at) <= fresh_millis
                && cluster_millis.abs_diff(heard.cluster_millis) <= fresh_millis;
            let lease = if heard.has_lease { PeerLease::Committed } else { PeerLease::Uncommitted };
            is_fresh.then_some((peer.boot_id(), lease))
        });
        let mut unknown_callers = self.unknown_callers.0.lock();
        unknown_callers.retain(|_, at| now.saturating_since(*at) <= fresh_millis);
        let unknown_callers =
            unknown_callers.keys().filter(|id| live.iter().all(|peer| peer.boot_id() != **id));
        answers.chain(unknown_callers.map(|boot_id| (*boot_id, PeerLease::Committed))).collect()
    }

    /// A broker of this cluster has dialled that the tree has not shown us.
    pub fn note_stranger(&self, boot_id: BootId, now: Tick) {
        let mut unknown_callers = self.unknown_callers.0.lock();
        if unknown_callers.len() < UNKNOWN_CALLERS_MAX || unknown_callers.contains_key(&boot_id) {
            unknown_callers.insert(boot_id, now);
        }
    }
}

/// As many as a cluster can have. One is enough to know that somebody has the ensemble.
const UNKNOWN_CALLERS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::peers::peer::Peer;
    use crate::cluster::identity::{Member, MemberState, WireVersions};
    use crate::cluster::lane::{Lane, LaneOptions};
    use crate::routing::SubscriberKey;

    const THERE: BootId = BootId(2);
    const FRESH_MILLIS: u64 = 2_000;

    fn at(millis: u64) -> Tick {
        Tick::from_millis(millis)
    }

    /// One peer, and a time of the cluster that is ours and a million.
    fn with_peer() -> (Peers, Arc<Peer>) {
        let peers = Peers::new(BootId(1), "here".into(), 1, LaneOptions::default());
        peers.set_clock_offset(1_000_000);
        let lane = Arc::new(Lane::new(LaneOptions::default()));
        let member = Member {
            name: "there".into(),
            boot_id: THERE,
            link_address: String::new(),
            zone: String::new(),
            wire: WireVersions::OURS,
            state: MemberState::Up,
        };
        let peer = Arc::new(Peer::new(&member, SubscriberKey(9), lane, 1));
        *peers.live.write() = Arc::from([Arc::clone(&peer)]);
        (peers, peer)
    }

    #[test]
    fn who_has_said_nothing_has_not_answered() {
        let (peers, _peer) = with_peer();
        assert_eq!(peers.lease_answers(at(10), FRESH_MILLIS), []);
    }

    /// *The link was cut, and what waited on it came seconds later.* It was taken for what the peer
    /// had to say by then, which had the ensemble again and was about to declare us dead.
    #[test]
    fn what_was_said_long_ago_is_no_answer_however_late_it_comes() {
        let (peers, peer) = with_peer();
        peer.note_ping(at(9_000), false, 1_000_000 + 8_900);
        let said = [(THERE, PeerLease::Uncommitted)];
        assert_eq!(peers.lease_answers(at(9_500), FRESH_MILLIS), said);
        assert_eq!(peers.lease_answers(at(11_001), FRESH_MILLIS), []);
        peer.note_ping(at(15_000), false, 1_000_000 + 10_000);
        assert_eq!(peers.lease_answers(at(15_000), FRESH_MILLIS), []);
    }

    #[test]
    fn a_stranger_that_dials_has_the_ensemble_until_the_tree_shows_it() {
        let (peers, peer) = with_peer();
        let stranger = BootId(7);
        peers.note_stranger(stranger, at(5_000));
        peers.note_stranger(THERE, at(5_000));
        peer.note_ping(at(5_000), false, 1_000_000 + 5_000);
        let said = [(THERE, PeerLease::Uncommitted), (stranger, PeerLease::Committed)];
        assert_eq!(peers.lease_answers(at(6_000), FRESH_MILLIS), said);
        assert_eq!(peers.lease_answers(at(7_500), FRESH_MILLIS), []);
    }
}
