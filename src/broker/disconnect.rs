//! Use case: a connection ends, and with it perhaps its Session.

use std::sync::Arc;

use crate::broker::acknowledge::Level;
use crate::broker::card::ClientCard;
use crate::broker::complaints::Complaints;
use crate::broker::connect::Former;
use crate::broker::durable::StoredClient;
use crate::broker::durable::messages::Manner;
use crate::broker::event::Event;
use crate::broker::peers::outcomes::Elsewhere;
use crate::broker::peers::ticket::{PublishTicket, RemoteOutcome};
use crate::broker::peers::waiting::Waiting;
use crate::broker::permissions::Permissions;
use crate::broker::registry::{Parked, Released};
use crate::broker::replay::Replays;
use crate::broker::routes::{Destination, FanoutTarget};
use crate::broker::turn::Turn;
use crate::broker::wills::KeptWill;
use crate::mqtt::{QoS, ReasonCode, TopicFilter, Will};
use crate::ports::clock::Tick;
use crate::ports::message::{Delivery, Message, Progress, SessionKey};
use crate::routing::{GroupId, SharedGroup, SubscriberKey, Target};
use crate::session::mailbox::{Commit, Mailbox, Room};
use crate::session::session::Session;

/// A Session and what belongs to it: what a connection owns, what the registry parks, what is moved
/// between them.
#[derive(Debug)]
pub struct Client {
    /// The protocol's state.
    pub session: Session,
    /// Retained messages still to be sent for new Subscriptions.
    pub replays: Replays,
    /// The serial of the Subscription made last.
    pub subscription_serial: u32,
    /// The Will Message of the present or last connection.
    pub will: Option<Arc<KeptWill>>,
    /// Who it is, and where it came from last.
    pub card: Arc<ClientCard>,
    /// What it may publish; of the present connection.
    pub permissions: Permissions,
    /// What its publishes wait for on the present connection.
    pub level: Level,
    /// The lines about what it is refused.
    pub complaints: Complaints,
    /// How long the Session outlives its connection.
    pub session_expiry_secs: u32,
    /// What it is to be told once other brokers, or the store, have answered.
    pub waiting: Option<Box<Waiting>>,
    /// Where its Session is stored.
    pub(crate) stored: Option<Box<StoredClient>>,
    /// When its Session ends and its will is due, since it was parked: who is not let in changes
    /// nothing of that.
    pub(crate) due: Option<Box<[Option<Tick>; 2]>>,
}

impl Client {
    /// A client with a Session that nothing was done with yet.
    pub(crate) fn new(
        session: Session,
        card: Arc<ClientCard>,
        session_expiry_secs: u32,
        will: Option<Arc<KeptWill>>,
    ) -> Self {
        Self {
            session,
            replays: Replays::default(),
            subscription_serial: 0,
            will,
            card,
            permissions: Permissions::default(),
            level: Level::default(),
            complaints: Complaints::default(),
            session_expiry_secs,
            waiting: None,
            stored: None,
            due: None,
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndCause {
    /// As a DISCONNECT would say it.
    pub reason_code: ReasonCode,
    /// In words.
    pub reason: String,
    /// Whether the will is published.
    pub will: WillFate,
    /// What becomes of the Session.
    pub session: SessionFate,
}

/// What becomes of a Session whose connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionFate {
    /// It lasts as long as its expiry says.
    Expires,
    /// It ends.
    Ends,
    /// It ends here, and stays in the store for whoever takes it.
    IsAbandoned,
}

/// Whether the will of a connection that ends is published.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WillFate {
    /// After its delay [MQTT-3.1.2-8].
    Published,
    /// Never: the client said a normal good-bye [MQTT-3.14.4-3].
    Discarded,
}

impl EndCause {
    /// An end that publishes the will and leaves the Session alone.
    #[must_use]
    pub fn new(reason_code: ReasonCode, reason: impl Into<String>) -> Self {
        let (will, session) = (WillFate::Published, SessionFate::Expires);
        Self { reason_code, reason: reason.into(), will, session }
    }
}

impl Turn<'_> {
    /// Gives a client up whose connection has ended: to another connection that waits for it, to
    /// the registry, or to nobody when its Session ends.
    pub fn release(&mut self, client: Box<Client>, cause: EndCause) {
        self.shard.events.push(Event::Disconnected {
            card: Arc::clone(&client.card),
            reason_code: cause.reason_code,
            reason: cause.reason,
            dropped: client.session.mailbox().counts().dropped,
        });
        self.put_down(client, cause.will, cause.session);
    }

