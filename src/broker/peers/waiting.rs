//! What a client is still to be told: acknowledgements that wait for other brokers.
//!
//! Each PUBACK and PUBREC leaves in the order of the PUBLISH it answers, and a SUBACK when every peer
//! knows the filters.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::broker::disconnect::{Client, EndCause};
use crate::broker::durable::{STORE_TROUBLE, Step};
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::subscribe::UnconfirmedSubscribe;
use crate::broker::turn::Turn;
use crate::mqtt::{PacketId, ProtocolVersion, QoS, ReasonCode};
use crate::ports::clock::Tick;

/// What one client waits for.
#[derive(Debug, Default)]
pub struct Waiting {
    publishes: VecDeque<UnansweredPublish>,
    pub(crate) subscribes: VecDeque<UnconfirmedSubscribe>,
    /// What the store is to have first.
    pub(crate) steps: VecDeque<Step>,
    /// When the store has kept the client waiting for too long, unless there is progress.
    gives_up_at: Option<Tick>,
}

/// A PUBLISH whose acknowledgement has not been sent.
#[derive(Debug)]
struct UnansweredPublish {
    id: PacketId,
    qos: QoS,
    answer: Answer,
    /// How often the client has sent it on its connection; each is answered [MQTT-4.3.3-10].
    asked: u32,
}

#[derive(Debug)]
enum Answer {
    /// Known, but others are to be answered first.
    Known(ReasonCode, Option<&'static str>),
    /// Other brokers have not answered.
    Pending(Arc<PublishTicket>),
}

impl Waiting {
    /// Acknowledgements that wait.
    #[must_use]
    pub fn publish_count(&self) -> usize {
        self.publishes.len()
    }

    /// SUBACKs that wait.
    #[must_use]
    pub fn subscribe_count(&self) -> usize {
        self.subscribes.len()
    }

    /// When something is to be done although nobody answers.
    #[must_use]
    pub fn due_at(&self) -> Option<Tick> {
        let late_at = self.subscribes.front().and_then(UnconfirmedSubscribe::late_at);
        late_at.into_iter().chain(self.gives_up_at).min()
    }

    /// Whether nothing is waited for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.publishes.is_empty() && self.subscribes.is_empty() && self.steps.is_empty()
    }

    fn len(&self) -> usize {
        self.publishes.len() + self.subscribes.len() + self.steps.len()
    }

    /// Whether the client knows that it waits for something.
    fn is_asked(&self) -> bool {
        let mut publishes = self.publishes.iter();
        publishes.any(|one| one.asked > 0) || !self.subscribes.is_empty() || !self.steps.is_empty()
    }

    /// The client sends a QoS 2 message again that is waited for: it is answered behind the first
    /// one. `false` when it is not waited for.
    pub(crate) fn ask_again(&mut self, id: PacketId) -> bool {
        let waiting = self.publishes.iter_mut().find(|one| one.id == id);
        if let Some(one) = waiting {
            one.asked = one.asked.saturating_add(1);
            return true;
        }
        false
    }

    /// The connection is gone: what it did not hear of QoS 1 it asks anew.
    pub(crate) fn detach(&mut self) {
        self.gives_up_at = None;
        self.subscribes.clear();
        self.publishes.retain(|one| one.qos == QoS::ExactlyOnce);
        for one in &mut self.publishes {
            one.asked = 0;
        }
    }
}

impl Client {
    /// Whether an acknowledgement has to wait for others before it.
    #[inline]
    pub(crate) fn has_unanswered(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.publishes.is_empty())
    }

    /// Whether as much waits for other brokers as may: the client is not read on.
    #[inline]
    #[must_use]
    pub fn is_unanswered_at_bound(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| {
            waiting.publish_count() >= UNANSWERED_MAX
                || waiting.subscribe_count() >= UNCONFIRMED_MAX
        })
    }

    /// Whether as much waits for the store as may: the client is not read on.
    #[inline]
    pub(crate) fn has_steps_at_bound(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.steps.len() >= STEPS_MAX)
    }

    pub(crate) fn answer_later(&mut self, qos: QoS, id: PacketId, ticket: Arc<PublishTicket>) {
        self.push_unanswered(qos, id, Answer::Pending(ticket));
    }

    pub(crate) fn answer_in_turn(
        &mut self,
        qos: QoS,
        id: PacketId,
        reason_code: ReasonCode,
        reason: Option<&'static str>,
    ) {
        self.push_unanswered(qos, id, Answer::Known(reason_code, reason));
    }

    fn push_unanswered(&mut self, qos: QoS, id: PacketId, answer: Answer) {
        let waiting = self.waiting.get_or_insert_default();
        waiting.publishes.push_back(UnansweredPublish { id, qos, answer, asked: 1 });
    }
}

impl Client {
    /// The client is away and its Session is to leave this broker: whether nothing is waited for any
    /// more. What was refused it sends again, as new.
    pub(crate) fn settle_unheard(&mut self, waker: &Waker) -> bool {
        loop {
            let waiting = self.waiting.as_mut();
            let Some(first) = waiting.and_then(|waiting| waiting.publishes.pop_front()) else {
                break;
            };
            if let Answer::Pending(ticket) = &first.answer {
                match ticket.poll(waker) {
                    None => {
                        if let Some(waiting) = &mut self.waiting {
                            waiting.publishes.push_front(first);
                        }
                        return false;
                    }
                    Some(
                        RemoteOutcome::Refused(_) | RemoteOutcome::Full | RemoteOutcome::Unknown,
                    ) => {
                        self.forget_publish(first.id);
                    }
                    Some(RemoteOutcome::Enqueued | RemoteOutcome::NoMatch) => {}
                }
            }
        }
        self.waiting = None;
        true
    }
}

