//! Messages of QoS 2 for Shared Subscriptions that two brokers might both give to a member: the one that
//! had them from the other when it was declared dead, and the other.
//!
//! Whoever sent a message to a broker gives it to another member when that broker is declared dead and has
//! not answered. The broker may only have slept: awake, it has the message and does not know whether
//! its answer has come. So it asks who sent it, once both know each other again: it offers the message
//! there, before anybody else, and is told that it is taken when it was given to another member. Who
//! sent it is the only one to know; when that broker has gone as well, nobody else has it. A broker that is
//! declared dead once more before it has its answer asks again, and who has not heard that it had the
//! answer gives the same one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::slice;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::broker::peers::Peers;
use crate::broker::peers::forward::Errand;
use crate::broker::peers::peer::Peer;
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::turn::Turn;
use crate::cluster::frame::Outcome;
use crate::cluster::identity::BootId;
use crate::mqtt::QoS;
use crate::ports::message::{Delivery, Message, MessageId, SessionKey};

/// Such messages of one peer, until it is known to have our answers; in the order of its stream.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed(Mutex<VecDeque<Received>>);

#[derive(Debug)]
struct Received {
    seq: u64,
    message: MessageId,
    /// It was a question, and the answer that another member was given the message.
    was_given: bool,
    /// The control frame that answers it.
    answered_by: Option<u64>,
}

impl Unconfirmed {
    /// One has come. The peer has all control frames up to `heard`.
    pub(super) fn note(&self, seq: u64, message: MessageId, was_given: bool, heard: u64) {
        let mut received = self.0.lock();
        while received.front().is_some_and(|one| one.is_confirmed(heard)) {
            received.pop_front();
        }
        received.push_back(Received { seq, message, was_given, answered_by: None });
    }

    /// These are answered by the control frame of this number.
    pub(super) fn note_answered(&self, outcomes: &[Outcome], answered_by: u64) {
        let mut received = self.0.lock();
        for outcome in outcomes {
            let end = outcome.first.saturating_add(outcome.count.into());
            let from = received.partition_point(|one| one.seq < outcome.first);
            let to = received.partition_point(|one| one.seq < end);
            for one in received.range_mut(from..to) {
                one.answered_by = Some(answered_by);
            }
        }
    }

    fn take(&self, heard: u64) -> impl Iterator<Item = Received> + use<> {
        let received = std::mem::take(&mut *self.0.lock());
        received.into_iter().filter(move |one| !one.is_confirmed(heard))
    }
}

impl Received {
    fn is_confirmed(&self, heard: u64) -> bool {
        self.answered_by.is_some_and(|answered_by| answered_by <= heard)
    }
}

/// What is in doubt here since this broker was declared dead, and what it gave to others in place of
/// brokers that were.
#[derive(Debug, Default)]
pub(super) struct Doubtful(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Who sent it.
    senders: BTreeMap<MessageId, BootId>,
    /// To be asked about.
    waiting: VecDeque<(BootId, Delivery)>,
    asked: Vec<Question>,
    given: Given,
}

/// A message that its sender was asked about.
#[derive(Debug)]
struct Question {
    sender: BootId,
    delivery: Delivery,
    ticket: Arc<PublishTicket>,
}

/// What was given to others, the oldest forgotten beyond a bound.
#[derive(Debug, Default)]
struct Given {
    order: VecDeque<(Arc<str>, MessageId)>,
    all: BTreeSet<(Arc<str>, MessageId)>,
}

impl Doubtful {
    /// This broker was declared dead: what it has from others, and whose answer they may not have, is
    /// in doubt. To be called as long as they are known.
    pub(super) fn begin(&self, peers: &[Arc<Peer>]) {
        let of_peer = |peer: &Arc<Peer>| {
            let (sender, heard) = (peer.boot_id(), peer.lane().gone().control);
            let received = peer.unconfirmed().take(heard).filter(|one| !one.was_given);
            received.map(move |one| (one.message, sender))
        };
        // What an earlier life was in doubt about has been passed on, or is asked about.
        let senders = peers.iter().flat_map(of_peer).collect();
        let mut state = self.0.lock();
        state.senders = senders;
        // Nobody asks a former life.
        state.given = Given::default();
        // Whom it has asked, its next life asks again.
        let asked = std::mem::take(&mut state.asked);
        let is_answered = |one: &Question| one.ticket.poll(Waker::noop()).is_some();
        let (answered, unanswered): (Vec<_>, Vec<_>) = asked.into_iter().partition(is_answered);
        state.asked = answered;
        state.waiting.extend(unanswered.into_iter().map(|one| (one.sender, one.delivery)));
    }

