//! What no link carries goes through the tree, and back when one does.

use crate::cluster::relay::LaneInUse;
use crate::sim::cluster::verdict::{Checker, Complaint, complaint};
use crate::sim::cluster::world::World;

impl World {
    pub(super) fn count_lane(&mut self, lane: LaneInUse) {
        self.count(match lane {
            LaneInUse::Link => "lanes changed to the link",
            LaneInUse::Relay => "lanes changed to the relay",
            LaneInUse::None => "lanes changed to none",
        });
    }

    /// A link is cut, and both brokers have the ensemble: what everybody publishes meanwhile comes to
    /// everybody all the same, before it is healed; then it goes by the link again.
    pub(super) fn judge_relay(&mut self) -> Result<(), Complaint> {
        let one = self.chance.place(self.nodes.len());
        let other = (one + 1 + self.chance.place(self.nodes.len() - 1)) % self.nodes.len();
        self.say(format_args!("b{one} and b{other} are cut off from each other for good"));
        let before = self.relayed_frames();
        self.cut_for_good(one, other);
        self.publish_once_more()?;
        if let Err(Complaint { checker, words }) = self.drain() {
            return complaint(checker, format!("{words}; {}", self.relays()));
        }
        self.await_lanes(one, other, LaneInUse::Relay)?;
        if self.relayed_frames() == before {
            return complaint(Checker::Relay, "nothing has been relayed");
        }
        self.cuts.clear();
        self.say("they are not any more");
        if !self.terms.is_some_and(|terms| terms.relays_all) {
            self.await_lanes(one, other, LaneInUse::Link)?;
        }
        self.drain()
    }

    fn await_lanes(
        &mut self,
        one: usize,
        other: usize,
        wanted: LaneInUse,
    ) -> Result<(), Complaint> {
        for _ in 0..LOOKS_MAX {
            self.run_until(self.now + LOOK_MILLIS)?;
            let lanes = [self.lane_between(one, other), self.lane_between(other, one)];
            if lanes == [wanted; 2] {
                return Ok(());
            }
        }
        let lanes = [self.lane_between(one, other), self.lane_between(other, one)];
        let words =
            format!("frames between b{one} and b{other} go by {lanes:?}, not the {wanted:?}");
        complaint(Checker::Relay, words)
    }

    fn lane_between(&mut self, from: usize, to: usize) -> LaneInUse {
        let to = self.process(to).map(|process| process.boot_id);
        let from = self.process(from);
        from.zip(to).map_or(LaneInUse::None, |(process, to)| process.lane_in_use(to))
    }

    /// What relays and those who pay for them say of themselves.
    fn relays(&self) -> String {
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let keepers = processes.filter_map(|process| process.keeper.as_ref());
        let readings: Vec<_> =
            keepers.map(|keeper| (keeper.relay.readings(), keeper.registry.readings().1)).collect();
        format!("{readings:?}")
    }

    fn relayed_frames(&self) -> u64 {
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let keepers = processes.filter_map(|process| process.keeper.as_ref());
        keepers.map(|keeper| keeper.relay.readings().sent_frames).sum()
    }
}

const LOOK_MILLIS: u64 = 250;
/// Lanes have ten seconds to change.
const LOOKS_MAX: usize = 40;