    /// The same, of a client whose connection has been told of, or never was one.
    fn put_down(&mut self, mut client: Box<Client>, will: WillFate, session: SessionFate) {
        self.settle_acknowledged(&mut client);
        client.session.detach();
        client.abandon_steps();
        client.abandon_placed();
        client.abandon_page();
        if let Some(waiting) = &mut client.waiting {
            self.forget_subscribes(&mut waiting.subscribes);
            waiting.detach();
        }
        // The next connection may be somebody else's.
        client.permissions = Permissions::default();
        if will == WillFate::Discarded {
            client.will = None;
        }
        let client_id = Arc::clone(client.session.client_id());
        let has_ended = session != SessionFate::Expires || client.session_expiry_secs == 0;
        let parked = if session == SessionFate::IsAbandoned {
            self.abandon_session(*client);
            None
        } else if has_ended {
            self.end_session(*client);
            None
        } else {
            let parked = self.park(client);
            Some(Box::new(parked))
        };
        let times = parked.as_ref().map_or([None, None], |parked| parked.times());
        // Whoever claims the Session has more for the store, by way of another shard perhaps.
        self.hand_over_kept();
        match self.broker.registry.release(&client_id, parked) {
            Released::Granted(successor) => self.shard.wake_later(successor),
            Released::Parked if has_ended => self.surrender(&client_id),
            Released::Parked => self.schedule_parked(&client_id, times),
        }
    }

    /// Remembers what a Session that has just been parked waits for. Not sooner: what is due by now
    /// would be looked at before it is there, and never again.
    pub(crate) fn schedule_parked(&self, client_id: &Arc<str>, times: [Option<Tick>; 2]) {
        let broker = self.broker;
        let is_parked = || broker.registry.is_parked_until(client_id, times);
        broker.timers.schedule_if(client_id, times, is_parked);
    }

    /// What is left of a parked Session for the connection that has claimed it: what is due but was
    /// not yet looked at is done first.
    pub(crate) fn former(&mut self, mut parked: Parked) -> Former {
        if parked.expires_at.is_some_and(|at| at <= self.now) {
            self.shard.counters.sessions_expired.increment();
            self.end_session(*parked.client);
            return Former::None;
        }
        if parked.will_at.is_some_and(|at| at <= self.now)
            && let Some(will) = parked.client.will.take()
        {
            self.publish_will(&will);
        }
        Former::Kept(parked.into_client())
    }

    /// Gives a Client Identifier up again that was claimed in vain.
    pub(crate) fn abandon_claim(&mut self, client_id: &Arc<str>, former: Former) {
        match former {
            Former::None => match self.broker.registry.release(client_id, None) {
                Released::Granted(successor) => self.shard.wake_later(successor),
                Released::Parked => self.surrender(client_id),
            },
            // Its last connection has ended, and nobody was let in since.
            Former::Kept(client) => {
                self.put_down(client, WillFate::Published, SessionFate::Expires);
            }
        }
    }

    fn park(&mut self, mut client: Box<Client>) -> Parked {
        if client.will.as_ref().is_some_and(|will| will.delay_interval_secs == 0)
            && let Some(will) = client.will.take()
        {
            self.publish_will(&will);
        }
        let [expires_at, will_at] = self.due(&mut client);
        self.keep_parked(&mut client, expires_at, will_at);
        let mailbox = Arc::clone(client.session.mailbox());
        let mut unsent = mailbox.detach();
        let stays = self.broker.collects_left_behind();
        unsent.retain(|delivery| {
            let is_taken = !stays
                && self.reroute(
                    delivery,
                    Some(mailbox.key()),
                    (Members::Attended, Keeping::Broker),
                );
            if is_taken {
                self.forget_delivery(mailbox.stored_as(), delivery);
            }
            !is_taken
        });
        let refused = mailbox.keep(unsent);
        debug_assert!(refused.is_empty(), "only its owner ends a Session, and that is here");
        Parked { client, expires_at, will_at }
    }

    /// When the Session of a client that is away ends, and when its will is published.
    pub(crate) fn due(&self, client: &mut Client) -> [Option<Tick>; 2] {
        let expiry = client.session_expiry_secs;
        let will = client.will.as_ref();
        let will_at = will.map(|will| self.now.plus_secs(will.delay_interval_secs.min(expiry)));
        match client.due.take().map(|due| *due) {
            Some([expires_at, of_will]) => [expires_at, will.and(of_will)],
            None => [(expiry != NEVER_SECS).then(|| self.now.plus_secs(expiry)), will_at],
        }
    }

