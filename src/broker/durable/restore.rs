//! What an earlier process of this broker left: its Sessions and retained messages come back before
//! clients are taken.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::broker::card::{ClientCard, Origin};
use crate::broker::disconnect::Client;
use crate::broker::durable::messages::Manner;
use crate::broker::durable::{Durable, StoredClient, WillInStore};
use crate::broker::registry::Parked;
use crate::broker::routes::Destination;
use crate::broker::turn::Turn;
use crate::mqtt::{ProtocolVersion, TopicFilter};
use crate::ports::clock::Tick;
use crate::ports::message::{Delivery, MessageId};
use crate::ports::store::{
    Operation, RetainedRecord, SessionRecord, StoredSubscription, StoredWill,
};
use crate::session::mailbox::Mailbox;
use crate::session::session::{Session, Subscription};

/// Why something of the store is not in the broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotRestored {
    /// There are as many Sessions as there may be.
    #[error("there are as many sessions as there may be")]
    TooManySessions,
    /// There is no room for another retained message.
    #[error("there is no room for another retained message")]
    RetainedFull,
}

impl Turn<'_> {
    /// Parks a Session as the store has it. Its queue stays where it is until the client comes.
    ///
    /// # Errors
    ///
    /// There is no room for it; it stays in the store.
    pub fn restore_session(
        &mut self,
        durable: &Durable,
        record: &SessionRecord,
    ) -> Result<(), NotRestored> {
        // Wills of a cluster are published by those who keep them in memory.
        let will = record.will.as_deref().filter(|_| self.broker.peers().is_none());
        if record.life.expiry_interval_secs == 0 && will.is_none() {
            // It was to end with its connection, which ended with the broker.
            self.keep(Operation::EndSession(record.session));
            return Ok(());
        }
        let mut client = Box::new(self.restored_client(durable, record));
        if will.is_none() {
            client.will = None;
        }
        let expires_at = self.restored_end(durable, record);
        let will_at = will.map(|will| self.restored_will_at(durable, record, will));
        let client_id = Arc::clone(&record.client_id);
        let mailbox = Arc::clone(client.session.mailbox());
        let parked = Parked { client, expires_at, will_at };
        let times = parked.times();
        if !self.broker.registry.restore(&client_id, Box::new(parked)) {
            return Err(NotRestored::TooManySessions);
        }
        self.note_stored(record.session.id, &client_id);
        self.broker.timers.schedule(&client_id, times);
        let _version = self.announce_restored(&mailbox, record);
        Ok(())
    }

    /// A Session as the store has it, for the connection that has asked for it; nothing when its time
    /// is over. What is published from here on comes to it, and from the version on that is returned
    /// what is published anywhere. When it ends does not change before its client is let in.
    pub(crate) fn bring_back(&mut self, record: &SessionRecord) -> Option<(Box<Client>, u64)> {
        let durable = self.broker.durable().map(Arc::clone)?;
        if self.is_over(&durable, record) {
            return None;
        }
        let mut client = self.restored_client(&durable, record);
        self.note_stored(record.session.id, &record.client_id);
        // Another broker has it, and published it unless its client is back in time.
        client.will = None;
        client.due = Some(Box::new([self.restored_end(&durable, record), None]));
        let version = self.announce_restored(client.session.mailbox(), record);
        Some((Box::new(client), version))
    }

    /// The same for a Session that has moved here, for which `mailbox` collects: what that has comes
    /// behind what is stored, but for what the store has given up at its former holder.
    pub(crate) fn bring_behind(
        &mut self,
        record: &SessionRecord,
        mailbox: &Arc<Mailbox>,
        given_up: &BTreeSet<MessageId>,
    ) -> Option<Box<Client>> {
        let durable = self.broker.durable().map(Arc::clone)?;
        if self.is_over(&durable, record) {
            return None;
        }
        let SessionRecord { session, next_sequence, queue, .. } = *record;
        let ends = (next_sequence, queue, sent_below(record));
        let collected = mailbox.become_stored(session, ends, given_up);
        for (place, delivery) in collected {
            if given_up.contains(&delivery.message.id) {
                // Its publisher is not told that it has been taken, and later ones are there already.
                let bytes = delivery.message.charged_bytes();
                self.shard.wake_later(mailbox.withdraw(place.sequence, bytes));
                continue;
            }
            let Delivery { message, qos, retain, tag, .. } = delivery;
            self.keep_at(place, mailbox, &message, Manner { qos, retain, tag, handed_on: None });
        }
        self.tell_gathering(mailbox);
        let mut client = self.restored_behind(&durable, record, Arc::clone(mailbox));
        client.will = None;
        client.due = Some(Box::new([self.restored_end(&durable, record), None]));
        let _version = self.announce_restored(mailbox, record);
        Some(Box::new(client))
    }

    /// Whether the time of a Session is over: then it ends in the store as well.
    fn is_over(&mut self, durable: &Durable, record: &SessionRecord) -> bool {
        let is_late = record.life.expires_at_millis.is_some_and(|at| durable.tick(at) <= self.now);
        let is_over = is_late || record.life.expiry_interval_secs == 0;
        if is_over {
            self.keep(Operation::EndSession(record.session));
        }
        is_over
    }

    /// Tells the index what a Session subscribes to, and other brokers. The version of our interest
    /// that they are to apply.
    fn announce_restored(&mut self, mailbox: &Arc<Mailbox>, record: &SessionRecord) -> u64 {
        let subscriber = Destination::Mailbox(Arc::clone(mailbox));
        self.change_index(&record.subscriptions, |index, subscription| {
            let StoredSubscription { filter, options, id } = subscription;
            let _new = index.subscribe(&subscriber, filter, *options, *id);
        });
        let Some(peers) = self.broker.peers() else { return 0 };
        let wanted = record.subscriptions.iter().map(|one| (&one.filter, one.options.qos));
        let mut wakes = Vec::new();
        let version = peers.interest().add(wanted, &mut wakes);
        self.shard.wake_each(wakes);
        version
    }

    fn restored_client(&self, durable: &Durable, record: &SessionRecord) -> Client {
        let mut mailbox = Mailbox::new(
            self.broker.draw_session_key(),
            Arc::clone(&record.client_id),
            Arc::clone(&self.broker.options.persistent_queue),
            Arc::clone(&self.broker.queue_budget),
        );
        if self.broker.peers().is_some() {
            mailbox = mailbox.recalling();
        }
        let SessionRecord { session, next_sequence, queue, .. } = *record;
        let mailbox = mailbox.stored(session, next_sequence, queue, sent_below(record));
        self.restored_behind(durable, record, Arc::new(mailbox))
    }

    fn restored_behind(
        &self,
        durable: &Durable,
        record: &SessionRecord,
        mailbox: Arc<Mailbox>,
    ) -> Client {
        let (identity, is_user_known) = record.user.identify(Arc::clone(&record.client_id));
        let nowhere: Arc<str> = Arc::from("-");
        let card = ClientCard {
            identity,
            is_user_known,
            origin: Origin {
                address: Arc::clone(&nowhere),
                listener: nowhere,
                tls_common_name: None,
            },
            version: ProtocolVersion::V5,
            keep_alive_secs: 0,
            session_expiry_secs: record.life.expiry_interval_secs,
            connected_at: durable.tick(0),
        };
        let mut session = Session::new(mailbox, self.broker.seeds.hash);
        let mut serial = 0;
        for StoredSubscription { filter, options, id } in &record.subscriptions {
            serial += 1;
            let subscription = Subscription { options: *options, id: *id, serial };
            session.subscribe(TopicFilter::clone(filter), subscription);
        }
        session.restore_unreleased(record.incoming.iter().map(|incoming| incoming.packet_id));
        let mut stored = StoredClient::new(record.session);
        let incoming = record.incoming.iter();
        stored.incoming = incoming.map(|one| (one.packet_id, one.message)).collect();
        let name = record.will.as_ref().map(|will| will.message.id);
        stored.will = name.map_or(WillInStore::Nothing, WillInStore::Named);
        let will = record.will.as_deref().map(Durable::will);
        let will = will.map(|will| self.broker.will_budget.keep_again(will));
        Client {
            stored: Some(Box::new(stored)),
            subscription_serial: serial,
            ..Client::new(session, Arc::new(card), record.life.expiry_interval_secs, will)
        }
    }

    /// When a Session ends: a client that was connected is gone since now.
    fn restored_end(&self, durable: &Durable, record: &SessionRecord) -> Option<Tick> {
        match record.life.expires_at_millis {
            Some(at) => Some(durable.tick(at)),
            None => Durable::expires_at(record.life.expiry_interval_secs, self.now),
        }
    }

    /// When a will is published: a client that was connected is gone since now [MQTT-3.1.2-8].
    fn restored_will_at(
        &self,
        durable: &Durable,
        record: &SessionRecord,
        will: &StoredWill,
    ) -> Tick {
        let delay = will.delay_interval_secs.min(record.life.expiry_interval_secs);
        let at = will.fires_at_millis.map(|at| durable.tick(at));
        at.unwrap_or_else(|| self.now.plus_secs(delay))
    }

    /// Puts a retained message back.
    ///
    /// # Errors
    ///
    /// There is no room for it; it stays in the store.
    pub fn restore_retained(
        &mut self,
        durable: &Durable,
        record: &RetainedRecord,
    ) -> Result<(), NotRestored> {
        let Some(stored) = &record.message else { return Ok(()) };
        let message = durable.message(stored);
        if message.is_expired(self.now) {
            return Ok(());
        }
        self.broker.put_retained(&message).map_err(|_full| NotRestored::RetainedFull)
    }
}

/// The place below which the client may have been sent what is there: all, where that is not known.
fn sent_below(record: &SessionRecord) -> u64 {
    record.sent_below.unwrap_or(record.next_sequence)
}
