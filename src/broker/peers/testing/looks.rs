//! What can be seen of brokers and connections.

use std::sync::Arc;

use super::{Cluster, LineId, boot_id, peers};
use crate::broker::Broker;
use crate::broker::event::Event;
use crate::broker::peers::ownership::OwnershipCounts;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::wills::WillCounts;
use crate::cluster::lane::LaneCounts;

impl Cluster {
    /// What a broker knows of wills.
    pub(crate) fn will_counts(&self, node: usize) -> WillCounts {
        peers(&self.nodes[node].broker).wills().counts()
    }

    /// What there was and is on the way from one broker to another.
    pub(crate) fn lane(&self, from: usize, to: usize) -> LaneCounts {
        self.links[&(from, to)].lane.counts()
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

    /// Whether a CONNECT was accepted and the connection lasts.
    pub(crate) fn is_open(&self, line: LineId) -> bool {
        self.lines[line.0].connection.is_open()
    }

    /// Whether the broker has ended the connection.
    pub(crate) fn is_closed(&self, line: LineId) -> bool {
        self.lines[line.0].connection.is_closed()
    }
}
