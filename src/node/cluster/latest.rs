//! Latest values on their way from the broker to the tree of znodes.

use super::task::ClusterTask;
use crate::ports::clock::Tick;

impl ClusterTask {
    /// Takes the values that have changed, a few times a second however often they change.
    pub(super) fn take_latest(&mut self) {
        let Some(peers) = self.broker.peers() else { return };
        let now = self.clock.now();
        if self.latest_at > now || !peers.topics().has_latest() {
            return;
        }
        self.latest_at = now.plus_millis(PERIOD_MILLIS);
        let topics = peers.topics().take_latest();
        let values: Vec<_> = self.context.run(&self.broker, now, |turn| {
            topics.iter().filter_map(|topic| turn.own_latest(peers, topic)).collect()
        });
        for value in &values {
            self.registry.set_latest(now, value);
        }
    }

    /// When [`Self::take_latest`] is due, if it is.
    pub(super) fn next_latest(&self) -> Option<Tick> {
        let peers = self.broker.peers()?;
        peers.topics().has_latest().then_some(self.latest_at)
    }
}

/// How often they are taken.
const PERIOD_MILLIS: u64 = 50;