    /// Ends a Session: nothing of it is left, its will is published, and what it had of Shared
    /// Subscriptions goes to other members.
    pub fn end_session(&mut self, mut client: Client) {
        if let Some(will) = client.will.take() {
            self.publish_will(&will);
        }
        self.keep_end(&client);
        self.tell_of_end(&client);
        self.withdraw_subscriptions(&client.session);
        let gathering = client.session.mailbox().open_gathering();
        let unsent = client.session.mailbox().close_for_heirs();
        let unacknowledged = client.session.end();
        let left = unacknowledged.into_iter().chain(unsent);
        match gathering {
            Some(gathering) => {
                self.pass_on_gathered(&gathering, left, client.session.key());
            }
            None => left.for_each(|delivery| self.pass_on(&delivery, client.session.key())),
        }
    }

    pub(crate) fn withdraw_subscriptions(&mut self, session: &Session) {
        self.withdraw_interest(
            session.subscriptions().map(|(filter, one)| (filter, one.options.qos)),
        );
        self.leave_index(session);
    }

    /// Other brokers need not send it any more, but for those who are left.
    pub(crate) fn withdraw_interest<'a>(
        &mut self,
        wanted: impl Iterator<Item = (&'a TopicFilter, QoS)>,
    ) {
        if let Some(peers) = self.broker.peers() {
            let mut wakes = Vec::new();
            peers.interest().remove(wanted, &mut wakes);
            self.shard.wake_each(wakes);
        }
    }

    /// Nothing comes to the Session here any more.
    pub(crate) fn leave_index(&mut self, session: &Session) {
        let key = SubscriberKey(session.key().0);
        let filters: Vec<_> = session.subscriptions().map(|(filter, _)| filter).collect();
        self.change_index(&filters, |index, filter| {
            index.unsubscribe(key, filter);
        });
    }

    /// Does what is left to do with a delivery for a Session that has ended, perhaps on another shard:
    /// it goes to another member of its group, here if there is one; for nobody else, it ends with the
    /// Session.
    pub(crate) fn pass_on(&mut self, delivery: &Delivery, from: SessionKey) {
        self.pass_on_for(delivery, from, None);
    }

    /// The same for somebody who waits for what comes of it, if there is a ticket.
    pub(crate) fn pass_on_for(
        &mut self,
        delivery: &Delivery,
        from: SessionKey,
        awaited: Option<&Arc<PublishTicket>>,
    ) {
        if delivery.shared_filter().is_none() {
            return;
        }
        if self.broker.collects_left_behind() {
            return self.broker.leave_behind(delivery.clone());
        }
        if self.is_in_doubt_elsewhere(delivery) {
            return;
        }
        // Whose publisher waits is sent again if the store does not take it.
        let keeping = if awaited.is_some() { Keeping::Publisher } else { Keeping::Broker };
        if self.reroute(delivery, Some(from), (Members::All, keeping)) {
            if let Some(ticket) = awaited {
                let of = (delivery.message.id, true);
                self.await_store(&mut Some(Arc::clone(ticket)), of, Level::Durable);
            }
            return;
        }
        // Where there is none whoever published it has its answer.
        let ticket = awaited.cloned().unwrap_or_else(|| Arc::new(PublishTicket::new(false)));
        let is_kept = match self.offer_to_other_brokers(delivery, &ticket) {
            Elsewhere::Sent => true,
            Elsewhere::Busy if awaited.is_some() => {
                ticket.expect_another();
                let _nobody_yet = ticket.answer(RemoteOutcome::Full);
                true
            }
            Elsewhere::Busy => self.keep_ownerless(delivery),
            // All others were at dead brokers.
            Elsewhere::Nobody if self.hold_for_group(delivery, &ticket) => true,
            // Between two lives it knows nobody, and will.
            Elsewhere::Nobody => {
                let is_outside =
                    self.broker.peers().is_some_and(|peers| !peers.is_part_of_cluster());
                is_outside && self.keep_ownerless(delivery)
            }
        };
        if !is_kept {
            self.shard.counters.deliveries_dropped.increment();
        }
    }

    /// Offers what no Session has any more to a member that is here. `false` when none takes it.
    pub(crate) fn hand_to_anybody(&mut self, delivery: &Delivery) -> bool {
        self.reroute(delivery, None, (Members::All, Keeping::Broker))
    }

