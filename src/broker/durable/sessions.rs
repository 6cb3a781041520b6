//! Sessions on their way into the store: that they are there, what they subscribe to, their wills,
//! and what of QoS 2 is not finished.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use crate::broker::acknowledge::Level;
use crate::broker::disconnect::{Client, EndCause, NEVER_SECS};
use crate::broker::durable::keeper::Keeper;
use crate::broker::durable::{Durable, Page};
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::publish::PublishOutcome;
use crate::broker::replay::Placed;
use crate::broker::turn::Turn;
use crate::broker::wills::KeptWill;
use crate::cluster::slots::Slot;
use crate::mqtt::{PacketId, Pubrec, Pubrel, QoS, ReasonCode, TopicFilter, Unsuback, Will};
use crate::ports::auth::SessionUser;
use crate::ports::clock::Tick;
use crate::ports::message::{Message, MessageId};
use crate::ports::store::{Epoch, Operation, SessionLife, SessionRef, StoredSubscription};
use crate::session::session::{Finished, Received, Subscription};

/// What a connection has of a Session that is stored, beside the Session.
#[derive(Debug)]
pub(crate) struct StoredClient {
    /// Its name in the store.
    pub(crate) session: SessionRef,
    /// QoS 2 messages of the client that the store has, until it is known to have forgotten them.
    pub(crate) incoming: BTreeMap<PacketId, MessageId>,
    /// Identifiers of QoS 2 messages that the client has no answer to, and that the store may have
    /// all the same. The next message with such an identifier replaces it.
    doubtful: BTreeSet<PacketId>,
    /// The will that the store has of it.
    pub(crate) will: WillInStore,
    /// What the store was asked for of its queue.
    pub(crate) page: Option<Arc<Page>>,
    /// How far its replays have gone into its queue, while something of them waits there.
    pub(crate) placed: Option<Box<Placed>>,
}

/// The will that the store has of a Session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum WillInStore {
    /// None.
    #[default]
    Nothing,
    /// The one of this name.
    Named(MessageId),
    /// Nobody knows which, or whether any.
    Unknown,
}

/// What is to be done once the store has it.
#[derive(Debug)]
pub(crate) struct Step {
    ticket: Arc<PublishTicket>,
    then: Then,
}

#[derive(Debug)]
enum Then {
    /// PUBREL to the client.
    Release(PacketId),
    /// PUBCOMP for this one, which releases that message.
    Complete(Pubrel, MessageId),
    Unsuback(Unsuback),
}

impl StoredClient {
    pub(crate) fn new(session: SessionRef) -> Self {
        let (incoming, doubtful) = (BTreeMap::new(), BTreeSet::new());
        let will = WillInStore::default();
        Self { session, incoming, doubtful, will, page: None, placed: None }
    }

    /// What makes the store forget the will that it has, and no later one: that may be in the store
    /// first, by way of the shard to which the client has come back.
    pub(crate) fn forget_will(&mut self) -> Option<Operation> {
        let message = match std::mem::take(&mut self.will) {
            WillInStore::Nothing => return None,
            WillInStore::Named(message) => Some(message),
            WillInStore::Unknown => None,
        };
        Some(Operation::RemoveWill { session: self.session, message })
    }
}

impl Durable {
    fn life(&self, expiry_interval_secs: u32, expires_at: Option<Tick>) -> SessionLife {
        let expires_at_millis = expires_at.map(|at| self.unix_millis(at));
        SessionLife { expiry_interval_secs, expires_at_millis }
    }

    /// When a Session ends that nobody is connected to since `now`.
    pub(super) fn expires_at(expiry_secs: u32, now: Tick) -> Option<Tick> {
        (expiry_secs != NEVER_SECS).then(|| now.plus_secs(expiry_secs))
    }
}

impl Keeper {
    /// The Session has this will, which is published at `fires_at` if its client is away.
    fn put_will(&mut self, stored: &mut StoredClient, will: &Will, fires_at: Option<Tick>) {
        let (session, id) = (stored.session, self.draw_message_id());
        let will = Arc::new(self.durable().stored_will(will, id, fires_at));
        self.push(Operation::PutWill { session, will });
        stored.will = WillInStore::Named(id);
    }
}

