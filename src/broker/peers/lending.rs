//! What waits here for a member of a Shared Subscription that can be sent nothing, and has not been
//! able to be for a while, goes to members at brokers that have such as can.
//!
//! It is lent: the member has it back when nobody there takes it. What a Session that has ended
//! leaves, and the way to other brokers has no room for, waits here too.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::broker::peers::Peers;
use crate::broker::peers::outcomes::Elsewhere;
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::routes::Destination;
use crate::broker::turn::Turn;
use crate::mqtt::{QoS, TopicFilter};
use crate::ports::message::{Delivery, SessionKey};
use crate::session::mailbox::Mailbox;

/// A member that has been held up.
#[derive(Debug)]
pub(super) struct HeldUp {
    pub(super) filter: TopicFilter,
    pub(super) mailbox: Arc<Mailbox>,
    /// Of what waits for it, how much it will not be sent soon.
    pub(super) surplus: usize,
}

/// What is lent, and what nobody has.
#[derive(Debug, Default)]
pub(super) struct Lending(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    loans: Vec<Loan>,
    ownerless: VecDeque<Delivery>,
}

#[derive(Debug)]
struct Loan {
    delivery: Delivery,
    /// Nobody, if its Session has ended.
    owner: Option<Arc<Mailbox>>,
    ticket: Arc<PublishTicket>,
}

impl Loan {
    fn owner_key(&self) -> Option<SessionKey> {
        self.owner.as_ref().map(|owner| owner.key())
    }

    fn outcome(&self) -> Option<RemoteOutcome> {
        self.ticket.poll(Waker::noop())
    }
}

