//! What a client is still to be told: acknowledgements that wait for other brokers.
//!
//! Each PUBACK and PUBREC leaves in the order of the PUBLISH it answers, and a SUBACK when every peer
//! knows the filters.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::broker::counters::ShardCounters;
use crate::broker::disconnect::{Client, EndCause};
use crate::broker::durable::{STORE_TROUBLE, Step};
use crate::broker::peers::again::{LeftOuts, Unfinished};
use crate::broker::peers::ticket::PublishTicket;
use crate::broker::peers::verdict::{Verdict, untaken};
use crate::broker::subscribe::UnconfirmedSubscribe;
use crate::broker::turn::Turn;
use crate::mqtt::{PacketId, QoS, ReasonCode};
use crate::ports::clock::Tick;

/// What one client waits for.
#[derive(Debug, Default)]
pub struct Waiting {
    publishes: VecDeque<UnansweredPublish>,
    /// How often clients have sent again what is among them.
    repeats: usize,
    pub(crate) subscribes: VecDeque<UnconfirmedSubscribe>,
    /// What the store is to have first.
    pub(crate) steps: VecDeque<Step>,
    /// Who did not take messages of QoS 2 that were not answered.
    pub(super) left_out: LeftOuts,
    /// When the store has kept the client waiting for too long, unless there is progress.
    gives_up_at: Option<Tick>,
    /// When the client is let go since the first publish has found a queue full, and it cannot be told.
    held_until: Option<Tick>,
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
    pub fn acknowledgement_count(&self) -> usize {
        self.publishes.len() + self.repeats
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
        late_at.into_iter().chain(self.gives_up_at).chain(self.held_until).min()
    }

