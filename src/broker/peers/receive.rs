//! What comes from another broker: matched here, never passed on.

use std::sync::Arc;

use crate::broker::latest::Audience;
use crate::broker::peers::Peers;
use crate::broker::peers::forward::is_own_business;
use crate::broker::peers::peer::{Peer, Withheld};
use crate::broker::publish::{LastRoute, PublishOutcome};
use crate::broker::turn::Turn;
use crate::cluster::frame::{ControlFrame, Fate, Outcome, PublishFrame, StreamKind};
use crate::cluster::inbound::Gap;
use crate::cluster::interest::RouteChanges;
use crate::cluster::version::Version;
use crate::cluster::wire::{Batch, ENTRIES_MAX, WireError};
use crate::mqtt::{QoS, ReasonCode};
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
    /// The peer was declared dead while it was on its way here.
    #[error("the broker it is from was declared dead")]
    Gone,
    /// The store says that this broker is dead: its Sessions are others'.
    #[error("this broker was declared dead")]
    Over,
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

    fn receive_via(
        &mut self,
        peers: &Peers,
        peer: &Arc<Peer>,
        batch: &Batch,
        via: Via,
    ) -> Result<(), BatchError> {
        if batch.kind == StreamKind::Data && self.is_life_over() {
            // It would match nobody here, and whoever published it would be told so before it knows that
            // this broker is dead: it is to be held for those who have the Sessions next.
            return Err(BatchError::Over);
        }
        let mut outcomes = Outcomes::default();
        let taken = self.take_frames(peers, peer, (batch, via), &mut outcomes);
        if batch.kind == StreamKind::Data {
            self.shard.wake_later(peers.ownership().note_data());
            self.shard.wake_later(peers.adoptions().note_data());
        }
        if self.is_life_over() {
            // It has ended meanwhile, at another shard.
            let refused = Fate::Refused(ReasonCode::ServerBusy);
            outcomes.at_once.iter_mut().for_each(|one| one.fate = refused.clone());
        }
        // Also of a batch that is broken further on: what was taken does not come again.
        for part in outcomes.at_once.chunks(ENTRIES_MAX) {
            let wake = peer.tell_done(part);
            self.shard.wake_later(wake);
        }
        self.tell_when_stored(peer, outcomes.when_stored);
        taken
    }

    /// Whether the store has said that this broker is dead, which it is still to hear of.
    pub(super) fn is_life_over(&self) -> bool {
        self.broker.durable().is_some_and(|durable| durable.is_refused())
    }

    fn take_frames(
        &mut self,
        peers: &Peers,
        peer: &Arc<Peer>,
        (batch, via): (&Batch, Via),
        outcomes: &mut Outcomes,
    ) -> Result<(), BatchError> {
        // Held while frames are handled: an old connection of the same peer may not be gone yet.
        let mut inbound = peer.inbound().lock();
        if inbound.is_closed() {
            return Err(BatchError::Gone);
        }
        let known = inbound.known(batch)? as usize;
        let mut last_route = None;
        for frame in batch.frames().skip(known) {
            let frame = frame?;
            let seq = frame.seq;
            match batch.kind {
                StreamKind::Data => {
                    let last_topic = last_route.as_ref().map(LastRoute::topic);
                    let publish = frame.publish_after(last_topic)?;
                    let qos = publish.qos;
                    let fate = if qos == QoS::ExactlyOnce && !publish.groups.is_empty() {
                        self.receive_shared_once(peers, (peer, seq), publish, &mut last_route)
                    } else {
                        self.receive_publish(peers, publish, &mut last_route)
                    };
                    outcomes.note(seq, qos, fate, self.takes_store());
                }
                StreamKind::Control => {
                    let control = frame.control()?;
                    self.receive_control(peers, peer, control, via);
                }
            }
            inbound.advance(batch.kind, seq);
        }
        Ok(())
    }

    /// A message that one member is to get once, whatever becomes of this broker and of `peer`.
    fn receive_shared_once(
        &mut self,
        peers: &Peers,
        (peer, seq): (&Peer, u64),
        frame: PublishFrame,
        last_route: &mut Option<LastRoute>,
    ) -> Fate {
        let message = MessageId(frame.message_id);
        let was_given = peers.doubtful().was_given(peer, message);
        peer.unconfirmed().note(seq, message, was_given, peer.lane().gone().control);
        if was_given {
            return Fate::Enqueued;
        }
        self.receive_publish(peers, frame, last_route)
    }

    fn receive_publish(
        &mut self,
        peers: &Peers,
        frame: PublishFrame,
        last_route: &mut Option<LastRoute>,
    ) -> Fate {
        self.shard.counters.peer_publishes_received.increment();
        let version = frame.version;
        let message = Arc::new(Message {
            topic: frame.topic,
            payload: frame.payload,
            properties: frame.properties,
            qos: frame.qos,
            retain: frame.retain,
            publisher: Publisher(frame.publisher),
            id: MessageId(frame.message_id),
            expires_at: frame.expires_at_millis.map(|millis| peers.tick(millis)),
            is_in_transit: true,
        });
        if let Some(version) = version
            && !is_own_business(message.topic.as_str())
        {
            self.merge_versioned(peers, &message, version, frame.is_for_subscribers);
        }
        let mut moved = Vec::new();
        let receivers = (frame.is_for_subscribers, &*frame.groups);
        let outcome =
            self.publish_from_peer_to(frame.whom, message, receivers, last_route, &mut moved);
        match outcome {
            PublishOutcome::Refused(refusal) => Fate::Refused(refusal.reason_code()),
            _ if !moved.is_empty() => Fate::GroupsMoved(moved),
            PublishOutcome::NoMatchingSubscribers => Fate::NoMatch,
            PublishOutcome::Accepted | PublishOutcome::Pending(_) => Fate::Enqueued,
        }
    }

    /// Keeps what a message says is to be kept.
    pub(super) fn merge_versioned(
        &mut self,
        peers: &Peers,
        message: &Message,
        version: Version,
        is_offered: bool,
    ) {
        let audience = if is_offered { Audience::Subscribers } else { Audience::Nobody };
        if message.retain {
            self.merge_retained(peers, message, version);
        } else {
            self.merge_latest_message(peers, message, version, audience);
        }
    }

    fn receive_control(&mut self, peers: &Peers, peer: &Arc<Peer>, frame: ControlFrame, via: Via) {
        match frame {
            ControlFrame::InterestSnapshot => peer.interest().lock().begin_snapshot(),
            ControlFrame::InterestAdded { version, entries } => {
                let changes = peer.interest().lock().add(version, entries);
                self.apply_interest(peer, &changes);
                self.confirm_interest(peer);
                self.note_interest_in_effect(peers);
            }
            ControlFrame::InterestRemoved { version, filters } => {
                let changes = peer.interest().lock().remove(version, filters);
                self.apply_interest(peer, &changes);
                self.confirm_interest(peer);
            }
            ControlFrame::InterestComplete { version, checksum } => {
                self.complete_interest(peer, version, checksum);
                self.note_interest_in_effect(peers);
            }
            ControlFrame::InterestApplied { version } => {
                let mut wakes = Vec::new();
                peers.interest().note_applied(peer.boot_id(), version, &mut wakes);
                self.shard.wake_each(wakes);
            }
            ControlFrame::InterestWanted => self.tell_again(peers, peer),
            ControlFrame::Done(outcomes) => self.handle_outcomes(peer, &outcomes),
            ControlFrame::RetainedWanted { after } => {
                self.tell_retained(peers, peer, after.as_ref());
            }
            ControlFrame::Retained(value) => self.merge_value(peers, value),
            ControlFrame::Latest(value) => self.merge_latest_value(peers, value),
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
                    let differs = !interest.is_in_snapshot()
                        && interest.version() == version
                        && interest.checksum() != checksum;
                    differs || interest.awaits_snapshot()
                };
                if disagrees {
                    self.shard.counters.interest_disagreements.increment();
                    self.tell(peer, &ControlFrame::InterestWanted);
                }
            }
            ControlFrame::DigestsWanted(question) => {
                let reader = peers.topics().note_question(peer.boot_id(), question);
                self.shard.wake_later(reader);
            }
            ControlFrame::Digests { number, parts } => {
                self.shard.wake_later(peers.topics().note_digests(number, parts));
            }
            ControlFrame::SlotsWanted { after } => self.tell_slots(peers, peer, after),
            ControlFrame::Slots(record) => self.note_slots(peers, peer, record),
            ControlFrame::Adopted(adopted) => self.hear_adopted(peers, peer, adopted),
            ControlFrame::Mourned { dead, data } => self.hear_mourned(peers, peer, (dead, data)),
            ControlFrame::Will(frame) => self.receive_will(peers, peer, *frame),
            ControlFrame::Claim(_)
            | ControlFrame::Grant(_)
            | ControlFrame::ClaimRefused { .. }
            | ControlFrame::Revoke(_)
            | ControlFrame::Foreign { .. }
            | ControlFrame::Handover(_)
            | ControlFrame::Released { .. }
            | ControlFrame::Report { .. }
            | ControlFrame::ReportComplete { .. }
            | ControlFrame::Settled { .. }
            | ControlFrame::HandoverTaken { .. }
            | ControlFrame::HandoverDeclined { .. }
            | ControlFrame::MarkWanted { .. }
            | ControlFrame::Mark { .. } => {
                if let ControlFrame::Claim(claim) = &frame {
                    let (at, wants_session) = (Some(peer.boot_id()), claim.wants_session);
                    peers.wills().note_return(at, &claim.client_id, wants_session);
                }
                self.receive_ownership(peers, peer, frame);
            }
        }
    }

    fn complete_interest(&mut self, peer: &Arc<Peer>, version: u64, checksum: u64) {
        let changes = peer.interest().lock().complete_snapshot(version, checksum);
        let Ok(changes) = changes else {
            // What is missing is asked for at its next ping: it must not come to a ping-pong.
            self.shard.counters.interest_disagreements.increment();
            return;
        };
        self.apply_interest(peer, &changes);
        peer.note_interest_told();
        self.confirm_interest(peer);
        if !peer.has_told_retained() {
            self.tell(peer, &ControlFrame::RetainedWanted { after: None });
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
        peer.interest().lock().note_routed();
    }

    /// Up to where the routes are changed: every publish from here on finds them. Others come here
    /// while a batch of `peer` is read.
    pub(crate) fn confirm_interest(&mut self, peer: &Peer) {
        let version = {
            let interest = peer.interest().lock();
            if interest.is_in_snapshot() {
                return;
            }
            interest.routed_version()
        };
        match peer.tell_unless_behind(&ControlFrame::InterestApplied { version }) {
            Ok(wake) => self.shard.wake_later(wake),
            Err(Withheld) => peer.owe_confirmation(),
        }
    }
}

