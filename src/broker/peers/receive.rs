//! What comes from another broker: matched here, never passed on.

use std::sync::Arc;

use crate::broker::peers::Peers;
use crate::broker::peers::forward::is_own_business;
use crate::broker::peers::peer::Peer;
use crate::broker::publish::PublishOutcome;
use crate::broker::turn::Turn;
use crate::cluster::frame::{ControlFrame, Cursors, Fate, Outcome, PublishFrame, StreamKind};
use crate::cluster::inbound::Gap;
use crate::cluster::interest::RouteChanges;
use crate::cluster::wire::{Batch, WireError};
use crate::mqtt::{QoS, TopicName};
use crate::ports::message::{Message, MessageId, Publisher};

/// Why a batch of another broker is not taken; its link is closed and resumes behind what was.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// Frames are missing before it.
    #[error(transparent)]
    Gap(#[from] Gap),
    /// It is not what the protocol says.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// By which lane something came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Via {
    Link,
    /// Through the tree of znodes: it proves nothing of who is there now.
    Relay,
}

impl Turn<'_> {
    /// Takes a batch of `peer`: what of it has not been taken before, in order.
    ///
    /// # Errors
    ///
    /// The link is to be closed. What came before the fault has been taken.
    pub fn receive_batch(
        &mut self,
        peers: &Peers,
        peer: &Arc<Peer>,
        batch: &Batch,
    ) -> Result<(), BatchError> {
        self.receive_via(peers, peer, batch, Via::Link)
    }

    /// The same for a batch that was relayed. It is no sign that the peer answers by its link.
    ///
    /// # Errors
    ///
    /// What is relayed is to begin again. What came before the fault has been taken.
    pub fn receive_relayed(
        &mut self,
        peers: &Peers,
        peer: &Arc<Peer>,
        batch: &Batch,
    ) -> Result<(), BatchError> {
        self.receive_via(peers, peer, batch, Via::Relay)
    }

    /// The peer cannot send again what is up to `gone`, by whatever lane; how far it has been
    /// received now. What it gave up and said of its interest is asked for again.
    pub fn resume(&mut self, peer: &Peer, gone: Cursors) -> Cursors {
        let (received, has_lost) = {
            let mut inbound = peer.inbound().lock();
            let has_lost = inbound.resume(gone);
            (inbound.received(), has_lost)
        };
        if has_lost {
            self.tell(peer, &ControlFrame::InterestWanted);
        }
        received
    }

    fn receive_via(
        &mut self,
        peers: &Peers,
        peer: &Arc<Peer>,
        batch: &Batch,
        via: Via,
    ) -> Result<(), BatchError> {
        // Held while frames are handled: an old connection of the same peer may not be gone yet.
        let mut inbound = peer.inbound().lock();
        let known = inbound.known(batch)? as usize;
        let mut outcomes = Vec::new();
        for frame in batch.frames().skip(known) {
            let frame = frame?;
            let seq = frame.seq;
            match batch.kind {
                StreamKind::Data => {
                    let publish = frame.publish()?;
                    let qos = publish.qos;
                    let fate = self.receive_publish(peers, publish);
                    note_outcome(&mut outcomes, seq, qos, fate);
                }
                StreamKind::Control => {
                    let control = frame.control()?;
                    self.receive_control(peers, peer, control, via);
                }
            }
            inbound.advance(batch.kind, seq);
        }
        drop(inbound);
        if batch.kind == StreamKind::Data {
            self.shard.wake_later(peers.ownership().note_data());
        }
        if !outcomes.is_empty() {
            let wake = peer.tell(&ControlFrame::Done(outcomes));
            self.shard.wake_later(wake);
        }
        Ok(())
    }

    fn receive_publish(&mut self, peers: &Peers, frame: PublishFrame) -> Fate {
        self.shard.counters.peer_publishes_received.increment();
        let version = frame.version;
        let message = Message {
            topic: frame.topic,
            payload: frame.payload,
            properties: frame.properties,
            qos: frame.qos,
            retain: frame.retain,
            publisher: Publisher(frame.publisher),
            id: MessageId(frame.message_id),
            expires_at: frame.expires_at_millis.map(|millis| peers.tick(millis)),
            is_in_transit: true,
        };
        if let Some(version) = version
            && !is_own_business(message.topic.as_str())
        {
            self.merge_retained(peers, &message, version);
        }
        let mut moved = Vec::new();
        let outcome =
            self.publish_from_peer(message, frame.is_for_subscribers, &frame.groups, &mut moved);
        match outcome {
            PublishOutcome::Refused(refusal) => Fate::Refused(refusal.reason_code()),
            _ if !moved.is_empty() => Fate::GroupsMoved(moved),
            PublishOutcome::NoMatchingSubscribers => Fate::NoMatch,
            PublishOutcome::Accepted | PublishOutcome::Pending(_) => Fate::Enqueued,
        }
    }

    fn receive_control(&mut self, peers: &Peers, peer: &Arc<Peer>, frame: ControlFrame, via: Via) {
        match frame {
            ControlFrame::InterestSnapshot => peer.interest().lock().begin_snapshot(),
            ControlFrame::InterestAdded { version, entries } => {
                let changes = peer.interest().lock().add(version, entries);
                self.apply_interest(peer, &changes);
                self.confirm_interest(peer);
            }
            ControlFrame::InterestRemoved { version, filters } => {
                let changes = peer.interest().lock().remove(version, filters);
                self.apply_interest(peer, &changes);
                self.confirm_interest(peer);
            }
            ControlFrame::InterestComplete { version, .. } => {
                let changes = peer.interest().lock().complete_snapshot(version);
                self.apply_interest(peer, &changes);
                peer.note_interest_told();
                self.confirm_interest(peer);
                if !peer.has_told_retained() {
                    self.tell(peer, &ControlFrame::RetainedWanted { after: None });
                }
            }
            ControlFrame::InterestApplied { version } => {
                let mut wakes = Vec::new();
                peers.interest().note_applied(peer.boot_id(), version, &mut wakes);
                self.shard.wake_each(wakes);
            }
            ControlFrame::InterestWanted => {
                let mut wakes = Vec::new();
                peers.interest().repeat(peer.boot_id(), &mut wakes);
                self.shard.wake_each(wakes);
            }
            ControlFrame::Done(outcomes) => self.handle_outcomes(peer, &outcomes),
            ControlFrame::RetainedWanted { after } => {
                self.tell_retained(peers, peer, after.as_ref().map(TopicName::as_str));
            }
            ControlFrame::Retained(value) => self.merge_value(peers, value),
            ControlFrame::RetainedMore { after } => {
                self.tell(peer, &ControlFrame::RetainedWanted { after: Some(after) });
            }
            ControlFrame::RetainedComplete => peer.note_retained_told(),
            ControlFrame::Ping { version, checksum, has_lease, cluster_millis } => {
                if via == Via::Link {
                    peer.note_ping(self.now, has_lease, cluster_millis);
                }
                let disagrees = {
                    let interest = peer.interest().lock();
                    !interest.is_in_snapshot()
                        && interest.version() == version
                        && interest.checksum() != checksum
                };
                if disagrees {
                    self.shard.counters.interest_disagreements.increment();
                    self.tell(peer, &ControlFrame::InterestWanted);
                }
            }
            ControlFrame::Claim(_)
            | ControlFrame::Grant(_)
            | ControlFrame::ClaimRefused { .. }
            | ControlFrame::Revoke(_)
            | ControlFrame::Handover(_)
            | ControlFrame::Released { .. }
            | ControlFrame::Report(_)
            | ControlFrame::ReportComplete { .. }
            | ControlFrame::HandoverWanted { .. }
            | ControlFrame::HandoverDeclined { .. }
            | ControlFrame::MarkWanted { .. }
            | ControlFrame::Mark { .. } => self.receive_ownership(peers, peer, frame),
        }
    }

    /// Tells `peer` something and wakes its link when the turn ends.
    pub(crate) fn tell(&mut self, peer: &Peer, frame: &ControlFrame) {
        let wake = peer.tell(frame);
        self.shard.wake_later(wake);
    }

    fn apply_interest(&mut self, peer: &Arc<Peer>, changes: &RouteChanges) {
        if !changes.added.is_empty() {
            self.broker.add_routes(peer, &changes.added);
        }
        if !changes.removed.is_empty() {
            self.broker.remove_routes(peer, &changes.removed);
        }
    }

    /// After the routes are changed: every publish from here on finds them.
    fn confirm_interest(&mut self, peer: &Peer) {
        let version = {
            let interest = peer.interest().lock();
            if interest.is_in_snapshot() {
                return;
            }
            interest.version()
        };
        self.tell(peer, &ControlFrame::InterestApplied { version });
    }
}

/// Adds what came of one frame; runs of the same fate are one entry.
fn note_outcome(outcomes: &mut Vec<Outcome>, sequence: u64, qos: QoS, fate: Fate) {
    if qos == QoS::AtMostOnce {
        return;
    }
    if let Some(last) = outcomes.last_mut()
        && last.fate == fate
    {
        // Frames of QoS 0 in between count and mean nothing.
        let count = sequence - last.first + 1;
        last.count = u32::try_from(count).unwrap_or(u32::MAX);
        return;
    }
    outcomes.push(Outcome { first: sequence, count: 1, fate });
}