impl Turn<'_> {
    /// The name in the store of a Session that begins, when it is to be stored.
    pub(crate) fn name_session(&self, expiry_secs: u32, epoch: Epoch) -> Option<SessionRef> {
        let keeper = self.shard.keeper.as_ref().filter(|_| expiry_secs > 0)?;
        Some(keeper.durable().draw_session(epoch))
    }

    /// The claim under which a Client Identifier is this broker's; nothing when it is not. To be asked
    /// by who owns it in the registry: whoever takes it away from here finds them there.
    pub(crate) fn epoch_held(&self, client_id: &str) -> Option<Epoch> {
        let durable = self.broker.durable.as_ref();
        let Some(peers) = self.broker.peers() else {
            return Some(durable.map_or_else(Epoch::default, |durable| durable.epoch()));
        };
        let token = peers.ownership().token(client_id)?;
        Some(durable.map_or_else(Epoch::default, |durable| durable.epoch_of(token)))
    }

    /// A client comes to its Session: from now on the Session does not end by time, and has this
    /// will.
    pub(crate) fn keep_session(
        &mut self,
        client: &mut Client,
        user: SessionUser,
        expiry_secs: u32,
        will: Option<&KeptWill>,
    ) {
        self.keep_life(client, user, (expiry_secs, None), None);
        let Some(stored) = &mut client.stored else { return };
        let Some(keeper) = &mut self.shard.keeper else { return };
        if let Some(will) = will {
            keeper.put_will(stored, will, None);
        } else if let Some(removal) = stored.forget_will() {
            keeper.push(removal);
        }
    }

    /// How long the Session lasts: until its client is gone for long, or until `expires_at`; and how far
    /// it was sent, if that is over.
    fn keep_life(
        &mut self,
        client: &Client,
        user: SessionUser,
        (expiry_secs, expires_at): (u32, Option<Tick>),
        sent_below: Option<u64>,
    ) {
        let (Some(stored), Some(keeper)) = (&client.stored, &mut self.shard.keeper) else { return };
        let life = keeper.durable().life(expiry_secs, expires_at);
        keeper.push(Operation::PutSession {
            session: stored.session,
            client_id: Arc::clone(client.session.client_id()),
            user,
            slot: slot_of(client.session.client_id()),
            life,
            sent_below,
        });
    }

    /// A client is away: its Session lasts until `expires_at`, and its will, unless that is gone, is
    /// published at `will_at`.
    pub(crate) fn keep_parked(
        &mut self,
        client: &mut Client,
        expires_at: Option<Tick>,
        will_at: Option<Tick>,
    ) {
        let user = client.card.session_user();
        let sent_below = client.session.sent_below();
        self.keep_life(client, user, (client.session_expiry_secs, expires_at), sent_below);
        self.keep_will_gone(client);
        let Some(keeper) = &mut self.shard.keeper else { return };
        if let (Some(stored), Some(will)) = (&mut client.stored, &client.will) {
            keeper.put_will(stored, will, will_at);
        }
    }

    /// The will has been published, or is not wanted any more.
    pub(crate) fn keep_will_gone(&mut self, client: &mut Client) {
        let Some(stored) = client.stored.as_mut().filter(|_| client.will.is_none()) else { return };
        if let Some(removal) = stored.forget_will() {
            self.keep(removal);
        }
    }

    /// The Session is over.
    pub(crate) fn keep_end(&mut self, client: &Client) {
        if let Some(stored) = &client.stored {
            self.keep(Operation::EndSession(stored.session));
        }
    }

    /// Has Subscriptions stored; what SUBACK waits for, if it has to.
    pub(crate) fn keep_subscriptions<'a>(
        &mut self,
        client: &Client,
        subscriptions: impl Iterator<Item = (&'a TopicFilter, &'a Subscription)>,
    ) -> Option<Arc<PublishTicket>> {
        let session = client.stored.as_ref()?.session;
        let operations = subscriptions
            .map(|(filter, subscription)| {
                let (options, id) = (subscription.options, subscription.id);
                let subscription = StoredSubscription { filter: filter.clone(), options, id };
                Operation::PutSubscription { session, subscription }
            })
            .collect();
        self.keep_all_and_tell(operations)
    }

    /// Takes Subscriptions out of the store. `true` when UNSUBACK goes out later.
    pub(crate) fn forget_subscriptions<'a>(
        &mut self,
        client: &mut Client,
        filters: impl Iterator<Item = &'a TopicFilter>,
        unsuback: &Unsuback,
    ) -> bool {
        let Some(session) = client.stored.as_ref().map(|stored| stored.session) else {
            return false;
        };
        let removals =
            filters.map(|filter| Operation::RemoveSubscription { session, filter: filter.clone() });
        let Some(ticket) = self.keep_all_and_tell(removals.collect()) else { return false };
        client.take_step(Step { ticket, then: Then::Unsuback(unsuback.clone()) });
        true
    }

    /// A QoS 2 message of a client whose Session is stored is stored with it, in the batch of those
    /// who get it: after PUBREC it is not taken twice, whatever happens to the broker.
    #[inline]
    pub(crate) fn keep_if_incoming(
        &mut self,
        client: &mut Client,
        outcome: PublishOutcome,
        message: &Message,
        packet_id: PacketId,
        level: Level,
    ) -> PublishOutcome {
        let is_refused = matches!(outcome, PublishOutcome::Refused(_));
        // In a cluster others may not have it yet when it is stored here: whoever took the Session
        // from the store then would take the message for one that all have.
        let is_kept = client.stored.is_some() && self.broker.peers().is_none();
        if !is_kept || message.qos != QoS::ExactlyOnce || is_refused {
            return outcome;
        }
        self.keep_incoming(client, packet_id, message);
        let (mut ticket, matched) = match outcome {
            PublishOutcome::Pending(ticket) => (Some(ticket), true),
            PublishOutcome::Accepted => (None, true),
            PublishOutcome::NoMatchingSubscribers | PublishOutcome::Refused(_) => (None, false),
        };
        let is_new = ticket.is_none();
        self.await_store(&mut ticket, (message.id, matched), level);
        match ticket {
            Some(ticket) => {
                if is_new {
                    let _pending = ticket.seal();
                }
                PublishOutcome::Pending(ticket)
            }
            None if matched => PublishOutcome::Accepted,
            None => PublishOutcome::NoMatchingSubscribers,
        }
    }

    fn keep_incoming(&mut self, client: &mut Client, packet_id: PacketId, message: &Message) {
        let (Some(stored), Some(keeper)) = (&mut client.stored, &mut self.shard.keeper) else {
            return;
        };
        let session = stored.session;
        stored.incoming.insert(packet_id, message.id);
        stored.doubtful.remove(&packet_id);
        let message = Arc::new(keeper.durable().stored(message));
        let id = message.id;
        keeper.push(Operation::PutIncoming { session, packet_id, message });
        keeper.push(Operation::RouteIncoming { session, packet_id, message: id });
        keeper.note_kept();
    }

    /// PUBREL of the client: answered with PUBCOMP [MQTT-4.3.3-11], once the store has forgotten it.
    /// Until then it may be there after a start, and its identifier is not free: a client that asks
    /// again waits again.
    pub(crate) fn handle_pubrel(&mut self, client: &mut Client, pubrel: Pubrel) {
        let known = client.stored.as_ref().and_then(|stored| {
            let message = stored.incoming.get(&pubrel.packet_id)?;
            Some((stored.session, *message))
        });
        if let Some((session, message)) = known {
            let packet_id = pubrel.packet_id;
            let operation = Operation::RemoveIncoming { session, packet_id, message };
            if let Some(ticket) = self.keep_and_tell(operation) {
                client.take_step(Step { ticket, then: Then::Complete(pubrel, message) });
                return;
            }
        }
        self.shard.counters.packets_sent.increment();
        client.session.handle_pubrel(&pubrel, self.outbox);
    }

    /// PUBREC of the client; answered with PUBREL, once the store has it. `false` when it fits
    /// nothing in flight.
    pub(crate) fn handle_pubrec(&mut self, client: &mut Client, pubrec: &Pubrec) -> bool {
        match client.session.handle_pubrec(pubrec, self.outbox) {
            Received::ToBeStored(finished) => {
                self.release_when_stored(client, pubrec.packet_id, finished);
                true
            }
            Received::Known => {
                self.shard.counters.packets_sent.increment();
                true
            }
            Received::Unknown => {
                self.shard.counters.packets_sent.increment();
                false
            }
        }
    }

    /// PUBREL leaves once the store knows of the PUBREC. It may have been told before: then nobody
    /// heard what it made of it.
    pub(crate) fn release_when_stored(
        &mut self,
        client: &mut Client,
        id: PacketId,
        finished: Finished,
    ) {
        let Some(stored) = &client.stored else { return };
        let Finished { sequence, message } = finished;
        let operation = Operation::Release { session: stored.session, sequence, message };
        if let Some(ticket) = self.keep_and_tell(operation) {
            client.take_step(Step { ticket, then: Then::Release(id) });
        }
    }

    /// Tells mailbox and store what the client has acknowledged.
    #[inline]
    pub(crate) fn settle_acknowledged(&mut self, client: &mut Client) {
        client.session.settle_acknowledged();
        if let Some(stored) = &client.stored {
            let session = stored.session;
            for finished in client.session.take_finished() {
                let (sequence, message) = (finished.sequence, finished.message);
                self.keep(Operation::Acknowledge { session, sequence, message });
            }
        }
    }

    /// Takes the steps that the store has made possible.
    ///
    /// # Errors
    ///
    /// The store could not do what the next one needs: the connection is to be closed.
    pub(crate) fn take_steps(
        &mut self,
        client: &mut Client,
        steps: &mut VecDeque<Step>,
        waker: &Waker,
    ) -> Result<(), EndCause> {
        while let Some(first) = steps.front() {
            match first.ticket.poll(waker) {
                None => return Ok(()),
                Some(RemoteOutcome::Refused(reason_code)) => {
                    return Err(EndCause::new(reason_code, STORE_TROUBLE));
                }
                Some(RemoteOutcome::Full | RemoteOutcome::Unknown) => {
                    return Err(EndCause::new(ReasonCode::UnspecifiedError, STORE_TROUBLE));
                }
                Some(RemoteOutcome::Enqueued | RemoteOutcome::NoMatch) => {}
            }
            let Some(Step { then, .. }) = steps.pop_front() else { return Ok(()) };
            self.take_step(client, then);
        }
        Ok(())
    }

    fn take_step(&mut self, client: &mut Client, then: Then) {
        let is_answered = match then {
            Then::Release(id) => client.session.release_stored(id, self.outbox),
            Then::Complete(pubrel, message) => {
                // Else it has been answered: the identifier may be that of another message by now.
                let is_first = client.forget_incoming(&pubrel, message);
                if is_first {
                    client.session.handle_pubrel(&pubrel, self.outbox);
                }
                is_first
            }
            Then::Unsuback(unsuback) => {
                unsuback.encode(client.session.version(), self.outbox.buffer());
                true
            }
        };
        if is_answered {
            self.shard.counters.packets_sent.increment();
        }
    }
}

