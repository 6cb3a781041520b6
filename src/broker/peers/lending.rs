//! What waits here for a member of a Shared Subscription that can be sent nothing, and has not been
//! able to be for a while, goes to members at brokers that have such as can.
//!
//! It is lent: the member has it back when nobody there takes it. What a Session that has ended
//! leaves, and the way to other brokers has no room for, waits here too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use crate::broker::peers::Peers;
use crate::broker::peers::outcomes::Elsewhere;
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::routes::Destination;
use crate::broker::turn::Turn;
use crate::mqtt::{QoS, TopicFilter};
use crate::ports::message::Delivery;
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

impl Turn<'_> {
    /// Hears what came of what was lent, and lends more. To be called now and then, and not by two at
    /// a time.
    pub(super) fn lend(&mut self, peers: &Peers, held_up: &[HeldUp]) {
        let mut state = std::mem::take(&mut *peers.lending().0.lock());
        self.settle_loans(&mut state.loans);
        while state.loans.len() < LOANS_MAX {
            let Some(delivery) = state.ownerless.pop_front() else { break };
            match self.offer_loan(&delivery) {
                Ok(ticket) => state.loans.push(Loan { delivery, owner: None, ticket }),
                Err(Elsewhere::Busy) => {
                    state.ownerless.push_front(delivery);
                    break;
                }
                Err(_) => self.shard.counters.deliveries_dropped.increment(),
            }
        }
        for one in held_up {
            self.lend_of(one, &mut state.loans);
        }
        let mut kept = peers.lending().0.lock();
        // Others leave something at any time.
        state.ownerless.append(&mut kept.ownerless);
        *kept = state;
    }

    /// Keeps what a Session that has ended left until another broker has room for it. `false` when
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

    fn settle_loans(&mut self, loans: &mut Vec<Loan>) {
        // The youngest first: each that goes back stands before those that went back already.
        for loan in std::mem::take(loans).into_iter().rev() {
            let outcome = loan.ticket.poll(Waker::noop());
            match (outcome, &loan.owner) {
                (None, _) => loans.push(loan),
                (Some(RemoteOutcome::Enqueued), owner) => {
                    self.shard.counters.shared_deliveries_moved.increment();
                    let stored_as = owner.as_ref().and_then(|owner| owner.stored_as());
                    self.forget_delivery(stored_as, &loan.delivery);
                }
                (Some(_), _) if self.broker.collects_left_behind() => {
                    self.broker.leave_behind(loan.delivery);
                }
                (Some(_), Some(owner)) => self.give_back(owner, vec![loan.delivery]),
                (Some(_), None) => self.shard.counters.deliveries_dropped.increment(),
            }
        }
        loans.reverse();
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
            let ticket = if may_go { self.offer_loan(&delivery).ok() } else { None };
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

    fn offer_loan(&mut self, delivery: &Delivery) -> Result<Arc<PublishTicket>, Elsewhere> {
        let ticket = Arc::new(PublishTicket::new(false));
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