    /// Whether nothing is waited for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.publishes.is_empty()
            && self.subscribes.is_empty()
            && self.steps.is_empty()
            && self.left_out.is_empty()
    }

    /// Whether the client waits on its present connection for an answer to a publish.
    fn owes_publish_answer(&self) -> bool {
        self.publishes.iter().any(|one| one.asked > 0)
    }

    fn len(&self) -> usize {
        self.publishes.len() + self.subscribes.len() + self.steps.len()
    }

    /// Whether the client knows that it waits for something.
    fn is_asked(&self) -> bool {
        self.owes_publish_answer() || !self.subscribes.is_empty() || !self.steps.is_empty()
    }

    /// The client sends a QoS 2 message again that is waited for: it is answered behind the first
    /// one. `false` when it is not waited for.
    pub(crate) fn ask_again(&mut self, id: PacketId) -> bool {
        let waiting = self.publishes.iter_mut().find(|one| one.id == id);
        if let Some(one) = waiting {
            self.repeats += usize::from(one.asked > 0);
            one.asked += 1;
            return true;
        }
        false
    }

    /// The first publish, if there is one, which has come to its end.
    fn take_first(&mut self) -> Option<UnansweredPublish> {
        let first = self.publishes.pop_front()?;
        self.repeats -= first.repeats();
        Some(first)
    }

    /// The connection is gone: what it did not hear of QoS 1 it asks anew.
    pub(crate) fn detach(&mut self) {
        self.gives_up_at = None;
        self.held_until = None;
        self.subscribes.clear();
        self.publishes.retain(|one| one.qos == QoS::ExactlyOnce);
        self.repeats = 0;
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

    /// Whether an acknowledgement has to wait for others on this connection before it.
    pub(crate) fn has_asked(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.owes_publish_answer())
    }

    /// Whether as much waits for other brokers as may: the client is not read on.
    #[inline]
    #[must_use]
    pub fn is_unanswered_at_bound(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| {
            waiting.acknowledgement_count() >= UNANSWERED_MAX
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

    /// Answers a QoS 2 message that comes again, with success or with what `ticket` comes to: behind what
    /// the client has asked for on this connection. What it has not asked for yet is behind it.
    pub(crate) fn answer_repeat(&mut self, id: PacketId, ticket: Option<Arc<PublishTicket>>) {
        let publishes = &mut self.waiting.get_or_insert_default().publishes;
        let place = publishes.iter().rposition(|one| one.asked > 0).map_or(0, |place| place + 1);
        let answer = ticket.map_or(Answer::Known(ReasonCode::Success, None), Answer::Pending);
        let qos = QoS::ExactlyOnce;
        publishes.insert(place, UnansweredPublish { id, qos, answer, asked: 1 });
    }

    fn push_unanswered(&mut self, qos: QoS, id: PacketId, answer: Answer) {
        let waiting = self.waiting.get_or_insert_default();
        waiting.publishes.push_back(UnansweredPublish { id, qos, answer, asked: 1 });
    }
}

impl Client {
    /// The client is away and its Session is to leave this broker: whether nothing is waited for any
    /// more.
    pub(crate) fn settle_unheard(&mut self, counters: &ShardCounters, waker: &Waker) -> bool {
        let Some(mut waiting) = self.waiting.take() else { return true };
        while let Some(verdict) = waiting.publishes.front().and_then(|first| first.verdict(waker))
            && let Some(first) = waiting.take_first()
        {
            self.note_unheard(&mut waiting.left_out, &first, verdict, counters);
        }
        let is_settled = waiting.publishes.is_empty();
        if is_settled {
            waiting.subscribes.clear();
            waiting.steps.clear();
        }
        if !waiting.is_empty() {
            self.waiting = Some(waiting);
        }
        is_settled
    }

    /// A publish has come to this, and its client does not hear of it. What was not taken comes again:
    /// for those who did not take it, or as new.
    fn note_unheard(
        &mut self,
        left_outs: &mut LeftOuts,
        publish: &UnansweredPublish,
        verdict: Verdict,
        counters: &ShardCounters,
    ) {
        if verdict.is_success() {
            return;
        }
        let Some(unfinished) = publish.untaken() else { return self.forget_publish(publish.id) };
        if !left_outs.note(publish.id, unfinished) {
            counters.left_outs_forgotten.increment();
            self.forget_publish(publish.id);
        }
    }
}

impl UnansweredPublish {
    /// How often it was sent again on its connection.
    fn repeats(&self) -> usize {
        self.asked.saturating_sub(1) as usize
    }

    /// What it has come to; `waker` is called once that is known.
    fn verdict(&self, waker: &Waker) -> Option<Verdict> {
        match &self.answer {
            Answer::Known(reason_code, reason) => Some(Verdict::Told(*reason_code, *reason)),
            Answer::Pending(ticket) => Verdict::of(ticket, waker),
        }
    }

    /// For whom it comes again, where it is not to come as new. A client that sends QoS 1 again sends
    /// it to all.
    fn untaken(&self) -> Option<Unfinished> {
        match &self.answer {
            Answer::Pending(ticket) if self.qos == QoS::ExactlyOnce => untaken(ticket),
            Answer::Known(..) | Answer::Pending(_) => None,
        }
    }
}

impl Turn<'_> {
    /// Sends what need not wait any longer.
    ///
    /// # Errors
    ///
    /// A publish came to an end that no acknowledgement can tell: the connection is to be closed; where a
    /// queue is full, not before `hold_millis` have passed.
    pub(crate) fn settle_waiting(
        &mut self,
        client: &mut Client,
        hold_millis: u64,
        waker: &Waker,
    ) -> Result<(), EndCause> {
        let Some(mut waiting) = client.waiting.take() else { return Ok(()) };
        let before = waiting.len();
        let settled = self
            .answer_publishes(client, &mut waiting, hold_millis, waker)
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
        waiting: &mut Waiting,
        hold_millis: u64,
        waker: &Waker,
    ) -> Result<(), EndCause> {
        while let Some(first) = waiting.publishes.front() {
            let Some(verdict) = first.verdict(waker) else { return Ok(()) };
            let is_heard = first.asked > 0;
            let is_told = match verdict {
                Verdict::Told(..) => true,
                Verdict::Full(_) => client.can_hear_refusal(first.qos, first.id),
                Verdict::Untold(..) => false,
            };
            if is_told && !self.wait_to_acknowledge(client, waker) {
                return Ok(());
            }
            let is_full = is_heard && matches!(verdict, Verdict::Full(_));
            if is_full && !is_told && self.is_held(&mut waiting.held_until, hold_millis) {
                return Ok(());
            }
            waiting.held_until = None;
            let Some(first) = waiting.take_first() else { return Ok(()) };
            let left_out = &mut waiting.left_out;
            let counters = &self.shard.counters;
            if is_full {
                counters.publishes_refused_elsewhere.increment();
            }
            match verdict {
                _ if !is_heard => client.note_unheard(left_out, &first, verdict, counters),
                Verdict::Told(reason_code, reason) => {
                    self.answer_unanswered(client, &first, reason_code, reason);
                }
                Verdict::Full(reason) if is_told => {
                    self.answer_unanswered(client, &first, ReasonCode::QuotaExceeded, Some(reason));
                }
                Verdict::Full(reason) => {
                    client.note_unheard(left_out, &first, verdict, counters);
                    return Err(EndCause::new(ReasonCode::QuotaExceeded, reason));
                }
                Verdict::Untold(reason_code, reason) => {
                    client.note_unheard(left_out, &first, verdict, counters);
                    return Err(EndCause::new(reason_code, reason));
                }
            }
        }
        Ok(())
    }

    /// Whether a client that cannot be told of a full queue is to wait a little longer.
    fn is_held(&self, held_until: &mut Option<Tick>, hold_millis: u64) -> bool {
        if held_until.is_none() && hold_millis > 0 {
            self.shard.counters.publishes_held.increment();
        }
        let until = held_until.get_or_insert(self.now.plus_millis(hold_millis));
        self.now < *until
    }

    /// Answers a publish as often as it was sent.
    fn answer_unanswered(
        &mut self,
        client: &mut Client,
        publish: &UnansweredPublish,
        reason_code: ReasonCode,
        reason: Option<&'static str>,
    ) {
        let (qos, id) = (publish.qos, publish.id);
        for _ in 0..publish.asked {
            client.session.answer_publish(qos, id, reason_code, reason, self.outbox);
            self.shard.counters.packets_sent.increment();
        }
    }

    /// Whether what we acknowledge holds; `waker` is called when it does again.
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

/// Publishes of one client that other brokers have not answered for, and SUBSCRIBEs that they have not
/// confirmed. More are not read until they have.
const UNANSWERED_MAX: usize = 1_024;
const UNCONFIRMED_MAX: usize = 64;
/// Answers of one client that wait for the store: UNSUBACK, PUBREL, PUBCOMP.
const STEPS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Who asked again and again was read on for ever, or never again.
    #[test]
    fn each_time_that_a_client_asks_counts_until_it_is_answered_or_gone() {
        let [one, other] = [1, 2].map(|id| PacketId::new(id).unwrap());
        let publish = |id| {
            let answer = Answer::Known(ReasonCode::Success, None);
            UnansweredPublish { id, qos: QoS::ExactlyOnce, answer, asked: 1 }
        };
        let publishes = VecDeque::from([publish(one), publish(other)]);
        let mut waiting = Waiting { publishes, ..Waiting::default() };
        assert!(waiting.ask_again(one) && waiting.ask_again(one) && waiting.ask_again(other));
        assert_eq!(waiting.acknowledgement_count(), 5);
        assert_eq!(waiting.take_first().map(|first| first.asked), Some(3));
        assert_eq!(waiting.acknowledgement_count(), 2);
        waiting.detach();
        assert_eq!(waiting.acknowledgement_count(), 1, "nobody has asked on the next connection");
        assert!(waiting.ask_again(other));
        assert_eq!(waiting.acknowledgement_count(), 1, "it is the first time there");
        assert!(waiting.ask_again(other) && !waiting.ask_again(one));
        assert_eq!(waiting.acknowledgement_count(), 2);
        assert!(waiting.take_first().is_some());
        assert_eq!(waiting.acknowledgement_count(), 0);
    }
}