/// What came of the messages of a batch.
#[derive(Default)]
struct Outcomes {
    at_once: Vec<Outcome>,
    /// Of those that somebody here is to have in the store.
    when_stored: Vec<Outcome>,
    /// Whether the last one was of those.
    was_stored: bool,
}

impl Outcomes {
    /// Adds what came of one frame.
    fn note(&mut self, sequence: u64, qos: QoS, fate: Fate, is_stored: bool) {
        if qos == QoS::AtMostOnce {
            return;
        }
        // A run ends with the first frame that is answered at another time.
        let may_go_on = std::mem::replace(&mut self.was_stored, is_stored) == is_stored;
        let outcomes = if is_stored { &mut self.when_stored } else { &mut self.at_once };
        note_outcome(outcomes, sequence, fate, may_go_on);
    }
}

/// Adds what came of one frame; runs of the same fate are one entry.
fn note_outcome(outcomes: &mut Vec<Outcome>, sequence: u64, fate: Fate, may_go_on: bool) {
    if let Some(last) = outcomes.last_mut().filter(|_| may_go_on)
        && last.fate == fate
    {
        // Frames of QoS 0 in between count and mean nothing.
        let count = sequence - last.first + 1;
        last.count = u32::try_from(count).unwrap_or(u32::MAX);
        return;
    }
    outcomes.push(Outcome { first: sequence, count: 1, fate });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that went on over a frame in between said that this one was taken as well, which was not
    /// stored yet.
    #[test]
    fn a_run_ends_with_a_frame_that_is_answered_later() {
        let mut outcomes = Outcomes::default();
        for (sequence, qos, is_stored) in [
            (1, QoS::AtLeastOnce, false),
            (2, QoS::AtLeastOnce, true),
            (3, QoS::AtLeastOnce, false),
            (4, QoS::AtMostOnce, false),
            (5, QoS::ExactlyOnce, false),
            (6, QoS::AtLeastOnce, true),
            (7, QoS::AtLeastOnce, true),
        ] {
            outcomes.note(sequence, qos, Fate::Enqueued, is_stored);
        }
        let runs = |outcomes: Vec<Outcome>| -> Vec<_> {
            outcomes.into_iter().map(|outcome| (outcome.first, outcome.count)).collect()
        };
        assert_eq!(runs(outcomes.at_once), [(1, 1), (3, 3)]);
        assert_eq!(runs(outcomes.when_stored), [(2, 1), (6, 2)]);
    }
}