    /// Offers a delivery that `from` has not finished to another member of its group, to one that
    /// is there if any is.
    fn reroute(
        &mut self,
        delivery: &Delivery,
        from: Option<SessionKey>,
        (members, keeping): (Members, Keeping),
    ) -> bool {
        let Some(filter) = delivery.shared_filter() else { return false };
        let Some(id) = GroupId::of(filter) else { return false };
        let Some(group) = self.broker.index.read().group(&id) else { return false };
        loop {
            let able = self.find_member(&group, delivery, from, Mailbox::can_send);
            let there = || self.find_member(&group, delivery, from, |one, _| one.is_attended());
            let away = || self.find_member(&group, delivery, from, |_, qos| qos > QoS::AtMostOnce);
            let taken = able.or_else(there);
            let taken = match members {
                Members::Attended => taken,
                Members::All => taken.or_else(away),
            };
            let Some((mailbox, member)) = taken else { return false };
            let target = FanoutTarget::new(mailbox, member, Some(filter));
            // A Session that has ended as well has no room again, so the next one is found.
            if self.hand_to_member(&target, delivery, keeping) {
                self.call_members(&group);
                return true;
            }
        }
    }

    /// Hands a member that has room set aside, if its QoS is above 0, what another one had. `false` when
    /// its Session has ended, or takes no QoS 0 now.
    pub(crate) fn hand_to_member(
        &mut self,
        target: &FanoutTarget,
        delivery: &Delivery,
        keeping: Keeping,
    ) -> bool {
        let again = handed_to(target, delivery);
        let qos = again.qos;
        if qos == QoS::AtMostOnce {
            return self.offer_at_most_once(target, again, &mut None);
        }
        match target.mailbox.commit(again, self.now, &mut None) {
            Commit::Stored(place) => {
                let is_ours = keeping == Keeping::Broker;
                let handed_on = is_ours.then(|| Box::new(delivery.clone()));
                let (retain, tag) = (delivery.retain, target.tag.clone());
                let manner = Manner { qos, retain, tag, handed_on };
                self.keep_at(place, &target.mailbox, &delivery.message, manner);
            }
            Commit::Queued(wake) => {
                self.shard.wake_later(wake);
                self.note_gathered(&target.mailbox, &delivery.message);
            }
            Commit::Closed(_) => return false,
        }
        true
    }

    /// The first member in turn, but `from`, that is fit for a delivery of its QoS and has room, which
    /// is set aside.
    fn find_member<'a>(
        &self,
        group: &'a SharedGroup<Destination>,
        delivery: &Delivery,
        from: Option<SessionKey>,
        is_fit: impl Fn(&Mailbox, QoS) -> bool,
    ) -> Option<(&'a Arc<Mailbox>, &'a Target<Destination>)> {
        let bytes = delivery.message.charged_bytes();
        group.in_turn().filter_map(|place| group.members().get(place)).find_map(|member| {
            let Destination::Mailbox(mailbox) = &member.subscriber else { return None };
            let qos = delivery.message.qos.min(member.qos);
            if Some(mailbox.key()) == from || !is_fit(mailbox, qos) {
                return None;
            }
            let is_taken =
                qos == QoS::AtMostOnce || mailbox.reserve(bytes, self.now) == Room::Reserved;
            is_taken.then_some((mailbox, &**member))
        })
    }

    /// Publishes a Will Message [MQTT-3.1.2-8].
    pub(crate) fn publish_will(&mut self, will: &Will) {
        self.shard.counters.wills_published.increment();
        let expiry = will.properties.as_deref().and_then(|p| p.message_expiry_interval_secs);
        self.publish_own(Message {
            properties: will.properties.clone(),
            qos: will.qos,
            retain: will.retain,
            expires_at: expiry.map(|secs| self.now.plus_secs(secs)),
            ..Message::of_broker(will.topic.clone(), will.payload.clone())
        });
    }
}

/// What another member had, as `target` gets it.
pub(crate) fn handed_to(target: &FanoutTarget, delivery: &Delivery) -> Delivery {
    Delivery {
        tag: target.tag.clone(),
        qos: delivery.message.qos.min(target.qos),
        sequence: 0,
        progress: Progress::New,
        ..delivery.clone()
    }
}

/// Who has what a member is handed as long as the store has not taken it.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Keeping {
    /// This broker, which offers it again: whoever published it has its answer.
    Broker,
    /// Whoever published it, and waits.
    Publisher,
}

/// Which members of a group may get what another one leaves.
#[derive(Clone, Copy)]
enum Members {
    /// Those that are there: the one that leaves keeps the rest for its return.
    Attended,
    /// Those that are away as well: the one that leaves does not return.
    All,
}

/// The Session Expiry Interval that never ends.
pub const NEVER_SECS: u32 = u32::MAX;