impl Turn<'_> {
    /// Sends what need not wait any longer.
    ///
    /// # Errors
    ///
    /// A publish came to an end that no acknowledgement can tell: the connection is to be closed.
    pub(crate) fn settle_waiting(
        &mut self,
        client: &mut Client,
        waker: &Waker,
    ) -> Result<(), EndCause> {
        let Some(mut waiting) = client.waiting.take() else { return Ok(()) };
        let before = waiting.len();
        let settled = self
            .answer_publishes(client, &mut waiting.publishes, waker)
            .and_then(|()| self.confirm_subscribes(client, &mut waiting.subscribes, waker))
            .and_then(|()| self.take_steps(client, &mut waiting.steps, waker));
        if waiting.is_empty() {
            return settled;
        }
        let has_progressed = waiting.len() < before;
        let is_too_long = settled.is_ok() && self.is_kept_too_long(&mut waiting, has_progressed);
        client.waiting = Some(waiting);
        if is_too_long {
            self.shard.counters.store_waits_exceeded.increment();
            return Err(EndCause::new(ReasonCode::ServerBusy, STORE_TROUBLE));
        }
        settled
    }

    /// Whether a client has waited for the store for as long as it may. What it waits for goes on.
    fn is_kept_too_long(&self, waiting: &mut Waiting, has_progressed: bool) -> bool {
        if self.shard.keeper.is_none() || !waiting.is_asked() {
            waiting.gives_up_at = None;
            return false;
        }
        let is_due = waiting.gives_up_at.is_some_and(|at| at <= self.now) && !has_progressed;
        if is_due && self.is_store_late() {
            return true;
        }
        if is_due || has_progressed || waiting.gives_up_at.is_none() {
            let patience_millis = self.broker.options.store_wait_millis;
            waiting.gives_up_at = Some(self.now.plus_millis(patience_millis));
        }
        false
    }

    fn answer_publishes(
        &mut self,
        client: &mut Client,
        publishes: &mut VecDeque<UnansweredPublish>,
        waker: &Waker,
    ) -> Result<(), EndCause> {
        while let Some(first) = publishes.front() {
            let (reason_code, reason) = match &first.answer {
                Answer::Known(reason_code, reason) => (*reason_code, *reason),
                Answer::Pending(ticket) => match ticket.poll(waker) {
                    None => return Ok(()),
                    Some(RemoteOutcome::Enqueued) => (ReasonCode::Success, None),
                    Some(RemoteOutcome::NoMatch) => (ReasonCode::NoMatchingSubscribers, None),
                    // Nobody has it: a client of 5.0 is told so, as where its own queues are full.
                    Some(RemoteOutcome::Full)
                        if client.session.version() == ProtocolVersion::V5 =>
                    {
                        (ReasonCode::QuotaExceeded, Some(REFUSED_ELSEWHERE))
                    }
                    Some(RemoteOutcome::Full) => {
                        give_up_first(client, publishes);
                        return Err(EndCause::new(ReasonCode::QuotaExceeded, REFUSED_ELSEWHERE));
                    }
                    Some(RemoteOutcome::Refused(reason_code)) => {
                        give_up_first(client, publishes);
                        return Err(EndCause::new(reason_code, REFUSED));
                    }
                    Some(RemoteOutcome::Unknown) => {
                        give_up_first(client, publishes);
                        return Err(EndCause::new(ReasonCode::UnspecifiedError, ANSWER_LOST));
                    }
                },
            };
            if !self.wait_to_acknowledge(client, waker) {
                return Ok(());
            }
            let Some(first) = publishes.pop_front() else { return Ok(()) };
            let (qos, id) = (first.qos, first.id);
            for _ in 0..first.asked {
                client.session.answer_publish(qos, id, reason_code, reason, self.outbox);
                self.shard.counters.packets_sent.increment();
            }
        }
        Ok(())
    }

    /// The same for who is to be called when it does again.
    pub(crate) fn wait_to_acknowledge(&self, client: &Client, waker: &Waker) -> bool {
        let peers = self.broker.peers();
        peers.is_none_or(|peers| peers.wait_for_lease(self.now, client.session.key(), waker))
    }

    /// Whether what we acknowledge holds: not once others may have declared us dead.
    #[inline]
    pub(crate) fn may_acknowledge(&self) -> bool {
        self.broker.peers().is_none_or(|peers| peers.has_lease(self.now))
    }
}

const REFUSED: &str = "the message could not be stored, or not by another broker";
/// The first of what is not answered came to an end that no acknowledgement can tell. It comes again,
/// as new.
fn give_up_first(client: &mut Client, publishes: &mut VecDeque<UnansweredPublish>) {
    if let Some(first) = publishes.pop_front() {
        client.forget_publish(first.id);
    }
}

/// Publishes of one client that other brokers have not answered for, and SUBSCRIBEs that they have not
/// confirmed. More are not read until they have.
const UNANSWERED_MAX: usize = 1_024;
const UNCONFIRMED_MAX: usize = 64;
/// Answers of one client that wait for the store: UNSUBACK, PUBREL, PUBCOMP.
const STEPS_MAX: usize = 1_024;

const ANSWER_LOST: &str = "another broker's answer to a publish is lost";

const REFUSED_ELSEWHERE: &str = "the queue of a subscriber on another broker is full";