    /// A peer was declared dead: what it asked about, and may have had no answer to, it asks again in its next
    /// life.
    pub(super) fn bury(&self, dead: &Peer) {
        let unheard = dead.unconfirmed().take(dead.lane().gone().control);
        for question in unheard.filter(|one| one.was_given) {
            self.0.lock().given.insert(Arc::clone(dead.name()), question.message);
        }
    }

    /// A message that `dead` had not answered goes to another member.
    pub(super) fn note_given(&self, dead: &Peer, message: &Message) {
        if message.qos == QoS::ExactlyOnce && message.id != MessageId::NONE {
            self.0.lock().given.insert(Arc::clone(dead.name()), message.id);
        }
    }

    /// Whether it was, and `peer`, in a later life, asks about it: once.
    pub(super) fn was_given(&self, peer: &Peer, message: MessageId) -> bool {
        let mut state = self.0.lock();
        let given = &mut state.given.all;
        !given.is_empty() && given.remove(&(Arc::clone(peer.name()), message))
    }

    fn next_waiting(&self) -> Option<(BootId, Delivery)> {
        self.0.lock().waiting.pop_front()
    }
}

impl Given {
    fn insert(&mut self, name: Arc<str>, message: MessageId) {
        let one = (name, message);
        if self.all.insert(one.clone()) {
            self.order.push_back(one);
        }
        if self.order.len() > GIVEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

impl Turn<'_> {
    /// Whether somebody else may have given it to another member: then who sent it is asked before it goes
    /// to anybody. To be asked once.
    pub(crate) fn is_in_doubt_elsewhere(&self, delivery: &Delivery) -> bool {
        if delivery.message.qos < QoS::ExactlyOnce {
            return false;
        }
        let Some(peers) = self.broker.peers() else { return false };
        let mut state = peers.doubtful().0.lock();
        let Some(sender) = state.senders.remove(&delivery.message.id) else { return false };
        state.waiting.push_back((sender, delivery.clone()));
        true
    }

    /// Asks about what waits for it, and passes on what nobody else has. To be called now and then.
    pub(super) fn settle_doubts(&mut self, peers: &Peers) {
        let asked = std::mem::take(&mut peers.doubtful().0.lock().asked);
        let mut unanswered = Vec::new();
        for question in asked {
            match question.ticket.poll(Waker::noop()) {
                None => unanswered.push(question),
                // It has been given to another member, or has been taken now.
                Some(RemoteOutcome::Enqueued) => {
                    self.shard.counters.shared_deliveries_moved.increment();
                }
                Some(RemoteOutcome::Unknown) => self.shard.counters.deliveries_dropped.increment(),
                Some(_) => self.pass_on(&question.delivery, SessionKey::BROKER),
            }
        }
        // Who is there is known when this broker is part of the cluster again.
        while peers.is_part_of_cluster() && unanswered.len() < ASKED_MAX {
            let Some((sender, delivery)) = peers.doubtful().next_waiting() else { break };
            match peers.find(sender) {
                Some(peer) => unanswered.extend(self.ask_about(&peer, delivery)),
                None => self.pass_on(&delivery, SessionKey::BROKER),
            }
        }
        peers.doubtful().0.lock().asked.append(&mut unanswered);
    }

    fn ask_about(&mut self, sender: &Peer, delivery: Delivery) -> Option<Question> {
        let filter = delivery.shared_filter()?.clone();
        let ticket = Arc::new(PublishTicket::new(false));
        let errand = Errand::to_groups(QoS::ExactlyOnce, slice::from_ref(&filter));
        self.forward_errand(&delivery.message, sender, errand, &ticket, &[]);
        // What is answered already is settled in turn, as what is answered later.
        let _outcome = ticket.seal();
        Some(Question { sender: sender.boot_id(), delivery, ticket })
    }
}

/// What was given to others in place of the dead, at most: who comes back after that many is told to
/// keep what it asks about.
const GIVEN_MAX: usize = 65_536;
/// What is asked about at a time.
const ASKED_MAX: usize = 4_096;