impl Client {
    fn take_step(&mut self, step: Step) {
        self.waiting.get_or_insert_default().steps.push_back(step);
    }

    /// A PUBLISH that is not answered: it comes again, as a new message.
    pub(crate) fn forget_publish(&mut self, id: PacketId) {
        self.session.forget_publish(id);
        if let Some(stored) = &mut self.stored
            && stored.incoming.remove(&id).is_some()
        {
            stored.doubtful.insert(id);
        }
    }

    /// Whether the store may have a message of this identifier to which there was no answer: then
    /// nothing may be said that would free the identifier for another message.
    pub(crate) fn is_in_doubt(&self, id: PacketId) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.doubtful.contains(&id))
    }

    /// The store has forgotten a message that was released. `false` when that was known before.
    fn forget_incoming(&mut self, pubrel: &Pubrel, message: MessageId) -> bool {
        let Some(stored) = &mut self.stored else { return false };
        let is_there = stored.incoming.get(&pubrel.packet_id) == Some(&message);
        if is_there {
            stored.incoming.remove(&pubrel.packet_id);
        }
        is_there
    }

    /// The connection is gone, and with it whom to tell: what the store was told stands, and is said
    /// again when the client asks again.
    pub(crate) fn abandon_steps(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.steps.clear();
        }
    }
}

/// The slot of a Client Identifier, as the store has it.
fn slot_of(client_id: &str) -> u16 {
    u16::try_from(Slot::of(client_id).index()).expect("there are 1,024 slots")
}

/// Why a connection is closed that the store could not do something for.
pub(crate) const STORE_TROUBLE: &str = "what this client asked for could not be stored";