impl Turn<'_> {
    /// Hears what came of what was lent, and lends more. To be called now and then, and not by two at
    /// a time.
    pub(super) fn lend(&mut self, peers: &Peers, held_up: &[HeldUp]) {
        let mut state = std::mem::take(&mut *peers.lending().0.lock());
        let coming_back = self.settle_loans(&mut state.loans);
        while state.loans.len() < LOANS_MAX && peers.is_part_of_cluster() {
            let Some(delivery) = state.ownerless.pop_front() else { break };
            match self.offer_loan(&delivery, PublishTicket::new(false)) {
                Ok(ticket) => state.loans.push(Loan { delivery, owner: None, ticket }),
                Err(Elsewhere::Busy) => {
                    state.ownerless.push_front(delivery);
                    break;
                }
                Err(_) if self.hand_to_anybody(&delivery) => {}
                Err(_) => self.shard.counters.deliveries_dropped.increment(),
            }
        }
        for one in held_up.iter().filter(|one| !coming_back.contains(&one.mailbox.key())) {
            self.lend_of(one, &mut state.loans);
        }
        let mut kept = peers.lending().0.lock();
        // Others leave something at any time.
        state.ownerless.append(&mut kept.ownerless);
        *kept = state;
    }

    /// Keeps what a Session that has ended left until another broker is known and has room for it. `false` when
    /// too much of that is kept already.
    pub(crate) fn keep_ownerless(&self, delivery: &Delivery) -> bool {
        let Some(peers) = self.broker.peers() else { return false };
        let mut state = peers.lending().0.lock();
        let has_room = state.ownerless.len() < OWNERLESS_MAX;
        if has_room {
            state.ownerless.push_back(delivery.clone());
        }
        has_room
    }

    /// Hears what came of what was lent. What an owner has back stands before what it has, so that all
    /// of it comes at once, when the last of it is answered: whose something waits for that is told.
    fn settle_loans(&mut self, loans: &mut Vec<Loan>) -> BTreeSet<SessionKey> {
        let unsettled = loans.iter().filter(|loan| loan.outcome().is_none());
        let unsettled: BTreeSet<SessionKey> = unsettled.filter_map(Loan::owner_key).collect();
        let (mut coming_back, mut back) = (BTreeSet::new(), Vec::new());
        for loan in std::mem::take(loans) {
            let key = loan.owner_key();
            match loan.outcome() {
                None => loans.push(loan),
                Some(RemoteOutcome::Enqueued) => self.note_lent_for_good(&loan),
                // Whoever may have been sent it is the only one to get it [MQTT-4.8.2-5].
                Some(RemoteOutcome::Unknown) if loan.delivery.qos == QoS::ExactlyOnce => {
                    self.shard.counters.deliveries_dropped.increment();
                }
                Some(_) if key.is_some_and(|key| unsettled.contains(&key)) => {
                    coming_back.extend(key);
                    loans.push(loan);
                }
                Some(_) => back.push(loan),
            }
        }
        // The youngest first: each that goes back stands before those that went back already.
        back.into_iter().rev().for_each(|loan| self.return_loan(loan));
        coming_back
    }

    fn note_lent_for_good(&mut self, loan: &Loan) {
        self.shard.counters.shared_deliveries_moved.increment();
        let stored_as = loan.owner.as_ref().and_then(|owner| owner.stored_as());
        self.forget_delivery(stored_as, &loan.delivery);
    }

    fn return_loan(&mut self, loan: Loan) {
        match &loan.owner {
            _ if self.broker.collects_left_behind() => self.broker.leave_behind(loan.delivery),
            Some(owner) => self.give_back(owner, vec![loan.delivery]),
            None => self.shard.counters.deliveries_dropped.increment(),
        }
    }

    fn lend_of(&mut self, one: &HeldUp, loans: &mut Vec<Loan>) {
        let room = self.room_elsewhere(&one.filter).min(LOANS_MAX.saturating_sub(loans.len()));
        let max = room.min(one.surplus);
        if max == 0 {
            return;
        }
        let relief = one.mailbox.relieve(&one.filter, max);
        self.shard.wake_later(relief.wake);
        let mut left = Vec::new();
        for delivery in relief.deliveries {
            // A broker that is killed between the two would have it come twice.
            let may_go = one.mailbox.stored_as().is_none() || delivery.qos < QoS::ExactlyOnce;
            let offered = may_go.then(|| self.offer_loan(&delivery, PublishTicket::of_loan()));
            let ticket = offered.and_then(Result::ok);
            match ticket {
                Some(ticket) => {
                    loans.push(Loan { delivery, owner: Some(Arc::clone(&one.mailbox)), ticket });
                }
                None => left.push(delivery),
            }
        }
        if !left.is_empty() {
            self.give_back(&one.mailbox, left);
        }
    }

    fn offer_loan(
        &mut self,
        delivery: &Delivery,
        ticket: PublishTicket,
    ) -> Result<Arc<PublishTicket>, Elsewhere> {
        let ticket = Arc::new(ticket);
        match self.offer_to_other_brokers(delivery, &ticket) {
            Elsewhere::Sent => {
                // What is answered already is settled in turn, as what is answered later.
                let _outcome = ticket.seal();
                Ok(ticket)
            }
            elsewhere @ (Elsewhere::Busy | Elsewhere::Nobody) => Err(elsewhere),
        }
    }

    /// How much other brokers may be lent now: those that said that they have members who can be sent
    /// something.
    fn room_elsewhere(&self, filter: &TopicFilter) -> usize {
        let Some(group) = self.group(filter) else { return 0 };
        let room = group.members().iter().map(|member| match &member.subscriber {
            Destination::Peer(peer) if peer.lane().is_flowing() => {
                usize::from(peer.group_weight(filter)) * LENT_PER_MEMBER_MAX
            }
            Destination::Peer(_) | Destination::Mailbox(_) => 0,
        });
        room.sum()
    }
}

/// What is lent, and not answered for, at a time.
const LOANS_MAX: usize = 4_096;
/// What is lent to a broker for each member there that can be sent something.
const LENT_PER_MEMBER_MAX: usize = 256;
/// What Sessions that have ended left, and nobody has taken.
const OWNERLESS_MAX: usize = 65_536;
